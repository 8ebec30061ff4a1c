//! The header: everything there is to know before a block is fetched. Drawn in `lib.rs`.

use std::ops::Range;

use plumb_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::limit::{BLOCK_OBJECTS, HEADER_BYTES, OBJECT_BYTES, PLAN_BYTES};
use crate::stream::Codec;
use crate::varint::{Reader, put};
use crate::{Bytes, Error, FORMAT, MAGIC};

/// Bytes before the header's body: magic, format, length of the body.
pub(crate) const PREFIX: usize = 12;
const DIGEST: usize = 32;
/// Streams of a block, in this order: copies, modes, gaps, lengths, fixes, literals.
pub(crate) const STREAMS: usize = 6;

/// How large the parts of a release are, without their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Digest of the object.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Whether its end is the hash tree over its begin, which is computed.
    pub(crate) tree: bool,
}

/// One stream of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub(crate) codec: Codec,
    pub(crate) packed: u64,
    pub(crate) unpacked: u64,
}

/// Some objects that are packed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    /// Which of the objects.
    pub(crate) objects: Range<usize>,
    pub(crate) streams: [StreamEntry; STREAMS],
    pub(crate) digest: Digest,
    /// First byte in the file.
    pub(crate) start: u64,
}

impl BlockEntry {
    pub(crate) fn length(&self) -> u64 {
        self.streams.iter().map(|stream| stream.packed).sum()
    }
}

/// A header that was read and is consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// What it starts from, without the new objects that later ones start from.
    pub(crate) bases: Vec<Entry>,
    pub(crate) objects: Vec<Entry>,
    pub(crate) blocks: Vec<BlockEntry>,
}

impl Header {
    /// The header as the first bytes of a file. The positions in `blocks` do not matter.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, self.bases.len() as u64);
        for base in &self.bases {
            body.extend_from_slice(base.digest.as_bytes());
            put(&mut body, base.size);
        }
        put(&mut body, self.objects.len() as u64);
        for object in &self.objects {
            body.extend_from_slice(object.digest.as_bytes());
            put(&mut body, object.size << 1 | u64::from(object.tree));
        }
        put(&mut body, self.blocks.len() as u64);
        for block in &self.blocks {
            put(&mut body, block.objects.len() as u64);
            for stream in &block.streams {
                body.push(stream.codec as u8);
                put(&mut body, stream.packed);
                put(&mut body, stream.unpacked);
            }
            body.extend_from_slice(block.digest.as_bytes());
        }
        let mut bytes = MAGIC.to_vec();
        bytes.push(FORMAT);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads the header of a file.
    pub(crate) fn read(file: &dyn Bytes) -> Result<Header, Error> {
        let failed = |source| Error::ReadDelta { source };
        let length = file.length().map_err(failed)?;
        if length < PREFIX as u64 {
            return Err(Error::NotADelta);
        }
        let mut prefix = [0; PREFIX];
        file.read_at(0, &mut prefix).map_err(failed)?;
        if prefix[..MAGIC.len()] != *MAGIC {
            return Err(Error::NotADelta);
        }
        if prefix[MAGIC.len()] != FORMAT {
            return Err(Error::Format { found: prefix[MAGIC.len()] });
        }
        let body = u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]) as usize;
        if body > HEADER_BYTES {
            return Err(Error::Limit { what: "bytes of header", limit: HEADER_BYTES as u64 });
        }
        let whole = PREFIX + body + DIGEST;
        if length < whole as u64 {
            return Err(Error::Header { what: "it is cut short" });
        }
        let mut bytes = vec![0; whole];
        file.read_at(0, &mut bytes).map_err(failed)?;
        let (bytes, digest) = bytes.split_at(whole - DIGEST);
        if Sha256::digest(bytes)[..] != *digest {
            return Err(Error::Header { what: "its digest is another" });
        }
        let header = Header::parse(&bytes[PREFIX..], whole as u64)?;
        let end = header.blocks.last().map_or(whole as u64, |block| block.start + block.length());
        match length.cmp(&end) {
            std::cmp::Ordering::Less => {
                Err(Error::Header { what: "the file ends before its last block does" })
            }
            std::cmp::Ordering::Greater => Err(Error::Header { what: "something follows the last block" }),
            std::cmp::Ordering::Equal => Ok(header),
        }
    }

    fn parse(body: &[u8], start: u64) -> Result<Header, Error> {
        let mut reader = Reader::new(body);
        let cut = Error::Header { what: "it is cut short" };
        let Some(bases) = entries(&mut reader, 0) else { return Err(cut) };
        let Some(objects) = entries(&mut reader, 1) else { return Err(cut) };
        if bases.iter().chain(&objects).any(|entry| entry.size > OBJECT_BYTES) {
            return Err(Error::Limit { what: "bytes of one object", limit: OBJECT_BYTES });
        }
        let Some(blocks) = blocks(&mut reader, start)? else { return Err(cut) };
        if !reader.is_empty() {
            return Err(Error::Header { what: "something follows the list of blocks" });
        }
        if blocks.last().map_or(0, |block| block.objects.end) != objects.len() {
            return Err(Error::Header { what: "the blocks hold another number of objects" });
        }
        Ok(Header { bases, objects, blocks })
    }
}

