//! Builds the images of a release again, from nothing but the release, and compares.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use plumb_fetch::FileRef;
use plumb_guest_proto::TEMPLATE_PATH;
use plumb_image::compare::compare;
use plumb_model::definition::{AppContent, Machine, Source};
use plumb_model::image::Image;
use plumb_model::lock::Lock;
use plumb_model::release::Release;
use plumb_model::{Digest, Document as _, MachineName};
use plumb_store::Store;

use super::Rebuilt;
use crate::build::{Constructed, Job, Recorded, guest_digest};
use crate::content;
use crate::error::{OpsError, io};
use crate::guest::RULES;
use crate::project::{AppFile, AppFileKind, Project};
use crate::{Home, Plumb};

/// Longest lock that is read from the store.
const LOCK_LIMIT: u64 = 16 * 1024 * 1024;

/// What npm's lock says is part of the recipe by its files only: they are laid out as they lay beside the definition.
fn lay_out_npm(
    store: &Store,
    project: &Project,
    machine: &Machine,
    files: &[AppFile],
) -> Result<(), OpsError> {
    for content in &machine.app {
        let Source::Npm(source) = &content.source else { continue };
        let folder = project.folder.join(&source.folder);
        fs::create_dir_all(&folder).map_err(io("write", &folder))?;
        for name in ["package.json", "package-lock.json"] {
            let target = format!("{}/{name}", content.target.trim_end_matches('/'));
            let file = files.iter().find(|file| file.target == target);
            if let Some(AppFileKind::File { digest, .. }) = file.map(|file| &file.kind) {
                let path = folder.join(name);
                fs::write(&path, store.read_bytes(digest, LOCK_LIMIT)?).map_err(io("write", &path))?;
            }
        }
    }
    Ok(())
}

