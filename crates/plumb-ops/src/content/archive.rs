//! Files and archives by URL.

use std::collections::BTreeMap;

use plumb_fetch::{Check, FileRef};
use plumb_image::archive::{self, ArchiveError};
use plumb_image::deb::Limits;
use plumb_image::tree::{Entry, Kind};
use plumb_model::definition::UrlSource;
use plumb_model::{Digest, MachineName};
use serde::de::DeserializeOwned;

use crate::Plumb;
use crate::content::error::ContentError;
use crate::contents::StoreObjects;
use crate::error::OpsError;

/// Kind of the store entries that name the unpacked form of an archive; the number changes with its form.
const UNPACKED: &str = "archive-1";
/// What such an entry says of a file that is no archive.
const PLAIN: &[u8] = b"plain";
/// Largest description of an unpacked archive, as for packages.
const CONTENT_LIMIT: u64 = 256 * 1024 * 1024;

pub(super) fn wanted(source: &UrlSource) -> FileRef {
    FileRef {
        item: file_name(&source.url).to_owned(),
        url: source.url.clone(),
        check: Check::Sha256(source.sha256),
        size: None,
    }
}

/// `x.tar.gz` of `https://example.org/x.tar.gz?raw=1`.
pub(super) fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

impl Plumb<'_> {
    /// What a file by URL puts below its target; a file that is not unpacked is one entry with an empty path.
    pub(super) fn archive(
        &self,
        machine: &MachineName,
        source: &UrlSource,
        target: &str,
    ) -> Result<BTreeMap<String, Entry>, OpsError> {
        let name = file_name(&source.url);
        let unpacked = if source.unpack { self.unpacked(&source.sha256, name, target)? } else { None };
        let failed = |error: ArchiveError| self.content_failed(target, error);
        match unpacked {
            Some(entries) => archive::strip(entries, source.strip, name).map_err(failed),
            None if source.strip > 0 => Err(OpsError::Content(ContentError::NotAnArchive {
                machine: machine.clone(),
                target: target.to_owned(),
                file: name.to_owned(),
            })),
            None => {
                let size = self.store.size(&source.sha256)?.unwrap_or_default();
                Ok([(String::new(), Entry::file(source.sha256, size, 0o644))].into())
            }
        }
    }

    /// The entries of an archive in the store, read once ever; `None` if it is none.
    pub(super) fn unpacked(
        &self,
        file: &Digest,
        name: &str,
        target: &str,
    ) -> Result<Option<BTreeMap<String, Entry>>, OpsError> {
        let known = self.store.entry(UNPACKED, &file.hex())?;
        if known.as_deref() == Some(PLAIN) {
            return Ok(None);
        }
        let known: Option<BTreeMap<String, Entry>> = known.and_then(|value| self.description(&value));
        if let Some(entries) = known
            && self.are_whole(entries.values())?
        {
            return Ok(Some(entries));
        }
        let mut open = self.store.open_object(file)?;
        let entries = archive::unpack(&mut open, name, &Limits::default(), &StoreObjects(&self.store))
            .map_err(|error| self.content_failed(target, error))?;
        let value = match &entries {
            None => PLAIN.to_vec(),
            Some(entries) => {
                let bytes =
                    serde_json::to_vec(entries).map_err(|error| self.content_failed(target, error))?;
                self.store.put_bytes(&bytes)?.to_string().into_bytes()
            }
        };
        self.store.remember(UNPACKED, &file.hex(), &value)?;
        Ok(entries)
    }

    /// What the object that an entry of the store names says, if it is whole.
    pub(super) fn description<T: DeserializeOwned>(&self, value: &[u8]) -> Option<T> {
        let digest: Digest = std::str::from_utf8(value).ok()?.parse().ok()?;
        let bytes = self.store.read_bytes(&digest, CONTENT_LIMIT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Whether all files are there in full length: a power cut can leave an object short.
    pub(super) fn are_whole<'e>(
        &self,
        entries: impl IntoIterator<Item = &'e Entry>,
    ) -> Result<bool, OpsError> {
        for entry in entries {
            if let Kind::File { digest, size } = &entry.kind
                && self.store.size(digest)? != Some(*size)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn content_failed(
        &self,
        target: &str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> OpsError {
        OpsError::Content(ContentError::Unusable { target: target.to_owned(), source: Box::new(error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (url, name) in [
            ("https://example.org/a/x-1.0.tar.gz", "x-1.0.tar.gz"),
            ("https://example.org/x.zip?raw=1", "x.zip"),
            ("file:///srv/x", "x"),
            ("https://example.org/", "example.org"),
        ] {
            assert_eq!(file_name(url), name);
        }
    }
}
