//! Archives of the user's own choice: tarballs and zip files to contents by digest.
//!
//! ```text
//!  file ─ first bytes ─► gzip, xz, zstd ─► tar ─┐
//!                        tar ───────────────────┼─► entries by absolute path, contents in `objects`
//!                        zip (wheels, too) ─────┘
//!                        anything else: not an archive
//! ```
//!
//! As hostile as package files, and read by the same rules: see [`crate::deb`].

mod packing;
mod zip;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::deb::{DebError, Limits, tarball};
use crate::tree::{Entry, Kind, Objects};

pub(crate) use packing::Packing;

/// A block of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format").
const TAR_BLOCK: usize = 512;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tar(Packing),
    Zip,
    /// bzip2, which nothing here reads.
    Bzip2,
    Plain,
}

/// Why an archive cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its content is refused.
    #[error(transparent)]
    Content(#[from] DebError),
    /// It cannot be read.
    #[error("cannot read `{name}`")]
    Read {
        /// The file.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// A compression that is not read.
    #[error("`{name}` is compressed with bzip2, which is not read (known: gzip, xz, zstd, zip)")]
    Bzip2 {
        /// The file.
        name: String,
    },
    /// Nothing is left of it.
    #[error("`{name}` has nothing below {strip} folders")]
    Stripped {
        /// The file.
        name: String,
        /// How many were to be stripped.
        strip: usize,
    },
}

/// Reads an archive by its first bytes; `None` if it is none. Set-uid, set-gid and sticky bits are not taken over, and
/// neither are owners: whoever made the archive has no say in that.
///
/// # Errors
/// [`ArchiveError`].
pub fn unpack(
    file: &mut File,
    name: &str,
    limits: &Limits,
    objects: &dyn Objects,
) -> Result<Option<BTreeMap<String, Entry>>, ArchiveError> {
    let failed = |source| ArchiveError::Read { name: name.to_owned(), source };
    let form = form(file, limits).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut entries = match form {
        Form::Tar(packing) => {
            let mut source = packing.decoder(BufReader::new(file), limits).map_err(failed)?;
            let entries = tarball::read_data(&mut source, name, limits, objects)?;
            // A bomb or a broken checksum behind the last entry is seen, too.
            io::copy(&mut source, &mut io::sink()).map_err(failed)?;
            entries
        }
        Form::Zip => zip::read(file, name, limits, objects)?,
        Form::Bzip2 => return Err(ArchiveError::Bzip2 { name: name.to_owned() }),
        Form::Plain => return Ok(None),
    };
    for entry in entries.values_mut() {
        entry.mode &= 0o777;
        (entry.uid, entry.gid) = (0, 0);
        entry.xattrs.clear();
    }
    Ok(Some(entries))
}

/// Gives every file of a zip file to `take`, with its name, in the order of its directory.
///
/// # Errors
/// If it is no zip file, is damaged, or leaves the limits; and those of `take`.
pub fn zip_members(
    file: &mut File,
    limits: &Limits,
    take: &mut dyn FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    zip::each(file, limits, take)
}

/// Takes `count` folders from the start of every path, as `tar --strip-components` does: what is not below so many
/// is left out.
///
/// # Errors
/// [`ArchiveError::Stripped`] if nothing is left.
pub fn strip(
    entries: BTreeMap<String, Entry>,
    count: usize,
    name: &str,
) -> Result<BTreeMap<String, Entry>, ArchiveError> {
    if count == 0 {
        return Ok(entries);
    }
    let below = |path: &str| {
        let rest = path.splitn(count + 2, '/').nth(count + 1)?;
        Some(format!("/{rest}"))
    };
    let kept: BTreeMap<String, Entry> =
        entries.into_iter().filter_map(|(path, entry)| Some((below(&path)?, entry))).collect();
    if kept.values().any(|entry| entry.kind != Kind::Directory) {
        return Ok(kept);
    }
    Err(ArchiveError::Stripped { name: name.to_owned(), strip: count })
}

fn form(file: &mut File, limits: &Limits) -> io::Result<Form> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(TAR_BLOCK as u64).read_to_end(&mut head)?;
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Form::Zip);
    }
    if head.starts_with(b"BZh") && head.get(4..10) == Some(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) {
        return Ok(Form::Bzip2);
    }
    let packing = Packing::detect(&head);
    if packing == Packing::None {
        return Ok(if is_tar(&head) { Form::Tar(Packing::None) } else { Form::Plain });
    }
    file.seek(SeekFrom::Start(0))?;
    let mut first = Vec::new();
    packing.decoder(BufReader::new(file), limits)?.take(TAR_BLOCK as u64).read_to_end(&mut first)?;
    // One compressed file, such as a database: it stays what it is.
    Ok(if is_tar(&first) { Form::Tar(packing) } else { Form::Plain })
}

/// Whether the checksum of a tar header is right; it is the only thing that all tar formats share.
fn is_tar(block: &[u8]) -> bool {
    if block.len() < TAR_BLOCK || block[0] == 0 {
        return false;
    }
    let field = String::from_utf8_lossy(&block[148..156]);
    let told = u32::from_str_radix(field.trim_matches(|c| c == ' ' || c == '\0'), 8).ok();
    let sum = block
        .iter()
        .enumerate()
        .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }));
    told == Some(sum.sum())
}

#[cfg(test)]
mod tests;
