//! Reading `service.NAME`.

use std::collections::BTreeMap;

use plumb_guest_proto::{Command, Ready, Restart};

use super::Service;
use super::diagnostic::{Report, Span, quoted};
use super::machine::{absolute, account, names};
use super::table::{Field, Table};
use super::value;
use crate::ServiceName;

/// Longest `ready.timeout`. What takes longer is not starting any more, and an upgrade would wait for it.
const MAX_READY_TIMEOUT_MS: u64 = 60 * 60 * 1000;

const KEYS: &[&str] = &[
    "after",
    "directory",
    "environment",
    "exec",
    "from",
    "group",
    "prepare",
    "ready",
    "restart",
    "stop_signal",
    "user",
];

/// Signals that ask a service to stop, by their number on Linux (signal(7)); the others kill, or mean something else.
const STOP_SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGTERM", 15),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGWINCH", 28),
];

const RESTARTS: &[(&str, Restart)] = &[
    ("always", Restart::Always),
    ("no", Restart::No),
    ("on-abnormal", Restart::OnAbnormal),
    ("on-abort", Restart::OnAbort),
    ("on-failure", Restart::OnFailure),
    ("on-success", Restart::OnSuccess),
];

/// A service, and where in the text stands what is checked against the other services.
pub(super) struct Draft {
    pub(super) service: Service,
    /// For each of `service.after`.
    pub(super) after: Vec<Span>,
}

/// What a machine's programs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Userland {
    /// Packages, whose units are taken by `from`.
    Packages,
    /// A container image, whose own command is taken if there is no `exec`.
    Container,
}

pub(super) fn read(
    name: &ServiceName,
    table: &Table<'_>,
    userland: Userland,
    report: &mut Report<'_>,
) -> Draft {
    table.allow(KEYS, report);
    let from_field = table.get("from");
    let exec_field = table.get("exec");
    if let (Some(from), Some(_)) = (&from_field, &exec_field) {
        report
            .add(&from.key, format!("both `from` and `exec`{}", table.inside()))
            .hint("`from` takes a package's own unit, `exec` is a command of your own: keep one.");
    }
    if let (Userland::Container, Some(from)) = (userland, &from_field) {
        report
            .add(&from.key, format!("`from`{} of a container image", table.inside()))
            .hint("Without `exec` the service is what the image itself says (its entrypoint).");
    }
    let is_own_unit = userland == Userland::Packages && from_field.is_none() && exec_field.is_none();
    let from = from_field.and_then(|field| unit(&field, report));
    let (ready, ready_timeout_ms) = read_ready(table, report);
    let (after, after_spans) = names::<ServiceName>(table, "after", "[\"postgres\"]", report);
    let service = Service {
        from: if is_own_unit { Some(name.to_string()) } else { from },
        exec: exec_field.and_then(|field| command_text(&field, report)),
        user: table.get("user").and_then(|field| account(&field, report)),
        group: table.get("group").and_then(|field| account(&field, report)),
        prepare: table.get("prepare").and_then(|field| command_text(&field, report)),
        environment: read_environment(table, report),
        settings: BTreeMap::new(),
        directory: table.get("directory").and_then(|field| absolute(&field, report)),
        ready,
        ready_timeout_ms,
        stop_signal: table.get("stop_signal").and_then(|field| one_of(&field, STOP_SIGNALS, report)),
        restart: table.get("restart").and_then(|field| one_of(&field, RESTARTS, report)),
        after,
    };
    Draft { service, after: after_spans }
}

/// A unit's name by systemd.unit(5), given without `.service`.
fn unit(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"nginx\"", report)?;
    let name = text.strip_suffix(".service").unwrap_or(text);
    let is_plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@'));
    if !name.is_empty() && name.len() <= 255 && is_plain && !name.starts_with('.') {
        return Some(name.to_owned());
    }
    report
        .add(&field.span, format!("{}: {} is not the name of a unit", field.what(), quoted(text)))
        .hint("Write the unit as the package calls it, like `nginx` or `postgresql@15-main`.");
    None
}

/// The words of a command line.
fn words(field: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let text = field.text("\"gunicorn -b :8000 app:app\"", report)?;
    if text.contains('\0') {
        report.add(&field.span, format!("{} holds a NUL character", field.what()));
        return None;
    }
    match shlex::split(text) {
        Some(words) if words.is_empty() => {
            report.add(&field.span, format!("{} is empty", field.what()));
            None
        }
        Some(words) => Some(words),
        None => {
            report
                .add(&field.span, format!("{} has a quote that is not closed", field.what()))
                .hint("Words are quoted as in a shell; a quote inside a word is written `\\'`.");
            None
        }
    }
}

