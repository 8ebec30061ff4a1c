//! `ps`, `logs`, `console`: what is there, from the target itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plumb_guest_proto::ServiceStatus;
use plumb_model::release::Release;
use plumb_model::{DeploymentName, InstanceName, MachineName};
use plumb_plan::lease::Life;
use plumb_plan::{OnFailure, PlanKind, Wanted, boot_spec};
use plumb_state::{DeploymentRecord, PlanRecord, PlanStatus, Serving, State};
use plumb_target::{InstanceState, Local, ObservedInstance, Target as _};
use serde::Serialize;

pub use plumb_target::LogLine;

use crate::deploy::KeptSet;
use crate::error::{OpsError, io};
use crate::watch::given_up;
use crate::{Plumb, clock};

/// How often a followed log is looked at: quick for a person, nothing for a processor.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Lines of the console shown before following it.
const CONSOLE_LINES: usize = 200;

/// State of an instance, or of a deployment, that serves.
pub(crate) const READY: &str = "ready";

/// A deployment as it is.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentView {
    /// Name.
    pub name: DeploymentName,
    /// Application.
    pub app: String,
    /// Current release.
    pub release: Option<String>,
    /// `ready`, `not ready`, `stopped`, `down`; of another host, where nothing can be seen from here, `elsewhere` or `down`.
    pub state: String,
    /// The host that runs it, if that is another than this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whose it is, and until when.
    pub lease: crate::LeaseView,
    /// The configuration that runs.
    pub configuration: Option<u64>,
    /// Another configuration that is set, and not applied.
    pub configuration_wanted: Option<u64>,
    /// What served before, and is kept for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptSet>,
    /// What its owner should know: an interrupted or failed plan.
    pub note: Option<String>,
    /// Instances that who watches has given up: they were started again too often in a row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<InstanceName>,
    /// Its instances.
    pub instances: Vec<InstanceView>,
}

/// An instance as it is.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceView {
    /// Name.
    pub name: String,
    /// Machine.
    pub machine: String,
    /// `ready`, `starting`, `stopped`, `exited`, `missing`.
    pub state: String,
    /// Release it belongs to.
    pub release: String,
    /// Process of the virtual machine.
    pub pid: Option<u32>,
    /// Address on the private network.
    pub address: Option<String>,
    /// Milliseconds since it was started.
    pub uptime_ms: Option<u64>,
    /// It is of the set that served before, and is kept until then: milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_until_ms: Option<u64>,
    /// Memory in use inside, KiB.
    pub memory_used_kib: Option<u64>,
    /// Memory it has, KiB.
    pub memory_total_kib: Option<u64>,
    /// Services.
    pub services: Vec<ServiceStatus>,
    /// Published ports, `host -> guest`.
    pub ports: Vec<String>,
}

/// How to reach a console.
#[derive(Debug, Clone)]
pub struct Console {
    /// The socket.
    pub socket: PathBuf,
    /// What it showed so far.
    pub tail: Vec<String>,
}

