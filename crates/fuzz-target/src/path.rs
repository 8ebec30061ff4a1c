//! What a path of an image must look like, written a second time to judge those that were let through.

use plumb_image::tree::Tree;

/// Panics unless `path` is absolute and normal.
pub(crate) fn check(path: &str) {
    let inside = path.strip_prefix('/').unwrap_or_else(|| panic!("`{path}` is not absolute"));
    assert!(
        inside.split('/').all(|part| !matches!(part, "" | "." | "..")),
        "`{path}` is not normal, it may lead outside"
    );
    assert!(!path.contains('\0'), "`{path}` holds a NUL byte");
}

/// Panics unless all paths of the tree are good and they take no more than `limit_bytes`.
pub(crate) fn check_tree(tree: &Tree, limit_bytes: usize) {
    tree.entries.keys().for_each(|path| check(path));
    let bytes: usize = tree.entries.keys().map(String::len).sum();
    assert!(bytes <= limit_bytes, "{} entries take {bytes} bytes of paths", tree.entries.len());
}
