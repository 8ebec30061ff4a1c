//! Services of a machine whose PID 1 is systemd: the packages' units stay as they are, and what the definition says
//! besides becomes drop-ins and units.
//!
//! ```text
//!  package's unit ──────────────────────────────────► stays
//!  definition of a service from a unit ─ drop_in ───► UNIT.d/50-plumb.conf ┐
//!  definition of a service with `exec` ─ written ───► NAME.service ────────┴─► wanted by multi-user.target
//! ```
//!
//! Sources: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.syntax(7).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use plumb_guest_proto::{
    AFTER_COMMAND, AGENT_PATH, Command, Ready, Restart, ServiceSpec, UnitSpec, WAIT_COMMAND,
};

use super::source::load;
use super::specifier::UnitName;
use super::translate::Translation;
use super::{
    Accounts, DEFAULT_READY_TIMEOUT_MS, Note, Notes, ServiceInput, Sibling, UnitError, UnitSource, from_exec,
};

/// What a start may take besides its readiness, so that the check ends before systemd ends the start.
const START_MARGIN_MS: u64 = 10_000;

/// One service, handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// What the agent watches.
    pub spec: UnitSpec,
    /// Name of the unit file, for the link that has it started: `postgresql@.service` for an instance of it.
    pub file: String,
    /// The definition's own unit or drop-in: path below `/etc/systemd/system` and text; none if there is nothing to say.
    pub text: Option<(String, String)>,
    /// Programs of the definition, which must be able to run.
    pub programs: BTreeSet<String>,
    /// What its owner should know.
    pub notes: Vec<Note>,
}

/// Hands a package's unit over.
///
/// # Errors
/// [`UnitError`] if there is no such unit, or a command or account of the definition is not in the image.
pub fn hand_over_unit(
    unit_name: &str,
    input: &ServiceInput<'_>,
    units: &dyn UnitSource,
    accounts: &dyn Accounts,
    stop_signal: Option<i32>,
) -> Result<HandedOver, UnitError> {
    let (name, unit) = load(&UnitName::parse(unit_name)?, units)?;
    let file = if units.unit(&name.full).is_some() { Some(name.full.clone()) } else { name.template() };
    let mut own = Translation {
        unit,
        label: name.full.clone(),
        name: Some(name),
        input,
        accounts,
        notes: Notes::default(),
    };
    let kind = own.last("Type").unwrap_or_default().to_owned();
    let (prepare, start, ready) = (own.prepare()?, own.own_start()?, own.ready()?);
    if input.user.is_some() || input.group.is_some() {
        own.identity()?;
    }
    let start_timeout_ms = own.timeout("TimeoutStartSec", kind == "oneshot");
    let mut text = Sections::default();
    text.after(input, None);
    if let Some(user) = &input.user {
        text.service("User", user);
        text.service("Group", input.group.as_deref().unwrap_or_default());
    } else if let Some(group) = &input.group {
        text.service("Group", group);
    }
    if let Some(directory) = &input.working_directory {
        text.service("WorkingDirectory", &literal(directory));
    }
    text.environment(&input.environment);
    if let Some(restart) = input.restart {
        text.service("Restart", restart_name(restart));
    }
    if let Some(signal) = stop_signal {
        text.service("KillSignal", &signal.to_string());
    }
    if !prepare.is_empty() || !input.after.is_empty() {
        // Before the unit's own, which are taken back first and follow.
        text.service("ExecStartPre", "");
        text.wait_for(&input.after);
        text.commands("ExecStartPre", &prepare);
        for line in own.unit.list("Service", "ExecStartPre") {
            text.service("ExecStartPre", line);
        }
    }
    if !start.is_empty() {
        text.service("ExecStart", "");
        text.commands("ExecStart", &start);
    }
    text.ready(input, (start_timeout_ms, kind.starts_with("notify")));
    let full = own.label.clone();
    Ok(HandedOver {
        spec: spec(input, &full, ready.clone()),
        file: file.unwrap_or_else(|| full.clone()),
        text: text.finish().map(|text| (format!("{full}.d/50-plumb.conf"), text)),
        programs: programs(ready.as_ref(), prepare.iter().chain(&start)),
        notes: own.notes.finish(),
    })
}

/// Makes a unit of a command line of the definition; the same as [`from_exec`] makes of it.
///
/// # Errors
/// As [`from_exec`].
pub fn hand_over_exec(
    input: &ServiceInput<'_>,
    accounts: &dyn Accounts,
    stop_signal: Option<i32>,
) -> Result<HandedOver, UnitError> {
    let translated = from_exec(input, accounts)?;
    let service: &ServiceSpec = &translated.spec;
    let mut text = Sections::default();
    text.after(input, Some(&format!("Service `{}` of the definition", input.name)));
    text.service("Type", "exec");
    if let Some(user) = &input.user {
        text.service("User", user);
    }
    if let Some(group) = &input.group {
        text.service("Group", group);
    }
    text.service("WorkingDirectory", &literal(&service.working_directory));
    text.environment(&service.environment);
    if service.no_new_privileges {
        text.service("NoNewPrivileges", "yes");
    }
    text.service("Restart", restart_name(service.restart));
    text.service("KillSignal", &stop_signal.unwrap_or(service.kill_signal).to_string());
    text.wait_for(&input.after);
    text.commands("ExecStartPre", &service.prepare);
    text.commands("ExecStart", &service.start);
    text.ready(input, (service.start_timeout_ms, false));
    let file = format!("{}.service", input.name);
    Ok(HandedOver {
        spec: spec(input, &file, service.ready.clone()),
        text: text.finish().map(|text| (file.clone(), text)),
        file,
        programs: programs(service.ready.as_ref(), service.prepare.iter().chain(&service.start)),
        notes: translated.notes,
    })
}