pub(super) fn command_text(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    words(field, report)?;
    field.text("", report).map(str::to_owned)
}

/// `environment` of a service or a task.
pub(super) fn read_environment(table: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<String, String> {
    let example = "environment = { LANG = \"C.UTF-8\" }";
    let Some(all) = table.get("environment").and_then(|field| field.table(example, report)) else {
        return BTreeMap::new();
    };
    let mut environment = BTreeMap::new();
    for field in all.fields() {
        let name = field.name();
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || !is_plain || name.as_bytes()[0].is_ascii_digit() {
            report.add(&field.key, format!("{} is not the name of an environment variable", quoted(name)));
        }
        let Some(text) = field.text("\"C.UTF-8\"", report) else { continue };
        if text.contains('\0') {
            report.add(&field.span, format!("{} holds a NUL character", field.what()));
        }
        environment.insert(name.to_owned(), text.to_owned());
    }
    environment
}

/// The value that a word stands for.
fn one_of<T: Copy>(field: &Field<'_>, known: &[(&str, T)], report: &mut Report<'_>) -> Option<T> {
    let text = field.text(&format!("\"{}\"", known.first()?.0), report)?;
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = report.add(&field.span, format!("{}: {} is not known", field.what(), quoted(text)));
    found.suggest(text, names.iter().copied());
    if found.hints.is_empty() {
        found.hint(format!("Known values: {}.", names.join(", ")));
    }
    None
}

fn read_ready(table: &Table<'_>, report: &mut Report<'_>) -> (Option<Ready>, Option<u64>) {
    let example = "ready.http = \":80/health\"";
    let Some(field) = table.get("ready") else { return (None, None) };
    let Some(table) = field.table(example, report) else { return (None, None) };
    table.allow(&["exec", "http", "notify", "tcp", "timeout"], report);
    let timeout_ms =
        table.get("timeout").and_then(|field| value::duration_ms(&field, MAX_READY_TIMEOUT_MS, report));
    let checks: Vec<Field<'_>> =
        ["exec", "http", "notify", "tcp"].iter().filter_map(|key| table.get(key)).collect();
    let ready = match &checks[..] {
        [check] => read_check(check, report),
        // An unknown key is reported already and tells more.
        [] if table.fields().iter().any(|field| field.name() != "timeout") => None,
        [] => {
            report
                .add(&field.key, format!("{} names no check", field.what()))
                .hint(format!("Add one of `http`, `tcp`, `exec`, `notify`, like `{example}`."));
            None
        }
        [_, second, ..] => {
            report
                .add(&second.key, format!("{} names more than one check", field.what()))
                .hint("Keep the one that tells most.");
            None
        }
    };
    (ready, timeout_ms)
}

fn read_check(field: &Field<'_>, report: &mut Report<'_>) -> Option<Ready> {
    match field.name() {
        "tcp" => {
            let port = field.integer(1..=65535, report)?;
            Some(Ready::Tcp { port: u16::try_from(port).ok()? })
        }
        "http" => read_http(field, report),
        "exec" => {
            let argv = words(field, report)?;
            Some(Ready::Exec { command: Command { argv, ignore_failure: false, privileged: false } })
        }
        _ if field.is_true() => Some(Ready::Notify),
        _ => {
            report
                .add(&field.span, format!("{} must be `true`", field.what()))
                .hint("Leave it out if the service does not say `READY=1` itself.");
            None
        }
    }
}

/// `:80/health`: a port and a path. The guest writes the path into a request line, so nothing that ends one.
fn read_http(field: &Field<'_>, report: &mut Report<'_>) -> Option<Ready> {
    let text = field.text("\":80/health\"", report)?;
    let parts = text.strip_prefix(':').map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())));
    let checked = parts.and_then(|(port, path)| {
        let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        Some((value::port(port)?, path)).filter(|_| is_plain)
    });
    if let Some((port, path)) = checked {
        let path = if path.is_empty() { "/" } else { path };
        return Some(Ready::Http { port, path: path.to_owned() });
    }
    report
        .add(&field.span, format!("{}: {} is not a port and a path", field.what(), quoted(text)))
        .hint("Write it like `:80/health`; the guest asks itself, so no host is named.");
    None
}
