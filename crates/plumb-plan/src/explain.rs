//! What a plan means for whoever decides about it: what changes and why, what is not served and for how long at most, what
//! cannot be undone, and why in this order. Read off the plan itself; nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::config::{ConfigName, Settings};
use plumb_model::release::{Release, ReleaseMachine, ReleaseName, VolumeSize, WhenLate};
use plumb_model::{
    DeploymentName, Digest, Document as _, InstanceName, MachineName, SnapshotName, TaskName, VolumeName,
};
use serde::Serialize;

use crate::carry::machine_of;
use crate::document::{Action, OnFailure, Plan, PlanKind};
use crate::order::start_order;
use crate::planner::Observed;
use crate::reverse::has_reverse_tasks;
use crate::side::{OtherSet, Side, is_twice, serves};
use crate::snapshot::{HeldVolume, Hold, InstanceVolume, SnapshotReason};

/// A plan in the words of who decides about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Deployment.
    pub deployment: DeploymentName,
    /// What it is for.
    pub kind: PlanKind,
    /// What runs now.
    pub from: Option<ReleaseName>,
    /// What will run.
    pub to: Option<ReleaseName>,
    /// Number of the plan.
    pub generation: u64,
    /// Its digest: what is carried out is what was shown, if this is the same.
    pub digest: Digest,
    /// Instances in the order in which something happens to them; those that stay as they are first.
    pub instances: Vec<Effect>,
    /// Tasks, in the order in which they are carried out.
    pub tasks: Vec<TaskEffect>,
    /// Machines of which instances stop.
    pub outages: Vec<Outage>,
    /// Volumes that are made or grow.
    pub volumes: Vec<VolumeEffect>,
    /// The copy of the data that is made first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotEffect>,
    /// Data that takes the place of what is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoreEffect>,
    /// Snapshots that go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pruned: Vec<SnapshotName>,
    /// What follows when a step fails.
    pub failure: FailureEffect,
    /// The set that comes up beside the one that serves, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// What no other plan takes back.
    pub irreversible: Vec<Irreversible>,
    /// Which machine comes before which.
    pub order: Vec<Order>,
    /// Longest time that all waiting together takes, milliseconds; then the plan has failed.
    pub at_most_ms: u64,
}

/// Two sets run, and the ports lead from one to the other at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Beside {
    /// The set that will serve.
    pub side: Side,
    /// Memory that both take together while both run, MiB.
    pub memory_mib: u64,
    /// How long the new set is looked at before the old one is given up, milliseconds.
    pub watch_ms: u64,
    /// How long the old set runs on after that, milliseconds.
    pub keep_ms: u64,
    /// Machines that are there once, for their data, and are replaced in place.
    pub in_place: Vec<MachineName>,
}

/// What follows when a step fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureEffect {
    /// What the set goes back to; `None` if everything stays as it is then.
    pub back_to: Option<ReleaseName>,
    /// Machines of which so many instances may fail, and the plan goes on without them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub goes_on: BTreeMap<MachineName, u32>,
}

/// A task that is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskEffect {
    /// The instance that is there for it.
    pub instance: InstanceName,
    /// Task.
    pub task: TaskName,
    /// Longest time, milliseconds.
    pub at_most_ms: u64,
    /// The release whose data it turns back, so that an older one reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns_back: Option<ReleaseName>,
}

/// What happens to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Instance.
    pub instance: InstanceName,
    /// What.
    pub what: What,
    /// Why, in the order of importance; empty for one that stays.
    pub why: Vec<EffectCause>,
}

/// What happens to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It runs on.
    Stays,
    /// It is started.
    Starts,
    /// It is stopped, and started as what is wanted.
    IsReplaced,
    /// It is stopped, and does not come back.
    Goes,
    /// It runs on for a time and serves nobody: the way back to it starts nothing.
    IsKept,
}

