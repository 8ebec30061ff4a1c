//! `EnvironmentFile=`: the format of systemd.exec(5), which is not that of a shell.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_guest_proto::ServiceSpec;

use crate::{file, limit};

/// The variables of a command: its own, and those of its files, which are read now.
///
/// # Errors
/// A sentence naming the file that cannot be read.
pub fn of(spec: &ServiceSpec) -> Result<BTreeMap<String, String>, String> {
    let mut environment = spec.environment.clone();
    for (path, optional) in &spec.environment_files {
        match file::read_bounded(Path::new(path), limit::SMALL_FILE_BYTES) {
            Ok(bytes) => environment.extend(parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if *optional && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read environment file `{path}`: {error}")),
        }
    }
    Ok(environment)
}

/// The assignments of a file, in order. Lines that are none are ignored, as systemd does.
pub fn parse(text: &str) -> Vec<(String, String)> {
    let mut parser = Parser { chars: text.chars(), pairs: Vec::new() };
    while let Some(c) = parser.chars.next() {
        match c {
            '#' | ';' => parser.skip_comment(),
            c if c.is_whitespace() => {}
            c => parser.assignment(c),
        }
    }
    parser.pairs
}

struct Parser<'a> {
    chars: std::str::Chars<'a>,
    pairs: Vec<(String, String)>,
}

impl Parser<'_> {
    /// To the end of the line; a backslash before the newline continues the comment.
    fn skip_comment(&mut self) {
        while let Some(c) = self.chars.next() {
            match c {
                '\\' => drop(self.chars.next()),
                '\n' => return,
                _ => {}
            }
        }
    }

    fn assignment(&mut self, first: char) {
        let mut key = String::from(first);
        for c in self.chars.by_ref() {
            match c {
                '=' => {
                    let value = self.value();
                    let key = key.trim_end();
                    if is_name(key) {
                        self.pairs.push((key.to_owned(), value));
                    }
                    return;
                }
                '\n' => return,
                c => key.push(c),
            }
        }
    }

    fn value(&mut self) -> String {
        let mut value = String::new();
        // White space at the end is dropped, but not if it was quoted or escaped.
        let mut keep = 0;
        while let Some(c) = self.chars.next() {
            match c {
                '\n' => break,
                '\'' => {
                    value.extend(self.chars.by_ref().take_while(|c| *c != '\''));
                    keep = value.len();
                }
                '"' => {
                    self.double_quoted(&mut value);
                    keep = value.len();
                }
                '\\' => {
                    if let Some(next) = self.chars.next().filter(|next| *next != '\n') {
                        value.push(next);
                        keep = value.len();
                    }
                }
                c if c.is_whitespace() => {
                    if !value.is_empty() {
                        value.push(c);
                    }
                }
                c => {
                    value.push(c);
                    keep = value.len();
                }
            }
        }
        value.truncate(keep);
        value
    }

    fn double_quoted(&mut self, value: &mut String) {
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return,
                '\\' => match self.chars.next() {
                    Some('\n') | None => {}
                    Some(next @ ('"' | '\\' | '`' | '$')) => value.push(next),
                    Some(next) => value.extend(['\\', next]),
                },
                c => value.push(c),
            }
        }
    }
}

/// environ(7): letters, digits and underscores, no digit first.
fn is_name(key: &str) -> bool {
    !key.is_empty()
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = parse(text);
        let found: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn plain_lines() {
        check("A=1\n# no\n; no\n\n  B = two words  \nC=\n", &[("A", "1"), ("B", "two words"), ("C", "")]);
        check("export A=1\n1A=2\nnonsense\nLAST=x", &[("LAST", "x")]);
        check("A=x#y\r\nB=1\r\n", &[("A", "x#y"), ("B", "1")]);
    }

    #[test]
    fn quotes_and_escapes() {
        check("A='a \"b\" $c\\'\nB=\"x\\\"y\\n\\$z\"\n", &[("A", "a \"b\" $c\\"), ("B", "x\"y\\n$z")]);
        check("A=one\\\ntwo\nB=\"l1\nl2\"\nC=a\\ \n", &[("A", "onetwo"), ("B", "l1\nl2"), ("C", "a ")]);
        check("A='x'\"y\"z  \n", &[("A", "xyz")]);
        check("A=\"never closed\nB=1", &[("A", "never closed\nB=1")]);
        check("# a \\\nA=hidden\nB=1", &[("B", "1")]);
    }
}
