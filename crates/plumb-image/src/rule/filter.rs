//! Commands that read and write text, and what they write. They change nothing but for `sed -i`, `tee` and `mktemp`.

use super::call::known;
use super::expand::UNKNOWN_ID;
use super::print::escaped;
use super::regex::{Grammar, compile, literal};
use super::script::{Argument, Machine};
use super::secret::{self, SECRET};
use super::sed::Sed;
use super::{command, condition, perl, pixbuf, query, sum};
use crate::tree::Kind;

/// What a command writes and its status, each unknown if it is not known.
pub(super) type Outcome = (Argument, Option<bool>);

const UNKNOWN: Outcome = (None, None);

fn good(text: impl Into<String>) -> Outcome {
    (Some(text.into()), Some(true))
}

/// Runs one; `None` for another command.
pub(super) fn run(machine: &mut Machine<'_, '_, '_>, name: &str, arguments: &[Argument]) -> Option<Outcome> {
    if let Some(outcome) = secret::filter(machine, name, arguments) {
        return Some(outcome);
    }
    let input = machine.input.clone();
    let made = run_one(machine, name, arguments)?;
    Some(secret::believed(name, input.as_deref(), made))
}

fn run_one(machine: &mut Machine<'_, '_, '_>, name: &str, arguments: &[Argument]) -> Option<Outcome> {
    if let Some(outcome) = query::run(machine, name, arguments) {
        return Some(outcome);
    }
    let is_text = matches!(
        name,
        "grep"
            | "egrep"
            | "fgrep"
            | "sed"
            | "cut"
            | "tr"
            | "head"
            | "tail"
            | "sort"
            | "uniq"
            | "wc"
            | "cat"
            | "tac"
            | "tee"
            | "awk"
            | "mawk"
            | "gawk"
            | "cmp"
            | "diff"
            | "seq"
            | "expr"
            | "mktemp"
            | "tempfile"
            | "rev"
            | "perl"
            | "md5sum"
            | "sha256sum"
            | "gdk-pixbuf-query-loaders"
    );
    if !is_text {
        return None;
    }
    let Some(arguments) = known(arguments) else {
        // What is written in place is lost; the caller reports it.
        let writes = name == "tee" || arguments.iter().flatten().any(|argument| argument.starts_with("-i"));
        return if name == "sed" && writes { None } else { Some(UNKNOWN) };
    };
    match name {
        "grep" | "egrep" | "fgrep" => Some(grep(machine, name, &arguments).unwrap_or(UNKNOWN)),
        "sed" => sed(machine, &arguments),
        "perl" => perl::run(machine, &arguments),
        "tee" => tee(machine, &arguments),
        "mktemp" | "tempfile" => Some(temporary(machine, &arguments)),
        "cmp" | "diff" => Some(compare(machine, &arguments).unwrap_or(UNKNOWN)),
        "awk" | "mawk" | "gawk" => Some(awk(machine, &arguments).unwrap_or(UNKNOWN)),
        "md5sum" | "sha256sum" => Some(sum::run(machine, name, &arguments).unwrap_or(UNKNOWN)),
        "gdk-pixbuf-query-loaders" => pixbuf::cache(machine.world, &arguments).map(good),
        "seq" => Some(sequence(&arguments).unwrap_or(UNKNOWN)),
        "expr" => Some(expression(&arguments).unwrap_or(UNKNOWN)),
        _ => Some(lines(machine, name, &arguments).unwrap_or(UNKNOWN)),
    }
}

/// Options with their values, and operands.
pub(super) type Split<'a> = (Vec<(char, &'a str)>, Vec<&'a str>);

