//! How much each machine of a release is, where it is, and what could go.

mod baseline;
mod measured;
mod suggestion;

use std::collections::{BTreeMap, BTreeSet};

use plumb_image::footprint::{self, Footprint};
use plumb_image::inventory::{Inventory, ModuleEntry};
use plumb_image::rule::drop::Dropped;
use plumb_image::rule::script_only;
use plumb_image::tree::{Kind, Layer};
use plumb_image::usage;
use plumb_model::definition::Machine;
use plumb_model::image::Image;
use plumb_model::{Digest, MachineName};
use serde::Serialize;

pub use self::baseline::Baseline;
pub use self::measured::Measured;
pub use self::suggestion::Suggestion;

use self::suggestion::{Evidence, suggestions};
use crate::Plumb;
use crate::contents::StoreObjects;
use crate::deploy::Start;
use crate::error::OpsError;
use crate::subject::roots;

/// How many of the largest files and directories are listed.
const MOST: usize = 10;

/// What a release is made of, beside what it is compared with.
#[derive(Debug, Clone, Serialize)]
pub struct FootprintView {
    /// `shop@3`, or the application's name.
    pub subject: String,
    /// The general-purpose installation.
    pub baseline: Baseline,
    /// By machine.
    pub machines: Vec<MachineFootprint>,
}

/// What one machine is made of.
#[derive(Debug, Clone, Serialize)]
pub struct MachineFootprint {
    /// Machine.
    pub machine: MachineName,
    /// Image manifest.
    pub image: Digest,
    /// Everything it takes to boot and serve: kernel as its package ships it, initramfs, root.
    pub bytes: u64,
    /// The kernel as its package ships it, compressed.
    pub kernel_packed_bytes: u64,
    /// The kernel as the image holds it.
    pub kernel_bytes: u64,
    /// The initramfs.
    pub initrd_bytes: u64,
    /// PID 1 in it.
    pub init_bytes: u64,
    /// Kernel modules in it.
    pub modules: Vec<ModuleEntry>,
    /// The root with its hash tree.
    pub root_bytes: u64,
    /// Packages.
    pub packages: u64,
    /// Regular files of the root.
    pub files: u64,
    /// What the root holds.
    pub content: Footprint,
    /// Packages left out because the definition says so.
    pub without: Vec<String>,
    /// Packages left out by rule, with the reason.
    pub left_out: BTreeMap<String, String>,
    /// What rules left out of the packages that are in.
    pub dropped: BTreeMap<String, Dropped>,
    /// Packages that the closure check would let go.
    pub could_go: Vec<Suggestion>,
    /// Ports that the definition publishes.
    pub published: Vec<u16>,
    /// What was seen when an instance ran.
    pub measured: Option<Measured>,
}

impl Plumb<'_> {
    /// The footprint of a release, or of the application in a folder; builds what is missing of the latter.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn footprint(&self, start: &Start) -> Result<FootprintView, OpsError> {
        let subject = self.subject(start)?;
        self.look_at_instances()?;
        let mut machines = Vec::new();
        for (name, (digest, image)) in &subject.images {
            let definition = subject.definition.machines.get(name);
            machines.push(self.machine_footprint(name, (digest, image), definition)?);
        }
        Ok(FootprintView { subject: subject.name, baseline: baseline::GENERAL_PURPOSE, machines })
    }

    /// Takes in what ready instances say now.
    fn look_at_instances(&self) -> Result<(), OpsError> {
        use plumb_target::Target as _;
        for record in self.state()?.deployments()?.into_iter().filter(|one| one.elsewhere.is_none()) {
            let seen = self.bare_target(&record.name).observe()?;
            self.remember_measured(record.name.as_str(), &seen);
        }
        Ok(())
    }

    fn machine_footprint(
        &self,
        name: &MachineName,
        (digest, image): (&Digest, &Image),
        definition: Option<&Machine>,
    ) -> Result<MachineFootprint, OpsError> {
        let inventory = self.inventory(name, image)?;
        self.carve(name, (image, &inventory), &|_| true)?;
        let content = self.content_of(name, image, &inventory)?;
        let roots = definition.map(roots).unwrap_or_default();
        let failed =
            |source: std::io::Error| OpsError::Build { machine: name.clone(), source: Box::new(source) };
        let uses = usage::uses(&inventory.tree(), &StoreObjects(&self.store)).map_err(failed)?;
        let evidence = Evidence {
            roots: &roots,
            dependencies: &self.dependencies(name, &inventory)?,
            entries: &inventory.entries,
            shares: &content.packages,
            uses: &uses,
        };
        let could_go = suggestions(&evidence);
        let published: BTreeSet<u16> =
            definition.iter().flat_map(|machine| &machine.publish).map(|port| port.guest_port).collect();
        Ok(MachineFootprint {
            machine: name.clone(),
            image: *digest,
            bytes: inventory.kernel_packed_bytes + image.initrd.size + image.root.size,
            kernel_packed_bytes: inventory.kernel_packed_bytes,
            kernel_bytes: image.kernel.size,
            initrd_bytes: image.initrd.size,
            init_bytes: inventory.init_bytes,
            modules: inventory.modules,
            root_bytes: image.root.size,
            packages: image.packages.len() as u64,
            files: content.layers.values().map(|layer| layer.files).sum(),
            content,
            without: image.without.iter().map(ToString::to_string).collect(),
            left_out: image
                .left_out
                .iter()
                .map(|name| {
                    (name.to_string(), script_only::reason(name.as_str()).unwrap_or_default().to_owned())
                })
                .collect(),
            dropped: inventory.dropped,
            could_go,
            published: published.into_iter().collect(),
            measured: self.measured(digest)?,
        })
    }

    fn content_of(
        &self,
        name: &MachineName,
        image: &Image,
        inventory: &Inventory,
    ) -> Result<Footprint, OpsError> {
        let failed =
            |source: std::io::Error| OpsError::Build { machine: name.clone(), source: Box::new(source) };
        let objects = StoreObjects(&self.store);
        let mut elf = BTreeSet::new();
        for (entry, _) in inventory.entries.values() {
            if let Kind::File { digest, size } = &entry.kind
                && *size > 4
                && usage::is_elf(&objects, digest).map_err(failed)?
            {
                elf.insert(*digest);
            }
        }
        let layer = |layer: &str| if layer == "middleware" { Layer::Middleware } else { Layer::Os };
        let packages = image.packages.iter().map(|(name, package)| (name.to_string(), layer(&package.layer)));
        Ok(footprint::measure(&inventory.entries, &packages.collect(), &|digest| elf.contains(digest), MOST))
    }
}
