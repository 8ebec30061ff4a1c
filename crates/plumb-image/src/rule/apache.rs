//! Apache's switches (a2enmod(8), a2query(1)): links from `…-available` to `…-enabled`.

use super::call::known;
use super::filter::{Outcome, letters};
use super::script::Argument;
use super::world::World;
use crate::tree::Entry;

/// Deepest chain of modules that need each other.
const MAX_DEPTH: usize = 16;

/// Folder and endings of a kind of switch.
fn kind(name: &str) -> Option<(&'static str, &'static [&'static str])> {
    match name {
        "mod" | "m" => Some(("mods", &["load", "conf"])),
        "conf" | "c" => Some(("conf", &["conf"])),
        "site" | "s" => Some(("sites", &["conf"])),
        _ => None,
    }
}

/// `a2enmod`, `a2dissite`, …
pub(super) fn switch(world: &mut World<'_>, source: &str, command: &str, arguments: &[&str]) -> Option<()> {
    let (enables, what) = match command.strip_prefix("a2en") {
        Some(what) => (true, what),
        None => (false, command.strip_prefix("a2dis")?),
    };
    for name in arguments.iter().filter(|argument| !argument.starts_with('-')) {
        let name = name.trim_end_matches(".conf").trim_end_matches(".load");
        if enables {
            enable(world, source, what, name, 0)?;
        } else {
            let (folder, endings) = kind(what)?;
            if name.contains('/') {
                return None;
            }
            for ending in endings {
                world.tree.entries.remove(&format!("/etc/apache2/{folder}-enabled/{name}.{ending}"));
            }
        }
    }
    Some(())
}

fn enable(world: &mut World<'_>, source: &str, what: &str, name: &str, depth: usize) -> Option<()> {
    let (folder, endings) = kind(what)?;
    if depth > MAX_DEPTH || name.contains('/') {
        return None;
    }
    let mut found = false;
    for ending in endings {
        let available = format!("/etc/apache2/{folder}-available/{name}.{ending}");
        let Some(text) = world.text(&available).ok()? else { continue };
        found = true;
        let needs = text.lines().filter_map(|line| line.strip_prefix("# Depends:"));
        for need in needs.flat_map(str::split_whitespace).map(str::to_owned).collect::<Vec<_>>() {
            enable(world, source, what, &need, depth + 1)?;
        }
        // a2enmod names the default site so that it comes first.
        let link = if folder == "sites" && name == "000-default" { "000-default" } else { name };
        let target = Entry::symlink(format!("../{folder}-available/{name}.{ending}"));
        world.add(&format!("/etc/apache2/{folder}-enabled/{link}.{ending}"), target, source);
    }
    found.then_some(())
}

fn enabled_line(name: &str) -> String {
    format!("{name} (enabled by maintainer script)\n")
}

/// `a2query -m NAME`, `-M` for the way of serving, `-a` for the version of the module interface.
pub(super) fn query(world: &World<'_>, arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (options, operands) = letters(&arguments, "", &[])?;
    let letter = options.iter().map(|(letter, _)| *letter).find(|letter| "mcsMa".contains(*letter))?;
    match letter {
        'M' => {
            let folder = "/etc/apache2/mods-enabled/mpm_";
            let (path, _) = world.tree.entries.range(folder.to_owned()..).next()?;
            let name = path.strip_prefix(folder)?.split('.').next()?;
            Some((Some(format!("{name}\n")), Some(true)))
        }
        'a' => Some((Some("20120211\n".to_owned()), Some(true))),
        letter => {
            let (folder, endings) = kind(&letter.to_string())?;
            let Some(name) = operands.first() else {
                let top = format!("/etc/apache2/{folder}-enabled/");
                let end = format!(".{}", endings[0]);
                let paths =
                    world.tree.entries.range(top.clone()..).map_while(|(path, _)| path.strip_prefix(&top));
                let names = paths.filter_map(|path| path.strip_suffix(&end));
                return Some((Some(names.map(enabled_line).collect()), Some(true)));
            };
            let path = format!("/etc/apache2/{folder}-enabled/{name}.{}", endings[0]);
            let enabled = world.tree.entries.contains_key(&path);
            Some((Some(if enabled { enabled_line(name) } else { String::new() }), Some(enabled)))
        }
    }
}
