//! Decides where every byte goes, from the tree alone.

use std::collections::BTreeMap;

use plumb_model::Digest;

use super::directory::{Directory, FileType, Name};
use super::disk::{COMPACT_BYTES, DataLayout, DiskInode, EXTENDED_BYTES, Superblock};
use super::slot::{SLOT_BYTES, Slots};
use super::{BLOCK, BLOCK_BYTES, ErofsError, MAX_NAME_BYTES, MAX_TARGET_BYTES, xattr};
use crate::tree::{Entry, Kind, Tree};

/// Where everything of one image lies. Made by [`layout`]; the same tree and time give the same layout.
#[derive(Debug)]
pub struct Layout {
    pub(super) epoch_s: u64,
    /// Root first, then by first path.
    pub(super) inodes: Vec<Inode>,
    pub(super) shared: xattr::Shared,
    /// First block of the shared xattrs; 0 if there are none.
    pub(super) xattr_block: u64,
    pub(super) blocks: u64,
}

#[derive(Debug)]
pub(super) struct Inode {
    /// First path, for messages.
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub body: Body,
    pub xattr: Vec<u8>,
    pub size: u64,
    pub extended: bool,
    /// The part of the data behind the last full block lies beside the inode.
    pub inline: bool,
    /// Byte offset in the image.
    pub at: u64,
    /// First block of the data outside; 0 if there is none.
    pub start_block: u64,
}

#[derive(Debug)]
pub(super) enum Body {
    Directory(Directory),
    File(Digest),
    Symlink(String),
}

/// Where a part of an object lies in the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Byte offset in the image.
    pub image_offset: u64,
    /// The object.
    pub digest: Digest,
    /// Byte offset in the object, a multiple of 4096.
    pub object_offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Computes the layout of the image of `tree`, where every file has the mtime `epoch_s` (seconds since 1970).
///
/// # Errors
/// [`ErofsError`] if the tree has paths, links or attributes the format cannot hold, or is too large.
pub fn layout(tree: &Tree, epoch_s: u64) -> Result<Layout, ErofsError> {
    let root = Entry::directory(0o755);
    let sources = collect(tree, &root)?;
    let shared = xattr::Shared::collect(sources.iter().map(|source| (source.path, source.entry)))?;
    let mut inodes =
        sources.into_iter().map(|source| inode(source, &shared)).collect::<Result<Vec<_>, _>>()?;

    let mut slots = Slots::new(1);
    for inode in &mut inodes {
        let tail = if inode.inline { inode.tail_bytes() } else { 0 };
        inode.at = slots.place(inode.head_bytes() + tail);
    }
    let mut next = slots.end_block();
    let xattr_block = if shared.bytes().is_empty() { 0 } else { next };
    next += (shared.bytes().len() as u64).div_ceil(BLOCK_BYTES);
    next = place_metadata(&mut inodes, next);
    next = place_files(&mut inodes, next);
    if next > u64::from(u32::MAX) {
        return Err(ErofsError::TooLarge { blocks: next });
    }
    Ok(Layout { epoch_s, inodes, shared, xattr_block, blocks: next })
}

impl Layout {
    /// Length of the image in blocks of [`BLOCK_BYTES`].
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Every place of the image that holds bytes of an object, by offset. What is not named here is metadata.
    #[must_use]
    pub fn extents(&self) -> Vec<Extent> {
        let mut extents = Vec::new();
        for inode in &self.inodes {
            let Body::File(digest) = inode.body else { continue };
            let outside = inode.outside_bytes();
            if outside > 0 {
                let image_offset = inode.start_block * BLOCK_BYTES;
                extents.push(Extent { image_offset, digest, object_offset: 0, length: outside });
            }
            if inode.inline {
                let image_offset = inode.at + inode.head_bytes() as u64;
                let length = inode.size - outside;
                extents.push(Extent { image_offset, digest, object_offset: outside, length });
            }
        }
        extents.sort_unstable();
        extents.dedup();
        extents
    }

    pub(super) fn superblock(&self) -> Superblock {
        Superblock {
            // The root is placed first, at the start of block 1.
            root_nid: (BLOCK / SLOT_BYTES) as u16,
            inodes: self.inodes.len() as u64,
            epoch_s: self.epoch_s,
            blocks: self.blocks as u32,
            xattr_block: self.xattr_block as u32,
        }
    }
}

impl Inode {
    /// Bytes of inode and xattrs.
    pub fn head_bytes(&self) -> usize {
        (if self.extended { EXTENDED_BYTES } else { COMPACT_BYTES }) + self.xattr.len()
    }

    /// Bytes behind the last full block.
    pub fn tail_bytes(&self) -> usize {
        (self.size % BLOCK_BYTES) as usize
    }

    /// Bytes of data that lie in blocks of their own.
    pub fn outside_bytes(&self) -> u64 {
        if self.inline { self.size - self.tail_bytes() as u64 } else { self.size }
    }

    /// Node id.
    pub fn nid(&self) -> u64 {
        self.at / SLOT_BYTES as u64
    }

    pub fn disk(&self, epoch_s: u64) -> DiskInode {
        let file_type = match self.body {
            Body::Directory(_) => 0o040_000,
            Body::File(_) => 0o100_000,
            Body::Symlink(_) => 0o120_000,
        };
        DiskInode {
            extended: self.extended,
            data_layout: if self.inline { DataLayout::Inline } else { DataLayout::Plain },
            xattr_count: xattr::count(self.xattr.len()),
            mode: (file_type | self.mode) as u16,
            size: self.size,
            start_block: self.start_block as u32,
            // Equal to the node id, so that readdir(3) and stat(2) agree about inode numbers.
            number: self.nid() as u32,
            uid: self.uid,
            gid: self.gid,
            links: self.links,
            epoch_s,
        }
    }
}

