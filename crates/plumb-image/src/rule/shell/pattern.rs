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
        b'[' => {
            let Some(end) = pattern.iter().skip(2).position(|b| *b == b']').map(|at| at + 2) else {
                return (byte == b'[').then_some(1);
            };
            let inside = &pattern[1..end];
            let (inside, negated) = match inside.first() {
                Some(b'!' | b'^') => (&inside[1..], true),
                _ => (inside, false),
            };
            let mut found = false;
            let mut at = 0;
            while at < inside.len() {
                if at + 2 < inside.len() && inside[at + 1] == b'-' {
                    found |= (inside[at]..=inside[at + 2]).contains(&byte);
                    at += 3;
                } else {
                    found |= inside[at] == byte;
                    at += 1;
                }
            }
            (found != negated).then_some(end + 1)
        }
        literal => (literal == byte).then_some(1),
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
        }
        for (pattern, text) in [("", "a"), ("a*c", "abcd"), ("[a-c]", "d"), ("?", ""), ("*a", "b")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
