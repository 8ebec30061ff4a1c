//! The initramfs of one boot: the image's own, then a tiny archive with what this boot is told.
//!
//! ```text
//!  | image initrd | zeros to a multiple of 4 | cpio newc: plumb/  plumb/instance.json  TRAILER!!! |
//! ```
//! The kernel unpacks archives one after the other (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use plumb_guest_proto::{INSTANCE_SPEC_PATH, InstanceSpec};

use crate::error::{At, TargetError};

/// Writes the initramfs of a boot to `target`.
pub(crate) fn write(image: &Path, spec: &InstanceSpec, target: &Path) -> Result<(), TargetError> {
    let json = serde_json::to_vec(spec)
        .map_err(|source| TargetError::Record { what: spec.instance.clone(), source })?;
    let mut source = File::open(image).at("open", image)?;
    // Truncating one that a dead QEMU has used is fine: QEMU reads it at its start only.
    let mut options = OpenOptions::new();
    let mut file =
        options.create(true).write(true).truncate(true).mode(0o600).open(target).at("write", target)?;
    let length = io::copy(&mut source, &mut file).at("copy", image)?;
    let padding = length.next_multiple_of(4) - length;
    let mut tail = vec![0; usize::try_from(padding).unwrap_or(0)];
    tail.extend_from_slice(&archive(&json));
    file.write_all(&tail).at("write", target)
}

fn archive(json: &[u8]) -> Vec<u8> {
    let path = INSTANCE_SPEC_PATH.trim_start_matches('/');
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut out = Vec::new();
    entry(&mut out, dir, 0o040_755, &[]);
    entry(&mut out, path, 0o100_600, json);
    entry(&mut out, "TRAILER!!!", 0, &[]);
    out
}

fn entry(out: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check. Inode
    // numbers only matter for hard links, and nlink 1 says that there are none.
    let fields = [0, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Refuses an image part that is not there, before anything is started.
pub(crate) fn check_file(path: &Path) -> Result<(), TargetError> {
    fs::metadata(path).map(|_| ()).at("find", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_newc() {
        let bytes = archive(b"{}");
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches("070701").count(), 3);
        assert!(text.contains("plumb/instance.json\0"));
        let entry = text.find("plumb/instance.json").unwrap();
        assert!(
            text[entry..]
                .trim_start_matches("plumb/instance.json")
                .trim_start_matches('\0')
                .starts_with("{}")
        );
    }
}
