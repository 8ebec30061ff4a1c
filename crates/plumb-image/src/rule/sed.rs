//! sed(1): what scripts edit configuration files with. Commands that keep state between lines are not understood.

use std::cell::Cell;

use regex_lite::{Captures, Regex};

use super::regex::{Grammar, compile};

/// Deepest nesting of `{ … }`.
const MAX_DEPTH: usize = 8;
/// How often the commands may begin again (`D`) beyond once a line: a script that does so without end ends here.
const MAX_AGAIN: usize = 1000;

/// A script that was understood.
#[derive(Debug)]
pub(super) struct Sed {
    commands: Vec<Command>,
}

#[derive(Debug)]
enum Address {
    Line(usize),
    Last,
    Match(Regex),
}

#[derive(Debug)]
struct Command {
    from: Option<Address>,
    to: Option<Address>,
    negated: bool,
    /// Inside the range `from,to`.
    active: Cell<bool>,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Substitute {
        find: Regex,
        replacement: Vec<Piece>,
        all: bool,
        nth: usize,
        print: bool,
    },
    Transliterate(Vec<(char, char)>),
    Delete,
    /// `D`: the first of several lines goes, and the commands begin again with the rest.
    DeleteFirst,
    /// `N`: the next line is added.
    Join,
    Print,
    Quit,
    Append(String),
    Insert(String),
    Change(String),
    Block(Vec<Command>),
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

/// What is left to do with a line.
enum Next {
    Go,
    Drop,
    Again,
    Quit,
}

impl Sed {
    /// Reads a script.
    pub(super) fn parse(text: &str, grammar: Grammar) -> Option<Sed> {
        let mut parser = Parser { text: text.chars().collect(), at: 0, grammar };
        let commands = parser.commands(0)?;
        (parser.at == parser.text.len()).then_some(Sed { commands })
    }

    /// The text after editing; `quiet` is `-n`. `None` for commands that begin again without end.
    pub(super) fn edit(&self, text: &str, quiet: bool) -> Option<String> {
        let lines: Vec<&str> = text.lines().collect();
        let mut out = String::new();
        let (mut number, mut kept) = (0, None);
        let mut again = 0;
        while kept.is_some() || number < lines.len() {
            let line = kept.take().unwrap_or_else(|| {
                number += 1;
                lines[number - 1].to_owned()
            });
            let mut state = State { line, number, lines: &lines, out: &mut out, after: String::new() };
            let next = run(&self.commands, &mut state);
            let State { line, after, number: at, .. } = state;
            number = at;
            if !quiet && !matches!(next, Next::Drop | Next::Again) {
                out.push_str(&line);
                out.push('\n');
            }
            out.push_str(&after);
            match next {
                Next::Quit => break,
                Next::Again if again < lines.len() + MAX_AGAIN => {
                    again += 1;
                    kept = Some(line);
                }
                Next::Again => return None,
                Next::Go | Next::Drop => {}
            }
        }
        if !text.ends_with('\n') && out.ends_with('\n') {
            out.pop();
        }
        Some(out)
    }
}

struct State<'o> {
    line: String,
    number: usize,
    lines: &'o [&'o str],
    out: &'o mut String,
    after: String,
}

impl State<'_> {
    fn is_last(&self) -> bool {
        self.number >= self.lines.len()
    }
}

