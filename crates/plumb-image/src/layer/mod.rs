//! Layers of a container image (OCI image-spec 1.1, layer.md) to one tree.
//!
//! ```text
//!  layer.tar[.gz|.zst] ─ read, once per layer ever ─► changes ─┐
//!  layer.tar[.gz|.zst] ─────────────────────────────► changes ─┼─ merge, lowest first ─► entries ─► userland
//! ```
//!
//! A layer says what is there (files, folders, links) and what is there no longer: `.wh.NAME` takes `NAME` of the
//! layers below away, `.wh..wh..opq` everything of them in its folder.

mod userland;

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};

use serde::{Deserialize, Serialize};
use tar::EntryType;

use crate::archive::Packing;
use crate::deb::tarball::{Absolute, Item, Walk, kind_of};
use crate::deb::{DebError, Limits, path};
use crate::tree::{Entry, Kind, Layer, Objects, Origin, Tree};

pub use userland::{UserlandError, UserlandInput, userland};

/// Name of what takes a name away.
const WHITEOUT: &str = ".wh.";
/// Name of what takes everything of the layers below away.
const OPAQUE: &str = ".wh..wh..opq";

/// Most bytes of paths and attributes in the merged tree. Hard links repeat attributes and deep paths make folders, so
/// the layers' own limits do not bound it; the largest images that people run have some 30 MiB.
const MERGED_BYTES: u64 = 256 * 1024 * 1024;

/// One thing that a layer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// This is there.
    Set(String, Entry),
    /// A hard link: path and target.
    Link(String, String),
    /// This of the layers below is there no longer.
    Remove(String),
    /// Nothing of the layers below is in this folder any longer.
    Clear(String),
}

/// What one layer says, in the order of its archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The changes.
    pub changes: Vec<Change>,
    /// Devices and pipes: `/dev` is the machine's own, and images hold neither.
    pub skipped: Vec<String>,
}

