//! What an object is made of: the stream `copies`, written and read.

use crate::limit::{COPIES, OBJECT_BASES, PAIRS, PIECES, PROGRAM_BYTES, TYPES_BYTES};
use crate::model::{BLOCK, Copy, Pair, Piece};
use crate::varint::{Reader, put, put_signed};

/// Most bytes that are copied at once.
pub(crate) const CHUNK: u64 = 64 << 10;

/// The plan of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Numbers of the bases, in the order of the base space.
    pub(crate) bases: Vec<u64>,
    /// By new position, without overlap.
    pub(crate) pairs: Vec<Pair>,
    /// By new position, without overlap.
    pub(crate) copies: Vec<Copy>,
    /// How many runs of fixes there are.
    pub(crate) runs: u64,
}

impl Plan {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put(out, self.bases.len() as u64);
        self.bases.iter().for_each(|base| put(out, *base));
        put(out, self.pairs.len() as u64);
        let mut at = (0, 0);
        for pair in &self.pairs {
            put(out, pair.new.0 - at.0);
            put(out, pair.new.1 - pair.new.0);
            put_signed(out, pair.old.0 as i64 - at.1 as i64);
            put(out, pair.old.1 - pair.old.0);
            put(out, pair.types.0);
            put(out, pair.types.1 - pair.types.0);
            if pair.types.1 > pair.types.0 {
                put_signed(out, pair.strings);
                put(out, pair.numbers.len() as u64);
                pair.numbers.iter().for_each(|number| put_signed(out, *number));
            }
            put_pieces(out, &pair.old_pieces, &[]);
            put_pieces(out, &pair.new_pieces, &pair.old_pieces);
            at = (pair.new.1, pair.old.1);
        }
        put(out, self.copies.len() as u64);
        let mut end = 0;
        for copy in &self.copies {
            put(out, copy.new - end);
            end = copy.new + copy.length;
        }
        self.copies.iter().for_each(|copy| put(out, copy.length));
        let mut last = 0;
        for copy in &self.copies {
            let distance = copy.old as i64 - copy.new as i64;
            put_signed(out, distance - last);
            last = distance;
        }
        put(out, self.runs);
    }

    /// Reads the bases; what follows can only be understood with their sizes.
    pub(crate) fn read_bases(reader: &mut Reader<'_>) -> Result<Vec<u64>, &'static str> {
        let count = reader.number().ok_or(CUT)?;
        if count > OBJECT_BASES {
            return Err("an object has too many bases");
        }
        (0..count).map(|_| reader.number().ok_or(CUT)).collect()
    }

    /// Reads the rest. Everything lies within an object of `size` bytes and a base space of `space` bytes.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        bases: Vec<u64>,
        size: u64,
        space: u64,
    ) -> Result<Plan, &'static str> {
        let pairs = read_pairs(reader, size, space)?;
        let count = reader.number().ok_or(CUT)?;
        if count > COPIES {
            return Err("an object has too many copies");
        }
        // Each copy takes three numbers: what is allocated is bounded by what is there.
        let mut copies = Vec::new();
        for _ in 0..count {
            copies.push(Copy { new: reader.number().ok_or(CUT)?, old: 0, length: 0 });
        }
        let mut end = 0u64;
        for copy in &mut copies {
            copy.length = reader.number().ok_or(CUT)?;
            copy.new = end.checked_add(copy.new).ok_or(OUTSIDE)?;
            end = copy.new.checked_add(copy.length).filter(|end| *end <= size).ok_or(OUTSIDE)?;
            if copy.length == 0 {
                return Err("a copy is empty");
            }
        }
        // Objects and base spaces are far below 2^63, so their differences are numbers with a sign.
        let mut distance = 0i64;
        for copy in &mut copies {
            distance = distance.checked_add(reader.signed().ok_or(CUT)?).ok_or(OUTSIDE)?;
            copy.old = copy.new.checked_add_signed(distance).ok_or(OUTSIDE)?;
            copy.old.checked_add(copy.length).filter(|end| *end <= space).ok_or(OUTSIDE)?;
        }
        let runs = reader.number().ok_or(CUT)?;
        Ok(Plan { bases, pairs, copies, runs })
    }
}

const CUT: &str = "the list of copies is cut short";
const OUTSIDE: &str = "a copy lies outside";

