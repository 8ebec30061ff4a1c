//! Paragraphs of control data (deb822(5)): the form of package indices, release files and `.deb` control files.
//!
//! ```text
//! Package: nginx                 a field: name, colon, value
//! Description: small web server
//!  continued here                a continuation starts with space or tab
//!                                an empty line ends the paragraph
//! ```
//! Everything is borrowed from the text; nothing is copied.

use std::ops::Range;

use thiserror::Error;

/// Most fields one paragraph may have. Real paragraphs have about 30.
pub const MAX_FIELDS: usize = 256;

/// Longest paragraph accepted. A release file is one paragraph of about 200 KiB; sid's largest is below 1 MiB.
pub const MAX_PARAGRAPH_BYTES: usize = 8 * 1024 * 1024;

/// One field of a paragraph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written, without the colon.
    pub name: &'a str,
    /// The value without white space around it; continuation lines are still in it, with their line ends and indents.
    pub value: &'a str,
    /// The line of the text it starts on, counted from 1.
    pub line: usize,
}

/// One paragraph: its fields in the order they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph<'a> {
    /// The fields.
    pub fields: Vec<Field<'a>>,
    /// The line of the text it starts on, counted from 1.
    pub line: usize,
    /// Where its fields lie in the text, in bytes.
    pub range: Range<usize>,
}

/// Why a text is not control data.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("line {line}: {kind}")]
pub struct ControlError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: ControlErrorKind,
}

/// What can be wrong with a line of control data.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ControlErrorKind {
    /// Neither a field nor a continuation.
    #[error("`{0}` is not a field: there is no `:` after a name")]
    Field(String),
    /// A continuation line with nothing before it.
    #[error("this line continues a field, but none was started")]
    Continuation,
    /// A field named twice: readers would disagree which one counts.
    #[error("field `{0}` is there twice")]
    Duplicate(String),
    /// More than [`MAX_FIELDS`] fields.
    #[error("more than {MAX_FIELDS} fields in one paragraph")]
    Fields,
    /// Longer than [`MAX_PARAGRAPH_BYTES`].
    #[error("a paragraph longer than {MAX_PARAGRAPH_BYTES} bytes")]
    Long,
}

/// `Source: name` or `Source: name (version)` (deb-control(5)): both as written. `None` if it is neither.
#[must_use]
pub fn parse_source(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, version) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.trim_ascii_end().strip_suffix(')')?.trim_ascii())),
        None => (text, None),
    };
    let name = name.trim_ascii();
    let is_word = |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_ascii_whitespace());
    (is_word(name) && version.is_none_or(is_word)).then_some((name, version))
}

impl<'a> Paragraph<'a> {
    /// The value of a field; names are compared without regard to case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.field(name).map(|field| field.value)
    }

    /// A field by name; names are compared without regard to case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }
}

/// The paragraphs of a text, one after the other. After an error it ends.
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    text: &'a str,
    /// Byte offset of the next line.
    offset: usize,
    /// Number of the next line, counted from 1.
    line: usize,
    failed: bool,
}

