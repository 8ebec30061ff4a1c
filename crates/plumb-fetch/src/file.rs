//! Files by URL whose digests the user, or a lock file of another tool, states.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use plumb_model::Digest;
use plumb_store::Store;
use sha2::{Digest as _, Sha512};

use crate::http::Validators;
use crate::transfer::{Changing, Session, Size, Wanted};
use crate::{Error, FetchOptions, Progress, Result, limit};

/// Kind of the store entries that name the object of a SHA-512; the key is its digits.
pub const BY_SHA512: &str = "sha512-1";

/// How many missing files a message names.
const NAMED_MISSING: usize = 3;

/// What the bytes of a file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Their SHA-256.
    Sha256(Digest),
    /// Their SHA-512, as npm's lock files have it.
    Sha512(Box<[u8; 64]>),
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Its name for messages and progress.
    pub item: String,
    /// `http`, `https` or `file`.
    pub url: String,
    /// What its bytes must be.
    pub check: Check,
    /// Its size in bytes, if that is known.
    pub size: Option<u64>,
}

/// A file whose content changes.
#[derive(Clone, Debug)]
pub struct Feed<'a> {
    /// Its name for messages and progress.
    pub item: &'a str,
    /// `http`, `https` or `file`.
    pub url: &'a str,
    /// What is known of the content that was fetched before; nothing asks for it in any case.
    pub known: &'a Validators,
    /// Never more bytes than this.
    pub limit_bytes: u64,
}

/// The object with these bytes, and its size, if the store has it.
///
/// # Errors
/// [`Error::Store`].
pub fn known_file(store: &Store, check: &Check) -> Result<Option<(Digest, u64)>> {
    let digest = match check {
        Check::Sha256(digest) => Some(*digest),
        Check::Sha512(digest) => {
            let entry = store.entry(BY_SHA512, &hex(&digest[..]))?;
            entry.and_then(|text| String::from_utf8(text).ok()).and_then(|text| text.parse().ok())
        }
    };
    let Some(digest) = digest else { return Ok(None) };
    Ok(store.size(&digest)?.map(|size| (digest, size)))
}

/// Copies the object with these bytes from one store to another, hashing it on the way; says whether `from` has it.
///
/// # Errors
/// [`Error::Store`]; what is damaged is set aside first.
pub fn copy_file(from: &Store, to: &Store, check: &Check) -> Result<bool> {
    let Some((digest, _)) = known_file(from, check)? else { return Ok(false) };
    let (copied, _) = to.put_reader(&mut from.open_object(&digest)?)?;
    if copied != digest {
        from.verify(&digest)?;
        return Ok(false);
    }
    if let Check::Sha512(check) = check {
        to.remember(BY_SHA512, &hex(&check[..]), digest.to_string().as_bytes())?;
    }
    Ok(true)
}

/// Makes an object of the store known by its SHA-512, too, as npm's lock files have it.
///
/// # Errors
/// [`Error::Store`].
pub fn index_by_sha512(store: &Store, digest: &Digest) -> Result<()> {
    let mut object = store.open_object(digest)?;
    let broken = |source| plumb_store::Error::Source { source };
    let mut hash = Sha512::new();
    let mut block = vec![0; limit::BLOCK_BYTES];
    loop {
        match object.read(&mut block).map_err(broken)? {
            0 => break,
            count => hash.update(&block[..count]),
        }
    }
    Ok(store.put_entry(BY_SHA512, &hex(&hash.finalize()), digest.to_string().as_bytes())?)
}

