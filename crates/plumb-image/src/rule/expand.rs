//! Words to values: variables, substitutions, field splitting, file name patterns.

use super::arithmetic;
use super::script::{Argument, MAX_VALUE_BYTES, Machine};
use super::shell::{self, Node, Part, Word, pattern};

/// Stands in texts for a user or group id, which is given after all scripts.
pub(super) const UNKNOWN_ID: char = '\u{1}';

/// What one field costs besides its bytes.
const FIELD_BYTES: usize = 64;

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
        let mut fields = Vec::new();
        let mut current: Option<String> = None;
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
            let split = match part {
                Part::Text { .. } | Part::Opaque | Part::Arithmetic(_) => false,
                Part::Variable { quoted, .. } | Part::Command { quoted, .. } => !quoted,
            };
            if !split {
                current.get_or_insert_default().push_str(&value);
                continue;
            }
            if value.starts_with(char::is_whitespace) {
                fields.extend(current.take());
            }
            for (at, piece) in value.split_whitespace().enumerate() {
                if at > 0 {
                    fields.extend(current.take());
                }
                current.get_or_insert_default().push_str(piece);
            }
            if value.ends_with(char::is_whitespace) {
                fields.extend(current.take());
            }
        }
        fields.extend(current);
        if !self.world.spend(fields.len() * FIELD_BYTES) {
            return None;
        }
        let unquoted = |part: &Part| matches!(part, Part::Text { text, quoted: false } if text.contains(['*', '?', '[']));
        if word.iter().any(unquoted)
            && let Some(pattern) = self.pattern(word).filter(|pattern| pattern.starts_with('/'))
        {
            // The number of slashes decides nearly always, so a path costs little more than a look at it.
            if !self.world.spend(self.world.tree.entries.len() * pattern.len().max(FIELD_BYTES)) {
                return None;
            }
            let found = self.world.tree.entries.keys().filter(|path| matches_path(&pattern, path));
            let found: Vec<String> = found.cloned().collect();
            if !self.world.spend(found.iter().map(|path| FIELD_BYTES + path.len()).sum()) {
                return None;
            }
            if !found.is_empty() {
                return Some(found);
            }
        }
        Some(fields)
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
                    None => value,
                    Some((operator, _)) if operator == "length" => Some(value?.chars().count().to_string()),
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
            "@" | "*" => self.positional.iter().cloned().collect::<Option<Vec<_>>>().map(|all| all.join(" ")),
            "0" => self.variables.get("0").cloned().unwrap_or_else(|| {
                Some(format!("/var/lib/dpkg/info/{}.{}", self.script.package, self.script.name))
            }),
            "?" => self.status.map(|status| if status { 0 } else { self.code }.to_string()),
            "$" => Some("4242".to_owned()), // only ever part of the name of a temporary file
            "!" | "-" => None,
            _ => match name.parse::<usize>() {
                Ok(0) => None, // `${00}`: every shell says something else
                Ok(at) => self.positional.get(at - 1).cloned().unwrap_or_else(|| Some(String::new())),
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
                let pattern = self.pattern(word)?;
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
