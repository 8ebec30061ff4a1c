//! The one byte form of a document: compact JSON, struct fields in declaration order, maps sorted, one newline at
//! the end. All documents use only integers, strings, booleans, lists, maps and structs, so this form is unique.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Digest;

/// Why bytes are not a document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of this shape.
    #[error("the {what} is not understood")]
    Malformed {
        /// Kind of document.
        what: &'static str,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Well-formed, but not in the canonical form.
    #[error("the {what} is not in its canonical form")]
    NotCanonical {
        /// Kind of document.
        what: &'static str,
    },
    /// Made by another version of Plumb.
    #[error("the {what} has format {found}; this plumb reads format {expected}")]
    Format {
        /// Kind of document.
        what: &'static str,
        /// Number found.
        found: u32,
        /// Number understood.
        expected: u32,
    },
}

/// A document with a canonical form.
pub trait Document: Serialize + DeserializeOwned {
    /// What it is called in messages.
    const WHAT: &'static str;
    /// The format number this code writes and reads.
    const FORMAT: u32;

    /// The format number found in a document.
    fn format(&self) -> u32;

    /// The canonical bytes.
    #[must_use]
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("documents hold only what JSON can express");
        bytes.push(b'\n');
        bytes
    }

    /// The name of the document: the digest of its canonical bytes.
    #[must_use]
    fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads a document and insists on the canonical form.
    ///
    /// # Errors
    /// [`DocumentError`].
    fn from_bytes(bytes: &[u8]) -> Result<Self, DocumentError> {
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|source| DocumentError::Malformed { what: Self::WHAT, source })?;
        if document.format() != Self::FORMAT {
            return Err(DocumentError::Format {
                what: Self::WHAT,
                found: document.format(),
                expected: Self::FORMAT,
            });
        }
        if document.to_bytes() != bytes {
            return Err(DocumentError::NotCanonical { what: Self::WHAT });
        }
        Ok(document)
    }
}