/// Options as single letters with their values, and operands. `valued` lists the letters that take a value; long
/// options are not understood, but for `names`.
pub(super) fn letters<'a>(
    arguments: &'a [String],
    valued: &str,
    names: &[(&str, char)],
) -> Option<Split<'a>> {
    let (mut options, mut operands) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        if word == "--" {
            operands.extend(rest.by_ref());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').unwrap_or((long, ""));
            let (_, letter) = names.iter().find(|(known, _)| *known == name)?;
            let value = if value.is_empty() && valued.contains(*letter) { rest.next()? } else { value };
            options.push((*letter, value));
        } else if let Some(all) = word.strip_prefix('-').filter(|all| !all.is_empty()) {
            for (at, letter) in all.char_indices() {
                if valued.contains(letter) {
                    let value = &all[at + letter.len_utf8()..];
                    options.push((letter, if value.is_empty() { rest.next()? } else { value }));
                    break;
                }
                options.push((letter, ""));
            }
        } else {
            operands.push(word);
        }
    }
    Some((options, operands))
}

fn value<'a>(options: &[(char, &'a str)], letter: char) -> Option<&'a str> {
    options.iter().find(|(name, _)| *name == letter).map(|(_, value)| *value)
}

/// Texts of files, or of standard input without any; inner `None` for a file that is not there.
pub(super) fn inputs(machine: &mut Machine<'_, '_, '_>, files: &[&str]) -> Option<Vec<Option<String>>> {
    if files.is_empty() {
        // Whoever reads standard input takes all of it.
        let input = machine.input.clone()?;
        machine.input = Some(String::new());
        return Some(vec![Some(input)]);
    }
    let mut texts = Vec::new();
    for file in files {
        if super::ignore::is_random(file) {
            machine.random("/dev/urandom");
            texts.push(Some(SECRET.to_string()));
        } else if *file == "-" {
            texts.push(Some(machine.input.clone()?));
        } else if file.starts_with("/proc/") || file.starts_with("/sys/") {
            return None;
        } else if machine.world.resolve(file).is_some() || *file == "/dev/null" {
            texts.push(Some(machine.read(file)?));
        } else {
            texts.push(None);
        }
    }
    Some(texts)
}

#[expect(clippy::too_many_lines, reason = "one command with its options")]
fn grep(machine: &mut Machine<'_, '_, '_>, name: &str, arguments: &[String]) -> Option<Outcome> {
    let long = [
        ("quiet", 'q'),
        ("silent", 'q'),
        ("no-messages", 's'),
        ("ignore-case", 'i'),
        ("invert-match", 'v'),
        ("extended-regexp", 'E'),
        ("fixed-strings", 'F'),
        ("word-regexp", 'w'),
        ("line-regexp", 'x'),
        ("count", 'c'),
        ("regexp", 'e'),
        ("max-count", 'm'),
        ("only-matching", 'o'),
        ("files-with-matches", 'l'),
        ("no-filename", 'h'),
    ];
    let (options, mut operands) = letters(arguments, "em", &long)?;
    let has = |letter: char| options.iter().any(|(name, _)| *name == letter);
    if options.iter().any(|(letter, _)| !"qsivEFwxcemolhHarR".contains(*letter)) {
        return None;
    }
    let mut patterns: Vec<&str> =
        options.iter().filter(|(name, _)| *name == 'e').map(|(_, text)| *text).collect();
    if patterns.is_empty() {
        patterns.push(if operands.is_empty() { return None } else { operands.remove(0) });
    }
    let fixed = has('F') || name == "fgrep";
    let grammar = if fixed || has('E') || name == "egrep" { Grammar::Extended } else { Grammar::Basic };
    let mut compiled = Vec::new();
    for pattern in patterns.iter().flat_map(|pattern| pattern.split('\n')) {
        let mut text = if fixed { literal(pattern) } else { pattern.to_owned() };
        let (open, close) = if grammar == Grammar::Basic { ("\\(", "\\)") } else { ("(", ")") };
        if has('w') {
            text = format!("\\<{open}{text}{close}\\>");
        }
        if has('x') {
            text = format!("^{open}{text}{close}$");
        }
        compiled.push(compile(&text, grammar, has('i'))?);
    }
    let below: Vec<String> = if has('r') || has('R') { files_below(machine, &operands)? } else { Vec::new() };
    let operands: Vec<&str> =
        if has('r') || has('R') { below.iter().map(String::as_str).collect() } else { operands };
    let texts = inputs(machine, &operands)?;
    let missing = texts.iter().any(Option::is_none);
    let limit = value(&options, 'm').map_or(Some(usize::MAX), |limit| limit.parse().ok())?;
    let mut out = String::new();
    let mut hits = 0;
    for (at, text) in texts.iter().enumerate() {
        let mut here = 0;
        for line in text.as_deref().unwrap_or_default().lines() {
            if compiled.iter().any(|regex| regex.is_match(line)) == has('v') || here >= limit {
                continue;
            }
            here += 1;
            if has('o') {
                for found in compiled.iter().flat_map(|regex| regex.find_iter(line)) {
                    out.push_str(&format!("{}\n", found.as_str()));
                }
            } else if !has('c') && !has('l') {
                if operands.len() > 1 && !has('h') || has('H') {
                    out.push_str(&format!("{}:", operands.get(at).unwrap_or(&"(standard input)")));
                }
                out.push_str(&format!("{line}\n"));
            }
        }
        if has('l') && here > 0 {
            out.push_str(&format!("{}\n", operands.get(at).unwrap_or(&"(standard input)")));
        }
        if has('c') {
            out.push_str(&format!("{here}\n"));
        }
        hits += here;
    }
    if has('q') {
        out.clear();
    }
    Some((Some(out), Some(hits > 0 && (!missing || has('q')))))
}

