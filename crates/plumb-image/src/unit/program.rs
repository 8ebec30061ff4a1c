//! Programs inside the image.

use crate::tree::{Kind, Tree};

/// Where bare program names are looked up, and the `PATH` of every service: systemd's own on Debian.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds `program` in the image: a bare name in [`PATH`], an absolute path at that place. Links are followed to check
/// that an executable file is there, but the path is returned as found, because some programs act by their name.
#[must_use]
pub fn find_program(tree: &Tree, program: &str) -> Option<String> {
    find_program_in(tree, program, PATH)
}

/// As [`find_program`], with the folders of another `PATH`.
#[must_use]
pub fn find_program_in(tree: &Tree, program: &str, folders: &str) -> Option<String> {
    let is_program = |path: &str| {
        let entry = tree.resolve(path).and_then(|at| tree.get(&at));
        entry.is_some_and(|entry| matches!(entry.kind, Kind::File { .. }) && entry.mode & 0o111 != 0)
    };
    if program.starts_with('/') {
        return is_program(program).then(|| program.to_owned());
    }
    if program.is_empty() || program.contains('/') {
        return None;
    }
    folders
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| is_program(path))
}

#[cfg(test)]
mod tests {
    use plumb_model::Digest;

    use super::*;
    use crate::tree::{Entry, Layer, Origin};

    #[test]
    fn programs_are_found_through_links() {
        let mut tree = Tree::default();
        let origin = || Origin { layer: Layer::Os, source: "test".into() };
        tree.insert("/bin", Entry::symlink("usr/bin"), origin());
        tree.insert("/usr/bin/dash", Entry::file(Digest::of(b""), 0, 0o755), origin());
        tree.insert("/usr/bin/sh", Entry::symlink("dash"), origin());
        tree.insert("/usr/bin/text", Entry::file(Digest::of(b""), 0, 0o644), origin());
        tree.close();
        assert_eq!(find_program(&tree, "sh").as_deref(), Some("/usr/bin/sh"));
        assert_eq!(find_program(&tree, "/bin/sh").as_deref(), Some("/bin/sh"));
        for missing in ["text", "/bin/text", "none", "", "../sh", "/usr/bin", "/"] {
            assert_eq!(find_program(&tree, missing), None, "{missing}");
        }
    }
}