/// Why something happens to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EffectCause {
    /// The machine is new in the release, or has more instances.
    New,
    /// It should run and does not.
    Stopped,
    /// The image differs.
    Image {
        /// Of the release before.
        before: Digest,
        /// Of the wanted one.
        after: Digest,
    },
    /// Memory, MiB.
    Memory {
        /// Before.
        before_mib: u32,
        /// After.
        after_mib: u32,
    },
    /// Virtual processors.
    Processors {
        /// Before.
        before: u32,
        /// After.
        after: u32,
    },
    /// Other volumes.
    Volumes,
    /// Other ports of the machine are published.
    Ports,
    /// Instances that it needs, or others of its machine, came or went: it is told their addresses when it starts.
    Peers,
    /// A setting has another value.
    Setting {
        /// Its name.
        name: ConfigName,
        /// Before; `None` if it was not set.
        before: Option<String>,
        /// After; `None` if it is not set.
        after: Option<String>,
    },
    /// A secret is another one.
    Secret {
        /// Its name.
        name: ConfigName,
    },
    /// It was started in another way than the release before says.
    Otherwise,
    /// It comes up beside the set that serves, and takes its place.
    Beside,
    /// Another set serves in its place.
    Relieved,
    /// Its volumes are copied while it is stopped.
    Copied,
    /// Other data takes the place of what the set has.
    Restored,
    /// The release does not have it.
    NotInRelease,
    /// Everything stops.
    Down,
}

/// A machine of which instances stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Machine.
    pub machine: MachineName,
    /// How many of its instances are ready at all times meanwhile.
    pub ready_at_least: usize,
    /// How many it has.
    pub instances: usize,
    /// Longest time that one instance is away, milliseconds: to stop, and to become ready; for good if there is none.
    pub each_at_most_ms: Option<u64>,
    /// Machines that need it and have nothing to talk to meanwhile, if none is ready.
    pub felt_by: Vec<MachineName>,
}

/// A volume that is made or grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeEffect {
    /// Instance it belongs to.
    pub instance: InstanceName,
    /// Volume.
    pub volume: VolumeName,
    /// Bytes before; `None` if the release before has no such volume.
    pub before_bytes: Option<u64>,
    /// Bytes after.
    pub after_bytes: u64,
}

/// A copy of the data as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotEffect {
    /// Its name.
    pub snapshot: SnapshotName,
    /// What is copied, and how it is kept from changing meanwhile.
    pub volumes: Vec<HeldVolume>,
    /// Why.
    pub why: SnapshotReason,
    /// Longest time that frozen volumes stand still, milliseconds.
    pub freeze_limit_ms: u64,
    /// What happens when copying takes longer.
    pub when_late: WhenLate,
    /// It stays until its name is said.
    pub pinned: bool,
}

/// Data that takes the place of what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreEffect {
    /// The snapshot it comes from.
    pub snapshot: SnapshotName,
    /// As of when, milliseconds since 1970; what was written since is not in it.
    pub taken_ms: u64,
    /// What is put in place.
    pub volumes: Vec<InstanceVolume>,
    /// The snapshot that keeps what was there.
    pub kept_as: Option<SnapshotName>,
}

/// What no other plan takes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Irreversible {
    /// From then on there is no way below this release: data that the new one writes is not readable there.
    Fence {
        /// The lowest release that can follow.
        lowest: u64,
    },
    /// A volume grows, and none shrinks.
    Growth {
        /// Instance it belongs to.
        instance: InstanceName,
        /// Volume.
        volume: VolumeName,
    },
}

/// One machine comes before another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    /// Comes first.
    pub first: MachineName,
    /// Needs it.
    pub needed_by: Vec<MachineName>,
}

/// What is known besides the plan.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What runs.
    pub observed: &'a Observed,
    /// The release that is current.
    pub before: Option<&'a Release>,
    /// The wanted release.
    pub after: Option<&'a Release>,
    /// What instances were told, and what they will be told; as far as it is known.
    pub settings: (Option<&'a Settings>, Option<&'a Settings>),
    /// Longest time that a guest gets to shut down, milliseconds.
    pub stop_ms: u64,
}

/// Explains a plan.
#[must_use]
pub fn explain(plan: &Plan, known: Known<'_>) -> Explanation {
    let at_most_ms = plan.actions.iter().map(|action| duration_ms(action, known.stop_ms)).sum();
    let volumes = volumes(plan, known);
    let mut irreversible = Vec::new();
    if let (Some(before), Some(after)) = (known.before, known.after)
        && after.content.fence > known.observed.fence.min(before.number)
        && after.number >= before.number
        && !has_reverse_tasks(after)
    {
        irreversible.push(Irreversible::Fence { lowest: after.content.fence });
    }
    irreversible.extend(volumes.iter().filter(|volume| volume.before_bytes.is_some()).map(|volume| {
        Irreversible::Growth { instance: volume.instance.clone(), volume: volume.volume.clone() }
    }));
    Explanation {
        deployment: plan.deployment.clone(),
        kind: plan.kind,
        from: plan.from.clone(),
        to: plan.to.clone(),
        generation: plan.generation,
        digest: plan.digest(),
        instances: effects(plan, known),
        tasks: tasks(plan),
        outages: outages(plan, known),
        volumes,
        failure: failure(plan),
        snapshot: snapshot(plan, known),
        restored: restored(plan, known),
        pruned: pruned(plan),
        beside: beside(plan, known),
        irreversible,
        order: order(known.after.or(known.before)),
        at_most_ms,
    }
}

