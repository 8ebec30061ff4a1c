//! Where lost objects come back from: the archive's pool, packages, a second build, images, remotes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Mutex;

use plumb_fetch::PackageRef;
use plumb_image::tree::{Kind, Objects};
use plumb_model::Digest;
use plumb_model::image::Image;
use plumb_model::release::Release;
use plumb_store::Store;

use super::needed::readable;
use crate::Plumb;
use crate::contents::{pooled, read_package};
use crate::error::OpsError;
use crate::lock::Transfer;
use crate::remote::{Lost, TransferError};

/// Objects that are kept only if they are wanted: a package is read for a few of its files.
struct Wanted<'a> {
    store: &'a Store,
    wanted: &'a BTreeSet<Digest>,
    /// One at a time goes through memory.
    turn: Mutex<()>,
}

impl Objects for Wanted<'_> {
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let _turn = self.turn.lock();
        let mut writer = self.store.writer();
        io::copy(source, &mut writer)?;
        let (digest, size) = writer.digest();
        if self.wanted.contains(&digest) {
            return writer.commit().map_err(io::Error::other);
        }
        Ok((digest, size))
    }

    fn open(&self, digest: &Digest) -> io::Result<File> {
        self.store.open_object(digest).map_err(io::Error::other)
    }
}

/// What came back.
#[derive(Default)]
pub(super) struct Repaired {
    /// From where.
    pub(super) how: BTreeMap<Digest, String>,
    /// Remotes that could not be asked, and why.
    pub(super) problems: BTreeSet<String>,
}

/// Whether one way to bring something back worked. What does not work is tried by other ways, and not at all on a full
/// disk.
fn worked(tried: Result<(), OpsError>) -> Result<bool, OpsError> {
    match tried {
        Ok(()) => Ok(true),
        Err(error) if error.is_full() => Err(error),
        Err(_) => Ok(false),
    }
}

