//! How a stream is compressed, told by its first bytes.

use std::io::{self, BufRead, Read};

use crate::deb::{Capped, Limits};

/// A compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Packing {
    /// By the first bytes.
    pub fn detect(head: &[u8]) -> Packing {
        match head {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            _ => Packing::None,
        }
    }

    /// What `source` decompresses to; ends with an error beyond the limits.
    pub fn decoder<'a>(self, source: impl BufRead + 'a, limits: &Limits) -> io::Result<Box<dyn Read + 'a>> {
        let plain: Box<dyn Read + 'a> = match self {
            Packing::None => Box::new(source),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Packing::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(limits.decoder_memory_bytes, flags)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(limits.decoder_memory_bytes.max(1 << 20).ilog2().min(31))?;
                Box::new(decoder)
            }
        };
        Ok(Box::new(Capped { inner: plain, left: limits.unpacked_bytes, limit: limits.unpacked_bytes }))
    }
}
