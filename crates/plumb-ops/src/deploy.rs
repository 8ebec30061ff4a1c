//! `up`, `upgrade`, `rollback`, `down`: observe, plan, journal, execute; and go back when a release is not healthy.

mod failure;
mod kept;
mod reverse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_model::config::Settings;
use plumb_model::release::{Release, ReleaseName, ReleaseRef};
use plumb_model::{DeploymentName, InstanceName, SnapshotName};
use plumb_plan::lease::{Excess, Origin};
use plumb_plan::{
    Action, Broken, Explanation, InstanceVolume, Observed, ObservedInstance, Plan, PlanKind, Wanted,
    allocate, carry_out, check, instances, plan_down, plan_up, side_for, start_order, task_instances,
};
use plumb_state::{DeploymentRecord, EventKind, PlanStatus, Serving, State, StateError};
use plumb_store::LockGuard;
use plumb_target::{
    Accelerator, InstanceState, InstanceTimings, Local, LocalPaths, Qemu, Target as _, accelerator,
};
use serde::Serialize;

use self::failure::Failure;
pub use self::failure::Stands;
pub use self::kept::KeptSet;
use self::reverse::Reversible;
use crate::cancel::Cancel;
use crate::config::{ConfigChange, Opened};
use crate::data::{Wish, parse_volume, shown_volume};
use crate::error::OpsError;
use crate::execute::Executor;
use crate::plan::describe;
use crate::progress::Progress;
use crate::project::{DEFINITION, Project};
use crate::{Plumb, clock};

/// What `up` starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A folder with a definition.
    Folder(PathBuf),
    /// A release of the store.
    Release(ReleaseRef),
}

/// What came of `up`, `upgrade` or `rollback`.
#[derive(Debug, Clone, Serialize)]
pub struct UpOutcome {
    /// Deployment.
    pub deployment: DeploymentName,
    /// The release that runs, or would run.
    pub release: ReleaseName,
    /// The configuration that it runs with; `None` if nothing was ever set.
    pub configuration: Option<u64>,
    /// What the plan means.
    pub plan: Explanation,
    /// The plan's steps.
    pub steps: Vec<String>,
    /// Where its ports are.
    pub published: Vec<Endpoint>,
    /// What would be more than its owner may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceeds: Vec<Excess>,
    /// When its lease stops it, milliseconds since 1970; without, never.
    pub stops_ms: Option<u64>,
    /// What served before, and is kept for a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptSet>,
    /// Where the time of each start went.
    #[serde(skip)]
    pub timings: Vec<InstanceTimings>,
}

/// A published port.
#[derive(Debug, Clone, Serialize)]
pub struct Endpoint {
    /// Machine.
    pub machine: String,
    /// `address:port` of the host.
    pub address: String,
}

/// What came of `down`.
#[derive(Debug, Clone, Serialize)]
pub struct DownOutcome {
    /// Deployment.
    pub deployment: DeploymentName,
    /// The plan's steps.
    pub steps: Vec<String>,
    /// Volumes that stay.
    pub kept: Vec<KeptVolume>,
    /// Snapshots that stay.
    pub kept_snapshots: Vec<String>,
}

/// A volume that stays after `down`.
#[derive(Debug, Clone, Serialize)]
pub struct KeptVolume {
    /// Instance.
    pub instance: String,
    /// Volume.
    pub volume: String,
    /// Bytes.
    pub size_bytes: u64,
}

impl Start {
    /// A folder if there is one of this name, else a release.
    ///
    /// # Errors
    /// [`OpsError::NotADefinition`].
    pub fn parse(value: &str) -> Result<Self, OpsError> {
        let path = Path::new(value);
        if path.is_dir() {
            return Ok(Start::Folder(path.to_owned()));
        }
        if path.file_name().is_some_and(|name| name == DEFINITION) && path.is_file() {
            return Ok(Start::Folder(path.parent().unwrap_or(Path::new(".")).to_owned()));
        }
        value.parse().map(Start::Release).map_err(|_| OpsError::NotADefinition { value: value.to_owned() })
    }
}

