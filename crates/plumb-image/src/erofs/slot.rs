//! Places inodes with their tails into metadata blocks.

use std::collections::BTreeSet;

use super::BLOCK;

/// Granularity of inode positions; a node id counts these.
pub(super) const SLOT_BYTES: usize = 32;

/// First-come best-fit packing: small inodes fill what large tails leave over, so metadata has almost no holes.
/// The result depends only on the order and the sizes of the requests.
pub(super) struct Slots {
    first_block: u64,
    blocks: u64,
    /// (free bytes, block) of every block with room.
    free: BTreeSet<(usize, u64)>,
}

impl Slots {
    /// Metadata blocks start at `first_block`.
    pub fn new(first_block: u64) -> Self {
        Slots { first_block, blocks: 0, free: BTreeSet::new() }
    }

    /// Byte offset in the image for `bytes` bytes: inside one block, or from the start of a block if longer.
    pub fn place(&mut self, bytes: usize) -> u64 {
        let need = bytes.next_multiple_of(SLOT_BYTES);
        let (free, block) = match self.free.range((need, 0)..).next().copied() {
            Some(fit) if need <= BLOCK => {
                self.free.remove(&fit);
                fit
            }
            _ => {
                let block = self.first_block + self.blocks;
                let count = need.div_ceil(BLOCK);
                self.blocks += count as u64;
                if count > 1 {
                    self.keep(count * BLOCK - need, block + count as u64 - 1);
                    return block * BLOCK as u64;
                }
                (BLOCK, block)
            }
        };
        self.keep(free - need, block);
        block * BLOCK as u64 + (BLOCK - free) as u64
    }

    /// The first block behind the metadata.
    pub fn end_block(&self) -> u64 {
        self.first_block + self.blocks
    }

    fn keep(&mut self, free: usize, block: u64) {
        if free > 0 {
            self.free.insert((free, block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_fill_holes_and_never_cross() {
        let mut slots = Slots::new(1);
        assert_eq!(slots.place(32), 4096);
        assert_eq!(slots.place(4000), 4128);
        assert_eq!(slots.place(4000), 8192, "does not fit behind the second");
        assert_eq!(slots.place(64), 8128, "best fit");
        assert_eq!(slots.place(33), 12_192, "rounded to a slot");
        assert_eq!(slots.place(32), 12_256);
        assert_eq!(slots.place(9000), 3 * 4096, "longer than a block starts one");
        assert_eq!(slots.place(3200), 5 * 4096 + 832, "rest of the last long block");
        assert_eq!(slots.end_block(), 6);
    }
}
