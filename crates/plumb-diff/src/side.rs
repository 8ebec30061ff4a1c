//! One side of a comparison: everything an image is made from, and what came of it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::MachineSpec;
use plumb_image::inventory::Inventory;
use plumb_image::tree::{Entry, Origin};
use plumb_model::check::{Check, Probe};
use plumb_model::definition::{Definition, Machine};
use plumb_model::image::Image;
use plumb_model::lock::{Lock, LockedMachine, LockedPackage};
use plumb_model::release::{Content, ReleaseMachine};
use plumb_model::{CheckName, Digest, MachineName};
use plumb_resolve::{Dependencies, RootRequest};
use serde::Serialize;

use crate::cause::Cause;

/// What an image holds, by path.
pub type Entries = BTreeMap<String, (Entry, Origin)>;

/// A release, or what a folder would be as one.
#[derive(Debug)]
pub struct Side {
    /// `shop@3`.
    pub name: String,
    /// What it was made from.
    pub definition: Definition,
    /// The exact packages.
    pub lock: Lock,
    /// What it runs.
    pub content: Content,
    /// Its machines.
    pub machines: BTreeMap<MachineName, SideMachine>,
}

/// One machine of a side.
#[derive(Debug)]
pub struct SideMachine {
    /// Image manifest.
    pub image: Image,
    /// What the image holds.
    pub inventory: Inventory,
    /// What its packages say they need.
    pub dependencies: Dependencies,
    /// What the definition asks for.
    pub roots: Vec<RootRequest>,
    /// What runs in it.
    pub spec: MachineSpec,
    /// Names of the shared libraries of files that the other side does not have, with a path of each.
    pub libraries: BTreeMap<String, String>,
    /// Users and groups: `user www-data` to what its line says.
    pub accounts: BTreeMap<String, String>,
    /// Digest of the rules it was made by.
    pub rules: String,
    /// Digest of its PID 1.
    pub guest: Digest,
    /// Seen of an instance.
    pub measured: Option<Measured>,
}

/// What was seen of a running instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Memory in use at idle, KiB.
    pub memory_used_kib: u64,
    /// From the start of the kernel to ready, milliseconds.
    pub ready_ms: Option<u64>,
}

/// One machine that both sides have.
pub(crate) struct Pair<'a> {
    pub(crate) name: &'a MachineName,
    pub(crate) before: &'a SideMachine,
    pub(crate) after: &'a SideMachine,
    pub(crate) sides: (&'a Side, &'a Side),
    /// Asked for every path, and the same for all.
    changed: OnceCell<BTreeSet<String>>,
    upstream: OnceCell<Vec<String>>,
}

impl Side {
    fn locked(&self, name: &MachineName) -> Option<&LockedMachine> {
        self.lock.machines.get(name)
    }

    fn source_date(&self, suite: &str) -> Option<i64> {
        self.lock.sources.iter().find(|source| source.suite == suite).map(|source| source.date)
    }
}

impl<'a> Pair<'a> {
    pub(crate) fn new(
        name: &'a MachineName,
        machines: (&'a SideMachine, &'a SideMachine),
        sides: (&'a Side, &'a Side),
    ) -> Self {
        let (changed, upstream) = (OnceCell::new(), OnceCell::new());
        Pair { name, before: machines.0, after: machines.1, sides, changed, upstream }
    }
}

