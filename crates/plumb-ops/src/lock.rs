//! From definition to lock.

mod build;
mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;

use plumb_debian::{PackageName, PackageRecord, Version, parse_relations};
use plumb_fetch::{FetchOptions, Snapshot, SourceSnapshot};
use plumb_image::rule::script_only::{self, ScriptOnly};
use plumb_model::MachineName;
use plumb_model::definition::Init;
use plumb_model::lock::{
    FORMAT, Lock, LockInputs, LockedMachine, LockedPackage, LockedSource, MachineInputs,
};
use plumb_resolve::{Request, Resolution, RootRequest, Universe, Waived, Waiver};
use serde::Serialize;

use crate::error::{OpsError, io};
use crate::progress::Progress;
use crate::project::Project;
use crate::universe::Catalogs;
use crate::{Plumb, clock};

/// What the suite of security fixes is called after (<https://www.debian.org/security/>).
const SECURITY: &str = "-security";

/// What may change in an existing lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Nothing that the definition does not ask for.
    Keep,
    /// Everything.
    All,
    /// These packages.
    Packages(Vec<String>),
    /// What the archive's security suite has newer versions of, at the newest version it has there.
    Security,
}

/// What locking did.
#[derive(Debug, Clone, Serialize)]
pub struct LockOutcome {
    /// Packages of the whole application.
    pub packages: usize,
    /// The lock differs from the one that was there.
    pub changed: bool,
    /// Packages that came, went or changed their version.
    pub changes: Vec<LockChange>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The lock.
    #[serde(skip)]
    pub lock: Lock,
}

/// One package that differs between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockChange {
    /// Package.
    pub package: String,
    /// Version before, if it was there.
    pub from: Option<String>,
    /// Version now, if it is there.
    pub to: Option<String>,
    /// Suite that the version now is from.
    pub suite: Option<String>,
    /// Machines that have it, now or before.
    pub machines: Vec<MachineName>,
}

impl Plumb<'_> {
    /// Brings the lock of `project` up to date and writes it unless `dry_run`. Needs no network if the lock fits the
    /// definition and no update is asked for.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn lock(&self, project: &Project, update: &Update, dry_run: bool) -> Result<LockOutcome, OpsError> {
        let previous = project.lock()?;
        let inputs = project.lock_inputs();
        if let Some(lock) =
            previous.as_ref().filter(|lock| *update == Update::Keep && lock.inputs == inputs.digest())
        {
            let packages = lock.packages.len();
            self.report(Progress::Locked { packages, changed: false });
            let lock = lock.clone();
            return Ok(LockOutcome {
                packages,
                changed: false,
                changes: Vec::new(),
                notes: Vec::new(),
                lock,
            });
        }
        self.report(Progress::Refreshing);
        let snapshot = self.refresh(project)?;
        self.report(Progress::Resolving);
        let (mut lock, notes) = self.resolve(&inputs, previous.as_ref(), update, &snapshot)?;
        self.lock_wheels(project, &mut lock)?;
        let lock = keep_if_equal(previous.as_ref(), lock);
        let changed = previous.as_ref() != Some(&lock);
        if changed && !dry_run {
            write_lock(&project.lock_path(), &lock)?;
        }
        self.report(Progress::Locked { packages: lock.packages.len(), changed });
        let changes = changes(previous.as_ref(), &lock);
        Ok(LockOutcome { packages: lock.packages.len(), changed, changes, notes, lock })
    }

    /// Writes a lock that [`Plumb::lock`] only showed.
    ///
    /// # Errors
    /// [`OpsError::Io`].
    pub fn write_lock(&self, project: &Project, outcome: &LockOutcome) -> Result<(), OpsError> {
        write_lock(&project.lock_path(), &outcome.lock)
    }

    /// Checks without network that the lock fits the definition. Returns the number of packages.
    ///
    /// # Errors
    /// [`OpsError::StaleLock`].
    pub fn check_lock(&self, project: &Project) -> Result<usize, OpsError> {
        let path = project.lock_path();
        let stale = |reason: &str| OpsError::StaleLock { path: path.clone(), reason: reason.to_owned() };
        let lock = project.lock()?.ok_or_else(|| stale("there is none yet"))?;
        let inputs = project.lock_inputs();
        if lock.inputs == inputs.digest() {
            return Ok(lock.packages.len());
        }
        let machines: BTreeSet<_> = lock.machines.keys().chain(inputs.machines.keys()).collect();
        let missing = machines
            .into_iter()
            .find(|name| lock.machines.contains_key(*name) != inputs.machines.contains_key(*name))
            .map(|name| format!("machine `{name}` is only in one of them"));
        Err(stale(&missing.unwrap_or_else(|| "the definition asks for other packages".to_owned())))
    }

    /// Options for everything that reads an archive.
    pub(crate) fn fetch_options(&self) -> Result<FetchOptions, OpsError> {
        let mut options = FetchOptions::new(clock::now_s(), plumb_debian::ARCHITECTURE)?;
        options.offline = self.options.offline;
        options.proxies = self.options.proxies.clone();
        Ok(options)
    }

    fn refresh(&self, project: &Project) -> Result<Snapshot, OpsError> {
        let base = &project.definition.base;
        let mut sources =
            plumb_fetch::debian_sources(&base.mirror, base.security_mirror.as_deref(), &base.suite);
        for source in &mut sources {
            source.components.clone_from(&base.components);
        }
        Ok(plumb_fetch::refresh(&self.store, &sources, &self.fetch_options()?, &Transfer(self.reporter))?)
    }

    fn resolve(
        &self,
        inputs: &LockInputs,
        previous: Option<&Lock>,
        update: &Update,
        snapshot: &Snapshot,
    ) -> Result<(Lock, Vec<String>), OpsError> {
        let archives = self.universe(snapshot, Catalogs::Use)?;
        let resolved = resolve_in(&archives, inputs, previous, update, snapshot);
        if !archives.0.is_damaged() {
            return resolved;
        }
        let archives = self.universe(snapshot, Catalogs::MakeAgain)?;
        resolve_in(&archives, inputs, previous, update, snapshot)
    }
}

