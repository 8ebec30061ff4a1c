//! A package's changelog (deb-changelog(5)): which vulnerabilities its versions say they fix.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use crate::Version;

/// Most names of one answer. A kernel's point release fixes some 500; what a hostile text repeats costs no more.
const MAX_NAMES: usize = 10_000;

/// CVE names in the entries of versions above `older` and up to `newer`, sorted. An entry begins with
/// `PACKAGE (VERSION) SUITES; …` at the start of a line; the newest comes first. A line that is no entry and belongs to
/// none says nothing.
#[must_use]
pub fn vulnerabilities(changelog: &str, older: &Version, newer: &Version) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_between = false;
    let mut branch = Branch::default();
    for line in changelog.lines() {
        if let Some((_, version)) = heading(line) {
            let Some(version) = version else {
                is_between = false;
                continue;
            };
            let since = branch.since(version);
            // Entries stand in the order of their versions; a branch that was merged in may stand below its base.
            is_between = since > *older && since <= *newer;
            continue;
        }
        if is_between {
            let room = MAX_NAMES - found.len();
            found.extend(names(line).take(room));
        }
    }
    found
}

/// Every CVE that the changelog names, with the lowest version that has an entry that does: by what it says, versions below
/// are not fixed. Entries of another source package than that of the first line, which stand below a fork, say nothing.
#[must_use]
pub fn fixes(changelog: &str) -> BTreeMap<String, Version> {
    let mut found: BTreeMap<String, Version> = BTreeMap::new();
    let mut package = None;
    let mut entry: Option<Version> = None;
    let mut branch = Branch::default();
    for line in changelog.lines() {
        if let Some((name, version)) = heading(line) {
            let name = Some(name);
            package = package.or(name);
            entry = version.filter(|_| package == name).map(|version| branch.since(version));
            continue;
        }
        let Some(version) = &entry else { continue };
        for name in names(line) {
            let is_full = found.len() == MAX_NAMES;
            match found.entry(name) {
                Entry::Occupied(mut lowest) if version < lowest.get() => drop(lowest.insert(version.clone())),
                Entry::Vacant(place) if !is_full => {
                    place.insert(version.clone());
                }
                _ => {}
            }
        }
    }
    found
}

/// `1.3~deb12u1`, rebuilt from `1.3` for a stable suite, is a lower version and has everything that `1.3` has: its entry
/// stands directly above.
#[derive(Default)]
struct Branch {
    /// The lowest version that has the entry before.
    above: Option<Version>,
}

impl Branch {
    /// The lowest version that has the entry of `version`; entries come as the changelog has them, the newest first.
    fn since(&mut self, version: Version) -> Version {
        let base = format!("{version}~");
        let rebuilt = self.above.take().filter(|above| above.to_string().starts_with(&base));
        let since = rebuilt.unwrap_or(version);
        self.above = Some(since.clone());
        since
    }
}

/// Source package and version of a line that begins an entry; nothing for a version that is none.
///
/// Debian signs its kernels in a source package of their own, whose version has a `+` for the `-` of the one that it signs:
/// `linux-signed-amd64 (6.1.192+3)` is `linux (6.1.192-3)`, and what stands below is the changelog of `linux`.
fn heading(line: &str) -> Option<(&str, Option<Version>)> {
    if line.starts_with(char::is_whitespace) || !line.contains(';') {
        return None;
    }
    let (name, rest) = line.split_once(" (")?;
    let version = rest.split_once(')')?.0;
    match (name.starts_with("linux-signed-"), version.split_once('+')) {
        (true, Some((upstream, revision))) => Some(("linux", format!("{upstream}-{revision}").parse().ok())),
        _ => Some((name, version.parse().ok())),
    }
}

