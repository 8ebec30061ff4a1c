//! What differs between two trees, one fact at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::tree::{Form, LISTS, Node, Tree};

/// What of a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Scripts made it, rules did not.
    Missing,
    /// Rules made it, scripts did not.
    Added,
    /// A file here, a link or directory there.
    Kind,
    Content,
    Target,
    Mode,
    Owner,
    Xattr,
    /// Hard links of one file here, files of their own there.
    HardLink,
}

/// One difference. A line of a list is a path below the list: `/etc/passwd/www-data`.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) path: String,
    pub(crate) what: What,
    ours: String,
    theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} (ours {}, theirs {})", self.path, self.what, self.ours, self.theirs)
    }
}

pub(crate) fn between(ours: &Tree, theirs: &Tree) -> Vec<Difference> {
    let mut found = Vec::new();
    let paths: BTreeSet<&String> = ours.nodes.keys().chain(theirs.nodes.keys()).collect();
    let groups = (link_groups(ours, theirs), link_groups(theirs, ours));
    for path in paths {
        match (ours.nodes.get(path), theirs.nodes.get(path)) {
            (Some(ours), Some(theirs)) => {
                of_nodes(path, ours, theirs, &mut found);
                if groups.0.get(path) != groups.1.get(path) {
                    add(&mut found, path, What::HardLink, &groups.0.get(path), &groups.1.get(path));
                }
            }
            (Some(node), None) => add(&mut found, path, What::Added, &node.form, &"nothing"),
            (None, Some(node)) => add(&mut found, path, What::Missing, &"nothing", &node.form),
            (None, None) => {}
        }
    }
    for list in LISTS.iter().filter(|list| ours.lists.contains_key(**list)) {
        of_lists(list, (ours, theirs), &mut found);
    }
    found
}

fn add(found: &mut Vec<Difference>, path: &str, what: What, ours: &dyn fmt::Debug, theirs: &dyn fmt::Debug) {
    let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
    found.push(Difference { path: path.to_owned(), what, ours, theirs });
}

/// By path, the first path of its hard links that both trees have.
fn link_groups<'a>(tree: &'a Tree, other: &Tree) -> BTreeMap<&'a String, &'a String> {
    let mut first: BTreeMap<u32, &String> = BTreeMap::new();
    let mut count: BTreeMap<u32, u32> = BTreeMap::new();
    let shared = tree.nodes.iter().filter(|(path, _)| other.nodes.contains_key(*path));
    let linked: Vec<_> = shared.filter_map(|(path, node)| Some((path, node.hard_link?))).collect();
    for (path, group) in &linked {
        first.entry(*group).or_insert(path);
        *count.entry(*group).or_default() += 1;
    }
    linked
        .into_iter()
        .filter(|(_, group)| count[group] > 1)
        .map(|(path, group)| (path, first[&group]))
        .collect()
}

fn of_nodes(path: &str, ours: &Node, theirs: &Node, found: &mut Vec<Difference>) {
    match (&ours.form, &theirs.form) {
        (Form::Directory, Form::Directory) => {}
        (Form::File(first), Form::File(second)) => {
            // Of a list that both have, the lines are compared.
            if first != second && !LISTS.contains(&path) {
                add(found, path, What::Content, first, second);
            }
        }
        (Form::Link(first), Form::Link(second)) => {
            if first != second {
                add(found, path, What::Target, first, second);
            }
        }
        (first, second) => return add(found, path, What::Kind, first, second),
    }
    if ours.mode != theirs.mode && !matches!(ours.form, Form::Link(_)) {
        add(found, path, What::Mode, &format_args!("{:o}", ours.mode), &format_args!("{:o}", theirs.mode));
    }
    let (first, second) = ((&ours.user, &ours.group), (&theirs.user, &theirs.group));
    if first != second {
        add(found, path, What::Owner, &first, &second);
    }
    if ours.xattrs != theirs.xattrs {
        add(found, path, What::Xattr, &ours.xattrs, &theirs.xattrs);
    }
}

fn of_lists(list: &str, trees: (&Tree, &Tree), found: &mut Vec<Difference>) {
    let (ours, theirs) = (lines(list, trees.0), lines(list, trees.1));
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        let path = format!("{list}/{name}");
        match (ours.get(name), theirs.get(name)) {
            (Some(first), None) => add(found, &path, What::Added, first, &"nothing"),
            (None, Some(second)) => add(found, &path, What::Missing, &"nothing", second),
            (first, second) if first != second => add(found, &path, What::Content, &first, &second),
            _ => {}
        }
    }
}

/// A password field; `x` and `*` both say that no password is here.
fn none(password: &str) -> &str {
    if matches!(password, "x" | "*") { "" } else { password }
}

/// Lines by their first field, without what depends on the order of asking (ids) or on the day (of the last change).
fn lines(list: &str, tree: &Tree) -> BTreeMap<String, String> {
    let text = |list: &str| tree.lists.get(list).map_or("", String::as_str);
    let group = |gid: &str| {
        let groups = text("/etc/group").lines().map(|line| line.split(':').collect::<Vec<_>>());
        let mut named =
            groups.filter(|fields| fields.get(2) == Some(&gid)).map(|fields| fields[0].to_owned());
        named.next().unwrap_or_default()
    };
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let rest = match (list, fields.as_slice()) {
            ("/etc/passwd", [_, password, _, gid, rest @ ..]) => {
                format!("{}:{}:{}", none(password), group(gid), rest.join(":"))
            }
            ("/etc/group", [_, password, _, members]) => {
                let mut members: Vec<&str> = members.split(',').collect();
                members.sort_unstable();
                format!("{}:{}", none(password), members.join(","))
            }
            ("/etc/shadow", [_, password, _, rest @ ..]) => format!("{password}:{}", rest.join(":")),
            (_, [_, rest @ ..]) => rest.join(":"),
            (_, []) => String::new(),
        };
        (fields[0].trim_start_matches('/').to_owned(), rest)
    };
    text(list).lines().filter(|line| !line.starts_with('#')).map(line).collect()
}
