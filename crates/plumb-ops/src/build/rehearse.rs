//! A build without an image: every machine is assembled and checked, and what would stop the build is returned for
//! all machines at once. `cargo xtask survey` asks it about hundreds of packages.

use std::collections::{BTreeMap, BTreeSet};

use plumb_image::assemble;
use plumb_image::closure::{self, Severity};
use plumb_image::rule::Report;
use plumb_model::MachineName;
use plumb_model::lock::LockedPackage;
use rayon::prelude::*;

use super::notice::{left_out, missing_text};
use super::recipe::Job;
use super::supply::Supply;
use crate::Plumb;
use crate::contents::StoreObjects;
use crate::error::OpsError;
use crate::lock::Update;
use crate::project::Project;

/// What would stop the build of one machine; nothing if all is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// Packages of the closure.
    pub packages: usize,
    /// Effects of maintainer scripts that no rule covers.
    pub uncovered: Vec<Report>,
    /// What each instance must make itself, as the build says it.
    pub left_out: Vec<String>,
    /// Programs whose interpreter or library is not in the image.
    pub missing: Vec<String>,
    /// Why there is no tree at all.
    pub failure: Option<String>,
}

impl Plumb<'_> {
    /// Locks, fetches, unpacks and assembles every machine, and writes no image.
    ///
    /// # Errors
    /// [`OpsError`], but for what concerns one machine only: that is in its [`Rehearsal`].
    pub fn rehearse(&self, project: &Project) -> Result<BTreeMap<MachineName, Rehearsal>, OpsError> {
        let lock = self.lock(project, &Update::Keep, false)?.lock;
        let jobs: Vec<Job<'_>> = project
            .definition
            .machines
            .iter()
            .filter_map(|(name, machine)| {
                let locked = lock.machines.get(name)?;
                Some(Job {
                    project,
                    lock: &lock,
                    name,
                    machine,
                    locked,
                    files: Vec::new(),
                    remotes: Vec::new(),
                    choices: BTreeMap::new(),
                    config: std::collections::BTreeSet::new(),
                })
            })
            .collect();
        let supply = self.supply(project, &lock, &jobs.iter().collect::<Vec<_>>())?;
        let all: Result<Vec<_>, OpsError> =
            jobs.par_iter().map(|job| Ok((job.name.clone(), self.rehearse_one(job, &supply)?))).collect();
        Ok(all?.into_iter().collect())
    }

    fn rehearse_one(&self, job: &Job<'_>, supply: &Supply) -> Result<Rehearsal, OpsError> {
        let objects = StoreObjects(&self.store);
        let packages: Vec<&LockedPackage> =
            job.locked.packages.iter().filter_map(|name| job.lock.package(name.as_str())).collect();
        let inputs = packages.iter().map(|package| job.input(package, supply.content(package)));
        let input = self.assemble_input(job, &[], inputs.collect())?;
        let mut rehearsal = Rehearsal { packages: packages.len(), ..Rehearsal::default() };
        match assemble::assemble(&input, &objects) {
            Ok(assembled) => {
                rehearsal.left_out = left_out(&assembled);
                rehearsal.uncovered = assembled.reports;
                let missing = closure::check(&assembled.tree, &objects, &BTreeSet::new());
                let missing = missing.map_err(|source| OpsError::Build {
                    machine: job.name.clone(),
                    source: Box::new(source),
                })?;
                let errors = missing.iter().filter(|missing| missing.severity == Severity::Error);
                rehearsal.missing = errors.map(missing_text).collect();
            }
            Err(error) => rehearsal.failure = Some(error.to_string()),
        }
        Ok(rehearsal)
    }
}
