//! Records: small immutable documents, each written once below a name that is given once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, ChannelName, Digest};

use crate::entry::place_names;
use crate::gate::Change;
use crate::{Error, Result, Store, place};

/// Largest record that is read: a release of hundreds of machines, or the trust of one, stays below a megabyte.
const RECORD_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// One record by what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// A version of the root of trust.
    Root(AppName, u64),
    /// A promotion of a channel, by its number.
    Promotion(AppName, ChannelName, u64),
    /// A release.
    Release(ReleaseName),
    /// A statement about a release.
    Statement(ReleaseName, Digest),
}

impl Record {
    /// The application it belongs to.
    #[must_use]
    pub fn app(&self) -> &AppName {
        match self {
            Record::Root(app, _) | Record::Promotion(app, ..) => app,
            Record::Release(name) | Record::Statement(name, _) => &name.app,
        }
    }

    /// Folders and name below the store's root.
    fn parts(&self) -> (Vec<String>, String) {
        let (kind, folder, name) = match self {
            Record::Root(_, version) => ("trust", None, version.to_string()),
            Record::Promotion(_, channel, sequence) => {
                ("channels", Some(channel.to_string()), sequence.to_string())
            }
            Record::Release(name) => ("releases", None, name.number.to_string()),
            Record::Statement(name, digest) => ("statements", Some(name.number.to_string()), digest.hex()),
        };
        (std::iter::once(kind.to_owned()).chain([self.app().to_string()]).chain(folder).collect(), name)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Root(app, version) => write!(f, "version {version} of the trust of `{app}`"),
            Record::Promotion(app, channel, sequence) => {
                write!(f, "promotion {sequence} of `{app}@{channel}`")
            }
            Record::Release(name) => write!(f, "release `{name}`"),
            Record::Statement(name, digest) => write!(f, "statement `{}` about `{name}`", digest.short()),
        }
    }
}

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

/// What becomes of a record that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Stays,
    /// It goes to `damaged/`.
    MakesWay,
}

impl Store {
    /// Puts the bytes that a record is to have in the place of what is there, which goes to `damaged/`. Whether they are the
    /// right ones is decided above.
    ///
    /// # Errors
    /// [`Error::Write`]; then what was there is there.
    pub fn put_right(&self, record: &Record, bytes: &[u8]) -> Result<()> {
        let (folders, name) = record.parts();
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        let at = Place { folders: &folders, name, what: record.to_string() };
        self.write_record(&at, bytes, Other::MakesWay).map(drop)
    }

    /// Adds a record, durably: it appears whole or not at all, and never replaces another.
    pub(crate) fn add_record(&self, at: &Place<'_>, bytes: &[u8]) -> Result<Added> {
        self.write_record(at, bytes, Other::Stays)
    }

    fn write_record(&self, at: &Place<'_>, bytes: &[u8], other: Other) -> Result<Added> {
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
            .and_then(|()| match other {
                Other::Stays => scratch.publish_new(&name, &path),
                Other::MakesWay => self.keep_a_look(at, &path).and_then(|()| scratch.publish(&name, &path)),
            })
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

    /// Gives what is at `path` a second name in `damaged/`, for a person to look at; nothing if there is none.
    fn keep_a_look(&self, at: &Place<'_>, path: &Path) -> io::Result<()> {
        loop {
            let number = self.inner.damaged.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{}.{number}", at.folders.join("-"), at.name);
            let target = self.root().join("damaged").join(name);
            // link(2), unlike rename(2), does not overwrite what an earlier process put there.
            self.gate().before(&Change::Link(path, &target))?;
            match std::fs::hard_link(path, &target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => return other,
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
