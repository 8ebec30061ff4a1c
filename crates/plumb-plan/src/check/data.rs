//! What a plan does to data, by the same simulation.

use std::collections::BTreeSet;

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{InstanceName, SnapshotName};

use super::Violation;
use crate::document::{Action, Plan, PlanKind};
use crate::planner::Observed;
use crate::snapshot::{Hold, InstanceVolume};

/// The promises about data that a plan breaks.
pub(super) fn check(plan: &Plan, observed: &Observed, release: Option<&Release>) -> Vec<Violation> {
    let running = observed.instances.iter().filter(|(_, instance)| instance.running);
    let mut world = World {
        observed,
        running: running.map(|(name, _)| name.clone()).collect(),
        kept: BTreeSet::new(),
        needed: BTreeSet::new(),
        // Another release begins to use the data.
        to: plan.to.as_ref(),
        reversed: plan.reversed.as_ref(),
        turning: BTreeSet::new(),
        must_keep: matches!(plan.kind, PlanKind::Upgrade | PlanKind::Rollback)
            && release.is_some_and(|release| {
                release.content.snapshots.before_upgrade && observed.data_of != Some(release.name())
            }),
        violations: Vec::new(),
    };
    plan.actions.iter().for_each(|action| world.act(action));
    world.violations
}

struct World<'o> {
    observed: &'o Observed,
    running: BTreeSet<InstanceName>,
    /// Volumes of which a copy was made.
    kept: BTreeSet<InstanceVolume>,
    /// Snapshots that were made or used.
    needed: BTreeSet<SnapshotName>,
    must_keep: bool,
    /// Where the plan leads.
    to: Option<&'o ReleaseName>,
    /// The release whose data it says is turned back.
    reversed: Option<&'o ReleaseName>,
    /// There for tasks of another release than the one it leads to: they turn data back.
    turning: BTreeSet<InstanceName>,
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
                if self.reversed != self.observed.current.as_ref() {
                    self.violations.push(Violation::TurnedBackUnsaid(instance.clone()));
                }
            }
            Action::Start { boot, spec, .. } => {
                if spec.idle && Some(&boot.release) != self.to {
                    self.turning.insert(boot.instance.clone());
                }
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