impl<'a> Paragraphs<'a> {
    /// Starts at the head of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, offset: 0, line: 1, failed: false }
    }

    /// The next line without its end, with its offset and number.
    fn next_line(&mut self) -> Option<(&'a str, usize, usize)> {
        if self.offset >= self.text.len() {
            return None;
        }
        let (start, number) = (self.offset, self.line);
        let rest = &self.text[start..];
        let length = rest.find('\n').unwrap_or(rest.len());
        self.offset = (start + length + 1).min(self.text.len());
        self.line += 1;
        let line = &rest[..length];
        Some((line.strip_suffix('\r').unwrap_or(line), start, number))
    }

    /// Reads the next paragraph into `into`, whose memory is used again.
    ///
    /// # Returns
    /// `false` at the end of the text.
    ///
    /// # Errors
    /// [`ControlError`] with the line that is not control data.
    pub fn read_into(&mut self, into: &mut Paragraph<'a>) -> Result<bool, ControlError> {
        into.fields.clear();
        if self.failed {
            return Ok(false);
        }
        let result = self.read(into);
        self.failed = result.is_err();
        result
    }

    fn read(&mut self, into: &mut Paragraph<'a>) -> Result<bool, ControlError> {
        let mut paragraph_start = 0;
        let mut value_start = 0;
        while let Some((line, start, number)) = self.next_line() {
            let fail = |kind| Err(ControlError { line: number, kind });
            let first = line.as_bytes().first().copied();
            if first == Some(b'#') {
                continue;
            }
            if line.trim_ascii().is_empty() {
                if into.fields.is_empty() {
                    continue;
                }
                return Ok(true);
            }
            if into.fields.is_empty() {
                (paragraph_start, into.line) = (start, number);
                into.range = start..start;
            } else if start + line.len() - paragraph_start > MAX_PARAGRAPH_BYTES {
                return fail(ControlErrorKind::Long);
            }
            into.range.end = start + line.len();
            if matches!(first, Some(b' ' | b'\t')) {
                let Some(field) = into.fields.last_mut() else {
                    return fail(ControlErrorKind::Continuation);
                };
                // The white space before a value is skipped once: with each line again, time would be quadratic.
                if field.value.is_empty() {
                    value_start = start + line.len() - line.trim_ascii_start().len();
                }
                field.value = self.text[value_start..start + line.len()].trim_ascii_end();
                continue;
            }
            let name = line.split(':').next().unwrap_or("");
            let valid =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) && name.len() < line.len();
            if !valid {
                return fail(ControlErrorKind::Field(line.chars().take(60).collect()));
            }
            if into.field(name).is_some() {
                return fail(ControlErrorKind::Duplicate(name.to_owned()));
            }
            if into.fields.len() == MAX_FIELDS {
                return fail(ControlErrorKind::Fields);
            }
            let value = line[name.len() + 1..].trim_ascii_start();
            value_start = start + line.len() - value.len();
            into.fields.push(Field { name, value: value.trim_ascii_end(), line: number });
        }
        Ok(!into.fields.is_empty())
    }
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Result<Paragraph<'a>, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut paragraph = Paragraph::default();
        match self.read_into(&mut paragraph) {
            Ok(true) => Some(Ok(paragraph)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn sources_with_and_without_a_version() {
        for (text, parsed) in [
            ("openssl", Some(("openssl", None))),
            ("gcc-12 (12.2.0-14)", Some(("gcc-12", Some("12.2.0-14")))),
            ("gcc-12(12.2.0-14) ", Some(("gcc-12", Some("12.2.0-14")))),
            ("gcc-12 (12.2.0-14", None),
            ("gcc-12 (12.2.0-14) x", None),
            ("gcc-12 ()", None),
            ("(1)", None),
            ("two words", None),
            ("", None),
        ] {
            assert_eq!(parse_source(text), parsed, "{text}");
        }
    }

    fn check(text: &str, expected: &Expect) {
        let mut out = String::new();
        for paragraph in Paragraphs::new(text) {
            match paragraph {
                Ok(paragraph) => {
                    for field in &paragraph.fields {
                        out += &format!("{} {}={:?}\n", field.line, field.name, field.value);
                    }
                    out += "--\n";
                }
                Err(error) => out += &format!("error: {error}\n"),
            }
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn paragraphs() {
        check(
            "\n# note\nPackage: a\r\nDescription: one\n two\n .\n three\n\n \nPackage:b\nEmpty:\nX: y: z",
            &expect![[r#"
                3 Package="a"
                4 Description="one\n two\n .\n three"
                --
                10 Package="b"
                11 Empty=""
                12 X="y: z"
                --
            "#]],
        );
        check("", &expect![""]);
    }

    #[test]
    fn refused() {
        check(
            "Package: a\nnonsense\n\nPackage: b\n",
            &expect![[r#"
            error: line 2: `nonsense` is not a field: there is no `:` after a name
        "#]],
        );
        check(
            " x\n",
            &expect![[r#"
            error: line 1: this line continues a field, but none was started
        "#]],
        );
        check(
            "A: 1\na: 2\n",
            &expect![[r#"
            error: line 2: field `a` is there twice
        "#]],
        );
        let many: String = (0..300).map(|i| format!("F{i}: x\n")).collect();
        check(
            &many,
            &expect![[r#"
            error: line 257: more than 256 fields in one paragraph
        "#]],
        );
        let long = format!("A: x\n{}", " y\n".repeat(MAX_PARAGRAPH_BYTES / 3 + 1));
        assert_eq!(Paragraphs::new(&long).next().unwrap().unwrap_err().kind, ControlErrorKind::Long);
    }

    #[test]
    fn lookup_ignores_case() {
        let paragraph = Paragraphs::new("Pre-Depends: x\n").next().unwrap().unwrap();
        assert_eq!(paragraph.get("pre-depends"), Some("x"));
        assert_eq!(paragraph.get("Depends"), None);
    }
}
