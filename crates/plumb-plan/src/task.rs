//! One-off tasks: what an upgrade carries out once, in a virtual machine of the new image that runs nothing else.
//!
//! ```text
//!  what the machine needs is ready ─► start api-0, idle ─► its tasks, one after the other ─► stop, remove ─► the machine
//! ```
//! The instance has number 0 and is gone afterwards.

use plumb_guest_proto::InstanceSpec;
use plumb_model::release::{Release, ReleaseMachine, When};
use plumb_model::{DeploymentName, InstanceName, MachineName};

use crate::boot::{BootSpec, boot_spec};
use crate::document::{Action, PlanKind};
use crate::planner::{Observed, PlanError, Wanted};

/// The instances that a release needs for its tasks: they need addresses, too.
///
/// # Errors
/// [`PlanError::Name`].
pub fn task_instances(release: &Release) -> Result<Vec<InstanceName>, PlanError> {
    let with_tasks = release.content.machines.iter().filter(|(_, machine)| !machine.tasks.is_empty());
    with_tasks.map(|(name, _)| InstanceName::of_tasks(name).map_err(PlanError::Name)).collect()
}

/// Whether tasks are carried out at all: another, newer release comes, or the first one. Nothing is done again for a release
/// that was committed, and nothing on the way back; unless its data may have been turned back meanwhile.
fn are_due(observed: &Observed, wanted: &Wanted<'_>) -> bool {
    let name = wanted.release.name();
    let own = wanted.data.restore.filter(|snapshot| snapshot.release.as_ref() == Some(&name));
    let is_restored = own.is_some() && wanted.data.restores_all(observed, wanted.release);
    let is_turned_back = observed.turned_back.as_ref() == Some(&name) && !is_restored;
    let comes = matches!(wanted.kind, PlanKind::Up | PlanKind::Upgrade);
    is_turned_back || (comes && observed.current.as_ref() != Some(&name))
}

/// The steps that carry out the tasks of a machine that are due at this time, in the order of their names.
pub(crate) fn steps(
    deployment: &DeploymentName,
    (observed, wanted): (&Observed, &Wanted<'_>),
    (machine_name, when): (&MachineName, When),
    generation: u64,
) -> Result<Vec<Action>, PlanError> {
    if !are_due(observed, wanted) {
        return Ok(Vec::new());
    }
    carried_out(deployment, wanted, (machine_name, when), generation)
}

/// The steps that carry out the tasks of a machine of this time, due or not.
pub(crate) fn carried_out(
    deployment: &DeploymentName,
    wanted: &Wanted<'_>,
    (machine_name, when): (&MachineName, When),
    generation: u64,
) -> Result<Vec<Action>, PlanError> {
    let machine = &wanted.release.content.machines[machine_name];
    let mut tasks = machine.tasks.iter().filter(|(_, task)| task.when == when).peekable();
    if tasks.peek().is_none() {
        return Ok(Vec::new());
    }
    let (boot, spec) = idle(deployment, (machine_name, machine), wanted, generation)?;
    let instance = boot.instance.clone();
    let mut actions = vec![
        Action::Start { boot: Box::new(boot), spec: Box::new(spec), may_fail: 0 },
        Action::AwaitReady { instance: instance.clone(), timeout_ms: machine.ready_timeout_ms, may_fail: 0 },
    ];
    actions.extend(tasks.map(|(task, of)| Action::Task {
        instance: instance.clone(),
        task: task.clone(),
        timeout_ms: of.timeout_ms,
    }));
    actions.push(Action::Stop { instance: instance.clone() });
    actions.push(Action::Remove { instance });
    Ok(actions)
}

fn idle(
    deployment: &DeploymentName,
    (name, machine): (&MachineName, &ReleaseMachine),
    wanted: &Wanted<'_>,
    generation: u64,
) -> Result<(BootSpec, InstanceSpec), PlanError> {
    debug_assert!(machine.volumes.is_empty(), "no definition gives tasks to a machine with volumes");
    let instance = InstanceName::of_tasks(name).map_err(PlanError::Name)?;
    let (mut boot, mut spec) = boot_spec(deployment, (name, &instance), wanted, generation)?;
    boot.guest_ports.clear();
    spec.idle = true;
    Ok((boot, spec))
}
