use std::io::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::fixture::Folder;

/// A tar archive of files (name, mode, content).
fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A zip file of members (name, `st_mode`, content), each stored or deflated.
fn zip(members: &[(&str, u32, &str)], method: u16) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, mode, content) in members {
        let mut crc = flate2::Crc::new();
        crc.update(content.as_bytes());
        let packed = match method {
            0 => content.as_bytes().to_vec(),
            _ => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(content.as_bytes()).unwrap();
                encoder.finish().unwrap()
            }
        };
        let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
        let mut common = vec![20, 0, 0, 0];
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        common.extend(number(packed.len()));
        common.extend(number(content.len()));
        common.extend(&number(name.len())[..2]);
        common.extend([0; 2]);
        directory.extend(b"PK\x01\x02");
        directory.extend([20, 3]);
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend((mode << 16).to_le_bytes());
        directory.extend(number(out.len()));
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(packed);
    }
    let start = u32::try_from(out.len()).unwrap();
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count);
    out.extend(count);
    out.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// What an archive gives, a line per entry, or why it is refused.
fn shown(bytes: &[u8], limits: &Limits, folders: usize) -> String {
    let objects = Folder::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let unpacked = unpack(&mut file, "x", limits, &objects)
        .and_then(|entries| entries.map(|entries| strip(entries, folders, "x")).transpose());
    let entries = match unpacked {
        Ok(Some(entries)) => entries,
        Ok(None) => return "no archive".to_owned(),
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            return format!("{error}{}", source.unwrap_or_default());
        }
    };
    let line = |(path, entry): (&String, &Entry)| {
        let what = match &entry.kind {
            Kind::Directory => "folder".to_owned(),
            Kind::Symlink { target } => format!("link to {target}"),
            Kind::File { digest, .. } => {
                String::from_utf8_lossy(&objects.read(digest, 1 << 20).unwrap()).into_owned()
            }
        };
        format!("{path} {:o} {}:{} {what}\n", entry.mode, entry.uid, entry.gid)
    };
    entries.iter().map(line).collect()
}

fn check(bytes: &[u8], folders: usize, expected: &Expect) {
    expected.assert_eq(&shown(bytes, &Limits::default(), folders));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const FILES: [(&str, u32, &str); 3] =
    [("x-1.0/README", 0o644, "read me"), ("x-1.0/bin/x", 0o4755, "#!"), ("top", 0o600, "left out")];

#[test]
fn every_form_gives_the_same() {
    let mut forms = vec![tar(&FILES), gzip(&tar(&FILES)), zstd::encode_all(&tar(&FILES)[..], 1).unwrap()];
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar(&FILES)).unwrap();
    forms.push(xz.finish().unwrap());
    let regular = FILES.map(|(name, mode, content)| (name, 0o100_000 | mode, content));
    forms.extend([zip(&regular, 0), zip(&regular, 8)]);
    for form in forms {
        check(
            &form,
            1,
            &expect![[r#"
                /README 644 0:0 read me
                /bin/x 755 0:0 #!
            "#]],
        );
    }
}

#[test]
fn what_is_no_archive() {
    for plain in [&b"text"[..], b"", b"\x7fELF", &gzip(b"one file"), &[0; 2048]] {
        check(plain, 0, &expect![["no archive"]]);
    }
    check(
        b"BZh91AY&SY",
        0,
        &expect!["`x` is compressed with bzip2, which is not read (known: gzip, xz, zstd, zip)"],
    );
}

#[test]
fn hostile_archives_are_refused() {
    check(&tar(&[("../x", 0o644, "")]), 0, &expect!["path `../x` in member `x` is refused: it has a `..`"]);
    check(
        &zip(&[("a/../../x", 0, "")], 0),
        0,
        &expect!["path `a/../../x` in member `x` is refused: it has a `..`"],
    );
    check(
        &zip(&[("/etc/x", 0, "")], 0),
        0,
        &expect!["path `/etc/x` in member `x` is refused: it is absolute"],
    );
    check(
        &zip(&[("a", 0o120_777, "/etc"), ("a/x", 0, "")], 0),
        0,
        &expect!["path `/a/x` in member `x` is refused: it lies below a link or a file of the same archive"],
    );
    check(&tar(&FILES), 9, &expect!["`x` has nothing below 9 folders"]);
    let mut damaged = zip(&[("a", 0, "content")], 0);
    damaged[31] ^= 1;
    check(
        &damaged,
        0,
        &expect!["cannot keep the content of `/a`: a member is damaged: its CRC-32 or length is another"],
    );
    let small = Limits { unpacked_bytes: 4096, ..Limits::default() };
    let bomb = "0".repeat(100_000);
    let bombs = [gzip(&tar(&[("a", 0o644, &bomb)])), zip(&[("a", 0, &bomb)], 8)];
    for bomb in bombs {
        let said = shown(&bomb, &small, 0);
        assert!(said.contains("4096"), "{said}");
    }
    // The target of a link is kept in memory, paths with all their parents in the tree.
    let long = "l".repeat(5000);
    let said = shown(&zip(&[("a", 0o120_777, &long)], 8), &Limits::default(), 0);
    assert_eq!(said, "`/a` in member `x` is beyond the limit: bytes over 4096");
    let narrow = Limits { metadata_bytes: 100_000, ..Limits::default() };
    let said = shown(&zip(&[(&"a/".repeat(500), 0, "")], 0), &narrow, 0);
    assert!(said.ends_with("bytes of paths and attributes over 100000"), "{said}");
    // Every cut is an error or no archive, and never a panic.
    for form in [gzip(&tar(&FILES)), zip(&FILES, 8)] {
        for end in 0..form.len() - 1 {
            let said = shown(&form[..end], &Limits::default(), 0);
            assert!(!said.contains("left out"), "{end}: {said}");
        }
    }
}

#[test]
fn members_of_a_zip_file_are_read_in_their_order() {
    let members = [
        ("b.json", 0, "two"),
        ("d/", 0o40_755, ""),
        ("a.json", 0o100_644, "one"),
        ("l", 0o120_777, "a.json"),
    ];
    let read = |bytes: &[u8], limits: &Limits| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut found = Vec::new();
        zip_members(&mut file, limits, &mut |name, data| {
            let mut text = String::new();
            data.take(2).read_to_string(&mut text)?;
            found.push((name.to_owned(), text));
            Ok(())
        })?;
        Ok::<_, io::Error>(found)
    };
    for method in [0, 8] {
        let found = read(&zip(&members, method), &Limits::default()).unwrap();
        assert_eq!(found, [("b.json".to_owned(), "tw".to_owned()), ("a.json".to_owned(), "on".to_owned())]);
    }
    let mut damaged = zip(&members, 0);
    let at = damaged.windows(3).position(|bytes| bytes == b"two").unwrap();
    damaged[at + 2] ^= 1;
    assert!(read(&damaged, &Limits::default()).is_err(), "what is not read is checked, too");
    for narrow in
        [Limits { file_bytes: 2, ..Limits::default() }, Limits { unpacked_bytes: 4, ..Limits::default() }]
    {
        assert!(read(&zip(&members, 8), &narrow).is_err());
    }
}
