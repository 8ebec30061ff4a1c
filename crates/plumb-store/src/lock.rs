//! Locks between processes, by flock(2): the kernel drops them when their process ends in any way.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::entry::check_name;
use crate::{Error, Result, Store};

/// Longest text about a holder: a pid and two words of a command line.
const HOLDER_LIMIT_BYTES: u64 = 256;

/// Longest part of `/proc/self/cmdline` that is looked at; the first two words are what people recognise.
const COMMAND_LIMIT_BYTES: u64 = 4096;

/// Who has a lock, in words: `process 1234 (plumb up)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lock is held until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is released as soon as this is dropped"]
pub struct LockGuard {
    file: File,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // Only the text for people is taken away; closing the file releases the lock, whatever happened here.
        let _ = self.file.set_len(0);
    }
}

impl Store {
    /// Takes the lock `name` or says who has it.
    ///
    /// # Errors
    /// [`Error::Busy`] with the holder, [`Error::BadName`] or [`Error::Write`].
    pub fn lock(&self, name: &str) -> Result<LockGuard> {
        let (path, file) = self.open_lock(name)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => sign(file, name, &path),
            Err(Errno::WOULDBLOCK) => Err(Error::Busy { name: name.to_owned(), holder: holder(file) }),
            Err(errno) => Err(Error::write(format!("lock `{name}`"), &path, errno.into())),
        }
    }

    /// Takes the lock `name`, waiting for it as long as its holder lives. `on_wait` is called once if there is a wait.
    ///
    /// # Errors
    /// [`Error::BadName`] or [`Error::Write`].
    pub fn lock_waiting(&self, name: &str, on_wait: &mut dyn FnMut(&Holder)) -> Result<LockGuard> {
        match self.lock(name) {
            Err(Error::Busy { holder, .. }) => on_wait(&holder),
            other => return other,
        }
        let (path, file) = self.open_lock(name)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return sign(file, name, &path),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::write(format!("lock `{name}`"), &path, errno.into())),
            }
        }
    }

    /// The lock file is never removed: a process that waits for a removed file would hold a lock nobody else sees.
    fn open_lock(&self, name: &str) -> Result<(PathBuf, File)> {
        check_name("lock name", name)?;
        let path = self.root().join("locks").join(name);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|source| Error::write(format!("lock `{name}`"), &path, source))?;
        Ok((path, file))
    }
}

/// Writes who we are into a lock file that we hold.
fn sign(mut file: File, name: &str, path: &Path) -> Result<LockGuard> {
    let text = format!("process {} ({})", std::process::id(), command());
    let signed = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
    signed.map_err(|source| Error::write(format!("lock `{name}`"), path, source))?;
    Ok(LockGuard { file })
}

/// Who signed the lock file. The holder may be between taking the lock and signing it, then nothing is there yet.
fn holder(file: File) -> Holder {
    let mut text = String::new();
    match file.take(HOLDER_LIMIT_BYTES).read_to_string(&mut text) {
        Ok(count) if count > 0 => Holder(text),
        _ => Holder("another process".to_owned()),
    }
}

/// The first two words of our command line without directories: `plumb up`. No more, arguments may be private.
fn command() -> String {
    let mut line = Vec::new();
    let read = File::open("/proc/self/cmdline")
        .and_then(|file| file.take(COMMAND_LIMIT_BYTES).read_to_end(&mut line));
    if read.is_err() {
        return "command unknown".to_owned();
    }
    let mut words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    match words.next() {
        Some(word)
            if word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !word.is_empty() =>
        {
            format!("{program} {word}")
        }
        _ => program,
    }
}
