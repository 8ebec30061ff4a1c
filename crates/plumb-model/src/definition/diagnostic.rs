//! What is wrong with a definition, where, and what would help.

use std::fmt;
use std::ops::Range;

/// Bytes `start..end` of the definition's text.
pub(super) type Span = Range<usize>;

/// Longest part of a line or value that is shown: a terminal's width, so that one bad line does not fill the screen.
const MAX_SHOWN_CHARS: usize = 120;

/// One error in a definition.
///
/// ```text
/// error: `shop/plumb.toml` line 14: unknown key `memmory` in `[machine.web]`
///    |
/// 14 | memmory = "256MiB"
///    | ^^^^^^^
/// hint: Did you mean `memory`?
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, without file and line.
    pub message: String,
    /// The file's name as it was given to `Definition::parse`.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line with a gutter, and carets below the place.
    pub snippet: Vec<String>,
    /// What would help: changes or commands.
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// Adds a hint.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds "Did you mean" if one of `candidates` is close to `wrong`.
    pub(super) fn suggest<'c>(
        &mut self,
        wrong: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> &mut Self {
        match closest(wrong, candidates) {
            Some(best) => self.hint(format!("Did you mean `{best}`?")),
            None => self,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: `{}` line {}: {}", self.file, self.line, self.message)?;
        for line in &self.snippet {
            write!(f, "\n{line}")?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// All errors that were found in a definition, in the order of the text; never empty.
///
/// `Display` writes each as a whole message, from `error:` to its hints, with an empty line between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionErrors(pub Vec<Diagnostic>);

impl fmt::Display for DefinitionErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            write!(f, "{}{diagnostic}", if index == 0 { "" } else { "\n\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for DefinitionErrors {}

/// Most errors that are shown. Nobody reads more, and each one costs a look through the text for its line.
const MAX_ERRORS: usize = 200;

/// Collects errors while a text is read.
pub(super) struct Report<'a> {
    text: &'a str,
    file: &'a str,
    found: Vec<(usize, Diagnostic)>,
    /// How many were found beyond [`MAX_ERRORS`], and the last of them.
    beyond: (usize, Diagnostic),
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Self {
        let nothing = Diagnostic {
            message: String::new(),
            file: file.to_owned(),
            line: 1,
            column: 1,
            snippet: Vec::new(),
            hints: Vec::new(),
        };
        Report { text, file, found: Vec::new(), beyond: (0, nothing) }
    }

    /// Adds an error at `span`; hints can be added to what is returned.
    pub(super) fn add(&mut self, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        if self.found.len() == MAX_ERRORS {
            self.beyond.0 += 1;
            self.beyond.1.hints.clear();
            return &mut self.beyond.1;
        }
        let (line, column, snippet) = locate(self.text, span);
        let diagnostic = Diagnostic {
            // Messages of other crates hold the value as it was written.
            message: message.into().chars().map(printable).collect(),
            file: self.file.to_owned(),
            line,
            column,
            snippet,
            hints: Vec::new(),
        };
        self.found.push((span.start, diagnostic));
        let last = self.found.len() - 1;
        &mut self.found[last].1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_errors(mut self) -> DefinitionErrors {
        self.found.sort_by_key(|(start, _)| *start);
        let mut errors: Vec<Diagnostic> = self.found.into_iter().map(|(_, diagnostic)| diagnostic).collect();
        let (count, mut last) = self.beyond;
        if count > 0 {
            last.message = format!("there are {count} more errors");
            last.hints.clear();
            errors.push(last);
        }
        DefinitionErrors(errors)
    }
}

/// Line, column and snippet of `span`. A span that goes on over several lines is marked to the end of its first.
fn locate(text: &str, span: &Span) -> (usize, usize, Vec<String>) {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line = text[..line_start].matches('\n').count() + 1;
    let before = text[line_start..start].chars().count();
    let mut end = span.end.clamp(start, line_end);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let marked = text[start..end].trim_end().chars().count().max(1);

    // A line too long to show is cut so that the marked place stays in view.
    let skip = if before + marked > MAX_SHOWN_CHARS { before.saturating_sub(20) } else { 0 };
    let shown: String = text[line_start..line_end]
        .trim_end()
        .chars()
        .skip(skip)
        .take(MAX_SHOWN_CHARS)
        .map(printable)
        .collect();
    let marked = marked.min(MAX_SHOWN_CHARS - (before - skip).min(MAX_SHOWN_CHARS - 1));
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let snippet = vec![
        format!("{gutter} |"),
        format!("{number} | {shown}").trim_end().to_owned(),
        format!("{gutter} | {}{}", " ".repeat(before - skip), "^".repeat(marked)),
    ];
    (line, before + 1, snippet)
}

/// Control characters would move the cursor or colour the terminal; a tab would move the caret.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A value of the definition inside a message: in backticks, on one line, not endless.
pub(super) fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(MAX_SHOWN_CHARS / 2).map(printable).collect();
    if value.chars().nth(MAX_SHOWN_CHARS / 2).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The candidate that a typing error away is `wrong`: at most a third of the letters differ.
fn closest<'c>(wrong: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Longer than any name; the distance costs the product of both lengths.
    if wrong.len() > MAX_SHOWN_CHARS {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&wrong.to_lowercase(), &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(3)) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, span: Span, expected: &Expect) {
        let mut report = Report::new(text, "plumb.toml");
        report.add(&span, "wrong").hint("Change it.");
        expected.assert_eq(&report.into_errors().to_string());
    }

    #[test]
    fn snippet() {
        check(
            "a = 1\n\tbé = \u{1b}2\n",
            7..10,
            &expect![[r"
                error: `plumb.toml` line 2: wrong
                  |
                2 |  bé = �2
                  |  ^^
                hint: Change it."]],
        );
    }

    #[test]
    fn spans_beyond_the_text_and_over_lines() {
        check(
            "a",
            5..9,
            &expect![[r"
                error: `plumb.toml` line 1: wrong
                  |
                1 | a
                  |  ^
                hint: Change it."]],
        );
        check(
            "a = [\n1]",
            4..8,
            &expect![[r"
                error: `plumb.toml` line 1: wrong
                  |
                1 | a = [
                  |     ^
                hint: Change it."]],
        );
        check(
            "",
            0..0,
            &expect![[r"
                error: `plumb.toml` line 1: wrong
                  |
                1 |
                  | ^
                hint: Change it."]],
        );
    }

    #[test]
    fn long_lines_keep_the_place_in_view() {
        let text = format!("{}bad{}", "x".repeat(300), "y".repeat(300));
        let (line, column, snippet) = locate(&text, &(300..303));
        assert_eq!((line, column), (1, 301));
        assert_eq!(&snippet[1][24..27], "bad");
        assert_eq!(snippet[2], format!("  | {}^^^", " ".repeat(20)));
        assert!(snippet[1].chars().count() <= MAX_SHOWN_CHARS + 4);
    }

    #[test]
    fn suggestions() {
        for (wrong, expected) in [
            ("memmory", Some("memory")),
            ("cpu", Some("cpus")),
            ("Needs", Some("needs")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, ["memory", "cpus", "needs", "os"]), expected, "{wrong}");
        }
    }
}
