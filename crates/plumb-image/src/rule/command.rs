//! Commands of maintainer scripts that change the tree, done to the tree.
//!
//! Each function returns `None` for a form it does not understand; the caller reports the line.

use std::io;

use super::account::WantedUser;
use super::world::{BootDirectory, World};
use super::{capability, mode};
use crate::tree::{Entry, Kind};

/// Does one command whose arguments are all known.
pub(super) fn apply(world: &mut World<'_>, package: &str, name: &str, arguments: &[String]) -> Option<()> {
    let source = format!("rule:script:{package}");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match name {
        "adduser" | "useradd" => add_user(world, name == "adduser", &arguments),
        "addgroup" | "groupadd" => add_group(world, name == "addgroup", &arguments),
        "usermod" => change_user(world, &arguments),
        "gpasswd" => match arguments[..] {
            ["-a" | "--add", user, group] => world.accounts.member(user, group).ok(),
            _ => None,
        },
        "mkdir" => make_directories(world, &source, &arguments),
        "install" => install(world, &source, &arguments),
        "chown" | "chgrp" => change_owner(world, name == "chgrp", &arguments),
        "chmod" => change_mode(world, &arguments),
        "ln" => link(world, &source, &arguments),
        "cp" => copy(world, &source, &arguments),
        "touch" => {
            arguments.iter().filter(|a| !a.starts_with('-')).try_for_each(|path| touch(world, &source, path))
        }
        "rm" | "rmdir" => remove(world, &arguments),
        "dpkg-statoverride" => override_mode(world, &arguments),
        "dpkg-divert" => divert(world, package, &arguments),
        "update-alternatives" => {
            world.alternatives.call(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
        }
        "ucf" => configuration(world, &source, &arguments),
        "configure-symlinks" => match arguments[..] {
            // mysql-common's helper: one alternative for /etc/mysql/my.cnf per variant.
            ["install", variant, path] => {
                let priority = if variant == "mariadb" { "500" } else { "300" };
                let call = ["--install", "/etc/mysql/my.cnf", "my.cnf", path, priority];
                world.alternatives.call(&call.map(str::to_owned))
            }
            _ => None,
        },
        "a2enmod" | "a2enconf" | "a2ensite" => enable(world, &source, name, &arguments),
        "setcap" => match arguments[..] {
            [capabilities, path] | ["-q", capabilities, path] => set_capability(world, capabilities, path),
            _ => None,
        },
        _ => None,
    }
}

/// Writes or appends text, as a redirection does. The mode is that of a fresh file under umask 022.
pub(super) fn write(
    world: &mut World<'_>,
    package: &str,
    path: &str,
    text: &str,
    append: bool,
) -> io::Result<()> {
    let path = world.tree.resolve(path).unwrap_or_else(|| path.to_owned());
    let old = if append { world.text(&path)?.unwrap_or_default() } else { String::new() };
    let mode = world.tree.get(&path).map_or(0o644, |entry| entry.mode);
    world.write(
        &path,
        format!("{old}{text}").as_bytes(),
        mode,
        &World::origin(&format!("rule:script:{package}")),
    )
}

/// Splits options from operands. `takes_value` lists the options whose value is the next argument.
fn options<'a>(arguments: &[&'a str], takes_value: &[&str]) -> (Vec<(&'a str, &'a str)>, Vec<&'a str>) {
    let (mut found, mut operands) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "--" {
            operands.extend(rest.by_ref());
        } else if let Some((name, value)) = argument.split_once('=').filter(|_| argument.starts_with("--")) {
            found.push((name, value));
        } else if takes_value.contains(argument) {
            found.push((*argument, rest.next().copied().unwrap_or("")));
        } else if argument.starts_with('-') && argument.len() > 1 {
            found.push((*argument, ""));
        } else {
            operands.push(*argument);
        }
    }
    (found, operands)
}

fn get<'a>(options: &[(&'a str, &'a str)], names: &[&str]) -> Option<&'a str> {
    options.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value)
}

const USER_VALUES: [&str; 14] = [
    "--home",
    "--shell",
    "--uid",
    "--gid",
    "--ingroup",
    "--gecos",
    "--comment",
    "-d",
    "-s",
    "-u",
    "-g",
    "-c",
    "-G",
    "-k",
];