/// The files of a recipe, each with the number of the entry of `app` it came from: the last one that leads there.
fn numbered(recorded: Recorded, machine: &Machine) -> Vec<AppFile> {
    let leads = |content: &AppContent, target: &str| {
        matches!(content.source, Source::Path(_) | Source::Npm(_))
            && target
                .strip_prefix(&content.target)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut files = recorded.files;
    for file in &mut files {
        let number = machine.app.iter().rposition(|content| leads(content, &file.target));
        let is_config = machine.config.iter().any(|template| {
            file.target == template.target
                || file.target.strip_prefix(TEMPLATE_PATH) == Some(&template.target)
        });
        file.content = if is_config { machine.app.len() } else { number.unwrap_or_default() };
    }
    files
}

impl Plumb<'_> {
    /// Packages come from this store, or from the archives by their digest; everything else of it is not used: the
    /// build happens in an empty store, so that nothing that was remembered can hide a difference.
    pub(super) fn rebuild(
        &self,
        release: &Release,
        images: &BTreeMap<MachineName, Image>,
    ) -> Result<Vec<Rebuilt>, OpsError> {
        let definition = self.definition_of(release)?;
        let lock = self.lock_of(release)?;
        // Beside this process's own unfinished files, so that no other process takes it for a dead one's.
        let beside = self.store.scratch_path()?;
        let parent = beside.parent().unwrap_or(self.store.root());
        let scratch = tempfile::tempdir_in(parent).map_err(io("write", parent))?;
        let project = Project::new(scratch.path().join("project"), definition);
        let home = Home::new(scratch.path().to_owned());
        let store = Store::open(&home.store())?;
        let fresh = Plumb {
            home,
            store,
            options: self.options.clone(),
            reporter: self.reporter,
            unsealed: std::sync::Mutex::default(),
        };
        let mut rebuilt = Vec::new();
        for (name, image) in images {
            let (Some(machine), Some(locked)) =
                (project.definition.machines.get(name), lock.machines.get(name))
            else {
                return Err(OpsError::NoRecipe { machine: name.clone() });
            };
            if !self.store.contains(&image.recipe) {
                return Err(OpsError::NoRecipe { machine: name.clone() });
            }
            let recorded = self.recorded(image)?;
            for (_, digest) in recorded.contents() {
                fresh.take_over(self, &digest)?;
            }
            let (rules, guest) = (recorded.rules.clone(), recorded.guest);
            let choices = recorded.choices();
            let files = numbered(recorded, machine);
            lay_out_npm(&self.store, &project, machine, &files)?;
            let remotes = content::remotes(&project, name, machine, &lock)?;
            for file in remotes.iter().flat_map(content::Remote::wanted) {
                plumb_fetch::copy_file(&self.store, &fresh.store, &file.check)?;
            }
            if let Some(source) = &machine.oci {
                for digest in self.container_objects(name, source)? {
                    fresh.take_over(self, &digest)?;
                }
            }
            let config = std::collections::BTreeSet::new();
            let job = Job {
                project: &project,
                lock: &lock,
                name,
                machine,
                locked,
                files,
                remotes,
                choices,
                config,
            };
            rebuilt.push(self.rebuild_machine(&fresh, &job, image, (&rules, guest))?);
        }
        Ok(rebuilt)
    }

    /// Every file that the images of a release were built from, by its check: packages, content by URL, container images.
    pub(crate) fn sources_of(&self, release: &Release) -> Result<Vec<FileRef>, OpsError> {
        let (definition, lock) = (self.definition_of(release)?, self.lock_of(release)?);
        let scratch = tempfile::tempdir_in(self.store.root()).map_err(io("write", self.store.root()))?;
        let project = Project::new(scratch.path().to_owned(), definition);
        let file = |item: String, digest, size| FileRef {
            item,
            url: String::new(),
            check: plumb_fetch::Check::Sha256(digest),
            size,
        };
        let mut sources: Vec<FileRef> = lock
            .packages
            .iter()
            .map(|package| {
                let name = package.file.rsplit('/').next().unwrap_or_default();
                file(name.to_owned(), package.digest, Some(package.size))
            })
            .collect();
        for (name, entry) in &release.content.machines {
            let Some(machine) = project.definition.machines.get(name) else { continue };
            let image = self.image(&entry.image)?;
            if self.store.contains(&image.recipe) {
                lay_out_npm(&self.store, &project, machine, &self.recorded(&image)?.files)?;
            }
            for remote in content::remotes(&project, name, machine, &lock)? {
                sources.extend(remote.wanted());
            }
            if let Some(source) = &machine.oci {
                let objects = self.container_objects(name, source)?;
                sources.extend(objects.into_iter().map(|digest| file(digest.to_string(), digest, None)));
            }
        }
        Ok(sources)
    }

    fn rebuild_machine(
        &self,
        fresh: &Plumb<'_>,
        job: &Job<'_>,
        image: &Image,
        (rules, guest): (&str, Digest),
    ) -> Result<Rebuilt, OpsError> {
        let packages = job.locked.packages.iter().chain(&job.locked.build).map(|name| name.as_str());
        let packages = packages.chain([job.locked.kernel.as_str()]);
        for package in packages.filter_map(|name| job.lock.package(name)) {
            if self.store.contains(&package.digest) {
                fresh.take_over(self, &package.digest)?;
            }
        }
        let supply = fresh.supply(job.project, job.lock, &[job])?;
        fresh.fetch_remotes(job.remotes.iter())?;
        let made = fresh.construct(job, &supply, Some(image.recipe))?;
        let before = self.inventory(job.name, image)?;
        let mut parts = Vec::new();
        for (name, is_equal) in [
            ("kernel", image.kernel == made.image.kernel),
            ("initramfs", image.initrd == made.image.initrd),
            ("root", image.root == made.image.root),
            ("manifest", image.digest() == made.image.digest()),
        ] {
            if !is_equal {
                parts.push(name.to_owned());
            }
        }
        // The manifest differs with any part; alone it is news.
        if parts.len() > 1 {
            parts.retain(|part| part != "manifest");
        }
        let mut causes = Vec::new();
        if !parts.is_empty() && rules != RULES {
            causes.push(format!("it was made with rules {rules}, this plumb has rules {RULES}"));
        }
        if !parts.is_empty() && guest != guest_digest() {
            causes.push("it was made with another PID 1 than that of this plumb".to_owned());
        }
        self.restore(fresh, image, &made)?;
        let differences = compare(&before.entries, &made.inventory.entries);
        Ok(Rebuilt { machine: job.name.clone(), parts, differences, causes })
    }

    /// Keeps what was built again and is missing here, if it is the same bytes.
    fn restore(&self, fresh: &Plumb<'_>, image: &Image, made: &Constructed) -> Result<(), OpsError> {
        for part in [&image.kernel, &image.initrd] {
            if fresh.store.contains(&part.digest) {
                self.take_over(fresh, &part.digest)?;
            }
        }
        if image.root == made.image.root && !self.store.contains(&image.root.digest) {
            let mut root = fs::File::open(&made.root).map_err(io("read", &made.root))?;
            self.store.put_reader(&mut root)?;
        }
        Ok(())
    }

    /// Copies an object from another store, hashing it on the way.
    fn take_over(&self, from: &Plumb<'_>, digest: &Digest) -> Result<(), OpsError> {
        if self.store.contains(digest) {
            return Ok(());
        }
        let (stored, _) = self.store.put_reader(&mut from.store.open_object(digest)?)?;
        if stored != *digest {
            // Sets it aside and says so.
            from.store.verify(digest)?;
        }
        Ok(())
    }

    /// The lock a release was made from.
    pub(crate) fn lock_of(&self, release: &Release) -> Result<Lock, OpsError> {
        let bytes = self.store.read_bytes(&release.lock, LOCK_LIMIT)?;
        Lock::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|source| OpsError::Lock { path: PathBuf::from(release.lock.to_string()), source })
    }
}
