//! Words with quotes and C escapes: systemd.service(5) "COMMAND LINES", systemd.syntax(7) "Quoting".

use super::{MAX_WORD_BYTES, MAX_WORDS};

/// What is wrong with a line of words.
pub(super) type WordError = &'static str;

/// Takes the next word off `rest`, without its quotes and with its escapes resolved. `None` at the end.
///
/// Like systemd, an unknown escape is kept as written, and quotes may open in the middle of a word.
pub(super) fn next_word(rest: &mut &str) -> Result<Option<String>, WordError> {
    let text = rest.trim_start();
    *rest = text;
    if text.is_empty() {
        return Ok(None);
    }
    let mut word = Vec::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if quote.is_none() && c.is_whitespace() {
            break;
        }
        at += c.len_utf8();
        match c {
            '\\' => at += unescape(&text[at..], &mut word)?,
            _ if Some(c) == quote => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        if word.len() > MAX_WORD_BYTES {
            return Err("a word is too long");
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    *rest = &text[at..];
    String::from_utf8(word).map(Some).map_err(|_| "an escape makes a word that is no UTF-8")
}

/// All words of a line.
pub(super) fn words(line: &str) -> Result<Vec<String>, WordError> {
    let mut rest = line;
    let mut all = Vec::new();
    while let Some(word) = next_word(&mut rest)? {
        if all.len() == MAX_WORDS {
            return Err("too many words");
        }
        all.push(word);
    }
    Ok(all)
}

/// Resolves the escape whose backslash stands before `text`; returns how many bytes of `text` it took.
fn unescape(text: &str, word: &mut Vec<u8>) -> Result<usize, WordError> {
    let Some(letter) = text.chars().next() else {
        word.push(b'\\');
        return Ok(0);
    };
    let simple = match letter {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' => Some(b'\\'),
        '"' => Some(b'"'),
        '\'' => Some(b'\''),
        's' => Some(b' '),
        _ => None,
    };
    if let Some(byte) = simple {
        word.push(byte);
        return Ok(1);
    }
    let (skip, digits, radix) = match letter {
        'x' => (1, 2, 16),
        'u' => (1, 4, 16),
        'U' => (1, 8, 16),
        '0'..='3' => (0, 3, 8),
        _ => (0, 0, 0),
    };
    let number = text.get(skip..skip + digits).filter(|t| digits > 0 && t.chars().all(|c| c.is_digit(radix)));
    let Some(number) = number.and_then(|number| u32::from_str_radix(number, radix).ok()) else {
        word.push(b'\\');
        return Ok(0);
    };
    match (letter, u8::try_from(number)) {
        (_, Ok(0)) => return Err("an escape makes a NUL byte"),
        ('x' | '0'..='3', Ok(byte)) => word.push(byte),
        _ => {
            let c = char::from_u32(number).ok_or("an escape is no Unicode character")?;
            word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(skip + digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_and_escapes() {
        let check = |line: &str, expect: &[&str]| assert_eq!(words(line).unwrap(), expect, "{line}");
        check("  a  b\tc ", &["a", "b", "c"]);
        check(r#"'daemon on; x' "a b"c d'e'"#, &["daemon on; x", "a bc", "de"]);
        check(r#"'' """#, &["", ""]);
        check(r"a\x20b \101\u00e4 \s\t \q \", &["a b", "Aä", " \t", r"\q", "\\"]);
        check(r#""it's \"so\"""#, &["it's \"so\""]);
        assert_eq!(words("'open"), Err("a quote is not closed"));
        assert_eq!(words(r"\x00"), Err("an escape makes a NUL byte"));
        assert_eq!(words(r"\xff"), Err("an escape makes a word that is no UTF-8"));
        assert_eq!(words(&"a ".repeat(MAX_WORDS + 1)), Err("too many words"));
    }

    proptest! {
        #[test]
        fn any_line_is_split_and_does_not_grow(line in "\\PC{0,200}|[\\\\\"'xuU0-9a-f ä;]{0,200}") {
            if let Ok(words) = words(&line) {
                // `\U0000ffff` is the escape that shrinks least: never more bytes than were written.
                prop_assert!(words.iter().map(String::len).sum::<usize>() <= line.len());
            }
        }
    }
}
