//! Package files (`.deb`, deb(5)) to contents by digest, without running anything and without unpacking to disk.
//!
//! Everything read here is hostile until proven otherwise: each length has a limit and each path is checked before
//! it is kept.

mod ar;
pub(crate) mod path;
pub(crate) mod tarball;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::tree::{Entry, Objects};

/// From this size a member is decompressed by several threads. A block of `xz -6`, the default, holds 24 MiB of data, so
/// smaller members have one block.
const PARALLEL_BYTES: u64 = 4 << 20;

/// Most threads for one member: the memory below is enough for three blocks of `xz -6`.
const DECODER_THREADS: u32 = 4;

/// Memory of all threads of one member together; what would take more waits. `plumb build` is to stay below 200 MiB.
const DECODER_THREADS_BYTES: u64 = 112 << 20;

/// Held by the one member that is decompressed by several threads: two at once would not be faster and take twice the
/// memory. Whoever does not get it decompresses with one thread.
static PARALLEL: Mutex<()> = Mutex::new(());

/// What one package may cost. A package beyond a limit is refused.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of `data.tar` after decompression. The largest package of Debian 12 (a debug package) has 5 GiB.
    pub unpacked_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Number of entries. The largest packages of Debian 12 have about 100,000.
    pub entries: usize,
    /// Bytes of a path or of a link target: PATH_MAX of Linux, which no program could open beyond.
    pub path_bytes: usize,
    /// Bytes of all paths, link targets and extended attributes together, directories that are only implied included:
    /// what a package takes in memory, and what hard links to one entry multiply. The largest packages of Debian 12
    /// have about 10 MiB.
    pub metadata_bytes: u64,
    /// Bytes of `control.tar` after decompression, and so of every script.
    pub control_bytes: u64,
    /// Memory a decompressor may take; `xz -9` needs 65 MiB to decode.
    pub decoder_memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            unpacked_bytes: 8 << 30,
            file_bytes: 4 << 30,
            entries: 400_000,
            path_bytes: 4096,
            metadata_bytes: 128 << 20,
            control_bytes: 32 << 20,
            decoder_memory_bytes: 256 << 20,
        }
    }
}

/// Everything Plumb keeps of one package file. Serialized, so that a package file is unpacked once ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageContent {
    /// The control stanza, as in the package, ending in one newline.
    pub control: String,
    /// Maintainer scripts and trigger declarations by name (`postinst`, `triggers`…). Bytes that are not UTF-8 are
    /// replaced: a script is only ever read, never run.
    pub scripts: BTreeMap<String, String>,
    /// Configuration files by path (deb-conffiles(5)).
    pub conffiles: Vec<String>,
    /// File contents' MD5 as the package declares them (deb-md5sums(5)); kept for scanners only.
    pub md5sums: String,
    /// All entries by absolute path; the root directory has none.
    pub entries: BTreeMap<String, Entry>,
}

