//! Package indices (`Packages`; Debian policy 5.3 and the "Debian Repository Format", section "Packages Indices").
//!
//! The relation fields stay text: an index has 66,000 packages and a machine needs a hundred of them.
//! [`parse_relations`](crate::parse_relations) reads one when it is needed.

use thiserror::Error;

use crate::control::{ControlError, Paragraph, Paragraphs, parse_source};
use crate::name::NameError;
use crate::relation::RelationError;
use crate::version::VersionError;
use crate::{PackageName, Version};

/// Most packages accepted in one index. The largest suite of Debian has fewer than 80,000.
pub const MAX_PACKAGES: usize = 1_000_000;

/// What `Multi-Arch` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum MultiArch {
    /// `no`, or the field is not there.
    #[default]
    No,
    /// Can be there for several architectures at once.
    Same,
    /// Answers relations of any architecture.
    Foreign,
    /// Answers relations of any architecture that ask for `name:any`.
    Allowed,
}

/// What `Priority` says, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// The system breaks without it.
    Required,
    /// What one expects on any Unix.
    Important,
    /// What a small character-mode system has.
    Standard,
    /// Everything else; also a value that policy does not know.
    Optional,
    /// The obsolete name for the least important ones.
    Extra,
}

/// One binary package as an index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRecord {
    /// Its name.
    pub name: PackageName,
    /// Its version.
    pub version: Version,
    /// `amd64`, `all`, …
    pub architecture: Box<str>,
    /// See [`MultiArch`].
    pub multi_arch: MultiArch,
    /// Whether `Essential: yes` is there.
    pub essential: bool,
    /// See [`Priority`].
    pub priority: Priority,
    /// The section, such as `web`; may be empty.
    pub section: Box<str>,
    /// The source package it was built from.
    pub source_name: PackageName,
    /// The version of that source package.
    pub source_version: Version,
    /// `Pre-Depends` as written; empty if not there. The same for all relations below.
    pub pre_depends: Box<str>,
    /// `Depends`.
    pub depends: Box<str>,
    /// `Recommends`.
    pub recommends: Box<str>,
    /// `Conflicts`.
    pub conflicts: Box<str>,
    /// `Breaks`.
    pub breaks: Box<str>,
    /// `Provides`.
    pub provides: Box<str>,
    /// `Replaces`.
    pub replaces: Box<str>,
    /// Where the package lies below the root of the archive: relative, normalized, no `..`.
    pub filename: Box<str>,
    /// Size of the package file in bytes.
    pub size: u64,
    /// SHA-256 of the package file: 64 lower-case hex digits.
    pub sha256: String,
    /// `Installed-Size`: what it takes unpacked, in KiB, as its maintainer's tools guessed; 0 if not there.
    pub installed_size_kib: u64,
    /// First line of the description; may be empty.
    pub summary: Box<str>,
}