fn beside(plan: &Plan, known: Known<'_>) -> Option<Beside> {
    let (side, other) = plan.sides()?;
    let release = known.after?;
    if known.observed.current.is_none() || side == known.observed.side {
        return None;
    }
    let memory = |release: &Release| -> u64 {
        let all = release.content.machines.values();
        all.map(|machine| u64::from(machine.memory_mib) * u64::from(machine.instances)).sum()
    };
    let once: u64 = known
        .before
        .into_iter()
        .flat_map(|before| &before.content.machines)
        .filter(|(name, _)| release.content.machines.get(*name).is_some_and(|machine| !is_twice(machine)))
        .map(|(_, machine)| u64::from(machine.memory_mib) * u64::from(machine.instances))
        .sum();
    let replaced: BTreeSet<&MachineName> = started(plan).into_values().collect();
    let in_place = release
        .content
        .machines
        .iter()
        .filter(|(name, machine)| !is_twice(machine) && replaced.contains(name));
    Some(Beside {
        side,
        memory_mib: memory(release) + known.before.map_or(0, memory) - once,
        watch_ms: release.content.upgrade.blue_green.map_or(0, |policy| policy.watch_ms),
        keep_ms: if let OtherSet::Kept { for_ms, .. } = other { for_ms } else { 0 },
        in_place: in_place.map(|(name, _)| name.clone()).collect(),
    })
}

/// An instance of the set that does not serve when the plan is through, although its machine goes on in the other one.
fn is_relieved(plan: &Plan, (instance, machine): (&InstanceName, &MachineName), known: Known<'_>) -> bool {
    let Some((side, _)) = plan.sides() else { return false };
    let goes_on = known.after.and_then(|release| release.content.machines.get(machine)).is_some_and(is_twice);
    goes_on && Side::of(instance) != side
}

fn failure(plan: &Plan) -> FailureEffect {
    let last = plan.actions.len().checked_sub(1);
    let is_undone = plan.on_failure(last) == OnFailure::Undo;
    let goes_on = plan.actions.iter().filter_map(|action| {
        let (instance, may_fail) = action.dispensable()?;
        Some((machine_of(instance).parse::<MachineName>().ok()?, may_fail))
    });
    let mut most: BTreeMap<MachineName, u32> = BTreeMap::new();
    for (machine, may_fail) in goes_on {
        let entry = most.entry(machine).or_default();
        *entry = (*entry).max(may_fail);
    }
    FailureEffect { back_to: plan.from.clone().filter(|_| is_undone), goes_on: most }
}

fn snapshot(plan: &Plan, known: Known<'_>) -> Option<SnapshotEffect> {
    plan.actions.iter().find_map(|action| match action {
        Action::Snapshot { snapshot, volumes, why, freeze_limit_ms, pinned, .. } => Some(SnapshotEffect {
            snapshot: snapshot.clone(),
            volumes: volumes.clone(),
            why: *why,
            freeze_limit_ms: *freeze_limit_ms,
            when_late: known
                .after
                .or(known.before)
                .map_or(WhenLate::Fail, |release| release.content.snapshots.when_late),
            pinned: *pinned,
        }),
        _ => None,
    })
}

fn restored(plan: &Plan, known: Known<'_>) -> Option<RestoreEffect> {
    plan.actions.iter().find_map(|action| match action {
        Action::Restore { snapshot, volumes } => Some(RestoreEffect {
            snapshot: snapshot.clone(),
            taken_ms: known.observed.snapshots.iter().find(|seen| seen.name == *snapshot)?.taken_ms,
            volumes: volumes.clone(),
            kept_as: self::snapshot(plan, known).map(|kept| kept.snapshot),
        }),
        _ => None,
    })
}

fn pruned(plan: &Plan) -> Vec<SnapshotName> {
    let all = plan.actions.iter().filter_map(|action| match action {
        Action::Prune { snapshots } => Some(snapshots.clone()),
        _ => None,
    });
    all.flatten().collect()
}

