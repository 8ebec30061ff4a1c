//! Maintainer scripts that really run: in a build VM, once for everything they can depend on.
//!
//! ```text
//!  packages + build packages ─► stage ─► root ─► QEMU ─► answer disk ─► effects, an object of the store
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use plumb_fetch::PackageRef;
use plumb_image::assemble::{self, PackageInput, StagePackage};
use plumb_image::deb::{Limits, control_members};
use plumb_image::effect::answer::{Answer, AnswerLimits, read};
use plumb_image::effect::{self, Effects};
use plumb_image::image as parts;
use plumb_image::tree::Layer;
use plumb_model::Digest;
use plumb_model::definition::Scripts;
use plumb_model::lock::LockedPackage;
use plumb_target::{ImagePaths, Qemu, Throwaway, accelerator, run_throwaway};
use rayon::prelude::*;
use serde::Serialize;

use super::kernel::KernelParts;
use super::recipe::Job;
use super::supply::{Supply, package_ref};
use crate::Plumb;
use crate::clock::utc;
use crate::contents::StoreObjects;
use crate::error::{OpsError, io};
use crate::guest::{GUEST, RULES};
use crate::lock::Transfer;
use crate::progress::{BuildStep, Progress};

/// Kind of the store entries that name the effects of scripts; the number changes with their form.
const EFFECTS: &str = "effects-1";

/// Largest description of effects that is read: 100,000 paths take 40 MB.
const EFFECTS_LIMIT: u64 = 256 * 1024 * 1024;

/// Memory of a build VM, MiB. Three quarters hold what scripts write; creating a database cluster writes 40 MB to
/// 200 MB. It is taken from the host only as far as it is used.
const MEMORY_MIB: u64 = 2048;

/// How long scripts may take together: a hundred packages under software emulation on a busy host take ten minutes.
const TIME_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Length of the answer disk, a sparse file: more than the build VM's memory can hold.
const ANSWER_BYTES: u64 = 4 << 30;

/// virtio-blk serial of the answer disk.
const ANSWER_SERIAL: &str = "plumb-answer";

/// Everything that can make a difference to what scripts do.
#[derive(Serialize)]
struct Key<'a> {
    rules: &'a str,
    guest: Digest,
    kernel: Digest,
    suite: &'a str,
    clock_s: u64,
    packages: Vec<(&'a str, Digest, Layer)>,
    build: Vec<(&'a str, Digest)>,
}

/// One package with everything that is known of it.
struct Staged<'a> {
    input: PackageInput<'a>,
    is_of_machine: bool,
    members: BTreeMap<String, Vec<u8>>,
}

/// What scripts did, and the object that says so.
pub(super) struct Ran {
    pub(super) effects: Effects,
    pub(super) object: Digest,
}

