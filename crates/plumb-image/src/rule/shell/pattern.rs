//! Shell patterns: `*`, `?`, `[…]` (glob(7)).

/// Does the whole `text` match? Time grows with the product of both lengths at most.
pub(in crate::rule) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match step(&pattern[p.min(pattern.len())..], text[t]) {
            Some(width) => {
                p += width;
                t += 1;
            }
            None if pattern.get(p) == Some(&'*') => {
                star = Some((p, t));
                p += 1;
            }
            None => {
                let Some((star_p, star_t)) = star else { return false };
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How many pattern characters take `c`, `None` if they do not. A star is never taken here.
fn step(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '*' => None,
        '?' => Some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => {
            let Some(end) = pattern.iter().skip(2).position(|c| *c == ']').map(|at| at + 2) else {
                return (c == '[').then_some(1);
            };
            let inside = &pattern[1..end];
            let (inside, negated) = match inside.first() {
                Some('!' | '^') => (&inside[1..], true),
                _ => (inside, false),
            };
            let mut found = false;
            let mut at = 0;
            while at < inside.len() {
                if at + 2 < inside.len() && inside[at + 1] == '-' {
                    found |= (inside[at]..=inside[at + 2]).contains(&c);
                    at += 3;
                } else {
                    found |= inside[at] == c;
                    at += 1;
                }
            }
            (found != negated).then_some(end + 1)
        }
        literal => (*literal == c).then_some(1),
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
