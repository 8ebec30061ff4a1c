//! update-alternatives(1): the candidate with the highest priority becomes a link by way of `/etc/alternatives`.

use std::collections::BTreeMap;

use super::world::World;
use crate::tree::Entry;

/// One candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    path: String,
    priority: i64,
    /// Link, name and path of everything that follows the main link.
    slaves: Vec<(String, String, String)>,
}

/// All candidates by group name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Alternatives {
    groups: BTreeMap<String, (String, Vec<Candidate>)>,
}

impl Alternatives {
    /// Takes the arguments of one call; `None` if the call is not understood.
    pub(crate) fn call(&mut self, arguments: &[String]) -> Option<()> {
        let mut arguments = arguments.iter().map(String::as_str).peekable();
        let mut main = None;
        let mut slaves = Vec::new();
        while let Some(argument) = arguments.next() {
            match argument {
                "--quiet" | "--force" | "--verbose" => {}
                "--install" => {
                    let (link, name, path) = (arguments.next()?, arguments.next()?, arguments.next()?);
                    main = Some((link, name, path, arguments.next()?.parse::<i64>().ok()?));
                }
                "--slave" => {
                    let (link, name, path) = (arguments.next()?, arguments.next()?, arguments.next()?);
                    slaves.push((link.to_owned(), name.to_owned(), path.to_owned()));
                }
                // Removal of what an earlier version had, and `--auto` of a fresh group, change nothing here.
                "--remove" | "--remove-all" | "--auto" => return Some(()),
                _ => return None,
            }
        }
        let (link, name, path, priority) = main?;
        let is_name = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !is_name(name) || slaves.iter().any(|(_, name, _)| !is_name(name)) {
            return None;
        }
        let group = self.groups.entry(name.to_owned()).or_insert((link.to_owned(), Vec::new()));
        group.1.retain(|candidate| candidate.path != path);
        group.1.push(Candidate { path: path.to_owned(), priority, slaves });
        Some(())
    }

    /// Is there a candidate?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.groups.contains_key(name)
    }

    /// What the group leads to.
    pub(crate) fn value(&self, world: &World<'_>, name: &str) -> Option<String> {
        let (_, candidates) = self.groups.get(name)?;
        let there = candidates.iter().filter(|candidate| world.tree.resolve(&candidate.path).is_some());
        there.max_by(|a, b| (a.priority, &b.path).cmp(&(b.priority, &a.path))).map(|best| best.path.clone())
    }

    /// With the candidates of `other` besides.
    pub(crate) fn joined(mut self, other: Alternatives) -> Alternatives {
        for (name, (link, candidates)) in other.groups {
            let group = self.groups.entry(name).or_insert((link, Vec::new()));
            group.1.retain(|candidate| !candidates.iter().any(|newer| newer.path == candidate.path));
            group.1.extend(candidates);
        }
        self
    }

    /// Makes the links. A candidate whose file is not in the tree (a manual page, say) gives no link.
    pub(crate) fn apply(self, world: &mut World<'_>) {
        for (name, (link, candidates)) in self.groups {
            let exists = |path: &String| world.tree.resolve(path).is_some();
            let best = candidates.into_iter().filter(|candidate| exists(&candidate.path));
            // Equal priorities: the smaller path, as the order of installation does not exist here.
            let best = best.max_by(|a, b| (a.priority, &b.path).cmp(&(b.priority, &a.path)));
            let Some(best) = best else { continue };
            link_up(world, &link, &name, &best.path);
            for (link, name, path) in best.slaves {
                if world.tree.resolve(&path).is_some() {
                    link_up(world, &link, &name, &path);
                }
            }
        }
    }
}

fn link_up(world: &mut World<'_>, link: &str, name: &str, path: &str) {
    let Some(link) = world.place(link) else { return };
    let through = format!("/etc/alternatives/{name}");
    world.add(&link, Entry::symlink(&through), "rule:alternatives");
    world.add(&through, Entry::symlink(path), "rule:alternatives");
}
