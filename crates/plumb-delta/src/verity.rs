//! The dm-verity hash tree behind a root file system, computed while the data passes by.
//!
//! A tree is as large as 1/127 of its data and made of hashes: nothing compresses it, and every changed block changes
//! some. It follows from the data, so it need not travel. The form is that of the images Plumb builds: no salt, no
//! superblock, SHA-256 of blocks of 4096 bytes, 128 hashes to a block, top level first (kernel
//! `Documentation/admin-guide/device-mapper/verity.rst`).

use sha2::{Digest as _, Sha256};

/// Bytes of a data block and of a hash block.
const BLOCK: usize = 4096;
const HASH: usize = 32;

/// Hashes of the lowest level, growing with the data.
#[derive(Debug, Default)]
pub struct Tree {
    lowest: Vec<u8>,
    /// A block that is not full yet.
    part: Vec<u8>,
}

/// Bytes of data and bytes of tree, if an object of `length` bytes can be data with a tree behind it.
#[must_use]
pub fn split(length: u64) -> Option<(u64, u64)> {
    if length == 0 || !length.is_multiple_of(BLOCK as u64) {
        return None;
    }
    let total = length / BLOCK as u64;
    // The tree grows with the data, so at most one number of data blocks fits; it is near 127/128 of all.
    let (mut low, mut high) = (1, total);
    while low < high {
        let middle = low.midpoint(high);
        if middle + blocks(middle) < total { low = middle + 1 } else { high = middle }
    }
    let tree = blocks(low);
    (low + tree == total && tree > 0).then_some((low * BLOCK as u64, tree * BLOCK as u64))
}

/// Blocks of the tree over so many data blocks.
fn blocks(mut data: u64) -> u64 {
    let mut sum = 0;
    while data > 1 {
        data = data.div_ceil((BLOCK / HASH) as u64);
        sum += data;
    }
    sum
}

impl Tree {
    /// Takes the next bytes of the data.
    pub fn push(&mut self, mut data: &[u8]) {
        if !self.part.is_empty() {
            let (head, rest) = data.split_at(data.len().min(BLOCK - self.part.len()));
            self.part.extend_from_slice(head);
            data = rest;
            if self.part.len() < BLOCK {
                return;
            }
            self.lowest.extend_from_slice(&Sha256::digest(&self.part));
            self.part.clear();
        }
        let whole = data.chunks_exact(BLOCK);
        self.part.extend_from_slice(whole.remainder());
        for block in whole {
            self.lowest.extend_from_slice(&Sha256::digest(block));
        }
    }

    /// The tree over everything that was taken, which has to be whole blocks.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut levels = vec![self.lowest];
        loop {
            let last = levels.last_mut().map(|level| {
                level.resize(level.len().next_multiple_of(BLOCK), 0);
                &*level
            });
            let Some(last) = last.filter(|level| level.len() > BLOCK) else { break };
            let next = last.chunks_exact(BLOCK).flat_map(Sha256::digest).collect();
            levels.push(next);
        }
        levels.reverse();
        levels.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pinned: the root hash is part of every image's name, so the form cannot change.
    #[test]
    fn one_tree_is_pinned_and_pieces_do_not_matter() {
        let data: Vec<u8> = (0..300 * BLOCK).map(|at| (at / 7 % 251) as u8).collect();
        let (mut whole, mut pieces) = (Tree::default(), Tree::default());
        whole.push(&data);
        data.chunks(1000).for_each(|piece| pieces.push(piece));
        let tree = whole.finish();
        assert_eq!(tree.len(), 4 * BLOCK);
        assert_eq!(tree, pieces.finish());
        assert_eq!(tree[BLOCK..BLOCK + HASH], *Sha256::digest(&data[..BLOCK]));
        assert_eq!(tree[..HASH], *Sha256::digest(&tree[BLOCK..2 * BLOCK]));
    }

    #[test]
    fn the_border_is_found_by_length() {
        for data in [2, 127, 128, 129, 300, 16_384, 16_385, 3_150] {
            let length = (data + blocks(data)) * BLOCK as u64;
            assert_eq!(split(length), Some((data * BLOCK as u64, blocks(data) * BLOCK as u64)), "{data}");
        }
        for none in [0, 1, 4096, 2 * 4096, 4097] {
            assert_eq!(split(none), None, "{none}");
        }
    }
}