fn run(commands: &[Command], state: &mut State<'_>) -> Next {
    for command in commands {
        if !command.applies(state) {
            continue;
        }
        match &command.action {
            Action::Substitute { find, replacement, all, nth, print } => {
                let changed = substitute(&state.line, find, replacement, *all, *nth);
                if let Some(changed) = changed {
                    state.line = changed;
                    if *print {
                        state.out.push_str(&state.line);
                        state.out.push('\n');
                    }
                }
            }
            Action::Transliterate(pairs) => {
                let of = |c: char| pairs.iter().find(|(from, _)| *from == c).map_or(c, |(_, to)| *to);
                state.line = state.line.chars().map(of).collect();
            }
            Action::Delete => return Next::Drop,
            Action::DeleteFirst => {
                let Some(cut) = state.line.find('\n') else { return Next::Drop };
                state.line.drain(..=cut);
                return Next::Again;
            }
            Action::Join => {
                // GNU sed ends with what it has where there is no next line.
                let Some(next) = state.lines.get(state.number) else { return Next::Quit };
                state.line.push('\n');
                state.line.push_str(next);
                state.number += 1;
            }
            Action::Print => {
                state.out.push_str(&state.line);
                state.out.push('\n');
            }
            Action::Quit => return Next::Quit,
            Action::Append(text) => {
                state.after.push_str(text);
                state.after.push('\n');
            }
            Action::Insert(text) => {
                state.out.push_str(text);
                state.out.push('\n');
            }
            Action::Change(text) => {
                // A range is changed as a whole, at its end.
                if !command.active.get() || command.negated {
                    state.after.push_str(text);
                    state.after.push('\n');
                }
                return Next::Drop;
            }
            Action::Block(inner) => match run(inner, state) {
                Next::Go => {}
                next => return next,
            },
        }
    }
    Next::Go
}

fn substitute(line: &str, find: &Regex, replacement: &[Piece], all: bool, nth: usize) -> Option<String> {
    let mut out = String::new();
    let mut end = 0;
    let mut count = 0;
    let mut changed = false;
    for found in find.captures_iter(line) {
        let whole = found.get(0)?;
        count += 1;
        if count < nth {
            continue;
        }
        out.push_str(&line[end..whole.start()]);
        out.push_str(&expand(replacement, &found));
        end = whole.end();
        changed = true;
        if !all {
            break;
        }
    }
    out.push_str(&line[end..]);
    changed.then_some(out)
}

fn expand(replacement: &[Piece], found: &Captures<'_>) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Group(number) => found.get(*number).map_or("", |group| group.as_str()).to_owned(),
    };
    replacement.iter().map(piece).collect()
}

impl Command {
    fn applies(&self, state: &State<'_>) -> bool {
        let is = |address: &Address| match address {
            Address::Line(number) => *number == state.number,
            Address::Last => state.is_last(),
            Address::Match(regex) => regex.is_match(&state.line),
        };
        let hit = match (&self.from, &self.to) {
            (None, _) => true,
            (Some(from), None) => is(from),
            (Some(_), Some(to)) if self.active.get() => {
                let over = match to {
                    Address::Line(number) => state.number >= *number,
                    to => is(to),
                };
                self.active.set(!over && !state.is_last());
                true
            }
            (Some(from), Some(to)) => {
                let begins = is(from) || matches!(from, Address::Line(0)) && state.number == 1;
                let one_line = matches!(to, Address::Line(number) if *number <= state.number)
                    || matches!(from, Address::Line(0)) && is(to);
                self.active.set(begins && !one_line && !state.is_last());
                begins
            }
        };
        hit != self.negated
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
    grammar: Grammar,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self, also: &[char]) {
        while self.peek().is_some_and(|c| c == ' ' || c == '\t' || also.contains(&c)) {
            self.at += 1;
        }
    }

    fn commands(&mut self, depth: usize) -> Option<Vec<Command>> {
        let mut commands = Vec::new();
        loop {
            self.skip(&['\n', ';']);
            match self.peek() {
                None if depth == 0 => return Some(commands),
                Some('}') if depth > 0 => {
                    self.at += 1;
                    return Some(commands);
                }
                None => return None,
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                Some(_) => commands.push(self.command(depth)?),
            }
        }
    }

