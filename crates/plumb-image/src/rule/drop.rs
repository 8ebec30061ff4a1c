//! What of a package never reaches an image, as data with reasons.

use std::collections::BTreeMap;

use plumb_model::definition::Init;
use serde::{Deserialize, Serialize};

use super::shell::pattern;
use crate::tree::{Entry, Kind, Origin, Tree};

/// One rule: everything at or below a path that matches one of `patterns` goes, unless `keep` matches.
struct Rule {
    name: &'static str,
    /// Shown to people who ask why something is missing.
    reason: &'static str,
    /// Shell patterns of whole paths; `*` also matches slashes here.
    patterns: &'static [&'static str],
    keep: &'static [&'static str],
    /// systemd reads it: it goes only where systemd is not PID 1.
    read_by_systemd: bool,
}

impl Rule {
    fn holds(&self, init: Init) -> bool {
        init.is_plumb() || !self.read_by_systemd
    }
}

const PLAIN: Rule = Rule { name: "", reason: "", patterns: &[], keep: &[], read_by_systemd: false };

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule { name: "doc", reason: "documentation is read elsewhere; the package list says which licences apply",
        patterns: &["/usr/share/doc", "/usr/share/doc-base", "/usr/share/gtk-doc", "/usr/share/help"], ..PLAIN },
    Rule { name: "man", reason: "manual pages are read elsewhere",
        patterns: &["/usr/share/man", "/usr/share/info", "/usr/local/man", "/usr/local/share/man"], ..PLAIN },
    Rule { name: "locale", reason: "services speak C.UTF-8; translations are for people at a terminal",
        patterns: &["/usr/share/locale", "/usr/share/i18n", "/usr/lib/locale"],
        keep: &["/usr/lib/locale", "/usr/lib/locale/C.*", "/usr/share/locale", "/usr/share/locale/locale.alias"], ..PLAIN },
    Rule { name: "packaging", reason: "for package managers and bug reports; an image has no package manager",
        patterns: &["/usr/share/lintian", "/usr/share/bug", "/usr/share/menu", "/usr/lib/menu", "/usr/share/reportbug",
            "/usr/share/debhelper", "/usr/share/doc-rfc", "/usr/share/applications", "/usr/share/pixmaps",
            "/usr/share/icons", "/usr/share/metainfo", "/usr/share/apport", "/usr/share/ubuntu-drivers-common",
            "/etc/apt", "/var/lib/apt", "/var/cache/apt", "/usr/lib/apt", "/etc/dpkg", "/usr/lib/dpkg",
            "/usr/share/dpkg", "/var/lib/dpkg", "/var/cache/debconf", "/usr/share/debconf", "/etc/debconf.conf",
            "/var/lib/ucf", "/etc/kernel", "/etc/ufw", "/usr/share/keyrings", "/var/lib/pam"],
        ..PLAIN },
    Rule { name: "init", reason: "services are translated for Plumb's PID 1, which reads neither units nor init scripts",
        patterns: &["/etc/init.d", "/etc/rc?.d", "/etc/init", "/etc/insserv*", "/usr/lib/systemd/system",
            "/usr/lib/systemd/user", "/usr/lib/systemd/system-preset", "/usr/lib/systemd/user-preset",
            "/etc/systemd/system", "/etc/systemd/user", "/etc/xdg/systemd", "/etc/xdg/autostart",
            "/usr/lib/systemd/system-generators", "/usr/lib/systemd/user-generators", "/usr/share/runit", "/etc/sv",
            "/usr/lib/udev", "/etc/udev", "/usr/lib/modprobe.d", "/etc/modprobe.d", "/etc/modules-load.d",
            "/usr/lib/modules-load.d", "/etc/sysctl.d", "/usr/lib/sysctl.d", "/etc/network/if-*.d"],
        read_by_systemd: true, ..PLAIN },
    Rule { name: "boot", reason: "kernel and initramfs are parts of the image of their own",
        patterns: &["/boot", "/usr/lib/modules", "/usr/share/initramfs-tools", "/etc/initramfs-tools", "/initrd.img*",
            "/vmlinuz*", "/usr/lib/linux-image-*"],
        ..PLAIN },
    Rule { name: "shell", reason: "for people at a terminal",
        patterns: &["/usr/share/bash-completion", "/etc/bash_completion.d", "/usr/share/zsh", "/usr/share/fish",
            "/usr/share/vim", "/usr/share/emacs", "/usr/share/nano", "/etc/skel"],
        ..PLAIN },
    Rule { name: "development", reason: "nothing is compiled in an image",
        patterns: &["/usr/include", "/usr/share/pkgconfig", "/usr/lib/pkgconfig", "/usr/lib/*/pkgconfig", "/usr/lib/cmake",
            "/usr/lib/*/cmake", "/usr/share/cmake*", "/usr/share/aclocal*", "/usr/lib/*.a", "/usr/lib/*.la",
            "/usr/lib/*/perl/*/CORE/*.h", "/usr/lib/postgresql/*/lib/pgxs",
            "/usr/share/gdb", "/usr/share/systemtap", "/usr/share/vala", "/usr/share/gir-1.0"],
        ..PLAIN },
    Rule { name: "gconv", reason: "8 MB of conversions of national character sets; glibc has UTF-8, ASCII and UCS built in",
        patterns: &["/usr/lib/*/gconv/*.so"],
        keep: &["*/UTF-16.so", "*/UTF-32.so", "*/UTF-7.so", "*/UNICODE.so", "*/ISO8859-1.so", "*/ISO8859-15.so",
            "*/CP1252.so"], ..PLAIN },
    Rule { name: "python", reason: "byte code is not kept in a read-only image, tests are the interpreter's own",
        patterns: &["/usr/lib/python3*/__pycache__", "/usr/lib/python3*/*.pyc", "/usr/lib/python3.*/test",
            "/usr/lib/python3.*/idlelib", "/usr/lib/python3.*/lib2to3/tests", "/usr/lib/python3.*/ctypes/test",
            "/usr/lib/python3.*/distutils/tests", "/usr/lib/python3.*/unittest/test", "/usr/lib/python3.*/ensurepip",
            "/usr/lib/python3/dist-packages/*/tests", "/usr/share/python3/runtime.d", "/usr/share/python3/bcep",
            "/usr/share/python3/dist", "/usr/share/python3/debpython"],
        ..PLAIN },
    Rule { name: "perl", reason: "documentation is read elsewhere",
        patterns: &["/usr/share/perl/*.pod", "/usr/lib/*/perl/*.pod", "/usr/share/perl5/*.pod"], ..PLAIN },
    Rule { name: "rotation", reason: "logs go to Plumb's PID 1; nothing runs cron or logrotate",
        patterns: &["/etc/logrotate.d", "/etc/cron.d", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly",
            "/etc/cron.hourly", "/etc/logcheck"],
        read_by_systemd: true, ..PLAIN },
    Rule { name: "policy", reason: "no AppArmor or SELinux policy is loaded in a machine",
        patterns: &["/etc/apparmor.d", "/etc/apparmor", "/usr/share/selinux", "/etc/selinux"], ..PLAIN },
];

