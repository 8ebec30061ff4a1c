//! What can be wrong with a delta, its bases, or where its objects go.

use std::io;

use plumb_model::Digest;

/// Why a delta was not read or not applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another file.
    #[error("this is not a delta: it does not begin as one")]
    NotADelta,
    /// A delta, but of another version of Plumb.
    #[error("the delta has format {found}; this version of Plumb reads format {known}", known = crate::FORMAT)]
    Format {
        /// Its number.
        found: u8,
    },
    /// The header is not what was written.
    #[error("the delta's header is damaged: {what}")]
    Header {
        /// What about it is wrong.
        what: &'static str,
    },
    /// The bytes of a block are not those that the header names.
    #[error("block {block} of the delta is damaged: its digest is not the one in the header")]
    BlockDigest {
        /// Number of the block, from 0.
        block: usize,
    },
    /// A block with the right digest that says something impossible.
    #[error("block {block} of the delta is damaged: {what}")]
    Block {
        /// Number of the block, from 0.
        block: usize,
        /// What about it is wrong.
        what: &'static str,
    },
    /// A limit of this crate; its name is in [`crate::limit`].
    #[error("the delta asks for more {what} than the limit of {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Something the delta starts from is not there.
    #[error("the delta starts from `{base}`, which is not here")]
    MissingBase {
        /// The object that is missing.
        base: Digest,
    },
    /// What is there under the name of a base is something else.
    #[error("the delta starts from `{base}`, but the object of that name here holds something else")]
    WrongBase {
        /// The object whose bytes do not have its digest.
        base: Digest,
    },
    /// All bases are right, and the result is not the object that was promised.
    #[error("the delta does not make `{object}`: the result has another digest")]
    WrongResult {
        /// The object that was to be made.
        object: Digest,
    },
    /// The delta cannot be read.
    #[error("the delta cannot be read")]
    ReadDelta {
        /// Why.
        source: io::Error,
    },
    /// A base cannot be read.
    #[error("`{object}` cannot be read")]
    ReadObject {
        /// The object.
        object: Digest,
        /// Why.
        source: io::Error,
    },
    /// A new object cannot be written.
    #[error("`{object}` cannot be written")]
    Write {
        /// The object.
        object: Digest,
        /// Why.
        source: io::Error,
    },
}

/// Why there is no delta.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// An object that was named is not there.
    #[error("`{name}` (`{digest}`) is not here")]
    Missing {
        /// What it is to its owner.
        name: String,
        /// The object.
        digest: Digest,
    },
    /// An object that was named has another length.
    #[error("`{name}` (`{digest}`) should have {expected} bytes and has {found}")]
    Length {
        /// What it is to its owner.
        name: String,
        /// The object.
        digest: Digest,
        /// As its owner says.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// An object cannot be read.
    #[error("`{name}` (`{digest}`) cannot be read")]
    Read {
        /// What it is to its owner.
        name: String,
        /// The object.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The list of objects alone is larger than a header may be.
    #[error("{objects} objects are too many for one delta")]
    TooMany {
        /// How many would travel.
        objects: usize,
    },
    /// The library that compresses refused.
    #[error("the delta cannot be compressed")]
    Compress {
        /// Why.
        source: io::Error,
    },
}
