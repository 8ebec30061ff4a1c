//! The few fields of an ext4 superblock that decide what happens to a volume.
//!
//! ```text
//!  superblock at byte 1024 (Documentation/filesystems/ext4/super.rst)
//!    0x04 blocks_count_lo   0x18 log_block_size   0x38 magic 0xEF53   0x3a state (1 clean, 2 errors)
//!    0x60 feature_incompat (4 journal needs recovery, 0x80 64bit)     0x150 blocks_count_hi
//! ```

/// Bytes that [`Superblock::read`] looks at, from the start of the disk.
pub const HEAD_BYTES: usize = 2048;

const START: usize = 1024;

/// What the start of a disk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Nothing but zeros.
    Blank,
    /// An ext4 file system.
    Ext4(Superblock),
    /// Something else, or an ext4 file system beyond recognition.
    Foreign,
}

/// An ext4 file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Size in blocks.
    pub blocks: u64,
    /// Bytes per block.
    pub block_bytes: u64,
    /// Unmounted in order, no errors seen, no journal to replay.
    pub clean: bool,
}

impl Superblock {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes)
    }
}

/// Reads the first [`HEAD_BYTES`] of a disk.
pub fn read(head: &[u8; HEAD_BYTES]) -> Head {
    if head.iter().all(|byte| *byte == 0) {
        return Head::Blank;
    }
    let u16_at = |at: usize| u16::from_le_bytes([head[START + at], head[START + at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | (u32::from(u16_at(at + 2)) << 16);
    if u16_at(0x38) != 0xef53 {
        return Head::Foreign;
    }
    let incompat = u32_at(0x60);
    let high = if incompat & 0x80 != 0 { u32_at(0x150) } else { 0 };
    let state = u16_at(0x3a);
    Head::Ext4(Superblock {
        blocks: u64::from(u32_at(0x04)) | (u64::from(high) << 32),
        // 64 KiB (2^6 KiB) is ext4's largest block; a larger claim is nonsense and read as that.
        block_bytes: 1024 << u32_at(0x18).min(6),
        clean: state & 3 == 1 && incompat & 4 == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(usize, &[u8])]) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        for (at, bytes) in fields {
            head[START + at..START + at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn blank_ext4_and_foreign() {
        assert_eq!(read(&[0; HEAD_BYTES]), Head::Blank);
        assert_eq!(read(&head(&[(0, b"x")])), Head::Foreign);
        let mut partitioned = [0; HEAD_BYTES];
        partitioned[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(read(&partitioned), Head::Foreign);
        let base: &[(usize, &[u8])] =
            &[(0x04, &[0, 1, 0, 0]), (0x18, &[2]), (0x38, &[0x53, 0xef]), (0x3a, &[1, 0]), (0x150, &[1])];
        let Head::Ext4(found) = read(&head(base)) else { panic!("not seen") };
        assert_eq!(found, Superblock { blocks: 256, block_bytes: 4096, clean: true });
        let journal = [base, &[(0x60, &[0x84])]].concat();
        let Head::Ext4(found) = read(&head(&journal)) else { panic!("not seen") };
        assert_eq!(found, Superblock { blocks: 256 + (1 << 32), block_bytes: 4096, clean: false });
    }
}
