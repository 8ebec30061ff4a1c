//! Every limit of this crate, and why it is that number.

use std::time::Duration;

/// Transfers at the same time. Mirrors ask clients to stay low; more than four did not make a package set arrive
/// sooner from a content delivery network, and each costs a connection there.
pub(crate) const CONNECTIONS: usize = 4;

/// Most transfers at the same time, whatever is asked for: what `apt` allows at most per host queue.
pub(crate) const CONNECTIONS_MAX: usize = 16;

/// Tries per file: one hiccup of a mirror is common, three in a row are an outage that waiting does not cure.
pub(crate) const TRIES: u32 = 3;

/// Pause before the second try; it doubles for each further one.
pub(crate) const RETRY_PAUSE_MS: u64 = 500;

/// Largest `InRelease`. sid's has 0.2 MiB.
pub(crate) const IN_RELEASE_BYTES: u64 = 16 * 1024 * 1024;

/// Largest index, packed or not. sid's main has 55 MiB.
pub(crate) const INDEX_BYTES: u64 = 1024 * 1024 * 1024;

/// Memory for the xz decoder: `xz -9` needs 65 MiB, its dictionary cannot ask for more than this.
pub(crate) const XZ_MEMORY_BYTES: u64 = 128 * 1024 * 1024;

/// Redirects followed for one request. Debian's mirrors need one or two.
pub(crate) const REDIRECTS: usize = 5;

/// Name lookup and connection: a mirror that is up answers within one; a congested line needs more.
pub(crate) const CONNECT: Duration = Duration::from_secs(20);

/// Wait for the head of an answer, and for each next piece of its body. There is no limit for a whole file: a large one
/// on a slow line is fine as long as bytes arrive.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Largest head of an HTTP answer.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;

/// Bytes moved per read.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;

/// How far ahead of our clock an archive may be: a host clock set to local time is off by up to half a day.
pub(crate) const CLOCK_SKEW_S: i64 = 14 * 60 * 60;

/// Largest bundle of trusted certificates that is read. Debian's has 0.2 MiB.
pub(crate) const CERTIFICATE_BYTES: u64 = 16 * 1024 * 1024;

/// Largest file by URL. Model weights and JDKs have single gigabytes; a disk that is full tells less than this.
pub(crate) const CONTENT_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// Largest manifest of a container image: registries accept 4 MiB (distribution-spec 1.1, "Pushing Manifests").
pub(crate) const MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
