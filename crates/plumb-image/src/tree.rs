//! The file tree of one machine, before it becomes bytes.
//!
//! A tree never holds file contents, only digests: contents are objects behind [`Objects`]. Paths are absolute,
//! normalized (`/usr/bin/env`), UTF-8, and every parent of an entry is itself an entry of kind directory once
//! [`Tree::close`] was called.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use plumb_model::Digest;
use serde::{Deserialize, Serialize};

/// Most links that one path follows, as the kernel does (path_resolution(7)).
pub(crate) const MAX_LINKS: usize = 40;

/// The door to file contents, by digest. The store stands behind it.
pub trait Objects: Sync {
    /// Keeps everything `source` gives and returns digest and length in bytes.
    ///
    /// # Errors
    /// Whatever reading `source` or writing the object says.
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)>;

    /// The object as an open file, for copying without a detour through memory.
    ///
    /// # Errors
    /// What opening it says, or if these objects lie in no files of their own.
    fn open(&self, digest: &Digest) -> io::Result<File>;

    /// The whole object in memory.
    ///
    /// # Errors
    /// As [`Objects::open`], or if the object is larger than `limit_bytes`.
    fn read(&self, digest: &Digest, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(digest)?.take(limit_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit_bytes {
            return Err(io::Error::other(format!("object {digest} is larger than {limit_bytes} bytes")));
        }
        Ok(bytes)
    }
}

/// Who owns a file of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The operating system: packages that only come along, and Plumb's own files.
    Os,
    /// Packages the definition names as middleware.
    Middleware,
    /// The user's own files.
    App,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its contents.
        digest: Digest,
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link, with its target as written.
    Symlink {
        /// The target.
        target: String,
    },
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits including set-uid, set-gid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name (`security.capability`), raw values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Entries of the same tree with the same number are hard links of one file (shared inode).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_group: Option<u32>,
}

impl Entry {
    /// A directory owned by root.
    #[must_use]
    pub fn directory(mode: u32) -> Self {
        Entry { kind: Kind::Directory, mode, uid: 0, gid: 0, xattrs: BTreeMap::new(), link_group: None }
    }

    /// A file owned by root.
    #[must_use]
    pub fn file(digest: Digest, size: u64, mode: u32) -> Self {
        Entry { kind: Kind::File { digest, size }, ..Entry::directory(mode) }
    }

    /// A symbolic link owned by root.
    #[must_use]
    pub fn symlink(target: impl Into<String>) -> Self {
        Entry { kind: Kind::Symlink { target: target.into() }, ..Entry::directory(0o777) }
    }
}

/// Where an entry of the final tree comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Layer that owns it.
    pub layer: Layer,
    /// Package name, `rule:<name>` for what a rule made, or `app` for the user's file.
    pub source: String,
}

/// A file tree: path to entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// All entries but the root directory itself, by absolute path. `/` has no entry; it is root:root 0755.
    pub entries: BTreeMap<String, (Entry, Origin)>,
}

impl Tree {
    /// Inserts or replaces an entry.
    pub fn insert(&mut self, path: impl Into<String>, entry: Entry, origin: Origin) {
        self.entries.insert(path.into(), (entry, origin));
    }

    /// The entry at exactly this path; links are not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path).map(|(entry, _)| entry)
    }

    /// The path that `path` means after following all symbolic links in it, if it exists in the tree.
    /// At most [`MAX_LINKS`] links are followed.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut left: Vec<String> = components(path).rev().map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{at}/{part}");
            let (entry, _) = self.entries.get(&next)?;
            if let Kind::Symlink { target } = &entry.kind {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                if target.starts_with('/') {
                    at.clear();
                }
                left.extend(components(target).rev().map(str::to_owned));
            } else {
                at = next;
            }
        }
        Some(if at.is_empty() { "/".to_owned() } else { at })
    }

    /// Adds the missing parent directories of every entry (root:root 0755).
    pub fn close(&mut self) {
        let mut missing = BTreeMap::new();
        for (path, (_, origin)) in &self.entries {
            let mut parent = path.as_str();
            while let Some(cut) = parent.rfind('/').filter(|cut| *cut > 0) {
                parent = &parent[..cut];
                if self.entries.contains_key(parent) {
                    break;
                }
                missing.entry(parent.to_owned()).or_insert_with(|| (Entry::directory(0o755), origin.clone()));
            }
        }
        self.entries.extend(missing);
    }
}

/// The parts of a path without `.` and `..`, as if no part were a link.
pub(crate) fn normal_parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in components(path) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts
}

fn components(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { layer: Layer::Os, source: "test".into() }
    }

    #[test]
    fn resolve_follows_links_inside_the_tree() {
        let mut tree = Tree::default();
        tree.insert("/usr/lib/x/libz.so.1", Entry::file(Digest::of(b""), 0, 0o644), origin());
        tree.insert("/usr/lib/x/libz.so", Entry::symlink("libz.so.1"), origin());
        tree.insert("/lib", Entry::symlink("usr/lib"), origin());
        tree.insert("/loop", Entry::symlink("/loop"), origin());
        tree.insert("/up", Entry::symlink("../../usr"), origin());
        tree.close();
        assert_eq!(tree.resolve("/lib/x/libz.so").as_deref(), Some("/usr/lib/x/libz.so.1"));
        assert_eq!(tree.resolve("/up/lib").as_deref(), Some("/usr/lib"));
        assert_eq!(tree.resolve("/lib/x/../x").as_deref(), Some("/usr/lib/x"));
        assert_eq!(tree.resolve("/loop"), None);
        assert_eq!(tree.resolve("/lib/y"), None);
        assert_eq!(tree.resolve("/").as_deref(), Some("/"));
    }
}
