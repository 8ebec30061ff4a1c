//! Maintainer scripts, evaluated as for a first installation: what is known is done to the tree, what is unknown is
//! reported. No process is ever started.
//!
//! Every condition is true, false or unknown, and so is every text that a command writes. The body behind an unknown
//! condition is only looked through: its commands change nothing and are reported unless they are known to be
//! irrelevant.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use super::shell::{self, Node, Word, pattern};
use super::world::{UMASK, World};
use super::{Report, ignore, secret};

/// Most commands one script may execute here: the longest ones of Debian need some thousand; a loop ends here.
const MAX_STEPS: usize = 100_000;
/// Deepest nesting of calls and sourced files.
pub(super) const MAX_CALLS: usize = 32;
/// Deepest nesting of commands, calls included: each level takes stack. Scripts of Debian stay below 40.
const MAX_DEPTH: usize = 200;
/// Longest value of a variable; a script that doubles one in a loop ends here.
pub(super) const MAX_VALUE_BYTES: usize = 1 << 20;
/// Most lines that are kept for a report while the script runs: each new one is compared with them.
const MAX_KEPT_LINES: usize = 2000;
/// Most lines of one report; the rest of a longer one says nothing new.
const MAX_REPORT_LINES: usize = 60;

/// An argument: `None` if its value is not known here.
pub(super) type Argument = Option<String>;

/// What a command leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next(Option<bool>),
    Break,
    Continue,
    Return(Option<bool>),
    Exit(Option<bool>),
}

/// One maintainer script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script<'s> {
    pub(crate) package: &'s str,
    /// `preinst`, `postinst`, `config`, `triggers` for a `postinst` that is triggered, or `rule` for the user's own.
    pub(crate) name: &'s str,
    pub(crate) text: &'s str,
    /// The trigger's names, if it is triggered.
    pub(crate) triggers: &'s str,
}

pub(super) struct Machine<'w, 'o, 's> {
    pub(super) world: &'w mut World<'o>,
    pub(super) script: Script<'s>,
    pub(super) variables: BTreeMap<String, Argument>,
    pub(super) positional: Vec<Argument>,
    pub(super) functions: BTreeMap<String, Rc<[Node]>>,
    /// `set -f`: patterns stand for themselves.
    pub(super) no_patterns: bool,
    /// Names of the variables that programs see.
    pub(super) exported: BTreeSet<String>,
    /// How many unknown conditions the current command is behind.
    pub(super) uncertain: usize,
    pub(super) calls: usize,
    /// What the functions that run made local, with the values before; the innermost last.
    pub(super) locals: Vec<BTreeMap<String, Option<Argument>>>,
    /// Standard input: what is left of it, `None` if it is not known.
    pub(super) input: Argument,
    /// Standard outputs that are caught, the innermost last; `None` if what is written is not known.
    pub(super) outputs: Vec<Argument>,
    /// `$?`, as true or false.
    pub(super) status: Option<bool>,
    /// `$?`, if `status` is false.
    pub(super) code: i64,
    /// How many commands around this one ask for its status, so that a failure is an answer.
    pub(super) asked: usize,
    /// Where the script's own standard output goes, if it was sent somewhere (`exec > FILE`), and the line that did.
    pub(super) standing: Option<(String, String)>,
    /// How many pipes the current command is in.
    pub(super) pipes: usize,
    /// The current command made what belongs to an instance.
    pub(super) left_to_instance: bool,
    steps: usize,
    depth: usize,
    unhandled: Vec<String>,
}

/// Does what the script would do at a first installation; returns what it could not.
///
/// # Errors
/// What reading or keeping file contents says.
pub(crate) fn run(world: &mut World<'_>, script: Script<'_>) -> io::Result<Option<Report>> {
    world.begin_work();
    evaluate(world, script, &BTreeMap::new(), 0)
}

