//! The bytes of one object, from its plan, its bases and the streams of its block.

use std::io::{self, Read};

use plumb_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::base::Space;
use crate::header::{BlockEntry, StreamEntry};
use crate::model::{BLOCK, Chunk, Foresight, Mode, Pair, Place};
use crate::plan::{Plan, extent};
use crate::stream::{Numbers, Unpacked};
use crate::verity::Tree;
use crate::{Bytes, Entry, Error, Sink};

/// Bytes that are written at once.
pub(crate) const OUT: usize = 128 << 10;

fn unpack_error(block: usize, source: io::Error) -> Error {
    // The packed bytes have the digest that the header names, so what cannot be unpacked was packed wrongly; what the
    // file system says has no such kind.
    match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::Block { block, what: "a stream is shorter than the header says" }
        }
        io::ErrorKind::InvalidData | io::ErrorKind::Other | io::ErrorKind::InvalidInput => {
            Error::Block { block, what: "a stream cannot be unpacked" }
        }
        _ => Error::ReadDelta { source },
    }
}

/// A range of the delta's file.
pub(crate) struct Part<'a> {
    pub(crate) file: &'a dyn Bytes,
    pub(crate) at: u64,
    pub(crate) end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = (self.end - self.at).min(out.len() as u64) as usize;
        self.file.read_at(self.at, &mut out[..length])?;
        self.at += length as u64;
        Ok(length)
    }
}

/// The unpacked streams of one block.
pub(crate) struct Streams<'a> {
    pub(crate) block: usize,
    pub(crate) plan: Unpacked<'a>,
    modes: std::vec::IntoIter<u8>,
    gaps: Numbers<'a>,
    lengths: Numbers<'a>,
    fixes: Unpacked<'a>,
    literals: Unpacked<'a>,
}

impl<'a> Streams<'a> {
    pub(crate) fn open(file: &'a dyn Bytes, number: usize, block: &BlockEntry) -> Result<Self, Error> {
        let mut start = block.start;
        let mut open = |stream: &StreamEntry| {
            let part = Part { file, at: start, end: start + stream.packed };
            start += stream.packed;
            Unpacked::new(stream.codec, part, stream.unpacked)
        };
        let [plan, modes, gaps, lengths, fixes, literals] = &block.streams;
        let mut opened = || {
            let plan = open(plan)?;
            let modes = open(modes)?.all()?.into_iter();
            let (gaps, lengths) = (Numbers::new(open(gaps)?), Numbers::new(open(lengths)?));
            let (fixes, literals) = (open(fixes)?, open(literals)?);
            Ok(Streams { block: number, plan, modes, gaps, lengths, fixes, literals })
        };
        opened().map_err(|source: io::Error| unpack_error(number, source))
    }

    /// Whether nothing is left but for the plans, which the caller has.
    pub(crate) fn are_done(&mut self) -> bool {
        self.plan.is_done()
            && self.modes.len() == 0
            && self.gaps.is_done()
            && self.lengths.is_done()
            && self.fixes.is_done()
            && self.literals.is_done()
    }

    pub(crate) fn failed(&self, source: io::Error) -> Error {
        unpack_error(self.block, source)
    }

    fn wrong(&self, what: &'static str) -> Error {
        Error::Block { block: self.block, what }
    }

    fn mode(&mut self) -> Result<Mode, Error> {
        self.modes.next().and_then(Mode::from_byte).ok_or_else(|| self.wrong("a mode is missing or unknown"))
    }
}

/// Where an object goes: through its digest, and its hash tree if it has one, into the sink.
pub(crate) struct Target<'a> {
    entry: Entry,
    hash: Sha256,
    tree: Option<Tree>,
    data: u64,
    sink: &'a mut dyn Sink,
}

impl<'a> Target<'a> {
    /// `data` is how many bytes come before the hash tree.
    pub(crate) fn new(entry: Entry, data: u64, sink: &'a mut dyn Sink) -> Self {
        Target { entry, hash: Sha256::new(), tree: entry.tree.then(Tree::default), data, sink }
    }

    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        self.sink.begin(&self.entry).map_err(|source| self.failed(source))
    }

    /// Adds the hash tree; whether the object is what was promised.
    pub(crate) fn end(&mut self) -> Result<bool, Error> {
        if let Some(tree) = self.tree.take() {
            self.put(&tree.finish())?;
        }
        Ok(Digest::from_bytes(self.hash.clone().finalize().into()) == self.entry.digest)
    }

    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.sink.finish().map_err(|source| self.failed(source))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        if let Some(tree) = &mut self.tree {
            tree.push(bytes);
        }
        self.sink.write(bytes).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write { object: self.entry.digest, source }
    }
}

