//! Maintainer scripts: the shell's grammar and its evaluation, which starts no process and keeps within its limits.

use plumb_image::fuzz;
use plumb_image::tree::{Entry, Tree};

use crate::object::{Memory, origin};

/// Bytes of all paths that one script may make.
const TREE_BYTES: usize = 64 << 20;

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let text = if text.starts_with("#!") { text.into_owned() } else { format!("#!/bin/sh\n{text}") };
    let objects = Memory::default();
    let evaluated = fuzz::script(&text, image(&objects), &objects).expect("memory does not fail");
    crate::path::check_tree(&evaluated.tree, TREE_BYTES);
    if let Some(report) = evaluated.report {
        assert!(report.unhandled.len() <= 61 && !report.unhandled.is_empty());
    }
}

/// A small image with what scripts ask for: links, configuration, a library of shell functions.
pub(crate) fn image(objects: &Memory) -> Tree {
    let mut tree = Tree::default();
    tree.insert("/bin", Entry::symlink("usr/bin"), origin());
    tree.insert("/usr/bin/up", Entry::symlink("../../../etc"), origin());
    tree.insert("/loop", Entry::symlink("/loop/x"), origin());
    objects.file(&mut tree, "/usr/bin/sh", 0o755, b"\x7fELF");
    objects.file(&mut tree, "/etc/x.conf", 0o644, b"a = 1\n");
    objects.file(
        &mut tree,
        "/usr/share/x/functions",
        0o644,
        b"f() { . /usr/share/x/functions; g; }\ng() { f; }\n",
    );
    tree.close();
    tree
}
