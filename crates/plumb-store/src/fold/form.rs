//! The form of a folded object: written and read, without a store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use plumb_model::Digest;
use rustix::io::Errno;

use super::{Piece, Tree};
use crate::Error;
use crate::object::Draft;

pub(super) const MAGIC: &[u8; 7] = b"plumbfo";
pub(super) const VERSION: u8 = 1;
/// Magic, format, tree, size.
pub(super) const HEAD_BYTES: usize = 17;

/// zstd's level: 30 MB/s and within 10 % of what three times slower ones reach.
pub(super) const LEVEL: i32 = 9;
/// Shorter pieces cost more as a piece than as literals.
pub(super) const SHORTEST_PIECE_BYTES: u64 = 32;
/// Most bases and pieces that are read: a hundred times those of a large machine.
pub(super) const MOST_PIECES: u64 = 4_000_000;
pub(super) const BUFFER_BYTES: usize = 256 * 1024;

/// A folded object whose head was read.
pub(super) struct Folded {
    pub(super) size: u64,
    pub(super) tree: Tree,
    pub(super) body: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    pub(super) path: PathBuf,
}

/// Why a folded object makes nothing: the error of the store, words about the folded file itself, or what the kernel said
/// when it was read, which is no word about its bytes.
pub(super) enum Trouble {
    Store(Error),
    Broken(String),
    Unread(io::Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Store(error)
    }
}

pub(super) fn broken(error: impl std::fmt::Display) -> Trouble {
    Trouble::Broken(error.to_string())
}

/// What reading a folded file ran into: the kernel's errors have a number, those of the form have none.
pub(super) fn unread(error: io::Error) -> Trouble {
    if error.raw_os_error().is_some() { Trouble::Unread(error) } else { broken(error) }
}

/// The pieces that can be used: long enough, in order, not one over the other, not in the tree.
pub(super) fn usable(pieces: &[Piece], data: u64) -> Vec<Piece> {
    let mut sorted = pieces.to_vec();
    sorted.sort_unstable();
    let mut end = 0;
    sorted.retain(|piece| {
        let fits = piece.length >= SHORTEST_PIECE_BYTES
            && piece.at >= end
            && piece.at.checked_add(piece.length).is_some_and(|end| end <= data);
        if fits {
            end = piece.at + piece.length;
        }
        fits
    });
    sorted
}

/// Where the compressed bytes go; keeps the store's own error, which [`Write`] cannot carry.
pub(super) struct Out<'a> {
    pub(super) draft: &'a mut Draft,
    pub(super) failed: Option<Error>,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.draft.append(bytes).map_err(|error| {
            self.failed = Some(error);
            io::Error::other("the store")
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn encode(
    plain: &File,
    (size, data, tree): (u64, u64, Tree),
    pieces: &[Piece],
    out: &mut Out<'_>,
) -> io::Result<()> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(MAGIC);
    head.push(VERSION);
    head.push(u8::from(tree == Tree::Behind));
    head.extend_from_slice(&size.to_le_bytes());
    out.write_all(&head)?;
    let mut numbers: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut bases = Vec::new();
    for piece in pieces {
        numbers.entry(piece.base).or_insert_with(|| {
            bases.push(piece.base);
            bases.len() as u64 - 1
        });
    }
    let mut plan = Vec::new();
    put_number(&mut plan, bases.len() as u64);
    bases.iter().for_each(|base| plan.extend_from_slice(base.as_bytes()));
    put_number(&mut plan, pieces.len() as u64);
    let mut end = 0;
    for piece in pieces {
        for value in [piece.at - end, numbers[&piece.base], piece.offset, piece.length] {
            put_number(&mut plan, value);
        }
        end = piece.at + piece.length;
    }
    let mut encoder = zstd::Encoder::new(io::BufWriter::with_capacity(BUFFER_BYTES, out), LEVEL)?;
    encoder.include_checksum(true)?;
    // Known sizes make small tables for small objects: most are, and clearing large ones is most of their cost.
    let pieces_bytes: u64 = pieces.iter().map(|piece| piece.length).sum();
    encoder.set_pledged_src_size(Some(plan.len() as u64 + data - pieces_bytes))?;
    encoder.write_all(&plan)?;
    let mut at = 0;
    for (start, length) in pieces.iter().map(|piece| (piece.at, piece.length)).chain([(data, 0)]) {
        let mut gap = Part { file: plain, at, end: start };
        io::copy(&mut gap, &mut encoder)?;
        at = start + length;
    }
    encoder.finish()?.flush()
}

/// A range of a file, read in order.
pub(super) struct Part<'a> {
    file: &'a File,
    pub(super) at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = out.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut out[..length], self.at)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