/// Why a package file is refused.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The outer archive is something else.
    #[error("this is not a Debian package: it does not start with `!<arch>`")]
    NotAr,
    /// A member header of the outer archive makes no sense.
    #[error("member `{member}` has a broken header")]
    BadMember {
        /// Its name, as far as readable.
        member: String,
    },
    /// A member that deb(5) demands is not there, or not in its place.
    #[error("member `{member}` is missing")]
    NoMember {
        /// The member.
        member: &'static str,
    },
    /// A member that deb(5) does not know.
    #[error("member `{member}` is not part of the package format")]
    UnknownMember {
        /// Its name.
        member: String,
    },
    /// A compression that is not one of none, gz, xz, zst.
    #[error("member `{member}` has an unknown compression (known: none, .gz, .xz, .zst)")]
    UnknownCompression {
        /// Its name.
        member: String,
    },
    /// `debian-binary` names another major version.
    #[error("package format `{version}` is not 2.x")]
    UnknownFormat {
        /// What it names.
        version: String,
    },
    /// Reading or decompressing failed, or the file ends early.
    #[error("cannot read member `{member}`")]
    Read {
        /// The member.
        member: String,
        /// The reason.
        source: io::Error,
    },
    /// Something is larger than [`Limits`] allows.
    #[error("`{path}` in member `{member}` is beyond the limit: {what} over {limit}")]
    TooLarge {
        /// The member.
        member: String,
        /// The path, or the member again.
        path: String,
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A path that leads out of the package, or that no package may have.
    #[error("path `{path}` in member `{member}` is refused: {reason}")]
    BadPath {
        /// The member.
        member: String,
        /// The path as in the archive.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// An entry of a kind that an image never holds.
    #[error("`{path}` in member `{member}` is {kind}; images hold only files, directories and links")]
    BadKind {
        /// The member.
        member: String,
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A tar header makes no sense.
    #[error("`{path}` in member `{member}` has a broken header: {reason}")]
    BadHeader {
        /// The member.
        member: String,
        /// The path.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// Two entries of one path.
    #[error("path `{path}` in member `{member}` is there twice")]
    Duplicate {
        /// The member.
        member: String,
        /// The path.
        path: String,
    },
    /// A hard link to something that is no earlier file of the package.
    #[error("hard link `{path}` in member `{member}` points to `{target}`, which is no file before it")]
    BadHardLink {
        /// The member.
        member: String,
        /// The path.
        path: String,
        /// What it points to.
        target: String,
    },
    /// The content could not be kept.
    #[error("cannot keep the content of `{path}`")]
    Keep {
        /// The path.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

/// Reads a whole package file: file contents go to `objects`, everything else comes back.
///
/// # Errors
/// [`DebError`]; the caller knows the package's name and says it.
pub fn unpack(reader: impl Read, limits: &Limits, objects: &dyn Objects) -> Result<PackageContent, DebError> {
    let mut ar = ar::Reader::open(BufReader::with_capacity(64 << 10, reader))?;
    check_format(&mut ar)?;
    let mut content = PackageContent::default();
    let mut has_control = false;
    while let Some(member) = ar.next()? {
        let mut data = ar.data(&member);
        let name = member.name.as_str();
        if name == "control.tar" || name.starts_with("control.tar.") {
            if has_control {
                return Err(DebError::UnknownMember { member: member.name });
            }
            let mut source = decoder(&mut data, name, member.size, limits.control_bytes, limits)?;
            tarball::read_control(&mut source, name, limits, &mut content)?;
            drain(&mut source, name)?;
            drop(source);
            has_control = true;
        } else if name == "data.tar" || name.starts_with("data.tar.") {
            if !has_control {
                return Err(DebError::NoMember { member: "control.tar" });
            }
            let size = member.size;
            let mut source = decoder(&mut data, name, size, limits.unpacked_bytes, limits)?;
            content.entries = tarball::read_data(&mut source, name, limits, objects)?;
            drain(&mut source, name)?;
            drop(source);
            return if data.limit() == 0 { Ok(content) } else { Err(truncated(name)) };
        } else if name.starts_with('_') {
            drain(&mut data, name)?; // deb(5): members whose name starts with an underscore are to be skipped
        } else {
            return Err(DebError::UnknownMember { member: member.name });
        }
        if data.limit() > 0 {
            return Err(truncated(name));
        }
    }
    Err(DebError::NoMember { member: if has_control { "data.tar" } else { "control.tar" } })
}

/// The files of `control.tar` by name, as they are: what dpkg keeps below `/var/lib/dpkg/info`. Nothing of the contents
/// is read.
///
/// # Errors
/// [`DebError`].
pub fn control_members(reader: impl Read, limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>, DebError> {
    let mut ar = ar::Reader::open(BufReader::with_capacity(64 << 10, reader))?;
    check_format(&mut ar)?;
    while let Some(member) = ar.next()? {
        let mut data = ar.data(&member);
        if member.name == "control.tar" || member.name.starts_with("control.tar.") {
            let mut source = decoder(&mut data, &member.name, member.size, limits.control_bytes, limits)?;
            return tarball::read_members(&mut source, &member.name, limits);
        }
        drain(&mut data, &member.name)?;
    }
    Err(DebError::NoMember { member: "control.tar" })
}

fn check_format(ar: &mut ar::Reader<impl Read>) -> Result<(), DebError> {
    let first = ar.next()?.filter(|member| member.name == "debian-binary" && member.size <= 64);
    let first = first.ok_or(DebError::NoMember { member: "debian-binary" })?;
    let mut version = String::new();
    ar.data(&first)
        .read_to_string(&mut version)
        .map_err(|source| DebError::Read { member: first.name.clone(), source })?;
    if !version.starts_with("2.") {
        return Err(DebError::UnknownFormat { version: version.trim().to_owned() });
    }
    Ok(())
}

/// Decompresses by the member's file extension and ends with an error beyond `limit` bytes. `size` is the member's.
fn decoder<'a, R: BufRead>(
    data: &'a mut R,
    member: &str,
    size: u64,
    limit: u64,
    limits: &Limits,
) -> Result<Box<dyn Read + 'a>, DebError> {
    let failed = |source: io::Error| DebError::Read { member: member.to_owned(), source };
    let plain: Box<dyn Read + 'a> = match member.rsplit_once(".tar").map(|(_, extension)| extension) {
        Some("") => Box::new(data),
        Some(".gz") => Box::new(flate2::bufread::MultiGzDecoder::new(data)),
        Some(".xz") => {
            let turn = if size < PARALLEL_BYTES { None } else { PARALLEL.try_lock().ok() };
            let stream = xz_stream(turn.as_ref(), limits).map_err(|e| failed(e.into()))?;
            Box::new(Turn { inner: liblzma::bufread::XzDecoder::new_stream(data, stream), _turn: turn })
        }
        Some(".zst") => {
            let mut zstd = zstd::stream::read::Decoder::with_buffer(data).map_err(failed)?;
            let log = 63 - limits.decoder_memory_bytes.max(1 << 20).leading_zeros();
            zstd.window_log_max(log.min(31)).map_err(failed)?;
            Box::new(zstd)
        }
        _ => return Err(DebError::UnknownCompression { member: member.to_owned() }),
    };
    Ok(Box::new(Capped { inner: plain, left: limit, limit }))
}

/// `dpkg-deb` compresses with several threads, which leaves blocks that can be decompressed side by side. A member that
/// has only one, or whose headers do not say how long they are, is decompressed by one thread. One stream is read, as
/// dpkg reads one; anything behind it is an error.
fn xz_stream(
    turn: Option<&MutexGuard<'static, ()>>,
    limits: &Limits,
) -> Result<liblzma::stream::Stream, liblzma::stream::Error> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if turn.is_none() || threads == 1 {
        return liblzma::stream::Stream::new_stream_decoder(limits.decoder_memory_bytes, 0);
    }
    liblzma::stream::MtStreamBuilder::new()
        .threads(u32::try_from(threads).unwrap_or(u32::MAX).min(DECODER_THREADS))
        .memlimit_threading(DECODER_THREADS_BYTES.min(limits.decoder_memory_bytes))
        .memlimit_stop(limits.decoder_memory_bytes)
        .decoder()
}

/// A decompressor, and the turn it has if it runs several threads.
struct Turn<R> {
    inner: R,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl<R: Read> Read for Turn<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

/// Passes at most `limit` bytes; one more is an error, so that a bomb ends the work and is not cut silently.
pub(crate) struct Capped<R> {
    pub(crate) inner: R,
    pub(crate) left: u64,
    pub(crate) limit: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(got as u64).ok_or_else(|| {
            io::Error::other(format!("it decompresses to more than {} bytes, the limit", self.limit))
        })?;
        Ok(got)
    }
}

/// Reads to the end, so that a bomb or a broken checksum behind the last entry is seen too.
fn drain(source: &mut impl Read, member: &str) -> Result<(), DebError> {
    io::copy(source, &mut io::sink())
        .map(drop)
        .map_err(|source| DebError::Read { member: member.to_owned(), source })
}

fn truncated(member: &str) -> DebError {
    DebError::Read { member: member.to_owned(), source: io::ErrorKind::UnexpectedEof.into() }
}

#[cfg(test)]
mod tests;
