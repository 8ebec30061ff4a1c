//! Reading `[check.NAME]`.

use std::collections::BTreeMap;

use super::diagnostic::{Report, Span, quoted};
use super::machine::account;
use super::service::command_text;
use super::table::{Field, Table};
use super::value;
use crate::check::{
    Check, DEFAULT_TIMEOUT_MS, ExecProbe, HttpProbe, MAX_CHECKS, MAX_RETRIES, MAX_TIMEOUT_MS, MachinePort,
    Probe, RunProbe,
};
use crate::{CheckName, MachineName};

/// Ways to check; a check has one of them.
const KINDS: &[&str] = &["exec", "http", "run", "tcp"];

/// Methods of RFC 9110 section 9 and RFC 5789 that make sense for a server that is tested.
const METHODS: &[&str] = &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// What a report calls the readiness of an instance.
const READINESS: &str = "ready";

const EXAMPLE: &str = "[check.page] with `http = \"web:80/\"`";

/// A check, and where in the text stands what is checked against the machines.
pub(super) struct Draft {
    pub(super) check: Check,
    pub(super) machines: Vec<(Span, MachineName)>,
}

pub(super) fn read_all(root: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<CheckName, Draft> {
    let mut drafts = BTreeMap::new();
    let Some(all) = root.get("check").and_then(|field| field.table(EXAMPLE, report)) else { return drafts };
    let fields = all.fields();
    if fields.len() > MAX_CHECKS {
        report.add(&all.at, format!("{} checks, but an application has at most {MAX_CHECKS}", fields.len()));
        return drafts;
    }
    for field in fields {
        let name = field.parsed_name::<CheckName>(report);
        if field.name() == READINESS {
            report
                .add(&field.key, "a check cannot be called `ready`")
                .hint("Readiness of every instance is the first check of every test and has that name.");
        }
        let draft = field.table(EXAMPLE, report).and_then(|table| read(&table, report));
        if let (Some(name), Some(draft)) = (name, draft) {
            drafts.insert(name, draft);
        }
    }
    drafts
}

fn read(table: &Table<'_>, report: &mut Report<'_>) -> Option<Draft> {
    let kind = kind(table, report)?;
    let mut allowed = vec![kind, "retry", "timeout"];
    allowed.extend(match kind {
        "http" => &["body", "contains", "header", "method", "status"][..],
        "run" => &["files", "ports"][..],
        "exec" => &["machine", "user"][..],
        _ => &[],
    });
    allowed.sort_unstable();
    table.allow(&allowed, report);
    let mut machines = Vec::new();
    let probe = match kind {
        "http" => read_http(table, &mut machines, report).map(Probe::Http),
        "tcp" => read_tcp(table, &mut machines, report).map(Probe::Tcp),
        "run" => read_run(table, &mut machines, report).map(Probe::Run),
        _ => read_exec(table, &mut machines, report).map(Probe::Exec),
    };
    let timeout_ms =
        table.get("timeout").and_then(|field| value::duration_ms(&field, MAX_TIMEOUT_MS, report));
    let retry = table.get("retry").and_then(|field| field.integer(0..=u64::from(MAX_RETRIES), report));
    let check = Check {
        probe: probe?,
        timeout_ms: timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        retry: retry.and_then(|retry| u32::try_from(retry).ok()).unwrap_or(0),
    };
    Some(Draft { check, machines })
}

/// The one of [`KINDS`] that the check has.
fn kind(table: &Table<'_>, report: &mut Report<'_>) -> Option<&'static str> {
    let found: Vec<&str> = KINDS.iter().copied().filter(|kind| table.get(kind).is_some()).collect();
    match found[..] {
        [one] => Some(one),
        [] => {
            let known: Vec<&str> = table.fields().iter().filter_map(|field| near(field.name())).collect();
            let found = report.add(&table.at, format!("nothing to do{}", table.inside()));
            match known.first() {
                Some(kind) => found.hint(format!("Did you mean `{kind}`?")),
                None => found.hint(
                    "Add one of `http = \"web:80/\"`, `tcp = \"db:5432\"`, `run = \"checks/order.sh\"`, `exec = \"…\"`.",
                ),
            };
            None
        }
        [first, second, ..] => {
            report
                .add(&table.at, format!("both `{first}` and `{second}`{}", table.inside()))
                .hint("Make two checks of it; they run side by side.");
            None
        }
    }
}

/// What people of other tools would write.
fn near(key: &str) -> Option<&'static str> {
    Some(match key {
        "url" | "get" | "https" => "http",
        "port" | "connect" => "tcp",
        "command" | "cmd" | "test" => "exec",
        "script" => "run",
        _ => return None,
    })
}

type Machines = Vec<(Span, MachineName)>;

/// `web:80` and what follows.
fn machine_port(text: &str) -> Option<(MachinePort, &str)> {
    let (machine, rest) = text.split_once(':')?;
    let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Some((MachinePort { machine: machine.parse().ok()?, port: value::port(port)? }, path))
}

