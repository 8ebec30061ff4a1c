//! The use cases: load, decide, do, save. They return values, never text.

mod affected;
mod build;
mod cancel;
mod carve;
mod channel;
mod clock;
mod collect;
mod config;
mod content;
mod contents;
mod data;
mod deploy;
mod diff;
mod doctor;
mod error;
mod evidence;
mod execute;
mod footprint;
mod fsck;
mod guest;
mod hint;
mod home;
mod init;
mod lease;
mod lock;
mod machine;
mod observe;
mod plan;
mod progress;
mod project;
mod purl;
mod reach;
mod release;
mod remote;
mod sbom;
mod state;
mod subject;
mod systemd;
pub mod template;
mod test;
mod trust;
mod universe;
mod verify;
mod volume;
mod watch;
mod why;

use std::path::PathBuf;

use plumb_model::SignerName;
use plumb_store::Store;

pub use affected::{
    AffectedView, Clear, DeploymentRisk, FeedName, FeedOutcome, FeedView, OpenView, OpenVulnerability,
    ScanView, Undetermined, Unread,
};
pub use build::{BuiltImage, Rehearsal};
pub use cancel::Cancel;
pub use channel::{ChannelView, Promote, PromoteOutcome, PromotionView};
pub use clock::{local, now_ms, now_s, parse as parse_time, utc};
pub use collect::{CollectedRelease, Collection, Documents, Kind, KindRow, Mode, Policy, Reason};
pub use config::{
    Apply, ConfigChange, ConfigDifference, ConfigEntry, ConfigError, ConfigOutcome, ConfigView,
    RecipientView, Resealed, SecretValue, SettingOrigin, SettingView, Sheet, read_settings,
};
pub use content::error::ContentError;
pub use data::error::DataError;
pub use deploy::{
    DataChoice, DownOutcome, Endpoint, KeptSet, KeptVolume, Stands, Start, UpOptions, UpOutcome,
};
pub use diff::Compared;
pub use doctor::{Doctor, Finding};
pub use error::OpsError;
pub use evidence::{ChannelStanding, EvidenceView, NewFinding, RefusedView, StatementView};
pub use footprint::{Baseline, FootprintView, MachineFootprint, Measured, Suggestion};
pub use fsck::{Checkup, Damage, DamageKind, Outcome};
pub use home::Home;
pub use init::init;
pub use lease::{
    ClockWord, LeaseChange, LeaseClock, LeaseView, QuotaView, Reaped, ReapedWhat, Reaping, Term,
};
pub use lock::{LockChange, LockOutcome, Update};
pub use observe::{Console, DeploymentView, InstanceView, LogLine};
pub use plumb_diff::{
    Cause, Change, Diff, Figure, FileChange, MachineDiff, PackageChange, Presence, Running,
};
pub use plumb_fetch::Proxies;
pub use plumb_image::compare::{Difference, What as DifferenceKind};
pub use plumb_image::footprint::Share;
pub use plumb_image::usage::How;
pub use plumb_model::release::{Quiesce, WhenLate};
pub use plumb_plan::lease::{Counted, Excess, Quota};
pub use plumb_plan::{
    Beside, Effect, EffectCause, Explanation, FailureEffect, HeldVolume, Hold, InstanceVolume, Irreversible,
    Outage, PlanKind, RestoreEffect, SnapshotEffect, VolumeEffect, What,
};
pub use plumb_remote::Environment;
pub use plumb_search::advisory::{Form as FeedForm, Urgency};
pub use plumb_search::{
    Affected, AffectedApp, AffectedDeployment, AffectedMachine, AffectedRelease, Because, Component,
    FileQuery, Found, Query,
};
pub use plumb_state::{Credentials, Password};
pub use plumb_target::{InstanceTimings, TimingStep, connect, keeper};
pub use plumb_trust::policy::Standing;
pub use plumb_trust::statement::Verdict;
pub use plumb_trust::tuf::Role;
pub use plumb_trust::{Passphrase, PublicKey};
pub use progress::{BuildStep, DataStep, InstanceStep, Progress, Reporter, Silent, StoreStep, Travel};
pub use project::Project;
pub use release::{LogEntry, ReleaseOutcome};
pub use remote::{
    NamedRemote, Pulled, PulledBundle, Pushed, PushedBundle, Reports, Supplies, TransferError, Wanted,
};
pub use sbom::BillForm;
pub use state::{CopyOutcome, SaidWhere, StateOptions, StateView};
pub use test::{Evidence, TestOptions, Tested};
pub use trust::{DraftView, KeyView, Said, SaidBy, TrustChange, TrustError, TrustView, TrustedKey};
pub use verify::{Problem, Rebuilt, Verification};
pub use volume::{ImportOutcome, SnapshotView, VolumeState, VolumeView};
pub use watch::{Bond, EventView, JournalWanted, Notify, Tell, WatchWanted};
pub use why::{Why, WhyKind, WhyLink, WhyUse};

/// Everything a use case works with.
pub struct Plumb<'a> {
    home: Home,
    store: Store,
    options: Options,
    reporter: &'a dyn Reporter,
    /// Files of keys that a passphrase opened, by the digest of what is sealed.
    unsealed: std::sync::Mutex<Vec<(plumb_model::Digest, Vec<u8>)>>,
}

/// What the caller decides for all use cases.
#[derive(Debug, Clone)]
pub struct Options {
    /// Never use the network.
    pub offline: bool,
    /// Proxies to go through, from the environment.
    pub proxies: Proxies,
    /// What remotes need to know of the environment.
    pub environment: Environment,
    /// This very program, for the keeper process.
    pub program: PathBuf,
    /// The key that signs, where several of this host could.
    pub signer: Option<SignerName>,
    /// Whose host this is: the name of the first key.
    pub user: SignerName,
    /// What the environment says of the state.
    pub state: StateOptions,
    /// Asks for the passphrase of a sealed key.
    pub passphrase: fn(&SignerName) -> Option<plumb_trust::Passphrase>,
    /// The file of the key that opens secrets, if not the home's own.
    pub age_identity: Option<PathBuf>,
}

impl<'a> Plumb<'a> {
    /// Opens the home, making it if it is not there.
    ///
    /// # Errors
    /// [`OpsError::Store`].
    pub fn open(home: Home, options: Options, reporter: &'a dyn Reporter) -> Result<Self, OpsError> {
        let store = Store::open(&home.store())?;
        Ok(Plumb { home, store, options, reporter, unsealed: std::sync::Mutex::default() })
    }

    /// The same for a dry run: what turns out to be damaged is left where it is.
    fn looking(&self) -> Plumb<'a> {
        Plumb {
            home: self.home.clone(),
            store: self.store.looking(),
            options: self.options.clone(),
            reporter: self.reporter,
            unsealed: std::sync::Mutex::default(),
        }
    }

    /// The folder of everything.
    #[must_use]
    pub fn home_path(&self) -> &std::path::Path {
        self.home.root()
    }

    fn report(&self, progress: Progress) {
        self.reporter.report(progress);
    }
}
