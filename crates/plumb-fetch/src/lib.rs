//! Package archives to verified bytes in the store.
//!
//! ```text
//!  InRelease ──signature by a pinned key──► its signed text ──SHA-256──► Packages.xz ──► Packages ──SHA-256──► *.deb
//! ```
//!
//! Nothing is believed before the step left of it has been checked, and nothing becomes an object of the store before
//! its own digest has. [`refresh`] does the first part, [`fetch_packages`] the last. Between them somebody else decides
//! which packages are wanted: this crate decides nothing. [`fetch_files`] brings other files, whose digests somebody else
//! believes.
//!
//! Servers, proxies and the files themselves are taken to be hostile until verified: every read has a limit (module
//! `limit`), and never more is read than what was signed.
#![forbid(unsafe_code)]

mod call;
mod error;
mod file;
mod forward;
mod http;
mod index;
mod key;
mod limit;
mod package;
pub mod parallel;
mod proxy;
mod record;
mod refresh;
mod registry;
mod signature;
mod source;
mod suite;
mod transfer;

pub use call::{Call, Reply, Verb, without_query};
pub use error::Error;
pub use file::{
    BY_SHA512, Check, Feed, FileRef, copy_file, fetch_changing, fetch_files, fetch_pages, index_by_sha512,
    known_file,
};
pub use http::{Client, Validators};
pub use key::Keyring;
pub use package::{PackageRef, fetch_packages, fetch_packages_each};
pub use proxy::Proxies;
pub use refresh::refresh;
pub use registry::{Part, Piece, Repository, challenge, fetch_pieces, percent_encoded, registry_base};
pub use source::{ArchiveSource, IndexRef, Snapshot, SourceSnapshot, debian_sources};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Told what is being transferred. Called from several threads at the same time; must be quick.
pub trait Progress: Sync {
    /// The transfer of `item` begins, or begins again from zero. `total_bytes` is None if nobody knows yet.
    fn begin(&self, item: &str, total_bytes: Option<u64>);
    /// `bytes` more of `item` are here (also those kept from an earlier run).
    fn advance(&self, item: &str, bytes: u64);
    /// `item` is here and verified.
    fn finish(&self, item: &str);
}

/// A [`Progress`] that tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _item: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _item: &str, _bytes: u64) {}
    fn finish(&self, _item: &str) {}
}

/// How to fetch. The clock and the environment stay outside: both are arguments.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Now, in seconds since 1970 (UTC): what validity periods are compared with.
    pub now_unix_s: i64,
    /// Use only what is in the store.
    pub offline: bool,
    /// The Debian architecture, such as `amd64`.
    pub architecture: String,
    /// Who may sign an archive.
    pub keyring: Keyring,
    /// Which proxies to go through.
    pub proxies: Proxies,
    /// How many files are transferred at the same time.
    pub connections: usize,
    /// The pause before the second try of a transfer, in milliseconds; it doubles each time.
    pub retry_pause_ms: u64,
}

impl FetchOptions {
    /// The usual options: online, Debian's keys, no proxy.
    ///
    /// # Errors
    /// [`Error::Keyring`] if the built-in keys cannot be read.
    pub fn new(now_unix_s: i64, architecture: &str) -> Result<FetchOptions> {
        Ok(FetchOptions {
            now_unix_s,
            offline: false,
            architecture: architecture.to_owned(),
            keyring: Keyring::debian()?,
            proxies: Proxies::default(),
            connections: limit::CONNECTIONS,
            retry_pause_ms: limit::RETRY_PAUSE_MS,
        })
    }
}
