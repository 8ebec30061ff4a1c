//! Simple commands: assignments, redirections, what the shell itself does, and calls of everything else.

use std::collections::BTreeMap;

use super::expand::UNKNOWN_ID;
use super::script::{Argument, Flow, MAX_CALLS, Machine, is_shell};
use super::secret::{self, SECRET};
use super::shell::{self, Node, Part, Simple};
use super::{command, condition, debconf, enable, file, filter, find, ignore, print};

impl Machine<'_, '_, '_> {
    /// Text of a file of the image; `None` if there is none, or it is no text.
    pub(super) fn read(&mut self, path: &str) -> Option<String> {
        if path == "/dev/null" {
            return Some(String::new());
        }
        match self.world.text(path) {
            Ok(text) => text,
            Err(error) => {
                self.world.failure.get_or_insert(error);
                None
            }
        }
    }

    fn program_text(&mut self, path: &str) -> Option<String> {
        match self.world.program_text(path) {
            Ok(text) => text,
            Err(error) => {
                self.world.failure.get_or_insert(error);
                None
            }
        }
    }

    /// Something random: only an instance may have it.
    pub(super) fn random(&mut self, source: &str) {
        let line = format!("reading {source}");
        self.world.left_to_instance.insert((self.script.package.to_owned(), line, ignore::KEY));
        self.left_to_instance = true;
    }

    pub(super) fn simple(&mut self, simple: &Simple) -> Flow {
        let mut assigned = Some(true);
        let mut before = Vec::new();
        for (name, word) in &simple.assigns {
            let value = self.value(word).filter(|_| self.uncertain == 0 || simple.words.len() > 1);
            if word.iter().any(|part| matches!(part, Part::Command { .. })) {
                assigned = self.status;
            }
            let old = self.variables.insert(name.clone(), value);
            // `IFS=: read x`: for that command only, if it is none that the shell calls special.
            if !simple.words.is_empty() && !is_special(simple) {
                before.push((name.clone(), old));
            }
        }
        let mut arguments: Vec<Argument> = Vec::new();
        for word in &simple.words {
            match self.fields(word) {
                // An id that is given later can be asked about, but nothing can be made of it.
                Some(fields) => arguments.extend(fields.into_iter().map(|field| {
                    let asks = matches!(arguments.first(), Some(Some(name)) if matches!(name.as_str(), "[" | "test" | "echo" | "printf"));
                    Some(field).filter(|field| asks || !field.contains(UNKNOWN_ID))
                }).collect::<Vec<_>>()),
                None => arguments.push(None),
            }
        }
        if let [Some(name)] = arguments.as_slice()
            && name == "exec"
            && self.begin_standing(simple)
        {
            return Flow::Next(Some(true));
        }
        let flow = self.redirected(&simple.redirects, &simple.text, |machine| {
            if arguments.is_empty() {
                return Flow::Next(if simple.words.is_empty() { assigned } else { Some(true) });
            }
            machine.command(&arguments, &simple.text)
        });
        for (name, old) in before.into_iter().rev() {
            match old {
                Some(value) => self.variables.insert(name, value),
                None => self.variables.remove(&name),
            };
        }
        flow
    }

    /// One command by its arguments.
    pub(super) fn command(&mut self, arguments: &[Argument], text: &str) -> Flow {
        if let Some(flow) = self.instead(arguments, text) {
            return flow;
        }
        let Some(Some(name)) = arguments.first() else {
            return self.unknown(text);
        };
        let (name, rest) = (name.clone(), &arguments[1..]);
        let first = rest.first().and_then(Option::as_deref);
        let prefixes = ["command", "exec", "env", "nice", "ionice", "nohup", "time", "chronic", "eatmydata"];
        if prefixes.contains(&name.as_str()) && first.is_some_and(|first| !first.starts_with('-')) {
            let skipped =
                rest.iter().take_while(|a| name == "env" && a.as_deref().is_some_and(|a| a.contains('=')));
            let skipped = skipped.count();
            let flow = self.command(&rest[skipped..], text);
            return match flow {
                Flow::Next(status) if name == "exec" => Flow::Exit(status),
                flow => flow,
            };
        }
        let short = name.rsplit('/').next().unwrap_or_default();
        if let Some(reason) = ignore::instance(short, rest) {
            self.world.left_to_instance.insert((self.script.package.to_owned(), text.to_owned(), reason));
            self.left_to_instance = true;
            let is_maker = secret::is_maker(short, rest);
            self.print(is_maker.then_some(&format!("{SECRET}\n")));
            return Flow::Next(is_maker.then_some(true));
        }
        if let Some(body) = self.functions.get(&name).cloned() {
            return self.call(&body, rest.to_vec());
        }
        self.code = 1;
        if let Some(flow) = self.builtin(&name, rest, text) {
            return flow;
        }
        if let Some(status) = debconf::command(self, short, rest) {
            return Flow::Next(status);
        }
        if let Some(flow) = self.runs_another(short, rest, text) {
            return flow;
        }
        if let Some(status) = enable::command(self.world, short, rest) {
            self.print(None);
            return Flow::Next(status);
        }
        if let Some((written, status)) = filter::run(self, short, rest) {
            self.print(written.as_deref());
            return Flow::Next(status);
        }
        if let Some(status) = condition::query(self.world, short, rest) {
            return Flow::Next(status);
        }
        if let Some(trigger) = first.filter(|_| short == "dpkg-trigger" && self.uncertain == 0) {
            let named = rest.iter().flatten().find(|argument| !argument.starts_with('-'));
            self.world.triggered.insert(named.map_or(trigger, String::as_str).to_owned());
            return Flow::Next(Some(true));
        }
        // As `service`: nothing runs while an image is built.
        if ignore::command(short, rest) || name.starts_with("/etc/init.d/") {
            self.print(None);
            return Flow::Next(None);
        }
        self.change(&name, rest).unwrap_or_else(|| self.unknown(text))
    }

    /// A command that changes something, or a program of the image; `None` if it is neither.
    fn change(&mut self, name: &str, arguments: &[Argument]) -> Option<Flow> {
        let short = name.rsplit('/').next().unwrap_or_default();
        let is_certain = self.uncertain == 0;
        if matches!(short, "chown" | "chgrp") && self.asked > 0 && is_certain {
            // Scripts ask so whether there is an account.
            if !file::has_owner(self.world, short, arguments) {
                return Some(Flow::Next(Some(false)));
            }
        }
        if short == "htpasswd"
            && is_certain
            && let Some(done) = secret::password_file(self, arguments)
        {
            return Some(done);
        }
        // Nothing but a file can hold a secret.
        let known: Option<Vec<String>> = arguments.iter().cloned().collect();
        let known = known.filter(|known| is_certain && !known.iter().any(|word| secret::is_in(word)));
        match known.and_then(|known| command::apply(self.world, self.script.package, short, &known)) {
            Some(()) => Some(Flow::Next(Some(true))),
            None => self.program(name, arguments),
        }
    }

    /// A line that a rule of its own speaks of.
    fn instead(&mut self, arguments: &[Argument], text: &str) -> Option<Flow> {
        let rule = ignore::instead(self.script.package, text, arguments)?;
        let nodes = shell::parse(rule).ok()?;
        self.calls += 1;
        let flow = (self.calls < MAX_CALLS).then(|| self.list(&nodes));
        self.calls -= 1;
        flow
    }

    fn unknown(&mut self, text: &str) -> Flow {
        self.report(text);
        self.print(None);
        Flow::Next(None)
    }

    /// Commands whose arguments are commands.
    fn runs_another(&mut self, name: &str, arguments: &[Argument], text: &str) -> Option<Flow> {
        match name {
            "find" => find::run(self, arguments, text),
            "xargs" => find::arguments_from_input(self, arguments, text),
            "su" | "runuser" => self.as_user(name, arguments),
            "alias" => {
                for definition in arguments.iter().flatten() {
                    let (name, text) = definition.split_once('=')?;
                    let nodes = shell::parse(&format!("{text} \"$@\"")).ok()?;
                    self.functions.insert(name.to_owned(), nodes.into());
                }
                Some(Flow::Next(Some(true)))
            }
            "eval" => {
                let words: Option<Vec<String>> = arguments.iter().cloned().collect();
                let nodes = shell::parse(&words?.join(" ")).ok()?;
                Some(self.list(&nodes))
            }
            "sh" | "bash" | "dash" => {
                let known = known(arguments)?;
                if known.first().is_some_and(|first| !first.starts_with('-')) {
                    return Some(self.command(arguments, text));
                }
                let at =
                    known.iter().position(|argument| argument.ends_with('c') && argument.starts_with('-'))?;
                let nodes = shell::parse(known.get(at + 1)?).ok()?;
                Some(Flow::Next(self.subshell(&nodes)))
            }
            _ => None,
        }
    }

    /// `su -s /bin/sh -c COMMAND USER` and `runuser -u USER -- COMMAND…`: what is made belongs to the user.
    fn as_user(&mut self, name: &str, arguments: &[Argument]) -> Option<Flow> {
        let known = known(arguments)?;
        let (mut user, mut command, mut words) = (None, None, Vec::new());
        let mut rest = known.iter().map(String::as_str);
        while let Some(word) = rest.next() {
            match word {
                "-s" | "--shell" | "-g" | "--group" => drop(rest.next()?),
                "-c" | "--command" => command = Some(rest.next()?.to_owned()),
                "-u" | "--user" if name == "runuser" => user = Some(rest.next()?.to_owned()),
                "-" | "-l" | "--login" | "-p" | "-m" | "--preserve-environment" => {}
                "--" => {
                    words.extend(rest.by_ref().map(str::to_owned));
                }
                word if word.starts_with('-') => return None,
                word if user.is_none() => user = Some(word.to_owned()),
                word => {
                    words.push(word.to_owned());
                    words.extend(rest.by_ref().map(str::to_owned));
                }
            }
        }
        let user = user.filter(|user| self.world.accounts.has_user(user))?;
        let nodes = match command {
            Some(command) => shell::parse(&command).ok()?,
            None => shell::parse(&shlex::try_join(words.iter().map(String::as_str)).ok()?).ok()?,
        };
        // `test -O`, `test -r` as another user: nothing belongs to a fresh account yet.
        if nodes.is_empty() || known.iter().any(|word| word.starts_with("test -")) {
            return None;
        }
        let outer = self.world.as_user.replace(user);
        let status = self.subshell(&nodes);
        self.world.as_user = outer;
        Some(Flow::Next(status))
    }

    /// A program of the image that is itself a shell script is evaluated like one.
    fn program(&mut self, name: &str, arguments: &[Argument]) -> Option<Flow> {
        let path = condition::program(self.world, name)?;
        let text = self.program_text(&path).filter(|text| is_shell(text))?;
        let nodes = shell::parse(&text).ok()?;
        if self.calls >= MAX_CALLS {
            return None;
        }
        self.calls += 1;
        let functions = self.functions.clone();
        let (variables, uncertain) = (self.variables.clone(), self.uncertain);
        let positional = std::mem::replace(&mut self.positional, arguments.to_vec());
        self.variables.insert("0".to_owned(), Some(path));
        self.variables.remove("OPTIND");
        self.variables.remove("IFS");
        let directory = self.world.directory.clone();
        let no_patterns = std::mem::take(&mut self.no_patterns);
        let flow = self.list(&nodes);
        self.no_patterns = no_patterns;
        self.world.directory = directory;
        (self.functions, self.variables) = (functions, variables);
        (self.positional, self.uncertain) = (positional, uncertain);
        self.calls -= 1;
        Some(match flow {
            Flow::Next(status) | Flow::Return(status) | Flow::Exit(status) => Flow::Next(status),
            Flow::Break | Flow::Continue => Flow::Next(Some(true)),
        })
    }

    fn call(&mut self, body: &[Node], arguments: Vec<Argument>) -> Flow {
        if self.calls >= MAX_CALLS {
            self.report("it calls itself too often");
            return Flow::Exit(None);
        }
        self.calls += 1;
        let uncertain = self.uncertain;
        let positional = std::mem::replace(&mut self.positional, arguments);
        self.locals.push(BTreeMap::new());
        let flow = self.list(body);
        for (name, before) in self.locals.pop().unwrap_or_default() {
            match before {
                Some(value) => self.variables.insert(name, value),
                None => self.variables.remove(&name),
            };
        }
        self.positional = positional;
        self.calls -= 1;
        // A `return` in doubt makes only the rest of this function doubtful.
        if !matches!(flow, Flow::Exit(_)) {
            self.uncertain = uncertain;
        }
        if let Flow::Return(status) = flow { Flow::Next(status) } else { flow }
    }

    /// `export X=y`, `local x y=1` and their kin.
    fn declare(&mut self, command: &str, arguments: &[Argument]) {
        for argument in arguments.iter().flatten().filter(|argument| !argument.starts_with('-')) {
            let (variable, value) = argument
                .split_once('=')
                .map_or((argument.as_str(), None), |(name, value)| (name, Some(value)));
            match command {
                "local" => self.make_local(variable),
                "export" => _ = self.exported.insert(variable.to_owned()),
                _ => {}
            }
            if let Some(value) = value {
                let value = (self.uncertain == 0).then(|| value.to_owned());
                self.variables.insert(variable.to_owned(), value);
            }
        }
    }

    /// The variable is as before when the function returns. Until it is set it keeps its value (dash(1)).
    fn make_local(&mut self, variable: &str) {
        let before = self.variables.get(variable).cloned();
        self.world.spend(before.iter().flatten().map(String::len).sum());
        if let Some(frame) = self.locals.last_mut() {
            frame.entry(variable.to_owned()).or_insert(before);
        }
    }

    fn exit_status(&mut self, argument: Option<&Argument>) -> Option<bool> {
        match argument {
            None => self.status,
            Some(None) => None,
            Some(Some(text)) => {
                let code = text.parse::<i64>().ok()?;
                self.code = code;
                Some(code == 0)
            }
        }
    }

    /// `set -f`, `set -o noglob`; nothing else of set(1) is of account here.
    fn set_options(&mut self, arguments: &[Argument]) {
        let mut sign = '-';
        for option in arguments.iter().flatten() {
            match option.as_str() {
                "-f" => self.no_patterns = true,
                "+f" => self.no_patterns = false,
                "-o" | "+o" => sign = option.chars().next().unwrap_or('-'),
                "noglob" => self.no_patterns = sign == '-',
                _ => {}
            }
        }
    }

    fn builtin(&mut self, name: &str, arguments: &[Argument], text: &str) -> Option<Flow> {
        let word = |at: usize| arguments.get(at).and_then(Option::as_deref);
        Some(match name {
            ":" | "true" => Flow::Next(Some(true)),
            "false" => Flow::Next(Some(false)),
            "exit" => {
                let status = self.exit_status(arguments.first());
                if status == Some(false) && self.uncertain == 0 && self.calls == 0 {
                    self.report(text);
                }
                Flow::Exit(status)
            }
            "return" => Flow::Return(self.exit_status(arguments.first())),
            "break" => Flow::Break,
            "continue" => Flow::Continue,
            "export" | "local" | "readonly" | "declare" | "typeset" => {
                self.declare(name, arguments);
                Flow::Next(Some(true))
            }
            "unset" => {
                for name in arguments.iter().flatten() {
                    let value = if name == "IFS" { " \t\n" } else { "" };
                    self.variables.insert(name.clone(), (self.uncertain == 0).then(|| value.to_owned()));
                }
                Flow::Next(Some(true))
            }
            "read" => self.read_line(arguments),
            "getopts" => Flow::Next(self.next_option(arguments)),
            "shift" => {
                let count = word(0).map_or(Some(1), |count| count.parse::<usize>().ok())?;
                let fits = count <= self.positional.len();
                self.positional.drain(..count.min(self.positional.len()));
                Flow::Next(Some(fits))
            }
            "set" if word(0) == Some("--") => {
                self.positional = arguments[1..].to_vec();
                Flow::Next(Some(true))
            }
            "umask" => {
                if let Some(mask) = word(0).and_then(|mask| u32::from_str_radix(mask, 8).ok()) {
                    self.world.umask = mask & 0o777;
                }
                Flow::Next(Some(true))
            }
            "cd" | "pushd" => {
                let path = word(0).and_then(|path| self.world.place(path));
                let path = path.filter(|_| self.uncertain == 0);
                let found = word(0).map(|path| path == "/" || self.world.resolve(path).is_some());
                if let (Some(path), Some(true)) = (&path, found) {
                    self.world.directory.clone_from(path);
                }
                self.variables.insert("PWD".to_owned(), path);
                Flow::Next(found)
            }
            "set" => {
                self.set_options(arguments);
                Flow::Next(Some(true))
            }
            "trap" | "wait" | "hash" | "unalias" | "popd" => Flow::Next(Some(true)),
            "." | "source" => self.include(word(0), text),
            "echo" | "printf" => {
                let known: Option<Vec<String>> = arguments.iter().cloned().collect();
                let written = known.and_then(|known| print::text(name, &known));
                self.print(written.as_deref());
                Flow::Next(Some(true))
            }
            _ => return None,
        })
    }

    /// `read [-r] NAME…`: one line of standard input, split at white space or `IFS`.
    fn read_line(&mut self, arguments: &[Argument]) -> Flow {
        let names: Vec<String> =
            arguments.iter().flatten().filter(|name| !name.starts_with('-')).cloned().collect();
        let Some(input) = self.input.take() else {
            for name in names {
                self.variables.insert(name, None);
            }
            return Flow::Next(None);
        };
        let found = !input.is_empty();
        let (line, rest) = input.split_once('\n').unwrap_or((&input, ""));
        let separators = self.separators().unwrap_or_default();
        let is_space = |c: char| separators.contains(c) && c.is_whitespace();
        let mut left = line.trim_matches(is_space);
        for (at, name) in names.iter().enumerate() {
            let cut = left.find(|c| separators.contains(c)).filter(|_| at + 1 < names.len());
            let (value, next) = cut.map_or((left, ""), |cut| {
                let width = left[cut..].chars().next().map_or(0, char::len_utf8);
                (&left[..cut], left[cut + width..].trim_start_matches(is_space))
            });
            self.variables.insert(name.clone(), Some(value.to_owned()));
            left = next;
        }
        let rest = rest.to_owned();
        self.input = Some(rest);
        Flow::Next(Some(found))
    }

    /// `getopts OPTIONS NAME`: one option of the arguments, without groups like `-ab`.
    fn next_option(&mut self, arguments: &[Argument]) -> Option<bool> {
        let (Some(Some(known)), Some(Some(name))) = (arguments.first(), arguments.get(1)) else {
            return None;
        };
        let at = match self.variables.get("OPTIND") {
            Some(Some(at)) => at.parse::<usize>().ok()?,
            Some(None) => return None,
            None => 1,
        };
        let mut next = at;
        let word = self.positional.get(at.checked_sub(1)?).cloned();
        let (value, argument) = match word {
            None => (None, None),
            Some(None) => return None,
            Some(Some(word)) => match word.strip_prefix('-').and_then(|word| word.chars().next()) {
                None => (None, None),
                Some('-') => {
                    next += 1;
                    (None, None)
                }
                Some(letter) => {
                    next += 1;
                    let takes = known.contains(&format!("{letter}:"));
                    let attached = word[1 + letter.len_utf8()..].to_owned();
                    if !takes && !attached.is_empty() {
                        return None;
                    }
                    let mut argument = attached;
                    if takes && argument.is_empty() {
                        argument = self.positional.get(next - 1).cloned().flatten()?;
                        next += 1;
                    }
                    (Some(if known.contains(letter) { letter } else { '?' }), Some(argument))
                }
            },
        };
        self.variables.insert("OPTIND".to_owned(), Some(next.to_string()));
        self.variables.insert("OPTARG".to_owned(), argument.or(Some(String::new())));
        let found = value.is_some();
        self.variables.insert(name.clone(), Some(value.unwrap_or('?').to_string()));
        Some(found)
    }

    /// `. file`: a file of the image is evaluated too, so that its functions are known.
    fn include(&mut self, path: Option<&str>, text: &str) -> Flow {
        if path == Some("/usr/share/debconf/confmodule") {
            self.configure();
        }
        if path.is_some_and(ignore::include) {
            return Flow::Next(Some(true));
        }
        let Some(included) = path.and_then(|path| self.program_text(path)) else {
            return self.unknown(text);
        };
        match shell::parse(&included) {
            Ok(nodes) if self.calls < MAX_CALLS => {
                self.calls += 1;
                let flow = self.list(&nodes);
                self.calls -= 1;
                if let Flow::Return(status) = flow { Flow::Next(status) } else { flow }
            }
            _ => self.unknown(text),
        }
    }
}

/// Does the command belong to those that keep the variables set before them (dash(1), "Special builtins")?
fn is_special(simple: &Simple) -> bool {
    let Some([Part::Text { text, quoted: false }]) = simple.words.first().map(Vec::as_slice) else {
        return false;
    };
    matches!(
        text.as_str(),
        ":" | "." | "eval" | "exec" | "exit" | "export" | "readonly" | "return" | "set" | "shift" | "unset"
    )
}

/// All arguments, if every one is known.
pub(super) fn known(arguments: &[Argument]) -> Option<Vec<String>> {
    arguments.iter().cloned().collect()
}