/// Where units lie; they are handed out besides, for the translation of services.
const UNITS: [&str; 2] = ["/usr/lib/systemd/system/", "/etc/systemd/system/"];

/// What one rule dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Why.
    pub reason: String,
    /// Number of files and links.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Entries by path, as in a [`Tree`].
pub(crate) type Entries = BTreeMap<String, (Entry, Origin)>;

/// Removes everything the rules name but what `wanted` (shell patterns of paths) names, with all below it; returns the
/// counts by rule, and all units, of which systemd keeps its own.
pub(crate) fn apply(tree: &mut Tree, wanted: &[String], init: Init) -> (BTreeMap<String, Dropped>, Entries) {
    let mut counts: BTreeMap<String, Dropped> = BTreeMap::new();
    let mut units = Entries::new();
    let mut gone: Option<(String, &Rule)> = None;
    let mut clean = String::new();
    let entries = std::mem::take(&mut tree.entries);
    for (path, value) in entries {
        // Sorted order: what lies below a path need not follow at once (`/a-b` sorts between `/a` and `/a/b`), so
        // every path asks for itself; the last hit only saves the search.
        let below = |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
        let hit = gone.as_ref().filter(|(top, _)| below(top)).map(|(top, rule)| (top.clone(), *rule));
        let is_unit = UNITS.iter().any(|folder| path.starts_with(folder));
        let Some((top, rule)) = hit.or_else(|| find(&path, &clean, init)) else {
            clean.clone_from(&path);
            if is_unit {
                units.insert(path.clone(), value.clone());
            }
            tree.entries.insert(path, value);
            continue;
        };
        let is_kept =
            rule.keep.iter().any(|keep| pattern::matches(keep, &path)) || kept_above(rule, &path, &top);
        if is_kept || is_wanted(wanted, &path) {
            tree.entries.insert(path, value);
            continue;
        }
        gone = Some((top, rule));
        let count = counts.entry(rule.name.to_owned()).or_default();
        if count.reason.is_empty() {
            rule.reason.clone_into(&mut count.reason);
        }
        if let Kind::File { size, .. } = value.0.kind {
            count.bytes += size;
        }
        count.files += u64::from(value.0.kind != Kind::Directory);
        if is_unit {
            units.insert(path, value);
        }
    }
    (counts, units)
}

/// Is this what the user wants to keep, or below it?
fn is_wanted(wanted: &[String], path: &str) -> bool {
    let cuts = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    !wanted.is_empty()
        && cuts.into_iter().any(|cut| wanted.iter().any(|pattern| pattern::matches(pattern, &path[..cut])))
}

