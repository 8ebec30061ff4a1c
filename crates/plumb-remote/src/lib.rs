//! The door to remotes: places that hold releases for others.
//!
//! A remote holds two kinds of things, and this crate knows no more of either than this:
//!
//! ```text
//!  plumb.json                    {"format":1}: this is a remote
//!  blobs/<2 hex>/<62 hex>        blobs: immutable, named by the SHA-256 of their bytes; any size
//!  apps/<app>/…                  documents: small, with a name; most are written once, some are replaced
//! ```
//!
//! That is the layout in a directory, behind a web server that serves such a directory, and below the prefix of an object
//! store. In a registry a blob is a blob, and a document is an artifact of one layer whose tag is its name (see `registry.rs`).
//!
//! What makes a set of documents appear at once is the order in which they are written: everything that is immutable first,
//! and the one document that names the rest last, with [`Remote::write`] and what was read before as [`Expected`]. Two who
//! write at the same time cannot both win, where the medium can tell: a directory by `flock`, an object store by conditional
//! requests. A registry cannot; there it is looked at again after writing.
//!
//! Nothing that comes from a remote is believed: every read has a limit, names are checked before they become paths, and
//! whoever asks for a blob checks its digest. This crate knows no release, no signature and no virtual machine.
#![forbid(unsafe_code)]

mod address;
mod directory;
mod environment;
mod error;
pub mod limit;
mod name;
mod registry;
mod retry;
mod s3;
mod web;

use std::io::Read;
use std::ops::Range;

use plumb_model::Digest;

pub use address::Address;
pub use environment::{Environment, Secret};
pub use error::Error;
pub use name::{Name, Tag};
pub use retry::{Patience, retried};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// The document that makes a place a remote.
const MARK: &str = "plumb.json";

/// What it says: the layout drawn at the head of this crate.
const MARK_TEXT: &[u8] = b"{\"format\":1}\n";

/// A version of a document, as the medium tells versions apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// What must be there for a document to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// This version.
    Is(Version),
}

/// What came of writing a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is there now.
    Done,
    /// Something else is there than was expected: read it and decide again.
    Changed,
}

/// A blob by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// A blob as a part of something that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The blob.
    pub blob: Blob,
    /// Its media type.
    pub media_type: &'static str,
    /// A file name for people and their tools.
    pub title: String,
}

/// Bytes to be sent, read by position: a part may have to be sent again.
pub trait Source: Sync {
    /// Fills `out` with the bytes at `offset`.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()>;
}

impl Source for Vec<u8> {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for std::fs::File {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, out, offset)
    }
}

/// What an unfinished upload needs to go on, kept where it outlives the process.
pub trait Memory: Sync {
    /// What was kept for this blob.
    fn recall(&self, blob: &Blob) -> Option<String>;
    /// Keeps something, instead of what was kept before.
    fn keep(&self, blob: &Blob, text: &str);
    /// Nothing has to be kept any more.
    fn forget(&self, blob: &Blob);
}

/// A blob on its way out.
pub struct Upload<'a> {
    /// Which one.
    pub blob: Blob,
    /// Its bytes.
    pub source: &'a dyn Source,
    /// Where an unfinished upload is remembered.
    pub memory: &'a dyn Memory,
    /// Told of bytes that have arrived there, also of those from an earlier run. Called from several threads.
    pub arrived: &'a (dyn Fn(u64) + Sync),
}

impl Upload<'_> {
    /// The bytes of a part.
    fn part(&self, range: &Range<u64>) -> Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = self.source.read_at(range.start, &mut bytes);
        read.map_err(|source| Error::Source { blob: self.blob.digest, source })?;
        Ok(bytes)
    }
}

/// One remote. Every method may be called from any thread.
pub trait Remote: Send + Sync {
    /// What it is for people: its address without credentials.
    fn shown(&self) -> String;

    /// Whether it can be pushed to at all.
    ///
    /// # Errors
    /// [`Error::ReadOnly`].
    fn writable(&self) -> Result<()> {
        Ok(())
    }

    /// A document and its version, or `None` if it is not there.
    ///
    /// # Errors
    /// [`Error`]; [`Error::TooLarge`] if it has more than `limit` bytes.
    fn read(&self, name: &Name, limit: u64) -> Result<Option<(Vec<u8>, Version)>>;

    /// Writes a document, if what is expected is there. It appears whole or not at all.
    ///
    /// # Errors
    /// [`Error`]; [`Error::ReadOnly`].
    fn write(&self, name: &Name, bytes: &[u8], expected: &Expected) -> Result<Written>;

