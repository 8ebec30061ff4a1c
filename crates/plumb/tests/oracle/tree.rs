//! A tree in the form that both sides can be brought to: owners by name, since ids are given in the order of asking.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use plumb_image::inventory::Inventory;
use plumb_image::tree::Kind;
use plumb_model::Digest;

/// What something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Directory,
    File(Digest),
    Link(String),
    Device,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) form: Form,
    /// Permission bits; those of a link say nothing.
    pub(crate) mode: u32,
    pub(crate) user: String,
    pub(crate) group: String,
    /// Capabilities and other extended attributes.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// Paths with the same number are one file.
    pub(crate) hard_link: Option<u32>,
}

/// Lists whose lines are compared one by one, as their order says nothing.
pub(crate) const LISTS: [&str; 5] =
    ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/shells"];

/// A tree with the texts of [`LISTS`].
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) lists: BTreeMap<String, String>,
    /// By path, the packages that have it, by dpkg's own lists; only of a tree that dpkg made.
    pub(crate) packages: BTreeMap<String, Vec<String>>,
}

impl Tree {
    /// Names for numbers in `users` and `groups` (by path), as the tree's own accounts say.
    pub(crate) fn name_owners(&mut self, ids: &BTreeMap<String, (u32, u32)>) {
        let names = |list: &str| -> BTreeMap<u32, String> {
            let text = self.lists.get(list).map_or("", String::as_str);
            let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
            lines.filter_map(|fields| Some((fields.get(2)?.parse().ok()?, fields[0].to_owned()))).collect()
        };
        let (users, groups) = (names("/etc/passwd"), names("/etc/group"));
        let name = |names: &BTreeMap<u32, String>, id: u32| {
            names.get(&id).cloned().unwrap_or_else(|| format!("nobody with id {id}"))
        };
        for (path, node) in &mut self.nodes {
            let (uid, gid) = ids.get(path).copied().unwrap_or_default();
            node.user = name(&users, uid);
            node.group = name(&groups, gid);
        }
    }
}

/// Our tree, as the inventory of an image tells it. `read` gives the bytes of an object.
pub(crate) fn ours(inventory: &Inventory, read: &dyn Fn(&Digest) -> Result<Vec<u8>>) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut ids = BTreeMap::new();
    for (path, (entry, _)) in &inventory.entries {
        let form = match &entry.kind {
            Kind::Directory => Form::Directory,
            Kind::Symlink { target } => Form::Link(target.clone()),
            Kind::File { digest, .. } => {
                if LISTS.contains(&path.as_str()) {
                    let text = String::from_utf8(read(digest)?).context("accounts are text")?;
                    tree.lists.insert(path.clone(), text);
                }
                Form::File(*digest)
            }
        };
        let node = Node {
            form,
            mode: entry.mode,
            user: String::new(),
            group: String::new(),
            xattrs: entry.xattrs.clone(),
            hard_link: entry.link_group,
        };
        ids.insert(path.clone(), (entry.uid, entry.gid));
        tree.nodes.insert(path.clone(), node);
    }
    tree.name_owners(&ids);
    Ok(tree)
}
