//! Writer of an uncompressed EROFS image that Linux 6.1 and newer mounts.
//!
//! ```text
//!  block   0            superblock at byte 1024 (checksum covers bytes 1024..4096), nothing else
//!  blocks  1..          inodes, root first:  | inode 32 or 64 | xattrs | tail of the data | ... |
//!                       a slot starts at a multiple of 32; node id (nid) = byte offset / 32
//!  blocks  x..          shared xattrs, at multiples of 4 bytes      (only if two inodes have an equal one)
//!  blocks  d..          full blocks of directories and of symbolic links that do not fit beside their inode
//!  blocks  f..          full blocks of files: objects, each at a block boundary, equal ones once
//!
//!  inode   FLAT_INLINE  full blocks outside, the last part of a block directly after inode and xattrs, all in one
//!                       block (the kernel refuses a tail that crosses a block)
//!          FLAT_PLAIN   everything outside; used when there is no tail or it does not fit
//!
//!  directory block      | nid 8, name offset 2, type 1, 0 | * n | names | zeros, if more blocks follow |
//!                       sorted by name bytes over the whole directory, `.` and `..` included
//! ```
//!
//! Source of the format: the kernel's `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst`. No
//! incompatible feature bit is used, so nothing newer than the first uncompressed layout is asked of the reader.
//!
//! Building is in two steps: [`layout`] decides every byte position from the tree alone; [`write`] copies.

mod directory;
mod disk;
mod layout;
mod slot;
mod write;
mod xattr;

use std::io;

use plumb_model::Digest;

pub use layout::{Extent, Layout, layout};
pub use write::write;

/// Bytes of one block, the only size every kernel that knows EROFS accepts.
pub const BLOCK_BYTES: u64 = 4096;

/// [`BLOCK_BYTES`] for offsets inside a block.
const BLOCK: usize = 4096;

/// Longest file name (NAME_MAX, limits.h); also what an EROFS reader accepts.
const MAX_NAME_BYTES: usize = 255;

/// Longest target of a symbolic link (PATH_MAX without the end mark).
const MAX_TARGET_BYTES: usize = 4095;

/// Why a tree does not become an EROFS image.
#[derive(Debug, thiserror::Error)]
pub enum ErofsError {
    /// A path that no file system can hold.
    #[error("`{path}`: {reason}")]
    Path {
        /// The path in the tree.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry whose parent is missing or is no directory.
    #[error("`{path}` is not in a directory of the tree")]
    Parent {
        /// The path in the tree.
        path: String,
    },
    /// Two names of one file that disagree about the file.
    #[error("`{path}` and `{other}` are one file (hard links), but their owner, mode or content differ")]
    HardLink {
        /// The later path.
        path: String,
        /// The first path of the group.
        other: String,
    },
    /// An extended attribute that EROFS has no form for.
    #[error("`{path}`: extended attribute `{name}`: {reason}")]
    Xattr {
        /// The path in the tree.
        path: String,
        /// Full name of the attribute.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than 32-bit block numbers can address (16 TiB).
    #[error("the image needs {blocks} blocks of 4096 bytes, more than EROFS can number")]
    TooLarge {
        /// Blocks needed.
        blocks: u64,
    },
    /// The content of a file cannot be read.
    #[error("content {digest} of `{path}` cannot be read")]
    Object {
        /// The path in the tree.
        path: String,
        /// Its content.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The content of a file is not as long as the tree says.
    #[error("content {digest} of `{path}` is {actual} bytes long, but the tree says {expected}")]
    ObjectSize {
        /// The path in the tree.
        path: String,
        /// Its content.
        digest: Digest,
        /// Bytes by the tree.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// The image file cannot be written.
    #[error("the EROFS image cannot be written")]
    Output {
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