/// An inode before it has a place.
struct Source<'a> {
    path: &'a str,
    entry: &'a Entry,
    links: u32,
    /// For directories: all names in it.
    names: Vec<Name>,
}

/// One source per inode; hard links share one.
fn collect<'a>(tree: &'a Tree, root: &'a Entry) -> Result<Vec<Source<'a>>, ErofsError> {
    let mut sources = vec![Source { path: "/", entry: root, links: 2, names: dots(0, 0) }];
    let mut directories = BTreeMap::from([("", 0)]);
    let mut groups: BTreeMap<u32, usize> = BTreeMap::new();
    for (path, (entry, _)) in &tree.entries {
        let (parent, name) = check(path, entry)?;
        let parent = *directories.get(parent).ok_or_else(|| ErofsError::Parent { path: path.clone() })?;
        let group = entry.link_group.filter(|_| entry.kind != Kind::Directory);
        let inode = match group.and_then(|group| groups.get(&group)) {
            Some(inode) => {
                let first = &mut sources[*inode];
                if first.entry != entry {
                    return Err(ErofsError::HardLink { path: path.clone(), other: first.path.to_owned() });
                }
                first.links += 1;
                *inode
            }
            None => {
                let inode = sources.len();
                groups.extend(group.map(|group| (group, inode)));
                sources.push(Source { path, entry, links: 1, names: Vec::new() });
                inode
            }
        };
        let file_type = match entry.kind {
            Kind::Directory => {
                directories.insert(path, inode);
                sources[inode].links = 2;
                sources[inode].names = dots(inode, parent);
                sources[parent].links += 1;
                FileType::Directory
            }
            Kind::File { .. } => FileType::Regular,
            Kind::Symlink { .. } => FileType::Symlink,
        };
        sources[parent].names.push(Name { name: name.to_owned(), inode, file_type });
    }
    Ok(sources)
}

fn dots(inode: usize, parent: usize) -> Vec<Name> {
    let dot = |name: &str, inode| Name { name: name.to_owned(), inode, file_type: FileType::Directory };
    vec![dot(".", inode), dot("..", parent)]
}

/// Parent path (empty for the root) and name of a valid entry.
fn check<'a>(path: &'a str, entry: &Entry) -> Result<(&'a str, &'a str), ErofsError> {
    let refuse = |reason| ErofsError::Path { path: path.to_owned(), reason };
    let (parent, name) = path.rsplit_once('/').ok_or_else(|| refuse("the path is not absolute"))?;
    if name.is_empty() || name == "." || name == ".." {
        return Err(refuse("the path is not normalized"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(refuse("the name is longer than 255 bytes"));
    }
    if name.contains('\0') {
        return Err(refuse("the name has a zero byte"));
    }
    if entry.mode > 0o7777 {
        return Err(refuse("the mode has more than permission bits"));
    }
    if let Kind::Symlink { target } = &entry.kind
        && (target.is_empty() || target.len() > MAX_TARGET_BYTES || target.contains('\0'))
    {
        return Err(refuse("the target of the link is empty, longer than 4095 bytes or has a zero byte"));
    }
    Ok((parent, name))
}

fn inode(source: Source<'_>, shared: &xattr::Shared) -> Result<Inode, ErofsError> {
    let Source { path, entry, links, names } = source;
    let (body, size) = match &entry.kind {
        Kind::Directory => {
            let directory = Directory::new(names);
            let size = directory.size();
            (Body::Directory(directory), size)
        }
        Kind::File { digest, size } => (Body::File(*digest), *size),
        Kind::Symlink { target } => (Body::Symlink(target.clone()), target.len() as u64),
    };
    let mut inode = Inode {
        path: path.to_owned(),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        links,
        body,
        xattr: shared.body(path, entry)?,
        size,
        extended: DiskInode::needs_extended(size, (entry.uid, entry.gid), links),
        inline: false,
        at: 0,
        start_block: 0,
    };
    let tail = inode.tail_bytes();
    inode.inline = tail > 0 && inode.head_bytes() + tail <= BLOCK;
    Ok(inode)
}

/// Gives blocks to what directories and symbolic links have outside; returns the next free block.
fn place_metadata(inodes: &mut [Inode], mut next: u64) -> u64 {
    for inode in inodes.iter_mut().filter(|inode| !matches!(inode.body, Body::File(_))) {
        let blocks = inode.outside_bytes().div_ceil(BLOCK_BYTES);
        inode.start_block = if blocks > 0 { next } else { 0 };
        next += blocks;
    }
    next
}

/// Gives blocks to the contents of files, equal ones once; returns the next free block.
fn place_files(inodes: &mut [Inode], mut next: u64) -> u64 {
    let mut placed: BTreeMap<(Digest, u64), u64> = BTreeMap::new();
    for inode in inodes {
        let Body::File(digest) = inode.body else { continue };
        let blocks = inode.outside_bytes().div_ceil(BLOCK_BYTES);
        if blocks == 0 {
            continue;
        }
        // The key has the number of blocks because of one file may lie all outside (its xattrs leave no room for
        // the tail) while its equal keeps the tail inline.
        inode.start_block = *placed.entry((digest, blocks)).or_insert_with(|| {
            let start = next;
            next = next.saturating_add(blocks);
            start
        });
    }
    next
}