    fn command(&mut self, depth: usize) -> Option<Command> {
        let from = self.address()?;
        self.skip(&[]);
        let mut to = None;
        if from.is_some() && self.peek() == Some(',') {
            self.at += 1;
            self.skip(&[]);
            to = Some(self.address()??);
        }
        self.skip(&[]);
        let negated = self.peek() == Some('!');
        self.at += usize::from(negated);
        self.skip(&[]);
        let name = self.peek()?;
        self.at += 1;
        let action = match name {
            's' => self.substitution()?,
            'y' => {
                let delimiter = self.peek()?;
                self.at += 1;
                let (from, to) = (self.until(delimiter)?, self.until(delimiter)?);
                if from.chars().count() != to.chars().count() || from.contains('\\') {
                    return None;
                }
                Action::Transliterate(from.chars().zip(to.chars()).collect())
            }
            'd' => Action::Delete,
            'D' => Action::DeleteFirst,
            'N' => Action::Join,
            'p' => Action::Print,
            'q' => Action::Quit,
            'a' => Action::Append(self.line()),
            'i' => Action::Insert(self.line()),
            'c' => Action::Change(self.line()),
            '{' if depth < MAX_DEPTH => Action::Block(self.commands(depth + 1)?),
            _ => return None,
        };
        self.skip(&[]);
        match self.peek() {
            None | Some('\n' | ';' | '}' | '#') => {}
            Some(_) if matches!(action, Action::Block(_)) => {}
            Some(_) => return None,
        }
        Some(Command { from, to, negated, active: Cell::new(false), action })
    }

