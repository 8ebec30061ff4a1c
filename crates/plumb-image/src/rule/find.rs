//! find(1) and xargs(1): commands whose arguments are commands.

use super::call::known;
use super::regex::{Grammar, compile};
use super::script::{Argument, Flow, Machine};
use super::shell::pattern;
use super::world::World;
use crate::tree::{Entry, Kind};

/// Most paths one call may find and act upon.
const MAX_PATHS: usize = 20_000;

enum Test {
    Not(Box<Test>),
    /// Alternatives, each a list of which all must hold.
    Any(Vec<Vec<Test>>),
    Owner(String),
    Group(String),
    Regex(regex_lite::Regex),
    Kind(char),
    /// `-xtype`: what a link leads to; one that leads nowhere is one.
    TargetKind(char),
    Name(String),
    Path(String),
    Empty,
    Mode(u32),
}

enum Act {
    Print(char),
    /// `-printf '%f\n'`: names.
    Names,
    Delete,
    Execute {
        command: Vec<String>,
        at_once: bool,
    },
}

struct Search {
    starts: Vec<String>,
    depth: (usize, usize),
    tests: Vec<Test>,
    acts: Vec<Act>,
    first_only: bool,
}

/// `find`; `None` for a form that is not understood.
#[expect(clippy::too_many_lines, reason = "one search, and what is done with what it found")]
pub(super) fn run(machine: &mut Machine<'_, '_, '_>, arguments: &[Argument], text: &str) -> Option<Flow> {
    let search = parse(&known(arguments)?)?;
    let changes = search.acts.iter().any(|act| matches!(act, Act::Delete));
    let mut found = Vec::new();
    let mut missing = false;
    for start in &search.starts {
        let Some(place) = machine.world.place(start) else {
            missing = true;
            continue;
        };
        let place = if start.ends_with('/') { machine.world.resolve(start)? } else { place };
        if machine.world.tree.get(&place).is_none() {
            missing = true;
            continue;
        }
        let start = start.trim_end_matches('/');
        machine.world.spend(machine.world.tree.entries.len());
        let below = format!("{place}/");
        let entries = &machine.world.tree.entries;
        let all = entries
            .get_key_value(&place)
            .into_iter()
            .chain(entries.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below)));
        for (path, (entry, _)) in all {
            let rest = &path[place.len()..];
            let depth = rest.matches('/').count();
            let shown = format!("{start}{rest}");
            if (search.depth.0..=search.depth.1).contains(&depth)
                && search.tests.iter().all(|test| test.holds(machine.world, &shown, entry, path))
            {
                found.push(shown);
            }
        }
    }
    if search.first_only {
        found.truncate(1);
    }
    if found.len() > MAX_PATHS || changes && machine.uncertain > 0 && !found.is_empty() {
        return None;
    }
    for act in &search.acts {
        match act {
            Act::Print(end) => found.iter().for_each(|path| machine.print(Some(&format!("{path}{end}")))),
            Act::Names => found.iter().for_each(|path| {
                machine.print(Some(&format!("{}\n", path.rsplit('/').next().unwrap_or_default())));
            }),
            Act::Delete => {
                for path in found.iter().rev() {
                    let place = machine.world.place(path)?;
                    machine.world.tree.entries.remove(&place);
                }
            }
            Act::Execute { command, at_once } => {
                let all: Vec<Vec<String>> = if *at_once {
                    if found.is_empty() { Vec::new() } else { vec![found.clone()] }
                } else {
                    found.iter().map(|path| vec![path.clone()]).collect()
                };
                for paths in all {
                    let mut words: Vec<Argument> = Vec::new();
                    for word in command {
                        match word.as_str() {
                            "{}" => words.extend(paths.iter().cloned().map(Some)),
                            word => words.push(Some(word.replace("{}", paths.first()?))),
                        }
                    }
                    if machine.world.is_exhausted() {
                        return None;
                    }
                    machine.command(&words, text);
                }
            }
        }
    }
    Some(Flow::Next(Some(!missing)))
}

/// As `-type` names it.
fn letter(entry: &Entry) -> char {
    match entry.kind {
        Kind::Directory => 'd',
        Kind::File { .. } => 'f',
        Kind::Symlink { .. } => 'l',
    }
}

