//! Release files (`Release`, and the signed text of `InRelease`; the "Debian Repository Format", section "Release
//! files"): what a suite is, when it was made, and the digest of every index in it.
//!
//! Give only text whose signature was verified.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::control::{ControlError, Paragraph, Paragraphs};
use crate::date::{DateError, parse_date};
use crate::index::is_archive_path;

/// Most indices accepted in one release file. sid lists about 3,000.
pub const MAX_INDEX_FILES: usize = 100_000;

/// One index file of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFile {
    /// SHA-256: 64 lower-case hex digits.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// What a release file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Who made it, such as `Debian`; may be empty.
    pub origin: String,
    /// Its label, such as `Debian-Security`; may be empty.
    pub label: String,
    /// The moving name, such as `oldstable`; may be empty.
    pub suite: String,
    /// The fixed name, such as `bookworm`; may be empty.
    pub codename: String,
    /// The point release, such as `12.15`; may be empty.
    pub version: String,
    /// When it was made, in seconds since 1970.
    pub date: u64,
    /// From when on it must not be believed, in seconds since 1970; stable suites have none.
    pub valid_until: Option<u64>,
    /// Components, such as `main`.
    pub components: Vec<String>,
    /// Architectures, such as `amd64`.
    pub architectures: Vec<String>,
    /// Whether indices can be had by digest, which has no race with an update of the mirror.
    pub acquire_by_hash: bool,
    /// Every index by its path below the folder of the release file, such as `main/binary-amd64/Packages.xz`.
    pub sha256: BTreeMap<String, IndexFile>,
}

/// Why a text is not a release file.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ReleaseError {
    /// The text is not control data.
    #[error("the release file is not control data")]
    Control(#[source] ControlError),
    /// There is not exactly one paragraph.
    #[error("the release file has {0} paragraphs instead of one")]
    Paragraphs(usize),
    /// A field that must be there is not.
    #[error("the release file has no `{0}`")]
    Missing(&'static str),
    /// A date that is none.
    #[error("line {line}: `{field}` of the release file is no date")]
    Date {
        /// The field.
        field: &'static str,
        /// Its line.
        line: usize,
        /// The text.
        #[source]
        source: DateError,
    },
    /// A line of the `SHA256` table that is not digest, size and path.
    #[error("line {line}: `{text}` is not a SHA-256, a size and a path")]
    Entry {
        /// The line.
        line: usize,
        /// Its text, cut to 120 characters.
        text: String,
    },
    /// A path with two different digests or sizes.
    #[error("line {line}: `{path}` is listed twice with different contents")]
    Contradiction {
        /// The line.
        line: usize,
        /// The path.
        path: String,
    },
    /// More than [`MAX_INDEX_FILES`].
    #[error("the release file lists more than {MAX_INDEX_FILES} files")]
    Many,
}

impl std::str::FromStr for ReleaseFile {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let paragraphs =
            Paragraphs::new(text).collect::<Result<Vec<_>, _>>().map_err(ReleaseError::Control)?;
        let [paragraph] = &paragraphs[..] else { return Err(ReleaseError::Paragraphs(paragraphs.len())) };
        let text = |field| paragraph.get(field).unwrap_or("").to_owned();
        let words =
            |field| paragraph.get(field).unwrap_or("").split_ascii_whitespace().map(str::to_owned).collect();
        Ok(Self {
            origin: text("Origin"),
            label: text("Label"),
            suite: text("Suite"),
            codename: text("Codename"),
            version: text("Version"),
            date: date(paragraph, "Date")?.ok_or(ReleaseError::Missing("Date"))?,
            valid_until: date(paragraph, "Valid-Until")?,
            components: words("Components"),
            architectures: words("Architectures"),
            acquire_by_hash: text("Acquire-By-Hash").eq_ignore_ascii_case("yes"),
            sha256: index_files(paragraph)?,
        })
    }
}

