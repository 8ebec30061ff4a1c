//! Reading `[machine.NAME]`.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Display;
use std::str::FromStr;

use plumb_debian::{Alternatives, PackageName};

use super::diagnostic::{Report, Span, quoted};
use super::service::Userland;
use super::table::{Field, Table};
use super::{
    Init, Machine, Publish, Scripts, Service, Volume, check, config, content, oci, operate, script, service,
    snapshot, value,
};
use crate::release::BlueGreen;
use crate::{MachineName, ServiceName, VolumeName};

/// Smallest and largest memory in MiB. Debian's kernel deadlocks on memory below 72 MiB while it boots; 1 TiB is
/// more than any host of a single application has.
const MEMORY_MIB: (u64, u64) = (80, 1 << 20);

/// Memory of a machine that asks for nothing.
const DEFAULT_MEMORY_MIB: u32 = 256;

/// Smallest and largest volume in MiB: what ext4 needs for itself, and ext4's limit with 4 KiB blocks (16 TiB).
const VOLUME_MIB: (u64, u64) = (16, 16 << 20);

/// Most virtual processors of one instance; the kernel of Debian's cloud image takes more, no small machine does.
const MAX_CPUS: u64 = 64;

/// Most instances of one machine; an application's private network has 254 addresses for all of them.
const MAX_INSTANCES: u64 = BlueGreen::FIRST as u64 - 1;

/// Most volumes of one machine: one virtio disk each, beside the root disk.
const MAX_VOLUMES: usize = 16;

/// Most services of one machine; as many as a status message of the guest holds.
const MAX_SERVICES: usize = 100;

/// Directories that the image itself fills; a volume there would hide the machine.
const SYSTEM_DIRECTORIES: &[&str] = &["/bin", "/boot", "/etc", "/lib", "/lib64", "/sbin", "/usr"];

const KEYS: &[&str] = &[
    "app",
    "config",
    "cpus",
    "init",
    "instances",
    "keep",
    "lockdown",
    "memory",
    "middleware",
    "needs",
    "oci",
    "os",
    "publish",
    "rolling",
    "script",
    "scripts",
    "service",
    "task",
    "volume",
    "watch",
    "without",
];

/// A machine, and where in the text stands what is checked against the other machines.
pub(super) struct Draft {
    pub(super) machine: Machine,
    /// The machine's name.
    pub(super) key: Span,
    /// For each of `machine.needs`.
    pub(super) needs: Vec<Span>,
    /// For each of `machine.publish`.
    pub(super) publish: Vec<Span>,
}

pub(super) fn read(table: &Table<'_>, report: &mut Report<'_>) -> Draft {
    table.allow(KEYS, report);
    let middleware = relations(table, "middleware", report);
    let os = relations(table, "os", report);
    let (without, _) = names::<PackageName>(table, "without", "[\"perl\"]", report);
    let keep = read_keep(table, report);
    let scripts = table.get("scripts").and_then(|field| scripts(&field, report)).unwrap_or_default();
    let init = table.get("init").and_then(|field| init(&field, report)).unwrap_or_default();
    let lockdown = table.get("lockdown").and_then(|field| field.truth(report)).unwrap_or(true);
    let memory_mib = table.get("memory").and_then(|field| value::size_mib(&field, MEMORY_MIB, report));
    let cpus = table.get("cpus").and_then(|field| field.integer(1..=MAX_CPUS, report));
    let instances = table.get("instances").and_then(|field| field.integer(1..=MAX_INSTANCES, report));
    let script = script::read(table, report);
    let volumes = read_volumes(table, report);
    let app = content::read(table, &volumes, report);
    let config = config::read_files(table, &volumes, report);
    let oci = oci::read(table, report);
    let userland = if table.get("oci").is_some() { Userland::Container } else { Userland::Packages };
    let services = read_services(table, userland, report);
    let (needs, need_spans) = names::<MachineName>(table, "needs", "[\"db\"]", report);
    let (publish, publish_spans) = read_publish(table, report);
    let rolling = operate::read_rolling(table, instances.unwrap_or(1), report);
    let small = |number: Option<u64>, default| number.and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
    Draft {
        machine: Machine {
            middleware,
            os,
            without,
            keep,
            oci,
            script,
            scripts,
            init,
            lockdown,
            app,
            config,
            memory_mib: small(memory_mib, DEFAULT_MEMORY_MIB),
            cpus: small(cpus, 1),
            volumes: volumes.into_iter().map(|(name, (_, volume))| (name, volume)).collect(),
            services,
            needs,
            instances: small(instances, 1),
            publish,
            rolling,
            watch: operate::read_watch(table, report),
            tasks: operate::read_tasks(table, report),
        },
        key: table.at.clone(),
        needs: need_spans,
        publish: publish_spans,
    }
}

