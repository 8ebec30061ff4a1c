//! The command line. The doc comments are the help.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use plumb_model::release::ReleaseRef;
use plumb_model::{AppName, CheckName, DeploymentName, MachineName, SignerName, SnapshotName};
use plumb_ops::FeedName;

mod config;
mod lease;
mod remote;
mod state;
mod volume;
mod vouch;
mod watch;

pub use config::*;
pub use lease::*;
pub use remote::*;
pub use state::*;
pub use volume::*;
pub use vouch::*;
pub use watch::*;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Runs an application as one coordinated set of version-managed, minimal virtual machines.
///
/// Write one file, `plumb.toml`, that names the machines of the application and what each is made of. `plumb up`
/// resolves it to exact Debian packages, builds one small read-only image per machine, keeps the set as a numbered
/// release and runs it. From then on the set is upgraded, rolled back and retired as one.
#[derive(Debug, Parser)]
#[command(name = "plumb", version, styles = STYLES, after_help = "Example:\n  plumb init shop && cd shop && plumb up")]
pub struct Cli {
    /// Options that every command has.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command has.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Use only what is in the store; never the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// Folder for the store, volumes and state [default: ~/.local/share/plumb]
    #[arg(long, global = true, env = "PLUMB_HOME", hide_env_values = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The key of this host that signs, where there are several
    #[arg(long, global = true, env = "PLUMB_KEY", hide_env_values = true, value_name = "NAME")]
    pub key: Option<SignerName>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a folder with an application to start from
    Init(Init),
    /// Resolve the definition to exact packages and write `plumb.lock`
    Lock(Lock),
    /// Build the image of every machine
    Build(Build),
    /// Build and keep the set of images as a numbered release
    Release(Release),
    /// List the releases of an application
    Log(Log),
    /// Show what a release consists of
    Show(Show),
    /// Show how much each machine is, where the bytes are, and what could go
    Footprint(Footprint),
    /// Show why a package, file or kernel module is in an image
    Why(Why),
    /// Print the software bill of materials of a release
    Sbom(Sbom),
    /// Show what changed between two releases, folders or deployments, and why
    Diff(Diff),
    /// Show the channels of an application, or what one pointed to
    Channel(Channel),
    /// Point a channel to a release that has what the channel asks for
    Promote(Promote),
    /// Point a channel back to the release it held before
    Demote(Demote),
    /// Show what was said about a release and what channels still ask for, or add to it
    Evidence(Evidence),
    /// Approve a release
    Approve(Approve),
    /// Record how long a deployment has run its release without a restart
    Soak(Soak),
    /// Vouch for a release that nobody who is trusted signed
    Sign(Sign),
    /// Show, make and print the signing keys of this host
    Key(Key),
    /// Show and change who is trusted for an application
    Trust(Trust),
    /// Show which releases have a vulnerability, package or file, where they run, and which no longer do
    Affected(Affected),
    /// Look for known vulnerabilities in a release, and sign what was found as evidence
    Scan(Scan),
    /// Feeds of what is known about vulnerabilities: take, update, list
    Advisory(Advisory),
    /// Check that a release is what it was; with `--rebuild`, that building it again gives the same bytes
    Verify(Verify),
    /// Run a release in isolation and carry out its checks, from outside and inside
    Test(Test),
    /// Remove what nothing needs any more, and keep what is not in use in few bytes
    Gc(Gc),
    /// Find everything that is wrong with the store, and repair what can be
    Fsck(Fsck),
    /// Keep all bytes of a release, whatever `gc` would do; without a release list what is pinned
    Pin(Pin),
    /// Let `gc` decide about a release again
    Unpin(Unpin),
    /// Name the places that hold releases for others
    Remote(Remote),
    /// Send a release to a remote
    Push(Push),
    /// Bring a release here from a remote
    Pull(Pull),
    /// Name a remote `origin` and pull the newest release of an application from it
    Clone(Clone),
    /// Do all that is missing until the application runs: lock, build, release, start
    Up(Up),
    /// Show and set what a deployment is told: values that its definition has in `[config]`
    Config(Config),
    /// Set, list and remove the secrets of a deployment, and who can open them
    Secret(Secret),
    /// Show what runs
    Ps(Ps),
    /// Keep deployments alive: notice what crashed, hangs or was changed, tell it and repair it
    Watch(Watch),
    /// Watch as a service of this user's systemd
    Agent(Agent),
    /// Show what happened to deployments, and when
    Journal(Journal),
    /// Print what the services of an instance said
    Logs(Logs),
    /// Show an instance's console and type into it
    Console(Console),
    /// Show what `up` or `upgrade` would do: what stops, for how long at most, why, and what cannot be undone
    Plan(Plan),
    /// Replace a running release by another, machine by machine; go back by itself if it does not become healthy
    Upgrade(Upgrade),
    /// Go back to the release before, or to the one named
    Rollback(Rollback),
    /// Stop a deployment; volumes stay unless asked otherwise
    Down(Down),
    /// Show whose deployments are, and until when; change or renew that
    Lease(Lease),
    /// Stop what has reached its end, and delete data whose time, notice and grace are over
    Reap(Reap),
    /// Show or change what owners may have
    Quota(Quota),
    /// Show where the state of deployments is, share it with other hosts, or copy it
    State(State),
    /// Volumes of deployments, and snapshots of them
    Volume(Volume),
    /// Check what this host offers
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// The process that keeps a deployment's network and consoles; started by plumb itself
    #[command(hide = true)]
    Keeper {
        /// Folder of the deployment
        folder: PathBuf,
    },
}

