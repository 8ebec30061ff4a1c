//! What is in a volume: a digest that does not depend on where a file has holes, and what its file system says of itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::disk::Extents;

/// Part of a volume that is looked at as one: hashed if there is anything but zeros in it.
pub(crate) const PART_BYTES: usize = 64 * 1024;

/// The digest of a volume: SHA-256 over the number of each part that is not all zeros (8 bytes, little-endian), followed by
/// the part, and over the size at the end. So holes and zeros are the same, and 1 TiB of nothing costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// The next part, with its place; parts come in order. Returns whether there is anything in it.
    pub fn part(&mut self, offset: u64, part: &[u8]) -> bool {
        let is_empty = part.iter().all(|byte| *byte == 0);
        if !is_empty {
            self.0.update(offset.to_le_bytes());
            self.0.update(part);
        }
        !is_empty
    }

    pub fn end(mut self, size: u64) -> String {
        self.0.update(size.to_le_bytes());
        let bytes = self.0.finalize();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

/// The digest of a file.
pub(crate) fn digest(file: &File) -> io::Result<String> {
    let size = file.metadata()?.len();
    let part = PART_BYTES as u64;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; PART_BYTES];
    // Parts before this one are done: an extent may begin in the part in which the one before ended.
    let mut done = 0;
    for extent in Extents::of(file, size) {
        let (start, end) = extent?;
        let mut at = (start / part * part).max(done);
        while at < end {
            let length = usize::try_from((size - at).min(part)).unwrap_or(PART_BYTES);
            file.read_exact_at(&mut buffer[..length], at)?;
            hasher.part(at, &buffer[..length]);
            at += part;
        }
        done = done.max(at);
    }
    Ok(hasher.end(size))
}

/// What a file system says of itself. It is the guest's word, and shown, never relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// UUID.
    pub uuid: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes that are taken, as of when it last wrote that down.
    pub used_bytes: u64,
}

/// Offsets in the superblock of ext4, which begins at byte 1024 (kernel.org, filesystems/ext4/globals.html).
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 1024;

/// The file system in a volume, if it is one that is known.
pub(crate) fn file_system(file: &File) -> Option<FileSystem> {
    let mut block = [0; SUPERBLOCK_BYTES];
    file.read_exact_at(&mut block, SUPERBLOCK).ok()?;
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    if block[0x38..0x3a] != [0x53, 0xef] {
        return None;
    }
    let block_bytes = 1024_u64.checked_shl(word(0x18)).filter(|bytes| (1024..=65_536).contains(bytes))?;
    let is_wide = word(0x60) & 0x80 != 0;
    let number = |low: usize, high: usize| {
        let high = if is_wide { u64::from(word(high)) } else { 0 };
        (high << 32) | u64::from(word(low))
    };
    let (blocks, free) = (number(0x04, 0x150), number(0x0c, 0x158));
    let uuid: String = block[0x68..0x78].iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = format!("{}-{}-{}-{}-{}", &uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]);
    Some(FileSystem {
        uuid,
        size_bytes: blocks.saturating_mul(block_bytes),
        used_bytes: blocks.saturating_sub(free).saturating_mul(block_bytes),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn holes_and_zeros_are_the_same() {
        let sparse = tempfile::tempfile().unwrap();
        sparse.set_len(1_000_000).unwrap();
        sparse.write_all_at(b"x", 500_000).unwrap();
        sparse.write_all_at(b"y", 999_999).unwrap();
        let mut dense = tempfile::tempfile().unwrap();
        let mut bytes = vec![0; 1_000_000];
        (bytes[500_000], bytes[999_999]) = (b'x', b'y');
        dense.write_all(&bytes).unwrap();
        assert_eq!(digest(&sparse).unwrap(), digest(&dense).unwrap());
        dense.write_all_at(b"z", 0).unwrap();
        assert_ne!(digest(&sparse).unwrap(), digest(&dense).unwrap());
        sparse.set_len(1_000_001).unwrap();
        assert_ne!(digest(&sparse).unwrap(), digest(&dense).unwrap());
        let empty = tempfile::tempfile().unwrap();
        empty.set_len(1 << 40).unwrap();
        assert_ne!(digest(&empty).unwrap(), digest(&sparse).unwrap());
        assert_eq!(file_system(&empty), None);
    }

    #[test]
    fn what_a_guest_writes_into_its_superblock_is_only_shown() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let mut block = [0xff; SUPERBLOCK_BYTES];
        block[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        file.write_all_at(&block, SUPERBLOCK).unwrap();
        assert_eq!(file_system(&file), None, "no such size of a block");
        block[0x18..0x1c].copy_from_slice(&[2, 0, 0, 0]);
        file.write_all_at(&block, SUPERBLOCK).unwrap();
        let found = file_system(&file).unwrap();
        assert_eq!((found.size_bytes, found.used_bytes), (u64::MAX, 0));
        assert_eq!(found.uuid, "ffffffff-ffff-ffff-ffff-ffffffffffff");
    }
}
