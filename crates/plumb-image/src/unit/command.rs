//! Command lines: systemd.service(5) "COMMAND LINES".

use plumb_guest_proto::Command;

use super::program::PATH;
use super::specifier::UnitName;
use super::word::next_word;
use super::{MAX_WORDS, Notes, Severity, UnitError};

/// Words that mean something to a shell and nothing to a program.
const SHELL_WORDS: [&str; 9] = ["&&", "||", "|", "&", ">", ">>", "<", "2>&1", "2>"];

/// Where a command line stands.
pub(super) struct Place<'a> {
    /// Unit or service, for messages.
    pub service: &'a str,
    /// Directive or field, for messages.
    pub directive: &'static str,
    /// The unit whose specifiers are resolved; `None` for lines of the definition, where `%` is just a character.
    pub unit: Option<&'a UnitName>,
    /// See [`super::ServiceInput::resolve_program`].
    pub resolve: &'a dyn Fn(&str) -> Option<String>,
    /// A command that may fail is left out if its program is missing.
    pub may_be_missing: bool,
}

/// One command as written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub program: String,
    pub arguments: Vec<String>,
    pub ignore_failure: bool,
    pub privileged: bool,
    /// `:`: variables are not expanded.
    pub literal: bool,
    /// `@`: the first argument is `argv[0]`.
    pub named: bool,
}