/// `plumb init`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb init shop my-shop")]
pub struct Init {
    /// `hello` (one web server) or `shop` (web, api and database)
    #[arg(default_value = "hello")]
    pub template: String,
    /// The folder to make [default: the template's name]
    pub folder: Option<PathBuf>,
}

/// `plumb build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The folder with `plumb.toml`
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Run the maintainer scripts of machines with `scripts = "run"` once more and say what differs
    #[arg(long)]
    pub check_scripts: bool,
}

/// `plumb lock`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb lock --update          newest versions of everything\n  plumb lock --update=libssl3  of one package only\n  plumb lock --security        only fixes of the archive's security team"
)]
pub struct Lock {
    /// The folder with `plumb.toml`
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Take the newest versions, of everything or of the packages named
    #[arg(long, value_name = "PACKAGE", num_args = 0..=1, require_equals = true, value_delimiter = ',', default_missing_value = "*")]
    pub update: Vec<String>,
    /// Take the newest version of this package
    #[arg(long, value_name = "PACKAGE", conflicts_with = "security")]
    pub package: Vec<String>,
    /// Take only what the archive's security suite has fixed, at the version it has there
    #[arg(long, conflicts_with = "update")]
    pub security: bool,
    /// Only check, without network, that the lock fits the definition
    #[arg(long, conflicts_with_all = ["update", "package", "security"])]
    pub check: bool,
    /// Write without asking
    #[arg(long, short)]
    pub yes: bool,
    /// Say what would change, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb release`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb release -m \"ratings on every product\"")]
pub struct Release {
    /// The folder with `plumb.toml`
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// What is new in it
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Build, but keep no release
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb log`.
#[derive(Debug, Args)]
pub struct Log {
    /// The application [default: all]
    pub app: Option<AppName>,
}

/// `plumb show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plumb show shop@2\n  plumb show shop@prod")]
pub struct Show {
    /// The release, or a channel that points to it
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: ReleaseRef,
}

/// `plumb footprint`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb footprint shop@2\n  plumb footprint            of the application in this folder"
)]
pub struct Footprint {
    /// A release such as `shop@2`, or a folder with `plumb.toml`
    #[arg(default_value = ".", value_name = "RELEASE|DIR")]
    pub what: String,
}

/// `plumb why`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb why libelf1 shop@2\n  plumb why /usr/bin/tc --machine web\n  plumb why dm_verity"
)]
pub struct Why {
    /// A package, an absolute path, or a kernel module
    #[arg(value_name = "PACKAGE|FILE")]
    pub what: String,
    /// A release such as `shop@2`, or a folder with `plumb.toml`
    #[arg(default_value = ".", value_name = "RELEASE|DIR")]
    pub place: String,
    /// Only this machine
    #[arg(long)]
    pub machine: Option<MachineName>,
}

/// `plumb sbom`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb sbom shop@2 > shop.cdx.json")]
pub struct Sbom {
    /// A release such as `shop@2`, a folder with `plumb.toml`, or a deployment
    #[arg(default_value = ".", value_name = "RELEASE|DIR|DEPLOYMENT")]
    pub what: String,
    /// In which form
    #[arg(long = "format", value_enum, default_value = "cyclonedx")]
    pub form: Form,
}

/// Forms of a bill of materials.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Form {
    /// CycloneDX 1.6, JSON
    Cyclonedx,
    /// SPDX 2.3, JSON
    Spdx,
}

