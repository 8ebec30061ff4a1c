//! Feeds of advisories: where from, when they were taken, and the bytes themselves; read into the index.
//!
//! ```text
//!  entries/advisory-1/<name>   origin, form, time, digest                what is known, durable
//!  object                      the feed as it was taken                  read again when the index is made again
//!  index                       its advisories, with its digest           derived
//! ```
//! Nobody signs these feeds: what they say is believed as far as the connection they came by. A feed that cannot be read
//! does not take the place of one that could.

use std::fmt;
use std::io::{self, Seek as _};
use std::path::Path;
use std::str::FromStr;

use plumb_fetch::{Feed, Validators, fetch_changing};
use plumb_model::Digest;
use plumb_search::advisory::{Form, MAX_FEED_BYTES, Tally};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::compile::{compile, compiled, forget};
use super::index::Index;
use super::record::CHANGELOGS;
use crate::error::OpsError;
use crate::lock::Transfer;
use crate::progress::Progress;
use crate::{Plumb, clock};

/// Kind of the store's entries about feeds; the number changes with their form.
const FEEDS: &str = "advisory-1";

/// Feeds that need no address.
const KNOWN: [(&str, &str); 4] = [
    ("debian", "https://security-tracker.debian.org/tracker/data/json"),
    ("osv-debian", "https://osv-vulnerabilities.storage.googleapis.com/Debian/all.zip"),
    ("osv-npm", "https://osv-vulnerabilities.storage.googleapis.com/npm/all.zip"),
    ("osv-pypi", "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"),
];

/// Older feeds are told to be old, seconds: Debian's tracker changes every few hours, and a week has hundreds of changes.
const OLD_S: i64 = 7 * 86_400;

/// Name of a feed: as names of deployments are, and not that of the changelogs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FeedName(String);

impl FeedName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FeedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == CHANGELOGS {
            return Err(format!("`{CHANGELOGS}` is what the packages' own changelogs are called"));
        }
        let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=40).contains(&text.len()) && text.bytes().all(is_good) && !text.starts_with('-') {
            return Ok(FeedName(text.to_owned()));
        }
        Err(format!("`{text}` is no name of a feed: 1 to 40 of a-z, 0-9 and `-`"))
    }
}

/// A feed as it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedView {
    /// Its name.
    pub name: FeedName,
    /// Where it is from.
    pub origin: String,
    /// How it is written.
    pub form: Form,
    /// When it was taken, or found to be unchanged, seconds since 1970.
    pub taken_s: i64,
    /// How long ago that is.
    pub age_s: i64,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub bytes: u64,
    /// What it says of packages.
    #[serde(flatten)]
    pub tally: Tally,
}

impl FeedView {
    /// `debian` of 2026-11-28: for what is kept.
    #[must_use]
    pub fn dated(&self) -> String {
        format!("`{}` of {}", self.name, clock::utc(self.taken_s, "%Y-%m-%d"))
    }

    /// `debian, taken 2026-11-28, 2 days ago`
    #[must_use]
    pub fn in_words(&self) -> String {
        let day = clock::utc(self.taken_s, "%Y-%m-%d");
        let ago = match self.age_s / 86_400 {
            0 => "today".to_owned(),
            1 => "1 day ago".to_owned(),
            days => format!("{days} days ago"),
        };
        format!("`{}`, taken {day}, {ago}", self.name)
    }

    /// Whether it is so old that what it does not say means little.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.age_s > OLD_S
    }
}

/// What became of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedOutcome {
    /// The feed as it is now.
    #[serde(flatten)]
    pub feed: FeedView,
    /// It says something else than before.
    pub changed: bool,
}

/// What the store remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    origin: String,
    form: Form,
    taken_s: i64,
    /// The object with its bytes.
    digest: Digest,
    bytes: u64,
    tally: Tally,
    validators: Validators,
}

