//! An independent check of a plan, by simulation: it knows nothing of how the planner works.

mod data;

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::release::{Release, ReleaseMachine};
use plumb_model::{InstanceName, MachineName, SnapshotName};

use crate::boot::BootSpec;
use crate::carry::machine_of;
use crate::document::{Action, Plan, PlanKind};
use crate::planner::Observed;
use crate::side::{OtherSet, Side, instances, is_for_tasks, is_twice, serves};

/// A promise that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Started although something it needs has no ready instance.
    StartedBeforeNeeds(InstanceName),
    /// Started while it ran.
    StartedTwice(InstanceName),
    /// Published without having been waited for.
    PublishedNotReady(InstanceName),
    /// Stopped while it was published.
    StoppedWhilePublished(InstanceName),
    /// Runs at the end although the release does not have it, or the other way round.
    WrongAtEnd(InstanceName),
    /// More instances of the machine were away at once than it allows.
    TooManyAway(MachineName),
    /// A task is carried out by what is not ready for it, or is not there for tasks.
    TaskNotReady(InstanceName),
    /// A volume is copied at rest although its instance runs, or frozen although it does not.
    NotHeld(InstanceName),
    /// Data is replaced while an instance runs with it.
    ReplacedInUse(InstanceName),
    /// Data is replaced, or used by another release, and no copy of it was made before although one is asked for.
    NotKept(InstanceName),
    /// Data is, or may have been, turned back, and the plan does not say whose.
    TurnedBackUnsaid,
    /// Another release was let at the data, and the plan does not say which.
    TouchedUnsaid,
    /// It leads to a release whose data that is not, or may not be.
    DataOfAnother,
    /// A snapshot goes that has a name of its own, or that this plan needs or made.
    PrunedNeeded(SnapshotName),
    /// A port leads to both sets at once, or to an instance of the one that is not to serve.
    BothSetsPublished,
    /// The release was committed before all of its instances were ready, or never.
    WrongCommit,
}

/// Simulates `plan` from `observed` and lists every broken promise. `release` is the plan's wanted release.
#[must_use]
pub fn check(plan: &Plan, observed: &Observed, release: Option<&Release>) -> Vec<Violation> {
    let mut simulation = Simulation::new(plan, observed, release);
    let until = data_is_done(plan);
    for (at, action) in plan.actions.iter().enumerate() {
        simulation.is_about_data = until.is_some_and(|until| at < until);
        simulation.act(action);
    }
    let other = plan.sides().map_or(OtherSet::Gone, |(_, other)| other);
    let kept = simulation.kept(other);
    let mut violations = simulation.violations;
    violations.extend(data::check(plan, observed, release));
    // It leaves alone what it is not about: one that comes back another time is no mistake of it.
    if is_partial(plan) || leaves_the_rest(plan) {
        return violations;
    }
    if simulation.committed != release.is_some() {
        violations.push(Violation::WrongCommit);
    }
    let running = simulation.running.difference(&kept).cloned().collect();
    violations.extend(wrong_at_end(&running, release.map(|release| (release, simulation.side))));
    violations
}

/// What would be so after each action.
struct Simulation<'s> {
    observed: &'s Observed,
    release: Option<&'s Release>,
    /// The set that is to serve.
    side: Side,
    running: BTreeSet<InstanceName>,
    ready: BTreeSet<InstanceName>,
    published: BTreeSet<InstanceName>,
    away: Away<'s>,
    committed: bool,
    /// All of the set may be away: its volumes are copied as of one moment, and replaced together.
    is_about_data: bool,
    violations: Vec<Violation>,
}

