//! Making a delta.
//!
//! The order of objects is that of the caller, but for small ones: they are put together by kind, so that each helps to
//! pack the next. Every object may start from everything old and from every object before it, so what several machines
//! have in common travels once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use plumb_model::Digest;
use rayon::prelude::*;

use crate::encode::Streams;
use crate::header::{BlockEntry, Entry, Header, STREAMS, StreamEntry};
use crate::limit::{BLOCK_OBJECTS, HEADER_BYTES, PLAN_BYTES, SPACE_BYTES};
use crate::search::Space;
use crate::stream::{Packed, pack};
use crate::verity::Tree;
use crate::{CreateError, Object, Objects};

/// Objects below this are packed together.
const SMALL: u64 = 1 << 20;
/// A block is full with so many bytes of small objects: what a pull of one of them costs at most.
const SOLID: u64 = 16 << 20;
/// zstd cannot make less of anything: 4 bytes of a block of 128 KiB.
const LEAST_SHARE: u64 = 32 << 10;
/// By the fastest compression: where copies leave less than a third of what there is without them, they win; where they
/// leave this much of it, many short ones that are of no use stand in the way of the best compression.
const SURE_OF_COPIES: u64 = 3;
const SURE_OF_PLAIN_PERCENT: u64 = 90;

/// The delta that makes `new` out of `old`. Objects that are in both do not travel, and no digest travels twice.
///
/// The same objects give the same bytes. Memory: `old` twice, `new` three times, up to 512 MiB for what is looked up, and
/// what the compression needs for each processor.
///
/// # Errors
/// [`CreateError`] naming the object.
pub fn create(old: &[Object], new: &[Object], objects: &dyn Objects) -> Result<Vec<u8>, CreateError> {
    let todo = todo(old, new);
    let mut maker = Maker::new(old, &todo, objects)?;
    let (mut block, mut bytes): (Vec<&Object>, u64) = (Vec::new(), 0);
    for &object in &todo {
        let alone = object.size >= SMALL;
        let full = bytes + object.size > SOLID || block.len() as u64 == BLOCK_OBJECTS;
        if !block.is_empty() && (alone || full) {
            maker.block(&block)?;
            (block, bytes) = (Vec::new(), 0);
        }
        block.push(object);
        bytes += object.size;
        if alone {
            maker.block(&block)?;
            (block, bytes) = (Vec::new(), 0);
        }
    }
    if !block.is_empty() {
        maker.block(&block)?;
    }
    maker.finish()
}

/// What has to travel, in order: the large ones as given, then the small ones by kind.
fn todo<'a>(old: &[Object], new: &'a [Object]) -> Vec<&'a Object> {
    let mut todo: Vec<&Object> = Vec::new();
    let mut seen: BTreeSet<Digest> = old.iter().map(|object| object.digest).collect();
    for object in new {
        if seen.insert(object.digest) {
            todo.push(object);
        }
    }
    todo.sort_by_key(|object| {
        let file = object.name.rsplit('/').next().unwrap_or_default();
        let kind = file.rsplit_once('.').map_or("", |(_, kind)| kind);
        let small = object.size < SMALL;
        (small, small.then(|| (kind.to_owned(), file.to_owned(), object.size)))
    });
    todo
}

struct Maker<'a> {
    objects: &'a dyn Objects,
    space: Space,
    /// For each base of the space what it is.
    origins: Vec<Origin>,
    /// The base that had this name.
    likely: BTreeMap<&'a str, usize>,
    header: Header,
    /// Numbers of the old bases that are used, by digest.
    numbers: BTreeMap<Digest, u64>,
    /// Blocks: which objects each has, and what it is made of.
    blocks: Vec<(Range<usize>, Content)>,
    /// Packed blocks, one behind the other.
    packed: Vec<u8>,
    /// How many objects there will be.
    total: usize,
}

/// What a block is made of.
enum Content {
    /// To be packed, beside others.
    Streams(Streams),
    Packed([Packed; STREAMS]),
}

impl Content {
    fn packed(self) -> Result<[Packed; STREAMS], CreateError> {
        match self {
            Content::Streams(streams) => pack_all(&streams),
            Content::Packed(packed) => Ok(packed),
        }
    }
}