/// `CVE-YEAR-NUMBER`, with at least four digits each (cve.org, "CVE ID Syntax").
fn names(line: &str) -> impl Iterator<Item = String> {
    line.match_indices("CVE-").filter_map(|(at, mark)| {
        let rest = &line.as_bytes()[at + mark.len()..];
        let digits = |from: usize| rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let number = digits(5);
        let is_name = digits(0) == 4 && rest.get(4) == Some(&b'-') && (4..=19).contains(&number);
        is_name.then(|| format!("CVE-{}", &line[at + mark.len()..at + mark.len() + 5 + number]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENSSL: &str = "openssl (3.0.17-1~deb12u2) bookworm-security; urgency=medium

  * CVE-2025-9230 (Fix out-of-bounds read), CVE-2025-9231,
    CVE-2025-12 (too short), XCVE-2025-9999x

 -- A <a@example.org>  Mon, 29 Sep 2025 12:00:00 +0200

openssl (3.0.17-1~deb12u1) bookworm; urgency=medium

  * New version (CVE-2024-13176)

openssl (3.0.16-1~deb12u1) bookworm; urgency=medium

  * CVE-2024-9143
";

    fn between(older: &str, newer: &str) -> Vec<String> {
        let version = |text: &str| text.parse().expect("a version");
        vulnerabilities(OPENSSL, &version(older), &version(newer)).into_iter().collect()
    }

    #[test]
    fn what_is_fixed_between_two_versions() {
        assert_eq!(
            between("3.0.17-1~deb12u1", "3.0.17-1~deb12u2"),
            ["CVE-2025-9230", "CVE-2025-9231", "CVE-2025-9999"]
        );
        assert_eq!(between("3.0.15-1", "3.0.17-1~deb12u1"), ["CVE-2024-13176", "CVE-2024-9143"]);
        assert!(between("3.0.17-1~deb12u2", "3.0.17-1~deb12u2").is_empty());
    }

    #[test]
    fn every_fix_with_the_lowest_version_that_names_it() {
        let again = OPENSSL.replacen("XCVE-2025-9999x", "CVE-2024-9143 (the rest of it)", 1);
        let fork = "other (9.0) x; y=z\n\n  * CVE-2020-1111\n";
        let found = fixes(&format!("{again}\n{fork}"));
        let shown: Vec<String> = found.iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(
            shown,
            [
                "CVE-2024-13176 3.0.17-1~deb12u1",
                "CVE-2024-9143 3.0.16-1~deb12u1",
                "CVE-2025-9230 3.0.17-1~deb12u2",
                "CVE-2025-9231 3.0.17-1~deb12u2"
            ]
        );
        assert!(fixes("CVE-2024-1234").is_empty());
    }

    /// As in libxml2 of bookworm: its versions are below the one that they were rebuilt from, and have its fixes.
    #[test]
    fn what_was_rebuilt_for_a_stable_suite_has_the_fixes_of_what_it_was_rebuilt_from() {
        let rebuilt = "libxml2 (1.3~deb12u2) bookworm; x=y\n\n  * CVE-2025-1111\n\nlibxml2 (1.3~deb12u1) bookworm; x=y\n\n  \
                       * Rebuild\n\nlibxml2 (1.3) unstable; x=y\n\n  * CVE-2022-2309\n\nlibxml2 (1.2) unstable; x=y\n\n  * CVE-2021-1111\n";
        let shown: Vec<String> =
            fixes(rebuilt).iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(shown, ["CVE-2021-1111 1.2", "CVE-2022-2309 1.3~deb12u1", "CVE-2025-1111 1.3~deb12u2"]);
        let version = |text: &str| text.parse::<Version>().expect("a version");
        let between = |older, newer| vulnerabilities(rebuilt, &version(older), &version(newer));
        assert_eq!(between("1.2", "1.3~deb12u1").into_iter().collect::<Vec<_>>(), ["CVE-2022-2309"]);
        assert_eq!(between("1.3~deb12u1", "1.3~deb12u2").into_iter().collect::<Vec<_>>(), ["CVE-2025-1111"]);
    }

    #[test]
    fn a_backport_of_a_signed_kernel() {
        let kernel = "linux-signed-amd64 (6.12.9+1~bpo12+1) x; y=z\n\n  * CVE-2026-1003\n";
        let shown: Vec<String> = fixes(kernel).values().map(ToString::to_string).collect();
        assert_eq!(shown, ["6.12.9-1~bpo12+1"]);
    }

    #[test]
    fn one_long_line_has_no_more_names_than_many_short_ones() {
        let names: String = (0..2 * MAX_NAMES).map(|number| format!(" CVE-2026-{:05}", number)).collect();
        let text = format!("x (2) y; z\n  *{names}\n");
        let version = |text: &str| text.parse::<Version>().expect("a version");
        assert_eq!(vulnerabilities(&text, &version("1"), &version("2")).len(), MAX_NAMES);
    }

    #[test]
    fn a_signed_kernel_has_what_the_kernel_has_that_was_signed() {
        let kernel = "linux-signed-amd64 (6.1.192+3) x; y=z\n\n  * Sign kernel\n\n  * CVE-2026-1003\n\nlinux (6.1.192-2) x; \
                      y=z\n\n  * CVE-2026-1002\n\nlinux (6.1.176-1) x; y=z\n\n  * CVE-2026-1001\n";
        let shown: Vec<String> =
            fixes(kernel).iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(shown, ["CVE-2026-1001 6.1.176-1", "CVE-2026-1002 6.1.192-2", "CVE-2026-1003 6.1.192-3"]);
        let version = |text: &str| text.parse::<Version>().expect("a version");
        let between = vulnerabilities(kernel, &version("6.1.176-1"), &version("6.1.192-3"));
        assert_eq!(between.into_iter().collect::<Vec<_>>(), ["CVE-2026-1002", "CVE-2026-1003"]);
    }

    #[test]
    fn what_is_no_changelog_says_nothing() {
        let version = "1".parse().expect("a version");
        for text in ["", "CVE-2024-1234", "x (", "x (1; y\n CVE-2024-1234", "é (1) é; CVE-2024-1234"] {
            assert!(vulnerabilities(text, &version, &version).is_empty(), "{text}");
        }
    }
}
