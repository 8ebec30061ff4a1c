//! The one door to the file system that snapshots are written through: the tests break it at every step.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek, statvfs};
use rustix::io::Errno;

/// Bytes that are copied between two looks at the time.
const PIECE_BYTES: u64 = 8 << 20;

/// How a copy was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// The file system shares the blocks until one side is written (FICLONE).
    Shared,
    /// Byte by byte, holes left out; so many bytes were not in holes.
    Bytes(u64),
    /// The caller did not want to go on.
    Stopped,
}

/// What is done to files of snapshots.
pub(crate) trait Disk {
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// A new file like `from`; `goes_on` hears after each piece how many bytes were copied.
    fn copy(&self, from: &Path, to: &Path, goes_on: &mut dyn FnMut(u64) -> bool) -> io::Result<Copied>;
    /// A new file with these bytes, durable.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file, or the entries of a directory, durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, or a directory with all below; what is not there is removed already.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Bytes that can still be written below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Files below `dir` can share blocks.
    fn shares_blocks(&self, dir: &Path) -> bool;
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Real;

impl Disk for Real {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn copy(&self, from: &Path, to: &Path, goes_on: &mut dyn FnMut(u64) -> bool) -> io::Result<Copied> {
        let source = File::open(from)?;
        let target = new_file(to)?;
        if ioctl_ficlone(&target, &source).is_ok() {
            return Ok(Copied::Shared);
        }
        let size = source.metadata()?.len();
        target.set_len(size)?;
        let mut copied = 0;
        for extent in Extents::of(&source, size) {
            let (mut at, end) = extent?;
            while at < end {
                let piece = copy_piece(&source, &target, at, (end - at).min(PIECE_BYTES))?;
                at += piece;
                copied += piece;
                if !goes_on(copied) {
                    return Ok(Copied::Stopped);
                }
            }
        }
        Ok(Copied::Bytes(copied))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = new_file(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(data) if data.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let found = statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn shares_blocks(&self, dir: &Path) -> bool {
        // Nobody tells but the file system itself, when it is asked to.
        let try_it = || -> io::Result<()> {
            let mut one = tempfile::tempfile_in(dir)?;
            one.write_all(&[1; 4096])?;
            Ok(ioctl_ficlone(&tempfile::tempfile_in(dir)?, &one)?)
        };
        try_it().is_ok()
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// At least one byte, or an error.
fn copy_piece(source: &File, target: &File, at: u64, length: u64) -> io::Result<u64> {
    let (mut from, mut to) = (at, at);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(count as u64),
        Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            let mut buffer = vec![0; length.min(1 << 20)];
            let count = source.read_at(&mut buffer, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            target.write_all_at(&buffer[..count], at)?;
            Ok(count as u64)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The parts of a file that are not holes: start and end in bytes.
pub(crate) struct Extents<'f> {
    file: &'f File,
    at: u64,
    size: u64,
}

impl<'f> Extents<'f> {
    pub fn of(file: &'f File, size: u64) -> Self {
        Extents { file, at: 0, size }
    }

    fn following(&mut self) -> io::Result<Option<(u64, u64)>> {
        if self.at >= self.size {
            return Ok(None);
        }
        let start = match seek(self.file, SeekFrom::Data(self.at)) {
            Ok(start) => start,
            // Nothing but a hole until the end.
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(self.file, SeekFrom::Hole(start))?.min(self.size);
        self.at = end;
        Ok((start < end).then_some((start, end)))
    }
}

impl Iterator for Extents<'_> {
    type Item = io::Result<(u64, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.following().transpose()
    }
}

/// Fills `buffer` as far as `reader` goes; how far that was.
pub(crate) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
