//! `perl -pe 's/…/…/'`: what scripts do to texts by perl(1). Anything else of that language is not understood.

use regex_lite::{Captures, Regex, RegexBuilder};

use super::filter::{Outcome, inputs};
use super::script::Machine;
use super::{command, secret};

struct Substitution {
    find: Regex,
    replacement: Vec<Piece>,
    all: bool,
}

enum Piece {
    Text(String),
    Group(usize),
}

/// `perl -p [-i] [-000] -e 's/…/…/[gim]' FILE…`, or a program that prints something random; `None` for another.
pub(super) fn run(machine: &mut Machine<'_, '_, '_>, arguments: &[String]) -> Option<Outcome> {
    if let [option, program] = arguments
        && matches!(option.as_str(), "-e" | "-le")
        && program.contains("rand(")
        && program.contains("print")
    {
        machine.random("perl -e 'rand'");
        return Some((Some(secret::SECRET.to_string()), Some(true)));
    }
    let (mut loops, mut in_place, mut paragraphs, mut program) = (false, false, false, None);
    let mut rest = arguments.iter().map(String::as_str);
    let mut files = Vec::new();
    while let Some(word) = rest.next() {
        match word {
            "-000" | "-00" => paragraphs = true,
            word if word.starts_with('-') && files.is_empty() => {
                for letter in word[1..].chars() {
                    match letter {
                        'p' => loops = true,
                        'i' => in_place = true,
                        'e' if program.is_none() => program = Some(rest.next()?),
                        'w' => {}
                        _ => return None,
                    }
                }
            }
            file => files.push(file),
        }
    }
    let substitution = parse(program.filter(|_| loops)?)?;
    if in_place {
        if machine.uncertain > 0 {
            return None;
        }
        for file in files {
            let place = machine.world.resolve(file)?;
            let text = machine.read(&place)?;
            command::rewrite(machine.world, &place, &substitution.edit(&text, paragraphs))?;
        }
        return Some((Some(String::new()), Some(true)));
    }
    let text: String = inputs(machine, &files)?.into_iter().collect::<Option<String>>()?;
    let edited = substitution.edit(&text, paragraphs);
    (secret::is_in(&edited) || !secret::is_in(&text)).then_some((Some(edited), Some(true)))
}

fn parse(program: &str) -> Option<Substitution> {
    let body = program.trim().trim_end_matches(';').strip_prefix('s')?;
    let delimiter =
        body.chars().next().filter(|c| c.is_ascii_punctuation() && !"{}()[]<>'\\".contains(*c))?;
    let mut parts = vec![String::new()];
    let mut characters = body[1..].chars();
    while let Some(c) = characters.next() {
        match c {
            c if c == delimiter => parts.push(String::new()),
            '\\' => {
                let next = characters.next()?;
                let part = parts.last_mut()?;
                if next != delimiter {
                    part.push('\\');
                }
                part.push(next);
            }
            c => parts.last_mut()?.push(c),
        }
    }
    let [find, replacement, flags] = &parts[..] else { return None };
    if flags.chars().any(|flag| !"gim".contains(flag)) || interpolates(find) {
        return None;
    }
    let find = RegexBuilder::new(find)
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .build()
        .ok()?;
    Some(Substitution { find, replacement: pieces(replacement)?, all: flags.contains('g') })
}

/// Does the pattern name variables? A `$` at an end is the end of the line.
fn interpolates(find: &str) -> bool {
    let mut characters = find.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => _ = characters.next(),
            '@' => return true,
            '$' if !matches!(characters.peek(), None | Some(')' | '|')) => return true,
            _ => {}
        }
    }
    false
}

fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut out = vec![Piece::Text(String::new())];
    let mut push = |c: char| match out.last_mut() {
        Some(Piece::Text(text)) => text.push(c),
        _ => out.push(Piece::Text(c.to_string())),
    };
    let mut groups = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '@' => return None,
            '\\' => match characters.next()? {
                'n' => push('\n'),
                't' => push('\t'),
                c if c.is_ascii_alphanumeric() => return None,
                c => push(c),
            },
            '$' => {
                let braced = characters.next_if_eq(&'{').is_some();
                let digit = characters.next()?.to_digit(10)?;
                if braced {
                    characters.next_if_eq(&'}')?;
                }
                push('\u{0}');
                groups.push(usize::try_from(digit).ok()?);
            }
            c => push(c),
        }
    }
    let mut groups = groups.into_iter();
    let mut pieces = Vec::new();
    for piece in out {
        let Piece::Text(text) = piece else { continue };
        for (at, part) in text.split('\u{0}').enumerate() {
            if at > 0 {
                pieces.push(Piece::Group(groups.next()?));
            }
            pieces.push(Piece::Text(part.to_owned()));
        }
    }
    Some(pieces)
}

impl Substitution {
    /// Line by line, or paragraph by paragraph.
    fn edit(&self, text: &str, paragraphs: bool) -> String {
        let mut out = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = if paragraphs {
                rest.find("\n\n").map_or(rest.len(), |at| {
                    rest[at..].find(|c| c != '\n').map_or(rest.len(), |more| at + more)
                })
            } else {
                rest.find('\n').map_or(rest.len(), |at| at + 1)
            };
            let (record, after) = rest.split_at(end);
            // `$` also stands before the line break at the end (perlre(1)).
            let line = record.trim_end_matches('\n');
            let replace = |found: &Captures<'_>| self.replaced(found);
            let count = if self.all { 0 } else { 1 };
            out.push_str(&self.find.replacen(line, count, replace));
            out.push_str(&record[line.len()..]);
            rest = after;
        }
        out
    }

    fn replaced(&self, found: &Captures<'_>) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Group(number) => {
                found.get(*number).map_or(String::new(), |group| group.as_str().to_owned())
            }
        };
        self.replacement.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_as_perl_makes_them() {
        let edit = |program: &str, text: &str| parse(program).unwrap().edit(text, false);
        // perl -pe "$program" was asked for each.
        assert_eq!(
            edit(r"s/define\('X', '(.*)'\);/define('X', 'a\/b');/g", "define('X', 'old');\n"),
            "define('X', 'a/b');\n"
        );
        assert_eq!(edit("s#^a(.)$#${1}-$1#;", "ab\nxab\n"), "b-b\nxab\n");
        assert_eq!(edit("s/a/b/", "aa\n"), "ba\n");
        assert_eq!(edit(r"s/\$x/\$y\@z/", "$x"), "$y@z");
        let paragraphs = parse("s#^k(\\n\\s+)('?)[^\\n]*?('?)$#k${1}${2}v${3}#m").unwrap();
        assert_eq!(paragraphs.edit("k\n  'old'\nz\n\n\nk\n 'o'\n", true), "k\n  'v'\nz\n\n\nk\n 'v'\n");
        for bad in ["s/$x/y/", "s/x/$y/", "tr/a/b/", "s/a/b/e", "s{a}{b}", "print"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
