//! From observed to wanted.

use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::InstanceSpec;
use plumb_model::config::Settings;
use plumb_model::release::{Quiesce, Release, ReleaseMachine, ReleaseName, SnapshotPolicy, When};
use plumb_model::{DeploymentName, Digest, Document, InstanceName, MachineName, NameError, SnapshotName};

use crate::boot::{Addresses, BootSpec, boot_spec};
use crate::document::{Action, Plan, PlanKind, Published};
use crate::failure::{self, Patience};
use crate::order::{NeedsCycle, start_order};
use crate::reverse::{self, Former};
use crate::side::{Kept, OtherSet, Side, instances, is_twice, other_set, serves};
use crate::snapshot::{self, DataWish, InstanceVolume, ObservedSnapshot, Prologue};
use crate::task;

/// What the target and the state say about a deployment.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Every instance of which anything is left, running or not.
    pub instances: BTreeMap<InstanceName, ObservedInstance>,
    /// The release that was committed last.
    pub current: Option<ReleaseName>,
    /// The configuration that it runs with.
    pub config: Option<u64>,
    /// The set that serves.
    pub side: Side,
    /// The other set, if it is kept for a time.
    pub kept: Option<Kept>,
    /// Lowest release number that may follow the one whose data it is (its fence).
    pub fence: u64,
    /// The release whose data it is: one that was let at it, the current one, or the one that ran last before everything was
    /// stopped.
    pub data_of: Option<ReleaseName>,
    /// The release that was let at the data by a plan that did not come to its end; see [`crate::touched`].
    pub touched: Option<ReleaseName>,
    /// Volumes of the current release that hold something, and how they are kept from changing while they are copied.
    pub volumes: BTreeMap<InstanceVolume, Quiesce>,
    /// Sizes of the disks that are there, bytes.
    pub sizes: BTreeMap<InstanceVolume, u64>,
    /// Instances whose guests are known not to freeze volumes: their images are older than that.
    pub cannot_freeze: BTreeSet<InstanceName>,
    /// Snapshots that are there.
    pub snapshots: Vec<ObservedSnapshot>,
    /// The release whose data may have been turned back by a plan that did not come to its end.
    pub turned_back: Option<ReleaseName>,
}

/// One instance as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedInstance {
    /// Its machine.
    pub machine: MachineName,
    /// The virtual machine runs.
    pub running: bool,
    /// It runs, and all its services are ready.
    pub ready: bool,
    /// [`BootSpec::boot`] of what was started.
    pub boot: Digest,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The release.
    pub release: &'a Release,
    /// Why.
    pub kind: PlanKind,
    /// The set that it comes up as; see [`crate::side_for`].
    pub side: Side,
    /// Addresses of all its instances.
    pub addresses: &'a Addresses,
    /// What its instances are told: its schema with the wanted configuration.
    pub settings: &'a Settings,
    /// What is wanted of the data.
    pub data: DataWish<'a>,
    /// The current release, if its data has to be turned back for the wanted one, and can be.
    pub former: Option<Former<'a>>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The current release forbids going back that far.
    #[error(
        "`{from}` cannot be rolled back to `{to}`: its definition sets the fence at release {fence}, because data written by `{from}` is not readable below it"
    )]
    Fenced {
        /// Deployment.
        deployment: DeploymentName,
        /// The release whose data it is.
        from: ReleaseName,
        /// Wanted release.
        to: ReleaseName,
        /// Lowest allowed number.
        fence: u64,
    },
    /// What the current release turns back is no older than that.
    #[error(
        "`{from}` cannot be rolled back to `{to}`: what its reverse tasks leave is readable from release {reaches} on"
    )]
    TooFarBack {
        /// Current release.
        from: ReleaseName,
        /// Wanted release.
        to: ReleaseName,
        /// Lowest release that reads it.
        reaches: u64,
    },
    /// The private network is full.
    #[error("no address is free for instance `{instance}`")]
    NoAddress {
        /// Instance.
        instance: InstanceName,
    },
    /// A machine is not part of the release.
    #[error("release `{release}` has no machine `{machine}`")]
    NoMachine {
        /// Machine.
        machine: MachineName,
        /// Release.
        release: ReleaseName,
    },
    /// `needs` has a cycle.
    #[error(transparent)]
    Cycle(#[from] NeedsCycle),
    /// A name became too long.
    #[error(transparent)]
    Name(NameError),
}