/// `plumb diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb diff                      what releasing this folder would change\n  plumb diff shop@3               what shop@3 changed\n  plumb diff old.lock plumb.lock  two locks of the definition in this folder\n  plumb diff shop-prod            where it is not as its release says, and what an upgrade would bring\n  plumb diff shop@1 shop@3 --html change.html"
)]
pub struct Diff {
    /// A release such as `shop@2`, a folder with `plumb.toml`, a lock file, or a deployment
    #[arg(default_value = ".", value_name = "RELEASE|DIR|LOCK|DEPLOYMENT")]
    pub one: String,
    /// What it is compared with. Without it: a folder with the newest release, a release with the one before it, a
    /// deployment with the newest release, a lock file with the folder of its definition
    #[arg(value_name = "RELEASE|DIR|LOCK|DEPLOYMENT")]
    pub other: Option<String>,
    /// List every file
    #[arg(long)]
    pub files: bool,
    /// Write it as one self-contained page, to read and to keep
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `plumb affected`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb affected 'libssl3 < 3.0.17'      packages and source packages; quote it, as < is the shell's, too\n  plumb affected CVE-2025-9230\n  plumb affected --file libz.so.1         a name, an absolute path, or sha256:DIGEST\n  plumb affected                          every known vulnerability of what runs"
)]
pub struct Affected {
    /// A package with or without a version, or the name of a vulnerability. Without it: what is open in what runs
    #[arg(value_name = "PACKAGE [OP VERSION]|CVE", num_args = 0.., conflicts_with = "file")]
    pub query: Vec<String>,
    /// A file: absolute path in an image, its last part, or `sha256:` and digits
    #[arg(long, value_name = "PATH|NAME|DIGEST")]
    pub file: Option<String>,
    /// Print every row, not only the first ones
    #[arg(long, short)]
    pub all: bool,
}

/// `plumb scan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb advisory add debian       what Debian's security team knows; once\n  plumb scan shop@7\n  plumb scan shop@7 --dry-run     look only\n\nA channel that asks for `scan:7d` takes releases that were scanned with data of the last seven days; one that asks for `scan:patched` takes those in which nothing is open that a newer package mends."
)]
pub struct Scan {
    /// The release, or a channel that points to it
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: ReleaseRef,
    /// Only look; sign nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print every row, not only the first ones
    #[arg(long, short)]
    pub all: bool,
}

/// `plumb advisory`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb advisory add debian               what Debian's security team knows\n  plumb advisory add mirror https://mirror.example/debian.json\n  plumb advisory add lab ./osv.json       records of OSV from a file, or many of them in a zip file\n  plumb advisory update                   all of them, from where they are from"
)]
pub struct Advisory {
    /// What to do
    #[command(subcommand)]
    pub action: AdvisoryAction,
}

/// What `plumb advisory` does.
#[derive(Debug, Subcommand)]
pub enum AdvisoryAction {
    /// Take a feed from a URL or a file; `debian`, `osv-debian`, `osv-pypi` and `osv-npm` need none
    Add {
        /// Its name
        name: FeedName,
        /// Where it is from
        #[arg(value_name = "URL|FILE")]
        origin: Option<String>,
    },
    /// Take feeds again
    Update {
        /// Which [default: all]
        names: Vec<FeedName>,
    },
    /// List the feeds, and how old they are
    Ls,
    /// Forget a feed
    Rm {
        /// Its name
        name: FeedName,
    },
}

/// `plumb verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb verify shop@2 --rebuild")]
pub struct Verify {
    /// The release, or a channel that points to it
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: ReleaseRef,
    /// Build its images again, from its own lock and files in an empty store, and compare every byte
    #[arg(long)]
    pub rebuild: bool,
}

/// `plumb test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb test shop@2                the release, as it is\n  plumb test                       what this folder would be as a release\n  plumb test shop@2 --only order   one of its checks"
)]
pub struct Test {
    /// A release such as `shop@2`, or a folder with `plumb.toml`, which is released first
    #[arg(default_value = ".", value_name = "RELEASE|DIR")]
    pub what: String,
    /// Carry out only this check; may be given again
    #[arg(long, value_name = "CHECK")]
    pub only: Vec<CheckName>,
    /// Let the set run on afterwards, to look into it
    #[arg(long)]
    pub keep: bool,
    /// Set a value of `[config]` that has no default; secrets are random
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Assignment>,
    /// What is new, if a release is made
    #[arg(short, long, default_value = "")]
    pub message: String,
}