/// All files at and below paths that are text.
fn files_below(machine: &mut Machine<'_, '_, '_>, paths: &[&str]) -> Option<Vec<String>> {
    let mut files = Vec::new();
    for path in paths {
        let Some(top) = machine.world.resolve(path) else { continue };
        let below = format!("{top}/");
        let entries = &machine.world.tree.entries;
        let all = entries.range(top.clone()..).take_while(|(path, _)| path.starts_with(top.as_str()));
        let all = all.filter(|(path, _)| **path == top || path.starts_with(&below));
        files.extend(
            all.filter(|(_, (entry, _))| matches!(entry.kind, Kind::File { .. }))
                .map(|(path, _)| path.clone()),
        );
    }
    files.retain(|path| machine.read(path).is_some());
    // Without any file standard input would be read.
    (!files.is_empty()).then_some(files)
}

/// `None` if files are to be changed and the script is not understood, or may not run.
fn sed(machine: &mut Machine<'_, '_, '_>, arguments: &[String]) -> Option<Outcome> {
    let long = [
        ("quiet", 'n'),
        ("silent", 'n'),
        ("expression", 'e'),
        ("regexp-extended", 'E'),
        ("follow-symlinks", 'z'),
    ];
    let in_place = |word: &&String| word.starts_with("-i") || word.starts_with("--in-place");
    let edits = arguments
        .iter()
        .any(|word| in_place(&word) || matches!(word.as_str(), "-ri" | "-Ei" | "-ni" | "-rie"));
    let mut plain: Vec<String> = Vec::new();
    for word in arguments {
        match word.as_str() {
            "-ri" | "-Ei" => plain.push("-E".into()),
            "-ni" => plain.push("-n".into()),
            // `-ie` would be a backup suffix: sed's trap, taken as sed takes it.
            word if word.starts_with("-i") || word.starts_with("--in-place") => {}
            word => plain.push(word.to_owned()),
        }
    }
    let understood = (|| {
        let (options, mut operands) = letters(&plain, "e", &long)?;
        if options.iter().any(|(letter, _)| !"neEruz".contains(*letter)) {
            return None;
        }
        let mut script: Vec<&str> =
            options.iter().filter(|(name, _)| *name == 'e').map(|(_, text)| *text).collect();
        if script.is_empty() {
            script.push(if operands.is_empty() { return None } else { operands.remove(0) });
        }
        let extended = options.iter().any(|(letter, _)| matches!(letter, 'E' | 'r'));
        let grammar = if extended { Grammar::Extended } else { Grammar::Basic };
        let sed = Sed::parse(&script.join("\n"), grammar)?;
        let quiet = options.iter().any(|(letter, _)| *letter == 'n');
        let files: Vec<String> = operands.into_iter().map(str::to_owned).collect();
        Some((sed, quiet, files))
    })();
    let Some((sed, quiet, files)) = understood else {
        return if edits { None } else { Some(UNKNOWN) };
    };
    if edits {
        if machine.uncertain > 0 {
            return None;
        }
        let mut status = true;
        for file in &files {
            let Some(place) = machine.world.resolve(file) else {
                status = false;
                continue;
            };
            let text = machine.read(&place)?;
            let changed = sed.edit(&text, quiet)?;
            if changed != text {
                command::rewrite(machine.world, &place, &changed)?;
            }
        }
        return Some((Some(String::new()), Some(status)));
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let Some(texts) = inputs(machine, &files) else { return Some(UNKNOWN) };
    let missing = texts.iter().any(Option::is_none);
    let text: String = texts.into_iter().flatten().collect();
    let Some(text) = sed.edit(&text, quiet) else { return Some(UNKNOWN) };
    Some((Some(text), Some(!missing)))
}

fn tee(machine: &mut Machine<'_, '_, '_>, arguments: &[String]) -> Option<Outcome> {
    let (options, files) = letters(arguments, "", &[("append", 'a')])?;
    let text = machine.input.clone();
    for file in &files {
        if file.starts_with("/dev/") {
            continue;
        }
        let place = machine.world.place(file)?;
        if machine.uncertain > 0 {
            return None;
        }
        let append = options.iter().any(|(letter, _)| *letter == 'a');
        if let Err(error) =
            command::write(machine.world, machine.script.package, &place, text.as_deref()?, append)
        {
            machine.world.failure.get_or_insert(error);
        }
    }
    Some((text, Some(true)))
}

/// A name below `/tmp` that no other call gets.
fn temporary(machine: &mut Machine<'_, '_, '_>, arguments: &[String]) -> Outcome {
    let directory = arguments.iter().any(|word| word == "-d" || word == "--directory" || word == "-dt");
    let template = arguments.iter().find(|word| word.starts_with('/') && word.contains("XXX"));
    let number = machine.world.temporary + 1;
    machine.world.temporary = number;
    let path = match template {
        Some(template) => format!("{}{number}", template.trim_end_matches('X')),
        None => format!("/tmp/plumb.{number}"),
    };
    let world = &mut *machine.world;
    let done = if directory {
        world.add(&path, crate::tree::Entry::directory(0o700), "rule:script");
        Ok(())
    } else {
        world.write(&path, b"", 0o600, &super::world::World::origin("rule:script"))
    };
    if let Err(error) = done {
        world.failure.get_or_insert(error);
    }
    good(format!("{path}\n"))
}

fn compare(machine: &mut Machine<'_, '_, '_>, arguments: &[String]) -> Option<Outcome> {
    let (_, operands) = letters(arguments, "", &[("quiet", 's'), ("brief", 'q'), ("silent", 's')])?;
    let [left, right] = operands[..] else { return None };
    let digest = |path: &str| {
        let at = machine.world.resolve(path)?;
        match machine.world.tree.get(&at)?.kind {
            Kind::File { digest, .. } => Some(digest),
            _ => None,
        }
    };
    match (digest(left), digest(right)) {
        (Some(left), Some(right)) if left == right => Some(good("")),
        _ => Some((None, Some(false))),
    }
}

/// Commands from text to text.
#[expect(clippy::too_many_lines, reason = "one table of commands")]
fn lines(machine: &mut Machine<'_, '_, '_>, name: &str, arguments: &[String]) -> Option<Outcome> {
    let valued = match name {
        "cut" => "dfcb",
        "head" | "tail" => "nc",
        "sort" => "kt",
        _ => "",
    };
    let long = [("delimiter", 'd'), ("fields", 'f'), ("lines", 'n'), ("unique", 'u'), ("reverse", 'r')];
    // `head -1` is an old form of `head -n 1`.
    let old = |word: &String| match word.strip_prefix('-') {
        Some(number) if valued == "nc" && number.parse::<u32>().is_ok() => format!("-n{number}"),
        _ => word.clone(),
    };
    let arguments: Vec<String> = arguments.iter().map(old).collect();
    let (options, operands) = letters(&arguments, valued, &long)?;
    let has = |letter: char| options.iter().any(|(name, _)| *name == letter);
    if name == "tr" {
        let text = inputs(machine, &[])?.concat_text()?;
        return translate(&text, &operands, has('d'), has('s'), has('c')).map(good);
    }
    let texts = inputs(machine, &operands)?;
    let missing = texts.iter().any(Option::is_none);
    let text: String = texts.into_iter().flatten().collect();
    let all: Vec<&str> = text.lines().collect();
    let joined = |lines: Vec<&str>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let out = match name {
        "cat" if options.is_empty() => text.clone(),
        "tac" => joined(all.into_iter().rev().collect()),
        "rev" => all.iter().map(|line| line.chars().rev().chain(['\n']).collect::<String>()).collect(),
        "cut" => cut(&all, &options)?,
        "head" => {
            let count: usize = value(&options, 'n').unwrap_or("10").parse().ok().filter(|_| !has('c'))?;
            joined(all.into_iter().take(count).collect())
        }
        "tail" => {
            let count = value(&options, 'n').unwrap_or("10");
            let skip = match count.strip_prefix('+') {
                Some(from) => from.parse::<usize>().ok()?.saturating_sub(1),
                None => all.len().saturating_sub(count.parse().ok()?),
            };
            joined(all.into_iter().skip(skip).collect()).chars().filter(|_| !has('c')).collect()
        }
        "sort" => {
            if options.iter().any(|(letter, _)| !"urn".contains(*letter)) {
                return None;
            }
            let mut all = all;
            if has('n') {
                all.sort_by_key(|line| line.trim().parse::<i64>().unwrap_or(0));
            } else {
                all.sort_unstable();
            }
            if has('u') {
                all.dedup();
            }
            if has('r') {
                all.reverse();
            }
            joined(all)
        }
        "uniq" if options.is_empty() => {
            let mut all = all;
            all.dedup();
            joined(all)
        }
        "wc" => match options.as_slice() {
            [('l', _)] => format!("{}\n", text.matches('\n').count()),
            [('c', _)] => format!("{}\n", text.len()),
            [('w', _)] => format!("{}\n", text.split_whitespace().count()),
            _ => return None,
        },
        _ => return None,
    };
    Some((Some(out), Some(!missing)))
}

trait Concat {
    fn concat_text(self) -> Option<String>;
}

impl Concat for Vec<Option<String>> {
    fn concat_text(self) -> Option<String> {
        self.into_iter().collect::<Option<Vec<String>>>().map(|all| all.concat())
    }
}

fn cut(lines: &[&str], options: &[(char, &str)]) -> Option<String> {
    let list = value(options, 'f').or(value(options, 'c')).or(value(options, 'b'))?;
    let by_character = value(options, 'f').is_none();
    let delimiter = value(options, 'd').unwrap_or("\t");
    let only = options.iter().any(|(letter, _)| *letter == 's');
    let mut ranges = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = if from.is_empty() { 1 } else { from.parse().ok()? };
        ranges.push((from, if to.is_empty() { usize::MAX } else { to.parse().ok()? }));
    }
    let wanted = |at: usize| ranges.iter().any(|(from, to)| (*from..=*to).contains(&(at + 1)));
    let mut out = String::new();
    for line in lines {
        if by_character {
            out.extend(line.chars().enumerate().filter(|(at, _)| wanted(*at)).map(|(_, c)| c));
        } else if !line.contains(delimiter) {
            if only {
                continue;
            }
            out.push_str(line);
        } else {
            let fields =
                line.split(delimiter).enumerate().filter(|(at, _)| wanted(*at)).map(|(_, field)| field);
            out.push_str(&fields.collect::<Vec<_>>().join(delimiter));
        }
        out.push('\n');
    }
    Some(out)
}

