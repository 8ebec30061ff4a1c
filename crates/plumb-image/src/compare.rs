//! How two trees differ, path by path. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::tree::{Entry, Kind, Origin};

/// Entries by path.
type Entries = BTreeMap<String, (Entry, Origin)>;

/// What of a path differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum What {
    /// Only the first tree has it.
    Missing,
    /// Only the second tree has it.
    Added,
    /// A file became a directory, a link, or the other way round.
    Kind {
        /// In the first tree: `file`, `directory`, `link`.
        before: String,
        /// In the second.
        after: String,
    },
    /// The content of a file.
    Content {
        /// Bytes in the first tree.
        before_bytes: u64,
        /// Bytes in the second.
        after_bytes: u64,
    },
    /// Where a symbolic link leads.
    Target {
        /// In the first tree.
        before: String,
        /// In the second.
        after: String,
    },
    /// Permission bits.
    Mode {
        /// In the first tree.
        before: u32,
        /// In the second.
        after: u32,
    },
    /// User and group id.
    Owner {
        /// In the first tree.
        before: (u32, u32),
        /// In the second.
        after: (u32, u32),
    },
    /// Extended attributes, capabilities among them.
    Attributes,
    /// The other names of the file (hard links).
    Links,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// The path.
    pub path: String,
    /// What of it.
    #[serde(flatten)]
    pub what: What,
}

/// All differences, by path.
#[must_use]
pub fn compare(before: &Entries, after: &Entries) -> Vec<Difference> {
    let (names_before, names_after) = (names(before), names(after));
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        let mut add = |what| found.push(Difference { path: path.clone(), what });
        let (one, other) = match (before.get(path), after.get(path)) {
            (Some((one, _)), Some((other, _))) => (one, other),
            (Some(_), None) => {
                add(What::Missing);
                continue;
            }
            _ => {
                add(What::Added);
                continue;
            }
        };
        if let Some(what) = kinds(one, other) {
            add(what);
        }
        if one.mode != other.mode {
            add(What::Mode { before: one.mode, after: other.mode });
        }
        if (one.uid, one.gid) != (other.uid, other.gid) {
            add(What::Owner { before: (one.uid, one.gid), after: (other.uid, other.gid) });
        }
        if one.xattrs != other.xattrs {
            add(What::Attributes);
        }
        if one.link_group.and_then(|group| names_before.get(&group))
            != other.link_group.and_then(|group| names_after.get(&group))
        {
            add(What::Links);
        }
    }
    found
}

fn kinds(one: &Entry, other: &Entry) -> Option<What> {
    match (&one.kind, &other.kind) {
        (before, after) if before == after => None,
        (Kind::File { size: before, .. }, Kind::File { size: after, .. }) => {
            Some(What::Content { before_bytes: *before, after_bytes: *after })
        }
        (Kind::Symlink { target: before }, Kind::Symlink { target: after }) => {
            Some(What::Target { before: before.clone(), after: after.clone() })
        }
        (before, after) => {
            Some(What::Kind { before: word(before).to_owned(), after: word(after).to_owned() })
        }
    }
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File { .. } => "file",
        Kind::Symlink { .. } => "link",
    }
}

/// The names of each hard-linked file: numbers of groups mean nothing across trees.
fn names(entries: &Entries) -> BTreeMap<u32, Vec<&str>> {
    let mut groups: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (path, (entry, _)) in entries {
        if let Some(group) = entry.link_group {
            groups.entry(group).or_default().push(path);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Layer;
    use plumb_model::Digest;

    fn tree(paths: &[(&str, Entry)]) -> Entries {
        let origin = Origin { layer: Layer::Os, source: "x".into() };
        paths.iter().map(|(path, entry)| ((*path).to_owned(), (entry.clone(), origin.clone()))).collect()
    }

    #[test]
    fn every_kind_of_difference() {
        let file = |text: &str| Entry::file(Digest::of(text.as_bytes()), text.len() as u64, 0o644);
        let linked = |group| Entry { link_group: Some(group), ..file("l") };
        let capable = Entry { xattrs: [("security.capability".into(), vec![1])].into(), ..file("c") };
        let before = tree(&[
            ("/a", file("a")),
            ("/b", file("one")),
            ("/c", file("c")),
            ("/d", Entry::directory(0o755)),
            ("/e", Entry::symlink("x")),
            ("/f", Entry::directory(0o755)),
            ("/l1", linked(0)),
            ("/l2", linked(0)),
            ("/same", file("s")),
        ]);
        let after = tree(&[
            ("/b", file("three")),
            ("/c", capable),
            ("/d", Entry { mode: 0o700, uid: 33, ..Entry::directory(0o755) }),
            ("/e", Entry::symlink("y")),
            ("/f", file("f")),
            ("/g", file("g")),
            ("/l1", linked(7)),
            ("/l2", linked(8)),
            ("/same", file("s")),
        ]);
        let found: Vec<(String, What)> =
            compare(&before, &after).into_iter().map(|one| (one.path, one.what)).collect();
        let change = |before: &str, after: &str| (before.to_owned(), after.to_owned());
        let (kind_before, kind_after) = change("directory", "file");
        let (target_before, target_after) = change("x", "y");
        let expected = [
            ("/a", What::Missing),
            ("/b", What::Content { before_bytes: 3, after_bytes: 5 }),
            ("/c", What::Attributes),
            ("/d", What::Mode { before: 0o755, after: 0o700 }),
            ("/d", What::Owner { before: (0, 0), after: (33, 0) }),
            ("/e", What::Target { before: target_before, after: target_after }),
            ("/f", What::Kind { before: kind_before, after: kind_after }),
            ("/f", What::Mode { before: 0o755, after: 0o644 }),
            ("/g", What::Added),
            ("/l1", What::Links),
            ("/l2", What::Links),
        ];
        assert_eq!(found, expected.map(|(path, what)| (path.to_owned(), what)));
        assert!(compare(&before, &before.clone()).is_empty());
        // Another number of the same group is no difference.
        assert!(compare(&tree(&[("/l", linked(1))]), &tree(&[("/l", linked(2))])).is_empty());
    }
}
