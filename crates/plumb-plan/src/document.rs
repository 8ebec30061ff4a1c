//! The plan as a document.

use std::collections::BTreeMap;

use plumb_guest_proto::InstanceSpec;
use plumb_model::config::ConfigRef;
use plumb_model::release::{Publish, ReleaseName};
use plumb_model::{
    DeploymentName, Digest, Document, InstanceName, MachineName, SnapshotName, TaskName, VolumeName,
};
use serde::{Deserialize, Serialize};

use crate::boot::{Addresses, BootSpec};
use crate::side::{OtherSet, Side};
use crate::snapshot::{HeldVolume, InstanceVolume, SnapshotReason};

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanKind {
    /// Nothing ran before, or the same release is completed.
    Up,
    /// Another, newer release.
    Upgrade,
    /// The same release with another configuration.
    Configure,
    /// An older release or configuration, on request.
    Rollback,
    /// The release before, because the wanted one did not become healthy.
    Return,
    /// What is missing or not well, and nothing else.
    Repair,
    /// The set that served before goes, and nothing else.
    Relieve,
    /// Stop everything.
    Down,
    /// Copy the data, and change nothing else.
    Snapshot,
    /// Other data, the same release.
    Restore,
}

/// The published ports of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Ports.
    pub ports: Vec<Publish>,
    /// Instances that serve them.
    pub instances: Vec<InstanceName>,
}

/// One step. Every step is idempotent: doing it again after an interruption is safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Make sure the private network and its keeper run.
    Network,
    /// Make sure the volume exists and has at least this size.
    Volume {
        /// Instance it belongs to.
        instance: InstanceName,
        /// Volume.
        volume: VolumeName,
        /// Bytes.
        size_bytes: u64,
    },
    /// Copy the volumes as of one moment, under this name.
    Snapshot {
        /// Its name.
        snapshot: SnapshotName,
        /// The volumes, and how they are kept from changing.
        volumes: Vec<HeldVolume>,
        /// Why.
        why: SnapshotReason,
        /// The release whose data it is.
        release: Option<ReleaseName>,
        /// Longest time that a volume stands still, milliseconds; then the plan has failed.
        freeze_limit_ms: u64,
        /// Only its name removes it.
        pinned: bool,
    },
    /// Put what a snapshot has in the place of volumes: of all of them, or of none.
    Restore {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The volumes.
        volumes: Vec<InstanceVolume>,
    },
    /// Remove snapshots.
    Prune {
        /// Their names.
        snapshots: Vec<SnapshotName>,
    },
    /// From now on exactly these ports of the host are published, each led to the instances named.
    Ports {
        /// By machine.
        published: BTreeMap<MachineName, Published>,
    },
    /// Stop the instance in order.
    Stop {
        /// Instance.
        instance: InstanceName,
    },
    /// Start the instance.
    Start {
        /// What to start.
        boot: Box<BootSpec>,
        /// What the guest is told.
        spec: Box<InstanceSpec>,
        /// The plan goes on without the instance while no more of its machine than so many have failed, itself counted.
        #[serde(default, skip_serializing_if = "is_zero")]
        may_fail: u32,
    },
    /// Wait until the instance is ready; otherwise the plan has failed.
    AwaitReady {
        /// Instance.
        instance: InstanceName,
        /// Limit in milliseconds.
        timeout_ms: u64,
        /// As of [`Action::Start`].
        #[serde(default, skip_serializing_if = "is_zero")]
        may_fail: u32,
    },
    /// Carry out a task of the instance's image; otherwise the plan has failed.
    Task {
        /// Instance.
        instance: InstanceName,
        /// Task.
        task: TaskName,
        /// Limit in milliseconds.
        timeout_ms: u64,
    },
    /// Look for a time whether the instances stay ready; otherwise the plan has failed.
    Settle {
        /// Instances.
        instances: Vec<InstanceName>,
        /// Milliseconds.
        for_ms: u64,
        /// As of [`Action::Start`]; only where it is one instance.
        #[serde(default, skip_serializing_if = "is_zero")]
        may_fail: u32,
    },
    /// Remove what is left of a stopped instance, except its volumes.
    Remove {
        /// Instance.
        instance: InstanceName,
    },
    /// From now on this release, with this configuration, is the deployment's current one.
    Commit {
        /// The release.
        number: u64,
        /// The configuration; none if nothing was ever set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<u64>,
        /// The set that serves.
        #[serde(default, skip_serializing_if = "Side::is_blue")]
        side: Side,
        /// What becomes of the other one.
        #[serde(default, skip_serializing_if = "OtherSet::is_gone")]
        other: OtherSet,
    },
    /// Take the network and everything else of the deployment away, except its volumes.
    Teardown,
}

