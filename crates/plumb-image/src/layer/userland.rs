//! A merged container image to the tree of a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{LayerError, made_place, origin};
use crate::assemble::{AppFile, Assembled};
use crate::rule::account::{Accounts, Group, User};
use crate::tree::{Entry, Kind, Layer, Objects, Origin, Tree};

/// Largest passwd or group file that is read.
const ACCOUNTS_BYTES: u64 = 4 << 20;

/// Folders that are mounted over at boot; what an image has in them is never seen.
const MOUNTED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// What a container runtime puts in their place; PID 1 writes them at boot.
const LINKS: [(&str, &str); 3] = [
    ("/etc/hostname", "/run/plumb/hostname"),
    ("/etc/hosts", "/run/plumb/hosts"),
    ("/etc/resolv.conf", "/run/plumb/resolv.conf"),
];

/// Everything that decides the tree.
#[derive(Debug)]
pub struct UserlandInput<'a> {
    /// The merged layers.
    pub tree: Tree,
    /// The user's files; they win over the image's.
    pub app_files: Vec<AppFile>,
    /// Mount points of volumes.
    pub mounts: Vec<String>,
    /// The user's links and folders, as (path, what).
    pub others: Vec<(&'a str, Entry)>,
}

/// Why no tree can be made.
#[derive(Debug, thiserror::Error)]
pub enum UserlandError {
    /// A path that leads nowhere.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file is to belong to nobody.
    #[error("`{path}` is to belong to `{name}`, which is no account of the image")]
    NoAccount {
        /// The path.
        path: String,
        /// The name.
        name: String,
    },
    /// A file of the user's where the image has a folder.
    #[error("`{path}` is a folder of the image")]
    Folder {
        /// The path.
        path: String,
    },
    /// Contents cannot be read.
    #[error("cannot read file contents")]
    Objects(#[from] io::Error),
}

/// Makes the tree. No rule for packages is applied: the image is what its maker made it.
///
/// # Errors
/// [`UserlandError`].
pub fn userland(input: UserlandInput<'_>, objects: &dyn Objects) -> Result<Assembled, UserlandError> {
    let mut tree = input.tree;
    let below =
        |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    tree.entries.retain(|path, _| !MOUNTED.iter().any(|folder| below(path, folder)));
    let own = || Origin { layer: Layer::Os, source: "rule:container".to_owned() };
    for folder in MOUNTED {
        tree.insert(folder, Entry::directory(0o755), own());
    }
    for (path, target) in LINKS {
        let (place, _) = made_place(&mut tree, path)?;
        tree.insert(place, Entry::symlink(target), own());
    }
    let accounts = accounts(&tree, objects)?;
    for file in &input.app_files {
        let (place, _) = made_place(&mut tree, &file.path)?;
        if tree.get(&place).is_some_and(|old| old.kind == Kind::Directory) {
            return Err(UserlandError::Folder { path: file.path.clone() });
        }
        let nobody = |name: &String| UserlandError::NoAccount { path: file.path.clone(), name: name.clone() };
        let mut entry = Entry::file(file.digest, file.size, file.mode & 0o7777);
        if let Some(name) = &file.user {
            entry.uid = accounts.users.get(name).ok_or_else(|| nobody(name))?.uid;
        }
        if let Some(name) = &file.group {
            entry.gid = accounts.groups.get(name).ok_or_else(|| nobody(name))?.gid;
        }
        tree.insert(place, entry, Origin { layer: Layer::App, source: "app".into() });
    }
    for (path, entry) in input.others {
        let (place, _) = made_place(&mut tree, path)?;
        if entry.kind != Kind::Directory || tree.get(&place).is_none() {
            tree.insert(place, entry, Origin { layer: Layer::App, source: "app".into() });
        }
    }
    for mount in &input.mounts {
        let (place, _) = made_place(&mut tree, mount)?;
        if tree.get(&place).is_none() {
            tree.insert(place, Entry::directory(0o755), origin());
        }
    }
    tree.close();
    Ok(Assembled {
        tree,
        accounts,
        directories: Vec::new(),
        units: BTreeMap::new(),
        reports: Vec::new(),
        dropped: BTreeMap::new(),
        notes: Vec::new(),
    })
}

/// The image's own passwd(5) and group(5). A line that makes no sense is passed over, as the C library does.
fn accounts(tree: &Tree, objects: &dyn Objects) -> io::Result<Accounts> {
    let mut accounts = Accounts::default();
    for fields in lines(tree, "/etc/passwd", objects)? {
        let [name, _, uid, gid, gecos, home, shell] = &fields[..] else { continue };
        if let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) {
            let user = User { uid, gid, gecos: gecos.clone(), home: home.clone(), shell: shell.clone() };
            accounts.users.entry(name.clone()).or_insert(user);
        }
    }
    for fields in lines(tree, "/etc/group", objects)? {
        let [name, _, gid, members] = &fields[..] else { continue };
        if let Ok(gid) = gid.parse() {
            let members: BTreeSet<String> =
                members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            accounts.groups.entry(name.clone()).or_insert(Group { gid, members });
        }
    }
    Ok(accounts)
}

fn lines(tree: &Tree, path: &str, objects: &dyn Objects) -> io::Result<Vec<Vec<String>>> {
    let Some(Kind::File { digest, .. }) =
        tree.resolve(path).and_then(|at| tree.get(&at)).map(|entry| &entry.kind)
    else {
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(&objects.read(digest, ACCOUNTS_BYTES)?).into_owned();
    Ok(text.lines().map(|line| line.split(':').map(|field| field.trim().to_owned()).collect()).collect())
}