impl Test {
    fn holds(&self, world: &World<'_>, shown: &str, entry: &Entry, path: &str) -> bool {
        match self {
            Test::Not(test) => !test.holds(world, shown, entry, path),
            Test::Any(alternatives) => {
                let all = |tests: &Vec<Test>| tests.iter().all(|test| test.holds(world, shown, entry, path));
                alternatives.iter().any(all)
            }
            Test::Owner(name) => world.owner(path).is_some_and(|(user, _)| user == *name),
            Test::Group(name) => world.owner(path).is_some_and(|(_, group)| group == *name),
            Test::Regex(regex) => regex.is_match(shown),
            Test::Kind(kind) => letter(entry) == *kind,
            Test::TargetKind(kind) => match world.resolve(path).and_then(|path| world.tree.get(&path)) {
                Some(target) => letter(target) == *kind,
                None => *kind == 'l',
            },
            Test::Name(name) => pattern::matches(name, shown.rsplit('/').next().unwrap_or_default()),
            Test::Path(name) => pattern::matches(name, shown),
            Test::Mode(mode) => entry.mode == *mode,
            Test::Empty => match entry.kind {
                Kind::Directory => {
                    let below = format!("{path}/");
                    world
                        .tree
                        .entries
                        .range(below.clone()..)
                        .next()
                        .is_none_or(|(next, _)| !next.starts_with(&below))
                }
                Kind::File { size, .. } => size == 0,
                Kind::Symlink { .. } => false,
            },
        }
    }
}

fn parse(arguments: &[String]) -> Option<Search> {
    let mut rest = arguments.iter().map(String::as_str).peekable();
    let mut search = Search {
        starts: Vec::new(),
        depth: (0, usize::MAX),
        tests: Vec::new(),
        acts: Vec::new(),
        first_only: false,
    };
    while let Some(option) = rest.next_if(|word| matches!(*word, "-H" | "-P" | "-L")) {
        if option == "-L" {
            return None;
        }
    }
    while let Some(start) = rest.next_if(|word| !word.starts_with('-') && *word != "!" && *word != "(") {
        search.starts.push(start.to_owned());
    }
    if search.starts.is_empty() || search.starts.iter().any(|start| !start.starts_with('/')) {
        return None;
    }
    search.tests = tests(&mut rest, &mut search, 0)?;
    if rest.next().is_some() {
        return None;
    }
    if search.acts.is_empty() {
        search.acts.push(Act::Print('\n'));
    }
    Some(search)
}

/// Deepest nesting of `( … )`.
const MAX_DEPTH: usize = 8;

/// Tests up to the end or a closing bracket; actions go into `search`.
fn tests<'a>(
    rest: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    search: &mut Search,
    depth: usize,
) -> Option<Vec<Test>> {
    let mut alternatives: Vec<Vec<Test>> = vec![Vec::new()];
    let mut negated = false;
    while let Some(word) = rest.next_if(|word| depth == 0 || *word != ")") {
        let test = match word {
            "!" | "-not" => {
                negated = !negated;
                continue;
            }
            "(" if depth < MAX_DEPTH => {
                let inner = self::tests(rest, search, depth + 1)?;
                rest.next().filter(|word| *word == ")")?;
                Test::Any(vec![inner])
            }
            // With an action behind an alternative, it would not be done for all that is found.
            "-o" | "-or" if search.acts.is_empty() => {
                alternatives.push(Vec::new());
                continue;
            }
            "-type" => Test::Kind(rest.next()?.chars().next()?),
            "-xtype" => Test::TargetKind(rest.next()?.chars().next()?),
            "-name" => Test::Name(rest.next()?.to_owned()),
            "-path" | "-wholename" => Test::Path(rest.next()?.to_owned()),
            "-regex" => Test::Regex(compile(&format!("^{}$", rest.next()?), Grammar::Basic, false)?),
            "-perm" => Test::Mode(u32::from_str_radix(rest.next()?, 8).ok()?),
            "-user" => Test::Owner(rest.next()?.to_owned()),
            "-uid" => match rest.next()? {
                "0" => Test::Owner("root".to_owned()),
                _ => return None,
            },
            "-group" => Test::Group(rest.next()?.to_owned()),
            "-gid" => match rest.next()? {
                "0" => Test::Group("root".to_owned()),
                _ => return None,
            },
            "-empty" => Test::Empty,
            "-maxdepth" => {
                search.depth.1 = rest.next()?.parse().ok()?;
                continue;
            }
            "-mindepth" => {
                search.depth.0 = rest.next()?.parse().ok()?;
                continue;
            }
            "-xdev" | "-mount" | "-depth" | "-a" | "-and" => continue,
            "-quit" => {
                search.first_only = true;
                continue;
            }
            _ if depth > 0 => return None,
            word => {
                search.acts.push(act(word, rest)?);
                continue;
            }
        };
        let test = if std::mem::take(&mut negated) { Test::Not(Box::new(test)) } else { test };
        alternatives.last_mut()?.push(test);
    }
    if alternatives.len() == 1 { alternatives.pop() } else { Some(vec![Test::Any(alternatives)]) }
}

