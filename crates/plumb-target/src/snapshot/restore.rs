//! Putting a snapshot in the place of volumes: all of them, or none.
//!
//! ```text
//!  <volumes>/snapshots/.restore/
//!    db-1--data.raw       a copy of the snapshot's, verified and durable
//!    intent.json          appears by one rename when all copies are there: from here on it happens, whoever is killed
//!                         then each copy is renamed over its volume, and the folder goes
//! ```

use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{Copied, Disk};
use super::{FORMAT, Manifest, Place, content, copy_in, read, take};
use crate::error::{At, TargetError};
use crate::{file, volume};

const INTENT: &str = "intent.json";

/// What is put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Intent {
    format: u32,
    snapshot: String,
    /// Names of the volumes, and whether they hold a file system that was used.
    volumes: Vec<(String, bool)>,
}

/// Replaces the volumes named by what the snapshot `name` has of them. No instance may run with one of them.
pub(crate) fn restore(
    disk: &impl Disk,
    place: Place<'_>,
    name: &str,
    volumes: &[String],
    news: &mut dyn FnMut(u64),
) -> Result<(), TargetError> {
    let no_snapshot = || TargetError::NoSnapshot { snapshot: name.to_owned() };
    let manifest = read(place, name)?.ok_or_else(no_snapshot)?;
    let folder = place.restoring();
    recover(disk, place)?;
    prepare(disk, place, &manifest, volumes, news).inspect_err(|_| {
        // Best effort: without an intent it is nothing, and the next command removes it.
        let _ = disk.remove(&folder);
    })?;
    recover(disk, place)
}

fn prepare(
    disk: &impl Disk,
    place: Place<'_>,
    manifest: &Manifest,
    volumes: &[String],
    news: &mut dyn FnMut(u64),
) -> Result<(), TargetError> {
    let (from, folder) = (place.snapshot(&manifest.name)?, place.restoring());
    let find = |volume: &String| {
        let found = manifest.volumes.iter().find(|entry| entry.name == *volume);
        found.ok_or_else(|| TargetError::NotInSnapshot {
            snapshot: manifest.name.clone(),
            volume: volume.clone(),
        })
    };
    let wanted = volumes.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    if !disk.shares_blocks(&place.root()) {
        let all = wanted.iter().map(|entry| entry.allocated_bytes).sum();
        take::need_space(disk, &place.root(), all)?;
    }
    disk.make_dir(&folder).at("make", &folder)?;
    let mut before = 0;
    for entry in &wanted {
        let (source, copy) = (copy_in(&from, &entry.name), copy_in(&folder, &entry.name));
        let mut goes_on = |copied: u64| {
            news(before + copied);
            true
        };
        if let Copied::Bytes(count) = disk.copy(&source, &copy, &mut goes_on).at("copy", &source)? {
            before += count;
        }
        disk.sync(&copy).at("sync", &copy)?;
        let found = File::open(&copy).and_then(|file| content::digest(&file)).at("read", &copy)?;
        if found != entry.digest {
            return Err(TargetError::SnapshotDamaged {
                snapshot: manifest.name.clone(),
                volume: entry.name.clone(),
            });
        }
    }
    let intent = Intent {
        format: FORMAT,
        snapshot: manifest.name.clone(),
        volumes: wanted.iter().map(|entry| (entry.name.clone(), entry.initialized)).collect(),
    };
    let (draft, path) = (folder.join("intent.new"), folder.join(INTENT));
    let bytes = serde_json::to_vec(&intent)
        .map_err(|source| TargetError::Record { what: path.display().to_string(), source })?;
    disk.write(&draft, &bytes).at("write", &draft)?;
    disk.sync(&folder).at("sync", &folder)?;
    disk.rename(&draft, &path).at("write", &path)?;
    disk.sync(&folder).at("sync", &folder)
}

/// Completes a restore whose intent is there; removes what is there of one without.
pub(super) fn recover(disk: &impl Disk, place: Place<'_>) -> Result<(), TargetError> {
    let folder = place.restoring();
    let path = folder.join(INTENT);
    if let Some(intent) = file::read_json::<Intent>(&path)? {
        if intent.format != FORMAT {
            let reason = format!("it has format {}, and {FORMAT} is known", intent.format);
            return Err(TargetError::Snapshot { path, reason });
        }
        for (name, initialized) in &intent.volumes {
            put(disk, place, (name, *initialized), &copy_in(&folder, name))?;
        }
        disk.sync(place.volumes).at("sync", place.volumes)?;
        disk.remove(&path).at("remove", &path)?;
        disk.sync(&folder).at("sync", &folder)?;
    }
    disk.remove(&folder).at("remove", &folder)
}

fn put(
    disk: &impl Disk,
    place: Place<'_>,
    (name, initialized): (&str, bool),
    copy: &Path,
) -> Result<(), TargetError> {
    let path = volume::path(place.volumes, name)?;
    // A marker that says too much only keeps a blank disk from being formatted; it goes last, and comes first.
    if initialized {
        volume::mark_initialized(&path)?;
    }
    match disk.rename(copy, &path) {
        // It is there already: whoever was killed had come so far.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {}
        other => other.at("put in place", &path)?,
    }
    if !initialized {
        volume::unmark_initialized(&path)?;
    }
    Ok(())
}
