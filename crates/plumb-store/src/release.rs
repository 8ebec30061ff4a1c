//! Releases: immutable and numbered per application.

use plumb_model::AppName;

use crate::record::{Added, Place};
use crate::{Error, Result, Store};

impl Store {
    /// Adds the release `number` of `app`. Everything written to the store before becomes durable first, then the
    /// release appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::ReleaseExists`] if the number is taken, whatever its bytes; [`Error::Write`].
    pub fn add_release(&self, app: &AppName, number: u64, bytes: &[u8]) -> Result<()> {
        self.sync()?;
        match self.add_record(&at(app, number, &["releases", app.as_str()]), bytes)? {
            Added::New => Ok(()),
            Added::Taken => Err(Error::ReleaseExists { app: app.clone(), number }),
        }
    }

    /// The bytes of the release `number` of `app`.
    ///
    /// # Errors
    /// [`Error::ReleaseMissing`] or [`Error::Read`].
    pub fn release(&self, app: &AppName, number: u64) -> Result<Vec<u8>> {
        let found = self.record(&at(app, number, &["releases", app.as_str()]))?;
        found.ok_or_else(|| Error::ReleaseMissing { app: app.clone(), number })
    }

    /// The numbers of all releases of `app`, ascending; none if the store does not know it.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn releases(&self, app: &AppName) -> Result<Vec<u64>> {
        self.record_numbers(&["releases", app.as_str()], &format!("the releases of `{app}`"))
    }

    /// The applications that have releases, sorted.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn apps(&self) -> Result<Vec<AppName>> {
        let names = self.record_names(&["releases"], "the applications")?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

fn at<'a>(app: &AppName, number: u64, folders: &'a [&'a str]) -> Place<'a> {
    Place { folders, name: number.to_string(), what: format!("release `{app}@{number}`") }
}
