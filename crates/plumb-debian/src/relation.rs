//! The dependency grammar (Debian policy 7.1; deb-src-control(5) for architectures and profiles).
//!
//! ```text
//! a, b (>= 1) | c:any [amd64 !i386] <!nocheck>
//! ^^ ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ alternatives, in order of preference
//!    ^^^^^^^^                                  one relation: name, qualifier, version, restrictions
//! ```

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{PackageName, Version};

/// Most relations accepted in one field. The longest of bookworm has about 1,300.
pub const MAX_RELATIONS: usize = 20_000;

/// How a version is compared with the one that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// `<<`
    #[serde(rename = "<<")]
    Earlier,
    /// `<=`, and the obsolete `<`
    #[serde(rename = "<=")]
    EarlierOrEqual,
    /// `=`
    #[serde(rename = "=")]
    Equal,
    /// `>=`, and the obsolete `>`
    #[serde(rename = ">=")]
    LaterOrEqual,
    /// `>>`
    #[serde(rename = ">>")]
    Later,
}

impl Operator {
    /// Whether `candidate OPERATOR wanted` holds.
    #[must_use]
    pub fn accepts(self, candidate: &Version, wanted: &Version) -> bool {
        self.holds(candidate.cmp(wanted))
    }

    /// Whether it holds of two that are ordered like this.
    #[must_use]
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        })
    }
}

/// One relation to one package name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The package, real or virtual.
    pub name: PackageName,
    /// What stands after `:`: `any`, `native` or an architecture.
    pub qualifier: Option<String>,
    /// The versions that will do; `None`: all.
    pub version: Option<(Operator, Version)>,
    /// What stands in `[…]`: architectures and wildcards, each perhaps with `!`.
    pub architectures: Vec<String>,
    /// What stands in each `<…>`: build profiles, each perhaps with `!`.
    pub profiles: Vec<Vec<String>>,
}

/// Relations of which one is enough, best first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternatives(pub Vec<Relation>);

/// Why a text is not a list of relations.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RelationError {
    /// The name.
    #[error("`{text}` does not start with a package name")]
    Name {
        /// The relation.
        text: String,
        /// What is wrong with the name.
        #[source]
        source: crate::NameError,
    },
    /// The version.
    #[error("`{text}` holds no valid version")]
    Version {
        /// The relation.
        text: String,
        /// What is wrong with the version.
        #[source]
        source: crate::VersionError,
    },
    /// The operator in front of the version.
    #[error("`{0}` compares a version with none of `<<`, `<=`, `=`, `>=`, `>>`")]
    Operator(String),
    /// Anything else.
    #[error("`{0}` is not a relation such as `name (>= 1.0)`")]
    Syntax(String),
    /// More than [`MAX_RELATIONS`].
    #[error("more than {MAX_RELATIONS} relations in one field")]
    Many,
}

impl Relation {
    /// Whether `candidate` is one of the versions that will do.
    #[must_use]
    pub fn accepts(&self, candidate: &Version) -> bool {
        self.version.as_ref().is_none_or(|(operator, wanted)| operator.accepts(candidate, wanted))
    }

    /// Whether the relation is there at all for `architecture` with no build profile active.
    #[must_use]
    pub fn applies_to(&self, architecture: &str) -> bool {
        self.applies_to_architecture(architecture) && self.applies_without_profile()
    }

    fn applies_to_architecture(&self, architecture: &str) -> bool {
        if self.architectures.is_empty() {
            return true;
        }
        // Policy 7.1: either all are negated or none is.
        let negated = self.architectures.iter().all(|a| a.starts_with('!'));
        let listed =
            self.architectures.iter().any(|a| wildcard_matches(a.trim_start_matches('!'), architecture));
        listed != negated
    }

    /// The restrictions in one `<…>` must all hold, of several `<…>` one is enough.
    fn applies_without_profile(&self) -> bool {
        self.profiles.is_empty()
            || self.profiles.iter().any(|list| list.iter().all(|term| term.starts_with('!')))
    }

    fn parse(text: &str) -> Result<Self, RelationError> {
        let syntax = || RelationError::Syntax(text.to_owned());
        let head_end = text
            .find(|c: char| c.is_ascii_whitespace() || matches!(c, '(' | '[' | '<'))
            .unwrap_or(text.len());
        let (head, mut rest) = text.split_at(head_end);
        let (name, qualifier) = match head.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (head, None),
        };
        if qualifier.is_some_and(|q| {
            q.is_empty() || !q.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        }) {
            return Err(syntax());
        }
        let name = name.parse().map_err(|source| RelationError::Name { text: text.to_owned(), source })?;
        let mut relation = Self {
            name,
            qualifier: qualifier.map(str::to_owned),
            version: None,
            architectures: Vec::new(),
            profiles: Vec::new(),
        };
        loop {
            rest = rest.trim_ascii_start();
            let Some(open) = rest.chars().next() else { return Ok(relation) };
            let close = match open {
                '(' if relation.version.is_none() => ')',
                '[' if relation.architectures.is_empty() => ']',
                '<' => '>',
                _ => return Err(syntax()),
            };
            // A version holds `<` and `>` itself, but never its closing bracket.
            let (inside, after) = rest[1..].split_once(close).ok_or_else(syntax)?;
            let words = || inside.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
            match open {
                '(' => relation.version = Some(parse_constraint(inside, text)?),
                '[' => relation.architectures = words(),
                _ => relation.profiles.push(words()),
            }
            if open != '(' && inside.trim_ascii().is_empty() {
                return Err(syntax());
            }
            rest = after;
        }
    }
}