impl Plumb<'_> {
    /// What the scripts of a machine do, if its definition wants them to run. They run only when something changed that
    /// they could see.
    pub(super) fn effects(&self, job: &Job<'_>, supply: &Supply) -> Result<Option<Ran>, OpsError> {
        if job.machine.scripts == Scripts::Rules {
            return Ok(None);
        }
        let key = job.script_key(supply.kernel(job)?);
        let entry = self.store.entry(EFFECTS, &key)?;
        let known = entry.and_then(|value| String::from_utf8(value).ok()?.trim().parse::<Digest>().ok());
        if let Some(object) = known.filter(|object| self.store.contains(object)) {
            let bytes = self.store.read_bytes(&object, EFFECTS_LIMIT)?;
            let effects = serde_json::from_slice(&bytes).map_err(|error| job.failed(error))?;
            return Ok(Some(Ran { effects, object }));
        }
        let effects = self.run_scripts(job, supply)?;
        let bytes = serde_json::to_vec(&effects).map_err(|error| job.failed(error))?;
        let object = self.store.put_bytes(&bytes)?;
        self.store.put_entry(EFFECTS, &key, object.to_string().as_bytes())?;
        Ok(Some(Ran { effects, object }))
    }

    /// Runs the scripts again and says what differs from the first time.
    pub(super) fn script_differences(&self, job: &Job<'_>, supply: &Supply) -> Result<Vec<String>, OpsError> {
        let Some(first) = self.effects(job, supply)? else { return Ok(Vec::new()) };
        Ok(first.effects.difference(&self.run_scripts(job, supply)?))
    }

    fn run_scripts(&self, job: &Job<'_>, supply: &Supply) -> Result<Effects, OpsError> {
        self.report(Progress::Building { machine: job.name.clone(), step: BuildStep::Scripts });
        let kernel = supply.kernel(job)?;
        let staged = self.staged(job, supply)?;
        let objects = StoreObjects(&self.store);
        let packages: Vec<StagePackage<'_>> = staged.iter().map(Staged::input).collect();
        let stage = assemble::stage(&packages, &job.project.definition.base.suite, job.clock_s(), &objects)
            .map_err(|error| job.failed(error))?;
        let folder = self.store.scratch_path()?;
        fs::create_dir(&folder).map_err(io("make", &folder))?;
        let root = folder.join("root.img");
        let (_, disk) = parts::build_root(&stage.tree, &objects, job.clock_s(), &root)
            .map_err(|error| job.failed(error))?;
        let cmdline = parts::cmdline(&disk, &format!("{}{ANSWER_SERIAL}", plumb_guest_proto::BUILD_WORD))
            .map_err(|error| job.failed(error))?;
        let image = ImagePaths {
            digest: String::new(),
            kernel: self.store.ready(&kernel.kernel.digest)?,
            initrd: self.store.ready(&kernel.initrd.digest)?,
            root,
            cmdline,
        };
        let answer = folder.join("answer.img");
        let console = self.boot(job, &image, &answer, &folder)?;
        let mut disk = BufReader::new(File::open(&answer).map_err(io("read", &answer))?);
        let answer = read(&mut disk, &AnswerLimits::default(), &objects).map_err(|source| {
            OpsError::BuildMachine { machine: job.name.clone(), console: console.join("\n"), source }
        })?;
        let changes = match answer {
            Answer::Changed(changes) => changes,
            Answer::Failed(failure) => return Err(script_failed(job, failure)),
        };
        let effects = effect::settle(&stage, changes, &objects).map_err(|error| job.failed(error))?;
        // What is not needed any more has no place on the disk while the rest is built; the store removes it anyway.
        let _ = fs::remove_dir_all(&folder);
        Ok(effects)
    }

    /// Boots the build VM and waits for its end. Returns the end of its console.
    fn boot(
        &self,
        job: &Job<'_>,
        image: &ImagePaths,
        answer: &Path,
        folder: &Path,
    ) -> Result<Vec<String>, OpsError> {
        let file = File::create(answer).map_err(io("make", answer))?;
        file.set_len(ANSWER_BYTES).map_err(io("make", answer))?;
        let qemu = Qemu::find()?;
        let accelerator = accelerator::detect(&self.home.accelerator())?;
        let clock = i64::try_from(job.clock_s()).unwrap_or_default();
        let wanted = Throwaway {
            image,
            answer,
            answer_serial: ANSWER_SERIAL,
            memory_mib: MEMORY_MIB,
            clock: &utc(clock, "%Y-%m-%dT%H:%M:%S"),
            limit: TIME_LIMIT,
            folder,
        };
        Ok(run_throwaway(&qemu, &accelerator, &wanted)?)
    }

    /// All packages of the stage. Their files are needed once more: what was kept of them has no programs as scripts.
    fn staged<'j>(&self, job: &'j Job<'_>, supply: &'j Supply) -> Result<Vec<Staged<'j>>, OpsError> {
        let named = job.locked.packages.iter().map(|name| (name, true));
        let named = named.chain(job.locked.build.iter().map(|name| (name, false)));
        let packages: Vec<(&LockedPackage, bool)> = named
            .filter(|(name, _)| name.as_str() != job.locked.kernel)
            .filter_map(|(name, is_of_machine)| Some((job.lock.package(name.as_str())?, is_of_machine)))
            .collect();
        let mut missing: Vec<PackageRef> = Vec::new();
        for (package, _) in &packages {
            if !self.store.contains(&package.digest) {
                missing.push(package_ref(job.project, job.lock, package)?);
            }
        }
        plumb_fetch::fetch_packages(&self.store, &missing, &self.fetch_options()?, &Transfer(self.reporter))?;
        packages
            .into_par_iter()
            .map(|(package, is_of_machine)| {
                let input = job.input(package, supply.content(package));
                let file = self.store.open_object(&package.digest)?;
                let members =
                    control_members(file, &Limits::default()).map_err(|error| OpsError::Unpack {
                        package: format!("{} {}", package.name, package.version),
                        source: Box::new(error),
                    })?;
                Ok(Staged { input, is_of_machine, members })
            })
            .collect()
    }
}