impl<'s> Simulation<'s> {
    fn new(plan: &Plan, observed: &'s Observed, release: Option<&'s Release>) -> Self {
        let all = observed.instances.iter().filter(|(_, instance)| instance.running);
        let running: BTreeSet<InstanceName> = all.clone().map(|(name, _)| name.clone()).collect();
        let side = plan.sides().map_or(observed.side, |(side, _)| side);
        let publishes = |name: &&InstanceName| {
            let machine = &observed.instances[*name].machine;
            let machine = release.and_then(|release| release.content.machines.get(machine));
            serves(observed, name) && machine.is_none_or(|machine| !machine.publish.is_empty())
        };
        let mut away = Away {
            release,
            side,
            instances: BTreeSet::new(),
            unready: BTreeSet::new(),
            failed: BTreeMap::new(),
        };
        let unready = all.filter(|(name, instance)| !instance.ready && away.wanted(name).is_some());
        let unready: BTreeSet<InstanceName> = unready.map(|(name, _)| name.clone()).collect();
        away.unready = unready;
        Simulation {
            observed,
            release,
            side,
            published: running.iter().filter(publishes).cloned().collect(),
            // A repair does not wait for what it is not about.
            ready: if is_partial(plan) { running.clone() } else { BTreeSet::new() },
            running,
            away,
            committed: false,
            is_about_data: false,
            violations: Vec::new(),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Stop { instance } => self.stop(instance),
            Action::Start { boot, .. } => self.start(boot),
            Action::AwaitReady { instance, may_fail, .. } => {
                self.away.may_fail(instance, *may_fail);
                if self.running.contains(instance) {
                    self.away.instances.remove(instance);
                    self.away.unready.remove(instance);
                    self.ready.insert(instance.clone());
                }
            }
            Action::Ports { published } => {
                self.published = published.values().flat_map(|all| all.instances.iter().cloned()).collect();
                let all = published
                    .iter()
                    .flat_map(|(machine, all)| all.instances.iter().map(move |one| (machine, one)));
                let sides = all
                    .filter(|(machine, _)| self.is_twice(machine))
                    .map(|(_, one)| Side::of(one) == self.side);
                let sides: BTreeSet<bool> = sides.collect();
                if sides.len() > 1 {
                    self.violations.push(Violation::BothSetsPublished);
                }
                for instance in &self.published {
                    let old = self.observed.instances.get(instance).is_some_and(|old| old.running);
                    if !self.running.contains(instance) || (!self.ready.contains(instance) && !old) {
                        self.violations.push(Violation::PublishedNotReady(instance.clone()));
                    }
                }
            }
            Action::Commit { other, .. } => {
                let other = *other;
                let others = self.kept(other);
                self.committed =
                    self.running.iter().all(|name| self.ready.contains(name) || others.contains(name))
                        || self.release.is_none();
            }
            Action::Task { instance, .. } => {
                if !self.ready.contains(instance) || !is_for_tasks(instance) {
                    self.violations.push(Violation::TaskNotReady(instance.clone()));
                }
            }
            Action::Network
            | Action::Volume { .. }
            | Action::Snapshot { .. }
            | Action::Restore { .. }
            | Action::Prune { .. }
            | Action::Settle { .. }
            | Action::Remove { .. }
            | Action::Teardown => {}
        }
    }

    fn is_twice(&self, machine: &MachineName) -> bool {
        self.release.and_then(|release| release.content.machines.get(machine)).is_some_and(is_twice)
    }

    /// What runs on at the end although the release does not have it.
    fn kept(&self, other: OtherSet) -> BTreeSet<InstanceName> {
        let was_there = |name: &&InstanceName| match other {
            OtherSet::Gone => false,
            OtherSet::Kept { .. } => self.side != self.observed.side && serves(self.observed, name),
            OtherSet::Unchanged => !serves(self.observed, name),
        };
        let mut kept: BTreeSet<InstanceName> = self.running.iter().filter(was_there).cloned().collect();
        let wanted = self.release.and_then(|release| instances(release, self.side).ok()).unwrap_or_default();
        kept.retain(|name| !wanted.iter().any(|(_, other)| other == name));
        kept
    }

    fn stop(&mut self, instance: &InstanceName) {
        if self.published.contains(instance) {
            self.violations.push(Violation::StoppedWhilePublished(instance.clone()));
        }
        // Who serves nobody is missed by nobody.
        if self.running.remove(instance) && !self.is_about_data && serves(self.observed, instance) {
            self.violations.extend(self.away.stopped(instance).map(Violation::TooManyAway));
        }
        self.ready.remove(instance);
    }

