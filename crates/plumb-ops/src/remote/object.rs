//! The store as the place that deltas read old objects from and write new ones to.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use plumb_delta::{Bytes, Entry, Object, Objects, Sink};
use plumb_model::Digest;
use plumb_model::release::Release;
use plumb_store::{ObjectWriter, Store};

use crate::Plumb;
use crate::error::OpsError;
use crate::progress::{Progress, Travel};
use crate::remote::TransferError;

/// [`Objects`] of a store.
pub(super) struct Here<'a>(pub(super) &'a Store);

impl Objects for Here<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Option<Box<dyn Bytes>>> {
        match self.0.open_object(digest) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(plumb_store::Error::Missing { .. }) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Which objects are to come.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// Only these, and what it takes to make them; without it all that are not here.
    pub(super) only: Option<BTreeSet<Digest>>,
    /// They come although their folded form is here, which makes way for what came.
    pub(super) anew: BTreeSet<Digest>,
}

impl Wish {
    /// Whether an object is to come.
    pub(super) fn lacks(&self, store: &Store, object: &Entry) -> Result<bool, plumb_store::Error> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&object.digest)) {
            return Ok(false);
        }
        if self.anew.contains(&object.digest) {
            return Ok(!store.path(&object.digest).exists());
        }
        Ok(store.size(&object.digest)? != Some(object.size))
    }

    /// Wants an object more, as another is made from it. `false` if it was wanted before.
    pub(super) fn add(&mut self, digest: Digest) -> bool {
        self.only.as_mut().is_some_and(|only| only.insert(digest))
    }
}

/// Where new objects go. The store hashes them once more on their way to the disk.
pub(super) struct Into<'a> {
    plumb: &'a Plumb<'a>,
    wish: &'a Wish,
    begun: Option<(Digest, ObjectWriter)>,
}

impl<'a> Into<'a> {
    pub(super) fn new(plumb: &'a Plumb<'a>, wish: &'a Wish) -> Self {
        Into { plumb, wish, begun: None }
    }
}

impl Sink for Into<'_> {
    fn has(&self, object: &Entry) -> io::Result<bool> {
        let lacks = self.wish.lacks(&self.plumb.store, object).map_err(io::Error::other)?;
        Ok(!lacks)
    }

    fn begin(&mut self, object: &Entry) -> io::Result<()> {
        self.begun = Some((object.digest, self.plumb.store.writer()));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.begun {
            Some((_, writer)) => {
                writer.write_all(bytes)?;
                self.plumb.report(Progress::Travel(Travel::Applied { bytes: bytes.len() as u64 }));
                Ok(())
            }
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some((digest, writer)) = self.begun.take() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // All bytes are here, and are what they should be; while a form of the object is here, no other takes its place.
        if self.wish.anew.contains(&digest) && !self.plumb.store.path(&digest).exists() {
            match self.plumb.store.set_fold_aside(&digest) {
                // Another process did so before.
                Ok(_) | Err(plumb_store::Error::Missing { .. }) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        writer.commit_expecting(&digest).map_err(io::Error::other)?;
        Ok(())
    }
}

impl Plumb<'_> {
    /// What a release reaches, with sizes; an error names what is not in the store.
    pub(super) fn whole(&self, release: &Release) -> Result<Vec<Object>, OpsError> {
        let mut objects = Vec::new();
        for reached in self.reach(release)? {
            let size = self.store.size(&reached.digest)?.ok_or_else(|| TransferError::NotWhole {
                release: release.name(),
                part: reached.name.clone(),
                digest: reached.digest,
            })?;
            objects.push(Object { name: reached.name, digest: reached.digest, size });
        }
        for (machine, entry) in &release.content.machines {
            let image = self.image(&entry.image)?;
            if !self.is_complete(&image)? {
                let part = format!("{machine}/image");
                return Err(OpsError::Transfer(TransferError::NotWhole {
                    release: release.name(),
                    part,
                    digest: entry.image,
                }));
            }
        }
        Ok(objects)
    }
}
