//! Files and directories of the store: how they come to be, and where unfinished ones live.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::gate::{Change, Gate};
use crate::{Error, Result};

/// How many names are tried for a scratch directory. Each loss means that another process cleaned in the same
/// microsecond; a handful of losses in a row does not happen by chance.
const SCRATCH_TRIES: u32 = 16;

/// Distinguishes the scratch directories of several stores in one process.
static SCRATCH_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Creates `path` and its parents; what is created is for its owner only.
pub(crate) fn create_private_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates one directory if it is not there. True if it was created.
pub(crate) fn create_dir(gate: &dyn Gate, path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    gate.before(&Change::CreateDir(path))?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a new file and makes its bytes durable. The file is read-only for later writers.
pub(crate) fn write_synced(gate: &dyn Gate, path: &Path, bytes: &[u8]) -> io::Result<()> {
    gate.before(&Change::Create(path))?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    write(gate, path, &mut file, bytes)?;
    sync_file(gate, path, &file)
}

/// Writes bytes to the end of a file that lies at `path`.
pub(crate) fn write(gate: &dyn Gate, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<()> {
    match gate.before(&Change::Write(path, bytes.len())) {
        Ok(()) => file.write_all(bytes),
        Err(error) => {
            // As a full disk does it. That half a write fails as well changes nothing of the error.
            let _ = file.write_all(&bytes[..bytes.len() / 2]);
            Err(error)
        }
    }
}

/// Makes the bytes of the file at `path` durable.
pub(crate) fn sync_file(gate: &dyn Gate, path: &Path, file: &File) -> io::Result<()> {
    gate.before(&Change::Sync(path))?;
    file.sync_all()
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(gate: &dyn Gate, path: &Path) -> io::Result<()> {
    gate.before(&Change::Sync(path))?;
    File::open(path)?.sync_all()
}

/// Gives a file another name, in place of what has it.
pub(crate) fn rename(gate: &dyn Gate, from: &Path, to: &Path) -> io::Result<()> {
    gate.before(&Change::Rename(from, to))?;
    fs::rename(from, to)
}

/// Takes a name away. False if it was not there.
pub(crate) fn remove_file(gate: &dyn Gate, path: &Path) -> io::Result<bool> {
    gate.before(&Change::Remove(path))?;
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a file of at most `limit` bytes; a longer one is [`io::ErrorKind::FileTooLarge`].
pub(crate) fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// No space. That is no reason not to open a store: whoever wants space has to open it.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The unfinished files of this process.
#[derive(Debug)]
pub(crate) struct Scratch {
    gate: Arc<dyn Gate>,
    tmp: PathBuf,
    /// Made when the store is opened, or as soon as there is space for it.
    own: OnceLock<Own>,
    /// Held while it is made.
    making: Mutex<()>,
    next: AtomicU64,
}

/// The directory of one process, held by a lock as long as the process lives.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    /// Also carries the flock, which the kernel drops when the process ends in any way.
    fd: OwnedFd,
}

impl Scratch {
    /// Removes what dead processes left in `tmp` and makes a directory for this one; on a full disk later, when it is used.
    pub(crate) fn open(gate: &Arc<dyn Gate>, tmp: &Path) -> Result<Scratch> {
        remove_abandoned(&**gate, tmp)?;
        let (own, making, next) = (OnceLock::new(), Mutex::new(()), AtomicU64::new(0));
        let scratch = Scratch { gate: gate.clone(), tmp: tmp.to_owned(), own, making, next };
        match scratch.own() {
            Err(error) if !is_full(&error) => {
                Err(Error::write("a directory for unfinished files", tmp, error))
            }
            _ => Ok(scratch),
        }
    }

    /// The directory of this process; makes it if there is none yet.
    fn own(&self) -> io::Result<&Own> {
        if let Some(own) = self.own.get() {
            return Ok(own);
        }
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = self.own.get() {
            return Ok(own);
        }
        for _ in 0..SCRATCH_TRIES {
            let number = SCRATCH_NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = self.tmp.join(format!("{}-{number}", std::process::id()));
            if !create_dir(&*self.gate, &path)? {
                continue;
            }
            if let Some(fd) = claim(&path)? {
                return Ok(self.own.get_or_init(|| Own { path, fd }));
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name"))
    }

    /// Creates a new file with the given mode; returns it and its name in this directory.
    pub(crate) fn create(&self, mode: u32) -> io::Result<(File, String)> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let own = self.own()?;
        self.gate.before(&Change::Create(&own.path.join(&name)))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&own.fd, &name, flags, Mode::from_raw_mode(mode))?;
        Ok((File::from(fd), name))
    }

    /// A path in this directory that nothing else will use.
    pub(crate) fn unused_path(&self) -> io::Result<PathBuf> {
        Ok(self.own()?.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// Creates a new file without a name: it goes with its last descriptor.
    pub(crate) fn create_unnamed(&self) -> io::Result<File> {
        let (file, name) = self.create(0o600)?;
        self.discard(&name)?;
        Ok(file)
    }

    /// Adds bytes to the end of the file `name`.
    pub(crate) fn append(&self, name: &str, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        write(&*self.gate, &self.path_of(name), file, bytes)
    }

    /// Makes the bytes of the file `name` durable.
    pub(crate) fn sync(&self, name: &str, file: &File) -> io::Result<()> {
        sync_file(&*self.gate, &self.path_of(name), file)
    }

    /// Gives a finished file its final name, replacing what has that name.
    pub(crate) fn publish(&self, name: &str, target: &Path) -> io::Result<()> {
        self.gate.before(&Change::Rename(&self.path_of(name), target))?;
        Ok(rustix::fs::renameat(&self.own()?.fd, name, rustix::fs::CWD, target)?)
    }

    /// Gives a finished file its final name unless the name is taken ([`io::ErrorKind::AlreadyExists`]).
    pub(crate) fn publish_new(&self, name: &str, target: &Path) -> io::Result<()> {
        self.gate.before(&Change::Link(&self.path_of(name), target))?;
        rustix::fs::linkat(&self.own()?.fd, name, rustix::fs::CWD, target, AtFlags::empty())?;
        self.discard(name)
    }

    /// Removes an unfinished file.
    pub(crate) fn discard(&self, name: &str) -> io::Result<()> {
        self.gate.before(&Change::Remove(&self.path_of(name)))?;
        Ok(rustix::fs::unlinkat(&self.own()?.fd, name, AtFlags::empty())?)
    }

    /// Where the file `name` is, for messages.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.own.get().map_or(&self.tmp, |own| &own.path).join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(own) = self.own.get() else { return };
        // What stays behind is removed by the next `Scratch::open`: the lock is gone with this value.
        if self.gate.before(&Change::Remove(&own.path)).is_ok() {
            let _ = fs::remove_dir_all(&own.path);
        }
    }
}

/// Locks a directory of `tmp`. None if somebody else has it, or had it and has removed it.
fn claim(path: &Path) -> io::Result<Option<OwnedFd>> {
    let dir = match File::open(path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    // A cleaner may have removed the directory between our open and our lock: then the lock guards nothing.
    match fs::metadata(path) {
        Ok(found) if found.ino() == dir.metadata()?.ino() => Ok(Some(dir.into())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the directories in `tmp` that no living process holds.
fn remove_abandoned(gate: &dyn Gate, tmp: &Path) -> Result<()> {
    let what = "unfinished files of an ended process";
    let entries = fs::read_dir(tmp).map_err(|source| Error::read(what, tmp, source))?;
    for entry in entries {
        let path = entry.map_err(|source| Error::read(what, tmp, source))?.path();
        // A file that is no directory is not of this layout and not ours to remove.
        if !path.is_dir() {
            continue;
        }
        remove_abandoned_at(gate, &path).map_err(|source| Error::write(what, &path, source))?;
    }
    Ok(())
}

/// Removes a directory in `tmp` unless a living process holds it.
pub(crate) fn remove_abandoned_at(gate: &dyn Gate, path: &Path) -> io::Result<()> {
    let Some(_held) = claim(path)? else { return Ok(()) };
    gate.before(&Change::Remove(path))?;
    fs::remove_dir_all(path)
}

/// Whether what lies in `tmp` at `path` belongs to no living process.
pub(crate) fn is_abandoned(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(true);
    }
    Ok(claim(path)?.is_some())
}
