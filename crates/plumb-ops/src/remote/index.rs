//! What a remote says it has of one application.
//!
//! ```text
//!  index.json    {"format":1,"app":"shop","releases":{"4":{"document":…,"bytes":…,"bundles":[…]}}}
//! ```
//!
//! It is one of the signed documents of `signed.rs`: a release is there with everything it needs, or not at all. Whatever it
//! names is named by digest.

use std::collections::BTreeMap;

use plumb_model::image::Part;
use plumb_model::release::ReleaseName;
use plumb_model::{AppName, Digest, Document};
use plumb_remote::{Blob, Remote};
use serde::{Deserialize, Serialize};

use crate::error::OpsError;
use crate::remote::TransferError;

/// All releases of one application on a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    format: u32,
    pub(crate) app: AppName,
    /// By number.
    pub(crate) releases: BTreeMap<u64, Entry>,
}

/// One release on a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The release's own document, a blob.
    pub(crate) document: Part,
    /// Bytes of all objects that the release reaches.
    pub(crate) bytes: u64,
    /// Ways to its objects, of which one is enough.
    pub(crate) bundles: Vec<Bundle>,
    /// A list of what its images were built from, a blob; see `supply.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) supplies: Option<Part>,
}

/// A delta that makes the objects of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bundle {
    /// The release whose objects it starts from; it is full if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<u64>,
    /// The delta, a blob.
    pub(crate) delta: Part,
}

impl Document for Index {
    const WHAT: &'static str = "index of a remote";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl Index {
    /// An index without releases.
    pub(crate) fn new(app: &AppName) -> Index {
        Index { format: Index::FORMAT, app: app.clone(), releases: BTreeMap::new() }
    }
}

/// A part of a document as a blob.
pub(crate) fn blob(part: &Part) -> Blob {
    Blob { digest: part.digest, size: part.size }
}

impl Index {
    /// Adds a release, or what is new about it.
    ///
    /// # Errors
    /// [`TransferError::Differs`] if its number is taken by another release.
    pub(crate) fn add(
        &mut self,
        remote: &dyn Remote,
        name: &ReleaseName,
        entry: &Entry,
    ) -> Result<(), OpsError> {
        let merged = match self.releases.get(&name.number) {
            Some(other) => {
                merge(other, entry).ok_or_else(|| differs(remote, name, &other.document.digest))?
            }
            None => entry.clone(),
        };
        self.releases.insert(name.number, merged);
        Ok(())
    }
}

pub(crate) fn differs(remote: &dyn Remote, name: &ReleaseName, there: &Digest) -> OpsError {
    OpsError::Transfer(TransferError::Differs {
        release: name.clone(),
        remote: remote.shown(),
        there: *there,
    })
}

/// Both of what two pushes say about one release; nothing if it is not one release.
pub(crate) fn merge(one: &Entry, other: &Entry) -> Option<Entry> {
    if one.document != other.document {
        return None;
    }
    let mut merged = one.clone();
    for bundle in &other.bundles {
        if !merged.bundles.iter().any(|known| known.base == bundle.base) {
            merged.bundles.push(bundle.clone());
        }
    }
    merged.bundles.sort_by_key(|bundle| bundle.base);
    merged.supplies = merged.supplies.or_else(|| other.supplies.clone());
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(document: &str, bases: &[Option<u64>]) -> Entry {
        let part = |text: String| Part { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
        let bundle = |base: &Option<u64>| Bundle { base: *base, delta: part(format!("{base:?}")) };
        let bundles = bases.iter().map(bundle).collect();
        Entry { document: part(document.to_owned()), bytes: 7, bundles, supplies: None }
    }

    #[test]
    fn the_form_is_canonical() {
        let mut index = Index::new(&"shop".parse().unwrap());
        index.releases.insert(10, entry("ten", &[Some(9)]));
        index.releases.insert(9, entry("nine", &[None]));
        let bytes = index.to_bytes();
        assert_eq!(Index::from_bytes(&bytes).unwrap(), index);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with(r#"{"format":1,"app":"shop","releases":{"9":{"document":{"digest":"#),
            "{text}"
        );
        assert!(Index::from_bytes(text.replace(",\"app\"", ", \"app\"").as_bytes()).is_err());
    }

    #[test]
    fn two_pushes_of_one_release_are_one() {
        let merged = merge(&entry("a", &[Some(1)]), &entry("a", &[None, Some(1)])).unwrap();
        assert_eq!(merged.bundles.iter().map(|bundle| bundle.base).collect::<Vec<_>>(), [None, Some(1)]);
        assert_eq!(merge(&entry("a", &[]), &entry("b", &[])), None);
    }
}