/// Which configuration a deployment is led to.
#[derive(Debug, Clone)]
pub(crate) enum Which {
    /// The one that is wanted.
    Wanted,
    /// That of this number, or none.
    Exactly(Option<u64>),
    /// The wanted one with a change.
    With(ConfigChange),
}

/// How a deployment is brought up.
#[derive(Debug, Clone, Default)]
pub struct UpOptions {
    /// Its name; that of the application if it has none.
    pub name: Option<DeploymentName>,
    /// A note for a release that is made.
    pub note: String,
    /// What is set before.
    pub set: ConfigChange,
    /// Nothing is done.
    pub dry_run: bool,
}

/// A plan, and what it was made from.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) observed: Observed,
}

/// What becomes of the data in a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataChoice<'a> {
    /// It stays as it is.
    Keep,
    /// The newest snapshot of the wanted release's data takes its place.
    Newest,
    /// This snapshot does.
    Named(&'a SnapshotName),
}

/// Where a deployment is led to.
pub(crate) struct Errand<'a> {
    pub(crate) release: &'a Release,
    pub(crate) which: Which,
    /// What for; `None` follows from what runs.
    pub(crate) kind: Option<PlanKind>,
    /// What is wanted of the data.
    pub(crate) wish: Wish,
    /// How the release was named.
    pub(crate) origin: Origin<'a>,
    pub(crate) dry_run: bool,
}

impl<'a> Errand<'a> {
    pub(crate) fn to(release: &'a Release, which: Which, origin: Origin<'a>, dry_run: bool) -> Self {
        Errand { release, which, kind: None, wish: Wish::default(), origin, dry_run }
    }
}

/// A deployment that nobody else changes meanwhile.
pub(crate) struct Locked {
    pub(crate) name: DeploymentName,
    pub(crate) target: Local,
    pub(crate) state: State,
    /// Ends the execution of a plan between two steps, and a wait.
    pub(crate) cancel: Cancel,
    _guard: LockGuard,
}

