//! Who vouched for what: the trust of an application, statements about its releases, and its channels. The store keeps
//! signed bytes; whether a signature is good is decided above.

use std::collections::BTreeSet;

use plumb_model::{AppName, ChannelName, Digest};

use crate::record::{Added, Place};
use crate::{Error, Result, Store};

impl Store {
    /// Adds a signed statement about release `number` of `app`; one that is there already stays. Returns its digest,
    /// which is its name.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn add_statement(&self, app: &AppName, number: u64, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let release = number.to_string();
        let folders = ["statements", app.as_str(), &release];
        self.add_record(&statement_at(app, number, &digest, &folders), bytes)?;
        Ok(digest)
    }

    /// The statements about release `number` of `app`, in the order of their digests.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn statements(&self, app: &AppName, number: u64) -> Result<Vec<Digest>> {
        let release = number.to_string();
        let what = format!("the statements about `{app}@{number}`");
        let names = self.record_names(&["statements", app.as_str(), &release], &what)?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// The bytes of a statement; `None` if it is not there. They are what has this digest.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::WrongDigest`].
    pub fn statement(&self, app: &AppName, number: u64, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let release = number.to_string();
        let folders = ["statements", app.as_str(), &release];
        let Some(bytes) = self.record(&statement_at(app, number, digest, &folders))? else { return Ok(None) };
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::WrongDigest { expected: *digest, found });
        }
        Ok(Some(bytes))
    }

    /// Adds the promotion `sequence` (from 1) to a channel of `app`: from now on it is what the channel says.
    ///
    /// # Errors
    /// [`Error::ChannelMoved`] if the number is taken: somebody else promoted; [`Error::Write`].
    pub fn add_promotion(
        &self,
        app: &AppName,
        channel: &ChannelName,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let folders = ["channels", app.as_str(), channel.as_str()];
        match self.add_record(&promotion_at(app, channel, sequence, &folders), bytes)? {
            Added::New => Ok(()),
            Added::Taken => Err(Error::ChannelMoved { app: app.clone(), channel: channel.clone() }),
        }
    }

    /// The applications that have trust or channels, sorted; they need not have releases here.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn vouched_apps(&self) -> Result<Vec<AppName>> {
        let mut names = self.record_names(&["channels"], "the channels")?;
        names.extend(self.record_names(&["trust"], "the trust")?);
        let apps: BTreeSet<AppName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(apps.into_iter().collect())
    }

    /// The channels of `app`, sorted.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn channels(&self, app: &AppName) -> Result<Vec<ChannelName>> {
        let names = self.record_names(&["channels", app.as_str()], &format!("the channels of `{app}`"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The numbers of the promotions of a channel, ascending; the last one is what it says.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn promotions(&self, app: &AppName, channel: &ChannelName) -> Result<Vec<u64>> {
        let folders = ["channels", app.as_str(), channel.as_str()];
        self.record_numbers(&folders, &format!("channel `{channel}` of `{app}`"))
    }

    /// The bytes of one promotion; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn promotion(&self, app: &AppName, channel: &ChannelName, sequence: u64) -> Result<Option<Vec<u8>>> {
        let folders = ["channels", app.as_str(), channel.as_str()];
        self.record(&promotion_at(app, channel, sequence, &folders))
    }

    /// Removes a channel with all its promotions, the newest first: one that is cut short in between is a channel that
    /// points to what it pointed to before.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn forget_channel(&self, app: &AppName, channel: &ChannelName) -> Result<()> {
        let folder = self.root().join("channels").join(app.as_str()).join(channel.as_str());
        let fail = |source| Error::write(format!("channel `{channel}` of `{app}`"), &folder, source);
        for sequence in self.promotions(app, channel)?.into_iter().rev() {
            std::fs::remove_file(folder.join(sequence.to_string())).map_err(fail)?;
        }
        std::fs::remove_dir(&folder).map_err(fail)
    }

    /// Adds version `version` of the root of trust of `app`.
    ///
    /// # Errors
    /// [`Error::TrustMoved`] if there is another one of this version; [`Error::Write`].
    pub fn add_root(&self, app: &AppName, version: u64, bytes: &[u8]) -> Result<()> {
        let folders = ["trust", app.as_str()];
        let at = root_at(app, version, &folders);
        match self.add_record(&at, bytes)? {
            Added::Taken if self.record(&at)?.as_deref() != Some(bytes) => {
                Err(Error::TrustMoved { app: app.clone(), version })
            }
            Added::New | Added::Taken => Ok(()),
        }
    }

    /// The versions of the root of trust of `app`, ascending; none if it has none.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn roots(&self, app: &AppName) -> Result<Vec<u64>> {
        self.record_numbers(&["trust", app.as_str()], &format!("the trust of `{app}`"))
    }

    /// The bytes of one version of the root of trust; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn root_of_trust(&self, app: &AppName, version: u64) -> Result<Option<Vec<u8>>> {
        self.record(&root_at(app, version, &["trust", app.as_str()]))
    }
}

fn statement_at<'a>(app: &AppName, number: u64, digest: &Digest, folders: &'a [&'a str]) -> Place<'a> {
    Place {
        folders,
        name: digest.hex(),
        what: format!("statement `{}` about `{app}@{number}`", digest.short()),
    }
}

fn promotion_at<'a>(
    app: &AppName,
    channel: &ChannelName,
    sequence: u64,
    folders: &'a [&'a str],
) -> Place<'a> {
    Place { folders, name: sequence.to_string(), what: format!("promotion {sequence} of `{app}@{channel}`") }
}

fn root_at<'a>(app: &AppName, version: u64, folders: &'a [&'a str]) -> Place<'a> {
    Place { folders, name: version.to_string(), what: format!("version {version} of the trust of `{app}`") }
}
