//! File contents in memory, so that a fuzzer is not slowed down by a disk; a path is made only for who asks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use plumb_image::tree::{Entry, Layer, Objects, Origin, Tree};
use plumb_model::Digest;
use tempfile::TempDir;

/// Bytes that one run may keep. Product code that keeps more has no limit of its own.
const KEPT_BYTES: usize = 256 << 20;

#[derive(Default)]
pub(crate) struct Memory {
    kept: Mutex<BTreeMap<Digest, Vec<u8>>>,
    folder: Mutex<Option<TempDir>>,
}

impl Memory {
    /// Keeps `bytes` and inserts a file with them.
    pub(crate) fn file(&self, tree: &mut Tree, path: &str, mode: u32, bytes: &[u8]) {
        let (digest, size) = self.put(&mut &*bytes).expect("memory takes everything");
        tree.insert(path, Entry::file(digest, size, mode), origin());
    }
}

impl Objects for Memory {
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(digest, bytes);
        assert!(kept.values().map(Vec::len).sum::<usize>() <= KEPT_BYTES, "contents grow without limit");
        Ok((digest, size))
    }

    fn open(&self, digest: &Digest) -> io::Result<File> {
        let bytes = self.read(digest, u64::MAX - 1)?;
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match &mut *folder {
            Some(folder) => folder,
            empty => empty.insert(tempfile::tempdir()?),
        };
        let path = folder.path().join(digest.hex());
        std::fs::write(&path, bytes)?;
        File::open(path)
    }

    fn read(&self, digest: &Digest, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = kept.get(digest).ok_or(io::ErrorKind::NotFound)?;
        if bytes.len() as u64 > limit_bytes {
            return Err(io::Error::other("larger than the limit"));
        }
        Ok(bytes.clone())
    }
}

pub(crate) fn origin() -> Origin {
    Origin { layer: Layer::Os, source: "package".into() }
}
