//! What several machines, or several services of one machine, must agree on.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Report, Span};
use super::{Publish, machine, probe, service};
use crate::release::BlueGreen;
use crate::{CheckName, InstanceName, MachineName, ServiceName};

/// Names that point at names: for each who, where it says so, and whom it names.
type Links<'a> = BTreeMap<&'a str, Vec<(&'a Span, &'a str)>>;

pub(super) fn machines(drafts: &BTreeMap<MachineName, machine::Draft>, report: &mut Report<'_>) {
    let links = drafts
        .iter()
        .map(|(name, draft)| {
            let names = draft.machine.needs.iter().map(MachineName::as_str);
            (name.as_str(), draft.needs.iter().zip(names).collect())
        })
        .collect();
    check_links(&links, "needs", "machine", report);
    check_instance_names(drafts, 1, report);
    check_host_ports(drafts, report);
}

pub(super) fn services(drafts: &BTreeMap<ServiceName, service::Draft>, report: &mut Report<'_>) {
    let links = drafts
        .iter()
        .map(|(name, draft)| {
            let names = draft.service.after.iter().map(ServiceName::as_str);
            (name.as_str(), draft.after.iter().zip(names).collect())
        })
        .collect();
    check_links(&links, "after", "service", report);
}

/// The machines that checks name.
pub(super) fn probes(
    probes: &BTreeMap<CheckName, probe::Draft>,
    drafts: &BTreeMap<MachineName, machine::Draft>,
    report: &mut Report<'_>,
) {
    let known: Vec<&str> = drafts.keys().map(MachineName::as_str).collect();
    for (span, machine) in probes.values().flat_map(|draft| &draft.machines) {
        if drafts.contains_key(machine) {
            continue;
        }
        let found = report.add(span, format!("a check names the machine `{machine}`, which is not defined"));
        found.suggest(machine.as_str(), known.iter().copied());
        if found.hints.is_empty() {
            found.hint(format!("Known machines: {}.", known.join(", ")));
        }
    }
}

fn check_links(links: &Links<'_>, key: &str, kind: &str, report: &mut Report<'_>) {
    let known: Vec<&str> = links.keys().copied().collect();
    for (span, target) in links.values().flatten() {
        if !links.contains_key(target) {
            let found =
                report.add(span, format!("`{key}` names the {kind} `{target}`, which is not defined"));
            found.suggest(target, known.iter().copied());
            if found.hints.is_empty() {
                found.hint(format!("Known {kind}s: {}.", known.join(", ")));
            }
        }
    }
    for circle in circles(links) {
        let names: Vec<&str> = circle.iter().map(|(_, name)| *name).collect();
        let [(span, first), ..] = &circle[..] else { continue };
        report
            .add(span, format!("`{key}` goes in a circle: {} → {first}", names.join(" → ")))
            .hint(format!("None of these {kind}s could ever start first; remove one of the `{key}`."));
    }
}

/// The first name of `name` that is still `open`.
fn next<'a>(links: &Links<'a>, open: &BTreeSet<&'a str>, name: &str) -> Option<(&'a Span, &'a str)> {
    links.get(name)?.iter().find(|(_, target)| open.contains(target)).copied()
}

/// Circles that share no name, each as its names with the place where it names the following one.
fn circles<'a>(links: &Links<'a>) -> Vec<Vec<(&'a Span, &'a str)>> {
    let mut open: BTreeSet<&str> = links.keys().copied().collect();
    let mut circles = Vec::new();
    loop {
        if let Some(done) = open.iter().find(|name| next(links, &open, name).is_none()).copied() {
            open.remove(done);
            continue;
        }
        // Every open name points at an open name, so the walk from any of them comes back to where it was.
        let Some(mut at) = open.first().copied() else { return circles };
        let mut walk: Vec<(&Span, &str)> = Vec::new();
        while let Some((span, target)) = next(links, &open, at) {
            if let Some(start) = walk.iter().position(|(_, name)| *name == at) {
                walk.drain(..start);
                break;
            }
            walk.push((span, at));
            at = target;
        }
        open.retain(|name| !walk.iter().any(|(_, walked)| walked == name));
        circles.push(walk);
    }
}

/// The instances that come up beside others.
pub(super) fn second_set(drafts: &BTreeMap<MachineName, machine::Draft>, report: &mut Report<'_>) {
    check_instance_names(drafts, BlueGreen::FIRST, report);
}

/// Instances and machines share one name space: both are names of `/etc/hosts` in every instance.
fn check_instance_names(drafts: &BTreeMap<MachineName, machine::Draft>, first: u32, report: &mut Report<'_>) {
    for (name, draft) in drafts {
        let last = first + draft.machine.instances - 1;
        if let Err(error) = InstanceName::of(name, last) {
            report
                .add(&draft.key, error.to_string())
                .hint(format!("The name of an instance is its machine's and `-{last}`."));
        }
        for number in first..=last {
            let instance = format!("{name}-{number}");
            if let Some((_, other)) = drafts.iter().find(|(other, _)| other.as_str() == instance) {
                report.add(
                    &other.key,
                    format!("`{instance}` is also the name of an instance of the machine `{name}`"),
                );
            }
        }
    }
}

/// Two listeners cannot share a port unless their addresses differ; `0.0.0.0` is every address.
fn check_host_ports(drafts: &BTreeMap<MachineName, machine::Draft>, report: &mut Report<'_>) {
    let all: Vec<(&Span, &MachineName, &Publish)> = drafts
        .iter()
        .flat_map(|(name, draft)| {
            draft.publish.iter().zip(&draft.machine.publish).map(move |(span, publish)| (span, name, publish))
        })
        .collect();
    let clash = |a: &Publish, b: &Publish| {
        a.host_port == b.host_port
            && (a.address == b.address || a.address.is_unspecified() || b.address.is_unspecified())
    };
    for (index, (span, _, publish)) in all.iter().enumerate() {
        if let Some((_, other, _)) = all[..index].iter().find(|(_, _, other)| clash(publish, other)) {
            report.add(
                span,
                format!("port {} of the host is already published by `[machine.{other}]`", publish.host_port),
            );
        }
    }
}
