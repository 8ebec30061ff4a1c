//! Why a package is in a set: the dependencies that lead to it. Over the control data of the set itself, without an
//! index, so that it can be asked of every image at any time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use plumb_debian::{
    ARCHITECTURE, Alternatives, ControlError, PackageName, Paragraphs, Relation, Version, parse_relations,
};

use crate::request::{Requirer, RootRequest};

/// One dependency: who has it, as it is written, and the package of the set that answers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Who needs it.
    pub requirer: Requirer,
    /// The relation as written.
    pub relation: String,
    /// The package that answers it.
    pub package: PackageName,
}

/// The packages of a set and what they say they need.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    members: BTreeMap<PackageName, Member>,
    /// What each package needs, answered; made once, because a footprint asks a hundred times.
    edges: BTreeMap<PackageName, Vec<Link>>,
}

#[derive(Debug, Clone, Default)]
struct Member {
    version: Option<Version>,
    depends: Vec<Alternatives>,
    provides: Vec<Relation>,
}

impl Dependencies {
    /// Reads control stanzas, such as a dpkg status file. A stanza without a valid name, and a relation that cannot be
    /// read, say nothing and are passed over: the set was resolved before.
    ///
    /// # Errors
    /// If the text is not control data.
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        let mut members = BTreeMap::new();
        for paragraph in Paragraphs::new(text) {
            let paragraph = paragraph?;
            let Some(name) = paragraph.get("Package").and_then(|name| name.parse().ok()) else { continue };
            let relations = |field: &str| {
                paragraph.get(field).and_then(|text| parse_relations(text).ok()).unwrap_or_default()
            };
            let mut depends = relations("Pre-Depends");
            depends.extend(relations("Depends"));
            let provides = relations("Provides").into_iter().flat_map(|group| group.0).collect();
            let version = paragraph.get("Version").and_then(|version| version.parse().ok());
            members.insert(name, Member { version, depends, provides });
        }
        let mut dependencies = Dependencies { members, edges: BTreeMap::new() };
        dependencies.edges =
            dependencies.members.keys().map(|name| (name.clone(), dependencies.links_of(name))).collect();
        Ok(dependencies)
    }

    /// Is the package in the set?
    #[must_use]
    pub fn contains(&self, name: &PackageName) -> bool {
        self.members.contains_key(name)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self, name: &PackageName) -> Option<&Version> {
        self.members.get(name)?.version.as_ref()
    }

    /// Everything of the set that needs `name`, sorted.
    #[must_use]
    pub fn requirers(&self, roots: &[RootRequest], name: &PackageName) -> Vec<Link> {
        let mut links: Vec<Link> = self.links(roots).filter(|link| link.package == *name).collect();
        links.sort();
        links.dedup();
        links
    }

    /// The packages of the set that answer what `name` needs, sorted.
    #[must_use]
    pub fn needs(&self, name: &PackageName) -> BTreeSet<PackageName> {
        self.edges.get(name).into_iter().flatten().map(|link| link.package.clone()).collect()
    }

    /// The shortest way from a root to `name`; of equal ones the first by name. Empty if nothing leads there.
    #[must_use]
    pub fn chain(&self, roots: &[RootRequest], name: &PackageName) -> Vec<Link> {
        back(&self.walk(roots, &BTreeSet::new()), name)
    }

    /// [`Dependencies::chain`] of every package that a root leads to.
    #[must_use]
    pub fn chains(&self, roots: &[RootRequest]) -> BTreeMap<PackageName, Vec<Link>> {
        let ways = self.walk(roots, &BTreeSet::new());
        ways.keys().map(|name| (name.clone(), back(&ways, name))).collect()
    }

    /// The packages that are still needed if those of `without` are left out.
    #[must_use]
    pub fn reachable(&self, roots: &[RootRequest], without: &BTreeSet<PackageName>) -> BTreeSet<PackageName> {
        self.walk(roots, without).into_keys().collect()
    }

    /// For each package that is reached, the link over which it is reached first.
    fn walk(&self, roots: &[RootRequest], without: &BTreeSet<PackageName>) -> BTreeMap<PackageName, Link> {
        let mut ways: BTreeMap<PackageName, Link> = BTreeMap::new();
        let mut queue = VecDeque::new();
        let mut take = |links: &[Link], queue: &mut VecDeque<PackageName>| {
            for link in links.iter().filter(|link| !without.contains(&link.package)) {
                if !ways.contains_key(&link.package) {
                    queue.push_back(link.package.clone());
                    ways.insert(link.package.clone(), link.clone());
                }
            }
        };
        take(&self.root_links(roots), &mut queue);
        while let Some(name) = queue.pop_front() {
            take(self.edges.get(&name).map(Vec::as_slice).unwrap_or_default(), &mut queue);
        }
        ways
    }

    fn links<'s>(&'s self, roots: &[RootRequest]) -> impl Iterator<Item = Link> + use<'s> {
        let roots = self.root_links(roots);
        roots.into_iter().chain(self.edges.values().flatten().cloned())
    }

    fn root_links(&self, roots: &[RootRequest]) -> Vec<Link> {
        let links = roots.iter().flat_map(|root| {
            let groups = parse_relations(&root.relation).unwrap_or_default();
            let requirer = Requirer::Root(root.asked_by.clone());
            groups.into_iter().flat_map(move |group| self.answers(&requirer, &group))
        });
        links.collect()
    }

    fn links_of(&self, name: &PackageName) -> Vec<Link> {
        let requirer = Requirer::Package(name.clone());
        let groups = self.members.get(name).map(|member| member.depends.as_slice()).unwrap_or_default();
        groups.iter().flat_map(|group| self.answers(&requirer, group)).collect()
    }

    /// Every package of the set that answers the relation, but for the one that has it.
    fn answers(&self, requirer: &Requirer, group: &Alternatives) -> Vec<Link> {
        let mut links = Vec::new();
        for relation in group.0.iter().filter(|relation| relation.applies_to(ARCHITECTURE)) {
            let named = self.members.get_key_value(&relation.name).into_iter().filter(|(_, member)| {
                member.version.as_ref().is_none_or(|version| relation.accepts(version))
            });
            let providing = self
                .members
                .iter()
                .filter(|(_, member)| member.provides.iter().any(|provided| provided.name == relation.name));
            for (package, _) in named.chain(providing) {
                if *requirer != Requirer::Package(package.clone()) {
                    links.push(Link {
                        requirer: requirer.clone(),
                        relation: group.to_string(),
                        package: package.clone(),
                    });
                }
            }
        }
        links
    }
}

