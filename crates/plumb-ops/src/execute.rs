//! Does what a plan says, step by step. No choices here: a step is done or has failed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use plumb_guest_proto::{Event, InstanceSpec, ServiceState, task_check};
use plumb_model::{InstanceName, MachineName, TaskName, VolumeName};
use plumb_plan::{Action, BootSpec, Hands, Plan, Published};
use plumb_state::{Running, StepStatus};
use plumb_target::{
    Checked, ImagePaths, ObservedInstance, Publication, Readiness, StartInstance, Target as _, TargetError,
    VolumeDisk,
};

use crate::config::Opened;
use crate::deploy::Locked;
use crate::error::OpsError;
use crate::progress::{InstanceStep, Progress};
use crate::{Plumb, clock};

/// How long a guest may take to shut down in order. A database writes its last checkpoint in this time, under software
/// emulation too.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(90);

/// How often instances that settle are looked at.
const SETTLE_LOOK: Duration = Duration::from_millis(200);

/// How long the answer of a task may take after its own limit: the guest ends it, and says so.
const TASK_MARGIN: Duration = Duration::from_secs(30);

/// Lines of the console of an instance that did not stay ready.
const CONSOLE_LINES: usize = 20;

/// Executes plans.
pub(crate) struct Executor<'e, 'p> {
    pub(crate) plumb: &'e Plumb<'p>,
    pub(crate) locked: &'e mut Locked,
    /// Those of every start of the plan.
    pub(crate) secrets: Opened,
    /// Of the plan.
    pub(crate) generation: u64,
}

impl Hands for Executor<'_, '_> {
    type Error = OpsError;

    fn act(&mut self, action: &Action) -> Result<(), OpsError> {
        self.go_on().and_then(|()| self.step(action))
    }

    fn record(&mut self, plan: &Plan, seq: usize, is_done: bool) -> Result<(), OpsError> {
        let status = if is_done { StepStatus::Done } else { StepStatus::Failed };
        Ok(self.locked.state.record_step(plan, seq, status, clock::now_ms())?)
    }

    fn is_of_instance(&self, error: &OpsError) -> bool {
        matches!(
            error,
            OpsError::NotReady { .. }
                | OpsError::Target(
                    TargetError::QemuStart { .. }
                        | TargetError::QemuSilent { .. }
                        | TargetError::NoInstance { .. }
                )
        )
    }
}

impl Executor<'_, '_> {
    fn go_on(&self) -> Result<(), OpsError> {
        if self.locked.cancel.is_set() { Err(OpsError::Interrupted) } else { Ok(()) }
    }

    fn step(&mut self, action: &Action) -> Result<(), OpsError> {
        match action {
            Action::Network => {
                self.locked.target.clean()?;
                self.locked.target.ensure_keeper()?;
            }
            Action::Volume { instance, volume, size_bytes } => self.volume(instance, volume, *size_bytes)?,
            Action::Snapshot { .. } => {
                self.plumb.store.leave();
                self.plumb.copy(self.locked, self.generation, action)?;
            }
            Action::Restore { snapshot, volumes } => {
                self.plumb.store.leave();
                self.plumb.put_back(self.locked, snapshot, volumes)?;
            }
            Action::Prune { snapshots } => {
                for snapshot in snapshots {
                    self.locked.target.remove_snapshot(snapshot.as_str())?;
                }
            }
            Action::Ports { published } => self.ports(published)?,
            Action::Stop { instance } => {
                self.tell(instance, InstanceStep::Stopping);
                self.plumb.store.leave();
                self.locked.target.stop_instance(instance.as_str(), STOP_GRACE)?;
            }
            Action::Start { boot, spec, .. } => self.start(boot, spec)?,
            Action::AwaitReady { instance, timeout_ms, .. } => self.await_ready(instance, *timeout_ms)?,
            Action::Task { instance, task, timeout_ms } => {
                self.task(instance, task, Duration::from_millis(*timeout_ms))?;
            }
            Action::Settle { instances, for_ms, .. } => {
                self.settle(instances, Duration::from_millis(*for_ms))?
            }
            Action::Remove { instance } => {
                self.locked.target.remove_instance(instance.as_str())?;
                self.tell(instance, InstanceStep::Removed);
            }
            Action::Commit { number, config, side, other } => {
                let running = Running { number: *number, config: *config, side: *side, other: *other };
                self.locked.state.set_running(&self.locked.name, running, clock::now_ms())?;
            }
            Action::Teardown => {
                self.locked.target.teardown(STOP_GRACE)?;
                self.locked.state.set_down(&self.locked.name)?;
            }
        }
        Ok(())
    }

