//! The upper layer of the overlay, written to the answer disk.
//!
//! How an overlay marks what is gone: kernel Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
//! directories".

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use plumb_guest_proto::{ANSWER_FRAMES, ANSWER_MAGIC, BuildOutcome, Change, ChangeKind, Checksum};

use crate::error::Error;
use crate::limit;

/// Everything that was written so far.
struct Frames<W> {
    disk: W,
    outcome: BuildOutcome,
    checksum: Checksum,
}

impl<W: Write> Frames<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_all(bytes)?;
        self.checksum.add(bytes);
        self.outcome.bytes += bytes.len() as u64;
        Ok(())
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        let json = serde_json::to_vec(change)?;
        self.put(&u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes())?;
        self.put(&json)?;
        self.outcome.changes += 1;
        Ok(())
    }

    /// Exactly `size` bytes: the frame has said so already.
    fn contents(&mut self, file: &mut dyn Read, mut size: u64) -> io::Result<()> {
        let mut chunk = vec![0; limit::BUILD_COPY_BYTES];
        while size > 0 {
            let part = chunk.len().min(usize::try_from(size).unwrap_or(usize::MAX));
            file.read_exact(&mut chunk[..part])?;
            self.put(&chunk[..part])?;
            size -= part as u64;
        }
        Ok(())
    }
}

/// Writes one frame for everything below `upper`, in the order of names.
///
/// # Errors
/// [`Error::File`].
pub fn write(disk: &Path, upper: &Path) -> Result<BuildOutcome, Error> {
    let failed = || Error::file("write the changes to", disk.display().to_string());
    let file = open(disk, ANSWER_FRAMES)?;
    let outcome = BuildOutcome { failed: None, changes: 0, bytes: 0, checksum: 0 };
    let mut frames = Frames {
        disk: BufWriter::with_capacity(limit::BUILD_COPY_BYTES, file),
        outcome,
        checksum: Checksum::default(),
    };
    walk(&mut frames, upper).map_err(failed())?;
    frames.disk.flush().map_err(failed())?;
    frames.outcome.checksum = frames.checksum.value();
    Ok(frames.outcome)
}

/// Writes the outcome: only now the answer counts.
///
/// # Errors
/// [`Error::File`].
pub fn finish(disk: &Path, outcome: &BuildOutcome) -> Result<(), Error> {
    let failed = || Error::file("write the outcome to", disk.display().to_string());
    let mut file = open(disk, 0)?;
    // What the outcome speaks of has to be there before it.
    file.sync_all().map_err(failed())?;
    let json = serde_json::to_vec(outcome).map_err(io::Error::from).map_err(failed())?;
    let mut head = ANSWER_MAGIC.to_vec();
    head.extend(u32::try_from(json.len()).map_err(io::Error::other).map_err(failed())?.to_le_bytes());
    head.extend(json);
    file.write_all(&head).and_then(|()| file.sync_all()).map_err(failed())
}

fn open(disk: &Path, at: u64) -> Result<File, Error> {
    let failed = || Error::file("open", disk.display().to_string());
    let mut file = OpenOptions::new().write(true).open(disk).map_err(failed())?;
    file.seek(SeekFrom::Start(at)).map_err(failed())?;
    Ok(file)
}

/// Directories before what is in them.
fn walk<W: Write>(frames: &mut Frames<W>, top: &Path) -> io::Result<()> {
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        let at = top.join(&below);
        if below.as_os_str().is_empty() {
            left.extend(children(&at, &below)?);
            continue;
        }
        let metadata = std::fs::symlink_metadata(&at)?;
        let path = below.to_str().ok_or_else(|| {
            io::Error::other(format!("a script has made `/{}`, whose name is not UTF-8", below.display()))
        })?;
        let change = describe(path, &at, &metadata)?;
        frames.change(&change)?;
        match change.kind {
            ChangeKind::File { size } => frames.contents(&mut File::open(&at)?, size)?,
            ChangeKind::Directory { .. } => left.extend(children(&at, &below)?),
            _ => {}
        }
    }
    Ok(())
}

/// In reverse order, as they are taken from the end.
fn children(at: &Path, below: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names =
        std::fs::read_dir(at)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names.into_iter().rev().map(|name| below.join(name)).collect())
}

fn describe(path: &str, at: &Path, metadata: &Metadata) -> io::Result<Change> {
    Ok(Change {
        path: format!("/{path}"),
        kind: kind(metadata.file_type(), at, metadata)?,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        capability: attribute(at, "security.capability")?.map(|value| hex(&value)),
    })
}

fn kind(kind: FileType, at: &Path, metadata: &Metadata) -> io::Result<ChangeKind> {
    Ok(if kind.is_dir() {
        ChangeKind::Directory { opaque: attribute(at, "trusted.overlay.opaque")?.as_deref() == Some(b"y") }
    } else if kind.is_file() {
        ChangeKind::File { size: metadata.size() }
    } else if kind.is_symlink() {
        let target = std::fs::read_link(at)?;
        let text = target.to_str().ok_or_else(|| {
            io::Error::other(format!(
                "a script has made a link to `{}`, which is not UTF-8",
                target.display()
            ))
        })?;
        ChangeKind::Symlink { target: text.to_owned() }
    } else if kind.is_char_device() && metadata.rdev() == 0 {
        ChangeKind::Removed
    } else {
        ChangeKind::Special
    })
}

/// The value of an extended attribute of the file itself, if it has it.
fn attribute(at: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = [0; limit::BUILD_ATTRIBUTE_BYTES];
    match rustix::fs::lgetxattr(at, name, &mut value[..]) {
        Ok(length) => Ok(Some(value[..length].to_vec())),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_becomes_frames() {
        let folder = std::env::temp_dir().join(format!("plumb-answer-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("etc/b")).unwrap();
        std::fs::write(folder.join("etc/a"), b"text").unwrap();
        std::os::unix::fs::symlink("a", folder.join("etc/b/link")).unwrap();
        let outcome = BuildOutcome { failed: None, changes: 0, bytes: 0, checksum: 0 };
        let mut frames = Frames { disk: Vec::new(), outcome, checksum: Checksum::default() };
        walk(&mut frames, &folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let text = String::from_utf8_lossy(&frames.disk).into_owned();
        let mut rest = text.as_str();
        for part in [
            r#"{"path":"/etc","kind":{"directory":{"opaque":false}}"#,
            r#"{"path":"/etc/a","kind":{"file":{"size":4}}"#,
            "text",
            r#"{"path":"/etc/b","kind""#,
            r#"{"path":"/etc/b/link","kind":{"symlink":{"target":"a"}}"#,
        ] {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part} is missing or late in {text}"));
            rest = &rest[at + part.len()..];
        }
        assert_eq!((frames.outcome.changes, frames.outcome.bytes), (4, frames.disk.len() as u64));
    }
}
