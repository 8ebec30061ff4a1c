//! Optional packages that do not run here, and what only they need (arborist's `optional-set.js`, `gather-dep-set.js`).

use std::collections::{BTreeMap, BTreeSet};

use super::{NpmError, Raw, package_name, platform};

/// One dependency: from package to package, by path.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    optional: bool,
}

/// Paths of all packages that are not installed because of the platform.
pub(super) fn left_out(packages: &BTreeMap<String, Raw>) -> Result<BTreeSet<&str>, NpmError> {
    let edges = edges(packages);
    let mut gone = BTreeSet::new();
    for (path, entry) in packages {
        if package_name(path).is_none() || entry.dev || platform::fits(entry) {
            continue;
        }
        if !entry.optional {
            return Err(NpmError::Platform { path: path.clone() });
        }
        gone.extend(optional_set(path, &edges));
    }
    // What lies inside a package that goes, goes with it.
    let inside = |path: &str| {
        gone.iter().any(|other| path.strip_prefix(*other).is_some_and(|rest| rest.starts_with('/')))
    };
    let more: Vec<&str> = packages.keys().map(String::as_str).filter(|path| inside(path)).collect();
    gone.extend(more);
    Ok(gone)
}

fn optional_set<'a>(start: &'a str, edges: &[Edge<'a>]) -> BTreeSet<&'a str> {
    // Up to the places where this part of the tree is asked for as optional.
    let mut set = BTreeSet::from([start]);
    grow(&mut set, |set| {
        edges.iter().find(|e| !e.optional && set.contains(e.to) && !set.contains(e.from)).map(|e| e.from)
    });
    // Everything they need.
    let mut all = set.clone();
    grow(&mut all, |all| {
        edges
            .iter()
            .find(|e| all.contains(e.from) && !set.contains(e.to) && !all.contains(e.to))
            .map(|e| e.to)
    });
    // But nothing that somebody else needs, too.
    while let Some(kept) = edges
        .iter()
        .find(|e| all.contains(e.to) && !set.contains(e.to) && !all.contains(e.from))
        .map(|e| e.to)
    {
        all.remove(kept);
    }
    all
}

fn grow<'a>(set: &mut BTreeSet<&'a str>, next: impl Fn(&BTreeSet<&'a str>) -> Option<&'a str>) {
    while let Some(more) = next(set) {
        set.insert(more);
    }
}

fn edges(packages: &BTreeMap<String, Raw>) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    for (from, entry) in packages {
        let is_top = package_name(from).is_none();
        let peer_optional =
            |name: &str| entry.peer_dependencies_meta.get(name).is_some_and(|meta| meta.optional);
        let dev = entry.dev_dependencies.keys().filter(|_| is_top);
        let required = entry.dependencies.keys().chain(dev).map(|name| (name, false));
        let peers = entry.peer_dependencies.keys().map(|name| (name, peer_optional(name)));
        let optional = entry.optional_dependencies.keys().map(|name| (name, true));
        for (name, optional) in required.chain(peers).chain(optional) {
            if let Some(to) = resolve(from, name, packages) {
                edges.push(Edge { from, to, optional });
            }
        }
        // The link stands for its target.
        if entry.link
            && let Some((to, _)) = packages.get_key_value(entry.resolved.as_deref().unwrap_or_default())
        {
            edges.push(Edge { from, to, optional: false });
        }
    }
    edges
}

/// Node's own way: the next `node_modules` upwards that has it.
fn resolve<'a>(from: &str, name: &str, packages: &'a BTreeMap<String, Raw>) -> Option<&'a str> {
    let mut folder = from;
    loop {
        let candidate = if folder.is_empty() {
            format!("node_modules/{name}")
        } else {
            format!("{folder}/node_modules/{name}")
        };
        if let Some((path, _)) = packages.get_key_value(&candidate) {
            return Some(path);
        }
        if folder.is_empty() {
            return None;
        }
        folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
        folder =
            folder.strip_suffix("/node_modules").or(folder.strip_suffix("node_modules")).unwrap_or(folder);
    }
}
