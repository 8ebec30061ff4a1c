//! From lock to images.
//!
//! ```text
//!  lock ─► recipe ──digest──► known? ─► image
//!            │ no
//!            ▼
//!          supply: fetch .debs ─► unpack (once per package, ever) ─► assemble ─► services ─► root ─► manifest
//! ```

mod choice;
mod input;
mod kernel;
mod notice;
mod pile;
mod recipe;
mod rehearse;
mod script;
mod supply;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use plumb_image::assemble::{self, Assembled};
use plumb_image::closure;
use plumb_image::image as parts;
use plumb_image::inventory::Inventory;
use plumb_image::rule::plugin;
use plumb_image::tree::{Kind, Layer, Tree};
use plumb_model::config::ConfigName;
use plumb_model::definition::{Machine, OciSource, Scripts};
use plumb_model::image::{Image, LayerSize, Part};
use plumb_model::lock::{Lock, LockedPackage};
use plumb_model::{Digest, Document, MachineName};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::input::{add_links, add_spec};
use self::notice::{left_out, missing_text, plugin_text, summary};
use self::recipe::Ids;
pub(crate) use self::recipe::{Job, Recorded, guest_digest};
pub use self::rehearse::Rehearsal;
use self::supply::Supply;
use crate::Plumb;
use crate::config;
use crate::content;
use crate::contents::StoreObjects;
use crate::error::OpsError;
use crate::guest::GUEST;
use crate::lock::{Update, write_lock};
use crate::machine::{Specified, executed, specify};
use crate::progress::{BuildStep, Progress};
use crate::project::Project;

/// Kind of the store entries that name the image of a recipe.
const IMAGES: &str = "image-1";
/// Largest image manifest that is read.
pub(crate) const MANIFEST_LIMIT: u64 = 16 * 1024 * 1024;

/// One machine's image as built.
#[derive(Debug, Clone, Serialize)]
pub struct BuiltImage {
    /// Machine.
    pub machine: MachineName,
    /// Its manifest.
    pub image: Digest,
    /// Everything it takes to boot, in bytes.
    pub size_bytes: u64,
    /// The root file system with its hash tree.
    pub root_bytes: u64,
    /// The initramfs.
    pub initrd_bytes: u64,
    /// The kernel.
    pub kernel_bytes: u64,
    /// Packages.
    pub packages: usize,
    /// Regular files.
    pub files: u64,
    /// It was there already.
    pub cached: bool,
    /// What its owner should know: effects and needs that were left out.
    pub notices: Vec<String>,
    /// How long the machine may take to become ready, milliseconds.
    #[serde(skip)]
    pub ready_timeout_ms: u64,
    /// What of the configuration its instances are told.
    #[serde(skip)]
    pub config: BTreeSet<ConfigName>,
}

/// A tree and what it runs.
struct Made {
    assembled: Assembled,
    specified: Specified,
    notices: Vec<String>,
    /// The object that says what maintainer scripts did, if they ran.
    scripts: Option<Digest>,
}

/// What the store remembers of a recipe.
#[derive(Serialize, Deserialize)]
struct Remembered {
    image: Digest,
    ready_timeout_ms: u64,
    notices: Vec<String>,
}

/// One image as made, before it is kept.
pub(crate) struct Constructed {
    pub(crate) image: Image,
    pub(crate) inventory: Inventory,
    /// The root file system, not an object yet.
    pub(crate) root: PathBuf,
    /// Ids that were given to accounts.
    pub(crate) accounts: Ids,
    pub(crate) notices: Vec<String>,
    pub(crate) ready_timeout_ms: u64,
}