/// Why a text is not a package index.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum IndexError {
    /// The text is not control data.
    #[error("the package index is not control data")]
    Control(#[source] ControlError),
    /// A stanza has no valid name.
    #[error("line {line}: the stanza that starts here has no valid `Package`")]
    Name {
        /// First line of the stanza.
        line: usize,
        /// What is wrong with the name; `None`: the field is not there.
        #[source]
        source: Option<NameError>,
    },
    /// A field that must be there is not.
    #[error("line {line}: package `{package}` has no `{field}`")]
    Missing {
        /// The package.
        package: PackageName,
        /// First line of the stanza.
        line: usize,
        /// The field.
        field: &'static str,
    },
    /// A field whose value is not of its form.
    #[error("line {line}: `{field}` of package `{package}` is `{value}`, which is not {expected}")]
    Value {
        /// The package.
        package: PackageName,
        /// The line.
        line: usize,
        /// The field.
        field: &'static str,
        /// Its value, cut to 80 characters.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A version that is none.
    #[error("line {line}: `{field}` of package `{package}` holds no valid version")]
    Version {
        /// The package.
        package: PackageName,
        /// The line.
        line: usize,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: VersionError,
    },
    /// A `Provides` that cannot be read: what the package answers to is not known.
    #[error("line {line}: `Provides` of package `{package}` {version} cannot be read")]
    Provides {
        /// The package.
        package: PackageName,
        /// Its version.
        version: Version,
        /// First line of its stanza.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: Box<RelationError>,
    },
    /// More than [`MAX_PACKAGES`].
    #[error("more than {MAX_PACKAGES} packages in one index")]
    Many,
}

/// Parses a whole `Packages` file.
///
/// # Errors
/// [`IndexError`] for the first stanza that is not one, with its package and line.
pub fn parse_packages(text: &str) -> Result<Vec<PackageRecord>, IndexError> {
    let mut records = Vec::new();
    let mut paragraphs = Paragraphs::new(text);
    let mut paragraph = Paragraph::default();
    while paragraphs.read_into(&mut paragraph).map_err(IndexError::Control)? {
        if records.len() == MAX_PACKAGES {
            return Err(IndexError::Many);
        }
        records.push(PackageRecord::from_paragraph(&paragraph)?);
    }
    Ok(records)
}

impl PackageRecord {
    /// Reads one stanza of an index.
    ///
    /// # Errors
    /// [`IndexError`] naming the package, the field and the line.
    pub fn from_paragraph(paragraph: &Paragraph<'_>) -> Result<Self, IndexError> {
        let name = match paragraph.field("Package") {
            Some(field) => field
                .value
                .parse()
                .map_err(|source| IndexError::Name { line: field.line, source: Some(source) })?,
            None => return Err(IndexError::Name { line: paragraph.line, source: None }),
        };
        let stanza = Stanza { paragraph, package: &name };
        let version = stanza.version("Version", stanza.required("Version")?)?;
        let (source_name, source_version) = stanza.source(&version)?;
        let filename = stanza.checked("Filename", "a path inside the archive", is_archive_path)?;
        let sha256 = stanza.checked("SHA256", "64 hex digits", is_sha256)?;
        Ok(Self {
            version,
            architecture: stanza.checked("Architecture", "an architecture", is_architecture)?.into(),
            multi_arch: stanza.multi_arch()?,
            essential: stanza.text("Essential").eq_ignore_ascii_case("yes"),
            priority: priority(stanza.text("Priority")),
            section: stanza.text("Section").into(),
            source_name,
            source_version,
            pre_depends: stanza.text("Pre-Depends").into(),
            depends: stanza.text("Depends").into(),
            recommends: stanza.text("Recommends").into(),
            conflicts: stanza.text("Conflicts").into(),
            breaks: stanza.text("Breaks").into(),
            provides: stanza.text("Provides").into(),
            replaces: stanza.text("Replaces").into(),
            filename: filename.strip_prefix("./").unwrap_or(filename).into(),
            size: stanza.number("Size", stanza.required("Size")?)?,
            sha256: sha256.to_ascii_lowercase(),
            installed_size_kib: match paragraph.get("Installed-Size") {
                Some(size) => stanza.number("Installed-Size", size)?,
                None => 0,
            },
            summary: stanza.text("Description").lines().next().unwrap_or("").into(),
            name,
        })
    }
}

/// One stanza and whose it is: every error names the package.
struct Stanza<'p, 'a> {
    paragraph: &'p Paragraph<'a>,
    package: &'p PackageName,
}

impl<'a> Stanza<'_, 'a> {
    fn text(&self, field: &str) -> &'a str {
        self.paragraph.get(field).unwrap_or("")
    }

    fn line(&self, field: &str) -> usize {
        self.paragraph.field(field).map_or(self.paragraph.line, |field| field.line)
    }

    fn required(&self, field: &'static str) -> Result<&'a str, IndexError> {
        self.paragraph.get(field).ok_or_else(|| IndexError::Missing {
            package: self.package.clone(),
            line: self.paragraph.line,
            field,
        })
    }

    fn invalid(&self, field: &'static str, value: &str, expected: &'static str) -> IndexError {
        let value = value.chars().take(80).collect();
        IndexError::Value { package: self.package.clone(), line: self.line(field), field, value, expected }
    }

    fn checked(
        &self,
        field: &'static str,
        expected: &'static str,
        test: fn(&str) -> bool,
    ) -> Result<&'a str, IndexError> {
        let value = self.required(field)?;
        if test(value) { Ok(value) } else { Err(self.invalid(field, value, expected)) }
    }

    fn number(&self, field: &'static str, value: &str) -> Result<u64, IndexError> {
        // `parse` alone would also take `+5`.
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { value.parse().ok() } else { None };
        number.ok_or_else(|| self.invalid(field, value, "a number"))
    }

    fn version(&self, field: &'static str, value: &str) -> Result<Version, IndexError> {
        value.parse().map_err(|source| IndexError::Version {
            package: self.package.clone(),
            line: self.line(field),
            field,
            source,
        })
    }

    /// `Source: name` or `Source: name (version)`; what is not written is as in the binary package.
    fn source(&self, version: &Version) -> Result<(PackageName, Version), IndexError> {
        let Some(text) = self.paragraph.get("Source") else {
            return Ok((self.package.clone(), version.clone()));
        };
        let invalid = || self.invalid("Source", text, "a source package such as `nginx (1.0)`");
        let (name, source_version) = parse_source(text).ok_or_else(invalid)?;
        let source_version = match source_version {
            Some(text) => self.version("Source", text)?,
            None => version.clone(),
        };
        Ok((name.parse().map_err(|_| invalid())?, source_version))
    }

    fn multi_arch(&self) -> Result<MultiArch, IndexError> {
        match self.text("Multi-Arch") {
            "" | "no" => Ok(MultiArch::No),
            "same" => Ok(MultiArch::Same),
            "foreign" => Ok(MultiArch::Foreign),
            "allowed" => Ok(MultiArch::Allowed),
            other => Err(self.invalid("Multi-Arch", other, "`no`, `same`, `foreign` or `allowed`")),
        }
    }
}

