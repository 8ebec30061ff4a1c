//! Words to values: variables, substitutions, field splitting, file name patterns.

use super::arithmetic;
use super::script::{Argument, MAX_VALUE_BYTES, Machine};
use super::secret::{self, SECRET};
use super::shell::{self, Node, Part, Word, pattern};

/// Stands in texts for a user or group id, which is given after all scripts.
pub(super) const UNKNOWN_ID: char = '\u{1}';

/// What one field costs besides its bytes.
const FIELD_BYTES: usize = 64;

/// One of the fields a word becomes.
#[derive(Default)]
struct Field {
    text: String,
    /// The same with all that was quoted standing for itself.
    pattern: String,
    has_pattern: bool,
    is_open: bool,
}

impl Field {
    fn push(&mut self, text: &str, quoted: bool) {
        self.text.push_str(text);
        for c in text.chars() {
            let is_special = matches!(c, '*' | '?' | '[' | '\\');
            if quoted && is_special {
                self.pattern.push('\\');
            }
            // A `[` is one only with its end: `[ -e x ]` is a command.
            self.is_open |= !quoted && c == '[';
            self.has_pattern |= !quoted && (matches!(c, '*' | '?') || c == ']' && self.is_open);
            self.pattern.push(c);
        }
    }
}

impl Machine<'_, '_, '_> {
    /// A word as one value; nothing is split.
    pub(super) fn value(&mut self, word: &Word) -> Argument {
        let mut value = String::new();
        for part in word {
            value.push_str(&self.part(part)?);
            if value.len() > MAX_VALUE_BYTES {
                return None;
            }
        }
        Some(value)
    }

    /// A word as a pattern: quoted text stands for itself.
    pub(super) fn pattern(&mut self, word: &Word) -> Argument {
        let mut value = String::new();
        for part in word {
            let text = self.part(part)?;
            let quoted = match part {
                Part::Text { quoted, .. } | Part::Variable { quoted, .. } | Part::Command { quoted, .. } => {
                    *quoted
                }
                Part::Opaque | Part::Arithmetic(_) => true,
            };
            for c in text.chars() {
                if quoted && matches!(c, '*' | '?' | '[' | '\\') {
                    value.push('\\');
                }
                value.push(c);
            }
        }
        Some(value)
    }

    /// A word as the fields it becomes: unquoted values are split at white space, patterns are matched in the tree.
    pub(super) fn fields(&mut self, word: &Word) -> Option<Vec<String>> {
        if let [Part::Variable { name, change: None, .. }] = word.as_slice()
            && (name == "@" || name == "*")
        {
            let bytes: usize = self.positional.iter().flatten().map(|value| FIELD_BYTES + value.len()).sum();
            return if self.world.spend(bytes) { self.positional.iter().cloned().collect() } else { None };
        }
        let mut fields: Vec<Field> = Vec::new();
        let mut current: Option<Field> = None;
        let separators = self.separators()?;
        let is_space = |c: char| c.is_ascii_whitespace() && separators.contains(c);
        let home;
        let word = match word.first() {
            Some(Part::Text { text, quoted: false }) if text.starts_with('~') => {
                home = self.tilde(text, &word[1..])?;
                &home
            }
            _ => word,
        };
        for part in word {
            let value = self.part(part)?;
            let (split, quoted) = match part {
                Part::Text { quoted, .. } => (false, *quoted),
                Part::Opaque | Part::Arithmetic(_) => (false, true),
                Part::Variable { quoted, .. } | Part::Command { quoted, .. } => (!quoted, *quoted),
            };
            if !split {
                current.get_or_insert_default().push(&value, quoted);
                continue;
            }
            // Spaces end a field, whatever their number; any other separator ends one each (dash(1), "Field Splitting").
            let mut rest = value.as_str();
            while let Some(cut) = rest.find(|c| separators.contains(c)) {
                if cut > 0 {
                    current.get_or_insert_default().push(&rest[..cut], false);
                }
                let after = rest[cut..].trim_start_matches(is_space);
                let hard = after.chars().next().filter(|c| separators.contains(*c));
                if hard.is_some() {
                    current.get_or_insert_default();
                }
                fields.extend(current.take());
                rest = hard.map_or(after, |c| after[c.len_utf8()..].trim_start_matches(is_space));
            }
            if !rest.is_empty() {
                current.get_or_insert_default().push(rest, false);
            }
        }
        fields.extend(current);
        let mut out = Vec::new();
        for field in fields {
            match self.paths(&field)? {
                found if found.is_empty() => out.push(field.text),
                found => out.extend(found),
            }
        }
        self.world.spend(out.iter().map(|field| FIELD_BYTES + field.len()).sum()).then_some(out)
    }

    /// What splits an unquoted value; `None` if it is not known.
    pub(super) fn separators(&self) -> Argument {
        self.variables.get("IFS").cloned().unwrap_or_else(|| Some(" \t\n".to_owned()))
    }

    /// The paths that a field with a pattern stands for; empty if it has none, or nothing fits.
    fn paths(&self, field: &Field) -> Option<Vec<String>> {
        if !field.has_pattern || self.no_patterns {
            return Some(Vec::new());
        }
        // The parents without a pattern may be links.
        let first = field.pattern.find(['*', '?', '[', '\\']).unwrap_or_default();
        let cut = field.pattern[..first].rfind('/').map_or(0, |slash| slash + 1);
        let (parent, rest) = field.pattern.split_at(cut);
        let Some(place) = self.world.resolve(if parent.is_empty() { "." } else { parent }) else {
            return Some(Vec::new());
        };
        let place = place.trim_end_matches('/');
        let pattern = format!("{place}/{rest}");
        let below = format!("{place}/");
        let entries = &self.world.tree.entries;
        let inside =
            entries.range(below.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&below));
        let (mut seen, mut found) = (0, Vec::new());
        for path in inside {
            seen += 1;
            if matches_path(&pattern, path) {
                found.push(format!("{parent}{}", &path[below.len()..]));
            }
        }
        // The number of slashes decides nearly always, so a path costs little more than a look at it.
        self.world.spend(seen * pattern.len().max(FIELD_BYTES)).then_some(found)
    }

    /// `~user/file`: the home of an account.
    fn tilde(&self, text: &str, rest: &[Part]) -> Option<Word> {
        let (user, path) = text[1..]
            .split_once('/')
            .map_or((&text[1..], String::new()), |(user, path)| (user, format!("/{path}")));
        let user = if user.is_empty() { "root" } else { user };
        let home = self.world.accounts.home(user)?;
        let first = Part::Text { text: format!("{home}{path}"), quoted: true };
        Some(std::iter::once(first).chain(rest.iter().cloned()).collect())
    }

    fn part(&mut self, part: &Part) -> Argument {
        let value = self.part_value(part)?;
        self.world.spend(value.len()).then_some(value)
    }

    fn part_value(&mut self, part: &Part) -> Argument {
        match part {
            Part::Text { text, .. } => Some(text.clone()),
            Part::Variable { name, change, .. } => {
                let value = self.variable(name);
                match change {
                    // `${name[1]}` of bash: of an array that nobody has set.
                    Some((operator, _)) if operator == "element" => {
                        (!self.variables.contains_key(name)).then(String::new)
                    }
                    None => value,
                    Some((operator, _)) if operator == "length" => {
                        Some(value.filter(|value| !secret::is_in(value))?.chars().count().to_string())
                    }
                    Some((operator, word)) => self.changed(name, value?, operator, word),
                }
            }
            Part::Command { body, .. } => self.substitution(body),
            Part::Arithmetic(text) => {
                let inner = shell::parse_word(text)?;
                let text = self.value(&inner)?;
                arithmetic::evaluate(&text, &|name| self.variable(name)).map(|value| value.to_string())
            }
            Part::Opaque => None,
        }
    }

    fn variable(&self, name: &str) -> Argument {
        match name {
            "#" => Some(self.positional.len().to_string()),
            "@" | "*" => {
                let between =
                    if name == "@" { " ".to_owned() } else { self.separators()?.chars().take(1).collect() };
                self.positional.iter().cloned().collect::<Option<Vec<_>>>().map(|all| all.join(&between))
            }
            "0" => self.variables.get("0").cloned().unwrap_or_else(|| {
                Some(format!("/var/lib/dpkg/info/{}.{}", self.script.package, self.script.name))
            }),
            "?" => self.status.map(|status| if status { 0 } else { self.code }.to_string()),
            "$" => Some("4242".to_owned()), // only ever part of the name of a temporary file
            "!" | "-" => None,
            _ => match name.parse::<usize>() {
                Ok(0) => None, // `${00}`: every shell says something else
                Ok(at) => self.positional.get(at - 1).cloned().unwrap_or_else(|| Some(String::new())),
                Err(_)
                    if name == "RANDOM"
                        && self.script.text.lines().next().is_some_and(|first| first.contains("bash")) =>
                {
                    Some(SECRET.to_string())
                }
                Err(_) => self.variables.get(name).cloned().unwrap_or_else(|| Some(String::new())),
            },
        }
    }

    /// `${name<operator>word}` (dash(1), "Parameter Expansion").
    fn changed(&mut self, name: &str, value: String, operator: &str, word: &Word) -> Argument {
        match operator {
            ":-" | "-" | ":=" | "=" | ":?" | "?" if value.is_empty() => {
                let value = self.value(word);
                if operator.ends_with('=') {
                    self.variables.insert(name.to_owned(), value.clone());
                }
                value
            }
            ":+" | "+" => {
                if value.is_empty() {
                    Some(value)
                } else {
                    self.value(word)
                }
            }
            "#" | "##" | "%" | "%%" => {
                let pattern = self.pattern(word).filter(|_| !secret::is_in(&value))?;
                // Every cut is tried, and each try may take the product of both lengths.
                if !self.world.spend(value.len().saturating_pow(2).saturating_mul(pattern.len())) {
                    return None;
                }
                let cuts = value.char_indices().map(|(at, _)| at).chain([value.len()]);
                let found = match operator {
                    "#" => cuts.clone().find(|at| pattern::matches(&pattern, &value[..*at])),
                    "##" => rev_find(cuts.clone(), |at| pattern::matches(&pattern, &value[..*at])),
                    "%" => rev_find(cuts.clone(), |at| pattern::matches(&pattern, &value[*at..])),
                    _ => cuts.clone().find(|at| pattern::matches(&pattern, &value[*at..])),
                };
                Some(match found {
                    None => value,
                    Some(at) if operator.starts_with('#') => value[at..].to_owned(),
                    Some(at) => value[..at].to_owned(),
                })
            }
            _ => Some(value),
        }
    }

    /// `$(…)`: what the commands write, without the line breaks at the end.
    fn substitution(&mut self, body: &[Node]) -> Argument {
        self.outputs.push(Some(String::new()));
        let status = self.subshell(body);
        self.status = status;
        let text = self.outputs.pop().flatten()?;
        Some(text.trim_end_matches('\n').to_owned())
    }
}

/// Path patterns match part by part: `*` takes no slash (glob(7)).
fn matches_path(pattern: &str, path: &str) -> bool {
    pattern.matches('/').count() == path.matches('/').count()
        && pattern.split('/').zip(path.split('/')).all(|(pattern, part)| {
            pattern::matches(pattern, part) && (!part.starts_with('.') || pattern.starts_with('.'))
        })
}

fn rev_find(cuts: impl Iterator<Item = usize>, matches: impl Fn(&usize) -> bool) -> Option<usize> {
    cuts.filter(matches).last()
}
