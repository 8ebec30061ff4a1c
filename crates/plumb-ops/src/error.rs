//! What can go wrong in a use case, and what helps.

use std::path::{Path, PathBuf};

use plumb_debian::PackageName;
use plumb_model::definition::DefinitionErrors;
use plumb_model::lock::LockError;
use plumb_model::release::ReleaseName;
use plumb_model::{AppName, CheckName, DeploymentName, DocumentError, InstanceName, MachineName, TaskName};
use plumb_plan::Violation;

use crate::content::error::ContentError;
use crate::data::error::DataError;
use crate::deploy::Stands;
use crate::hint::list;

/// Why a use case failed. `Display` never prints the source; the CLI prints the chain.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The folder has no definition.
    #[error("there is no `plumb.toml` in `{folder}`")]
    NoDefinition {
        /// Folder.
        folder: PathBuf,
    },
    /// The definition has errors; each is complete in itself.
    #[error("{0}")]
    Definition(DefinitionErrors),
    /// The lock cannot be read.
    #[error("cannot read `{path}`")]
    Lock {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: LockError,
    },
    /// The lock does not belong to the definition as it is now.
    #[error("`{path}` does not fit the definition any more: {reason}")]
    StaleLock {
        /// File.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A lock that is compared belongs to another definition.
    #[error("`{lock}` does not fit the definition in `{folder}`: {reason}")]
    ForeignLock {
        /// The lock.
        lock: PathBuf,
        /// Where the definition lies.
        folder: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A configuration.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A maintainer script failed.
    #[error("machine `{machine}`: {step} failed ({status}); the end of what it said:\n{output}")]
    Script {
        /// Machine.
        machine: MachineName,
        /// Which script.
        step: String,
        /// How it ended.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// Two runs of the same scripts differ.
    #[error("two runs of the scripts of machine `{machine}` differ:\n{}", paths.join("\n"))]
    ScriptsDiffer {
        /// Machine.
        machine: MachineName,
        /// Paths, and what differs.
        paths: Vec<String>,
    },
    /// The build VM gave no usable answer.
    #[error(
        "the scripts of machine `{machine}` have no result; the end of the build VM's console:\n{console}"
    )]
    BuildMachine {
        /// Machine.
        machine: MachineName,
        /// The end of its console.
        console: String,
        /// Why.
        #[source]
        source: plumb_image::effect::answer::AnswerError,
    },
    /// Not a regular file, folder or link.
    #[error("`{path}` is neither a file nor a folder nor a link")]
    NotAFile {
        /// Path.
        path: PathBuf,
    },
    /// A name or text that is not UTF-8.
    #[error("`{path}` is not UTF-8")]
    NotUtf8 {
        /// Path.
        path: PathBuf,
    },
    /// A file of the user is missing.
    #[error("machine `{machine}` takes `{path}`, which is not there")]
    NoSource {
        /// Machine.
        machine: MachineName,
        /// Path.
        path: PathBuf,
    },
    /// Larger than is plausible.
    #[error("`{path}` is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Path.
        path: PathBuf,
        /// Limit.
        limit_bytes: u64,
    },
    /// More files than is plausible.
    #[error("machine `{machine}` takes more than {limit} files")]
    TooManyFiles {
        /// Machine.
        machine: MachineName,
        /// Limit.
        limit: usize,
    },
    /// The archive could not be read.
    #[error(transparent)]
    Fetch(#[from] plumb_fetch::Error),
    /// A release did not travel.
    #[error(transparent)]
    Transfer(#[from] crate::remote::TransferError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] plumb_store::Error),
    /// The state could not be read or written.
    #[error(transparent)]
    State(#[from] plumb_state::StateError),
    /// What should be the address of a state is none.
    #[error(transparent)]
    StateAddress(plumb_state::AddressError),
    /// A file of this home that says where the state is cannot be used.
    #[error("`{path}` is damaged, or of a newer plumb")]
    StateSetting {
        /// The file.
        path: PathBuf,
    },
    /// Instances were started again too often in a row, and are left alone.
    #[error("{} of deployment `{deployment}` {} given up: started again too often in a row", instances.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "), if instances.len() == 1 { "is" } else { "are" })]
    GivenUp {
        /// Deployment.
        deployment: DeploymentName,
        /// Which.
        instances: Vec<plumb_model::InstanceName>,
    },
    /// The owner of a deployment would have more than he may.
    #[error("`{owner}` would have more than the quota allows: {}", excess.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    OverQuota {
        /// Whose it is.
        owner: String,
        /// Of what, and by how much.
        excess: Vec<plumb_plan::lease::Excess>,
    },
    /// The clock cannot be believed, and leases go by it.
    #[error("the clock says {now}, {by} {way} {seen}, when leases were last looked at; nothing was done")]
    Clock {
        /// What it says.
        now: String,
        /// How far it is off.
        by: String,
        /// `behind` or `ahead of`.
        way: &'static str,
        /// What it said last.
        seen: String,
    },
    /// The environment stands above what would be set.
    #[error("`PLUMB_STATE` says where the state is")]
    StateByEnvironment,
    /// Deployments of this host would be lost from sight.
    #[error("the other state does not know {} as it is now", deployments.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))]
    StateNotCopied {
        /// Where it should be from now on.
        to: String,
        /// Deployments of this host that it does not have.
        deployments: Vec<DeploymentName>,
    },
    /// The index of what releases hold could not be read or made.
    #[error("cannot {action} the index of releases `{path}`")]
    Search {
        /// What was being done.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A feed of advisories cannot be used.
    #[error("the advisories of `{origin}` cannot be used")]
    Advisory {
        /// Where they are from.
        origin: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such feed.
    #[error("there is no feed of advisories `{feed}`")]
    NoFeed {
        /// As given.
        feed: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// A feed of this name, from elsewhere.
    #[error("the feed of advisories `{feed}` is from `{origin}`")]
    OtherFeed {
        /// Its name.
        feed: String,
        /// Where it is from.
        origin: String,
    },
    /// Nobody who was asked knows the vulnerability, which is not the same as not being affected.
    #[error("no advisory speaks of `{name}`: whether anything is affected is not known ({})", asked.join("; "))]
    UnknownVulnerability {
        /// As given.
        name: String,
        /// Who was asked, with the age of what they know.
        asked: Vec<String>,
    },
    /// A scan that did not see everything is no evidence.
    #[error("`{release}` cannot be scanned: {}", gaps.join("; "))]
    ScanIncomplete {
        /// Which.
        release: ReleaseName,
        /// What is not seen.
        gaps: Vec<String>,
    },
    /// A text that asks for nothing.
    #[error("`{text}` cannot be searched for")]
    Query {
        /// As given.
        text: String,
        /// Why.
        #[source]
        source: plumb_search::QueryError,
    },
    /// The target failed.
    #[error(transparent)]
    Target(#[from] plumb_target::TargetError),
    /// No plan is possible.
    #[error(transparent)]
    Plan(#[from] plumb_plan::PlanError),
    /// A key, a signature or a channel.
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    /// A deployment does not run as it should.
    #[error("`{deployment}` is not soaking: {why}")]
    NotSoaking {
        /// Deployment.
        deployment: DeploymentName,
        /// What is wrong.
        why: String,
    },
    /// A stored document is damaged.
    #[error("`{name}` in the store is damaged")]
    Document {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// An index that was verified does not parse.
    #[error("the package index of suite `{suite}` is not understood")]
    Index {
        /// Suite.
        suite: String,
        /// Why.
        #[source]
        source: plumb_debian::IndexError,
    },
    /// The archive holds something that makes no sense.
    #[error("the package indices cannot be used")]
    Archive {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No set of packages fits.
    #[error("no set of packages fits machine `{machine}`:\n{explanation}")]
    Unsolvable {
        /// Machine.
        machine: MachineName,
        /// For a person.
        explanation: String,
    },
    /// Two machines would have different versions of one package.
    #[error(
        "machine `{machine}` needs `{package}` {version}, but another machine of `{app}` has {other}: an application has one version of each package"
    )]
    TwoVersions {
        /// Application.
        app: AppName,
        /// Machine.
        machine: MachineName,
        /// Package.
        package: String,
        /// Version here.
        version: String,
        /// Version elsewhere.
        other: String,
    },
    /// The kernel package is not in the archive.
    #[error("kernel package `{package}` is not in the archive")]
    NoKernel {
        /// Package.
        package: String,
    },
    /// A package cannot be unpacked.
    #[error("package `{package}` cannot be unpacked")]
    Unpack {
        /// Package.
        package: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Content from elsewhere cannot be taken into an image.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A file of the user changed while it was read.
    #[error("`{path}` changed while it was read")]
    Changing {
        /// Path.
        path: PathBuf,
    },
    /// Something is to belong to an account that the machine does not have.
    #[error("{what} of machine `{machine}` is to belong to `{account}`, which is no account of it")]
    NoAccount {
        /// Machine.
        machine: MachineName,
        /// What.
        what: String,
        /// Account.
        account: String,
    },
    /// An image cannot be built.
    #[error("the image of machine `{machine}` cannot be built")]
    Build {
        /// Machine.
        machine: MachineName,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Files of an image need files that are not in it.
    #[error("the image of machine `{machine}` is not complete:\n{}", .missing.join("\n"))]
    Incomplete {
        /// Machine.
        machine: MachineName,
        /// One line each: who needs what.
        missing: Vec<String>,
        /// Packages that would help.
        packages: Vec<String>,
    },
    /// Maintainer scripts have effects that no rule covers and the definition does not speak of.
    #[error("machine `{machine}` has packages whose scripts do what no rule covers:\n{}", .effects.join("\n"))]
    Uncovered {
        /// Machine.
        machine: MachineName,
        /// One each: script, package and lines.
        effects: Vec<String>,
        /// Packages that need a choice.
        packages: Vec<String>,
    },
    /// A choice about a package that is not there.
    #[error("machine `{machine}` has `script.{package}`, but package `{package}` is not in it")]
    NoScript {
        /// Machine.
        machine: MachineName,
        /// Package.
        package: PackageName,
    },
    /// There is no such release.
    #[error("there is no release `{release}`")]
    NoRelease {
        /// Name.
        release: ReleaseName,
    },
    /// There is no release at all.
    #[error("application `{app}` has no release yet")]
    NoReleases {
        /// Application.
        app: AppName,
    },
    /// Nothing to compare a first release with.
    #[error("`{release}` is the first release; there is none before it")]
    FirstRelease {
        /// The release.
        release: ReleaseName,
    },
    /// A text that names nothing that can be compared.
    #[error(
        "`{what}` is neither a release, nor a folder with a definition, nor a lock file, nor the name of a deployment"
    )]
    NotComparable {
        /// The text.
        what: String,
    },
    /// Changes without a cause.
    #[error("{} of the changes have no cause that Plumb knows: {}", .changes.len(), .changes.join(", "))]
    Unattributed {
        /// Where they are.
        changes: Vec<String>,
    },
    /// There is no such deployment.
    #[error("there is no deployment `{deployment}` on this host")]
    NoDeployment {
        /// Name.
        deployment: DeploymentName,
        /// Those that exist.
        known: Vec<DeploymentName>,
    },
    /// The deployment does not run.
    #[error("deployment `{deployment}` does not run")]
    NotRunning {
        /// Name.
        deployment: DeploymentName,
    },
    /// There is no such instance.
    #[error("there is no instance `{instance}`")]
    NoInstance {
        /// As given.
        instance: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// Several deployments have an instance of this name.
    #[error("`{instance}` is in more than one deployment")]
    Ambiguous {
        /// As given.
        instance: String,
        /// Those it may mean.
        known: Vec<String>,
    },
    /// An instance should have a volume that is not there.
    #[error("volume `{volume}` of instance `{instance}` is not there")]
    NoVolume {
        /// Instance.
        instance: InstanceName,
        /// Volume.
        volume: String,
    },
    /// Data could not be copied, found or given up.
    #[error(transparent)]
    Data(#[from] DataError),
    /// There is nothing to go back to.
    #[error("`{deployment}` runs `{release}`, and no older release has run here")]
    NothingBefore {
        /// Deployment.
        deployment: DeploymentName,
        /// What runs.
        release: ReleaseName,
    },
    /// A release whose images are not, or not completely, in the store.
    #[error("the images of `{release}` are not in the store: they were collected, damaged, or never pulled")]
    Collected {
        /// Release.
        release: ReleaseName,
    },
    /// An image that was made before images had inventories.
    #[error("the image of machine `{machine}` has no inventory")]
    NoInventory {
        /// Machine.
        machine: MachineName,
    },
    /// There is no machine of this name.
    #[error("`{subject}` has no machine `{machine}`")]
    NoMachine {
        /// Release or application.
        subject: String,
        /// As given.
        machine: MachineName,
        /// Those that exist.
        known: Vec<String>,
    },
    /// An image whose recipe was not kept, so that it cannot be built again.
    #[error("the image of machine `{machine}` cannot be built again: its recipe is not in the store")]
    NoRecipe {
        /// Machine.
        machine: MachineName,
    },
    /// Objects are damaged, or a second build gave other bytes; what and why was said.
    #[error("`{release}` does not verify")]
    Unverified {
        /// The release.
        release: ReleaseName,
    },
    /// `fsck` found damage that it could not mend; what was said.
    #[error("the store is damaged: {left} things are not repaired")]
    StoreDamaged {
        /// How many.
        left: usize,
    },
    /// `gc` removed what could go on a full disk, and there is no space for what has to be written before more can; what was
    /// done was said.
    #[error("the disk is full: not everything that can go or be folded did")]
    DiskFull {
        /// Where the store is.
        store: PathBuf,
    },
    /// No machine holds such a package or file.
    #[error("no machine of `{subject}` holds a package, file or kernel module `{what}`")]
    NotInside {
        /// Release or application.
        subject: String,
        /// As given.
        what: String,
    },
    /// An instance did not become ready.
    #[error("instance `{instance}` did not become ready: {reason}")]
    NotReady {
        /// Instance.
        instance: InstanceName,
        /// Why.
        reason: String,
        /// End of its console.
        console: Vec<String>,
    },
    /// A plan breaks promises that every plan keeps: a mistake of ours, found before anything was done.
    #[error("the plan for deployment `{deployment}` breaks promises that every plan keeps: {broken:?}")]
    Unsound {
        /// Deployment.
        deployment: DeploymentName,
        /// Which.
        broken: Vec<Violation>,
    },
    /// A task failed.
    #[error("task `{task}` failed in `{instance}`: {reason}")]
    TaskFailed {
        /// Instance.
        instance: InstanceName,
        /// Task.
        task: TaskName,
        /// Why.
        reason: String,
        /// The end of what it wrote.
        output: Vec<String>,
    },
    /// The user wanted no more; what had been begun was taken away.
    #[error("interrupted")]
    Interrupted,
    /// Checks of a release failed; which, and why, was said.
    #[error("`{release}` does not pass its test: {failed} of {all} checks failed{}", not_tried(*.skipped))]
    ChecksFailed {
        /// The release.
        release: ReleaseName,
        /// How many failed.
        failed: usize,
        /// How many could not be tried.
        skipped: usize,
        /// How many there are.
        all: usize,
    },
    /// The release has no such check.
    #[error("`{release}` has no check `{check}`")]
    NoCheck {
        /// The release.
        release: ReleaseName,
        /// As given.
        check: CheckName,
        /// Those that exist.
        known: Vec<CheckName>,
    },
    /// A file that a check names is not beside the definition.
    #[error("check `{check}` needs `{path}`, which is not there")]
    NoCheckFile {
        /// The check.
        check: CheckName,
        /// The file.
        path: PathBuf,
    },
    /// The files of the checks are too many or too large.
    #[error("the files of the checks are more than {what}")]
    TooMuchForChecks {
        /// The limit.
        what: String,
    },
    /// As many tests run as may.
    #[error("{limit} tests of `{app}` run already")]
    TooManyTests {
        /// The application.
        app: AppName,
        /// The limit.
        limit: u32,
    },
    /// A check cannot be carried out although nothing is wrong with the release.
    #[error("check `{check}` cannot be carried out: {reason}")]
    CheckBroken {
        /// The check.
        check: CheckName,
        /// Why.
        reason: String,
    },
    /// An upgrade failed and the set went back.
    #[error("`{to}` did not become healthy; deployment `{deployment}` runs `{from}` again")]
    Returned {
        /// Deployment.
        deployment: DeploymentName,
        /// What was wanted.
        to: ReleaseName,
        /// What runs.
        from: ReleaseName,
        /// Why.
        #[source]
        source: Box<OpsError>,
    },
    /// A step failed, and policy is to leave everything as it is then.
    #[error("the way to `{to}` stopped, and everything of deployment `{deployment}` stays as it is")]
    Stopped {
        /// Deployment.
        deployment: DeploymentName,
        /// What was wanted.
        to: ReleaseName,
        /// What ran before.
        before: Option<ReleaseName>,
        /// How it stands.
        stands: Box<[Stands]>,
        /// Why.
        #[source]
        source: Box<OpsError>,
    },
    /// A release is there but for some instances, and policy is to go on without them.
    #[error("deployment `{deployment}` runs `{to}`, but not all of it is healthy: {}", list(.instances))]
    NotWhole {
        /// Deployment.
        deployment: DeploymentName,
        /// What runs.
        to: ReleaseName,
        /// What ran before.
        before: Option<ReleaseName>,
        /// Those that are not healthy.
        instances: Box<[InstanceName]>,
        /// Why the first of them is not.
        #[source]
        source: Box<OpsError>,
    },
    /// An upgrade failed and so did the way back, or there is none.
    #[error("`{to}` did not become healthy, and deployment `{deployment}` could not go back: {why}")]
    Stranded {
        /// Deployment.
        deployment: DeploymentName,
        /// What was wanted.
        to: ReleaseName,
        /// Why there is no way back.
        why: Box<OpsError>,
        /// Why it failed at first.
        #[source]
        source: Box<OpsError>,
    },
    /// A text that is not a name of a deployment, release or folder.
    #[error("`{value}` is neither a folder with a `plumb.toml` nor a release such as `shop@3`")]
    NotADefinition {
        /// As given.
        value: String,
    },
    /// The folder for `init` is not empty.
    #[error("`{path}` exists already")]
    Exists {
        /// Path.
        path: PathBuf,
    },
    /// There is no such template.
    #[error("there is no template `{name}`")]
    NoTemplate {
        /// As given.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
}

/// The part of a sentence about checks that were skipped.
fn not_tried(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", {count} were not tried") }
}

impl OpsError {
    /// Something in the store is not what it should be, or is not there: whoever looks again finds the same. What is none
    /// (a full disk, too many open files) says nothing about what the store holds.
    pub(crate) fn is_damage(&self) -> bool {
        use plumb_store::Error::{Damaged, DamagedFold, Missing, TooLarge, WrongDigest};
        matches!(
            self,
            OpsError::Store(
                Missing { .. }
                    | Damaged { .. }
                    | DamagedFold { .. }
                    | WrongDigest { .. }
                    | TooLarge { .. }
            ) | OpsError::Document { .. }
                | OpsError::Lock { .. }
                // A release whose checks are of a machine that it has not.
                | OpsError::NoMachine { .. }
        )
    }

    /// It and its causes in one line; what a cause only repeats is said once.
    pub(crate) fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        for cause in std::iter::successors(std::error::Error::source(self), |cause| cause.source()) {
            let said = cause.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
        }
        text
    }

    /// A full disk is the reason: then nothing is said about who has an object, and what frees space may go on.
    pub(crate) fn is_full(&self) -> bool {
        use std::error::Error;
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(self, OpsError::Transfer(crate::remote::TransferError::NoSpace { .. })) {
            return true;
        }
        let causes = std::iter::successors(Some(self as &(dyn Error + 'static)), |cause| (*cause).source());
        let mut causes = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>());
        causes.any(|cause| matches!(cause.kind(), StorageFull | QuotaExceeded))
    }
}

impl From<plumb_remote::Error> for OpsError {
    fn from(error: plumb_remote::Error) -> Self {
        OpsError::Transfer(error.into())
    }
}

/// For `map_err`: an [`OpsError::Io`] about `path`.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpsError + use<> {
    let path = path.to_owned();
    move |source| OpsError::Io { action, path, source }
}
