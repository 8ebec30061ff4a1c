//! What a build VM is told, and the disk on which it answers.
//!
//! ```text
//!  cmdline       plumb.build=<serial of the answer disk>
//!  root          /usr/lib/plumb/build.json   BuildTask
//!  answer disk   byte 0     "plumbout", length of the JSON (u32, little endian), JSON BuildOutcome; written last
//!                byte 65536 frames: length of the JSON (u32, little endian), JSON Change, contents of a file
//! ```
//! A disk without its first eight bytes is one of a build that did not come to its end. The host trusts nothing of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the root of a build VM keeps its [`BuildTask`].
pub const BUILD_TASK_PATH: &str = "/usr/lib/plumb/build.json";

/// The word of the kernel command line that makes a boot a build; its value is the serial of the answer disk.
pub const BUILD_WORD: &str = "plumb.build=";

/// The first bytes of an answer disk.
pub const ANSWER_MAGIC: &[u8; 8] = b"plumbout";

/// Where the frames of an answer disk start; magic, length and outcome have to fit before it.
pub const ANSWER_FRAMES: u64 = 64 * 1024;

/// Longest JSON of one [`Change`]: two paths of PATH_MAX (4096 bytes), escaped, and some attributes.
pub const MAX_CHANGE_BYTES: u32 = 64 * 1024;

/// What a build VM does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildTask {
    /// Always [`crate::FORMAT`].
    pub format: u32,
    /// Commands, one after the other; the first that fails ends the build.
    pub steps: Vec<BuildStep>,
    /// The whole environment of every command.
    pub environment: BTreeMap<String, String>,
}

/// One command of a [`BuildTask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildStep {
    /// Whom the command belongs to, for messages: ``preinst of package `nginx` ``.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables besides those of the task.
    pub environment: BTreeMap<String, String>,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildOutcome {
    /// The step that failed; `None` if all went well, and only then there are frames.
    pub failed: Option<BuildFailure>,
    /// Number of frames.
    pub changes: u64,
    /// Length of all frames.
    pub bytes: u64,
    /// [`Checksum`] of all frames.
    pub checksum: u32,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildFailure {
    /// [`BuildStep::name`].
    pub step: String,
    /// How it ended, for a person: `exit status: 1`.
    pub status: String,
    /// The last lines of what it wrote.
    pub output: Vec<String>,
}

/// One path that differs from the root the build started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Absolute path.
    pub path: String,
    /// What is there now.
    pub kind: ChangeKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `security.capability`, if it has one, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

/// What is at a changed path now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChangeKind {
    /// A file; its contents follow the frame's JSON.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Nothing of the old directory shows through.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: String,
    },
    /// Nothing any more.
    Removed,
    /// A device, socket or pipe, which no image holds.
    Special,
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of what was given so far. It finds what a disk or a bug has spoiled; it is
/// no protection against a guest that lies, and none is needed: what it sends is checked as what it is.
#[derive(Debug, Clone, Copy)]
pub struct Checksum(u32);

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

impl Default for Checksum {
    fn default() -> Self {
        Checksum(u32::MAX)
    }
}

impl Checksum {
    /// Takes more bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8));
    }

    /// The checksum.
    #[must_use]
    pub fn value(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_crc32c() {
        let mut checksum = Checksum::default();
        checksum.add(b"12345");
        checksum.add(b"6789");
        assert_eq!(checksum.value(), 0xe306_9283);
        // RFC 3720 appendix B.4.
        let mut checksum = Checksum::default();
        checksum.add(&[0; 32]);
        assert_eq!(checksum.value(), 0x8a91_36aa);
    }
}
