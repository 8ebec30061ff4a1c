//! From observed to wanted.

use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::InstanceSpec;
use plumb_model::release::{Release, ReleaseMachine, ReleaseName};
use plumb_model::{DeploymentName, Digest, Document, InstanceName, MachineName, NameError};

use crate::boot::{Addresses, BootSpec, boot_spec, instances};
use crate::document::{Action, Plan, PlanKind};
use crate::order::{NeedsCycle, start_order};

/// What the target and the state say about a deployment.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Every instance of which anything is left, running or not.
    pub instances: BTreeMap<InstanceName, ObservedInstance>,
    /// The release that was committed last.
    pub current: Option<ReleaseName>,
    /// Lowest release number that may follow the current one (its fence).
    pub fence: u64,
}

/// One instance as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedInstance {
    /// Its machine.
    pub machine: MachineName,
    /// The virtual machine runs.
    pub running: bool,
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
    /// Addresses of all its instances.
    pub addresses: &'a Addresses,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The current release forbids going back that far.
    #[error(
        "`{from}` cannot be rolled back to `{to}`: its definition sets the fence at release {fence}, because data written by `{from}` is not readable below it"
    )]
    Fenced {
        /// Current release.
        from: ReleaseName,
        /// Wanted release.
        to: ReleaseName,
        /// Lowest allowed number.
        fence: u64,
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
    refuse_below_fence(observed, release)?;
    let sequence = next_in_sequence(parent);
    let order = start_order(&release.content.machines)?;
    let mut actions = vec![Action::Network];
    let mut wanted_names = BTreeSet::new();
    let all = instances(release)?;
    for machine_name in &order {
        let mut boots = Vec::new();
        for (_, instance) in all.iter().filter(|(machine, _)| machine == machine_name) {
            wanted_names.insert(instance.clone());
            let name = (machine_name, instance);
            boots.push(boot_spec(release, deployment, name, wanted.addresses, sequence.generation)?);
        }
        actions.extend(machine_actions(
            machine_name,
            &release.content.machines[machine_name],
            &boots,
            observed,
        ));
    }
    // Machines and instances that the release does not have go last, when nothing needs them any more.
    for (name, instance) in observed.instances.iter().rev().filter(|(name, _)| !wanted_names.contains(*name))
    {
        if instance.running {
            actions.extend([
                Action::Withdraw { instance: name.clone() },
                Action::Stop { instance: name.clone() },
            ]);
        }
        actions.push(Action::Remove { instance: name.clone() });
    }
    actions.push(Action::Commit { number: release.number });
    Ok(Plan {
        format: Plan::FORMAT,
        deployment: deployment.clone(),
        generation: sequence.generation,
        parent: sequence.parent,
        kind: wanted.kind,
        from: observed.current.clone(),
        to: Some(release.name()),
        actions,
    })
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
    let position =
        |machine: &MachineName| order.iter().position(|other| other == machine).unwrap_or(usize::MAX);
    let mut names: Vec<_> = observed.instances.iter().collect();
    names.sort_by_key(|(name, instance)| std::cmp::Reverse((position(&instance.machine), (*name).clone())));
    let mut actions = Vec::new();
    for (name, instance) in names {
        if instance.running {
            actions.extend([
                Action::Withdraw { instance: name.clone() },
                Action::Stop { instance: name.clone() },
            ]);
        }
        actions.push(Action::Remove { instance: name.clone() });
    }
    actions.push(Action::Teardown);
    Plan {
        format: Plan::FORMAT,
        deployment: deployment.clone(),
        generation: sequence.generation,
        parent: sequence.parent,
        kind: PlanKind::Down,
        from: observed.current.clone(),
        to: None,
        actions,
    }
}

fn next_in_sequence(parent: Option<&Plan>) -> Sequence {
    Sequence {
        generation: parent.map_or(0, |plan| plan.generation) + 1,
        parent: parent.map(Document::digest),
    }
}

fn refuse_below_fence(observed: &Observed, release: &Release) -> Result<(), PlanError> {
    match &observed.current {
        Some(current)
            if current.app == release.app && release.number < observed.fence.min(current.number) =>
        {
            Err(PlanError::Fenced { from: current.clone(), to: release.name(), fence: observed.fence })
        }
        _ => Ok(()),
    }
}

/// Instances that do not run yet start together; those that must be replaced go one by one, so that a machine with
/// several instances never loses all of them at once.
fn machine_actions(
    name: &MachineName,
    machine: &ReleaseMachine,
    boots: &[(BootSpec, InstanceSpec)],
    observed: &Observed,
) -> Vec<Action> {
    let await_ready = |boot: &BootSpec| Action::AwaitReady {
        instance: boot.instance.clone(),
        timeout_ms: machine.ready_timeout_ms,
    };
    let runs =
        |boot: &BootSpec| observed.instances.get(&boot.instance).is_some_and(|instance| instance.running);
    let equal = |boot: &BootSpec| {
        observed.instances.get(&boot.instance).is_some_and(|instance| instance.boot == boot.boot)
    };
    let publish = |instances: &[InstanceName]| {
        (!machine.publish.is_empty()).then(|| Action::Publish {
            machine: name.clone(),
            ports: machine.publish.clone(),
            instances: instances.to_vec(),
        })
    };
    let mut actions = Vec::new();
    for (boot, _) in boots {
        for (volume, size) in &machine.volumes {
            actions.push(Action::Volume {
                instance: boot.instance.clone(),
                volume: volume.clone(),
                size_bytes: size.size_bytes,
            });
        }
    }
    let (kept, changed): (Vec<_>, Vec<_>) = boots.iter().partition(|(boot, _)| runs(boot) && equal(boot));
    let (replaced, fresh): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(boot, _)| runs(boot));
    for (boot, spec) in &fresh {
        actions.push(Action::Start { boot: Box::new(boot.clone()), spec: Box::new(spec.clone()) });
    }
    let mut serving = Vec::new();
    for (boot, _) in kept.iter().chain(&fresh) {
        actions.push(await_ready(boot));
        serving.push(boot.instance.clone());
    }
    if !serving.is_empty() {
        let still_old = replaced.iter().map(|(boot, _)| boot.instance.clone());
        let all: Vec<InstanceName> = serving.iter().cloned().chain(still_old).collect();
        actions.extend(publish(&all));
    }
    for (boot, spec) in &replaced {
        let instance = || boot.instance.clone();
        actions.extend([Action::Withdraw { instance: instance() }, Action::Stop { instance: instance() }]);
        actions.push(Action::Start { boot: Box::new(boot.clone()), spec: Box::new(spec.clone()) });
        actions.push(await_ready(boot));
        serving.push(instance());
        let pending =
            replaced.iter().map(|(other, _)| &other.instance).filter(|other| !serving.contains(other));
        let all: Vec<InstanceName> = serving.iter().chain(pending).cloned().collect();
        actions.extend(publish(&all));
    }
    actions
}
