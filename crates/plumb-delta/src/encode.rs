//! One new object into the streams of a block.

use crate::btf::Word;
use crate::limit::{PAIRS, PROGRAM_BYTES};
use crate::map::renumbered;
use crate::model::{BLOCK, Chunk, Copy, Foresight, Mode, Pair, Place, address};
use crate::plan::{Plan, extent};
use crate::program::Program;
use crate::search::{Space, common};
use crate::varint::put;

/// The streams of a block before they are packed; drawn in `lib.rs`.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) copies: Vec<u8>,
    pub(crate) modes: Vec<u8>,
    pub(crate) gaps: Vec<u8>,
    pub(crate) lengths: Vec<u8>,
    pub(crate) fixes: Vec<u8>,
    pub(crate) literals: Vec<u8>,
}

impl Streams {
    /// Appends `new`, made of what `space` has; `likely` is the base that it replaces. `number` gives the bases that are
    /// used the numbers they have in the delta.
    pub(crate) fn object(
        &mut self,
        space: &mut Space,
        new: &[u8],
        likely: Option<usize>,
        number: &mut dyn FnMut(usize) -> u64,
    ) {
        let programs = crate::program::find(new);
        let copies = space.copies(new, &programs, likely);
        let pairs = pairs(space, &copies, new, &programs);
        let runs = self.residual(&space.bytes, new, &copies, &pairs);
        self.literals_between(new, &copies);
        let mut plan = Plan { bases: Vec::new(), pairs, copies, runs };
        plan.bases = localize(space, &mut plan).into_iter().map(number).collect();
        plan.write(&mut self.copies);
    }

    /// Appends `new` as it is.
    pub(crate) fn whole(&mut self, new: &[u8]) {
        self.literals_between(new, &[]);
        Plan::default().write(&mut self.copies);
    }

    fn literals_between(&mut self, new: &[u8], copies: &[Copy]) {
        let mut end = 0;
        for copy in copies {
            self.literals.extend_from_slice(&new[end..copy.new as usize]);
            end = (copy.new + copy.length) as usize;
        }
        self.literals.extend_from_slice(&new[end..]);
    }

    /// What the copies do not say, after everything was foretold. Returns the number of runs.
    fn residual(&mut self, old: &[u8], new: &[u8], copies: &[Copy], pairs: &[Pair]) -> u64 {
        let mut residual = Residual { streams: self, copied: 0, written: 0, runs: 0 };
        let mut pairs = pairs.iter().peekable();
        let mut known: Option<(&Pair, Foresight<'_>)> = None;
        // The chunks of one block of a program: they share a mode.
        let (mut steps, mut block): (Vec<Step<'_>>, u64) = (Vec::new(), 0);
        for copy in copies {
            let mut done = 0;
            while done < copy.length {
                let (at, place) = (copy.new + done, copy.old + done);
                while pairs.next_if(|pair| pair.new.1 <= at).is_some() {}
                let (pair, length) = extent(pairs.peek().copied(), (at, place), copy.length - done);
                let origin = pair.map_or((0, 0), |pair| (pair.old.0, pair.new.0));
                let step = Step {
                    chunk: Chunk {
                        place: Place { old: place - origin.0, new: at - origin.1 },
                        copy: (
                            copy.old.saturating_sub(origin.0),
                            (copy.old + copy.length).saturating_sub(origin.0),
                        ),
                        old: &old[place as usize..(place + length) as usize],
                    },
                    new: &new[at as usize..(at + length) as usize],
                };
                done += length;
                let same = known.as_ref().zip(pair).is_some_and(|((of, _), pair)| std::ptr::eq(*of, pair));
                let number = step.chunk.place.new / BLOCK;
                if let Some((_, foresight)) = &mut known
                    && (!same || number != block)
                {
                    residual.block(foresight, &steps);
                    steps.clear();
                }
                let Some(pair) = pair else {
                    residual.settle(&mut step.chunk.old.to_vec(), step.new);
                    continue;
                };
                if !known.as_ref().is_some_and(|(of, _)| std::ptr::eq(*of, pair)) {
                    let start = pair.old.0 as usize;
                    let types = &old[start + pair.types.0 as usize..start + pair.types.1 as usize];
                    known = Some((pair, Foresight::new(pair, copies, types)));
                }
                block = number;
                steps.push(step);
            }
        }
        if let Some((_, foresight)) = &mut known {
            residual.block(foresight, &steps);
        }
        residual.runs
    }
}

/// A chunk, and what it becomes.
struct Step<'a> {
    chunk: Chunk<'a>,
    new: &'a [u8],
}

struct Residual<'a> {
    streams: &'a mut Streams,
    /// Copied bytes of the object so far.
    copied: u64,
    /// Copied bytes up to the end of the last run.
    written: u64,
    runs: u64,
}