/// `from`, moved by the next number.
fn step(reader: &mut Reader<'_>, from: u64) -> Result<u64, &'static str> {
    from.checked_add_signed(reader.signed().ok_or(CUT)?).ok_or(OUTSIDE)
}

fn read_pairs(reader: &mut Reader<'_>, size: u64, space: u64) -> Result<Vec<Pair>, &'static str> {
    let count = reader.number().ok_or(CUT)?;
    if count > PAIRS {
        return Err("an object has too many programs");
    }
    let (mut pairs, mut at, mut sum) = (Vec::new(), (0u64, 0u64), 0u64);
    for _ in 0..count {
        let outside = "a program lies outside";
        let start = at.0.checked_add(reader.number().ok_or(CUT)?).ok_or(outside)?;
        let length = reader.number().ok_or(CUT)?;
        let new = (start, start.checked_add(length).filter(|end| *end <= size).ok_or(outside)?);
        let start = step(reader, at.1)?;
        let length = reader.number().ok_or(CUT)?;
        sum = sum.saturating_add(length);
        if sum > PROGRAM_BYTES {
            return Err("its programs are too large to be foretold");
        }
        let old = (start, start.checked_add(length).filter(|end| *end <= space).ok_or(outside)?);
        let types = (reader.number().ok_or(CUT)?, reader.number().ok_or(CUT)?);
        if types.1 > TYPES_BYTES || types.0.checked_add(types.1).is_none_or(|end| end > length) {
            return Err("the types of a program lie outside");
        }
        let types = (types.0, types.0 + types.1);
        let (mut strings, mut numbers) = (0, Vec::new());
        if types.1 > types.0 {
            strings = reader.signed().ok_or(CUT)?;
            let count = reader.number().ok_or(CUT)?;
            if count > COPIES {
                return Err("the types of a program have too many numbers");
            }
            for _ in 0..count {
                numbers.push(reader.signed().ok_or(CUT)?);
            }
        }
        let old_pieces = read_pieces(reader, &[])?;
        let new_pieces = read_pieces(reader, &old_pieces)?;
        at = (new.1, old.1);
        pairs.push(Pair { new, old, types, strings, numbers, new_pieces, old_pieces });
    }
    Ok(pairs)
}

/// Numbers that are mostly those of `like`.
fn put_pieces(out: &mut Vec<u8>, pieces: &[Piece], like: &[Piece]) {
    put(out, pieces.len() as u64);
    for (number, piece) in pieces.iter().enumerate() {
        let like = like.get(number).copied().unwrap_or_default();
        put_signed(out, piece.offset.wrapping_sub(like.offset) as i64);
        put_signed(out, piece.address.wrapping_sub(like.address) as i64);
        put_signed(out, piece.length.wrapping_sub(like.length) as i64);
    }
}

fn read_pieces(reader: &mut Reader<'_>, like: &[Piece]) -> Result<Vec<Piece>, &'static str> {
    let count = reader.number().ok_or(CUT)?;
    if count > PIECES {
        return Err("a program has too many pieces");
    }
    (0..count as usize)
        .map(|number| {
            let like = like.get(number).copied().unwrap_or_default();
            let mut next = |like: u64| Some(like.wrapping_add(reader.signed()? as u64));
            // Any value will do: the arithmetic on addresses wraps, as that of a processor does.
            let (offset, address, length) = (next(like.offset), next(like.address), next(like.length));
            Ok(Piece { offset: offset.ok_or(CUT)?, address: address.ok_or(CUT)?, length: length.ok_or(CUT)? })
        })
        .collect()
}

/// The pair that says something about a copy to `at` from `place`, and how many bytes of it are treated alike.
pub(crate) fn extent(pair: Option<&Pair>, (at, place): (u64, u64), left: u64) -> (Option<&Pair>, u64) {
    let Some(pair) = pair else { return (None, left.min(CHUNK)) };
    if at < pair.new.0 {
        return (None, left.min(CHUNK).min(pair.new.0 - at));
    }
    // Within the new program: block by block, whether the old one is met or not.
    let block_end = pair.new.0 + ((at - pair.new.0) / BLOCK + 1) * BLOCK;
    let length = left.min(block_end - at).min(pair.new.1 - at);
    if place < pair.old.0 {
        return (None, length.min(pair.old.0 - place));
    }
    if place >= pair.old.1 {
        return (None, length);
    }
    (Some(pair), length.min(pair.old.1 - place))
}