    fn tell(&self, instance: &InstanceName, step: InstanceStep) {
        self.plumb.report(Progress::Instance { instance: instance.clone(), step });
    }

    fn volume(&self, instance: &InstanceName, volume: &VolumeName, size_bytes: u64) -> Result<(), OpsError> {
        let name = volume_file(instance, volume);
        let found = self.locked.target.create_volume(&name, size_bytes)?;
        if found.size_bytes < size_bytes {
            self.locked.target.grow_volume(&name, size_bytes)?;
        }
        Ok(())
    }

    fn ports(&self, published: &BTreeMap<MachineName, Published>) -> Result<(), OpsError> {
        let publications: Vec<Publication> = published
            .values()
            .flat_map(|machine| {
                machine.ports.iter().map(|port| Publication {
                    address: port.address.into(),
                    host_port: port.host_port,
                    guest_port: port.guest_port,
                    instances: machine.instances.iter().map(ToString::to_string).collect(),
                })
            })
            .collect();
        Ok(self.locked.target.set_published(&publications)?)
    }

    fn start(&self, boot: &BootSpec, spec: &InstanceSpec) -> Result<(), OpsError> {
        self.tell(&boot.instance, InstanceStep::Starting);
        let image = self.plumb.image(&boot.image)?;
        let path = |digest| self.plumb.store.ready(digest);
        let known = self.locked.target.volumes()?;
        let mut volumes = Vec::new();
        for attachment in &spec.volumes {
            let (volume, serial) = boot
                .volumes
                .iter()
                .find(|(name, _)| name.as_str() == attachment.name)
                .ok_or_else(|| self.no_volume(boot, &attachment.name))?;
            let file = volume_file(&boot.instance, volume);
            let found = known.iter().find(|known| known.name == file);
            let found = found.ok_or_else(|| self.no_volume(boot, &attachment.name))?;
            volumes.push(VolumeDisk { serial: serial.clone(), path: found.path.clone() });
        }
        let start = StartInstance {
            deployment: self.locked.name.to_string(),
            instance: boot.instance.to_string(),
            machine: boot.machine.to_string(),
            generation: boot.generation,
            release: boot.release.to_string(),
            label: boot.boot.to_string(),
            image: Some(ImagePaths {
                digest: boot.image.to_string(),
                kernel: path(&image.kernel.digest)?,
                initrd: path(&image.initrd.digest)?,
                root: path(&image.root.digest)?,
                cmdline: image.cmdline,
            }),
            memory_mib: u64::from(boot.memory_mib),
            cpus: boot.cpus,
            spec: spec.clone(),
            volumes,
            publish: boot.guest_ports.clone(),
        };
        self.locked.target.start_with(&start, &self.secrets.of(boot))?;
        Ok(())
    }

    fn no_volume(&self, boot: &BootSpec, volume: &str) -> OpsError {
        OpsError::NoVolume { instance: boot.instance.clone(), volume: volume.to_owned() }
    }

