//! All packages' entries in one tree: a merged `/usr`, diversions, replacements.

use std::collections::{BTreeMap, BTreeSet};

use super::{AssembleError, PackageInput, status};
use crate::rule::world::World;
use crate::tree::{Entry, Kind, Origin};

/// Links of a merged `/usr` (file-hierarchy(7), Debian since 12).
pub(super) const MERGED: [(&str, &str); 4] =
    [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64"), ("/sbin", "usr/sbin")];

/// `/bin/sh` to `/usr/bin/sh`.
pub(crate) fn merged(path: &str) -> String {
    for (old, _) in MERGED {
        if path.strip_prefix(old).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return format!("/usr{path}");
        }
    }
    path.to_owned()
}

/// Does `owner` replace files of `other`? (Debian policy 7.6.1: the field Replaces.)
fn replaces(packages: &BTreeMap<&str, &PackageInput<'_>>, owner: &str, other: &str) -> bool {
    let Some(package) = packages.get(owner) else { return false };
    status::names(&package.content.control, "Replaces").iter().any(|name| name == other)
}

/// Merges all packages.
pub(super) fn packages(world: &mut World<'_>, packages: &[PackageInput<'_>]) -> Result<(), AssembleError> {
    let by_name: BTreeMap<&str, &PackageInput<'_>> = packages.iter().map(|p| (p.name, p)).collect();
    for (link, target) in MERGED {
        world.add(link, Entry::symlink(target), "rule:skeleton");
        world.add(&format!("/{target}"), Entry::directory(0o755), "rule:skeleton");
    }
    // Package directories and links first, so that files find the links they lie below.
    let mut groups = 0;
    for directories in [true, false] {
        for package in packages {
            if package.name.starts_with("linux-image-") {
                continue; // the kernel is a part of the image of its own
            }
            let mut renumbered = BTreeMap::new();
            for (path, entry) in &package.content.entries {
                if (entry.kind == Kind::Directory) != directories {
                    continue;
                }
                let mut entry = entry.clone();
                if let Some(group) = entry.link_group {
                    entry.link_group = Some(*renumbered.entry(group).or_insert_with(|| {
                        groups += 1;
                        groups - 1
                    }));
                }
                insert(world, &by_name, package, path, entry)?;
            }
        }
    }
    below_links(world)?;
    world.tree.close();
    Ok(())
}

fn insert(
    world: &mut World<'_>,
    by_name: &BTreeMap<&str, &PackageInput<'_>>,
    package: &PackageInput<'_>,
    path: &str,
    entry: Entry,
) -> Result<(), AssembleError> {
    let mut path = merged(path);
    if MERGED.iter().any(|(link, _)| path == format!("/usr{link}")) && entry.kind != Kind::Directory {
        return Ok(()); // the link of a merged /usr itself, as base-files has it since Debian 13
    }
    if let Some((to, keeper)) = world.diversions.get(&path)
        && keeper != package.name
    {
        path.clone_from(to);
    }
    let origin = Origin { layer: package.layer, source: package.name.to_owned() };
    let Some((old, old_origin)) = world.tree.entries.get_mut(&path) else {
        world.tree.insert(path, entry, origin);
        return Ok(());
    };
    match (&old.kind, &entry.kind) {
        (Kind::Directory, Kind::Directory) => {
            // Many packages list a directory, one of them gives it its owner and mode.
            let plain = |entry: &Entry| entry.mode == 0o755 && entry.uid == 0 && entry.gid == 0;
            if plain(old) && !plain(&entry) {
                *old = entry;
                *old_origin = origin;
            }
            return Ok(());
        }
        // dpkg keeps what is there first when one package has a directory and the other a link to one.
        (Kind::Directory, Kind::Symlink { .. }) | (Kind::Symlink { .. }, Kind::Directory) => return Ok(()),
        _ if old.kind == entry.kind => return Ok(()),
        _ => {}
    }
    let old_name = old_origin.source.clone();
    if replaces(by_name, package.name, &old_name) {
        *old = entry;
        *old_origin = origin;
    } else if !replaces(by_name, &old_name, package.name) {
        return Err(AssembleError::Conflict { path, first: old_name, second: package.name.to_owned() });
    }
    Ok(())
}

/// Entries below a link of another package move to where the link leads, as dpkg would have written them.
fn below_links(world: &mut World<'_>) -> Result<(), AssembleError> {
    let links: BTreeSet<String> = world
        .tree
        .entries
        .iter()
        .filter(|(_, (entry, _))| matches!(entry.kind, Kind::Symlink { .. }))
        .map(|(path, _)| path.clone())
        .collect();
    let mut moved = Vec::new();
    for link in links {
        let below = format!("{link}/");
        for (path, _) in
            world.tree.entries.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below))
        {
            moved.push(path.clone());
        }
    }
    for path in moved {
        let Some((entry, origin)) = world.tree.entries.remove(&path) else { continue };
        let bad = |parent: &str| AssembleError::NoDirectory {
            path: path.clone(),
            source_name: origin.source.clone(),
            parent: parent.to_owned(),
        };
        let place = world.place(&path).ok_or_else(|| bad("a link in circles"))?;
        match world.tree.entries.get(&place) {
            Some((old, _)) if old.kind == entry.kind => {}
            Some((_, other)) => {
                let (first, second) = (other.source.clone(), origin.source.clone());
                return Err(AssembleError::Conflict { path: place, first, second });
            }
            None => world.tree.insert(place, entry, origin),
        }
    }
    Ok(())
}
