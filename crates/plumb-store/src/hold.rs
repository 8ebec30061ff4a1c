//! Who uses the store, and who may take away from it.
//!
//! A build finds an object, does not write it again, and names it in a release a second later. Were the object removed in
//! between, the release would be broken. So every process holds `locks/use` *shared* from its first look at an object or
//! entry until its [`Store`] is dropped or [`Store::leave`] says that nothing it saw matters any more; and nothing is
//! removed but by who holds it *exclusively* ([`Store::alone`]) while it decides and while it removes. Then:
//!
//! - What a process has seen stays until it leaves. Before it leaves it has either made what it saw reachable (a release,
//!   a running plan) or does not care.
//! - Who collects sees a store that nobody is in the middle of using: what is not reachable then was given up.
//! - No grace time, no clock and no list of objects in use is needed, and a process that dies lets go at once: the kernel
//!   drops its lock.
//!
//! Nobody waits while holding anything that a collector needs, so there is no deadlock. A collector waits for all users;
//! who comes while it waits goes first. It holds the store for as long as it takes to read documents and unlink files;
//! everything slow (compressing) happens before, shared.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::{Error, Result, Store};

/// Name of the lock.
const USE: &str = "use";

/// How this process holds the store.
#[derive(Debug)]
enum State {
    Not,
    Shared { _file: File },
    Alone { _file: File },
}

/// The lock of one [`Store`] and its clones.
#[derive(Debug)]
pub(crate) struct Hold {
    state: Mutex<State>,
    /// Held in some way: spares all but the first look the mutex.
    is_held: AtomicBool,
}

impl Hold {
    pub(crate) fn new() -> Hold {
        Hold { state: Mutex::new(State::Not), is_held: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody else uses the store until this is dropped: the only key to removal.
#[derive(Debug)]
#[must_use = "others may use the store as soon as this is dropped"]
pub struct Alone {
    store: Store,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let hold = &self.store.inner.hold;
        let mut state = hold.state();
        hold.is_held.store(false, Ordering::Release);
        *state = State::Not;
    }
}

impl Store {
    /// Holds the store shared, if it is not held yet; waits while somebody removes from it.
    pub(crate) fn enter(&self) -> Result<()> {
        let hold = &self.inner.hold;
        if hold.is_held.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = hold.state();
        if matches!(*state, State::Not) {
            let file = self.open_use()?;
            self.flock(&file, FlockOperation::LockShared)?;
            *state = State::Shared { _file: file };
            hold.is_held.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Lets go: what this process has seen so far may be removed by another one, unless it is reachable. For waits that
    /// have nothing to do with the store. The next look holds it again.
    pub fn leave(&self) {
        let hold = &self.inner.hold;
        let mut state = hold.state();
        if matches!(*state, State::Shared { .. }) {
            hold.is_held.store(false, Ordering::Release);
            *state = State::Not;
        }
    }

    /// Holds the store alone, waiting for all other processes that use it. `on_wait` is called once if there is a wait.
    /// What this process saw before may be gone afterwards.
    ///
    /// # Errors
    /// [`Error::Write`] if the lock cannot be had.
    pub fn alone(&self, on_wait: &mut dyn FnMut()) -> Result<Alone> {
        self.leave();
        let hold = &self.inner.hold;
        let mut state = hold.state();
        let file = self.open_use()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                on_wait();
                self.flock(&file, FlockOperation::LockExclusive)?;
            }
            Err(errno) => return Err(self.use_error(errno)),
        }
        *state = State::Alone { _file: file };
        hold.is_held.store(true, Ordering::Release);
        Ok(Alone { store: self.clone() })
    }

    fn open_use(&self) -> Result<File> {
        let path = self.root().join("locks").join(USE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).map_err(|source| Error::write(format!("lock `{USE}`"), &path, source))
    }

    fn flock(&self, file: &File, operation: FlockOperation) -> Result<()> {
        loop {
            match rustix::fs::flock(file, operation) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.use_error(errno)),
            }
        }
    }

    fn use_error(&self, errno: Errno) -> Error {
        Error::write(format!("lock `{USE}`"), &self.root().join("locks").join(USE), errno.into())
    }
}
