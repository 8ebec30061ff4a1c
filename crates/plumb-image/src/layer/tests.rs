use std::io::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::assemble::AppFile;
use crate::fixture::Folder;

/// A layer of entries: `path/` is a folder, `path -> target` a link, `path = target` a hard link, `path <text` a file,
/// `path !` a device.
fn layer(objects: &Folder, lines: &[&str]) -> Result<Changes, LayerError> {
    let mut builder = tar::Builder::new(Vec::new());
    for line in lines {
        let (path, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut header = tar::Header::new_gnu();
        let (kind, link, data) = match rest.split_once(' ') {
            Some(("->", target)) => (EntryType::Symlink, target, ""),
            Some(("=", target)) => (EntryType::Link, target, ""),
            _ if path.ends_with('/') => (EntryType::Directory, "", ""),
            _ if rest == "!" => (EntryType::Char, "", ""),
            _ => (EntryType::Regular, "", rest.trim_start_matches('<')),
        };
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(7);
        header.set_gid(7);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    let mut file = tempfile::tempfile().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
    encoder.write_all(&builder.into_inner().unwrap()).unwrap();
    encoder.finish().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    read(&mut file, "layer", &Limits::default(), objects)
}

fn shown(objects: &Folder, tree: &Tree) -> String {
    let line = |(path, (entry, _)): (&String, &(Entry, Origin))| {
        let group = entry.link_group.map(|group| format!(" #{group}")).unwrap_or_default();
        match &entry.kind {
            Kind::Directory => format!("{path}/\n"),
            Kind::Symlink { target } => format!("{path} -> {target}\n"),
            Kind::File { digest, .. } => {
                format!("{path} <{}{group}\n", String::from_utf8_lossy(&objects.read(digest, 99).unwrap()))
            }
        }
    };
    tree.entries.iter().map(line).collect()
}

fn check(layers: &[&[&str]], expected: &Expect) {
    let objects = Folder::new();
    let merged = layers
        .iter()
        .map(|lines| layer(&objects, lines))
        .collect::<Result<Vec<_>, _>>()
        .and_then(|layers| merge(&layers));
    expected.assert_eq(&match merged {
        Ok(tree) => shown(&objects, &tree),
        Err(error) => error.to_string(),
    });
}

#[test]
fn upper_layers_win_and_take_away() {
    check(
        &[
            &["etc/", "etc/a <1", "etc/b <1", "var/x/", "var/x/1 <1", "var/x/2 <1", "opt/y/z <1", "tmp/q <1"],
            &[
                "etc/a <2",
                "etc/.wh.b",
                "var/x/.wh..wh..opq",
                "var/x/3 <2",
                "opt/.wh.y",
                "tmp/q/",
                "tmp/.wh..wh.plnk/",
            ],
            // Taken away and made again in one layer, in whatever order.
            &["opt/y <3", "etc/.wh.a", "etc/a <3"],
        ],
        &expect![[r#"
            /etc/
            /etc/a <3
            /opt/
            /opt/y <3
            /tmp/
            /tmp/q/
            /var/
            /var/x/
            /var/x/3 <2
        "#]],
    );
    check(
        &[&["a <1", "b/c <1"], &[".wh..wh..opq", "d <2"]],
        &expect![[r#"
        /d <2
    "#]],
    );
}

#[test]
fn links_are_followed_inside_the_image() {
    check(
        &[
            &["usr/lib/", "lib -> usr/lib", "up -> ../../../etc", "etc/", "abs -> /etc"],
            &["lib/x <1", "up/y <1", "abs/z <1", "/root/w <1", "hard = usr/lib/x", "lib/.wh.none"],
            &["usr/lib/x2 = lib/x"],
        ],
        &expect![[r#"
            /abs -> /etc
            /etc/
            /etc/y <1
            /etc/z <1
            /hard <1 #0
            /lib -> usr/lib
            /root/
            /root/w <1
            /up -> ../../../etc
            /usr/
            /usr/lib/
            /usr/lib/x <1 #0
            /usr/lib/x2 <1 #0
        "#]],
    );
    // A folder in place of a link replaces it, and a link in place of a folder takes what is in it away.
    check(
        &[&["a -> b", "b/", "c/d <1"], &["a/", "c -> b"]],
        &expect![[r#"
        /a/
        /b/
        /c -> b
    "#]],
    );
}

#[test]
fn hostile_layers_are_refused() {
    check(&[&["../x <1"]], &expect!["path `../x` in member `layer` is refused: it has a `..`"]);
    check(&[&["a <1", "a/b <1"]], &expect!["`/a/b` lies below `/a`, which is no folder"]);
    check(&[&["a -> a", "a/b <1"]], &expect!["`/a/b` lies below `/a`, which is no folder"]);
    check(&[&["a = b"]], &expect!["hard link `/a` points to `/b`, which is no file"]);
    check(&[&["b/", "a = b"]], &expect!["hard link `/a` points to `/b`, which is no file"]);
    check(
        &[&["a = ../../etc/passwd"]],
        &expect!["path `../../etc/passwd` in member `layer` is refused: it has a `..`"],
    );
    let objects = Folder::new();
    let changes = layer(&objects, &["dev/", "dev/sda !"]).unwrap();
    assert_eq!((changes.changes.len(), changes.skipped), (1, vec!["/dev/sda".to_owned()]));
}

#[test]
fn a_machine_of_an_image() {
    let objects = Folder::new();
    let layers = [layer(
        &objects,
        &[
            "etc/passwd <root:x:0:0:root:/root:/bin/sh\napp:x:100:101::/srv:/bin/sh\nbroken\n",
            "etc/group <root:x:0:\nmedia:x:44:app,other\n",
            "etc/hosts <127.0.0.1 build-host",
            "dev/null !",
            "dev/shm/x <1",
            "srv/old <1",
        ],
    )
    .unwrap()];
    let (digest, size) = objects.put(&mut &b"new"[..]).unwrap();
    let app = |path: &str, user: &str| AppFile {
        path: path.to_owned(),
        digest,
        size,
        mode: 0o640,
        user: Some(user.to_owned()),
        group: None,
    };
    let input = |app_files| UserlandInput {
        tree: merge(&layers).unwrap(),
        app_files,
        mounts: vec!["/data".to_owned()],
        others: vec![("/srv/link", Entry::symlink("old")), ("/srv", Entry::directory(0o700))],
    };
    let made = userland(input(vec![app("/srv/old", "app")]), &objects).unwrap();
    expect![[r#"
        /data/
        /dev/
        /etc/
        /etc/group <root:x:0:
        media:x:44:app,other

        /etc/hostname -> /run/plumb/hostname
        /etc/hosts -> /run/plumb/hosts
        /etc/passwd <root:x:0:0:root:/root:/bin/sh
        app:x:100:101::/srv:/bin/sh
        broken

        /etc/resolv.conf -> /run/plumb/resolv.conf
        /proc/
        /srv/
        /srv/link -> old
        /srv/old <new
        /sys/
    "#]]
    .assert_eq(&shown(&objects, &made.tree));
    assert_eq!(made.tree.get("/srv/old").map(|entry| (entry.uid, entry.mode)), Some((100, 0o640)));
    assert_eq!(made.tree.get("/srv").map(|entry| entry.mode), Some(0o755));
    assert!(made.accounts.groups["media"].members.contains("app"));
    for (bad, expected) in [
        (app("/srv/old", "nobody"), "`/srv/old` is to belong to `nobody`, which is no account of the image"),
        (app("/etc", "root"), "`/etc` is a folder of the image"),
    ] {
        assert_eq!(userland(input(vec![bad]), &objects).unwrap_err().to_string(), expected);
    }
}

#[test]
fn links_and_deep_paths_do_not_multiply_without_limit() {
    let attribute = [("user.x".to_owned(), vec![0; 1000])].into();
    let file = Entry { xattrs: attribute, ..Entry::file(plumb_model::Digest::of(b""), 0, 0o644) };
    let mut linked = vec![Change::Set("/a".into(), file)];
    linked.extend((0..1000).map(|n| Change::Link(format!("/l{n}"), "/a".into())));
    let deep =
        (0..100).map(|n| Change::Set(format!("/{n}{}", "/x".repeat(200)), Entry::symlink("y"))).collect();
    for changes in [linked, deep] {
        let layers = [Changes { changes, skipped: Vec::new() }];
        assert!(merge_within(&layers, 100_000_000).is_ok());
        assert!(matches!(merge_within(&layers, 900_000), Err(LayerError::TooLarge { .. })));
    }
}
