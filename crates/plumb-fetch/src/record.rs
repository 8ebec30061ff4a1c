//! What the store remembers about a source: the last state that was accepted.
//!
//! ```text
//! entries/archive/<SHA-256 of "<uri> <suite>">
//!   {"format": 1, "uri", "suite", "date_unix_s", "in_release": digest, "validators": {…},
//!    "indices": {"<component>/<architecture>": {"component", "packages": digest, "size"}}}
//! ```
//!
//! It is what `--offline` uses, what a server's "not modified" refers to, and the date that nothing older may follow.

use std::collections::BTreeMap;

use plumb_model::Digest;
use plumb_store::Store;
use serde::{Deserialize, Serialize};

use crate::http::Validators;
use crate::source::{ArchiveSource, IndexRef, SourceSnapshot};
use crate::{Error, Result};

/// The kind of these entries in the store.
const KIND: &str = "archive";

/// The form drawn above.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    uri: String,
    suite: String,
    pub(crate) date_unix_s: i64,
    pub(crate) in_release: Digest,
    pub(crate) validators: Validators,
    indices: BTreeMap<String, IndexRef>,
}

impl Record {
    /// A source of which no index was fetched yet.
    pub(crate) fn new(
        source: &ArchiveSource,
        date_unix_s: i64,
        in_release: Digest,
        validators: Validators,
    ) -> Record {
        Record {
            format: FORMAT,
            uri: source.uri.clone(),
            suite: source.suite.clone(),
            date_unix_s,
            in_release,
            validators,
            indices: BTreeMap::new(),
        }
    }

    /// What was accepted last for `source`.
    pub(crate) fn load(store: &Store, source: &ArchiveSource) -> Result<Option<Record>> {
        let Some(bytes) = store.entry(KIND, &key(&source.uri, &source.suite))? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| Error::Record {
            uri: source.uri.clone(),
            suite: source.suite.clone(),
            source: error,
        })?;
        Ok(Some(record))
    }

    /// Remembers it. The objects it names must be durable before.
    pub(crate) fn save(&self, store: &Store) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::Record {
            uri: self.uri.clone(),
            suite: self.suite.clone(),
            source: error,
        })?;
        Ok(store.put_entry(KIND, &key(&self.uri, &self.suite), &bytes)?)
    }

    /// Keeps the indices of the other architectures and components that are of the same release.
    pub(crate) fn keep_indices_of(&mut self, previous: &Record) {
        if previous.in_release == self.in_release {
            self.indices = previous.indices.clone();
        }
    }

    pub(crate) fn set_index(&mut self, architecture: &str, index: IndexRef) {
        self.indices.insert(format!("{}/{architecture}", index.component), index);
    }

    /// What `source` has for `architecture`; the error is the first component that is not there.
    pub(crate) fn snapshot(
        &self,
        source: &ArchiveSource,
        architecture: &str,
    ) -> std::result::Result<SourceSnapshot, String> {
        let mut indices = Vec::new();
        for component in &source.components {
            match self.indices.get(&format!("{component}/{architecture}")) {
                Some(index) => indices.push(index.clone()),
                None => return Err(component.clone()),
            }
        }
        Ok(SourceSnapshot {
            uri: self.uri.clone(),
            suite: self.suite.clone(),
            date_unix_s: self.date_unix_s,
            in_release: self.in_release,
            indices,
        })
    }
}

fn key(uri: &str, suite: &str) -> String {
    Digest::of(format!("{uri} {suite}").as_bytes()).hex()
}
