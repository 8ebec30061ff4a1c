//! Writer of "newc" cpio archives, the form the kernel unpacks as an initramfs.
//!
//! ```text
//!  entry  "070701" + 13 fields of 8 hex digits: inode, mode, uid, gid, links, mtime, size, device major, minor,
//!         device number major, minor, length of name with its end mark, check (0)
//!         name, 0, zeros to a multiple of 4; data, zeros to a multiple of 4
//!  end    entry `TRAILER!!!`, then zeros to a multiple of 512, so that archives can follow each other
//! ```
//!
//! Source: kernel `Documentation/driver-api/early-userspace/buffer-format.rst`. Inodes are numbered in the order
//! given, owner is root, mtime 0: the same entries give the same bytes.

use std::io::Write;

/// File type bits of a mode (inode(7)).
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Archives following each other start at multiples of this; the kernel asks for 4.
const ALIGNMENT_BYTES: usize = 512;

/// Longest name with its end mark that the kernel reads (PATH_MAX, `init/initramfs.c`).
const MAX_NAME_BYTES: usize = 4096;

/// Why an entry does not fit into an archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CpioError {
    /// The name is empty, too long, or has a zero byte.
    #[error("`{name}` cannot be a name in a cpio archive")]
    Name {
        /// The name.
        name: String,
    },
    /// Sizes are 32-bit numbers.
    #[error("`{name}` has {bytes} bytes; a cpio archive holds less than 4 GiB per file")]
    TooLarge {
        /// The name.
        name: String,
        /// Its size.
        bytes: usize,
    },
}

/// An archive of regular files, directories and symbolic links: path without a leading `/`, mode and bytes of each.
/// A mode without file type bits is a regular file's. Parents must come before what is in them.
///
/// # Errors
/// [`CpioError`] if a name or a size does not fit.
pub fn archive(entries: &[(&str, u32, &[u8])]) -> Result<Vec<u8>, CpioError> {
    let mut writer = Writer::new();
    for (path, mode, bytes) in entries {
        let mode = if mode & TYPE_MASK == 0 { mode | REGULAR } else { *mode };
        writer.entry(path, mode, (0, 0), bytes)?;
    }
    Ok(writer.finish())
}

/// Builds an archive entry by entry.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    entries: u32,
}

impl Writer {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Writer::default()
    }

    /// Adds a regular file with these permission bits.
    ///
    /// # Errors
    /// [`CpioError`] if name or size do not fit.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<(), CpioError> {
        self.entry(path, REGULAR | mode, (0, 0), data)
    }

    /// Adds a directory with these permission bits.
    ///
    /// # Errors
    /// [`CpioError`] if the name does not fit.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<(), CpioError> {
        self.entry(path, DIRECTORY | mode, (0, 0), b"")
    }

    /// Adds a character device with these permission bits and (major, minor) number.
    ///
    /// # Errors
    /// [`CpioError`] if the name does not fit.
    pub fn character_device(&mut self, path: &str, mode: u32, device: (u32, u32)) -> Result<(), CpioError> {
        self.entry(path, CHARACTER_DEVICE | mode, device, b"")
    }

    /// The finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.put("TRAILER!!!", [0, 0, 1, 0], (0, 0), b"");
        let length = self.bytes.len().next_multiple_of(ALIGNMENT_BYTES);
        self.bytes.resize(length, 0);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<(), CpioError> {
        if path.is_empty() || path.len() >= MAX_NAME_BYTES || path.contains('\0') {
            return Err(CpioError::Name { name: path.to_owned() });
        }
        let size = u32::try_from(data.len())
            .map_err(|_| CpioError::TooLarge { name: path.to_owned(), bytes: data.len() })?;
        self.entries += 1;
        let links = if mode & TYPE_MASK == DIRECTORY { 2 } else { 1 };
        self.put(path, [self.entries, mode, links, size], device, data);
        Ok(())
    }

    /// `numbers`: inode, mode, links, size.
    fn put(&mut self, name: &str, numbers: [u32; 4], device: (u32, u32), data: &[u8]) {
        let [inode, mode, links, size] = numbers;
        let name_bytes = name.len() as u32 + 1;
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_bytes, 0];
        self.bytes.reserve(128 + name.len() + data.len());
        self.bytes.extend(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}").expect("writing to a Vec cannot fail");
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(data);
        self.align();
    }

    fn align(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn bytes_of_one_entry() {
        let bytes = archive(&[("a", 0o600, b"hello")]).unwrap();
        assert_eq!(bytes.len(), 512);
        let text: Vec<String> = bytes[..244]
            .chunks(120)
            .map(|entry| String::from_utf8_lossy(entry).replace('\0', ".").replace("070701", "\n070701 "))
            .collect();
        expect![[r#"

            070701 00000001000081800000000000000000000000010000000000000005000000000000000000000000000000000000000200000000a.hello...
            070701 00000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000b00000000TRAILER!!!...."#]].assert_eq(&text.concat());
        assert!(bytes[244..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn refusals() {
        for name in ["", "a\0b", &"x".repeat(4096)] {
            assert_eq!(archive(&[(name, 0, b"")]), Err(CpioError::Name { name: name.to_owned() }));
        }
    }

    #[test]
    fn archives_can_follow_each_other() {
        let first = archive(&[("a", 0o600, b"1")]).unwrap();
        let second = archive(&[("dir", 0o040_755, b""), ("dir/b", 0o120_777, b"../a")]).unwrap();
        assert!(first.len().is_multiple_of(512) && second.starts_with(b"070701"));
    }
}