fn spec(input: &ServiceInput<'_>, unit: &str, ready: Option<Ready>) -> UnitSpec {
    UnitSpec {
        name: input.name.clone(),
        unit: unit.to_owned(),
        ready,
        ready_timeout_ms: input.ready_timeout_ms.unwrap_or(DEFAULT_READY_TIMEOUT_MS),
    }
}

fn programs<'c>(ready: Option<&Ready>, commands: impl Iterator<Item = &'c Command>) -> BTreeSet<String> {
    let check = match ready {
        Some(Ready::Exec { command }) => command.argv.first().cloned(),
        _ => None,
    };
    let commands = commands.filter(|command| !command.ignore_failure);
    commands.filter_map(|command| command.argv.first().cloned()).chain(check).collect()
}

/// A unit text under way.
#[derive(Debug, Default)]
struct Sections {
    unit: String,
    service: String,
}

impl Sections {
    fn service(&mut self, directive: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.service, "{directive}={value}");
    }

    /// What must be ready before is started, and first.
    fn after(&mut self, input: &ServiceInput<'_>, description: Option<&str>) {
        if let Some(description) = description {
            let _ = writeln!(self.unit, "Description={}", literal(description));
        }
        for name in &input.after {
            let unit = unit_of(name, input.siblings);
            let _ = writeln!(self.unit, "Wants={unit}\nAfter={unit}");
        }
    }

    /// Whatever the order of systemd's jobs was: the others are active. As root, for not everybody may ask systemd.
    fn wait_for(&mut self, services: &[String]) {
        for name in services {
            self.service("ExecStartPre", &format!("+{AGENT_PATH} {AFTER_COMMAND} {}", quoted(name, false)));
        }
    }

    fn environment(&mut self, variables: &BTreeMap<String, String>) {
        for (name, value) in variables {
            self.service("Environment", &quoted(&format!("{name}={value}"), true));
        }
    }

    fn commands(&mut self, directive: &str, commands: &[Command]) {
        for command in commands {
            let mut line = String::new();
            line.push_str(if command.ignore_failure { "-" } else { "" });
            line.push_str(if command.privileged { "+" } else { "" });
            let words: Vec<String> = command.argv.iter().map(|word| quoted(word, false)).collect();
            line.push_str(&words.join(" "));
            self.service(directive, &line);
        }
    }

    /// The unit becomes active when its check succeeds. `start`: the unit's own limit, and whether it tells systemd by
    /// itself.
    fn ready(&mut self, input: &ServiceInput<'_>, (start_timeout_ms, notifies): (u64, bool)) {
        match &input.ready {
            None => return,
            Some(Ready::Notify) if notifies => {}
            Some(Ready::Notify) => self.service("Type", "notify\nNotifyAccess=all"),
            Some(_) => {
                let line = format!("{AGENT_PATH} {WAIT_COMMAND} {}", quoted(&input.name, false));
                self.service("ExecStartPost", &line);
            }
        }
        let wanted = input.ready_timeout_ms.unwrap_or(DEFAULT_READY_TIMEOUT_MS) + START_MARGIN_MS;
        if start_timeout_ms < wanted {
            self.service("TimeoutStartSec", &format!("{wanted}ms"));
        }
    }

    fn finish(self) -> Option<String> {
        let part = |name: &str, text: String| {
            if text.is_empty() { text } else { format!("[{name}]\n{text}") }
        };
        let parts = [part("Unit", self.unit), part("Service", self.service)];
        let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        (!text.is_empty()).then(|| format!("# Written by Plumb from the definition.\n{text}"))
    }
}

fn unit_of(name: &str, siblings: &[Sibling]) -> String {
    let unit = siblings.iter().find(|sibling| sibling.name == name).and_then(|sibling| sibling.unit.clone());
    let unit = unit.unwrap_or_else(|| name.to_owned());
    if unit.ends_with(".service") { unit } else { format!("{unit}.service") }
}

fn restart_name(restart: Restart) -> &'static str {
    match restart {
        Restart::No => "no",
        Restart::OnSuccess => "on-success",
        Restart::OnFailure => "on-failure",
        Restart::OnAbnormal => "on-abnormal",
        Restart::OnAbort => "on-abort",
        Restart::Always => "always",
    }
}

/// `%` would begin a specifier.
fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// One word, in quotes if it needs them or `always`. `$` keeps its meaning, which is the definition's, too.
fn quoted(word: &str, always: bool) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@${}[]%".contains(c);
    if !always && !word.is_empty() && word.chars().all(is_plain) {
        return literal(word);
    }
    let mut text = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '%' => text.push_str("%%"),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
