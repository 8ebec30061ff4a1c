//! Objects: bytes named by their SHA-256.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use plumb_model::Digest;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, Store, place};

/// What is held in memory before an object gets a file. Most files of a package are smaller, and then an object that is
/// already in the store costs one `stat(2)` and no write at all.
const BUFFER_BYTES: usize = 64 * 1024;

/// Objects are read-only: nobody may change bytes that are named by their digest.
const OBJECT_MODE: u32 = 0o444;

impl Store {
    /// Stores `bytes`; they may be there already.
    ///
    /// # Errors
    /// [`Error::Write`] naming the object and the path.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let draft = self.draft(&digest)?;
        draft.fill(bytes).and_then(|draft| draft.publish(&digest))?;
        Ok(digest)
    }

    /// Stores everything that `reader` gives. Returns the digest and the number of bytes.
    ///
    /// # Errors
    /// [`Error::Source`] if the reader fails (nothing is stored then), [`Error::Write`] if the store does.
    pub fn put_reader(&self, reader: &mut dyn Read) -> Result<(Digest, u64)> {
        let mut writer = self.writer();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return writer.commit(),
                Ok(count) => writer.append(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Source { source }),
            }
        }
    }

    /// A writer for one new object. Nothing is visible in the store before it is committed.
    #[must_use]
    pub fn writer(&self) -> ObjectWriter {
        ObjectWriter { store: self.clone(), hash: Sha256::new(), size: 0, buffer: Vec::new(), draft: None }
    }

    /// Whether the object is in the store, plain or folded. Its bytes are not looked at: see [`Store::verify`].
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        matches!(self.size(digest), Ok(Some(_)))
    }

    /// The object's size in bytes, or None if it is not in the store.
    ///
    /// # Errors
    /// [`Error::Read`] if the file system cannot say.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.enter()?;
        match self.plain_size(digest)? {
            Some(size) => Ok(Some(size)),
            None => self.folded_size(digest),
        }
    }

    /// The length of the object's own file, if it has one.
    pub(crate) fn plain_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match rustix::fs::statat(&self.inner.objects_fd, object_name(digest), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_size.unsigned_abs())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::read(format!("object `{digest}`"), &self.path(digest), errno.into())),
        }
    }

    /// Where the plain object is, or would be. Never write to it; and it may be folded: for programs that need a file,
    /// there is [`Store::ready`].
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root().join("objects").join(object_name(digest))
    }

    /// The object as a plain file, unfolded if need be, for programs that need a file name. Never write to it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Read`] or [`Error::Write`].
    pub fn ready(&self, digest: &Digest) -> Result<PathBuf> {
        self.enter()?;
        if self.plain_size(digest)?.is_none() {
            self.unfold(digest)?;
        }
        Ok(self.path(digest))
    }

    /// Opens the object for reading. A folded one is unfolded into a file without a name.
    ///
    /// # Errors
    /// [`Error::Missing`] if it is not in the store, [`Error::Damaged`] or [`Error::Read`] otherwise.
    pub fn open_object(&self, digest: &Digest) -> Result<File> {
        self.enter()?;
        match self.open_plain(digest)? {
            Some(file) => Ok(file),
            None => self.unfolded(digest),
        }
    }

    pub(crate) fn open_plain(&self, digest: &Digest) -> Result<Option<File>> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::read(format!("object `{digest}`"), &path, source)),
        }
    }

    /// A file in `tmp/` for the object `label`.
    pub(crate) fn draft(&self, label: &Digest) -> Result<Draft> {
        self.draft_for(&format!("object `{label}`"))
    }

    fn draft_for(&self, what: &str) -> Result<Draft> {
        self.enter()?;
        let scratch = &self.inner.scratch;
        let (file, name) =
            scratch.create(OBJECT_MODE).map_err(|source| Error::write(what, &scratch.path_of(""), source))?;
        Ok(Draft { store: self.clone(), file, name, what: what.to_owned(), published: false })
    }

    /// A path for an unfinished file on the store's file system. It is removed when this store is closed, or by the
    /// next process if this one dies; [`Store::adopt`] makes it an object.
    ///
    /// # Errors
    /// [`Error::Write`] if there is no space for a directory of unfinished files.
    pub fn scratch_path(&self) -> Result<PathBuf> {
        let scratch = &self.inner.scratch;
        scratch.unused_path().map_err(|source| Error::write("unfinished files", &scratch.path_of(""), source))
    }

    /// Gives the finished file `from` (on the store's file system) the object's name. For files already verified or
    /// hashed by their writer.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn adopt(&self, from: &Path, digest: &Digest) -> Result<()> {
        self.enter()?;
        let target = self.path(digest);
        let fail = |source| Error::write(format!("object `{digest}`"), &target, source);
        let mode = Mode::from_raw_mode(OBJECT_MODE);
        rustix::fs::chmod(from, mode).map_err(|errno| fail(errno.into()))?;
        match place::rename(self.gate(), from, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_fan(digest, &target)?;
                place::rename(self.gate(), from, &target).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }

    /// Creates the directory `<2 hex>` of an object's file. Done only when it turns out to be missing: 256 times in the
    /// life of a store.
    fn create_fan(&self, digest: &Digest, target: &Path) -> Result<()> {
        let path = target.parent().unwrap_or(target);
        place::create_dir(self.gate(), path)
            .map_err(|source| Error::write(format!("object `{digest}`"), path, source))?;
        Ok(())
    }
}

