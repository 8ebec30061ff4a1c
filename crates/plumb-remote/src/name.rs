//! Names of documents and of what a registry binds together.

use std::fmt;

use crate::{Error, Result, limit};

/// Name of a document: words of `a-z`, `0-9`, `-` and `.`, separated by `/`. Nothing in it can leave a directory, hide in
/// it, or mean something to a shell or a URL; no `_`, so that it can stand for `/` in a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(text: &str) -> Result<Name> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let is_word = |word: &str| !word.is_empty() && !word.starts_with('.') && word.bytes().all(allowed);
        if text.len() <= limit::NAME_BYTES && text.split('/').all(is_word) {
            return Ok(Name(text.to_owned()));
        }
        Err(Error::BadName { name: text.chars().take(limit::SHOWN_CHARS).collect() })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag that stands for it in a registry.
    #[must_use]
    pub fn tag(&self) -> Tag {
        Tag(self.0.replace('/', "_"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag of a registry: at most 128 of letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`
/// (distribution-spec 1.1, "Pulling manifests").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag of a release: `shop.4`. No document has it: their names have no number behind a `.` alone.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(text: &str) -> Result<Tag> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if begins && text.len() <= limit::NAME_BYTES && text.bytes().all(allowed) {
            return Ok(Tag(text.to_owned()));
        }
        Err(Error::BadName { name: text.chars().take(limit::SHOWN_CHARS).collect() })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a blob lies below a root: 256 directories keep each of them short.
pub(crate) fn blob_path(digest: &plumb_model::Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{}", &hex[..2], &hex[2..])
}
