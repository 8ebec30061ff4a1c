//! What a use case reports while it works. Values, never text: the CLI draws them.

use plumb_guest_proto::{Event, ServiceState};
use plumb_model::outcome::{CheckPlace, Verdict};
use plumb_model::{CheckName, DeploymentName, Digest, InstanceName, MachineName, SnapshotName, TaskName};

/// What is done with the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreStep {
    /// What is needed is being found out.
    Surveying,
    /// Every object is being hashed.
    Checking {
        /// How many objects there are.
        objects: u64,
    },
    /// Objects are being folded.
    Folding {
        /// How many objects there are.
        objects: u64,
    },
    /// Other processes use the store, and are waited for.
    Waiting,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Something is done with the store as a whole.
    Store(StoreStep),
    /// The archive's indices are being brought up to date.
    Refreshing,
    /// Packages of the machines are being chosen.
    Resolving,
    /// The lock is written or was found to fit.
    Locked {
        /// Packages of the whole application.
        packages: usize,
        /// It had to be made or changed.
        changed: bool,
    },
    /// A download began.
    DownloadBegan {
        /// File.
        item: String,
        /// Its size, if known.
        bytes: u64,
    },
    /// Some bytes of a download arrived.
    Downloaded {
        /// File.
        item: String,
        /// Bytes since the last report.
        bytes: u64,
    },
    /// A download is complete.
    DownloadEnded {
        /// File.
        item: String,
    },
    /// A machine's image is being built.
    Building {
        /// Machine.
        machine: MachineName,
        /// What is done now.
        step: BuildStep,
    },
    /// A machine's image is there.
    Built {
        /// Machine.
        machine: MachineName,
        /// Bytes of kernel, initramfs and root.
        bytes: u64,
        /// It was there already.
        cached: bool,
        /// How many notices it has; `build` lists them.
        notices: usize,
    },
    /// A signing key was made, as there was none.
    KeyMade {
        /// Its name.
        name: String,
        /// Its public part.
        public: String,
    },
    /// A release was made or found to be the newest already.
    Released {
        /// Its name.
        release: String,
        /// It is new.
        changed: bool,
    },
    /// Releases are being looked into, for the index.
    Indexing {
        /// So many of them are done.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// A feed of advisories is being read.
    ReadingFeed {
        /// Its name.
        feed: String,
    },
    /// A feed of advisories was read.
    FeedRead {
        /// Its name.
        feed: String,
        /// How many advisories it has.
        advisories: u64,
    },
    /// Something that is no part of the result did not work, and will be tried again.
    Postponed {
        /// What and why.
        what: String,
    },
    /// A release goes to a remote, or comes from one.
    Travel(Travel),
    /// Virtual machines run without hardware help.
    Accelerator {
        /// `kvm` or `tcg`.
        kind: String,
        /// Why.
        reason: String,
    },
    /// A plan was made.
    Planned {
        /// How many actions.
        actions: usize,
        /// What it leads to, for example `shop@2`.
        to: String,
    },
    /// A step about an instance began.
    Instance {
        /// Instance.
        instance: InstanceName,
        /// What is done.
        step: InstanceStep,
    },
    /// The guest of an instance says something.
    Guest {
        /// Instance.
        instance: InstanceName,
        /// What.
        event: Event,
    },
    /// A check began.
    CheckBegan {
        /// Which.
        check: CheckName,
        /// Where.
        place: CheckPlace,
    },
    /// A check is over.
    CheckEnded {
        /// Which.
        check: CheckName,
        /// Where.
        place: CheckPlace,
        /// How it went.
        verdict: Verdict,
    },
    /// What a test that was killed left behind is gone, or could not be removed yet.
    TestRemoved {
        /// Deployment of the test.
        deployment: DeploymentName,
        /// Why it is still there.
        trouble: Option<String>,
    },
    /// Who watches repairs the deployment, and is waited for.
    AwaitingRepair {
        /// Who that is.
        holder: String,
    },
    /// Something is done with the data of a deployment.
    Data(DataStep),
    /// The wanted release did not become healthy; the set goes back.
    Returning {
        /// From this release.
        from: String,
        /// To this one.
        to: String,
    },
}

/// What is done with the data of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataStep {
    /// Its volumes are held still and copied.
    Copying {
        /// The snapshot.
        snapshot: SnapshotName,
        /// Bytes that are copied.
        bytes: u64,
    },
    /// A snapshot is complete.
    Copied {
        /// The snapshot.
        snapshot: SnapshotName,
        /// Its bytes.
        bytes: u64,
        /// How long volumes stood still, if they did.
        frozen_ms: Option<u64>,
    },
    /// Copying took too long; it is done again while the instances are stopped.
    Late,
    /// A snapshot takes the place of volumes.
    Restoring {
        /// The snapshot.
        snapshot: SnapshotName,
        /// Bytes that are copied.
        bytes: u64,
    },
    /// It did.
    Restored {
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// A snapshot goes into a file, or comes from one.
    Moving {
        /// Bytes that are done.
        bytes: u64,
    },
    /// It did.
    Moved {
        /// Bytes of it.
        bytes: u64,
    },
}

/// What a push or a pull does, besides transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Travel {
    /// A bundle is being made, which takes time and no network.
    Packing {
        /// Of this release.
        release: String,
        /// Against this one; none if it is full.
        from: Option<String>,
    },
    /// What is reported as downloads from now on are uploads.
    Sending,
    /// All uploads have ended.
    Transferred,
    /// Objects are being made from a bundle.
    Applying {
        /// Of this release.
        release: String,
        /// Their bytes.
        bytes: u64,
    },
    /// Some bytes of them are there.
    Applied {
        /// Bytes since the last report.
        bytes: u64,
    },
    /// An application's root of trust was never seen here, and is trusted from now on.
    Trusts {
        /// The application.
        app: String,
        /// Its fingerprint.
        root: Digest,
    },
    /// A release is here.
    Pulled {
        /// Its name.
        release: String,
    },
}

/// Steps of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStep {
    /// Packages are taken apart.
    Unpacking,
    /// Maintainer scripts run in a build VM.
    Scripts,
    /// The file tree is put together.
    Assembling,
    /// The image is written.
    Writing,
}

/// Steps of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceStep {
    /// It is taken out of its published ports.
    Withdrawing,
    /// It is being stopped.
    Stopping,
    /// It is being started.
    Starting,
    /// It must become ready now.
    Awaiting,
    /// A service changed its state.
    Service {
        /// Service.
        name: String,
        /// State.
        state: ServiceState,
    },
    /// It is ready.
    Ready,
    /// It carries out a task.
    Task(TaskName),
    /// It must stay ready for a time now.
    Settling,
    /// It did.
    Settled,
    /// It did not become ready, or did not stay it.
    Failed,
    /// It is gone.
    Removed,
}

/// Receives reports, from any thread.
pub trait Reporter: Sync {
    /// Takes one report.
    fn report(&self, progress: Progress);
}

/// Ignores all reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: Progress) {}
}