/// A list of names, each with its place; a name that stands twice is reported.
pub(super) fn names<T>(
    table: &Table<'_>,
    key: &str,
    example: &str,
    report: &mut Report<'_>,
) -> (Vec<T>, Vec<Span>)
where
    T: FromStr<Err: Display> + PartialEq + Display,
{
    let mut found = (Vec::new(), Vec::new());
    let Some(field) = table.get(key) else { return found };
    for item in field.list(example, report) {
        let Some(name) = item.parsed::<T>(example, report) else { continue };
        if found.0.contains(&name) {
            report.add(&item.span, format!("`{name}` stands twice in {}", item.what()));
            continue;
        }
        found.0.push(name);
        found.1.push(item.span);
    }
    found
}

/// Paths that rules would leave out.
fn read_keep(table: &Table<'_>, report: &mut Report<'_>) -> Vec<String> {
    const EXAMPLE: &str = "\"/usr/share/doc\"";
    let Some(field) = table.get("keep") else { return Vec::new() };
    let mut found: Vec<String> = Vec::new();
    for item in field.list("[\"/usr/share/doc\"]", report) {
        let Some(text) = item.text(EXAMPLE, report) else { continue };
        let path = text.trim_end_matches('/');
        let is_plain = path.starts_with('/') && !path.split('/').any(|part| part == ".." || part == ".");
        if !is_plain || path.contains("//") || path.chars().any(char::is_control) {
            report
                .add(&item.span, format!("{}: {} is not an absolute path", item.what(), quoted(text)))
                .hint("Write a path like `/usr/share/doc`; `*` and `?` may stand for other characters.");
        } else if found.iter().any(|other| other == path) {
            report.add(&item.span, format!("{} stands twice in {}", quoted(text), item.what()));
        } else {
            found.push(path.to_owned());
        }
    }
    found
}

/// A list of Debian relations. They stay text here: the resolver gives them their meaning.
fn relations(table: &Table<'_>, key: &str, report: &mut Report<'_>) -> Vec<String> {
    let Some(field) = table.get(key) else { return Vec::new() };
    let mut found: Vec<String> = Vec::new();
    for item in field.list("[\"nginx-light\"]", report) {
        let Some(text) = item.text("\"nginx-light\"", report) else { continue };
        match relation(text) {
            Ok(()) if found.iter().any(|other| other == text) => {
                report.add(&item.span, format!("{} stands twice in {}", quoted(text), item.what()));
            }
            Ok(()) => found.push(text.to_owned()),
            Err(reason) => {
                report.add(&item.span, format!("{}: {reason}", item.what())).hint(
                    "Write a package like `nginx-light`, or with a version like `postgresql-15 (>= 15.4)`.",
                );
            }
        }
    }
    found
}

/// Checks one relation: `name` or `name (operator version)`. Alternatives, architectures and profiles are the
/// packages' business: a definition says which package it wants.
fn relation(text: &str) -> Result<(), String> {
    let alternatives = text.parse::<Alternatives>().map_err(|error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })?;
    match &alternatives.0[..] {
        [relation] if relation.qualifier.is_some() => Err(format!("{} names an architecture", quoted(text))),
        [relation] if relation.architectures.is_empty() && relation.profiles.is_empty() => Ok(()),
        _ => Err(format!("{} is not one package", quoted(text))),
    }
}

fn scripts(field: &Field<'_>, report: &mut Report<'_>) -> Option<Scripts> {
    let text = field.text("\"run\"", report)?;
    match text {
        "rules" => Some(Scripts::Rules),
        "run" => Some(Scripts::Run),
        other => {
            report
                .add(
                    &field.span,
                    format!("{}: {} is not a way to treat scripts", field.what(), quoted(other)),
                )
                .hint("Write `\"rules\"` for Plumb's rules, or `\"run\"` to run the scripts in a build VM.");
            None
        }
    }
}

fn init(field: &Field<'_>, report: &mut Report<'_>) -> Option<Init> {
    match field.text("\"systemd\"", report)? {
        "plumb" => Some(Init::Plumb),
        "systemd" => Some(Init::Systemd),
        other => {
            report
                .add(&field.span, format!("{}: {} is no PID 1 of a machine", field.what(), quoted(other)))
                .hint("Write `\"plumb\"` for Plumb's own, or `\"systemd\"` for the packages' units as they are.");
            None
        }
    }
}

