//! Pinned inputs, pinned bytes: whoever changes a byte of an image sees it here.
//!
//! The digests belong to [`FORMAT`](plumb_model::image::Image) of the image manifest. A change that is meant changes them
//! in the same commit; one that an older Plumb could not read or boot also changes that number. `UPDATE_EXPECT=1 cargo
//! test -p plumb-image golden` writes the new ones.

use std::io::Cursor;

use expect_test::{Expect, expect};
use plumb_model::image::{Image, ImagePackage, Part as ImagePart};
use plumb_model::{Digest, Document as _};

use crate::assemble::{AppFile, AssembleInput, PackageInput, assemble};
use crate::deb::{Limits, PackageContent, unpack};
use crate::fixture::Folder;
use crate::image::build_root;
use crate::initramfs;
use crate::inventory::{Inventory, ModuleEntry};
use crate::module::Module;
use crate::tree::{Entry, Kind, Layer, Objects as _, Origin, Tree};

/// 2026-01-01.
const EPOCH_S: u64 = 1_767_225_600;

fn tarball(entries: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_mode(*mode);
        if let Some(target) = text.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        } else if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, path, &[][..]).unwrap();
        } else {
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// A package file as dpkg-deb makes it, uncompressed: compressors may change their bytes, and only what is inside counts.
fn package(objects: &Folder, control: &str, postinst: &str, files: &[(&str, u32, &str)]) -> PackageContent {
    let mut members = vec![("control", 0o644, control)];
    if !postinst.is_empty() {
        members.push(("postinst", 0o755, postinst));
    }
    let mut deb = b"!<arch>\n".to_vec();
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tarball(&members)),
        ("data.tar", tarball(files)),
    ] {
        let head = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len());
        deb.extend_from_slice(head.as_bytes());
        deb.extend_from_slice(&bytes);
        deb.resize(deb.len().next_multiple_of(2), b'\n');
    }
    unpack(Cursor::new(deb), &Limits::default(), objects).unwrap()
}

fn pinned(what: &str, digest: &str, expected: &Expect) {
    expected.assert_eq(&format!("{what} {digest}"));
}

fn origin(layer: Layer, source: &str) -> Origin {
    Origin { layer, source: source.to_owned() }
}