/// A script with the variables of its environment, behind so many unknown conditions.
#[expect(clippy::too_many_lines, reason = "a script's beginning and its end")]
fn evaluate(
    world: &mut World<'_>,
    script: Script<'_>,
    inherited: &BTreeMap<String, Argument>,
    uncertain: usize,
) -> io::Result<Option<Report>> {
    let report = |unhandled: Vec<String>| {
        (!unhandled.is_empty()).then(|| Report {
            package: script.package.to_owned(),
            script: script.name.to_owned(),
            unhandled,
        })
    };
    if ignore::script(script.package, script.name) {
        return Ok(None);
    }
    let script = match ignore::translated(script.package, script.name) {
        Some(text) => Script { text, ..script },
        None => script,
    };
    if !script.text.starts_with("#!") || script.text.contains('\0') {
        return Ok(report(vec!["it is a program, not a script".to_owned()]));
    }
    if !is_shell(script.text) {
        let first = script.text.lines().next().unwrap_or_default();
        return Ok(report(vec![format!("it is no shell script: {first}")]));
    }
    let nodes = match shell::parse(script.text) {
        Ok(nodes) => nodes,
        Err(error) => return Ok(report(vec![format!("it cannot be read: {error}")])),
    };
    let (action, second) = match script.name {
        "preinst" => ("install", ""),
        "triggers" => ("triggered", script.triggers),
        _ => ("configure", ""),
    };
    script.package.clone_into(&mut world.package);
    world.umask = UMASK;
    "/".clone_into(&mut world.directory);
    let mut machine = Machine {
        world,
        script,
        variables: inherited.clone(),
        no_patterns: false,
        exported: inherited.keys().cloned().collect(),
        positional: vec![Some(action.to_owned()), Some(second.to_owned())],
        functions: BTreeMap::new(),
        uncertain,
        calls: 0,
        locals: Vec::new(),
        depth: 0,
        input: Some(String::new()),
        outputs: Vec::new(),
        status: Some(true),
        code: 1,
        asked: 0,
        standing: None,
        pipes: 0,
        left_to_instance: false,
        steps: 0,
        unhandled: Vec::new(),
    };
    let environment = [
        ("DPKG_MAINTSCRIPT_PACKAGE", script.package),
        ("DPKG_MAINTSCRIPT_NAME", if script.name == "triggers" { "postinst" } else { script.name }),
        ("DPKG_MAINTSCRIPT_ARCH", plumb_debian::ARCHITECTURE),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DPKG_ROOT", ""),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("IFS", " \t\n"),
    ];
    for (name, value) in environment {
        machine.variables.insert(name.to_owned(), Some(value.to_owned()));
    }
    let flow = machine.list(&nodes);
    machine.end_standing();
    if flow == Flow::Exit(Some(false)) {
        machine.report("it ends with a failure here, which an installation would not");
    }
    let mut unhandled = machine.unhandled;
    if let Some(failure) = world.failure.take() {
        return Err(failure);
    }
    if unhandled.len() > MAX_REPORT_LINES {
        let more = unhandled.len() - MAX_REPORT_LINES;
        unhandled.truncate(MAX_REPORT_LINES);
        unhandled.push(format!("… and {more} more lines"));
    }
    Ok(report(unhandled))
}

/// Does the first line name a shell?
pub(super) fn is_shell(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.trim_start_matches("#!").split_whitespace().filter(|word| !word.ends_with("/env"));
    let program = words.next().unwrap_or_default();
    first.starts_with("#!")
        && ["sh", "bash", "dash"].contains(&program.rsplit('/').next().unwrap_or_default())
}

