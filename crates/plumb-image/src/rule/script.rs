//! Maintainer scripts, evaluated as for a first installation: what is known is done to the tree, what is unknown is
//! reported. No process is ever started.
//!
//! Every condition is true, false or unknown. The body behind an unknown condition is only looked through: its
//! commands change nothing and are reported unless they are known to be irrelevant.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::shell::{self, Node, Redirect, Simple, Word, pattern};
use super::world::World;
use super::{Report, command, condition, ignore};

/// Most commands one script may execute here: the longest ones of Debian need some hundred; a loop ends here.
const MAX_STEPS: usize = 20_000;
/// Deepest nesting of calls and sourced files.
const MAX_CALLS: usize = 32;
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
enum Flow {
    Next(Option<bool>),
    Return,
    Exit,
}

/// One maintainer script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script<'s> {
    pub(crate) package: &'s str,
    /// `preinst` or `postinst`.
    pub(crate) name: &'s str,
    pub(crate) text: &'s str,
}

pub(super) struct Machine<'w, 'o, 's> {
    pub(super) world: &'w mut World<'o>,
    pub(super) script: Script<'s>,
    pub(super) variables: BTreeMap<String, Argument>,
    pub(super) positional: Vec<Argument>,
    functions: BTreeMap<String, Rc<[Node]>>,
    uncertain: usize,
    steps: usize,
    calls: usize,
    depth: usize,
    unhandled: Vec<String>,
}