fn set(text: &str) -> Option<Vec<char>> {
    let text = match text {
        "[:upper:]" | "[A-Z]" => "A-Z".to_owned(),
        "[:lower:]" | "[a-z]" => "a-z".to_owned(),
        "[:blank:]" => " \t".to_owned(),
        "[:space:]" => " \t\n\r".to_owned(),
        "[:digit:]" => "0-9".to_owned(),
        "[:alnum:]" => "A-Za-z0-9".to_owned(),
        other if other.contains("[:") => return None,
        other => escaped(other).replace("\\0", "\0").replace("\\000", "\0").replace("\\012", "\n"),
    };
    let characters: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        if characters.get(at + 1) == Some(&'-') && at + 2 < characters.len() {
            out.extend(characters[at]..=characters[at + 2]);
            at += 3;
        } else {
            out.push(characters[at]);
            at += 1;
        }
    }
    Some(out)
}

fn translate(text: &str, sets: &[&str], delete: bool, squeeze: bool, complement: bool) -> Option<String> {
    let from = set(sets.first()?)?;
    let is_in = |c: char| from.contains(&c) != complement;
    if delete {
        return Some(text.chars().filter(|c| !is_in(*c)).collect());
    }
    let Some(to) = sets.get(1) else {
        let mut out = String::new();
        for c in text.chars() {
            if !(squeeze && is_in(c) && out.ends_with(c)) {
                out.push(c);
            }
        }
        return squeeze.then_some(out);
    };
    let to = set(to)?;
    let last = *to.last()?;
    let mut out = String::new();
    for c in text.chars() {
        let new = match from.iter().position(|known| *known == c) {
            _ if complement => {
                if is_in(c) {
                    last
                } else {
                    c
                }
            }
            Some(at) => to.get(at).copied().unwrap_or(last),
            None => c,
        };
        if !(squeeze && is_in(c) && out.ends_with(new)) {
            out.push(new);
        }
    }
    Some(out)
}

