//! What a plan does to keep data: which volumes are copied before they change, how, and which old copies go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plumb_model::release::{Quiesce, Release, ReleaseName, SnapshotPolicy};
use plumb_model::{InstanceName, SnapshotName, VolumeName};
use serde::{Deserialize, Serialize};

use crate::carry::machine_of;
use crate::document::{Action, PlanKind};
use crate::planner::{Observed, ObservedInstance, Wanted};
use crate::reverse;

/// How a volume is kept from changing while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// Its file system is frozen, in its instance.
    Frozen,
    /// No instance runs with it.
    AtRest,
}

/// A volume of an instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceVolume {
    /// Instance.
    pub instance: InstanceName,
    /// Volume.
    pub volume: VolumeName,
}

/// As people write it: `db-1/data`.
impl fmt::Display for InstanceVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.instance, self.volume)
    }
}

/// A volume that is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldVolume {
    /// Instance.
    pub instance: InstanceName,
    /// Volume.
    pub volume: VolumeName,
    /// How it is kept from changing.
    pub hold: Hold,
}

/// Why a snapshot is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotReason {
    /// A newer release follows.
    BeforeUpgrade,
    /// An older release follows.
    BeforeRollback,
    /// Other data takes its place.
    BeforeRestore,
    /// Somebody asked for it.
    ByHand,
}

impl SnapshotReason {
    /// As it stands in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SnapshotReason::BeforeUpgrade => "before-upgrade",
            SnapshotReason::BeforeRollback => "before-rollback",
            SnapshotReason::BeforeRestore => "before-restore",
            SnapshotReason::ByHand => "by-hand",
        }
    }
}

/// A snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSnapshot {
    /// Its name.
    pub name: SnapshotName,
    /// The release whose data it is.
    pub release: Option<ReleaseName>,
    /// As of when, milliseconds since 1970.
    pub taken_ms: u64,
    /// Only its name removes it.
    pub pinned: bool,
    /// What it has.
    pub volumes: BTreeSet<InstanceVolume>,
}

/// What is wanted of the data, beside the release.
#[derive(Debug, Clone, Copy, Default)]
pub struct DataWish<'a> {
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
    /// Volumes are copied while their instances are stopped, whatever they declare: freezing took too long.
    pub quiesce: Option<Quiesce>,
    /// This takes the place of the data.
    pub restore: Option<&'a ObservedSnapshot>,
    /// Which of its volumes; empty is all.
    pub only: &'a [InstanceVolume],
    /// A snapshot is made under this name, and stays until its name is said; also where no policy asks for one.
    pub pin: Option<&'a SnapshotName>,
}

impl DataWish<'_> {
    /// Every volume that holds something, and that the release uses, gets other data.
    pub(crate) fn restores_all(&self, observed: &Observed, release: &Release) -> bool {
        self.restore.is_some_and(|snapshot| {
            let restored = restored(snapshot, self.only);
            let mut used = observed.volumes.keys().filter(|volume| declares(release, volume));
            used.all(|volume| restored.contains(volume))
        })
    }
}

/// What a plan does about data before anything else, and what is left running then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prologue {
    pub actions: Vec<Action>,
    /// Stopped by them.
    pub stopped: BTreeSet<InstanceName>,
    /// Made by them.
    pub taken: Option<SnapshotName>,
}

/// The name of a snapshot that a plan makes by itself.
pub(crate) fn name_of(generation: u64) -> SnapshotName {
    format!("g{generation}").parse().expect("a letter and digits")
}