/// Does what the script would do at a first installation; returns what it could not.
///
/// # Errors
/// What reading or keeping file contents says.
pub(crate) fn run(world: &mut World<'_>, script: Script<'_>) -> io::Result<Option<Report>> {
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
    if !script.text.starts_with("#!") || script.text.contains('\0') {
        return Ok(report(vec!["it is a program, not a script".to_owned()]));
    }
    let first = script.text.lines().next().unwrap_or_default();
    if !(first.contains("/sh") || first.contains("bash") || first.contains("dash")) {
        return Ok(report(vec![format!("it is no shell script: {first}")]));
    }
    let nodes = match shell::parse(script.text) {
        Ok(nodes) => nodes,
        Err(error) => return Ok(report(vec![format!("it cannot be read: {error}")])),
    };
    let action = if script.name == "preinst" { "install" } else { "configure" };
    world.begin_work();
    let mut machine = Machine {
        world,
        script,
        variables: BTreeMap::new(),
        positional: vec![Some(action.to_owned()), Some(String::new())],
        functions: BTreeMap::new(),
        uncertain: 0,
        steps: 0,
        calls: 0,
        depth: 0,
        unhandled: Vec::new(),
    };
    machine.variables.insert("DPKG_MAINTSCRIPT_PACKAGE".into(), Some(script.package.to_owned()));
    machine.variables.insert("DPKG_MAINTSCRIPT_NAME".into(), Some(script.name.to_owned()));
    machine.variables.insert("RET".into(), None);
    machine.list(&nodes);
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

impl Machine<'_, '_, '_> {
    fn report(&mut self, line: &str) {
        if self.unhandled.len() < MAX_KEPT_LINES && !self.unhandled.iter().any(|known| known == line) {
            self.unhandled.push(line.to_owned());
        }
    }

    /// Looks through commands that may or may not run.
    fn maybe(&mut self, nodes: &[Node]) {
        self.uncertain += 1;
        self.list(nodes);
        self.uncertain -= 1;
    }

    fn list(&mut self, nodes: &[Node]) -> Flow {
        let mut status = Some(true);
        for node in nodes {
            match self.node(node) {
                Flow::Next(next) => status = next,
                flow => return flow,
            }
        }
        Flow::Next(status)
    }

    fn status(&mut self, nodes: &[Node]) -> Option<bool> {
        match self.list(nodes) {
            Flow::Next(status) => status,
            Flow::Return | Flow::Exit => None,
        }
    }

    fn node(&mut self, node: &Node) -> Flow {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.world.is_exhausted() {
            self.report("it runs longer than the rules follow it");
            return Flow::Exit;
        }
        if self.depth >= MAX_DEPTH {
            self.report("it nests deeper than the rules follow it");
            return Flow::Exit;
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
            Node::Loop { condition, body } => {
                self.maybe(condition);
                self.maybe(body);
                Flow::Next(None)
            }
            Node::Function { name, body } => {
                self.functions.insert(name.clone(), Rc::clone(body));
                Flow::Next(Some(true))
            }
            Node::Group { body, subshell: false, .. } => self.list(body),
            Node::Group { body, subshell: true, .. } => {
                self.world.spend(
                    self.variables.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, String::len)).sum(),
                );
                let variables = self.variables.clone();
                let flow = self.list(body);
                self.variables = variables;
                Flow::Next(if let Flow::Next(status) = flow { status } else { None })
            }
            Node::Chain { first, rest } => self.chain(first, rest),
            Node::Not(inner) => match self.node(inner) {
                Flow::Next(status) => Flow::Next(status.map(|status| !status)),
                flow => flow,
            },
            Node::Pipe(parts) => {
                if let Some(status) = self.is_member(parts) {
                    return Flow::Next(Some(status));
                }
                self.maybe(parts);
                Flow::Next(None)
            }
        }
    }

    fn chain(&mut self, first: &Node, rest: &[(bool, Node)]) -> Flow {
        let mut flow = self.node(first);
        for (and, node) in rest {
            match flow {
                Flow::Next(Some(status)) if status == *and => flow = self.node(node),
                Flow::Next(Some(_)) => {}
                Flow::Next(None) => self.maybe(std::slice::from_ref(node)),
                Flow::Return | Flow::Exit => return flow,
            }
        }
        flow
    }

    fn conditional(&mut self, arms: &[(Vec<Node>, Vec<Node>)], otherwise: &[Node]) -> Flow {
        let mut uncertain = false;
        for (condition, body) in arms {
            match self.status(condition) {
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
        for (patterns, body) in arms {
            let patterns: Vec<Argument> = patterns.iter().map(|word| self.pattern(word)).collect();
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
                Flow::Next(_) => {}
                flow => return flow,
            }
        }
        Flow::Next(Some(true))
    }

    fn simple(&mut self, simple: &Simple) -> Flow {
        for (name, word) in &simple.assigns {
            let value = self.value(word).filter(|_| self.uncertain == 0 || simple.words.len() > 1);
            self.variables.insert(name.clone(), value);
        }
        let mut arguments: Vec<Argument> = Vec::new();
        for word in &simple.words {
            match self.fields(word) {
                Some(fields) => arguments.extend(fields.into_iter().map(Some)),
                None => arguments.push(None),
            }
        }
        if arguments.first().is_some_and(|name| name.as_deref() == Some("command")) && arguments.len() > 1 {
            let query = arguments[1].as_deref().is_some_and(|flag| flag == "-v" || flag == "-V");
            if !query {
                arguments.remove(0);
            }
        }
        let Some(name) = arguments.first() else {
            return match simple.redirects.iter().find(|r| self.writes(r).is_some()) {
                Some(_) => self.output(simple, Some("")),
                None => Flow::Next(if simple.assigns.is_empty() { None } else { Some(true) }),
            };
        };
        let Some(name) = name.clone() else {
            self.report(&simple.text);
            return Flow::Next(None);
        };
        if let Some(body) = self.functions.get(&name).cloned() {
            return self.call(&body, arguments[1..].to_vec());
        }
        if let Some(flow) = self.builtin(&name, &arguments[1..], simple) {
            return flow;
        }
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(status) = condition::query(self.world, &name, &arguments[1..]) {
            return Flow::Next(status);
        }
        if ignore::command(&name, &arguments[1..]) {
            return Flow::Next(None);
        }
        let known: Option<Vec<String>> = arguments[1..].iter().cloned().collect();
        let has_output = simple.redirects.iter().any(|redirect| self.writes(redirect).is_some());
        let known = known.filter(|_| self.uncertain == 0 && !has_output);
        let done = known.and_then(|known| command::apply(self.world, self.script.package, &name, &known));
        if done.is_none() {
            self.report(&simple.text);
        }
        Flow::Next(done.map(|()| true))
    }

    fn call(&mut self, body: &[Node], arguments: Vec<Argument>) -> Flow {
        if self.calls >= MAX_CALLS {
            self.report("it calls itself too often");
            return Flow::Exit;
        }
        self.calls += 1;
        let positional = std::mem::replace(&mut self.positional, arguments);
        let flow = self.list(body);
        self.positional = positional;
        self.calls -= 1;
        if flow == Flow::Return { Flow::Next(None) } else { flow }
    }

    fn builtin(&mut self, name: &str, arguments: &[Argument], simple: &Simple) -> Option<Flow> {
        let text = |at: usize| arguments.get(at).and_then(Option::as_deref);
        Some(match name {
            ":" | "true" => Flow::Next(Some(true)),
            "false" => Flow::Next(Some(false)),
            "exit" => Flow::Exit,
            "return" => Flow::Return,
            "export" | "local" | "readonly" | "declare" => {
                for argument in arguments.iter().flatten() {
                    if let Some((name, value)) = argument.split_once('=') {
                        let value = (self.uncertain == 0).then(|| value.to_owned());
                        self.variables.insert(name.to_owned(), value);
                    }
                }
                Flow::Next(Some(true))
            }
            "unset" => {
                for name in arguments.iter().flatten() {
                    self.variables.insert(name.clone(), (self.uncertain == 0).then(String::new));
                }
                Flow::Next(Some(true))
            }
            "read" | "getopts" => {
                for name in arguments.iter().flatten().filter(|name| !name.starts_with('-')) {
                    self.variables.insert(name.clone(), None);
                }
                Flow::Next(None)
            }
            "shift" => {
                if !self.positional.is_empty() {
                    self.world.spend(self.positional.len());
                    self.positional.remove(0);
                }
                Flow::Next(Some(true))
            }
            "set" if text(0) == Some("--") => {
                self.positional = arguments[1..].to_vec();
                Flow::Next(Some(true))
            }
            "set" | "umask" | "trap" | "cd" | "wait" | "hash" => Flow::Next(Some(true)),
            "." | "source" => self.include(text(0), simple),
            "echo" | "printf" | "cat" if simple.redirects.iter().any(|r| self.writes(r).is_some()) => {
                let text: Option<Vec<String>> = arguments.iter().cloned().collect();
                let here = simple.redirects.iter().find(|redirect| redirect.operator == "<<");
                let text = match (name, here, text) {
                    ("cat", Some(here), Some(files)) if files.is_empty() => self.value(&here.word),
                    ("cat", None, Some(files)) if files == ["/dev/null"] => Some(String::new()),
                    ("echo", _, Some(words)) => Some(format!("{}\n", words.join(" "))),
                    _ => None,
                };
                return Some(self.output(simple, text.as_deref()));
            }
            "echo" | "printf" | "cat" => Flow::Next(Some(true)),
            _ => return None,
        })
    }

    /// `. file`: a file of the image is evaluated too, so that its functions are known.
    fn include(&mut self, path: Option<&str>, simple: &Simple) -> Flow {
        if path.is_some_and(ignore::include) {
            return Flow::Next(Some(true));
        }
        let text = match path.map(|path| self.world.text(path)) {
            Some(Ok(Some(text))) => text,
            Some(Err(error)) => {
                self.world.failure.get_or_insert(error);
                return Flow::Exit;
            }
            _ => {
                self.report(&simple.text);
                return Flow::Next(None);
            }
        };
        match shell::parse(&text) {
            Ok(nodes) if self.calls < MAX_CALLS => {
                self.calls += 1;
                let flow = self.list(&nodes);
                self.calls -= 1;
                flow
            }
            _ => {
                self.report(&simple.text);
                Flow::Next(None)
            }
        }
    }

    /// The file a redirection writes to, if it is one of the image; `Some(None)` if its name is unknown.
    fn writes(&mut self, redirect: &Redirect) -> Option<Argument> {
        if !matches!(redirect.operator.as_str(), ">" | ">>") || !matches!(redirect.descriptor, None | Some(1))
        {
            return None;
        }
        let path = self.value(&redirect.word);
        if path.as_deref().is_some_and(World::is_volatile) { None } else { Some(path) }
    }

    /// Writes `text` to the file that the command's output is redirected to.
    fn output(&mut self, simple: &Simple, text: Option<&str>) -> Flow {
        let redirect = simple.redirects.iter().find(|redirect| self.writes(redirect).is_some());
        let Some(redirect) = redirect else { return Flow::Next(Some(true)) };
        let path = self.value(&redirect.word).and_then(|path| self.world.place(&path));
        let (Some(path), Some(text), 0) = (path, text, self.uncertain) else {
            self.report(&simple.text);
            return Flow::Next(None);
        };
        let append = redirect.operator == ">>";
        let result = command::write(self.world, self.script.package, &path, text, append);
        if let Err(error) = result {
            self.world.failure.get_or_insert(error);
            return Flow::Exit;
        }
        Flow::Next(Some(true))
    }
}
