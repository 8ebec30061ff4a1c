//! Where a component comes from, and how versions are ordered there.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use plumb_content::python::PyVersion;
use plumb_debian::Version;
use serde::{Deserialize, Serialize};

/// Where a component comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// Debian packages; advisories name source packages.
    Debian,
    /// Python projects.
    Pypi,
    /// Packages of npm.
    Npm,
}

impl Ecosystem {
    /// All of them.
    pub const ALL: [Ecosystem; 3] = [Ecosystem::Debian, Ecosystem::Pypi, Ecosystem::Npm];

    /// As it is written in JSON and kept.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ecosystem::Debian => "debian",
            Ecosystem::Pypi => "pypi",
            Ecosystem::Npm => "npm",
        }
    }

    /// The order of two versions: dpkg's, that of PEP 440, or that of Semantic Versioning. `None` if one of them is no
    /// version there.
    #[must_use]
    pub fn compare(self, one: &str, other: &str) -> Option<Ordering> {
        match self {
            Ecosystem::Debian => Some(one.parse::<Version>().ok()?.cmp(&other.parse().ok()?)),
            Ecosystem::Pypi => Some(one.parse::<PyVersion>().ok()?.cmp(&other.parse().ok()?)),
            Ecosystem::Npm => Some(npm(one)?.cmp_precedence(&npm(other)?)),
        }
    }

    /// Whether a text is a version there.
    #[must_use]
    pub fn is_version(self, text: &str) -> bool {
        self.compare(text, text).is_some()
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Ecosystem {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ecosystem::ALL.into_iter().find(|one| one.as_str() == text).ok_or(())
    }
}

/// A version of npm; people write `1` and `1.2`, too.
fn npm(text: &str) -> Option<semver::Version> {
    let text = text.trim().trim_start_matches(['v', '=']);
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let (core, rest) = text.split_at(core.len());
    let missing = 2_usize.saturating_sub(core.matches('.').count());
    semver::Version::parse(&format!("{core}{}{rest}", ".0".repeat(missing))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_order() {
        for (ecosystem, less, more) in [
            (Ecosystem::Debian, "3.0.17-1~deb12u2", "3.0.17-1"),
            (Ecosystem::Debian, "9.0", "1:1.0"),
            (Ecosystem::Pypi, "2.0rc1", "2.0"),
            (Ecosystem::Npm, "1.2.3-beta.2", "1.2.3"),
            (Ecosystem::Npm, "1.9", "1.10.0"),
        ] {
            assert_eq!(ecosystem.compare(less, more), Some(Ordering::Less), "{ecosystem} {less} {more}");
            assert_eq!(ecosystem.to_string().parse(), Ok(ecosystem));
        }
        for (ecosystem, text) in [
            (Ecosystem::Debian, "1_2"),
            (Ecosystem::Pypi, "x"),
            (Ecosystem::Npm, "latest"),
            (Ecosystem::Npm, ""),
        ] {
            assert!(!ecosystem.is_version(text), "{ecosystem} {text}");
        }
    }
}
