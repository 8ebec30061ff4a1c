//! The fewest bytes that make new objects of old ones.
//!
//! ```text
//!  delta     magic 7 "plumbdl" | format 1 | length of the body 4, little endian | body | SHA-256 of all before 32
//!            blocks, one behind the other, to the end of the file
//!
//!  body      bases    n | (digest 32 | size) * n           what must be there
//!            objects  n | (digest 32 | 2 * size + tree) * n        what comes out, in this order
//!            blocks   n | (objects | (codec 1 | packed | unpacked) * 6 | digest 32) * n
//!
//!  block     copies | modes | gaps | lengths | fixes | literals     each packed by itself; the digest is over the
//!                                                                  packed bytes
//!
//!  copies    for each object of the block
//!              bases    n | number * n         2 * (place in `bases`) or 2 * (place in `objects`, an earlier one) + 1;
//!                                              they form the object's base space, one behind the other
//!              pairs    n | (new start, from the last end | new length | old start ± | old length
//!                           | types at | their length | if any: strings ±, n, numbers ± * n
//!                           | old pieces | new pieces) * n
//!              pieces   n | (offset ± | address ± | length ±) * n     new ones relative to the old
//!              copies   n | bytes of literals before it * n | length * n | old less new place ±, from the last * n
//!              runs     how many runs of fixes
//!  modes     one byte for each KiB of a paired program that is copied into from the old one; another one where it goes
//!            on after a copy from elsewhere (`model.rs`)
//!  gaps      for each run of fixes: copied bytes since the last run
//!  lengths   for each run of fixes: length - 1
//!  fixes     what is added (modulo 256) to copied bytes after they were foretold
//!  literals  everything that is not copied; what is behind the last copy comes without being named
//!
//!  numbers   LEB128; ± zigzag before that
//!  tree      the end of the object is the dm-verity tree over its begin (`verity.rs`), and only the begin is coded
//! ```
//!
//! An object is made of copies out of the old, of literals between them, and of corrections to the copies: bsdiff's
//! idea. What is new is that the copies say where all code and data moved to, so the addresses in the copied bytes are
//! foretold before they are corrected (`model.rs`). It halves the delta of a program. Old and new are matched by
//! content alone (`search.rs`), so a file that was renamed, or moved in its image, is found like any other.
//!
//! The crate reads objects through [`Objects`] and writes them through [`Sink`]. It opens no file and knows no store.
//!
//! ```
//! use plumb_delta::{Delta, create, memory::Memory};
//!
//! // Where both releases are.
//! let there = Memory::default();
//! let old = [there.add("web/root", b"the old root"), there.add("web/kernel", b"a kernel")];
//! let new = [there.add("web/root", b"the new root"), there.add("web/kernel", b"a kernel")];
//! let delta = create(&old, &new, &there)?;
//!
//! // Where only the old one is.
//! let here = Memory::default();
//! here.add("web/root", b"the old root");
//! let opened = Delta::open(&delta)?;
//! // A pull compares `objects()` with the release it verified, and fetches `ranges()` of what it lacks.
//! assert_eq!(opened.objects().len(), 1);
//! assert_eq!(opened.ranges(|_| true).len(), 1);
//! opened.apply(&here, &mut here.clone())?;
//! assert!(here.get(&new[0].digest).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod apply;
mod base;
mod btf;
mod create;
mod encode;
mod error;
pub mod fuzz;
mod header;
pub mod limit;
mod make;
mod map;
mod mask;
pub mod memory;
mod model;
mod plan;
mod program;
mod search;
mod stream;
mod symbol;
mod varint;
pub mod verity;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use plumb_model::Digest;

pub use apply::{Delta, Made};
pub use create::create;
pub use error::{CreateError, Error};
pub use header::Entry;

/// First bytes of every delta.
const MAGIC: &[u8; 7] = b"plumbdl";

/// Number of the form drawn at the head of this crate.
pub const FORMAT: u8 = 1;

/// One object of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is in its release, for example `web/root`. The old object of the same name is looked through first; a
    /// wrong or a new name costs time, never correctness.
    pub name: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Bytes that are read by position, from any thread.
pub trait Bytes: Sync {
    /// How many there are.
    ///
    /// # Errors
    /// What the file system says.
    fn length(&self) -> io::Result<u64>;

    /// Fills `out` with the bytes at `offset`.
    ///
    /// # Errors
    /// What the file system says; [`io::ErrorKind::UnexpectedEof`] if there are not so many.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl Bytes for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Bytes for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self[..].length()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self[..].read_at(offset, out)
    }
}

impl Bytes for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }
}

/// Objects that are here, by digest.
pub trait Objects {
    /// The object, or `None` if it is not here. Its bytes need not be right: what is made of them is checked.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, digest: &Digest) -> io::Result<Option<Box<dyn Bytes>>>;
}

/// Where new objects go.
pub trait Sink {
    /// Whether this object is here already and known to be right; a block of which all are is skipped.
    ///
    /// # Errors
    /// What the file system says.
    fn has(&self, object: &Entry) -> io::Result<bool>;

    /// A new object begins. If the last one was not finished, it is to be forgotten.
    ///
    /// # Errors
    /// What the file system says.
    fn begin(&mut self, object: &Entry) -> io::Result<()>;

    /// Its next bytes. They are not verified yet.
    ///
    /// # Errors
    /// What the file system says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The object is whole and has its digest. From now on [`Objects::open`] has to find it: later ones start from it.
    ///
    /// # Errors
    /// What the file system says.
    fn finish(&mut self) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
