//! The two documents of a boot: read with a limit, checked before anything is done with them.

use std::collections::BTreeSet;
use std::path::Path;

use plumb_guest_proto::{
    BuildTask, Command, FORMAT, INSTANCE_SPEC_PATH, Init, InstanceSpec, MACHINE_SPEC_PATH, MachineSpec,
    Ready, ServiceKind, ServiceSpec, UnitSpec,
};
use serde_json::Value;

use crate::error::Error;
use crate::service::{is_known_limit, is_safe_name};
use crate::{file, limit};

/// Reads the [`InstanceSpec`] of this boot from the initramfs.
///
/// # Errors
/// [`Error::File`], [`Error::Document`], [`Error::Format`].
pub fn instance() -> Result<InstanceSpec, Error> {
    let value = read("", INSTANCE_SPEC_PATH)?;
    serde_json::from_value(value).map_err(|source| Error::Document { path: INSTANCE_SPEC_PATH, source })
}

/// Reads the [`MachineSpec`] from the verified root, which is mounted at `root`.
///
/// # Errors
/// [`Error::File`], [`Error::Document`], [`Error::Format`].
pub fn machine(root: &str) -> Result<MachineSpec, Error> {
    let value = read(root, MACHINE_SPEC_PATH)?;
    serde_json::from_value(value).map_err(|source| Error::Document { path: MACHINE_SPEC_PATH, source })
}

/// Reads the [`BuildTask`] of a build VM from its verified root.
///
/// # Errors
/// [`Error::File`], [`Error::Document`], [`Error::Format`].
pub fn task(path: &'static str) -> Result<BuildTask, Error> {
    serde_json::from_value(read("", path)?).map_err(|source| Error::Document { path, source })
}

/// The JSON of a document whose format is ours: the number is looked at first, for the rest may have changed.
fn read(root: &str, path: &'static str) -> Result<Value, Error> {
    let place = format!("{root}{path}");
    let bytes =
        file::read_bounded(Path::new(&place), limit::DOCUMENT_BYTES).map_err(Error::file("read", path))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|source| Error::Document { path, source })?;
    let found = value.get("format").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    if found != FORMAT {
        return Err(Error::Format { path, found, expected: FORMAT });
    }
    Ok(value)
}

/// Checks what the types cannot say.
///
/// # Errors
/// [`Error::WrongMachine`], [`Error::Contradiction`] naming the object.
pub fn check(machine: &MachineSpec, instance: &InstanceSpec) -> Result<(), Error> {
    if machine.machine != instance.machine {
        return Err(Error::WrongMachine {
            image: machine.machine.clone(),
            instance: instance.machine.clone(),
        });
    }
    let wrong = |path, problem| Err(Error::Contradiction { path, problem });
    if !is_safe_name(&instance.instance) {
        return wrong(
            INSTANCE_SPEC_PATH,
            format!("`{}` is not a host name", instance.instance.escape_debug()),
        );
    }
    for volume in &machine.volumes {
        if !volume.mount.starts_with('/') {
            return wrong(
                MACHINE_SPEC_PATH,
                format!("volume `{}` is mounted on `{}`", volume.name, volume.mount),
            );
        }
        for hook in volume.before.iter().chain(&volume.after) {
            let single = || if hook.start.len() == 1 { Ok(()) } else { Err("is not one command".to_owned()) };
            if let Err(problem) = check_service(hook, &BTreeSet::new()).and_then(|()| single()) {
                return wrong(MACHINE_SPEC_PATH, format!("command `{}` {problem}", hook.name.escape_debug()));
            }
        }
        if !instance.volumes.iter().any(|attached| attached.name == volume.name) {
            return wrong(INSTANCE_SPEC_PATH, format!("volume `{}` is not attached", volume.name));
        }
    }
    if let Some(peer) = instance.peers.iter().flat_map(|p| &p.names).find(|name| !is_safe_name(name)) {
        return wrong(INSTANCE_SPEC_PATH, format!("peer name `{}` is not a host name", peer.escape_debug()));
    }
    if let Err(problem) = crate::config::check(machine) {
        return wrong(MACHINE_SPEC_PATH, problem);
    }
    if let Init::Systemd(units) = &machine.init {
        for unit in units {
            if let Err(problem) = check_unit(unit) {
                return wrong(MACHINE_SPEC_PATH, format!("service `{}` {problem}", unit.name.escape_debug()));
            }
        }
    }
    let mut known = BTreeSet::new();
    for service in &machine.services {
        if let Err(problem) = check_service(service, &known) {
            return wrong(MACHINE_SPEC_PATH, format!("service `{}` {problem}", service.name.escape_debug()));
        }
        known.insert(service.name.as_str());
    }
    let mut known = BTreeSet::new();
    for check in &machine.checks {
        let single = || if check.start.len() == 1 { Ok(()) } else { Err("is not one command".to_owned()) };
        if let Err(problem) = check_service(check, &known).and_then(|()| single()) {
            return wrong(MACHINE_SPEC_PATH, format!("check `{}` {problem}", check.name.escape_debug()));
        }
        known.insert(check.name.as_str());
    }
    Ok(())
}

