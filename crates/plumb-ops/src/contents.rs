//! The store as the door to file contents, and packages taken apart once and for all.

use std::fs::File;
use std::io::{self, Read};

use plumb_fetch::PackageRef;
use plumb_image::deb::{Limits, PackageContent, unpack};
use plumb_image::tree::{Kind, Objects};
use plumb_model::Digest;
use plumb_model::lock::{Lock, LockedPackage};
use plumb_store::Store;

use crate::error::OpsError;

/// Kind of the store entries that name the unpacked form of a package; the number changes with its form.
const UNPACKED: &str = "unpacked-2";

/// Largest description of an unpacked package: the largest of Debian 12 with 100,000 entries takes 30 MB.
pub(crate) const CONTENT_LIMIT: u64 = 256 * 1024 * 1024;

/// [`Objects`] in a [`Store`].
pub(crate) struct StoreObjects<'a>(pub(crate) &'a Store);

impl Objects for StoreObjects<'_> {
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)> {
        self.0.put_reader(source).map_err(io::Error::other)
    }

    fn open(&self, digest: &Digest) -> io::Result<File> {
        self.0.open_object(digest).map_err(io::Error::other)
    }
}

/// Where the archive keeps a package; `None` if the lock names no source of its suite.
pub(crate) fn pooled(lock: &Lock, package: &LockedPackage) -> Option<PackageRef> {
    let source = lock.sources.iter().find(|source| source.suite == package.suite)?;
    Some(PackageRef {
        name: package.name.to_string(),
        version: package.version.to_string(),
        uri: source.uri.clone(),
        filename: package.file.clone(),
        size: package.size,
        sha256: package.digest,
    })
}

/// What is in a package that was taken apart before, if all of it is still there in full length: a power cut can leave
/// the description or an object short, and then the package is taken apart again.
pub(crate) fn known_content(
    store: &Store,
    package: &LockedPackage,
) -> Result<Option<PackageContent>, OpsError> {
    let entry = store.entry(UNPACKED, &package.digest.hex())?;
    let digest =
        entry.and_then(|value| String::from_utf8(value).ok()).and_then(|text| text.trim().parse().ok());
    let Some(digest) = digest.filter(|digest| store.contains(digest)) else { return Ok(None) };
    let bytes = match store.read_bytes(&digest, CONTENT_LIMIT) {
        Err(plumb_store::Error::Damaged { .. }) => return Ok(None),
        other => other?,
    };
    let Ok(content) = serde_json::from_slice::<PackageContent>(&bytes) else { return Ok(None) };
    for entry in content.entries.values() {
        if let Kind::File { digest, size } = &entry.kind
            && store.size(digest)? != Some(*size)
        {
            return Ok(None);
        }
    }
    Ok(Some(content))
}

/// Takes a package apart. Its `.deb` is in the store.
pub(crate) fn take_apart(store: &Store, package: &LockedPackage) -> Result<PackageContent, OpsError> {
    let content = read_package(store, package, &StoreObjects(store))?;
    let bytes = serde_json::to_vec(&content).map_err(|error| failed(package, Box::new(error)))?;
    let digest = store.put_bytes(&bytes)?;
    store.remember(UNPACKED, &package.digest.hex(), digest.to_string().as_bytes())?;
    Ok(content)
}

/// Reads the `.deb` of a package; its files go to `objects`.
pub(crate) fn read_package(
    store: &Store,
    package: &LockedPackage,
    objects: &dyn Objects,
) -> Result<PackageContent, OpsError> {
    let file = store.open_object(&package.digest)?;
    unpack(file, &Limits::default(), objects).map_err(|error| failed(package, Box::new(error)))
}

fn failed(package: &LockedPackage, source: Box<dyn std::error::Error + Send + Sync>) -> OpsError {
    OpsError::Unpack { package: format!("{} {}", package.name, package.version), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tarball(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// A store with one package file.
    fn store() -> (tempfile::TempDir, Store, LockedPackage) {
        let mut deb = b"!<arch>\n".to_vec();
        let control = tarball(&[("control", "Package: xy\nVersion: 1\n")]);
        let data = tarball(&[("usr/one", "one"), ("usr/two", "two of them")]);
        for (name, bytes) in
            [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), ("data.tar", &data)]
        {
            deb.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).bytes(),
            );
            deb.extend_from_slice(bytes);
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let package = LockedPackage {
            name: "xy".parse().unwrap(),
            version: "1".parse().unwrap(),
            architecture: "all".to_owned(),
            suite: "bookworm".to_owned(),
            file: "pool/xy.deb".to_owned(),
            size: deb.len() as u64,
            digest: store.put_bytes(&deb).unwrap(),
        };
        (folder, store, package)
    }

    /// Objects are read-only files: what a power cut does to one.
    fn cut_short(path: &std::path::Path) {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }

    fn whole(store: &Store, package: &LockedPackage, content: &PackageContent) {
        assert_eq!(known_content(store, package).unwrap().as_ref(), Some(content));
        for entry in content.entries.values() {
            if let Kind::File { digest, .. } = &entry.kind {
                store.verify(digest).unwrap();
            }
        }
    }

    #[test]
    fn what_a_power_cut_left_short_is_made_again() {
        let (_folder, store, package) = store();
        assert_eq!(known_content(&store, &package).unwrap(), None);
        let content = take_apart(&store, &package).unwrap();
        whole(&store, &package, &content);

        let Kind::File { digest, .. } = content.entries["/usr/two"].kind else { panic!("it is a file") };
        cut_short(&store.path(&digest));
        assert_eq!(known_content(&store, &package).unwrap(), None);
        assert_eq!(take_apart(&store, &package).unwrap(), content);
        whole(&store, &package, &content);

        let entry =
            String::from_utf8(store.entry(UNPACKED, &package.digest.hex()).unwrap().unwrap()).unwrap();
        cut_short(&store.path(&entry.parse().unwrap()));
        assert_eq!(known_content(&store, &package).unwrap(), None);
        assert_eq!(take_apart(&store, &package).unwrap(), content);
        whole(&store, &package, &content);

        for value in [&b""[..], b"sha256:00", b"\xff", Digest::of(b"nowhere").to_string().as_bytes()] {
            store.remember(UNPACKED, &package.digest.hex(), value).unwrap();
            assert_eq!(known_content(&store, &package).unwrap(), None);
        }
    }
}
