//! What is compared when old and new are matched: bytes without what merely moved.
//!
//! A function that only lies elsewhere calls others over other distances, and the pointers to it hold other addresses.
//! With those fields blanked out it is equal to what it was, and found as one piece. The encoder alone does this; how
//! the fields come back is foretold (see `model.rs`).

use std::ops::Range;

use crate::model::{ABSOLUTE, OPERANDS, Piece, RELATIVE, SECOND_OF_JUMP, SIB, address};
use crate::program::Program;
use crate::symbol::{self, ENTRY};

/// Blanks out, in the bytes of one program, what would be foretold if everything moved.
pub(crate) fn blank(program: &Program, bytes: &mut [u8]) {
    let length = program.end - program.start;
    crate::btf::spell_out(&mut bytes[program.types.0.min(length)..program.types.1.min(length)]);
    if program.pieces.is_empty() {
        return;
    }
    let inside =
        |address: u64| program.pieces.iter().any(|piece| address.wrapping_sub(piece.address) < piece.length);
    let code: Vec<Range<usize>> =
        program.code.iter().map(|&(start, end)| start - program.start..end - program.start).collect();
    for range in &code {
        if let Some(here) = address(&program.pieces, range.start as u64) {
            blank_code(&mut bytes[range.clone()], here, inside);
        }
    }
    let snapshot = bytes.to_vec();
    let data = Data { bytes: &snapshot, pieces: &program.pieces, code: &code };
    let mut at = 0;
    for range in &code {
        data.blank(at..range.start.max(at), bytes);
        at = at.max(range.end);
    }
    data.blank(at..length, bytes);
}

/// Entries of a falling table that may be a kernel's list of symbols.
const SYMBOLS: usize = 10_000;

/// What of a program is not code.
struct Data<'a> {
    /// The program with its code blanked out.
    bytes: &'a [u8],
    pieces: &'a [Piece],
    code: &'a [Range<usize>],
}

impl Data<'_> {
    /// Addresses become what they lead to, sorted tables the steps from entry to entry.
    fn blank(&self, range: Range<usize>, out: &mut [u8]) {
        let mut at = range.start.next_multiple_of(8);
        let mut run: Vec<u32> = Vec::new();
        while at + 8 <= range.end {
            let bytes = &self.bytes[at..range.end];
            let value = u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default());
            if value == 0 {
                at += 8;
                continue;
            }
            if value > u64::from(FAR)
                && let Some(place) = self.place(value)
            {
                out[at..at + 4].copy_from_slice(&self.spelled(place).to_le_bytes());
                at += 8;
                continue;
            }
            run.clear();
            let here = address(self.pieces, at as u64);
            if let Some(here) = here {
                ascending(bytes, here as u32, &mut run);
                if run.len() < SORTED {
                    descending(bytes, &mut run);
                }
            }
            if run.len() >= SORTED {
                if run.len() > SYMBOLS && run[0] > run[1..][SYMBOLS - 1] {
                    self.order(at, out);
                }
                let mut last = run[0];
                for (field, &value) in out[at..].chunks_exact_mut(4).zip(&run) {
                    field.copy_from_slice(&value.wrapping_sub(last).to_le_bytes());
                    last = value;
                }
                at += run.len() * 4 / 8 * 8;
                continue;
            }
            if let Some(here) = here
                && at.is_multiple_of(GROUP)
                && bytes.len() >= GROUP
            {
                self.distances(&bytes[..GROUP], here, &mut out[at..at + GROUP]);
            }
            at += 8;
        }
    }

    /// Spells out the order of symbols by name, if the falling table at `run` has one.
    fn order(&self, run: usize, out: &mut [u8]) {
        let lowest = self.pieces.first().map_or(0, |piece| piece.address);
        let Some(list) = symbol::find(self.bytes, run, lowest) else { return };
        let offsets = &self.bytes[list.offsets];
        for at in list.order.step_by(ENTRY) {
            let offset =
                symbol::number(self.bytes, at).and_then(|number| offsets.get(number * 4..number * 4 + 4));
            let offset =
                offset.map_or(0, |field| u32::from_le_bytes([field[0], field[1], field[2], field[3]]));
            let place = self.place(lowest.wrapping_add(u64::from(!offset)));
            let spelled =
                place.map_or(0, |place| hash(&self.bytes[place..self.bytes.len().min(place + SYMBOL)]));
            out[at..at + ENTRY].copy_from_slice(&spelled.to_le_bytes()[..ENTRY]);
        }
    }

    /// Distances, if most of a group are such.
    fn distances(&self, bytes: &[u8], here: u64, out: &mut [u8]) {
        let field = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let places: [Option<usize>; GROUP / 4] = std::array::from_fn(|number| {
            let value = field(number * 4);
            let target = here.wrapping_add(number as u64 * 4).wrapping_add(i64::from(value) as u64);
            self.place(target).filter(|&place| value.unsigned_abs() > FAR && self.spelled(place) != 0)
        });
        let count = places.iter().flatten().count();
        let zeros = (0..GROUP / 4).filter(|&number| field(number * 4) == 0).count();
        if count < 4 || count * 5 < (GROUP / 4 - zeros) * 3 {
            return;
        }
        for (field, place) in out.chunks_exact_mut(4).zip(places) {
            if let Some(place) = place {
                field.copy_from_slice(&self.spelled(place).to_le_bytes());
            }
        }
    }

    /// Where in the program the address leads to.
    fn place(&self, address: u64) -> Option<usize> {
        let piece = self.pieces.iter().find(|piece| address.wrapping_sub(piece.address) < piece.length)?;
        Some((address - piece.address + piece.offset) as usize).filter(|&place| place < self.bytes.len())
    }

    /// A number that is mostly equal for equal code or text; 0 for other data, which holds addresses itself.
    fn spelled(&self, place: usize) -> u32 {
        let bytes = &self.bytes[place..];
        let bytes = &bytes[..bytes.len().min(SPELLED)];
        let range = self.code.partition_point(|range| range.end <= place);
        let text = if self.code.get(range).is_some_and(|range| range.start <= place) {
            bytes
        } else {
            let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            if text.len() < 3 || text.iter().any(|byte| !(b' '..0x7f).contains(byte)) {
                return 0;
            }
            text
        };
        hash(text)
    }
}

fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Bytes that are taken for what a symbol stands for: many functions begin alike.
const SYMBOL: usize = 64;
/// Bytes that are taken for what an address leads to.
const SPELLED: usize = 16;
/// Bytes of which most have to be distances.
const GROUP: usize = 64;
/// Entries that a sorted table must have to be taken for one.
const SORTED: usize = 16;
/// Numbers below this are more often numbers than addresses.
const FAR: u32 = 0x1_0000;
/// Largest step from one entry of such a table to the next.
const STEP: u32 = 1 << 16;

/// Fields that descend.
fn descending(bytes: &[u8], run: &mut Vec<u32>) {
    run.clear();
    for field in bytes.chunks_exact(4) {
        let value = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
        if run.last().is_some_and(|&last| value > last || last - value > STEP) || value < FAR {
            return;
        }
        run.push(value);
    }
}

/// The addresses that the fields `bytes` begins with lead to, as distances from themselves, as long as they ascend.
fn ascending(bytes: &[u8], here: u32, run: &mut Vec<u32>) {
    for (number, field) in bytes.chunks_exact(4).enumerate() {
        let at = here.wrapping_add(number as u32 * 4);
        let target = u32::from_le_bytes([field[0], field[1], field[2], field[3]]).wrapping_add(at);
        if run.last().is_some_and(|&last| target < last || target - last > STEP) {
            return;
        }
        run.push(target);
    }
}

fn blank_code(code: &mut [u8], here: u64, inside: impl Fn(u64) -> bool) {
    let mut at = 2;
    while at + 4 <= code.len() {
        let (before, last) = (code[at - 2], code[at - 1]);
        let kind = OPERANDS[usize::from(last)];
        if kind != 0 {
            let value =
                i64::from(i32::from_le_bytes([code[at], code[at + 1], code[at + 2], code[at + 3]])) as u64;
            let relative = kind & RELATIVE != 0 || (kind & SECOND_OF_JUMP != 0 && before == 0x0f);
            let absolute = kind & ABSOLUTE != 0 || (kind & SIB != 0 && before & 0xc7 == 0x04);
            if relative && inside(here.wrapping_add(at as u64 + 4).wrapping_add(value))
                || absolute && inside(value)
            {
                code[at..at + 4].fill(0);
                at += 4;
                continue;
            }
        }
        at += 1;
    }
}
