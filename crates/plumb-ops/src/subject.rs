//! What can be looked at: a release, or the application in a folder as it would be released now.

use std::collections::BTreeMap;

use plumb_image::inventory::Inventory;
use plumb_image::tree::Kind;
use plumb_model::definition::{Definition, Machine};
use plumb_model::image::Image;
use plumb_model::release::Release;
use plumb_model::{Digest, Document as _, MachineName};
use plumb_resolve::{Dependencies, RootRequest};

use crate::Plumb;
use crate::build::MANIFEST_LIMIT;
use crate::deploy::Start;
use crate::error::OpsError;
use crate::project::Project;

/// Longest definition that is read from the store.
const DEFINITION_LIMIT: u64 = 16 * 1024 * 1024;

/// Largest inventory that is read: a hundred times a large machine (20,000 files, 6 MB).
const INVENTORY_LIMIT: u64 = 512 * 1024 * 1024;

/// The package list of an image.
pub(crate) const STATUS: &str = "/var/lib/dpkg/status";

/// Images with the definition they were made from.
pub(crate) struct Subject {
    /// `shop@3`, or the application's name.
    pub(crate) name: String,
    pub(crate) definition: Definition,
    pub(crate) images: BTreeMap<MachineName, (Digest, Image)>,
}

impl Plumb<'_> {
    /// Reads a release, or builds what is missing of a folder.
    pub(crate) fn subject(&self, start: &Start) -> Result<Subject, OpsError> {
        match start {
            Start::Release(name) => {
                let name = self.named(name)?;
                let release = self.read_release(&name)?;
                let definition = self.definition_of(&release)?;
                let mut images = BTreeMap::new();
                for (machine, entry) in &release.content.machines {
                    images.insert(machine.clone(), (entry.image, self.image(&entry.image)?));
                }
                Ok(Subject { name: name.to_string(), definition, images })
            }
            Start::Folder(folder) => {
                let project = Project::load(folder)?;
                let mut images = BTreeMap::new();
                for built in self.build(&project)? {
                    images.insert(built.machine, (built.image, self.image(&built.image)?));
                }
                let name = project.definition.app.to_string();
                Ok(Subject { name, definition: project.definition, images })
            }
        }
    }

    /// The definition a release was made from.
    pub(crate) fn definition_of(&self, release: &Release) -> Result<Definition, OpsError> {
        let bytes = self.store.read_bytes(&release.definition, DEFINITION_LIMIT)?;
        let text = String::from_utf8_lossy(&bytes);
        Definition::parse(&text, &format!("{} of {}", crate::project::DEFINITION, release.name()))
            .map_err(OpsError::Definition)
    }

    /// What an image holds.
    pub(crate) fn inventory(&self, machine: &MachineName, image: &Image) -> Result<Inventory, OpsError> {
        let part = image.inventory.as_ref();
        let part = part.ok_or_else(|| OpsError::NoInventory { machine: machine.clone() })?;
        let bytes = self.store.read_bytes(&part.digest, INVENTORY_LIMIT)?;
        Inventory::from_bytes(&bytes)
            .map_err(|source| OpsError::Document { name: part.digest.to_string(), source })
    }

    /// What the packages of an image say they need: from its own package list.
    pub(crate) fn dependencies(
        &self,
        machine: &MachineName,
        inventory: &Inventory,
    ) -> Result<Dependencies, OpsError> {
        let broken = |source| OpsError::Build { machine: machine.clone(), source };
        let Some((entry, _)) = inventory.entries.get(STATUS) else { return Ok(Dependencies::default()) };
        let Kind::File { digest, .. } = &entry.kind else { return Ok(Dependencies::default()) };
        let bytes = self.store.read_bytes(digest, MANIFEST_LIMIT)?;
        Dependencies::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| broken(Box::new(error)))
    }
}

/// What the definition asks for, with the line that asks for it.
pub(crate) fn roots(machine: &Machine) -> Vec<RootRequest> {
    let named = |key: &str, relations: &[String]| -> Vec<RootRequest> {
        let root = |relation: &String| RootRequest {
            relation: relation.clone(),
            asked_by: format!("{key} = [\"{relation}\"]"),
        };
        relations.iter().map(root).collect()
    };
    let mut roots = named("middleware", &machine.middleware);
    roots.extend(named("os", &machine.os));
    roots.extend(machine.volumes.keys().next().map(|volume| RootRequest {
        relation: "e2fsprogs".to_owned(),
        asked_by: format!("volume.{volume}"),
    }));
    roots
}
