//! Zip files (APPNOTE.TXT 6.3.10), as wheels and many releases are.
//!
//! ```text
//!  local header, data │ local header, data │ … │ central directory │ [zip64 end, locator] │ end record
//!                                                 names, sizes, CRC-32, modes
//! ```
//!
//! Only the central directory is believed, as `unzip` and Python do; the local header tells where the data begins.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::ArchiveError;
use crate::deb::tarball::{self, Metadata};
use crate::deb::{DebError, Limits, path};
use crate::tree::{Entry, Objects};

/// The end record and its comment, which is at most 65,535 bytes long.
const END_BYTES: u64 = 22 + 65_535;
/// The central directory: names of [`Limits::entries`] with some hundred bytes each.
const DIRECTORY_BYTES: u64 = 256 << 20;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// "Made by" Unix: the upper half of the external attributes is `st_mode`.
const UNIX: u8 = 3;

/// One line of the central directory.
struct Member {
    name: Vec<u8>,
    method: u16,
    encrypted: bool,
    crc: u32,
    packed: u64,
    size: u64,
    /// `st_mode`, or 0.
    mode: u32,
    header_at: u64,
}

pub(super) fn read(
    file: &mut File,
    name: &str,
    limits: &Limits,
    objects: &dyn Objects,
) -> Result<BTreeMap<String, Entry>, ArchiveError> {
    let failed = |source| ArchiveError::Read { name: name.to_owned(), source };
    let members = directory(file, limits).map_err(failed)?;
    let mut left = limits.unpacked_bytes;
    let mut metadata = Metadata::new(limits);
    let mut entries = BTreeMap::new();
    for member in members {
        let is_directory = member.name.ends_with(b"/");
        let Some(path) = path::normalize(&member.name, name, limits)? else { continue };
        left = left.checked_sub(member.size).ok_or_else(|| too_large(name, &path, limits.unpacked_bytes))?;
        if member.size > limits.file_bytes {
            return Err(too_large(name, &path, limits.file_bytes));
        }
        let bits = if member.mode == 0 { 0o644 } else { member.mode & 0o777 };
        let entry = if is_directory {
            Entry::directory(0o755)
        } else if member.mode & 0o170_000 == 0o120_000 {
            if member.size > limits.path_bytes as u64 {
                return Err(too_large(name, &path, limits.path_bytes as u64));
            }
            let mut target = Vec::new();
            content(file, &member).and_then(|mut data| data.read_to_end(&mut target)).map_err(failed)?;
            Entry::symlink(path::link_target(&target, &path, name, limits)?)
        } else {
            let mut data = content(file, &member).map_err(failed)?;
            let kept =
                objects.put(&mut data).map_err(|source| DebError::Keep { path: path.clone(), source })?;
            Entry::file(kept.0, kept.1, bits)
        };
        metadata.take(&path, &entry, &entries, name)?;
        // The later one wins, as when it is unpacked to disk.
        entries.insert(path, entry);
    }
    tarball::check_parents(&entries, name)?;
    Ok(entries)
}

/// Gives every file of a zip file to `take`, by its name in the directory, in its order. Folders and links are passed
/// over, and nothing is written anywhere.
pub(super) fn each(
    file: &mut File,
    limits: &Limits,
    take: &mut dyn FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let mut left = limits.unpacked_bytes;
    for member in directory(file, limits)? {
        if member.name.ends_with(b"/") || !matches!(member.mode & 0o170_000, 0 | 0o100_000) {
            continue;
        }
        left = left.checked_sub(member.size).ok_or_else(|| broken("it is larger than the limit"))?;
        if member.size > limits.file_bytes {
            return Err(broken("a member is larger than the limit"));
        }
        let mut data = content(file, &member)?;
        take(&String::from_utf8_lossy(&member.name), &mut data)?;
        // What was not read is checked, too.
        io::copy(&mut data, &mut io::sink())?;
    }
    Ok(())
}