impl Plumb<'_> {
    /// What runs; with `all` also what is down.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn ps(&self, only: Option<&DeploymentName>, all: bool) -> Result<Vec<DeploymentView>, OpsError> {
        self.sweep_tests()?;
        if let Some(name) = only {
            self.find_deployment(name)?;
        }
        let state = self.state()?;
        let mut views = Vec::new();
        for record in state.deployments()? {
            if only.is_some_and(|name| *name != record.name) {
                continue;
            }
            let view = self.view(&state, &record)?;
            if all || only.is_some() || view.state != "down" {
                views.push(view);
            }
        }
        Ok(views)
    }

    fn view(&self, state: &State, record: &DeploymentRecord) -> Result<DeploymentView, OpsError> {
        let life = if record.current.is_some() { Life::Runs } else { Life::Stopped };
        let configured = state.configured(&record.name)?;
        let configuration = configured.current.filter(|_| record.current.is_some());
        let configuration_wanted = configured.wanted.filter(|wanted| Some(*wanted) != configuration);
        if let Some(host) = &record.elsewhere {
            return Ok(DeploymentView {
                name: record.name.clone(),
                app: record.app.to_string(),
                release: record.current.as_ref().map(ToString::to_string),
                state: if record.current.is_some() { "elsewhere" } else { "down" }.to_owned(),
                host: Some(host.clone()),
                lease: self.lease_view(state, record, life)?,
                configuration,
                configuration_wanted,
                kept: self.kept_set(state, &record.name, record.current.as_ref())?,
                note: self.note(state, record)?,
                given_up: Vec::new(),
                instances: Vec::new(),
            });
        }
        let target = self.bare_target(&record.name);
        // The keeper may have been killed; what it holds is restored before it is asked.
        target.ensure_keeper()?;
        let seen = target.observe()?;
        self.remember_measured(record.name.as_str(), &seen);
        let release = record.current.as_ref().map(|name| self.read_release(name)).transpose()?;
        let addresses = state.addresses(&record.name)?;
        let serving = state.serving(&record.name)?;
        let mut instances: BTreeMap<String, InstanceView> = BTreeMap::new();
        for instance in &seen {
            let mut view = instance_view(instance);
            let address = instance.name.parse().ok().and_then(|name: InstanceName| addresses.get(&name));
            view.address = address.map(ToString::to_string);
            instances.insert(instance.name.clone(), view);
        }
        if let Some(release) = &release {
            let told = self.configuration(state, &record.name, configuration)?;
            let told = self.fit(&record.name, release, told.as_ref()).unwrap_or_default();
            let data = plumb_plan::DataWish::default();
            let (kind, side, addresses) = (PlanKind::Up, serving.side, &addresses);
            let wanted = Wanted { release, kind, side, addresses, settings: &told, data, former: None };
            complete(&wanted, record, &seen, &mut instances)?;
            mark_kept(&wanted, serving, &mut instances)?;
        }
        // The keeper knows better than the release: a test that was kept has other ports.
        if let Some(published) = target.keeper_status().map(|status| status.published) {
            for view in instances.values_mut().filter(|view| view.pid.is_some()) {
                let own = published.iter().map(|port| &port.publication);
                let own = own.filter(|port| port.instances.contains(&view.name));
                view.ports = own.map(|port| format!("{}->{}", port.host_port, port.guest_port)).collect();
            }
        }
        let instances: Vec<InstanceView> = instances.into_values().collect();
        let overall = overall(&instances);
        let given_up = left_alone(state, record, &instances)?;
        Ok(DeploymentView {
            name: record.name.clone(),
            app: record.app.to_string(),
            release: release.map(|release| release.name().to_string()),
            state: overall.to_owned(),
            host: None,
            lease: self.lease_view(state, record, life)?,
            configuration,
            configuration_wanted,
            kept: self.kept_set(state, &record.name, record.current.as_ref())?,
            note: self.note(state, record)?,
            given_up,
            instances,
        })
    }

    /// A plan that nobody executes any more, or that failed.
    fn note(&self, state: &State, record: &DeploymentRecord) -> Result<Option<String>, OpsError> {
        let Some(last) = state.last_plan(&record.name)? else { return Ok(None) };
        let to = last.plan.to.as_ref().map_or_else(|| "down".to_owned(), |release| format!("`{release}`"));
        Ok(match last.status {
            PlanStatus::Running if record.elsewhere.is_some() => Some(format!(
                "on the way to {to}: {} of {} steps are done; {} knows more",
                last.steps_done,
                last.plan.actions.len(),
                record.elsewhere.as_deref().unwrap_or_default()
            )),
            PlanStatus::Running => match self.store.lock(&format!("deployment-{}", record.name)) {
                Ok(_guard) => Some(format!(
                    "the way to {to} was interrupted after step {} of {}; the same command again completes it",
                    last.steps_done,
                    last.plan.actions.len()
                )),
                Err(_) => Some(format!(
                    "on the way to {to}: step {} of {}",
                    (last.steps_done + 1).min(last.plan.actions.len() as u64),
                    last.plan.actions.len()
                )),
            },
            PlanStatus::Failed if stopped(&last) && last.plan.to != record.current => Some(format!(
                "the way to {to} stopped: {}; `plumb upgrade {name}` goes on, `plumb rollback {name}` goes back",
                last.reason.unwrap_or_else(|| "unknown".to_owned()),
                name = record.name,
            )),
            PlanStatus::Failed => Some(format!(
                "the way to {to} failed: {}",
                last.reason.unwrap_or_else(|| "unknown".to_owned())
            )),
            PlanStatus::Done | PlanStatus::Superseded => None,
        })
    }

    /// Which deployment and instance a text such as `web-1` or `shop/web-1` means.
    fn find_instance(&self, text: &str) -> Result<(DeploymentName, Local, String), OpsError> {
        let (deployment, instance) = match text.split_once('/') {
            Some((deployment, instance)) => (Some(deployment), instance),
            None => (None, text),
        };
        let mut known = Vec::new();
        let mut found = Vec::new();
        let state = self.state()?;
        let tests = state.tests()?;
        for record in state.deployments()? {
            // A test that goes on beside a deployment does not make the name of its instance ambiguous.
            if deployment.is_none() && tests.contains(&record.name) {
                continue;
            }
            // What runs on another host can only be seen there.
            match &record.elsewhere {
                Some(host) if deployment == Some(record.name.as_str()) => {
                    let (deployment, host) = (record.name, host.clone());
                    return Err(plumb_state::StateError::OtherHost { deployment, host }.into());
                }
                Some(_) => continue,
                None => {}
            }
            let target = self.bare_target(&record.name);
            for seen in target.observe()? {
                let full = format!("{}/{}", record.name, seen.name);
                if seen.name == instance && deployment.is_none_or(|name| record.name.as_str() == name) {
                    found.push((record.name.clone(), target.clone(), seen.name.clone()));
                }
                known.push(full);
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(OpsError::NoInstance { instance: text.to_owned(), known }),
            _ => {
                let known =
                    found.iter().map(|(deployment, _, name)| format!("{deployment}/{name}")).collect();
                Err(OpsError::Ambiguous { instance: text.to_owned(), known })
            }
        }
    }

    /// Where the console of an instance is.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn console(&self, instance: &str) -> Result<Console, OpsError> {
        let (_, target, name) = self.find_instance(instance)?;
        Ok(Console {
            socket: target.console_socket(&name)?,
            tail: target.console_tail(&name, CONSOLE_LINES)?,
        })
    }

    /// Hands the last `lines` log lines of an instance to `print` (0: all), and with `follow` everything that comes,
    /// until `print` says no.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn logs(
        &self,
        instance: &str,
        lines: usize,
        follow: bool,
        print: &mut dyn FnMut(&LogLine) -> bool,
    ) -> Result<(), OpsError> {
        let (_, target, name) = self.find_instance(instance)?;
        target.ensure_keeper()?;
        let path = target.log_path(&name)?;
        let mut rotated = path.clone().into_os_string();
        rotated.push(".1");
        let mut all = read_lines(Path::new(&rotated), 0)?.0;
        let (newest, mut position) = read_lines(&path, 0)?;
        all.extend(newest);
        let skip = if lines == 0 { 0 } else { all.len().saturating_sub(lines) };
        for line in &all[skip..] {
            if !print(line) {
                return Ok(());
            }
        }
        if !follow {
            return Ok(());
        }
        loop {
            #[expect(
                clippy::disallowed_methods,
                reason = "a file that grows gives nothing to wait on but time"
            )]
            std::thread::sleep(FOLLOW_INTERVAL);
            let length = fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or(0);
            if length < position {
                position = 0;
            }
            let (fresh, end) = read_lines(&path, position)?;
            position = end;
            for line in &fresh {
                if !print(line) {
                    return Ok(());
                }
            }
        }
    }
}

