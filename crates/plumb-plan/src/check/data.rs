//! What a plan does to data, by the same simulation.

use std::collections::BTreeSet;

use plumb_model::release::{Release, When};
use plumb_model::{InstanceName, SnapshotName};

use super::Violation;
use crate::document::{Action, Plan, PlanKind};
use crate::planner::Observed;
use crate::snapshot::{Hold, InstanceVolume};

/// The promises about data that a plan breaks.
pub(super) fn check<'o>(plan: &'o Plan, observed: &'o Observed, release: Option<&Release>) -> Vec<Violation> {
    let running = observed.instances.iter().filter(|(_, instance)| instance.running);
    let mut world = World {
        observed,
        running: running.map(|(name, _)| name.clone()).collect(),
        kept: BTreeSet::new(),
        needed: BTreeSet::new(),
        // Another release begins to use the data.
        turning: turning(plan),
        must_keep: matches!(plan.kind, PlanKind::Upgrade | PlanKind::Rollback)
            && release.is_some_and(|release| {
                release.content.snapshots.before_upgrade && observed.data_of != Some(release.name())
            }),
        violations: Vec::new(),
    };
    plan.actions.iter().for_each(|action| world.act(action));
    let mut violations = world.violations;
    violations.extend(whose_data(plan, observed, release));
    violations
}

/// Instances that are there for tasks of another release than the one the plan leads to: they turn data back.
pub(super) fn turning(plan: &Plan) -> BTreeSet<&InstanceName> {
    let idle = plan.actions.iter().filter_map(|action| match action {
        Action::Start { boot, spec, .. } if spec.idle && Some(&boot.release) != plan.to.as_ref() => {
            Some(&boot.instance)
        }
        _ => None,
    });
    idle.collect()
}

/// Whether the data fits the release that the plan leads to, and the plan says what the next one must know of it.
fn whose_data(plan: &Plan, observed: &Observed, release: Option<&Release>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let turning = turning(plan);
    let restores = plan.actions.iter().any(|action| matches!(action, Action::Restore { .. }));
    let turns_back = !turning.is_empty();
    let said = if turns_back { observed.holder() } else { observed.turned_back.as_ref() };
    if plan.reversed.as_ref() != said {
        violations.push(Violation::TurnedBackUnsaid);
    }
    if plan.touched != observed.touched {
        violations.push(Violation::TouchedUnsaid);
    }
    let (Some(to), Some(release)) = (&plan.to, release) else { return violations };
    let is_below = observed
        .holder()
        .is_some_and(|current| current.app == to.app && to.number < observed.fence.min(current.number));
    let all_tasks = release.content.machines.values().flat_map(|machine| machine.tasks.values());
    let again = all_tasks.filter(|task| task.when != When::Reverse).count();
    let done = plan
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Task { instance, .. } if !turning.contains(instance)));
    let is_made_new = restores || again == done.count();
    let must_be_made_new = plan.settles() && observed.turned_back.as_ref() == Some(to);
    let is_unreadable = is_below && !turns_back && !restores;
    let is_of_two_times = turns_back && (restores || !is_below);
    if is_unreadable || is_of_two_times || must_be_made_new && !is_made_new {
        violations.push(Violation::DataOfAnother);
    }
    violations
}

struct World<'o> {
    observed: &'o Observed,
    running: BTreeSet<InstanceName>,
    /// Volumes of which a copy was made.
    kept: BTreeSet<InstanceVolume>,
    /// Snapshots that were made or used.
    needed: BTreeSet<SnapshotName>,
    must_keep: bool,
    /// There for tasks that turn data back.
    turning: BTreeSet<&'o InstanceName>,
    violations: Vec<Violation>,
}

impl World<'_> {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Stop { instance } => drop(self.running.remove(instance)),
            Action::Task { instance, .. } if self.turning.contains(instance) => {
                let is_kept = self.observed.volumes.keys().all(|volume| self.kept.contains(volume));
                if !is_kept {
                    self.violations.push(Violation::NotKept(instance.clone()));
                }
            }
            Action::Start { boot, .. } => {
                let lost = self.must_keep
                    && self
                        .observed
                        .volumes
                        .keys()
                        .any(|volume| volume.instance == boot.instance && !self.kept.contains(volume));
                if lost {
                    self.violations.push(Violation::NotKept(boot.instance.clone()));
                }
                self.running.insert(boot.instance.clone());
            }
            Action::Snapshot { snapshot, volumes, .. } => {
                for volume in volumes {
                    if self.running.contains(&volume.instance) != (volume.hold == Hold::Frozen) {
                        self.violations.push(Violation::NotHeld(volume.instance.clone()));
                    }
                    let copied = (volume.instance.clone(), volume.volume.clone());
                    self.kept.insert(InstanceVolume { instance: copied.0, volume: copied.1 });
                }
                self.needed.insert(snapshot.clone());
            }
            Action::Restore { snapshot, volumes } => {
                for volume in volumes {
                    if self.running.contains(&volume.instance) {
                        self.violations.push(Violation::ReplacedInUse(volume.instance.clone()));
                    }
                    if self.observed.volumes.contains_key(volume) && !self.kept.contains(volume) {
                        self.violations.push(Violation::NotKept(volume.instance.clone()));
                    }
                }
                self.needed.insert(snapshot.clone());
            }
            Action::Prune { snapshots } => {
                let pinned = |name: &SnapshotName| {
                    self.observed.snapshots.iter().any(|one| one.name == *name && one.pinned)
                };
                let wrong = snapshots.iter().filter(|name| pinned(name) || self.needed.contains(*name));
                self.violations.extend(wrong.cloned().map(Violation::PrunedNeeded));
            }
            _ => {}
        }
    }
}
