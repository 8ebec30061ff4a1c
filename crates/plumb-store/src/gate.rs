//! The one place that every change of the disk passes.
//!
//! A store does not trust that a write succeeds, and its tests do not trust that it does so everywhere: behind another
//! [`Gate`] each change can fail, the process can end at each, and what was not synced can be lost.

use std::fmt;
use std::io;
use std::path::Path;

/// One change of the disk that is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A directory is made.
    CreateDir(&'a Path),
    /// A file is made, empty.
    Create(&'a Path),
    /// So many bytes are written to a file.
    Write(&'a Path, usize),
    /// A file's bytes, or the names in a directory, are made durable.
    Sync(&'a Path),
    /// Everything below is made durable.
    SyncAll(&'a Path),
    /// A file gets another name, in place of what had it.
    Rename(&'a Path, &'a Path),
    /// A file gets one more name.
    Link(&'a Path, &'a Path),
    /// A name is taken away.
    Remove(&'a Path),
}

/// Asked before each change.
pub trait Gate: fmt::Debug + Send + Sync {
    /// An error takes the place of the change. Of a write that is refused, half still happens: so does a full disk.
    ///
    /// # Errors
    /// Whatever the disk is to say.
    fn before(&self, change: &Change<'_>) -> io::Result<()>;
}

/// The gate of every store outside the tests.
#[derive(Debug)]
pub(crate) struct Open;

impl Gate for Open {
    fn before(&self, _: &Change<'_>) -> io::Result<()> {
        Ok(())
    }
}