/// The plan number and its predecessor.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    generation: u64,
    parent: Option<Digest>,
}

/// Leads from `observed` to `wanted.release`, machine by machine in the order of `needs`. `parent` is the plan before.
///
/// # Errors
/// [`PlanError`].
pub fn plan_up(
    deployment: &DeploymentName,
    observed: &Observed,
    wanted: &Wanted<'_>,
    parent: Option<&Plan>,
) -> Result<Plan, PlanError> {
    let release = wanted.release;
    reverse::refuse(deployment, (observed, wanted))?;
    let sequence = next_in_sequence(parent);
    let order = start_order(&release.content.machines)?;
    let before = snapshot::prologue(observed, wanted, sequence.generation, &stop_order(observed, &order));
    let turning = reverse::steps(deployment, (observed, wanted), &before.stopped, sequence.generation)?;
    let reversed =
        if turning.is_empty() { observed.turned_back.as_ref() } else { observed.holder() }.cloned();
    let observed = &without(observed, &before.stopped);
    let mut steps = Steps::new(observed, wanted);
    steps.prologue(&before);
    steps.carry_out(turning);
    let all = instances(release, wanted.side)?;
    for machine_name in &order {
        steps.tasks(deployment, (machine_name, When::Before), sequence.generation)?;
        let mut boots = Vec::new();
        for (_, instance) in all.iter().filter(|(machine, _)| machine == machine_name) {
            let name = (machine_name, instance);
            boots.push(boot_spec(deployment, name, wanted, sequence.generation)?);
        }
        steps.machine(machine_name, &boots);
    }
    // Machines and instances that the release does not have go last, when nothing needs them any more.
    let wanted_names: BTreeSet<&InstanceName> = all.iter().map(|(_, instance)| instance).collect();
    steps.relieve(&wanted_names);
    for machine_name in &order {
        steps.tasks(deployment, (machine_name, When::After), sequence.generation)?;
    }
    let other = other_set(observed, wanted);
    let stays = |name: &InstanceName, seen: &ObservedInstance| {
        wanted_names.contains(name) || (!other.is_gone() && seen.running && serves(observed, name))
    };
    let going = observed.instances.iter().rev();
    let going = going.filter(|(name, seen)| !steps.gone.contains(*name) && !stays(name, seen));
    let going: Vec<Action> = going.flat_map(|(name, instance)| removal(name, instance)).collect();
    steps.actions.extend(going);
    let config = wanted.settings.configuration;
    let stops_from = failure::stops_from(wanted, &steps.actions, &before.stopped);
    steps.commit(other);
    steps.actions.extend(prune(observed, &release.content.snapshots, wanted.data, before.taken.as_ref()));
    Ok(Plan {
        format: Plan::FORMAT,
        deployment: deployment.clone(),
        generation: sequence.generation,
        parent: sequence.parent,
        kind: wanted.kind,
        from: observed.current.clone(),
        to: Some(release.name()),
        config,
        stops_from,
        reversed,
        touched: observed.touched.clone(),
        actions: steps.actions,
    })
}