impl Plumb<'_> {
    /// Brings lock and images up to date and returns the images by machine.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn build(&self, project: &Project) -> Result<Vec<BuiltImage>, OpsError> {
        Ok(self.build_locked(project)?.1)
    }

    /// Runs the maintainer scripts of machines with `scripts = "run"` once more than is needed and compares.
    ///
    /// # Errors
    /// [`OpsError::ScriptsDiffer`] if a run made something else than the one before.
    pub fn check_scripts(&self, project: &Project) -> Result<(), OpsError> {
        let lock = self.lock(project, &Update::Keep, false)?.lock;
        let mut jobs = jobs(project, &lock)?;
        jobs.retain(|job| job.machine.scripts == Scripts::Run);
        let supply = self.supply(project, &lock, &jobs.iter().collect::<Vec<_>>())?;
        for job in &jobs {
            let paths = self.script_differences(job, &supply)?;
            if !paths.is_empty() {
                return Err(OpsError::ScriptsDiffer { machine: job.name.clone(), paths });
            }
        }
        Ok(())
    }

    pub(crate) fn build_locked(&self, project: &Project) -> Result<(Lock, Vec<BuiltImage>), OpsError> {
        let lock = self.lock(project, &Update::Keep, false)?.lock;
        let (with_ids, images) = self.build_from(project, lock.clone())?;
        if with_ids != lock {
            write_lock(&project.lock_path(), &with_ids)?;
        }
        Ok((with_ids, images))
    }

    /// Builds what a lock says; writes no lock. The one that is returned has the ids that accounts were given.
    pub(crate) fn build_from(
        &self,
        project: &Project,
        mut lock: Lock,
    ) -> Result<(Lock, Vec<BuiltImage>), OpsError> {
        let jobs = jobs(project, &lock)?;
        let known: Result<Vec<_>, OpsError> = jobs.iter().map(|job| self.remembered(&job.recipe())).collect();
        let known = known?;
        let missing: Vec<&Job<'_>> =
            jobs.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(job, _)| job).collect();
        let supply = self.supply(project, &lock, &missing)?;
        self.fetch_remotes(missing.iter().flat_map(|job| &job.remotes))?;
        for job in &missing {
            self.fetch_container(project, job.name, job.machine)?;
        }
        let built: Result<Vec<_>, OpsError> = jobs
            .par_iter()
            .zip(known)
            .map(|(job, known)| match known {
                // A lock made anew does not know the ids that the image was made with; its recipe does.
                Some((image, remembered)) => {
                    let given = self.recorded(&image)?.accounts;
                    Ok((built_image(job, &image, &remembered, true), given))
                }
                None => self.build_one(job, &supply),
            })
            .collect();
        let mut images = Vec::new();
        let mut accounts = BTreeMap::new();
        for (image, given) in built? {
            self.report(Progress::Built {
                machine: image.machine.clone(),
                bytes: image.size_bytes,
                cached: image.cached,
                notices: image.notices.len(),
            });
            accounts.insert(image.machine.clone(), given);
            images.push(image);
        }
        drop(jobs);
        remember_accounts(&mut lock, accounts);
        Ok((lock, images))
    }

    /// The image of a recipe, if it is complete in the store.
    fn remembered(&self, recipe: &Digest) -> Result<Option<(Image, Remembered)>, OpsError> {
        let Some(entry) = self.store.entry(IMAGES, &recipe.hex())? else { return Ok(None) };
        let Ok(remembered) = serde_json::from_slice::<Remembered>(&entry) else { return Ok(None) };
        if !self.store.contains(&remembered.image) {
            return Ok(None);
        }
        // A manifest that a power cut left short is made again like everything else.
        let Ok(image) = self.image(&remembered.image) else { return Ok(None) };
        Ok((self.is_complete(&image)? && self.has_source(&image)?).then_some((image, remembered)))
    }

    /// What it takes to build the image again is there: its recipe and the user's files.
    fn has_source(&self, image: &Image) -> Result<bool, OpsError> {
        if self.store.size(&image.recipe)?.is_none() {
            return Ok(false);
        }
        let Ok(recorded) = self.recorded(image) else { return Ok(false) };
        for (_, digest) in recorded.contents() {
            if self.store.size(&digest)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All parts are there in full length: a power cut can leave an object short.
    pub(crate) fn is_complete(&self, image: &Image) -> Result<bool, OpsError> {
        for part in [&image.kernel, &image.initrd, &image.root].into_iter().chain(&image.inventory) {
            if self.store.size(&part.digest)? != Some(part.size) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads an image manifest.
    pub(crate) fn image(&self, digest: &Digest) -> Result<Image, OpsError> {
        let bytes = self.store.read_bytes(digest, MANIFEST_LIMIT)?;
        Image::from_bytes(&bytes).map_err(|source| OpsError::Document { name: digest.to_string(), source })
    }

    /// Builds one image and keeps it. Also returns the accounts it gave ids to.
    fn build_one(&self, job: &Job<'_>, supply: &Supply) -> Result<(BuiltImage, Ids), OpsError> {
        let made = self.construct(job, supply, None)?;
        self.store.adopt(&made.root, &made.image.root.digest)?;
        self.store.put_bytes(&made.inventory.to_bytes())?;
        // Its digest is in the manifest: what a release needs to be built again from the store alone.
        self.store.put_bytes(&job.recipe_bytes(&made.accounts))?;
        let digest = self.store.put_bytes(&made.image.to_bytes())?;
        let remembered =
            Remembered { image: digest, ready_timeout_ms: made.ready_timeout_ms, notices: made.notices };
        let entry = serde_json::to_vec(&remembered)
            .map_err(|error| OpsError::Build { machine: job.name.clone(), source: Box::new(error) })?;
        for recipe in BTreeSet::from([made.image.recipe, job.recipe()]) {
            self.store.remember(IMAGES, &recipe.hex(), &entry)?;
        }
        Ok((built_image(job, &made.image, &remembered, false), made.accounts))
    }

    /// Makes one image: kernel and initramfs are objects, the root is a file outside. `recipe` is that of an image which
    /// is built again; from it follows the time of its files.
    pub(crate) fn construct(
        &self,
        job: &Job<'_>,
        supply: &Supply,
        recipe: Option<Digest>,
    ) -> Result<Constructed, OpsError> {
        let objects = StoreObjects(&self.store);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpsError::Build {
            machine: job.name.clone(),
            source,
        };
        let step = |step| self.report(Progress::Building { machine: job.name.clone(), step });
        step(BuildStep::Assembling);
        let kernel_parts = supply.kernel(job)?.clone();
        let packages: Vec<&LockedPackage> =
            job.locked.packages.iter().filter_map(|name| job.lock.package(name.as_str())).collect();
        let made = match &job.machine.oci {
            Some(source) => self.contained(job, source)?,
            None => self.packaged(job, supply, &packages)?,
        };
        let Made { mut assembled, mut specified, mut notices, scripts } = made;
        config::add_specs(&mut specified.spec, job, &assembled, &self.store)?;
        add_spec(&mut assembled.tree, &specified.spec, &objects).map_err(|error| failed(Box::new(error)))?;
        if let Some(services) = &specified.systemd {
            services
                .add(&mut assembled.tree, &objects, &specified.spec.settings)
                .map_err(|error| failed(Box::new(error)))?;
        }
        if job.machine.oci.is_none() {
            let executed = executed(&specified);
            notices.extend(self.check_closure(job, &mut assembled, &executed)?);
        }
        step(BuildStep::Writing);
        // The recipe with the accounts that were given now is the one a later build from the written lock will have.
        let recipe = recipe.unwrap_or_else(|| job.recipe_with(&assembled.accounts.allocated));
        let path = self.store.scratch_path()?;
        let (root, disk) = parts::build_root(&assembled.tree, &objects, job.epoch_s(&recipe), &path)
            .map_err(|error| failed(Box::new(error)))?;
        let lockdown = if job.machine.lockdown && kernel_parts.signed { parts::LOCKDOWN } else { "" };
        let layers = layers(&assembled.tree);
        let inventory = Inventory {
            format: Inventory::FORMAT,
            kernel_packed_bytes: kernel_parts.packed_bytes,
            init_bytes: GUEST.len() as u64,
            modules: kernel_parts.modules,
            dropped: assembled.dropped,
            entries: assembled.tree.entries,
        };
        let bytes = inventory.to_bytes();
        let image = Image {
            format: Image::FORMAT,
            app: job.lock.app.clone(),
            machine: job.name.clone(),
            recipe,
            kernel: kernel_parts.kernel,
            kernel_release: kernel_parts.release,
            initrd: kernel_parts.initrd,
            root: Part { digest: root.digest, size: root.size_bytes },
            root_hash: disk.root_hash.clone(),
            cmdline: parts::cmdline(&disk, lockdown).map_err(|error| failed(Box::new(error)))?,
            packages: job.image_packages(&packages),
            layers,
            without: job.locked.without.clone(),
            left_out: job.locked.left_out.clone(),
            inventory: Some(Part { digest: Digest::of(&bytes), size: bytes.len() as u64 }),
            scripts,
        };
        let ready_timeout_ms = crate::machine::ready_timeout_ms(&specified.spec);
        let accounts = assembled.accounts.allocated;
        Ok(Constructed { image, inventory, root: root.path, accounts, notices, ready_timeout_ms })
    }

    /// The tree of a machine of packages.
    fn packaged(
        &self,
        job: &Job<'_>,
        supply: &Supply,
        packages: &[&LockedPackage],
    ) -> Result<Made, OpsError> {
        let objects = StoreObjects(&self.store);
        let inputs = packages.iter().map(|package| job.input(package, supply.content(package)));
        let files = self.unfold(job.name, &job.files, &job.remotes)?;
        let ran = self.effects(job, supply)?;
        let mut input = self.assemble_input(job, &files, inputs.collect())?;
        input.effects = ran.as_ref().map(|ran| &ran.effects);
        let mut assembled = assemble::assemble(&input, &objects)
            .map_err(|error| OpsError::Build { machine: job.name.clone(), source: Box::new(error) })?;
        choice::check(job, &assembled)?;
        let mut notices = left_out(&assembled);
        notices.extend(ran.iter().flat_map(|ran| script::notices(&ran.effects)));
        add_links(&mut assembled, &files);
        let specified =
            specify((&job.lock.app, job.name), job.machine, &job.errands(), &assembled, &objects)?;
        notices.extend(specified.notices.iter().cloned());
        Ok(Made { assembled, specified, notices, scripts: ran.map(|ran| ran.object) })
    }

    /// The tree of a machine of a container image. It is not checked whether everything in it finds what it needs: its
    /// maker ran it as it is.
    fn contained(&self, job: &Job<'_>, source: &OciSource) -> Result<Made, OpsError> {
        let files = self.unfold(job.name, &job.files, &job.remotes)?;
        let app_files = self.kept_files(&files)?;
        let container = self.container(job.name, source)?;
        let mounts = job.machine.volumes.values().map(|volume| volume.mount.clone()).collect();
        let assembled = self.container_tree(job.name, &container, app_files, (&files, mounts))?;
        let specified = self.container_spec(job, &container, &assembled)?;
        let notices = specified.notices.clone();
        Ok(Made { assembled, specified, notices, scripts: None })
    }

    /// Refuses an image whose programs cannot run, and takes out plugins that cannot be loaded; returns what its owner
    /// should know besides.
    fn check_closure(
        &self,
        job: &Job<'_>,
        assembled: &mut Assembled,
        executed: &BTreeSet<String>,
    ) -> Result<Vec<String>, OpsError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpsError::Build {
            machine: job.name.clone(),
            source,
        };
        let objects = StoreObjects(&self.store);
        let check = |tree: &Tree| {
            closure::check(tree, &objects, executed)
                .map_err(|error| OpsError::Build { machine: job.name.clone(), source: Box::new(error) })
        };
        let mut missing = check(&assembled.tree)?;
        let mut told = Vec::new();
        // A plugin may need another one: each round takes at least one away, and most images need none.
        loop {
            let gone =
                plugin::apply(assembled, &missing, &objects).map_err(|error| failed(Box::new(error)))?;
            if gone.is_empty() {
                break;
            }
            told.extend(gone.iter().map(plugin_text));
            missing = check(&assembled.tree)?;
        }
        let (errors, notices): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|missing| missing.severity == closure::Severity::Error);
        if errors.is_empty() {
            told.extend(summary(&notices));
            return Ok(told);
        }
        let packages: BTreeSet<String> = errors.iter().filter_map(|missing| missing.hint.clone()).collect();
        Err(OpsError::Incomplete {
            machine: job.name.clone(),
            missing: errors.iter().map(missing_text).collect(),
            packages: packages.into_iter().collect(),
        })
    }
}

/// One job for every machine.
fn jobs<'p>(project: &'p Project, lock: &'p Lock) -> Result<Vec<Job<'p>>, OpsError> {
    let mut used = config::used(project)?;
    let mut job = |(name, machine): (&'p MachineName, &'p Machine)| {
        let locked = lock.machines.get(name).ok_or_else(|| OpsError::StaleLock {
            path: project.lock_path(),
            reason: format!("it has no machine `{name}`"),
        })?;
        let (files, remotes) = (project.app_files(name)?, content::remotes(project, name, machine, lock)?);
        let choices = choice::choices(project, name, machine, locked)?;
        let config = used.remove(name).unwrap_or_default();
        Ok(Job { project, lock, name, machine, locked, files, remotes, choices, config })
    };
    project.definition.machines.iter().map(&mut job).collect()
}

fn built_image(job: &Job<'_>, image: &Image, remembered: &Remembered, cached: bool) -> BuiltImage {
    BuiltImage {
        machine: job.name.clone(),
        image: remembered.image,
        size_bytes: image.size(),
        root_bytes: image.root.size,
        initrd_bytes: image.initrd.size,
        kernel_bytes: image.kernel.size,
        packages: image.packages.len(),
        files: image.layers.values().map(|layer| layer.files).sum(),
        cached,
        notices: remembered.notices.clone(),
        ready_timeout_ms: remembered.ready_timeout_ms,
        config: job.config.clone(),
    }
}

fn layers(tree: &Tree) -> BTreeMap<String, LayerSize> {
    let mut layers: BTreeMap<String, LayerSize> = BTreeMap::new();
    for (entry, origin) in tree.entries.values() {
        let Kind::File { size, .. } = entry.kind else { continue };
        let name = match origin.layer {
            Layer::Os => "os",
            Layer::Middleware => "middleware",
            Layer::App => "app",
        };
        let layer = layers.entry(name.to_owned()).or_default();
        layer.files += 1;
        layer.bytes += size;
    }
    layers
}

/// Ids that were given to accounts go into the lock, so that a volume keeps its owners whatever comes later.
fn remember_accounts(lock: &mut Lock, accounts: BTreeMap<MachineName, Ids>) {
    for (machine, given) in accounts {
        if let Some(locked) = lock.machines.get_mut(&machine) {
            locked.accounts.extend(given);
        }
    }
}
