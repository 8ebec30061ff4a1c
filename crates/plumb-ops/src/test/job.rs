//! What has to be done for a test, and how its results are written down. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use plumb_model::check::{Check, Checks, MachinePort, Probe};
use plumb_model::outcome::{CheckPlace, CheckResult, Verdict};
use plumb_model::release::{Publish, Release};
use plumb_model::{AppName, CheckName, DeploymentName, InstanceName, MachineName, NameError};
use plumb_target::ObservedInstance;

use crate::error::OpsError;

/// Longest part of a deployment's name that is the application's: a name has at most 40 characters.
const APP_CHARACTERS: usize = 32;

/// One check at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job<'c> {
    pub(super) name: &'c CheckName,
    pub(super) check: &'c Check,
    pub(super) place: CheckPlace,
}

/// The name of the test number `number` of an application.
pub(super) fn deployment(app: &AppName, number: u32) -> Result<DeploymentName, NameError> {
    let app: String = app.as_str().chars().take(APP_CHARACTERS).collect();
    format!("{}-test-{number}", app.trim_end_matches('-')).parse()
}

/// Machines that checks name.
pub(super) fn machines(checks: &Checks) -> impl Iterator<Item = &MachineName> {
    checks.checks.values().flat_map(|check| {
        let inside = match &check.probe {
            Probe::Exec(exec) => Some(&exec.machine),
            _ => None,
        };
        check.ports().into_iter().map(|at| &at.machine).chain(inside)
    })
}

/// Ports that checks name.
pub(super) fn ports(checks: &Checks) -> BTreeSet<MachinePort> {
    checks.checks.values().flat_map(Check::ports).cloned().collect()
}

/// Every check at every place: from outside through each instance, inside each instance, and programs once.
pub(super) fn jobs<'c>(
    release: &Release,
    checks: &'c Checks,
    only: &[CheckName],
) -> Result<Vec<Job<'c>>, NameError> {
    let mut jobs = Vec::new();
    for (name, check) in checks.checks.iter().filter(|(name, _)| only.is_empty() || only.contains(name)) {
        let places = match &check.probe {
            Probe::Run(_) => vec![CheckPlace::Host],
            Probe::Exec(exec) => places(release, &exec.machine, CheckPlace::Inside)?,
            Probe::Http(http) => places(release, &http.at.machine, CheckPlace::Outside)?,
            Probe::Tcp(at) => places(release, &at.machine, CheckPlace::Outside)?,
        };
        jobs.extend(places.into_iter().map(|place| Job { name, check, place }));
    }
    Ok(jobs)
}

fn places(
    release: &Release,
    machine: &MachineName,
    of: fn(InstanceName) -> CheckPlace,
) -> Result<Vec<CheckPlace>, NameError> {
    let count = release.content.machines.get(machine).map_or(0, |machine| machine.instances);
    (1..=count).map(|number| InstanceName::of(machine, number).map(of)).collect()
}

/// Ports of one machine that are published or that a check needs.
fn guest_ports(release: &Release, wanted: &BTreeSet<MachinePort>, machine: &MachineName) -> BTreeSet<u16> {
    let published = release.content.machines.get(machine).into_iter().flat_map(|machine| &machine.publish);
    let checked = wanted.iter().filter(|at| at.machine == *machine).map(|at| at.port);
    published.map(|publish| publish.guest_port).chain(checked).collect()
}

/// How many ports of the host a test needs.
pub(super) fn port_count(release: &Release, wanted: &BTreeSet<MachinePort>) -> usize {
    release.content.machines.keys().map(|machine| guest_ports(release, wanted, machine).len()).sum()
}

/// The release with its ports at 127.0.0.1 and `free` ports, and with those that checks need besides. Everything else of
/// it, images above all, is what it was.
pub(super) fn moved(release: &Release, wanted: &BTreeSet<MachinePort>, free: &[u16]) -> Release {
    let mut moved = release.clone();
    // A test is of the whole set.
    moved.content.upgrade.failed_instance = plumb_model::release::FailedInstance::Undo;
    let mut free = free.iter().copied();
    for (name, machine) in &mut moved.content.machines {
        let ports = guest_ports(release, wanted, name).into_iter().zip(free.by_ref());
        machine.publish = ports
            .map(|(guest_port, host_port)| Publish { address: Ipv4Addr::LOCALHOST, host_port, guest_port })
            .collect();
    }
    moved
}

