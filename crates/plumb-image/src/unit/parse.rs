//! The file format: systemd.syntax(7).

use std::collections::BTreeMap;

use super::{MAX_DROP_INS, MAX_UNIT_BYTES};

/// Why a unit text is refused. Malformed lines are no reason: like systemd, the reader skips and reports them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitParseError {
    /// Larger than [`MAX_UNIT_BYTES`].
    #[error("a unit file of {bytes} bytes is longer than {MAX_UNIT_BYTES} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than [`MAX_DROP_INS`].
    #[error("{count} drop-ins are more than {MAX_DROP_INS}")]
    TooManyDropIns {
        /// How many.
        count: usize,
    },
    /// A NUL byte, which no path and no argument can hold.
    #[error("line {line} holds a NUL byte")]
    Nul {
        /// Line number, from 1.
        line: usize,
    },
}

/// A unit with its drop-ins merged: every assignment in order, per section and directive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    sections: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    malformed: Vec<String>,
}

impl Unit {
    /// Reads a unit and its drop-ins, in order.
    ///
    /// # Errors
    /// [`UnitParseError`] if a limit is passed or a NUL byte found.
    pub fn parse(text: &str, drop_ins: &[String]) -> Result<Unit, UnitParseError> {
        if drop_ins.len() > MAX_DROP_INS {
            return Err(UnitParseError::TooManyDropIns { count: drop_ins.len() });
        }
        let mut unit = Unit::default();
        unit.read(text)?;
        for drop_in in drop_ins {
            unit.read(drop_in)?;
        }
        Ok(unit)
    }

    /// The values of a list: an empty assignment drops what came before it.
    #[must_use]
    pub fn list(&self, section: &str, directive: &str) -> &[String] {
        let all = self.assignments(section, directive);
        let start = all.iter().rposition(String::is_empty).map_or(0, |reset| reset + 1);
        &all[start..]
    }

    /// The value of a scalar: the last assignment counts, an empty one means the default (`None`).
    #[must_use]
    pub fn last(&self, section: &str, directive: &str) -> Option<&str> {
        self.assignments(section, directive).last().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All assignments in order, empty ones included.
    #[must_use]
    pub fn assignments(&self, section: &str, directive: &str) -> &[String] {
        self.sections.get(section).and_then(|section| section.get(directive)).map_or(&[], Vec::as_slice)
    }

    /// Every section with every directive in it, sorted.
    pub fn directives(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sections
            .iter()
            .flat_map(|(section, keys)| keys.keys().map(move |key| (section.as_str(), key.as_str())))
    }

    /// Lines that are no assignment, as found.
    #[must_use]
    pub fn malformed(&self) -> &[String] {
        &self.malformed
    }

    fn read(&mut self, text: &str) -> Result<(), UnitParseError> {
        if text.len() > MAX_UNIT_BYTES {
            return Err(UnitParseError::TooLong { bytes: text.len() });
        }
        if let Some(at) = text.find('\0') {
            return Err(UnitParseError::Nul { line: text[..at].matches('\n').count() + 1 });
        }
        let mut section = None;
        for line in logical_lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
            self.take_line(line.trim(), &mut section);
        }
        Ok(())
    }

    fn take_line(&mut self, line: &str, section: &mut Option<String>) {
        if line.is_empty() {
            return;
        }
        if let Some(name) = line.strip_prefix('[') {
            match name.strip_suffix(']') {
                Some(name) => *section = Some(name.to_owned()),
                None => self.malformed.push(line.to_owned()),
            }
            return;
        }
        match (line.split_once('='), section) {
            (Some((key, value)), Some(section)) if !key.trim().is_empty() => {
                let keys = self.sections.entry(section.clone()).or_default();
                keys.entry(key.trim().to_owned()).or_default().push(value.trim().to_owned());
            }
            _ => self.malformed.push(line.to_owned()),
        }
    }
}

/// Lines with continuations joined and comments left out, also those between continued lines.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let mut joined = open.take().unwrap_or_default();
        joined.push_str(line);
        if ends_escaped(line) {
            joined.pop();
            joined.push(' ');
            open = Some(joined);
        } else {
            lines.push(joined);
        }
    }
    lines.extend(open);
    lines
}

/// An odd number of backslashes at the end: the newline is escaped. `\\` is a backslash of the value.
fn ends_escaped(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_comments_and_continuations() {
        let unit = Unit::parse(
            "stray\n[Service]\n# a\n ; b\nExecStart = /bin/x \\\n# between\n   -a \\\n;too\n  b\\\\\nUser=a\nUser=\n\
             nothing\n[Broken\nX=[a]\n[Install]\nAlias=b",
            &["[Service]\nExecStart=\nExecStart=/bin/y".into()],
        )
        .unwrap();
        assert_eq!(unit.assignments("Service", "ExecStart")[0], "/bin/x     -a    b\\\\");
        assert_eq!(unit.list("Service", "ExecStart"), ["/bin/y"]);
        assert_eq!(unit.last("Service", "User"), None);
        assert_eq!(unit.last("Service", "X"), Some("[a]"));
        assert_eq!(unit.last("Install", "Alias"), Some("b"));
        assert_eq!(unit.malformed(), ["stray", "nothing", "[Broken"]);
    }

    #[test]
    fn limits() {
        let long = "#".repeat(MAX_UNIT_BYTES + 1);
        assert_eq!(Unit::parse(&long, &[]), Err(UnitParseError::TooLong { bytes: MAX_UNIT_BYTES + 1 }));
        let many = vec![String::new(); MAX_DROP_INS + 1];
        assert_eq!(Unit::parse("", &many), Err(UnitParseError::TooManyDropIns { count: MAX_DROP_INS + 1 }));
        assert_eq!(Unit::parse("a\nb\0", &[]), Err(UnitParseError::Nul { line: 2 }));
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_nothing_grows(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(unit) = Unit::parse(&text, &[]) {
                let kept: usize = unit.directives()
                    .flat_map(|(section, key)| unit.assignments(section, key))
                    .chain(unit.malformed())
                    .map(String::len)
                    .sum();
                prop_assert!(kept <= text.len());
            }
        }
    }
}