/// One command line of the definition (for example of a readiness check), with its program found in the image.
///
/// # Errors
/// [`UnitError::Command`] and [`UnitError::ProgramMissing`], naming `service`.
pub fn parse_command(
    service: &str,
    line: &str,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<Command, UnitError> {
    let place = Place { service, directive: "command", unit: None, resolve, may_be_missing: false };
    let mut commands = place.commands(line, &mut Notes::default())?;
    match (commands.pop(), commands.is_empty()) {
        (Some(command), true) => Ok(command),
        _ => Err(place.refuse(line, "one command is expected")),
    }
}

impl Place<'_> {
    /// All commands of some lines, in order.
    pub(super) fn all(&self, lines: &[String], notes: &mut Notes) -> Result<Vec<Command>, UnitError> {
        let mut commands = Vec::new();
        for line in lines {
            commands.extend(self.commands(line, notes)?);
        }
        Ok(commands)
    }

    /// All commands of one line, most often one.
    fn commands(&self, line: &str, notes: &mut Notes) -> Result<Vec<Command>, UnitError> {
        let placed = self.drafts(line)?.into_iter().map(|draft| self.place(draft, notes));
        Ok(placed.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The same, before programs are looked up.
    pub(super) fn drafts(&self, line: &str) -> Result<Vec<Draft>, UnitError> {
        let mut rest = line;
        let mut drafts = Vec::new();
        while let Some(draft) = self.draft(line, &mut rest)? {
            drafts.push(draft);
        }
        Ok(drafts)
    }

    /// Reads up to the end or a `;` that stands alone.
    fn draft(&self, line: &str, rest: &mut &str) -> Result<Option<Draft>, UnitError> {
        let Some(first) = next_word(rest).map_err(|reason| self.refuse(line, reason))? else {
            return Ok(None);
        };
        let mut draft = self.prefixes(line, &first)?;
        loop {
            *rest = rest.trim_start();
            let alone =
                |mark: &str| rest.strip_prefix(mark).filter(|t| t.is_empty() || t.starts_with([' ', '\t']));
            if let Some(tail) = alone(";") {
                *rest = tail;
                break;
            }
            if let Some(tail) = alone("\\;") {
                *rest = tail;
                draft.arguments.push(";".to_owned());
            } else if let Some(word) = next_word(rest).map_err(|reason| self.refuse(line, reason))? {
                draft.arguments.push(self.expand(&word)?);
            } else {
                break;
            }
            if draft.arguments.len() > MAX_WORDS {
                return Err(self.refuse(line, "too many words"));
            }
        }
        Ok(Some(draft))
    }

    fn prefixes(&self, line: &str, word: &str) -> Result<Draft, UnitError> {
        let mut draft = Draft::default();
        let mut marks = 0;
        let mut rest = word;
        loop {
            let mut chars = rest.chars();
            match chars.next() {
                Some('-') if !draft.ignore_failure => draft.ignore_failure = true,
                Some(':') if !draft.literal => draft.literal = true,
                Some('@') if !draft.named => draft.named = true,
                Some('+') if marks == 0 => (marks, draft.privileged) = (2, true),
                Some('!') if marks == 0 => (marks, draft.privileged) = (1, true),
                // `!!` only matters where the kernel has no ambient capabilities.
                Some('!') if marks == 1 => (marks, draft.privileged) = (2, false),
                _ => break,
            }
            rest = chars.as_str();
        }
        draft.program = self.expand(rest)?;
        if draft.program.is_empty() || draft.program.ends_with('/') {
            return Err(self.refuse(line, "it names no program"));
        }
        Ok(draft)
    }

    /// Finds the program. `None` if the command is left out.
    pub(super) fn place(&self, draft: Draft, notes: &mut Notes) -> Result<Option<Command>, UnitError> {
        let Some(program) = (self.resolve)(&draft.program) else {
            return self.missing(&draft, notes).map(|()| None);
        };
        let mut arguments = draft.arguments;
        if draft.named && !arguments.is_empty() {
            let name = arguments.remove(0);
            if name != program {
                let message = format!("`{program}` is not told that its name is `{name}` (`@`)");
                notes.add(Severity::Unsupported, self.directive, message);
            }
        }
        if let Some(word) = arguments.iter().find(|word| SHELL_WORDS.contains(&word.as_str())) {
            let message = format!("`{word}` is an argument of `{program}`; shell syntax needs `sh -c '…'`");
            notes.add(Severity::Unsupported, self.directive, message);
        }
        if draft.literal {
            // The guest expands every command; doubled, a dollar stays one.
            arguments.iter_mut().for_each(|argument| *argument = argument.replace('$', "$$"));
        }
        let argv = std::iter::once(program).chain(arguments).collect();
        Ok(Some(Command { argv, ignore_failure: draft.ignore_failure, privileged: draft.privileged }))
    }

    fn missing(&self, draft: &Draft, notes: &mut Notes) -> Result<(), UnitError> {
        let program = draft.program.clone();
        if draft.ignore_failure && self.may_be_missing {
            let message = format!("`{program}` is not in the image, the command is left out");
            notes.add(Severity::Unsupported, self.directive, message);
            return Ok(());
        }
        Err(self.not_found(program))
    }

    /// A program, found in the image.
    pub(super) fn program(&self, program: &str) -> Result<String, UnitError> {
        (self.resolve)(program).ok_or_else(|| self.not_found(program.to_owned()))
    }

    fn not_found(&self, program: String) -> UnitError {
        let looked_for = match program.starts_with('/') {
            true => "exactly there".to_owned(),
            false => format!("in {}", PATH.replace(':', ", ")),
        };
        UnitError::ProgramMissing { service: self.label(), program, looked_for }
    }

    fn expand(&self, word: &str) -> Result<String, UnitError> {
        self.unit.map_or_else(|| Ok(word.to_owned()), |unit| unit.expand(self.directive, word))
    }

    fn label(&self) -> String {
        let equals = if self.unit.is_some() { "=" } else { "" };
        format!("{}{equals} of {}", self.directive, self.service)
    }

    fn refuse(&self, line: &str, reason: &str) -> UnitError {
        UnitError::Command { service: self.label(), command: line.to_owned(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<String, String> {
        let name = UnitName::parse("a@b").expect("a name");
        let resolve = |program: &str| match program.contains("gone") {
            true => None,
            false if program.starts_with('/') => Some(program.to_owned()),
            false => Some(format!("/usr/bin/{program}")),
        };
        let place = Place {
            service: "a",
            directive: "ExecStop",
            unit: Some(&name),
            resolve: &resolve,
            may_be_missing: true,
        };
        let mut notes = Notes::default();
        let commands = place.commands(line, &mut notes).map_err(|error| error.to_string())?;
        let show = |command: &Command| {
            let marks =
                (if command.ignore_failure { "-" } else { "" }, if command.privileged { "+" } else { "" });
            format!("{}{}{:?}", marks.0, marks.1, command.argv)
        };
        let shown: Vec<String> = commands.iter().map(show).collect();
        let notes: Vec<String> = notes.finish().iter().map(ToString::to_string).collect();
        Ok([shown, notes].concat().join(" | "))
    }

    #[test]
    fn command_lines() {
        let check = |line: &str, expect: &str| assert_eq!(read(line).unwrap_or_else(|e| e), expect, "{line}");
        check(
            "/bin/x -g 'daemon on; y' $A ${B} %i",
            r#"["/bin/x", "-g", "daemon on; y", "$A", "${B}", "b"]"#,
        );
        check("-/bin/x ; +y a \\; ; ", r#"-["/bin/x"] | +["/usr/bin/y", "a", ";"]"#);
        check("!!/bin/x", r#"["/bin/x"]"#);
        check("!/bin/x", r#"+["/bin/x"]"#);
        check(":/bin/x $A", r#"["/bin/x", "$$A"]"#);
        check(
            "@/bin/x x -a",
            r#"["/bin/x", "-a"] | `ExecStop=` not supported: `/bin/x` is not told that its name is `x` (`@`)"#,
        );
        check(
            "a && b",
            r#"["/usr/bin/a", "&&", "b"] | `ExecStop=` not supported: `&&` is an argument of `/usr/bin/a`; shell syntax needs `sh -c '…'`"#,
        );
        check("-/gone", "`ExecStop=` not supported: `/gone` is not in the image, the command is left out");
        check(
            "/gone x",
            "the program `/gone` that `ExecStop= of a` runs is not in the image (looked for exactly there)",
        );
        check("-", "cannot understand the command `-` of `ExecStop= of a`: it names no program");
        check("'x", "cannot understand the command `'x` of `ExecStop= of a`: a quote is not closed");
        check("", "");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,200}|[-@:+!;\\\\\"' %a$x0]{0,100}") {
            let _ = read(&line);
        }
    }
}
