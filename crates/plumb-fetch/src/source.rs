//! Which archives there are, and what was seen in them.

use plumb_model::Digest;
use serde::{Deserialize, Serialize};

/// Suites without updates and security suites of their own: fixes arrive in them directly.
const ROLLING: [&str; 4] = ["unstable", "sid", "experimental", "rc-buggy"];

/// One suite of one archive, as a line of apt's `sources.list` names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArchiveSource {
    /// Where the archive is: `http://deb.debian.org/debian`. `http`, `https` and `file` are known.
    pub uri: String,
    /// Its suite or codename: `bookworm`.
    pub suite: String,
    /// Its components: `main`.
    pub components: Vec<String>,
    /// What its signed `Origin` must be, if that matters: `Debian`.
    pub origin: Option<String>,
}

/// Debian's suites that together are one consistent view of `suite`: the suite, its updates and its security fixes
/// (from `security_mirror`, by default `<mirror>-security`), component `main`. unstable has only itself.
#[must_use]
pub fn debian_sources(mirror: &str, security_mirror: Option<&str>, suite: &str) -> Vec<ArchiveSource> {
    let mirror = mirror.trim_end_matches('/');
    let source = |uri: &str, suite: String| ArchiveSource {
        uri: uri.to_owned(),
        suite,
        components: vec!["main".to_owned()],
        origin: Some("Debian".to_owned()),
    };
    if ROLLING.contains(&suite) {
        return vec![source(mirror, suite.to_owned())];
    }
    let security = security_mirror.map_or_else(|| format!("{mirror}-security"), ToOwned::to_owned);
    vec![
        source(mirror, suite.to_owned()),
        source(mirror, format!("{suite}-updates")),
        source(security.trim_end_matches('/'), format!("{suite}-security")),
    ]
}

/// One package index in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRef {
    /// Its component: `main`.
    pub component: String,
    /// The object that holds the index (`Packages`, not compressed).
    pub packages: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What one source offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    /// [`ArchiveSource::uri`].
    pub uri: String,
    /// [`ArchiveSource::suite`].
    pub suite: String,
    /// When the archive signed it, in seconds since 1970.
    pub date_unix_s: i64,
    /// The object that holds the verified `InRelease`.
    pub in_release: Digest,
    /// The indices, in the order of [`ArchiveSource::components`].
    pub indices: Vec<IndexRef>,
}

/// What all sources offered, in the order in which they were asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// One per source.
    pub sources: Vec<SourceSnapshot>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debian_suite_is_three_sources() {
        let shown = |sources: Vec<ArchiveSource>| {
            sources.iter().map(|source| format!("{} {}", source.uri, source.suite)).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(debian_sources("http://deb.debian.org/debian/", None, "bookworm")),
            [
                "http://deb.debian.org/debian bookworm",
                "http://deb.debian.org/debian bookworm-updates",
                "http://deb.debian.org/debian-security bookworm-security",
            ]
        );
        assert_eq!(
            shown(debian_sources("http://m/d", Some("http://s/"), "trixie"))[2],
            "http://s trixie-security"
        );
        assert_eq!(shown(debian_sources("http://m/d", None, "sid")), ["http://m/d sid"]);
    }
}