fn read_volumes(table: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<VolumeName, (Span, Volume)> {
    let example = "volume.data = { size = \"1GiB\", mount = \"/var/lib/data\" }";
    let mut volumes: BTreeMap<VolumeName, (Span, Volume)> = BTreeMap::new();
    let Some(all) = table.get("volume").and_then(|field| field.table(example, report)) else {
        return volumes;
    };
    let fields = all.fields();
    if fields.len() > MAX_VOLUMES {
        report.add(&all.at, format!("{} volumes, but a machine has at most {MAX_VOLUMES}", fields.len()));
        return volumes;
    }
    for field in fields {
        let name = field.parsed_name::<VolumeName>(report);
        let volume = field.table(example, report).and_then(|table| read_volume(&table, report));
        let (Some(name), Some((span, volume))) = (name, volume) else { continue };
        for (other_name, (_, other)) in &volumes {
            if value::within(&volume.mount, &other.mount) || value::within(&other.mount, &volume.mount) {
                report.add(
                    &span,
                    format!(
                        "volumes `{other_name}` and `{name}` are mounted in each other: `{}` and `{}`",
                        other.mount, volume.mount
                    ),
                );
            }
        }
        volumes.insert(name, (span, volume));
    }
    volumes
}

fn read_volume(table: &Table<'_>, report: &mut Report<'_>) -> Option<(Span, Volume)> {
    table.allow(&["mount", "owner", "size", "snapshot"], report);
    let size_mib = table
        .required("size", "\"1GiB\"", report)
        .and_then(|field| value::size_mib(&field, VOLUME_MIB, report));
    let mount = table.required("mount", "\"/var/lib/data\"", report).and_then(|field| {
        let path = absolute(&field, report)?;
        if SYSTEM_DIRECTORIES.contains(&path.as_str()) {
            report.add(
                &field.span,
                format!("{}: a volume at `{path}` would hide the machine's own files", field.what()),
            );
            return None;
        }
        Some((field.span, path))
    });
    let owner = table.get("owner").and_then(|field| account(&field, report));
    let snapshot = snapshot::read_volume(table, report);
    let (span, mount) = mount?;
    Some((span, Volume { size_bytes: size_mib? << 20, mount, owner, snapshot }))
}

pub(super) fn account(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let name = field.text("\"www-data\"", report)?;
    if value::is_account(name) {
        return Some(name.to_owned());
    }
    report
        .add(&field.span, format!("{}: {} is not a user or group name", field.what(), quoted(name)))
        .hint("Names are a-z, 0-9, `-` and `_`, start with a letter or `_`, and have at most 32 characters.");
    None
}

pub(super) fn absolute(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    match value::absolute_path(field.text("\"/var/lib/data\"", report)?) {
        Ok(path) => Some(path),
        Err(reason) => {
            report.add(&field.span, format!("{}: {reason}", field.what()));
            None
        }
    }
}

fn read_services(
    table: &Table<'_>,
    userland: Userland,
    report: &mut Report<'_>,
) -> BTreeMap<ServiceName, Service> {
    let example = "service.nginx = { ready.http = \":80/\" }";
    let Some(all) = table.get("service").and_then(|field| field.table(example, report)) else {
        return BTreeMap::new();
    };
    let fields = all.fields();
    if fields.len() > MAX_SERVICES {
        report.add(&all.at, format!("{} services, but a machine has at most {MAX_SERVICES}", fields.len()));
        return BTreeMap::new();
    }
    let mut drafts = BTreeMap::new();
    for field in fields {
        let name = field.parsed_name::<ServiceName>(report);
        let table = field.table(example, report);
        if let (Some(name), Some(table)) = (name, table) {
            let draft = service::read(&name, &table, userland, report);
            drafts.insert(name, draft);
        }
    }
    check::services(&drafts, report);
    drafts.into_iter().map(|(name, draft)| (name, draft.service)).collect()
}

fn read_publish(table: &Table<'_>, report: &mut Report<'_>) -> (Vec<Publish>, Vec<Span>) {
    let mut found = (Vec::new(), Vec::new());
    let Some(field) = table.get("publish") else { return found };
    for item in field.list("[\"8080:80\"]", report) {
        let Some(text) = item.text("\"8080:80\"", report) else { continue };
        let Some(publish) = value::publish(text) else {
            let wrong =
                report.add(&item.span, format!("{}: {} is not `host:guest`", item.what(), quoted(text)));
            match value::port(text) {
                Some(port) => wrong.hint(format!("Did you mean `\"{port}:{port}\"`?")),
                None => wrong.hint("Write two ports like `8080:80`, or with an address `0.0.0.0:8080:80`."),
            };
            continue;
        };
        found.0.push(publish);
        found.1.push(item.span);
    }
    found
}
