//! The packages of all archives, from catalogs that are made once per index.
//!
//! ```text
//!  index (object) ──parse, once──► catalog (object), named by an entry of the index's digest
//!        └──────── stanzas that are asked for ◄── rows
//! ```
//!
//! A catalog that is not there, short, damaged, of another format or of another index is made again and is never an
//! error: it says nothing that the index does not say.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use plumb_debian::Catalog;
use plumb_fetch::{Snapshot, SourceSnapshot};
use plumb_model::Digest;
use plumb_resolve::{Source, Stanzas, Universe};
use plumb_store::Store;
use rayon::prelude::*;

use crate::Plumb;
use crate::error::OpsError;

/// Kind of the store entries that name the catalog of an index; the number changes with its form.
pub(crate) const CATALOGS: &str = "catalog-1";

/// Largest uncompressed package index: four times Debian's main.
const INDEX_LIMIT: u64 = 256 * 1024 * 1024;

/// Longest stanza that is read: that of `linux-image-*` with all its `Provides` has 20 kB, the longest of Debian 60 kB.
const STANZA_LIMIT: u64 = 1024 * 1024;

/// What to do with catalogs that were made before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Catalogs {
    Use,
    MakeAgain,
}

/// An index that lies in the store.
struct Object(File);

impl Stanzas for Object {
    fn read(&self, range: Range<u64>) -> Option<String> {
        let length = range.end.checked_sub(range.start).filter(|length| *length <= STANZA_LIMIT)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.0.read_exact_at(&mut bytes, range.start).ok()?;
        String::from_utf8(bytes).ok()
    }
}

impl Plumb<'_> {
    /// All packages of all sources, and where each source of the universe comes from.
    pub(crate) fn universe(
        &self,
        snapshot: &Snapshot,
        catalogs: Catalogs,
    ) -> Result<(Universe, Vec<SourceSnapshot>), OpsError> {
        let indices: Vec<_> = snapshot
            .sources
            .iter()
            .flat_map(|source| source.indices.iter().map(move |index| (source, index)))
            .collect();
        let sources: Result<Vec<Source>, OpsError> = indices
            .par_iter()
            .map(|(source, index)| load(&self.store, &source.suite, &index.packages, catalogs))
            .collect();
        let origins = indices.iter().map(|(source, _)| (*source).clone()).collect();
        Ok((Universe::new(sources?), origins))
    }
}

fn load(store: &Store, suite: &str, index: &Digest, catalogs: Catalogs) -> Result<Source, OpsError> {
    if catalogs == Catalogs::Use
        && let Some(catalog) = remembered(store, index)
    {
        let stanzas = Box::new(Object(store.open_object(index)?));
        return Ok(Source { name: suite.to_owned(), catalog, stanzas });
    }
    let bytes = store.read_bytes(index, INDEX_LIMIT)?;
    let failed = |error| OpsError::Index { suite: suite.to_owned(), source: error };
    match String::from_utf8(bytes) {
        Ok(text) => {
            let catalog = Catalog::build(&text).map_err(failed)?;
            let digest = store.put_bytes(catalog.bytes())?;
            store.remember(CATALOGS, &index.hex(), digest.to_string().as_bytes())?;
            let stanzas = Box::new(Object(store.open_object(index)?));
            Ok(Source { name: suite.to_owned(), catalog, stanzas })
        }
        // Replacing what is no UTF-8 moves everything behind it, so a catalog would not lead to the object's stanzas.
        Err(error) => {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Source::from_text(suite, text).map_err(failed)
        }
    }
}

/// The catalog that was made of an index, if it is whole.
fn remembered(store: &Store, index: &Digest) -> Option<Catalog> {
    let entry = store.entry(CATALOGS, &index.hex()).ok()??;
    let digest: Digest = String::from_utf8(entry).ok()?.parse().ok()?;
    // A damaged one is out of the way of the one that is made now.
    Catalog::load(store.read_bytes(&digest, INDEX_LIMIT).ok()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn stanza(name: &str, version: &str) -> String {
        let sha256 = "0".repeat(64);
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nFilename: p/{name}\nSize: 1\nSHA256: {sha256}\n\n"
        )
    }

    fn versions(store: &Store, index: &Digest) -> Vec<String> {
        let universe = Universe::new(vec![load(store, "bookworm", index, Catalogs::Use).unwrap()]);
        let found = universe.versions("web").iter().map(|record| record.version.to_string()).collect();
        assert!(!universe.is_damaged());
        found
    }

    #[test]
    fn a_catalog_is_made_once_and_again_when_it_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let text = [stanza("web", "1"), stanza("lib", "1"), stanza("web", "2")].concat();
        let index = store.put_bytes(text.as_bytes()).unwrap();
        assert!(remembered(&store, &index).is_none());
        assert_eq!(versions(&store, &index), ["2", "1"]);
        let catalog = remembered(&store, &index).unwrap();
        let digest = Digest::of(catalog.bytes());
        let path = store.path(&digest);
        let other = store.put_bytes(b"plumbcat of another format").unwrap().to_string();
        let replace = |bytes: &[u8]| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        };
        let mut damaged = catalog.bytes().to_vec();
        damaged[60] ^= 1;
        for entry in ["", "sha256:1", other.as_str()] {
            store.remember(CATALOGS, &index.hex(), entry.as_bytes()).unwrap();
            assert!(remembered(&store, &index).is_none());
            assert_eq!(versions(&store, &index), ["2", "1"]);
            assert!(remembered(&store, &index).is_some());
        }
        replace(&catalog.bytes()[..30]);
        assert!(remembered(&store, &index).is_none());
        assert_eq!(versions(&store, &index), ["2", "1"]);
        assert!(remembered(&store, &index).is_some());
        replace(&damaged);
        assert!(remembered(&store, &index).is_none());
        assert_eq!(versions(&store, &index), ["2", "1"]);
        assert!(remembered(&store, &index).is_some());
    }

    #[test]
    fn the_catalog_of_another_index_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let one = store.put_bytes(stanza("web", "1").as_bytes()).unwrap();
        let two = store.put_bytes(stanza("web", "2").as_bytes()).unwrap();
        assert_eq!(versions(&store, &two), ["2"]);
        let entry = store.entry(CATALOGS, &two.hex()).unwrap().unwrap();
        store.remember(CATALOGS, &one.hex(), &entry).unwrap();
        let universe = Universe::new(vec![load(&store, "bookworm", &one, Catalogs::Use).unwrap()]);
        drop(universe.versions("web"));
        assert!(universe.is_damaged());
        let universe = Universe::new(vec![load(&store, "bookworm", &one, Catalogs::MakeAgain).unwrap()]);
        assert_eq!(universe.versions("web")[0].version.as_str(), "1");
        assert_eq!(versions(&store, &one), ["1"]);
    }

    #[test]
    fn what_is_not_utf8_is_read_without_a_catalog() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let text = stanza("web", "1").replace("p/web", "p/web\nMaintainer: \u{1}");
        let bytes = [text.replace('\u{1}', "?").as_bytes(), stanza("web", "2").as_bytes()].concat();
        let bytes: Vec<u8> = bytes.iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect();
        let index = store.put_bytes(&bytes).unwrap();
        assert_eq!(versions(&store, &index), ["2", "1"]);
        assert!(remembered(&store, &index).is_none());
    }
}
