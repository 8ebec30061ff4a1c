//! Why nobody is believed.

use std::path::PathBuf;

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, ChannelName, Digest, SignerName};
use plumb_trust::{KeyError, StatementError, tuf::TufError};

/// Why a key, a signature or the trust of an application is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is no key of this name on this host.
    #[error("there is no key `{name}` on this host")]
    NoKey {
        /// The name.
        name: SignerName,
    },
    /// A key of this name exists.
    #[error("there is a key `{name}` already")]
    KeyExists {
        /// The name.
        name: SignerName,
    },
    /// A key's file is not understood, or sealed.
    #[error("cannot use the key in `{path}`")]
    Key {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A key's file is open to others.
    #[error("the key in `{path}` can be read by others (mode {mode:o})")]
    Exposed {
        /// File.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No key of this host is trusted for the application.
    #[error("no key on this host may sign for `{app}`")]
    NotTrusted {
        /// Application.
        app: AppName,
    },
    /// Several keys of this host could sign.
    #[error("several keys on this host may sign for `{app}`: {}", names.iter().map(SignerName::as_str).collect::<Vec<_>>().join(", "))]
    WhichKey {
        /// Application.
        app: AppName,
        /// Their names.
        names: Vec<SignerName>,
    },
    /// The application has no root of trust.
    #[error("nobody is trusted for `{app}` yet")]
    NoRoot {
        /// Application.
        app: AppName,
    },
    /// The root of trust, or a version of it, does not hold.
    #[error("version {version} of the trust of `{app}` does not hold")]
    Root {
        /// Application.
        app: AppName,
        /// Version.
        version: u64,
        /// Why.
        #[source]
        source: TufError,
    },
    /// A version of the root is missing in the chain.
    #[error("version {version} of the trust of `{app}` is missing in the store")]
    RootGap {
        /// Application.
        app: AppName,
        /// Version.
        version: u64,
    },
    /// The first root of trust is damaged, and nothing here says which one it was.
    #[error("the trust of `{app}` cannot be made good by itself: nothing here says which one it was")]
    NoFingerprint {
        /// Application.
        app: AppName,
        /// Fingerprint of the one that a remote has.
        there: Digest,
    },
    /// A change of trust is asked for that makes no sense.
    #[error("cannot change the trust of `{app}`: {why}")]
    Change {
        /// Application.
        app: AppName,
        /// Why.
        why: String,
    },
    /// A release that nobody who is trusted signed.
    #[error("`{release}` is not signed by anybody who is trusted for it{}", because(why))]
    Unsigned {
        /// Release.
        release: ReleaseName,
        /// What is wrong with what claims to vouch for it.
        why: Option<String>,
    },
    /// A statement cannot be made.
    #[error("cannot sign about `{release}`")]
    Statement {
        /// Release.
        release: ReleaseName,
        /// Why.
        #[source]
        source: StatementError,
    },
    /// What a remote shows is not signed as it must be, too old, or mixed.
    #[error("what `{remote}` shows of `{app}` does not hold")]
    Metadata {
        /// The remote.
        remote: String,
        /// Application.
        app: AppName,
        /// Why.
        #[source]
        source: TufError,
    },
    /// Metadata that other metadata names is not there, or is gone.
    #[error("`{remote}` lacks `{name}` of `{app}`, which it had or says it has")]
    MetadataGone {
        /// The remote.
        remote: String,
        /// Application.
        app: AppName,
        /// The file.
        name: String,
    },
    /// What was seen of a remote before cannot be read: it could lead back in time.
    #[error("what was seen of `{remote}` before is damaged (entry `{entry}`): {why}")]
    Seen {
        /// The remote.
        remote: String,
        /// The entry of the store.
        entry: String,
        /// Why.
        why: String,
    },
    /// A remote has the application of somebody else.
    #[error("`{remote}` has an application `{app}` with another root of trust: {there}, not {here}")]
    OtherTrust {
        /// The remote.
        remote: String,
        /// Application.
        app: AppName,
        /// The fingerprint here, or the one that was asked for.
        here: Digest,
        /// The fingerprint there.
        there: Digest,
    },
    /// A channel was moved here and there.
    #[error("channel `{channel}` of `{app}` was moved here, and otherwise on `{remote}`")]
    Diverged {
        /// The remote.
        remote: String,
        /// Application.
        app: AppName,
        /// Channel.
        channel: ChannelName,
    },
    /// No key of this host may publish.
    #[error("the keys on this host are not enough to publish `{app}`")]
    MayNotPublish {
        /// Application.
        app: AppName,
        /// Which role lacks one.
        #[source]
        source: TufError,
    },
    /// A document of a remote holds what does not belong into it.
    #[error("`{name}` of `{remote}` holds what does not belong there: {why}")]
    Word {
        /// The remote.
        remote: String,
        /// The document.
        name: String,
        /// What.
        why: String,
    },
    /// A channel's record does not hold.
    #[error("promotion {sequence} of `{app}@{channel}` does not hold")]
    Promotion {
        /// Application.
        app: AppName,
        /// Channel.
        channel: ChannelName,
        /// Its number.
        sequence: u64,
        /// Why.
        #[source]
        source: StatementError,
    },
    /// A channel's record is not the next after the one before.
    #[error("the history of `{app}@{channel}` is broken at promotion {sequence}")]
    History {
        /// Application.
        app: AppName,
        /// Channel.
        channel: ChannelName,
        /// The first one that does not follow.
        sequence: u64,
    },
    /// A release lacks what a channel asks for.
    #[error("`{release}` lacks what channel `{channel}` asks for:\n{}", lines(missing))]
    Policy {
        /// Release.
        release: ReleaseName,
        /// Channel.
        channel: ChannelName,
        /// Requirement, and why it is not met.
        missing: Vec<(String, String)>,
    },
    /// A channel that was never promoted to.
    #[error("`{app}` has no channel `{channel}`")]
    NoChannel {
        /// Application.
        app: AppName,
        /// Channel.
        channel: ChannelName,
        /// Those there are.
        known: Vec<ChannelName>,
    },
    /// There is nothing to go back to.
    #[error("channel `{channel}` of `{app}` never pointed to another release")]
    NothingBefore {
        /// Application.
        app: AppName,
        /// Channel.
        channel: ChannelName,
    },
}

fn because(why: &Option<String>) -> String {
    why.as_ref().map(|why| format!("; there is a statement, but {why}")).unwrap_or_default()
}

fn lines(missing: &[(String, String)]) -> String {
    missing.iter().map(|(what, why)| format!("  {what}: {why}")).collect::<Vec<_>>().join("\n")
}

impl TrustError {
    /// Did a signature, a digest or a date not hold?
    #[must_use]
    pub fn is_verification(&self) -> bool {
        matches!(
            self,
            TrustError::Root { .. }
                | TrustError::RootGap { .. }
                | TrustError::NoFingerprint { .. }
                | TrustError::Unsigned { .. }
                | TrustError::Promotion { .. }
                | TrustError::History { .. }
                | TrustError::Exposed { .. }
                | TrustError::Metadata { .. }
                | TrustError::MetadataGone { .. }
                | TrustError::OtherTrust { .. }
                | TrustError::Word { .. }
                | TrustError::Seen { .. }
        )
    }

    /// A command that helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            TrustError::NoKey { .. } => "`plumb key` lists the keys of this host".to_owned(),
            TrustError::KeyExists { name } => format!("`plumb key show {name}` prints its public part"),
            TrustError::Key { source: KeyError::Sealed | KeyError::WrongPassphrase, .. } => {
                "type its passphrase, or name a file that holds it in `PLUMB_PASSPHRASE_FILE`".to_owned()
            }
            TrustError::Exposed { path, .. } => {
                format!("`chmod 600 {}`, if nobody has read it", path.display())
            }
            TrustError::NotTrusted { app } => format!(
                "somebody whom `plumb trust {app}` lists adds yours: `plumb trust add {app} NAME \"$(plumb key show NAME)\"`"
            ),
            TrustError::WhichKey { names, .. } => {
                format!("choose one: `PLUMB_KEY={}`", names.first().map_or("alice", SignerName::as_str))
            }
            TrustError::Root { .. } | TrustError::RootGap { .. } => {
                "`plumb fsck` brings it back from a remote that has it".to_owned()
            }
            TrustError::NoRoot { .. } => "`plumb release` in the application's folder begins it".to_owned(),
            TrustError::NoFingerprint { app, there } => format!(
                "if {there} is what the people whose application it is call its fingerprint, `plumb clone REMOTE {app} --trust {there}` in a new home"
            ),
            TrustError::Unsigned { release, .. } => {
                format!("if you know where it comes from, `plumb sign {release}` vouches for it")
            }
            TrustError::Metadata { app, source: TufError::Expired { .. }, .. } => {
                format!("`plumb push {app}` by somebody who may publish signs it anew")
            }
            TrustError::Metadata { app, source: TufError::Threshold { .. }, .. } => {
                format!(
                    "if trust was changed here, `plumb push {app}` publishes that; else do not use this remote"
                )
            }
            TrustError::OtherTrust { .. } => {
                "compare the fingerprints with the people whose application it is; `plumb trust` prints them"
                    .to_owned()
            }
            TrustError::Seen { entry, .. } => format!(
                "if you know that the remote is as new as it was, remove `store/entries/{entry}` below the home"
            ),
            TrustError::Diverged { app, channel, .. } => format!(
                "`plumb channel {app} {channel} --forget` drops what was promoted here; then pull, and promote again"
            ),
            TrustError::MayNotPublish { app, .. } => format!(
                "`plumb trust {app}` shows who may; they add you: `plumb trust add {app} NAME \"$(plumb key show NAME)\"`"
            ),
            TrustError::Policy { release, .. } => format!("`plumb evidence {release}` shows what there is"),
            TrustError::NoChannel { app, known, .. } if known.is_empty() => {
                format!("`plumb promote {app}@1 dev` makes one")
            }
            TrustError::NoChannel { known, .. } => {
                format!(
                    "there is {}",
                    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                )
            }
            TrustError::Change { app, .. } => format!("`plumb trust {app}` shows how it stands"),
            _ => return None,
        })
    }
}
