//! `plumb diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use plumb_ops::{
    Cause, Change, Compared, Diff, DifferenceKind, Figure, FileChange, MachineDiff, OpsError, PackageChange,
    Presence, Running,
};

use super::Session;
use crate::args::Diff as Arguments;
use crate::output::{err, out};
use crate::render::{self, bytes, duration, page, tell};

/// Names of vulnerabilities in one line; `--json` and the page have all.
const NAMES: usize = 6;

pub(super) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<(), OpsError> {
    let one = Compared::parse(&arguments.one)?;
    let other = arguments.other.as_deref().map(Compared::parse).transpose()?;
    let diff = session.plumb.diff(&one, other.as_ref())?;
    session.live.clear();
    if let Some(path) = &arguments.html {
        let failed = |source| OpsError::Io { action: "write", path: path.clone(), source };
        fs::write(path, page::of(&diff)).map_err(failed)?;
    }
    if session.global.json {
        render::json(&diff);
    } else {
        print(&diff, arguments.files);
    }
    let changes = diff.unknown();
    if changes.is_empty() { Ok(()) } else { Err(OpsError::Unattributed { changes }) }
}

/// The short form.
pub(super) fn print_short(diff: &Diff) {
    print(diff, false);
}

fn print(diff: &Diff, all_files: bool) {
    out!("{} -> {}", diff.before, diff.after);
    if diff.is_empty() {
        out!("nothing differs");
    }
    running(&diff.running);
    diff.notes.iter().for_each(|note| err!("note: {note}"));
    list("set", diff.set.iter());
    for (name, machine) in &diff.machines {
        match machine.presence {
            Presence::Added => out!("\nmachine {name}: new"),
            Presence::Removed => out!("\nmachine {name}: gone"),
            Presence::Both => out!("\nmachine {name}"),
        }
        print_machine(machine, all_files);
    }
}

/// Where what runs is not what its release says.
fn running(found: &[Running]) {
    if found.is_empty() {
        return;
    }
    out!("  running");
    for one in found {
        let Running { deployment, instance, what, expected, found, .. } = one;
        tell(4, &format!("{deployment}/{instance}: {what} {found}, not {expected}"));
    }
    let notes: BTreeSet<&str> = found.iter().filter_map(|one| one.why.as_deref()).collect();
    notes.into_iter().for_each(|note| tell(6, note));
}

fn print_machine(machine: &MachineDiff, all_files: bool) {
    if !machine.packages.is_empty() {
        out!("  packages");
        machine.packages.iter().for_each(package);
    }
    others(machine);
    list("settings", machine.settings.iter());
    list("services", machine.services.iter());
    list("accounts", machine.accounts.iter());
    list("kernel", machine.kernel.iter());
    list("libraries", machine.libraries.iter());
    if !machine.files.is_empty() {
        out!("  files");
        if all_files {
            machine.files.iter().for_each(|file| tell(4, &file_text(file)));
        } else {
            files(&machine.files);
        }
    }
    if !machine.figures.is_empty() {
        out!("  figures");
        machine.figures.iter().for_each(|figure| tell(4, &figure_text(figure)));
    }
}

fn package(change: &PackageChange) {
    let versions = arrow(change.before.as_deref(), change.after.as_deref());
    tell(4, &format!("{} {versions}", change.name));
    tell(6, &change.cause.to_string());
    vulnerabilities(6, "fixes", change.fixes.iter());
    vulnerabilities(6, "brings", change.brings.iter());
}

/// Vulnerabilities that stand with no package: those of the kernel, or of a machine that is new or gone.
fn others(machine: &MachineDiff) {
    let packages = || machine.packages.iter();
    let without = |all: &BTreeSet<String>, named: BTreeSet<&String>| -> Vec<String> {
        all.iter().filter(|name| !named.contains(name)).cloned().collect()
    };
    let fixes = without(&machine.fixes, packages().flat_map(|change| &change.fixes).collect());
    let brings = without(&machine.brings, packages().flat_map(|change| &change.brings).collect());
    if fixes.is_empty() && brings.is_empty() {
        return;
    }
    match machine.presence {
        Presence::Both => out!("  vulnerabilities of the kernel"),
        Presence::Added | Presence::Removed => out!("  vulnerabilities"),
    }
    vulnerabilities(4, "fixes", fixes.iter());
    vulnerabilities(4, "brings", brings.iter());
}

