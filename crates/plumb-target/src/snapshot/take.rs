//! Taking a snapshot.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::{Copied, Disk};
use super::{Held, MANIFEST, Manifest, Place, SnapshotRequest, SnapshotVolume, content, copy_in, read};
use crate::clock::unix_ms;
use crate::error::{At, TargetError};
use crate::volume;

/// Bytes of a block in `st_blocks` (inode(7)).
const STAT_BLOCK_BYTES: u64 = 512;

/// Space that stays free beside a copy: the manifest, directories, and a log or two.
const MARGIN_BYTES: u64 = 16 << 20;

/// Whoever keeps the volumes from changing.
pub(crate) trait Still {
    /// From now on nothing changes.
    fn hold(&mut self) -> Result<(), TargetError>;
    /// Whether there is time left to copy.
    fn is_in_time(&self) -> bool;
    /// Everything goes on. Returns how long it stood still in milliseconds, `None` if nothing had to; an error if it was
    /// not held all the time.
    fn let_go(&mut self) -> Result<Option<u64>, TargetError>;
}

/// Takes a snapshot. `news` hears the bytes that were copied. The same request again finds what it made.
pub(crate) fn take(
    disk: &impl Disk,
    place: Place<'_>,
    request: &SnapshotRequest,
    still: &mut impl Still,
    news: &mut dyn FnMut(u64),
) -> Result<Manifest, TargetError> {
    if let Some(known) = read(place, &request.name)? {
        if known.generation == request.generation && known.deployment == request.deployment {
            return Ok(known);
        }
        return Err(TargetError::SnapshotExists { snapshot: request.name.clone() });
    }
    let root = place.root();
    disk.make_dir(&root).at("make", &root)?;
    check_space(disk, place, request)?;
    let folder = place.draft(&request.name);
    disk.remove(&folder).at("remove", &folder)?;
    let taken = write(disk, place, request, still, news);
    if taken.is_err() {
        // Best effort: a folder that stays is removed by the next command, and is no snapshot.
        let _ = disk.remove(&folder);
    }
    taken
}

fn write(
    disk: &impl Disk,
    place: Place<'_>,
    request: &SnapshotRequest,
    still: &mut impl Still,
    news: &mut dyn FnMut(u64),
) -> Result<Manifest, TargetError> {
    let (root, folder) = (place.root(), place.draft(&request.name));
    disk.make_dir(&folder).at("make", &folder)?;
    let held = still.hold();
    // From here on somebody may stand still: whatever happens, it goes on before anything else.
    let taken_unix_ms = unix_ms();
    let copied = held.and_then(|()| copy_all(disk, place, request, still, news));
    let let_go = still.let_go();
    copied?;
    let frozen_ms = let_go?;
    let mut volumes = Vec::new();
    for (name, held) in &request.volumes {
        let path = copy_in(&folder, name);
        disk.sync(&path).at("sync", &path)?;
        let described = describe(&path, volume::is_initialized(&volume::path(place.volumes, name)?));
        let described = described.at("read", &path)?;
        volumes.push(SnapshotVolume { name: name.clone(), held: *held, ..described });
    }
    let manifest = Manifest {
        format: super::FORMAT,
        name: request.name.clone(),
        deployment: request.deployment.clone(),
        taken_unix_ms,
        generation: request.generation,
        release: request.release.clone(),
        configuration: request.configuration,
        why: request.why.clone(),
        pinned: request.pinned,
        frozen_ms,
        volumes,
    };
    publish(disk, place, &manifest)?;
    disk.sync(&root).at("sync", &root)?;
    Ok(manifest)
}

/// Makes what is in `.new-<name>` the snapshot `<name>`, after everything in it is durable.
pub(super) fn publish(disk: &impl Disk, place: Place<'_>, manifest: &Manifest) -> Result<(), TargetError> {
    let folder = place.draft(&manifest.name);
    let path = folder.join(MANIFEST);
    let bytes = serde_json::to_vec(manifest)
        .map_err(|source| TargetError::Record { what: path.display().to_string(), source })?;
    disk.write(&path, &bytes).at("write", &path)?;
    disk.sync(&folder).at("sync", &folder)?;
    let whole = place.snapshot(&manifest.name)?;
    disk.rename(&folder, &whole).at("make", &whole)
}

fn copy_all(
    disk: &impl Disk,
    place: Place<'_>,
    request: &SnapshotRequest,
    still: &mut impl Still,
    news: &mut dyn FnMut(u64),
) -> Result<(), TargetError> {
    let folder = place.draft(&request.name);
    let mut before = 0;
    for (name, _) in &request.volumes {
        let from = volume::path(place.volumes, name)?;
        let mut goes_on = |copied: u64| {
            news(before + copied);
            still.is_in_time()
        };
        match disk.copy(&from, &copy_in(&folder, name), &mut goes_on).at("copy", &from)? {
            Copied::Shared => {}
            Copied::Bytes(count) => before += count,
            Copied::Stopped => {
                return Err(TargetError::SnapshotLate {
                    snapshot: request.name.clone(),
                    limit_ms: request.hold_ms,
                });
            }
        }
    }
    Ok(())
}

/// The space is there before anything stands still.
fn check_space(disk: &impl Disk, place: Place<'_>, request: &SnapshotRequest) -> Result<(), TargetError> {
    let root = place.root();
    let mut wanted_bytes = MARGIN_BYTES;
    if !disk.shares_blocks(&root) {
        for (name, _) in &request.volumes {
            wanted_bytes += volume::observe(place.volumes, name)?.allocated_bytes;
        }
    }
    need_space(disk, &root, wanted_bytes)
}

pub(super) fn need_space(disk: &impl Disk, at: &Path, wanted_bytes: u64) -> Result<(), TargetError> {
    let free_bytes = disk.free_bytes(at).at("look at the space of", at)?;
    if free_bytes < wanted_bytes {
        return Err(TargetError::NoSpace { path: PathBuf::from(at), wanted_bytes, free_bytes });
    }
    Ok(())
}

/// What a copy holds; its name and how it was held are the caller's.
pub(super) fn describe(path: &Path, initialized: bool) -> io::Result<SnapshotVolume> {
    let file = File::open(path)?;
    let data = file.metadata()?;
    Ok(SnapshotVolume {
        name: String::new(),
        held: Held::AtRest,
        size_bytes: data.len(),
        allocated_bytes: data.blocks() * STAT_BLOCK_BYTES,
        digest: content::digest(&file)?,
        initialized,
        filesystem: content::file_system(&file),
    })
}