/// Why layers make no tree.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A layer is refused.
    #[error(transparent)]
    Content(#[from] DebError),
    /// A layer cannot be read.
    #[error("cannot read layer `{name}`")]
    Read {
        /// The layer.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// A path that leads nowhere.
    #[error("`{path}` lies below `{parent}`, which is no folder")]
    NoFolder {
        /// The path.
        path: String,
        /// The parent.
        parent: String,
    },
    /// Links or deep paths multiply beyond measure.
    #[error("at `{path}` the image has more than {MERGED_BYTES} bytes of paths and attributes")]
    TooLarge {
        /// The path.
        path: String,
    },
    /// A hard link to something that is no file.
    #[error("hard link `{path}` points to `{target}`, which is no file")]
    BadHardLink {
        /// The path.
        path: String,
        /// The target.
        target: String,
    },
}

/// Reads one layer; its compression is told by its first bytes. File contents go to `objects`.
///
/// # Errors
/// [`LayerError`].
pub fn read(
    file: &mut File,
    name: &str,
    limits: &Limits,
    objects: &dyn Objects,
) -> Result<Changes, LayerError> {
    let failed = |source| LayerError::Read { name: name.to_owned(), source };
    let mut head = Vec::new();
    file.take(8).read_to_end(&mut head).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut source = Packing::detect(&head).decoder(BufReader::new(file), limits).map_err(failed)?;
    let mut found = Changes::default();
    let mut metadata_bytes = 0;
    Walk { member: name, limits, seen: 0, absolute: Absolute::Taken }.each(&mut source, |walk, item| {
        metadata_bytes += cost(&item);
        if metadata_bytes > limits.metadata_bytes {
            return Err(walk.too_large(name, "bytes of paths and attributes", limits.metadata_bytes));
        }
        take(walk, item, objects, &mut found)
    })?;
    // A bomb or a broken checksum behind the last entry is seen, too.
    io::copy(&mut source, &mut io::sink()).map_err(failed)?;
    Ok(found)
}

/// Memory that an entry takes besides its own size: names and attributes are as long as a hostile archive likes.
fn cost(item: &Item<'_>) -> u64 {
    let attributes = item.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    (item.path.as_ref().map_or(0, String::len) + item.link.len() + attributes) as u64
}

fn take(
    walk: &Walk<'_>,
    mut item: Item<'_>,
    objects: &dyn Objects,
    found: &mut Changes,
) -> Result<(), DebError> {
    let Some(path) = item.path.clone() else { return Ok(()) };
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if name == OPAQUE {
        found.changes.push(Change::Clear(folder.to_owned()));
        return Ok(());
    }
    if let Some(gone) = name.strip_prefix(WHITEOUT) {
        // `.wh..wh.plnk` and its kin are aufs' own.
        if !gone.is_empty() && !gone.starts_with(WHITEOUT) {
            found.changes.push(Change::Remove(format!("{folder}/{gone}")));
        }
        return Ok(());
    }
    if matches!(item.kind, EntryType::Char | EntryType::Block | EntryType::Fifo) {
        found.skipped.push(path);
        return Ok(());
    }
    if item.kind == EntryType::Link {
        let target = path::normalize(walk.relative(&item.link), walk.member, walk.limits)?;
        found.changes.push(Change::Link(path, target.unwrap_or_default()));
        return Ok(());
    }
    let kind = kind_of(walk, &mut item, &path, objects)?;
    // Attributes of the file system that the image was made on, such as overlayfs' own, are not part of it.
    item.xattrs.retain(|name, _| name == "security.capability" || name.starts_with("user."));
    let entry =
        Entry { kind, mode: item.mode, uid: item.uid, gid: item.gid, xattrs: item.xattrs, link_group: None };
    found.changes.push(Change::Set(path, entry));
    Ok(())
}

/// Puts layers on each other, lowest first.
///
/// # Errors
/// [`LayerError::NoFolder`], [`LayerError::BadHardLink`], [`LayerError::TooLarge`].
pub fn merge(layers: &[Changes]) -> Result<Tree, LayerError> {
    merge_within(layers, MERGED_BYTES)
}

fn merge_within(layers: &[Changes], limit_bytes: u64) -> Result<Tree, LayerError> {
    let mut merge = Merge { tree: Tree::default(), groups: 0, left_bytes: limit_bytes };
    for layer in layers {
        // What is taken away is of the layers below, wherever in the archive that stands.
        for change in &layer.changes {
            match change {
                Change::Remove(path) => merge.remove(path),
                Change::Clear(folder) => merge.clear(folder),
                Change::Set(..) | Change::Link(..) => {}
            }
        }
        for change in &layer.changes {
            match change {
                Change::Set(path, entry) => merge.set(path, entry.clone())?,
                Change::Link(path, target) => merge.link(path, target)?,
                Change::Remove(_) | Change::Clear(_) => {}
            }
        }
    }
    merge.tree.close();
    Ok(merge.tree)
}

struct Merge {
    tree: Tree,
    groups: u32,
    /// How much may still be added. What is taken away again was work, too, and is not given back.
    left_bytes: u64,
}

impl Merge {
    fn remove(&mut self, path: &str) {
        if let Some(place) = place(&self.tree, path) {
            self.tree.entries.remove(&place);
            self.clear_at(&place);
        }
    }

    fn clear(&mut self, folder: &str) {
        match self.tree.resolve(folder) {
            Some(root) if root == "/" => self.tree.entries.clear(),
            Some(folder) => self.clear_at(&folder),
            None => {}
        }
    }

    fn clear_at(&mut self, folder: &str) {
        let below = format!("{folder}/");
        let names = self.tree.entries.range(below.clone()..).map(|(path, _)| path.clone());
        let gone: Vec<String> = names.take_while(|path| path.starts_with(&below)).collect();
        for path in gone {
            self.tree.entries.remove(&path);
        }
    }

    fn set(&mut self, path: &str, entry: Entry) -> Result<(), LayerError> {
        let (place, made_bytes) = made_place(&mut self.tree, path)?;
        let attributes = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let left = self.left_bytes.checked_sub((made_bytes + place.len() + attributes) as u64);
        self.left_bytes = left.ok_or_else(|| LayerError::TooLarge { path: path.to_owned() })?;
        let stays = entry.kind == Kind::Directory
            && self.tree.get(&place).is_some_and(|old| old.kind == Kind::Directory);
        if !stays {
            self.clear_at(&place);
        }
        self.tree.insert(place, entry, origin());
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), LayerError> {
        let refuse = || LayerError::BadHardLink { path: path.to_owned(), target: target.to_owned() };
        let at = place(&self.tree, target).ok_or_else(refuse)?;
        let (entry, _) = self.tree.entries.get_mut(&at).ok_or_else(refuse)?;
        if entry.kind == Kind::Directory {
            return Err(refuse());
        }
        // A link to a symbolic link is one more symbolic link; only files share an inode.
        if matches!(entry.kind, Kind::File { .. }) && entry.link_group.is_none() {
            entry.link_group = Some(self.groups);
            self.groups += 1;
        }
        let entry = entry.clone();
        self.set(path, entry)
    }
}

/// The user chose the image as a whole: it is the application's.
fn origin() -> Origin {
    Origin { layer: Layer::App, source: "oci".to_owned() }
}

/// Where `path` is when the links of its parents are followed inside the tree; `None` if a parent is missing.
fn place(tree: &Tree, path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let folder = tree.resolve(folder)?;
    Some(if folder == "/" { format!("/{name}") } else { format!("{folder}/{name}") })
}

/// As [`place`], making the folders that are missing; also tells the bytes of their paths.
fn made_place(tree: &mut Tree, path: &str) -> Result<(String, usize), LayerError> {
    let mut folder = String::new();
    let mut made_bytes = 0;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let Some((name, parents)) = parts.split_last() else { return Ok(("/".to_owned(), 0)) };
    for part in parents {
        let next = format!("{folder}/{part}");
        folder = match tree.get(&next).map(|entry| &entry.kind) {
            Some(Kind::Directory) => next,
            Some(Kind::Symlink { .. } | Kind::File { .. }) => linked_folder(tree, &next)
                .ok_or_else(|| LayerError::NoFolder { path: path.to_owned(), parent: next })?,
            None => {
                made_bytes += next.len();
                tree.insert(next.clone(), Entry::directory(0o755), origin());
                next
            }
        };
    }
    Ok((format!("{folder}/{name}"), made_bytes))
}

/// The folder that `path` leads to, without a slash at its end.
fn linked_folder(tree: &Tree, path: &str) -> Option<String> {
    let at = tree.resolve(path)?;
    let is_folder = at == "/" || tree.get(&at).is_some_and(|entry| entry.kind == Kind::Directory);
    is_folder.then(|| at.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests;
