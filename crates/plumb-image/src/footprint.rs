//! How much an image holds, by layer, and where the bytes are. Pure, over an inventory.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use serde::{Deserialize, Serialize};

use crate::tree::{Entry, Kind, Layer, Origin};

/// Directories are told apart down to this depth: `/usr/lib/x86_64-linux-gnu` is three.
const DEPTH: usize = 3;

/// What one layer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFootprint {
    /// Bytes of regular files; a file with several names (hard links) counts once.
    pub bytes: u64,
    /// Packages.
    pub packages: u64,
    /// Regular files.
    pub files: u64,
    /// ELF objects: programs, libraries, plugins.
    pub elf: u64,
    /// Files with the set-user-id bit.
    pub setuid: u64,
    /// Files with the set-group-id bit.
    pub setgid: u64,
    /// Files with capabilities (capabilities(7)).
    pub capabilities: u64,
}

/// A path, package or directory and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
}

/// What an image holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// By layer.
    pub layers: BTreeMap<Layer, LayerFootprint>,
    /// Largest packages (and rules, and `app`), largest first.
    pub packages: Vec<Share>,
    /// Largest files.
    pub largest_files: Vec<Share>,
    /// Largest directories.
    pub largest_directories: Vec<Share>,
    /// Files that give rights: path, and which (`setuid`, `setgid`, `capabilities`).
    pub privileged: Vec<(String, String)>,
}

/// Measures. `packages` are the image's packages by layer; `is_elf` says whether an object is an ELF file; `most` is how
/// many of the largest are listed.
#[must_use]
pub fn measure(
    entries: &BTreeMap<String, (Entry, Origin)>,
    packages: &BTreeMap<String, Layer>,
    is_elf: &dyn Fn(&Digest) -> bool,
    most: usize,
) -> Footprint {
    let mut footprint = Footprint::default();
    for layer in packages.values() {
        footprint.layers.entry(*layer).or_default().packages += 1;
    }
    let mut groups = BTreeSet::new();
    let mut by_source: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut by_directory: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut files = Vec::new();
    for (path, (entry, origin)) in entries {
        let Kind::File { digest, size } = &entry.kind else { continue };
        let is_first = entry.link_group.is_none_or(|group| groups.insert(group));
        let bytes = if is_first { *size } else { 0 };
        let layer = footprint.layers.entry(origin.layer).or_default();
        layer.bytes += bytes;
        layer.files += 1;
        layer.elf += u64::from(is_elf(digest));
        for (is_set, what, count) in [
            (entry.mode & 0o4000 != 0, "setuid", &mut layer.setuid),
            (entry.mode & 0o2000 != 0, "setgid", &mut layer.setgid),
            (entry.xattrs.contains_key("security.capability"), "capabilities", &mut layer.capabilities),
        ] {
            if is_set {
                *count += 1;
                footprint.privileged.push((path.clone(), what.to_owned()));
            }
        }
        for share in [
            by_source.entry(origin.source.as_str()).or_default(),
            by_directory.entry(directory(path)).or_default(),
        ] {
            share.0 += bytes;
            share.1 += 1;
        }
        files.push(Share { name: path.clone(), bytes, files: 1 });
    }
    footprint.packages = largest(shares(by_source), usize::MAX);
    footprint.largest_directories = largest(shares(by_directory), most);
    footprint.largest_files = largest(files, most);
    footprint
}

/// The directory a file is counted in.
fn directory(path: &str) -> &str {
    let end = path.rfind('/').unwrap_or(0);
    let cut = path.match_indices('/').nth(DEPTH).map_or(end, |(at, _)| at.min(end));
    if cut == 0 { "/" } else { &path[..cut] }
}

fn shares(counts: BTreeMap<&str, (u64, u64)>) -> Vec<Share> {
    let share = |(name, (bytes, files)): (&str, (u64, u64))| Share { name: name.to_owned(), bytes, files };
    counts.into_iter().map(share).collect()
}

fn largest(mut shares: Vec<Share>, most: usize) -> Vec<Share> {
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    shares.truncate(most);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn counts_by_layer() {
        let mut tree = Tree::default();
        let origin = |layer, source: &str| Origin { layer, source: source.into() };
        let elf = Digest::of(b"elf");
        let mut one = Entry::file(elf, 100, 0o4755);
        one.link_group = Some(0);
        tree.insert("/usr/bin/a", one.clone(), origin(Layer::Os, "a"));
        tree.insert("/usr/bin/b", one, origin(Layer::Os, "a"));
        let mut ping = Entry::file(Digest::of(b"p"), 7, 0o2755);
        ping.xattrs.insert("security.capability".into(), vec![1]);
        tree.insert("/usr/lib/x/y/z/ping", ping, origin(Layer::Middleware, "ping"));
        tree.insert("/srv", Entry::directory(0o755), origin(Layer::App, "app"));
        tree.insert("/srv/page", Entry::file(Digest::of(b"q"), 5, 0o644), origin(Layer::App, "app"));
        tree.close();
        let packages = [("a".to_owned(), Layer::Os), ("ping".to_owned(), Layer::Middleware)].into();
        let found = measure(&tree.entries, &packages, &|digest| *digest == elf, 2);
        let os =
            LayerFootprint { bytes: 100, packages: 1, files: 2, elf: 2, setuid: 2, ..Default::default() };
        assert_eq!(found.layers[&Layer::Os], os);
        let middleware = &found.layers[&Layer::Middleware];
        assert_eq!((middleware.setgid, middleware.capabilities, middleware.bytes), (1, 1, 7));
        assert_eq!(found.layers[&Layer::App].files, 1);
        let names = |shares: &[Share]| shares.iter().map(|share| share.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found.packages), ["a", "ping", "app"]);
        assert_eq!(names(&found.largest_directories), ["/usr/bin", "/usr/lib/x"]);
        assert_eq!(names(&found.largest_files), ["/usr/bin/a", "/usr/lib/x/y/z/ping"]);
        assert_eq!(found.privileged.len(), 4);
    }
}
