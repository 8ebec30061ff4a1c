//! The image while rules work on it.

use std::collections::BTreeMap;
use std::io;

use super::account::{Accounts, Wanted};
use super::alternative::Alternatives;
use crate::tree::{Entry, Kind, Layer, Objects, Origin, Tree};

/// Longest text file a rule reads: configuration and scripts are far below.
const TEXT_BYTES: u64 = 4 << 20;

/// A change of owner that waits until ids are given.
#[derive(Debug, Clone)]
struct Ownership {
    path: String,
    recursive: bool,
    user: Option<String>,
    group: Option<String>,
}

/// A directory below a mount that is empty at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootDirectory {
    pub(crate) mode: u32,
    pub(crate) user: String,
    pub(crate) group: String,
}

/// Everything rules read and change.
pub(crate) struct World<'a> {
    pub(crate) tree: Tree,
    pub(crate) objects: &'a dyn Objects,
    pub(crate) accounts: Wanted,
    pub(crate) alternatives: Alternatives,
    /// Diverted path to its new place and the package that keeps the old one.
    pub(crate) diversions: BTreeMap<String, (String, String)>,
    pub(crate) boot_directories: BTreeMap<String, BootDirectory>,
    ownerships: Vec<Ownership>,
    /// The first failure of `objects` in a place that cannot return it.
    pub(crate) failure: Option<io::Error>,
}

impl<'a> World<'a> {
    pub(crate) fn new(objects: &'a dyn Objects) -> Self {
        World {
            tree: Tree::default(),
            objects,
            accounts: Wanted::default(),
            alternatives: Alternatives::default(),
            diversions: BTreeMap::new(),
            boot_directories: BTreeMap::new(),
            ownerships: Vec::new(),
            failure: None,
        }
    }

    /// `path` with every link among its parents followed, also where the last parents do not exist yet; `None` for a
    /// path that is not absolute or leads in circles.
    pub(crate) fn place(&self, path: &str) -> Option<String> {
        if !path.starts_with('/') {
            return None;
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        let last = parts.pop()?;
        for known in (0..=parts.len()).rev() {
            let parent = format!("/{}", parts[..known].join("/"));
            if let Some(parent) = self.tree.resolve(&parent) {
                let below = parts[known..]
                    .iter()
                    .fold(parent.trim_end_matches('/').to_owned(), |at, part| format!("{at}/{part}"));
                return Some(format!("{below}/{last}"));
            }
        }
        None
    }

    /// Is this below a mount that is empty at boot, so that the image cannot hold it?
    pub(crate) fn is_volatile(path: &str) -> bool {
        ["/run", "/tmp", "/proc", "/sys", "/dev"].iter().any(|mount| {
            path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    pub(crate) fn origin(source: &str) -> Origin {
        Origin { layer: Layer::Os, source: source.to_owned() }
    }

    /// Text of a file of the tree, links followed; `None` if there is none or it is no text.
    pub(crate) fn text(&self, path: &str) -> io::Result<Option<String>> {
        let Some(at) = self.tree.resolve(path) else { return Ok(None) };
        match self.tree.get(&at).map(|entry| &entry.kind) {
            Some(Kind::File { digest, size }) if *size <= TEXT_BYTES => {
                Ok(String::from_utf8(self.objects.read(digest, TEXT_BYTES)?).ok())
            }
            _ => Ok(None),
        }
    }

    /// Writes a file owned by root.
    pub(crate) fn write(&mut self, path: &str, text: &[u8], mode: u32, origin: &Origin) -> io::Result<()> {
        let (digest, size) = self.objects.put(&mut &*text)?;
        self.insert(path, Entry::file(digest, size, mode), origin.clone());
        Ok(())
    }

    /// Inserts what a rule makes unless something is there.
    pub(crate) fn add(&mut self, path: &str, entry: Entry, rule: &str) {
        if !self.tree.entries.contains_key(path) {
            self.insert(path, entry, World::origin(rule));
        }
    }

    /// Inserts or replaces an entry; parents that are missing are made, so that its path resolves at once.
    pub(crate) fn insert(&mut self, path: &str, entry: Entry, origin: Origin) {
        let mut parent = path;
        while let Some(cut) = parent.rfind('/').filter(|cut| *cut > 0) {
            parent = &parent[..cut];
            if self.tree.entries.contains_key(parent) {
                break;
            }
            self.tree.insert(parent, Entry::directory(0o755), origin.clone());
        }
        self.tree.insert(path, entry, origin);
    }

    /// Remembers a change of owner; ids are not known yet.
    pub(crate) fn own(&mut self, path: &str, recursive: bool, user: Option<&str>, group: Option<&str>) {
        let (user, group) = (user.map(str::to_owned), group.map(str::to_owned));
        self.ownerships.push(Ownership { path: path.to_owned(), recursive, user, group });
    }

    /// Applies all remembered changes of owner; returns those whose account does not exist.
    pub(crate) fn settle_owners(&mut self, accounts: &Accounts) -> Vec<String> {
        let mut unknown = Vec::new();
        for ownership in std::mem::take(&mut self.ownerships) {
            let user = |name: &String| name.parse().ok().or(accounts.users.get(name).map(|user| user.uid));
            let group =
                |name: &String| name.parse().ok().or(accounts.groups.get(name).map(|group| group.gid));
            let uid = ownership.user.as_ref().map(user);
            let gid = ownership.group.as_ref().map(group);
            if uid == Some(None) || gid == Some(None) {
                let (user, group) = (ownership.user.unwrap_or_default(), ownership.group.unwrap_or_default());
                unknown.push(format!("chown {user}:{group} {}", ownership.path));
                continue;
            }
            let below = format!("{}/", ownership.path.trim_end_matches('/'));
            for (path, (entry, _)) in &mut self.tree.entries {
                if *path == ownership.path || (ownership.recursive && path.starts_with(&below)) {
                    entry.uid = uid.flatten().unwrap_or(entry.uid);
                    entry.gid = gid.flatten().unwrap_or(entry.gid);
                }
            }
        }
        unknown
    }
}
