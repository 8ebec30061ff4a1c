//! What an image is made from, as one digest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use plumb_debian::PackageName;
use plumb_image::assemble::{Choice, PackageInput};
use plumb_image::deb::PackageContent;
use plumb_image::tree::Layer;
use plumb_model::config::ConfigName;
use plumb_model::definition::{ConfigTemplate, Init, Machine, Service, VolumeSnapshot};
use plumb_model::image::ImagePackage;
use plumb_model::lock::{Lock, LockedMachine, LockedPackage};
use plumb_model::{Digest, MachineName, ServiceName, VolumeName};
use serde::{Deserialize, Serialize};

use crate::content::{self, Remote};
use crate::guest::{GUEST, RULES};
use crate::machine::{self, Errands};
use crate::project::{AppFile, AppFileKind, Project};

/// Ids given to accounts: name to (uid, gid).
pub(crate) type Ids = BTreeMap<String, (u32, u32)>;

/// One machine on its way to an image.
pub(crate) struct Job<'a> {
    pub(crate) project: &'a Project,
    pub(crate) lock: &'a Lock,
    pub(crate) name: &'a MachineName,
    pub(crate) machine: &'a Machine,
    pub(crate) locked: &'a LockedMachine,
    pub(crate) files: Vec<AppFile>,
    pub(crate) remotes: Vec<Remote<'a>>,
    /// What the definition says about scripts that no rule covers.
    pub(crate) choices: BTreeMap<String, Choice>,
    /// What of the configuration it refers to.
    pub(crate) config: BTreeSet<ConfigName>,
}

/// Everything an image is made from. Its digest names the result.
#[derive(Serialize)]
struct Recipe<'a> {
    rules: &'a str,
    guest: Digest,
    app: &'a str,
    machine: &'a MachineName,
    suite: &'a str,
    services: &'a BTreeMap<ServiceName, Service>,
    /// Name, mount point, owner; not the size, which belongs to the release.
    volumes: Vec<(&'a VolumeName, &'a str, Option<&'a str>)>,
    /// Commands around snapshots.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    snapshots: BTreeMap<&'a VolumeName, &'a VolumeSnapshot>,
    packages: Vec<(&'a str, Digest, Layer)>,
    /// In the manifest, too: two ways to the same packages are two images.
    without: &'a BTreeSet<PackageName>,
    left_out: &'a BTreeSet<PackageName>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    keep: &'a [String],
    #[serde(skip_serializing_if = "Init::is_plumb")]
    init: Init,
    #[serde(skip_serializing_if = "Clone::clone")]
    lockdown: bool,
    /// Packages that scripts run with; none if they do not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    build: Vec<(&'a str, Digest)>,
    kernel: Digest,
    accounts: &'a Ids,
    files: &'a [AppFile],
    remotes: &'a [Remote<'a>],
    /// A container image, and the port that tells when it is ready.
    oci: Option<(Digest, Option<u16>)>,
    /// Checks and tasks that run inside.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    errands: Errands,
    /// Files that are filled in at boot.
    #[serde(skip_serializing_if = "<[ConfigTemplate]>::is_empty")]
    config: &'a [ConfigTemplate],
    /// Package and rule; nothing for one that is skipped.
    choices: Vec<(&'a str, Option<&'a str>)>,
    date: i64,
}

/// Digest of PID 1; computed once, every recipe has it.
pub(crate) fn guest_digest() -> Digest {
    static DIGEST: LazyLock<Digest> = LazyLock::new(|| Digest::of(GUEST));
    *DIGEST
}

/// What a kept recipe says that neither lock nor definition do: it is how a release is built again without the folder
/// it was made in.
#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) rules: String,
    pub(crate) guest: Digest,
    pub(crate) files: Vec<AppFile>,
    /// The ids that accounts were given when the image was made.
    #[serde(default)]
    pub(crate) accounts: Ids,
    #[serde(default)]
    choices: Vec<(String, Option<String>)>,
}

impl Recorded {
    /// What the definition said about scripts that no rule covers.
    pub(crate) fn choices(&self) -> BTreeMap<String, Choice> {
        let choice = |rule: &Option<String>| rule.clone().map_or(Choice::Skip, Choice::Rule);
        self.choices.iter().map(|(package, rule)| (package.clone(), choice(rule))).collect()
    }