/// The rule that leaves a path out, and why; the path may be one that no package has.
#[must_use]
pub fn rule_of(path: &str, init: Init) -> Option<(&'static str, &'static str)> {
    let (top, rule) = find(path, "", init)?;
    let is_kept = rule.keep.iter().any(|keep| pattern::matches(keep, path)) || kept_above(rule, path, &top);
    (!is_kept).then_some((rule.name, rule.reason))
}

/// Is this below something that `keep` names?
fn kept_above(rule: &Rule, path: &str, top: &str) -> bool {
    let mut parent = path;
    while let Some(cut) = parent.rfind('/').filter(|cut| *cut > top.len()) {
        parent = &parent[..cut];
        if rule.keep.iter().any(|keep| pattern::matches(keep, parent)) {
            return true;
        }
    }
    false
}

/// The rule that names this path or a parent of it, and what it names. No rule names `clean` or a parent of it: most
/// paths share all their parents with the one before.
fn find(path: &str, clean: &str, init: Init) -> Option<(String, &'static Rule)> {
    let is_clean =
        |part| clean.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let cuts = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    for cut in cuts {
        let part = &path[..cut];
        if is_clean(part) {
            continue;
        }
        let names = |rule: &&Rule| rule.patterns.iter().any(|name| pattern::matches(name, part));
        let found = RULES.iter().filter(|rule| rule.holds(init)).find(names);
        if let Some(rule) = found {
            return Some((part.to_owned(), rule));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Layer;
    use plumb_model::Digest;

    #[test]
    fn what_is_known_to_be_clean_changes_nothing() {
        let paths = [
            "/etc/init.d/x",
            "/etc/init.d.conf",
            "/usr/lib/a",
            "/usr/lib/a/b/c",
            "/usr/share",
            "/usr/share/a",
            "/usr/share/doc",
            "/usr/share/doc-base/x",
            "/usr/share/doc/x/y",
            "/usr/share/docs/x",
            "/usr/share/man/man1/x",
            "/usr/sharex",
        ];
        for clean in paths.iter().filter(|path| find(path, "", Init::Plumb).is_none()) {
            for path in paths {
                assert_eq!(
                    find(path, clean, Init::Plumb).map(|hit| hit.0),
                    find(path, "", Init::Plumb).map(|hit| hit.0),
                    "{path} {clean}"
                );
            }
        }
        assert!(paths.iter().any(|path| find(path, "", Init::Plumb).is_some()));
    }

    #[test]
    fn rules_take_and_keep() {
        let mut tree = Tree::default();
        let gone = [
            "/usr/share/doc/x/copyright",
            "/usr/share/locale/de/LC_MESSAGES/x.mo",
            "/usr/lib/x86_64-linux-gnu/gconv/EUC-KR.so",
            "/usr/lib/x86_64-linux-gnu/libz.a",
            "/usr/lib/python3.11/test/test_x.py",
            "/usr/lib/systemd/system/nginx.service",
            "/etc/init.d/nginx",
        ];
        let kept = [
            "/usr/share/doc-extra/x",
            "/usr/share/locale/locale.alias",
            "/usr/lib/locale/C.utf8/LC_CTYPE",
            "/usr/lib/x86_64-linux-gnu/gconv/UTF-16.so",
            "/usr/lib/x86_64-linux-gnu/libz.so.1",
            "/usr/lib/python3.11/os.py",
            "/usr/share/zoneinfo/Etc/UTC",
            "/etc/init.d.conf",
        ];
        for path in gone.iter().chain(&kept) {
            let origin = Origin { layer: Layer::Os, source: "x".into() };
            tree.insert(*path, Entry::file(Digest::of(b"ab"), 2, 0o644), origin);
        }
        tree.close();
        let mut wanted = tree.clone();
        let keep = ["/usr/share/doc/x".to_owned(), "/usr/lib/*/gconv".to_owned()];
        apply(&mut wanted, &keep, Init::Plumb);
        for path in [gone[0], gone[2]] {
            assert!(wanted.get(path).is_some(), "{path} is wanted");
        }
        assert!(wanted.get(gone[1]).is_none());
        let (counts, units) = apply(&mut tree, &[], Init::Plumb);
        for path in gone {
            assert!(tree.get(path).is_none(), "{path}");
        }
        for path in kept {
            assert!(tree.get(path).is_some(), "{path}");
        }
        assert_eq!(rule_of("/usr/share/doc/x/copyright", Init::Plumb).unwrap().0, "doc");
        assert_eq!(rule_of("/usr/share/locale/locale.alias", Init::Plumb), None);
        assert_eq!(counts["init"].files, 2);
        assert_eq!(counts["gconv"].bytes, 2);
        assert_eq!(units.keys().collect::<Vec<_>>(), ["/usr/lib/systemd/system/nginx.service"]);
    }
}
