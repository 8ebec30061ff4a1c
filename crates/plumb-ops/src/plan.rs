//! Plans before they are carried out: explained, and step by step.

use plumb_model::config::Settings;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, InstanceName, SnapshotName};
use plumb_plan::{
    Action, Explanation, HeldVolume, Hold, InstanceVolume, Known, Observed, OtherSet, Plan, Side, explain,
};
use plumb_state::StateError;

use crate::Plumb;
use crate::deploy::Locked;
use crate::error::OpsError;
use crate::execute::STOP_GRACE;

impl Plumb<'_> {
    /// What a plan means for whoever decides about it.
    pub(crate) fn explained(
        &self,
        locked: &Locked,
        plan: &Plan,
        observed: &Observed,
        after: Option<(&Release, &Settings)>,
    ) -> Result<Explanation, OpsError> {
        // What is no longer here cannot be compared with; what is planned does not depend on it.
        let before = match &observed.current {
            Some(current) => match self.read_release(current) {
                Err(OpsError::NoRelease { .. }) => None,
                other => Some(other?),
            },
            None => None,
        };
        let stop_ms = u64::try_from(STOP_GRACE.as_millis()).unwrap_or(u64::MAX);
        let ran = locked.state.configured(&locked.name)?.current;
        let ran = self.configuration(&locked.state, &locked.name, ran)?;
        // A pair that does not fit was never told to anybody.
        let told = before.as_ref().and_then(|release| self.fit(&locked.name, release, ran.as_ref()).ok());
        let settings = (told.as_ref(), after.map(|(_, settings)| settings));
        let after = after.map(|(release, _)| release);
        Ok(explain(plan, Known { observed, before: before.as_ref(), after, settings, stop_ms }))
    }

    /// The release that a deployment runs; nothing for one that is not there yet.
    pub(crate) fn current_of(&self, locked: &Locked, app: &AppName) -> Result<Option<ReleaseName>, OpsError> {
        match locked.state.deployment(&locked.name)? {
            Some(record) if record.app != *app => Err(StateError::OtherApp {
                deployment: locked.name.clone(),
                app: record.app,
                wanted: app.clone(),
            }
            .into()),
            record => Ok(record.and_then(|record| record.current)),
        }
    }
}

/// The plan for a person, one line per action.
pub(crate) fn describe(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Network => "network".to_owned(),
            Action::Volume { instance, volume, size_bytes } => {
                format!("volume {instance}/{volume}, {size_bytes} bytes")
            }
            Action::Snapshot { snapshot, volumes, .. } => {
                let one = |volume: &HeldVolume| {
                    let how = match volume.hold {
                        Hold::Frozen => "frozen",
                        Hold::AtRest => "at rest",
                    };
                    format!("{}/{} {how}", volume.instance, volume.volume)
                };
                let volumes: Vec<String> = volumes.iter().map(one).collect();
                format!("snapshot {snapshot} of {}", volumes.join(", "))
            }
            Action::Restore { snapshot, volumes } => {
                let one = InstanceVolume::to_string;
                let volumes: Vec<String> = volumes.iter().map(one).collect();
                format!("restore {} from snapshot {snapshot}", volumes.join(", "))
            }
            Action::Prune { snapshots } => {
                let names: Vec<&str> = snapshots.iter().map(SnapshotName::as_str).collect();
                format!("remove snapshots {}", names.join(", "))
            }
            Action::Ports { published } if published.is_empty() => "publish nothing".to_owned(),
            Action::Ports { published } => {
                let all = published.values().map(|machine| {
                    let ports: Vec<String> =
                        machine.ports.iter().map(|port| port.host_port.to_string()).collect();
                    let instances: Vec<&str> = machine.instances.iter().map(InstanceName::as_str).collect();
                    format!("{} by {}", ports.join(", "), instances.join(", "))
                });
                format!("publish {}", all.collect::<Vec<_>>().join("; "))
            }
            Action::Stop { instance } => format!("stop {instance}"),
            Action::Start { boot, .. } => {
                format!("start {} with image {}", boot.instance, boot.image.short())
            }
            Action::AwaitReady { instance, .. } => format!("wait until {instance} is ready"),
            Action::Task { instance, task, .. } => format!("carry out task {task} in {instance}"),
            Action::Settle { instances, for_ms, .. } => {
                let names: Vec<&str> = instances.iter().map(InstanceName::as_str).collect();
                format!("look for {for_ms} ms whether {} stay ready", names.join(", "))
            }
            Action::Remove { instance } => format!("remove {instance}"),
            Action::Commit { number, config, side, other } => {
                let config = config.map(|config| format!(" with configuration {config}")).unwrap_or_default();
                let side = match side {
                    Side::Blue => "",
                    Side::Green => ", green",
                };
                let other = match other {
                    OtherSet::Gone | OtherSet::Unchanged => String::new(),
                    OtherSet::Kept { release, for_ms } => {
                        format!(", and keep release {release} for {for_ms} ms")
                    }
                };
                format!("commit release {number}{config}{side}{other}")
            }
            Action::Teardown => "take the network away".to_owned(),
        })
        .collect()
}