fn priority(text: &str) -> Priority {
    match text {
        "required" => Priority::Required,
        "important" => Priority::Important,
        "standard" => Priority::Standard,
        "extra" => Priority::Extra,
        _ => Priority::Optional,
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_architecture(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether `text` names a file below the root of an archive and nothing else: relative, no `..`, no empty part,
/// nothing a URL or a terminal would read another way.
pub(crate) fn is_archive_path(text: &str) -> bool {
    let path = text.strip_prefix("./").unwrap_or(text);
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'?' | b'#'));
    plain && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const NGINX: &str = "Package: nginx\nSource: nginx-src (1.22.1-9)\nVersion: 1.22.1-9+deb12u2\nInstalled-Size: 1360\n\
        Architecture: amd64\nMulti-Arch: foreign\nPriority: optional\nSection: httpd\nDepends: libc6 (>= 2.34),\n iproute2\n\
        Filename: pool/main/n/nginx/nginx_1.22.1-9_amd64.deb\nSize: 527252\n\
        SHA256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF\nDescription: small\n more\n";

    fn check_error(text: &str, expected: &Expect) {
        let error = parse_packages(text).unwrap_err();
        let source = std::error::Error::source(&error).map_or(String::new(), |s| format!(" <- {s}"));
        expected.assert_eq(&format!("{error}{source}"));
    }

    #[test]
    fn stanza() {
        let records = parse_packages(NGINX).unwrap();
        let record = &records[0];
        assert_eq!(record.source_name.as_str(), "nginx-src");
        assert_eq!(record.source_version.as_str(), "1.22.1-9");
        assert_eq!(&*record.depends, "libc6 (>= 2.34),\n iproute2");
        assert_eq!((record.size, record.installed_size_kib, record.essential), (527_252, 1360, false));
        assert_eq!((record.multi_arch, record.priority), (MultiArch::Foreign, Priority::Optional));
        assert!(record.sha256.ends_with("abcdef"));
        assert_eq!(&*record.summary, "small");
    }

    #[test]
    fn refused() {
        check_error("\nVersion: 1\n", &expect!["line 2: the stanza that starts here has no valid `Package`"]);
        check_error(
            "Package: N\n",
            &expect![
                "line 1: the stanza that starts here has no valid `Package` <- package name `N` holds `N`; allowed are lower-case letters, digits, `+`, `-` and `.`"
            ],
        );
        check_error("Package: ab\n", &expect!["line 1: package `ab` has no `Version`"]);
        check_error(
            &NGINX.replace("1.22.1-9+deb12u2", "1_2"),
            &expect![
                "line 3: `Version` of package `nginx` holds no valid version <- version `1_2` holds `_` where it is not allowed"
            ],
        );
        check_error(
            &NGINX.replace("pool/main/n", "pool/../../etc"),
            &expect![
                "line 11: `Filename` of package `nginx` is `pool/../../etc/nginx/nginx_1.22.1-9_amd64.deb`, which is not a path inside the archive"
            ],
        );
        check_error(
            &NGINX.replace("Filename: pool", "Filename: /pool"),
            &expect![
                "line 11: `Filename` of package `nginx` is `/pool/main/n/nginx/nginx_1.22.1-9_amd64.deb`, which is not a path inside the archive"
            ],
        );
        check_error(
            &NGINX.replace("Size: 527252", "Size: +5"),
            &expect!["line 12: `Size` of package `nginx` is `+5`, which is not a number"],
        );
        check_error(
            &NGINX.replace("ABCDEF", "ABCDE"),
            &expect![
                "line 13: `SHA256` of package `nginx` is `0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDE`, which is not 64 hex digits"
            ],
        );
        check_error(
            &NGINX.replace("-src (1.22.1-9)", "-src (1.22.1-9"),
            &expect![
                "line 2: `Source` of package `nginx` is `nginx-src (1.22.1-9`, which is not a source package such as `nginx (1.0)`"
            ],
        );
        check_error(
            &NGINX.replace("Section: ", "Section"),
            &expect![
                "the package index is not control data <- line 8: `Sectionhttpd` is not a field: there is no `:` after a name"
            ],
        );
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_index_never_panics(at in 0usize..600, byte in 0u8..128) {
            let mut bytes = NGINX.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(records) = parse_packages(&text) {
                for record in &records {
                    proptest::prop_assert!(is_archive_path(&record.filename) && is_sha256(&record.sha256));
                }
            }
        }
    }
}