    /// The size of a blob, or `None` if it is not there.
    ///
    /// # Errors
    /// [`Error`].
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Bytes of a blob. There may be fewer than asked for, if the connection breaks; never more.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Missing`].
    fn blob_read(&self, blob: &Blob, range: Range<u64>) -> Result<Box<dyn Read + Send>>;

    /// Writes a blob; it may be there already. It appears whole or not at all.
    ///
    /// # Errors
    /// [`Error`]; [`Error::ReadOnly`].
    fn blob_write(&self, upload: &Upload<'_>) -> Result<()>;

    /// Says that blobs belong together under a name. A registry forgets what no manifest names; elsewhere there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`Error`].
    fn bind(&self, _: &Tag, _: &[Bound]) -> Result<()> {
        Ok(())
    }
}

/// How a remote is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Proxies to go through.
    pub proxies: plumb_fetch::Proxies,
    /// What the environment says about credentials and endpoints.
    pub environment: Environment,
    /// Tries and pauses.
    pub patience: Patience,
}

/// The remote at `address`. Nothing is asked of it yet.
///
/// # Errors
/// [`Error`] if what it needs, such as credentials, is not there.
pub fn open(address: &Address, options: &Options) -> Result<Box<dyn Remote>> {
    Ok(match address {
        Address::Directory(path) => Box::new(directory::Directory::new(path)),
        Address::Web(url) => Box::new(web::Web::new(url, options)),
        Address::S3 { bucket, prefix, endpoint } => {
            let location = s3::Location { bucket, prefix, endpoint: endpoint.as_deref() };
            Box::new(s3::S3::new(&address.to_string(), location, options)?)
        }
        Address::Oci { host, repository } => {
            Box::new(registry::Registry::new(&address.to_string(), host, repository, options))
        }
    })
}

/// Makes sure that a remote is one of a format that is known; makes an empty place one.
///
/// # Errors
/// [`Error::Format`] and whatever reading and writing say.
pub fn found(remote: &dyn Remote) -> Result<()> {
    let name = Name::new(MARK)?;
    for _ in 0..limit::FOUND_TRIES {
        if look(remote, &name)? {
            return Ok(());
        }
        remote.write(&name, MARK_TEXT, &Expected::Absent)?;
    }
    Err(Error::NotARemote { remote: remote.shown() })
}

/// Makes sure that there is a remote of a format that is known.
///
/// # Errors
/// [`Error::NotARemote`], [`Error::Format`] and whatever reading says.
pub fn require(remote: &dyn Remote) -> Result<()> {
    if look(remote, &Name::new(MARK)?)? { Ok(()) } else { Err(Error::NotARemote { remote: remote.shown() }) }
}

fn look(remote: &dyn Remote, name: &Name) -> Result<bool> {
    let Some((bytes, _)) = remote.read(name, limit::MARK_BYTES)? else { return Ok(false) };
    if bytes == MARK_TEXT {
        return Ok(true);
    }
    let text = String::from_utf8_lossy(&bytes);
    let found: String = text.trim().chars().filter(|c| !c.is_control()).take(limit::SHOWN_CHARS).collect();
    Err(Error::Format { remote: remote.shown(), found })
}

/// A document that is written once and never changed: the same bytes may be there already.
///
/// # Errors
/// [`Error::Taken`] if other bytes have its name.
pub fn write_once(remote: &dyn Remote, name: &Name, bytes: &[u8]) -> Result<()> {
    if remote.write(name, bytes, &Expected::Absent)? == Written::Done {
        return Ok(());
    }
    match remote.read(name, bytes.len() as u64)? {
        Some((found, _)) if found == bytes => Ok(()),
        _ => Err(Error::Taken { name: name.to_string(), remote: remote.shown() }),
    }
}

/// A small blob as a whole, checked by size and digest.
///
/// # Errors
/// [`Error::WrongSize`], [`Error::WrongDigest`], [`Error::TooLarge`] or whatever reading says.
pub fn read_blob(remote: &dyn Remote, blob: &Blob, limit: u64, patience: &Patience) -> Result<Vec<u8>> {
    let what = || format!("blob `{}` of `{}`", blob.digest, remote.shown());
    if blob.size > limit {
        return Err(Error::TooLarge { what: what(), limit });
    }
    let bytes = retried(patience, &mut || {
        let mut bytes = Vec::new();
        let reader = remote.blob_read(blob, 0..blob.size)?;
        let read = reader.take(blob.size).read_to_end(&mut bytes);
        read.map_err(|source| Error::Broken { what: what(), source })?;
        match bytes.len() as u64 {
            found if found < blob.size => Err(Error::Cut { what: what(), expected: blob.size, found }),
            _ => Ok(bytes),
        }
    })?;
    let found = Digest::of(&bytes);
    if found != blob.digest {
        return Err(Error::WrongDigest { what: what(), expected: blob.digest, found });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
