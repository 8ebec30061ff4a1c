//! Why something differs.

use std::fmt;

use serde::Serialize;

/// Why something differs. Each is an input of an image, or leads to another change that has such a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Cause {
    /// The definition says something else.
    Definition {
        /// The key, with its table: `machine.web.memory`, or a line of it: `middleware = ["nginx"]`.
        key: String,
    },
    /// The user's own files.
    Files {
        /// The target of `app` that they lie below.
        target: String,
    },
    /// The archive has something newer.
    Base {
        /// The suite that moved.
        suite: String,
        /// Date of the index before, seconds since 1970.
        before_s: i64,
        /// Date of the index after.
        after_s: i64,
    },
    /// The same archive; the lock held an older version, and was told to take what there is.
    Update,
    /// A package needs it.
    Dependency {
        /// The package.
        by: String,
        /// How it says so.
        relation: String,
        /// Why that one needs it now.
        because: Box<Cause>,
    },
    /// Nothing needs it any more.
    NotNeeded {
        /// The package that needed it.
        by: String,
        /// Why that one does no longer, or is gone itself.
        because: Box<Cause>,
    },
    /// A package changed that brings it, or whose scripts make it.
    Package {
        /// The package.
        name: String,
    },
    /// A rule makes it of other things, and those changed.
    Made {
        /// The rule.
        rule: String,
        /// What changed: packages, `accounts`, keys of the definition.
        of: Vec<String>,
    },
    /// Another Plumb: its rules, or its PID 1.
    Plumb,
    /// None was found, which is an error of ours.
    Unknown,
}

/// Most names in one sentence.
const NAMES: usize = 3;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Definition { key } => write!(f, "the definition: {key}"),
            Cause::Files { target } => write!(f, "your files for {target}"),
            Cause::Base { suite, .. } => write!(f, "the archive: {suite} has moved"),
            Cause::Update => f.write_str("the lock was told to update"),
            Cause::Dependency { by, relation, because } => {
                write!(f, "{by} needs {relation}; {because}")
            }
            Cause::NotNeeded { by, because } => write!(f, "{by} needed it; {because}"),
            Cause::Package { name } => write!(f, "package {name}"),
            Cause::Made { rule, of } => {
                let more = of.len().saturating_sub(NAMES);
                let names = of.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
                write!(f, "made by rule {rule} of {names}")?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Cause::Plumb => f.write_str("another Plumb"),
            Cause::Unknown => f.write_str("unknown; please report this"),
        }
    }
}
