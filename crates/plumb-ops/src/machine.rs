//! What one machine runs: from the definition's services and the packages' units to the guest's [`MachineSpec`].

use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::{
    FORMAT, Init, MAX_HOOK_MS, MachineSpec, Ready, ServiceKind, ServiceSpec, VolumeMount, Writable,
    task_check,
};
use plumb_image::assemble::Assembled;
use plumb_image::closure;
use plumb_image::rule::account::Accounts;
use plumb_image::tree::{Objects, Tree};
use plumb_image::unit::{self, ServiceInput, Severity, Sibling, TreeUnits, UnitError};
use plumb_model::check::{ExecProbe, Probe};
use plumb_model::definition::{Definition, Machine, Service, TaskCommand, VolumeSnapshot};
use plumb_model::{AppName, MachineName, ServiceName};
use serde::Serialize;

use crate::error::OpsError;
use crate::systemd;

/// Time for everything but the services' own readiness: firmware, kernel, volumes, commands before the start. Several
/// times what it takes under software emulation on a busy host.
const READY_MARGIN_MS: u64 = 60_000;

/// The spec of one machine and what its owner should know about it.
pub(crate) struct Specified {
    pub(crate) spec: MachineSpec,
    pub(crate) notices: Vec<String>,
    /// What systemd needs, where it is PID 1.
    pub(crate) systemd: Option<systemd::Services>,
}

/// Translates the services of a machine.
pub(crate) fn specify(
    (app, name): (&AppName, &MachineName),
    machine: &Machine,
    errands: &Errands,
    assembled: &Assembled,
    objects: &dyn Objects,
) -> Result<Specified, OpsError> {
    let resolve = |program: &str| unit::find_program(&assembled.tree, program);
    let checks = checks(name, errands, assembled, &resolve)?;
    if !machine.init.is_plumb() {
        let services = systemd::services(name, machine, assembled, objects)?;
        let spec = MachineSpec {
            init: services.init.clone(),
            checks,
            ..bare((app, name), volumes(name, machine, &assembled.accounts, &resolve)?, assembled)
        };
        let notices = services.notices.clone();
        return Ok(Specified { spec, notices, systemd: Some(services) });
    }
    let mut specified = specify_with((app, name), machine, assembled, objects, &resolve)?;
    specified.spec.checks = checks;
    Ok(specified)
}

/// A command that runs when the host says so, and at no other time.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Errand {
    exec: String,
    /// `None` is root.
    pub(crate) user: Option<String>,
    timeout_ms: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) environment: BTreeMap<String, String>,
    /// Variables that are filled in at boot.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<String>,
}

/// The checks and tasks that run in a machine, by name.
pub(crate) type Errands = BTreeMap<String, Errand>;

/// Those of `definition` for `machine`.
pub(crate) fn errands(definition: &Definition, machine: &MachineName) -> Errands {
    let checks = definition.checks.iter().filter_map(|(name, check)| match &check.probe {
        Probe::Exec(ExecProbe { command, machine: of, user }) if of == machine => {
            let (exec, user, timeout_ms) = (command.clone(), user.clone(), check.timeout_ms);
            Some((name.to_string(), Errand { exec, user, timeout_ms, ..Errand::default() }))
        }
        _ => None,
    });
    let tasks = definition.machines.get(machine).into_iter().flat_map(|machine| &machine.tasks);
    let tasks = tasks.map(|(name, task)| {
        let TaskCommand { exec, user, environment, settings, directory, task } = task.clone();
        let timeout_ms = task.timeout_ms;
        (task_check(name.as_str()), Errand { exec, user, timeout_ms, environment, settings, directory })
    });
    checks.chain(tasks).collect()
}

