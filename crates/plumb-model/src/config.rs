//! What a deployment can set: the schema, which is part of a release, and the configuration, an immutable numbered
//! document of values. A deployment runs a pair of both.
//!
//! ```text
//!  [config] of the definition ─► Schema (release) ─┐
//!                                                  ├─ settings ─► Settings: texts of values, versions of secrets
//!  plumb config set, secret set ─► Configuration ──┘
//! ```
//! A secret is in none of these: the configuration names a version of it, a random number, and says nothing of its value.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canonical::Document;
use crate::{AppName, DeploymentName, Digest};

mod quantity;

pub(crate) use quantity::measure;

/// Most bytes of a value: a value is a word or an address; what is longer belongs into a file of the definition.
pub const MAX_VALUE_BYTES: usize = 4096;

/// Longest name.
const MAX_NAME_BYTES: usize = 40;

/// Largest compiled pattern: those of names and addresses take a hundredth of it.
const MAX_PATTERN_BYTES: usize = 64 * 1024;

/// Name of a setting or a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigName(String);

/// Why a text is not a [`ConfigName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{value}` is not the name of a setting: 1 to 40 of a-z, 0-9 and `_`, starting with a letter")]
pub struct ConfigNameError {
    /// What was given.
    pub value: String,
}

impl ConfigName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConfigName {
    type Err = ConfigNameError;

    fn from_str(value: &str) -> Result<Self, ConfigNameError> {
        let is_name = (1..=MAX_NAME_BYTES).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && value.as_bytes()[0].is_ascii_lowercase();
        if is_name {
            Ok(ConfigName(value.to_owned()))
        } else {
            Err(ConfigNameError { value: value.chars().take(MAX_NAME_BYTES * 2).collect() })
        }
    }
}

impl fmt::Display for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Serialize for ConfigName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ConfigName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything that can be set, by name.
pub type Schema = BTreeMap<ConfigName, Key>;

/// One thing that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Its value unless another is set; a secret has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Nothing runs without a value.
    pub required: bool,
    /// Smallest number; of a size bytes, of a duration milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Largest number; of a size bytes, of a duration milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// The only values there are; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<Value>,
    /// A regular expression that all of the text matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Most bytes of a text or a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// The unit of which machines are told a whole number, for a size or a duration; `None` tells them what was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// A secret that is made at random for a deployment in which it is not set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generate: bool,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A number of bytes with its unit, `64MiB`.
    Size,
    /// A time with its unit, `30s`.
    Duration,
    /// A text or bytes that nobody may see.
    Secret,
}

impl Kind {
    /// As the definition writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Boolean => "boolean",
            Kind::Size => "size",
            Kind::Duration => "duration",
            Kind::Secret => "secret",
        }
    }
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A truth value.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

/// As a template gets it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => value.fmt(f),
            Value::Integer(value) => value.fmt(f),
            Value::Text(value) => value.fmt(f),
        }
    }
}

