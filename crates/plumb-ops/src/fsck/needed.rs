//! What releases need: all of it, unless their images were collected; then what it takes to build these again.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_model::release::{Release, ReleaseName};

use super::COLLECTED;
use crate::Plumb;
use crate::error::OpsError;

/// Objects that are needed, with the releases that need them.
pub(super) type NeededBy = BTreeMap<Digest, BTreeSet<ReleaseName>>;

/// Said in the note about a collected release whose packages were all there: then they are to stay. Of one that was pulled
/// without its packages they are not missed.
pub(crate) const WITH_PACKAGES: &str = "packages";

/// What was read; `None` if it is damaged or lost, which is named by itself.
pub(super) fn readable<T>(read: Result<T, OpsError>) -> Result<Option<T>, OpsError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Plumb<'_> {
    /// Everything that releases need, as far as it can be told.
    pub(super) fn needed_by(&self, releases: &[Release]) -> Result<NeededBy, OpsError> {
        let mut needed = NeededBy::new();
        for release in releases {
            let name = release.name();
            for digest in self.needs(release)? {
                needed.entry(digest).or_default().insert(name.clone());
            }
        }
        Ok(needed)
    }

    /// Everything that a release needs and that would be missed.
    pub(crate) fn needs(&self, release: &Release) -> Result<BTreeSet<Digest>, OpsError> {
        let mut needed = BTreeSet::from([release.definition, release.lock]);
        needed.extend(release.checks);
        let (mut images, mut documents) = (BTreeSet::new(), BTreeSet::new());
        for machine in release.content.machines.values() {
            needed.insert(machine.image);
            let Some(image) = readable(self.image(&machine.image))? else { continue };
            images.extend([image.kernel.digest, image.initrd.digest, image.root.digest]);
            documents.extend(image.scripts);
            // Images of the first versions of Plumb have neither.
            if let Some(part) = &image.inventory {
                documents.extend([part.digest, image.recipe]);
            }
        }
        // Where a recipe cannot be read, the rest is found when it is there again.
        let reached = readable(self.reach(release))?.into_iter().flatten();
        documents.extend(reached.map(|object| object.digest).filter(|digest| !images.contains(digest)));
        needed.extend(documents);
        match self.store.entry(COLLECTED, &crate::collect::key_of(&release.name()))? {
            None => {
                for image in images {
                    needed.insert(image);
                    needed.extend(self.store.bases(&image)?);
                }
            }
            Some(note) if String::from_utf8_lossy(&note).contains(WITH_PACKAGES) => {
                if let Some(lock) = readable(self.lock_of(release))? {
                    needed.extend(lock.packages.iter().map(|package| package.digest));
                }
            }
            Some(_) => {}
        }
        Ok(needed)
    }

    /// The images of a release came back: what is missing of it from now on is missed.
    pub(crate) fn forget_collected(&self, release: &Release) -> Result<(), OpsError> {
        if self.is_whole_here(release)? {
            self.store.remove_entry(COLLECTED, &crate::collect::key_of(&release.name()))?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn is_collected(&self, name: &ReleaseName) -> Result<bool, OpsError> {
        Ok(self.store.entry(COLLECTED, &crate::collect::key_of(name))?.is_some())
    }
}
