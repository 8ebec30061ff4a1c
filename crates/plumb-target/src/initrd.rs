//! The initramfs of one boot: the image's own, then a tiny archive with what this boot is told.
//!
//! ```text
//!  | image initrd | zeros to a multiple of 4 | cpio newc: plumb/  plumb/instance.json  TRAILER!!! |
//! ```
//! A boot with secrets has them in that archive, too (`plumb/secret/NAME`), and the whole initramfs then is a file in memory
//! that has no name anywhere (memfd_create(2)): QEMU inherits it, and it is gone with QEMU.
//!
//! The kernel unpacks archives one after the other (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use plumb_guest_proto::{INSTANCE_SPEC_PATH, InstanceSpec, SECRET_PATH};
use rustix::fs::MemfdFlags;

use crate::error::{At, TargetError};
use crate::secret::Secrets;

/// Writes the initramfs of a boot to `target`.
pub(crate) fn write(image: &Path, spec: &InstanceSpec, target: &Path) -> Result<(), TargetError> {
    // Truncating one that a dead QEMU has used is fine: QEMU reads it at its start only.
    let mut options = OpenOptions::new();
    let file =
        options.create(true).write(true).truncate(true).mode(0o600).open(target).at("write", target)?;
    fill((file, target), image, spec, &Secrets::default())
}

/// The initramfs of a boot with secrets: in memory only.
pub(crate) fn in_memory(image: &Path, spec: &InstanceSpec, secrets: &Secrets) -> Result<File, TargetError> {
    let place = Path::new("memfd:initrd");
    let memory = rustix::fs::memfd_create(c"initrd", MemfdFlags::CLOEXEC);
    let file = File::from(memory.map_err(io::Error::from).at("make", place)?);
    fill((file.try_clone().at("write", place)?, place), image, spec, secrets)?;
    Ok(file)
}

fn fill(
    (mut file, target): (File, &Path),
    image: &Path,
    spec: &InstanceSpec,
    secrets: &Secrets,
) -> Result<(), TargetError> {
    let json = serde_json::to_vec(spec)
        .map_err(|source| TargetError::Record { what: spec.instance.clone(), source })?;
    let mut source = File::open(image).at("open", image)?;
    let length = io::copy(&mut source, &mut file).at("copy", image)?;
    let padding = length.next_multiple_of(4) - length;
    let mut tail = vec![0; usize::try_from(padding).unwrap_or(0)];
    tail.extend_from_slice(&archive(&json, secrets));
    file.write_all(&tail).at("write", target)
}

fn archive(json: &[u8], secrets: &Secrets) -> Vec<u8> {
    let path = INSTANCE_SPEC_PATH.trim_start_matches('/');
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut out = Vec::new();
    entry(&mut out, dir, 0o040_755, &[]);
    entry(&mut out, path, 0o100_600, json);
    if !secrets.is_empty() {
        let folder = SECRET_PATH.trim_start_matches('/');
        entry(&mut out, folder, 0o040_700, &[]);
        for (name, secret) in secrets.iter() {
            entry(&mut out, &format!("{folder}/{name}"), 0o100_600, secret);
        }
    }
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
        let bytes = archive(b"{}", &Secrets::default());
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

    #[test]
    fn a_boot_with_secrets_is_in_memory_only() {
        use std::io::{Read as _, Seek as _};

        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, b"image").unwrap();
        let spec = InstanceSpec {
            idle: false,
            format: 1,
            deployment: "shop".into(),
            instance: "web-1".into(),
            machine: "web".into(),
            release: "shop@1".into(),
            generation: 1,
            interfaces: vec![],
            peers: vec![],
            volumes: vec![],
            config: std::collections::BTreeMap::new(),
        };
        let secrets = Secrets::new([("pw".to_owned(), b"hush".to_vec())].into());
        assert_eq!(format!("{secrets:?}"), "1 secrets");
        let mut file = in_memory(&image, &spec, &secrets).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("image\x00\x00\x00070701"), "{text}");
        assert!(text.contains("plumb/secret/pw\0"), "{text}");
        assert!(text.contains("hush"), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
