//! The content-addressed repository of objects, images and releases, on a local file system.
//!
//! ```text
//! <root>/                        0700
//!   format                       "1\n", or "2\n" once there is something in folded/; another number is refused
//!   objects/<2 hex>/<62 hex>     0444, named by the SHA-256 of its bytes; never changed, only removed
//!   folded/<2 hex>/<62 hex>      0444, the same object in few bytes (`fold/mod.rs`); beside the plain one or in its place
//!   entries/<kind>/<key>         small named values, replaced atomically
//!   releases/<app>/<number>      0444, immutable: a number is given once
//!   statements/<app>/<number>/<64 hex>    0444, signed: what was said about the release
//!   channels/<app>/<channel>/<sequence>   0444, signed: the last one is what the channel points to
//!   trust/<app>/<version>        0444, signed: whose signatures count
//!   locks/<name>                 flock(2); holds "<pid> (<command>)" while taken
//!   locks/use                    flock(2): shared by who uses objects, exclusive by who removes them (`hold.rs`)
//!   partial/<64 hex>             a download in progress, named by the digest that its whole will have
//!   damaged/<64 hex>.<n>         objects whose bytes no longer had their digest, kept for a look
//!   search.db                    what releases hold, for searching; made from them, and not by this crate
//!   tmp/<pid>-<n>/<n>            files being written; the directory is flocked by its process, so that what a dead
//!                                process left behind is told from what a living one still writes
//! ```
//!
//! Everything appears by `rename(2)` or `link(2)` of a finished file, so a reader never sees half of one, also after
//! `kill -9`. Objects are not synced one by one: a build writes tens of thousands. [`Store::sync`] makes all of them
//! durable at once and must come before anything durable refers to them; [`Store::add_release`] does so by itself.
//!
//! This crate knows bytes, names and numbers. It never knows what a virtual machine is.
#![forbid(unsafe_code)]

mod entry;
mod error;
mod fold;
mod gate;
mod hold;
mod lock;
mod object;
mod partial;
mod place;
mod read;
mod record;
mod release;
mod stored;
mod vouch;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags};

pub use error::Error;
pub use fold::{Piece, Tree};
pub use gate::{Change, Gate};
pub use hold::Alone;
pub use lock::{Holder, LockGuard};
pub use object::ObjectWriter;
pub use partial::Partial;
pub use read::Seen;
pub use record::Record;
pub use stored::{Form, Leftover, Stored, modified_s};

use hold::Hold;
use place::Scratch;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// The layout drawn at the head of this module, without folded objects and with them.
const FORMAT: &[u8] = b"1\n";
const FORMAT_FOLDED: &[u8] = b"2\n";

/// Longest `format` file that is read: a number of a few digits; more is not ours.
const FORMAT_LIMIT_BYTES: u64 = 32;

/// The directories of the layout.
const PLACES: [&str; 11] = [
    "objects",
    "folded",
    "entries",
    "releases",
    "statements",
    "channels",
    "trust",
    "locks",
    "partial",
    "damaged",
    "tmp",
];

/// A store below one root directory. Cheap to clone; every method may be called from any thread and any process.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    on_damage: OnDamage,
}

/// What becomes of a file that turns out to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDamage {
    MoveAway,
    Leave,
}

#[derive(Debug)]
struct Inner {
    gate: Arc<dyn Gate>,
    root: PathBuf,
    root_fd: OwnedFd,
    objects_fd: OwnedFd,
    folded_fd: OwnedFd,
    scratch: Scratch,
    hold: Hold,
    /// Numbers damaged objects, so that a second loss of the same object does not overwrite the first.
    damaged: AtomicU64,
}

impl Store {
    /// Opens the store below `root`, creating it (mode 0700) if nothing is there, and removes what dead processes left
    /// in `tmp/`.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] if another version of Plumb wrote it, [`Error::Write`] or [`Error::Read`] naming the
    /// path otherwise.
    pub fn open(root: &Path) -> Result<Store> {
        Store::open_behind(root, Arc::new(gate::Open))
    }

    /// As [`Store::open`]; `gate` is asked before each change of the disk.
    ///
    /// # Errors
    /// As [`Store::open`], and whatever the gate says.
    pub fn open_behind(root: &Path, gate: Arc<dyn Gate>) -> Result<Store> {
        let what = "the store's directories";
        place::create_private_dirs(root).map_err(|source| Error::write(what, root, source))?;
        check_format(&*gate, root)?;
        for name in PLACES {
            let path = root.join(name);
            place::create_dir(&*gate, &path).map_err(|source| Error::write(what, &path, source))?;
        }
        let root_fd = open_dir(root)?;
        let objects_fd = open_dir(&root.join("objects"))?;
        let folded_fd = open_dir(&root.join("folded"))?;
        let scratch = Scratch::open(&gate, &root.join("tmp"))?;
        let (root, hold, damaged) = (root.to_owned(), Hold::new(), AtomicU64::new(0));
        let inner = Inner { gate, root, root_fd, objects_fd, folded_fd, scratch, hold, damaged };
        Ok(Store { inner: Arc::new(inner), on_damage: OnDamage::MoveAway })
    }

    /// The same store for somebody who only looks: what turns out to be wrong is named, and stays where it is.
    #[must_use]
    pub fn looking(&self) -> Store {
        Store { inner: self.inner.clone(), on_damage: OnDamage::Leave }
    }

    /// The directory that was given to [`Store::open`].
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Makes everything written so far durable: one `syncfs(2)` of the store's file system.
    ///
    /// # Errors
    /// [`Error::Write`] if the kernel reports that something could not be written back.
    pub fn sync(&self) -> Result<()> {
        let synced = self.gate().before(&Change::SyncAll(self.root()));
        synced
            .and_then(|()| Ok(rustix::fs::syncfs(&self.inner.root_fd)?))
            .map_err(|source| Error::write("the store's changes", self.root(), source))
    }

    fn gate(&self) -> &dyn Gate {
        &*self.inner.gate
    }
}

/// Checks the format number, writing ours into a store that has none yet.
fn check_format(gate: &dyn Gate, root: &Path) -> Result<()> {
    let path = root.join("format");
    match place::read_limited(&path, FORMAT_LIMIT_BYTES) {
        Ok(found) if found == FORMAT || found == FORMAT_FOLDED => Ok(()),
        // A power cut before anything was made durable leaves the file without its byte; nothing else is there then.
        Ok(found) if found.is_empty() => write_format(gate, root, FORMAT),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found).trim().to_owned();
            Err(Error::UnknownFormat { path, found })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_format(gate, root, FORMAT),
        Err(source) => Err(Error::read("the store's format", &path, source)),
    }
}

/// Held while this process writes the format.
static FORMAT_WRITING: Mutex<()> = Mutex::new(());

/// Two processes may write the format at the same time: both rename the same bytes into place.
fn write_format(gate: &dyn Gate, root: &Path, format: &[u8]) -> Result<()> {
    // Two threads of one process would rename one draft twice.
    let _one = FORMAT_WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let (path, draft) = (root.join("format"), root.join(format!("format.{}", std::process::id())));
    place::write_synced(gate, &draft, format)
        .and_then(|()| place::rename(gate, &draft, &path))
        .map_err(|source| Error::write("the store's format", &path, source))
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::read("the store's directories", path, errno.into()))
}

#[cfg(test)]
mod fold_tests;
#[cfg(test)]
mod tests;
