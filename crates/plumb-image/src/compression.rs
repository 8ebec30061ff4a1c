//! Decompression in memory of what a kernel package holds, with a limit on the result.

use std::io::{self, Read};

/// `xz` memory: the kernel build uses dictionaries of up to 128 MiB (`scripts/xz_wrap.sh`).
const XZ_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// `zstd` window of 128 MiB, what `zstd --ultra -22` uses for kernels.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Largest block of an LZ4 legacy frame (`lib/decompress_unlz4.c`).
const LZ4_BLOCK_BYTES: usize = 8 * 1024 * 1024;
const LZ4_LEGACY_MAGIC: u32 = 0x184c_2102;

/// How some bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Xz,
    Zstd,
    /// LZ4 legacy frame: magic, then blocks of size and data.
    Lz4Legacy,
}

impl Compression {
    /// By the first bytes; `None` if they are of no known form.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Compression::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
            [0x02, 0x21, 0x4c, 0x18, ..] => Some(Compression::Lz4Legacy),
            _ => None,
        }
    }

    /// The decompressed bytes, at most `limit_bytes`.
    pub fn decompress(self, bytes: &[u8], limit_bytes: u64) -> io::Result<Vec<u8>> {
        match self {
            Compression::Gzip => read_all(flate2::read::GzDecoder::new(bytes), limit_bytes),
            Compression::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, 0)?;
                read_all(liblzma::read::XzDecoder::new_stream(bytes, stream), limit_bytes)
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                read_all(decoder, limit_bytes)
            }
            Compression::Lz4Legacy => lz4_legacy(bytes, limit_bytes),
        }
    }
}

fn too_large(limit_bytes: u64) -> io::Error {
    io::Error::other(format!("decompresses to more than {limit_bytes} bytes"))
}

fn read_all(source: impl Read, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(too_large(limit_bytes));
    }
    Ok(bytes)
}

fn lz4_legacy(bytes: &[u8], limit_bytes: u64) -> io::Result<Vec<u8>> {
    let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the LZ4 frame ends inside a block");
    let mut output = Vec::new();
    // Made once and not cleared: a frame of a million blocks with nothing in them costs no more than its length.
    let mut block_bytes = vec![0; LZ4_BLOCK_BYTES];
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<4>() {
        rest = after;
        let length = u32::from_le_bytes(*word);
        // A frame may follow a frame; its magic is larger than any block.
        if length == LZ4_LEGACY_MAGIC {
            continue;
        }
        let (block, after) = rest.split_at_checked(length as usize).ok_or_else(short)?;
        rest = after;
        let length = lz4_flex::block::decompress_into(block, &mut block_bytes).map_err(io::Error::other)?;
        output.extend_from_slice(&block_bytes[..length]);
        if output.len() as u64 > limit_bytes {
            return Err(too_large(limit_bytes));
        }
    }
    if rest.is_empty() { Ok(output) } else { Err(short()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &[u8] = b"a kernel, a kernel, my image for a kernel; a kernel, a kernel";

    fn lz4_frame(blocks: &[&[u8]]) -> Vec<u8> {
        let mut frame = LZ4_LEGACY_MAGIC.to_le_bytes().to_vec();
        for block in blocks {
            let block = lz4_flex::block::compress(block);
            frame.extend((block.len() as u32).to_le_bytes());
            frame.extend(block);
        }
        frame
    }

    fn samples() -> Vec<(Compression, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(TEXT).unwrap();
        let mut filters = liblzma::stream::Filters::new();
        filters.x86();
        filters.lzma2(&liblzma::stream::LzmaOptions::new_preset(6).unwrap());
        let stream =
            liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut xz = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        xz.write_all(TEXT).unwrap();
        vec![
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Xz, xz.finish().unwrap()),
            (Compression::Zstd, zstd::encode_all(TEXT, 3).unwrap()),
            (Compression::Lz4Legacy, lz4_frame(&[&TEXT[..20], &TEXT[20..]])),
        ]
    }

    /// Blocks with nothing in them must not cost a block of memory each: this would take minutes.
    #[test]
    fn empty_blocks_cost_nothing() {
        let mut frame = LZ4_LEGACY_MAGIC.to_le_bytes().to_vec();
        frame.extend([1, 0, 0, 0, 0].repeat(500_000));
        assert_eq!(Compression::Lz4Legacy.decompress(&frame, 0).unwrap(), b"");
    }

    #[test]
    fn every_form_is_detected_and_limited() {
        for (form, bytes) in samples() {
            assert_eq!(Compression::detect(&bytes), Some(form));
            assert_eq!(form.decompress(&bytes, TEXT.len() as u64).unwrap(), TEXT, "{form:?}");
            assert!(form.decompress(&bytes, TEXT.len() as u64 - 1).is_err(), "{form:?}");
            assert!(form.decompress(&bytes[..bytes.len() - 3], 1 << 20).is_err(), "{form:?} cut short");
        }
        assert_eq!(Compression::detect(b"\x7fELF"), None);
    }
}