/// `<2 hex>/<62 hex>`: 256 directories keep each of them short for a million objects.
pub(crate) fn object_name(digest: &Digest) -> String {
    let mut name = digest.hex();
    name.insert(2, '/');
    name
}

/// Hashes what is written to it.
pub(crate) struct HashSink<'a>(pub(crate) &'a mut Sha256);

impl Write for HashSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file in `tmp/` that goes away unless it is published.
#[derive(Debug)]
pub(crate) struct Draft {
    store: Store,
    pub(crate) file: File,
    name: String,
    what: String,
    published: bool,
}

impl Draft {
    fn fill(mut self, bytes: &[u8]) -> Result<Draft> {
        self.append(bytes)?;
        Ok(self)
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let scratch = &self.store.inner.scratch;
        scratch
            .append(&self.name, &mut self.file, bytes)
            .map_err(|source| Error::write(self.what.as_str(), &scratch.path_of(&self.name), source))
    }

    /// Makes the bytes durable before they get a name.
    pub(crate) fn sync(self) -> Result<Draft> {
        let scratch = &self.store.inner.scratch;
        scratch
            .sync(&self.name, &self.file)
            .map_err(|source| Error::write(self.what.as_str(), &scratch.path_of(&self.name), source))?;
        Ok(self)
    }

    fn publish(self, digest: &Digest) -> Result<()> {
        let target = self.store.path(digest);
        self.publish_at(digest, &target)
    }

    pub(crate) fn publish_at(mut self, digest: &Digest, target: &Path) -> Result<()> {
        let scratch = &self.store.inner.scratch;
        let fail = |source| Error::write(format!("object `{digest}`"), target, source);
        match scratch.publish(&self.name, target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.store.create_fan(digest, target)?;
                scratch.publish(&self.name, target).map_err(fail)?;
            }
            other => other.map_err(fail)?,
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Not fatal: the whole scratch directory is removed with the store, or by the next process.
            let _ = self.store.inner.scratch.discard(&self.name);
        }
    }
}

/// Streams one new object into the store, hashing on the way. Dropping it uncommitted leaves nothing behind.
#[derive(Debug)]
pub struct ObjectWriter {
    store: Store,
    hash: Sha256,
    size: u64,
    buffer: Vec<u8>,
    draft: Option<Draft>,
}

impl ObjectWriter {
    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Digest and size of what was written so far.
    #[must_use]
    pub fn digest(&self) -> (Digest, u64) {
        (Digest::from_bytes(self.hash.clone().finalize().into()), self.size)
    }

    /// Makes what was written an object. Returns its digest and size in bytes.
    ///
    /// # Errors
    /// [`Error::Write`] naming the object and the path.
    pub fn commit(self) -> Result<(Digest, u64)> {
        let ObjectWriter { store, hash, size, buffer, draft } = self;
        finish(&store, Digest::from_bytes(hash.finalize().into()), size, &buffer, draft)
    }

    /// As [`ObjectWriter::commit`], but only if the bytes have the digest `expected`.
    ///
    /// # Errors
    /// [`Error::WrongDigest`] (nothing is kept) or [`Error::Write`].
    pub fn commit_expecting(self, expected: &Digest) -> Result<(Digest, u64)> {
        let ObjectWriter { store, hash, size, buffer, draft } = self;
        let found = Digest::from_bytes(hash.finalize().into());
        if found != *expected {
            return Err(Error::WrongDigest { expected: *expected, found });
        }
        finish(&store, found, size, &buffer, draft)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        if self.buffer.len() + bytes.len() <= BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        let draft = match &mut self.draft {
            Some(draft) => draft,
            empty => empty.insert(self.store.draft_for("a new object")?),
        };
        draft.append(&self.buffer)?;
        self.buffer.clear();
        if bytes.len() < BUFFER_BYTES {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        draft.append(bytes)
    }
}

/// Publishes the written bytes unless the store has them already.
fn finish(
    store: &Store,
    digest: Digest,
    size: u64,
    rest: &[u8],
    draft: Option<Draft>,
) -> Result<(Digest, u64)> {
    if store.size(&digest)? == Some(size) {
        return Ok((digest, size));
    }
    let draft = match draft {
        Some(draft) => draft,
        None => store.draft(&digest)?,
    };
    draft.fill(rest)?.publish(&digest)?;
    Ok((digest, size))
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The typed error travels inside, so a caller that goes through `io::copy` still learns path and object.
        self.append(bytes).map_err(|error| match &error {
            Error::Write { source, .. } => io::Error::new(source.kind(), error),
            _ => io::Error::other(error),
        })?;
        Ok(bytes.len())
    }

    /// Nothing to do: what counts is [`ObjectWriter::commit`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
