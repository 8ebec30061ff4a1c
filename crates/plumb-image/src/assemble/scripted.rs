//! What maintainer scripts really did, put into the tree of an image.

use std::collections::BTreeMap;

use super::{AssembleError, PackageInput, stage};
use crate::effect::{self, Effects};
use crate::rule::account::Accounts;
use crate::rule::world::World;
use crate::tree::{Kind, Tree};

/// Where update-alternatives(1) keeps its links.
const ALTERNATIVES: &str = "/etc/alternatives/";

/// Removes and inserts.
pub(super) fn apply(
    world: &mut World<'_>,
    effects: &Effects,
    packages: &[PackageInput<'_>],
) -> Result<(), AssembleError> {
    for path in &effects.removed {
        remove(&mut world.tree, path);
    }
    for (path, (entry, origin)) in &effects.made {
        if World::is_volatile(path) {
            continue;
        }
        if entry.kind != Kind::Directory {
            remove(&mut world.tree, path);
        }
        world.insert(path, entry.clone(), origin.clone());
    }
    // These links were there before the scripts ran, so they are none of their effects.
    stage::required_alternatives(world, packages)
}

/// With everything below.
fn remove(tree: &mut Tree, path: &str) {
    let below = format!("{path}/");
    let hidden: Vec<String> = tree
        .entries
        .range(below.clone()..)
        .map(|(path, _)| path.clone())
        .take_while(|path| path.starts_with(&below))
        .collect();
    for path in hidden.iter().map(String::as_str).chain([path]) {
        tree.entries.remove(path);
    }
}

/// From the ids of the build VM to those of the lock.
pub(super) fn give_ids(tree: &mut Tree, effects: &Effects, accounts: &Accounts) {
    let users: BTreeMap<u32, u32> = effects
        .users
        .iter()
        .filter_map(|(name, made)| Some((made.uid, accounts.users.get(name)?.uid)))
        .collect();
    let groups: BTreeMap<u32, u32> = effects
        .groups
        .iter()
        .filter_map(|(name, made)| Some((made.gid, accounts.groups.get(name)?.gid)))
        .collect();
    for (entry, origin) in tree.entries.values_mut() {
        if origin.source.starts_with(effect::SOURCE) {
            entry.uid = users.get(&entry.uid).copied().unwrap_or(entry.uid);
            entry.gid = groups.get(&entry.gid).copied().unwrap_or(entry.gid);
        }
    }
}

/// Links of alternatives to what drop rules took away (manual pages), and the links to those links.
pub(super) fn prune_alternatives(tree: &mut Tree) {
    let is_dead = |tree: &Tree, path: &str| tree.resolve(path).is_none();
    let dead: Vec<String> = tree
        .entries
        .range(ALTERNATIVES.to_owned()..)
        .map(|(path, _)| path.clone())
        .take_while(|path| path.starts_with(ALTERNATIVES))
        .filter(|path| is_dead(tree, path))
        .collect();
    for path in &dead {
        tree.entries.remove(path);
    }
    tree.entries.retain(|_, (entry, origin)| {
        let Kind::Symlink { target } = &entry.kind else { return true };
        !(origin.source.starts_with(effect::SOURCE) && dead.contains(target))
    });
}
