//! Content of the user's that does not lie beside the definition.
//!
//! ```text
//!  definition, lock ─► Remote: what exactly, by digest ─► recipe
//!                        │ only if the image is not known
//!                        ▼
//!                      fetch ─► unpack (once per archive, ever) ─► files in the store ─► assemble
//! ```

mod archive;
mod container;
pub(crate) mod error;
mod npm;
mod wheel;

use std::collections::BTreeMap;
use std::path::PathBuf;

use plumb_content::npm::Plan;
use plumb_fetch::FileRef;
use plumb_image::tree::{Entry, Kind};
use plumb_model::MachineName;
use plumb_model::definition::{AppContent, Machine, Source, UrlSource};
use plumb_model::lock::{Lock, LockedWheel};
use serde::Serialize;

use crate::Plumb;
use crate::content::error::ContentError;
use crate::error::OpsError;
use crate::lock::Transfer;
use crate::project::{AppFile, AppFileKind, Project};

use wheel::Python;

pub(crate) use container::ready_port;

/// One entry of `app` that has to be fetched. Serialized into the recipe, so it holds every digest.
#[derive(Debug, Serialize)]
pub(crate) struct Remote<'a> {
    /// Number of the entry, see [`AppFile::content`].
    #[serde(skip)]
    number: usize,
    target: &'a str,
    owner: Option<&'a str>,
    group: Option<&'a str>,
    mode: Option<u32>,
    what: What<'a>,
}

#[derive(Debug, Serialize)]
enum What<'a> {
    Url(&'a UrlSource),
    Npm {
        #[serde(skip)]
        folder: PathBuf,
        plan: Plan,
    },
    Wheels {
        python: Python,
        wheels: Vec<&'a LockedWheel>,
    },
}

/// Everything of `machine` that has to be fetched.
pub(crate) fn remotes<'a>(
    project: &Project,
    name: &MachineName,
    machine: &'a Machine,
    lock: &'a Lock,
) -> Result<Vec<Remote<'a>>, OpsError> {
    let place = Place { project, name, lock };
    let contents = machine.app.iter().enumerate();
    contents.filter_map(|(number, content)| remote(&place, number, content).transpose()).collect()
}

/// Whose content it is.
struct Place<'a, 'p> {
    project: &'p Project,
    name: &'p MachineName,
    lock: &'a Lock,
}

fn remote<'a>(
    place: &Place<'a, '_>,
    number: usize,
    content: &'a AppContent,
) -> Result<Option<Remote<'a>>, OpsError> {
    let what = match &content.source {
        Source::Path(_) => return Ok(None),
        Source::Url(source) => What::Url(source),
        Source::Npm(source) => What::Npm {
            folder: place.project.folder.join(&source.folder),
            plan: npm::plan(place.project, source, &content.target)?,
        },
        Source::Pip(_) => {
            let locked = place.lock.machines.get(place.name);
            let python = locked.and_then(|locked| wheel::python(place.lock, locked));
            let python = python.ok_or_else(|| {
                OpsError::Content(ContentError::NoPython {
                    machine: place.name.clone(),
                    target: content.target.clone(),
                })
            })?;
            let wheels = locked.into_iter().flat_map(|locked| &locked.wheels);
            What::Wheels { python, wheels: wheels.filter(|wheel| wheel.target == content.target).collect() }
        }
    };
    let AppContent { target, owner, group, mode, .. } = content;
    let (owner, group) = (owner.as_deref(), group.as_deref());
    Ok(Some(Remote { number, target, owner, group, mode: *mode, what }))
}

impl Remote<'_> {
    /// What has to be in the store before [`Plumb::unfold`].
    pub(crate) fn wanted(&self) -> Vec<FileRef> {
        match &self.what {
            What::Url(source) => vec![archive::wanted(source)],
            What::Npm { folder, plan } => {
                plan.packages.iter().map(|package| npm::wanted(folder, package)).collect()
            }
            What::Wheels { wheels, .. } => wheels.iter().map(|wheel| wheel::wanted(wheel)).collect(),
        }
    }

    /// Entries below the target to the user's files.
    fn files(&self, entries: BTreeMap<String, Entry>) -> Vec<AppFile> {
        let file = |(path, entry): (String, Entry)| {
            let (kind, mode) = match entry.kind {
                Kind::Directory => (AppFileKind::Directory, 0o755),
                Kind::Symlink { target } => (AppFileKind::Symlink { target }, 0o777),
                Kind::File { digest, size } => {
                    let mode = self.mode.unwrap_or(entry.mode);
                    (AppFileKind::File { source: None, digest, size }, mode)
                }
            };
            AppFile {
                content: self.number,
                target: format!("{}{path}", self.target),
                kind,
                mode,
                owner: self.owner.map(str::to_owned),
                group: self.group.map(str::to_owned),
            }
        };
        entries.into_iter().map(file).collect()
    }
}

impl Plumb<'_> {
    /// Brings everything that `remotes` name into the store.
    pub(crate) fn fetch_remotes<'r>(
        &self,
        remotes: impl Iterator<Item = &'r Remote<'r>>,
    ) -> Result<(), OpsError> {
        let wanted: Vec<FileRef> = remotes.flat_map(Remote::wanted).collect();
        if !wanted.is_empty() {
            plumb_fetch::fetch_files(&self.store, &wanted, &self.fetch_options()?, &Transfer(self.reporter))?;
        }
        Ok(())
    }

    /// All files of the user for one machine: `files` and what `remotes` give. Of two with one target, that of the
    /// later entry of `app` stays, which is the one with the longer target.
    pub(crate) fn unfold(
        &self,
        machine: &MachineName,
        files: &[AppFile],
        remotes: &[Remote<'_>],
    ) -> Result<Vec<AppFile>, OpsError> {
        let mut all = files.to_vec();
        for remote in remotes {
            let entries = match &remote.what {
                What::Url(source) => self.archive(machine, source, remote.target)?,
                What::Npm { plan, .. } => self.npm_entries(machine, plan, remote.target)?,
                What::Wheels { python, wheels } => {
                    self.environment(machine, python, wheels, remote.target)?
                }
            };
            all.extend(remote.files(entries));
        }
        all.sort_by_key(|file| file.content);
        let by_target: BTreeMap<String, AppFile> =
            all.into_iter().map(|file| (file.target.clone(), file)).collect();
        Ok(by_target.into_values().collect())
    }
}

#[cfg(test)]
mod tests;