impl Residual<'_> {
    /// The chunks of one block, in the mode that leaves least.
    fn block(&mut self, foresight: &mut Foresight<'_>, steps: &[Step<'_>]) {
        if steps.is_empty() {
            return;
        }
        let plain: u64 = steps.iter().map(|step| cost(step.chunk.old, step.new)).sum();
        let mut best = (plain, Mode::Plain);
        let worth = |mode: &Mode| plain > if *mode >= Mode::Order0 { RARE } else { 0 };
        for mode in Mode::ALL.into_iter().filter(worth) {
            foresight.try_out();
            let cost: u64 = steps.iter().map(|step| trial(foresight, mode, step)).sum();
            foresight.back();
            if cost < best.0 {
                best = (cost, mode);
            }
        }
        self.streams.modes.push(best.1 as u8);
        for step in steps {
            let (mut out, mut done) = (step.chunk.old.to_vec(), 0);
            foresight.chunk(best.1, step.chunk, &mut out, |out, end| {
                self.settle(&mut out[done..end], &step.new[done..end]);
                done = end;
            });
        }
    }

    /// Writes down where `out` is not `new`, and makes it so.
    fn settle(&mut self, out: &mut [u8], new: &[u8]) {
        runs(out, new, |at, length| {
            let start = self.copied + at as u64;
            put(&mut self.streams.gaps, start - self.written);
            put(&mut self.streams.lengths, length as u64 - 1);
            let values = new[at..at + length].iter().zip(&out[at..at + length]);
            self.streams.fixes.extend(values.map(|(new, out)| new.wrapping_sub(*out)));
            self.written = start + length as u64;
            self.runs += 1;
        });
        out.copy_from_slice(new);
        self.copied += new.len() as u64;
    }
}

/// What a block must cost before it is tried with a mode that few have.
const RARE: u64 = 200;

/// What a mode would cost.
fn trial(foresight: &mut Foresight<'_>, mode: Mode, step: &Step<'_>) -> u64 {
    let (mut out, mut sum, mut done) = (step.chunk.old.to_vec(), 0, 0);
    foresight.chunk(mode, step.chunk, &mut out, |out, end| {
        sum += cost(&out[done..end], &step.new[done..end]);
        out[done..end].copy_from_slice(&step.new[done..end]);
        done = end;
    });
    sum
}

/// About how many bytes the differences cost: each byte, and once more for each run.
fn cost(a: &[u8], b: &[u8]) -> u64 {
    let mut sum = 0;
    runs(a, b, |_, length| sum += length as u64 + 1);
    sum
}

/// The runs of bytes that differ: where, and how long.
fn runs(a: &[u8], b: &[u8], mut each: impl FnMut(usize, usize)) {
    let mut at = 0;
    loop {
        at += common(&a[at..], &b[at..]);
        if at == b.len() {
            return;
        }
        let length = a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a != b).count();
        each(at, length);
        at += length;
    }
}

/// Moves the places of a plan into the space of those bases that it uses, and returns these.
fn localize(space: &Space, plan: &mut Plan) -> Vec<usize> {
    let base_of = |place: u64| space.starts.partition_point(|&start| start as u64 <= place) - 1;
    let mut used: Vec<usize> = plan.copies.iter().map(|copy| base_of(copy.old)).collect();
    used.extend(plan.pairs.iter().map(|pair| base_of(pair.old.0)));
    used.sort_unstable();
    used.dedup();
    let mut starts = vec![0; space.starts.len()];
    let mut length = 0u64;
    for &base in &used {
        starts[base] = length;
        length += space.range(base).len() as u64;
    }
    let moved = |place: u64| {
        let base = base_of(place);
        place - space.starts[base] as u64 + starts[base]
    };
    for copy in &mut plan.copies {
        copy.old = moved(copy.old);
    }
    for pair in &mut plan.pairs {
        let start = moved(pair.old.0);
        pair.old = (start, start + pair.old.1 - pair.old.0);
    }
    used
}