/// Whether a name could be one that a plan gives by itself.
#[must_use]
pub fn is_given_by_plans(name: &SnapshotName) -> bool {
    name.as_str().strip_prefix('g').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Why a plan of this kind begins with a snapshot; `None` if it does not.
fn reason(observed: &Observed, wanted: &Wanted<'_>) -> Option<SnapshotReason> {
    let wish = &wanted.data;
    if observed.volumes.is_empty() {
        return None;
    }
    let name = wanted.release.name();
    let before = observed.data_of.as_ref().filter(|before| before.app == name.app && **before != name);
    // What is turned back cannot be had in another way.
    let turns_back = reverse::is_due(observed, wanted);
    let is_asked = wanted.release.content.snapshots.before_upgrade || turns_back;
    match (wanted.kind, before) {
        (PlanKind::Rollback, _) if wish.restore.is_some() => Some(SnapshotReason::BeforeRollback),
        _ if wish.restore.is_some() => Some(SnapshotReason::BeforeRestore),
        (PlanKind::Snapshot, _) => Some(SnapshotReason::ByHand),
        (PlanKind::Return, Some(_)) if turns_back => Some(SnapshotReason::BeforeRollback),
        (PlanKind::Up | PlanKind::Upgrade | PlanKind::Rollback, Some(before)) if is_asked => {
            let is_newer = before.number < name.number;
            Some(if is_newer { SnapshotReason::BeforeUpgrade } else { SnapshotReason::BeforeRollback })
        }
        _ => None,
    }
}

/// Stops what has to stop, copies the data, and puts other data in its place if that is wanted. `stops` is the order in
/// which instances stop.
pub(crate) fn prologue(
    observed: &Observed,
    wanted: &Wanted<'_>,
    generation: u64,
    stops: &[InstanceName],
) -> Prologue {
    let mut prologue = Prologue::default();
    let policy = &wanted.release.content.snapshots;
    let must_stop = |name: &InstanceName| {
        wanted.data.restore.is_some()
            || stops_for_copy(observed, wanted.data, name)
            || will_stop_for_copy(observed, wanted.release, name)
    };
    let reason = reason(observed, wanted);
    if reason.is_some() || wanted.data.restore.is_some() {
        let stopped = stops.iter().filter(|name| runs(observed, name) && must_stop(name));
        prologue.stopped = stopped.cloned().collect();
        let stops = stops.iter().filter(|name| prologue.stopped.contains(*name));
        prologue.actions.extend(stops.map(|instance| Action::Stop { instance: instance.clone() }));
    }
    if let Some(why) = reason {
        prologue.copy(observed, (policy, wanted.data), why, generation);
    }
    prologue.put(wanted.data);
    prologue
}

/// The same where no instance is started or stopped.
pub(crate) fn untouched(
    observed: &Observed,
    (policy, data, kind): (&SnapshotPolicy, DataWish<'_>, PlanKind),
    generation: u64,
) -> Prologue {
    let why = if kind == PlanKind::Restore { SnapshotReason::BeforeRestore } else { SnapshotReason::ByHand };
    let mut prologue = Prologue::default();
    if !observed.volumes.is_empty() {
        prologue.copy(observed, (policy, data), why, generation);
    }
    prologue.put(data);
    prologue
}

impl Prologue {
    fn copy(
        &mut self,
        observed: &Observed,
        (policy, data): (&SnapshotPolicy, DataWish<'_>),
        why: SnapshotReason,
        generation: u64,
    ) {
        let snapshot = data.pin.cloned().unwrap_or_else(|| name_of(generation));
        let is_frozen = |instance| runs(observed, instance) && !self.stopped.contains(instance);
        let volumes = observed.volumes.keys().map(|InstanceVolume { instance, volume }| HeldVolume {
            instance: instance.clone(),
            volume: volume.clone(),
            hold: if is_frozen(instance) { Hold::Frozen } else { Hold::AtRest },
        });
        let volumes = volumes.collect();
        let is_known = observed.turned_back.is_none() && observed.touched.is_none();
        self.actions.push(Action::Snapshot {
            snapshot: snapshot.clone(),
            volumes,
            why,
            // Nobody knows whose data it is.
            release: observed.data_of.clone().filter(|_| is_known),
            freeze_limit_ms: policy.freeze_limit_ms,
            pinned: data.pin.is_some(),
        });
        self.taken = Some(snapshot);
    }

    fn put(&mut self, data: DataWish<'_>) {
        self.actions.extend(data.restore.map(|snapshot| Action::Restore {
            snapshot: snapshot.name.clone(),
            volumes: restored(snapshot, data.only),
        }));
    }
}

/// The volumes that are put in place.
pub(crate) fn restored(snapshot: &ObservedSnapshot, only: &[InstanceVolume]) -> Vec<InstanceVolume> {
    snapshot.volumes.iter().filter(|volume| only.is_empty() || only.contains(volume)).cloned().collect()
}

/// Whether a machine of the release has the volume.
fn declares(release: &Release, volume: &InstanceVolume) -> bool {
    let mut machines = release.content.machines.iter();
    machines.any(|(name, machine)| {
        name.as_str() == machine_of(&volume.instance) && machine.volumes.contains_key(&volume.volume)
    })
}

fn runs(observed: &Observed, name: &InstanceName) -> bool {
    observed.instances.get(name).is_some_and(|instance: &ObservedInstance| instance.running)
}

/// A snapshot has to stop instances: they say so, or their guests know no other way.
#[must_use]
pub fn snapshot_stops(observed: &Observed, data: DataWish<'_>) -> bool {
    observed.instances.keys().any(|name| runs(observed, name) && stops_for_copy(observed, data, name))
}

/// One of its volumes is copied while it is stopped: it says so, or its guest knows no other way.
fn stops_for_copy(observed: &Observed, data: DataWish<'_>, name: &InstanceName) -> bool {
    let mut own = observed.volumes.iter().filter(|(volume, _)| volume.instance == *name).peekable();
    let cannot_freeze = own.peek().is_some() && observed.cannot_freeze.contains(name);
    cannot_freeze || own.any(|(_, declared)| data.quiesce.unwrap_or(*declared) == Quiesce::Stop)
}

/// The release that comes copies one of its volumes while it is stopped. That holds for the copy before it, too: the way out
/// where what runs cannot hold still, because a command of it fails.
fn will_stop_for_copy(observed: &Observed, wanted: &Release, name: &InstanceName) -> bool {
    let mut machines = wanted.content.machines.iter();
    let machine = machines.find(|(machine, _)| machine.as_str() == machine_of(name)).map(|(_, entry)| entry);
    let mut stopping = machine.into_iter().flat_map(|entry| &entry.volumes);
    stopping.any(|(volume, declared)| {
        let volume = InstanceVolume { instance: name.clone(), volume: volume.clone() };
        declared.snapshot == Quiesce::Stop && observed.volumes.contains_key(&volume)
    })
}

/// Snapshots that go: of those that were made by themselves, `policy.keep` newest stay (one that this plan makes counts),
/// those that are younger than `policy.keep_for_ms`, and those in `needed`.
pub(crate) fn prune(
    snapshots: &[ObservedSnapshot],
    policy: &SnapshotPolicy,
    now_ms: u64,
    (taken, needed): (Option<&SnapshotName>, &[&SnapshotName]),
) -> Vec<SnapshotName> {
    let by_age: BTreeMap<(u64, &SnapshotName), &ObservedSnapshot> = snapshots
        .iter()
        .filter(|snapshot| !snapshot.pinned && Some(&snapshot.name) != taken)
        .map(|snapshot| ((snapshot.taken_ms, &snapshot.name), snapshot))
        .collect();
    let stay = (policy.keep as usize).saturating_sub(usize::from(taken.is_some()));
    let old = by_age.into_values().rev().skip(stay);
    let gone = old.filter(|snapshot| {
        now_ms.saturating_sub(snapshot.taken_ms) >= policy.keep_for_ms && !needed.contains(&&snapshot.name)
    });
    let mut names: Vec<SnapshotName> = gone.map(|snapshot| snapshot.name.clone()).collect();
    names.sort();
    names
}
