//! Every limit of this crate, and why it is that number.

/// Longest name of a document: it becomes a tag in a registry, which has at most 128 characters.
pub const NAME_BYTES: usize = 128;

/// Largest `plumb.json`.
pub const MARK_BYTES: u64 = 1024;

/// Largest document that is compared before it is replaced: the largest that a reader takes is 32 MiB.
pub const DOCUMENT_BYTES: u64 = 32 * 1024 * 1024;

/// Characters of a foreign text that a message shows.
pub const SHOWN_CHARS: usize = 200;

/// How often a place is looked at while somebody else makes it a remote: once is enough, if both want the same.
pub const FOUND_TRIES: usize = 3;

/// Connections of one command to one remote: what is sent or fetched is large, and more were not faster.
pub const CONNECTIONS: usize = 4;

/// Tries of one request: one hiccup is common, three in a row are an outage that waiting does not cure.
pub const TRIES: u32 = 3;

/// Pause before the second try; it doubles for each further one.
pub const RETRY_PAUSE_MS: u64 = 500;

/// Bytes copied at once.
pub const BLOCK_BYTES: usize = 256 * 1024;

/// How often a file is opened again after another process took it away under us.
pub const OPEN_TRIES: u32 = 64;

/// Longest answer that only says what went wrong.
pub const COMPLAINT_BYTES: u64 = 64 * 1024;
