//! Finding what of the old bytes the new ones resemble.
//!
//! ```text
//!  blocks    equal blocks of 4 KiB, by hash over everything old: what did not change, wherever it moved
//!  index     every window of 8 bytes of what is left of the old, and what lies around it
//!  seeds     equal stretches, chosen as bsdiff does: another alignment has to be clearly better than the present one
//!  copies    seeds grown over differences as long as most bytes agree; what lies between them is new
//! ```
//!
//! Comparison is of *masked* bytes: addresses in programs are blanked out, because they are foretold later and would
//! break a function that merely moved into small pieces.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::limit::{COPIES, OBJECT_BASES};
use crate::mask::blank;
use crate::model::Copy;
use crate::program::Program;

/// What is compared by hash first; files in an EROFS image begin at its multiples.
const BLOCK: usize = 4096;
/// Bytes of a window of the index.
const WINDOW: usize = 8;
/// Most windows in the index: 4 bytes each, and as much for its heads. More old bytes are sampled.
const MOST_WINDOWS: usize = 64 << 20;
/// Candidates looked at on each side of the expected place.
const CANDIDATES: usize = 12;
/// A run of equal bytes this long needs no look for a better alignment.
const CERTAIN: usize = 16;
/// Equal bytes that another alignment must have beyond those of the present one: what a further copy costs.
const GAIN: usize = 8;
/// Old bytes that are indexed around a block that changed, on each side.
const AROUND: usize = 64 << 10;

/// Everything old, one base after the other.
#[derive(Default)]
pub(crate) struct Space {
    pub(crate) bytes: Vec<u8>,
    /// The same; programs that something may resemble are masked in it.
    masked: Vec<u8>,
    /// Which of `programs` are.
    is_masked: Vec<bool>,
    /// Where each base begins.
    pub(crate) starts: Vec<usize>,
    /// By position.
    pub(crate) programs: Vec<Program>,
    /// (hash, place) of every block, sorted.
    blocks: Vec<(u64, u32)>,
}

/// A stretch of equal bytes.
#[derive(Debug, Clone, Copy)]
struct Seed {
    new: usize,
    end: usize,
    old: usize,
}

impl Seed {
    /// Place in the old of the new byte at `at`, if there is one.
    fn opposite(&self, at: usize, limit: usize) -> Option<usize> {
        (self.old + at).checked_sub(self.new).filter(|&old| old < limit)
    }
}