/// Whole lines from `start` on, and where the next one will begin. A missing file has none.
fn read_lines(path: &Path, start: u64) -> Result<(Vec<LogLine>, u64), OpsError> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(source) => return Err(OpsError::Io { action: "read", path: path.to_owned(), source }),
    };
    file.seek(SeekFrom::Start(start)).map_err(io("read", path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io("read", path))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    // A line that was cut by a crash of the keeper is no line.
    let lines =
        bytes[..whole].split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    Ok((lines.collect(), start + whole as u64))
}

fn instance_view(instance: &ObservedInstance) -> InstanceView {
    let status = instance.guest.as_ref().and_then(|guest| guest.status.clone());
    let running = instance.state == InstanceState::Running;
    let state = match instance.state {
        InstanceState::Running if instance.is_ready() => READY,
        InstanceState::Running => "not ready",
        InstanceState::Exited => "exited",
        InstanceState::Stale => "stopped (host restarted)",
    };
    let live = status.filter(|_| running);
    InstanceView {
        name: instance.name.clone(),
        machine: instance.machine.clone(),
        state: state.to_owned(),
        release: instance.release.clone(),
        pid: instance.pid,
        address: None,
        kept_until_ms: None,
        uptime_ms: running.then(|| clock::now_ms().saturating_sub(instance.started_unix_ms)),
        memory_used_kib: live
            .as_ref()
            .map(|status| status.memory_total_kib.saturating_sub(status.memory_available_kib)),
        memory_total_kib: live.as_ref().map(|status| status.memory_total_kib),
        services: live.map(|status| status.services).unwrap_or_default(),
        ports: Vec::new(),
    }
}

