//! Environment markers (PEP 508): `python_version < "3.8" and extra == "x"`.

use std::collections::BTreeMap;

use super::version::PyVersion;
use super::{PythonError, normalize};

/// Deepest nesting of parentheses; nobody writes two.
const MAX_DEPTH: usize = 16;

/// What markers are evaluated against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment(BTreeMap<&'static str, String>);

impl Environment {
    /// CPython of the full version (`3.11.2`) on Linux on x86-64.
    #[must_use]
    pub fn cpython(full_version: &str) -> Self {
        let short = full_version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        let values = [
            ("implementation_name", "cpython"),
            ("implementation_version", full_version),
            ("os_name", "posix"),
            ("platform_machine", "x86_64"),
            ("platform_python_implementation", "CPython"),
            ("platform_release", ""),
            ("platform_system", "Linux"),
            ("platform_version", ""),
            ("python_full_version", full_version),
            ("python_version", &short),
            ("sys_platform", "linux"),
        ];
        Environment(values.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
    }

    /// `3.11` of `python_version`.
    #[must_use]
    pub fn python_version(&self) -> &str {
        self.0.get("python_version").map_or("", String::as_str)
    }

    /// The value of `python_full_version`.
    #[must_use]
    pub fn full_version(&self) -> &str {
        self.0.get("python_full_version").map_or("", String::as_str)
    }

    /// Whether `marker` holds with these extras asked for (normal names).
    ///
    /// # Errors
    /// [`PythonError::Marker`].
    pub fn holds(&self, marker: &str, extras: &[String]) -> Result<bool, PythonError> {
        // `extra == "a"` with several extras holds if it holds for one of them.
        let tries: Vec<&str> =
            if extras.is_empty() { vec![""] } else { extras.iter().map(String::as_str).collect() };
        for extra in tries {
            let mut parser = Parser { rest: marker, environment: self, extra };
            let value = parser.or(0).filter(|_| parser.rest.trim().is_empty());
            if value.ok_or_else(|| PythonError::Marker { marker: marker.to_owned() })? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Parser<'a> {
    rest: &'a str,
    environment: &'a Environment,
    extra: &'a str,
}

/// One side of a comparison.
enum Side<'a> {
    Name(&'a str),
    Text(&'a str),
}

impl<'a> Parser<'a> {
    fn or(&mut self, depth: usize) -> Option<bool> {
        let mut value = self.and(depth)?;
        while self.keyword("or") {
            let next = self.and(depth)?;
            value = value || next;
        }
        Some(value)
    }

    fn and(&mut self, depth: usize) -> Option<bool> {
        let mut value = self.atom(depth)?;
        while self.keyword("and") {
            let next = self.atom(depth)?;
            value = value && next;
        }
        Some(value)
    }

    fn atom(&mut self, depth: usize) -> Option<bool> {
        self.rest = self.rest.trim_start();
        if let Some(inner) = self.rest.strip_prefix('(').filter(|_| depth < MAX_DEPTH) {
            self.rest = inner;
            let value = self.or(depth + 1)?;
            self.rest = self.rest.trim_start().strip_prefix(')')?;
            return Some(value);
        }
        let left = self.side()?;
        let operator = self.operator()?;
        let right = self.side()?;
        self.compare(&left, operator, &right)
    }

    fn keyword(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(word).filter(|rest| rest.starts_with([' ', '(', '\t', '\'', '"'])) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn side(&mut self) -> Option<Side<'a>> {
        self.rest = self.rest.trim_start();
        for quote in ['"', '\''] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let (text, rest) = rest.split_once(quote)?;
                self.rest = rest;
                return Some(Side::Text(text));
            }
        }
        let length =
            self.rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        (!name.is_empty()).then_some(Side::Name(name))
    }

    fn operator(&mut self) -> Option<&'static str> {
        self.rest = self.rest.trim_start();
        if self.keyword("not") {
            return self.keyword("in").then_some("not in");
        }
        if self.keyword("in") {
            return Some("in");
        }
        let known = ["===", "==", "!=", "<=", ">=", "~=", "<", ">"];
        let found = known.into_iter().find(|operator| self.rest.starts_with(operator))?;
        self.rest = &self.rest[found.len()..];
        Some(found)
    }

    fn value(&self, side: &Side<'_>) -> Option<String> {
        match side {
            Side::Text(text) => Some((*text).to_owned()),
            Side::Name("extra") => Some(self.extra.to_owned()),
            Side::Name(name) => self.environment.0.get(name).cloned(),
        }
    }

    fn compare(&self, left: &Side<'_>, operator: &str, right: &Side<'_>) -> Option<bool> {
        let is_extra = matches!(left, Side::Name("extra")) || matches!(right, Side::Name("extra"));
        let (mut left, mut right) = (self.value(left)?, self.value(right)?);
        if is_extra {
            (left, right) = (normalize(&left), normalize(&right));
        }
        match operator {
            "in" => return Some(right.contains(&left)),
            "not in" => return Some(!right.contains(&left)),
            _ => {}
        }
        if let Some(fits) = left.parse::<PyVersion>().ok().and_then(|left| left.satisfies(operator, &right)) {
            return Some(fits);
        }
        match operator {
            "==" | "===" => Some(left == right),
            "!=" => Some(left != right),
            "<" => Some(left < right),
            "<=" => Some(left <= right),
            ">" => Some(left > right),
            ">=" => Some(left >= right),
            _ => None,
        }
    }
}
