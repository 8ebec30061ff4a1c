//! Package indices: from the signed table of a release file to an object of the store.

use std::io::{Read, Write as _};

use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use plumb_debian::ReleaseFile;
use plumb_model::Digest;

use crate::source::{ArchiveSource, IndexRef};
use crate::transfer::{Session, Size, Wanted, name_file};
use crate::{Error, Result, limit};

/// A file of the signed table.
struct Listed {
    path: String,
    digest: Digest,
    size: u64,
}

/// Brings the index of `component` into the store, unless it is there.
pub(crate) fn fetch(
    session: &Session<'_>,
    source: &ArchiveSource,
    base: &str,
    release: &ReleaseFile,
    component: &str,
) -> Result<IndexRef> {
    let plain_path = format!("{component}/binary-{}/Packages", session.options.architecture);
    let in_release = format!("{base}/InRelease");
    let plain = listed(&in_release, release, &plain_path)?;
    let index = IndexRef { component: component.to_owned(), packages: plain.digest, size: plain.size };
    match session.store.size(&plain.digest)? {
        Some(size) if size == plain.size => return Ok(index),
        // A crash can leave an object shorter than it was.
        Some(_) => drop(session.store.set_aside(&plain.digest)?),
        None => {}
    }
    let item = format!("{} {component} Packages", source.suite);
    let packed_path = format!("{plain_path}.xz");
    if release.sha256.contains_key(&packed_path) {
        let packed = listed(&in_release, release, &packed_path)?;
        first_there(&urls(base, release, &packed), &mut |url| {
            fetch_packed(session, url, &item, &packed, &plain)
        })?;
    } else {
        first_there(&urls(base, release, &plain), &mut |url| fetch_plain(session, url, &item, &plain))?;
    }
    session.progress.finish(&item);
    Ok(index)
}

fn listed(in_release: &str, release: &ReleaseFile, path: &str) -> Result<Listed> {
    let missing = || Error::NotOffered {
        url: in_release.to_owned(),
        what: "index",
        wanted: path.to_owned(),
        offered: format!("{} other files", release.sha256.len()),
    };
    let file = release.sha256.get(path).ok_or_else(missing)?;
    if file.size > limit::INDEX_BYTES {
        return Err(Error::TooLarge { url: format!("{path} of {in_release}"), limit: limit::INDEX_BYTES });
    }
    let digest = Digest::from_hex(&file.sha256).map_err(|_| missing())?;
    Ok(Listed { path: path.to_owned(), digest, size: file.size })
}

/// Where the file can be had. By its digest first: that name means the same bytes also while the mirror is updated.
/// Some partial mirrors copy release files that promise it but not the files, so the usual name comes second.
fn urls(base: &str, release: &ReleaseFile, file: &Listed) -> Vec<String> {
    let mut urls = Vec::new();
    if release.acquire_by_hash {
        let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        urls.push(format!("{base}/{directory}/by-hash/SHA256/{}", file.digest.hex()));
    }
    urls.push(format!("{base}/{}", file.path));
    urls
}

/// The first of `urls` that is there.
fn first_there(urls: &[String], fetch: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let Some((last, others)) = urls.split_last() else { return Ok(()) };
    for url in others {
        match fetch(url) {
            Err(Error::Missing { .. }) => {}
            other => return other,
        }
    }
    fetch(last)
}

fn fetch_plain(session: &Session<'_>, url: &str, item: &str, plain: &Listed) -> Result<()> {
    let wanted = Wanted { url, item, digest: plain.digest, size: Size::Exactly(plain.size), headers: &[] };
    session.fetch_object(&wanted)
}

fn fetch_packed(session: &Session<'_>, url: &str, item: &str, packed: &Listed, plain: &Listed) -> Result<()> {
    let wanted = Wanted { url, item, digest: packed.digest, size: Size::Exactly(packed.size), headers: &[] };
    let mut unpack = |file: std::fs::File| unpack(session, url, file, plain);
    session.fetch_verified(&wanted, &plain.digest, &mut unpack)
}

/// Unpacks a verified file. Its digest vouches for it, but a bomb would be signed too if the archive's builder broke:
/// not one byte more than the signed size is unpacked.
fn unpack(session: &Session<'_>, url: &str, file: std::fs::File, plain: &Listed) -> Result<()> {
    let fail = |source| Error::Unpack { url: url.to_owned(), source };
    let stream = Stream::new_stream_decoder(limit::XZ_MEMORY_BYTES, CONCATENATED)
        .map_err(|error| fail(error.into()))?;
    let mut reader = XzDecoder::new_stream(file, stream).take(plain.size + 1);
    let mut writer = session.store.writer();
    let mut block = vec![0; limit::BLOCK_BYTES];
    loop {
        let count = reader.read(&mut block).map_err(fail)?;
        if count == 0 {
            break;
        }
        writer.write_all(&block[..count]).map_err(fail)?;
    }
    if writer.size() != plain.size {
        return Err(Error::WrongSize { url: url.to_owned(), expected: plain.size, found: writer.size() });
    }
    writer.commit_expecting(&plain.digest).map_err(|error| name_file(url, error))?;
    Ok(())
}