impl Machine<'_, '_, '_> {
    /// debconf's frontend runs a package's `config` script before each of its scripts that asks something, in the
    /// environment of that script. It only asks and answers; what it computes for that is of no other effect.
    pub(super) fn configure(&mut self) {
        let package = self.script.package;
        let asks = matches!(self.script.name, "preinst" | "postinst" | "triggers");
        let Some(text) = self.world.configs.get(package).filter(|_| asks).cloned() else { return };
        let text = ignore::translated(package, "config").map_or(text, str::to_owned);
        if !is_shell(&text) {
            self.world.questions.forget(package);
            return;
        }
        let exported = self.variables.iter().filter(|(name, _)| self.exported.contains(*name));
        let environment = exported.map(|(name, value)| (name.clone(), value.clone())).collect();
        let (umask, directory) = (self.world.umask, self.world.directory.clone());
        let script = Script { package, name: "config", text: &text, triggers: "" };
        if let Err(error) = evaluate(self.world, script, &environment, self.uncertain) {
            self.world.failure.get_or_insert(error);
        }
        (self.world.umask, self.world.directory) = (umask, directory);
    }

    pub(super) fn report(&mut self, line: &str) {
        if self.unhandled.len() < MAX_KEPT_LINES && !self.unhandled.iter().any(|known| known == line) {
            self.unhandled.push(line.to_owned());
        }
    }

    /// Runs something whose status is a question.
    fn asking(&mut self, action: impl FnOnce(&mut Self) -> Flow) -> Flow {
        self.asked += 1;
        let flow = action(self);
        self.asked -= 1;
        flow
    }

    /// Looks through commands that may or may not run.
    pub(super) fn maybe(&mut self, nodes: &[Node]) {
        self.uncertain += 1;
        let flow = self.list(nodes);
        // Whether anything behind this runs is unknown, too. A failure is not: installations do not fail.
        if !matches!(flow, Flow::Return(_) | Flow::Exit(None | Some(true))) {
            self.uncertain -= 1;
        }
    }

    pub(super) fn list(&mut self, nodes: &[Node]) -> Flow {
        let mut status = Some(true);
        for node in nodes {
            if self.outputs.is_empty() && self.pipes == 0 {
                self.left_to_instance = false;
            }
            match self.node(node) {
                Flow::Next(next) => {
                    status = next;
                    self.status = next;
                }
                flow => return flow,
            }
        }
        Flow::Next(status)
    }

    /// Runs commands whose `exit` and variables stay inside; returns their status.
    pub(super) fn subshell(&mut self, nodes: &[Node]) -> Option<bool> {
        self.world
            .spend(self.variables.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, String::len)).sum());
        let variables = self.variables.clone();
        let (positional, uncertain, umask) = (self.positional.clone(), self.uncertain, self.world.umask);
        let directory = self.world.directory.clone();
        let flow = self.list(nodes);
        (self.variables, self.positional, self.uncertain) = (variables, positional, uncertain);
        self.world.umask = umask;
        self.world.directory = directory;
        match flow {
            Flow::Next(status) | Flow::Return(status) | Flow::Exit(status) => status,
            Flow::Break | Flow::Continue => Some(true),
        }
    }

    /// Counts a step; `false` if there may be no more.
    fn count_step(&mut self) -> bool {
        self.steps += 1;
        let may_go_on = self.steps <= MAX_STEPS && !self.world.is_exhausted();
        if !may_go_on {
            self.report("it runs longer than the rules follow it");
        }
        may_go_on
    }

    fn node(&mut self, node: &Node) -> Flow {
        if !self.count_step() {
            return Flow::Exit(None);
        }
        if self.depth >= MAX_DEPTH {
            self.report("it nests deeper than the rules follow it");
            return Flow::Exit(None);
        }
        self.depth += 1;
        let flow = self.step(node);
        self.depth -= 1;
        flow
    }

    fn step(&mut self, node: &Node) -> Flow {
        match node {
            Node::Simple(simple) => self.simple(simple),
            Node::If { arms, otherwise } => self.conditional(arms, otherwise),
            Node::Case { word, arms } => self.case(word, arms),
            Node::For { name, words, body } => self.each(name, words, body),
            Node::Loop { condition, body, until } => self.repeat(condition, body, *until),
            Node::Function { name, body } => {
                self.functions.insert(name.clone(), Rc::clone(body));
                Flow::Next(Some(true))
            }
            Node::Group { body, subshell, redirects } => {
                self.redirected(redirects, "a group of commands", |machine| {
                    if *subshell { Flow::Next(machine.subshell(body)) } else { machine.list(body) }
                })
            }
            Node::Chain { first, rest } => self.chain(first, rest),
            Node::Not(inner) => match self.asking(|machine| machine.node(inner)) {
                Flow::Next(status) => Flow::Next(status.map(|status| !status)),
                flow => flow,
            },
            Node::Pipe(parts) => self.pipe(parts),
        }
    }

    /// Every part but the last is a subshell in dash as well; what one writes is what the next reads.
    fn pipe(&mut self, parts: &[Node]) -> Flow {
        let outer = self.input.clone();
        let mut status = Some(true);
        self.pipes += 1;
        for (at, part) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            if !last {
                self.outputs.push(Some(String::new()));
            }
            status = self.subshell(std::slice::from_ref(part));
            if !last {
                self.input = self.outputs.pop().flatten();
            }
        }
        self.pipes -= 1;
        self.input = outer;
        Flow::Next(status)
    }

    fn chain(&mut self, first: &Node, rest: &[(bool, Node)]) -> Flow {
        let mut flow = self.asking(|machine| machine.node(first));
        for (at, (and, node)) in rest.iter().enumerate() {
            let is_last = at + 1 == rest.len();
            if let Flow::Next(status) = flow {
                self.status = status;
            }
            match flow {
                Flow::Next(Some(status)) if status == *and => {
                    flow = if is_last { self.node(node) } else { self.asking(|machine| machine.node(node)) }
                }
                Flow::Next(Some(_)) => {}
                Flow::Next(None) => {
                    let uncertain = self.uncertain;
                    self.maybe(std::slice::from_ref(node));
                    // `x || exit 0` and `x && return`: the rest may not run.
                    if self.uncertain > uncertain {
                        return Flow::Next(None);
                    }
                }
                flow => return flow,
            }
        }
        flow
    }

    fn conditional(&mut self, arms: &[(Vec<Node>, Vec<Node>)], otherwise: &[Node]) -> Flow {
        let mut uncertain = false;
        for (condition, body) in arms {
            let status = match self.asking(|machine| machine.list(condition)) {
                Flow::Next(status) => status,
                flow => return flow,
            };
            match status {
                Some(false) => {}
                Some(true) if !uncertain => return self.list(body),
                Some(true) => {
                    self.maybe(body);
                    return Flow::Next(None);
                }
                None => {
                    uncertain = true;
                    self.maybe(body);
                }
            }
        }
        if uncertain {
            self.maybe(otherwise);
            return Flow::Next(None);
        }
        self.list(otherwise)
    }

    fn case(&mut self, word: &Word, arms: &[(Vec<Word>, Vec<Node>)]) -> Flow {
        let value = self.value(word);
        // Only chance would make a secret what a script knows; what form it has is not known.
        let is_secret = value.as_deref().is_some_and(secret::is_in);
        for (patterns, body) in arms {
            let patterns: Vec<Argument> = patterns.iter().map(|word| self.pattern(word)).collect();
            let has_form = |found: &String| found != "*" && found.contains(['*', '?', '[']);
            if is_secret && patterns.iter().flatten().any(has_form) {
                self.maybe(body);
                continue;
            }
            match &value {
                Some(value) => {
                    let mut patterns = patterns.iter().flatten();
                    if patterns.any(|found| {
                        self.world.spend(found.len().saturating_mul(value.len()))
                            && pattern::matches(found, value)
                    }) {
                        return self.list(body);
                    }
                }
                None => self.maybe(body),
            }
        }
        Flow::Next(if value.is_some() { Some(true) } else { None })
    }

    fn each(&mut self, name: &str, words: &[Word], body: &[Node]) -> Flow {
        let values: Option<Vec<Vec<String>>> = words.iter().map(|word| self.fields(word)).collect();
        let Some(values) = values else {
            self.variables.insert(name.to_owned(), None);
            self.maybe(body);
            return Flow::Next(None);
        };
        for value in values.into_iter().flatten() {
            self.variables.insert(name.to_owned(), Some(value));
            match self.list(body) {
                Flow::Next(_) | Flow::Continue => {}
                Flow::Break => break,
                flow => return flow,
            }
        }
        Flow::Next(Some(true))
    }

    fn repeat(&mut self, condition: &[Node], body: &[Node], until: bool) -> Flow {
        loop {
            // A loop of nothing but itself has no node that would count.
            if !self.count_step() {
                return Flow::Exit(None);
            }
            let status = match self.asking(|machine| machine.list(condition)) {
                Flow::Next(status) => status,
                flow => return flow,
            };
            match status {
                None => {
                    self.maybe(body);
                    return Flow::Next(None);
                }
                Some(status) if status == until => return Flow::Next(Some(true)),
                Some(_) => match self.list(body) {
                    Flow::Next(_) | Flow::Continue => {}
                    Flow::Break => return Flow::Next(Some(true)),
                    flow => return flow,
                },
            }
        }
    }
}