impl Plumb<'_> {
    /// Takes a feed under a name, from a URL or a file; those that are known by name need none.
    ///
    /// # Errors
    /// [`OpsError::NoFeed`], [`OpsError::OtherFeed`], [`OpsError::Advisory`], and those of the transfer.
    pub fn add_feed(&self, name: &FeedName, origin: Option<&str>) -> Result<FeedOutcome, OpsError> {
        let known = self.feed(name)?;
        let usual = KNOWN.iter().find(|(known, _)| *known == name.as_str()).map(|(_, url)| *url);
        let origin = match (origin, &known, usual) {
            (Some(origin), ..) => absolute(origin)?,
            (None, Some(known), _) => known.origin.clone(),
            (None, None, Some(url)) => url.to_owned(),
            (None, None, None) => {
                let known = KNOWN.iter().map(|(name, _)| (*name).to_owned()).collect();
                return Err(OpsError::NoFeed { feed: name.to_string(), known });
            }
        };
        match known {
            Some(known) if known.origin != origin => {
                Err(OpsError::OtherFeed { feed: name.to_string(), origin: known.origin })
            }
            known => self.take_feed(name, &origin, known),
        }
    }

    /// Takes feeds again from where they are from: those named, or all.
    ///
    /// # Errors
    /// [`OpsError::NoFeed`], and as [`Plumb::add_feed`]; feeds before the one that fails are taken.
    pub fn update_feeds(&self, names: &[FeedName]) -> Result<Vec<FeedOutcome>, OpsError> {
        let all = self.feed_names()?;
        let names = if names.is_empty() { &all[..] } else { names };
        names
            .iter()
            .map(|name| {
                let known = self.feed(name)?.ok_or_else(|| OpsError::NoFeed {
                    feed: name.to_string(),
                    known: all.iter().map(ToString::to_string).collect(),
                })?;
                self.take_feed(name, &known.origin.clone(), Some(known))
            })
            .collect()
    }

    /// Forgets a feed.
    ///
    /// # Errors
    /// [`OpsError::NoFeed`].
    pub fn remove_feed(&self, name: &FeedName) -> Result<(), OpsError> {
        if self.feed(name)?.is_none() {
            let known = self.feed_names()?.iter().map(ToString::to_string).collect();
            return Err(OpsError::NoFeed { feed: name.to_string(), known });
        }
        // The index follows by itself.
        Ok(self.store.remove_entry(FEEDS, name.as_str())?)
    }

    /// All feeds.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn feeds(&self) -> Result<Vec<FeedView>, OpsError> {
        let mut views = Vec::new();
        for name in self.feed_names()? {
            views.extend(self.feed(&name)?.map(|record| view(&name, record)));
        }
        Ok(views)
    }

    fn feed_names(&self) -> Result<Vec<FeedName>, OpsError> {
        Ok(self.store.entries(FEEDS)?.iter().filter_map(|key| key.parse().ok()).collect())
    }

    fn feed(&self, name: &FeedName) -> Result<Option<Record>, OpsError> {
        let Some(bytes) = self.store.entry(FEEDS, name.as_str())? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes)
            .map_err(|error| OpsError::Advisory { origin: name.to_string(), source: Box::new(error) })?;
        Ok(Some(record))
    }

    fn take_feed(
        &self,
        name: &FeedName,
        origin: &str,
        known: Option<Record>,
    ) -> Result<FeedOutcome, OpsError> {
        let broken =
            |source: io::Error| OpsError::Advisory { origin: origin.to_owned(), source: Box::new(source) };
        let mut file = tempfile::tempfile_in(self.home.root()).map_err(broken)?;
        let before = known.as_ref().map(|known| known.digest);
        // Nothing is asked about a copy that is lost or damaged: the feed is taken again, whether it changed or not.
        let known = match known {
            Some(known) if self.is_whole(&known.digest)? => Some(known),
            _ => None,
        };
        let validators = known.as_ref().map(|known| known.validators.clone()).unwrap_or_default();
        let feed = Feed { item: name.as_str(), url: origin, known: &validators, limit_bytes: MAX_FEED_BYTES };
        let options = self.fetch_options()?;
        let fetched = fetch_changing(&self.store, &feed, &mut file, &options, &Transfer(self.reporter))?;
        let taken_s = clock::now_s();
        let (validators, digest, bytes) = match (fetched, &known) {
            (Some(validators), _) => {
                file.rewind().map_err(broken)?;
                // What cannot be used is named by no entry, and goes with the next `gc`.
                let (digest, bytes) = self.store.put_reader(&mut file)?;
                (validators, digest, bytes)
            }
            (None, Some(known)) => (validators, known.digest, known.bytes),
            // Without validators nothing can be unchanged.
            (None, None) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
        };
        if let Some(known) = known.filter(|known| known.digest == digest) {
            let record = Record { taken_s, validators, ..known };
            self.put_feed(name, &record)?;
            return Ok(FeedOutcome { feed: view(name, record), changed: false });
        }
        self.report(Progress::ReadingFeed { feed: name.to_string() });
        let record = self.with_writable(&mut |index| {
            let failed = index.failed("write");
            let transaction = index.connection.transaction().map_err(&failed)?;
            let compiled = compile(&transaction, name.as_str(), &digest, &mut file);
            let (form, tally) = compiled.map_err(|error| error.of(origin, &failed))?;
            let (origin, validators) = (origin.to_owned(), validators.clone());
            let record = Record { origin, form, taken_s, digest, bytes, tally, validators };
            // Were it killed between these two, the index would be of another feed than the entry, and would be seen to be.
            self.store.sync()?;
            self.put_feed(name, &record)?;
            transaction.commit().map_err(&failed)?;
            Ok(record)
        })?;
        self.report(Progress::FeedRead { feed: name.to_string(), advisories: record.tally.advisories });
        Ok(FeedOutcome { feed: view(name, record), changed: before != Some(digest) })
    }

    /// Whether the store has a feed as it was taken. A damaged copy is moved out of the way.
    fn is_whole(&self, digest: &Digest) -> Result<bool, OpsError> {
        match self.store.verify(digest) {
            Ok(()) => Ok(true),
            Err(plumb_store::Error::Missing { .. } | plumb_store::Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn put_feed(&self, name: &FeedName, record: &Record) -> Result<(), OpsError> {
        let bytes = serde_json::to_vec(record)
            .map_err(|error| OpsError::Advisory { origin: record.origin.clone(), source: Box::new(error) })?;
        Ok(self.store.put_entry(FEEDS, name.as_str(), &bytes)?)
    }

    /// Whether the index has other feeds than the store.
    pub(super) fn feeds_differ(&self, index: &Index) -> Result<bool, OpsError> {
        let mut compiled = compiled(&index.connection).map_err(index.failed("read"))?;
        for name in self.feed_names()? {
            let Some(record) = self.feed(&name)? else { continue };
            let key = (name.to_string(), record.digest.to_string());
            let Some(at) = compiled.iter().position(|one| *one == key) else { return Ok(true) };
            compiled.swap_remove(at);
        }
        Ok(!compiled.is_empty())
    }

    /// Reads every feed again that the index has not as it is.
    pub(super) fn compile_feeds(&self, index: &mut Index) -> Result<(), OpsError> {
        if !self.feeds_differ(index)? {
            return Ok(());
        }
        let failed = index.failed("write");
        let found = compiled(&index.connection).map_err(&failed)?;
        let names = self.feed_names()?;
        let mut transaction = index.connection.transaction().map_err(&failed)?;
        for (name, _) in found.iter().filter(|(name, _)| !names.iter().any(|one| one.as_str() == name)) {
            forget(&transaction, name).map_err(&failed)?;
        }
        for name in names {
            let Some(record) = self.feed(&name)? else { continue };
            if found.contains(&(name.to_string(), record.digest.to_string())) {
                continue;
            }
            self.report(Progress::ReadingFeed { feed: name.to_string() });
            let savepoint = transaction.savepoint().map_err(&failed)?;
            match self.compile_copy(&savepoint, &name, &record, &failed) {
                Ok(tally) => {
                    savepoint.commit().map_err(&failed)?;
                    self.report(Progress::FeedRead { feed: name.to_string(), advisories: tally.advisories });
                }
                // The index is to blame, and not the feed.
                Err(error @ OpsError::Search { .. }) => return Err(error),
                // Whoever asks for a package needs no feed; whoever asks for a vulnerability is told that it is not read.
                Err(error) => self.report(Progress::Postponed { what: error.in_one_line() }),
            }
        }
        transaction.commit().map_err(&failed)
    }

    /// Reads the copy of a feed that the store has.
    fn compile_copy(
        &self,
        connection: &Connection,
        name: &FeedName,
        record: &Record,
        failed: &dyn Fn(rusqlite::Error) -> OpsError,
    ) -> Result<Tally, OpsError> {
        self.store.verify(&record.digest)?;
        let mut file = self.store.open_object(&record.digest)?;
        let compiled = compile(connection, name.as_str(), &record.digest, &mut file);
        Ok(compiled.map_err(|error| error.of(name.as_str(), failed))?.1)
    }
}

fn view(name: &FeedName, record: Record) -> FeedView {
    FeedView {
        name: name.clone(),
        origin: record.origin,
        form: record.form,
        taken_s: record.taken_s,
        age_s: clock::now_s().saturating_sub(record.taken_s).max(0),
        digest: record.digest,
        bytes: record.bytes,
        tally: record.tally,
    }
}

/// A URL as it is; a path becomes one.
fn absolute(origin: &str) -> Result<String, OpsError> {
    if origin.contains("://") {
        return Ok(origin.to_owned());
    }
    let path = std::path::absolute(Path::new(origin)).map_err(crate::error::io("find", Path::new(origin)))?;
    Ok(format!("file://{}", path.display()))
}
