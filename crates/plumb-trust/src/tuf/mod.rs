//! The metadata of one application, in the form of TUF (The Update Framework, specification 1.0.33).
//!
//! ```text
//!  root        who may sign what, and how many must        N.root.json, each signed by the one before and by itself
//!  targets     every document: path → length, digest       N.targets.json
//!  snapshot    the version of targets                      N.snapshot.json
//!  timestamp   the version and digest of snapshot          timestamp.json, the only file that changes
//!
//!  index.json                    which releases there are, and ways to their objects
//!  release-7.json                what was said about release 7
//!  channel-prod.json             everything that a channel pointed to
//! ```
//!
//! A remote that is taken over cannot change a document (targets), serve old ones (versions never fall), stand still
//! (everything expires) or mix those of different times (one snapshot). What documents refer to is named by digest.
//!
//! Beside the four roles the root holds, in fields that other clients pass over, the application's name and the names of
//! all keys whose statements count. [`Trusted`] is the client's workflow of the specification, section 5, step by step.

mod client;
mod make;
mod metadata;
mod role;

use plumb_model::AppName;

pub use client::Trusted;
pub use make::{Draft, Fresh, Published, publish};
pub use metadata::{
    MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES, Root, Target, Targets,
};
pub use role::Role;

/// Why metadata is refused.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    /// Not metadata, or not of this role.
    #[error("the {role} metadata is not understood: {why}")]
    Malformed {
        /// Which.
        role: Role,
        /// Why.
        why: String,
    },
    /// Larger than is read.
    #[error("the {role} metadata has more than {limit_bytes} bytes")]
    TooLarge {
        /// Which.
        role: Role,
        /// Limit.
        limit_bytes: usize,
    },
    /// Too few of the keys signed.
    #[error("the {role} metadata is signed by {found} of its keys, of which {threshold} must")]
    Threshold {
        /// Which.
        role: Role,
        /// Valid signatures.
        found: usize,
        /// Needed.
        threshold: usize,
    },
    /// Older than what was seen before.
    #[error(
        "the {role} metadata has version {found}, but version {known} was seen before: it is replayed or was lost"
    )]
    Rollback {
        /// Which.
        role: Role,
        /// Found.
        found: u64,
        /// Seen.
        known: u64,
    },
    /// Not the version that was asked for.
    #[error("the {role} metadata has version {found}, but version {wanted} belongs here")]
    Version {
        /// Which.
        role: Role,
        /// Found.
        found: u64,
        /// Wanted.
        wanted: u64,
    },
    /// Not what the metadata above it says.
    #[error("the {role} metadata is not the one that its {parent} names: files of different times are mixed")]
    Mixed {
        /// Which.
        role: Role,
        /// Who names it.
        parent: Role,
    },
    /// Its time is over.
    #[error(
        "the {role} metadata expired at {at}: nobody has signed it anew since, or somebody keeps news back"
    )]
    Expired {
        /// Which.
        role: Role,
        /// When, RFC 3339.
        at: String,
    },
    /// Of another application.
    #[error("the metadata is of application `{found}`, not of `{wanted}`")]
    App {
        /// Wanted.
        wanted: AppName,
        /// Found.
        found: String,
    },
}

#[cfg(test)]
mod tests;
