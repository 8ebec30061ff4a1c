//! Versions and their order (Debian policy 5.6.12; deb-version(7); dpkg `lib/dpkg/version.c`).
//!
//! ```text
//! [epoch:]upstream[-revision]      1:2.30.2-1+deb12u2
//! ```
//! The parts are compared in that order. Upstream and revision are read as alternating runs of non-digits and digits;
//! in a run of non-digits `~` sorts before the end of the text, letters before all other characters; runs of digits
//! are compared as numbers.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest version accepted. Debian has no limit; the longest of bookworm has 52 bytes.
pub const MAX_VERSION_BYTES: usize = 256;

/// A version of a package.
///
/// Equality is the order's: `1.0`, `1.00`, `0:1.0` and `1.0-0` are equal. Compare [`Version::as_str`] where the
/// spelling matters. There is no `Hash` for that reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// Why a text is not a version.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum VersionError {
    /// Empty, or nothing between `:` and `-`.
    #[error("version `{0}` has no upstream part")]
    Empty(String),
    /// Longer than [`MAX_VERSION_BYTES`].
    #[error("version of {bytes} bytes is longer than {MAX_VERSION_BYTES}")]
    Long {
        /// Its length.
        bytes: usize,
    },
    /// What stands before the first `:` is not a number that fits 31 bits.
    #[error("epoch of version `{0}` is not a number below 2147483648")]
    Epoch(String),
    /// Ends in `-`.
    #[error("version `{0}` ends in `-`: its revision is empty")]
    Revision(String),
    /// Holds a character that no version may hold there.
    #[error("version `{version}` holds `{character}` where it is not allowed")]
    Character {
        /// The text.
        version: String,
        /// The first character that is not allowed.
        character: char,
    },
}

impl Version {
    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The epoch; 0 if none is written.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        // validate() accepted the epoch as a number, so the fallback is only for a version without one.
        self.0.split_once(':').and_then(|(epoch, _)| epoch.parse().ok()).unwrap_or(0)
    }

    /// The part between epoch and revision.
    #[must_use]
    pub fn upstream(&self) -> &str {
        self.split().0
    }

    /// The Debian revision; empty if none is written.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.split().1
    }

    /// Upstream part and revision.
    fn split(&self) -> (&str, &str) {
        let rest = self.0.split_once(':').map_or(self.0.as_str(), |(_, rest)| rest);
        rest.rsplit_once('-').unwrap_or((rest, ""))
    }

    fn validate(text: &str) -> Result<(), VersionError> {
        if text.len() > MAX_VERSION_BYTES {
            return Err(VersionError::Long { bytes: text.len() });
        }
        let rest = match text.split_once(':') {
            Some((epoch, rest)) => {
                let number = epoch.bytes().all(|b| b.is_ascii_digit()) && epoch.parse::<i32>().is_ok();
                if !number {
                    return Err(VersionError::Epoch(text.to_owned()));
                }
                rest
            }
            None => text,
        };
        let (upstream, revision) = match rest.rsplit_once('-') {
            Some((_, "")) => return Err(VersionError::Revision(text.to_owned())),
            Some((upstream, revision)) => (upstream, revision),
            None => (rest, ""),
        };
        if upstream.is_empty() {
            return Err(VersionError::Empty(text.to_owned()));
        }
        let in_revision = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~');
        let in_upstream = |c: char| in_revision(c) || matches!(c, '-' | ':');
        let wrong = upstream
            .chars()
            .find(|&c| !in_upstream(c))
            .or_else(|| revision.chars().find(|&c| !in_revision(c)));
        match wrong {
            Some(character) => Err(VersionError::Character { version: text.to_owned(), character }),
            None => Ok(()),
        }
    }
}

/// Weight of one byte in a run of non-digits: `~`, then the end of the run, then letters, then the rest.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        Some(b) if b.is_ascii_digit() => 0,
        Some(&b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(&b) => i32::from(b) + 256,
        None => 0,
    }
}

/// Takes the leading bytes for which `test` holds off `text`.
fn take_while<'a>(text: &mut &'a [u8], test: impl Fn(&u8) -> bool) -> &'a [u8] {
    let length = text.iter().position(|b| !test(b)).unwrap_or(text.len());
    let (head, tail) = text.split_at(length);
    *text = tail;
    head
}

/// Order of two upstream parts or two revisions.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (word_a, word_b) =
            (take_while(&mut a, |b| !b.is_ascii_digit()), take_while(&mut b, |b| !b.is_ascii_digit()));
        for i in 0..word_a.len().max(word_b.len()) {
            let order = weight(word_a.get(i)).cmp(&weight(word_b.get(i)));
            if order.is_ne() {
                return order;
            }
        }
        take_while(&mut a, |&b| b == b'0');
        take_while(&mut b, |&b| b == b'0');
        let (number_a, number_b) =
            (take_while(&mut a, u8::is_ascii_digit), take_while(&mut b, u8::is_ascii_digit));
        // Without leading zeros the longer number is the larger one; so no number is too large.
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0 == other.0 {
            return Ordering::Equal;
        }
        let ((upstream_a, revision_a), (upstream_b, revision_b)) = (self.split(), other.split());
        self.epoch()
            .cmp(&other.epoch())
            .then_with(|| compare_part(upstream_a.as_bytes(), upstream_b.as_bytes()))
            .then_with(|| compare_part(revision_a.as_bytes(), revision_b.as_bytes()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::validate(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        Self::validate(&text)?;
        Ok(Self(text))
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn order_of_policy_5_6_12() {
        let ascending = [
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0",
            "1.0-1~bpo",
            "1.0-1",
            "1.0a",
            "1.0+b",
            "1.0.1",
            "1.2",
            "1.10",
            "1:0.1",
        ];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        for (a, b) in [("1.0", "0:1.0"), ("1.0", "1.00"), ("1.0", "1.0-0"), ("1", "01")] {
            assert_eq!(version(a), version(b));
        }
    }

    #[test]
    fn parts() {
        let v = version("2:1.2-3-4+deb12u1");
        assert_eq!((v.epoch(), v.upstream(), v.revision()), (2, "1.2-3", "4+deb12u1"));
        let v = version("1.5");
        assert_eq!((v.epoch(), v.upstream(), v.revision()), (0, "1.5", ""));
    }

    #[test]
    fn refused() {
        for (bad, why) in [
            ("", VersionError::Empty(String::new())),
            ("1:", VersionError::Empty("1:".into())),
            (":1", VersionError::Epoch(":1".into())),
            ("x:1", VersionError::Epoch("x:1".into())),
            ("+1:1", VersionError::Epoch("+1:1".into())),
            ("2147483648:1", VersionError::Epoch("2147483648:1".into())),
            ("1-", VersionError::Revision("1-".into())),
            ("-1", VersionError::Empty("-1".into())),
            ("1 2", VersionError::Character { version: "1 2".into(), character: ' ' }),
            ("1_2", VersionError::Character { version: "1_2".into(), character: '_' }),
            ("1-a:b", VersionError::Epoch("1-a:b".into())),
            ("1:1-a:b", VersionError::Character { version: "1:1-a:b".into(), character: ':' }),
        ] {
            assert_eq!(bad.parse::<Version>().unwrap_err(), why, "{bad}");
        }
        assert_eq!("1".repeat(300).parse::<Version>().unwrap_err(), VersionError::Long { bytes: 300 });
    }
}