/// Why an instance that comes back as it was is stopped: for the data.
fn for_data(plan: &Plan, instance: &InstanceName) -> Option<EffectCause> {
    let at = |wanted: &dyn Fn(&Action) -> bool| plan.actions.iter().position(wanted);
    let stop = at(&|action| matches!(action, Action::Stop { instance: stopped } if stopped == instance))?;
    if at(&|action| matches!(action, Action::Restore { .. })).is_some_and(|restore| stop < restore) {
        return Some(EffectCause::Restored);
    }
    let copy = at(&|action| matches!(action, Action::Snapshot { .. }))?;
    (stop < copy).then_some(EffectCause::Copied)
}

fn duration_ms(action: &Action, stop_ms: u64) -> u64 {
    match action {
        Action::Stop { .. } => stop_ms,
        Action::AwaitReady { timeout_ms, .. } => *timeout_ms,
        Action::Settle { for_ms, .. } => *for_ms,
        Action::Task { timeout_ms, .. } => *timeout_ms,
        Action::Snapshot { volumes, freeze_limit_ms, .. }
            if volumes.iter().any(|volume| volume.hold == Hold::Frozen) =>
        {
            *freeze_limit_ms
        }
        _ => 0,
    }
}

fn tasks(plan: &Plan) -> Vec<TaskEffect> {
    let mut of: BTreeMap<&InstanceName, &ReleaseName> = BTreeMap::new();
    let mut tasks = Vec::new();
    for action in &plan.actions {
        match action {
            Action::Start { boot, .. } => drop(of.insert(&boot.instance, &boot.release)),
            Action::Task { instance, task, timeout_ms } => {
                let release = of.get(instance).filter(|release| Some(**release) != plan.to.as_ref());
                tasks.push(TaskEffect {
                    instance: instance.clone(),
                    task: task.clone(),
                    at_most_ms: *timeout_ms,
                    turns_back: release.map(|release| (*release).clone()),
                });
            }
            _ => {}
        }
    }
    tasks
}

/// Instances that are there for tasks: they come and go within the plan, and serve nobody.
fn for_tasks(plan: &Plan) -> BTreeSet<&InstanceName> {
    let idle = plan.actions.iter().filter_map(|action| match action {
        Action::Start { boot, spec, .. } if spec.idle => Some(&boot.instance),
        _ => None,
    });
    idle.collect()
}

