//! The one door to files: bounded reads, atomic writes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{At, TargetError};

/// Largest record of ours that is read back. The biggest is the keeper's wanted state, a few hundred bytes per
/// instance; more than this was not written by us.
const MAX_RECORD_BYTES: u64 = 8 * 1024 * 1024;

/// Part of a text file that a tail looks at: 500 long console lines.
const MAX_TAIL_BYTES: u64 = 256 * 1024;

/// Makes a directory and its parents; only the owner may enter, as sockets below are open to whoever may.
pub(crate) fn make_dir(path: &Path) -> Result<(), TargetError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).at("make", path)
}

/// Reads a record; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, TargetError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(source).at("open", path),
    };
    let mut bytes = Vec::new();
    file.take(MAX_RECORD_BYTES).read_to_end(&mut bytes).at("read", path)?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| TargetError::Malformed { path: path.to_owned(), source })
}

/// Writes a record so that a reader sees the old or the new one, also after a kill at any moment.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), TargetError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|source| TargetError::Record { what: path.display().to_string(), source })?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).at("make a file in", dir)?;
    file.write_all(&bytes).at("write", path)?;
    file.persist(path).map_err(|error| error.error).at("write", path)?;
    Ok(())
}

/// Removes a file; one that is not there is removed already.
pub(crate) fn remove(path: &Path) -> Result<(), TargetError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Removes a directory with all below; one that is not there is removed already.
pub(crate) fn remove_tree(path: &Path) -> Result<(), TargetError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Opens for appending, readable by the owner only.
pub(crate) fn append(path: &Path) -> Result<File, TargetError> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).at("open", path)
}

/// Makes a new file or finds it: readable and writable by the owner only, never truncated.
pub(crate) fn create_or_open(path: &Path) -> Result<File, TargetError> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .at("open", path)
}

/// Makes entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), TargetError> {
    File::open(path).and_then(|dir| dir.sync_all()).at("sync", path)
}

/// The last `lines` lines of a text file; empty if there is no file. Invalid UTF-8 and control characters are
/// replaced, because a guest writes what it likes and the text goes to a terminal.
pub(crate) fn tail(path: &Path, lines: usize) -> Result<Vec<String>, TargetError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(source).at("open", path),
    };
    let length = file.metadata().at("read", path)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_TAIL_BYTES))).at("read", path)?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL_BYTES).read_to_end(&mut bytes).at("read", path)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<String> = text.lines().map(plain).collect();
    Ok(all[all.len().saturating_sub(lines)..].to_vec())
}

/// Would a terminal do anything but show it?
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control() && c != '\t'
}

pub(crate) fn plain(line: &str) -> String {
    line.chars().filter(|c| *c != '\r').map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect()
}

/// Text of somebody else's as it is safe on a terminal: control characters but tabs and line ends are replaced.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_missing_ones_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        write_json(&path, &7_u32).unwrap();
        write_json(&path, &8_u32).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(8));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(&path, "{").unwrap();
        assert!(matches!(read_json::<u32>(&path), Err(TargetError::Malformed { .. })));
    }

    #[test]
    fn a_tail_is_safe_to_print() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        assert_eq!(tail(&path, 3).unwrap(), Vec::<String>::new());
        fs::write(&path, b"one\r\ntwo \x1b[31m\xff\nthree").unwrap();
        assert_eq!(tail(&path, 2).unwrap(), ["two \u{fffd}[31m\u{fffd}", "three"]);
    }
}