/// Adds what the release says: instances that should be there, ports, and that an instance which was not touched by an
/// upgrade belongs to the new release because it would be started in exactly the same way.
fn complete(
    wanted: &Wanted<'_>,
    record: &DeploymentRecord,
    seen: &[ObservedInstance],
    instances: &mut BTreeMap<String, InstanceView>,
) -> Result<(), OpsError> {
    let release = wanted.release;
    for (machine, name) in plumb_plan::instances(release, wanted.side)? {
        let entry = &release.content.machines[&machine];
        let view = instances.entry(name.to_string()).or_insert_with(|| missing(&name, &machine, release));
        view.ports =
            entry.publish.iter().map(|port| format!("{}->{}", port.host_port, port.guest_port)).collect();
        let Some(observed) = seen.iter().find(|observed| observed.name == name.as_str()) else {
            continue;
        };
        let boot = boot_spec(&record.name, (&machine, &name), wanted, 0);
        if boot.is_ok_and(|(boot, _)| boot.boot.to_string() == observed.label) {
            view.release = release.name().to_string();
        }
    }
    Ok(())
}

/// Those that ran before and are kept for a time.
fn mark_kept(
    wanted: &Wanted<'_>,
    serving: Serving,
    instances: &mut BTreeMap<String, InstanceView>,
) -> Result<(), OpsError> {
    let Some(kept) = serving.kept else { return Ok(()) };
    let names = plumb_plan::instances(wanted.release, wanted.side)?;
    let names: BTreeSet<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
    for (_, view) in instances.iter_mut().filter(|(name, _)| !names.contains(name.as_str())) {
        view.kept_until_ms = Some(kept.until_ms);
    }
    Ok(())
}

/// Instances that who watches has given up.
fn left_alone(
    state: &State,
    record: &DeploymentRecord,
    instances: &[InstanceView],
) -> Result<Vec<InstanceName>, OpsError> {
    if record.current.is_none() {
        return Ok(Vec::new());
    }
    // One that somebody has started meanwhile is seen to be well before that is in the journal.
    let is_ready =
        |name: &InstanceName| instances.iter().any(|one| one.name == name.as_str() && one.state == READY);
    Ok(given_up(state, &record.name)?.into_keys().filter(|name| !is_ready(name)).collect())
}

/// How a deployment is, by its instances that serve.
fn overall(instances: &[InstanceView]) -> &'static str {
    let mut serving = instances.iter().filter(|view| view.kept_until_ms.is_none()).peekable();
    if serving.peek().is_none() {
        "down"
    } else if serving.clone().all(|view| view.state == READY) {
        READY
    } else if serving.all(|view| view.pid.is_none()) {
        "stopped"
    } else {
        "not ready"
    }
}

fn missing(name: &InstanceName, machine: &MachineName, release: &Release) -> InstanceView {
    InstanceView {
        name: name.to_string(),
        machine: machine.to_string(),
        state: "missing".to_owned(),
        release: release.name().to_string(),
        pid: None,
        address: None,
        uptime_ms: None,
        kept_until_ms: None,
        memory_used_kib: None,
        memory_total_kib: None,
        services: Vec::new(),
        ports: Vec::new(),
    }
}

/// It failed, and everything stays as it was then.
fn stopped(last: &PlanRecord) -> bool {
    let step = usize::try_from(last.steps_done).unwrap_or(usize::MAX);
    last.plan.to.is_some() && last.plan.on_failure(Some(step)) == OnFailure::Stop
}
