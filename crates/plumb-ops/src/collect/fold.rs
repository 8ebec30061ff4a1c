//! Folding what stays and is not used: an image to where its files lie, everything else compressed.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;

use plumb_image::erofs;
use plumb_model::Digest;
use plumb_model::image::Image;
use plumb_store::{Piece, Stored, Tree};
use rayon::prelude::*;

use super::kind::Kind;
use super::need::Need;
use super::sweep::{Fate, Rule};
use crate::Plumb;
use crate::error::OpsError;
use crate::progress::{Progress, StoreStep};

/// What folding brought.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// Folded forms that make their object: seen now.
    pub(super) proven: BTreeSet<Digest>,
    /// What saves nothing.
    pub(super) unfoldable: BTreeSet<Digest>,
    /// What is wrong with objects that should have been folded.
    pub(super) problems: Vec<String>,
    /// The disk is full: the rest stays as it is.
    pub(super) is_full: bool,
}

impl Plumb<'_> {
    /// Folds everything that `need` names and that is not to be used as it is. Takes nothing away.
    pub(super) fn fold_all(&self, need: &Need) -> Result<Folded, OpsError> {
        let mut folded = Folded::default();
        let none = BTreeSet::new();
        let rule = Rule { need, redundant: &none, proven: &none, unfoldable: &none, now_s: 0, young_s: 0 };
        // Roots first: the contents of their files become objects on the way, if they are not.
        for stored in self.store.stored()? {
            if rule.kind(&stored.digest) == Kind::Root && rule.fate(&stored) == Fate::Fold {
                let image = need.roots.get(&stored.digest);
                let outcome = self.fold_root(&stored.digest, image);
                folded.take(&stored, outcome)?;
            }
        }
        let all = self.store.stored()?;
        self.report(Progress::Store(StoreStep::Folding { objects: all.len() as u64 }));
        let folded = Mutex::new(folded);
        all.par_iter().with_max_len(1).try_for_each(|stored| {
            let hold = || folded.lock().unwrap_or_else(PoisonError::into_inner);
            if hold().is_full {
                return Ok(());
            }
            let is_needed = need.objects.get(&stored.digest).is_some_and(|found| !found.is_hot);
            if is_needed && stored.plain.is_some() && stored.folded.is_some() {
                // Made by somebody who may have died before it was durable.
                let known = hold().proven.contains(&stored.digest);
                if !known && self.store.prove(&stored.digest).is_ok() {
                    hold().proven.insert(stored.digest);
                }
                return Ok(());
            }
            let fate = rule.fate(stored);
            if fate != Fate::Fold || rule.kind(&stored.digest) == Kind::Root {
                return Ok(());
            }
            let outcome = self.store.fold(&stored.digest, &[], Tree::None);
            hold().take(stored, outcome.map_err(OpsError::from))
        })?;
        let folded = folded.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.store.sync()?;
        Ok(folded)
    }

    /// Folds one root. Where its files lie follows from its inventory; if that is not so (another version of Plumb laid it
    /// out), it is compressed as a whole.
    fn fold_root(&self, digest: &Digest, image: Option<&Image>) -> Result<Option<u64>, OpsError> {
        let pieces = image.and_then(|image| self.pieces(image).ok()).unwrap_or_default();
        match self.store.fold(digest, &pieces, Tree::Behind) {
            Err(plumb_store::Error::Unfoldable { .. }) => Ok(self.store.fold(digest, &[], Tree::Behind)?),
            other => Ok(other?),
        }
    }

    fn pieces(&self, image: &Image) -> Result<Vec<Piece>, OpsError> {
        let inventory = self.inventory(&image.machine, image)?;
        self.carve(&image.machine, (image, &inventory), &|_| true)?;
        let layout = erofs::layout(&inventory.tree(), 0)
            .map_err(|error| OpsError::Build { machine: image.machine.clone(), source: Box::new(error) })?;
        let piece = |extent: erofs::Extent| Piece {
            at: extent.image_offset,
            base: extent.digest,
            offset: extent.object_offset,
            length: extent.length,
        };
        Ok(layout.extents().into_iter().map(piece).collect())
    }
}

impl Folded {
    /// Notes what came of one. Only what concerns the whole store ends the collection.
    fn take(&mut self, stored: &Stored, outcome: Result<Option<u64>, OpsError>) -> Result<(), OpsError> {
        match outcome {
            Ok(Some(_)) => drop(self.proven.insert(stored.digest)),
            Ok(None) => drop(self.unfoldable.insert(stored.digest)),
            Err(OpsError::Store(plumb_store::Error::Write { source, .. })) if is_full(&source) => {
                self.is_full = true;
            }
            Err(OpsError::Store(
                error @ (plumb_store::Error::Damaged { .. }
                | plumb_store::Error::DamagedFold { .. }
                | plumb_store::Error::Missing { .. }),
            )) => self.problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// No space: that is why people collect, so it goes on without folding.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