/// Writes the data of an object, as its plan says.
pub(crate) fn make(
    plan: &Plan,
    space: &mut Space,
    streams: &mut Streams<'_>,
    target: &mut Target<'_>,
) -> Result<(), Error> {
    let mut out = Out { bytes: Vec::with_capacity(2 * OUT), target };
    let mut fixes = Fixes { left: plan.runs, start: 0, end: 0, copied: 0, values: Vec::new() };
    fixes.next(streams)?;
    let mut pairs = plan.pairs.iter().peekable();
    let mut known: Option<Known<'_>> = None;
    let (mut at, mut old) = (0, vec![0; OUT]);
    for copy in &plan.copies {
        out.literals(copy.new - at, streams)?;
        let mut done = 0;
        while done < copy.length {
            let (new, place) = (copy.new + done, copy.old + done);
            while pairs.next_if(|pair| pair.new.1 <= new).is_some() {}
            let (pair, length) = extent(pairs.peek().copied(), (new, place), copy.length - done);
            let old = &mut old[..length as usize];
            space.read(place, old)?;
            let Some(pair) = pair else {
                if let Some(known) = &mut known {
                    known.block = u64::MAX;
                }
                let bytes = out.grow(old);
                fixes.correct(bytes, 0, length as usize, streams)?;
                fixes.copied += length;
                done += length;
                out.flush_if_full()?;
                continue;
            };
            if !known.as_ref().is_some_and(|known| std::ptr::eq(known.pair, pair)) {
                let mut types = vec![0; (pair.types.1 - pair.types.0) as usize];
                space.read(pair.old.0 + pair.types.0, &mut types)?;
                let foresight = Foresight::new(pair, &plan.copies, &types);
                known = Some(Known { pair, foresight, block: u64::MAX, mode: Mode::Plain });
            }
            if let Some(known) = &mut known {
                let block = (new - pair.new.0) / BLOCK;
                if block != known.block {
                    (known.block, known.mode) = (block, streams.mode()?);
                }
                let place = Place { old: place - pair.old.0, new: new - pair.new.0 };
                let from = copy.old.saturating_sub(pair.old.0);
                let to = (copy.old + copy.length).saturating_sub(pair.old.0);
                fixes.chunk(known, Chunk { place, copy: (from, to), old }, out.grow(old), streams)?;
            }
            done += length;
            out.flush_if_full()?;
        }
        at = copy.new + copy.length;
    }
    out.literals(out.target.data - at, streams)?;
    out.flush()?;
    if fixes.is_done() { Ok(()) } else { Err(streams.wrong("a fix lies outside of what is copied")) }
}

/// The program that is being copied.
struct Known<'a> {
    pair: &'a Pair,
    foresight: Foresight<'a>,
    block: u64,
    mode: Mode,
}

/// Output on its way.
struct Out<'a, 'b> {
    bytes: Vec<u8>,
    target: &'a mut Target<'b>,
}

impl Out<'_, '_> {
    /// Appends `old` and returns it for changes.
    fn grow(&mut self, old: &[u8]) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(old);
        &mut self.bytes[start..]
    }

    fn literals(&mut self, mut length: u64, streams: &mut Streams<'_>) -> Result<(), Error> {
        while length > 0 {
            let part = length.min(OUT as u64) as usize;
            let start = self.bytes.len();
            self.bytes.resize(start + part, 0);
            streams
                .literals
                .fill(&mut self.bytes[start..])
                .map_err(|source| unpack_error(streams.block, source))?;
            length -= part as u64;
            self.flush_if_full()?;
        }
        Ok(())
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.bytes.len() < OUT { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let put = self.target.put(&self.bytes);
        self.bytes.clear();
        put
    }
}

/// The runs of fixes, one at a time.
struct Fixes {
    /// Runs that were not read yet.
    left: u64,
    /// The present run, in copied bytes of the object; empty and behind everything when there is none.
    start: u64,
    end: u64,
    /// Copied bytes before the present chunk.
    copied: u64,
    values: Vec<u8>,
}

impl Fixes {
    fn next(&mut self, streams: &mut Streams<'_>) -> Result<(), Error> {
        if self.left == 0 {
            (self.start, self.end) = (u64::MAX, u64::MAX);
            return Ok(());
        }
        self.left -= 1;
        let (gap, length) = (streams.gaps.next(), streams.lengths.next());
        let gap = gap.map_err(|source| streams.failed(source))?;
        let length = length.map_err(|source| streams.failed(source))?;
        let end = self.end.checked_add(gap).and_then(|start| start.checked_add(length)?.checked_add(1));
        self.end = end.ok_or_else(|| streams.wrong("a fix lies outside of what is copied"))?;
        self.start = self.end - length - 1;
        Ok(())
    }

    /// Corrects `bytes[from..to]` of the present chunk.
    #[inline]
    fn correct(
        &mut self,
        bytes: &mut [u8],
        from: usize,
        to: usize,
        streams: &mut Streams<'_>,
    ) -> Result<(), Error> {
        let until = self.copied + to as u64;
        while self.start < until {
            let first = (self.start.max(self.copied + from as u64) - self.copied) as usize;
            let last = (self.end.min(until) - self.copied) as usize;
            self.values.resize(last - first, 0);
            streams.fixes.fill(&mut self.values).map_err(|source| unpack_error(streams.block, source))?;
            for (byte, value) in bytes[first..last].iter_mut().zip(&self.values) {
                *byte = byte.wrapping_add(*value);
            }
            if self.end > until {
                self.start = until;
                return Ok(());
            }
            self.next(streams)?;
        }
        Ok(())
    }

    /// One chunk of a program: foretold and corrected in turns, because what comes out is learned from.
    fn chunk(
        &mut self,
        known: &mut Known<'_>,
        chunk: Chunk<'_>,
        bytes: &mut [u8],
        streams: &mut Streams<'_>,
    ) -> Result<(), Error> {
        let (mut done, mut result) = (0, Ok(()));
        known.foresight.chunk(known.mode, chunk, bytes, |bytes, end| {
            if result.is_ok() {
                result = self.correct(bytes, done, end, streams);
            }
            done = end;
        });
        self.copied += chunk.old.len() as u64;
        result
    }

    fn is_done(&self) -> bool {
        self.left == 0 && self.start == u64::MAX
    }
}