impl Space {
    /// Adds a base; the caller has checked that places fit into 32 bits.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let start = self.bytes.len();
        let mut programs = crate::program::find(bytes);
        self.masked.extend_from_slice(bytes);
        self.is_masked.resize(self.programs.len() + programs.len(), false);
        programs.iter_mut().for_each(|program| program.shift(start));
        self.programs.append(&mut programs);
        self.starts.push(start);
        self.bytes.extend_from_slice(bytes);
        let varied = |block: &[u8]| block.iter().any(|&byte| byte != block[0]);
        let blocks = bytes.chunks_exact(BLOCK).zip((start..).step_by(BLOCK));
        self.blocks
            .extend(blocks.filter(|(block, _)| varied(block)).map(|(block, at)| (hash(block), at as u32)));
        if bytes.len() >= BLOCK {
            self.blocks.sort();
        }
    }

    /// Where a base lies.
    pub(crate) fn range(&self, base: usize) -> Range<usize> {
        self.starts[base]..self.starts.get(base + 1).copied().unwrap_or(self.bytes.len())
    }

    /// Copies that make most of `new`, by position and without overlap; none crosses the border of a base. `likely` is
    /// the base that `new` probably resembles.
    pub(crate) fn copies(&mut self, new: &[u8], programs: &[Program], likely: Option<usize>) -> Vec<Copy> {
        let equal = self.equal_blocks(new);
        let mut related: Vec<bool> = vec![false; self.starts.len()];
        if let Some(base) = likely {
            related[base] = true;
        }
        for seed in &equal {
            related[self.starts.partition_point(|&start| start <= seed.old) - 1] = true;
        }
        if !related.contains(&true) {
            related.fill(true);
        }
        let ranges =
            (0..self.starts.len()).filter(|&base| related[base]).map(|base| self.range(base)).collect();
        let ranges = worth_a_look(ranges, &equal);
        self.mask(&ranges);
        let mut masked = new.to_vec();
        // A program that did not change is compared as it is, and never with another.
        let changed = |program: &&Program| {
            let last = equal.partition_point(|seed| seed.new <= program.start);
            last == 0 || equal[last - 1].end < program.end
        };
        programs
            .iter()
            .filter(changed)
            .for_each(|program| blank(program, &mut masked[program.start..program.end]));
        let index = Index::new(&self.masked, &ranges);
        let seeds = self.seeds(&masked, &equal, &index);
        let mut copies = split(self.grow(&masked, &seeds), &self.starts);
        copies.truncate(COPIES as usize);
        let mut bases = BTreeSet::new();
        copies.retain(|copy| {
            let base = self.starts.partition_point(|&start| start as u64 <= copy.old);
            bases.contains(&base) || (bases.len() < OBJECT_BASES as usize && bases.insert(base))
        });
        copies
    }

    /// Masks the programs that lie in some ranges.
    fn mask(&mut self, ranges: &[Range<usize>]) {
        for (program, is_masked) in self.programs.iter().zip(&mut self.is_masked) {
            let range = ranges.partition_point(|range| range.end <= program.start);
            if !*is_masked && ranges.get(range).is_some_and(|range| range.start < program.end) {
                blank(program, &mut self.masked[program.start..program.end]);
                *is_masked = true;
            }
        }
    }

    /// Stretches of equal bytes that hold at least one equal block.
    fn equal_blocks(&self, new: &[u8]) -> Vec<Seed> {
        let mut found: Vec<Seed> = Vec::new();
        for (block, at) in new.chunks_exact(BLOCK).zip((0..).step_by(BLOCK)) {
            let last = found.last().copied();
            if last.is_some_and(|seed| seed.end >= at + BLOCK) {
                continue;
            }
            let hash = hash(block);
            let first = self.blocks.partition_point(|&(other, _)| other < hash);
            let same = self.blocks[first..].iter().take_while(|&&(other, _)| other == hash).take(CANDIDATES);
            let best = same
                .map(|&(_, old)| old as usize)
                .filter(|&old| self.bytes[old..].starts_with(block))
                .max_by_key(|&old| common(&self.bytes[old..], &new[at..]));
            let Some(old) = best else { continue };
            let floor = last.map_or(0, |seed| seed.end);
            let back = common_back(&self.bytes[..old], &new[floor..at]);
            let length = common(&self.bytes[old..], &new[at..]);
            found.push(Seed { new: at - back, end: at + length, old: old - back });
        }
        found
    }

    fn seeds(&self, new: &[u8], equal: &[Seed], index: &Index) -> Vec<Seed> {
        let old = &self.masked[..];
        let mut seeds: Vec<Seed> = Vec::new();
        let mut equal = equal.iter().peekable();
        let mut at = 0;
        while at < new.len() {
            while equal.peek().is_some_and(|seed| seed.end <= at) {
                equal.next();
            }
            let here = seeds.last().copied();
            let opposite = here.and_then(|seed| seed.opposite(at, old.len()));
            // Equal blocks need no comparison, and may be masked on one side only.
            if let Some(seed) = equal.peek().filter(|seed| seed.new <= at) {
                let place = seed.old + at - seed.new;
                match seeds.last_mut().filter(|_| opposite == Some(place)) {
                    Some(last) => last.end = seed.end,
                    None => seeds.push(Seed { new: at, end: seed.end, old: place }),
                }
                at = seed.end;
                continue;
            }
            if let (Some(place), Some(seed)) = (opposite, seeds.last_mut()) {
                let run = common(&old[place..], &new[at..]);
                if run >= CERTAIN {
                    at += run;
                    seed.end = at;
                    continue;
                }
            }
            if let Some((place, length)) = index.longest(old, &new[at..], opposite.unwrap_or(at)) {
                let present = opposite.map_or(0, |old_at| equal_bytes(&old[old_at..], &new[at..at + length]));
                if length > present + GAIN {
                    seeds.push(Seed { new: at, end: at + length, old: place });
                    at += length;
                    continue;
                }
            }
            at += 1;
        }
        seeds
    }

    /// Grows every seed to both sides, over differences too.
    fn grow(&self, new: &[u8], seeds: &[Seed]) -> Vec<Copy> {
        let old = &self.masked[..];
        let mut copies: Vec<Copy> = Vec::with_capacity(seeds.len());
        let mut start =
            seeds.first().map_or(0, |seed| seed.new - grow_back(&old[..seed.old], &new[..seed.new]));
        for (number, seed) in seeds.iter().enumerate() {
            let next = seeds.get(number + 1);
            let limit = next.map_or(new.len(), |next| next.new);
            let place = seed.old + (seed.end - seed.new);
            let mut end = seed.end + grow_forward(&old[place..], &new[seed.end..limit]);
            let mut next_start = limit;
            if let Some(next) = next {
                next_start = next.new - grow_back(&old[..next.old], &new[seed.end..next.new]);
                if next_start < end {
                    end = border(old, new, (seed, next), (next_start, end));
                    next_start = end;
                }
            }
            let first = seed.old + start - seed.new;
            copies.push(Copy { new: start as u64, old: first as u64, length: (end - start) as u64 });
            start = next_start;
        }
        copies
    }
}

