//! Foretelling: what copied bytes of a program become in its next version.
//!
//! When a function grows, everything behind it moves, and so does every address that anything holds: a copy of the old
//! code differs from the new in nothing but those four-byte fields. Where everything moved to is already known from the
//! copies themselves, so the fields can be foretold, and only where that fails something has to be sent.
//!
//! Both sides run this same code over the same old bytes. It decides nothing about correctness (the digest of the
//! result does); a wrong guess only costs bytes.

use crate::btf::{Section, Word};
use crate::map::{Map, Move, add_moves, longest, renumbered};
use crate::symbol::ENTRY;

/// A range of a program that is loaded as one: `offset` within the program, `address` when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) length: u64,
}

/// A program of the new object that was made from one of the bases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pair {
    /// Range of the new object.
    pub(crate) new: (u64, u64),
    /// Range of the base space.
    pub(crate) old: (u64, u64),
    /// Range of the type descriptions within the old program; empty if there are none.
    pub(crate) types: (u64, u64),
    /// How far the address of their strings moved.
    pub(crate) strings: i64,
    /// For each copy that holds the begin of an old type: the number of the new type, less what the last copy lets one
    /// expect. Empty if types are numbered from elsewhere.
    pub(crate) numbers: Vec<i64>,
    pub(crate) new_pieces: Vec<Piece>,
    pub(crate) old_pieces: Vec<Piece>,
}

/// `length` bytes at `new` of the new object resemble those at `old` of the base space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) new: u64,
    pub(crate) old: u64,
    pub(crate) length: u64,
}

/// Bytes of the new program that share one [`Mode`]: small enough to follow its sections.
pub(crate) const BLOCK: u64 = 1024;

/// How the fields of a block are found and what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Nothing is foretold.
    Plain = 0,
    /// x86-64 instructions: operands behind the opcodes that have them.
    Code = 1,
    /// Aligned 64-bit addresses.
    Address64 = 2,
    /// Aligned 32-bit addresses, sign-extended.
    Address32 = 3,
    /// Aligned 32-bit distances from the field to an address.
    Distance = 4,
    /// Aligned 32-bit numbers of anything (offsets into tables, identifiers): equal ones change equally.
    Number = 5,
    /// Type descriptions (`btf.rs`): near names and near types change equally.
    Types = 6,
    /// Aligned 32-bit distances from an address to the lowest one, less one.
    Offset = 7,
    /// Numbers of three bytes, the most significant first, from an offset that is a multiple of three, one or two more:
    /// near ones change equally (`symbol.rs`).
    Order0 = 8,
    /// See [`Mode::Order0`].
    Order1 = 9,
    /// See [`Mode::Order0`].
    Order2 = 10,
}

impl Mode {
    pub(crate) const ALL: [Mode; 11] = [
        Mode::Plain,
        Mode::Code,
        Mode::Address64,
        Mode::Address32,
        Mode::Distance,
        Mode::Number,
        Mode::Types,
        Mode::Offset,
        Mode::Order0,
        Mode::Order1,
        Mode::Order2,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Mode> {
        Mode::ALL.get(usize::from(byte)).copied()
    }
}

/// Entries of the memory of changes, as a power of two: one for so many bytes of the program, and at most one megabyte,
/// which has to stay in the processor's cache.
const SLOT_BITS: std::ops::RangeInclusive<u32> = 8..=17;
const SLOT_BYTES: u64 = 16;
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    tag: u32,
    change: u32,
}

/// What is known about one [`Pair`] while it is copied.
pub(crate) struct Foresight<'a> {
    pair: &'a Pair,
    /// By byte of the old program how far addresses moved.
    moves: Map,
    /// What the old type descriptions hold.
    section: Section,
    /// By old number of a type how it changed.
    numbers: Map,
    /// By the highest byte of an operand, which kinds of [`OPERANDS`] it can be.
    tops: [u8; 256],
    slots: Vec<Slot>,
    last_change: u32,
    /// What to put back, while the encoder only tries.
    journal: Option<Vec<(usize, Slot)>>,
    last_before_trial: u32,
}

