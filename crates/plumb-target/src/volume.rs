//! Volumes as sparse raw files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::driver::ObservedVolume;
use crate::error::{At, TargetError};
use crate::file;
use crate::layout::check_name;

/// Bytes of a block in `st_blocks` (inode(7)).
const STAT_BLOCK_BYTES: u64 = 512;

/// Sizes are multiples of this, so the guest's file system and QEMU agree about the last block.
const ALIGN_BYTES: u64 = 4096;

pub(crate) fn path(dir: &Path, name: &str) -> Result<PathBuf, TargetError> {
    check_name(name)?;
    Ok(dir.join(format!("{name}.raw")))
}

fn marker(volume: &Path) -> PathBuf {
    volume.with_extension("raw.initialized")
}

/// A ready instance has used this volume; from now on it is never taken for an empty one.
pub(crate) fn mark_initialized(volume: &Path) -> Result<(), TargetError> {
    let marker = marker(volume);
    if marker.exists() {
        return Ok(());
    }
    file::create_or_open(&marker)?;
    file::sync_dir(marker.parent().unwrap_or(Path::new("/")))
}

/// What is in the volume now was never used.
pub(crate) fn unmark_initialized(volume: &Path) -> Result<(), TargetError> {
    file::remove(&marker(volume))
}

pub(crate) fn is_initialized(volume: &Path) -> bool {
    marker(volume).exists()
}

pub(crate) fn create(dir: &Path, name: &str, size_bytes: u64) -> Result<ObservedVolume, TargetError> {
    file::make_dir(dir)?;
    let path = path(dir, name)?;
    let wanted = size_bytes.next_multiple_of(ALIGN_BYTES);
    let file = file::create_or_open(&path)?;
    let size = file.metadata().at("read", &path)?.len();
    if size < wanted {
        file.set_len(wanted).at("make longer", &path)?;
    }
    file.sync_all().at("sync", &path)?;
    file::sync_dir(dir)?;
    observe(dir, name)
}

pub(crate) fn grow(dir: &Path, name: &str, size_bytes: u64) -> Result<ObservedVolume, TargetError> {
    let known = observe(dir, name)?;
    let wanted_bytes = size_bytes.next_multiple_of(ALIGN_BYTES);
    if wanted_bytes < known.size_bytes {
        let size_bytes = known.size_bytes;
        return Err(TargetError::VolumeShrink { volume: name.to_owned(), size_bytes, wanted_bytes });
    }
    create(dir, name, size_bytes)
}

pub(crate) fn remove(dir: &Path, name: &str) -> Result<(), TargetError> {
    let path = path(dir, name)?;
    // The marker goes last: a volume without its marker could be formatted, one without its file is gone.
    file::remove(&path)?;
    file::remove(&marker(&path))
}

pub(crate) fn observe(dir: &Path, name: &str) -> Result<ObservedVolume, TargetError> {
    let path = path(dir, name)?;
    let data = match fs::metadata(&path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(TargetError::NoVolume { volume: name.to_owned() });
        }
        Err(source) => return Err(source).at("read", &path),
    };
    Ok(ObservedVolume {
        name: name.to_owned(),
        size_bytes: data.len(),
        allocated_bytes: data.blocks() * STAT_BLOCK_BYTES,
        initialized: is_initialized(&path),
        path,
    })
}

pub(crate) fn list(dir: &Path) -> Result<Vec<ObservedVolume>, TargetError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(source).at("read", dir),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.at("read", dir)?.file_name();
        // Anything else in there is not ours.
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".raw"))
            && check_name(name).is_ok()
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    names.iter().map(|name| observe(dir, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_grows_and_keeps_its_data() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("volumes");
        assert_eq!(list(&dir).unwrap(), []);
        let made = create(&dir, "db-data-1", 10_000_000).unwrap();
        assert_eq!(made.size_bytes, 10_002_432);
        assert!(made.allocated_bytes < 100_000 && !made.initialized);
        fs::write(dir.join("other.txt"), "x").unwrap();
        let mut bytes = fs::read(&made.path).unwrap();
        bytes[5] = 7;
        fs::write(&made.path, &bytes).unwrap();
        mark_initialized(&made.path).unwrap();
        assert_eq!(create(&dir, "db-data-1", 4096).unwrap().size_bytes, 10_002_432);
        assert!(matches!(grow(&dir, "db-data-1", 4096), Err(TargetError::VolumeShrink { .. })));
        let grown = grow(&dir, "db-data-1", 20_000_000).unwrap();
        assert!(grown.size_bytes >= 20_000_000 && grown.initialized);
        assert_eq!(fs::read(&made.path).unwrap()[5], 7);
        assert_eq!(list(&dir).unwrap(), [grown]);
        remove(&dir, "db-data-1").unwrap();
        remove(&dir, "db-data-1").unwrap();
        assert_eq!(list(&dir).unwrap(), []);
        assert!(matches!(grow(&dir, "db-data-1", 1), Err(TargetError::NoVolume { .. })));
        assert!(matches!(create(&dir, "../x", 1), Err(TargetError::Name { .. })));
    }
}
