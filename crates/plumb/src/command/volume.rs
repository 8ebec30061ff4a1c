//! `plumb volume`.

use plumb_model::{DeploymentName, SnapshotName};
use plumb_ops::{
    DataError, InstanceVolume, OpsError, Quiesce, SnapshotView, UpOutcome, VolumeState, VolumeView,
};

use super::{Session, plan, up};
use crate::args::{VolumeAction, VolumePath};
use crate::output::out;
use crate::render::passphrase::answer;
use crate::render::{self, bytes, table};

pub(super) fn run(session: &Session<'_>, action: &VolumeAction) -> Result<(), OpsError> {
    let plumb = &session.plumb;
    match action {
        VolumeAction::Ls { deployment } => list(session, &plumb.volumes(deployment.as_ref())?),
        VolumeAction::Snapshot { deployment, name, stop, dry_run } => {
            let quiesce = stop.then_some(Quiesce::Stop);
            let outcome = plumb.take_snapshot(deployment, (name.as_ref(), quiesce), *dry_run)?;
            taken(session, &outcome, *dry_run);
        }
        VolumeAction::Snapshots { deployment } => snapshots(session, &plumb.snapshots(deployment)?),
        VolumeAction::Restore { deployment, snapshot, volumes, dry_run } => {
            let only = paths(volumes);
            let outcome = plumb.restore_snapshot(deployment, (snapshot, &only), *dry_run)?;
            up::print(session, &outcome, *dry_run);
        }
        VolumeAction::Export { deployment, file, snapshot } => {
            let made = plumb.export_snapshot(deployment, snapshot.as_ref(), file)?;
            session.live.clear();
            if session.global.json {
                render::json(&made);
            } else {
                out!("snapshot {} of {deployment} is in {}", made.manifest.name, file.display());
            }
        }
        VolumeAction::Import { deployment, file, name, replace } => {
            let outcome = plumb.import_snapshot(deployment, (file, name), &paths(replace))?;
            session.live.clear();
            if session.global.json {
                render::json(&outcome);
                return Ok(());
            }
            out!("{deployment} has snapshot {}", outcome.snapshot);
            for volume in &outcome.restored {
                out!("  volume {volume} has its data");
            }
        }
        VolumeAction::Rm { deployment, volume, snapshot, confirm } => {
            return remove(session, deployment, (volume.as_ref(), snapshot.as_ref()), confirm.as_deref());
        }
    }
    Ok(())
}

fn paths(volumes: &[VolumePath]) -> Vec<InstanceVolume> {
    volumes.iter().map(|volume| volume.0.clone()).collect()
}

fn list(session: &Session<'_>, volumes: &[VolumeView]) {
    session.live.clear();
    if session.global.json {
        return render::json(&volumes);
    }
    let mut rows = table(&["DEPLOYMENT", "VOLUME", "SIZE", "ON DISK", "USED", "STATE", "SNAPSHOTS"]);
    for one in volumes {
        let state = match one.state {
            VolumeState::InUse => "in use",
            VolumeState::Stopped => "stopped",
            VolumeState::Unused => "unused",
        };
        rows.add_row([
            one.deployment.clone(),
            format!("{}/{}", one.instance, one.volume),
            bytes(one.size_bytes),
            bytes(one.allocated_bytes),
            one.used_bytes.map_or_else(|| "-".to_owned(), bytes),
            state.to_owned(),
            one.snapshots.to_string(),
        ]);
    }
    out!("{rows}");
}

fn snapshots(session: &Session<'_>, all: &[SnapshotView]) {
    session.live.clear();
    if session.global.json {
        return render::json(&all);
    }
    let mut rows = table(&["SNAPSHOT", "TAKEN", "RELEASE", "WHY", "ON DISK", "STOOD STILL"]);
    for SnapshotView { manifest, allocated_bytes } in all {
        let taken = i64::try_from(manifest.taken_unix_ms / 1000).unwrap_or(i64::MAX);
        rows.add_row([
            manifest.name.clone() + if manifest.pinned { " (stays)" } else { "" },
            render::time(taken),
            manifest.release.clone().unwrap_or_else(|| "-".to_owned()),
            manifest.why.replace('-', " "),
            bytes(*allocated_bytes),
            manifest.frozen_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
        ]);
    }
    out!("{rows}");
}

fn taken(session: &Session<'_>, outcome: &UpOutcome, dry_run: bool) {
    session.live.clear();
    if session.global.json {
        render::json(outcome);
    } else if dry_run {
        plan::print(outcome, true);
    } else if let Some(made) = &outcome.plan.snapshot {
        out!("{} has snapshot {}", outcome.deployment, made.snapshot);
    }
}

/// Whoever destroys data names it twice: as what goes, and when asked.
fn remove(
    session: &Session<'_>,
    deployment: &DeploymentName,
    what: (Option<&VolumePath>, Option<&SnapshotName>),
    confirm: Option<&str>,
) -> Result<(), OpsError> {
    let (kind, wanted) = match what {
        (Some(VolumePath(one)), _) => ("volume", one.to_string()),
        (None, Some(snapshot)) => ("snapshot", snapshot.to_string()),
        // The command line asks for one of them.
        (None, None) => return Ok(()),
    };
    let given = match confirm {
        Some(given) => Some(given.to_owned()),
        None => {
            let prompt = format!("{kind} {wanted} of {deployment} is destroyed for good; type its name: ");
            answer(&prompt)
        }
    };
    if given.as_ref() != Some(&wanted) {
        return Err(OpsError::Data(DataError::NotConfirmed {
            what: format!("{kind} `{wanted}` of `{deployment}`"),
            wanted,
        }));
    }
    match what {
        (Some(VolumePath(one)), _) => session.plumb.remove_volume(deployment, one)?,
        (None, Some(snapshot)) => session.plumb.remove_snapshot(deployment, snapshot)?,
        (None, None) => {}
    }
    session.live.clear();
    out!("{kind} {wanted} of {deployment} is destroyed");
    Ok(())
}
