//! Words to values: variables, substitutions, field splitting, file name patterns.

use super::condition;
use super::script::{Argument, MAX_VALUE_BYTES, Machine};
use super::shell::{Node, Part, Simple, Word, pattern};

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
                Part::Opaque => true,
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
        for part in word {
            let value = self.part(part)?;
            let split = match part {
                Part::Text { .. } | Part::Opaque => false,
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
                    Some((operator, word)) => self.changed(value?, operator, word),
                }
            }
            Part::Command { body, .. } => self.substitution(body),
            Part::Opaque => None,
        }
    }

    fn variable(&self, name: &str) -> Argument {
        match name {
            "#" => Some(self.positional.len().to_string()),
            "@" | "*" => self.positional.iter().cloned().collect::<Option<Vec<_>>>().map(|all| all.join(" ")),
            "0" => Some(format!("/var/lib/dpkg/info/{}.{}", self.script.package, self.script.name)),
            "?" | "!" | "$" | "-" => None,
            _ => match name.parse::<usize>() {
                Ok(0) => None, // `${00}`: every shell says something else
                Ok(at) => self.positional.get(at - 1).cloned().unwrap_or_else(|| Some(String::new())),
                Err(_) => self.variables.get(name).cloned().unwrap_or_else(|| Some(String::new())),
            },
        }
    }

    /// `${name<operator>word}` (dash(1), "Parameter Expansion").
    fn changed(&mut self, value: String, operator: &str, word: &Word) -> Argument {
        match operator {
            ":-" | "-" | ":=" | "=" | ":?" | "?" if value.is_empty() => self.value(word),
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

    fn words(&mut self, simple: &Simple) -> Option<Vec<String>> {
        let mut words = Vec::new();
        for word in &simple.words {
            words.extend(self.fields(word)?);
        }
        Some(words)
    }

    /// `echo text | cut -d: -f1`, which dh_nginx writes.
    fn cut(&mut self, parts: &[Node]) -> Argument {
        let [Node::Simple(echo), Node::Simple(cut)] = parts else { return None };
        let (echo, cut) = (self.words(echo)?, self.words(cut)?);
        let text =
            echo.split_first().filter(|(name, _)| *name == "echo").map(|(_, words)| words.join(" "))?;
        let options =
            cut.split_first().filter(|(name, _)| *name == "cut").map(|(_, options)| options.concat())?;
        let (delimiter, field) = options.strip_prefix("-d")?.split_once("-f")?;
        let field: usize = field.parse().ok().filter(|field| *field > 0)?;
        Some(text.split(delimiter).nth(field - 1).unwrap_or("").to_owned())
    }

    /// `id -Gn USER | grep -qw GROUP`, with the answer if both are known.
    pub(super) fn is_member(&mut self, parts: &[Node]) -> Option<bool> {
        let [Node::Simple(id), Node::Simple(grep)] = parts else { return None };
        let (id, grep) = (self.words(id)?, self.words(grep)?);
        let id: Vec<&str> = id.iter().map(String::as_str).collect();
        let grep: Vec<&str> = grep.iter().map(String::as_str).collect();
        match (id.as_slice(), grep.as_slice()) {
            (["id", "-Gn" | "-nG", user], ["grep", "-qw" | "-wq", group]) => {
                Some(self.world.accounts.is_member(user, group))
            }
            _ => None,
        }
    }

    /// `$(…)`: only commands whose output follows from the tree are known.
    fn substitution(&mut self, body: &[Node]) -> Argument {
        let simple = match body {
            [Node::Simple(simple)] => simple,
            [Node::Pipe(parts)] => return self.cut(parts),
            _ => return None,
        };
        let words = self.words(simple)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["echo", rest @ ..] => Some(rest.join(" ")),
            ["basename", path] => path.trim_end_matches('/').rsplit('/').next().map(str::to_owned),
            ["dirname", path] => {
                let path = path.trim_end_matches('/');
                Some(path.rfind('/').map_or("", |cut| &path[..cut]).to_owned())
            }
            ["dpkg-divert", "--truename", path] => {
                Some(self.world.diversions.get(*path).map_or(*path, |(to, _)| to).to_owned())
            }
            ["command", "-v" | "-V", program] | ["which", program] | ["type", "-p", program] => {
                Some(condition::program(self.world, program).unwrap_or_default())
            }
            _ => None,
        }
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