/// The way from a root to `name`, found from its end.
fn back(ways: &BTreeMap<PackageName, Link>, name: &PackageName) -> Vec<Link> {
    let mut chain = Vec::new();
    let mut at = name;
    while let Some(link) = ways.get(at) {
        chain.push(link.clone());
        match &link.requirer {
            Requirer::Package(by) => at = by,
            Requirer::Root(_) => break,
        }
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: web\nVersion: 1.2\nDepends: common (= 1.2), libc | musl, httpd-tool\n\n\
        Package: common\nVersion: 1.2\nDepends: ip\n\nPackage: ip\nVersion: 5\nPre-Depends: libelf (>= 2)\n\n\
        Package: libelf\nVersion: 3\n\nPackage: libc\nVersion: 2\n\nPackage: tools\nVersion: 1\nProvides: httpd-tool\n\
        Depends: libelf\n\nPackage: stray\nVersion: 1\nDepends: (broken\n\nVersion: 9\n";

    fn name(text: &str) -> PackageName {
        text.parse().expect("name")
    }

    fn roots() -> Vec<RootRequest> {
        vec![RootRequest { relation: "web".into(), asked_by: "middleware".into() }]
    }

    fn text(links: &[Link]) -> Vec<String> {
        links.iter().map(|link| format!("{} `{}` {}", link.requirer, link.relation, link.package)).collect()
    }

    #[test]
    fn the_shortest_way_and_all_requirers() {
        let set = Dependencies::parse(STATUS).expect("control data");
        assert_eq!(
            text(&set.chain(&roots(), &name("libelf"))),
            ["middleware `web` web", "web `httpd-tool` tools", "tools `libelf` libelf"]
        );
        assert_eq!(
            text(&set.requirers(&roots(), &name("libelf"))),
            ["ip `libelf (>= 2)` libelf", "tools `libelf` libelf"]
        );
        assert_eq!(
            text(&set.chain(&roots(), &name("libc"))),
            ["middleware `web` web", "web `libc | musl` libc"]
        );
        assert_eq!(text(&set.requirers(&roots(), &name("web"))), ["middleware `web` web"]);
        assert!(set.chain(&roots(), &name("stray")).is_empty());
        assert!(set.contains(&name("stray")) && !set.contains(&name("musl")));
        assert_eq!(set.version(&name("ip")).map(Version::as_str), Some("5"));
    }

    #[test]
    fn what_falls_away() {
        let set = Dependencies::parse(STATUS).expect("control data");
        let left = |without: &[&str]| {
            let without = without.iter().map(|text| name(text)).collect();
            set.reachable(&roots(), &without).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(left(&[]), ["common", "ip", "libc", "libelf", "tools", "web"]);
        assert_eq!(left(&["ip"]), ["common", "libc", "libelf", "tools", "web"]);
        assert_eq!(left(&["ip", "tools"]), ["common", "libc", "web"]);
        assert!(left(&["web"]).is_empty());
    }

    #[test]
    fn a_circle_ends() {
        let set = Dependencies::parse("Package: aa\nDepends: bb\n\nPackage: bb\nDepends: aa\n")
            .expect("control data");
        let roots = [RootRequest { relation: "aa".into(), asked_by: "os".into() }];
        assert_eq!(text(&set.chain(&roots, &name("bb"))), ["os `aa` aa", "aa `bb` bb"]);
        assert_eq!(text(&set.requirers(&roots, &name("aa"))), ["os `aa` aa", "bb `aa` aa"]);
    }
}
