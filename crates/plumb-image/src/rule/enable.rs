//! Which units systemd starts: `deb-systemd-helper` and `systemctl enable` write links for `[Install]` of a unit
//! (systemd.unit(5), "[INSTALL] SECTION OPTIONS"), and `update-rc.d` those of an init script, of which systemd makes a
//! unit (systemd-sysv-generator(8)). Only where systemd is PID 1; elsewhere the definition says it.

use super::script::Argument;
use super::world::World;
use crate::tree::{Entry, Kind};
use crate::unit::{MAX_UNIT_BYTES, Unit};

/// Folders of unit files, most important first.
const SYSTEM: [&str; 2] = ["/etc/systemd/system", "/usr/lib/systemd/system"];
const USER: [&str; 2] = ["/etc/systemd/user", "/usr/lib/systemd/user"];

/// `Also=` may lead on and on, and back.
const MAX_UNITS: usize = 64;

/// Does the command, if it is one about units of an image with systemd. `Some(None)`: what it answers is not known.
pub(super) fn command(world: &mut World<'_>, name: &str, arguments: &[Argument]) -> Option<Option<bool>> {
    if world.init.is_plumb() || !matches!(name, "deb-systemd-helper" | "systemctl" | "update-rc.d") {
        return None;
    }
    let known: Option<Vec<&str>> = arguments.iter().map(Option::as_deref).collect();
    let Some(known) = known else { return Some(None) };
    if name == "update-rc.d" {
        return Some(run_levels(world, &known));
    }
    let is_user = known.iter().any(|word| matches!(*word, "--user" | "--global"));
    let folders = if is_user { USER } else { SYSTEM };
    let mut operands = known.into_iter().filter(|word| !word.starts_with('-'));
    let verb = operands.next().unwrap_or_default();
    let units: Vec<&str> = operands.collect();
    Some(match (name, verb) {
        ("deb-systemd-helper", "enable" | "reenable") | ("systemctl", "enable" | "reenable" | "preset") => {
            for unit in units {
                enable(world, unit, &folders);
            }
            Some(true)
        }
        ("systemctl", "disable") | ("deb-systemd-helper", "disable") => {
            for unit in units {
                disable(world, unit, folders[0]);
            }
            Some(true)
        }
        ("systemctl", "mask") | ("deb-systemd-helper", "mask") => {
            for unit in units {
                world.add(&format!("{}/{unit}", folders[0]), Entry::symlink("/dev/null"), RULE);
            }
            Some(true)
        }
        // A first installation: nothing is masked, and what the package wants is enabled.
        ("deb-systemd-helper", "unmask" | "was-enabled") => Some(true),
        // Whether a script before this line has enabled it.
        ("deb-systemd-helper", "debian-installed" | "is-enabled") | ("systemctl", "is-enabled") => {
            Some(units.iter().all(|unit| !links_to(world, unit, folders[0]).is_empty()))
        }
        ("systemctl", "is-active" | "is-failed") => Some(false),
        // Whatever else, nothing runs while an image is built.
        _ => None,
    })
}

const RULE: &str = "rule:enabled";

fn enable(world: &mut World<'_>, unit: &str, folders: &[&str]) {
    let mut wanted = vec![unit.to_owned()];
    let mut at = 0;
    while let Some(name) = wanted.get(at).cloned() {
        at += 1;
        for other in enable_one(world, &name, folders).unwrap_or_default() {
            if !wanted.contains(&other) && wanted.len() < MAX_UNITS {
                wanted.push(other);
            }
        }
    }
}

/// Returns what `Also=` names; `None` for a unit that is not there or not understood: systemctl(1) fails then, and
/// scripts go on.
fn enable_one(world: &mut World<'_>, name: &str, folders: &[&str]) -> Option<Vec<String>> {
    let name = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
    let template = name
        .split_once('@')
        .map(|(prefix, rest)| format!("{prefix}@.{}", rest.rsplit('.').next().unwrap_or_default()));
    let candidates = [Some(name.clone()), template].into_iter().flatten();
    let mut paths = candidates.flat_map(|file| folders.iter().map(move |folder| format!("{folder}/{file}")));
    let path = paths.find(|path| is_file(world, path))?;
    let text = world.text(&path).ok()??;
    let unit = (text.len() <= MAX_UNIT_BYTES).then(|| Unit::parse(&text, &[]).ok()).flatten()?;
    let list = |directive: &str| -> Vec<String> {
        let values = unit.list("Install", directive).iter();
        values.flat_map(|value| value.split_whitespace()).map(str::to_owned).collect()
    };
    // A template is enabled as the instance that it names itself.
    let name = match (name.split_once("@."), list("DefaultInstance").pop()) {
        (Some((prefix, kind)), Some(instance)) => format!("{prefix}@{instance}.{kind}"),
        _ => name,
    };
    let target =
        world.resolve(&path).filter(|real| real.ends_with(".service")).unwrap_or_else(|| path.clone());
    let own = folders[0];
    for (directive, below) in [("WantedBy", "wants"), ("RequiredBy", "requires")] {
        for by in list(directive) {
            link(world, &format!("{own}/{by}.{below}/{name}"), &target);
        }
    }
    for alias in list("Alias") {
        link(world, &format!("{own}/{alias}"), &target);
    }
    Some(list("Also"))
}