    fn start(&mut self, boot: &BootSpec) {
        let instance = &boot.instance;
        if !self.running.insert(instance.clone()) {
            self.violations.push(Violation::StartedTwice(instance.clone()));
        }
        // What another release needs is not known here.
        let release = self.release.filter(|release| release.name() == boot.release);
        let machine = release.and_then(|release| release.content.machines.get(&boot.machine));
        let ready =
            |need: &MachineName| self.ready.iter().filter(|name| machine_of(name) == need.as_str()).count();
        let is_unmet = |need: &MachineName| ready(need) <= self.away.failed(need.as_str());
        if machine.is_some_and(|machine| machine.needs.iter().any(is_unmet)) {
            self.violations.push(Violation::StartedBeforeNeeds(instance.clone()));
        }
    }
}

/// The step until which all of the set may be away: its data is copied, replaced or turned back.
fn data_is_done(plan: &Plan) -> Option<usize> {
    let turning = data::turning(plan);
    let is_data = |action: &Action| match action {
        Action::Snapshot { .. } | Action::Restore { .. } => true,
        Action::Task { instance, .. } => turning.contains(instance),
        _ => false,
    };
    let last = plan.actions.iter().rposition(is_data)?;
    if !matches!(plan.actions[last], Action::Task { .. }) {
        return Some(last);
    }
    // What was there for it stops again.
    let is_end = |action: &Action| matches!(action, Action::Stop { .. } | Action::Remove { .. });
    Some(last + 1 + plan.actions[last + 1..].iter().take_while(|action| is_end(action)).count())
}

/// A plan that is about some instances, and leaves the others as they are.
fn is_partial(plan: &Plan) -> bool {
    matches!(plan.kind, PlanKind::Repair | PlanKind::Relieve)
}

/// A plan that only copies or replaces data leaves what runs as it was.
fn leaves_the_rest(plan: &Plan) -> bool {
    let touches = plan.actions.iter().any(|action| matches!(action, Action::Network | Action::Teardown));
    !touches && matches!(plan.kind, PlanKind::Snapshot | PlanKind::Restore)
}

/// Instances that serve nobody.
struct Away<'r> {
    release: Option<&'r Release>,
    side: Side,
    /// They were stopped, and are wanted again.
    instances: BTreeSet<InstanceName>,
    /// They ran before, and were not ready.
    unready: BTreeSet<InstanceName>,
    /// How many of each machine were waited for in vain at worst.
    failed: BTreeMap<String, (usize, u32)>,
}

impl<'r> Away<'r> {
    /// The machine of an instance that the release has; any other goes for good.
    fn wanted(&self, instance: &InstanceName) -> Option<(&'r MachineName, &'r ReleaseMachine)> {
        let (name, number) = instance.as_str().rsplit_once('-')?;
        let mut machines = self.release?.content.machines.iter();
        let (name, machine) = machines.find(|(other, _)| other.as_str() == name)?;
        self.side.numbers(machine).contains(&number.parse().ok()?).then_some((name, machine))
    }

    /// The plan goes on without the instance if so many of its machine have failed.
    fn may_fail(&mut self, instance: &InstanceName, may_fail: u32) {
        if may_fail > 0 {
            let (times, most) = self.failed.entry(machine_of(instance).to_owned()).or_default();
            (*times, *most) = (*times + 1, (*most).max(may_fail));
        }
    }

    /// How many of a machine have failed by now at worst.
    fn failed(&self, machine: &str) -> usize {
        self.failed.get(machine).map_or(0, |(times, most)| (*times).min(*most as usize))
    }

    /// The machine of the instance, if too many of it are away now.
    fn stopped(&mut self, instance: &InstanceName) -> Option<MachineName> {
        let (name, machine) = self.wanted(instance)?;
        // Who was not ready serves no fewer than before.
        let was_ready = !self.unready.remove(instance);
        self.instances.insert(instance.clone());
        let all = self.instances.iter().chain(&self.unready);
        let away =
            all.filter(|other| machine_of(other) == name.as_str()).count() + self.failed(name.as_str());
        (was_ready && away > machine.rolling.max_unavailable as usize).then(|| name.clone())
    }
}

fn wrong_at_end(running: &BTreeSet<InstanceName>, release: Option<(&Release, Side)>) -> Vec<Violation> {
    let wanted: BTreeSet<InstanceName> = release
        .and_then(|(release, side)| instances(release, side).ok())
        .into_iter()
        .flatten()
        .map(|(_, instance)| instance)
        .collect();
    running.symmetric_difference(&wanted).cloned().map(Violation::WrongAtEnd).collect()
}