    /// The user's files: path in the image and content.
    pub(crate) fn contents(&self) -> Vec<(String, Digest)> {
        let content = |file: &AppFile| match &file.kind {
            AppFileKind::File { digest, .. } => Some((file.target.clone(), *digest)),
            AppFileKind::Directory | AppFileKind::Symlink { .. } => None,
        };
        self.files.iter().filter_map(content).collect()
    }
}

impl Job<'_> {
    pub(super) fn recipe(&self) -> Digest {
        self.recipe_with(&self.locked.accounts)
    }

    pub(super) fn recipe_with(&self, accounts: &Ids) -> Digest {
        Digest::of(&self.recipe_bytes(accounts))
    }

    pub(super) fn recipe_bytes(&self, accounts: &Ids) -> Vec<u8> {
        let packages = self.locked.packages.iter().filter_map(|name| self.lock.package(name.as_str()));
        let build = self.locked.build.iter().filter_map(|name| self.lock.package(name.as_str()));
        let kernel = self.lock.package(&self.locked.kernel);
        let volumes = self.machine.volumes.iter();
        let recipe = Recipe {
            rules: RULES,
            guest: guest_digest(),
            app: self.lock.app.as_str(),
            machine: self.name,
            suite: &self.project.definition.base.suite,
            services: &self.machine.services,
            volumes: volumes
                .map(|(name, volume)| (name, volume.mount.as_str(), volume.owner.as_deref()))
                .collect(),
            snapshots: self
                .machine
                .volumes
                .iter()
                .map(|(name, volume)| (name, &volume.snapshot))
                .filter(|(_, snapshot)| matches!(snapshot, VolumeSnapshot::Commands { .. }))
                .collect(),
            packages: packages
                .map(|package| (package.name.as_str(), package.digest, self.layer(package)))
                .collect(),
            without: &self.locked.without,
            left_out: &self.locked.left_out,
            keep: &self.machine.keep,
            init: self.machine.init,
            lockdown: self.machine.lockdown,
            build: build.map(|package| (package.name.as_str(), package.digest)).collect(),
            kernel: kernel.map_or(Digest::of(b""), |package| package.digest),
            accounts,
            files: &self.files,
            remotes: &self.remotes,
            oci: self.machine.oci.as_ref().map(|oci| (oci.digest, content::ready_port(self.machine))),
            errands: self.errands(),
            config: &self.machine.config,
            choices: self.choices.iter().map(|(package, choice)| (package.as_str(), rule(choice))).collect(),
            date: self.newest_source(),
        };
        serde_json::to_vec(&recipe).expect("strings, numbers, lists and maps")
    }

    /// Checks and tasks that run in the machine.
    pub(crate) fn errands(&self) -> Errands {
        machine::errands(&self.project.definition, self.name)
    }

    pub(super) fn layer(&self, package: &LockedPackage) -> Layer {
        if self.locked.middleware.contains(&package.name) { Layer::Middleware } else { Layer::Os }
    }

    pub(super) fn input<'p>(
        &self,
        package: &'p LockedPackage,
        content: &'p PackageContent,
    ) -> PackageInput<'p> {
        PackageInput {
            name: package.name.as_str(),
            version: package.version.as_str(),
            architecture: &package.architecture,
            layer: self.layer(package),
            content,
        }
    }

    pub(super) fn newest_source(&self) -> i64 {
        self.lock.sources.iter().map(|source| source.date).max().unwrap_or_default()
    }

    /// One modification time for the whole image, as compact EROFS inodes have it. It must differ between images that
    /// differ: web servers make ETags of time and size, and a changed page of equal length would look unchanged. So it
    /// is the archive's date, less up to 180 days that follow from the recipe.
    pub(super) fn epoch_s(&self, recipe: &Digest) -> u64 {
        let bytes = recipe.as_bytes();
        let spread = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % (180 * 86_400);
        u64::try_from(self.newest_source()).unwrap_or_default().saturating_sub(u64::from(spread))
    }

    pub(super) fn image_packages(
        &self,
        packages: &[&LockedPackage],
    ) -> BTreeMap<plumb_debian::PackageName, ImagePackage> {
        let layer = |package: &LockedPackage| match self.layer(package) {
            Layer::Middleware => "middleware",
            Layer::Os | Layer::App => "os",
        };
        packages
            .iter()
            .map(|package| {
                let entry =
                    ImagePackage { version: package.version.clone(), layer: layer(package).to_owned() };
                (package.name.clone(), entry)
            })
            .collect()
    }
}

fn rule(choice: &Choice) -> Option<&str> {
    match choice {
        Choice::Skip => None,
        Choice::Rule(text) => Some(text),
    }
}
