//! The image while rules work on it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use plumb_model::definition::Init;

use super::account::{Accounts, Wanted};
use super::alternative::Alternatives;
use super::debconf::Questions;
use super::secret;
use plumb_model::Digest;

use crate::tree::{Entry, Kind, Layer, MAX_LINKS, Objects, Origin, Tree, normal_parts};

/// Longest text file a rule reads: configuration and scripts are far below.
const TEXT_BYTES: u64 = 4 << 20;

/// Longest path a rule makes: PATH_MAX of Linux.
const PATH_BYTES: usize = 4096;
/// Most parts of such a path. Each is an entry of its own, so a path of `a/a/a/…` would cost a thousand times its
/// length; the deepest of Debian 12 have 20.
const PATH_PARTS: usize = 128;

/// Where PID 1 writes what it knows of an instance.
const BOOT: &str = "/run/plumb/";

/// Bytes that one script may handle: values it makes, files it reads and writes, comparisons of patterns. One
/// that doubles its values in a loop ends here; a search through a tree of 50,000 paths costs 3 MiB.
const WORK_BYTES: u64 = 256 << 20;
/// dpkg's umask for maintainer scripts.
pub(crate) const UMASK: u32 = 0o022;

/// Longest shell program that is evaluated.
const PROGRAM_BYTES: u64 = 512 << 10;

