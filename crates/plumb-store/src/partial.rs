//! Downloads in progress: kept between runs, so that a large file is never fetched twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use plumb_model::Digest;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, Store, place};

/// Bytes hashed per read when a partial file is picked up again.
const BLOCK_BYTES: usize = 64 * 1024;

/// How often the file is opened again after another process took it away under us. Each time means that a whole
/// download ended in between, so more than a few do not happen.
const OPEN_TRIES: u32 = 64;

/// Bytes that will be the object `digest` once they are complete. Held by a lock: no two processes append to one file.
#[derive(Debug)]
pub struct Partial {
    store: Store,
    digest: Digest,
    path: PathBuf,
    file: File,
    hash: Sha256,
    size: u64,
}

impl Store {
    /// Opens the unfinished download of `digest`, waiting for another process that has it open. What was there already
    /// is hashed and counts as written.
    ///
    /// # Errors
    /// [`Error::Write`] or [`Error::Read`] naming the path.
    pub fn partial(&self, digest: &Digest) -> Result<Partial> {
        let path = self.root().join("partial").join(digest.hex());
        self.enter()?;
        let file =
            open_locked(&path).map_err(|source| Error::write(format!("object `{digest}`"), &path, source))?;
        let mut partial =
            Partial { store: self.clone(), digest: *digest, path, file, hash: Sha256::new(), size: 0 };
        partial.rehash()?;
        Ok(partial)
    }
}

/// Opens and locks the file at `path`, making sure that it still is the file at `path` once it is locked.
fn open_locked(path: &Path) -> io::Result<File> {
    for _ in 0..OPEN_TRIES {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        match std::fs::metadata(path) {
            Ok(found) if found.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "other processes keep replacing it"))
}

impl Partial {
    /// Bytes there so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`Error::Write`] naming the object and the path.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let gate = self.store.gate();
        place::write(gate, &self.path, &mut self.file, bytes).map_err(|source| self.write_error(source))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Forgets everything there so far.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(|source| self.write_error(source))?;
        self.hash = Sha256::new();
        self.size = 0;
        Ok(())
    }

    /// Makes the bytes the object they should be.
    ///
    /// # Errors
    /// [`Error::WrongDigest`] if they are something else, and then the file is removed; [`Error::Write`].
    pub fn commit(self) -> Result<()> {
        self.check()?;
        self.store.adopt(&self.path, &self.digest)
    }

    /// Checks the bytes like [`Partial::commit`] but does not keep them: returns the file, open at its start and
    /// without a name. For what is only a step to an object, such as a compressed index.
    ///
    /// # Errors
    /// [`Error::WrongDigest`] or [`Error::Write`]; the file is removed in any case.
    pub fn into_verified_file(self) -> Result<File> {
        self.check()?;
        self.into_file()
    }

    /// The file, open at its start and without a name, for bytes that are known by another kind of digest. Nothing is
    /// checked here.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn into_file(mut self) -> Result<File> {
        self.remove()?;
        self.file.seek(SeekFrom::Start(0)).map_err(|source| self.write_error(source))?;
        Ok(self.file)
    }

    /// The bytes there so far, to be read by position while the file keeps its name and its lock.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn view(&self) -> Result<File> {
        let what = || format!("object `{}`", self.digest);
        self.file.try_clone().map_err(|source| Error::read(what(), &self.path, source))
    }

    /// Removes the file: its bytes are not wanted any more.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn discard(self) -> Result<()> {
        self.remove()
    }

    fn check(&self) -> Result<()> {
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        if found == self.digest {
            return Ok(());
        }
        self.remove()?;
        Err(Error::WrongDigest { expected: self.digest, found })
    }

    fn remove(&self) -> Result<()> {
        match place::remove_file(self.store.gate(), &self.path) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.write_error(error)),
        }
    }

    fn rehash(&mut self) -> Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let count = self
                .file
                .read(&mut block)
                .map_err(|source| Error::read(format!("object `{}`", self.digest), &self.path, source))?;
            if count == 0 {
                return Ok(());
            }
            self.hash.update(&block[..count]);
            self.size += count as u64;
        }
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::write(format!("object `{}`", self.digest), &self.path, source)
    }
}
