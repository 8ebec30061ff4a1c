//! Optional packages that do not run here, and what only they need (arborist's `optional-set.js`, `gather-dep-set.js`).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::{NpmError, Raw, package_name, platform};

/// Most dependencies that are followed for all that are left out together. A lock has some hundred that do not fit, each
/// with few around it; one made to keep us busy has tens of thousands of each.
const MAX_VISITS: usize = 5_000_000;

/// One dependency: from package to package, by path.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    optional: bool,
}

/// Dependencies by their ends.
#[derive(Default)]
struct Graph<'a> {
    needs: BTreeMap<&'a str, Vec<&'a str>>,
    /// Who needs it, and whether optionally.
    needed_by: BTreeMap<&'a str, Vec<(&'a str, bool)>>,
    /// How many were followed so far.
    visits: Cell<usize>,
}

impl<'a> Graph<'a> {
    fn of(edges: &[Edge<'a>]) -> Self {
        let mut graph = Graph::default();
        for edge in edges {
            graph.needs.entry(edge.from).or_default().push(edge.to);
            graph.needed_by.entry(edge.to).or_default().push((edge.from, edge.optional));
        }
        graph
    }

    fn needs(&self, path: &str) -> impl Iterator<Item = &'a str> {
        self.visit(self.needs.get(path)).copied()
    }

    fn needed_by(&self, path: &str) -> impl Iterator<Item = (&'a str, bool)> {
        self.visit(self.needed_by.get(path)).copied()
    }

    fn visit<'g, T>(&self, ends: Option<&'g Vec<T>>) -> impl Iterator<Item = &'g T> {
        self.visits.set(self.visits.get() + ends.map_or(0, Vec::len));
        ends.into_iter().flatten()
    }
}

/// Paths of all packages that are not installed because of the platform.
pub(super) fn left_out(packages: &BTreeMap<String, Raw>) -> Result<BTreeSet<&str>, NpmError> {
    let graph = Graph::of(&edges(packages));
    let mut gone = BTreeSet::new();
    for (path, entry) in packages {
        if package_name(path).is_none() || entry.dev || platform::fits(entry) {
            continue;
        }
        if !entry.optional {
            return Err(NpmError::Platform { path: path.clone() });
        }
        gone.extend(optional_set(path, &graph));
        if graph.visits.get() > MAX_VISITS {
            return Err(NpmError::Tangled { path: path.clone() });
        }
    }
    // What lies inside a package that goes, goes with it.
    let inside = |path: &&str| path.match_indices('/').any(|(cut, _)| gone.contains(&path[..cut]));
    let more: Vec<&str> = packages.keys().map(String::as_str).filter(inside).collect();
    gone.extend(more);
    Ok(gone)
}

fn optional_set<'a>(start: &'a str, graph: &Graph<'a>) -> BTreeSet<&'a str> {
    // Up to the places where this part of the tree is asked for as optional.
    let set = reachable(BTreeSet::from([start]), |path| {
        graph.needed_by(path).filter(|(_, optional)| !optional).map(|(from, _)| from).collect()
    });
    // Everything they need.
    let mut all = reachable(set.clone(), |path| graph.needs(path).collect());
    // But nothing that somebody else needs, too, and what that needs in turn.
    let is_kept = |path: &str, all: &BTreeSet<&str>| {
        !set.contains(path) && graph.needed_by(path).any(|(from, _)| !all.contains(from))
    };
    let mut left: Vec<&str> = all.iter().copied().filter(|path| is_kept(path, &all)).collect();
    while let Some(path) = left.pop() {
        if all.remove(path) {
            left.extend(graph.needs(path).filter(|to| all.contains(to) && !set.contains(to)));
        }
    }
    all
}

/// `from`, and everything that `next` leads to, again and again.
fn reachable<'a>(from: BTreeSet<&'a str>, next: impl Fn(&str) -> Vec<&'a str>) -> BTreeSet<&'a str> {
    let mut left: Vec<&str> = from.iter().copied().collect();
    let mut found = from;
    while let Some(path) = left.pop() {
        left.extend(next(path).into_iter().filter(|path| found.insert(path)));
    }
    found
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