/// A change of owner that waits until ids are given.
#[derive(Debug, Clone)]
struct Ownership {
    path: String,
    recursive: bool,
    user: Option<String>,
    group: Option<String>,
    /// Whose script asked for it.
    package: String,
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
    /// Packages of the closure with their versions.
    pub(crate) packages: BTreeMap<String, String>,
    /// `config` scripts by package.
    pub(crate) configs: BTreeMap<String, String>,
    /// debconf's answers.
    pub(crate) questions: Questions,
    /// Triggers that scripts activated by name.
    pub(crate) triggered: BTreeSet<String>,
    /// What is made for each instance and never for an image: package, line, reason.
    pub(crate) left_to_instance: BTreeSet<(String, String, &'static str)>,
    /// Contents that hold a secret.
    pub(crate) secrets: BTreeSet<Digest>,
    /// Paths with a dpkg-statoverride(1).
    pub(crate) overrides: BTreeSet<String>,
    /// Number of temporary files that scripts made.
    pub(crate) temporary: usize,
    /// Who the commands run as, if not as root.
    pub(crate) as_user: Option<String>,
    /// Working directory of the running script.
    pub(crate) directory: String,
    /// The package whose script or file is at work.
    pub(crate) package: String,
    /// Who is PID 1 of the machine.
    pub(crate) init: Init,
    /// umask(1) of the running script.
    pub(crate) umask: u32,
    ownerships: Vec<Ownership>,
    /// Work that is left to the script under way.
    work: Cell<u64>,
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
            packages: BTreeMap::new(),
            configs: BTreeMap::new(),
            questions: Questions::default(),
            triggered: BTreeSet::new(),
            left_to_instance: BTreeSet::new(),
            secrets: BTreeSet::new(),
            overrides: BTreeSet::new(),
            temporary: 0,
            as_user: None,
            directory: "/".to_owned(),
            package: String::new(),
            init: Init::Plumb,
            umask: UMASK,
            ownerships: Vec::new(),
            work: Cell::new(WORK_BYTES),
            failure: None,
        }
    }

    /// A script begins: all its work lies before it.
    pub(crate) fn begin_work(&mut self) {
        self.work.set(WORK_BYTES);
    }

    /// Counts work of the script under way, in bytes handled; `false` once it has done all it may.
    pub(crate) fn spend(&self, bytes: usize) -> bool {
        self.work.set(self.work.get().saturating_sub(bytes as u64));
        !self.is_exhausted()
    }

    /// Has the script under way done all it may?
    pub(crate) fn is_exhausted(&self) -> bool {
        self.work.get() == 0
    }

    /// `path` from the working directory.
    fn absolute(&self, path: &str) -> Option<String> {
        match path {
            "" => None,
            path if path.starts_with('/') => Some(path.to_owned()),
            path => Some(format!("{}/{path}", self.directory.trim_end_matches('/'))),
        }
    }

    /// [`Tree::resolve`], from the working directory.
    pub(crate) fn resolve(&self, path: &str) -> Option<String> {
        self.tree.resolve(&self.absolute(path)?)
    }

    /// `path` with every link among its parents followed, also where the last parents do not exist yet; `None` for a
    /// path that is empty, leads in circles or is longer than a system would take.
    pub(crate) fn place(&self, path: &str) -> Option<String> {
        let path = &self.absolute(path).filter(|path| path.len() <= PATH_BYTES)?;
        let mut parts = normal_parts(path);
        if parts.len() > PATH_PARTS {
            return None;
        }
        let last = parts.pop()?;
        self.spend(path.len() * parts.len());
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

    /// Where writing to `path` ends: the last part may be a link, too, and what it leads to need not exist.
    pub(crate) fn target(&self, path: &str) -> Option<String> {
        let mut place = self.place(path)?;
        for _ in 0..MAX_LINKS {
            let Some(Kind::Symlink { target }) = self.tree.get(&place).map(|entry| &entry.kind) else {
                return Some(place);
            };
            let folder = &place[..place.rfind('/')?];
            let next = if target.starts_with('/') { target.clone() } else { format!("{folder}/{target}") };
            place = self.place(&next)?;
        }
        None
    }

    /// Does this link lead to what PID 1 writes at boot (`/etc/hosts`)? To a script it is there.
    pub(crate) fn is_of_boot(&self, path: &str) -> bool {
        let entry = self.place(path).and_then(|place| self.tree.get(&place));
        matches!(entry.map(|entry| &entry.kind), Some(Kind::Symlink { target }) if target.starts_with(BOOT))
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
        let Some(at) = self.resolve(path) else { return Ok(None) };
        match self.tree.get(&at).map(|entry| &entry.kind) {
            Some(Kind::File { digest, size }) if *size <= TEXT_BYTES => {
                self.spend(usize::try_from(*size).unwrap_or(usize::MAX));
                Ok(String::from_utf8(self.objects.read(digest, TEXT_BYTES)?).ok())
            }
            _ => Ok(None),
        }
    }

    /// Text of a shell program; comments may be in any encoding.
    pub(crate) fn program_text(&self, path: &str) -> io::Result<Option<String>> {
        let Some(at) = self.resolve(path) else { return Ok(None) };
        match self.tree.get(&at).map(|entry| &entry.kind) {
            Some(Kind::File { digest, size }) if *size <= PROGRAM_BYTES => {
                self.spend(usize::try_from(*size).unwrap_or(usize::MAX));
                let bytes = self.objects.read(digest, PROGRAM_BYTES)?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|_| !bytes.contains(&0)))
            }
            _ => Ok(None),
        }
    }

    /// Keeps a content that a script made.
    pub(crate) fn keep(&mut self, text: &[u8]) -> io::Result<(Digest, u64)> {
        self.spend(text.len());
        let (digest, size) = self.objects.put(&mut &*text)?;
        if secret::is_in_bytes(text) {
            self.secrets.insert(digest);
        }
        Ok((digest, size))
    }

    /// Writes a file owned by root.
    pub(crate) fn write(&mut self, path: &str, text: &[u8], mode: u32, origin: &Origin) -> io::Result<()> {
        let (digest, size) = self.keep(text)?;
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
        if let Some(user) = self.as_user.clone().filter(|_| !self.tree.entries.contains_key(path)) {
            let group = self.accounts.primary_group(&user).map(str::to_owned);
            self.own(path, false, Some(&user), group.as_deref());
        }
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
        if recursive {
            self.spend(self.tree.entries.len());
        }
        let (user, group) = (user.map(str::to_owned), group.map(str::to_owned));
        self.ownerships.push(Ownership {
            path: path.to_owned(),
            recursive,
            user,
            group,
            package: self.package.clone(),
        });
    }

    /// Owner and group of an entry by name, as far as they are known before ids are given.
    pub(crate) fn owner(&self, path: &str) -> Option<(String, String)> {
        let entry = self.tree.get(path)?;
        let name = |id: u32| if id == 0 { Some("root".to_owned()) } else { None };
        let (mut user, mut group) = (name(entry.uid), name(entry.gid));
        for ownership in &self.ownerships {
            let below = format!("{}/", ownership.path.trim_end_matches('/'));
            if ownership.path == path || (ownership.recursive && path.starts_with(&below)) {
                user = ownership.user.clone().or(user);
                group = ownership.group.clone().or(group);
            }
        }
        Some((user?, group?))
    }

    /// Moves remembered changes of owner along with what is renamed.
    pub(crate) fn rename_owners(&mut self, from: &str, to: &str) {
        for ownership in &mut self.ownerships {
            if let Some(rest) =
                ownership.path.strip_prefix(from).filter(|rest| rest.is_empty() || rest.starts_with('/'))
            {
                ownership.path = format!("{to}{rest}");
            }
        }
    }

    /// Applies all remembered changes of owner; returns those whose account does not exist,
    /// by package.
    pub(crate) fn settle_owners(&mut self, accounts: &Accounts) -> BTreeMap<String, Vec<String>> {
        let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ownership in std::mem::take(&mut self.ownerships) {
            let user = |name: &String| name.parse().ok().or(accounts.users.get(name).map(|user| user.uid));
            let group =
                |name: &String| name.parse().ok().or(accounts.groups.get(name).map(|group| group.gid));
            let uid = ownership.user.as_ref().map(user);
            let gid = ownership.group.as_ref().map(group);
            if uid == Some(None) || gid == Some(None) {
                let (user, group) = (ownership.user.unwrap_or_default(), ownership.group.unwrap_or_default());
                let line = format!("chown {user}:{group} {}", ownership.path);
                unknown.entry(ownership.package).or_default().push(line);
                continue;
            }
            let give = |entry: &mut Entry| {
                entry.uid = uid.flatten().unwrap_or(entry.uid);
                entry.gid = gid.flatten().unwrap_or(entry.gid);
            };
            if let Some((entry, _)) = self.tree.entries.get_mut(&ownership.path) {
                give(entry);
            }
            if ownership.recursive {
                let below = format!("{}/", ownership.path.trim_end_matches('/'));
                let inside = self.tree.entries.range_mut(below.clone()..);
                inside
                    .take_while(|(path, _)| path.starts_with(&below))
                    .for_each(|(_, (entry, _))| give(entry));
            }
        }
        unknown
    }
}