/// The lock for `inputs` in a universe, of whose sources the origins are known.
fn resolve_in(
    (universe, origins): &(Universe, Vec<SourceSnapshot>),
    inputs: &LockInputs,
    previous: Option<&Lock>,
    update: &Update,
    snapshot: &Snapshot,
) -> Result<(Lock, Vec<String>), OpsError> {
    let is_security =
        |source: usize| origins.get(source).is_some_and(|origin| origin.suite.ends_with(SECURITY));
    let mut keep: BTreeMap<PackageName, Version> = BTreeMap::new();
    for package in previous.iter().flat_map(|previous| &previous.packages) {
        let fixed = universe.newest_in(&package.name, &is_security).filter(|_| *update == Update::Security);
        let fixed = fixed.map(|record| &record.version).filter(|version| **version > package.version);
        keep.insert(package.name.clone(), fixed.unwrap_or(&package.version).clone());
    }
    let kernel = kernel::choose(universe, &inputs.kernel, previous, (update, &is_security))?;
    let update = resolver_update(update)?;
    let mut chosen: BTreeMap<PackageName, LockedPackage> = BTreeMap::new();
    let (record, source) = kernel;
    chosen.insert(record.name.clone(), locked(record, &origins[source])?);
    let mut machines = BTreeMap::new();
    let mut notes = Vec::new();
    for (name, machine) in &inputs.machines {
        // What another machine of this application has wins over the previous lock: one version for all.
        let fixed = chosen.values().map(|package| (package.name.clone(), package.version.clone()));
        let keep: BTreeMap<_, _> = keep.clone().into_iter().chain(fixed).collect();
        let request = request(inputs, name, machine, keep, update.clone());
        let resolution = plumb_resolve::resolve(universe, &request).map_err(|error| {
            OpsError::Unsolvable { machine: name.clone(), explanation: error.to_string() }
        })?;
        notes.extend(resolution.notes.iter().map(ToString::to_string));
        take(inputs, name, &resolution, origins, &mut chosen)?;
        let accounts = previous.and_then(|lock| lock.machines.get(name)).map(|old| old.accounts.clone());
        let mut locked = locked_machine(machine, &resolution, record, accounts.unwrap_or_default());
        if machine.runs_scripts {
            let of = (&request, &locked.packages);
            locked.build = build::packages(inputs, name, (universe, origins), of, &mut chosen)?;
        }
        machines.insert(name.clone(), locked);
    }
    notes.sort();
    notes.dedup();
    let sources = snapshot.sources.iter().map(locked_source).collect();
    let packages = chosen.into_values().collect();
    let lock = Lock {
        format: FORMAT,
        app: inputs.app.clone(),
        inputs: inputs.digest(),
        sources,
        machines,
        packages,
    };
    Ok((lock, notes))
}

