//! A door for the fuzz target: deltas whose digests are right whatever they say. Nothing else uses it.

use plumb_model::Digest;

use crate::header::{BlockEntry, Entry, Header, STREAMS, StreamEntry};
use crate::stream::Codec;

/// A delta that makes one object of `size` bytes out of `base`, with these streams, not packed. What it makes will not
/// have the digest that it promises.
#[must_use]
pub fn sealed(base: &[u8], size: u64, tree: bool, streams: [&[u8]; STREAMS]) -> Vec<u8> {
    let packed = streams.concat();
    let entry = |digest, size, tree| Entry { digest, size, tree };
    let lengths = streams.map(|stream| stream.len() as u64);
    let block = BlockEntry {
        objects: 0..1,
        streams: lengths.map(|length| StreamEntry { codec: Codec::Raw, packed: length, unpacked: length }),
        digest: Digest::of(&packed),
        start: 0,
    };
    let header = Header {
        bases: vec![entry(Digest::of(base), base.len() as u64, false)],
        objects: vec![entry(Digest::from_bytes([0; 32]), size, tree)],
        blocks: vec![block],
    };
    [header.to_bytes(), packed].concat()
}
