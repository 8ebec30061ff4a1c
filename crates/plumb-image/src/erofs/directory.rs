//! Directory data: sorted entries, block by block.

use super::BLOCK;

/// Bytes of `struct erofs_dirent`.
const ENTRY_BYTES: usize = 12;

/// `EROFS_FT_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileType {
    Regular = 1,
    Directory = 2,
    Symlink = 7,
}

/// One name in a directory.
#[derive(Debug)]
pub(super) struct Name {
    pub name: String,
    /// Index of the inode in the layout.
    pub inode: usize,
    pub file_type: FileType,
}

/// The names of one directory, sorted, and how many go into each block.
#[derive(Debug)]
pub(super) struct Directory {
    names: Vec<Name>,
    /// Index behind the last name of each block; never empty.
    ends: Vec<usize>,
    /// Bytes used in the last block.
    last_bytes: usize,
}

impl Directory {
    /// `names` in any order, with `.` and `..`; not empty.
    pub fn new(mut names: Vec<Name>) -> Self {
        names.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let mut ends = Vec::new();
        let mut used = 0;
        for (index, name) in names.iter().enumerate() {
            let bytes = ENTRY_BYTES + name.name.len();
            if used + bytes > BLOCK {
                ends.push(index);
                used = 0;
            }
            used += bytes;
        }
        ends.push(names.len());
        Directory { names, ends, last_bytes: used }
    }

    /// Length of the directory's data in bytes: all blocks but the last count whole.
    pub fn size(&self) -> u64 {
        ((self.ends.len() - 1) * BLOCK + self.last_bytes) as u64
    }

    /// The blocks in order, each without padding; `nid` maps an inode index to its node id.
    pub fn blocks<'a>(&'a self, nid: impl Fn(usize) -> u64 + 'a) -> impl Iterator<Item = Vec<u8>> + 'a {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(move |(start, end)| encode(&self.names[start..*end], &nid))
    }
}

fn encode(names: &[Name], nid: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    let mut name_at = names.len() * ENTRY_BYTES;
    for name in names {
        bytes.extend(nid(name.inode).to_le_bytes());
        bytes.extend((name_at as u16).to_le_bytes());
        bytes.extend([name.file_type as u8, 0]);
        name_at += name.name.len();
    }
    for name in names {
        bytes.extend(name.name.as_bytes());
    }
    bytes
}
