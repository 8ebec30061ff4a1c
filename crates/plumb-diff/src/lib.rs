//! What changed between two releases, and why. Pure.
//!
//! ```text
//!  definition, lock, images ─ before ─┐                ┌─ packages, files, services, settings, accounts,
//!                                     ├─ diff ─► Diff ─┤  kernel, libraries, sizes: per machine,
//!  definition, lock, images ─ after ──┘                └─ each change with its cause
//! ```
//!
//! A cause leads back to what a person did or the world did: a line of the definition, the user's files, the archive, a
//! new dependency of a package, Plumb itself. A change for which none is found is [`Cause::Unknown`], and that is an error
//! of ours: everything an image is made from is an input that is compared here.
#![forbid(unsafe_code)]

mod cause;
mod file;
mod package;
mod service;
mod setting;
mod side;

use std::collections::{BTreeMap, BTreeSet};

use plumb_debian::PackageName;
use plumb_image::compare::What;
use plumb_model::{DeploymentName, MachineName};
use serde::Serialize;

pub use cause::Cause;
pub use side::{Entries, Measured, Side, SideMachine};

use side::Pair;

/// All that differs between two sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Name of the first side: `shop@3`.
    pub before: String,
    /// Name of the second.
    pub after: String,
    /// Where a deployment that is compared is not what its release says; filled in by whoever can see it.
    pub running: Vec<Running>,
    /// What could not be compared, in words.
    pub notes: Vec<String>,
    /// What is true of the set as a whole.
    pub set: Vec<Change>,
    /// Machines that differ, by name.
    pub machines: BTreeMap<MachineName, MachineDiff>,
}

/// An instance that is not what the release of its deployment says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Its deployment.
    pub deployment: DeploymentName,
    /// Its name.
    pub instance: String,
    /// `state` or `release`.
    pub what: &'static str,
    /// What the release says.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What its owner should know: a plan that was interrupted or failed.
    pub why: Option<String>,
}

/// Is a machine in both sides?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// In both.
    Both,
}

/// What differs of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineDiff {
    /// In which sides it is. Of one that is in one side only, nothing but its sizes is listed.
    pub presence: Presence,
    /// Packages, by name.
    pub packages: Vec<PackageChange>,
    /// Vulnerabilities that are no longer open in the machine, its kernel included; filled in with those of packages.
    pub fixes: BTreeSet<String>,
    /// Vulnerabilities that were not open in it before.
    pub brings: BTreeSet<String>,
    /// Files, links and directories, by path.
    pub files: Vec<FileChange>,
    /// Services.
    pub services: Vec<Change>,
    /// What the definition says of its instances: number, memory, ports, volumes, …
    pub settings: Vec<Change>,
    /// Users and groups.
    pub accounts: Vec<Change>,
    /// The kernel, its parameters, its modules, and PID 1.
    pub kernel: Vec<Change>,
    /// Names of shared libraries (`SONAME`) that came or went.
    pub libraries: Vec<Change>,
    /// Sizes and measured values; they follow from the rest, and have no cause of their own.
    pub figures: Vec<Figure>,
}

/// Something that has one value on each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What: `memory`, `service nginx`, `user www-data`.
    pub what: String,
    /// Its value before; `None` if it was not there.
    pub before: Option<String>,
    /// Its value after; `None` if it is not there.
    pub after: Option<String>,
    /// Why.
    pub cause: Cause,
}

/// A package that came, went or changed its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Package.
    pub name: PackageName,
    /// Layer.
    pub layer: String,
    /// Version before.
    pub before: Option<String>,
    /// Version after.
    pub after: Option<String>,
    /// Why.
    pub cause: Cause,
    /// Vulnerabilities that the package's own changelog calls fixed between the two versions; filled in by whoever has
    /// the changelog.
    pub fixes: Vec<String>,
    /// Vulnerabilities that are open in it and were not in what was there before: those that an older version does not
    /// fix, and those that are known of a package that is new.
    pub brings: Vec<String>,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Path.
    pub path: String,
    /// Layer.
    pub layer: String,
    /// What of it.
    #[serde(flatten)]
    pub what: What,
    /// It gained or lost the right to run as another user or with capabilities.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privilege: bool,
    /// Why.
    pub cause: Cause,
}