/// Starts those of `due` that do not run, and replaces those that do, in the order of `needs`; nothing else is touched. One
/// that needs a machine of which nothing runs, and nothing is started either, is left for another time; `None` if no other
/// is due.
///
/// # Errors
/// [`PlanError`].
pub fn plan_repair(
    deployment: &DeploymentName,
    observed: &Observed,
    (wanted, due): (&Wanted<'_>, &BTreeSet<InstanceName>),
    parent: Option<&Plan>,
) -> Result<Option<Plan>, PlanError> {
    let release = wanted.release;
    let sequence = next_in_sequence(parent);
    let mut steps = Steps::new(observed, wanted);
    steps.again = due;
    let serving = observed.instances.iter().filter(|(name, _)| serves(observed, name));
    let running = serving.filter(|(name, seen)| seen.running && !due.contains(*name));
    let mut there: BTreeSet<&MachineName> = running.map(|(_, seen)| &seen.machine).collect();
    // What does not run serves nobody, and whoever asks is sent to the others at once.
    steps.ports();
    let all = instances(release, wanted.side)?;
    let order = start_order(&release.content.machines)?;
    let mut is_needed = false;
    for machine_name in &order {
        if !release.content.machines[machine_name].needs.iter().all(|need| there.contains(need)) {
            continue;
        }
        let mut boots = Vec::new();
        let of_machine = all.iter().filter(|(machine, _)| machine == machine_name);
        for (_, instance) in of_machine.filter(|(_, instance)| due.contains(instance)) {
            let name = (machine_name, instance);
            boots.push(boot_spec(deployment, name, wanted, sequence.generation)?);
        }
        if !boots.is_empty() {
            steps.machine(machine_name, &boots);
            there.insert(machine_name);
            is_needed = true;
        }
    }
    if !is_needed {
        return Ok(None);
    }
    steps.ports();
    let config = wanted.settings.configuration;
    steps.commit(OtherSet::Unchanged);
    Ok(Some(Plan {
        format: Plan::FORMAT,
        deployment: deployment.clone(),
        generation: sequence.generation,
        parent: sequence.parent,
        kind: PlanKind::Repair,
        from: observed.current.clone(),
        to: Some(release.name()),
        config,
        stops_from: Some(0),
        reversed: observed.turned_back.clone(),
        touched: observed.touched.clone(),
        actions: steps.actions,
    }))
}

/// Takes away what runs beside `release`, which serves, and touches nothing else.
///
/// # Errors
/// [`PlanError::Name`].
pub fn plan_relieve(
    deployment: &DeploymentName,
    observed: &Observed,
    release: &Release,
    parent: Option<&Plan>,
) -> Result<Plan, PlanError> {
    let sequence = next_in_sequence(parent);
    let serving = instances(release, observed.side)?;
    let others = observed.instances.iter().rev();
    let others = others.filter(|(name, _)| !serving.iter().any(|(_, one)| one == *name));
    let mut actions: Vec<Action> = others.flat_map(|(name, seen)| removal(name, seen)).collect();
    let (number, config, side) = (release.number, observed.config, observed.side);
    actions.push(Action::Commit { number, config, side, other: OtherSet::Gone });
    Ok(Plan {
        format: Plan::FORMAT,
        deployment: deployment.clone(),
        generation: sequence.generation,
        parent: sequence.parent,
        kind: PlanKind::Relieve,
        from: observed.current.clone(),
        to: Some(release.name()),
        config: None,
        stops_from: Some(0),
        reversed: observed.turned_back.clone(),
        touched: observed.touched.clone(),
        actions,
    })
}

/// Copies the data of a deployment and leaves everything as it is: volumes of instances that run are frozen, whatever they
/// declare. `data.pin` names the snapshot, which stays then.
#[must_use]
pub fn plan_snapshot(
    deployment: &DeploymentName,
    observed: &Observed,
    (policy, data): (&SnapshotPolicy, DataWish<'_>),
    parent: Option<&Plan>,
) -> Plan {
    at_rest(deployment, observed, (policy, data, PlanKind::Snapshot), parent)
}

/// Puts `data.restore` in the place of the data of a deployment of which nothing runs.
#[must_use]
pub fn plan_at_rest(
    deployment: &DeploymentName,
    observed: &Observed,
    (policy, data): (&SnapshotPolicy, DataWish<'_>),
    parent: Option<&Plan>,
) -> Plan {
    at_rest(deployment, observed, (policy, data, PlanKind::Restore), parent)
}

fn at_rest(
    deployment: &DeploymentName,
    observed: &Observed,
    (policy, data, kind): (&SnapshotPolicy, DataWish<'_>, PlanKind),
    parent: Option<&Plan>,
) -> Plan {
    let sequence = next_in_sequence(parent);
    let before = snapshot::untouched(observed, (policy, data, kind), sequence.generation);
    let mut actions = before.actions;
    actions.extend(prune(observed, policy, data, before.taken.as_ref()));
    Plan {
        format: Plan::FORMAT,
        deployment: deployment.clone(),
        generation: sequence.generation,
        parent: sequence.parent,
        kind,
        from: observed.current.clone(),
        to: observed.current.clone(),
        config: None,
        stops_from: Some(0),
        reversed: observed.turned_back.clone(),
        touched: observed.touched.clone(),
        actions,
    }
}

fn prune(
    observed: &Observed,
    policy: &SnapshotPolicy,
    data: DataWish<'_>,
    taken: Option<&SnapshotName>,
) -> Option<Action> {
    let needed: Vec<&SnapshotName> = data.restore.iter().map(|snapshot| &snapshot.name).collect();
    let snapshots = snapshot::prune(&observed.snapshots, policy, data.now_ms, (taken, &needed));
    (taken.is_some() && !snapshots.is_empty()).then_some(Action::Prune { snapshots })
}

/// Those that need others first; what the wanted release does not know before that.
fn stop_order(observed: &Observed, order: &[MachineName]) -> Vec<InstanceName> {
    let position =
        |machine: &MachineName| order.iter().position(|other| other == machine).unwrap_or(usize::MAX);
    let mut names: Vec<_> = observed.instances.iter().collect();
    names.sort_by_key(|(name, instance)| std::cmp::Reverse((position(&instance.machine), (*name).clone())));
    names.into_iter().map(|(name, _)| name.clone()).collect()
}

/// What is there when some instances have been stopped.
fn without(observed: &Observed, stopped: &BTreeSet<InstanceName>) -> Observed {
    let mut left = observed.clone();
    for (name, instance) in &mut left.instances {
        instance.running &= !stopped.contains(name);
        instance.ready &= instance.running;
    }
    left
}

/// Stops every instance, those that need others first, and takes everything but the volumes away. `order` is the start
/// order of the machines as far as it is known.
#[must_use]
pub fn plan_down(
    deployment: &DeploymentName,
    observed: &Observed,
    order: &[MachineName],
    parent: Option<&Plan>,
) -> Plan {
    let sequence = next_in_sequence(parent);
    let mut actions = Vec::new();
    if observed.instances.values().any(|instance| instance.running) {
        actions.push(Action::Ports { published: BTreeMap::new() });
    }
    let names = stop_order(observed, order);
    actions.extend(names.iter().flat_map(|name| removal(name, &observed.instances[name])));
    actions.push(Action::Teardown);
    Plan {
        format: Plan::FORMAT,
        deployment: deployment.clone(),
        generation: sequence.generation,
        parent: sequence.parent,
        kind: PlanKind::Down,
        from: observed.current.clone(),
        to: None,
        config: None,
        stops_from: Some(0),
        reversed: observed.turned_back.clone(),
        touched: observed.touched.clone(),
        actions,
    }
}

pub(crate) fn removal(name: &InstanceName, instance: &ObservedInstance) -> impl Iterator<Item = Action> {
    let stop = instance.running.then(|| Action::Stop { instance: name.clone() });
    stop.into_iter().chain([Action::Remove { instance: name.clone() }])
}

fn next_in_sequence(parent: Option<&Plan>) -> Sequence {
    Sequence {
        generation: parent.map_or(0, |plan| plan.generation) + 1,
        parent: parent.map(Document::digest),
    }
}

/// Nothing is replaced that is as it should be.
static NONE: BTreeSet<InstanceName> = BTreeSet::new();

/// The steps so far, and which instances serve published ports after them.
struct Steps<'a> {
    observed: &'a Observed,
    release: &'a Release,
    kind: PlanKind,
    wanted: &'a Wanted<'a>,
    /// Taken away already.
    gone: BTreeSet<InstanceName>,
    /// Replaced even if they run as they should.
    again: &'a BTreeSet<InstanceName>,
    actions: Vec<Action>,
    serving: BTreeMap<MachineName, BTreeSet<InstanceName>>,
    /// Ready to serve, beside those that do.
    relief: BTreeMap<MachineName, BTreeSet<InstanceName>>,
    /// What the last [`Action::Ports`] said.
    published: Option<BTreeMap<MachineName, BTreeSet<InstanceName>>>,
}

impl<'a> Steps<'a> {
    fn new(observed: &'a Observed, wanted: &'a Wanted<'a>) -> Self {
        let Wanted { release, kind, .. } = *wanted;
        let mut serving: BTreeMap<MachineName, BTreeSet<InstanceName>> = BTreeMap::new();
        let running = observed.instances.iter().filter(|(name, seen)| seen.running && serves(observed, name));
        for (name, instance) in running {
            let publishes =
                release.content.machines.get(&instance.machine).is_some_and(|m| !m.publish.is_empty());
            if publishes {
                serving.entry(instance.machine.clone()).or_default().insert(name.clone());
            }
        }
        let actions = vec![Action::Network];
        let gone = BTreeSet::new();
        let (relief, published) = (BTreeMap::new(), None);
        Steps { observed, release, kind, wanted, gone, again: &NONE, actions, serving, relief, published }
    }

    /// Whether the machine comes up beside the instances that serve.
    fn is_beside(&self, machine: &ReleaseMachine) -> bool {
        self.wanted.side != self.observed.side && is_twice(machine)
    }

    /// Leads the ports to those that came up beside others, to all of them at once; and to none that is not wanted. Then looks
    /// for a time whether they stay ready.
    fn relieve(&mut self, wanted: &BTreeSet<&InstanceName>) {
        for (machine, instances) in std::mem::take(&mut self.relief) {
            self.serving.entry(machine).or_default().extend(instances);
        }
        self.serving.values_mut().for_each(|instances| instances.retain(|name| wanted.contains(name)));
        self.ports();
        let policy = self.release.content.upgrade.blue_green.filter(|policy| policy.watch_ms > 0);
        let Some(policy) = policy.filter(|_| self.wanted.side != self.observed.side) else { return };
        let instances = wanted.iter().map(|name| (*name).clone()).collect();
        self.actions.push(Action::Settle { instances, for_ms: policy.watch_ms, may_fail: 0 });
    }

    fn commit(&mut self, other: OtherSet) {
        let config = self.wanted.settings.configuration.map(|one| one.number);
        let (number, side) = (self.release.number, self.wanted.side);
        self.actions.push(Action::Commit { number, config, side, other });
    }

    /// Carries out the tasks of a machine that are due at this time.
    fn tasks(
        &mut self,
        deployment: &DeploymentName,
        of: (&MachineName, When),
        generation: u64,
    ) -> Result<(), PlanError> {
        let actions = task::steps(deployment, (self.observed, self.wanted), of, generation)?;
        self.carry_out(actions);
        Ok(())
    }

    /// Adds the steps of tasks.
    fn carry_out(&mut self, mut actions: Vec<Action>) {
        // Those that an interruption left go first.
        let idle = actions.iter().filter_map(|action| match action {
            Action::Start { boot, spec, .. } if spec.idle => Some(&boot.instance),
            _ => None,
        });
        let left = idle.filter_map(|name| self.observed.instances.get_key_value(name));
        let left = left.filter(|(name, _)| !self.gone.contains(*name));
        let removals: Vec<Action> = left.flat_map(|(name, seen)| removal(name, seen)).collect();
        actions.splice(0..0, removals);
        let gone = actions.iter().filter_map(|action| match action {
            Action::Remove { instance } => Some(instance.clone()),
            _ => None,
        });
        self.gone.extend(gone);
        self.actions.extend(actions);
    }

    /// What is done about data before anything else. Ports do not lead to what stops.
    fn prologue(&mut self, before: &Prologue) {
        if !before.stopped.is_empty() {
            self.ports();
        }
        self.actions.extend(before.actions.iter().cloned());
    }

    /// Says which ports are published, if that differs from what was said last.
    fn ports(&mut self) {
        if self.published.as_ref() == Some(&self.serving) {
            return;
        }
        let published =
            self.serving.iter().filter(|(_, instances)| !instances.is_empty()).map(|(name, instances)| {
                let ports = self.release.content.machines[name].publish.clone();
                (name.clone(), Published { ports, instances: instances.iter().cloned().collect() })
            });
        let published = published.collect();
        self.actions.push(Action::Ports { published });
        self.published = Some(self.serving.clone());
    }

    /// Instances that do not run yet start together; those that must be replaced go in batches, of one if nothing else is
    /// said, so that a machine with several instances never loses all of them at once.
    fn machine(&mut self, name: &MachineName, boots: &[(BootSpec, InstanceSpec)]) {
        let machine = &self.release.content.machines[name];
        for (boot, _) in boots {
            self.actions.extend(machine.volumes.iter().map(|(volume, size)| Action::Volume {
                instance: boot.instance.clone(),
                volume: volume.clone(),
                size_bytes: size.size_bytes,
            }));
        }
        let before = |boot: &BootSpec| self.observed.instances.get(&boot.instance);
        let runs = |boot: &BootSpec| before(boot).is_some_and(|instance| instance.running);
        let equal = |boot: &BootSpec| {
            before(boot).is_some_and(|instance| instance.boot == boot.boot)
                && !self.again.contains(&boot.instance)
                && !self.grows(&boot.instance, machine)
        };
        let (kept, changed): (Vec<_>, Vec<_>) = boots.iter().partition(|(boot, _)| runs(boot) && equal(boot));
        let (mut replaced, mut fresh): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(boot, _)| runs(boot));
        if self.is_beside(machine) {
            // They serve nobody, and nobody waits for one after the other.
            let stops = replaced.iter().map(|(boot, _)| Action::Stop { instance: boot.instance.clone() });
            self.actions.extend(stops);
            fresh.append(&mut replaced);
        }
        // Who serves nobody goes first: of a quorum no more are away than must be.
        replaced.sort_by_key(|(boot, _)| before(boot).is_some_and(|instance| instance.ready));
        let patience = Patience::of(self.wanted, machine);
        let may_fail = patience.may_fail(replaced.len());
        for (boot, spec) in &fresh {
            self.start(boot, spec, may_fail);
        }
        let serving_now: Vec<_> = kept.iter().chain(&fresh).collect();
        for (boot, _) in &serving_now {
            self.await_ready(machine, boot, may_fail);
        }
        if !machine.publish.is_empty() && !serving_now.is_empty() {
            self.ports();
        }
        let size = patience.batch();
        // The way back is to what stayed ready before, and nobody waits on it longer than it takes.
        let is_forth = self.kind != PlanKind::Return;
        let canary = machine.rolling.canary.filter(|_| is_forth);
        let first = canary.map_or(0, |canary| (canary.instances as usize).min(replaced.len()));
        let (first, rest) = replaced.split_at(first);
        // The first ones are there to fail: nothing goes on without them.
        for batch in first.chunks(size) {
            self.replace(name, (machine, 0), batch);
        }
        if let Some(canary) = canary {
            self.settle(first, canary.for_ms, 0);
        }
        for (at, batch) in rest.chunks(size).enumerate() {
            let may_fail = patience.may_fail(rest.len().saturating_sub((at + 1) * size));
            self.replace(name, (machine, may_fail), batch);
            if is_forth {
                self.settle(batch, machine.rolling.min_ready_ms, may_fail);
            }
        }
    }

    /// A larger disk is seen, and its file system grown, when the instance starts.
    fn grows(&self, instance: &InstanceName, machine: &ReleaseMachine) -> bool {
        machine.volumes.iter().any(|(volume, wanted)| {
            let own = InstanceVolume { instance: instance.clone(), volume: volume.clone() };
            self.observed.sizes.get(&own).is_some_and(|size_bytes| *size_bytes < wanted.size_bytes)
        })
    }

    fn settle(&mut self, boots: &[&(BootSpec, InstanceSpec)], for_ms: u64, may_fail: u32) {
        if for_ms > 0 && !boots.is_empty() {
            let instances = boots.iter().map(|(boot, _)| boot.instance.clone()).collect();
            self.actions.push(Action::Settle { instances, for_ms, may_fail });
        }
    }

    /// Takes a batch from its ports, and brings it back as what is wanted.
    fn replace(
        &mut self,
        name: &MachineName,
        (machine, may_fail): (&ReleaseMachine, u32),
        batch: &[&(BootSpec, InstanceSpec)],
    ) {
        if let Some(serving) = self.serving.get_mut(name) {
            serving.retain(|serves| !batch.iter().any(|(boot, _)| boot.instance == *serves));
            self.ports();
        }
        for (boot, _) in batch {
            self.actions.push(Action::Stop { instance: boot.instance.clone() });
        }
        for (boot, spec) in batch {
            self.start(boot, spec, may_fail);
        }
        for (boot, _) in batch {
            self.await_ready(machine, boot, may_fail);
        }
        if !machine.publish.is_empty() {
            self.ports();
        }
    }

    fn start(&mut self, boot: &BootSpec, spec: &InstanceSpec, may_fail: u32) {
        let (boot, spec) = (Box::new(boot.clone()), Box::new(spec.clone()));
        self.actions.push(Action::Start { boot, spec, may_fail });
    }

    fn await_ready(&mut self, machine: &ReleaseMachine, boot: &BootSpec, may_fail: u32) {
        let timeout_ms = machine.ready_timeout_ms;
        self.actions.push(Action::AwaitReady { instance: boot.instance.clone(), timeout_ms, may_fail });
        if !machine.publish.is_empty() {
            let ready = if self.is_beside(machine) { &mut self.relief } else { &mut self.serving };
            ready.entry(boot.machine.clone()).or_default().insert(boot.instance.clone());
        }
    }
}