/// `update-rc.d NAME defaults` and the like: links for the run levels of the script's own header (insserv(8), "INIT SCRIPT
/// HEADER"); the order comes from its dependencies, not from a number.
fn run_levels(world: &mut World<'_>, arguments: &[&str]) -> Option<bool> {
    let mut words = arguments.iter().filter(|word| !word.starts_with('-'));
    let (name, verb) = (*words.next()?, *words.next()?);
    let text = world.text(&format!("/etc/init.d/{name}")).ok()??;
    let levels = |key: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(key));
        let levels = line.into_iter().flat_map(str::split_whitespace);
        levels.filter(|level| matches!(level.as_bytes(), [b'0'..=b'6' | b'S'])).map(str::to_owned).collect()
    };
    let (first, start) = match verb {
        "defaults" | "enable" => ('S', levels("Default-Start:")),
        "defaults-disabled" | "disable" => ('K', levels("Default-Start:")),
        _ => return None,
    };
    let ends = levels("Default-Stop:").into_iter().map(|level| ('K', level));
    for (letter, level) in start.into_iter().map(|level| (first, level)).chain(ends) {
        for other in ['S', 'K'] {
            world.tree.entries.remove(&format!("/etc/rc{level}.d/{other}01{name}"));
        }
        link(world, &format!("/etc/rc{level}.d/{letter}01{name}"), &format!("../init.d/{name}"));
    }
    Some(true)
}

fn is_file(world: &World<'_>, path: &str) -> bool {
    let entry = world.resolve(path).and_then(|real| world.tree.get(&real));
    entry.is_some_and(|entry| matches!(entry.kind, Kind::File { .. }))
}

/// A unit that is masked or a file of its own stays what it is.
fn link(world: &mut World<'_>, path: &str, target: &str) {
    let is_plain = !path.split('/').any(|part| part == "..") && !path.contains('%');
    if is_plain && path != target && world.tree.get(path).is_none() {
        world.add(path, Entry::symlink(target), RULE);
    }
}

fn disable(world: &mut World<'_>, unit: &str, folder: &str) {
    for path in links_to(world, unit, folder) {
        world.tree.entries.remove(&path);
    }
}

