//! A kernel's own list of its symbols (kallsyms): the order of their names.
//!
//! ```text
//!  offsets   4 * n   by address: -1 less the distance from the lowest address (those of a processor: their own offset)
//!  lowest    8       at a multiple of 8
//!  ..                names, packed with tokens; markers
//!  order     3 * n   numbers of the symbols in the order of their names, most significant byte first
//! ```
//!
//! A symbol that is added gives all later ones another number, so nearly every entry of the order changes, and no two
//! neighbours alike. What an entry stands for is code at an address, and that is mostly the same. Source: kernel
//! `scripts/kallsyms.c`.

use std::ops::Range;

/// Bytes of a number in the order.
pub(crate) const ENTRY: usize = 3;
/// Less is no list of a kernel.
const LEAST: usize = 10_000;
/// More symbols than any kernel has; a number has to be below.
const MOST: usize = 1 << 18;
/// How far behind the offsets the order is looked for.
const FAR: usize = 8 << 20;
/// Gap between two symbols, beyond which the offsets are taken for something else.
const GAP: u32 = 1 << 28;

/// Where the offsets and the order lie.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) offsets: Range<usize>,
    pub(crate) order: Range<usize>,
}

/// The list in `bytes`, whose offsets hold a falling run that begins at `run`; `lowest` is the lowest address.
pub(crate) fn find(bytes: &[u8], run: usize, lowest: u64) -> Option<List> {
    let mut end = run;
    let mut last = word(bytes, run)?;
    while let Some(next) = word(bytes, end).filter(|&next| next <= last && last - next < GAP) {
        (last, end) = (next, end + 4);
    }
    // The run goes on over a gap of alignment and a part of the lowest address.
    let base = (end.saturating_sub(16).next_multiple_of(8)..end + 16)
        .step_by(8)
        .find(|&at| bytes.get(at..at + 8) == Some(&lowest.to_le_bytes()))?;
    let order = permutation(bytes, base + 8)?;
    let count = order.len() / ENTRY;
    let start = base.checked_sub(4 * count)? / 8 * 8;
    Some(List { offsets: start..start + 4 * count, order })
}

/// The first place where the numbers below some count stand, each once.
fn permutation(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut seen = vec![usize::MAX; MOST];
    for start in (from..bytes.len().min(from + FAR)).step_by(4) {
        let mut end = start;
        while let Some(number) = number(bytes, end).filter(|&number| number < MOST && seen[number] != start) {
            seen[number] = start;
            end += ENTRY;
        }
        let count = (end - start) / ENTRY;
        if count >= LEAST && seen[..count].iter().all(|&at| at == start) {
            return Some(start..end);
        }
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An entry of the order.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let entry = bytes.get(at..at + ENTRY)?;
    Some(usize::from(entry[0]) << 16 | usize::from(entry[1]) << 8 | usize::from(entry[2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_found_by_its_form() {
        let (count, lowest) = (12_001usize, 0xffff_ffff_8100_0000u64);
        let mut bytes = vec![0xaa; 64];
        let offsets = bytes.len()..bytes.len() + 4 * count;
        (0..count as u32).for_each(|at| bytes.extend_from_slice(&(u32::MAX - at * 16).to_le_bytes()));
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&lowest.to_le_bytes());
        bytes.extend_from_slice(&[0x77; 400]);
        let order = bytes.len()..bytes.len() + ENTRY * count;
        (0..count).for_each(|at| bytes.extend_from_slice(&((at * 7) % count).to_be_bytes()[5..]));
        bytes.extend_from_slice(&[0xff; 64]);
        assert_eq!(find(&bytes, 64, lowest), Some(List { offsets, order }));
        assert_eq!(find(&bytes, 64, lowest + 1), None);
        assert_eq!(find(&bytes, 0, lowest), None);
    }
}