    fn await_ready(&self, instance: &InstanceName, timeout_ms: u64) -> Result<(), OpsError> {
        self.tell(instance, InstanceStep::Awaiting);
        // Minutes, maybe; what this deployment needs is reached by its plan.
        self.plumb.store.leave();
        let mut trouble = None;
        let mut news = |progress: &plumb_target::Progress| {
            if let plumb_target::Progress::Event(entry) = progress {
                trouble = trouble_of(&entry.event).or(trouble.take());
                self.guest_event(instance, &entry.event);
            }
            if self.locked.cancel.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let limit = Duration::from_millis(timeout_ms);
        match self.locked.target.wait_ready(instance.as_str(), limit, &mut news)? {
            Readiness::Ready => {
                self.tell(instance, InstanceStep::Ready);
                let seen = self.locked.target.observe().unwrap_or_default();
                self.plumb.remember_measured(self.locked.name.as_str(), &seen);
                Ok(())
            }
            Readiness::NotReady { reason, console } => {
                self.tell(instance, InstanceStep::Failed);
                // The last thing that went wrong inside says more than that it took too long.
                let reason = match trouble.filter(|trouble| !reason.contains(trouble.as_str())) {
                    Some(trouble) => format!("{reason} ({trouble})"),
                    None => reason,
                };
                Err(OpsError::NotReady { instance: instance.clone(), reason, console })
            }
            Readiness::Cancelled => Err(OpsError::Interrupted),
        }
    }

    /// Has the guest carry out a command of its image.
    fn task(&self, instance: &InstanceName, task: &TaskName, limit: Duration) -> Result<(), OpsError> {
        self.tell(instance, InstanceStep::Task(task.clone()));
        // Minutes, maybe; what this deployment needs is reached by its plan.
        self.plumb.store.leave();
        let failed = |reason: String, output: Vec<String>| {
            self.tell(instance, InstanceStep::Failed);
            OpsError::TaskFailed { instance: instance.clone(), task: task.clone(), reason, output }
        };
        let goes_on = || !self.locked.cancel.is_set();
        let name = task_check(task.as_str());
        match self.locked.target.check(instance.as_str(), &name, limit + TASK_MARGIN, &goes_on)? {
            Checked::Answered(answer) => match answer.failure {
                None => Ok(()),
                Some(reason) => Err(failed(reason, last_lines(&answer.output))),
            },
            Checked::Lost => Err(failed("the guest went away meanwhile".to_owned(), Vec::new())),
            Checked::Silent => Err(failed("the guest did not answer in time".to_owned(), Vec::new())),
            Checked::Cancelled => Err(OpsError::Interrupted),
        }
    }

    /// Looks whether instances stay ready, and none of their services is started again.
    fn settle(&self, instances: &[InstanceName], time: Duration) -> Result<(), OpsError> {
        for instance in instances {
            self.tell(instance, InstanceStep::Settling);
        }
        // Minutes, maybe; what this deployment needs is reached by its plan.
        self.plumb.store.leave();
        let end = Instant::now() + time;
        let mut before: BTreeMap<&InstanceName, u64> = BTreeMap::new();
        loop {
            let seen = self.locked.target.observe()?;
            for instance in instances {
                let found = seen.iter().find(|seen| seen.name == instance.as_str());
                let restarts = found.map_or(0, restarts);
                let first = *before.entry(instance).or_insert(restarts);
                let reason = match found {
                    Some(found) if !found.is_ready() => "it was ready, and is no longer",
                    Some(_) if restarts > first => "it was ready, and a service had to be started again",
                    Some(_) => continue,
                    None => "it was ready, and is gone",
                };
                self.tell(instance, InstanceStep::Failed);
                let console =
                    self.locked.target.console_tail(instance.as_str(), CONSOLE_LINES).unwrap_or_default();
                return Err(OpsError::NotReady {
                    instance: instance.clone(),
                    reason: reason.to_owned(),
                    console,
                });
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                instances.iter().for_each(|instance| self.tell(instance, InstanceStep::Settled));
                return Ok(());
            }
            self.go_on()?;
            #[expect(
                clippy::disallowed_methods,
                reason = "whether something stays as it is shows in time only"
            )]
            std::thread::sleep(left.min(SETTLE_LOOK));
        }
    }

    fn guest_event(&self, instance: &InstanceName, event: &Event) {
        self.plumb.report(Progress::Guest { instance: instance.clone(), event: event.clone() });
    }
}

/// How often services of an instance were started again.
pub(crate) fn restarts(seen: &ObservedInstance) -> u64 {
    let status = seen.guest.as_ref().and_then(|guest| guest.status.as_ref());
    status.into_iter().flat_map(|status| &status.services).map(|service| u64::from(service.restarts)).sum()
}

/// The last lines of what a task wrote.
fn last_lines(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().collect();
    let skipped = lines.len().saturating_sub(CONSOLE_LINES);
    lines[skipped..].iter().map(|line| (*line).to_owned()).collect()
}

/// Why a service did not stay up, if that is what happened.
fn trouble_of(event: &Event) -> Option<String> {
    match event {
        Event::Service {
            state: ServiceState::Backoff { reason, .. } | ServiceState::Failed { reason },
            ..
        } => Some(reason.clone()),
        _ => None,
    }
}

/// The target's name of a volume. Neither part can hold two dashes in a row at the seam, as names do not end in one.
pub(crate) fn volume_file(instance: &InstanceName, volume: &VolumeName) -> String {
    format!("{instance}--{volume}")
}
