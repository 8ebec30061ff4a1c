//! Reading typed values from a TOML table with spans. What does not fit is reported and read as absent, so that one
//! pass finds all errors.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Report, Span, quoted};
use crate::config::Value;

/// Words that people bring from other tools, and ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("checks", "check"),
    ("command", "exec"),
    ("configuration", "config"),
    ("description", "about"),
    ("enum", "one_of"),
    ("secrets", "config"),
    ("settings", "config"),
    ("cmd", "exec"),
    ("count", "instances"),
    ("cores", "cpus"),
    ("depends_on", "needs"),
    ("dependencies", "needs"),
    ("env", "environment"),
    ("exclude", "without"),
    ("files", "app"),
    ("headers", "header"),
    ("health", "ready"),
    ("healthcheck", "ready"),
    ("machines", "machine"),
    ("name", "app"),
    ("packages", "middleware"),
    ("path", "mount"),
    ("ports", "publish"),
    ("ram", "memory"),
    ("replicas", "instances"),
    ("retries", "retry"),
    ("scale", "instances"),
    ("source", "from"),
    ("tests", "check"),
    ("unit", "from"),
    ("vcpus", "cpus"),
    ("workdir", "directory"),
];

/// A table and how messages call it.
pub(super) struct Table<'a> {
    map: &'a DeTable<'a>,
    /// `[machine.web]`, or nothing for the top of the file.
    label: String,
    /// The key that names it.
    pub(super) at: Span,
}

/// A key and its value.
pub(super) struct Field<'a> {
    /// The key, or the list for an item of one.
    name: String,
    label: String,
    /// Where the key is.
    pub(super) key: Span,
    /// Where the value is.
    pub(super) span: Span,
    value: &'a DeValue<'a>,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub(super) fn root(map: &'a DeTable<'a>) -> Self {
        Table { map, label: String::new(), at: 0..0 }
    }

    /// Reports every key that is not one of `known`.
    pub(super) fn allow(&self, known: &[&str], report: &mut Report<'_>) {
        for key in self.map.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let found = report.add(&key.span(), format!("unknown key {}{}", quoted(name), self.inside()));
            match SYNONYMS.iter().find(|(theirs, ours)| *theirs == name && known.contains(ours)) {
                Some((_, ours)) => found.hint(format!("Did you mean `{ours}`?")),
                None => found.suggest(name, known.iter().copied()),
            };
            if found.hints.is_empty() {
                found.hint(format!("Known keys: {}.", known.join(", ")));
            }
        }
    }

    /// The value of `name`, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        self.map.get_key_value(name).map(|(key, value)| self.field(key, value))
    }

    /// The value of `name`; its absence is reported with an example of what to write.
    pub(super) fn required(&self, name: &str, example: &str, report: &mut Report<'_>) -> Option<Field<'a>> {
        let field = self.get(name);
        if field.is_none() {
            report
                .add(&self.at, format!("`{name}` is missing{}", self.inside()))
                .hint(format!("Add `{name} = {example}`."));
        }
        field
    }

    /// Every key with its value, in the order of the keys.
    pub(super) fn fields(&self) -> Vec<Field<'a>> {
        self.map.iter().map(|(key, value)| self.field(key, value)).collect()
    }

    /// ` in `[machine.web]``, or nothing at the top.
    pub(super) fn inside(&self) -> String {
        inside(&self.label)
    }

    fn field(&self, key: &'a Spanned<toml::de::DeString<'a>>, value: &'a Spanned<DeValue<'a>>) -> Field<'a> {
        Field {
            name: key.get_ref().to_string(),
            label: self.label.clone(),
            key: key.span(),
            span: value.span(),
            value: value.get_ref(),
        }
    }
}

fn inside(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!(" in `[{label}]`") }
}

impl<'a> Field<'a> {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `` `memory` in `[machine.web]` ``.
    pub(super) fn what(&self) -> String {
        format!("{}{}", quoted(&self.name), inside(&self.label))
    }

