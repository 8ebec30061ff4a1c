//! Snapshots in plans: what is observed of data, what a command wants of it, and how a step of a plan is done.

pub(crate) mod error;

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::config::Settings;
use plumb_model::release::{AfterFailure, Quiesce, Release, ReleaseName, SnapshotPolicy, WhenLate};
use plumb_model::{DeploymentName, InstanceName, SnapshotName};
use plumb_plan::lease::Origin;
use plumb_plan::{
    Action, Broken, DataWish, Hold, InstanceVolume, Observed, ObservedSnapshot, Plan, PlanKind,
    snapshot_stops,
};
use plumb_target::{GuestRecord, Held, Manifest, SnapshotRequest, Target as _, TargetError};

use self::error::DataError;
use crate::clock;
use crate::deploy::{Errand, Locked, UpOutcome, Which};
use crate::error::OpsError;
use crate::execute::volume_file;
use crate::progress::{DataStep, Progress};
use crate::{Plumb, plan};

/// What a command wants of the data, in its own words; [`DataWish`] borrows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Instances stop while they are copied.
    pub quiesce: Option<Quiesce>,
    /// This takes the place of the data.
    pub restore: Option<ObservedSnapshot>,
    /// Only of these volumes.
    pub only: Vec<InstanceVolume>,
    /// The snapshot gets this name.
    pub pin: Option<SnapshotName>,
}

impl Wish {
    pub fn borrowed(&self) -> DataWish<'_> {
        DataWish {
            now_ms: clock::now_ms(),
            quiesce: self.quiesce,
            restore: self.restore.as_ref(),
            only: &self.only,
            pin: self.pin.as_ref(),
        }
    }
}

/// `db-1--data` is volume `data` of instance `db-1`.
pub(crate) fn parse_volume(name: &str) -> Option<InstanceVolume> {
    let (instance, volume) = name.split_once("--")?;
    Some(InstanceVolume { instance: instance.parse().ok()?, volume: volume.parse().ok()? })
}

/// The file of a volume as people write it; one that is none of ours as it is.
pub(crate) fn shown_volume(name: &str) -> String {
    parse_volume(name).map_or_else(|| name.to_owned(), |volume| volume.to_string())
}

/// A snapshot as a plan sees it; one whose name is none of ours was put there by somebody else, and is left alone.
pub(crate) fn observed(manifest: &Manifest) -> Option<ObservedSnapshot> {
    Some(ObservedSnapshot {
        name: manifest.name.parse().ok()?,
        release: manifest.release.as_ref().and_then(|release| release.parse().ok()),
        taken_ms: manifest.taken_unix_ms,
        pinned: manifest.pinned,
        volumes: manifest.volumes.iter().filter_map(|volume| parse_volume(&volume.name)).collect(),
    })
}