/// The parts of `ranges` that no equal stretch came from, and what lies around them.
fn worth_a_look(ranges: Vec<Range<usize>>, equal: &[Seed]) -> Vec<Range<usize>> {
    let mut taken: Vec<Range<usize>> =
        equal.iter().map(|seed| seed.old..seed.old + seed.end - seed.new).collect();
    taken.sort_unstable_by_key(|range| (range.start, range.end));
    let mut parts: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        let mut at = range.start;
        let first = taken.partition_point(|other| other.start < range.start);
        let ends = std::iter::once(range.end..range.end);
        for other in taken[first..].iter().take_while(|other| other.start < range.end).cloned().chain(ends) {
            if other.start > at {
                let part = at.saturating_sub(AROUND).max(range.start)..(other.start + AROUND).min(range.end);
                match parts.last_mut() {
                    Some(last) if last.end >= part.start => last.end = part.end,
                    _ => parts.push(part),
                }
            }
            at = at.max(other.end);
        }
    }
    parts
}

/// Copies that cross the border of two bases become two.
fn split(copies: Vec<Copy>, starts: &[usize]) -> Vec<Copy> {
    let mut out = Vec::with_capacity(copies.len());
    for mut copy in copies {
        let first = starts.partition_point(|&start| start as u64 <= copy.old);
        for border in starts[first..].iter().map(|&start| start as u64) {
            if border >= copy.old + copy.length {
                break;
            }
            let length = border - copy.old;
            out.push(Copy { length, ..copy });
            copy = Copy { new: copy.new + length, old: border, length: copy.length - length };
        }
        if copy.length > 0 {
            out.push(copy);
        }
    }
    out
}

/// Where to pass from the first seed to the second, if both could make `range`: so that most bytes agree.
fn border(old: &[u8], new: &[u8], seeds: (&Seed, &Seed), range: (usize, usize)) -> usize {
    let (mut best, mut most, mut score) = (range.0, 0i64, 0i64);
    for at in range.0..range.1 {
        let first = old[seeds.0.old + at - seeds.0.new] == new[at];
        let second = old[seeds.1.old + at - seeds.1.new] == new[at];
        score += i64::from(first) - i64::from(second);
        if score > most {
            (best, most) = (at + 1, score);
        }
    }
    best
}

/// How far it is worth going on: where twice the equal bytes less all of them is greatest.
fn grow_forward(old: &[u8], new: &[u8]) -> usize {
    let (mut best, mut most, mut score) = (0, 0i64, 0i64);
    for (at, (a, b)) in old.iter().zip(new).enumerate() {
        score += if a == b { 1 } else { -1 };
        if score > most {
            (best, most) = (at + 1, score);
        }
        if score + GIVE_UP < most {
            break;
        }
    }
    best
}