/// A number of a machine on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// What: `image`, `kernel`, `memory in use`.
    pub what: &'static str,
    /// `B`, `KiB`, `ms` or nothing.
    pub unit: &'static str,
    /// Before.
    pub before: Option<u64>,
    /// After.
    pub after: Option<u64>,
}

impl Diff {
    /// Nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.set.is_empty() && self.machines.is_empty()
    }

    /// Changes without a cause, as `machine: what`.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        let mut found: Vec<String> = unknown(&self.set).map(str::to_owned).collect();
        for (name, machine) in &self.machines {
            let lists = [
                &machine.services,
                &machine.settings,
                &machine.accounts,
                &machine.kernel,
                &machine.libraries,
            ];
            let changes = lists.into_iter().flat_map(|list| unknown(list)).map(str::to_owned);
            let packages = machine.packages.iter().filter(|change| change.cause == Cause::Unknown);
            let files = machine.files.iter().filter(|change| change.cause == Cause::Unknown);
            let all = changes
                .chain(packages.map(|change| format!("package {}", change.name)))
                .chain(files.map(|change| change.path.clone()));
            found.extend(all.map(|what| format!("{name}: {what}")));
        }
        found
    }
}

fn unknown(changes: &[Change]) -> impl Iterator<Item = &str> {
    changes.iter().filter(|change| change.cause == Cause::Unknown).map(|change| change.what.as_str())
}

impl MachineDiff {
    fn is_empty(&self) -> bool {
        self.presence == Presence::Both
            && self.packages.is_empty()
            && self.files.is_empty()
            && [&self.services, &self.settings, &self.accounts, &self.kernel, &self.libraries]
                .iter()
                .all(|list| list.is_empty())
    }
}

/// Compares two sides.
#[must_use]
pub fn diff(before: &Side, after: &Side) -> Diff {
    let names: BTreeSet<&MachineName> = before.machines.keys().chain(after.machines.keys()).collect();
    let mut machines = BTreeMap::new();
    for name in names {
        let found = match (before.machines.get(name), after.machines.get(name)) {
            (Some(one), Some(other)) => both(&Pair::new(name, (one, other), (before, after))),
            (one, other) => only_one(one.or(other), other.is_some()),
        };
        if !found.is_empty() {
            machines.insert(name.clone(), found);
        }
    }
    Diff {
        before: before.name.clone(),
        after: after.name.clone(),
        running: Vec::new(),
        notes: Vec::new(),
        set: setting::of_set(before, after),
        machines,
    }
}

fn both(pair: &Pair<'_>) -> MachineDiff {
    MachineDiff {
        presence: Presence::Both,
        packages: package::changes(pair),
        fixes: BTreeSet::new(),
        brings: BTreeSet::new(),
        files: file::changes(pair),
        services: service::changes(pair),
        settings: setting::of_machine(pair),
        accounts: setting::accounts(pair),
        kernel: setting::kernel(pair),
        libraries: file::libraries(pair),
        figures: setting::figures(Some(pair.before), Some(pair.after)),
    }
}

fn only_one(machine: Option<&SideMachine>, is_added: bool) -> MachineDiff {
    let (before, after) = if is_added { (None, machine) } else { (machine, None) };
    MachineDiff {
        presence: if is_added { Presence::Added } else { Presence::Removed },
        packages: Vec::new(),
        fixes: BTreeSet::new(),
        brings: BTreeSet::new(),
        files: Vec::new(),
        services: Vec::new(),
        settings: Vec::new(),
        accounts: Vec::new(),
        kernel: Vec::new(),
        libraries: Vec::new(),
        figures: setting::figures(before, after),
    }
}

#[cfg(test)]
mod tests;