/// `>= 1.0` as it stands in parentheses.
fn parse_constraint(inside: &str, text: &str) -> Result<(Operator, Version), RelationError> {
    let inside = inside.trim_ascii();
    let length = inside.find(|c| !matches!(c, '<' | '=' | '>')).unwrap_or(inside.len());
    let (operator, version) = inside.split_at(length);
    let operator = match operator {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::EarlierOrEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return Err(RelationError::Operator(text.to_owned())),
    };
    let version = version
        .trim_ascii()
        .parse()
        .map_err(|source| RelationError::Version { text: text.to_owned(), source })?;
    Ok((operator, version))
}

/// Architecture wildcards of policy 11.1.1: `any`, `linux-any`, `any-amd64`, `amd64`, `linux-amd64`.
fn wildcard_matches(wildcard: &str, architecture: &str) -> bool {
    match wildcard.split_once('-') {
        None => wildcard == "any" || wildcard == architecture,
        Some((os, cpu)) => matches!(os, "any" | "linux") && (cpu == "any" || cpu == architecture),
    }
}

/// Parses the value of a relation field such as `Depends`.
///
/// # Errors
/// [`RelationError`] with the relation that is none.
pub fn parse_relations(text: &str) -> Result<Vec<Alternatives>, RelationError> {
    let mut groups = Vec::new();
    for group in text.split(',').map(str::trim_ascii).filter(|group| !group.is_empty()) {
        if groups.len() == MAX_RELATIONS {
            return Err(RelationError::Many);
        }
        groups.push(group.parse()?);
    }
    Ok(groups)
}

impl std::str::FromStr for Alternatives {
    type Err = RelationError;

    fn from_str(text: &str) -> Result<Self, RelationError> {
        let mut relations = Vec::with_capacity(1);
        for relation in text.split('|') {
            if relations.len() == MAX_RELATIONS {
                return Err(RelationError::Many);
            }
            relations.push(Relation::parse(relation.trim_ascii())?);
        }
        Ok(Self(relations))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.version {
            write!(f, " ({operator} {version})")?;
        }
        if !self.architectures.is_empty() {
            write!(f, " [{}]", self.architectures.join(" "))?;
        }
        for list in &self.profiles {
            write!(f, " <{}>", list.join(" "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Alternatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, relation) in self.0.iter().enumerate() {
            write!(f, "{}{relation}", if i == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let shown = match parse_relations(text) {
            Ok(groups) => groups.iter().map(|group| format!("{group}\n")).collect(),
            Err(error) => format!("error: {error}\n"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn grammar() {
        check(
            "a1|b2(>=1),c3:any  ( << 2:1~ )[amd64  !i386]<!nocheck> <a !b>,\n d4 (> 1) | e5 (< 3),, f6 (= 1)",
            &expect![[r#"
                a1 | b2 (>= 1)
                c3:any (<< 2:1~) [amd64 !i386] <!nocheck> <a !b>
                d4 (>= 1) | e5 (<= 3)
                f6 (= 1)
            "#]],
        );
        check("", &expect![""]);
    }

    #[test]
    fn refused() {
        for (text, expected) in [
            (
                "a1 (~ 2)",
                expect![[r#"
                error: `a1 (~ 2)` compares a version with none of `<<`, `<=`, `=`, `>=`, `>>`
            "#]],
            ),
            (
                "a1 (>= )",
                expect![[r#"
                error: `a1 (>= )` holds no valid version
            "#]],
            ),
            (
                "a1 (>= 1",
                expect![[r#"
                error: `a1 (>= 1` is not a relation such as `name (>= 1.0)`
            "#]],
            ),
            (
                "a1 b2",
                expect![[r#"
                error: `a1 b2` is not a relation such as `name (>= 1.0)`
            "#]],
            ),
            (
                "a1 |",
                expect![[r#"
                error: `` does not start with a package name
            "#]],
            ),
            (
                "a1:",
                expect![[r#"
                error: `a1:` is not a relation such as `name (>= 1.0)`
            "#]],
            ),
            (
                "a1 []",
                expect![[r#"
                error: `a1 []` is not a relation such as `name (>= 1.0)`
            "#]],
            ),
        ] {
            check(text, &expected);
        }
    }

    #[test]
    fn restrictions() {
        for (text, applies) in [
            ("ab", true),
            ("ab [amd64]", true),
            ("ab [i386]", false),
            ("ab [!amd64]", false),
            ("ab [!i386 !arm64]", true),
            ("ab [linux-any]", true),
            ("ab [any-amd64]", true),
            ("ab [kfreebsd-any]", false),
            ("ab <!nocheck>", true),
            ("ab <nocheck>", false),
            ("ab <nocheck> <!stage1>", true),
            ("ab [amd64] <cross>", false),
        ] {
            let group: Alternatives = text.parse().unwrap();
            assert_eq!(group.0[0].applies_to("amd64"), applies, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,60}") {
            if let Ok(groups) = parse_relations(&text) {
                for group in groups {
                    proptest::prop_assert_eq!(&group.to_string().parse::<Alternatives>().unwrap(), &group);
                }
            }
        }

        #[test]
        fn near_relations_are_parsed_or_refused(text in r"([ab]{2}(:any)?( ?\((<<|=|>=) ?[0-9]([.~-]1)?\))?( \[!?amd64\])?( <!?x>)?( ?[|,] ?)?){0,6}") {
            if let Ok(groups) = parse_relations(&text) {
                for group in groups {
                    proptest::prop_assert_eq!(&group.to_string().parse::<Alternatives>().unwrap(), &group);
                }
            }
        }
    }
}