/// adduser(8) and useradd(8). Of adduser only `--system` and `adduser USER GROUP`: people are not made by packages.
fn add_user(world: &mut World<'_>, debian: bool, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &USER_VALUES);
    if debian && operands.len() == 2 {
        return world.accounts.member(operands[0], operands[1]).ok();
    }
    let [name] = operands[..] else { return None };
    let system = get(&given, &["--system", "-r"]).is_some();
    if debian && !system {
        return None;
    }
    let own_group = if debian {
        get(&given, &["--group"]).is_some()
    } else {
        get(&given, &["-N", "--no-user-group"]).is_none()
    };
    // `--group` with a value is useradd's spelling of a primary group nowhere; `--gid` and `-g` are.
    let group = get(&given, &["--ingroup", "--gid", "-g"]).map(str::to_owned);
    let group = group.filter(|group| group.parse::<u32>().is_err());
    let home =
        get(&given, &["--home", "--home-dir", "-d"]).unwrap_or(if debian { "/nonexistent" } else { "" });
    let home = if home.is_empty() { format!("/home/{name}") } else { home.to_owned() };
    let user = WantedUser {
        uid: get(&given, &["--uid", "-u"]).and_then(|uid| uid.parse().ok()),
        group: group.or_else(|| own_group.then(|| name.to_owned())),
        gecos: get(&given, &["--gecos", "--comment", "-c"]).unwrap_or("").to_owned(),
        home: home.clone(),
        shell: get(&given, &["--shell", "-s"]).unwrap_or("").to_owned(),
    };
    let primary = user.group.clone();
    world.accounts.user(name, user).ok()?;
    let makes_home = if debian {
        get(&given, &["--no-create-home"]).is_none()
    } else {
        get(&given, &["-m", "--create-home"]).is_some()
    };
    if makes_home
        && home != "/nonexistent"
        && !World::is_volatile(&home)
        && world.tree.resolve(&home).is_none()
    {
        let path = world.place(&home)?;
        world.add(&path, Entry::directory(0o755), "rule:accounts");
        world.own(&path, false, Some(name), primary.as_deref());
    }
    Some(())
}

fn add_group(world: &mut World<'_>, debian: bool, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["--gid", "-g"]);
    match operands[..] {
        [name] => {
            world.accounts.group(name, get(&given, &["--gid", "-g"]).and_then(|gid| gid.parse().ok())).ok()
        }
        [user, group] if debian => world.accounts.member(user, group).ok(),
        _ => None,
    }
}

/// usermod(8): only what adds to groups; the rest repairs accounts of earlier versions.
fn change_user(world: &mut World<'_>, arguments: &[&str]) -> Option<()> {
    let (given, operands) =
        options(arguments, &["-G", "--groups", "-aG", "-d", "--home", "-s", "--shell", "-c", "-p"]);
    let [user] = operands[..] else { return None };
    let groups = get(&given, &["-G", "--groups", "-aG"])?;
    groups.split(',').try_for_each(|group| world.accounts.member(user, group).ok())
}

fn make_directories(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["-m", "--mode"]);
    let mode = match get(&given, &["-m", "--mode"]) {
        Some(mode) => mode::change(0o777, mode, true)?,
        None => 0o755,
    };
    operands.iter().try_for_each(|path| directory(world, source, path, mode))
}

/// A directory with its parents: in the tree, or at boot if the place is empty at boot.
fn directory(world: &mut World<'_>, source: &str, path: &str, mode: u32) -> Option<()> {
    let path = world.place(path)?;
    if World::is_volatile(&path) {
        let directory = BootDirectory { mode, user: "root".into(), group: "root".into() };
        world.boot_directories.entry(path).or_insert(directory);
        return Some(());
    }
    match world.tree.get(&path).map(|entry| &entry.kind) {
        None => world.add(&path, Entry::directory(mode), source),
        Some(Kind::Directory | Kind::Symlink { .. }) => {}
        Some(Kind::File { .. }) => return None,
    }
    Some(())
}

/// install(1): `-d` directories, or files with owner and mode.
fn install(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let values = ["-m", "--mode", "-o", "--owner", "-g", "--group"];
    let (given, operands) = options(arguments, &values);
    let mode = get(&given, &["-m", "--mode"]).map_or(Some(0o755), |mode| mode::change(0o777, mode, true))?;
    let (user, group) = (get(&given, &["-o", "--owner"]), get(&given, &["-g", "--group"]));
    let targets: Vec<&str> = if get(&given, &["-d", "--directory"]).is_some() {
        operands.iter().try_for_each(|path| directory(world, source, path, mode))?;
        operands
    } else {
        let [from, to] = operands[..] else { return None };
        copy(world, source, &[from, to])?;
        vec![to]
    };
    for path in targets {
        set_mode(world, path, |_, _| Some(mode))?;
        set_owner(world, path, user, group, false)?;
    }
    Some(())
}