/// `PLUMB_WEB_80=127.0.0.1:40001` for every port: it leads to the machine's instances in turn.
pub(super) fn environment(moved: &Release) -> BTreeMap<String, String> {
    let ports = moved.content.machines.iter().flat_map(|(name, machine)| {
        machine.publish.iter().map(|publish| {
            let address = format!("{}:{}", publish.address, publish.host_port);
            (variable(name.as_str(), publish.guest_port), address)
        })
    });
    ports.collect()
}

/// Ports of single instances. No machine is called like an instance, so the names of their variables differ.
pub(super) fn instance_ports(moved: &Release) -> Result<Vec<(InstanceName, u16)>, NameError> {
    let mut ports = Vec::new();
    for (name, machine) in &moved.content.machines {
        for number in 1..=machine.instances {
            let instance = InstanceName::of(name, number)?;
            ports.extend(machine.publish.iter().map(|publish| (instance.clone(), publish.guest_port)));
        }
    }
    Ok(ports)
}

/// `PLUMB_WEB_1_80`.
pub(super) fn variable(name: &str, port: u16) -> String {
    format!("PLUMB_{}_{port}", name.to_ascii_uppercase().replace('-', "_"))
}

/// A check that was not tried.
pub(super) fn skipped(job: &Job<'_>, reason: &str, now_ms: u64) -> CheckResult {
    CheckResult {
        check: job.name.clone(),
        place: job.place.clone(),
        verdict: Verdict::Skipped { reason: reason.to_owned() },
        tries: 0,
        started_ms: now_ms,
        duration_ms: 0,
        output: String::new(),
        left_out_bytes: 0,
    }
}

/// The first check of every instance.
pub(super) fn readiness(
    instance: &InstanceName,
    observed: Option<&ObservedInstance>,
    failure: Option<&OpsError>,
    now_ms: u64,
) -> CheckResult {
    let (verdict, output) = match failure {
        Some(OpsError::NotReady { instance: failed, reason, console }) if failed == instance => {
            (Verdict::Failed { reason: reason.clone() }, console.join("\n"))
        }
        _ if observed.is_some_and(ObservedInstance::is_ready) => (Verdict::Passed, String::new()),
        // The set became ready, and this instance is not any more.
        None => (Verdict::Failed { reason: "it is not ready any more".to_owned() }, String::new()),
        Some(_) if observed.is_some() => {
            (Verdict::Skipped { reason: "it was not waited for".to_owned() }, String::new())
        }
        Some(_) => (Verdict::Skipped { reason: "it was not started".to_owned() }, String::new()),
    };
    let started_ms = observed.map_or(now_ms, |observed| observed.started_unix_ms);
    let took_ms = observed.and_then(|observed| observed.timings().ready_ms);
    CheckResult {
        check: ready(),
        place: CheckPlace::Inside(instance.clone()),
        tries: u32::from(!matches!(verdict, Verdict::Skipped { .. })),
        verdict,
        started_ms,
        duration_ms: took_ms.unwrap_or(now_ms.saturating_sub(started_ms)),
        output,
        left_out_bytes: 0,
    }
}

fn ready() -> CheckName {
    "ready".parse().expect("`ready` keeps the rules of a name")
}

#[cfg(test)]
mod tests {
    use plumb_model::check::{ExecProbe, RunProbe};
    use plumb_model::release::{Content, ReleaseMachine};
    use plumb_model::{Digest, Document as _};

    use super::*;

    fn machine(instances: u32, publish: &[(u16, u16)]) -> ReleaseMachine {
        let publish = publish
            .iter()
            .map(|(host_port, guest_port)| Publish {
                address: Ipv4Addr::UNSPECIFIED,
                host_port: *host_port,
                guest_port: *guest_port,
            })
            .collect();
        ReleaseMachine {
            image: Digest::of(b""),
            instances,
            memory_mib: 80,
            cpus: 1,
            needs: Vec::new(),
            publish,
            volumes: BTreeMap::new(),
            ready_timeout_ms: 1,
            rolling: plumb_model::release::Rolling::default(),
            watch: plumb_model::release::Watch::default(),
            tasks: std::collections::BTreeMap::new(),
            config: std::collections::BTreeSet::new(),
        }
    }

