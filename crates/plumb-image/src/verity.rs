//! dm-verity hash tree, appended to the data it covers.
//!
//! ```text
//!  blocks 0..d       data
//!  blocks d..        hash tree without a verity superblock: top level (one block) first, lowest level last
//!  hash block        128 hashes of 32 bytes; zeros behind the last one
//!  hash              SHA-256(salt || block); the root hash is the hash of the top block
//! ```
//!
//! Source: kernel `Documentation/admin-guide/device-mapper/verity.rst`, version 1; the same as
//! `veritysetup format --no-superblock --hash=sha256 --data-block-size=4096 --hash-block-size=4096`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// Bytes of a data block and of a hash block.
pub const BLOCK_BYTES: u64 = 4096;

const HASHES_PER_BLOCK: u64 = 128;
const HASH_BYTES: usize = 32;

/// A finished tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// Number of data blocks; the tree starts behind them, at this block.
    pub data_blocks: u64,
    /// Number of blocks of the tree.
    pub hash_blocks: u64,
    /// Hash of the top block.
    pub root_hash: [u8; HASH_BYTES],
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// A tree over nothing has no root.
    #[error("there is no data to hash")]
    Empty,
    /// The file cannot be read or written.
    #[error("the hash tree cannot be computed from block {block}")]
    File {
        /// First block of the part that failed.
        block: u64,
        /// Why.
        source: io::Error,
    },
}

/// Hashes the first `data_blocks` blocks of `file` on all threads and writes the tree directly behind them. What the
/// file held there before is overwritten; its length becomes that of data and tree.
///
/// # Errors
/// [`VerityError`] if there is no data, or the file cannot be read or written.
pub fn append(file: &File, data_blocks: u64, salt: &[u8]) -> Result<Verity, VerityError> {
    if data_blocks == 0 {
        return Err(VerityError::Empty);
    }
    let salted = Sha256::new_with_prefix(salt);
    let levels = levels(data_blocks);
    let hash_blocks = levels.iter().map(|level| level.blocks).sum();
    let mut below = Level { start: 0, blocks: data_blocks };
    for level in levels {
        hash_level(file, &below, &level, &salted)?;
        below = level;
    }
    let length = (data_blocks + hash_blocks) * BLOCK_BYTES;
    file.set_len(length).map_err(|source| VerityError::File { block: data_blocks, source })?;
    let mut top = [0; BLOCK_BYTES as usize];
    let at = below.start * BLOCK_BYTES;
    file.read_exact_at(&mut top, at).map_err(|source| VerityError::File { block: below.start, source })?;
    Ok(Verity { data_blocks, hash_blocks, root_hash: hash(&salted, &top) })
}

#[derive(Debug, PartialEq, Eq)]
struct Level {
    /// First block in the file.
    start: u64,
    blocks: u64,
}

/// The levels from the lowest to the top; a single data block has none: its hash is the root hash.
fn levels(data_blocks: u64) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(HASHES_PER_BLOCK);
        levels.push(Level { start: 0, blocks });
    }
    let mut start = data_blocks;
    for level in levels.iter_mut().rev() {
        level.start = start;
        start += level.blocks;
    }
    levels
}

/// Every block of `level` holds the hashes of up to 128 blocks of `below`; each is one piece of work.
fn hash_level(file: &File, below: &Level, level: &Level, salted: &Sha256) -> Result<(), VerityError> {
    let buffer = || vec![0; (HASHES_PER_BLOCK * BLOCK_BYTES) as usize];
    (0..level.blocks).into_par_iter().try_for_each_init(buffer, |buffer, index| {
        let first = index * HASHES_PER_BLOCK;
        let count = HASHES_PER_BLOCK.min(below.blocks - first);
        let data = &mut buffer[..(count * BLOCK_BYTES) as usize];
        let mut hashes = [0; BLOCK_BYTES as usize];
        let mut work = || {
            file.read_exact_at(data, (below.start + first) * BLOCK_BYTES)?;
            for (block, place) in
                data.chunks_exact(BLOCK_BYTES as usize).zip(hashes.chunks_exact_mut(HASH_BYTES))
            {
                place.copy_from_slice(&hash(salted, block));
            }
            file.write_all_at(&hashes, (level.start + index) * BLOCK_BYTES)
        };
        work().map_err(|source| VerityError::File { block: below.start + first, source })
    })
}

fn hash(salted: &Sha256, block: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = salted.clone();
    hasher.update(block);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn data(blocks: u64) -> Vec<u8> {
        (0..blocks * BLOCK_BYTES).map(|i| (i * 31 + (i >> 12) * 7) as u8).collect()
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn one_block_is_its_own_root() {
        let file = file(&data(1));
        let verity = append(file.as_file(), 1, b"").unwrap();
        assert_eq!(verity.hash_blocks, 0);
        assert_eq!(verity.root_hash, <[u8; 32]>::from(Sha256::digest(data(1))));
        assert!(matches!(append(file.as_file(), 0, b""), Err(VerityError::Empty)));
    }

    #[test]
    fn levels_lie_top_first() {
        assert_eq!(levels(128), [Level { start: 128, blocks: 1 }]);
        let three = levels(128 * 128 + 1);
        let starts: Vec<u64> = three.iter().map(|level| level.start).collect();
        assert_eq!(starts, [16385 + 3, 16385 + 1, 16385]);
    }

    /// The reference implementation computes the same tree; the tool comes with Debian's `cryptsetup-bin`.
    #[test]
    fn equals_veritysetup() {
        for (blocks, salt) in [(2, ""), (128, ""), (129, "00ff"), (16500, "")] {
            let ours = file(&data(blocks));
            let verity = append(ours.as_file(), blocks, &hex::decode(salt).unwrap()).unwrap();
            let output = Command::new("/usr/sbin/veritysetup")
                .args(["verify", "--no-superblock", "--hash=sha256", "--format=1"])
                .args(["--data-block-size=4096", "--hash-block-size=4096"])
                .arg(format!("--data-blocks={blocks}"))
                .arg(format!("--hash-offset={}", blocks * BLOCK_BYTES))
                .arg(format!("--salt={}", if salt.is_empty() { "-" } else { salt }))
                .args([ours.path(), ours.path()])
                .arg(hex::encode(verity.root_hash))
                .output()
                .expect("`veritysetup` is needed by this test: install the package `cryptsetup-bin`");
            assert!(output.status.success(), "{blocks}: {}", String::from_utf8_lossy(&output.stderr));
            let length = ours.as_file().metadata().unwrap().len();
            assert_eq!(length, (blocks + verity.hash_blocks) * BLOCK_BYTES);
        }
    }

    #[test]
    fn threads_do_not_matter() {
        let root = |threads| {
            let file = file(&data(700));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let verity = pool.install(|| append(file.as_file(), 700, b"")).unwrap();
            (verity, std::fs::read(file.path()).unwrap())
        };
        assert!(root(1) == root(4));
    }
}