fn effects(plan: &Plan, known: Known<'_>) -> Vec<Effect> {
    let (mut stopped, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let (started, for_tasks) = (started(plan), for_tasks(plan));
    let mut touched: Vec<&InstanceName> = Vec::new();
    for action in &plan.actions {
        let instance = match action {
            Action::Stop { instance } => {
                stopped.insert(instance);
                instance
            }
            Action::Start { boot, .. } => &boot.instance,
            _ => continue,
        };
        if seen.insert(instance) && !for_tasks.contains(instance) {
            touched.push(instance);
        }
    }
    let stays = known.observed.instances.iter().filter(|(name, instance)| {
        instance.running && !stopped.contains(name) && !started.contains_key(name)
    });
    let side = plan.sides().map_or(known.observed.side, |(side, _)| side);
    let mut all: Vec<Effect> = stays
        .map(|(name, seen)| {
            let relieved = is_relieved(plan, (name, &seen.machine), known);
            let what = if relieved { What::IsKept } else { What::Stays };
            let why = Vec::from_iter(relieved.then_some(EffectCause::Relieved));
            Effect { instance: name.clone(), what, why }
        })
        .collect();
    all.extend(touched.into_iter().map(|instance| {
        let (what, why) = match (stopped.contains(instance), started.get(instance)) {
            (true, Some(machine)) => (What::IsReplaced, reasons(plan, (instance, machine), known)),
            (false, Some(machine)) if side != known.observed.side && Side::of(instance) == side => {
                (What::Starts, beside_reasons(machine, known))
            }
            (false, _) => (What::Starts, vec![start_reason(instance, known)]),
            (true, None) if plan.kind == PlanKind::Down => (What::Goes, vec![EffectCause::Down]),
            (true, None) => {
                let machine = known.observed.instances.get(instance).map(|seen| &seen.machine);
                let relieved = machine.is_some_and(|machine| is_relieved(plan, (instance, machine), known));
                let why = if relieved { EffectCause::Relieved } else { EffectCause::NotInRelease };
                (What::Goes, vec![why])
            }
        };
        Effect { instance: instance.clone(), what, why }
    }));
    all
}

/// Why an instance is replaced: for the data, and for what differs.
fn reasons(
    plan: &Plan,
    (instance, machine): (&InstanceName, &MachineName),
    known: Known<'_>,
) -> Vec<EffectCause> {
    let mut why = differences(machine, known);
    if let Some(cause) = for_data(plan, instance) {
        why.retain(|why| *why != EffectCause::Otherwise);
        why.push(cause);
    }
    why
}

/// Why an instance comes up beside others: what differs from them.
fn beside_reasons(machine: &MachineName, known: Known<'_>) -> Vec<EffectCause> {
    if known.before.is_none_or(|release| !release.content.machines.contains_key(machine)) {
        return vec![EffectCause::New];
    }
    let mut why = differences(machine, known);
    why.retain(|why| *why != EffectCause::Otherwise);
    why.push(EffectCause::Beside);
    why
}

/// Instances that a plan starts, with their machines.
fn started(plan: &Plan) -> BTreeMap<&InstanceName, &MachineName> {
    let starts = plan.actions.iter().filter_map(|action| match action {
        Action::Start { boot, .. } => Some((&boot.instance, &boot.machine)),
        _ => None,
    });
    starts.collect()
}

fn start_reason(instance: &InstanceName, known: Known<'_>) -> EffectCause {
    let had = known.before.is_some_and(|release| {
        let all = crate::side::instances(release, known.observed.side);
        all.is_ok_and(|all| all.iter().any(|(_, other)| other == instance))
    });
    if had { EffectCause::Stopped } else { EffectCause::New }
}

/// In what a machine differs, as far as its instances are concerned.
fn differences(name: &MachineName, known: Known<'_>) -> Vec<EffectCause> {
    let machine = |release: Option<&'_ Release>| {
        release.and_then(|release| release.content.machines.get(name)).cloned()
    };
    let (Some(one), Some(other)) = (machine(known.before), machine(known.after)) else {
        return vec![EffectCause::Otherwise];
    };
    let mut why = Vec::new();
    if one.image != other.image {
        why.push(EffectCause::Image { before: one.image, after: other.image });
    }
    if one.memory_mib != other.memory_mib {
        why.push(EffectCause::Memory { before_mib: one.memory_mib, after_mib: other.memory_mib });
    }
    if one.cpus != other.cpus {
        why.push(EffectCause::Processors { before: one.cpus, after: other.cpus });
    }
    let grows = |(name, wanted): (&VolumeName, &VolumeSize)| {
        one.volumes.get(name).is_some_and(|before| before.size_bytes < wanted.size_bytes)
    };
    if one.volumes.keys().ne(other.volumes.keys()) || other.volumes.iter().any(grows) {
        why.push(EffectCause::Volumes);
    }
    let ports = |machine: &ReleaseMachine| -> BTreeSet<u16> {
        machine.publish.iter().map(|port| port.guest_port).collect()
    };
    if ports(&one) != ports(&other) {
        why.push(EffectCause::Ports);
    }
    let peers = |machine: &ReleaseMachine, release: Option<&Release>| -> BTreeMap<MachineName, u32> {
        let machines = release.map(|release| &release.content.machines);
        let known = machine.needs.iter().chain([name]);
        known.filter_map(|peer| Some((peer.clone(), machines?.get(peer)?.instances))).collect()
    };
    if peers(&one, known.before) != peers(&other, known.after) {
        why.push(EffectCause::Peers);
    }
    why.extend(other_settings((&one, &other), known.settings));
    if why.is_empty() {
        why.push(EffectCause::Otherwise);
    }
    why
}

/// What a machine is told otherwise than before.
fn other_settings(
    (one, other): (&ReleaseMachine, &ReleaseMachine),
    (before, after): (Option<&Settings>, Option<&Settings>),
) -> Vec<EffectCause> {
    let value = |machine: &ReleaseMachine, settings: Option<&Settings>, name: &ConfigName| {
        machine.config.contains(name).then(|| settings?.values.get(name).cloned()).flatten()
    };
    let secret = |machine: &ReleaseMachine, settings: Option<&Settings>, name: &ConfigName| {
        machine.config.contains(name).then(|| settings?.secrets.get(name).copied()).flatten()
    };
    let mut found = Vec::new();
    for name in one.config.union(&other.config) {
        let (was, is) = (value(one, before, name), value(other, after, name));
        if was != is {
            found.push(EffectCause::Setting { name: name.clone(), before: was, after: is });
        }
        if secret(one, before, name) != secret(other, after, name) {
            found.push(EffectCause::Secret { name: name.clone() });
        }
    }
    found
}

