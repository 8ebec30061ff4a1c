//! Objects in a temporary directory, for tests.

use std::fs;
use std::io::{self, Read};

use plumb_model::Digest;
use tempfile::TempDir;

use crate::tree::{Entry, Layer, Objects, Origin, Tree};

pub(crate) struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(TempDir::new().unwrap())
    }

    /// Keeps `bytes` and inserts a file with them.
    pub fn file(&self, tree: &mut Tree, path: &str, mode: u32, bytes: &[u8]) {
        let (digest, size) = self.put(&mut &bytes[..]).unwrap();
        tree.insert(path, Entry::file(digest, size, mode), origin());
    }
}

impl Objects for Folder {
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let digest = Digest::of(&bytes);
        fs::write(self.0.path().join(digest.hex()), &bytes)?;
        Ok((digest, bytes.len() as u64))
    }

    fn open(&self, digest: &Digest) -> io::Result<fs::File> {
        fs::File::open(self.0.path().join(digest.hex()))
    }
}

pub(crate) fn origin() -> Origin {
    Origin { layer: Layer::Os, source: "test".into() }
}