fn resolver_update(update: &Update) -> Result<plumb_resolve::Update, OpsError> {
    Ok(match update {
        // What security has is kept in the place of what was locked.
        Update::Keep | Update::Security => plumb_resolve::Update::None,
        Update::All => plumb_resolve::Update::All,
        Update::Packages(names) => {
            let parsed: Result<BTreeSet<PackageName>, _> = names.iter().map(|name| name.parse()).collect();
            plumb_resolve::Update::Packages(
                parsed.map_err(|error| OpsError::Archive { source: Box::new(error) })?,
            )
        }
    })
}

fn request(
    inputs: &LockInputs,
    name: &MachineName,
    machine: &MachineInputs,
    keep: BTreeMap<PackageName, Version>,
    update: plumb_resolve::Update,
) -> Request {
    let asked_by = format!("{}/{name}", inputs.app);
    let roots = machine
        .middleware
        .iter()
        .chain(&machine.os)
        .map(|relation| RootRequest { relation: relation.clone(), asked_by: asked_by.clone() })
        .collect();
    let waiver = |rule: &ScriptOnly| Waiver {
        requirer: rule.requirer.parse().ok(),
        dependency: rule.dependency.to_owned(),
    };
    let init = if machine.runs_systemd { Init::Systemd } else { Init::Plumb };
    Request {
        roots,
        without: machine.without.iter().cloned().collect(),
        waive: script_only::rules(init).map(waiver).collect(),
        keep,
        update,
    }
}

/// What rules left out, by the name that was asked for first. What is there all the same, because it was asked for by
/// name or another package needs it, is not left out.
fn left_out(machine: &MachineInputs, resolution: &Resolution<'_>) -> BTreeSet<PackageName> {
    let first = |waived: &Waived| {
        let relation = parse_relations(&waived.relation).ok()?.into_iter().next()?;
        Some(relation.0.into_iter().next()?.name)
    };
    let names = resolution.waived.iter().filter_map(first);
    names
        .filter(|name| !machine.without.contains(name))
        .filter(|name| !resolution.packages.iter().any(|package| package.record.name == *name))
        .collect()
}

/// Adds the packages of one machine to those of the application.
fn take(
    inputs: &LockInputs,
    machine: &MachineName,
    resolution: &Resolution<'_>,
    origins: &[SourceSnapshot],
    chosen: &mut BTreeMap<PackageName, LockedPackage>,
) -> Result<(), OpsError> {
    for package in &resolution.packages {
        let record = package.record;
        match chosen.get(&record.name) {
            Some(other) if other.version != record.version => {
                return Err(OpsError::TwoVersions {
                    app: inputs.app.clone(),
                    machine: machine.clone(),
                    package: record.name.to_string(),
                    version: record.version.to_string(),
                    other: other.version.to_string(),
                });
            }
            Some(_) => {}
            None => {
                chosen.insert(record.name.clone(), locked(record, &origins[package.source])?);
            }
        }
    }
    Ok(())
}

fn locked(record: &PackageRecord, origin: &SourceSnapshot) -> Result<LockedPackage, OpsError> {
    let digest = plumb_model::Digest::from_hex(&record.sha256.to_string())
        .map_err(|error| OpsError::Archive { source: Box::new(error) })?;
    Ok(LockedPackage {
        name: record.name.clone(),
        version: record.version.clone(),
        architecture: record.architecture.to_string(),
        suite: origin.suite.clone(),
        file: record.filename.to_string(),
        size: record.size,
        digest,
    })
}