/// The same backwards from the ends of `old` and `new`.
fn grow_back(old: &[u8], new: &[u8]) -> usize {
    let (mut best, mut most, mut score) = (0, 0i64, 0i64);
    for (at, (a, b)) in old.iter().rev().zip(new.iter().rev()).enumerate() {
        score += if a == b { 1 } else { -1 };
        if score > most {
            (best, most) = (at + 1, score);
        }
        if score + GIVE_UP < most {
            break;
        }
    }
    best
}

/// Differences beyond which growing gives up.
const GIVE_UP: i64 = 256;

/// Windows of the old by hash, those of one hash by place.
struct Index {
    heads: Vec<u32>,
    places: Vec<u32>,
    shift: u32,
}

impl Index {
    fn new(old: &[u8], ranges: &[Range<usize>]) -> Self {
        let total: usize = ranges.iter().map(Range::len).sum();
        let step = total.div_ceil(MOST_WINDOWS).max(1);
        let bits = (total / step).max(2).ilog2().clamp(8, 24);
        let shift = 64 - bits;
        let mut heads = vec![0u32; (1 << bits) + 2];
        each_window(old, ranges, step, |_, window| heads[bucket(window, shift) + 2] += 1);
        for at in 2..heads.len() {
            heads[at] += heads[at - 1];
        }
        let mut places = vec![0; heads[heads.len() - 1] as usize];
        each_window(old, ranges, step, |place, window| {
            let head = &mut heads[bucket(window, shift) + 1];
            places[*head as usize] = place as u32;
            *head += 1;
        });
        Index { heads, places, shift }
    }

    /// The longest stretch of the old that `new` begins with, near `expected` if there are many.
    fn longest(&self, old: &[u8], new: &[u8], expected: usize) -> Option<(usize, usize)> {
        let window = u64::from_le_bytes(*new.first_chunk::<WINDOW>()?);
        if is_run(window) {
            return None;
        }
        let bucket = bucket(window, self.shift);
        let places = &self.places[self.heads[bucket] as usize..self.heads[bucket + 1] as usize];
        let near = if places.len() > 2 * CANDIDATES {
            let middle = places.partition_point(|&place| (place as usize) < expected);
            &places[middle.saturating_sub(CANDIDATES)..(middle + CANDIDATES).min(places.len())]
        } else {
            places
        };
        let mut best: Option<(usize, usize)> = None;
        for &place in near {
            let place = place as usize;
            let longest = best.map_or(WINDOW - 1, |(_, length)| length);
            if new.get(longest).is_none() || old.get(place + longest) != new.get(longest) {
                continue;
            }
            let length = common(&old[place..], new);
            let closer = best.is_some_and(|(other, same)| {
                same == length && other.abs_diff(expected) > place.abs_diff(expected)
            });
            if length > longest || closer {
                best = Some((place, length));
            }
        }
        best
    }
}

fn each_window(old: &[u8], ranges: &[Range<usize>], step: usize, mut each: impl FnMut(usize, u64)) {
    for range in ranges {
        let mut at = range.start;
        while at + WINDOW <= range.end {
            let window = u64::from_le_bytes(old[at..at + WINDOW].try_into().unwrap_or_default());
            if !is_run(window) {
                each(at, window);
            }
            at += step;
        }
    }
}

fn is_run(window: u64) -> bool {
    window == (window & 0xff).wrapping_mul(0x0101_0101_0101_0101)
}

fn bucket(window: u64, shift: u32) -> usize {
    (window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}

fn hash(block: &[u8]) -> u64 {
    let mut hash = 0u64;
    for word in block.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    hash
}

/// How many bytes both begin with.
pub(crate) fn common(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let mut at = 0;
    while at + 8 <= length {
        let x = u64::from_le_bytes(a[at..at + 8].try_into().unwrap_or_default());
        let y = u64::from_le_bytes(b[at..at + 8].try_into().unwrap_or_default());
        if x != y {
            return at + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(x, y)| x == y).count()
}

fn common_back(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count()
}

fn equal_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).filter(|(x, y)| x == y).count()
}
