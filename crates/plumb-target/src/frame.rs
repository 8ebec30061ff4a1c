//! Ethernet frames on a byte stream, as QEMU's `-netdev stream` writes them (net/stream.c):
//!
//! ```text
//!  | length, 4 bytes, big endian | frame, `length` bytes | length | frame | …
//! ```

use std::io::{self, Read};

/// Bytes of the length before each frame.
pub(crate) const HEADER_BYTES: usize = 4;

/// Two hardware addresses and the type: what every frame has.
pub(crate) const MIN_FRAME_BYTES: usize = 14;

/// Largest frame QEMU itself takes: NET_BUFSIZE in include/net/net.h, 4096 + 65536.
pub(crate) const MAX_FRAME_BYTES: usize = 4096 + 65536;

/// Space for one read: a whole socket buffer at once, so that a busy link costs few system calls.
const BUFFER_BYTES: usize = 512 * 1024;

/// The stream is out of step or the peer is hostile: the link has to be closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes is longer than {MAX_FRAME_BYTES}")]
pub(crate) struct FrameTooLong {
    pub length: usize,
}

/// Collects bytes of one link and gives out whole frames. Its memory is fixed.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameReader {
    pub fn new() -> Self {
        FrameReader { buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// Reads once. Returns the bytes read; 0 is end of stream.
    pub fn fill(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        // Only a partial frame can be left over, so moving it is cheap and leaves room for the longest one.
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let count = source.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// The next whole frame with its length header, if it has arrived.
    pub fn next(&mut self) -> Result<Option<&[u8]>, FrameTooLong> {
        let pending = &self.buffer[self.start..self.end];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(FrameTooLong { length });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.start;
        self.start += HEADER_BYTES + length;
        Ok(Some(&self.buffer[from..self.start]))
    }
}

#[cfg(test)]
pub(crate) fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_any_pieces() {
        let frames: Vec<Vec<u8>> =
            [14, 60, 1514, MAX_FRAME_BYTES, 0, 9000].iter().map(|length| vec![7; *length]).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        for piece in [1, 3, 1000, 70_000, stream.len()] {
            let mut reader = FrameReader::new();
            let mut seen = Vec::new();
            for mut chunk in stream.chunks(piece) {
                while !chunk.is_empty() {
                    reader.fill(&mut chunk).unwrap();
                    while let Some(frame) = reader.next().unwrap() {
                        seen.push(frame[HEADER_BYTES..].to_vec());
                    }
                }
            }
            assert_eq!(seen, frames, "pieces of {piece}");
        }
    }

    #[test]
    fn an_absurd_length_is_refused() {
        let mut reader = FrameReader::new();
        reader.fill(&mut &[0xff, 0xff, 0xff, 0xff, 0][..]).unwrap();
        assert_eq!(reader.next(), Err(FrameTooLong { length: 0xffff_ffff }));
    }
}