    /// Outer `None`: not understood; inner: no address.
    fn address(&mut self) -> Option<Option<Address>> {
        Some(match self.peek()? {
            '$' => {
                self.at += 1;
                Some(Address::Last)
            }
            c if c.is_ascii_digit() => {
                let mut number = 0usize;
                while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
                    number = number.checked_mul(10)?.checked_add(digit as usize)?;
                    self.at += 1;
                }
                Some(Address::Line(number))
            }
            c @ ('/' | '\\') => {
                self.at += 1;
                let delimiter = if c == '\\' { self.peek()? } else { c };
                self.at += usize::from(c == '\\');
                let pattern = self.until(delimiter)?;
                let ignore_case = self.peek() == Some('I');
                self.at += usize::from(ignore_case);
                Some(Address::Match(compile(&pattern, self.grammar, ignore_case)?))
            }
            _ => None,
        })
    }

    /// Up to the next delimiter that is not escaped and not in brackets; it is taken, too.
    fn until(&mut self, delimiter: char) -> Option<String> {
        let mut out = String::new();
        let mut bracket = false;
        loop {
            let c = self.peek()?;
            self.at += 1;
            match c {
                '\\' => {
                    let next = self.peek()?;
                    self.at += 1;
                    if next != delimiter {
                        out.push('\\');
                    }
                    out.push(next);
                }
                '[' if !bracket => {
                    bracket = true;
                    out.push(c);
                    if self.peek() == Some('^') {
                        out.push('^');
                        self.at += 1;
                    }
                    if self.peek() == Some(']') {
                        out.push(']');
                        self.at += 1;
                    }
                }
                '[' if self.peek() == Some(':') => {
                    out.push_str("[:");
                    self.at += 1;
                    while let Some(c) = self.peek().filter(|c| *c != ']') {
                        out.push(c);
                        self.at += 1;
                    }
                    self.at += 1;
                    out.push(']');
                }
                ']' if bracket => {
                    bracket = false;
                    out.push(c);
                }
                // In the replacement and in most patterns a bracket never closes: the delimiter ends it all the same.
                _ if c == delimiter && (!bracket || !self.closes_before(delimiter)) => return Some(out),
                _ => out.push(c),
            }
        }
    }

    /// Is there a `]` before the next delimiter?
    fn closes_before(&self, delimiter: char) -> bool {
        let rest = &self.text[self.at..];
        rest.iter().find(|c| **c == ']' || **c == delimiter || **c == '\n') == Some(&']')
    }

    fn substitution(&mut self) -> Option<Action> {
        let delimiter = self.peek()?;
        self.at += 1;
        let pattern = self.until(delimiter)?;
        let replacement = self.replacement(delimiter)?;
        let (mut all, mut print, mut ignore_case, mut nth) = (false, false, false, 0);
        while let Some(flag) = self.peek() {
            match flag {
                'g' => all = true,
                'p' => print = true,
                'i' | 'I' => ignore_case = true,
                '1'..='9' => nth = flag.to_digit(10)? as usize,
                ' ' | '\t' | '\n' | ';' | '}' | '#' => break,
                _ => return None,
            }
            self.at += 1;
        }
        let find = compile(&pattern, self.grammar, ignore_case).filter(|_| !pattern.is_empty())?;
        Some(Action::Substitute { find, replacement, all, nth, print })
    }

    fn replacement(&mut self, delimiter: char) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        loop {
            let c = self.peek()?;
            self.at += 1;
            let group = match c {
                _ if c == delimiter => {
                    pieces.push(Piece::Text(text));
                    return Some(pieces);
                }
                '&' => 0,
                '\\' => {
                    let next = self.peek()?;
                    self.at += 1;
                    match next {
                        '0'..='9' => next.to_digit(10)? as usize,
                        'n' => {
                            text.push('\n');
                            continue;
                        }
                        't' => {
                            text.push('\t');
                            continue;
                        }
                        'U' | 'L' | 'E' | 'u' | 'l' => return None,
                        other => {
                            text.push(other);
                            continue;
                        }
                    }
                }
                other => {
                    text.push(other);
                    continue;
                }
            };
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(Piece::Group(group));
        }
    }

    /// The text of `a`, `i` and `c`: the rest of the line; a backslash at its end takes the next line along.
    fn line(&mut self) -> String {
        self.skip(&[]);
        if self.peek() == Some('\\') {
            self.at += 1;
            if self.peek() == Some('\n') {
                self.at += 1;
            }
        }
        let mut out = String::new();
        while let Some(c) = self.peek().filter(|c| *c != '\n') {
            self.at += 1;
            if c == '\\' {
                match self.peek() {
                    Some('t') => out.push('\t'),
                    Some(next) => out.push(next),
                    None => {}
                }
                self.at += 1;
            } else {
                out.push(c);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(script: &str, text: &str) -> String {
        Sed::parse(script, Grammar::Basic).unwrap_or_else(|| panic!("{script}")).edit(text, false).unwrap()
    }

    #[test]
    fn commands() {
        assert_eq!(edit("s/a/b/", "aa\n"), "ba\n");
        assert_eq!(edit("s|/etc|[&]|g;s/x/\\//2", "/etc /etc xx\n"), "[/etc] [/etc] x/\n");
        assert_eq!(edit("s/\\(a*\\)=\\(.*\\)/\\2=\\1/", "aa=b\nc"), "b=aa\nc");
        assert_eq!(edit("/^#/d; 2,/x/ { s/$/!/; p\n }", "#\na\nx\nb\n"), "a!\na!\nx!\nx!\nb\n");
        assert_eq!(edit("$a\\\nend", "a\n"), "a\nend\n");
        assert_eq!(edit("1i top\n/b/c other", "a\nb\n"), "top\na\nother\n");
        assert_eq!(edit("/a/!s/[/]/x/", "a/\nb/\n"), "a/\nbx\n");
        assert_eq!(edit("1,2c both", "a\nb\nc\n"), "both\nc\n");
        assert_eq!(edit("s/[ \\t][ \\t]*/ /g", "html  \t= x\n"), "html = x\n");
        assert_eq!(edit("N;s/a\\nb/x/", "a\nb\nc\n"), "x\nc\n");
        assert_eq!(edit("/^$/N;/\\n$/D", "a\n\n\n\nb\n\nc\n"), "a\n\nb\n\nc\n");
        assert_eq!(edit("s/xx/\\nyyyx/;D", "xx\n"), "");
        assert_eq!(Sed::parse("s/^/y\\n/;D", Grammar::Basic).unwrap().edit("a\n", false), None);
        assert!(Sed::parse("x;s/a/b/", Grammar::Basic).is_none());
        assert!(Sed::parse("s/a", Grammar::Basic).is_none());
        assert!(Sed::parse(&"{".repeat(100_000), Grammar::Basic).is_none());
    }
}
