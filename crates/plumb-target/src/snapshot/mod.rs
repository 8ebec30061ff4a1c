//! Snapshots: copies of all volumes of a deployment as of one moment.
//!
//! ```text
//!  <volumes>/
//!    db-1--data.raw                a volume (see `volume`)
//!    snapshots/
//!      <name>/                     a snapshot: whole, durable, or not there
//!        manifest.json             Manifest, FORMAT 1
//!        db-1--data.raw            the copy
//!      .new-<name>/                being written; it becomes <name> by one rename, after everything in it is durable
//!      .gone-<name>/               being removed
//!      .restore/                   see `restore`
//! ```
//!
//! They lie beside the volumes so that a file system that can lets both share their blocks. Whoever is killed leaves
//! something with a dot, which the next command that may change the deployment removes or completes ([`recover`]).

mod content;
pub(crate) mod disk;
mod restore;
mod take;
mod transfer;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use content::FileSystem;
pub(crate) use content::file_system;
pub(crate) use restore::restore;
pub(crate) use take::{Still, take};
pub(crate) use transfer::{Import, export, import};

use crate::error::{At, TargetError};
use crate::file;
use crate::layout::check_name;
use disk::Disk;

/// Version of `manifest.json`, of `intent.json` and of exported files.
pub(crate) const FORMAT: u32 = 1;

const MANIFEST: &str = "manifest.json";

/// How a volume was kept from changing while it was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Its file system was frozen, in the guest.
    Frozen,
    /// No instance ran with it.
    AtRest,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always 1.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// The deployment whose volumes these are.
    pub deployment: String,
    /// As of when, milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// Generation of the plan that made it.
    pub generation: u64,
    /// The release that was current, `shop@3`; `None` if none was.
    pub release: Option<String>,
    /// Revision of the deployment's configuration then, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<u64>,
    /// Why it was made: a word of the caller's.
    pub why: String,
    /// It has a name of its own; nothing but its name removes it.
    pub pinned: bool,
    /// How long the volumes stood still, milliseconds; `None` if nothing had to.
    pub frozen_ms: Option<u64>,
    /// The volumes, by name.
    pub volumes: Vec<SnapshotVolume>,
}

/// One volume of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotVolume {
    /// Name of the volume, `db-1--data`.
    pub name: String,
    /// How it was kept from changing.
    pub held: Held,
    /// Size of the disk.
    pub size_bytes: u64,
    /// Bytes that were not in holes.
    pub allocated_bytes: u64,
    /// Digest of what is in it: see `content`.
    pub digest: String,
    /// It held a file system that an instance had used.
    pub initialized: bool,
    /// Its file system, if it is one that is known.
    pub filesystem: Option<FileSystem>,
}

/// What to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Name of the snapshot.
    pub name: String,
    /// The deployment.
    pub deployment: String,
    /// Generation of the plan: the same again finds what it made.
    pub generation: u64,
    /// The current release.
    pub release: Option<String>,
    /// Revision of its configuration.
    pub configuration: Option<u64>,
    /// Why: a word.
    pub why: String,
    /// Only its name removes it.
    pub pinned: bool,
    /// The volumes, and how they are kept from changing.
    pub volumes: Vec<(String, Held)>,
    /// Longest time that they may stand still, milliseconds.
    pub hold_ms: u64,
}

/// Where things are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub volumes: &'a Path,
}

impl Place<'_> {
    pub fn root(&self) -> PathBuf {
        self.volumes.join("snapshots")
    }

    pub fn snapshot(&self, name: &str) -> Result<PathBuf, TargetError> {
        check_name(name)?;
        Ok(self.root().join(name))
    }

    pub fn draft(&self, name: &str) -> PathBuf {
        self.root().join(format!(".new-{name}"))
    }

    fn gone(&self, name: &str) -> PathBuf {
        self.root().join(format!(".gone-{name}"))
    }

    pub fn restoring(&self) -> PathBuf {
        self.root().join(".restore")
    }
}

/// The copy of a volume in the folder of a snapshot.
pub(crate) fn copy_in(folder: &Path, volume: &str) -> PathBuf {
    folder.join(format!("{volume}.raw"))
}

/// All snapshots, oldest first.
pub(crate) fn list(place: Place<'_>) -> Result<Vec<Manifest>, TargetError> {
    let root = place.root();
    let entries = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(source).at("read", &root),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.at("read", &root)?.file_name();
        // What begins with a dot is no name; anything else in there that has no manifest is not ours.
        if let Some(name) = name.to_str().filter(|name| check_name(name).is_ok()) {
            found.extend(read(place, name)?);
        }
    }
    found.sort_by(|a: &Manifest, b| (a.taken_unix_ms, &a.name).cmp(&(b.taken_unix_ms, &b.name)));
    Ok(found)
}

/// One snapshot; `None` if there is none of this name.
pub(crate) fn read(place: Place<'_>, name: &str) -> Result<Option<Manifest>, TargetError> {
    let path = place.snapshot(name)?.join(MANIFEST);
    let Some(manifest) = file::read_json::<Manifest>(&path)? else { return Ok(None) };
    check_manifest(&manifest, &path)?;
    if manifest.name != name {
        return Err(TargetError::Snapshot { path, reason: format!("it calls itself `{}`", manifest.name) });
    }
    Ok(Some(manifest))
}

/// A manifest may come from elsewhere: its names become paths.
pub(crate) fn check_manifest(manifest: &Manifest, path: &Path) -> Result<(), TargetError> {
    let refuse = |reason: String| Err(TargetError::Snapshot { path: path.to_owned(), reason });
    if manifest.format != FORMAT {
        return refuse(format!("it has format {}, and {FORMAT} is known", manifest.format));
    }
    let names =
        manifest.volumes.iter().map(|volume| &volume.name).chain([&manifest.name, &manifest.deployment]);
    for name in names {
        check_name(name)?;
    }
    let mut sorted: Vec<&str> = manifest.volumes.iter().map(|volume| volume.name.as_str()).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse("it has a volume twice".to_owned());
    }
    Ok(())
}

/// Removes a snapshot; one that is not there is removed already.
pub(crate) fn remove(disk: &impl Disk, place: Place<'_>, name: &str) -> Result<(), TargetError> {
    let path = place.snapshot(name)?;
    let gone = place.gone(name);
    disk.remove(&gone).at("remove", &gone)?;
    match disk.rename(&path, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.at("remove", &path)?,
    }
    // Nobody sees it from here on, whatever happens to its files.
    let root = place.root();
    disk.sync(&root).at("sync", &root)?;
    disk.remove(&gone).at("remove", &gone)
}

/// Cleans up after whoever was killed: what was half written or half removed goes, and a restore that had begun is
/// completed. Call it with the deployment locked, before anything of it is started.
pub(crate) fn recover(disk: &impl Disk, place: Place<'_>) -> Result<(), TargetError> {
    let root = place.root();
    let entries = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(source).at("read", &root),
    };
    for entry in entries {
        let name = entry.at("read", &root)?.file_name();
        let left = name.to_str().is_some_and(|name| name.starts_with(".new-") || name.starts_with(".gone-"));
        if left {
            let path = root.join(name);
            disk.remove(&path).at("remove", &path)?;
        }
    }
    restore::recover(disk, place)
}

/// Opens the copy of a volume and its entry.
pub(crate) fn open_copy(place: Place<'_>, name: &str, volume: &str) -> Result<File, TargetError> {
    let path = copy_in(&place.snapshot(name)?, volume);
    File::open(&path).at("open", &path)
}
