//! Entries: small named values that change, such as the last accepted state of an archive.

use std::io;
use std::path::PathBuf;

use crate::{Error, Result, Store, place};

/// Longest kind or key. The file name limit is 255; a digest in hex with a prefix fits.
const NAME_LIMIT_BYTES: usize = 128;

/// Largest value that is read. Entries point to objects; what is larger than this belongs into one.
const ENTRY_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// When an entry must be on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Now,
    Later,
}

impl Store {
    /// Sets the entry `kind`/`key` to `value`, atomically and durably: a reader, also one after a crash, sees the old
    /// value or the new one. If `value` names new objects, call [`Store::sync`] before.
    ///
    /// # Errors
    /// [`Error::BadName`] or [`Error::Write`].
    pub fn put_entry(&self, kind: &str, key: &str, value: &[u8]) -> Result<()> {
        self.set_entry(kind, key, value, Durability::Now)
    }

    /// As [`Store::put_entry`], but durable only after the next [`Store::sync`]: for what can be made again. A reader
    /// after a power cut may find it empty, cut short or gone, and must take each of these for "not remembered".
    ///
    /// # Errors
    /// [`Error::BadName`] or [`Error::Write`].
    pub fn remember(&self, kind: &str, key: &str, value: &[u8]) -> Result<()> {
        self.set_entry(kind, key, value, Durability::Later)
    }

    fn set_entry(&self, kind: &str, key: &str, value: &[u8], durability: Durability) -> Result<()> {
        let path = self.entry_path(kind, key)?;
        let what = format!("entry `{kind}/{key}`");
        let fail = |source| Error::write(what.as_str(), &path, source);
        let now = durability == Durability::Now;
        let dir = self.root().join("entries").join(kind);
        self.enter()?;
        place::create_dir(self.gate(), &dir).map_err(fail)?;
        if now {
            // Also if it was there: who made it may have died before this.
            place::sync_dir(self.gate(), &self.root().join("entries")).map_err(fail)?;
        }
        let scratch = &self.inner.scratch;
        let (mut file, name) = scratch.create(0o644).map_err(fail)?;
        let written = scratch
            .append(&name, &mut file, value)
            .and_then(|()| if now { scratch.sync(&name, &file) } else { Ok(()) })
            .and_then(|()| scratch.publish(&name, &path))
            .and_then(|()| if now { place::sync_dir(self.gate(), &dir) } else { Ok(()) });
        written.map_err(|source| {
            // The rename may have happened already; otherwise the draft goes. Either way the first error counts.
            let _ = scratch.discard(&name);
            fail(source)
        })
    }

    /// The value of the entry `kind`/`key`, or None if it was never set.
    ///
    /// # Errors
    /// [`Error::BadName`] or [`Error::Read`].
    pub fn entry(&self, kind: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.entry_path(kind, key)?;
        self.enter()?;
        match place::read_limited(&path, ENTRY_LIMIT_BYTES) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::read(format!("entry `{kind}/{key}`"), &path, source)),
        }
    }

    /// The keys of all entries of `kind`, sorted.
    ///
    /// # Errors
    /// [`Error::BadName`] or [`Error::Read`].
    pub fn entries(&self, kind: &str) -> Result<Vec<String>> {
        check_name("entry kind", kind)?;
        let dir = self.root().join("entries").join(kind);
        let mut keys = place_names(&dir).map_err(|source| Error::read("entries", &dir, source))?;
        keys.retain(|key| check_name("entry key", key).is_ok());
        Ok(keys)
    }

    /// Removes the entry `kind`/`key`; it may be absent.
    ///
    /// # Errors
    /// [`Error::BadName`] or [`Error::Write`].
    pub fn remove_entry(&self, kind: &str, key: &str) -> Result<()> {
        let path = self.entry_path(kind, key)?;
        match place::remove_file(self.gate(), &path) {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::write(format!("entry `{kind}/{key}`"), &path, source)),
        }
    }

    pub(crate) fn entry_path(&self, kind: &str, key: &str) -> Result<PathBuf> {
        check_name("entry kind", kind)?;
        check_name("entry key", key)?;
        Ok(self.root().join("entries").join(kind).join(key))
    }
}

/// Names become file names: nothing that could leave its directory or hide in it.
pub(crate) fn check_name(what: &'static str, value: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    if (1..=NAME_LIMIT_BYTES).contains(&value.len()) && !value.starts_with('.') && value.bytes().all(allowed)
    {
        return Ok(());
    }
    Err(Error::BadName { what, value: value.to_owned() })
}

/// The UTF-8 names in a directory, sorted; none if the directory is not there.
pub(crate) fn place_names(dir: &std::path::Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