/// Brings all `files` into the store that are not there yet, several at a time, and returns object and size of each.
/// Nothing becomes an object before it was checked; what was transferred before a failure is kept.
///
/// # Errors
/// The first file that fails, by their order; [`Error::Offline`] naming what is missing.
pub fn fetch_files(
    store: &Store,
    files: &[FileRef],
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Vec<(Digest, u64)>> {
    let mut missing = Vec::new();
    for file in files {
        match known_file(store, &file.check)? {
            Some((_, size)) if file.size.is_none_or(|wanted| wanted == size) => {}
            found => {
                // A crash can leave an object shorter than it was: the bytes on the server replace it.
                if let Some((digest, _)) = found.filter(|_| !options.offline) {
                    store.set_aside(&digest)?;
                }
                if !missing.iter().any(|other: &&FileRef| other.check == file.check) {
                    missing.push(file);
                }
            }
        }
    }
    if options.offline && !missing.is_empty() {
        return Err(offline(&missing));
    }
    if !missing.is_empty() {
        let session = Session::new(store, options, progress);
        let workers = options.connections.clamp(1, limit::CONNECTIONS_MAX);
        session.each(missing.len(), workers, &|number| fetch(&session, missing[number]))?;
        store.sync()?;
    }
    let known = |file: &FileRef| {
        known_file(store, &file.check)?.ok_or_else(|| Error::Missing { url: file.url.clone() })
    };
    files.iter().map(known).collect()
}

/// Reads small documents that change, such as an index's page about a project: name for messages, and URL. Nothing of
/// them is kept; whoever reads them believes only digests that somebody else states.
///
/// # Errors
/// The first that fails, by their order; [`Error::Offline`].
pub fn fetch_pages(
    store: &Store,
    pages: &[(String, String)],
    accept: &str,
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Vec<Vec<u8>>> {
    if let Some((item, _)) = pages.first().filter(|_| options.offline) {
        return Err(Error::Offline { what: format!("what the index says about `{item}`") });
    }
    let session = Session::new(store, options, progress);
    let workers = options.connections.clamp(1, limit::CONNECTIONS_MAX);
    session.each(pages.len(), workers, &|number| {
        let (item, url) = &pages[number];
        let body = session.read_small(url, item, &[("accept", accept.to_owned())])?;
        progress.finish(item);
        Ok(body)
    })
}

/// Writes the file at `url` to `into`, whatever its content is today: a feed, which nobody signs. `None` if it still is the
/// one that `known` tells of.
///
/// # Errors
/// [`Error::Offline`], [`Error::TooLarge`] beyond `limit_bytes`, and those of a transfer. `into` may hold a part then.
pub fn fetch_changing(
    store: &Store,
    feed: &Feed<'_>,
    into: &mut File,
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Option<Validators>> {
    if options.offline && !feed.url.starts_with("file://") {
        return Err(Error::Offline { what: format!("what `{}` has now", feed.url) });
    }
    let session = Session::new(store, options, progress);
    let wanted =
        Changing { url: feed.url, item: feed.item, known: feed.known, limit_bytes: feed.limit_bytes };
    let found = session.copy(&wanted, into)?;
    session.progress.finish(feed.item);
    Ok(found.map(|(_, validators)| validators))
}

fn fetch(session: &Session<'_>, file: &FileRef) -> Result<()> {
    let size = file.size.map_or(Size::UpTo(limit::CONTENT_BYTES), Size::Exactly);
    let wanted = |digest| Wanted { url: &file.url, item: &file.item, digest, size, headers: &[] };
    match &file.check {
        Check::Sha256(digest) => session.fetch_object(&wanted(*digest))?,
        Check::Sha512(expected) => {
            let name = Digest::of(&expected[..]);
            session
                .fetch_unchecked(&wanted(name), &mut |bytes| keep(session.store, file, expected, bytes))?;
        }
    }
    session.progress.finish(&file.item);
    Ok(())
}

/// Makes the bytes an object if they are what they should be.
fn keep(store: &Store, file: &FileRef, expected: &[u8; 64], mut bytes: File) -> Result<()> {
    let broken = |source: std::io::Error| Error::Connection { url: file.url.clone(), source: source.into() };
    let mut hash = Sha512::new();
    let mut block = vec![0; limit::BLOCK_BYTES];
    loop {
        match bytes.read(&mut block).map_err(broken)? {
            0 => break,
            count => hash.update(&block[..count]),
        }
    }
    let found = hash.finalize();
    if found[..] != expected[..] {
        let shown = |digest: &[u8]| format!("sha512:{}", hex(digest));
        let (url, expected, found) = (file.url.clone(), shown(expected), shown(&found));
        return Err(Error::WrongIntegrity { url, expected, found });
    }
    bytes.seek(SeekFrom::Start(0)).map_err(broken)?;
    let (digest, _) = store.put_reader(&mut bytes)?;
    store.sync()?;
    Ok(store.put_entry(BY_SHA512, &hex(expected), digest.to_string().as_bytes())?)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn offline(missing: &[&FileRef]) -> Error {
    let mut names: Vec<String> =
        missing.iter().take(NAMED_MISSING).map(|file| format!("`{}`", file.item)).collect();
    if missing.len() > NAMED_MISSING {
        names.push(format!("{} more files", missing.len() - NAMED_MISSING));
    }
    Error::Offline { what: names.join(", ") }
}
