//! Volumes and snapshots: listed, carried elsewhere, removed.

use std::collections::BTreeSet;
use std::path::Path;

use plumb_model::release::ReleaseName;
use plumb_model::{DeploymentName, SnapshotName};
use plumb_plan::InstanceVolume;
use plumb_target::{Manifest, Target as _, TargetError};
use serde::Serialize;

use crate::Plumb;
use crate::data::error::DataError;
use crate::data::{declared, parse_volume};
use crate::error::OpsError;
use crate::execute::volume_file;
use crate::progress::{DataStep, Progress};

/// Why an imported snapshot is there.
const IMPORTED: &str = "imported";

/// A volume as it is seen.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeView {
    /// Deployment.
    pub deployment: String,
    /// Instance.
    pub instance: String,
    /// Volume.
    pub volume: String,
    /// Size of the disk.
    pub size_bytes: u64,
    /// Space it takes on this host.
    pub allocated_bytes: u64,
    /// What its file system says is taken, as of when it last wrote that down.
    pub used_bytes: Option<u64>,
    /// Who has it.
    pub state: VolumeState,
    /// How many snapshots have a copy of it.
    pub snapshots: usize,
}

/// Who has a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Its instance runs.
    InUse,
    /// Its instance does not run.
    Stopped,
    /// The current release has no such volume: it is kept, and nobody uses it.
    Unused,
}

/// A snapshot as it is seen.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotView {
    /// What it says of itself.
    #[serde(flatten)]
    pub manifest: Manifest,
    /// Space that its copies take on this host, if they share nothing.
    pub allocated_bytes: u64,
}

impl SnapshotView {
    fn of(manifest: Manifest) -> Self {
        let allocated_bytes = manifest.volumes.iter().map(|volume| volume.allocated_bytes).sum();
        SnapshotView { manifest, allocated_bytes }
    }
}

/// What came of an import.
#[derive(Debug, Clone, Serialize)]
pub struct ImportOutcome {
    /// The snapshot that it became.
    pub snapshot: SnapshotName,
    /// Volumes that have its data now.
    pub restored: Vec<InstanceVolume>,
}