/// Where a chunk lies: both positions are within the programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) old: u64,
    pub(crate) new: u64,
}

/// Old bytes, and where they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) place: Place,
    /// The old bytes of the whole copy that this is a part of, within the program.
    pub(crate) copy: (u64, u64),
    pub(crate) old: &'a [u8],
}

impl<'a> Foresight<'a> {
    /// `copies` are those of the whole new object, by position; `types` the bytes of the old type descriptions.
    pub(crate) fn new(pair: &'a Pair, copies: &[Copy], types: &[u8]) -> Self {
        let mut moves = Vec::new();
        let first = copies.partition_point(|copy| copy.new + copy.length <= pair.new.0);
        for copy in copies[first..].iter().take_while(|copy| copy.new < pair.new.1) {
            // A copy that begins before the program or ends behind it, in the old or the new object, is cut to it.
            let skip = pair.new.0.saturating_sub(copy.new).max(pair.old.0.saturating_sub(copy.old));
            let end = copy.length.min(pair.new.1 - copy.new).min(pair.old.1.saturating_sub(copy.old));
            if skip < end {
                let place = Place { old: copy.old + skip - pair.old.0, new: copy.new + skip - pair.new.0 };
                add_moves(pair, place, end - skip, &mut moves);
            }
        }
        let moves = Map::new(longest(moves), pair.old.1 - pair.old.0);
        let section = crate::btf::read(types);
        let mut next = 0;
        let renumbered =
            renumbered(pair, &section, copies).zip(&pair.numbers).map(|((stretch, _), difference)| {
                let new = i64::wrapping_add(next, *difference);
                next = new.wrapping_add((stretch.end - stretch.start) as i64);
                Move { change: (new as u32).wrapping_sub(stretch.start as u32), ..stretch }
            });
        let numbers = Map::new(longest(renumbered.collect()), section.types.len() as u64 + 1);
        let bits =
            ((pair.old.1 - pair.old.0) / SLOT_BYTES + 1).ilog2().clamp(*SLOT_BITS.start(), *SLOT_BITS.end());
        let slots = vec![Slot::default(); 1 << bits];
        Foresight {
            pair,
            moves,
            section,
            numbers,
            tops: tops(pair),
            slots,
            last_change: 0,
            journal: None,
            last_before_trial: 0,
        }
    }

    /// From here on changes are remembered, until [`Foresight::back`].
    pub(crate) fn try_out(&mut self) {
        self.journal = Some(Vec::new());
        self.last_before_trial = self.last_change;
    }

    /// As before [`Foresight::try_out`].
    pub(crate) fn back(&mut self) {
        for (at, slot) in self.journal.take().unwrap_or_default().into_iter().rev() {
            self.slots[at] = slot;
        }
        self.last_change = self.last_before_trial;
    }

