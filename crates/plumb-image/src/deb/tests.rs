use std::io::{Cursor, Write};

use plumb_model::Digest;

use super::*;
use crate::fixture::Folder;
use crate::tree::Kind;

/// A tar archive built entry by entry, with whatever header a test wants.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn raw(mut self, name: &[u8], kind: u8, link: &[u8], data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(data.len() as u64);
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(33);
        header.set_mtime(0);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn directory(self, name: &str) -> Self {
        self.raw(name.as_bytes(), b'5', b"", b"")
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.raw(name.as_bytes(), b'0', b"", data.as_bytes())
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), b'2', target.as_bytes(), b"")
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, data) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, data.len()).bytes());
        out.extend_from_slice(data);
        if data.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

fn package(control: Tar, data: Tar) -> Vec<u8> {
    let (control, data) = (control.finish(), data.finish());
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)])
}

fn control() -> Tar {
    Tar::default()
        .file("./control", "Package: x\nVersion: 1\nArchitecture: all\n\n")
        .file("./postinst", "#!/bin/sh\n")
}

fn read(bytes: &[u8]) -> Result<PackageContent, DebError> {
    unpack(Cursor::new(bytes), &Limits::default(), &Folder::new())
}

fn refused(data: Tar) -> String {
    read(&package(control(), data)).unwrap_err().to_string()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_package_of_all_kinds() {
    let long = "x".repeat(120);
    let pax = |key: &str, value: &[u8]| {
        let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let length =
            (1..9).find(|width| (rest.len() + width).to_string().len() == *width).unwrap() + rest.len();
        [length.to_string().as_bytes(), &rest].concat()
    };
    let data = Tar::default()
        .directory("./")
        .directory("./usr/")
        .file("./usr/a", "hello")
        .raw(b"./usr/b", b'1', b"./usr/a", b"")
        .symlink("./usr/c", "/etc/../x")
        .raw(b"././@LongLink", b'L', b"", format!("./usr/{long}\0").as_bytes())
        .file("short", "long")
        .raw(b"pax", b'x', b"", &pax("SCHILY.xattr.security.capability", b"\x01\n\x00="))
        .file("./usr/d", "d");
    let content = read(&package(control(), data)).unwrap();
    assert_eq!(content.control, "Package: x\nVersion: 1\nArchitecture: all\n");
    assert_eq!(content.scripts["postinst"], "#!/bin/sh\n");
    let entries = &content.entries;
    assert_eq!(entries.len(), 6);
    assert_eq!(entries["/usr/a"].link_group, Some(0));
    assert_eq!(entries["/usr/b"], entries["/usr/a"]);
    assert_eq!(entries["/usr/b"].gid, 33);
    assert_eq!(entries["/usr/c"].kind, Kind::Symlink { target: "/etc/../x".into() });
    assert!(entries.contains_key(&format!("/usr/{long}")));
    assert_eq!(entries["/usr/d"].xattrs["security.capability"], b"\x01\n\x00=");
    let json = serde_json::to_string(&content).unwrap();
    assert_eq!(serde_json::from_str::<PackageContent>(&json).unwrap(), content);
}

#[test]
fn every_compression() {
    let (control, data) = (control().finish(), Tar::default().file("./a", "a").finish());
    let gz = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zst = zstd::encode_all(&*data, 1).unwrap();
    for (name, bytes) in [("data.tar.xz", xz(&data)), ("data.tar.gz", gz(&data)), ("data.tar.zst", zst)] {
        let whole = ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &gz(&control)), (name, &bytes)]);
        assert_eq!(read(&whole).unwrap().entries.len(), 1, "{name}");
        for cut in [whole.len() - 3, whole.len() - bytes.len() / 2, 70, 8, 3] {
            assert!(read(&whole[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
    let bad = ar(&[("debian-binary", b"2.0\n"), ("control.tar.lzma", b"x")]);
    assert!(matches!(read(&bad), Err(DebError::UnknownCompression { .. })));
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (state >> 58) as u8)
    };
    std::iter::repeat_with(&mut next).take(bytes).collect()
}

#[test]
fn blocks_are_decompressed_side_by_side() {
    let noise = noise(8 << 20);
    let data = Tar::default().file("./a", &noise[..5 << 20]).file("./b", &noise).finish();
    let mut builder = liblzma::stream::MtStreamBuilder::new();
    let stream =
        builder.threads(2).preset(0).block_size(2 << 20).check(liblzma::stream::Check::Crc64).encoder();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
    encoder.write_all(&data).unwrap();
    let packed = encoder.finish().unwrap();
    assert!(packed.len() as u64 > PARALLEL_BYTES, "{}", packed.len());
    let package = |packed: &[u8]| {
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control().finish()), ("data.tar.xz", packed)])
    };
    let content = read(&package(&packed)).unwrap();
    let plain = read(&package(&packed[..0])).unwrap_err();
    assert!(matches!(plain, DebError::Read { .. }));
    assert_eq!(
        content.entries["/a"].kind,
        Kind::File { digest: Digest::of(&noise.as_bytes()[..5 << 20]), size: 5 << 20 }
    );
    assert_eq!(
        content.entries["/b"].kind,
        Kind::File { digest: Digest::of(noise.as_bytes()), size: 8 << 20 }
    );
    for cut in [packed.len() - 3, packed.len() / 2, 20] {
        assert!(read(&package(&packed[..cut])).is_err(), "cut at {cut}");
    }
    let mut damaged = packed.clone();
    damaged[packed.len() / 2] ^= 1;
    assert!(read(&package(&damaged)).is_err());
    assert!(read(&package(&[&packed[..], &packed].concat())).is_err(), "a second stream");
    assert!(read(&package(&[&packed[..], b"more"].concat())).is_err(), "more behind the stream");
}