pub(super) fn parse_head(head: &[u8; HEAD_BYTES]) -> Option<(u64, Tree)> {
    let rest = head.strip_prefix(MAGIC)?;
    let tree = match rest[..2] {
        [VERSION, 0] => Tree::None,
        [VERSION, 1] => Tree::Behind,
        _ => return None,
    };
    let size = rest[2..].iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
    Some((size, tree))
}

pub(super) fn open_folded(mut file: File, path: PathBuf) -> std::result::Result<Folded, Trouble> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => broken("it is cut short"),
        _ => unread(error),
    })?;
    let (size, tree) = parse_head(&head).ok_or_else(|| broken("it does not begin like one"))?;
    let body = zstd::Decoder::new(file).map_err(unread)?;
    Ok(Folded { size, tree, body: BufReader::with_capacity(BUFFER_BYTES, body), path })
}

pub(super) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn number(from: &mut impl Read) -> std::result::Result<u64, Trouble> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte).map_err(unread)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(value);
        }
    }
    Err(broken("a number is too long"))
}

pub(super) fn read_bases(from: &mut impl Read) -> std::result::Result<Vec<Digest>, Trouble> {
    let count = number(from)?;
    if count > MOST_PIECES {
        return Err(broken("it has too many bases"));
    }
    let mut bases = Vec::new();
    for _ in 0..count {
        let mut digest = [0; 32];
        from.read_exact(&mut digest).map_err(unread)?;
        bases.push(Digest::from_bytes(digest));
    }
    Ok(bases)
}

/// A piece as read: the base by its number.
pub(super) struct Range {
    pub(super) at: u64,
    pub(super) base: usize,
    pub(super) offset: u64,
    pub(super) length: u64,
}

pub(super) fn read_pieces(
    from: &mut impl Read,
    bases: usize,
    data: u64,
) -> std::result::Result<Vec<Range>, Trouble> {
    let count = number(from)?;
    if count > MOST_PIECES {
        return Err(broken("it has too many pieces"));
    }
    let (mut pieces, mut end) = (Vec::new(), 0u64);
    for _ in 0..count {
        let (gap, base, offset, length) = (number(from)?, number(from)?, number(from)?, number(from)?);
        let at = end.saturating_add(gap);
        end = at.saturating_add(length);
        let base = usize::try_from(base).unwrap_or(usize::MAX);
        if end > data || base >= bases {
            return Err(broken("a piece leads out of the object"));
        }
        pieces.push(Range { at, base, offset, length });
    }
    Ok(pieces)
}

/// Why literals did not arrive.
pub(super) enum Literal {
    Source(io::Error),
    Target(io::Error),
}

impl Literal {
    pub(super) fn at(self, written: impl FnOnce(io::Error) -> Error) -> Trouble {
        match self {
            Literal::Source(error) => unread(error),
            Literal::Target(error) => Trouble::Store(written(error)),
        }
    }
}

/// Copies the next literals to `start..end` of the target.
pub(super) fn literals(
    from: &mut impl Read,
    target: &File,
    (start, end): (u64, u64),
) -> std::result::Result<(), Literal> {
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(end - start).unwrap_or(BUFFER_BYTES))];
    let mut at = start;
    while at < end {
        let part = &mut buffer[..BUFFER_BYTES.min(usize::try_from(end - at).unwrap_or(BUFFER_BYTES))];
        from.read_exact(part).map_err(Literal::Source)?;
        target.write_all_at(part, at).map_err(Literal::Target)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// Copies one piece; by copy_file_range(2), which shares blocks where the file system can.
pub(super) fn copy(base: &File, target: &File, piece: &Range) -> io::Result<()> {
    let (mut from, mut to, mut left) = (piece.offset, piece.at, piece.length);
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(base, Some(&mut from), target, Some(&mut to), length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => left -= copied as u64,
            Err(Errno::INTR) => {}
            // A file system that cannot (copy_file_range(2), ERRORS).
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                let mut part = vec![0; BUFFER_BYTES.min(length)];
                base.read_exact_at(&mut part, from)?;
                target.write_all_at(&part, to)?;
                (from, to, left) =
                    (from + part.len() as u64, to + part.len() as u64, left - part.len() as u64);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