/// Follows the plan, and looks how many instances of each machine are left.
fn outages(plan: &Plan, known: Known<'_>) -> Vec<Outage> {
    let machine_of: BTreeMap<&InstanceName, &MachineName> = known
        .observed
        .instances
        .iter()
        .map(|(name, instance)| (name, &instance.machine))
        .chain(started(plan))
        .collect();
    let waits = waits(plan);
    let mut ready: BTreeSet<&InstanceName> = known
        .observed
        .instances
        .iter()
        .filter(|(name, instance)| instance.running && serves(known.observed, name))
        .map(|(name, _)| name)
        .collect();
    let mut found: BTreeMap<&MachineName, Outage> = BTreeMap::new();
    let for_tasks = for_tasks(plan);
    for action in &plan.actions {
        match action {
            Action::Stop { instance } | Action::AwaitReady { instance, .. }
                if for_tasks.contains(instance) => {}
            Action::Stop { instance } => {
                ready.remove(instance);
                let Some(machine) = machine_of.get(instance) else { continue };
                if is_relieved(plan, (instance, machine), known) {
                    continue;
                }
                let left = ready.iter().filter(|other| machine_of.get(*other) == Some(machine)).count();
                let outage =
                    found.entry(machine).or_insert_with(|| new_outage(machine, waits.get(machine), known));
                outage.ready_at_least = outage.ready_at_least.min(left);
            }
            Action::AwaitReady { instance, .. } => drop(ready.insert(instance)),
            _ => {}
        }
    }
    let mut all: Vec<Outage> = found.into_values().collect();
    for outage in all.iter_mut().filter(|outage| outage.ready_at_least == 0) {
        outage.felt_by = needed_by(&outage.machine, known.after.or(known.before));
    }
    all
}

/// The longest wait for an instance of each machine that the plan starts, milliseconds.
fn waits(plan: &Plan) -> BTreeMap<&MachineName, u64> {
    let started = started(plan);
    let mut longest: BTreeMap<&MachineName, u64> = BTreeMap::new();
    for action in &plan.actions {
        if let Action::AwaitReady { instance, timeout_ms, .. } = action
            && let Some(machine) = started.get(instance)
        {
            let wait = longest.entry(machine).or_default();
            *wait = (*wait).max(*timeout_ms);
        }
    }
    longest
}

fn new_outage(machine: &MachineName, wait_ms: Option<&u64>, known: Known<'_>) -> Outage {
    let instances = known
        .observed
        .instances
        .iter()
        .filter(|(name, one)| one.running && one.machine == *machine && serves(known.observed, name))
        .count();
    Outage {
        machine: machine.clone(),
        ready_at_least: instances,
        instances,
        each_at_most_ms: wait_ms.map(|wait_ms| known.stop_ms + wait_ms),
        felt_by: Vec::new(),
    }
}

fn needed_by(machine: &MachineName, release: Option<&Release>) -> Vec<MachineName> {
    let machines = release.into_iter().flat_map(|release| &release.content.machines);
    machines.filter(|(_, other)| other.needs.contains(machine)).map(|(name, _)| name.clone()).collect()
}

fn volumes(plan: &Plan, known: Known<'_>) -> Vec<VolumeEffect> {
    let size_before = |instance: &InstanceName, volume: &VolumeName| {
        let machine = &known.observed.instances.get(instance)?.machine;
        Some(known.before?.content.machines.get(machine)?.volumes.get(volume)?.size_bytes)
    };
    let made = plan.actions.iter().filter_map(|action| match action {
        Action::Volume { instance, volume, size_bytes } => Some(VolumeEffect {
            instance: instance.clone(),
            volume: volume.clone(),
            before_bytes: size_before(instance, volume),
            after_bytes: *size_bytes,
        }),
        _ => None,
    });
    made.filter(|volume| volume.before_bytes.is_none_or(|before| before < volume.after_bytes)).collect()
}

/// Of machines that others need, in the order in which they come.
fn order(release: Option<&Release>) -> Vec<Order> {
    let Some(release) = release else { return Vec::new() };
    let order = start_order(&release.content.machines).unwrap_or_default();
    let all = order.into_iter().map(|first| Order { needed_by: needed_by(&first, Some(release)), first });
    all.filter(|one| !one.needed_by.is_empty()).collect()
}
