//! Releases for others: remotes, push, pull, clone.

use clap::{Args, Subcommand};
use plumb_model::{AppName, Digest, RemoteName};

/// `plumb remote`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb remote                                  list them\n  plumb remote add origin /srv/releases\n  plumb remote add origin s3://bucket/releases\n  plumb remote add origin oci://registry.example.org/releases\n  plumb remote add mirror https://example.org/releases   can only be read"
)]
pub struct Remote {
    /// What to do [default: list them]
    #[command(subcommand)]
    pub action: Option<RemoteAction>,
}

/// What `plumb remote` does.
#[derive(Debug, Subcommand)]
pub enum RemoteAction {
    /// Give a remote a name
    Add {
        /// The name
        name: RemoteName,
        /// A folder, or `https://…`, `s3://BUCKET/PREFIX`, `oci://HOST/REPOSITORY`; never with a password
        address: String,
        /// The server of an object store that is not Amazon's
        #[arg(long, value_name = "URL")]
        endpoint: Option<String>,
    },
    /// Forget a name; what is there stays
    Remove {
        /// The name
        name: RemoteName,
    },
}

/// How a release travels.
#[derive(Debug, Args)]
pub struct Travel {
    /// Take along the packages and files that its images were built from
    #[arg(long)]
    pub with_packages: bool,
    /// Say how many bytes would travel, and as what; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb push`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb push shop               the newest release, to the usual remote\n  plumb push shop@3 /srv/releases --dry-run"
)]
pub struct Push {
    /// A release such as `shop@2`, or an application, for its newest
    #[arg(value_name = "RELEASE|APP")]
    pub what: String,
    /// A name or an address [default: where the application came from or went to before, or `origin`]
    pub remote: Option<String>,
    /// How it travels.
    #[command(flatten)]
    pub travel: Travel,
}

/// `plumb pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb pull shop               the newest release, from the usual remote\n  plumb pull shop@3 https://example.org/releases"
)]
pub struct Pull {
    /// A release such as `shop@2`, or an application, for its newest
    #[arg(value_name = "RELEASE|APP")]
    pub what: String,
    /// A name or an address [default: where the application came from or went to before, or `origin`]
    pub remote: Option<String>,
    /// How it travels.
    #[command(flatten)]
    pub travel: Travel,
}

/// `plumb clone`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb clone https://example.org/releases shop && plumb up shop@3")]
pub struct Clone {
    /// A folder, or `https://…`, `s3://BUCKET/PREFIX`, `oci://HOST/REPOSITORY`; never with a password
    pub address: String,
    /// The application
    pub app: AppName,
    /// Trust only the application with this fingerprint (`plumb trust` prints it); without it, whoever is trusted there is
    /// trusted here from now on
    #[arg(long, value_name = "sha256:…")]
    pub trust: Option<Digest>,
    /// What to call the remote [default: `origin`]
    #[arg(long, value_name = "NAME")]
    pub remote: Option<RemoteName>,
    /// The server of an object store that is not Amazon's
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// How it travels.
    #[command(flatten)]
    pub travel: Travel,
}
