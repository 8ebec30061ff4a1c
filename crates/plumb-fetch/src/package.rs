//! Packages: `.deb` files whose digests come from a verified index.

use std::collections::BTreeMap;

use plumb_model::Digest;
use plumb_store::Store;

use crate::transfer::{Session, Size, Wanted};
use crate::{Error, FetchOptions, Progress, Result, limit};

/// How many missing packages a message names.
const NAMED_MISSING: usize = 3;

/// One package file, as a lock names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageRef {
    /// Its name, for messages: `nginx`.
    pub name: String,
    /// Its version, for messages: `1.22.1-9`.
    pub version: String,
    /// The archive: `http://deb.debian.org/debian`.
    pub uri: String,
    /// The file below it: `pool/main/n/nginx/nginx_1.22.1-9_amd64.deb`.
    pub filename: String,
    /// Its size in bytes, from the index.
    pub size: u64,
    /// Its digest, from the index.
    pub sha256: Digest,
}

/// Brings all `packages` into the store that are not there yet, several at a time. Each becomes an object only after
/// its size and digest were checked. What was transferred when this fails or is killed is not lost: whole files are
/// objects, the others are continued the next time.
///
/// # Errors
/// The first package that fails, by their order; [`Error::Offline`] naming what is missing.
pub fn fetch_packages(
    store: &Store,
    packages: &[PackageRef],
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<()> {
    fetch_packages_each(store, packages, options, progress, &|_| ())
}

/// As [`fetch_packages`], and calls `arrived` with the position of each package as soon as it is an object, from the
/// thread that transferred it: what is done with it there goes on beside the other transfers. Packages that were in the
/// store before are not told. Nothing is durable before the next [`Store::sync`].
///
/// # Errors
/// As [`fetch_packages`]; some packages may have arrived.
pub fn fetch_packages_each(
    store: &Store,
    packages: &[PackageRef],
    options: &FetchOptions,
    progress: &dyn Progress,
    arrived: &(dyn Fn(usize) + Sync),
) -> Result<()> {
    let mut missing = BTreeMap::new();
    for (position, package) in packages.iter().enumerate() {
        match store.size(&package.sha256)? {
            Some(size) if size == package.size => {}
            found => {
                missing.entry(package.sha256).or_insert((position, package, found));
            }
        }
    }
    let mut missing: Vec<_> = missing.into_values().collect();
    missing.sort_by_key(|(position, ..)| *position);
    if missing.is_empty() {
        return Ok(());
    }
    if options.offline {
        return Err(offline(&missing.iter().map(|(_, package, _)| *package).collect::<Vec<_>>()));
    }
    for (_, package, found) in &missing {
        // A crash can leave an object shorter than it was: the bytes on the server replace it.
        if found.is_some() {
            store.set_aside(&package.sha256)?;
        }
    }
    let session = Session::new(store, options, progress);
    let workers = options.connections.clamp(1, limit::CONNECTIONS_MAX);
    session.each(missing.len(), workers, &|number| {
        let (position, package, _) = missing[number];
        let url = url(package)?;
        let item = format!("{} {}", package.name, package.version);
        session.fetch_object(&Wanted {
            url: &url,
            item: &item,
            digest: package.sha256,
            size: Size::Exactly(package.size),
            headers: &[],
        })?;
        progress.finish(&item);
        arrived(position);
        Ok(())
    })?;
    Ok(())
}

fn offline(missing: &[&PackageRef]) -> Error {
    let mut names: Vec<String> = missing
        .iter()
        .take(NAMED_MISSING)
        .map(|package| format!("`{} {}`", package.name, package.version))
        .collect();
    if missing.len() > NAMED_MISSING {
        names.push(format!("{} more packages", missing.len() - NAMED_MISSING));
    }
    Error::Offline { what: names.join(", ") }
}

/// Where the package is. The name comes from an index: it must not leave the archive.
fn url(package: &PackageRef) -> Result<String> {
    let base = package.uri.trim_end_matches('/');
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if package.filename.split('/').any(bad) || package.filename.chars().any(char::is_control) {
        let url = format!("{base}/{}", package.filename.escape_default());
        return Err(Error::BadUrl { url, reason: "its name leaves the archive".to_owned() });
    }
    if base.starts_with("file://") {
        return Ok(format!("{base}/{}", package.filename));
    }
    let mut url = format!("{base}/");
    for byte in package.filename.bytes() {
        // RFC 3986: what a path may hold as it is. `%` is not among it: a name is not yet encoded.
        if byte.is_ascii_alphanumeric() || b"-._~/+:@!$&'()*,;=".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls() {
        let check = |uri: &str, filename: &str| {
            url(&PackageRef {
                name: "x".into(),
                version: "1".into(),
                uri: uri.into(),
                filename: filename.into(),
                size: 1,
                sha256: Digest::of(b""),
            })
        };
        assert_eq!(
            check("http://m/debian/", "pool/main/g/g++/g++_1.0~rc1+b1_amd64.deb").unwrap(),
            "http://m/debian/pool/main/g/g++/g++_1.0~rc1+b1_amd64.deb"
        );
        assert_eq!(check("http://m", "a b%2e#?.deb").unwrap(), "http://m/a%20b%252e%23%3F.deb");
        for bad in ["", "/etc/passwd", "pool/../../x", "a//b", "a/./b", "a\nb"] {
            assert!(matches!(check("http://m", bad), Err(Error::BadUrl { .. })), "{bad}");
        }
    }
}