fn vulnerabilities<'n>(indent: usize, word: &str, names: impl ExactSizeIterator<Item = &'n String>) {
    let more = names.len().saturating_sub(NAMES);
    let named: Vec<&str> = names.take(NAMES).map(String::as_str).collect();
    if !named.is_empty() {
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        tell(indent, &format!("{word} {}{more}", named.join(", ")));
    }
}

fn list<'c>(title: &str, changes: impl ExactSizeIterator<Item = &'c Change>) {
    if changes.len() == 0 {
        return;
    }
    out!("  {title}");
    for change in changes {
        let values = arrow(change.before.as_deref(), change.after.as_deref());
        tell(4, &format!("{}: {values}", change.what));
        tell(6, &change.cause.to_string());
    }
}

/// `a -> b`, `new: b`, `gone: a`.
pub(crate) fn arrow(before: Option<&str>, after: Option<&str>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("{before} -> {after}"),
        (None, Some(after)) => format!("new: {after}"),
        (Some(before), None) => format!("gone: {before}"),
        (None, None) => String::new(),
    }
}

/// By cause, as most files change because one package did; what changes in rights is always named.
fn files(changes: &[FileChange]) {
    let mut causes: BTreeMap<String, (usize, usize, usize)> = BTreeMap::new();
    for change in changes {
        let counts = causes.entry(change.cause.to_string()).or_default();
        match change.what {
            DifferenceKind::Added => counts.0 += 1,
            DifferenceKind::Missing => counts.1 += 1,
            _ => counts.2 += 1,
        }
    }
    for (cause, (new, gone, changed)) in causes {
        let words = [(new, "new"), (gone, "gone"), (changed, "changed")];
        let words: Vec<String> = words
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        tell(4, &format!("{}: {cause}", words.join(", ")));
    }
    for change in changes.iter().filter(|change| change.privilege) {
        tell(4, &format!("rights: {}", file_text(change)));
    }
}

/// One line about a path.
fn file_text(change: &FileChange) -> String {
    format!("{} {}; {}", change.path, what_text(&change.what), change.cause)
}

/// What of a path differs, in words.
pub(crate) fn what_text(what: &DifferenceKind) -> String {
    match what {
        DifferenceKind::Missing => "gone".to_owned(),
        DifferenceKind::Added => "new".to_owned(),
        DifferenceKind::Kind { before, after } => format!("{before} -> {after}"),
        DifferenceKind::Content { before_bytes, after_bytes } => {
            format!("{} -> {}", bytes(*before_bytes), bytes(*after_bytes))
        }
        DifferenceKind::Target { before, after } => format!("leads to {before} -> {after}"),
        DifferenceKind::Mode { before, after } => format!("mode {before:04o} -> {after:04o}"),
        DifferenceKind::Owner { before, after } => {
            format!("owner {}:{} -> {}:{}", before.0, before.1, after.0, after.1)
        }
        DifferenceKind::Attributes => "other attributes or capabilities".to_owned(),
        DifferenceKind::Links => "other hard links".to_owned(),
    }
}

/// A figure with its unit, and how much it grew.
pub(crate) fn figure_text(figure: &Figure) -> String {
    let text = |value: u64| match figure.unit {
        "B" => bytes(value),
        "KiB" => bytes(value * 1024),
        "ms" => duration(value),
        _ => value.to_string(),
    };
    let (before, after) = (figure.before.map(text), figure.after.map(text));
    format!("{}: {}", figure.what, arrow(before.as_deref(), after.as_deref()))
}

/// Whether a cause is one that somebody has to be told about.
pub(crate) fn is_unknown(cause: &Cause) -> bool {
    *cause == Cause::Unknown
}
