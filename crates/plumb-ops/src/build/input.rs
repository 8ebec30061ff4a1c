//! The user's part of an image on its way into the tree.

use std::fs;

use plumb_image::assemble::{self, AssembleInput, Assembled, PackageInput};
use plumb_image::tree::{Entry, Layer, Objects as _, Origin, Tree};

use super::recipe::Job;
use crate::Plumb;
use crate::contents::StoreObjects;
use crate::error::{OpsError, io};
use crate::project::{AppFile, AppFileKind};

impl Plumb<'_> {
    /// The user's regular files, all of them in the store.
    pub(super) fn kept_files(&self, files: &[AppFile]) -> Result<Vec<assemble::AppFile>, OpsError> {
        let mut app_files = Vec::new();
        for file in files {
            let AppFileKind::File { source, digest, size } = &file.kind else { continue };
            let here = self.store.size(digest)? == Some(*size);
            if let Some(source) = source.as_ref().filter(|_| !here) {
                let mut reader = fs::File::open(source).map_err(io("read", source))?;
                let (stored, _) = self.store.put_reader(&mut reader)?;
                if stored != *digest {
                    return Err(OpsError::Changing { path: source.clone() });
                }
            }
            app_files.push(assemble::AppFile {
                path: file.target.clone(),
                digest: *digest,
                size: *size,
                mode: file.mode,
                user: file.owner.clone(),
                group: file.group.clone(),
            });
        }
        Ok(app_files)
    }

    pub(super) fn assemble_input<'p>(
        &self,
        job: &Job<'_>,
        files: &[AppFile],
        packages: Vec<PackageInput<'p>>,
    ) -> Result<AssembleInput<'p>, OpsError> {
        let app_files = self.kept_files(files)?;
        let users = job.machine.services.values().filter_map(|service| service.user.clone());
        Ok(AssembleInput {
            packages,
            app_files,
            users: users.filter(|user| user != "root").collect(),
            previous: job.locked.accounts.clone(),
            mounts: job.machine.volumes.values().map(|volume| volume.mount.clone()).collect(),
            keep: job.machine.keep.clone(),
            suite: job.project.definition.base.suite.clone(),
            init: job.machine.init,
            choices: job.choices.clone(),
            effects: None,
        })
    }
}

/// The user's folders that would otherwise be lost (empty ones), and links.
pub(super) fn add_links(assembled: &mut Assembled, files: &[AppFile]) {
    for file in files {
        let entry = match &file.kind {
            AppFileKind::Symlink { target } => Entry::symlink(target.clone()),
            AppFileKind::Directory if assembled.tree.get(&file.target).is_none() => {
                Entry::directory(file.mode)
            }
            AppFileKind::Directory | AppFileKind::File { .. } => continue,
        };
        let accounts = &assembled.accounts;
        let user = file.owner.as_ref().and_then(|name| accounts.users.get(name)).map_or(0, |user| user.uid);
        let group =
            file.group.as_ref().and_then(|name| accounts.groups.get(name)).map_or(0, |group| group.gid);
        let origin = Origin { layer: Layer::App, source: "app".to_owned() };
        assembled.tree.insert(file.target.clone(), Entry { uid: user, gid: group, ..entry }, origin);
    }
    assembled.tree.close();
}

pub(super) fn add_spec(
    tree: &mut Tree,
    spec: &plumb_guest_proto::MachineSpec,
    objects: &StoreObjects<'_>,
) -> Result<(), std::io::Error> {
    let bytes = serde_json::to_vec(spec)?;
    let (digest, size) = objects.put(&mut bytes.as_slice())?;
    let origin = Origin { layer: Layer::Os, source: "rule:machine".to_owned() };
    tree.insert(plumb_guest_proto::MACHINE_SPEC_PATH, Entry::file(digest, size, 0o444), origin);
    tree.close();
    Ok(())
}