impl Pair<'_> {
    /// What the definition says of the machine, before and after.
    pub(crate) fn machines(&self) -> (Option<&Machine>, Option<&Machine>) {
        (self.sides.0.definition.machines.get(self.name), self.sides.1.definition.machines.get(self.name))
    }

    /// What the releases say of it.
    pub(crate) fn contents(&self) -> (Option<&ReleaseMachine>, Option<&ReleaseMachine>) {
        (self.sides.0.content.machines.get(self.name), self.sides.1.content.machines.get(self.name))
    }

    /// `machine.web.KEY`, if the definitions differ in what `of` takes of them.
    pub(crate) fn definition<T: PartialEq>(&self, key: &str, of: impl Fn(&Machine) -> T) -> Option<Cause> {
        let (before, after) = self.machines();
        (before.map(&of) != after.map(&of)).then(|| Cause::Definition { key: self.key(key) })
    }

    /// `check`, if the definitions differ in what is checked inside the machine.
    pub(crate) fn checks(&self) -> Option<Cause> {
        let inside = |side: &Side| -> BTreeMap<CheckName, Check> {
            let is_own =
                |check: &Check| matches!(&check.probe, Probe::Exec(exec) if exec.machine == *self.name);
            let own = side.definition.checks.iter().filter(|(_, check)| is_own(check));
            own.map(|(name, check)| (name.clone(), check.clone())).collect()
        };
        let differs = inside(self.sides.0) != inside(self.sides.1);
        differs.then(|| Cause::Definition { key: "check".to_owned() })
    }

    /// `machine.web.KEY`.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("machine.{}.{key}", self.name)
    }

    /// Another Plumb made it.
    pub(crate) fn plumb(&self) -> Option<Cause> {
        let is_other = self.before.rules != self.after.rules || self.before.guest != self.after.guest;
        is_other.then_some(Cause::Plumb)
    }

    /// The archive moved, as seen from a package of the second side.
    pub(crate) fn base(&self, package: Option<&LockedPackage>) -> Option<Cause> {
        let (before, after) = self.sides;
        let (one, other) = (&before.definition.base, &after.definition.base);
        if (&one.suite, &one.mirror, &one.security_mirror)
            != (&other.suite, &other.mirror, &other.security_mirror)
        {
            return Some(Cause::Definition { key: "base".to_owned() });
        }
        let moved = |suite: &str| {
            let (before_s, after_s) = (before.source_date(suite)?, after.source_date(suite)?);
            (before_s != after_s).then(|| Cause::Base { suite: suite.to_owned(), before_s, after_s })
        };
        let own = package.and_then(|package| moved(&package.suite));
        own.or_else(|| after.lock.sources.iter().find_map(|source| moved(&source.suite)))
    }

    /// Packages of the machine, and those that only ran scripts, whose version differs.
    pub(crate) fn changed_packages(&self) -> &BTreeSet<String> {
        self.changed.get_or_init(|| self.find_changed())
    }

    fn find_changed(&self) -> BTreeSet<String> {
        let versions = |side: &Side, machine: &SideMachine| -> BTreeMap<String, String> {
            let build = side.locked(self.name).into_iter().flat_map(|locked| &locked.build);
            let build = build.filter_map(|name| side.lock.package(name.as_str()));
            let build = build.map(|package| (package.name.to_string(), package.version.to_string()));
            let own = machine.image.packages.iter();
            own.map(|(name, package)| (name.to_string(), package.version.to_string())).chain(build).collect()
        };
        let (before, after) = (versions(self.sides.0, self.before), versions(self.sides.1, self.after));
        let names = before.keys().chain(after.keys()).cloned();
        names.filter(|name| before.get(name) != after.get(name)).collect()
    }

    /// Everything that differs of what the image is made from, in few words; empty if nothing does.
    pub(crate) fn upstream(&self) -> &[String] {
        self.upstream.get_or_init(|| self.find_upstream())
    }

    fn find_upstream(&self) -> Vec<String> {
        let mut found: Vec<String> = self.changed_packages().iter().cloned().collect();
        let keys: [(&str, Option<Cause>); 8] = [
            ("app", self.definition("app", |machine| machine.app.clone())),
            ("service", self.definition("service", |machine| machine.services.clone())),
            ("volume", self.definition("volume", |machine| machine.volumes.clone())),
            ("keep", self.definition("keep", |machine| machine.keep.clone())),
            ("script", self.definition("script", |machine| (machine.script.clone(), machine.scripts))),
            ("init", self.definition("init", |machine| machine.init)),
            ("without", self.definition("without", |machine| machine.without.clone())),
            ("oci", self.definition("oci", |machine| machine.oci.clone())),
        ];
        found.extend(keys.into_iter().filter(|(_, cause)| cause.is_some()).map(|(key, _)| self.key(key)));
        if self.checks().is_some() {
            found.push("check".to_owned());
        }
        let accounts = |side: &Side| side.locked(self.name).map(|locked| locked.accounts.clone());
        if accounts(self.sides.0) != accounts(self.sides.1) {
            found.push("accounts".to_owned());
        }
        if self.sides.0.definition.base.suite != self.sides.1.definition.base.suite {
            found.push("base.suite".to_owned());
        }
        if self.sides.0.definition.app != self.sides.1.definition.app {
            found.push("app".to_owned());
        }
        if self.app_differs() {
            found.push("your files".to_owned());
        }
        found
    }

    /// Some file of the user's differs.
    fn app_differs(&self) -> bool {
        let own = |machine: &SideMachine| -> BTreeMap<String, Entry> {
            let entries = machine.inventory.entries.iter().filter(|(_, (_, origin))| origin.source == "app");
            entries.map(|(path, (entry, _))| (path.clone(), entry.clone())).collect()
        };
        own(self.before) != own(self.after)
    }

    /// What a rule makes of the whole machine.
    pub(crate) fn made(&self, rule: &str) -> Cause {
        let of = self.upstream();
        if of.is_empty() {
            self.plumb().unwrap_or(Cause::Unknown)
        } else {
            Cause::Made { rule: rule.to_owned(), of: of.to_vec() }
        }
    }
}
