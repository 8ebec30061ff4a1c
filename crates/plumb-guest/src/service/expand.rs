//! Command lines: `$VAR`, `${VAR}` and `$$`, as systemd.service(5) "COMMAND LINES" says.

use std::collections::BTreeMap;

/// The arguments after expansion. The program itself is never expanded.
pub fn arguments(argv: &[String], environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut words = Vec::with_capacity(argv.len());
    for (index, word) in argv.iter().enumerate() {
        if index == 0 {
            words.push(word.clone());
            continue;
        }
        match word.strip_prefix('$') {
            // `$VAR` as a word of its own becomes zero or more words.
            Some(name) if !name.is_empty() && !name.starts_with(['{', '$']) => {
                words.extend(environment.get(name).map_or_else(Vec::new, |value| split(value)));
            }
            _ => words.push(inside(word, environment)),
        }
    }
    words
}

/// `${VAR}` and `$$` within a word; everything else stays as it is.
fn inside(word: &str, environment: &BTreeMap<String, String>) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            text.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            text.push_str(environment.get(name).map_or("", String::as_str));
            rest = tail;
        } else {
            text.push('$');
            rest = after;
        }
    }
    text.push_str(rest);
    text
}

/// Splits at white space; quotes hold words together and are removed, a backslash takes the next character as it is.
fn split(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argv: &[&str], expected: &[&str]) {
        let environment = BTreeMap::from([
            ("ONE".to_owned(), "one".to_owned()),
            ("TWO".to_owned(), "two two".to_owned()),
            ("QUOTED".to_owned(), "-c 'a b' \"d e\"f".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ]);
        let argv: Vec<String> = argv.iter().map(|s| (*s).to_owned()).collect();
        assert_eq!(arguments(&argv, &environment), expected, "{argv:?}");
    }

    #[test]
    fn the_examples_of_systemd_service() {
        check(&["/bin/echo", "$ONE", "$TWO", "${TWO}"], &["/bin/echo", "one", "two", "two", "two two"]);
        check(&["/bin/echo", "${ONE}x", "a$ONE", "$$ONE"], &["/bin/echo", "onex", "a$ONE", "$ONE"]);
    }

    #[test]
    fn absent_empty_and_odd() {
        check(&["/x", "$EMPTY", "$NONE", "${EMPTY}", "${NONE}"], &["/x", "", ""]);
        check(&["/x", "$QUOTED"], &["/x", "-c", "a b", "d ef"]);
        check(&["$ONE", "$", "a$", "${ONE", "$$$$"], &["$ONE", "$", "a$", "${ONE", "$$"]);
    }
}
