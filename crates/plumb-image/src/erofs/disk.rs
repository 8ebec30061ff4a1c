//! The fixed structures of the format as bytes (`fs/erofs/erofs_fs.h`).

use plumb_guest_proto::Checksum;

use super::BLOCK;

/// `struct erofs_super_block` starts here; the bytes before are for boot loaders.
const SUPERBLOCK_AT: usize = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`: the checksum field is valid.
const FEATURE_CHECKSUM: u32 = 1;

/// Bytes of a compact inode (no mtime, 16-bit owner and links, 32-bit size).
pub(super) const COMPACT_BYTES: usize = 32;
/// Bytes of an extended inode.
pub(super) const EXTENDED_BYTES: usize = 64;

/// `FLAT_PLAIN` and `FLAT_INLINE` of `enum` data layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    Plain = 0,
    Inline = 2,
}

/// What the superblock says that is not constant.
pub(super) struct Superblock {
    pub root_nid: u16,
    pub inodes: u64,
    pub epoch_s: u64,
    pub blocks: u32,
    pub xattr_block: u32,
}

impl Superblock {
    /// Block 0.
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let sb = &mut block[SUPERBLOCK_AT..];
        put(sb, 0, &MAGIC.to_le_bytes());
        put(sb, 8, &FEATURE_CHECKSUM.to_le_bytes());
        sb[12] = BLOCK.trailing_zeros() as u8;
        put(sb, 14, &self.root_nid.to_le_bytes());
        put(sb, 16, &self.inodes.to_le_bytes());
        put(sb, 24, &self.epoch_s.to_le_bytes());
        put(sb, 36, &self.blocks.to_le_bytes());
        // meta_blkaddr (40) stays 0: node ids count from the start of the image, so none is 0, which readdir(3)
        // callers take for a deleted entry.
        put(sb, 44, &self.xattr_block.to_le_bytes());
        // The UUID (48) stays zero: the root hash is the identity of an image.
        let mut checksum = Checksum::default();
        checksum.add(sb);
        // EROFS leaves out the inversion at the end.
        put(sb, 4, &(!checksum.value()).to_le_bytes());
        block
    }
}

/// One inode, ready to be encoded.
pub(super) struct DiskInode {
    pub extended: bool,
    pub data_layout: DataLayout,
    pub xattr_count: u16,
    /// With the file type bits.
    pub mode: u16,
    pub size: u64,
    pub start_block: u32,
    pub number: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub epoch_s: u64,
}

impl DiskInode {
    /// 32 or 64 bytes. A compact inode takes its mtime from the superblock.
    pub fn encode(&self) -> Vec<u8> {
        let format = ((self.data_layout as u16) << 1) | u16::from(self.extended);
        let mut bytes = vec![0; if self.extended { EXTENDED_BYTES } else { COMPACT_BYTES }];
        put(&mut bytes, 0, &format.to_le_bytes());
        put(&mut bytes, 2, &self.xattr_count.to_le_bytes());
        put(&mut bytes, 4, &self.mode.to_le_bytes());
        put(&mut bytes, 16, &self.start_block.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        if self.extended {
            put(&mut bytes, 8, &self.size.to_le_bytes());
            put(&mut bytes, 24, &self.uid.to_le_bytes());
            put(&mut bytes, 28, &self.gid.to_le_bytes());
            put(&mut bytes, 32, &self.epoch_s.to_le_bytes());
            put(&mut bytes, 44, &self.links.to_le_bytes());
        } else {
            put(&mut bytes, 6, &(self.links as u16).to_le_bytes());
            put(&mut bytes, 8, &(self.size as u32).to_le_bytes());
            put(&mut bytes, 24, &(self.uid as u16).to_le_bytes());
            put(&mut bytes, 26, &(self.gid as u16).to_le_bytes());
        }
        bytes
    }

    /// Whether the fields need the long form.
    pub fn needs_extended(size: u64, owner: (u32, u32), links: u32) -> bool {
        let small = u32::from(u16::MAX);
        size > u64::from(u32::MAX) || owner.0 > small || owner.1 > small || links > small
    }
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}
