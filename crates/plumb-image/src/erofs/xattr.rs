//! Extended attributes: inline after the inode, or shared when several inodes have an equal one.
//!
//! ```text
//!  inode body  | reserved 4, number of shared 1, reserved 7 | shared id 4 * n | entry, entry, ... |
//!  entry       | name length 1, prefix 1, value size 2 | name | value | zeros to a multiple of 4 |
//!  shared id   byte offset of the entry in the shared area / 4
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::ErofsError;
use crate::tree::Entry;

/// `EROFS_XATTR_INDEX_*`: the prefix is not stored, only its number. Exact names have an empty rest.
const PREFIXES: [(&str, u8); 5] = [
    ("user.", 1),
    ("system.posix_acl_access", 2),
    ("system.posix_acl_default", 3),
    ("trusted.", 4),
    ("security.", 6),
];

/// `struct erofs_xattr_ibody_header`.
const HEADER_BYTES: usize = 12;
/// The number of shared attributes of one inode is one byte.
const MAX_SHARED: usize = u8::MAX as usize;

/// The shared area of an image.
#[derive(Debug, Default)]
pub(super) struct Shared {
    ids: BTreeMap<Vec<u8>, u32>,
    bytes: Vec<u8>,
}

impl Shared {
    /// Collects the attributes that more than one of `inodes` (path and entry) has.
    pub fn collect<'a>(inodes: impl Iterator<Item = (&'a str, &'a Entry)>) -> Result<Self, ErofsError> {
        let mut seen = BTreeSet::new();
        let mut repeated = BTreeSet::new();
        for (path, entry) in inodes {
            for (name, value) in &entry.xattrs {
                let bytes = encode(path, name, value)?;
                if seen.contains(&bytes) {
                    repeated.insert(bytes);
                } else {
                    seen.insert(bytes);
                }
            }
        }
        let mut shared = Shared::default();
        for entry in repeated {
            let id = u32::try_from(shared.bytes.len() / 4).map_err(|_| ErofsError::TooLarge {
                blocks: shared.bytes.len() as u64 / super::BLOCK_BYTES,
            })?;
            shared.bytes.extend(&entry);
            shared.ids.insert(entry, id);
        }
        Ok(shared)
    }

    /// The shared area.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What follows the inode of `entry`; empty if it has no attributes.
    pub fn body(&self, path: &str, entry: &Entry) -> Result<Vec<u8>, ErofsError> {
        if entry.xattrs.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = Vec::new();
        let mut inline = Vec::new();
        for (name, value) in &entry.xattrs {
            let bytes = encode(path, name, value)?;
            match self.ids.get(&bytes) {
                Some(id) if ids.len() < MAX_SHARED => ids.push(*id),
                _ => inline.extend(bytes),
            }
        }
        let mut body = vec![0; HEADER_BYTES];
        body[4] = ids.len() as u8;
        body.extend(ids.into_iter().flat_map(u32::to_le_bytes));
        body.extend(inline);
        if body.len() > HEADER_BYTES + 4 * (usize::from(u16::MAX) - 1) {
            let reason = "the attributes of this file together are longer than 256 KiB";
            let name = entry.xattrs.keys().next().cloned().unwrap_or_default();
            return Err(ErofsError::Xattr { path: path.to_owned(), name, reason });
        }
        Ok(body)
    }
}

/// `i_xattr_icount` for a body of `bytes` bytes.
pub(super) fn count(bytes: usize) -> u16 {
    if bytes == 0 { 0 } else { ((bytes - HEADER_BYTES) / 4 + 1) as u16 }
}

fn encode(path: &str, name: &str, value: &[u8]) -> Result<Vec<u8>, ErofsError> {
    let refuse = |reason| ErofsError::Xattr { path: path.to_owned(), name: name.to_owned(), reason };
    let (prefix, index) = PREFIXES
        .iter()
        .find(|(prefix, _)| if prefix.ends_with('.') { name.starts_with(prefix) } else { name == *prefix })
        .ok_or_else(|| refuse("its name space is none of user, trusted, security and POSIX ACLs"))?;
    let rest = &name[prefix.len()..];
    let length = u8::try_from(rest.len()).map_err(|_| refuse("its name is too long"))?;
    if rest.contains('\0') || (rest.is_empty() && prefix.ends_with('.')) {
        return Err(refuse("its name is empty or has a zero byte"));
    }
    let size = u16::try_from(value.len()).map_err(|_| refuse("its value is longer than 65535 bytes"))?;
    let mut bytes = vec![length, *index];
    bytes.extend(size.to_le_bytes());
    bytes.extend(rest.as_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}