fn date(paragraph: &Paragraph<'_>, name: &'static str) -> Result<Option<u64>, ReleaseError> {
    let Some(field) = paragraph.field(name) else { return Ok(None) };
    match parse_date(field.value) {
        Ok(seconds) => Ok(Some(seconds)),
        Err(source) => Err(ReleaseError::Date { field: name, line: field.line, source }),
    }
}

fn index_files(paragraph: &Paragraph<'_>) -> Result<BTreeMap<String, IndexFile>, ReleaseError> {
    let field = paragraph.field("SHA256").ok_or(ReleaseError::Missing("SHA256"))?;
    // The table starts on the line after the name; a value that starts on the same line is cut the same way.
    let first = if field.value.is_empty() { field.line } else { field.line + 1 };
    let mut files = BTreeMap::new();
    for (i, text) in field.value.lines().enumerate() {
        let line = first + i;
        let invalid = || ReleaseError::Entry { line, text: text.chars().take(120).collect() };
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [sha256, size, path] = words[..] else { return Err(invalid()) };
        let digest = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        let number = size.bytes().all(|b| b.is_ascii_digit());
        if !digest || !number || !is_archive_path(path) {
            return Err(invalid());
        }
        let file =
            IndexFile { sha256: sha256.to_ascii_lowercase(), size: size.parse().map_err(|_| invalid())? };
        if files.len() == MAX_INDEX_FILES {
            return Err(ReleaseError::Many);
        }
        if let Some(before) = files.insert(path.to_owned(), file.clone())
            && before != file
        {
            return Err(ReleaseError::Contradiction { line, path: path.to_owned() });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const A: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn sample() -> String {
        format!(
            "Origin: Debian\nLabel: Debian\nSuite: oldstable\nVersion: 12.15\nCodename: bookworm\n\
             Date: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\n\
             Architectures: all amd64\nComponents: main contrib\nMD5Sum:\n 0ed6d4 5 x\nSHA256:\n {A}        0 main/binary-all/Packages\n \
             {B} 12 main/binary-amd64/Packages.xz\n"
        )
    }

    fn check_error(text: &str, expected: &Expect) {
        let error = text.parse::<ReleaseFile>().unwrap_err();
        let source = std::error::Error::source(&error).map_or(String::new(), |s| format!(" <- {s}"));
        expected.assert_eq(&format!("{error}{source}"));
    }

    #[test]
    fn file() {
        let release: ReleaseFile = sample().parse().unwrap();
        assert_eq!((release.suite.as_str(), release.codename.as_str()), ("oldstable", "bookworm"));
        assert_eq!(release.date, 1_783_764_997);
        assert_eq!(release.valid_until, Some(1_783_764_997 + 7 * 86_400));
        assert_eq!(release.components, ["main", "contrib"]);
        assert!(release.acquire_by_hash);
        assert_eq!(release.sha256["main/binary-amd64/Packages.xz"], IndexFile { sha256: B.into(), size: 12 });
        assert_eq!(release.sha256.len(), 2);
    }

    #[test]
    fn refused() {
        check_error("", &expect!["the release file has 0 paragraphs instead of one"]);
        check_error(
            &format!("{}\nA: b\n", sample()),
            &expect!["the release file has 2 paragraphs instead of one"],
        );
        check_error(&sample().replace("SHA256", "SHA1"), &expect!["the release file has no `SHA256`"]);
        check_error(&sample().replace("\nDate", "\nDatum"), &expect!["the release file has no `Date`"]);
        check_error(
            &sample().replace("11 Jul", "31 Feb"),
            &expect![
                "line 6: `Date` of the release file is no date <- `Sat, 31 Feb 2026 10:16:37 UTC` is not a date such as `Sat, 11 Oct 2025 09:20:13 UTC`"
            ],
        );
        check_error(
            &sample().replace("main/binary-amd64/", "../"),
            &expect![
                "line 15: ` 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef 12 ../Packages.xz` is not a SHA-256, a size and a path"
            ],
        );
        check_error(
            &sample().replace("binary-amd64/Packages.xz", "binary-all/Packages"),
            &expect!["line 15: `main/binary-all/Packages` is listed twice with different contents"],
        );
    }
}
