//! Against erofs-utils (Debian package `erofs-utils`), which read what we write, and against ourselves.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use expect_test::expect;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::fixture::{Folder, origin};
use crate::tree::{Entry, Kind, Tree};

const EPOCH_S: u64 = 1_700_000_000;

fn image(tree: &Tree, objects: &Folder) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("root.img");
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let layout = layout(tree, EPOCH_S).unwrap();
    write(&layout, objects, &file).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), layout.blocks() * BLOCK_BYTES);
    (folder, path)
}

fn tool(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(format!("/usr/bin/{program}")).args(arguments).output().unwrap_or_else(|error| {
            panic!("`{program}` is needed by this test: install `erofs-utils` ({error})")
        });
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Extracts the image with fsck.erofs and compares every entry with the tree.
fn check(tree: &Tree, objects: &Folder) {
    let (folder, path) = image(tree, objects);
    let extracted = folder.path().join("extracted");
    let argument = format!("--extract={}", extracted.display());
    let text = tool("fsck.erofs", &[&argument, "--preserve-perms", path.to_str().unwrap()]);
    assert!(!text.contains('<'), "{text}");

    let mut names = Vec::new();
    walk(&extracted, "", &mut names);
    names.sort();
    assert!(names.iter().eq(tree.entries.keys()), "other names than in the tree");
    for (name, (entry, _)) in &tree.entries {
        let found = extracted.join(&name[1..]);
        let metadata = fs::symlink_metadata(&found).unwrap();
        match &entry.kind {
            Kind::Directory => assert!(metadata.is_dir(), "{name}"),
            Kind::Symlink { target } => assert_eq!(fs::read_link(&found).unwrap().to_str(), Some(&**target)),
            Kind::File { digest, size } => {
                assert_eq!(metadata.len(), *size, "{name}");
                assert_eq!(plumb_model::Digest::of(&fs::read(&found).unwrap()), *digest, "{name}");
            }
        }
        if !metadata.is_symlink() {
            // fsck.erofs sets the owner after the mode, which clears set-uid and set-gid.
            assert_eq!(metadata.permissions().mode() & 0o1777, entry.mode & 0o1777, "{name}");
            assert_eq!(metadata.mtime(), EPOCH_S as i64, "{name}");
        }
    }
}

fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &name, names);
        }
        names.push(name);
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + (i >> 8) * 13 + length) as u8).collect()
}

#[test]
fn empty_tree() {
    check(&Tree::default(), &Folder::new());
}

#[test]
fn sizes_around_block_borders() {
    let (mut tree, objects) = (Tree::default(), Folder::new());
    for length in
        [0, 1, 31, 32, 4031, 4032, 4033, 4063, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 8193, 300_000]
    {
        objects.file(&mut tree, &format!("/files/{length}"), 0o644, &bytes(length));
    }
    tree.insert("/empty", Entry::directory(0o1777), origin());
    objects.file(&mut tree, "/suid", 0o4755, b"x");
    objects.file(&mut tree, "/secret", 0o400, &[0; 5000]);
    tree.close();
    check(&tree, &objects);
}

#[test]
fn large_directories_long_names_and_deep_paths() {
    let (mut tree, objects) = (Tree::default(), Folder::new());
    for i in 0..5000 {
        objects.file(&mut tree, &format!("/many/file-{i}"), 0o644, if i % 2 == 0 { b"even" } else { b"odd" });
    }
    for i in 0..40 {
        objects.file(&mut tree, &format!("/long/{i:0>255}"), 0o644, b"");
        tree.insert(format!("/long/-{i:0>254}"), Entry::symlink("t".repeat(100 * i + 1)), origin());
    }
    objects.file(&mut tree, &format!("/deep{}", "/d".repeat(200)), 0o644, b"down");
    objects.file(&mut tree, "/unicode/Ünïcödé-名前-🦀", 0o644, b"text");
    for name in ["!", "+", "-", "..a", ".hidden", "...", "~", " "] {
        objects.file(&mut tree, &format!("/odd/{name}"), 0o644, name.as_bytes());
    }
    tree.close();
    check(&tree, &objects);
}

#[test]
fn symlink_lengths() {
    let (mut tree, objects) = (Tree::default(), Folder::new());
    for length in [1, 4000, 4063, 4064, 4065, 4095] {
        tree.insert(format!("/link-{length}"), Entry::symlink("x".repeat(length)), origin());
    }
    check(&tree, &objects);
}

