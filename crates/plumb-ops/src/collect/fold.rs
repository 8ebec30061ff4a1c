//! Folding what stays and is not used: an image to where its files lie, everything else compressed.

use std::collections::BTreeSet;
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
    /// Bytes of the smallest object that there was no space to fold, if the disk is full.
    full_at: Option<u64>,
}

impl Plumb<'_> {
    /// Folds everything that `need` names and that is not to be used as it is. Takes nothing away.
    pub(super) fn fold_all(&self, need: &Need) -> Result<Folded, OpsError> {
        let mut folded = Folded::default();
        let none = BTreeSet::new();
        let rule = Rule {
            need,
            redundant: &none,
            missed: &none,
            proven: &none,
            unfoldable: &none,
            now_s: 0,
            young_s: 0,
        };
        // Roots first: the contents of their files become objects on the way, if they are not.
        for stored in self.store.stored()? {
            let is_root = rule.kind(&stored.digest) == Kind::Root;
            if is_root && rule.fate(&stored) == Fate::Fold && folded.may_fit(&stored) {
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
            if !hold().may_fit(stored) {
                return Ok(());
            }
            let is_needed = need.objects.get(&stored.digest).is_some_and(|found| !found.is_hot);
            if is_needed && stored.plain.is_some() && stored.folded.is_some() {
                // Made by somebody who may have died before it was durable.
                if hold().proven.contains(&stored.digest) {
                    return Ok(());
                }
                let proven = self.store.prove(&stored.digest).map_err(OpsError::from);
                match proven {
                    Ok(()) => drop(hold().proven.insert(stored.digest)),
                    Err(error) if error.is_full() => hold().no_space(stored),
                    // Then its plain form stays.
                    Err(_) => {}
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
        let mut folded = folded.into_inner().unwrap_or_else(PoisonError::into_inner);
        match self.store.sync().map_err(OpsError::from) {
            // The kernel says this once: a later sync that succeeds does not mean these.
            Err(error) if error.is_full() => {
                folded.proven.clear();
                folded.full_at = Some(0);
            }
            other => other?,
        }
        Ok(folded)
    }

    /// Folds one root. Where its files lie follows from its inventory; if that is not so (another version of Plumb laid it
    /// out), it is compressed as a whole.
    fn fold_root(&self, digest: &Digest, image: Option<&Image>) -> Result<Option<u64>, OpsError> {
        let pieces = match image.map(|image| self.pieces(image)) {
            Some(Err(error)) if error.is_full() => return Err(error),
            found => found.and_then(Result::ok).unwrap_or_default(),
        };
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
    /// The disk is full: something stays as it is.
    pub(super) fn is_full(&self) -> bool {
        self.full_at.is_some()
    }

    /// Whether it is worth a try: where there was no space for one object there may be for one of half its size, which then
    /// makes room for others.
    fn may_fit(&self, stored: &Stored) -> bool {
        self.full_at.is_none_or(|full| stored.plain.map_or(0, |form| form.bytes) < full / 2)
    }

    fn no_space(&mut self, stored: &Stored) {
        let bytes = stored.plain.map_or(0, |form| form.bytes);
        self.full_at = Some(self.full_at.map_or(bytes, |full| full.min(bytes)));
    }

    /// Notes what came of one. Only what concerns the whole store ends the collection.
    fn take(&mut self, stored: &Stored, outcome: Result<Option<u64>, OpsError>) -> Result<(), OpsError> {
        match outcome {
            Ok(Some(_)) => drop(self.proven.insert(stored.digest)),
            Ok(None) => drop(self.unfoldable.insert(stored.digest)),
            // No space: that is why people collect, so it goes on without folding.
            Err(error) if error.is_full() => self.no_space(stored),
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