/// A base of the space: something old, or a new object by its number.
#[derive(Clone, Copy)]
enum Origin {
    Old(Entry),
    New(usize),
}

impl<'a> Maker<'a> {
    fn new(old: &'a [Object], todo: &[&Object], objects: &'a dyn Objects) -> Result<Self, CreateError> {
        let mut maker = Maker {
            objects,
            space: Space::default(),
            origins: Vec::new(),
            likely: BTreeMap::new(),
            header: Header { bases: Vec::new(), objects: Vec::new(), blocks: Vec::new() },
            numbers: BTreeMap::new(),
            blocks: Vec::new(),
            packed: Vec::new(),
            total: todo.len(),
        };
        let replaced: BTreeSet<&str> = todo.iter().map(|object| object.name.as_str()).collect();
        let names: BTreeSet<&str> = old.iter().map(|object| object.name.as_str()).collect();
        // What stays as it is is of use only to something without a predecessor, such as a machine that was added.
        let added = todo.iter().any(|object| !names.contains(object.name.as_str()));
        let mut seen: BTreeMap<Digest, usize> = BTreeMap::new();
        for object in old.iter().filter(|object| added || replaced.contains(object.name.as_str())) {
            if let Some(&base) = seen.get(&object.digest) {
                maker.likely.insert(&object.name, base);
                continue;
            }
            let origin = Origin::Old(Entry { digest: object.digest, size: object.size, tree: false });
            if let Some(base) = maker.push(&read(object, objects)?, origin) {
                seen.insert(object.digest, base);
                maker.likely.insert(&object.name, base);
            }
        }
        Ok(maker)
    }

    /// Adds a base, if there is room, and returns its place among them.
    fn push(&mut self, bytes: &[u8], origin: Origin) -> Option<usize> {
        if bytes.is_empty() || self.space.bytes.len() as u64 + bytes.len() as u64 > SPACE_BYTES {
            return None;
        }
        self.space.push(bytes);
        self.origins.push(origin);
        Some(self.origins.len() - 1)
    }