/// Why a value is refused, in words that go on after its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Key {
    /// The value that a text on a command line means.
    ///
    /// # Errors
    /// [`Refused`] if it is not of the type, or is not allowed.
    pub fn read(&self, text: &str) -> Result<Value, Refused> {
        let value = match self.kind {
            Kind::String | Kind::Size | Kind::Duration => Value::Text(text.to_owned()),
            Kind::Integer => match text.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => return Err(Refused(format!("must be a whole number, not `{}`", shown(text)))),
            },
            Kind::Boolean => match text {
                "true" => Value::Boolean(true),
                "false" => Value::Boolean(false),
                _ => return Err(Refused(format!("must be `true` or `false`, not `{}`", shown(text)))),
            },
            Kind::Secret => return Err(Refused("is a secret".to_owned())),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Checks a value against type, range, list, pattern and length.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, value: &Value) -> Result<(), Refused> {
        let refuse = |text: String| Err(Refused(text));
        match (self.kind, value) {
            (Kind::String, Value::Text(text)) => self.check_text(text)?,
            (Kind::Integer, Value::Integer(number)) => self.check_range(*number, &number.to_string())?,
            (Kind::Size | Kind::Duration, Value::Text(text)) => self.check_quantity(text)?,
            (Kind::Boolean, Value::Boolean(_)) => {}
            (Kind::Secret, _) => return refuse("is a secret".to_owned()),
            (kind, _) => return refuse(format!("must be of type {}", kind.as_str())),
        }
        if !self.one_of.is_empty() && !self.one_of.contains(value) {
            let known: Vec<String> = self.one_of.iter().map(|value| format!("`{value}`")).collect();
            return refuse(format!(
                "is `{}`, but must be one of {}",
                shown(&value.to_string()),
                known.join(", ")
            ));
        }
        Ok(())
    }

    fn check_range(&self, number: i64, written: &str) -> Result<(), Refused> {
        if self.min.is_some_and(|min| number < min) || self.max.is_some_and(|max| number > max) {
            return Err(Refused(format!("is {written}, but must be {}", self.range())));
        }
        Ok(())
    }

    fn check_quantity(&self, text: &str) -> Result<(), Refused> {
        let Some(amount) = self.kind.amount(text) else {
            let units: Vec<String> = self.kind.units().iter().map(|(unit, _)| format!("`{unit}`")).collect();
            return Err(Refused(format!(
                "is `{}`, but must be a {}, a whole number and one of {}",
                shown(text),
                self.kind.as_str(),
                units.join(" ")
            )));
        };
        self.check_range(amount, text)?;
        match self.unit.as_deref().and_then(|unit| Some((unit, self.kind.factor(unit)?))) {
            Some((unit, factor)) if amount % factor != 0 => {
                Err(Refused(format!("is {text}, which is no whole number of {unit}")))
            }
            _ => Ok(()),
        }
    }

    /// What machines are told of a value that was checked.
    fn told(&self, value: &Value) -> String {
        let Value::Text(text) = value else { return value.to_string() };
        match (self.kind.amount(text), self.unit.as_deref().and_then(|unit| self.kind.factor(unit))) {
            (Some(amount), Some(factor)) => (amount / factor).to_string(),
            (Some(_), None) => text.replace(' ', ""),
            (None, _) => text.clone(),
        }
    }

    /// A bound as it is written.
    pub(crate) fn bound(&self, bound: i64) -> String {
        self.kind.written(bound)
    }

    fn check_text(&self, text: &str) -> Result<(), Refused> {
        let limit = self.max_length.map_or(MAX_VALUE_BYTES, |limit| limit as usize).min(MAX_VALUE_BYTES);
        if text.len() > limit {
            return Err(Refused(format!("has {} bytes, at most {limit} are allowed", text.len())));
        }
        if text.contains('\0') {
            return Err(Refused("holds a NUL character".to_owned()));
        }
        match &self.pattern {
            Some(pattern) if !compiled(pattern)?.is_match(text) => {
                Err(Refused(format!("is `{}`, but must match `{pattern}`", shown(text))))
            }
            _ => Ok(()),
        }
    }

    /// Most bytes of a secret of this key.
    #[must_use]
    pub fn secret_limit(&self) -> usize {
        let limit = plumb_guest_proto::MAX_SECRET_BYTES;
        self.max_length.map_or(limit, |own| own as usize).min(limit)
    }

    fn range(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("from {} to {}", self.bound(min), self.bound(max)),
            (Some(min), None) => format!("at least {}", self.bound(min)),
            (None, Some(max)) => format!("at most {}", self.bound(max)),
            (None, None) => "any".to_owned(),
        }
    }
}

