//! Making the new objects: a delta is opened, its blocks are verified, its objects are written and verified.

use std::io::Read;
use std::ops::Range;

use plumb_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::base::{Base, Space};
use crate::header::{BlockEntry, Header};
use crate::make::{OUT, Part, Streams, Target, make};
use crate::plan::Plan;
use crate::varint::Reader;
use crate::{Bytes, Entry, Error, Objects, Sink};

/// A delta whose header was read and verified.
pub struct Delta<'a> {
    file: &'a dyn Bytes,
    header: Header,
}

/// Where objects come from and go to.
struct Ends<'a> {
    objects: &'a dyn Objects,
    sink: &'a mut dyn Sink,
}

/// What [`Delta::apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Made {
    /// Objects that were made and verified.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were here already.
    pub kept: usize,
}

impl<'a> Delta<'a> {
    /// Reads and verifies the header; blocks are not looked at.
    ///
    /// # Errors
    /// [`Error::NotADelta`], [`Error::Format`], [`Error::Header`], [`Error::Limit`] or [`Error::ReadDelta`].
    pub fn open(file: &'a dyn Bytes) -> Result<Self, Error> {
        Ok(Delta { file, header: Header::read(file)? })
    }

    /// What it starts from.
    #[must_use]
    pub fn bases(&self) -> &[Entry] {
        &self.header.bases
    }

    /// What it makes, in this order. Compare it with what was asked for before anything is applied.
    #[must_use]
    pub fn objects(&self) -> &[Entry] {
        &self.header.objects
    }

    /// The ranges of the file that hold the objects for which `wanted` says so, as few as possible: a pull needs no
    /// other bytes besides the header.
    pub fn ranges(&self, mut wanted: impl FnMut(&Entry) -> bool) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for block in &self.header.blocks {
            if !self.header.objects[block.objects.clone()].iter().any(&mut wanted) {
                continue;
            }
            let end = block.start + block.length();
            match ranges.last_mut() {
                Some(last) if last.end == block.start => last.end = end,
                _ => ranges.push(block.start..end),
            }
        }
        ranges
    }

    /// Makes all objects that `sink` does not have. Nothing is finished in the sink before its digest was verified, and
    /// what an error leaves begun must be forgotten.
    ///
    /// Memory: the plan of a block ([`crate::limit`]), windows of the decompressors, and a few megabytes.
    ///
    /// # Errors
    /// [`Error`] naming the block, the base or the object.
    pub fn apply(&self, objects: &dyn Objects, sink: &mut dyn Sink) -> Result<Made, Error> {
        let mut made = Made::default();
        for (number, block) in self.header.blocks.iter().enumerate() {
            let entries = &self.header.objects[block.objects.clone()];
            let mut all = true;
            for entry in entries {
                all &=
                    sink.has(entry).map_err(|source| Error::ReadObject { object: entry.digest, source })?;
            }
            if all {
                made.kept += entries.len();
                continue;
            }
            self.verify(number, block)?;
            let mut streams = Streams::open(self.file, number, block)?;
            let plan = streams.plan.all().map_err(|source| streams.failed(source))?;
            let mut reader = Reader::new(&plan);
            let mut ends = Ends { objects, sink: &mut *sink };
            for at in block.objects.clone() {
                self.object(at, &mut reader, &mut streams, &mut ends)?;
                made.objects += 1;
                made.bytes += self.header.objects[at].size;
            }
            if !reader.is_empty() || !streams.are_done() {
                return Err(Error::Block { block: number, what: "something follows the last object" });
            }
        }
        Ok(made)
    }

    /// Whether the packed bytes of a block are those of the header.
    fn verify(&self, number: usize, block: &BlockEntry) -> Result<(), Error> {
        let mut hash = Sha256::new();
        let mut file = Part { file: self.file, at: block.start, end: block.start + block.length() };
        let mut buffer = vec![0; OUT];
        loop {
            let length = file.read(&mut buffer).map_err(|source| Error::ReadDelta { source })?;
            if length == 0 {
                break;
            }
            hash.update(&buffer[..length]);
        }
        let digest = Digest::from_bytes(hash.finalize().into());
        if digest == block.digest { Ok(()) } else { Err(Error::BlockDigest { block: number }) }
    }

    /// Makes one object.
    fn object(
        &self,
        at: usize,
        reader: &mut Reader<'_>,
        streams: &mut Streams<'_>,
        ends: &mut Ends<'_>,
    ) -> Result<(), Error> {
        let entry = self.header.objects[at];
        let wrong = |what| Error::Block { block: streams.block, what };
        let bases = Plan::read_bases(reader).map_err(wrong)?;
        let data = match crate::verity::split(entry.size) {
            Some((data, _)) if entry.tree => data,
            None if entry.tree => return Err(wrong("an object of this length has no hash tree")),
            _ => entry.size,
        };
        let mut space = self.space(&bases, at, ends.objects, &wrong)?;
        let plan = Plan::read(reader, bases, data, space.length()).map_err(wrong)?;
        let mut target = Target::new(entry, data, ends.sink);
        target.begin()?;
        make(&plan, &mut space, streams, &mut target)?;
        if target.end()? { target.finish() } else { Err(blame(&space, entry)) }
    }

    /// The base space of object `at`.
    fn space(
        &self,
        numbers: &[u64],
        at: usize,
        objects: &dyn Objects,
        wrong: &dyn Fn(&'static str) -> Error,
    ) -> Result<Space, Error> {
        let (mut bases, mut start) = (Vec::new(), 0u64);
        for &number in numbers {
            let entry = self.base(number, at).ok_or_else(|| wrong("a base does not exist yet"))?;
            let object = entry.digest;
            let opened = objects.open(&object).map_err(|source| Error::ReadObject { object, source })?;
            let bytes = opened.ok_or(Error::MissingBase { base: object })?;
            let length = bytes.length().map_err(|source| Error::ReadObject { object, source })?;
            if length != entry.size {
                return Err(Error::WrongBase { base: object });
            }
            bases.push(Base { digest: object, start, size: entry.size, bytes });
            start += entry.size;
        }
        Ok(Space::new(bases))
    }

    /// The base with this number, if it comes before object `at`.
    fn base(&self, number: u64, at: usize) -> Option<Entry> {
        let place = usize::try_from(number / 2).ok()?;
        if number.is_multiple_of(2) {
            return self.header.bases.get(place).copied();
        }
        self.header.objects[..at].get(place).copied()
    }
}

/// The object is not what was promised: because a base is not, or because the delta is not.
fn blame(space: &Space, entry: Entry) -> Error {
    let mut buffer = vec![0; OUT];
    for base in space.bases() {
        let (mut hash, mut at) = (Sha256::new(), 0);
        while at < base.size {
            let part = &mut buffer[..OUT.min((base.size - at) as usize)];
            if let Err(source) = base.bytes.read_at(at, part) {
                return Error::ReadObject { object: base.digest, source };
            }
            hash.update(&*part);
            at += part.len() as u64;
        }
        if Digest::from_bytes(hash.finalize().into()) != base.digest {
            return Error::WrongBase { base: base.digest };
        }
    }
    Error::WrongResult { object: entry.digest }
}