#[test]
fn a_second_stream_is_refused_in_small_packages_too() {
    let data = xz(&Tar::default().file("./a", "a").finish());
    let whole = ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", &control().finish()),
        ("data.tar.xz", &[&data[..], &data].concat()),
    ]);
    assert!(read(&whole).is_err());
}

#[test]
fn paths_that_lead_out_are_refused() {
    let plain = Tar::default;
    for data in [
        plain().file("../etc/passwd", ""),
        plain().file("./a/../../b", ""),
        plain().file("/etc/passwd", ""),
        plain().file("./a\nb", ""),
        plain().raw(b"./a\xff", b'0', b"", b""),
        plain().symlink("./a", "/etc").file("./a/passwd", ""),
        plain().file("./a/passwd", "").symlink("./a", "/etc"),
        plain().file("./a", "").file("./a/b", ""),
        plain().file("./a", "").file("a", ""),
        plain().symlink("./a", ""),
        plain().raw(b"./a", b'1', b"/etc/passwd", b""),
        plain().raw(b"./a", b'1', b"../../etc/passwd", b""),
        plain().raw(b"./a", b'1', b"./b", b"").file("./b", ""),
        plain().symlink("./l", "/etc/passwd").raw(b"./a", b'1', b"./l", b""),
        plain().raw(b"./a", b'3', b"", b""),
        plain().raw(b"./a", b'4', b"", b""),
        plain().raw(b"./a", b'6', b"", b""),
        plain().raw(b"./a", b'S', b"", b""),
        plain().raw(b"./a", b'Z', b"", b""),
        plain().raw(b"x", b'x', b"", b"99999999999999999999 path=/etc\n"),
        plain().raw(b"x", b'x', b"", b"9 path=../x\n").file("./ok", ""),
        plain().raw(b"x", b'x', b"", b"15 path=../etc\n").file("./ok", ""),
        plain().raw(b"././@LongLink", b'L', b"", &[b'a'; 5000]).file("./ok", ""),
        plain().raw(b"x", b'x', b"", b"12 size=100\n").file("./ok", "abc"),
    ] {
        let text = refused(data);
        assert!(text.contains("data.tar"), "{text}");
    }
    assert_eq!(
        refused(plain().file("./a/../../b", "")),
        "path `./a/../../b` in member `data.tar` is refused: it has a `..`"
    );
    assert!(
        refused(plain().raw(b"./dev/sda", b'4', b"", b""))
            .contains("`/dev/sda` in member `data.tar` is a block")
    );
}

