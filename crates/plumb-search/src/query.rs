//! What is searched for, as people write it.
//!
//! ```text
//! NAME [OP VERSION [, OP VERSION]…]     libssl3 · libssl3 < 3.0.17 · openssl >= 3, < 3.0.17 · flask=2.0
//!     OP                                <  <=  =  >=  >    also << and >> as in Debian's relations, and parentheses
//! CVE-2025-9230 · DSA-6015-1 · GHSA-…   the name of a vulnerability or an advisory
//! ```

use std::fmt;
use std::str::FromStr;

use plumb_debian::Operator;
use plumb_model::Digest;
use serde::{Deserialize, Serialize};

use crate::Ecosystem;

/// Longest name of a package or vulnerability, and longest version; Debian's longest have some 80 bytes.
pub const MAX_TEXT_BYTES: usize = 256;

/// Longest path that is looked for: `PATH_MAX` of Linux.
const MAX_PATH_BYTES: usize = 4096;

/// Most conditions of one query; two make an interval.
const MAX_CONSTRAINTS: usize = 16;

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// A package, by its own name or that of its source.
    Package(PackageQuery),
    /// A vulnerability or an advisory by name.
    Vulnerability(VulnerabilityName),
}

/// A package whose version is within limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageQuery {
    /// Name of a package or of a source package.
    pub name: String,
    /// All of them must hold; none means every version.
    pub constraints: Vec<Constraint>,
}

/// `< 3.0.17`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// How.
    pub comparison: Operator,
    /// With what.
    pub version: String,
}

/// What is looked for among files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileQuery {
    /// An absolute path; links are followed as in the image.
    Path(String),
    /// The last part of a path.
    Name(String),
    /// The content.
    Content(Digest),
}

/// Why a text asks for nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueryError {
    /// The name can be none.
    #[error("`{0}` is neither the name of a package nor that of a vulnerability")]
    Name(String),
    /// Something else than a comparison follows the name.
    #[error("`{0}` is no comparison of versions: `<`, `<=`, `=`, `>=` or `>`, and a version")]
    Comparison(String),
    /// No ecosystem knows such a version.
    #[error("`{0}` is no version")]
    Version(String),
    /// More conditions than make sense.
    #[error("more than {MAX_CONSTRAINTS} comparisons")]
    Many,
    /// Neither path nor name nor digest.
    #[error("`{0}` is neither an absolute path, nor the name of a file, nor `sha256:` and 64 digits")]
    File(String),
}

/// Name of a vulnerability (`CVE-2025-9230`) or of an advisory (`DSA-6015-1`, `GHSA-…`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VulnerabilityName(String);

impl VulnerabilityName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an announcement about several vulnerabilities, not one of them.
    #[must_use]
    pub fn is_bundle(&self) -> bool {
        self.0.starts_with("DSA-") || self.0.starts_with("DLA-")
    }
}

impl fmt::Display for VulnerabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<VulnerabilityName> for String {
    fn from(name: VulnerabilityName) -> Self {
        name.0
    }
}

impl TryFrom<String> for VulnerabilityName {
    type Error = QueryError;

    fn try_from(text: String) -> Result<Self, QueryError> {
        text.parse()
    }
}

impl FromStr for VulnerabilityName {
    type Err = QueryError;

    /// Capital letters, `-`, and letters, digits, `-`, `.`, `:`; people may write `cve-` and `dsa-`.
    fn from_str(text: &str) -> Result<Self, QueryError> {
        let refused = || QueryError::Name(text.to_owned());
        let (kind, rest) = text.split_once('-').ok_or_else(refused)?;
        let is_known =
            ["cve", "dsa", "dla"].contains(&kind) && rest.starts_with(|c: char| c.is_ascii_digit());
        let kind = if is_known { kind.to_ascii_uppercase() } else { kind.to_owned() };
        let is_kind = kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
        let is_rest = !rest.is_empty() && rest.bytes().all(allowed);
        if is_kind && is_rest && text.len() <= MAX_TEXT_BYTES {
            Ok(VulnerabilityName(format!("{kind}-{rest}")))
        } else {
            Err(refused())
        }
    }
}

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let text = text.trim();
        if let Ok(name) = text.parse() {
            return Ok(Query::Vulnerability(name));
        }
        text.parse().map(Query::Package)
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Query::Package(package) => write!(f, "{package}"),
            Query::Vulnerability(name) => write!(f, "{name}"),
        }
    }
}

