//! `plumb ps` and `plumb doctor`.

use plumb_ops::{DeploymentView, InstanceView, OpsError};

use super::Session;
use crate::args::Ps;
use crate::output::{err, out};
use crate::render::{self, duration, table};

pub(super) fn run(session: &Session<'_>, arguments: &Ps) -> Result<(), OpsError> {
    let deployments = session.plumb.ps(arguments.deployment.as_ref(), arguments.all)?;
    if session.global.json {
        render::json(&deployments);
        return given_up(deployments);
    }
    if deployments.is_empty() {
        err!("Nothing runs. `plumb up` in a folder with a definition starts an application.");
        return Ok(());
    }
    for (number, deployment) in deployments.iter().enumerate() {
        if number > 0 {
            out!();
        }
        print(deployment);
    }
    given_up(deployments)
}

/// Whoever asks by a script learns from the exit code that something was given up.
fn given_up(deployments: Vec<DeploymentView>) -> Result<(), OpsError> {
    match deployments.into_iter().find(|one| !one.given_up.is_empty()) {
        Some(one) => Err(OpsError::GivenUp { deployment: one.name, instances: one.given_up }),
        None => Ok(()),
    }
}

fn print(deployment: &DeploymentView) {
    let release = deployment.release.as_deref().unwrap_or("no release");
    let config =
        deployment.configuration.map_or_else(String::new, |number| format!("  configuration {number}"));
    match &deployment.host {
        Some(host) => out!("{}  {release}{config}  on {host}", deployment.name),
        None => out!("{}  {release}{config}  {}", deployment.name, deployment.state),
    }
    if let Some(wanted) = deployment.configuration_wanted.filter(|_| deployment.release.is_some()) {
        out!(
            "  configuration {wanted} is set and not applied; `plumb config apply {}` brings it",
            deployment.name
        );
    }
    if let Some(kept) = &deployment.kept {
        out!("  {}", render::kept(kept, &deployment.name));
    }
    for note in deployment.note.iter().chain(&deployment.lease.notice) {
        out!("  {note}");
    }
    for instance in &deployment.given_up {
        out!("  `{instance}` is given up: it was started again too often in a row");
    }
    if deployment.instances.is_empty() {
        return;
    }
    let mut rows = table(&["INSTANCE", "STATE", "RELEASE", "SERVICES", "UP", "MEMORY", "ADDRESS", "PORTS"]);
    for instance in &deployment.instances {
        rows.add_row([
            instance.name.clone(),
            if instance.kept_until_ms.is_some() {
                format!("kept, {}", instance.state)
            } else {
                instance.state.clone()
            },
            instance.release.clone(),
            services(instance),
            instance.uptime_ms.map(duration).unwrap_or_default(),
            memory(instance),
            instance.address.clone().unwrap_or_default(),
            instance.ports.join(" "),
        ]);
    }
    out!("{rows}");
}

fn services(instance: &InstanceView) -> String {
    instance
        .services
        .iter()
        .map(|service| {
            let restarts = if service.restarts > 0 {
                format!(" ({} restarts)", service.restarts)
            } else {
                String::new()
            };
            format!("{}: {}{restarts}", service.name, render::service_state(&service.state))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn memory(instance: &InstanceView) -> String {
    match (instance.memory_used_kib, instance.memory_total_kib) {
        (Some(used), Some(total)) => format!("{}/{} MiB", used / 1024, total / 1024),
        _ => String::new(),
    }
}

pub(super) fn doctor(session: &Session<'_>) -> Result<(), OpsError> {
    let report = session.plumb.doctor();
    if session.global.json {
        render::json(&report);
    } else {
        for finding in &report.findings {
            let mark = if finding.good { "ok  " } else { "FAIL" };
            out!("{mark} {}: {}", finding.what, finding.detail);
            if let Some(hint) = &finding.hint {
                out!("     hint: {hint}");
            }
        }
    }
    report.into_result()
}
