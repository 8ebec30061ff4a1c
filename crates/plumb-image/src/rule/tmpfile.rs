//! tmpfiles.d(5): lines that make something become entries of the tree, or directories of the boot.

use std::io;

use super::Report;
use super::world::{BootDirectory, World};
use crate::tree::{Entry, Kind};

/// Files of tmpfiles.d that belong to systemd as PID 1, which an image does not run.
const FOREIGN: [&str; 14] = [
    "debian.conf",
    "home.conf",
    "journal-nocow.conf",
    "legacy.conf",
    "provision.conf",
    "static-nodes-permissions.conf",
    "systemd-network.conf",
    "systemd-nologin.conf",
    "systemd-pstore.conf",
    "systemd-tmp.conf",
    "systemd.conf",
    "tmp.conf",
    "var.conf",
    "x11.conf",
];

/// Applies all files of `/usr/lib/tmpfiles.d`; a file of the same name in `/etc` replaces one.
///
/// # Errors
/// What reading or keeping file contents says.
pub(crate) fn apply(world: &mut World<'_>) -> io::Result<Vec<Report>> {
    let mut files = std::collections::BTreeMap::new();
    for directory in ["/usr/lib/tmpfiles.d/", "/etc/tmpfiles.d/"] {
        for (path, (_, origin)) in world.tree.entries.range(directory.to_owned()..) {
            let Some(name) = path.strip_prefix(directory) else { break };
            if name.ends_with(".conf") && !name.contains('/') && !FOREIGN.contains(&name) {
                files.insert(name.to_owned(), (path.clone(), origin.source.clone()));
            }
        }
    }
    let mut reports = Vec::new();
    for (path, package) in files.into_values() {
        let text = world.text(&path)?.unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut unhandled = Vec::new();
        for text in lines {
            if line(world, text)?.is_none() && !is_done_at_boot(world, text) {
                unhandled.push(text.to_owned());
            }
        }
        if !unhandled.is_empty() {
            reports.push(Report { package, script: path, unhandled });
        }
    }
    Ok(reports)
}

/// systemd does it itself at every boot, in the places that can be written to.
fn is_done_at_boot(world: &World<'_>, line: &str) -> bool {
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    !world.init.is_plumb() && (World::is_volatile(path) || path.starts_with("/var/"))
}

fn line(world: &mut World<'_>, line: &str) -> io::Result<Option<()>> {
    let Some(fields) = shlex::split(line) else { return Ok(None) };
    let field = |at: usize| fields.get(at).map(String::as_str).filter(|field| *field != "-").unwrap_or("");
    let kind = field(0).trim_end_matches(['!', '-', '=', '~', '^', '$']);
    let argument = fields.get(6..).unwrap_or_default().join(" ").replace("%%", "%");
    if field(1).contains('%') || (matches!(kind, "L" | "L+") && argument.contains('%')) {
        return Ok(None);
    }
    let Some(path) = world.place(field(1)) else { return Ok(None) };
    let mode = field(2).trim_start_matches(['~', ':']);
    let (user, group) = (field(3).trim_start_matches(':'), field(4).trim_start_matches(':'));
    let parse =
        |default: u32| if mode.is_empty() { Some(default) } else { u32::from_str_radix(mode, 8).ok() };
    let Some(mode) = parse(if matches!(kind, "f" | "f+" | "F" | "w") { 0o644 } else { 0o755 }) else {
        return Ok(None);
    };
    match kind {
        // Removal, clean-up by age and attributes of existing files: nothing that must exist.
        "x" | "X" | "r" | "R" | "e" | "h" | "H" | "a" | "A" | "a+" | "A+" | "t" | "T" | "m" => {
            return Ok(Some(()));
        }
        "d" | "D" | "v" | "q" | "Q" => {
            if World::is_volatile(&path) {
                let or_root = |name: &str| if name.is_empty() { "root".to_owned() } else { name.to_owned() };
                let directory = BootDirectory { mode, user: or_root(user), group: or_root(group) };
                world.boot_directories.insert(path, directory);
                return Ok(Some(()));
            }
            world.add(&path, Entry::directory(mode), "rule:tmpfiles");
        }
        "z" | "Z" if World::is_volatile(&path) => {
            if let Some(directory) = world.boot_directories.get_mut(&path) {
                let or =
                    |name: &str, old: &str| if name.is_empty() { old.to_owned() } else { name.to_owned() };
                directory.user = or(user, &directory.user);
                directory.group = or(group, &directory.group);
                directory.mode = if field(2).is_empty() { directory.mode } else { mode };
            }
            return Ok(Some(()));
        }
        _ if World::is_volatile(&path) => return Ok(None),
        "L" | "L+" | "L?" => {
            let name = path.rsplit('/').next().unwrap_or_default();
            let target = if argument.is_empty() { format!("/usr/share/factory/{name}") } else { argument };
            world.add(&path, Entry::symlink(target), "rule:tmpfiles");
            return Ok(Some(()));
        }
        "f" | "f+" | "F" if !world.tree.entries.contains_key(&path) => {
            world.write(&path, argument.as_bytes(), mode, &World::origin("rule:tmpfiles"))?;
        }
        "z" | "Z" | "f" | "f+" | "F" => {}
        _ => return Ok(None),
    }
    if let Some((entry, _)) = world.tree.entries.get_mut(&path)
        && !field(2).is_empty()
        && !matches!(entry.kind, Kind::Symlink { .. })
    {
        entry.mode = mode;
    }
    let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    world.own(&path, kind == "Z", name(user).as_deref(), name(group).as_deref());
    Ok(Some(()))
}