/// What systemd is asked for is a unit, and never an option of the program that asks.
fn check_unit(unit: &UnitSpec) -> Result<(), String> {
    if !is_safe_name(&unit.name) {
        return Err("has a name that cannot be a directory".to_owned());
    }
    if !unit.unit.ends_with(".service") || unit.unit.starts_with('-') {
        return Err(format!("is run by `{}`, which is no service of systemd", unit.unit.escape_debug()));
    }
    check_ready(unit.ready.as_ref())
}

/// A path that a request can hold, or a program that can be found.
fn check_ready(ready: Option<&Ready>) -> Result<(), String> {
    match ready {
        Some(Ready::Http { path, .. })
            if !path.starts_with('/') || path.contains(|c: char| c.is_control() || c == ' ') =>
        {
            Err(format!("has the readiness path `{}`", path.escape_debug()))
        }
        Some(Ready::Exec { command }) => check_command(command),
        _ => Ok(()),
    }
}

fn check_command(command: &Command) -> Result<(), String> {
    match command.argv.first() {
        Some(program) if program.starts_with('/') => Ok(()),
        _ => Err(format!("runs `{}`, which is not an absolute path", command.argv.join(" "))),
    }
}

fn check_service(service: &ServiceSpec, known: &BTreeSet<&str>) -> Result<(), String> {
    if !is_safe_name(&service.name) {
        return Err("has a name that cannot be a directory".to_owned());
    }
    if known.contains(service.name.as_str()) {
        return Err("is there twice".to_owned());
    }
    if let Some(name) = service.after.iter().find(|name| !known.contains(name.as_str())) {
        return Err(format!("comes after `{name}`, which is not before it"));
    }
    if service.kind != ServiceKind::Oneshot && service.start.len() != 1 {
        return Err(format!("has {} start commands instead of one", service.start.len()));
    }
    if let Some(name) = service.limits.keys().find(|name| !is_known_limit(name)) {
        return Err(format!("has an unknown limit `{name}`"));
    }
    if !(1..=64).contains(&service.kill_signal) {
        return Err(format!("has kill signal {}", service.kill_signal));
    }
    let lists = [&service.prepare, &service.start_pre, &service.start, &service.start_post, &service.stop];
    lists.into_iter().flatten().try_for_each(check_command)?;
    check_ready(service.ready.as_ref())
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::VolumeMount;

    use super::*;
    use crate::service::test_spec as spec;

    fn machine(services: Vec<ServiceSpec>) -> MachineSpec {
        MachineSpec {
            format: 1,
            app: "shop".into(),
            machine: "db".into(),
            directories: vec![],
            volumes: vec![],
            services,
            writable: plumb_guest_proto::Writable::Places,
            init: plumb_guest_proto::Init::Plumb,
            checks: vec![],
            config: vec![],
            settings: std::collections::BTreeMap::new(),
        }
    }

    fn instance(machine: &str) -> InstanceSpec {
        InstanceSpec {
            format: 1,
            deployment: "shop".into(),
            instance: "db-1".into(),
            machine: machine.into(),
            release: "shop@1".into(),
            generation: 1,
            interfaces: vec![],
            peers: vec![],
            volumes: vec![],
            idle: false,
            config: std::collections::BTreeMap::new(),
        }
    }

    fn problem(services: Vec<ServiceSpec>) -> String {
        check(&machine(services), &instance("db")).expect_err("refused").to_string()
    }

    #[test]
    fn contradictions_are_named() {
        assert!(check(&machine(vec![spec()]), &instance("db")).is_ok());
        let other = check(&machine(vec![]), &instance("web")).expect_err("refused");
        assert_eq!(other.to_string(), "the image is machine `db`, the instance is of machine `web`");
        assert!(problem(vec![spec(), spec()]).contains("service `a` is there twice"));
        assert!(
            problem(vec![ServiceSpec { name: "../x".into(), ..spec() }]).contains("cannot be a directory")
        );
        assert!(problem(vec![ServiceSpec { after: vec!["b".into()], ..spec() }]).contains("comes after `b`"));
        assert!(problem(vec![ServiceSpec { start: vec![], ..spec() }]).contains("0 start commands"));
        let path = "/ HTTP/1.1\r\nX: y".to_owned();
        assert!(
            problem(vec![ServiceSpec { ready: Some(Ready::Http { port: 1, path }), ..spec() }])
                .contains("path")
        );
        let twice = MachineSpec { checks: vec![spec(), spec()], ..machine(vec![spec()]) };
        let refused = check(&twice, &instance("db")).expect_err("refused").to_string();
        assert!(refused.contains("check `a` is there twice"), "{refused}");
        let mut with_volume = machine(vec![]);
        with_volume.volumes.push(VolumeMount {
            name: "data".into(),
            mount: "/d".into(),
            uid: 0,
            gid: 0,
            mode: 0o755,
            before: None,
            after: None,
        });
        let missing = check(&with_volume, &instance("db")).expect_err("refused");
        assert!(missing.to_string().ends_with("volume `data` is not attached"));
    }
}