#[test]
fn sizes_are_limited() {
    let limits = Limits { unpacked_bytes: 1 << 20, file_bytes: 4096, entries: 10, ..Limits::default() };
    let read = |data: &[u8], name: &str| {
        let whole = ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control().finish()), (name, data)]);
        unpack(Cursor::new(whole), &limits, &Folder::new()).unwrap_err().to_string()
    };
    let big = Tar::default().file("./a", &"x".repeat(5000)).finish();
    assert!(read(&big, "data.tar").contains("file bytes over 4096"));
    let many = (0..11).fold(Tar::default(), |tar, n| tar.file(&format!("./{n}"), "")).finish();
    assert!(read(&many, "data.tar").contains("number of entries over 10"));
    let bomb = xz(&[Tar::default().file("./a", "").finish(), vec![0; 64 << 20]].concat());
    assert!(bomb.len() < 1 << 20);
    assert!(read(&bomb, "data.tar.xz").contains("cannot read member `data.tar.xz`"));
}

/// A PAX record for the entry that follows.
fn pax(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let digits = (rest.len() + 1).to_string().len();
    let length = rest.len() + (rest.len() + digits).to_string().len();
    format!("{length}{rest}")
}

#[test]
fn memory_for_paths_and_attributes_is_limited() {
    let limits = Limits { metadata_bytes: 1 << 20, ..Limits::default() };
    let read = |tar: Tar| {
        let whole = ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar", &control().finish()),
            ("data.tar", &tar.finish()),
        ]);
        unpack(Cursor::new(whole), &limits, &Folder::new())
    };
    let attribute = pax("SCHILY.xattr.user.x", &"x".repeat(60_000));
    let linked = |count| {
        let first = Tar::default().raw(b"x", b'x', b"", attribute.as_bytes()).file("./a", "");
        (0..count).fold(first, |tar, n| tar.raw(format!("./l{n}").as_bytes(), b'1', b"./a", b""))
    };
    assert_eq!(read(linked(10)).unwrap().entries["/l9"].xattrs["user.x"].len(), 60_000);
    let message = read(linked(20)).unwrap_err().to_string();
    assert!(message.contains("bytes of paths and attributes over 1048576"), "{message}");
    // A tree has an entry for each parent that a path implies.
    let deep = pax("path", &format!("./{}", "a/".repeat(2000)));
    let message = read(Tar::default().raw(b"x", b'x', b"", deep.as_bytes()).file("./a", "")).unwrap_err();
    assert!(message.to_string().contains("bytes of paths and attributes"), "{message}");
}

#[test]
fn an_archive_of_another_shape_is_refused() {
    let (control, data) = (control().finish(), Tar::default().finish());
    let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
    for members in [
        vec![],
        vec![("debian-binary", b"3.0\n".as_slice()), ("control.tar", &control), ("data.tar", &data)],
        vec![("control.tar", &*control), version, ("data.tar", &*data)],
        vec![version, ("data.tar", &*data), ("control.tar", &*control)],
        vec![version, ("control.tar", &*control)],
        vec![version, ("control.tar", &*data), ("data.tar", &*data)],
        vec![version, ("control.tar", &*control), ("other", b"x"), ("data.tar", &*data)],
        vec![version, ("control.tar", &*control), ("control.tar", &*control), ("data.tar", &*data)],
    ] {
        assert!(
            read(&ar(&members)).is_err(),
            "{:?}",
            members.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
    }
    assert!(matches!(read(b"PK\x03\x04 not a package"), Err(DebError::NotAr)));
    assert!(matches!(read(b"!<arch>\ngarbage"), Err(DebError::BadMember { .. })));
    let skipped = ar(&[version, ("control.tar", &control), ("_gpg", b"x"), ("data.tar", &data)]);
    assert!(read(&skipped).is_ok());
}
