//! Package names (Debian policy 5.6.1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest package name accepted. Debian has no limit; the longest of bookworm has 78 bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// The name of a binary, source or virtual package: lower-case letters, digits, `+`, `-` and `.`, at least two
/// characters, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

/// Why a text is not a package name.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum NameError {
    /// Shorter than two characters.
    #[error("package name `{0}` is shorter than two characters")]
    Short(String),
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("package name of {bytes} bytes is longer than {MAX_NAME_BYTES}")]
    Long {
        /// Its length.
        bytes: usize,
    },
    /// Does not start with a letter or digit.
    #[error("package name `{0}` does not start with a lower-case letter or a digit")]
    Start(String),
    /// Holds a character that no package name may hold.
    #[error(
        "package name `{name}` holds `{character}`; allowed are lower-case letters, digits, `+`, `-` and `.`"
    )]
    Character {
        /// The text.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
}

impl PackageName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn validate(text: &str) -> Result<(), NameError> {
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::Long { bytes: text.len() });
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
        if let Some(character) = text.chars().find(|&c| !allowed(c)) {
            return Err(NameError::Character { name: text.to_owned(), character });
        }
        if text.len() < 2 {
            return Err(NameError::Short(text.to_owned()));
        }
        if text.starts_with(['+', '-', '.']) {
            return Err(NameError::Start(text.to_owned()));
        }
        Ok(())
    }
}

impl FromStr for PackageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::validate(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PackageName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::validate(&text)?;
        Ok(Self(text))
    }
}

impl From<PackageName> for String {
    fn from(name: PackageName) -> Self {
        name.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for PackageName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for PackageName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_policy_5_6_1() {
        for good in ["nginx", "g++", "libstdc++6", "0ad", "python3.11", "a+", "libx.y-dev"] {
            assert_eq!(good.parse::<PackageName>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("a", NameError::Short("a".into())),
            ("", NameError::Short(String::new())),
            ("-ab", NameError::Start("-ab".into())),
            ("Ab", NameError::Character { name: "Ab".into(), character: 'A' }),
            ("a/b", NameError::Character { name: "a/b".into(), character: '/' }),
            ("añ", NameError::Character { name: "añ".into(), character: 'ñ' }),
        ] {
            assert_eq!(bad.parse::<PackageName>(), Err(why), "{bad}");
        }
        assert_eq!("a".repeat(300).parse::<PackageName>(), Err(NameError::Long { bytes: 300 }));
    }
}