/// What names of packages of any ecosystem are made of: `libstdc++6`, `Flask_Thing.x`, `@types/node`.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._@/~".contains(&byte);
    (1..=MAX_TEXT_BYTES).contains(&text.len())
        && text.bytes().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@')
}

impl FromStr for PackageQuery {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || "<>=(".contains(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if !is_name(name) {
            return Err(QueryError::Name(name.to_owned()));
        }
        let rest = rest.trim();
        let inside = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(rest).trim();
        let mut constraints = Vec::new();
        for part in inside.split(',').map(str::trim).filter(|_| !rest.is_empty()) {
            if constraints.len() == MAX_CONSTRAINTS {
                return Err(QueryError::Many);
            }
            constraints.push(part.parse()?);
        }
        Ok(PackageQuery { name: name.to_owned(), constraints })
    }
}

impl fmt::Display for PackageQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let constraints: Vec<String> = self.constraints.iter().map(ToString::to_string).collect();
        write!(f, "{}{}{}", self.name, if constraints.is_empty() { "" } else { " " }, constraints.join(", "))
    }
}

impl FromStr for Constraint {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        const SPELLINGS: [(&str, Operator); 8] = [
            ("<<", Operator::Earlier),
            ("<=", Operator::EarlierOrEqual),
            (">=", Operator::LaterOrEqual),
            (">>", Operator::Later),
            ("==", Operator::Equal),
            ("<", Operator::Earlier),
            ("=", Operator::Equal),
            (">", Operator::Later),
        ];
        let found =
            SPELLINGS.iter().find_map(|(mark, comparison)| Some((*comparison, text.strip_prefix(mark)?)));
        let (comparison, version) = found.ok_or_else(|| QueryError::Comparison(text.to_owned()))?;
        let version = version.trim();
        if version.len() > MAX_TEXT_BYTES || !Ecosystem::ALL.iter().any(|one| one.is_version(version)) {
            return Err(QueryError::Version(version.to_owned()));
        }
        Ok(Constraint { comparison, version: version.to_owned() })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", mark(self.comparison), self.version)
    }
}

/// As people write it; Debian's relations have `<<` and `>>`.
fn mark(comparison: Operator) -> &'static str {
    match comparison {
        Operator::Earlier => "<",
        Operator::EarlierOrEqual => "<=",
        Operator::Equal => "=",
        Operator::LaterOrEqual => ">=",
        Operator::Later => ">",
    }
}

impl PackageQuery {
    /// Whether a version is meant. `None` if it cannot be compared: what is not known must not count as "no".
    #[must_use]
    pub fn accepts(&self, ecosystem: Ecosystem, version: &str) -> Option<bool> {
        let mut all = Some(true);
        for constraint in &self.constraints {
            match ecosystem.compare(version, &constraint.version) {
                Some(order) if !constraint.comparison.holds(order) => return Some(false),
                Some(_) => {}
                None => all = None,
            }
        }
        all
    }
}

