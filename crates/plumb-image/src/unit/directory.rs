//! `RuntimeDirectory=` and its kin: systemd.exec(5).

use std::collections::BTreeMap;

use plumb_guest_proto::Directory;

use super::identity::Identity;
use super::specifier::UnitName;
use super::{Notes, Severity, UnitError, parse::Unit, value, word};

/// Directive, where its directories lie, and the variable that names them to the service.
const FAMILIES: [(&str, &str, &str); 5] = [
    ("RuntimeDirectory", "/run", "RUNTIME_DIRECTORY"),
    ("StateDirectory", "/var/lib", "STATE_DIRECTORY"),
    ("CacheDirectory", "/var/cache", "CACHE_DIRECTORY"),
    ("LogsDirectory", "/var/log", "LOGS_DIRECTORY"),
    ("ConfigurationDirectory", "/etc", "CONFIGURATION_DIRECTORY"),
];

/// Directories to make before each start, and the variables that name them.
pub(super) fn of_unit(
    unit: &Unit,
    name: &UnitName,
    owner: &Identity,
    notes: &mut Notes,
) -> Result<(Vec<Directory>, BTreeMap<String, String>), UnitError> {
    let mut directories = Vec::new();
    let mut environment = BTreeMap::new();
    for (directive, base, variable) in FAMILIES {
        let mut paths = Vec::new();
        for line in unit.list("Service", directive) {
            let words = word::words(line).unwrap_or_else(|reason| {
                notes.add(Severity::Unsupported, directive, format!("`{line}` is not understood: {reason}"));
                Vec::new()
            });
            for entry in words {
                let entry = name.expand(directive, &entry)?;
                paths.extend(full_path(base, directive, &entry, notes));
            }
        }
        if paths.is_empty() {
            continue;
        }
        environment.insert(variable.to_owned(), paths.join(":"));
        if base == "/etc" {
            let message = "directories below `/etc` must come from a package or the definition";
            notes.add(Severity::Info, directive, message);
            continue;
        }
        let mode = mode(unit, &format!("{directive}Mode"), notes);
        for path in &paths {
            push_with_parents(&mut directories, base, path, (mode, owner));
        }
    }
    Ok((directories, environment))
}

/// `name`, or `name:link` (the link is not made). Must stay below `base`.
fn full_path(base: &str, directive: &str, entry: &str, notes: &mut Notes) -> Option<String> {
    let (path, link) = entry.split_once(':').unwrap_or((entry, ""));
    if !link.is_empty() {
        notes.add(Severity::Unsupported, directive, format!("the link `{base}/{link}` is not made"));
    }
    let path = path.trim_end_matches('/');
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.split('/').all(is_plain) {
        return Some(format!("{base}/{path}"));
    }
    notes.add(Severity::Unsupported, directive, format!("`{entry}` is not a path below `{base}`"));
    None
}

fn mode(unit: &Unit, directive: &str, notes: &mut Notes) -> u32 {
    let Some(text) = unit.last("Service", directive) else { return 0o755 };
    value::mode(text).unwrap_or_else(|| {
        notes.add(Severity::Unsupported, directive, format!("`{text}` is not an octal mode; 0755 is used"));
        0o755
    })
}

/// Parents of a nested directory belong to root, like systemd makes them.
fn push_with_parents(all: &mut Vec<Directory>, base: &str, path: &str, (mode, owner): (u32, &Identity)) {
    let mut push = |directory: Directory| {
        if !all.iter().any(|known| known.path == directory.path) {
            all.push(directory);
        }
    };
    for (cut, _) in path.match_indices('/').filter(|(cut, _)| *cut > base.len()) {
        push(Directory { path: path[..cut].to_owned(), mode: 0o755, uid: 0, gid: 0 });
    }
    push(Directory { path: path.to_owned(), mode, uid: owner.record.uid, gid: owner.record.gid });
}