fn act<'a>(word: &str, rest: &mut impl Iterator<Item = &'a str>) -> Option<Act> {
    Some(match word {
        "-print" => Act::Print('\n'),
        "-print0" => Act::Print('\0'),
        "-printf" => match rest.next()? {
            "%f\\n" => Act::Names,
            "%p\\n" => Act::Print('\n'),
            _ => return None,
        },
        "-delete" => Act::Delete,
        "-exec" => {
            let mut command = Vec::new();
            let end = loop {
                match rest.next()? {
                    end @ (";" | "+") => break end,
                    word => command.push(word.to_owned()),
                }
            };
            Act::Execute { command, at_once: end == "+" }
        }
        _ => return None,
    })
}

/// `xargs [-0r] [-n 1] COMMAND…`: the words of standard input become arguments.
pub(super) fn arguments_from_input(
    machine: &mut Machine<'_, '_, '_>,
    arguments: &[Argument],
    text: &str,
) -> Option<Flow> {
    let arguments = known(arguments)?;
    let mut rest = arguments.as_slice();
    let (mut nul, mut each, mut skip_empty, mut place) = (false, false, false, None);
    while let Some(option) = rest.first().filter(|word| word.starts_with('-')) {
        rest = &rest[1..];
        match option.as_str() {
            "-0" | "--null" => nul = true,
            "-r" | "--no-run-if-empty" => skip_empty = true,
            "-0r" | "-r0" => (nul, skip_empty) = (true, true),
            "-n1" | "-l" | "-L1" => each = true,
            "-n" | "-L" => {
                each = rest.first()? == "1";
                rest = &rest[1..];
            }
            "-I{}" | "-i" => place = Some("{}".to_owned()),
            "-I" => {
                place = Some(rest.first()?.clone());
                rest = &rest[1..];
            }
            "-t" | "--" => {}
            _ => return None,
        }
    }
    let input = machine.input.clone()?;
    let words: Vec<String> = if nul {
        input.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    } else if place.is_some() {
        input.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    } else {
        input.split_whitespace().map(str::to_owned).collect()
    };
    if words.iter().any(|word| !nul && word.contains(['"', '\'', '\\'])) {
        return None;
    }
    let command: Vec<String> = if rest.is_empty() { vec!["echo".to_owned()] } else { rest.to_vec() };
    let calls: Vec<Vec<String>> = if let Some(place) = &place {
        words.iter().map(|word| command.iter().map(|part| part.replace(place, word)).collect()).collect()
    } else if each {
        words.iter().map(|word| command.iter().chain([word]).cloned().collect()).collect()
    } else if words.is_empty() && skip_empty {
        Vec::new()
    } else {
        vec![command.iter().chain(&words).cloned().collect()]
    };
    let mut status = Some(true);
    for call in calls.into_iter().take(MAX_PATHS) {
        let call: Vec<Argument> = call.into_iter().map(Some).collect();
        if let Flow::Next(next) = machine.command(&call, text) {
            status = if next == Some(true) { status } else { next };
        }
    }
    Some(Flow::Next(status))
}
