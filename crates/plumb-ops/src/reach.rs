//! What a release reaches: every object that must be in a store for the release to be shown, compared, verified, billed
//! and run there.
//!
//! ```text
//!  release ─┬─ definition, lock, list of checks ─ files of checks
//!           └─ machine ─ image manifest ─┬─ kernel, initramfs, root
//!                                        ├─ inventory ─ (contents of the root's files: see below)
//!                                        ├─ what maintainer scripts did
//!                                        └─ recipe ─ the user's own files
//! ```
//!
//! The contents of the files of a root are objects, too, where the image was built. They are not reached: they lie in the
//! root, and [`Plumb::carve`] takes them out of it where somebody wants to look at one. So neither a pull nor a garbage
//! collection has to keep bytes twice. What an image was *built from*, packages above all, is not reached either.

use std::collections::BTreeSet;

use plumb_model::Digest;
use plumb_model::image::Image;
use plumb_model::release::Release;

use crate::Plumb;
use crate::error::OpsError;

/// One object that a release reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    /// What it is in its release, such as `web/root`: the same thing has the same name in the next release.
    pub(crate) name: String,
    /// Digest of its bytes.
    pub(crate) digest: Digest,
}

/// Collects each object once.
#[derive(Default)]
struct Collection {
    seen: BTreeSet<Digest>,
    objects: Vec<Reached>,
}

impl Collection {
    fn add(&mut self, name: String, digest: Digest) {
        if self.seen.insert(digest) {
            self.objects.push(Reached { name, digest });
        }
    }
}

impl Plumb<'_> {
    /// Every object that `release` reaches, each once, in a fixed order: what is large first. The release's own document
    /// is not an object and not among them.
    ///
    /// # Errors
    /// [`OpsError::Store`] or [`OpsError::Document`] if an image manifest or a recipe, which name others, cannot be read.
    pub(crate) fn reach(&self, release: &Release) -> Result<Vec<Reached>, OpsError> {
        let mut found = Collection::default();
        let mut documents = Collection::default();
        for (machine, entry) in &release.content.machines {
            let image = self.image(&entry.image)?;
            documents.add(format!("{machine}/manifest.json"), entry.image);
            for (part, name) in [(&image.kernel, "kernel"), (&image.initrd, "initrd"), (&image.root, "root")]
            {
                found.add(format!("{machine}/{name}"), part.digest);
            }
            self.reach_of_image(machine.as_str(), &image, &mut documents)?;
        }
        documents.add("definition.toml".to_owned(), release.definition);
        documents.add("lock.toml".to_owned(), release.lock);
        if let Some(digest) = release.checks {
            documents.add("checks.json".to_owned(), digest);
            for (path, digest) in self.checks_of(release)?.objects() {
                documents.add(format!("checks/{path}"), *digest);
            }
        }
        for document in documents.objects {
            found.add(document.name, document.digest);
        }
        Ok(found.objects)
    }

    fn reach_of_image(&self, machine: &str, image: &Image, found: &mut Collection) -> Result<(), OpsError> {
        if let Some(part) = &image.inventory {
            found.add(format!("{machine}/inventory.json"), part.digest);
        }
        if let Some(digest) = image.scripts {
            found.add(format!("{machine}/scripts.json"), digest);
        }
        // Images of the first versions of Plumb have none.
        if self.store.size(&image.recipe)?.is_some() {
            found.add(format!("{machine}/recipe.json"), image.recipe);
            for (path, digest) in self.recorded(image)?.contents() {
                found.add(format!("{machine}/file{path}"), digest);
            }
        }
        Ok(())
    }
}