    /// Makes one block of some objects.
    fn block(&mut self, objects: &[&'a Object]) -> Result<(), CreateError> {
        let (mut streams, mut whole, mut size) = (Streams::default(), Vec::new(), 0);
        let first = self.header.objects.len();
        let bases = (self.header.bases.len(), self.numbers.clone());
        for object in objects {
            let bytes = read(object, self.objects)?;
            let (data, tree) = without_tree(&bytes);
            let likely = self.likely.get(object.name.as_str()).copied();
            let (origins, header, numbers) = (&self.origins, &mut self.header, &mut self.numbers);
            let mut number = |base: usize| match origins[base] {
                Origin::New(object) => object as u64 * 2 + 1,
                Origin::Old(entry) => *numbers.entry(entry.digest).or_insert_with(|| {
                    header.bases.push(entry);
                    (header.bases.len() as u64 - 1) * 2
                }),
            };
            streams.object(&mut self.space, data, likely, &mut number);
            whole.push(data.to_vec());
            size += object.size;
            self.header.objects.push(Entry { digest: object.digest, size: object.size, tree });
            let number = self.header.objects.len() - 1;
            if number + 1 < self.total {
                self.push(&bytes, Origin::New(number));
            }
        }
        let plain = || {
            let mut plain = Streams::default();
            whole.iter().for_each(|data| plain.whole(data));
            plain
        };
        // Packing is what takes the time: both ways are tried only where either may win.
        let unreadable = streams.copies.len().max(streams.modes.len()) as u64 > PLAN_BYTES;
        let way = if unreadable { Way::Plain } else { likely_way(&streams, size, &whole)? };
        let (content, is_plain) = match way {
            Way::Plain => (Content::Streams(plain()), true),
            Way::Copies => (Content::Streams(streams), false),
            Way::Either => {
                let (packed, other) = rayon::join(|| pack_all(&streams), || pack_all(&plain()));
                let (packed, other) = (packed?, other?);
                let is_plain = length(&other) <= length(&packed);
                (Content::Packed(if is_plain { other } else { packed }), is_plain)
            }
        };
        if is_plain {
            self.header.bases.truncate(bases.0);
            self.numbers = bases.1;
        }
        self.blocks.push((first..self.header.objects.len(), content));
        Ok(())
    }

    fn add(&mut self, objects: Range<usize>, packed: &[Packed; STREAMS]) {
        let start = self.packed.len();
        packed.iter().for_each(|stream| self.packed.extend_from_slice(&stream.bytes));
        let streams = packed.each_ref().map(|stream| StreamEntry {
            codec: stream.codec,
            packed: stream.bytes.len() as u64,
            unpacked: stream.unpacked,
        });
        let digest = Digest::of(&self.packed[start..]);
        self.header.blocks.push(BlockEntry { objects, streams, digest, start: 0 });
    }

    fn finish(mut self) -> Result<Vec<u8>, CreateError> {
        let blocks = std::mem::take(&mut self.blocks);
        let packed: Vec<_> = blocks
            .into_par_iter()
            .map(|(objects, content)| Ok((objects, content.packed()?)))
            .collect::<Result<_, CreateError>>()?;
        packed.into_iter().for_each(|(objects, packed)| self.add(objects, &packed));
        let mut bytes = self.header.to_bytes();
        if bytes.len() > HEADER_BYTES {
            return Err(CreateError::TooMany { objects: self.header.objects.len() });
        }
        bytes.extend_from_slice(&self.packed);
        Ok(bytes)
    }
}

fn pack_all(streams: &Streams) -> Result<[Packed; STREAMS], CreateError> {
    let pack = |bytes: &[u8]| pack(bytes).map_err(|source| CreateError::Compress { source });
    let Streams { copies, modes, gaps, lengths, fixes, literals } = streams;
    let ((copies, modes, gaps, lengths), (fixes, literals)) = rayon::join(
        || (pack(copies), pack(modes), pack(gaps), pack(lengths)),
        || rayon::join(|| pack(fixes), || pack(literals)),
    );
    Ok([copies?, modes?, gaps?, lengths?, fixes?, literals?])
}

/// How a block is packed.
enum Way {
    /// With copies of what is old.
    Copies,
    /// Without.
    Plain,
    /// Whichever turns out smaller.
    Either,
}

/// Which way is worth the time of the best compression.
fn likely_way(streams: &Streams, size: u64, whole: &[Vec<u8>]) -> Result<Way, CreateError> {
    let Streams { copies, modes, gaps, lengths, fixes, literals } = streams;
    let raw: usize = [copies, modes, gaps, lengths, fixes, literals].iter().map(|stream| stream.len()).sum();
    if (raw as u64) < size / LEAST_SHARE {
        return Ok(Way::Copies);
    }
    let fast =
        |bytes: &[u8]| crate::stream::fast_length(bytes).map_err(|source| CreateError::Compress { source });
    let (mut with, mut without) = (0, 0);
    for stream in [copies, modes, gaps, lengths, fixes, literals] {
        with += fast(stream)?;
    }
    for data in whole {
        without += fast(data)?;
    }
    Ok(if with < without / SURE_OF_COPIES {
        Way::Copies
    } else if with > without * SURE_OF_PLAIN_PERCENT / 100 {
        Way::Plain
    } else {
        Way::Either
    })
}

fn length(packed: &[Packed; STREAMS]) -> u64 {
    packed.iter().map(|stream| stream.bytes.len() as u64).sum()
}

/// The part of an object that has to be coded, and whether the rest is the hash tree over it.
fn without_tree(bytes: &[u8]) -> (&[u8], bool) {
    let Some((data, _)) = crate::verity::split(bytes.len() as u64) else { return (bytes, false) };
    let (data, end) = bytes.split_at(data as usize);
    let mut tree = Tree::default();
    tree.push(data);
    if tree.finish() == end { (data, true) } else { (bytes, false) }
}

fn read(object: &Object, objects: &dyn Objects) -> Result<Vec<u8>, CreateError> {
    let (name, digest) = (&object.name, object.digest);
    let failed = |source| CreateError::Read { name: name.clone(), digest, source };
    let missing = || CreateError::Missing { name: name.clone(), digest };
    let opened = objects.open(&digest).map_err(failed)?.ok_or_else(missing)?;
    let found = opened.length().map_err(failed)?;
    if found != object.size {
        return Err(CreateError::Length { name: name.clone(), digest, expected: object.size, found });
    }
    let mut bytes = vec![0; usize::try_from(found).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?];
    opened.read_at(0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}