/// One entry of every kind, sizes around the borders of a block, attributes, hard links, a directory of two blocks.
fn every_form(objects: &Folder) -> Tree {
    let mut tree = Tree::default();
    for size in [0_usize, 1, 4000, 4095, 4096, 4097, 12_288, 70_000] {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
        objects.file(&mut tree, &format!("/size/{size}"), 0o644, &bytes);
    }
    for number in 0..300 {
        objects.file(&mut tree, &format!("/many/a-name-of-some-length-{number:04}"), 0o600, b"same");
    }
    let entry = |text: &str| -> Entry {
        let (digest, size) = objects.put(&mut text.as_bytes()).unwrap();
        Entry::file(digest, size, 0o755)
    };
    let linked = Entry { link_group: Some(3), ..entry("one file") };
    for name in ["/links/a", "/links/b"] {
        tree.insert(name, linked.clone(), origin(Layer::Os, "x"));
    }
    let mut ping = entry("ping");
    ping.xattrs.insert(
        "security.capability".into(),
        vec![1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    tree.insert("/ping", Entry { mode: 0o4750, uid: 70_000, gid: 33, ..ping }, origin(Layer::Os, "x"));
    tree.insert("/link", Entry::symlink("size/1"), origin(Layer::Os, "x"));
    tree.insert("/long", Entry::symlink("x/".repeat(2000)), origin(Layer::Os, "x"));
    tree.insert("/tmp", Entry { mode: 0o1777, ..Entry::directory(0o755) }, origin(Layer::Os, "x"));
    tree.close();
    tree
}

#[test]
fn a_tree_becomes_these_bytes() {
    assert_eq!(Image::FORMAT, 1);
    let objects = Folder::new();
    let folder = tempfile::tempdir().unwrap();
    let (root, disk) =
        build_root(&every_form(&objects), &objects, EPOCH_S, &folder.path().join("root.img")).unwrap();
    pinned(
        "root",
        &root.digest.to_string(),
        &expect!["root sha256:1ded7915e8bc31854f27df2f5da89f5a0735ce32c02c3bd5b693dd1d39700c5a"],
    );
    pinned(
        "root hash",
        &disk.root_hash,
        &expect!["root hash d8335ca553ab9f499f8cccc972e2bf49b2ab9d911e3ed24313373d90fc42815b"],
    );
}

#[test]
fn modules_become_this_initramfs() {
    let module =
        |name: &str, bytes: &[u8]| Module { name: name.into(), bytes: bytes.to_vec(), needed_by: None };
    let archive = initramfs::build(b"init", &[module("virtio", b"v"), module("erofs", b"efs")]).unwrap();
    pinned(
        "initramfs",
        &Digest::of(&archive).to_string(),
        &expect!["initramfs sha256:3f7e6511b0383ddac014bd25c252f36381bd80d8ee92bf2032ab99091bf628b3"],
    );
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "every path of the image stands here, so that a difference says what"
)]
fn packages_become_this_image() {
    let objects = Folder::new();
    let contents = [
        (
            "libtiny",
            package(
                &objects,
                "Package: libtiny\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: x\n",
                "",
                &[
                    ("./usr/", 0o755, ""),
                    ("./usr/lib/", 0o755, ""),
                    ("./usr/lib/libtiny.so.1.0", 0o644, "not ELF"),
                    ("./usr/lib/libtiny.so.1", 0o777, "->libtiny.so.1.0"),
                    ("./usr/share/doc/libtiny/copyright", 0o644, "dropped"),
                ],
            ),
        ),
        (
            "tiny",
            package(
                &objects,
                "Package: tiny\nVersion: 1:2.0-1\nArchitecture: all\nDepends: libtiny\nMaintainer: A <a@b.c>\n\
                 Description: x\n",
                "#!/bin/sh\nset -e\nadduser --system --group --home /var/lib/tiny tiny\n\
                 install -d -o tiny -g tiny -m 0750 /var/lib/tiny\n",
                &[
                    ("./etc/tiny.conf", 0o640, "port = 80\n"),
                    ("./usr/bin/tiny", 0o755, "#!/bin/sh\n"),
                    ("./bin/old", 0o755, "merged\n"),
                ],
            ),
        ),
    ];
    let layer = |name: &str| if name == "tiny" { Layer::Middleware } else { Layer::Os };
    let packages = contents.iter().map(|(name, content)| PackageInput {
        name,
        version: "1",
        architecture: "all",
        layer: layer(name),
        content,
    });
    let (digest, size) = objects.put(&mut &b"<h1>hello</h1>\n"[..]).unwrap();
    let page = AppFile {
        path: "/srv/page".into(),
        digest,
        size,
        mode: 0o644,
        user: Some("tiny".into()),
        group: None,
    };
    let input = AssembleInput {
        packages: packages.collect(),
        app_files: vec![page],
        suite: "bookworm".into(),
        mounts: vec!["/var/lib/data".into()],
        ..AssembleInput::default()
    };
    let made = assemble(&input, &objects).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (root, disk) = build_root(&made.tree, &objects, EPOCH_S, &folder.path().join("root.img")).unwrap();
    let module = Module { name: "erofs".into(), bytes: b"efs".to_vec(), needed_by: None };
    let inventory = Inventory {
        format: Inventory::FORMAT,
        kernel_packed_bytes: 1,
        init_bytes: 4,
        modules: vec![ModuleEntry::of(&module)],
        dropped: made.dropped,
        entries: made.tree.entries,
    };
    // The tree first: where it differs, it says what.
    let mut listed = String::new();
    for (path, (entry, origin)) in &inventory.entries {
        let what = match &entry.kind {
            Kind::Directory => String::new(),
            Kind::File { digest, size } => format!(" {size} {}", digest.short()),
            Kind::Symlink { target } => format!(" -> {target}"),
        };
        listed +=
            &format!("{:04o} {}:{} {path}{what} ({})\n", entry.mode, entry.uid, entry.gid, origin.source);
    }
    expect![[r#"
        0777 0:0 /bin -> usr/bin (rule:skeleton)
        0755 0:0 /dev (rule:skeleton)
        0755 0:0 /etc (tiny)
        0644 0:0 /etc/debian_version 3 a1fb50e6c86f (rule:skeleton)
        0644 0:0 /etc/environment 0 e3b0c44298fc (rule:skeleton)
        0644 0:0 /etc/fstab 0 e3b0c44298fc (rule:skeleton)
        0644 0:0 /etc/gai.conf 0 e3b0c44298fc (rule:skeleton)
        0644 0:0 /etc/group 446 2d94dd388ace (rule:accounts)
        0644 0:0 /etc/host.conf 9 380f5fe21d75 (rule:skeleton)
        0777 0:0 /etc/hostname -> /run/plumb/hostname (rule:skeleton)
        0777 0:0 /etc/hosts -> /run/plumb/hosts (rule:skeleton)
        0644 0:0 /etc/ld.so.cache 48 f88a25521ebd (rule:linker)
        0644 0:0 /etc/ld.so.conf 34 d4b198c46341 (rule:skeleton)
        0777 0:0 /etc/machine-id -> /run/plumb/machine-id (rule:skeleton)
        0777 0:0 /etc/mtab -> /proc/self/mounts (rule:skeleton)
        0644 0:0 /etc/networks 60 5d4e51c49183 (rule:skeleton)
        0644 0:0 /etc/nsswitch.conf 132 d54fb53b0447 (rule:skeleton)
        0777 0:0 /etc/os-release -> ../usr/lib/os-release (rule:skeleton)
        0644 0:0 /etc/passwd 885 672c78adba27 (rule:accounts)
        0777 0:0 /etc/resolv.conf -> /run/plumb/resolv.conf (rule:skeleton)
        0640 0:42 /etc/shadow 398 39740002f0a4 (rule:accounts)
        0640 0:0 /etc/tiny.conf 10 01ea9bc79534 (tiny)
        0755 0:0 /home (rule:skeleton)
        0777 0:0 /lib -> usr/lib (rule:skeleton)
        0777 0:0 /lib64 -> usr/lib64 (rule:skeleton)
        0755 0:0 /mnt (rule:skeleton)
        0755 0:0 /opt (rule:skeleton)
        0555 0:0 /proc (rule:skeleton)
        0700 0:0 /root (rule:skeleton)
        0755 0:0 /run (rule:skeleton)
        0777 0:0 /sbin -> usr/sbin (rule:skeleton)
        0755 0:0 /srv (rule:skeleton)
        0644 101:0 /srv/page 15 186ea20da384 (app)
        0555 0:0 /sys (rule:skeleton)
        1777 0:0 /tmp (rule:skeleton)
        0755 0:0 /usr (rule:skeleton)
        0755 0:0 /usr/bin (rule:skeleton)
        0755 0:0 /usr/bin/old 7 72d8264b97be (tiny)
        0755 0:0 /usr/bin/tiny 10 a8076d3d28d2 (tiny)
        0755 0:0 /usr/lib (rule:skeleton)
        0777 0:0 /usr/lib/libtiny.so.1 -> libtiny.so.1.0 (libtiny)
        0644 0:0 /usr/lib/libtiny.so.1.0 7 17c8fb51ee72 (libtiny)
        0644 0:0 /usr/lib/os-release 178 1aa0b4134e62 (rule:skeleton)
        0755 0:0 /usr/lib64 (rule:skeleton)
        0755 0:0 /usr/local (rule:skeleton)
        0755 0:0 /usr/local/bin (rule:skeleton)
        0755 0:0 /usr/local/lib (rule:skeleton)
        0755 0:0 /usr/sbin (rule:skeleton)
        0755 0:0 /usr/share (libtiny)
        0755 0:0 /var (rule:skeleton)
        0755 0:0 /var/backups (rule:skeleton)
        0755 0:0 /var/cache (rule:skeleton)
        0755 0:0 /var/lib (rule:skeleton)
        0755 0:0 /var/lib/data (rule:volumes)
        0755 0:0 /var/lib/dpkg (rule:package-list)
        0644 0:0 /var/lib/dpkg/available 0 e3b0c44298fc (rule:package-list)
        0755 0:0 /var/lib/dpkg/info (rule:package-list)
        0644 0:0 /var/lib/dpkg/info/format 2 4355a46b19d3 (rule:package-list)
        0644 0:0 /var/lib/dpkg/info/libtiny.list 60 c2b030b58db6 (rule:package-list)
        0644 0:0 /var/lib/dpkg/info/tiny.list 50 a5518937f84d (rule:package-list)
        0644 0:0 /var/lib/dpkg/status 246 63861f0b4fd3 (rule:package-list)
        0750 101:101 /var/lib/tiny (rule:accounts)
        0777 0:0 /var/lock -> /run/lock (rule:skeleton)
        0755 0:0 /var/log (rule:skeleton)
        0777 0:0 /var/run -> /run (rule:skeleton)
        0755 0:0 /var/spool (rule:skeleton)
        1777 0:0 /var/tmp (rule:skeleton)
    "#]]
    .assert_eq(&listed);
    pinned(
        "root",
        &root.digest.to_string(),
        &expect!["root sha256:10844a9da8b200add612f180bf9be07adb389b0fb7f1e8ab36046ec3bfa82a1d"],
    );
    pinned(
        "root hash",
        &disk.root_hash,
        &expect!["root hash 009d96d2b472594f0ff42cff328d60b177e4853fcc6dec602657fabaaea5948a"],
    );
    let bytes = inventory.to_bytes();
    pinned(
        "inventory",
        &Digest::of(&bytes).to_string(),
        &expect!["inventory sha256:055bcc88991704c7c7848c1c12cc14906e6652eae59e2170d7a68d4f3b6cbab1"],
    );
    let part = |digest, size| ImagePart { digest, size };
    let image = Image {
        format: Image::FORMAT,
        app: "golden".parse().unwrap(),
        machine: "web".parse().unwrap(),
        recipe: Digest::of(b"recipe"),
        kernel: part(Digest::of(b"kernel"), 6),
        kernel_release: "6.1.0-1".into(),
        initrd: part(Digest::of(b"initrd"), 6),
        root: part(root.digest, root.size_bytes),
        root_hash: disk.root_hash.clone(),
        cmdline: "quiet".into(),
        packages: [(
            "tiny".parse().unwrap(),
            ImagePackage { version: "1:2.0-1".parse().unwrap(), layer: "middleware".into() },
        )]
        .into(),
        layers: [].into(),
        without: ["perl".parse().unwrap()].into(),
        left_out: ["ucf".parse().unwrap()].into(),
        inventory: Some(part(Digest::of(&bytes), bytes.len() as u64)),
        scripts: None,
    };
    pinned(
        "manifest",
        &image.digest().to_string(),
        &expect!["manifest sha256:1c8edd26473129022a651cfa2030a5ef19a2624430ca429f8ab9d146b51016f1"],
    );
}