fn locked_machine(
    machine: &MachineInputs,
    resolution: &Resolution<'_>,
    kernel: &PackageRecord,
    accounts: BTreeMap<String, (u32, u32)>,
) -> LockedMachine {
    let packages: BTreeSet<PackageName> =
        resolution.packages.iter().map(|package| package.record.name.clone()).collect();
    // The middleware layer is what the definition names; what only comes along belongs to the os layer.
    let named = machine.middleware.iter().filter_map(|relation| parse_relations(relation).ok()).flatten();
    let named: BTreeSet<PackageName> =
        named.flat_map(|alternatives| alternatives.0).map(|relation| relation.name).collect();
    LockedMachine {
        middleware: packages.intersection(&named).cloned().collect(),
        kernel: kernel.name.to_string(),
        packages,
        without: machine.without.iter().cloned().collect(),
        left_out: left_out(machine, resolution),
        wheels: Vec::new(),
        build: BTreeSet::new(),
        accounts,
    }
}

fn locked_source(source: &SourceSnapshot) -> LockedSource {
    LockedSource {
        uri: source.uri.clone(),
        suite: source.suite.clone(),
        date: source.date_unix_s,
        in_release: source.in_release,
    }
}

/// Newer indices without any effect are no reason to change a lock.
fn keep_if_equal(previous: Option<&Lock>, lock: Lock) -> Lock {
    match previous {
        Some(previous) if Lock { sources: previous.sources.clone(), ..lock.clone() } == *previous => {
            previous.clone()
        }
        _ => lock,
    }
}

/// What differs between two locks, by package name.
fn changes(previous: Option<&Lock>, lock: &Lock) -> Vec<LockChange> {
    let versions = |lock: &Lock| -> BTreeMap<String, (String, String)> {
        let packages = lock.packages.iter();
        packages.map(|p| (p.name.to_string(), (p.version.to_string(), p.suite.clone()))).collect()
    };
    let (before, now) = (previous.map(versions).unwrap_or_default(), versions(lock));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let version = |of: &BTreeMap<String, (String, String)>, name: &str| {
        of.get(name).map(|(version, _)| version.clone())
    };
    names
        .into_iter()
        .filter(|name| version(&before, name) != version(&now, name))
        .map(|name| LockChange {
            package: name.clone(),
            from: version(&before, name),
            to: version(&now, name),
            suite: now.get(name).map(|(_, suite)| suite.clone()),
            machines: machines_with(name, previous.into_iter().chain([lock])),
        })
        .collect()
}

/// Machines that have a package in any of the locks.
fn machines_with<'l>(name: &str, locks: impl Iterator<Item = &'l Lock>) -> Vec<MachineName> {
    let has = |machine: &LockedMachine| {
        machine.kernel == name
            || machine.packages.iter().chain(&machine.build).any(|package| package.as_str() == name)
    };
    let found = locks.flat_map(|lock| lock.machines.iter().filter(|(_, machine)| has(machine)));
    let names: BTreeSet<MachineName> = found.map(|(name, _)| name.clone()).collect();
    names.into_iter().collect()
}

/// Replaces the lock as a whole: a reader sees the old or the new one, and it is on disk before this returns.
pub(crate) fn write_lock(path: &Path, lock: &Lock) -> Result<(), OpsError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new()
        .prefix(".plumb.lock.")
        .permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(io("write", path))?;
    draft.write_all(lock.to_text().as_bytes()).map_err(io("write", path))?;
    draft.as_file().sync_all().map_err(io("write", path))?;
    draft.persist(path).map_err(|error| OpsError::Io {
        action: "write",
        path: path.to_owned(),
        source: error.error,
    })?;
    Ok(())
}

/// Passes the progress of transfers on.
pub(crate) struct Transfer<'a>(pub(crate) &'a dyn crate::Reporter);

impl plumb_fetch::Progress for Transfer<'_> {
    fn begin(&self, item: &str, total_bytes: Option<u64>) {
        self.0.report(Progress::DownloadBegan {
            item: item.to_owned(),
            bytes: total_bytes.unwrap_or_default(),
        });
    }

    fn advance(&self, item: &str, bytes: u64) {
        self.0.report(Progress::Downloaded { item: item.to_owned(), bytes });
    }

    fn finish(&self, item: &str) {
        self.0.report(Progress::DownloadEnded { item: item.to_owned() });
    }
}

#[cfg(test)]
mod tests;