impl Plumb<'_> {
    /// Brings back what can be.
    pub(super) fn repair(
        &self,
        lost: &BTreeSet<Digest>,
        releases: &[Release],
        repaired: &mut Repaired,
    ) -> Result<(), OpsError> {
        if lost.is_empty() {
            return Ok(());
        }
        let how = &mut repaired.how;
        self.take_from_pool(releases, lost, how)?;
        for release in releases {
            self.take_from_packages(release, lost, how)?;
        }
        for release in releases {
            self.take_from_build(release, lost, how)?;
        }
        // A root that can be unfolded again, or a file that a root holds, in this order: roots need files.
        for release in releases {
            self.take_from_roots(release, lost, how)?;
        }
        for release in releases {
            self.take_from_remotes(release, lost, repaired)?;
        }
        // Of roots that came back.
        for release in releases {
            self.take_from_roots(release, lost, &mut repaired.how)?;
        }
        Ok(self.store.sync()?)
    }

    /// What nobody here has, from remotes.
    fn take_from_remotes(
        &self,
        release: &Release,
        lost: &BTreeSet<Digest>,
        repaired: &mut Repaired,
    ) -> Result<(), OpsError> {
        let mut objects = self.needs(release)?;
        objects.retain(|digest| lost.contains(digest) && !self.store.contains(digest));
        let lock = readable(self.lock_of(release))?;
        let packages = lock.iter().flat_map(|lock| &lock.packages).map(|package| package.digest);
        let packages: BTreeSet<Digest> = packages.filter(|digest| objects.contains(digest)).collect();
        let mut unusable = BTreeSet::new();
        for (_, image) in self.images_of(release) {
            let root = image.root.digest;
            if self.store.bases(&root)?.iter().any(|base| objects.contains(base))
                && self.is_unusable(&root)?
            {
                unusable.insert(root);
            }
        }
        for remote in self.remotes_of(&release.app)? {
            if objects.is_empty() {
                break;
            }
            let wanted = Lost { objects: &objects, packages: &packages, unusable: &unusable };
            match self.give_back(&remote, release, &wanted) {
                Ok(()) | Err(OpsError::Transfer(TransferError::NotThere { .. })) => {}
                Err(error) if error.is_full() => return Err(error),
                Err(error) => {
                    let why = error.in_one_line();
                    repaired
                        .problems
                        .insert(format!("remote `{remote}` cannot help {}: {why}", release.name()));
                }
            }
            // Those that made way for a whole one came as well.
            let came = |digest: &&Digest| self.store.contains(digest);
            let roots = unusable.iter().filter(|root| self.store.path(root).exists());
            for digest in objects.iter().filter(came).chain(roots) {
                repaired.how.insert(*digest, format!("from remote `{remote}`"));
            }
            objects.retain(|digest| !self.store.contains(digest));
        }
        Ok(())
    }

    /// Packages, from the archives' pools, by their digests.
    fn take_from_pool(
        &self,
        releases: &[Release],
        lost: &BTreeSet<Digest>,
        how: &mut BTreeMap<Digest, String>,
    ) -> Result<(), OpsError> {
        let mut known: BTreeMap<Digest, PackageRef> = BTreeMap::new();
        for release in releases {
            // A lock that is damaged was found by itself.
            let Some(lock) = readable(self.lock_of(release))? else { continue };
            for package in lock.packages.iter().filter(|package| lost.contains(&package.digest)) {
                known.extend(pooled(&lock, package).map(|wanted| (package.digest, wanted)));
            }
        }
        let options = self.fetch_options()?;
        for (digest, wanted) in known {
            let from = format!("downloaded again from {}", wanted.uri);
            let fetched =
                plumb_fetch::fetch_packages(&self.store, &[wanted], &options, &Transfer(self.reporter));
            // Offline, or the pool has it no more, or other bytes.
            if worked(fetched.map_err(OpsError::from))? {
                how.insert(digest, from);
            }
        }
        Ok(())
    }

    /// Files that the packages of a release have.
    fn take_from_packages(
        &self,
        release: &Release,
        lost: &BTreeSet<Digest>,
        how: &mut BTreeMap<Digest, String>,
    ) -> Result<(), OpsError> {
        let mut wanted = self.files_of(release, lost);
        let Some(lock) = readable(self.lock_of(release))? else { return Ok(()) };
        for package in &lock.packages {
            wanted.retain(|digest| !self.store.contains(digest));
            if wanted.is_empty() {
                return Ok(());
            }
            if !self.store.contains(&package.digest) {
                continue;
            }
            let objects = Wanted { store: &self.store, wanted: &wanted, turn: Mutex::new(()) };
            // A package that cannot be read was found by itself.
            if worked(read_package(&self.store, package, &objects).map(drop))? {
                for digest in wanted.iter().filter(|digest| self.store.contains(digest)) {
                    how.insert(*digest, format!("from package {} {}", package.name, package.version));
                }
            }
        }
        Ok(())
    }

    /// Those of the lost objects that are contents of files of a release.
    fn files_of(&self, release: &Release, lost: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let mut files = BTreeSet::new();
        for (machine, image) in self.images_of(release) {
            let Ok(inventory) = self.inventory(&machine, &image) else { continue };
            files.extend(inventory.entries.values().filter_map(|(entry, _)| match entry.kind {
                Kind::File { digest, .. } if lost.contains(&digest) => Some(digest),
                _ => None,
            }));
        }
        files.retain(|digest| !self.store.contains(digest));
        files
    }

    fn images_of(&self, release: &Release) -> Vec<(plumb_model::MachineName, Image)> {
        let machines = release.content.machines.iter();
        machines.filter_map(|(name, entry)| Some((name.clone(), self.image(&entry.image).ok()?))).collect()
    }

    /// Parts of images, by building them again.
    fn take_from_build(
        &self,
        release: &Release,
        lost: &BTreeSet<Digest>,
        how: &mut BTreeMap<Digest, String>,
    ) -> Result<(), OpsError> {
        let of_images: BTreeSet<Digest> = self
            .images_of(release)
            .iter()
            .flat_map(|(_, image)| [image.kernel.digest, image.initrd.digest, image.root.digest])
            .filter(|digest| lost.contains(digest) && !self.store.contains(digest))
            .collect();
        if of_images.is_empty() {
            return Ok(());
        }
        // What cannot be built again stays lost; that is what the caller says of it.
        if worked(self.verify(&release.name(), true).map(drop))? {
            for digest in of_images.into_iter().filter(|digest| self.store.contains(digest)) {
                how.insert(digest, "built again".to_owned());
            }
        }
        Ok(())
    }

    /// Files that a root still holds.
    fn take_from_roots(
        &self,
        release: &Release,
        lost: &BTreeSet<Digest>,
        how: &mut BTreeMap<Digest, String>,
    ) -> Result<(), OpsError> {
        let wanted = self.files_of(release, lost);
        if wanted.is_empty() {
            return Ok(());
        }
        for (machine, image) in self.images_of(release) {
            let Ok(inventory) = self.inventory(&machine, &image) else { continue };
            let is_wanted = |path: &str| {
                inventory.entries.get(path).is_some_and(
                    |(entry, _)| matches!(&entry.kind, Kind::File { digest, .. } if wanted.contains(digest)),
                )
            };
            // A root that needs the very file, or is damaged itself, gives nothing.
            if worked(self.carve(&machine, (&image, &inventory), &is_wanted))? {
                for digest in wanted.iter().filter(|digest| self.store.contains(digest)) {
                    how.insert(*digest, format!("from the image of machine {machine}"));
                }
            }
        }
        Ok(())
    }
}
