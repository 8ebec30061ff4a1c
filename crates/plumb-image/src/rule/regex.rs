//! Regular expressions of POSIX (regex(7)), as grep(1) and sed(1) take them, in terms of `regex_lite`.

use regex_lite::{Regex, RegexBuilder};

/// Which of the two grammars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// `\(…\)`, `\+`, …
    Basic,
    /// `(…)`, `+`, …
    Extended,
}

/// Largest compiled expression in bytes: scripts have short ones, and a hostile one must not fill the memory.
const SIZE_LIMIT_BYTES: usize = 1 << 20;

/// The expression; `None` if it is none or has what `regex_lite` cannot do (back references).
pub(super) fn compile(pattern: &str, grammar: Grammar, ignore_case: bool) -> Option<Regex> {
    let translated = translate(pattern, grammar)?;
    RegexBuilder::new(&translated).case_insensitive(ignore_case).size_limit(SIZE_LIMIT_BYTES).build().ok()
}

/// Text that stands for itself.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '<' | '>' | '_') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn translate(pattern: &str, grammar: Grammar) -> Option<String> {
    let basic = grammar == Grammar::Basic;
    let text: Vec<char> = pattern.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    // At the start of an expression or group `*` is a character and `^` an anchor.
    let mut start = true;
    while let Some(&c) = text.get(at) {
        let was_start = std::mem::take(&mut start);
        at += 1;
        match c {
            '\\' => {
                let escaped = *text.get(at)?;
                at += 1;
                match escaped {
                    '(' | '|' if basic => {
                        out.push(escaped);
                        start = true;
                    }
                    ')' | '{' | '}' | '+' | '?' if basic => out.push(escaped),
                    '<' | '>' | 'b' => out.push_str("\\b"),
                    'n' | 't' | 's' | 'S' | 'w' | 'W' => {
                        out.push('\\');
                        out.push(escaped);
                    }
                    '0'..='9' => return None,
                    other => out.push_str(&literal(&other.to_string())),
                }
            }
            '[' => at = bracket(&text, at, &mut out)?,
            '*' if was_start => out.push_str("\\*"),
            '^' if basic && !was_start => out.push_str("\\^"),
            '$' if basic
                && at < text.len()
                && !(text[at] == '\\' && matches!(text.get(at + 1), Some(')' | '|'))) =>
            {
                out.push_str("\\$");
            }
            '+' | '?' | '(' | ')' | '{' | '}' | '|' if basic => {
                out.push('\\');
                out.push(c);
            }
            '{' if !text.get(at).is_some_and(char::is_ascii_digit) => out.push_str("\\{"),
            '(' | '|' => {
                out.push(c);
                start = true;
            }
            '.' | '*' | '^' | '$' | '+' | '?' | ')' | '{' | '}' => {
                out.push(c);
                start = c == '^';
            }
            other => out.push_str(&literal(&other.to_string())),
        }
    }
    Some(out)
}

/// `[…]` from behind its opening; returns the place behind its end. A backslash stands for itself there.
fn bracket(text: &[char], mut at: usize, out: &mut String) -> Option<usize> {
    out.push('[');
    if text.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    loop {
        let c = *text.get(at)?;
        if c == ']' && at > first {
            out.push(']');
            return Some(at + 1);
        }
        if c == '[' && text.get(at + 1) == Some(&':') {
            let end = (at + 2..text.len().saturating_sub(1))
                .find(|end| text[*end] == ':' && text[end + 1] == ']')?;
            out.extend(&text[at..end + 2]);
            at = end + 2;
            continue;
        }
        // `\]` and `\n` in brackets are what people write and GNU's sed takes.
        if c == '\\' && matches!(text.get(at + 1), Some('n' | 't' | '/' | 's')) {
            out.push('\\');
            out.push(text[at + 1]);
            at += 2;
            continue;
        }
        let is_range = c == '-' && at > first && text.get(at + 1).is_some_and(|next| *next != ']');
        if !is_range && c.is_ascii_punctuation() && !matches!(c, '<' | '>' | '_') {
            out.push('\\');
        }
        out.push(c);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_grammars() {
        let matches = |pattern: &str, grammar, text: &str| {
            compile(pattern, grammar, false).unwrap_or_else(|| panic!("{pattern}")).is_match(text)
        };
        assert!(matches("^#*[[:space:]]*a\\(b\\|c\\)\\{2\\}$", Grammar::Basic, "## abc"));
        assert!(matches("a+b", Grammar::Basic, "a+b"));
        assert!(!matches("a+b", Grammar::Basic, "aab"));
        assert!(matches("a+b|c{2}", Grammar::Extended, "xcc"));
        assert!(matches("[]/\\.-]x", Grammar::Basic, "]x"));
        assert!(matches("*a$b", Grammar::Basic, "*a$b"));
        assert!(matches("^\\s*\\<word\\>", Grammar::Basic, "  word "));
        assert!(matches("{a}", Grammar::Extended, "{a}"));
        assert!(compile("\\(a\\)\\1", Grammar::Basic, false).is_none());
        assert!(compile("a(", Grammar::Extended, false).is_none());
    }
}