impl FromStr for FileQuery {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let refused = || QueryError::File(text.to_owned());
        if text.starts_with("sha256:") {
            return text.parse().map(FileQuery::Content).map_err(|_| refused());
        }
        if text.is_empty() || text.len() > MAX_PATH_BYTES || text.chars().any(char::is_control) {
            return Err(refused());
        }
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').any(|part| !matches!(part, "" | "." | "..")) => {
                Ok(FileQuery::Path(text.to_owned()))
            }
            None if !text.contains('/') && !matches!(text, "." | "..") => {
                Ok(FileQuery::Name(text.to_owned()))
            }
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for FileQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileQuery::Path(text) | FileQuery::Name(text) => f.write_str(text),
            FileQuery::Content(digest) => write!(f, "{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(text: &str) -> PackageQuery {
        match text.parse() {
            Ok(Query::Package(package)) => package,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn as_people_write_it() {
        for (text, shown) in [
            ("libssl3", "libssl3"),
            ("libssl3 < 3.0.17", "libssl3 < 3.0.17"),
            ("libssl3<3.0.17", "libssl3 < 3.0.17"),
            (" libssl3 (<< 3.0.17-1~deb12u2) ", "libssl3 < 3.0.17-1~deb12u2"),
            ("openssl >= 3, <3.0.17", "openssl >= 3, < 3.0.17"),
            ("libstdc++6=12.2.0-14", "libstdc++6 = 12.2.0-14"),
            ("@types/node > 1", "@types/node > 1"),
            ("Flask == 2.0rc1", "Flask = 2.0rc1"),
        ] {
            let query = package(text);
            assert_eq!(query.to_string(), shown);
            assert_eq!(package(shown), query, "written and read again");
        }
    }

    #[test]
    fn names_of_vulnerabilities() {
        for (text, name) in [
            ("CVE-2025-9230", "CVE-2025-9230"),
            ("cve-2025-9230", "CVE-2025-9230"),
            ("dsa-6015-1", "DSA-6015-1"),
            ("GHSA-m2qf-hxjv-5gpq", "GHSA-m2qf-hxjv-5gpq"),
            ("DEBIAN-CVE-2025-9230", "DEBIAN-CVE-2025-9230"),
        ] {
            assert_eq!(text.parse::<Query>().map(|query| query.to_string()), Ok(name.to_owned()));
            assert!(matches!(text.parse(), Ok(Query::Vulnerability(_))), "{text}");
        }
        // A package may well begin like one.
        assert!(matches!("cve-bin-tool".parse(), Ok(Query::Package(_))));
    }

    #[test]
    fn what_asks_for_nothing_is_named() {
        for (text, error) in [
            ("", QueryError::Name(String::new())),
            ("< 3", QueryError::Name(String::new())),
            ("libssl3 <", QueryError::Version(String::new())),
            ("libssl3 3.0.17", QueryError::Comparison("3.0.17".into())),
            ("libssl3 < 3, ", QueryError::Comparison(String::new())),
            ("libssl3 < 3_0", QueryError::Version("3_0".into())),
            ("lib;rm", QueryError::Name("lib;rm".into())),
        ] {
            assert_eq!(text.parse::<Query>(), Err(error), "{text}");
        }
        assert!(format!("a{}", " <1,".repeat(40)).parse::<Query>().is_err());
    }

    #[test]
    fn versions_are_those_of_the_ecosystem() {
        let query = package("openssl >= 3, < 3.0.17");
        let accepts = |version| query.accepts(Ecosystem::Debian, version);
        assert_eq!(accepts("3.0.16-1~deb12u1"), Some(true));
        assert_eq!(accepts("3.0.17-1~deb12u2"), Some(false));
        assert_eq!(accepts("3~rc1"), Some(false));
        assert_eq!(query.accepts(Ecosystem::Npm, "workspace"), None);
        assert_eq!(
            package("x").accepts(Ecosystem::Npm, "workspace"),
            Some(true),
            "every version is every version"
        );
    }

    #[test]
    fn files() {
        let digest = Digest::of(b"x");
        assert_eq!("/usr/lib/x/libz.so.1".parse(), Ok(FileQuery::Path("/usr/lib/x/libz.so.1".into())));
        assert_eq!("libz.so.1".parse(), Ok(FileQuery::Name("libz.so.1".into())));
        assert_eq!(digest.to_string().parse(), Ok(FileQuery::Content(digest)));
        for bad in ["", "/", "//", "/..", "..", "./x", "sha256:12", "a\nb"] {
            assert!(bad.parse::<FileQuery>().is_err(), "{bad}");
        }
    }
}
