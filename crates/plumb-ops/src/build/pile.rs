//! File contents one behind the other in one unnamed file: for packages of which only a few files are wanted.
//!
//! A kernel package has thousands of modules, of which an image takes some twenty; which ones is known only when all of
//! them were seen. Making objects of them costs more than decompressing them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use plumb_image::tree::Objects;
use plumb_model::Digest;

/// Bytes per read: what a decompressor gives at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// [`Objects`] whose names are places in the pile (offset and length), not hashes: they mean nothing elsewhere, and
/// nothing here is ever published under them.
pub(super) struct Pile {
    file: File,
    /// Where the next content goes, and the buffer for it.
    end: Mutex<(u64, Vec<u8>)>,
}

impl Pile {
    /// An empty pile in a file at `path` that loses its name at once, so that it goes with its process.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        fs::remove_file(path)?;
        Ok(Pile { file, end: Mutex::new((0, vec![0; BUFFER_BYTES])) })
    }
}

fn name(offset: u64, length: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..16].copy_from_slice(&length.to_le_bytes());
    Digest::from_bytes(bytes)
}

fn place(name: &Digest) -> (u64, u64) {
    let word = |at: usize| {
        name.as_bytes()[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    (word(0), word(8))
}

impl Objects for Pile {
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let (offset, buffer) = &mut *end;
        let mut length = 0;
        loop {
            match source.read(buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.file.write_all_at(&buffer[..count], *offset + length)?;
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let name = name(*offset, length);
        *offset += length;
        Ok((name, length))
    }

    fn open(&self, _: &Digest) -> io::Result<File> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "what lies in a pile has no file of its own"))
    }

    fn read(&self, name: &Digest, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let (offset, length) = place(name);
        if length > limit_bytes {
            return Err(io::Error::other(format!("a file is larger than {limit_bytes} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let pile = Pile::new(&folder.path().join("pile")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let large = vec![7; 200_000];
        let contents: [&[u8]; 4] = [b"one", b"", &large, b"one"];
        let names: Vec<_> = contents.iter().map(|bytes| pile.put(&mut &**bytes).unwrap()).collect();
        for (bytes, (name, length)) in contents.iter().zip(&names) {
            assert_eq!(*length, bytes.len() as u64);
            assert_eq!(pile.read(name, *length).unwrap(), *bytes);
        }
        assert!(pile.read(&names[2].0, 199_999).is_err());
        assert!(pile.open(&names[0].0).is_err());
        assert!(pile.read(&name(200_000, 100), 100).is_err());
    }
}