/// `flags` is how many low bits of a size are something else.
fn entries(reader: &mut Reader<'_>, flags: u32) -> Option<Vec<Entry>> {
    let count = reader.number()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let digest = Digest::from_bytes(reader.array()?);
        let number = reader.number()?;
        entries.push(Entry { digest, size: number >> flags, tree: flags > 0 && number & 1 == 1 });
    }
    Some(entries)
}

fn blocks(reader: &mut Reader<'_>, mut start: u64) -> Result<Option<Vec<BlockEntry>>, Error> {
    let Some(count) = reader.number() else { return Ok(None) };
    let (mut blocks, mut first) = (Vec::new(), 0usize);
    for number in 0..count {
        let Some(objects) = reader.number() else { return Ok(None) };
        if objects == 0 || objects > BLOCK_OBJECTS {
            return Err(Error::Limit { what: "objects of one block (at least one)", limit: BLOCK_OBJECTS });
        }
        let mut streams = [StreamEntry { codec: Codec::Raw, packed: 0, unpacked: 0 }; STREAMS];
        for (place, stream) in streams.iter_mut().enumerate() {
            let Some(read) = stream_entry(reader, number as usize)? else { return Ok(None) };
            if place < 2 && read.unpacked > PLAN_BYTES {
                return Err(Error::Limit { what: "bytes of a plan", limit: PLAN_BYTES });
            }
            *stream = read;
        }
        let Some(digest) = reader.array().map(Digest::from_bytes) else { return Ok(None) };
        let end = first + objects as usize;
        let block = BlockEntry { objects: first..end, streams, digest, start };
        start += block.length();
        first = end;
        blocks.push(block);
    }
    Ok(Some(blocks))
}

fn stream_entry(reader: &mut Reader<'_>, block: usize) -> Result<Option<StreamEntry>, Error> {
    let Some([codec]) = reader.array() else { return Ok(None) };
    let codec = Codec::from_byte(codec)
        .ok_or(Error::Block { block, what: "a stream is packed in an unknown way" })?;
    let (Some(packed), Some(unpacked)) = (reader.number(), reader.number()) else { return Ok(None) };
    // Sums over a header of limited length stay below 64 bits.
    if packed > OBJECT_BYTES || unpacked > OBJECT_BYTES {
        return Err(Error::Limit { what: "bytes of one stream", limit: OBJECT_BYTES });
    }
    if codec == Codec::Lzma && unpacked > crate::limit::XZ_BYTES {
        return Err(Error::Limit { what: "bytes of one LZMA stream", limit: crate::limit::XZ_BYTES });
    }
    Ok(Some(StreamEntry { codec, packed, unpacked }))
}