/// Links by which a unit is started with another one.
fn links_to(world: &World<'_>, unit: &str, folder: &str) -> Vec<String> {
    let below = format!("{folder}/");
    let links = world.tree.entries.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
    let is_of_unit = |path: &str| {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        name == unit && (parent.ends_with(".wants") || parent.ends_with(".requires"))
    };
    links.filter(|(path, _)| is_of_unit(path)).map(|(path, _)| path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use plumb_model::definition::Init;

    use super::*;
    use crate::fixture::Folder;

    /// Runs commands and prints the links they made.
    fn links(units: &[(&str, &str)], commands: &[&str]) -> Vec<String> {
        let objects = Folder::new();
        let mut world = World::new(&objects);
        world.init = Init::Systemd;
        for (path, text) in units {
            objects.file(&mut world.tree, path, 0o644, text.as_bytes());
        }
        world.tree.close();
        for line in commands {
            let words: Vec<Argument> = line.split(' ').map(|word| Some(word.to_owned())).collect();
            let name = words[0].clone().expect("a name");
            command(&mut world, &name, &words[1..]).expect("a command about units");
        }
        let made = world.tree.entries.iter().filter_map(|(path, (entry, _))| match &entry.kind {
            Kind::Symlink { target } => Some(format!("{path} -> {target}")),
            _ => None,
        });
        made.collect()
    }

    const NGINX: &str = "[Install]\nWantedBy=multi-user.target\nAlias=web.service\nAlso=nginx.socket\n";

    #[test]
    fn links_of_the_install_section() {
        let units = [
            ("/usr/lib/systemd/system/nginx.service", NGINX),
            (
                "/usr/lib/systemd/system/nginx.socket",
                "[Install]\nWantedBy=sockets.target\nAlso=nginx.service\n",
            ),
        ];
        let expected = [
            "/etc/systemd/system/multi-user.target.wants/nginx.service -> /usr/lib/systemd/system/nginx.service",
            "/etc/systemd/system/sockets.target.wants/nginx.socket -> /usr/lib/systemd/system/nginx.socket",
            "/etc/systemd/system/web.service -> /usr/lib/systemd/system/nginx.service",
        ];
        assert_eq!(links(&units, &["deb-systemd-helper enable nginx.service"]), expected);
        assert_eq!(links(&units, &["systemctl enable nginx"]), expected);
        let none = links(&units, &["deb-systemd-helper --quiet was-enabled nginx.service"]);
        assert!(none.is_empty(), "{none:?}");
        let left = links(&units[1..], &["systemctl enable nginx.socket", "systemctl disable nginx.socket"]);
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn instances_users_and_what_is_not_there() {
        let units = [
            ("/usr/lib/systemd/system/a@.service", "[Install]\nWantedBy=x.target\nDefaultInstance=one\n"),
            ("/usr/lib/systemd/user/u.service", "[Install]\nRequiredBy=default.target\n"),
        ];
        assert_eq!(
            links(
                &units,
                &[
                    "systemctl enable a@.service a@two.service none",
                    "deb-systemd-helper --user enable u.service"
                ]
            ),
            [
                "/etc/systemd/system/x.target.wants/a@one.service -> /usr/lib/systemd/system/a@.service",
                "/etc/systemd/system/x.target.wants/a@two.service -> /usr/lib/systemd/system/a@.service",
                "/etc/systemd/user/default.target.requires/u.service -> /usr/lib/systemd/user/u.service",
            ]
        );
        let masked = links(
            &[("/usr/lib/systemd/system/nginx.service", NGINX)],
            &["systemctl mask web.service", "systemctl enable nginx"],
        );
        assert!(masked.contains(&"/etc/systemd/system/web.service -> /dev/null".to_owned()), "{masked:?}");
        let hostile =
            [("/usr/lib/systemd/system/h.service", "[Install]\nWantedBy=../../passwd\nAlias=%i.service\n")];
        assert!(links(&hostile, &["systemctl enable h"]).is_empty());
    }

    #[test]
    fn init_scripts_by_their_header() {
        let script =
            "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: a\n# Default-Start:  2 3 x\n# Default-Stop: 0\n";
        let units = [("/etc/init.d/a", script)];
        let expected = [
            "/etc/rc0.d/K01a -> ../init.d/a",
            "/etc/rc2.d/S01a -> ../init.d/a",
            "/etc/rc3.d/S01a -> ../init.d/a",
        ];
        assert_eq!(links(&units, &["update-rc.d a defaults", "update-rc.d b defaults"]), expected);
        let disabled = links(&units, &["update-rc.d a defaults", "update-rc.d a disable"]);
        assert!(disabled.iter().all(|link| link.contains("/K01a")), "{disabled:?}");
    }

    #[test]
    fn what_is_enabled_is_known() {
        let objects = Folder::new();
        let mut world = World::new(&objects);
        world.init = Init::Systemd;
        objects.file(&mut world.tree, "/usr/lib/systemd/system/nginx.service", 0o644, NGINX.as_bytes());
        world.tree.close();
        let mut answer = |line: &str| {
            let words: Vec<Argument> = line.split(' ').map(|word| Some(word.to_owned())).collect();
            command(&mut world, "deb-systemd-helper", &words).flatten()
        };
        assert_eq!(answer("debian-installed nginx.service"), Some(false));
        assert_eq!(answer("enable nginx.service"), Some(true));
        assert_eq!(answer("debian-installed nginx.service"), Some(true));
        assert_eq!(answer("disable nginx.service"), Some(true));
        assert_eq!(answer("debian-installed nginx.service"), Some(false));
        assert_eq!(answer("update-state nginx.service"), None);
    }

    #[test]
    fn without_systemd_it_is_nobodys_business() {
        let objects = Folder::new();
        let mut world = World::new(&objects);
        assert_eq!(command(&mut world, "systemctl", &[Some("enable".into())]), None);
    }
}
