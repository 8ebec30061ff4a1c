//! Records: small immutable documents, each written once below a name that is given once.

use std::io;
use std::path::PathBuf;

use crate::entry::place_names;
use crate::{Error, Result, Store, place};

/// Largest record that is read: a release of hundreds of machines, or the trust of one, stays below a megabyte.
const RECORD_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// Where a record is: folders below the store's root, and a name. All of it was checked: names of types, numbers and
/// digests.
pub(crate) struct Place<'a> {
    pub(crate) folders: &'a [&'a str],
    pub(crate) name: String,
    /// For messages: `release shop@3`.
    pub(crate) what: String,
}

impl Place<'_> {
    fn path(&self, store: &Store) -> PathBuf {
        self.folders.iter().fold(store.root().to_owned(), |path, folder| path.join(folder)).join(&self.name)
    }
}

/// What came of adding a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    /// The name was taken; its record stays as it is.
    Taken,
}

impl Store {
    /// Adds a record, durably: it appears whole or not at all, and never replaces another.
    pub(crate) fn add_record(&self, at: &Place<'_>, bytes: &[u8]) -> Result<Added> {
        let path = at.path(self);
        let fail = |source| Error::write(at.what.as_str(), &path, source);
        let mut folder = self.root().to_owned();
        for name in at.folders {
            let parent = folder.clone();
            folder.push(name);
            place::create_dir(self.gate(), &folder).map_err(fail)?;
            // Also if it was there: who made it may have died before this.
            place::sync_dir(self.gate(), &parent).map_err(fail)?;
        }
        let scratch = &self.inner.scratch;
        let (mut file, name) = scratch.create(0o444).map_err(fail)?;
        let added = scratch
            .append(&name, &mut file, bytes)
            .and_then(|()| scratch.sync(&name, &file))
            .and_then(|()| scratch.publish_new(&name, &path))
            .and_then(|()| place::sync_dir(self.gate(), &folder));
        match added {
            Ok(()) => Ok(Added::New),
            Err(source) => {
                // Nothing to add if even this fails: the scratch directory as a whole is removed later.
                let _ = scratch.discard(&name);
                if source.kind() == io::ErrorKind::AlreadyExists {
                    Ok(Added::Taken)
                } else {
                    Err(fail(source))
                }
            }
        }
    }

    /// The bytes of a record; `None` if there is none.
    pub(crate) fn record(&self, at: &Place<'_>) -> Result<Option<Vec<u8>>> {
        let path = at.path(self);
        match place::read_limited(&path, RECORD_LIMIT_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::read(at.what.as_str(), &path, source)),
        }
    }

    /// The names in a folder of records, sorted; none if it is not there.
    pub(crate) fn record_names(&self, folders: &[&str], what: &str) -> Result<Vec<String>> {
        let path = folders.iter().fold(self.root().to_owned(), |path, folder| path.join(folder));
        place_names(&path).map_err(|source| Error::read(what, &path, source))
    }

    /// The numbers in a folder of records, ascending.
    pub(crate) fn record_numbers(&self, folders: &[&str], what: &str) -> Result<Vec<u64>> {
        let names = self.record_names(folders, what)?;
        // Only the names that are written here: `07` and `+7` also parse but are not ours.
        let number = |name: &String| name.parse().ok().filter(|number: &u64| number.to_string() == *name);
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
