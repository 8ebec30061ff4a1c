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
    for line in changelog.lines() {
        if let Some(version) = heading(line) {
            is_between = version > *older && version <= *newer;
            // Entries stand in the order of their versions; a branch that was merged in may stand below its base.
            continue;
        }
        if is_between && found.len() < MAX_NAMES {
            found.extend(names(line));
        }
    }
    found
}

/// Every CVE that the changelog names, with the lowest version whose entry does: by what it says, versions below are not
/// fixed. Entries of another source package than that of the first line, which stand below a fork, say nothing.
#[must_use]
pub fn fixes(changelog: &str) -> BTreeMap<String, Version> {
    let mut found: BTreeMap<String, Version> = BTreeMap::new();
    let mut package = None;
    let mut entry: Option<Version> = None;
    for line in changelog.lines() {
        if let Some(version) = heading(line) {
            let name = line.split(' ').next();
            package = package.or(name);
            entry = Some(version).filter(|_| package == name);
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

/// The version of a line that begins an entry.
fn heading(line: &str) -> Option<Version> {
    if line.starts_with(char::is_whitespace) || !line.contains(';') {
        return None;
    }
    let (_, rest) = line.split_once(" (")?;
    rest.split_once(')')?.0.parse().ok()
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

    #[test]
    fn what_is_no_changelog_says_nothing() {
        let version = "1".parse().expect("a version");
        for text in ["", "CVE-2024-1234", "x (", "x (1; y\n CVE-2024-1234", "é (1) é; CVE-2024-1234"] {
            assert!(vulnerabilities(text, &version, &version).is_empty(), "{text}");
        }
    }
}
