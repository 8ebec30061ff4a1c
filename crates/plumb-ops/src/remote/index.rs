//! What a remote says it has of one application.
//!
//! ```text
//!  apps/<app>/index.json    {"format":1,"app":"shop","roots":{…},"releases":{"4":{"document":…,"bundles":[…],…}}}
//! ```
//!
//! This is the seam where trust is put in: everything above asks [`read`] what there is and tells [`announce`] what is new,
//! and neither knows how a remote says it. The index is the one document that is replaced, and the last that is written: a
//! release is there with everything it needs, or not at all. Whatever it names is named by digest. It is not
//! signed itself; what it leads to is (`vouched.rs`). Until the index is, whoever holds a remote can hide releases, not forge
//! them.

use std::collections::BTreeMap;

use plumb_model::image::Part;
use plumb_model::release::ReleaseName;
use plumb_model::{AppName, Digest, Document};
use plumb_remote::{Blob, Expected, Name, Remote, Version, Written};
use serde::{Deserialize, Serialize};

use crate::error::OpsError;
use crate::remote::TransferError;

/// Largest index that is read: 200 bytes a bundle, so a hundred thousand of them.
const INDEX_LIMIT: u64 = 32 * 1024 * 1024;

/// How often an index is read again because somebody else replaced it meanwhile. Each time means that another push came
/// to its end in between.
const ANNOUNCE_TRIES: usize = 32;

/// All releases of one application on a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    format: u32,
    app: AppName,
    /// The root of trust by version, blobs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) roots: BTreeMap<u64, Part>,
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
    /// What was signed about it, blobs by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) statements: Vec<Part>,
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
        Index { format: Index::FORMAT, app: app.clone(), roots: BTreeMap::new(), releases: BTreeMap::new() }
    }
}

/// A part of a document as a blob.
pub(crate) fn blob(part: &Part) -> Blob {
    Blob { digest: part.digest, size: part.size }
}

/// What `remote` has of `app`; an empty index if it has nothing.
pub(crate) fn read(remote: &dyn Remote, app: &AppName) -> Result<Index, OpsError> {
    Ok(read_version(remote, app)?.map_or_else(|| Index::new(app), |(index, _)| index))
}

/// Adds a release, or what is new about it, to what `remote` says it has. Everything that `entry` names is there already.
///
/// # Errors
/// [`TransferError::Differs`] if its number is taken by another release.
pub(crate) fn announce(
    remote: &dyn Remote,
    name: &ReleaseName,
    entry: &Entry,
    roots: &BTreeMap<u64, Part>,
) -> Result<(), OpsError> {
    for _ in 0..ANNOUNCE_TRIES {
        let (mut index, expected) = match read_version(remote, &name.app)? {
            Some((index, version)) => (index, Expected::Is(version)),
            None => (Index::new(&name.app), Expected::Absent),
        };
        let merged = match index.releases.get(&name.number) {
            Some(other) => {
                merge(other, entry).ok_or_else(|| differs(remote, name, &other.document.digest))?
            }
            None => entry.clone(),
        };
        let before = index.clone();
        add_roots(&mut index, roots, remote)?;
        index.releases.insert(name.number, merged);
        if index == before {
            return Ok(());
        }
        if remote.write(&index_name(&name.app)?, &index.to_bytes(), &expected)? == Written::Done {
            return Ok(());
        }
    }
    Err(OpsError::Transfer(TransferError::Contended { remote: remote.shown() }))
}

/// Adds versions of the root of trust; a version that is there must be the same one.
pub(crate) fn add_roots(
    index: &mut Index,
    roots: &BTreeMap<u64, Part>,
    remote: &dyn Remote,
) -> Result<(), OpsError> {
    for (version, root) in roots {
        if index.roots.get(version).is_some_and(|there| there != root) {
            let (app, remote) = (index.app.clone(), remote.shown());
            return Err(TransferError::OtherTrust { app, remote }.into());
        }
        index.roots.insert(*version, root.clone());
    }
    Ok(())
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
    merged.statements.extend(other.statements.iter().cloned());
    merged.statements.sort_by_key(|part| part.digest);
    merged.statements.dedup();
    merged.supplies = merged.supplies.or_else(|| other.supplies.clone());
    Some(merged)
}

fn index_name(app: &AppName) -> Result<Name, OpsError> {
    Ok(Name::new(&format!("apps/{app}/index.json"))?)
}

fn read_version(remote: &dyn Remote, app: &AppName) -> Result<Option<(Index, Version)>, OpsError> {
    let name = index_name(app)?;
    let Some((bytes, version)) = remote.read(&name, INDEX_LIMIT)? else { return Ok(None) };
    let shown = || format!("{name} of {}", remote.shown());
    let index = Index::from_bytes(&bytes)
        .map_err(|source| TransferError::Foreign { name: shown(), source: source.into() })?;
    if index.app != *app {
        let source = format!("it is that of application `{}`", index.app);
        return Err(OpsError::Transfer(TransferError::Foreign { name: shown(), source: source.into() }));
    }
    Ok(Some((index, version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(document: &str, bases: &[Option<u64>]) -> Entry {
        let part = |text: String| Part { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
        let bundle = |base: &Option<u64>| Bundle { base: *base, delta: part(format!("{base:?}")) };
        let bundles = bases.iter().map(bundle).collect();
        Entry {
            document: part(document.to_owned()),
            bytes: 7,
            bundles,
            supplies: None,
            statements: Vec::new(),
        }
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
