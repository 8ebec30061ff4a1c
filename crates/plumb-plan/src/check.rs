//! An independent check of a plan, by simulation: it knows nothing of how the planner works.

use std::collections::BTreeSet;

use plumb_model::release::{Release, ReleaseMachine};
use plumb_model::{InstanceName, MachineName};

use crate::document::{Action, Plan, PlanKind};
use crate::planner::Observed;

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
    /// The release was committed before all of its instances were ready, or never.
    WrongCommit,
}

/// Simulates `plan` from `observed` and lists every broken promise. `release` is the plan's wanted release.
#[must_use]
pub fn check(plan: &Plan, observed: &Observed, release: Option<&Release>) -> Vec<Violation> {
    let mut running: BTreeSet<InstanceName> = observed
        .instances
        .iter()
        .filter(|(_, instance)| instance.running)
        .map(|(name, _)| name.clone())
        .collect();
    // A repair does not wait for what it is not about.
    let mut ready: BTreeSet<InstanceName> =
        if plan.kind == PlanKind::Repair { running.clone() } else { BTreeSet::new() };
    let publishes = |name: &&InstanceName| {
        let machine =
            release.and_then(|release| release.content.machines.get(&observed.instances[*name].machine));
        machine.is_none_or(|machine| !machine.publish.is_empty())
    };
    let mut published: BTreeSet<InstanceName> = running.iter().filter(publishes).cloned().collect();
    let mut violations = Vec::new();
    let unready = observed.instances.iter().filter(|(_, instance)| instance.running && !instance.ready);
    let mut away = Away { release, instances: BTreeSet::new(), unready: BTreeSet::new() };
    let unready: BTreeSet<InstanceName> =
        unready.map(|(name, _)| name.clone()).filter(|name| away.wanted(name).is_some()).collect();
    away.unready = unready;
    let mut committed = false;
    for action in &plan.actions {
        match action {
            Action::Stop { instance } => {
                if published.contains(instance) {
                    violations.push(Violation::StoppedWhilePublished(instance.clone()));
                }
                if running.remove(instance) {
                    violations.extend(away.stopped(instance).map(Violation::TooManyAway));
                }
                ready.remove(instance);
            }
            Action::Start { boot, .. } => {
                if !running.insert(boot.instance.clone()) {
                    violations.push(Violation::StartedTwice(boot.instance.clone()));
                }
                let needs = release.and_then(|release| release.content.machines.get(&boot.machine));
                let unmet = needs.is_some_and(|machine| {
                    machine
                        .needs
                        .iter()
                        .any(|need| !ready.iter().any(|name| machine_of(name) == need.as_str()))
                });
                if unmet {
                    violations.push(Violation::StartedBeforeNeeds(boot.instance.clone()));
                }
            }
            Action::AwaitReady { instance, .. } => {
                if running.contains(instance) {
                    away.instances.remove(instance);
                    away.unready.remove(instance);
                    ready.insert(instance.clone());
                }
            }
            Action::Ports { published: now } => {
                published = now.values().flat_map(|machine| machine.instances.iter().cloned()).collect();
                for instance in &published {
                    let old = observed.instances.get(instance).is_some_and(|old| old.running);
                    if !running.contains(instance) || (!ready.contains(instance) && !old) {
                        violations.push(Violation::PublishedNotReady(instance.clone()));
                    }
                }
            }
            Action::Commit { .. } => committed = running.is_subset(&ready) || release.is_none(),
            Action::Network
            | Action::Volume { .. }
            | Action::Settle { .. }
            | Action::Remove { .. }
            | Action::Teardown => {}
        }
    }
    // A repair leaves alone what it is not about: one that comes back another time is no mistake of it.
    if plan.kind == PlanKind::Repair {
        return violations;
    }
    if committed != release.is_some() {
        violations.push(Violation::WrongCommit);
    }
    violations.extend(wrong_at_end(&running, release));
    violations
}

/// Instances that serve nobody.
struct Away<'r> {
    release: Option<&'r Release>,
    /// They were stopped, and are wanted again.
    instances: BTreeSet<InstanceName>,
    /// They ran before, and were not ready.
    unready: BTreeSet<InstanceName>,
}

impl<'r> Away<'r> {
    /// The machine of an instance that the release has; any other goes for good.
    fn wanted(&self, instance: &InstanceName) -> Option<(&'r MachineName, &'r ReleaseMachine)> {
        let (name, number) = instance.as_str().rsplit_once('-')?;
        let mut machines = self.release?.content.machines.iter();
        let (name, machine) = machines.find(|(other, _)| other.as_str() == name)?;
        (number.parse::<u32>().ok()? <= machine.instances).then_some((name, machine))
    }

    /// The machine of the instance, if too many of it are away now.
    fn stopped(&mut self, instance: &InstanceName) -> Option<MachineName> {
        let (name, machine) = self.wanted(instance)?;
        // Who was not ready serves no fewer than before.
        let was_ready = !self.unready.remove(instance);
        self.instances.insert(instance.clone());
        let all = self.instances.iter().chain(&self.unready);
        let away = all.filter(|other| machine_of(other) == name.as_str()).count();
        (was_ready && away > machine.rolling.max_unavailable as usize).then(|| name.clone())
    }
}

fn machine_of(instance: &InstanceName) -> &str {
    instance.as_str().rsplit_once('-').map_or("", |(machine, _)| machine)
}

fn wrong_at_end(running: &BTreeSet<InstanceName>, release: Option<&Release>) -> Vec<Violation> {
    let wanted: BTreeSet<InstanceName> = release
        .and_then(|release| crate::boot::instances(release).ok())
        .into_iter()
        .flatten()
        .map(|(_, instance)| instance)
        .collect();
    running.symmetric_difference(&wanted).cloned().map(Violation::WrongAtEnd).collect()
}
