//! Objects in memory: for tests, fuzzers, and whatever is small.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use plumb_model::Digest;

use crate::{Bytes, Entry, Object, Objects, Sink};

/// Objects by digest. A copy shares them, so one can be read while another is written to.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    objects: Rc<RefCell<BTreeMap<Digest, Arc<Vec<u8>>>>>,
    begun: Option<(Digest, Vec<u8>)>,
}

impl Memory {
    /// Adds an object and says what it is.
    pub fn add(&self, name: &str, bytes: &[u8]) -> Object {
        let digest = Digest::of(bytes);
        self.put(digest, bytes);
        Object { name: name.to_owned(), digest, size: bytes.len() as u64 }
    }

    /// Puts bytes under a digest, theirs or not.
    pub fn put(&self, digest: Digest, bytes: &[u8]) {
        self.objects.borrow_mut().insert(digest, Arc::new(bytes.to_vec()));
    }

    /// The bytes of an object.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<Arc<Vec<u8>>> {
        self.objects.borrow().get(digest).cloned()
    }
}

impl Bytes for Arc<Vec<u8>> {
    fn length(&self) -> io::Result<u64> {
        self[..].length()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self[..].read_at(offset, out)
    }
}

impl Objects for Memory {
    fn open(&self, digest: &Digest) -> io::Result<Option<Box<dyn Bytes>>> {
        Ok(self.get(digest).map(|bytes| Box::new(bytes) as Box<dyn Bytes>))
    }
}

impl Sink for Memory {
    fn has(&self, object: &Entry) -> io::Result<bool> {
        Ok(self.get(&object.digest).is_some())
    }

    fn begin(&mut self, object: &Entry) -> io::Result<()> {
        self.begun = Some((object.digest, Vec::new()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some((_, begun)) = &mut self.begun {
            begun.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some((digest, bytes)) = self.begun.take() {
            self.put(digest, &bytes);
        }
        Ok(())
    }
}
