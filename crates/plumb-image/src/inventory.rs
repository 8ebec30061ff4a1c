//! The inventory: everything an image holds, path by path, and what was left out of it, as one document.
//!
//! An image is bytes; this says what they are without reading them. It is an object of the store, named by the image
//! manifest, so footprint, comparison and `why` need neither the packages nor the folder of the application.

use std::collections::BTreeMap;

use plumb_guest_proto::AGENT_PATH;
use plumb_model::Document;
use plumb_model::definition::Init;
use serde::{Deserialize, Serialize};

use crate::module::Module;
use crate::rule::drop::Dropped;
use crate::tree::{Entry, Origin, Tree};

/// What one image holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Always [`Inventory::FORMAT`].
    pub format: u32,
    /// Bytes of the kernel as its package ships it, compressed; the image holds it unpacked, so that no boot does it.
    pub kernel_packed_bytes: u64,
    /// Bytes of PID 1.
    pub init_bytes: u64,
    /// Kernel modules of the initramfs, in load order.
    pub modules: Vec<ModuleEntry>,
    /// What rules left out, by name of the rule.
    pub dropped: BTreeMap<String, Dropped>,
    /// Every path of the root file system.
    pub entries: BTreeMap<String, (Entry, Origin)>,
}

/// One kernel module of the initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleEntry {
    /// Name with underscores.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// The module that needs it; `None` if Plumb asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_by: Option<String>,
}

impl ModuleEntry {
    /// What the inventory says of a module.
    #[must_use]
    pub fn of(module: &Module) -> Self {
        let (name, needed_by) = (module.name.clone(), module.needed_by.clone());
        ModuleEntry { name, bytes: module.bytes.len() as u64, needed_by }
    }
}

impl Inventory {
    /// The root file system as a tree.
    #[must_use]
    pub fn tree(&self) -> Tree {
        Tree { entries: self.entries.clone() }
    }

    /// Who is PID 1: only a machine with systemd has Plumb's guest in its root.
    #[must_use]
    pub fn init(&self) -> Init {
        if self.entries.contains_key(AGENT_PATH) { Init::Systemd } else { Init::Plumb }
    }
}

impl Document for Inventory {
    const WHAT: &'static str = "inventory of an image";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Layer;
    use plumb_model::Digest;

    #[test]
    fn round_trip() {
        let mut tree = Tree::default();
        let mut entry = Entry::file(Digest::of(b"x"), 1, 0o4755);
        entry.xattrs.insert("security.capability".into(), vec![1, 0, 255]);
        tree.insert("/usr/bin/x", entry, Origin { layer: Layer::Middleware, source: "x".into() });
        tree.insert(
            "/bin",
            Entry::symlink("usr/bin"),
            Origin { layer: Layer::Os, source: "rule:skeleton".into() },
        );
        tree.close();
        let module = Module { name: "erofs".into(), bytes: vec![0; 3], needed_by: Some("x".into()) };
        let inventory = Inventory {
            format: Inventory::FORMAT,
            kernel_packed_bytes: 9,
            init_bytes: 5,
            modules: vec![ModuleEntry::of(&module)],
            dropped: [("doc".to_owned(), Dropped { reason: "r".into(), files: 1, bytes: 2 })].into(),
            entries: tree.entries.clone(),
        };
        let bytes = inventory.to_bytes();
        assert_eq!(Inventory::from_bytes(&bytes).unwrap(), inventory);
        assert_eq!(inventory.tree(), tree);
    }
}