fn too_large(name: &str, path: &str, limit: u64) -> ArchiveError {
    let (member, path) = (name.to_owned(), path.to_owned());
    ArchiveError::Content(DebError::TooLarge { member, path, what: "bytes", limit })
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> io::Result<u64> {
    let found = bytes.get(at..at + N).ok_or_else(|| broken("a header ends early"))?;
    Ok(found.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn directory(file: &mut File, limits: &Limits) -> io::Result<Vec<Member>> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail_at = length.saturating_sub(END_BYTES);
    let tail = at(file, tail_at, length - tail_at)?;
    let end = tail
        .windows(4)
        .rposition(|bytes| bytes == b"PK\x05\x06")
        .ok_or_else(|| broken("it has no end record"))?;
    number::<2>(&tail, end + 20)?; // the length of the comment, the record's last field
    let mut count = number::<2>(&tail, end + 10)?;
    let mut size = number::<4>(&tail, end + 12)?;
    let mut start = number::<4>(&tail, end + 16)?;
    if end >= 20 && tail[end - 20..].starts_with(b"PK\x06\x07") {
        let record = at(file, number::<8>(&tail, end - 12)?, 56)?;
        if !record.starts_with(b"PK\x06\x06") {
            return Err(broken("its zip64 record is not where it should be"));
        }
        count = number::<8>(&record, 32)?;
        size = number::<8>(&record, 40)?;
        start = number::<8>(&record, 48)?;
    }
    if size > DIRECTORY_BYTES || count > limits.entries as u64 {
        return Err(broken("its directory is larger than the limit"));
    }
    let bytes = at(file, start, size)?;
    let mut members = Vec::new();
    let mut rest = bytes.as_slice();
    for _ in 0..count {
        let (member, used) = member(rest)?;
        rest = &rest[used..];
        members.push(member);
    }
    Ok(members)
}

/// The first member of `bytes` and how long its line is.
fn member(bytes: &[u8]) -> io::Result<(Member, usize)> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return Err(broken("its directory is broken"));
    }
    let small = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let name_length = small(number::<2>(bytes, 28)?);
    let extra_length = small(number::<2>(bytes, 30)?);
    let used = 46 + name_length + extra_length + small(number::<2>(bytes, 32)?);
    let line = bytes.get(..used).ok_or_else(|| broken("its directory ends early"))?;
    let attributes = number::<4>(line, 38)? as u32;
    let mut member = Member {
        name: line[46..46 + name_length].to_vec(),
        method: number::<2>(line, 10)? as u16,
        encrypted: number::<2>(line, 8)? & 1 == 1,
        crc: number::<4>(line, 16)? as u32,
        packed: number::<4>(line, 20)?,
        size: number::<4>(line, 24)?,
        mode: if line[5] == UNIX { attributes >> 16 } else { 0 },
        header_at: number::<4>(line, 42)?,
    };
    zip64(&mut member, &line[46 + name_length..46 + name_length + extra_length])?;
    Ok((member, used))
}

/// Sizes beyond 4 GiB stand in the extra field 1, in this order, each only if its short form is all ones.
fn zip64(member: &mut Member, mut extra: &[u8]) -> io::Result<()> {
    while extra.len() >= 4 {
        let length = number::<2>(extra, 2)? as usize;
        let field = extra.get(4..4 + length).ok_or_else(|| broken("an extra field ends early"))?;
        if number::<2>(extra, 0)? == 1 {
            let mut at = 0;
            for value in [&mut member.size, &mut member.packed, &mut member.header_at] {
                if *value == u64::from(u32::MAX) {
                    *value = number::<8>(field, at)?;
                    at += 8;
                }
            }
        }
        extra = &extra[4 + length..];
    }
    Ok(())
}

fn at(file: &mut File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// The member's bytes; their length and CRC-32 are checked at the end.
fn content<'f>(file: &'f mut File, member: &Member) -> io::Result<Checked<Box<dyn Read + 'f>>> {
    if member.encrypted {
        return Err(broken("it is encrypted"));
    }
    let header = at(file, member.header_at, 30)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(broken("a member is not where the directory says"));
    }
    let start = member.header_at + 30 + number::<2>(&header, 26)? + number::<2>(&header, 28)?;
    file.seek(SeekFrom::Start(start))?;
    let packed = file.take(member.packed);
    let inner: Box<dyn Read + 'f> = match member.method {
        STORED => Box::new(packed),
        DEFLATED => Box::new(flate2::read::DeflateDecoder::new(packed)),
        _ => return Err(broken("a member is compressed with something else than deflate")),
    };
    Ok(Checked { inner, hash: flate2::Crc::new(), crc: member.crc, left: member.size })
}

struct Checked<R> {
    inner: R,
    hash: flate2::Crc,
    crc: u32,
    left: u64,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 && (self.left > 0 || self.hash.sum() != self.crc) {
            return Err(broken("a member is damaged: its CRC-32 or length is another"));
        }
        // A member that is longer than told is a bomb.
        self.left =
            self.left.checked_sub(count as u64).ok_or_else(|| broken("a member is longer than told"))?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