impl Plumb<'_> {
    /// The volumes of a deployment, or of all.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn volumes(&self, name: Option<&DeploymentName>) -> Result<Vec<VolumeView>, OpsError> {
        let names = match name {
            Some(name) => vec![name.clone()],
            None => self.with_volumes()?,
        };
        let mut views = Vec::new();
        for name in &names {
            let target = self.bare_target(name);
            let snapshots = target.snapshots()?;
            let running: BTreeSet<String> = target
                .observe()?
                .into_iter()
                .filter(|seen| seen.pid.is_some())
                .map(|seen| seen.name)
                .collect();
            let wanted = self.wanted_volumes(name)?;
            for volume in target.volumes()? {
                let Some(InstanceVolume { instance, volume: own }) = parse_volume(&volume.name) else {
                    continue;
                };
                let state = if running.contains(instance.as_str()) {
                    VolumeState::InUse
                } else if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&volume.name)) {
                    VolumeState::Unused
                } else {
                    VolumeState::Stopped
                };
                views.push(VolumeView {
                    deployment: name.to_string(),
                    instance: instance.to_string(),
                    volume: own.to_string(),
                    size_bytes: volume.size_bytes,
                    allocated_bytes: volume.allocated_bytes,
                    used_bytes: target.file_system(&volume).map(|found| found.used_bytes),
                    state,
                    snapshots: snapshots.iter().filter(|one| has(one, &volume.name)).count(),
                });
            }
        }
        Ok(views)
    }

    /// Files of the volumes that the current release has; `None` if nothing is current.
    fn wanted_volumes(&self, name: &DeploymentName) -> Result<Option<BTreeSet<String>>, OpsError> {
        let Some(current) = self.state()?.deployment(name)?.and_then(|record| record.current) else {
            return Ok(None);
        };
        let all = declared(&self.read_release(&current)?)?;
        Ok(Some(all.keys().map(|one| volume_file(&one.instance, &one.volume)).collect()))
    }

    /// Deployments that have data, running or not.
    fn with_volumes(&self) -> Result<Vec<DeploymentName>, OpsError> {
        let folder = self.home.all_volumes();
        let io = |source| OpsError::Io { action: "read", path: folder.clone(), source };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The snapshots of a deployment, oldest first.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn snapshots(&self, name: &DeploymentName) -> Result<Vec<SnapshotView>, OpsError> {
        Ok(self.bare_target(name).snapshots()?.into_iter().map(SnapshotView::of).collect())
    }

    /// Writes a snapshot to a file: the one named, or the newest.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn export_snapshot(
        &self,
        name: &DeploymentName,
        snapshot: Option<&SnapshotName>,
        file: &Path,
    ) -> Result<SnapshotView, OpsError> {
        let locked = self.lock_deployment(name, self.bare_target(name))?;
        let all = locked.target.snapshots()?;
        let found = match snapshot {
            Some(snapshot) => all.iter().find(|one| one.name == snapshot.as_str()),
            None => all.last(),
        };
        let missing = || match snapshot {
            Some(snapshot) => OpsError::Target(TargetError::NoSnapshot { snapshot: snapshot.to_string() }),
            None => OpsError::Data(DataError::NoSnapshots { deployment: name.clone() }),
        };
        let found = found.ok_or_else(missing)?;
        let mut last = 0;
        let mut news = |bytes| {
            last = bytes;
            self.report(Progress::Data(DataStep::Moving { bytes }));
        };
        let manifest = locked.target.export_snapshot(&found.name, file, &mut news)?;
        self.report(Progress::Data(DataStep::Moved { bytes: last }));
        Ok(SnapshotView::of(manifest))
    }

    /// Makes a snapshot of a file, and puts its data in the place of volumes that are not there, and of those in `replace`,
    /// of which what was there is copied first. Volumes that are there and not named stay.
    ///
    /// # Errors
    /// [`DataError::DataThere`] if a volume is there and not named; nothing has changed then.
    pub fn import_snapshot(
        &self,
        name: &DeploymentName,
        (file, snapshot): (&Path, &SnapshotName),
        replace: &[InstanceVolume],
    ) -> Result<ImportOutcome, OpsError> {
        if plumb_plan::is_given_by_plans(snapshot) {
            return Err(OpsError::Data(DataError::PlanName { name: snapshot.clone() }));
        }
        let mut locked = self.lock_deployment(name, self.bare_target(name))?;
        locked.target.recover_volumes()?;
        let mut last = 0;
        let mut news = |bytes| {
            last = bytes;
            self.report(Progress::Data(DataStep::Moving { bytes }));
        };
        let place = (snapshot.as_str(), name.as_str(), IMPORTED);
        let manifest = locked.target.import_snapshot(file, place, &mut news)?;
        self.report(Progress::Data(DataStep::Moved { bytes: last }));
        let whose = manifest.release.as_ref().and_then(|release| release.parse::<ReleaseName>().ok());
        if let Some(release) = whose
            && let Err(error) = locked.state.ensure_deployment(name, &release.app)
        {
            locked.target.remove_snapshot(snapshot.as_str())?;
            return Err(error.into());
        }
        let here: BTreeSet<String> = locked.target.volumes()?.into_iter().map(|volume| volume.name).collect();
        let named: BTreeSet<String> =
            replace.iter().map(|one| volume_file(&one.instance, &one.volume)).collect();
        let there: Vec<String> = manifest
            .volumes
            .iter()
            .filter(|volume| here.contains(&volume.name) && !named.contains(&volume.name))
            .filter_map(|volume| parse_volume(&volume.name))
            .map(|one| one.to_string())
            .collect();
        if !there.is_empty() {
            locked.target.remove_snapshot(snapshot.as_str())?;
            return Err(OpsError::Data(DataError::DataThere { deployment: name.clone(), volumes: there }));
        }
        let wanted: Vec<InstanceVolume> =
            manifest.volumes.iter().filter_map(|volume| parse_volume(&volume.name)).collect();
        let replaces = wanted.iter().any(|one| here.contains(&volume_file(&one.instance, &one.volume)));
        if replaces {
            drop(locked);
            self.restore_snapshot(name, (snapshot, &wanted), false)?;
        } else {
            self.put_back(&locked, snapshot, &wanted)?;
        }
        Ok(ImportOutcome { snapshot: snapshot.clone(), restored: wanted })
    }

    /// Destroys one volume, for good. Snapshots of it stay.
    ///
    /// # Errors
    /// [`OpsError`] if there is none, or an instance runs with it.
    pub fn remove_volume(&self, name: &DeploymentName, volume: &InstanceVolume) -> Result<(), OpsError> {
        let locked = self.lock_deployment(name, self.bare_target(name))?;
        locked.target.recover_volumes()?;
        let file = volume_file(&volume.instance, &volume.volume);
        if !locked.target.volumes()?.iter().any(|one| one.name == file) {
            return Err(TargetError::NoVolume { volume: volume.to_string() }.into());
        }
        locked.target.remove_volume(&file)?;
        self.remove_empty(&self.home.volumes(name))
    }

    /// Destroys one snapshot, for good.
    ///
    /// # Errors
    /// [`OpsError`] if there is none.
    pub fn remove_snapshot(&self, name: &DeploymentName, snapshot: &SnapshotName) -> Result<(), OpsError> {
        let locked = self.lock_deployment(name, self.bare_target(name))?;
        locked.target.recover_volumes()?;
        if !locked.target.snapshots()?.iter().any(|one| one.name == snapshot.as_str()) {
            return Err(TargetError::NoSnapshot { snapshot: snapshot.to_string() }.into());
        }
        locked.target.remove_snapshot(snapshot.as_str())?;
        self.remove_empty(&self.home.volumes(name).join("snapshots"))?;
        self.remove_empty(&self.home.volumes(name))
    }
}

fn has(snapshot: &Manifest, volume: &str) -> bool {
    snapshot.volumes.iter().any(|one| one.name == volume)
}
