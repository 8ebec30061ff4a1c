//! Is a release what it was: every object by its digest, and, built again from its own lock, the same bytes.

mod damage;
mod rebuild;

use std::collections::{BTreeMap, BTreeSet};

use plumb_image::compare::Difference;
use plumb_model::image::Image;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{Digest, Document as _, DocumentError, MachineName};
use serde::Serialize;

use crate::Plumb;
use crate::build::Recorded;
use crate::error::OpsError;

/// Largest recipe that is read: 200,000 files of the user, 250 bytes each, with room.
const RECIPE_LIMIT: u64 = 256 * 1024 * 1024;

/// What looking at a release brought.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// The release.
    pub release: ReleaseName,
    /// Who signed it, of those who are trusted.
    pub signed_by: Vec<String>,
    /// Objects that were looked at.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong with them.
    pub problems: Vec<Problem>,
    /// Machines built again, if that was asked for.
    pub rebuilt: Vec<Rebuilt>,
    /// What was wrong and is good again, because building again gave the same bytes.
    pub restored: Vec<Problem>,
    #[serde(skip)]
    checked: BTreeSet<Digest>,
}

/// An object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The machine it belongs to, if to one.
    pub machine: Option<MachineName>,
    /// What the object is: `kernel`, `initramfs`, `root`, `file /srv/x`, …
    pub part: String,
    /// Its digest.
    pub digest: Digest,
    /// What is wrong.
    pub reason: String,
    /// Files of the root that are damaged, as far as that can be told.
    pub paths: Vec<String>,
}

/// A machine that was built again.
#[derive(Debug, Clone, Serialize)]
pub struct Rebuilt {
    /// Machine.
    pub machine: MachineName,
    /// Parts that are not the same bytes: `kernel`, `initramfs`, `root`.
    pub parts: Vec<String>,
    /// Files that differ; the release's first.
    pub differences: Vec<Difference>,
    /// Why it may differ: made by another Plumb.
    pub causes: Vec<String>,
}

impl Problem {
    /// A part of an image that building it again gives: kernel, initramfs or root.
    fn can_be_built(&self) -> bool {
        matches!(self.part.as_str(), "kernel" | "initramfs" | "root")
    }
}

impl Verification {
    /// Everything is as it was.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.rebuilt.iter().all(|machine| machine.parts.is_empty())
    }
}