impl Staged<'_> {
    fn input(&self) -> StagePackage<'_> {
        StagePackage { package: self.input, members: &self.members, is_of_machine: self.is_of_machine }
    }
}

impl Job<'_> {
    /// What the clock of the build VM says: the archive's date.
    fn clock_s(&self) -> u64 {
        u64::try_from(self.newest_source()).unwrap_or_default()
    }

    fn script_key(&self, kernel: &KernelParts) -> String {
        let of = |names: &std::collections::BTreeSet<plumb_debian::PackageName>| -> Vec<&LockedPackage> {
            names.iter().filter_map(|name| self.lock.package(name.as_str())).collect()
        };
        let key = Key {
            rules: RULES,
            guest: Digest::of(GUEST),
            kernel: kernel.kernel.digest,
            suite: &self.project.definition.base.suite,
            clock_s: self.clock_s(),
            packages: of(&self.locked.packages)
                .into_iter()
                .map(|package| (package.name.as_str(), package.digest, self.layer(package)))
                .collect(),
            build: of(&self.locked.build)
                .into_iter()
                .map(|package| (package.name.as_str(), package.digest))
                .collect(),
        };
        Digest::of(&serde_json::to_vec(&key).expect("strings, numbers and lists")).hex()
    }

    fn failed(&self, source: impl std::error::Error + Send + Sync + 'static) -> OpsError {
        OpsError::Build { machine: self.name.clone(), source: Box::new(source) }
    }
}

/// dpkg says which package it was about, and that line is what people look for.
fn script_failed(job: &Job<'_>, failure: plumb_guest_proto::BuildFailure) -> OpsError {
    let culprit = failure.output.iter().rev().find_map(|line| culprit(line));
    OpsError::Script {
        machine: job.name.clone(),
        step: culprit.unwrap_or(failure.step),
        status: failure.status,
        output: failure.output.join("\n"),
    }
}

/// `dpkg: error processing package nginx (--configure):` to ``postinst of package `nginx` ``.
fn culprit(line: &str) -> Option<String> {
    let name = line.strip_prefix("dpkg: error processing package ")?.split([' ', ':']).next()?;
    Some(format!("postinst of package `{name}`"))
}

/// What people should know of effects.
pub(super) fn notices(effects: &Effects) -> Vec<String> {
    let told = effects.told().into_iter();
    told.map(|(path, reason)| format!("a script made `{path}`, which is left out: {reason}")).collect()
}

#[cfg(test)]
mod tests {
    use super::culprit;

    #[test]
    fn dpkg_names_the_package() {
        let line = "dpkg: error processing package libc6:amd64 (--configure):";
        assert_eq!(culprit(line).as_deref(), Some("postinst of package `libc6`"));
        assert_eq!(culprit("Setting up x (1) ..."), None);
    }
}