    /// Changes `out`, which holds the old bytes at first, to what it will have become. `settle(out, end)` is called in order of
    /// `end` and has to make `out[..end]` right; what it says then is learned from.
    pub(crate) fn chunk<F>(&mut self, mode: Mode, chunk: Chunk<'_>, out: &mut [u8], mut settle: F)
    where
        F: FnMut(&mut [u8], usize),
    {
        match mode {
            Mode::Plain => {}
            Mode::Code => self.code(chunk, out, &mut settle),
            Mode::Types => self.types(chunk, out, &mut settle),
            Mode::Order0 => self.order(0, chunk, out, &mut settle),
            Mode::Order1 => self.order(1, chunk, out, &mut settle),
            Mode::Order2 => self.order(2, chunk, out, &mut settle),
            _ => self.words(mode, chunk, out, &mut settle),
        }
        settle(out, chunk.old.len());
    }

    fn code<F: FnMut(&mut [u8], usize)>(&mut self, chunk: Chunk<'_>, out: &mut [u8], settle: &mut F) {
        let Chunk { place, copy, old } = chunk;
        let Some((here, own)) = self.own(place) else { return };
        // What was copied together stays together.
        let moves_along = |target: u64| {
            let place = target.wrapping_sub(here).wrapping_add(place.old);
            copy.0 <= place && place < copy.1
        };
        let mut at = 2;
        while let Some(&[before, last, a, b, c, top]) = old.get(at - 2..).and_then(<[u8]>::first_chunk) {
            let kind = OPERANDS[usize::from(last)] & self.tops[usize::from(top)];
            if kind == 0 {
                at += 1;
                continue;
            }
            let value = u32::from_le_bytes([a, b, c, top]);
            let target = here.wrapping_add(at as u64 + 4).wrapping_add(i64::from(value as i32) as u64);
            let relative = kind & RELATIVE != 0 || (kind & SECOND_OF_JUMP != 0 && before == 0x0f);
            let known = || if moves_along(target) { Some(own) } else { self.change(target) };
            if relative && let Some(change) = known() {
                self.field(at, value, target, change.wrapping_sub(own), own, out, settle);
                at += 4;
                continue;
            }
            let address = i64::from(value as i32) as u64;
            if (kind & ABSOLUTE != 0 || (kind & SIB != 0 && before & 0xc7 == 0x04))
                && let Some(change) = self.change(address)
            {
                self.field(at, value, address, change, 0, out, settle);
                at += 4;
                continue;
            }
            at += 1;
        }
    }

    fn words<F>(&mut self, mode: Mode, chunk: Chunk<'_>, out: &mut [u8], settle: &mut F)
    where
        F: FnMut(&mut [u8], usize),
    {
        let Chunk { place, old, .. } = chunk;
        let width = if mode == Mode::Address64 { 8 } else { 4 };
        if place.old % 4 != place.new % 4 {
            return;
        }
        let own = self.own(place);
        let lowest = |pieces: &[Piece]| pieces.first().map_or(0, |piece| piece.address);
        let base = lowest(&self.pair.old_pieces);
        let base_change = lowest(&self.pair.new_pieces).wrapping_sub(base) as u32;
        let mut at = (place.old.next_multiple_of(width) - place.old) as usize;
        while at + width as usize <= old.len() {
            let word = &old[at..at + width as usize];
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let extended = i64::from(value as i32) as u64;
            match (mode, own) {
                (Mode::Address64, _) => {
                    let high = u32::from_le_bytes([word[4], word[5], word[6], word[7]]);
                    let address = u64::from(high) << 32 | u64::from(value);
                    if let Some(change) = self.change(address) {
                        self.field(at, value, address, change, 0, out, settle);
                    }
                }
                (Mode::Address32, _) => {
                    if let Some(change) = self.change(extended) {
                        self.field(at, value, extended, change, 0, out, settle);
                    }
                }
                (Mode::Offset, _) => {
                    let target = base.wrapping_add(u64::from(!value));
                    if let Some(change) = self.change(target) {
                        let moved = base_change.wrapping_sub(change);
                        self.field(at, value, target | OFFSET, moved, 0, out, settle);
                    }
                }
                (Mode::Distance, Some((here, own))) => {
                    let target = here.wrapping_add(at as u64).wrapping_add(extended);
                    if let Some(change) = self.change(target) {
                        self.field(at, value, target, change.wrapping_sub(own), own, out, settle);
                    }
                }
                (Mode::Number, _) => {
                    let change = self.number(value);
                    self.field(at, value, u64::from(value) | NUMBER, change, 0, out, settle);
                }
                _ => {}
            }
            at += width as usize;
        }
    }

    fn order<F>(&mut self, phase: u64, chunk: Chunk<'_>, out: &mut [u8], settle: &mut F)
    where
        F: FnMut(&mut [u8], usize),
    {
        let number = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        // To the first place that is `phase` more than a multiple of the length of an entry.
        let entry = ENTRY as u64;
        let first = (phase + entry - chunk.place.old % entry) % entry;
        for at in (first as usize..chunk.old.len().saturating_sub(ENTRY - 1)).step_by(ENTRY) {
            let value = number(&chunk.old[at..]);
            let change = self.near(ORDER, value);
            out[at..at + ENTRY].copy_from_slice(&value.wrapping_add(change).to_be_bytes()[1..]);
            settle(out, at + ENTRY);
            let became = number(&out[at..]).wrapping_sub(value);
            for level in LEVELS {
                self.learn(near_key(ORDER, value, level), became);
            }
        }
    }

    fn types<F: FnMut(&mut [u8], usize)>(&mut self, chunk: Chunk<'_>, out: &mut [u8], settle: &mut F) {
        let Chunk { place, old, .. } = chunk;
        let skip = self.pair.types.0.saturating_sub(place.old);
        let Some(first) = (place.old + skip).checked_sub(self.pair.types.0) else { return };
        let mut at = (skip + (first.next_multiple_of(4) - first)) as usize;
        let mut number = first.div_ceil(4) as usize;
        while at + 4 <= old.len() && number < self.section.words.len() {
            let word = self.section.words[number];
            if word != Word::Other {
                let value = u32::from_le_bytes([old[at], old[at + 1], old[at + 2], old[at + 3]]);
                let change = self.known(word, value).unwrap_or_else(|| self.near(word as u64, value));
                out[at..at + 4].copy_from_slice(&value.wrapping_add(change).to_le_bytes());
                settle(out, at + 4);
                let now = u32::from_le_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
                let became = now.wrapping_sub(value);
                for level in LEVELS {
                    self.learn(near_key(word as u64, value, level), became);
                }
            }
            at += 4;
            number += 1;
        }
    }

    /// How a word changes by where the copies put what it stands for.
    fn known(&self, word: Word, value: u32) -> Option<u32> {
        if let Some(change) = self.learned(near_key(word as u64, value, 0)) {
            return Some(change);
        }
        if word == Word::Type {
            return self.numbers.at(u64::from(value)).filter(|_| value > 0);
        }
        let place = self.pair.types.0 + u64::from(self.section.strings) + u64::from(value);
        Some(self.moves.at(place)?.wrapping_sub(self.pair.strings as u32)).filter(|_| value > 0)
    }

    /// How something of this kind with nearly this value last changed.
    fn near(&self, kind: u64, value: u32) -> u32 {
        LEVELS.iter().find_map(|&level| self.learned(near_key(kind, value, level))).unwrap_or(0)
    }

    /// How the field with this key last changed.
    #[inline]
    fn learned(&self, key: u64) -> Option<u32> {
        let (slot, tag) = slot_of(key, &self.slots);
        let slot = self.slots[slot];
        (slot.tag == tag).then_some(slot.change)
    }

    #[inline]
    fn learn(&mut self, key: u64, change: u32) {
        let (slot, tag) = slot_of(key, &self.slots);
        if let Some(journal) = &mut self.journal {
            journal.push((slot, self.slots[slot]));
        }
        self.slots[slot] = Slot { tag, change };
    }

    /// Writes one field, lets it be settled, and learns what it became.
    #[expect(clippy::too_many_arguments, reason = "the innermost step, called from two loops")]
    #[inline]
    fn field<F: FnMut(&mut [u8], usize)>(
        &mut self,
        at: usize,
        value: u32,
        key: u64,
        change: u32,
        own: u32,
        out: &mut [u8],
        settle: &mut F,
    ) {
        out[at..at + 4].copy_from_slice(&value.wrapping_add(change).to_le_bytes());
        settle(out, at + 4);
        let now = u32::from_le_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
        let became = now.wrapping_sub(value).wrapping_add(own);
        self.last_change = became;
        self.learn(key, became);
    }

    /// How far the address moves, if it is one of the old program.
    #[inline]
    fn change(&self, address: u64) -> Option<u32> {
        let piece =
            self.pair.old_pieces.iter().find(|piece| address.wrapping_sub(piece.address) < piece.length)?;
        if let Some(change) = self.learned(address) {
            return Some(change);
        }
        let old = address.wrapping_sub(piece.address).wrapping_add(piece.offset);
        self.moves.at(old)
    }

    fn number(&self, value: u32) -> u32 {
        self.learned(u64::from(value) | NUMBER).unwrap_or(self.last_change)
    }

    /// Address of the first old byte, and how far that itself moves.
    fn own(&self, place: Place) -> Option<(u64, u32)> {
        let old = address(&self.pair.old_pieces, place.old)?;
        let new = address(&self.pair.new_pieces, place.new)?;
        Some((old, new.wrapping_sub(old) as u32))
    }
}

/// A kind beside those of [`Word`].
const ORDER: u64 = 3;

/// Bits of a value that are left out to find what was near it.
const LEVELS: [u32; 4] = [0, 4, 8, 32];

/// Tells numbers from addresses in the memory of changes.
const NUMBER: u64 = 1 << 62;
const OFFSET: u64 = 1 << 61;

fn near_key(kind: u64, value: u32, level: u32) -> u64 {
    u64::from(value) >> level | kind << 40 | u64::from(level) << 48 | 1 << 63
}

/// Most operands that lead nowhere can be told by their highest byte.
fn tops(pair: &Pair) -> [u8; 256] {
    std::array::from_fn(|top| {
        let first = (i64::from(top as u8 as i8) << 24) as u64;
        let meets = |start: u64, length: u64| {
            first.wrapping_sub(start) < length || start.wrapping_sub(first) < 1 << 24
        };
        let pieces = &pair.old_pieces;
        let absolute = pieces.iter().any(|piece| meets(piece.address, piece.length));
        let relative =
            pieces.iter().flat_map(|from| pieces.iter().map(move |to| (from, to))).any(|(from, to)| {
                let least = to.address.wrapping_sub(from.address).wrapping_sub(from.length);
                meets(least, to.length.saturating_add(from.length))
            });
        (if absolute { ABSOLUTE | SIB } else { 0 }) | (if relative { RELATIVE | SECOND_OF_JUMP } else { 0 })
    })
}

/// Where a change of `key` is remembered, and what tells it from others there.
#[inline]
fn slot_of(key: u64, slots: &[Slot]) -> (usize, u32) {
    let hash = (key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash >> 40) as usize & (slots.len() - 1), (hash >> 8) as u32)
}

pub(crate) fn address(pieces: &[Piece], offset: u64) -> Option<u64> {
    let piece = pieces.iter().find(|piece| offset.wrapping_sub(piece.offset) < piece.length)?;
    Some(offset.wrapping_sub(piece.offset).wrapping_add(piece.address))
}

pub(crate) const RELATIVE: u8 = 1;
pub(crate) const SECOND_OF_JUMP: u8 = 2;
pub(crate) const ABSOLUTE: u8 = 4;
pub(crate) const SIB: u8 = 8;

/// For each byte that may stand directly before a four-byte operand, what the operand is then. Source: Intel's manual,
/// volume 2, appendix A. False alarms are rare: the operand must also lead into the program.
pub(crate) const OPERANDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let last = byte as u8;
        let mut kind = 0;
        // call, jmp
        if last == 0xe8 || last == 0xe9 {
            kind |= RELATIVE;
        }
        // ModRM: disp32 from the next instruction
        if last & 0xc7 == 0x05 {
            kind |= RELATIVE;
        }
        // jcc, behind 0f
        if last & 0xf0 == 0x80 {
            kind |= SECOND_OF_JUMP;
        }
        // mov r32, imm32; push imm32; cmp/test eax, imm32; ModRM with disp32; ModRM of a register before imm32
        if last & 0xf8 == 0xb8 || last == 0x68 || last == 0x3d || last & 0xc0 == 0x80 || last & 0xf8 == 0xc0 {
            kind |= ABSOLUTE;
        }
        // SIB without base, behind a ModRM that asks for one
        if last & 0x07 == 0x05 {
            kind |= SIB;
        }
        kinds[byte] = kind;
        byte += 1;
    }
    kinds
};