impl Plumb<'_> {
    /// Fills in what is known of the data.
    pub(crate) fn observe_data(
        &self,
        locked: &Locked,
        observed: &mut Observed,
        guests: &BTreeMap<InstanceName, GuestRecord>,
    ) -> Result<(), OpsError> {
        let there = locked.target.volumes()?;
        let sizes = there.iter().filter_map(|one| Some((parse_volume(&one.name)?, one.size_bytes)));
        observed.sizes = sizes.collect();
        let here: BTreeSet<InstanceVolume> = observed.sizes.keys().cloned().collect();
        let base = match &observed.current {
            Some(current) => Some(current.clone()),
            // After `down` nothing is current, and the data is that of what ran last.
            None => locked.state.healthy_releases(&locked.name)?.into_iter().next(),
        };
        observed.touched = self.touched(locked, base.as_ref())?;
        let mut declared = self.declared_by(base.as_ref(), &here)?;
        if let Some(touched) = &observed.touched {
            declared.extend(self.declared_by(Some(touched), &here)?);
        }
        observed.data_of = observed.touched.clone().or(base);
        observed.volumes = declared.into_iter().filter(|(volume, _)| here.contains(volume)).collect();
        // A guest that has not said hello yet may know how.
        let knows = |guest: &GuestRecord| guest.kernel.is_none() || guest.freezes;
        observed.cannot_freeze =
            guests.iter().filter(|(_, guest)| !knows(guest)).map(|(name, _)| name.clone()).collect();
        observed.snapshots = locked.target.snapshots()?.iter().filter_map(self::observed).collect();
        Ok(())
    }

    /// Volumes of a release, and how they are kept from changing; without one, or if what it declared is not known any more,
    /// whatever is here, as is usual.
    fn declared_by(
        &self,
        release: Option<&ReleaseName>,
        here: &BTreeSet<InstanceVolume>,
    ) -> Result<BTreeMap<InstanceVolume, Quiesce>, OpsError> {
        match release.map(|release| self.read_release(release)) {
            Some(Ok(release)) => declared(&release),
            None | Some(Err(OpsError::NoRelease { .. })) => {
                Ok(here.iter().map(|one| (one.clone(), Quiesce::Freeze)).collect())
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// The snapshot to go back to: the one named, or the newest of the release's data.
    pub(crate) fn snapshot_for(
        &self,
        name: &DeploymentName,
        release: &ReleaseName,
        named: Option<&SnapshotName>,
    ) -> Result<ObservedSnapshot, OpsError> {
        let all = self.bare_target(name).snapshots()?;
        let all: Vec<ObservedSnapshot> = all.iter().filter_map(observed).collect();
        let found = match named {
            Some(named) => all.iter().find(|one| one.name == *named),
            None => all.iter().rev().find(|one| one.release.as_ref() == Some(release)),
        };
        found.cloned().ok_or_else(|| match named {
            Some(named) => OpsError::Target(TargetError::NoSnapshot { snapshot: named.to_string() }),
            None => OpsError::Data(DataError::NoData { deployment: name.clone(), release: release.clone() }),
        })
    }

    /// Carries a plan out; if volumes stood still too long, another one that stops instances for the copy, where policy
    /// says so. Returns what was carried out last.
    pub(crate) fn execute_or_stop(
        &self,
        locked: &mut Locked,
        (plan, (release, told)): (Plan, (&Release, &Settings)),
        wish: &Wish,
    ) -> (Plan, Result<(), Broken<OpsError>>) {
        let result = self.carry(locked, &plan);
        let is_late = result.as_ref().is_err_and(|broken| {
            matches!(
                &broken.error,
                OpsError::Data(DataError::NotCopied { source: TargetError::SnapshotLate { .. }, .. })
            )
        });
        let stops = release.content.snapshots.when_late == WhenLate::Stop && wish.quiesce.is_none();
        if !is_late || !stops {
            return (plan, result);
        }
        self.report(Progress::Data(DataStep::Late));
        let stopping = Wish { quiesce: Some(Quiesce::Stop), ..wish.clone() };
        match self.plan_from(locked, (release, told), plan.kind, &stopping) {
            Ok(second) => {
                let result = self.carry(locked, &second.plan);
                (second.plan, result)
            }
            Err(error) => (plan, Err(Broken { step: None, error })),
        }
    }

    /// The data that a release that failed had begun to change, if policy says that it is put back; and the data that a plan
    /// which failed had replaced.
    pub(crate) fn data_before(
        &self,
        locked: &Locked,
        failed: &Release,
        plan: &Plan,
    ) -> Result<Option<ObservedSnapshot>, OpsError> {
        // A plan that put other data in place is taken back whole.
        let replaced = plan.actions.iter().any(|action| matches!(action, Action::Restore { .. }));
        if failed.content.snapshots.failed_release != AfterFailure::RestoreData && !replaced {
            return Ok(None);
        }
        let taken = plan.actions.iter().find_map(|action| match action {
            Action::Snapshot { snapshot, .. } => Some(snapshot),
            _ => None,
        });
        let Some(taken) = taken else { return Ok(None) };
        let uses_data = |name: &str| {
            name.parse().is_ok_and(|instance: InstanceName| {
                declared(failed).is_ok_and(|all| all.keys().any(|volume| volume.instance == instance))
            })
        };
        let seen = locked.target.observe()?;
        let began = seen.iter().any(|one| one.generation == plan.generation && uses_data(&one.name));
        if !began && !replaced {
            return Ok(None);
        }
        Ok(locked.target.snapshots()?.iter().filter_map(observed).find(|one| one.name == *taken))
    }

    /// Copies the data of a deployment as of now. With `named` it is kept until that name is said.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn take_snapshot(
        &self,
        name: &DeploymentName,
        (named, quiesce): (Option<&SnapshotName>, Option<Quiesce>),
        dry_run: bool,
    ) -> Result<UpOutcome, OpsError> {
        if let Some(named) = named.filter(|named| plumb_plan::is_given_by_plans(named)) {
            return Err(OpsError::Data(DataError::PlanName { name: named.clone() }));
        }
        let wish = Wish { quiesce, pin: named.cloned(), ..Wish::default() };
        self.errand_about_data(name, (PlanKind::Snapshot, wish), dry_run)
    }

    /// Puts the data of a snapshot in the place of what a deployment has; what was there is copied first. The release stays.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn restore_snapshot(
        &self,
        name: &DeploymentName,
        (snapshot, only): (&SnapshotName, &[InstanceVolume]),
        dry_run: bool,
    ) -> Result<UpOutcome, OpsError> {
        let all = self.bare_target(name).snapshots()?;
        let found = all.iter().filter_map(observed).find(|one| one.name == *snapshot);
        let found = found.ok_or_else(|| TargetError::NoSnapshot { snapshot: snapshot.to_string() })?;
        if let Some(missing) = only.iter().find(|volume| !found.volumes.contains(volume)) {
            let (snapshot, volume) = (snapshot.to_string(), volume_file(&missing.instance, &missing.volume));
            return Err(TargetError::NotInSnapshot { snapshot, volume }.into());
        }
        let wish = Wish { restore: Some(found), only: only.to_vec(), ..Wish::default() };
        self.errand_about_data(name, (PlanKind::Restore, wish), dry_run)
    }

    fn errand_about_data(
        &self,
        name: &DeploymentName,
        (kind, wish): (PlanKind, Wish),
        dry_run: bool,
    ) -> Result<UpOutcome, OpsError> {
        self.known(name)?;
        let (observed, release) = {
            let locked = self.lock_deployment(name, self.bare_target(name))?;
            let observed = self.observed(&locked)?;
            let current = observed.current.as_ref().map(|current| self.read_release(current)).transpose()?;
            (observed, current)
        };
        if observed.volumes.is_empty() && wish.restore.is_none() {
            return Err(OpsError::Data(DataError::NoVolumes { deployment: name.clone() }));
        }
        let runs = observed.instances.values().any(|instance| instance.running);
        match release {
            // Something stops, and has to come back.
            Some(release)
                if runs && (kind == PlanKind::Restore || snapshot_stops(&observed, wish.borrowed())) =>
            {
                // What stops comes back as it ran.
                let which = Which::Exactly(self.state()?.configured(name)?.current);
                let errand = Errand::to(&release, which, Origin::Release, dry_run);
                self.deploy(name, Errand { kind: Some(kind), wish, ..errand })
            }
            None if runs && kind == PlanKind::Restore => {
                Err(OpsError::Data(DataError::StillRuns { deployment: name.clone() }))
            }
            release => self.only_data(name, (kind, &wish, release.as_ref()), dry_run),
        }
    }

    /// A plan that leaves what runs as it is.
    fn only_data(
        &self,
        name: &DeploymentName,
        (kind, wish, release): (PlanKind, &Wish, Option<&Release>),
        dry_run: bool,
    ) -> Result<UpOutcome, OpsError> {
        let mut locked = self.lock_deployment(name, self.bare_target(name))?;
        let observed = self.observed(&locked)?;
        let parent = locked.state.last_plan(name)?.map(|record| record.plan);
        let policy = release.map_or_else(SnapshotPolicy::default, |release| release.content.snapshots);
        let make =
            if kind == PlanKind::Restore { plumb_plan::plan_at_rest } else { plumb_plan::plan_snapshot };
        let plan = make(name, &observed, (&policy, wish.borrowed()), parent.as_ref());
        let told = release.map(|release| self.settings_of(&locked.state, name, release)).transpose()?;
        let outcome = UpOutcome {
            deployment: name.clone(),
            configuration: locked.state.configured(name)?.current,
            release: match observed.data_of.clone() {
                Some(release) => release,
                None => return Err(OpsError::NotRunning { deployment: name.clone() }),
            },
            plan: self.explained(&locked, &plan, &observed, release.zip(told.as_ref()))?,
            steps: plan::describe(&plan),
            published: Vec::new(),
            timings: Vec::new(),
            exceeds: Default::default(),
            stops_ms: Default::default(),
            kept: None,
        };
        if !dry_run {
            self.execute(&mut locked, &plan)?;
        }
        Ok(outcome)
    }

    /// Does [`Action::Snapshot`].
    pub(crate) fn copy(&self, locked: &Locked, generation: u64, action: &Action) -> Result<(), OpsError> {
        let Action::Snapshot { snapshot, volumes, why, release, freeze_limit_ms, pinned } = action else {
            return Ok(());
        };
        let held = |hold| match hold {
            Hold::Frozen => Held::Frozen,
            Hold::AtRest => Held::AtRest,
        };
        let request = SnapshotRequest {
            name: snapshot.to_string(),
            deployment: locked.name.to_string(),
            generation,
            release: release.as_ref().map(ToString::to_string),
            configuration: locked.state.configured(&locked.name)?.current,
            why: why.as_str().to_owned(),
            pinned: *pinned,
            volumes: volumes
                .iter()
                .map(|one| (volume_file(&one.instance, &one.volume), held(one.hold)))
                .collect(),
            hold_ms: *freeze_limit_ms,
        };
        self.report(Progress::Data(DataStep::Copying { snapshot: snapshot.clone(), bytes: 0 }));
        let mut news = |bytes| {
            self.report(Progress::Data(DataStep::Copying { snapshot: snapshot.clone(), bytes }));
        };
        let made = locked.target.snapshot(&request, &mut news);
        let made = made
            .map_err(|source| OpsError::Data(DataError::NotCopied { snapshot: snapshot.clone(), source }))?;
        self.report(Progress::Data(DataStep::Copied {
            snapshot: snapshot.clone(),
            bytes: made.volumes.iter().map(|volume| volume.allocated_bytes).sum(),
            frozen_ms: made.frozen_ms,
        }));
        Ok(())
    }

    /// Does [`Action::Restore`].
    pub(crate) fn put_back(
        &self,
        locked: &Locked,
        snapshot: &SnapshotName,
        volumes: &[InstanceVolume],
    ) -> Result<(), OpsError> {
        let names: Vec<String> = volumes.iter().map(|one| volume_file(&one.instance, &one.volume)).collect();
        let mut news = |bytes| {
            self.report(Progress::Data(DataStep::Restoring { snapshot: snapshot.clone(), bytes }));
        };
        news(0);
        locked.target.restore_volumes(snapshot.as_str(), &names, &mut news)?;
        self.report(Progress::Data(DataStep::Restored { snapshot: snapshot.clone() }));
        Ok(())
    }
}

/// Volumes of a release's instances, and how they are kept from changing.
pub(crate) fn declared(release: &Release) -> Result<BTreeMap<InstanceVolume, Quiesce>, OpsError> {
    let mut all = BTreeMap::new();
    // What has a volume is there once, on either side.
    for (machine, instance) in plumb_plan::instances(release, plumb_plan::Side::Blue)? {
        let volumes = &release.content.machines[&machine].volumes;
        all.extend(volumes.iter().map(|(volume, declared)| {
            (InstanceVolume { instance: instance.clone(), volume: volume.clone() }, declared.snapshot)
        }));
    }
    Ok(all)
}

/// The step that failed was the copy, and nothing had been stopped for it.
pub(crate) fn changed_nothing(plan: &Plan, error: &OpsError) -> bool {
    let before = plan.actions.iter().take_while(|action| !matches!(action, Action::Snapshot { .. }));
    let stops = before.filter(|action| matches!(action, Action::Stop { .. })).count();
    matches!(error, OpsError::Data(DataError::NotCopied { .. })) && stops == 0
}