/// `awk [-F x] '[/re/ | $N == "x"] {print $N, "text"}'`, which is nearly all that scripts use of it.
fn awk(machine: &mut Machine<'_, '_, '_>, arguments: &[String]) -> Option<Outcome> {
    let (options, operands) = letters(arguments, "Fv", &[])?;
    let (program, files) = operands.split_first()?;
    let separator = value(&options, 'F').filter(|separator| *separator != " ");
    if options.iter().any(|(letter, _)| *letter != 'F')
        || separator.is_some_and(|text| text.chars().count() > 1)
    {
        return None;
    }
    let form = regex_lite::Regex::new(
        r#"^\s*(?:/((?:[^/\\]|\\.)*)/|\$(\d+)\s*==\s*"([^"]*)"|NR\s*==\s*(\d+))?\s*\{\s*print\s*([^{};]*?);?\s*(exit;?)?\s*\}\s*$"#,
    );
    let found = form.ok()?.captures(program)?;
    let group = |at: usize| found.get(at).map(|text| text.as_str());
    let regex = match group(1) {
        Some(text) => Some(compile(&text.replace("\\/", "/"), Grammar::Extended, false)?),
        None => None,
    };
    let text = inputs(machine, files)?.concat_text()?;
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        let fields: Vec<&str> = match separator {
            None => line.split_whitespace().collect(),
            Some(separator) => line.split(separator).collect(),
        };
        let field = |at: usize| if at == 0 { line } else { fields.get(at - 1).copied().unwrap_or("") };
        let hit = match (&regex, group(2), group(4)) {
            (Some(regex), ..) => regex.is_match(line),
            (_, Some(at), _) => field(at.parse().ok()?) == group(3)?,
            (_, _, Some(wanted)) => wanted.parse() == Ok(number + 1),
            _ => true,
        };
        if !hit {
            continue;
        }
        let mut parts = Vec::new();
        for part in group(5).unwrap_or("").split(',') {
            let mut text = String::new();
            for word in shlex::split(part)? {
                match word.strip_prefix('$') {
                    Some("NF") => text.push_str(fields.last().copied().unwrap_or("")),
                    Some(at) => text.push_str(field(at.parse().ok()?)),
                    None if part.contains(&format!("\"{word}\"")) => text.push_str(&word),
                    None => return None,
                }
            }
            parts.push(text);
        }
        let written = parts.join(" ");
        out.push_str(if written.is_empty() && group(5).is_none_or(str::is_empty) { line } else { &written });
        out.push('\n');
        if group(6).is_some() {
            break;
        }
    }
    Some(good(out))
}

