//! Objects read with their digest in mind: what is wrong is found, named, and moved out of the way.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use plumb_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::gate::Change;
use crate::object::HashSink;
use crate::{Error, OnDamage, Result, Store, place};

/// What [`Store::verify_once`] remembers of objects.
const VERIFIED: &str = "verified-1";

/// How often an object is read whose file somebody else moved away while it was read: what has its name then is another
/// file, or there is none.
const LOOKS: usize = 2;

/// The file of an object that was read: another one may have its name by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    device: u64,
    inode: u64,
}

impl Seen {
    fn of(metadata: &Metadata) -> Seen {
        Seen { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Whether what has this path now is another file, or none.
    fn is_gone(self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Seen::of(&metadata) != self),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl Store {
    /// The object's bytes, at most `limit` of them. They are what has this digest; a damaged file is moved to `damaged/`.
    /// Nothing is written for it, unless the object is folded in pieces: documents can be read on a full disk.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::TooLarge`], [`Error::Damaged`], [`Error::DamagedFold`] or [`Error::Read`].
    pub fn read_bytes(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let size = self.size(digest)?.ok_or(Error::Missing { digest: *digest })?;
        if size > limit {
            return Err(Error::TooLarge { digest: *digest, size, limit });
        }
        for look in 1.. {
            let Some(file) = self.open_plain(digest)? else { break };
            let fail = |source| Error::read(format!("object `{digest}`"), &self.path(digest), source);
            let seen = Seen::of(&file.metadata().map_err(fail)?);
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
            let found = Digest::of(&bytes);
            if found == *digest {
                return Ok(bytes);
            }
            self.blame(digest, (found, seen), look)?;
        }
        self.folded_bytes(digest, limit)
    }

    /// The object's first byte; `None` if it has none. Like [`Store::read_bytes`] it needs no disk, and unlike that it does
    /// not look at the digest.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::DamagedFold`] or [`Error::Read`].
    pub fn first_byte(&self, digest: &Digest) -> Result<Option<u8>> {
        self.enter()?;
        let Some(mut file) = self.open_plain(digest)? else { return self.folded_first_byte(digest) };
        let mut first = [0];
        let count = file.read(&mut first);
        let count =
            count.map_err(|source| Error::read(format!("object `{digest}`"), &self.path(digest), source))?;
        Ok((count == 1).then_some(first[0]))
    }

    /// Whether the object is good, where its own file is enough: one that was verified before and was not touched since
    /// (same inode, size and time of change, which only the kernel sets) is not read again. It guards against damage and
    /// against whoever may write to the store, but not against one who owns it and forges this memory, too.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Missing`] or [`Error::Read`].
    pub fn verify_once(&self, digest: &Digest) -> Result<()> {
        self.enter()?;
        let Some(file) = self.open_plain(digest)? else { return self.verify_folded(digest) };
        let metadata = file
            .metadata()
            .map_err(|source| Error::read(format!("object `{digest}`"), &self.path(digest), source))?;
        let now = format!(
            "{} {} {} {}.{:09}",
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.ctime(),
            metadata.ctime_nsec()
        );
        if self.entry(VERIFIED, &digest.hex())?.is_some_and(|before| before == now.as_bytes()) {
            return Ok(());
        }
        let (found, seen) = self.hashed(digest, file)?;
        if found != *digest {
            self.blame(digest, (found, seen), 1)?;
            // Another file has its name by now.
            return self.verify(digest);
        }
        self.remember(VERIFIED, &digest.hex(), now.as_bytes())
    }

    /// Hashes the object again, in each form it has. A damaged one is moved to `damaged/`, so that it can be fetched or
    /// built anew.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the place it was moved to, [`Error::DamagedFold`], [`Error::Missing`] or [`Error::Read`].
    pub fn verify(&self, digest: &Digest) -> Result<()> {
        self.enter()?;
        for look in 1.. {
            let Some(file) = self.open_plain(digest)? else { break };
            let (found, seen) = self.hashed(digest, file)?;
            if found != *digest {
                self.blame(digest, (found, seen), look)?;
                continue;
            }
            return match self.verify_folded(digest) {
                Err(Error::Missing { .. }) => Ok(()),
                other => other,
            };
        }
        self.verify_folded(digest)
    }

    /// The plain file of an object was read and is wrong: moves it, and nothing else, away. Fine if somebody else did so
    /// before, but not for ever.
    fn blame(&self, digest: &Digest, (found, seen): (Digest, Seen), look: usize) -> Result<()> {
        match self.set_plain_aside(digest, seen) {
            Ok(moved_to) => Err(Error::Damaged { digest: *digest, found, moved_to }),
            Err(Error::Missing { .. }) if look < LOOKS => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn hashed(&self, digest: &Digest, mut file: File) -> Result<(Digest, Seen)> {
        let fail = |source| Error::read(format!("object `{digest}`"), &self.path(digest), source);
        let seen = Seen::of(&file.metadata().map_err(fail)?);
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut HashSink(&mut hash)).map_err(fail)?;
        Ok((Digest::from_bytes(hash.finalize().into()), seen))
    }

    /// The digest of the bytes in the object's own file, and which file that is; `None` if it has none. Nothing is moved.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn plain_digest(&self, digest: &Digest) -> Result<Option<(Digest, Seen)>> {
        self.enter()?;
        let Some(file) = self.open_plain(digest)? else { return Ok(None) };
        self.hashed(digest, file).map(Some)
    }

    /// Moves the plain file of an object that was read and is wrong to `damaged/`; its folded form stays, and so does
    /// another file that has its name by now.
    ///
    /// # Errors
    /// [`Error::Missing`] if that file is not there any more, or [`Error::Write`].
    pub fn set_plain_aside(&self, digest: &Digest, seen: Seen) -> Result<PathBuf> {
        self.move_aside(digest, &self.path(digest), Some(seen))
    }

    /// Moves an object that is known to be wrong to `damaged/`: the plain one, or the folded one if there is no other.
    /// Returns where it is now.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Write`].
    pub fn set_aside(&self, digest: &Digest) -> Result<PathBuf> {
        match self.set_file_aside(digest, &self.path(digest)) {
            Err(Error::Missing { .. }) => self.set_file_aside(digest, &self.folded_path(digest)),
            other => other,
        }
    }

    /// Moves the folded form of an object that nothing can be made of to `damaged/`; its plain file stays.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Write`].
    pub fn set_fold_aside(&self, digest: &Digest) -> Result<PathBuf> {
        self.set_file_aside(digest, &self.folded_path(digest))
    }

    pub(crate) fn set_file_aside(&self, digest: &Digest, path: &Path) -> Result<PathBuf> {
        self.move_aside(digest, path, None)
    }

    fn move_aside(&self, digest: &Digest, path: &Path, seen: Option<Seen>) -> Result<PathBuf> {
        let fail = |path: &Path, source| Error::write(format!("damaged object `{digest}`"), path, source);
        // What was read: others find it damaged as well, and may have put a good one in its place.
        let is_gone = |path: &Path| {
            seen.map_or(Ok(false), |seen| seen.is_gone(path)).map_err(|source| fail(path, source))
        };
        if self.on_damage == OnDamage::Leave {
            return Ok(path.to_owned());
        }
        if is_gone(path)? {
            return Err(Error::Missing { digest: *digest });
        }
        loop {
            let number = self.inner.damaged.fetch_add(1, Ordering::Relaxed);
            let target = self.root().join("damaged").join(format!("{}.{number}", digest.hex()));
            // link(2), unlike rename(2), does not overwrite what an earlier process put there.
            let linked = self.gate().before(&Change::Link(path, &target));
            match linked.and_then(|()| fs::hard_link(path, &target)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::Missing { digest: *digest });
                }
                Err(source) => return Err(fail(&target, source)),
            }
            if is_gone(&target)? {
                // Another file got the name between the look and the link: it stays where it is.
                place::remove_file(self.gate(), &target).map_err(|source| fail(&target, source))?;
                return Err(Error::Missing { digest: *digest });
            }
            if !is_gone(path)? {
                place::remove_file(self.gate(), path).map_err(|source| fail(path, source))?;
            }
            return Ok(target);
        }
    }
}