/// The ordered actions from what was observed to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Always [`Plan::FORMAT`].
    pub format: u32,
    /// The deployment.
    pub deployment: DeploymentName,
    /// Number of this plan; grows by one with every plan of the deployment.
    pub generation: u64,
    /// Digest of the plan before it.
    pub parent: Option<Digest>,
    /// What it is for.
    pub kind: PlanKind,
    /// Release that was current when it was made.
    pub from: Option<ReleaseName>,
    /// Wanted release; `None` for [`PlanKind::Down`].
    pub to: Option<ReleaseName>,
    /// The configuration that it brings; none if nothing was ever set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigRef>,
    /// A failure of this step, counted from 0, or of a later one leaves everything as it is then; one of an earlier step takes
    /// the set back to what it ran before. Without, that follows from every failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops_from: Option<usize>,
    /// The release whose data may have been turned back into what an older one reads: by this plan, or by one before it that
    /// did not come to its end. Until a plan that leads somewhere is through, nobody knows whose data it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reversed: Option<ReleaseName>,
    /// The release that a plan before this one let at the data and did not bring to its end, although what ran before may not
    /// read what it wrote. It holds until a plan that leads somewhere is through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<ReleaseName>,
    /// The steps, in order.
    pub actions: Vec<Action>,
}

/// What follows from a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The set goes back to what it ran before.
    Undo,
    /// Everything stays as it is then.
    Stop,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Document for Plan {
    const WHAT: &'static str = "plan";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl Plan {
    /// Addresses of the instances that it starts; those of the others were given before.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let starts = self.actions.iter().filter_map(|action| match action {
            Action::Start { boot, spec, .. } => {
                Some((boot.instance.clone(), spec.interfaces.first()?.address))
            }
            _ => None,
        });
        starts.collect()
    }

    /// The set that serves when it is through, and what becomes of the other one; `None` if it changes nothing of that.
    #[must_use]
    pub fn sides(&self) -> Option<(Side, OtherSet)> {
        self.actions.iter().find_map(|action| match action {
            Action::Commit { side, other, .. } => Some((*side, *other)),
            _ => None,
        })
    }

    /// Whether the set is whole when it is through, and the data that of the release it leads to.
    #[must_use]
    pub fn settles(&self) -> bool {
        let is_partial = matches!(self.kind, PlanKind::Repair | PlanKind::Relieve);
        !is_partial && self.sides().is_some()
    }

    /// What follows if a step fails, unless the plan goes on without its instance; `None` is what is done before the first one.
    #[must_use]
    pub fn on_failure(&self, step: Option<usize>) -> OnFailure {
        match (self.stops_from, step) {
            (Some(from), Some(step)) if step >= from => OnFailure::Stop,
            _ => OnFailure::Undo,
        }
    }
}

impl Action {
    /// The instance that a plan goes on without if the step fails, and how many of its machine may have failed then.
    #[must_use]
    pub fn dispensable(&self) -> Option<(&InstanceName, u32)> {
        let (instance, may_fail) = match self {
            Action::Start { boot, may_fail, .. } => (&boot.instance, *may_fail),
            Action::AwaitReady { instance, may_fail, .. } => (instance, *may_fail),
            Action::Settle { instances, may_fail, .. } => (instances.first()?, *may_fail),
            _ => return None,
        };
        (may_fail > 0).then_some((instance, may_fail))
    }

    /// The instance it concerns, if it concerns one.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceName> {
        match self {
            Action::Volume { instance, .. }
            | Action::Stop { instance }
            | Action::AwaitReady { instance, .. }
            | Action::Task { instance, .. }
            | Action::Remove { instance } => Some(instance),
            Action::Start { boot, .. } => Some(&boot.instance),
            Action::Network
            | Action::Snapshot { .. }
            | Action::Restore { .. }
            | Action::Prune { .. }
            | Action::Ports { .. }
            | Action::Settle { .. }
            | Action::Commit { .. }
            | Action::Teardown => None,
        }
    }
}