fn change_owner(world: &mut World<'_>, group_only: bool, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    let (owner, paths) = operands.split_first()?;
    let recursive = given
        .iter()
        .any(|(name, _)| *name == "--recursive" || (!name.starts_with("--") && name.contains('R')));
    let (user, group) = if group_only {
        (None, Some(*owner))
    } else {
        let (user, group) = owner.split_once([':', '.']).unwrap_or((owner, ""));
        (Some(user).filter(|user| !user.is_empty()), Some(group).filter(|group| !group.is_empty()))
    };
    paths.iter().try_for_each(|path| set_owner(world, path, user, group, recursive))
}

fn set_owner(
    world: &mut World<'_>,
    path: &str,
    user: Option<&str>,
    group: Option<&str>,
    recursive: bool,
) -> Option<()> {
    let path = world.tree.resolve(path).or_else(|| world.place(path))?;
    if let Some(directory) = world.boot_directories.get_mut(&path) {
        directory.user = user.unwrap_or(&directory.user).to_owned();
        directory.group = group.unwrap_or(&directory.group).to_owned();
    } else if !World::is_volatile(&path) {
        world.own(&path, recursive, user, group);
    }
    Some(())
}

fn change_mode(world: &mut World<'_>, arguments: &[&str]) -> Option<()> {
    // `chmod -x file` is a mode, not an option.
    let is_option =
        |argument: &&&str| matches!(**argument, "-R" | "-f" | "-v" | "-c" | "--recursive" | "--quiet");
    let recursive = arguments.iter().any(|argument| matches!(*argument, "-R" | "--recursive"));
    let operands: Vec<&str> = arguments.iter().filter(|a| !is_option(a)).copied().collect();
    let (wanted, paths) = operands.split_first()?;
    for path in paths {
        set_mode(world, path, |old, is_directory| mode::change(old, wanted, is_directory))?;
        let Some(top) = world.tree.resolve(path).filter(|_| recursive) else { continue };
        world.spend(world.tree.entries.len());
        let below = format!("{}/", top.trim_end_matches('/'));
        for (path, (entry, _)) in world.tree.entries.range_mut(below.clone()..) {
            if !path.starts_with(&below) {
                break;
            }
            if !matches!(entry.kind, Kind::Symlink { .. }) {
                entry.mode = mode::change(entry.mode, wanted, entry.kind == Kind::Directory)?;
            }
        }
    }
    Some(())
}

/// Sets the mode of what is there; a path that does not exist is no error, as scripts say `|| true`.
fn set_mode(world: &mut World<'_>, path: &str, change: impl Fn(u32, bool) -> Option<u32>) -> Option<()> {
    let path = world.tree.resolve(path).or_else(|| world.place(path))?;
    if let Some(directory) = world.boot_directories.get_mut(&path) {
        directory.mode = change(directory.mode, true)?;
    } else if let Some((entry, _)) = world.tree.entries.get_mut(&path) {
        entry.mode = change(entry.mode, entry.kind == Kind::Directory)?;
    }
    Some(())
}

fn link(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    let short = |flag: char| given.iter().any(|(name, _)| !name.starts_with("--") && name.contains(flag));
    let [target, at] = operands[..] else { return None };
    if !short('s') && get(&given, &["--symbolic"]).is_none() {
        return None;
    }
    let mut path = world.place(at)?;
    let followed = world.tree.resolve(&path).and_then(|path| world.tree.get(&path));
    if followed.is_some_and(|entry| entry.kind == Kind::Directory) && !short('n') && !short('T') {
        let name = target.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."))?;
        path = format!("{}/{name}", world.tree.resolve(&path)?);
    }
    if World::is_volatile(&path) {
        return None;
    }
    if !world.tree.entries.contains_key(&path) || short('f') || get(&given, &["--force"]).is_some() {
        world.insert(&path, Entry::symlink(target), World::origin(source));
    }
    Some(())
}