    /// The string; anything else is reported with `example`.
    pub(super) fn text(&self, example: &str, report: &mut Report<'_>) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.mismatch("a string", example, report),
        }
    }

    /// The string, read by its type's rules.
    pub(super) fn parsed<T>(&self, example: &str, report: &mut Report<'_>) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.text(example, report)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                report.add(&self.span, format!("{}: {error}", self.what()));
                None
            }
        }
    }

    /// The key, read by its type's rules.
    pub(super) fn parsed_name<T>(&self, report: &mut Report<'_>) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.name.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                report.add(&self.key, format!("{error}"));
                None
            }
        }
    }

    /// The number, if it is within `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>, report: &mut Report<'_>) -> Option<u64> {
        let DeValue::Integer(written) = self.value else {
            return self.mismatch("a whole number", &range.start().max(&1).to_string(), report);
        };
        match i128::from_str_radix(written.as_str(), written.radix()) {
            Ok(value) => match u64::try_from(value) {
                Ok(value) if range.contains(&value) => return Some(value),
                _ => {}
            },
            // TOML's grammar makes it a number, so it can only be too large for 128 bits.
            Err(_too_large) => {}
        }
        report.add(
            &self.span,
            format!("{} is {written}, but must be from {} to {}", self.what(), range.start(), range.end()),
        );
        None
    }

    /// `true` or `false`.
    pub(super) fn truth(&self, report: &mut Report<'_>) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.mismatch("`true` or `false`", "true", report),
        }
    }

    /// The number if it is one, without a report otherwise. The radix tells `0o755` from `755`.
    pub(super) fn octal(&self) -> Option<u32> {
        match self.value {
            DeValue::Integer(written) if written.radix() == 8 => {
                u32::from_str_radix(written.as_str(), 8).ok()
            }
            _ => None,
        }
    }

    /// A plain value, without a report otherwise.
    pub(super) fn value(&self) -> Option<Value> {
        match self.value {
            DeValue::Boolean(value) => Some(Value::Boolean(*value)),
            DeValue::String(text) => Some(Value::Text(text.to_string())),
            DeValue::Integer(written) => {
                i64::from_str_radix(written.as_str(), written.radix()).ok().map(Value::Integer)
            }
            _ => None,
        }
    }

    /// The table if it is one, without a report otherwise: for those who look again at what was read.
    pub(super) fn peek_table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(map) => Some(Table { map, label: self.path(), at: self.key.clone() }),
            _ => None,
        }
    }

    /// The string if it is one, without a report otherwise.
    pub(super) fn peek_text(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => None,
        }
    }

    /// Its name as that of a table.
    fn path(&self) -> String {
        if self.label.is_empty() { self.name.clone() } else { format!("{}.{}", self.label, self.name) }
    }

    pub(super) fn is_true(&self) -> bool {
        matches!(self.value, DeValue::Boolean(true))
    }

    pub(super) fn is_systemd(&self) -> bool {
        matches!(self.value, DeValue::String(text) if text == "systemd")
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    /// The items of a list.
    pub(super) fn list(&self, example: &str, report: &mut Report<'_>) -> Vec<Field<'a>> {
        let DeValue::Array(items) = self.value else {
            self.mismatch::<()>("a list", example, report);
            return Vec::new();
        };
        let item = |item: &'a Spanned<DeValue<'a>>| Field {
            name: self.name.clone(),
            label: self.label.clone(),
            key: item.span(),
            span: item.span(),
            value: item.get_ref(),
        };
        items.iter().map(item).collect()
    }

    /// The table, known in messages by its path.
    pub(super) fn table(&self, example: &str, report: &mut Report<'_>) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(map) => Some(Table { map, label: self.path(), at: self.key.clone() }),
            _ => self.mismatch("a table", example, report),
        }
    }

    /// Reports that the value is of another type.
    pub(super) fn mismatch<T>(&self, wanted: &str, example: &str, report: &mut Report<'_>) -> Option<T> {
        let kind = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        report
            .add(&self.span, format!("{} must be {wanted}, not {kind}", self.what()))
            .hint(format!("Write it like `{example}`."));
        None
    }
}
