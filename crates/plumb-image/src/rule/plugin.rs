//! Plugins that cannot be loaded are not in an image.
//!
//! A plugin whose library was left out (by the definition's `without`, or because only a recommended package has it) fails
//! when its program loads it, in the middle of its work: PostgreSQL ends a query with an error if it finds its JIT
//! compiler's plugin and not the compiler's library, and does without if there is no plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::drop::Dropped;
use crate::assemble::Assembled;
use crate::closure::{Missing, Severity, What};
use crate::tree::{Entry, Kind, Objects};

/// Where the package list names the paths of each package.
const LISTS: &str = "/var/lib/dpkg/info/";

/// What is of use only with a plugin, by the end of the plugin's path: a directory beside it. PostgreSQL's JIT compiler
/// inlines functions from their bit code.
const COMPANIONS: [(&str, &[&str]); 1] = [("/llvmjit.so", &["/bitcode", "/llvmjit_types.bc"])];

/// Longest list of paths that is changed; the longest of Debian 12 has 10 MB.
const LIST_BYTES: u64 = 64 << 20;

/// Takes the plugins out of the tree that `missing` names; returns those it took, to be told.
///
/// # Errors
/// What reading or keeping the package list says.
pub fn apply(
    assembled: &mut Assembled,
    missing: &[Missing],
    objects: &dyn Objects,
) -> io::Result<Vec<Missing>> {
    let is_plugin = |one: &&Missing| one.severity == Severity::Notice && one.kind == What::Library;
    let broken: Vec<Missing> = missing.iter().filter(is_plugin).cloned().collect();
    let gone: BTreeSet<&str> = broken.iter().map(|one| one.needed_by.as_str()).collect();
    if gone.is_empty() {
        return Ok(broken);
    }
    let mut paths: BTreeSet<String> = gone.iter().map(|path| (*path).to_owned()).collect();
    // Links that lead to nothing but them.
    for (path, (entry, _)) in &assembled.tree.entries {
        if matches!(entry.kind, Kind::Symlink { .. })
            && assembled.tree.resolve(path).is_some_and(|real| gone.contains(real.as_str()))
        {
            paths.insert(path.clone());
        }
    }
    for (end, companions) in COMPANIONS {
        for folder in gone.iter().filter_map(|path| path.strip_suffix(end)) {
            let is_beside = |path: &&String| {
                companions.iter().any(|companion| {
                    let rest = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix(companion));
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
            };
            paths.extend(assembled.tree.entries.keys().filter(is_beside).cloned());
        }
    }
    let dropped = assembled.dropped.entry("plugin".to_owned()).or_insert_with(|| Dropped {
        reason: "a plugin whose library is not in the image cannot be loaded".to_owned(),
        ..Dropped::default()
    });
    let mut lists: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for path in &paths {
        let Some((entry, origin)) = assembled.tree.entries.remove(path) else { continue };
        dropped.files += u64::from(entry.kind != Kind::Directory);
        if let Kind::File { size, .. } = entry.kind {
            dropped.bytes += size;
        }
        lists.entry(origin.source).or_default().insert(path);
    }
    for (package, paths) in lists {
        shorten(assembled, &package, &paths, objects)?;
    }
    Ok(broken)
}

/// The package list says what is in the image.
fn shorten(
    assembled: &mut Assembled,
    package: &str,
    gone: &BTreeSet<&str>,
    objects: &dyn Objects,
) -> io::Result<()> {
    let names = |path: &str| {
        let name = path.strip_prefix(LISTS).and_then(|name| name.strip_suffix(".list"));
        name.and_then(|name| name.split(':').next()).is_some_and(|name| name == package)
    };
    let Some((entry, _)) =
        assembled.tree.entries.iter_mut().find(|(path, _)| names(path)).map(|(_, value)| value)
    else {
        return Ok(());
    };
    let Kind::File { digest, .. } = &entry.kind else { return Ok(()) };
    let text = String::from_utf8_lossy(&objects.read(digest, LIST_BYTES)?).into_owned();
    let kept: String =
        text.lines().filter(|line| !gone.contains(line)).flat_map(|line| [line, "\n"]).collect();
    let (digest, size) = objects.put(&mut kept.as_bytes())?;
    *entry = Entry { kind: Kind::File { digest, size }, ..entry.clone() };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::assemble::{AssembleInput, PackageInput, assemble};
    use crate::deb::PackageContent;
    use crate::fixture::Folder;
    use crate::tree::Layer;

    #[test]
    fn the_plugin_goes_with_its_links_and_its_line() {
        let objects = Folder::new();
        let mut content =
            PackageContent { control: "Package: db\nVersion: 1\n".into(), ..PackageContent::default() };
        let (digest, size) = objects.put(&mut &b"plugin"[..]).unwrap();
        let plugin = "/usr/lib/db/lib/llvmjit.so";
        for path in [plugin, "/usr/lib/db/lib/other.so", "/usr/lib/db/lib/bitcode/x.bc"] {
            content.entries.insert(path.into(), Entry::file(digest, size, 0o644));
        }
        content.entries.insert("/usr/lib/db/lib/jit".into(), Entry::symlink("llvmjit.so"));
        let input = AssembleInput {
            packages: vec![PackageInput {
                name: "db",
                version: "1",
                architecture: "amd64",
                layer: Layer::Os,
                content: &content,
            }],
            suite: "bookworm".into(),
            ..AssembleInput::default()
        };
        let mut made = assemble(&input, &objects).unwrap();
        let missing = |kind, severity, by: &str| Missing {
            severity,
            kind,
            needed: "libllvm.so".into(),
            needed_by: by.into(),
            source: "db".into(),
            hint: None,
        };
        let told = [
            missing(What::Library, Severity::Notice, plugin),
            missing(What::ScriptInterpreter, Severity::Notice, "/usr/lib/db/lib/other.so"),
            missing(What::Library, Severity::Error, "/usr/lib/db/lib/other.so"),
        ];
        assert_eq!(apply(&mut made, &told, &objects).unwrap().len(), 1);
        assert!(made.tree.get("/usr/lib/db/lib/bitcode").is_none());
        assert!(made.tree.get(plugin).is_none() && made.tree.get("/usr/lib/db/lib/jit").is_none());
        assert!(made.tree.get("/usr/lib/db/lib/other.so").is_some());
        let Kind::File { digest, .. } = made.tree.get("/var/lib/dpkg/info/db.list").unwrap().kind else {
            panic!("it is a file")
        };
        let list = String::from_utf8(objects.read(&digest, 1 << 20).unwrap()).unwrap();
        assert!(list.contains("/usr/lib/db/lib/other.so\n") && !list.contains("jit"), "{list}");
        assert_eq!(made.dropped["plugin"].files, 3);
        let nothing: BTreeMap<String, Dropped> = made.dropped.clone();
        assert!(apply(&mut made, &told[1..], &objects).unwrap().is_empty());
        assert_eq!(made.dropped, nothing);
    }
}
