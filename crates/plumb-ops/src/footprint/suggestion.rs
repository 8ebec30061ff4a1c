//! What could go: packages that only a dependency asks for and no file needs.

use std::collections::{BTreeMap, BTreeSet};

use plumb_debian::PackageName;
use plumb_image::footprint::Share;
use plumb_image::tree::{Entry, Origin};
use plumb_image::usage::{How, Use};
use plumb_resolve::{Dependencies, Requirer, RootRequest};
use serde::Serialize;

/// Most files listed as evidence; the first ones say what kind of user it is.
const MOST_EVIDENCE: usize = 5;

/// Endings of modules that programs load by name.
const MODULES: [&str; 6] = [".py", ".pm", ".rb", ".php", ".js", ".jar"];

/// A package that the closure check would let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// What to write into `without`.
    pub package: String,
    /// What goes with it, because nothing else needs it.
    pub along: Vec<String>,
    /// Bytes of files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Who asks for it, and how.
    pub because: String,
    /// Plugins and scripts that could not be used any more.
    pub disables: Vec<String>,
    /// It holds modules of a script language, which programs load by name: nothing here tells whether they do.
    pub modules: bool,
    /// Files that have its name in them, and may use it.
    pub named_by: Vec<String>,
}

/// Everything a suggestion follows from.
pub(super) struct Evidence<'a> {
    pub(super) roots: &'a [RootRequest],
    pub(super) dependencies: &'a Dependencies,
    pub(super) entries: &'a BTreeMap<String, (Entry, Origin)>,
    pub(super) shares: &'a [Share],
    pub(super) uses: &'a [Use],
}

/// Packages that could go, largest gain first. A package that is asked for by name, or that a program cannot start
/// without, is none.
pub(super) fn suggestions(evidence: &Evidence<'_>) -> Vec<Suggestion> {
    let all = evidence.dependencies.reachable(evidence.roots, &BTreeSet::new());
    let shares: BTreeMap<&str, &Share> =
        evidence.shares.iter().map(|share| (share.name.as_str(), share)).collect();
    let source = |path: &str| evidence.entries.get(path).map_or("", |(_, origin)| origin.source.as_str());
    let uses: Vec<(&str, &str, &Use)> =
        evidence.uses.iter().map(|one| (source(&one.path), source(&one.by), one)).collect();
    let mut found = Vec::new();
    for name in &all {
        let requirers = evidence.dependencies.requirers(evidence.roots, name);
        if requirers.iter().any(|link| matches!(link.requirer, Requirer::Root(_))) {
            continue;
        }
        let left = evidence.dependencies.reachable(evidence.roots, &BTreeSet::from([name.clone()]));
        let gone: BTreeSet<&PackageName> = all.difference(&left).collect();
        let is_gone = |source: &str| gone.iter().any(|name| name.as_str() == source);
        let felt: Vec<&(&str, &str, &Use)> =
            uses.iter().filter(|(used, by, _)| is_gone(used) && !is_gone(by)).collect();
        if felt.iter().any(|(_, _, one)| one.how == How::Needs) {
            continue;
        }
        let by = |how| -> Vec<String> {
            let paths: BTreeSet<&String> =
                felt.iter().filter(|(_, _, one)| one.how == how).map(|(_, _, one)| &one.by).collect();
            paths.into_iter().take(MOST_EVIDENCE).cloned().collect()
        };
        let of = |count: fn(&Share) -> u64| {
            gone.iter().filter_map(|name| shares.get(name.as_str())).map(|s| count(s)).sum()
        };
        found.push(Suggestion {
            package: name.to_string(),
            along: gone.iter().filter(|other| **other != name).map(ToString::to_string).collect(),
            bytes: of(|share| share.bytes),
            files: of(|share| share.files),
            because: requirers
                .first()
                .map(|link| format!("`{}` depends on `{}`", link.requirer, link.relation))
                .unwrap_or_default(),
            disables: by(How::Plugin),
            modules: evidence.entries.iter().any(|(path, (_, origin))| {
                is_gone(&origin.source) && MODULES.iter().any(|ending| path.ends_with(ending))
            }),
            named_by: by(How::Names),
        });
    }
    found.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.package.cmp(&b.package)));
    found
}

#[cfg(test)]
mod tests {
    use plumb_image::tree::Layer;
    use plumb_model::Digest;

    use super::*;

    #[test]
    fn only_what_no_program_needs() {
        let status = "Package: web\nVersion: 1\nDepends: lib, ip, jit\n\nPackage: lib\nVersion: 1\n\n\
            Package: ip\nVersion: 1\nDepends: elf, lib\n\nPackage: elf\nVersion: 1\n\nPackage: jit\nVersion: 1\n";
        let dependencies = Dependencies::parse(status).expect("control data");
        let roots = [RootRequest { relation: "web".into(), asked_by: "middleware".into() }];
        let mut entries = BTreeMap::new();
        for (path, source) in [
            ("/usr/sbin/web", "web"),
            ("/usr/lib/plugin.so", "web"),
            ("/usr/lib/lib.so", "lib"),
            ("/usr/bin/ip", "ip"),
            ("/usr/lib/elf.so", "elf"),
            ("/usr/lib/jit.so", "jit"),
        ] {
            let origin = Origin { layer: Layer::Os, source: source.into() };
            entries.insert(path.to_owned(), (Entry::file(Digest::of(b""), 10, 0o755), origin));
        }
        let one = |path: &str, how, by: &str| Use { path: path.into(), how, by: by.into() };
        let uses = [
            one("/usr/lib/lib.so", How::Needs, "/usr/sbin/web"),
            one("/usr/lib/elf.so", How::Needs, "/usr/bin/ip"),
            one("/usr/bin/ip", How::Names, "/usr/sbin/web"),
            one("/usr/lib/jit.so", How::Plugin, "/usr/lib/plugin.so"),
        ];
        let share = |name: &str, bytes| Share { name: name.into(), bytes, files: 1 };
        let shares =
            [share("web", 10), share("lib", 10), share("ip", 10), share("elf", 20), share("jit", 90)];
        let evidence = Evidence {
            roots: &roots,
            dependencies: &dependencies,
            entries: &entries,
            shares: &shares,
            uses: &uses,
        };
        let found = suggestions(&evidence);
        let names: Vec<&str> = found.iter().map(|one| one.package.as_str()).collect();
        assert_eq!(names, ["jit", "ip"]);
        assert_eq!(found[0].disables, ["/usr/lib/plugin.so"]);
        assert_eq!((found[1].along.join(" "), found[1].bytes), ("elf".to_owned(), 30));
        assert_eq!(found[1].named_by, ["/usr/sbin/web"]);
        assert_eq!(found[1].because, "`web` depends on `ip`");
    }
}