    fn shop() -> (Release, Checks) {
        let web = ("web".parse().expect("name"), machine(2, &[(8080, 80), (8081, 80), (8443, 443)]));
        let db = ("db".parse().expect("name"), machine(1, &[]));
        let content = Content {
            fence: 0,
            config: std::collections::BTreeMap::new(),
            machines: [web, db].into(),
            snapshots: plumb_model::release::SnapshotPolicy::default(),
            upgrade: plumb_model::release::UpgradePolicy::default(),
        };
        let release = Release {
            format: Release::FORMAT,
            app: "shop".parse().expect("name"),
            number: 1,
            previous: None,
            created_s: 0,
            note: String::new(),
            definition: Digest::of(b""),
            lock: Digest::of(b""),
            content,
            checks: None,
        };
        let at = |machine: &str, port| MachinePort { machine: machine.parse().expect("name"), port };
        let probes = [
            ("a", Probe::Tcp(at("web", 80))),
            ("b", Probe::Run(RunProbe { command: "x".into(), files: vec![], ports: vec![at("db", 5432)] })),
            (
                "c",
                Probe::Exec(ExecProbe {
                    command: "x".into(),
                    machine: "db".parse().expect("name"),
                    user: None,
                }),
            ),
        ];
        let checks = probes
            .map(|(name, probe)| (name.parse().expect("name"), Check { probe, timeout_ms: 1, retry: 0 }));
        (release, Checks { format: 1, checks: checks.into(), files: BTreeMap::new() })
    }

    #[test]
    fn every_check_at_every_place() {
        let (release, checks) = shop();
        let said = |only: &[CheckName]| -> Vec<String> {
            let jobs = jobs(&release, &checks, only).expect("names");
            jobs.iter().map(|job| format!("{} {}", job.name, job.place)).collect()
        };
        assert_eq!(said(&[]), ["a web-1", "a web-2", "b host", "c inside db-1"]);
        assert_eq!(said(&["c".parse().expect("name")]), ["c inside db-1"]);
        let named: Vec<&str> = machines(&checks).map(MachineName::as_str).collect();
        assert_eq!(named, ["web", "db", "db"]);
    }

    #[test]
    fn ports_are_moved_and_the_rest_stays() {
        let (release, checks) = shop();
        let wanted = ports(&checks);
        assert_eq!(port_count(&release, &wanted), 3);
        let moved = moved(&release, &wanted, &[1001, 1002, 1003]);
        let environment = environment(&moved);
        let said: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            said,
            ["PLUMB_DB_5432=127.0.0.1:1001", "PLUMB_WEB_443=127.0.0.1:1003", "PLUMB_WEB_80=127.0.0.1:1002"]
        );
        let singles = instance_ports(&moved).expect("names");
        let singles: Vec<String> =
            singles.iter().map(|(name, port)| variable(name.as_str(), *port)).collect();
        assert_eq!(
            singles,
            ["PLUMB_DB_1_5432", "PLUMB_WEB_1_80", "PLUMB_WEB_1_443", "PLUMB_WEB_2_80", "PLUMB_WEB_2_443"]
        );
        let mut without = moved.clone();
        for (name, machine) in &mut without.content.machines {
            machine.publish.clone_from(&release.content.machines[name].publish);
        }
        assert_eq!(without, release);
    }

    #[test]
    fn names_of_tests_are_names() {
        for app in ["shop", &"a".repeat(40), &format!("{}-b", "a".repeat(31))] {
            let name = deployment(&app.parse().expect("name"), 50).expect("a name");
            assert!(name.as_str().ends_with("-test-50") && !name.as_str().contains("--"), "{name}");
        }
    }

    #[test]
    fn readiness_of_what_did_not_start() {
        let web: InstanceName = "web-1".parse().expect("name");
        let db: InstanceName = "db-1".parse().expect("name");
        let failure = OpsError::NotReady {
            instance: db.clone(),
            reason: "why".into(),
            console: vec!["a".into(), "b".into()],
        };
        let failed = readiness(&db, None, Some(&failure), 5);
        assert_eq!(failed.verdict, Verdict::Failed { reason: "why".into() });
        assert_eq!((failed.output.as_str(), failed.tries), ("a\nb", 1));
        let skipped = readiness(&web, None, Some(&failure), 5);
        assert_eq!(skipped.verdict, Verdict::Skipped { reason: "it was not started".into() });
        assert_eq!(skipped.tries, 0);
        assert!(matches!(readiness(&web, None, None, 5).verdict, Verdict::Failed { .. }));
    }
}