/// Makes commands of the image out of checks: one-shots that nothing starts but the host's question.
pub(crate) fn checks(
    machine: &MachineName,
    errands: &Errands,
    assembled: &Assembled,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<ServiceSpec>, OpsError> {
    let make = |(name, errand): (&String, &Errand)| {
        oneshot(machine, (name.clone(), errand), &assembled.accounts, resolve)
    };
    errands.iter().map(make).collect()
}

fn oneshot(
    machine: &MachineName,
    (name, errand): (String, &Errand),
    accounts: &Accounts,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<ServiceSpec, OpsError> {
    let Errand { exec, user, timeout_ms, environment, directory, .. } = errand.clone();
    let input = ServiceInput {
        exec: Some(exec),
        user,
        environment,
        working_directory: directory,
        ..ServiceInput::new(name, resolve)
    };
    let translated = unit::from_exec(&input, accounts).map_err(|error| untranslated(machine, error))?;
    Ok(ServiceSpec { kind: ServiceKind::Oneshot, start_timeout_ms: timeout_ms, ..translated.spec })
}

/// As [`specify`], with another way to find programs.
pub(crate) fn specify_with(
    (app, name): (&AppName, &MachineName),
    machine: &Machine,
    assembled: &Assembled,
    objects: &dyn Objects,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<Specified, OpsError> {
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| OpsError::Build { machine: name.clone(), source };
    let mut units = Tree { entries: assembled.units.clone() };
    units.close();
    let units = TreeUnits { tree: &units, objects };
    let mut services = Vec::new();
    let mut notices = Vec::new();
    for (service_name, service) in &machine.services {
        let siblings = siblings(service_name, &machine.services);
        let input = input(service_name, service, &siblings, resolve);
        let translated = match (&service.from, &service.exec) {
            (None, Some(_)) => unit::from_exec(&input, &assembled.accounts),
            (from, _) => {
                let unit_name = from.as_deref().unwrap_or(service_name.as_str());
                unit::from_unit(unit_name, &input, &units, &assembled.accounts)
            }
        };
        let translated = translated.map_err(|error| untranslated(name, error))?;
        let told = translated.notes.iter().filter(|note| note.severity != Severity::Info);
        notices.extend(told.map(|note| format!("service `{service_name}`: {}", note.message)));
        let mut spec = translated.spec;
        spec.kill_signal = service.stop_signal.unwrap_or(spec.kill_signal);
        services.push(spec);
    }
    let services = unit::order_services(services).map_err(|error| failed(Box::new(error)))?;
    let volumes = volumes(name, machine, &assembled.accounts, resolve)?;
    let spec = MachineSpec { services, ..bare((app, name), volumes, assembled) };
    Ok(Specified { spec, notices, systemd: None })
}

/// A machine that runs nothing yet.
fn bare(
    (app, name): (&AppName, &MachineName),
    volumes: Vec<VolumeMount>,
    assembled: &Assembled,
) -> MachineSpec {
    MachineSpec {
        format: FORMAT,
        app: app.to_string(),
        machine: name.to_string(),
        directories: assembled.directories.clone(),
        volumes,
        services: Vec::new(),
        writable: Writable::Places,
        init: Init::Plumb,
        checks: Vec::new(),
        config: Vec::new(),
        settings: BTreeMap::new(),
    }
}

/// A program that a known package has is something to add, not a riddle.
pub(crate) fn untranslated(machine: &MachineName, error: UnitError) -> OpsError {
    let package = match &error {
        UnitError::ProgramMissing { program, .. } => closure::suggest(program),
        _ => None,
    };
    match package {
        Some(package) => OpsError::Incomplete {
            machine: machine.clone(),
            missing: vec![error.to_string()],
            packages: vec![package.to_owned()],
        },
        None => OpsError::Build { machine: machine.clone(), source: Box::new(error) },
    }
}

pub(crate) fn siblings(own: &ServiceName, services: &BTreeMap<ServiceName, Service>) -> Vec<Sibling> {
    services
        .iter()
        .filter(|(name, _)| *name != own)
        .map(|(name, service)| Sibling {
            name: name.to_string(),
            unit: match (&service.from, &service.exec) {
                (Some(unit), _) => Some(unit.clone()),
                (None, None) => Some(name.to_string()),
                (None, Some(_)) => None,
            },
        })
        .collect()
}

pub(crate) fn input<'a>(
    name: &ServiceName,
    service: &Service,
    siblings: &'a [Sibling],
    resolve_program: &'a dyn Fn(&str) -> Option<String>,
) -> ServiceInput<'a> {
    ServiceInput {
        name: name.to_string(),
        exec: service.exec.clone(),
        prepare: service.prepare.clone(),
        user: service.user.clone(),
        group: service.group.clone(),
        environment: service.environment.clone(),
        working_directory: service.directory.clone(),
        ready: service.ready.clone(),
        ready_timeout_ms: service.ready_timeout_ms,
        restart: service.restart,
        after: service.after.iter().map(ToString::to_string).collect(),
        siblings,
        resolve_program,
    }
}

fn volumes(
    name: &MachineName,
    machine: &Machine,
    accounts: &Accounts,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<VolumeMount>, OpsError> {
    let mut volumes = Vec::new();
    for (volume_name, volume) in &machine.volumes {
        let owner = volume.owner.as_deref().unwrap_or("root");
        let user = accounts.users.get(owner).ok_or_else(|| OpsError::NoAccount {
            machine: name.clone(),
            what: format!("volume `{volume_name}`"),
            account: owner.to_owned(),
        })?;
        let (mut before, mut after) = (None, None);
        if let VolumeSnapshot::Commands { before: first, after: then, user } = &volume.snapshot {
            let hook = |when: &str, command: &Option<String>| -> Result<Option<Box<ServiceSpec>>, OpsError> {
                let Some(command) = command else { return Ok(None) };
                // A dot is in no name of a check, so that a check and this do not meet.
                let called = format!("{volume_name}.{when}-snapshot");
                let (exec, user) = (command.clone(), user.clone());
                let errand = Errand { exec, user, timeout_ms: MAX_HOOK_MS, ..Errand::default() };
                Ok(Some(Box::new(oneshot(name, (called, &errand), accounts, resolve)?)))
            };
            (before, after) = (hook("before", first)?, hook("after", then)?);
        }
        volumes.push(VolumeMount {
            name: volume_name.to_string(),
            mount: volume.mount.clone(),
            uid: user.uid,
            gid: user.gid,
            mode: 0o755,
            before,
            after,
        });
    }
    Ok(volumes)
}

/// Programs that must be able to run.
pub(crate) fn executed(specified: &Specified) -> BTreeSet<String> {
    let mut programs = match &specified.systemd {
        Some(services) => services.programs.clone(),
        None => commands(&specified.spec.services),
    };
    programs.extend(commands(&specified.spec.checks));
    for hook in specified.spec.volumes.iter().flat_map(|volume| volume.before.iter().chain(&volume.after)) {
        programs.extend(commands(std::slice::from_ref(hook)));
    }
    programs
}

/// The programs of every command whose failure counts.
fn commands(services: &[ServiceSpec]) -> BTreeSet<String> {
    let commands = services.iter().flat_map(|service| {
        let check = match &service.ready {
            Some(Ready::Exec { command }) => Some(command),
            _ => None,
        };
        let lists =
            [&service.prepare, &service.start_pre, &service.start, &service.start_post, &service.stop];
        lists.into_iter().flatten().filter(|command| !command.ignore_failure).chain(check)
    });
    commands.filter_map(|command| command.argv.first().cloned()).collect()
}

/// How long an instance may take from its start until all its services are ready.
pub(crate) fn ready_timeout_ms(spec: &MachineSpec) -> u64 {
    let own = spec.services.iter().map(|service| service.ready_timeout_ms);
    let units = match &spec.init {
        Init::Plumb => &[][..],
        Init::Systemd(units) => units,
    };
    own.chain(units.iter().map(|unit| unit.ready_timeout_ms)).fold(READY_MARGIN_MS, u64::saturating_add)
}
