//! Package files: ar, tar with its extensions, gzip, xz and zstd.
//!
//! The first byte says how much of the format the fuzzer writes itself: checksums of a whole compressed package are
//! nothing that mutation finds.

use std::collections::BTreeMap;

use plumb_image::deb::{Limits, PackageContent, unpack};
use plumb_image::tree::{Entry, Kind, Tree};

use crate::object::{Memory, origin};

/// Small, so that passing one is within reach of a fuzzer.
pub(crate) const LIMITS: Limits = Limits {
    unpacked_bytes: 4 << 20,
    file_bytes: 1 << 20,
    entries: 4000,
    path_bytes: 4096,
    metadata_bytes: 2 << 20,
    control_bytes: 1 << 20,
    decoder_memory_bytes: 16 << 20,
};

/// A control archive for those that come without.
const CONTROL: &[u8] = b"Package: x\nVersion: 1\nArchitecture: all\n";

pub(crate) fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let package = match mode {
        b'd' => ar(&[("control.tar", &tar(CONTROL)), ("data.tar", data)]),
        b'c' => ar(&[("control.tar", data), ("data.tar", &[0; 1024])]),
        b'g' => ar(&[("control.tar", &tar(CONTROL)), ("data.tar.gz", data)]),
        b'x' => ar(&[("control.tar", &tar(CONTROL)), ("data.tar.xz", data)]),
        b'z' => ar(&[("control.tar", &tar(CONTROL)), ("data.tar.zst", data)]),
        _ => data.to_vec(),
    };
    let objects = Memory::default();
    if let Ok(content) = unpack(&*package, &LIMITS, &objects) {
        check(&content);
    }
}

fn check(content: &PackageContent) {
    check_entries(&content.entries);
    assert!(content.scripts.values().map(String::len).sum::<usize>() as u64 <= 3 * LIMITS.control_bytes);
    let written = serde_json::to_vec(content).expect("a package's content is written");
    assert_eq!(&serde_json::from_slice::<PackageContent>(&written).expect("and read again"), content);
}

/// What every tree relies on.
pub(crate) fn check_entries(entries: &BTreeMap<String, Entry>) {
    let (mut files, mut metadata) = (0, 0);
    let mut tree = Tree::default();
    for (path, entry) in entries {
        crate::path::check(path);
        assert!(path.len() <= LIMITS.path_bytes && entry.mode <= 0o7777);
        metadata +=
            path.len() + entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        match &entry.kind {
            Kind::File { size, .. } if entry.link_group.is_none() => files += size,
            Kind::Symlink { target } => metadata += target.len(),
            _ => {}
        }
        tree.insert(path.clone(), entry.clone(), origin());
    }
    assert!(files <= LIMITS.unpacked_bytes && entries.len() <= LIMITS.entries);
    assert!(metadata as u64 <= LIMITS.metadata_bytes, "{metadata} bytes of paths, targets and attributes");
    tree.close();
    crate::path::check_tree(&tree, 2 * LIMITS.metadata_bytes as usize);
}

/// An archive as deb(5) wants it.
fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, data) in [("debian-binary", &b"2.0\n"[..])].iter().chain(members) {
        bytes.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len()).bytes(),
        );
        bytes.extend(*data);
        bytes.extend(vec![b'\n'; data.len() % 2]);
    }
    bytes
}

/// A tar archive with one file, `control` (POSIX ustar).
fn tar(data: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..9].copy_from_slice(b"./control");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}