/// What dump.erofs says of one path: `Uid`, `Gid`, `Links`, `Xattr size` and others, by name.
fn dump(path: &Path, name: &str) -> BTreeMap<String, String> {
    let text = tool("dump.erofs", &[&format!("--path={name}"), path.to_str().unwrap()]);
    let fields = text.lines().flat_map(|line| line.split("  ")).filter_map(|field| field.split_once(':'));
    fields.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn owners_links_and_shared_contents() {
    let (mut tree, objects) = (Tree::default(), Folder::new());
    for (path, uid, gid) in [("/a", 33, 4), ("/b", 100_000, 4), ("/c", 33, 70_000)] {
        objects.file(&mut tree, path, 0o640, &bytes(10_000));
        let (entry, _) = tree.entries.get_mut(path).unwrap();
        (entry.uid, entry.gid) = (uid, gid);
    }
    objects.file(&mut tree, "/su", 0o6755, b"");
    objects.file(&mut tree, "/x/one", 0o644, &bytes(9000));
    tree.entries.get_mut("/x/one").unwrap().0.link_group = Some(7);
    let linked = tree.entries["/x/one"].clone();
    tree.entries.insert("/y/two".into(), linked.clone());
    tree.entries.insert("/y/three".into(), linked);
    tree.close();
    check(&tree, &objects);

    let (_folder, path) = image(&tree, &objects);
    for (name, uid, gid) in
        [("/a", "33", "4"), ("/b", "100000", "4"), ("/c", "33", "70000"), ("/x", "0", "0")]
    {
        let fields = dump(&path, name);
        assert!(fields["Uid"].starts_with(uid) && fields["Gid"].starts_with(gid), "{name}: {fields:?}");
    }
    // dump.erofs shows no more than the lower nine bits.
    let at = dump(&path, "/su")["NID"].parse::<usize>().unwrap() * 32;
    assert_eq!(fs::read(&path).unwrap()[at + 4..at + 6], 0o106_755u16.to_le_bytes());
    let nid = |name: &str| dump(&path, name)["NID"].clone();
    assert_eq!(nid("/x/one"), nid("/y/two"));
    assert_eq!(nid("/x/one"), nid("/y/three"));
    assert!(dump(&path, "/x/one")["Links"].starts_with('3'));
    assert!(dump(&path, "/")["Links"].starts_with('4'));
    // /a, /b and /c share two full blocks, the links another two; superblock, inodes and tails before them.
    let extents = layout(&tree, EPOCH_S).unwrap().extents();
    assert_eq!(extents.iter().filter(|extent| extent.object_offset == 0).count(), 2);
    assert_eq!(extents.iter().filter(|extent| extent.object_offset > 0).count(), 4);
}

/// Reads the attributes of a root entry as `fs/erofs/xattr.c` does; fsck.erofs 1.5 does not extract them.
fn read_xattrs(image: &[u8], nid: u64) -> BTreeMap<(u8, String), Vec<u8>> {
    let half = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let word = |at: usize| half(at) | half(at + 2) << 16;
    let at = nid as usize * 32;
    let body = at + if half(at) & 1 == 1 { 64 } else { 32 };
    let mut found = BTreeMap::new();
    let mut entry = |at: usize| {
        let (name, value) = (usize::from(image[at]), half(at + 2));
        let name_end = at + 4 + name;
        let text = String::from_utf8(image[at + 4..name_end].to_vec()).unwrap();
        found.insert((image[at + 1], text), image[name_end..name_end + value].to_vec());
        (name_end + value).next_multiple_of(4)
    };
    if half(at + 2) == 0 {
        return found;
    }
    let end = body + 12 + 4 * (half(at + 2) - 1);
    let shared = usize::from(image[body + 4]);
    for index in 0..shared {
        entry(word(1024 + 44) * 4096 + 4 * word(body + 12 + 4 * index));
    }
    let mut inline = body + 12 + 4 * shared;
    while inline < end {
        inline = entry(inline);
    }
    found
}

#[test]
fn xattrs_inline_and_shared() {
    let (mut tree, objects) = (Tree::default(), Folder::new());
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |path: &str, length: usize, xattrs: &[(&str, &[u8])]| {
        objects.file(&mut tree, path, 0o755, &bytes(length));
        let (entry, _) = tree.entries.get_mut(path).unwrap();
        entry.xattrs = xattrs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    };
    put("/ping", 4000, &[("security.capability", &capability)]);
    put("/arping", 100, &[("security.capability", &capability), ("user.note", b"mine")]);
    put("/large", 5000, &[("user.large", &bytes(9001)), ("trusted.empty", b"")]);
    put("/acl", 4096, &[("system.posix_acl_access", &bytes(28))]);
    put("/plain", 5000, &[]);
    check(&tree, &objects);

    let (_folder, path) = image(&tree, &objects);
    let image = fs::read(&path).unwrap();
    let indices =
        BTreeMap::from([("security.", 6), ("user.", 1), ("trusted.", 4), ("system.posix_acl_access", 2)]);
    for (name, (entry, _)) in &tree.entries {
        let found = read_xattrs(&image, dump(&path, name)["NID"].parse().unwrap());
        let wanted: BTreeMap<_, _> = entry
            .xattrs
            .iter()
            .map(|(full, value)| {
                let (prefix, index) = indices.iter().find(|(prefix, _)| full.starts_with(**prefix)).unwrap();
                ((*index, full[prefix.len()..].to_owned()), value.clone())
            })
            .collect();
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn refusals() {
    let check = |path: &str, entry: Entry, wanted: &str| {
        let mut tree = Tree::default();
        tree.insert("/file", Entry::symlink("x"), origin());
        tree.insert(path, entry, origin());
        let message = layout(&tree, 0).unwrap_err().to_string();
        assert!(message.contains(wanted), "{message}");
    };
    check("/missing/x", Entry::directory(0o755), "`/missing/x` is not in a directory");
    check("/file/x", Entry::directory(0o755), "`/file/x` is not in a directory");
    check("x", Entry::directory(0o755), "not absolute");
    check("/..", Entry::directory(0o755), "not normalized");
    check("/", Entry::directory(0o755), "not normalized");
    check(&format!("/{}", "n".repeat(256)), Entry::directory(0o755), "longer than 255");
    check("/a\0b", Entry::directory(0o755), "zero byte");
    check("/a", Entry::directory(0o10_755), "permission bits");
    check("/a", Entry::symlink(""), "target");
    check("/a", Entry::symlink("x".repeat(4096)), "target");
    let xattr = |name: &str, length| {
        let xattrs = BTreeMap::from([(name.to_owned(), vec![0; length])]);
        Entry { xattrs, ..Entry::directory(0o755) }
    };
    check("/a", xattr("btrfs.x", 1), "name space");
    check("/a", xattr("user.x", 65_536), "longer than 65535");
    check("/a", xattr(&format!("user.{}", "x".repeat(256)), 1), "too long");
    let huge = Entry::file(Digest::of(b"huge"), 1 << 60, 0o644);
    check("/a", huge, "more than EROFS can number");
}

#[test]
fn contents_must_be_what_the_tree_says() {
    let (mut tree, objects) = (Tree::default(), Folder::new());
    objects.file(&mut tree, "/a", 0o644, b"four");
    let out = tempfile::tempfile().unwrap();
    if let Kind::File { size, .. } = &mut tree.entries.get_mut("/a").unwrap().0.kind {
        *size = 5;
    }
    let error = write(&layout(&tree, 0).unwrap(), &objects, &out).unwrap_err();
    assert!(error.to_string().contains("is 4 bytes long, but the tree says 5"), "{error}");
    tree.insert("/a", Entry::file(Digest::of(b"other"), 5, 0o644), origin());
    let error = write(&layout(&tree, 0).unwrap(), &objects, &out).unwrap_err();
    assert!(matches!(error, ErofsError::Object { .. }), "{error}");
}

/// A fixed tree with everything the format has. If this digest changes, every image of every user changes.
#[test]
fn golden_digest_and_thread_counts() {
    let (mut tree, objects) = (Tree::default(), Folder::new());
    for length in [0, 10, 4096, 10_000, 100_000] {
        objects.file(&mut tree, &format!("/usr/share/data/{length}"), 0o644, &bytes(length));
    }
    for i in 0..300 {
        objects.file(&mut tree, &format!("/usr/lib/many/{i}"), 0o755, &bytes(i * 30));
    }
    tree.insert("/lib", Entry::symlink("usr/lib"), origin());
    for path in ["/usr/share/data/10", "/usr/share/data/10000"] {
        let (entry, _) = tree.entries.get_mut(path).unwrap();
        entry.xattrs.insert("user.shared".into(), b"value".to_vec());
        entry.uid = 1 << 20;
    }
    tree.close();
    check(&tree, &objects);
    let digest = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (_folder, path) = pool.install(|| image(&tree, &objects));
        Digest::of(&fs::read(path).unwrap()).to_string()
    };
    expect!["sha256:dcad54a6088f3c36ba9e6e6eb27f8be92df1b1bba9f0b0c414c599b87d70a47b"].assert_eq(&digest(1));
    assert_eq!(digest(1), digest(4));
}

fn any_tree() -> impl Strategy<Value = Vec<(Vec<String>, u32, u8, usize)>> {
    let name = proptest::string::string_regex("[a-c.~-]{1,3}|[ab]{200,255}|ü").unwrap();
    let path = proptest::collection::vec(name, 1..5);
    proptest::collection::vec((path, 0u32..0o10000, any::<u8>(), 0usize..20_000), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn random_trees_survive(parts in any_tree()) {
        let (mut tree, objects) = (Tree::default(), Folder::new());
        for (path, mode, kind, length) in parts {
            if path.iter().any(|name| name == "." || name == "..") {
                continue;
            }
            let path = format!("/{}", path.join("/"));
            match kind % 3 {
                // 0o700: the test must be able to look into what was extracted when it does not run as root.
                0 => tree.insert(&path, Entry::directory(mode | 0o700), origin()),
                1 => tree.insert(&path, Entry::symlink("l".repeat(length % 4095 + 1)), origin()),
                _ => objects.file(&mut tree, &path, mode | 0o400, &bytes(length)),
            }
        }
        // What lies below a file or a link is no tree.
        let paths: Vec<String> = tree.entries.keys().cloned().collect();
        for path in paths {
            let blocked = path.match_indices('/').skip(1).any(|(at, _)| {
                tree.get(&path[..at]).is_some_and(|entry| entry.kind != Kind::Directory)
            });
            if blocked {
                tree.entries.remove(&path);
            }
        }
        tree.close();
        check(&tree, &objects);
    }
}
