//! The store as the door to file contents, and packages taken apart once and for all.

use std::io::{self, Read};
use std::path::PathBuf;

use plumb_image::deb::{Limits, PackageContent, unpack};
use plumb_image::tree::Objects;
use plumb_model::Digest;
use plumb_model::lock::LockedPackage;
use plumb_store::Store;

use crate::error::OpsError;

/// Kind of the store entries that name the unpacked form of a package; the number changes with its form.
const UNPACKED: &str = "unpacked-1";

/// Largest description of an unpacked package: the largest of Debian 12 with 100,000 entries takes 30 MB.
const CONTENT_LIMIT: u64 = 256 * 1024 * 1024;

/// [`Objects`] in a [`Store`].
pub(crate) struct StoreObjects<'a>(pub(crate) &'a Store);

impl Objects for StoreObjects<'_> {
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)> {
        self.0.put_reader(source).map_err(io::Error::other)
    }

    fn path(&self, digest: &Digest) -> io::Result<PathBuf> {
        if self.0.contains(digest) {
            Ok(self.0.path(digest))
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("object {digest} is not in the store")))
        }
    }
}

/// The package was taken apart before.
pub(crate) fn is_unpacked(store: &Store, package: &LockedPackage) -> Result<bool, OpsError> {
    Ok(match description(store, package)? {
        Some(digest) => store.contains(&digest),
        None => false,
    })
}

fn description(store: &Store, package: &LockedPackage) -> Result<Option<Digest>, OpsError> {
    let entry = store.entry(UNPACKED, &package.digest.hex())?;
    Ok(entry.and_then(|value| String::from_utf8(value).ok()).and_then(|text| text.trim().parse().ok()))
}

/// What is in a package. Its `.deb` must be in the store unless it was taken apart before.
pub(crate) fn content(store: &Store, package: &LockedPackage) -> Result<PackageContent, OpsError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpsError::Unpack {
        package: format!("{} {}", package.name, package.version),
        source,
    };
    if let Some(digest) = description(store, package)?.filter(|digest| store.contains(digest)) {
        let bytes = store.read_bytes(&digest, CONTENT_LIMIT)?;
        return serde_json::from_slice(&bytes).map_err(|error| failed(Box::new(error)));
    }
    let file = store.open_object(&package.digest)?;
    let content =
        unpack(file, &Limits::default(), &StoreObjects(store)).map_err(|error| failed(Box::new(error)))?;
    let bytes = serde_json::to_vec(&content).map_err(|error| failed(Box::new(error)))?;
    let digest = store.put_bytes(&bytes)?;
    store.put_entry(UNPACKED, &package.digest.hex(), digest.to_string().as_bytes())?;
    Ok(content)
}
