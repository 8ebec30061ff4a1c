//! What releases need: all of it, unless their images were collected; then what it takes to build these again.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_model::release::{Release, ReleaseName};

use super::COLLECTED;
use crate::Plumb;
use crate::error::OpsError;

/// What releases need, as far as it can be told.
#[derive(Default)]
pub(super) struct Needed {
    /// Objects, with the releases that need them.
    pub(super) by: BTreeMap<Digest, BTreeSet<ReleaseName>>,
    /// Releases of which something could not be read: they may need more.
    pub(super) unread: BTreeSet<ReleaseName>,
}

/// What one release needs.
#[derive(Default)]
struct Needs {
    objects: BTreeSet<Digest>,
    /// Something that names more of it could not be read.
    is_unread: bool,
}

impl Needs {
    /// What was read and names more; what was not is remembered.
    fn noted<T>(&mut self, read: Option<T>) -> Option<T> {
        self.is_unread |= read.is_none();
        read
    }
}

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
    pub(super) fn needed_by(&self, releases: &[Release]) -> Result<Needed, OpsError> {
        let mut needed = Needed::default();
        for release in releases {
            let name = release.name();
            let needs = self.needs_told(release)?;
            for digest in needs.objects {
                needed.by.entry(digest).or_default().insert(name.clone());
            }
            if needs.is_unread {
                needed.unread.insert(name);
            }
        }
        Ok(needed)
    }

    /// Everything that a release needs and that would be missed.
    pub(crate) fn needs(&self, release: &Release) -> Result<BTreeSet<Digest>, OpsError> {
        Ok(self.needs_told(release)?.objects)
    }

    /// The same, and whether it is all of it.
    fn needs_told(&self, release: &Release) -> Result<Needs, OpsError> {
        let mut needs = Needs::default();
        needs.objects.extend([release.definition, release.lock]);
        needs.objects.extend(release.checks);
        let (mut images, mut documents) = (BTreeSet::new(), BTreeSet::new());
        for machine in release.content.machines.values() {
            needs.objects.insert(machine.image);
            let image = readable(self.image(&machine.image))?;
            let Some(image) = needs.noted(image) else { continue };
            images.extend([image.kernel.digest, image.initrd.digest, image.root.digest]);
            documents.extend(image.scripts);
            // Images of the first versions of Plumb have neither.
            if let Some(part) = &image.inventory {
                documents.extend([part.digest, image.recipe]);
                needs.noted(self.store.size(&image.recipe)?);
            }
        }
        // Where a recipe cannot be read, the rest is found when it is there again.
        let reached = readable(self.reach(release))?;
        let reached = needs.noted(reached).into_iter().flatten();
        documents.extend(reached.map(|object| object.digest).filter(|digest| !images.contains(digest)));
        needs.objects.extend(documents);
        match self.store.entry(COLLECTED, &crate::collect::key_of(&release.name()))? {
            None => {
                for image in images {
                    needs.objects.insert(image);
                    needs.objects.extend(self.store.bases(&image)?);
                }
            }
            Some(note) if String::from_utf8_lossy(&note).contains(WITH_PACKAGES) => {
                let lock = readable(self.lock_of(release))?;
                if let Some(lock) = needs.noted(lock) {
                    needs.objects.extend(lock.packages.iter().map(|package| package.digest));
                }
            }
            Some(_) => {}
        }
        Ok(needs)
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
