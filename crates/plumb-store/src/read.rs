//! Objects read with their digest in mind: what is wrong is found, named, and moved out of the way.

use std::fs::{self, File};
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
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
            let found = Digest::of(&bytes);
            if found == *digest {
                return Ok(bytes);
            }
            self.blame(digest, found, look)?;
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
        let seen = format!(
            "{} {} {} {}.{:09}",
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.ctime(),
            metadata.ctime_nsec()
        );
        if self.entry(VERIFIED, &digest.hex())?.is_some_and(|before| before == seen.as_bytes()) {
            return Ok(());
        }
        let found = self.hashed(digest, file)?;
        if found != *digest {
            return self.blame(digest, found, LOOKS);
        }
        self.remember(VERIFIED, &digest.hex(), seen.as_bytes())
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
            let found = self.hashed(digest, file)?;
            if found != *digest {
                self.blame(digest, found, look)?;
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
    fn blame(&self, digest: &Digest, found: Digest, look: usize) -> Result<()> {
        match self.set_file_aside(digest, &self.path(digest)) {
            Ok(moved_to) => Err(Error::Damaged { digest: *digest, found, moved_to }),
            Err(Error::Missing { .. }) if look < LOOKS => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn hashed(&self, digest: &Digest, mut file: File) -> Result<Digest> {
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut HashSink(&mut hash))
            .map_err(|source| Error::read(format!("object `{digest}`"), &self.path(digest), source))?;
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    /// The digest of the bytes in the object's own file; `None` if it has none. Nothing is moved.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn plain_digest(&self, digest: &Digest) -> Result<Option<Digest>> {
        self.enter()?;
        let Some(file) = self.open_plain(digest)? else { return Ok(None) };
        self.hashed(digest, file).map(Some)
    }

    /// Moves the plain file of an object that is known to be wrong to `damaged/`; its folded form stays.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Write`].
    pub fn set_plain_aside(&self, digest: &Digest) -> Result<PathBuf> {
        self.set_file_aside(digest, &self.path(digest))
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

    pub(crate) fn set_file_aside(&self, digest: &Digest, path: &Path) -> Result<PathBuf> {
        if self.on_damage == OnDamage::Leave {
            return Ok(path.to_owned());
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
                Err(source) => {
                    return Err(Error::write(format!("damaged object `{digest}`"), &target, source));
                }
            }
            place::remove_file(self.gate(), path)
                .map_err(|source| Error::write(format!("damaged object `{digest}`"), path, source))?;
            return Ok(target);
        }
    }
}