impl Plumb<'_> {
    /// Does all that is missing until the application runs.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn up(&self, start: &Start, options: &UpOptions) -> Result<UpOutcome, OpsError> {
        let UpOptions { name, note, set, dry_run } = options;
        let release = match start {
            Start::Folder(folder) => self.make_release(&Project::load(folder)?, note, !*dry_run)?.0,
            Start::Release(name) => self.read_release(&self.named(name)?)?,
        };
        let name = match name {
            Some(name) => name.clone(),
            None => deployment_of(&release)?,
        };
        let origin = match start {
            Start::Folder(_) => Origin::Folder,
            Start::Release(wanted) => origin_of(wanted),
        };
        self.deploy(&name, Errand::to(&release, Which::With(set.clone()), origin, *dry_run))
    }

    /// Replaces what runs by `release`, or by the newest.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn upgrade(
        &self,
        name: &DeploymentName,
        release: Option<&ReleaseRef>,
        dry_run: bool,
    ) -> Result<UpOutcome, OpsError> {
        let record = self.known(name)?;
        let origin = release.map_or(Origin::Release, origin_of);
        let release = match release {
            Some(release) => self.read_release(&self.named(release)?)?,
            None => self.newest_release(&record.app)?,
        };
        self.deploy(name, Errand::to(&release, Which::Wanted, origin, dry_run))
    }

    /// Goes back to `release`, or to the one that ran healthily before the current one; with its data if that is wanted. Where
    /// nothing runs, the release must be said.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn rollback(
        &self,
        name: &DeploymentName,
        (release, data): (Option<&ReleaseRef>, DataChoice<'_>),
        dry_run: bool,
    ) -> Result<UpOutcome, OpsError> {
        let current = self.known(name)?.current;
        let not_running = || OpsError::NotRunning { deployment: name.clone() };
        let state = self.state()?;
        // A pair that never became healthy here is no place to go back to.
        let mut healthy = state.healthy_pairs(name)?.into_iter();
        let (wanted, which) = match (release, &current) {
            (Some(release), _) => {
                let release = self.named(release)?;
                let ran = healthy.find(|(ran, _)| *ran == release);
                (release, ran.map_or(Which::Wanted, |(_, config)| Which::Exactly(config)))
            }
            (None, None) => return Err(not_running()),
            // What was begun and not finished is taken back.
            (None, Some(current)) if self.is_begun(&state, name, current)? => {
                (current.clone(), Which::Exactly(state.configured(name)?.current))
            }
            (None, Some(current)) => {
                let now = (current.number, state.configured(name)?.current);
                let before = healthy.find(|(release, config)| (release.number, *config) < now);
                let (release, config) = before.ok_or_else(|| OpsError::NothingBefore {
                    deployment: name.clone(),
                    release: current.clone(),
                })?;
                (release, Which::Exactly(config))
            }
        };
        drop(state);
        let restore = match data {
            DataChoice::Keep => None,
            DataChoice::Newest => Some(self.snapshot_for(name, &wanted, None)?),
            DataChoice::Named(snapshot) => Some(self.snapshot_for(name, &wanted, Some(snapshot))?),
        };
        let release = self.read_release(&wanted)?;
        let wish = Wish { restore, ..Wish::default() };
        let kind = match current {
            None if wish.restore.is_none() => return Err(not_running()),
            None => Some(PlanKind::Rollback),
            Some(current) => (wish.restore.is_some() && wanted == current).then_some(PlanKind::Restore),
        };
        let origin = Origin::Release;
        self.deploy(name, Errand { release: &release, which, kind, wish, origin, dry_run })
    }

    /// Stops a deployment; with `volumes` also destroys its data.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn down(&self, name: &DeploymentName, volumes: bool, dry_run: bool) -> Result<DownOutcome, OpsError> {
        let record = self.known(name)?;
        let mut locked = self.lock_deployment(name, self.bare_target(name))?;
        if !dry_run {
            return self.take_down(&mut locked, &record, volumes);
        }
        let (_, mut steps) = self.plan_of_down(&locked, &record)?;
        let kept = locked.target.volumes()?;
        let snapshots = locked.target.snapshots()?;
        if volumes {
            steps.extend(kept.iter().map(|volume| format!("destroy volume {}", shown_volume(&volume.name))));
            let going = snapshots.iter().filter(|snapshot| !snapshot.pinned);
            steps.extend(going.map(|snapshot| format!("destroy snapshot {}", snapshot.name)));
        }
        let kept = if volumes { Vec::new() } else { kept.iter().filter_map(kept_volume).collect() };
        let kept_snapshots = snapshots.iter().filter(|one| !volumes || one.pinned);
        let kept_snapshots = kept_snapshots.map(|one| one.name.clone()).collect();
        Ok(DownOutcome { deployment: name.clone(), steps, kept, kept_snapshots })
    }

    /// The plan that stops a deployment, and its steps.
    fn plan_of_down(
        &self,
        locked: &Locked,
        record: &DeploymentRecord,
    ) -> Result<(Plan, Vec<String>), OpsError> {
        let name = &record.name;
        let observed = self.observed(locked)?;
        let order = match &record.current {
            Some(current) => self.read_release(current).ok().map(|release| release.content.machines),
            None => None,
        };
        let order = order.and_then(|machines| start_order(&machines).ok()).unwrap_or_default();
        let parent = locked.state.last_plan(name)?.map(|record| record.plan);
        let plan = plan_down(name, &observed, &order, parent.as_ref());
        let steps = describe(&plan);
        Ok((plan, steps))
    }

    /// Stops a deployment that is held; with `volumes` also destroys its data.
    pub(crate) fn take_down(
        &self,
        locked: &mut Locked,
        record: &DeploymentRecord,
        volumes: bool,
    ) -> Result<DownOutcome, OpsError> {
        let name = &record.name;
        let (plan, mut steps) = self.plan_of_down(locked, record)?;
        self.execute(locked, &plan)?;
        self.lease_stopped(locked)?;
        let kept = locked.target.volumes()?;
        // Those that have a name of their own go by that name only.
        let (pinned, snapshots): (Vec<_>, Vec<_>) =
            locked.target.snapshots()?.into_iter().partition(|snapshot| snapshot.pinned);
        if volumes {
            for volume in &kept {
                locked.target.remove_volume(&volume.name)?;
                steps.push(format!("destroy volume {}", shown_volume(&volume.name)));
            }
            for snapshot in &snapshots {
                locked.target.remove_snapshot(&snapshot.name)?;
                steps.push(format!("destroy snapshot {}", snapshot.name));
            }
            self.remove_empty(&self.home.volumes(name).join("snapshots"))?;
            self.remove_empty(&self.home.volumes(name))?;
            locked.state.forget_deployment(name)?;
        }
        let kept = if volumes { Vec::new() } else { kept.iter().filter_map(kept_volume).collect() };
        let kept_snapshots = if volumes { pinned } else { [pinned, snapshots].concat() };
        let kept_snapshots = kept_snapshots.into_iter().map(|snapshot| snapshot.name).collect();
        Ok(DownOutcome { deployment: name.clone(), steps, kept, kept_snapshots })
    }

    /// Removes the folder of volumes that are gone. What else somebody put there stays.
    pub(crate) fn remove_empty(&self, folder: &Path) -> Result<(), OpsError> {
        use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
        match std::fs::remove_dir(folder) {
            Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty) => {
                Err(OpsError::Io { action: "remove", path: folder.to_owned(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Leads a deployment to a release, whatever is there now.
    pub(crate) fn deploy(&self, name: &DeploymentName, errand: Errand<'_>) -> Result<UpOutcome, OpsError> {
        let Errand { release, which, kind, wish, origin, dry_run } = errand;
        if !dry_run {
            // Whatever can be found wrong with the release and this host is found before anything is stopped.
            self.insist_signed(release)?;
            self.check_images(release)?;
        }
        let target = if dry_run { self.bare_target(name) } else { self.target(name)? };
        let mut locked = self.lock_deployment(name, target)?;
        let wanted = self.wanted_lease(&locked.state, name, (release, origin))?;
        let before = if dry_run {
            self.current_of(&locked, &release.app)?
        } else {
            self.insist_on_quota(&locked.state, name, &wanted)?;
            locked.state.ensure_deployment(name, &release.app)?.current
        };
        let ran = locked.state.configured(name)?.current;
        let (configuration, told) = self.choose(&mut locked, release, &which, dry_run)?;
        let config = configuration.map(|configuration| configuration.number);
        let kind = kind.unwrap_or(match &before {
            Some(current) if release.number > current.number => PlanKind::Upgrade,
            Some(current) if release.number < current.number => PlanKind::Rollback,
            Some(_) if config > ran => PlanKind::Configure,
            Some(_) if config < ran => PlanKind::Rollback,
            _ => PlanKind::Up,
        });
        let Planned { plan, observed } = self.plan_from(&locked, (release, &told), kind, &wish)?;
        let mut outcome = UpOutcome {
            deployment: name.clone(),
            release: release.name(),
            configuration: config,
            plan: self.explained(&locked, &plan, &observed, Some((release, &told)))?,
            steps: describe(&plan),
            published: endpoints(release),
            exceeds: self.excess(&locked.state, name, &wanted)?,
            stops_ms: wanted.lease.run_end_ms(),
            kept: None,
            timings: Vec::new(),
        };
        if dry_run {
            return Ok(outcome);
        }
        self.reserve(&mut locked, &wanted)?;
        let (plan, result) = self.execute_or_stop(&mut locked, (plan, (release, &told)), &wish);
        match result {
            Ok(()) => {
                outcome.timings = timings(&locked, &plan)?;
                outcome.kept = self.kept_set(&locked.state, name, Some(&outcome.release))?;
                Ok(outcome)
            }
            Err(broken) => {
                let failure = Failure { release, plan: &plan, before: before.as_ref(), config, ran };
                Err(self.after_failure(&mut locked, failure, broken))
            }
        }
    }

    pub(crate) fn plan(
        &self,
        locked: &Locked,
        wanted: (&Release, &Settings),
        kind: PlanKind,
    ) -> Result<Plan, OpsError> {
        Ok(self.plan_from(locked, wanted, kind, &Wish::default())?.plan)
    }

    /// A plan, and what it starts from. Nothing is written.
    pub(crate) fn plan_from(
        &self,
        locked: &Locked,
        (release, settings): (&Release, &Settings),
        kind: PlanKind,
        wish: &Wish,
    ) -> Result<Planned, OpsError> {
        let observed = self.observed(locked)?;
        let side = side_for(&observed, release, settings.configuration.map(|one| one.number));
        let mut wanted: Vec<InstanceName> =
            instances(release, side)?.into_iter().map(|(_, name)| name).collect();
        wanted.extend(task_instances(release)?);
        let reversible = self.reversible(locked, &observed, release)?;
        wanted.extend(
            reversible
                .iter()
                .map(|one| task_instances(&one.release))
                .collect::<Result<Vec<_>, _>>()?
                .concat(),
        );
        let addresses = &allocate(&locked.state.addresses(&locked.name)?, &wanted)?;
        let parent = locked.state.last_plan(&locked.name)?.map(|record| record.plan);
        let (former, data) = (reversible.as_ref().map(Reversible::borrowed), wish.borrowed());
        let wanted = Wanted { release, kind, side, addresses, settings, data, former };
        let plan = plan_up(&locked.name, &observed, &wanted, parent.as_ref())?;
        let broken = check(&plan, &observed, Some(release));
        if !broken.is_empty() {
            return Err(OpsError::Unsound { deployment: locked.name.clone(), broken });
        }
        Ok(Planned { plan, observed })
    }

    /// Journals and executes a plan.
    pub(crate) fn execute(&self, locked: &mut Locked, plan: &Plan) -> Result<(), OpsError> {
        self.carry(locked, plan).map_err(|broken| broken.error)
    }

    /// The same, and which step failed. Without one nothing was begun, or all was done but for some instances.
    #[expect(clippy::result_large_err, reason = "one command has one, and it is passed on as it is")]
    pub(crate) fn carry(&self, locked: &mut Locked, plan: &Plan) -> Result<(), Broken<OpsError>> {
        let secrets = self.write_down(locked, plan).map_err(|error| Broken { step: None, error })?;
        // What a killed command left is completed or taken away before anything is started.
        let recovered = locked.target.recover_volumes();
        let generation = plan.generation;
        let outcome = recovered
            .map_err(|error| Broken { step: None, error: error.into() })
            .and_then(|()| carry_out(plan, &mut Executor { plumb: self, locked, secrets, generation }));
        let outcome = outcome.and_then(|left| self.all_there(locked, plan, left));
        let (status, reason) = match &outcome {
            Ok(()) => (PlanStatus::Done, None),
            // It was committed. With a reason it is no release to go back to.
            Err(Broken { error: error @ OpsError::NotWhole { .. }, .. }) => {
                (PlanStatus::Done, Some(error.to_string()))
            }
            Err(Broken { error, .. }) => (PlanStatus::Failed, Some(error.to_string())),
        };
        let ended = locked.state.end_plan(plan, status, reason.as_deref(), clock::now_ms());
        let noted = match &outcome {
            Ok(()) => self.note_plan(locked, plan, EventKind::PlanDone, ""),
            Err(broken) => self.note_plan(locked, plan, EventKind::PlanFailed, &broken.error.in_one_line()),
        };
        // What failed first is what is told.
        outcome?;
        ended.map_err(OpsError::from).and(noted).map_err(|error| Broken { step: None, error })
    }

    /// Writes a plan down before its first step.
    fn write_down(&self, locked: &mut Locked, plan: &Plan) -> Result<Opened, OpsError> {
        // What cannot be opened is found before anything is stopped.
        let secrets = self.open_secrets(&locked.state, plan)?;
        locked.state.add_addresses(&locked.name, &plan.addresses())?;
        locked.state.add_plan(plan, clock::now_ms())?;
        let to = plan.to.as_ref().map_or_else(|| "down".to_owned(), ToString::to_string);
        self.note_plan(locked, plan, EventKind::PlanBegun, &in_steps(plan.actions.len()))?;
        self.report(Progress::Planned { actions: plan.actions.len(), to });
        Ok(secrets)
    }

    /// What the planner must know.
    pub(crate) fn observed(&self, locked: &Locked) -> Result<Observed, OpsError> {
        let current = locked.state.deployment(&locked.name)?.and_then(|record| record.current);
        let (mut instances, mut guests) = (BTreeMap::new(), BTreeMap::new());
        for seen in locked.target.observe()? {
            let (Ok(name), Ok(machine)) = (seen.name.parse(), seen.machine.parse()) else { continue };
            // A label that is no digest was not written by this version; such an instance differs from anything wanted.
            let boot = seen.label.parse().unwrap_or_else(|_| plumb_model::Digest::of(b""));
            let (running, ready) = (seen.state == InstanceState::Running, seen.is_ready());
            guests.extend(seen.guest.filter(|_| running).map(|guest| (InstanceName::clone(&name), guest)));
            instances.insert(name, ObservedInstance { machine, running, ready, boot });
        }
        let Serving { side, kept } = locked.state.serving(&locked.name)?;
        let config = locked.state.configured(&locked.name)?.current;
        let turned_back = self.turned_back(locked)?;
        let mut observed =
            Observed { instances, current, config, side, kept, turned_back, ..Observed::default() };
        self.observe_data(locked, &mut observed, &guests)?;
        observed.fence = match observed.holder() {
            Some(holder) if observed.current.as_ref() == Some(holder) => {
                self.read_release(holder)?.content.fence
            }
            Some(holder) => self.fence_of(holder)?,
            None => 0,
        };
        Ok(observed)
    }

    pub(crate) fn check_images(&self, release: &Release) -> Result<(), OpsError> {
        if !self.is_here(release)? {
            return Err(OpsError::Collected { release: release.name() });
        }
        for machine in release.content.machines.values() {
            let image = self.image(&machine.image)?;
            for part in [&image.kernel, &image.initrd, &image.root] {
                self.store.ready(&part.digest)?;
            }
            // The kernel checks the root block by block; nobody else checks what the hypervisor starts.
            self.store.verify_once(&image.kernel.digest)?;
            self.store.verify_once(&image.initrd.digest)?;
        }
        Ok(())
    }

    /// A target that can observe and stop.
    pub(crate) fn bare_target(&self, name: &DeploymentName) -> Local {
        let paths = LocalPaths { run: self.home.run(name), volumes: self.home.volumes(name) };
        Local::new(paths, self.options.program.clone())
    }

    /// A target that can also start.
    pub(crate) fn target(&self, name: &DeploymentName) -> Result<Local, OpsError> {
        let (qemu, accelerator) = self.engine()?;
        Ok(self.bare_target(name).with_engine(qemu, accelerator))
    }

    /// What runs virtual machines on this host.
    pub(crate) fn engine(&self) -> Result<(Qemu, Accelerator), OpsError> {
        let qemu = Qemu::find()?;
        let accelerator = accelerator::detect(&self.home.accelerator())?;
        if accelerator.fresh {
            self.report(Progress::Accelerator {
                kind: accelerator.kind.to_string(),
                reason: accelerator.reason.clone(),
            });
        }
        Ok((qemu, accelerator))
    }

    /// One that is being repaired is waited for: with somebody who watches a command works as without. Of two commands one is
    /// refused.
    fn deployment_lock(&self, name: &DeploymentName) -> Result<LockGuard, OpsError> {
        let lock = format!("deployment-{name}");
        let busy = match self.store.lock(&lock) {
            Err(busy @ plumb_store::Error::Busy { .. }) => busy,
            other => return Ok(other?),
        };
        match self.store.lock(&repair_lock(name)) {
            Err(plumb_store::Error::Busy { .. }) => Ok(self.store.lock_waiting(&lock, &mut |holder| {
                self.report(Progress::AwaitingRepair { holder: holder.to_string() });
            })?),
            guard => {
                drop(guard?);
                Err(busy.into())
            }
        }
    }

    pub(crate) fn lock_deployment(&self, name: &DeploymentName, target: Local) -> Result<Locked, OpsError> {
        self.with_lock(name, target, self.deployment_lock(name)?)
    }

    /// The same for whoever watches; `None` if a command works on it.
    pub(crate) fn try_lock_deployment(
        &self,
        name: &DeploymentName,
        target: Local,
    ) -> Result<Option<Locked>, OpsError> {
        match self.store.lock(&format!("deployment-{name}")) {
            Err(plumb_store::Error::Busy { .. }) => Ok(None),
            guard => self.with_lock(name, target, guard?).map(Some),
        }
    }

    fn with_lock(&self, name: &DeploymentName, target: Local, guard: LockGuard) -> Result<Locked, OpsError> {
        let cancel = Cancel::default();
        let mut state = self.state()?;
        state.hold(name, &self.claim())?;
        Ok(Locked { name: name.clone(), target, state, cancel, _guard: guard })
    }

    /// The record of a deployment of this host.
    pub(crate) fn known(&self, name: &DeploymentName) -> Result<DeploymentRecord, OpsError> {
        let record = self.find_deployment(name)?;
        match record.elsewhere {
            Some(host) => Err(StateError::OtherHost { deployment: record.name, host }.into()),
            None => Ok(record),
        }
    }

    /// The deployment's record, whichever host runs it, or an error that names those that exist.
    pub(crate) fn find_deployment(&self, name: &DeploymentName) -> Result<DeploymentRecord, OpsError> {
        let all = self.state()?.deployments()?;
        match all.iter().find(|record| record.name == *name) {
            Some(record) => Ok(record.clone()),
            None => {
                let known = all.into_iter().map(|record| record.name).collect();
                Err(OpsError::NoDeployment { deployment: name.clone(), known })
            }
        }
    }
}

/// What a first lease follows from.
fn origin_of(wanted: &ReleaseRef) -> Origin<'_> {
    match wanted {
        ReleaseRef::Release(_) => Origin::Release,
        ReleaseRef::Channel { channel, .. } => Origin::Channel(channel.as_str()),
    }
}

fn deployment_of(release: &Release) -> Result<DeploymentName, OpsError> {
    let name = release.app.as_str();
    name.parse().map_err(|error| OpsError::Plan(plumb_plan::PlanError::Name(error)))
}

/// Held by who repairs a deployment, besides the deployment itself.
pub(crate) fn repair_lock(name: &DeploymentName) -> String {
    format!("repair-{name}")
}

/// Where the time of each start of the plan went, in its order.
fn timings(locked: &Locked, plan: &Plan) -> Result<Vec<InstanceTimings>, OpsError> {
    let observed = locked.target.observe()?;
    let started = plan.actions.iter().filter_map(|action| match action {
        Action::Start { boot, .. } => Some(boot.instance.as_str()),
        _ => None,
    });
    Ok(started
        .filter_map(|name| observed.iter().find(|seen| seen.name == name))
        .map(plumb_target::ObservedInstance::timings)
        .collect())
}

pub(crate) fn endpoints(release: &Release) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (machine, entry) in &release.content.machines {
        for publish in &entry.publish {
            endpoints.push(Endpoint {
                machine: machine.to_string(),
                address: format!("{}:{}", publish.address, publish.host_port),
            });
        }
    }
    endpoints
}

fn kept_volume(volume: &plumb_target::ObservedVolume) -> Option<KeptVolume> {
    let InstanceVolume { instance, volume: name } = parse_volume(&volume.name)?;
    let (instance, name) = (instance.to_string(), name.to_string());
    Some(KeptVolume { instance, volume: name, size_bytes: volume.size_bytes })
}

/// How much a plan is, for the journal.
fn in_steps(count: usize) -> String {
    if count == 1 { "1 step".to_owned() } else { format!("{count} steps") }
}