/// For each program of the new object the old one that most of it comes from, if copies alone do not make it.
fn pairs(space: &Space, copies: &[Copy], new: &[u8], programs: &[Program]) -> Vec<Pair> {
    let (old, mut pairs) = (&space.programs, Vec::new());
    for program in programs {
        let mut shares = vec![0u64; old.len()];
        let mut exact = true;
        let first = copies.partition_point(|copy| copy.new + copy.length <= program.start as u64);
        for copy in copies[first..].iter().take_while(|copy| copy.new < program.end as u64) {
            let start = copy.new.max(program.start as u64);
            let end = (copy.new + copy.length).min(program.end as u64);
            let (mut from, until) = (copy.old + (start - copy.new), copy.old + (end - copy.new));
            exact &= space.bytes[from as usize..until as usize] == new[start as usize..end as usize];
            let mut at = old.partition_point(|other| (other.end as u64) <= from);
            while let Some(other) = old.get(at).filter(|other| (other.start as u64) < until) {
                from = from.max(other.start as u64);
                shares[at] += until.min(other.end as u64) - from;
                at += 1;
            }
        }
        let most = shares.iter().enumerate().max_by_key(|(at, share)| (**share, usize::MAX - at));
        let Some((best, _)) = most.filter(|(_, share)| **share > 0 && !exact) else { continue };
        let other = &old[best];
        let mut pair = Pair {
            new: (program.start as u64, program.end as u64),
            old: (other.start as u64, other.end as u64),
            new_pieces: program.pieces.clone(),
            old_pieces: other.pieces.clone(),
            ..Pair::default()
        };
        if program.types.1 > 0 && other.types.1 > 0 {
            let old_types = &space.bytes[other.start + other.types.0..other.start + other.types.1];
            let new_types = &new[program.start + program.types.0..program.start + program.types.1];
            pair.types = (other.types.0 as u64, other.types.1 as u64);
            types(&mut pair, copies, program, [old_types, new_types]);
        }
        pairs.push(pair);
    }
    // What apply would refuse is not foretold.
    let mut sum = 0;
    pairs.truncate(PAIRS as usize);
    pairs.retain(|pair| {
        sum += pair.old.1 - pair.old.0;
        sum <= PROGRAM_BYTES
    });
    pairs
}

/// Says where the strings and the numbers of the types went.
fn types(pair: &mut Pair, copies: &[Copy], program: &Program, bytes: [&[u8]; 2]) {
    let [old, new] = bytes.map(crate::btf::read);
    let place = |pieces, offset| address(pieces, offset).unwrap_or_default();
    let old_strings = place(&pair.old_pieces, pair.types.0 + u64::from(old.strings));
    let new_strings = place(&pair.new_pieces, program.types.0 as u64 + u64::from(new.strings));
    pair.strings = new_strings.wrapping_sub(old_strings) as i64;
    // A module's types are numbered behind those of its kernel, which is not known here.
    let most =
        |at: usize| u32::from_le_bytes([bytes[0][at], bytes[0][at + 1], bytes[0][at + 2], bytes[0][at + 3]]);
    let all = old.words.iter().enumerate().filter(|(_, word)| **word == Word::Type);
    if all.map(|(at, _)| most(at * 4)).max().is_none_or(|most| most as usize > old.types.len()) {
        return;
    }
    let start = program.start as u64 + program.types.0 as u64;
    let (mut numbers, mut next) = (Vec::new(), 0);
    for (stretch, copy) in renumbered(pair, &old, copies) {
        let begin = pair.old.0 + pair.types.0 + u64::from(old.types[stretch.start as usize - 1]);
        let place = (copy.new + (begin - copy.old)).checked_sub(start);
        let found = place.and_then(|place| new.types.binary_search(&u32::try_from(place).ok()?).ok());
        let number = found.map_or(next, |at| at as i64 + 1);
        numbers.push(number - next);
        next = number + (stretch.end - stretch.start) as i64;
    }
    pair.numbers = numbers;
}