impl Plumb<'_> {
    /// Checks every object of a release by its digest; with `rebuild` also builds its images again, in a store of their
    /// own, from the release's lock, definition and files, and compares. Damaged objects are set aside.
    ///
    /// # Errors
    /// [`OpsError`] if the release cannot be read or built; what does not verify is the value.
    pub fn verify(&self, name: &ReleaseName, rebuild: bool) -> Result<Verification, OpsError> {
        let release = self.read_release(name)?;
        let mut found = Verification {
            release: name.clone(),
            signed_by: Vec::new(),
            objects: 0,
            bytes: 0,
            problems: Vec::new(),
            rebuilt: Vec::new(),
            restored: Vec::new(),
            checked: BTreeSet::new(),
        };
        self.check_signature(&release, &mut found)?;
        self.check_chain(&release, &mut found)?;
        let images = self.check_objects(&release, &mut found)?;
        self.check_rest(&release, &mut found)?;
        if rebuild && found.problems.iter().all(Problem::can_be_built) {
            found.rebuilt = self.rebuild(&release, &images)?;
            for problem in std::mem::take(&mut found.problems) {
                if self.store.contains(&problem.digest) {
                    found.restored.push(problem);
                } else {
                    found.problems.push(problem);
                }
            }
            if !found.restored.is_empty() {
                self.store.sync()?;
                self.forget_collected(&release)?;
            }
        }
        Ok(found)
    }

    /// Somebody who is trusted vouches for it.
    fn check_signature(&self, release: &Release, found: &mut Verification) -> Result<(), OpsError> {
        let said = self.said(release)?;
        let signers = said.signers();
        if signers.is_empty() {
            let why = said.refused.first().map(|(_, why)| format!("; there is a statement, but {why}"));
            found.problems.push(Problem {
                machine: None,
                part: "signature".to_owned(),
                digest: release.digest(),
                reason: format!(
                    "nobody who is trusted for `{}` signed it{}",
                    release.app,
                    why.unwrap_or_default()
                ),
                paths: Vec::new(),
            });
        }
        found.signed_by = signers;
        Ok(())
    }

    /// The release before is the one it names.
    fn check_chain(&self, release: &Release, found: &mut Verification) -> Result<(), OpsError> {
        let Some(wanted) = release.previous else { return Ok(()) };
        let before = ReleaseName { app: release.app.clone(), number: release.number - 1 };
        let digest = match self.read_release(&before) {
            Ok(before) => before.digest(),
            // Releases may be removed, oldest first.
            Err(OpsError::NoRelease { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        if digest != wanted {
            found.problems.push(Problem {
                machine: None,
                part: format!("release {before}"),
                digest: wanted,
                reason: format!("it is {digest} now"),
                paths: Vec::new(),
            });
        }
        Ok(())
    }

    fn check_objects(
        &self,
        release: &Release,
        found: &mut Verification,
    ) -> Result<BTreeMap<MachineName, Image>, OpsError> {
        self.check_object(None, "definition", &release.definition, found)?;
        self.check_object(None, "lock", &release.lock, found)?;
        if let Some(checks) = &release.checks {
            self.check_object(None, "list of checks", checks, found)?;
        }
        let mut images = BTreeMap::new();
        for (machine, entry) in &release.content.machines {
            if !self.check_object(Some(machine), "image manifest", &entry.image, found)? {
                continue;
            }
            let image = self.image(&entry.image)?;
            self.check_object(Some(machine), "kernel", &image.kernel.digest, found)?;
            self.check_object(Some(machine), "initramfs", &image.initrd.digest, found)?;
            let inventory = match &image.inventory {
                Some(part) => self.check_object(Some(machine), "inventory", &part.digest, found)?,
                None => false,
            };
            if !self.check_object(Some(machine), "root", &image.root.digest, found)? && inventory {
                let paths = self.damaged_paths(machine, &image, found)?;
                if let Some(problem) = found.problems.last_mut() {
                    problem.paths = paths;
                }
            }
            if self.store.contains(&image.recipe)
                && self.check_object(Some(machine), "recipe", &image.recipe, found)?
            {
                for (path, digest) in self.recorded(&image)?.contents() {
                    self.check_object(Some(machine), &format!("file {path}"), &digest, found)?;
                }
            }
            images.insert(machine.clone(), image);
        }
        Ok(images)
    }

    /// Whatever else the release reaches. It can only be told once the documents that name it are good.
    fn check_rest(&self, release: &Release, found: &mut Verification) -> Result<(), OpsError> {
        if !found.problems.is_empty() {
            return Ok(());
        }
        for object in self.reach(release)? {
            if !found.checked.contains(&object.digest) {
                self.check_object(None, &object.name, &object.digest, found)?;
            }
        }
        Ok(())
    }

    /// Hashes one object; says whether it is good.
    fn check_object(
        &self,
        machine: Option<&MachineName>,
        part: &str,
        digest: &Digest,
        found: &mut Verification,
    ) -> Result<bool, OpsError> {
        found.objects += 1;
        found.checked.insert(*digest);
        found.bytes += self.store.size(digest)?.unwrap_or_default();
        let reason = match self.store.verify(digest) {
            Ok(()) => return Ok(true),
            Err(
                error @ (plumb_store::Error::Missing { .. }
                | plumb_store::Error::Damaged { .. }
                | plumb_store::Error::DamagedFold { .. }),
            ) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        let (machine, part) = (machine.cloned(), part.to_owned());
        found.problems.push(Problem { machine, part, digest: *digest, reason, paths: Vec::new() });
        Ok(false)
    }

    /// The recipe of an image, as kept.
    pub(crate) fn recorded(&self, image: &Image) -> Result<Recorded, OpsError> {
        let bytes = self.store.read_bytes(&image.recipe, RECIPE_LIMIT)?;
        serde_json::from_slice(&bytes).map_err(|source| OpsError::Document {
            name: image.recipe.to_string(),
            source: DocumentError::Malformed { what: "recipe", source },
        })
    }
}
