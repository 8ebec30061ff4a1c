//! One stream of a block: packed whichever way is smallest, unpacked while it is read.

use std::io::{self, BufReader, Read};

use liblzma::stream::{LzmaOptions, Stream};
use zstd::zstd_safe::CParameter;

use crate::limit::{WINDOW_LOG, XZ_BYTES, XZ_MEMORY};

/// How a stream is packed; the number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Codec {
    /// As it is.
    Raw = 0,
    /// One frame of zstd (RFC 8878).
    Zstd = 1,
    /// LZMA with its own header of 13 bytes, as in files named `.lzma`.
    Lzma = 2,
}

impl Codec {
    pub(crate) fn from_byte(byte: u8) -> Option<Codec> {
        [Codec::Raw, Codec::Zstd, Codec::Lzma].get(usize::from(byte)).copied()
    }
}

/// A stream as it lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) codec: Codec,
    pub(crate) bytes: Vec<u8>,
    pub(crate) unpacked: u64,
}

/// zstd's level: the last before the ones that take twice the memory to unpack.
const LEVEL: i32 = 19;
/// Above this, compression is of whole objects and level 19 would take minutes for the last percent.
const LARGE: usize = 256 << 20;
const LARGE_LEVEL: i32 = 12;
/// From here on a stream is searched for repetitions far apart.
const LONG: usize = 8 << 20;
/// LZMA unpacks ten times slower than zstd. A small stream may; a larger one must become this much smaller.
const SMALL: usize = 64 << 10;
const WORTH_PERCENT: usize = 12;
const LZMA_PRESET: u32 = 9;

/// Packs `bytes`.
pub(crate) fn pack(bytes: &[u8]) -> io::Result<Packed> {
    let packed = |codec, packed| Packed { codec, bytes: packed, unpacked: bytes.len() as u64 };
    let mut best = packed(Codec::Raw, bytes.to_vec());
    if bytes.is_empty() {
        return Ok(best);
    }
    let zstd = zstd(bytes)?;
    if zstd.len() < best.bytes.len() {
        best = packed(Codec::Zstd, zstd);
    }
    if bytes.len() as u64 <= XZ_BYTES {
        let lzma = lzma(bytes)?;
        let percent = if best.bytes.len() <= SMALL { 0 } else { WORTH_PERCENT };
        if lzma.len() < best.bytes.len() - best.bytes.len() * percent / 100 {
            best = packed(Codec::Lzma, lzma);
        }
    }
    Ok(best)
}

/// About how much of `bytes` would be left, found out quickly.
pub(crate) fn fast_length(bytes: &[u8]) -> io::Result<u64> {
    Ok(zstd::bulk::compress(bytes, 1)?.len() as u64)
}

fn zstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let level = if bytes.len() > LARGE { LARGE_LEVEL } else { LEVEL };
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.set_parameter(CParameter::ContentSizeFlag(false))?;
    if bytes.len() >= LONG {
        compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        compressor.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    }
    compressor.compress(bytes)
}

fn lzma(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut options = LzmaOptions::new_preset(LZMA_PRESET).map_err(io::Error::other)?;
    options.dict_size(u32::try_from(bytes.len().next_power_of_two()).unwrap_or(u32::MAX).max(1 << 12));
    let stream = Stream::new_lzma_encoder(&options).map_err(io::Error::other)?;
    let mut packed = Vec::new();
    liblzma::read::XzEncoder::new_stream(bytes, stream).read_to_end(&mut packed)?;
    Ok(packed)
}

/// Reads what `codec` packed into `packed`, and exactly `unpacked` bytes of it.
pub(crate) struct Unpacked<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
}

impl<'a> Unpacked<'a> {
    pub(crate) fn new(codec: Codec, packed: impl Read + 'a, unpacked: u64) -> io::Result<Self> {
        let packed = BufReader::with_capacity(64 << 10, packed);
        let inner: Box<dyn Read + 'a> = match codec {
            Codec::Raw => Box::new(packed),
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
                decoder.window_log_max(WINDOW_LOG)?;
                Box::new(decoder)
            }
            Codec::Lzma => {
                let stream = Stream::new_lzma_decoder(XZ_MEMORY).map_err(io::Error::other)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
            }
        };
        Ok(Unpacked { inner, left: unpacked })
    }

    /// Fills `out`; an error if there is not so much.
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> io::Result<()> {
        let rest = self.left.checked_sub(out.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.inner.read_exact(out)?;
        self.left = rest;
        Ok(())
    }

    /// All that is left, which the caller knows to be little.
    pub(crate) fn all(&mut self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.left).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        // Grows with what is really there, not with what a number claims.
        (&mut self.inner).take(self.left).read_to_end(&mut bytes)?;
        if bytes.len() != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = 0;
        Ok(bytes)
    }

    /// Whether everything was read, and nothing follows.
    pub(crate) fn is_done(&mut self) -> bool {
        self.left == 0 && matches!(self.inner.read(&mut [0]), Ok(0))
    }
}

/// Numbers out of a stream, one after the other.
pub(crate) struct Numbers<'a> {
    stream: Unpacked<'a>,
    buffer: Vec<u8>,
    at: usize,
}

/// Bytes of numbers that are unpacked at once.
const BUFFER: u64 = 32 << 10;

impl<'a> Numbers<'a> {
    pub(crate) fn new(stream: Unpacked<'a>) -> Self {
        Numbers { stream, buffer: Vec::new(), at: 0 }
    }

    /// The next number, as `varint` writes it.
    #[inline]
    pub(crate) fn next(&mut self) -> io::Result<u64> {
        let (mut value, mut bits) = (0u64, 0);
        loop {
            if self.at == self.buffer.len() {
                let length = self.stream.left.min(BUFFER) as usize;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.buffer.resize(length, 0);
                self.at = 0;
                self.stream.fill(&mut self.buffer)?;
            }
            let byte = self.buffer[self.at];
            self.at += 1;
            if bits == 63 && byte > 1 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            value |= u64::from(byte & 0x7f) << bits;
            if byte < 0x80 {
                return Ok(value);
            }
            bits += 7;
        }
    }

    pub(crate) fn is_done(&mut self) -> bool {
        self.at == self.buffer.len() && self.stream.is_done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_and_unpacked_is_equal() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|at| (at / 3 * 7919).to_le_bytes()).collect();
        for bytes in [&b""[..], b"x", &text[..1000], &text] {
            let packed = pack(bytes).unwrap();
            assert!(packed.bytes.len() <= bytes.len());
            let mut stream = Unpacked::new(packed.codec, &packed.bytes[..], packed.unpacked).unwrap();
            assert_eq!(stream.all().unwrap(), bytes);
            assert!(stream.is_done());
        }
    }

    #[test]
    fn a_stream_that_claims_more_or_less_is_seen() {
        let packed = pack(&[7; 5000]).unwrap();
        let open = |unpacked| Unpacked::new(packed.codec, &packed.bytes[..], unpacked).unwrap();
        assert!(open(5001).all().is_err());
        let mut less = open(4999);
        less.all().unwrap();
        assert!(!less.is_done());
    }

    #[test]
    fn a_number_with_too_many_bits_is_refused() {
        let bytes = [0xff; 11];
        let mut numbers = Numbers::new(Unpacked::new(Codec::Raw, &bytes[..], 11).unwrap());
        assert!(numbers.next().is_err());
    }
}
