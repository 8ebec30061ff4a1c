//! Going below a fence with the data as it is: tasks of the newer release turn it back first.
//!
//! ```text
//!  stop what must ─► snapshot ─► what the tasks need is ready, as the newer release ─► start api-0 of the newer image, idle
//!  ─► its `reverse` tasks ─► stop, remove ─► the older release, machine by machine
//! ```
//! From then on, until a plan that leads somewhere is through, the data may be that of either release: every plan says so in
//! [`crate::Plan::reversed`], and one that leads back to the newer release carries out its other tasks again.

use std::collections::BTreeSet;

use plumb_model::config::Settings;
use plumb_model::release::{Release, When};
use plumb_model::{DeploymentName, InstanceName, MachineName};

use crate::boot::boot_spec;
use crate::document::{Action, PlanKind};
use crate::order::start_order;
use crate::planner::{Observed, PlanError, Wanted};
use crate::side::instances;
use crate::task;

/// The release whose data an older one cannot read, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Former<'a> {
    /// The release: the current one.
    pub release: &'a Release,
    /// What its instances were told.
    pub settings: &'a Settings,
    /// Number of the lowest release that reads what its reverse tasks leave.
    pub reaches: u64,
}

/// Whether the wanted release is below the fence of the current one, and no other data is put in place.
#[must_use]
pub fn is_below_fence(observed: &Observed, wanted: &Wanted<'_>) -> bool {
    let number = wanted.release.number;
    observed.holder().is_some_and(|current| {
        current.app == wanted.release.app && number < observed.fence.min(current.number)
    }) && !wanted.data.restores_all(observed, wanted.release)
}

/// Whether a release can turn its data back.
#[must_use]
pub fn has_reverse_tasks(release: &Release) -> bool {
    let mut tasks = release.content.machines.values().flat_map(|machine| machine.tasks.values());
    tasks.any(|task| task.when == When::Reverse)
}

/// Refuses what data does not allow.
pub(crate) fn refuse(
    deployment: &DeploymentName,
    (observed, wanted): (&Observed, &Wanted<'_>),
) -> Result<(), PlanError> {
    let Some(current) = observed.holder().filter(|_| is_below_fence(observed, wanted)) else {
        return Ok(());
    };
    let (from, to, fence) = (current.clone(), wanted.release.name(), observed.fence);
    match able(wanted) {
        None => Err(PlanError::Fenced { deployment: deployment.clone(), from, to, fence }),
        Some(former) if to.number < former.reaches => {
            Err(PlanError::TooFarBack { from, to, reaches: former.reaches })
        }
        Some(_) => Ok(()),
    }
}

/// Whether a plan to `wanted` turns data back.
pub(crate) fn is_due(observed: &Observed, wanted: &Wanted<'_>) -> bool {
    able(wanted).is_some() && is_below_fence(observed, wanted)
}

/// The current release, if it can turn its data back. Of data of two times nobody knows what a task would make.
fn able<'a>(wanted: &Wanted<'a>) -> Option<Former<'a>> {
    wanted.former.filter(|former| wanted.data.restore.is_none() && has_reverse_tasks(former.release))
}

/// The steps that turn the data back. `stopped` is what does not run any more; it does not run afterwards either.
pub(crate) fn steps(
    deployment: &DeploymentName,
    (observed, wanted): (&Observed, &Wanted<'_>),
    stopped: &BTreeSet<InstanceName>,
    generation: u64,
) -> Result<Vec<Action>, PlanError> {
    let Some(Former { release, settings, .. }) = wanted.former.filter(|_| is_due(observed, wanted)) else {
        return Ok(Vec::new());
    };
    // As it runs now.
    let newer =
        Wanted { release, settings, side: observed.side, kind: PlanKind::Return, former: None, ..*wanted };
    let order = start_order(&release.content.machines)?;
    let turning: Vec<&MachineName> = order.iter().rev().filter(|name| turns_back(release, name)).collect();
    let needed = needed_by(release, &turning);
    let (mut actions, mut started) = (Vec::new(), Vec::new());
    for name in order.iter().filter(|name| needed.contains(name)) {
        let machine = &release.content.machines[name];
        let all = instances(release, observed.side)?;
        let own: Vec<_> = all.into_iter().filter(|(of, _)| of == name).map(|(_, one)| one).collect();
        for instance in &own {
            let runs = observed.instances.get(instance).is_some_and(|seen| seen.running);
            if !runs || stopped.contains(instance) {
                let (boot, spec) = boot_spec(deployment, (name, instance), &newer, generation)?;
                let (boot, spec) = (Box::new(boot), Box::new(spec));
                actions.push(Action::Start { boot, spec, may_fail: 0 });
                started.push(instance.clone());
            }
        }
        let timeout_ms = machine.ready_timeout_ms;
        actions.extend(own.into_iter().map(|instance| Action::AwaitReady {
            instance,
            timeout_ms,
            may_fail: 0,
        }));
    }
    for name in turning {
        actions.extend(task::carried_out(deployment, &newer, (name, When::Reverse), generation)?);
    }
    actions.extend(started.into_iter().rev().map(|instance| Action::Stop { instance }));
    Ok(actions)
}

fn turns_back(release: &Release, machine: &MachineName) -> bool {
    release.content.machines[machine].tasks.values().any(|task| task.when == When::Reverse)
}

/// The machines that some need, and what these need.
fn needed_by<'r>(release: &'r Release, machines: &[&'r MachineName]) -> BTreeSet<&'r MachineName> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<&MachineName> = machines.to_vec();
    while let Some(name) = open.pop() {
        let needs = release.content.machines.get(name).into_iter().flat_map(|machine| &machine.needs);
        open.extend(needs.filter(|need| needed.insert(*need)));
    }
    needed
}