fn copy(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    if given.iter().any(|(name, _)| !matches!(*name, "-p" | "-f" | "-n" | "-a" | "-pf" | "--preserve" | "-v"))
    {
        return None;
    }
    let [from, to] = operands[..] else { return None };
    let from = world.tree.resolve(from)?;
    let mut entry = world.tree.get(&from).filter(|entry| matches!(entry.kind, Kind::File { .. }))?.clone();
    let mut path = world.place(to)?;
    if let Some(directory) = world.tree.resolve(&path)
        && world.tree.get(&directory).is_some_and(|entry| entry.kind == Kind::Directory)
    {
        path = format!("{directory}/{}", from.rsplit('/').next()?);
    }
    if World::is_volatile(&path) {
        return None;
    }
    entry.link_group = None;
    world.insert(&path, entry, World::origin(source));
    Some(())
}

/// ucf(1): at a first installation the package's default becomes the configuration file.
fn configuration(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["--sum-file", "--src-dir", "--package"]);
    if get(&given, &["--purge", "-p"]).is_some() {
        return Some(());
    }
    let [from, to] = operands[..] else { return None };
    if world.tree.resolve(to).is_some() { Some(()) } else { copy(world, source, &[from, to]) }
}

/// a2enmod(8) and its kin: links from `…-available` to `…-enabled`.
fn enable(world: &mut World<'_>, source: &str, command: &str, arguments: &[&str]) -> Option<()> {
    let (folder, endings) = match command {
        "a2enmod" => ("mods", ["load", "conf"].as_slice()),
        "a2enconf" => ("conf", ["conf"].as_slice()),
        _ => ("sites", ["conf"].as_slice()),
    };
    for name in arguments.iter().filter(|argument| !argument.starts_with('-')) {
        if name.contains('/') {
            return None;
        }
        let mut found = false;
        for ending in endings {
            if world.tree.resolve(&format!("/etc/apache2/{folder}-available/{name}.{ending}")).is_some() {
                let link = Entry::symlink(format!("../{folder}-available/{name}.{ending}"));
                world.add(&format!("/etc/apache2/{folder}-enabled/{name}.{ending}"), link, source);
                found = true;
            }
        }
        if !found {
            return None;
        }
    }
    Some(())
}

fn touch(world: &mut World<'_>, source: &str, path: &str) -> Option<()> {
    let path = world.place(path)?;
    if World::is_volatile(&path) || world.tree.resolve(&path).is_some() {
        return Some(());
    }
    match world.write(&path, b"", 0o644, &World::origin(source)) {
        Ok(()) => Some(()),
        Err(error) => {
            world.failure.get_or_insert(error);
            None
        }
    }
}

/// rm(1) of single files and rmdir(1): scripts remove leftovers of earlier versions, which are not there.
fn remove(world: &mut World<'_>, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    let recursive = given.iter().any(|(name, _)| name.contains(['r', 'R']));
    for path in operands {
        if World::is_volatile(path) {
            continue;
        }
        let path = world.place(path)?;
        match world.tree.get(&path).map(|entry| &entry.kind) {
            None => {}
            // A directory in use stays, as with rmdir; an empty one does no harm.
            Some(Kind::Directory) if recursive => return None,
            Some(Kind::Directory) => {}
            Some(_) => drop(world.tree.entries.remove(&path)),
        }
    }
    Some(())
}

/// `dpkg-statoverride --update --add USER GROUP MODE PATH`.
fn override_mode(world: &mut World<'_>, arguments: &[&str]) -> Option<()> {
    let operands: Vec<&str> =
        arguments.iter().filter(|argument| !argument.starts_with("--")).copied().collect();
    if !arguments.contains(&"--add") {
        return arguments.contains(&"--remove").then_some(());
    }
    let [user, group, mode, path] = operands[..] else { return None };
    let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)?;
    set_mode(world, path, |_, _| Some(mode))?;
    set_owner(world, path, Some(user), Some(group), false)
}

/// `dpkg-divert [--package P] [--rename] [--divert TO] --add FROM` (dpkg-divert(1)).
fn divert(world: &mut World<'_>, package: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["--package", "--divert"]);
    if get(&given, &["--remove"]).is_some() {
        return Some(());
    }
    let [from] = operands[..] else { return None };
    let to = get(&given, &["--divert"]).map_or_else(|| format!("{from}.distrib"), str::to_owned);
    let keeper = get(&given, &["--package"]).unwrap_or(package).to_owned();
    world.diversions.insert(world.place(from)?, (world.place(&to)?, keeper));
    Some(())
}

fn set_capability(world: &mut World<'_>, capabilities: &str, path: &str) -> Option<()> {
    let value = capability::attribute(capabilities)?;
    let path = world.tree.resolve(path)?;
    let (entry, _) = world.tree.entries.get_mut(&path)?;
    entry.xattrs.insert("security.capability".to_owned(), value);
    Some(())
}
