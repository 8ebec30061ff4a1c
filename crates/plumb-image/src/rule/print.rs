//! echo(1) and printf(1) of dash.

/// What `echo` or `printf` writes; `None` for a form that is not understood.
pub(super) fn text(name: &str, arguments: &[String]) -> Option<String> {
    if name == "printf" {
        return formatted(arguments);
    }
    let mut words = arguments;
    let (mut line_end, mut escapes) = (true, true);
    while let Some((first, rest)) = words.split_first() {
        match first.as_str() {
            "-n" => line_end = false,
            "-e" => escapes = true,
            "-E" => escapes = false,
            "-ne" | "-en" => line_end = false,
            _ => break,
        }
        words = rest;
    }
    let mut out = words.join(" ");
    if escapes {
        out = escaped(&out);
    }
    if line_end {
        out.push('\n');
    }
    Some(out)
}

/// `\n`, `\t` and their like.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('\\') => out.push('\\'),
            Some('a' | 'b' | 'f' | 'v') => {}
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// The format is used again until no argument is left.
fn formatted(arguments: &[String]) -> Option<String> {
    let (format, mut rest) = arguments.split_first()?;
    if format == "--" || format.starts_with("-v") {
        return None;
    }
    let mut out = String::new();
    loop {
        let before = rest.len();
        let mut characters = escaped(&format.replace("%%", "\u{2}")).chars().collect::<Vec<_>>().into_iter();
        while let Some(c) = characters.next() {
            if c != '%' {
                out.push(if c == '\u{2}' { '%' } else { c });
                continue;
            }
            let argument = rest.split_first().map(|(first, left)| {
                rest = left;
                first.as_str()
            });
            match characters.next()? {
                's' => out.push_str(argument.unwrap_or("")),
                'b' => out.push_str(&escaped(argument.unwrap_or(""))),
                'd' | 'i' => out.push_str(&argument.unwrap_or("0").trim().parse::<i64>().ok()?.to_string()),
                _ => return None,
            }
        }
        if rest.is_empty() || rest.len() == before {
            return Some(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let of = |line: &str| {
            let words: Vec<String> = shlex::split(line).unwrap();
            text(&words[0], &words[1..])
        };
        assert_eq!(of("echo -n a  'b c'").as_deref(), Some("a b c"));
        assert_eq!(of(r"printf '%s=%d\n' a 1 b 2").as_deref(), Some("a=1\nb=2\n"));
        assert_eq!(of(r"printf '100%%'").as_deref(), Some("100%"));
        assert_eq!(of("printf %x 1"), None);
    }
}