/// For people: `integer, 2 unless set, from 1 to 64`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        match &self.default {
            Some(default) => write!(f, ", {default} unless set")?,
            None if self.generate => f.write_str(", made at random unless set")?,
            None if self.required => f.write_str(", required")?,
            None => f.write_str(", optional")?,
        }
        if self.min.is_some() || self.max.is_some() {
            write!(f, ", {}", self.range())?;
        }
        if !self.one_of.is_empty() {
            let known: Vec<String> = self.one_of.iter().map(ToString::to_string).collect();
            write!(f, ", one of {}", known.join(" "))?;
        }
        if let Some(pattern) = &self.pattern {
            write!(f, ", matches {pattern}")?;
        }
        if let Some(unit) = &self.unit {
            write!(f, ", told in {unit}")?;
        }
        match self.max_length {
            Some(limit) => write!(f, ", at most {limit} bytes"),
            None => Ok(()),
        }
    }
}

/// The pattern, made to match all of a text.
pub(crate) fn compiled(pattern: &str) -> Result<regex_lite::Regex, Refused> {
    regex_lite::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| Refused(format!("has the pattern `{}`: {error}", shown(pattern))))
}

/// A value inside a message: on one line, not endless.
fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

/// What is set of a deployment: one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Always [`Configuration::FORMAT`].
    pub format: u32,
    /// Whose it is.
    pub deployment: DeploymentName,
    /// Its application.
    pub app: AppName,
    /// Number, from 1.
    pub number: u64,
    /// Digest of the one that it was made from.
    pub previous: Option<Digest>,
    /// When it was made, seconds since 1970.
    pub created_s: i64,
    /// Who made it: user and host.
    pub author: String,
    /// What is set; what is not has its default.
    pub values: BTreeMap<ConfigName, Value>,
    /// Which version of each secret: a random number, which says nothing of it.
    pub secrets: BTreeMap<ConfigName, Digest>,
}

impl Document for Configuration {
    const WHAT: &'static str = "configuration";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

/// Which configuration: number and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigRef {
    /// Number.
    pub number: u64,
    /// Digest of the document.
    pub digest: Digest,
}

/// What the instances of a release are told: schema and configuration together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The configuration; `None` if nothing was ever set.
    pub configuration: Option<ConfigRef>,
    /// Texts of all values that are set or have a default.
    pub values: BTreeMap<ConfigName, String>,
    /// Versions of the secrets that are set.
    pub secrets: BTreeMap<ConfigName, Digest>,
}

/// Why a release cannot run with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Which setting.
    pub name: ConfigName,
    /// What it is.
    pub kind: Kind,
    /// What is wrong, in words that go on after the name; `None` if it is not set.
    pub refused: Option<Refused>,
}

/// What instances are told of a schema with this configuration. Settings that the schema does not have are left out.
///
/// # Errors
/// Everything that is not set and has to be, and everything that the schema refuses.
pub fn settings(schema: &Schema, configuration: Option<&Configuration>) -> Result<Settings, Vec<Unfit>> {
    let mut found = Settings {
        configuration: configuration.map(|one| ConfigRef { number: one.number, digest: one.digest() }),
        ..Settings::default()
    };
    let mut unfit = Vec::new();
    for (name, key) in schema {
        let mut wrong = |refused| unfit.push(Unfit { name: name.clone(), kind: key.kind, refused });
        if key.kind == Kind::Secret {
            match configuration.and_then(|one| one.secrets.get(name)) {
                Some(version) => drop(found.secrets.insert(name.clone(), *version)),
                None if key.required => wrong(None),
                None => {}
            }
            continue;
        }
        match configuration.and_then(|one| one.values.get(name)).or(key.default.as_ref()) {
            Some(value) => match key.check(value) {
                Ok(()) => drop(found.values.insert(name.clone(), key.told(value))),
                Err(refused) => wrong(Some(refused)),
            },
            None if key.required => wrong(None),
            None => {}
        }
    }
    if unfit.is_empty() { Ok(found) } else { Err(unfit) }
}

#[cfg(test)]
mod tests;
