//! Releases: immutable and numbered per application.

use std::io::{self, Write as _};
use std::path::PathBuf;

use plumb_model::AppName;

use crate::entry::place_names;
use crate::{Error, Result, Store, place};

/// Largest release document that is read: machines, digests, topology; a megabyte would be hundreds of machines.
const RELEASE_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

impl Store {
    /// Adds the release `number` of `app`. Everything written to the store before becomes durable first, then the
    /// release appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::ReleaseExists`] if the number is taken, whatever its bytes; [`Error::Write`].
    pub fn add_release(&self, app: &AppName, number: u64, bytes: &[u8]) -> Result<()> {
        self.sync()?;
        let path = self.release_path(app, number);
        let what = format!("release `{app}@{number}`");
        let fail = |source| Error::write(what.as_str(), &path, source);
        let dir = self.root().join("releases").join(app.as_str());
        if place::create_dir(&dir).map_err(fail)? {
            place::sync_dir(&self.root().join("releases")).map_err(fail)?;
        }
        let scratch = &self.inner.scratch;
        let (mut file, name) = scratch.create(0o444).map_err(fail)?;
        let added = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| scratch.publish_new(&name, &path))
            .and_then(|()| place::sync_dir(&dir));
        added.map_err(|source| {
            // Nothing to add if even this fails: the scratch directory as a whole is removed later.
            let _ = scratch.discard(&name);
            if source.kind() == io::ErrorKind::AlreadyExists {
                return Error::ReleaseExists { app: app.clone(), number };
            }
            fail(source)
        })
    }

    /// The bytes of the release `number` of `app`.
    ///
    /// # Errors
    /// [`Error::ReleaseMissing`] or [`Error::Read`].
    pub fn release(&self, app: &AppName, number: u64) -> Result<Vec<u8>> {
        let path = self.release_path(app, number);
        place::read_limited(&path, RELEASE_LIMIT_BYTES).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                return Error::ReleaseMissing { app: app.clone(), number };
            }
            Error::read(format!("release `{app}@{number}`"), &path, source)
        })
    }

    /// The numbers of all releases of `app`, ascending; none if the store does not know it.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn releases(&self, app: &AppName) -> Result<Vec<u64>> {
        let dir = self.root().join("releases").join(app.as_str());
        let names = place_names(&dir)
            .map_err(|source| Error::read(format!("the releases of `{app}`"), &dir, source))?;
        // Only the names that `add_release` writes: `07` and `+7` also parse but are not ours.
        let number = |name: &String| name.parse().ok().filter(|number: &u64| number.to_string() == *name);
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The applications that have releases, sorted.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn apps(&self) -> Result<Vec<AppName>> {
        let dir = self.root().join("releases");
        let names = place_names(&dir).map_err(|source| Error::read("the applications", &dir, source))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn release_path(&self, app: &AppName, number: u64) -> PathBuf {
        self.root().join("releases").join(app.as_str()).join(number.to_string())
    }
}