/// `plumb gc`.
#[derive(Debug, Args)]
#[command(
    after_help = "Whole stays a release that runs or that a rollback would choose, that a channel points to, that is pinned,\namong the newest, or young. Of others the images go; they can be built again from what stays.\n\nExamples:\n  plumb gc --dry-run\n  plumb gc --newest 3 --older-than 30d"
)]
pub struct Gc {
    /// Keep so many of the newest releases of each application whole
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub newest: usize,
    /// Keep what was made less than this ago: seconds, or a number with `h` or `d`
    #[arg(long, default_value = "7d", value_name = "AGE", value_parser = age)]
    pub older_than: i64,
    /// Also remove the documents of releases that do not stay, and the packages that only they need; the newest release
    /// of each application always stays
    #[arg(long)]
    pub releases: bool,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `30d`, `12h` or seconds.
fn age(text: &str) -> Result<i64, String> {
    let (number, factor) = match text.strip_suffix('d').map(|number| (number, 86_400)) {
        Some(days) => days,
        None => text.strip_suffix('h').map_or((text, 1), |number| (number, 3600)),
    };
    let number: i64 = number.parse().map_err(|_| "write `30d`, `12h` or a number of seconds".to_owned())?;
    number
        .checked_mul(factor)
        .filter(|seconds| *seconds >= 0)
        .ok_or_else(|| "write `30d`, `12h` or a number of seconds".to_owned())
}

/// `plumb fsck`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 3 if damage is left.\n\nExamples:\n  plumb fsck --dry-run\n  plumb fsck --offline   repair from what is on this host only"
)]
pub struct Fsck {
    /// Only look: move, repair and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb pin`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb pin shop@2")]
pub struct Pin {
    /// The release; without it, what is pinned is listed
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: Option<ReleaseRef>,
}

/// `plumb unpin`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plumb unpin shop@2")]
pub struct Unpin {
    /// The release
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: ReleaseRef,
}

/// `plumb up`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb up            the application in this folder\n  plumb up shop@2     a release from the store"
)]
pub struct Up {
    /// A folder with `plumb.toml`, or a release such as `shop@2`
    #[arg(default_value = ".", value_name = "DIR|RELEASE")]
    pub what: String,
    /// Name of the deployment [default: the application's name]
    #[arg(long)]
    pub name: Option<DeploymentName>,
    /// What is new, if a release is made
    #[arg(short, long, default_value = "")]
    pub message: String,
    /// Set a value of `[config]` before; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Assignment>,
    /// Set the values in this file before: TOML, a line `NAME = VALUE` each
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print when each phase began and how long it took
    #[arg(long)]
    pub timings: bool,
    /// Print the plan, and start nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// Only this deployment
    pub deployment: Option<DeploymentName>,
    /// Also those that are stopped and only have volumes
    #[arg(long, short)]
    pub all: bool,
}

/// `plumb logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plumb logs web-1 -f\n  plumb logs shop-test/db-1 --lines 20")]
pub struct Logs {
    /// The instance: `web-1`, or `deployment/web-1` where that is not clear
    pub instance: String,
    /// Keep printing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// How many lines from the end; 0 is all
    #[arg(long, short = 'n', default_value_t = 200)]
    pub lines: usize,
}

/// `plumb console`.
#[derive(Debug, Args)]
#[command(after_help = "Leave it with Ctrl-].")]
pub struct Console {
    /// The instance: `web-1`, or `deployment/web-1` where that is not clear
    pub instance: String,
    /// Print what the console showed so far, and end
    #[arg(long)]
    pub no_follow: bool,
}

/// `plumb plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb plan                   `plumb up` in this folder\n  plumb plan shop@4 --name prod\n  plumb plan prod              `plumb upgrade prod`: to the newest release\n  plumb plan prod shop@prod    to what the channel points to"
)]
pub struct Plan {
    /// A folder with `plumb.toml`, a release, or a deployment
    #[arg(default_value = ".", value_name = "DIR|RELEASE|DEPLOYMENT")]
    pub what: String,
    /// Of a deployment: the release, or the channel that points to it [default: the newest]
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: Option<ReleaseRef>,
    /// Of a folder or a release: name of the deployment [default: the application's name]
    #[arg(long, conflicts_with = "release")]
    pub name: Option<DeploymentName>,
    /// Print every step, too
    #[arg(long)]
    pub steps: bool,
}

/// `plumb upgrade`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb upgrade shop          to the newest release\n  plumb upgrade shop shop@4"
)]
pub struct Upgrade {
    /// The deployment
    pub deployment: DeploymentName,
    /// The release, or the channel that points to it: `shop@prod` [default: the newest]
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: Option<ReleaseRef>,
    /// Print the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plumb rollback shop\n  plumb rollback shop --with-data --dry-run")]
pub struct Rollback {
    /// The deployment
    pub deployment: DeploymentName,
    /// The release, or the channel that points to it [default: the one before]
    #[arg(value_name = "RELEASE|APP@CHANNEL")]
    pub release: Option<ReleaseRef>,
    /// Go back with the data as it was then: in the newest snapshot of that release's data, or in the one named. What is
    /// there is copied first
    #[arg(long, value_name = "SNAPSHOT", num_args = 0..=1, require_equals = true)]
    pub with_data: Option<Option<SnapshotName>>,
    /// Print the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `plumb down`.
#[derive(Debug, Args)]
pub struct Down {
    /// The deployment
    pub deployment: DeploymentName,
    /// Also destroy its volumes with everything in them, and the snapshots that plans have made
    #[arg(long)]
    pub volumes: bool,
    /// Destroy volumes without asking
    #[arg(long, short)]
    pub yes: bool,
    /// Print the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