fn sequence(arguments: &[String]) -> Option<Outcome> {
    let numbers: Option<Vec<i64>> = arguments.iter().map(|word| word.parse().ok()).collect();
    let (from, to) = match numbers?[..] {
        [to] => (1, to),
        [from, to] => (from, to),
        _ => return None,
    };
    (to.checked_sub(from)? < 10_000)
        .then(|| good((from..=to).map(|number| format!("{number}\n")).collect::<String>()))
}

/// `expr A + B` and `expr TEXT : REGEX`.
fn expression(arguments: &[String]) -> Option<Outcome> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [left, operator, right] = words[..] else { return None };
    if operator == ":" {
        let regex = compile(&format!("^{right}"), Grammar::Basic, false)?;
        let found = regex.captures(left);
        let text = match &found {
            Some(found) => match found.get(1) {
                Some(group) => group.as_str().to_owned(),
                None => found.get(0)?.as_str().chars().count().to_string(),
            },
            None => {
                if right.contains("\\(") {
                    String::new()
                } else {
                    "0".to_owned()
                }
            }
        };
        return Some((Some(format!("{text}\n")), Some(!text.is_empty() && text != "0")));
    }
    if matches!(operator, "=" | "!=") {
        let same = (left == right) == (operator == "=");
        return Some((Some(format!("{}\n", i32::from(same))), Some(same)));
    }
    let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
    let result = match operator {
        "+" => left.checked_add(right)?,
        "-" => left.checked_sub(right)?,
        "*" => left.checked_mul(right)?,
        "/" => left.checked_div(right)?,
        "%" => left.checked_rem(right)?,
        "<" => i64::from(left < right),
        "<=" => i64::from(left <= right),
        ">" => i64::from(left > right),
        ">=" => i64::from(left >= right),
        _ => return None,
    };
    Some((Some(format!("{result}\n")), Some(result != 0)))
}

/// An id that is not given yet.
pub(super) fn id_text(id: Option<u32>) -> String {
    id.map_or_else(|| UNKNOWN_ID.to_string(), |id| id.to_string())
}

/// Is there a program of that name, as `command -v` says it?
pub(super) fn program(machine: &Machine<'_, '_, '_>, name: &str) -> Outcome {
    if machine.functions.contains_key(name) || name.starts_with("db_") {
        return good(format!("{name}\n"));
    }
    match condition::program(machine.world, name) {
        Some(path) => good(format!("{path}\n")),
        None => (Some(String::new()), Some(false)),
    }
}