fn read_http(table: &Table<'_>, machines: &mut Machines, report: &mut Report<'_>) -> Option<HttpProbe> {
    let at = table.get("http").and_then(|field| {
        let text = field.text("\"web:80/health\"", report)?;
        let is_plain = |path: &str| path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let Some((at, path)) = machine_port(text).filter(|(_, path)| is_plain(path)) else {
            report
                .add(
                    &field.span,
                    format!("{}: {} is not a machine, a port and a path", field.what(), quoted(text)),
                )
                .hint("Write it like `web:80/health`: no scheme, and a machine of this application.");
            return None;
        };
        machines.push((field.span.clone(), at.machine.clone()));
        Some((at, if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
    });
    let body = table.get("body").and_then(|field| field.text("\"customer=ann\"", report).map(str::to_owned));
    let default = if body.is_some() { "POST" } else { "GET" };
    let method = match table.get("method") {
        Some(field) => method(&field, report),
        None => Some(default.to_owned()),
    };
    if let (Some(method), Some(field)) = (&method, table.get("body"))
        && matches!(method.as_str(), "GET" | "HEAD")
    {
        report.add(&field.key, format!("{}: a request `{method}` has no body", field.what()));
    }
    let headers = read_headers(table, report);
    let status = table.get("status").and_then(|field| field.integer(100..=599, report));
    let contains = table.get("contains").and_then(|field| {
        let text = field.text("\"Welcome\"", report)?;
        if text.is_empty() {
            report.add(&field.span, format!("{} is empty, which every answer contains", field.what()));
        }
        Some(text.to_owned())
    });
    let (at, path) = at?;
    let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    Some(HttpProbe { at, path, method: method?, headers, body, status, contains })
}

fn method(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"POST\"", report)?;
    if METHODS.contains(&text) {
        return Some(text.to_owned());
    }
    let found = report.add(&field.span, format!("{}: {} is not known", field.what(), quoted(text)));
    found.suggest(text, METHODS.iter().copied());
    if found.hints.is_empty() {
        found.hint(format!("Known methods: {}.", METHODS.join(", ")));
    }
    None
}

/// Names are tokens (RFC 9110 section 5.6.2); a value with a line break would be a second header.
fn read_headers(table: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<String, String> {
    let example = "header = { Accept = \"application/json\" }";
    let mut headers = BTreeMap::new();
    let Some(all) = table.get("header").and_then(|field| field.table(example, report)) else {
        return headers;
    };
    for field in all.fields() {
        let name = field.name();
        let is_token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
            && !name.is_empty();
        if !is_token {
            report.add(&field.key, format!("{} is not the name of a header field", quoted(name)));
        }
        let Some(text) = field.text("\"application/json\"", report) else { continue };
        if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            report.add(&field.span, format!("{} holds more than visible ASCII", field.what()));
        }
        headers.insert(name.to_owned(), text.to_owned());
    }
    headers
}

fn read_tcp(table: &Table<'_>, machines: &mut Machines, report: &mut Report<'_>) -> Option<MachinePort> {
    port_of(&table.get("tcp")?, machines, report)
}

/// `db:5432`.
fn port_of(field: &Field<'_>, machines: &mut Machines, report: &mut Report<'_>) -> Option<MachinePort> {
    let text = field.text("\"db:5432\"", report)?;
    match machine_port(text) {
        Some((at, "")) => {
            machines.push((field.span.clone(), at.machine.clone()));
            Some(at)
        }
        _ => {
            report
                .add(&field.span, format!("{}: {} is not a machine and a port", field.what(), quoted(text)))
                .hint("Write it like `db:5432`.");
            None
        }
    }
}

fn read_run(table: &Table<'_>, machines: &mut Machines, report: &mut Report<'_>) -> Option<RunProbe> {
    let command = table.get("run").and_then(|field| command_text(&field, report));
    let mut files = Vec::new();
    if let Some(field) = table.get("files") {
        for item in field.list("[\"checks/\"]", report) {
            match item.text("\"checks/\"", report).map(value::relative_path) {
                Some(Ok(path)) => files.push(path),
                Some(Err(reason)) => {
                    report
                        .add(&item.span, format!("{}: {reason}", item.what()))
                        .hint("Name a file or folder beside the definition, like `checks/`.");
                }
                None => {}
            }
        }
    }
    let mut ports = Vec::new();
    if let Some(field) = table.get("ports") {
        for item in field.list("[\"db:5432\"]", report) {
            ports.extend(port_of(&item, machines, report));
        }
    }
    Some(RunProbe { command: command?, files, ports })
}

fn read_exec(table: &Table<'_>, machines: &mut Machines, report: &mut Report<'_>) -> Option<ExecProbe> {
    let command = table.get("exec").and_then(|field| command_text(&field, report));
    let user = table.get("user").and_then(|field| account(&field, report));
    let machine = table.required("machine", "\"db\"", report).and_then(|field| {
        let machine: MachineName = field.parsed("\"db\"", report)?;
        machines.push((field.span, machine.clone()));
        Some(machine)
    });
    Some(ExecProbe { command: command?, machine: machine?, user })
}
