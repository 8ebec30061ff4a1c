//! What images are made from: packages taken apart and kernels, each once for all machines of an application.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use plumb_fetch::PackageRef;
use plumb_image::deb::PackageContent;
use plumb_model::MachineName;
use plumb_model::lock::{Lock, LockedPackage};
use rayon::prelude::*;

use super::kernel::KernelParts;
use super::recipe::Job;
use crate::Plumb;
use crate::contents::{known_content, pooled, take_apart};
use crate::error::OpsError;
use crate::lock::Transfer;
use crate::progress::{BuildStep, Progress};
use crate::project::Project;

/// Everything some jobs are made from, by package name.
#[derive(Default)]
pub(crate) struct Supply {
    contents: BTreeMap<String, PackageContent>,
    kernels: BTreeMap<String, KernelParts>,
}

/// One thing the supply needs.
enum Need<'a> {
    Package(&'a LockedPackage),
    /// With a machine that has this kernel, for messages.
    Kernel(&'a LockedPackage, &'a MachineName),
}

/// The same when it is there.
enum Part {
    Package(String, PackageContent),
    Kernel(String, KernelParts),
}

impl Need<'_> {
    fn package(&self) -> &LockedPackage {
        match self {
            Need::Package(package) | Need::Kernel(package, _) => package,
        }
    }
}

impl Supply {
    /// What is in a package of one of the jobs; all of them are there.
    pub(super) fn content(&self, package: &LockedPackage) -> &PackageContent {
        &self.contents[package.name.as_str()]
    }

    /// The kernel of one of the jobs.
    pub(super) fn kernel(&self, job: &Job<'_>) -> Result<&KernelParts, OpsError> {
        let package = &job.locked.kernel;
        self.kernels.get(package).ok_or_else(|| OpsError::NoKernel { package: package.clone() })
    }

    fn take(&mut self, part: Part) {
        match part {
            Part::Package(name, content) => drop(self.contents.insert(name, content)),
            Part::Kernel(name, kernel) => drop(self.kernels.insert(name, kernel)),
        }
    }
}

impl Plumb<'_> {
    /// Brings everything here that `jobs` are made from: from the store, or from the archives.
    pub(crate) fn supply(
        &self,
        project: &Project,
        lock: &Lock,
        jobs: &[&Job<'_>],
    ) -> Result<Supply, OpsError> {
        let needs = needs(lock, jobs)?;
        let known: Result<Vec<_>, OpsError> = needs.par_iter().map(|need| self.known_part(need)).collect();
        let mut supply = Supply::default();
        let mut missing = Vec::new();
        for (need, known) in needs.into_iter().zip(known?) {
            match known {
                Some(part) => supply.take(part),
                None => missing.push(need),
            }
        }
        // The largest first: the kernel takes longer than everything else together, and the others fill its pauses.
        missing.sort_by_key(|need| std::cmp::Reverse(need.package().size));
        for job in jobs {
            self.report(Progress::Building { machine: job.name.clone(), step: BuildStep::Unpacking });
        }
        let mut here = Vec::new();
        let mut away = Vec::new();
        for need in missing {
            let package = need.package();
            let is_here = self.store.size(&package.digest)? == Some(package.size);
            if is_here { &mut here } else { &mut away }.push(need);
        }
        let (fetched, made) = rayon::join(
            || self.fetch_parts(project, lock, &away),
            || {
                here.par_iter()
                    .with_max_len(1)
                    .map(|need| self.make_part(need))
                    .collect::<Result<Vec<_>, _>>()
            },
        );
        fetched?.into_iter().chain(made?).for_each(|part| supply.take(part));
        Ok(supply)
    }

    /// Downloads packages and takes each apart as soon as it is verified, while the others are still on their way.
    fn fetch_parts(&self, project: &Project, lock: &Lock, needs: &[Need<'_>]) -> Result<Vec<Part>, OpsError> {
        let wanted: Result<Vec<PackageRef>, OpsError> =
            needs.iter().map(|need| package_ref(project, lock, need.package())).collect();
        let made = Mutex::new(BTreeMap::new());
        let arrived = |position: usize| {
            let part = self.make_part(&needs[position]);
            made.lock().unwrap_or_else(PoisonError::into_inner).insert(position, part);
        };
        let (options, transfer) = (self.fetch_options()?, Transfer(self.reporter));
        plumb_fetch::fetch_packages_each(&self.store, &wanted?, &options, &transfer, &arrived)?;
        // What did not arrive is there as well: the same file for two needs, or another process brought it.
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        needs
            .iter()
            .enumerate()
            .map(|(position, need)| made.remove(&position).unwrap_or_else(|| self.make_part(need)))
            .collect()
    }

    fn known_part(&self, need: &Need<'_>) -> Result<Option<Part>, OpsError> {
        let name = || need.package().name.to_string();
        Ok(match need {
            Need::Package(package) => {
                known_content(&self.store, package)?.map(|content| Part::Package(name(), content))
            }
            Need::Kernel(package, _) => {
                self.known_kernel(package)?.map(|kernel| Part::Kernel(name(), kernel))
            }
        })
    }

    fn make_part(&self, need: &Need<'_>) -> Result<Part, OpsError> {
        let name = need.package().name.to_string();
        Ok(match need {
            Need::Package(package) => Part::Package(name, take_apart(&self.store, package)?),
            Need::Kernel(package, machine) => Part::Kernel(name, self.make_kernel(machine, package)?),
        })
    }
}

/// Everything the jobs name, each once.
fn needs<'a>(lock: &'a Lock, jobs: &[&'a Job<'_>]) -> Result<Vec<Need<'a>>, OpsError> {
    let mut packages = BTreeMap::new();
    let mut kernels = BTreeMap::new();
    for job in jobs {
        let named = job.locked.packages.iter().chain(&job.locked.build);
        let named = named.filter_map(|name| lock.package(name.as_str()));
        packages.extend(named.map(|package| (package.name.as_str(), package)));
        let kernel = &job.locked.kernel;
        let package = lock.package(kernel).ok_or_else(|| OpsError::NoKernel { package: kernel.clone() })?;
        kernels.entry(kernel.as_str()).or_insert((package, job.name));
    }
    let kernels = kernels.into_values().map(|(package, machine)| Need::Kernel(package, machine));
    Ok(kernels.chain(packages.into_values().map(Need::Package)).collect())
}

pub(super) fn package_ref(
    project: &Project,
    lock: &Lock,
    package: &LockedPackage,
) -> Result<PackageRef, OpsError> {
    pooled(lock, package).ok_or_else(|| OpsError::StaleLock {
        path: project.lock_path(),
        reason: format!(
            "package `{}` is from suite `{}`, which it does not name",
            package.name, package.suite
        ),
    })
}
