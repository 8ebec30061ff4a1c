//! Arguments of the commands about channels, evidence, keys and trust.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use plumb_model::release::{ReleaseName, ReleaseRef};
use plumb_model::{AppName, ChannelName, DeploymentName, EvidenceName, SignerName};
use plumb_ops::{PublicKey, Role};

/// `plumb channel`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb channel shop         where its channels point to\n  plumb channel shop prod    everything that `prod` pointed to"
)]
pub struct Channel {
    /// The application [default: all]
    pub app: Option<AppName>,
    /// One channel, with its history
    pub channel: Option<ChannelName>,
    /// Drop what was promoted to it here; what a remote has comes back with the next pull
    #[arg(long, requires = "channel")]
    pub forget: bool,
}

/// `plumb promote`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb promote shop@7 test\n  plumb promote shop@test prod -m \"release 7 for everybody\"\n  plumb promote shop@7 prod --dry-run    what would change, and what is missing"
)]
pub struct Promote {
    /// The release, or a channel that points to it
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: ReleaseRef,
    /// The channel; it is made if there is none of this name
    pub channel: ChannelName,
    /// Why
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Show what would change and what is missing, and move nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb demote`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb demote shop prod -m \"orders are lost\"")]
pub struct Demote {
    /// The application
    pub app: AppName,
    /// The channel
    pub channel: ChannelName,
    /// The release, one that the channel held [default: the one before]
    #[arg(long, value_name = "RELEASE")]
    pub to: Option<ReleaseName>,
    /// Why
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Only say where it would point to
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb evidence`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  plumb evidence shop@7\n  plumb evidence add shop@7 pentest --attach report.pdf -m \"nothing found\""
)]
pub struct Evidence {
    /// The release, or a channel that points to it
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: Option<ReleaseRef>,
    /// What to do
    #[command(subcommand)]
    pub action: Option<EvidenceAction>,
}

/// What can be done about evidence.
#[derive(Debug, Subcommand)]
pub enum EvidenceAction {
    /// Add evidence of a kind of your own, for channels that ask for it by name
    Add(EvidenceAdd),
}

/// `plumb evidence add`.
#[derive(Debug, Args)]
pub struct EvidenceAdd {
    /// The release
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: ReleaseRef,
    /// Name of the evidence: `pentest`, `licences`
    pub name: EvidenceName,
    /// It says that something is not good
    #[arg(long)]
    pub failed: bool,
    /// In words
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// A report to keep with it
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
}

/// `plumb approve`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb approve shop@7 -m \"looked at the diff\"")]
pub struct Approve {
    /// The release, or a channel that points to it
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: ReleaseRef,
    /// Why
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Take an approval back
    #[arg(long)]
    pub withdraw: bool,
}

/// `plumb soak`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb soak shop-test")]
pub struct Soak {
    /// The deployment
    pub deployment: DeploymentName,
}

/// `plumb sign`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb sign shop@7")]
pub struct Sign {
    /// The release
    pub release: ReleaseName,
}

/// `plumb key`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb key                 the keys of this host\n  plumb key new alice       a new one; asks for a passphrase\n  plumb key show alice      its public part, for a colleague"
)]
pub struct Key {
    /// What to do
    #[command(subcommand)]
    pub action: Option<KeyAction>,
}

/// What can be done about keys.
#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// Make a key
    New {
        /// Its name: whose it is
        name: SignerName,
        /// Keep it without a passphrase, for programs
        #[arg(long)]
        open: bool,
    },
    /// Print the public part of a key
    Show {
        /// Its name
        name: SignerName,
    },
}

/// `plumb trust`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  plumb trust shop\n  plumb trust add shop bob ed25519:3d40…\n  plumb trust threshold shop root 2"
)]
pub struct Trust {
    /// The application
    pub app: Option<AppName>,
    /// What to do
    #[command(subcommand)]
    pub action: Option<TrustAction>,
}

/// What can be done about trust.
#[derive(Debug, Subcommand)]
pub enum TrustAction {
    /// Trust a key from now on
    Add {
        /// The application
        app: AppName,
        /// Whose key it is
        name: SignerName,
        /// The key, as `plumb key show` prints it
        #[arg(value_name = "KEY")]
        public: PublicKey,
        /// What it may sign beside statements about releases: `root` changes trust, the others publish
        #[arg(
            long,
            value_name = "ROLE",
            value_delimiter = ',',
            default_value = "targets,snapshot,timestamp"
        )]
        role: Vec<Role>,
    },
    /// Trust a key no more, nor anything it signed
    Remove {
        /// The application
        app: AppName,
        /// Whose key it is
        name: SignerName,
    },
    /// Ask for this many signatures
    Threshold {
        /// The application
        app: AppName,
        /// `root`, `targets`, `snapshot` or `timestamp`
        role: Role,
        /// How many
        count: usize,
    },
    /// Sign the same again, good for another year
    Renew {
        /// The application
        app: AppName,
    },
    /// Sign a change that waits for signatures
    Sign {
        /// The application
        app: AppName,
        /// The change, as a colleague's `plumb trust draft` printed it
        file: Option<PathBuf>,
    },
    /// Print the change that waits, for a colleague to sign
    Draft {
        /// The application
        app: AppName,
    },
    /// Drop the change that waits
    Discard {
        /// The application
        app: AppName,
    },
}
