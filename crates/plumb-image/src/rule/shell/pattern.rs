//! Shell patterns: `*`, `?`, `[…]` (glob(7)).

/// Does the whole `text` match? Time grows with the product of both lengths at most. Bytes are compared: `?` and
/// brackets take one byte, which is one character of every path that Debian has.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if let Some(width) = step(&pattern[p..], text[t]) {
            p += width;
            t += 1;
        } else if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else {
            let Some((star_p, star_t)) = star else { return false };
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How many pattern bytes take `byte`, `None` if they do not. A star is never taken here.
fn step(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'*' => None,
        b'?' => Some(1),
        b'\\' => (pattern.get(1) == Some(&byte)).then_some(2),
        b'[' => match bracket(pattern, byte) {
            Some((width, found)) => found.then_some(width),
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// The width of `[…]` and whether it takes `byte`; `None` if it has no end.
fn bracket(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let (mut at, mut found) = (first, false);
    loop {
        match *pattern.get(at)? {
            b']' if at > first => return Some((at + 1, found != negated)),
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let rest = &pattern[at + 2..];
                let end = rest.windows(2).position(|pair| pair == b":]")?;
                found |= is_of_class(&rest[..end], byte);
                at += end + 4;
            }
            mut low => {
                if low == b'\\' && pattern.get(at + 1).is_some() {
                    at += 1;
                    low = pattern[at];
                }
                let high = pattern.get(at + 2).filter(|high| pattern[at + 1] == b'-' && **high != b']');
                found |= (low..=*high.unwrap_or(&low)).contains(&byte);
                at += if high.is_some() { 3 } else { 1 };
            }
        }
    }
}

/// `[:class:]` of the language C.
fn is_of_class(name: &[u8], byte: u8) -> bool {
    match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 11,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text) in
            [("*", ""), ("a*c", "abbc"), ("[a-c]?", "bz"), ("[!0-9]*", "x1"), ("*-", "nginx-")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
            assert!(
                matches("[[:space:]]*", "\tx")
                    && matches("a[![:digit:]_]", "ab")
                    && !matches("[[:alpha:]]", "1")
            );
            assert!(
                matches("[]a]", "]")
                    && matches("[a-]", "-")
                    && matches("[\\*]", "*")
                    && !matches("[\\*]", "\\")
            );
        }
        for (pattern, text) in [("", "a"), ("a*c", "abcd"), ("[a-c]", "d"), ("?", ""), ("*a", "b")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
