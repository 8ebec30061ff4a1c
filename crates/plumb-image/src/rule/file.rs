//! Files, directories and links: what `mkdir`, `cp`, `mv`, `rm`, `chmod` and their like do, done to the tree.
//!
//! Each function returns `None` for a form it does not understand; the caller reports the line.

use std::io;

use super::mode;
use super::world::{BootDirectory, World};
use crate::tree::{Entry, Kind};

/// Splits options from operands. `takes_value` lists the options whose value is the next argument.
pub(super) fn options<'a>(
    arguments: &[&'a str],
    takes_value: &[&str],
) -> (Vec<(&'a str, &'a str)>, Vec<&'a str>) {
    let (mut found, mut operands) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "--" {
            operands.extend(rest.by_ref());
        } else if let Some((name, value)) = argument.split_once('=').filter(|_| argument.starts_with("--")) {
            found.push((name, value));
        } else if argument.len() > 2
            && !argument.starts_with("--")
            && argument.is_char_boundary(2)
            && takes_value.contains(&&argument[..2])
        {
            found.push(argument.split_at(2)); // `-m2755`
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

pub(super) fn get<'a>(options: &[(&'a str, &'a str)], names: &[&str]) -> Option<&'a str> {
    options.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value)
}

/// Writes or appends text, as a redirection does.
pub(super) fn write(
    world: &mut World<'_>,
    package: &str,
    path: &str,
    text: &str,
    append: bool,
) -> io::Result<()> {
    let path = world.resolve(path).unwrap_or_else(|| path.to_owned());
    let old = if append { world.text(&path)?.unwrap_or_default() } else { String::new() };
    let old_entry = world.tree.get(&path).cloned();
    let mode = old_entry.as_ref().map_or(0o666 & !world.umask, |entry| entry.mode);
    world.write(
        &path,
        format!("{old}{text}").as_bytes(),
        mode,
        &World::origin(&format!("rule:script:{package}")),
    )?;
    if let (Some(old), Some((entry, _))) = (old_entry, world.tree.entries.get_mut(&path)) {
        (entry.uid, entry.gid) = (old.uid, old.gid);
    }
    Ok(())
}

/// Replaces the text of a file, as `sed -i` does; mode, owner and origin stay.
pub(super) fn rewrite(world: &mut World<'_>, path: &str, text: &str) -> Option<()> {
    let (old, origin) = world.tree.entries.get(path)?.clone();
    match world.keep(text.as_bytes()) {
        Ok((digest, size)) => {
            let entry = Entry { kind: Kind::File { digest, size }, link_group: None, ..old };
            world.tree.insert(path, entry, origin);
            Some(())
        }
        Err(error) => {
            world.failure.get_or_insert(error);
            None
        }
    }
}

/// Is the letter among the short options of this word?
fn short(word: &str, letter: char) -> bool {
    !word.starts_with("--") && word.contains(letter)
}

fn is_directory(world: &World<'_>, path: &str) -> bool {
    let entry = world.resolve(path).and_then(|path| world.tree.get(&path).cloned());
    path == "/tmp" || entry.is_some_and(|entry| entry.kind == Kind::Directory)
}

pub(super) fn make_directories(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["-m", "--mode"]);
    let mode = match get(&given, &["-m", "--mode"]) {
        Some(mode) => mode::change(0o777, mode, true)?,
        None => 0o777 & !world.umask,
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
pub(super) fn install(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let values = ["-m", "--mode", "-o", "--owner", "-g", "--group"];
    let (given, operands) = options(arguments, &values);
    let mode = get(&given, &["-m", "--mode"]).map_or(Some(0o755), |mode| mode::change(0o777, mode, true))?;
    let (user, group) = (get(&given, &["-o", "--owner"]), get(&given, &["-g", "--group"]));
    let targets: Vec<String> = if given.iter().any(|(name, _)| *name == "--directory" || short(name, 'd')) {
        operands.iter().try_for_each(|path| directory(world, source, path, mode))?;
        operands.into_iter().map(str::to_owned).collect()
    } else {
        if get(&given, &["-t"]).is_some() {
            return None;
        }
        if given.iter().any(|(name, _)| short(name, 'D')) {
            let parent = operands.last()?.rsplit_once('/')?.0;
            directory(world, source, parent, 0o755)?;
        }
        copy(world, source, &operands)?;
        let (to, from) = operands.split_last()?;
        let is_directory = is_directory(world, to);
        let below =
            |from: &&str| format!("{}/{}", to.trim_end_matches('/'), from.rsplit('/').next().unwrap_or(from));
        if is_directory { from.iter().map(below).collect() } else { vec![(*to).to_owned()] }
    };
    for path in targets {
        set_mode(world, &path, |_, _| Some(mode))?;
        set_owner(world, &path, user, group, false)?;
    }
    Some(())
}

pub(super) fn change_owner(world: &mut World<'_>, group_only: bool, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    let (owner, paths) = operands.split_first()?;
    let recursive = given
        .iter()
        .any(|(name, _)| *name == "--recursive" || (!name.starts_with("--") && name.contains('R')));
    let (user, group) = if group_only {
        (None, Some(*owner))
    } else {
        let (user, group) = owner.split_once([':', '.']).unwrap_or((owner, ""));
        let user = Some(user).filter(|user| !user.is_empty());
        // `chown user:` means the user's own group.
        let own = if owner.ends_with(':') {
            user.and_then(|user| world.accounts.primary_group(user))
        } else {
            None
        };
        (user, Some(group).filter(|group| !group.is_empty()).or(own))
    };
    let (user, group) = (user.map(str::to_owned), group.map(str::to_owned));
    let (user, group) = (user.as_deref(), group.as_deref());
    paths.iter().try_for_each(|path| set_owner(world, path, user, group, recursive))
}

/// Do the accounts exist that chown(1) or chgrp(1) would give files to?
pub(super) fn has_owner(world: &World<'_>, command: &str, arguments: &[Option<String>]) -> bool {
    let Some(owner) = arguments.iter().flatten().find(|word| !word.starts_with('-')) else { return true };
    let is_number = |name: &str| name.is_empty() || name.parse::<u32>().is_ok();
    let has_group = |name: &str| is_number(name) || world.accounts.has_group(name);
    if command == "chgrp" {
        return has_group(owner);
    }
    let (user, group) = owner.split_once([':', '.']).unwrap_or((owner, ""));
    (is_number(user) || world.accounts.has_user(user)) && has_group(group)
}

pub(super) fn set_owner(
    world: &mut World<'_>,
    path: &str,
    user: Option<&str>,
    group: Option<&str>,
    recursive: bool,
) -> Option<()> {
    let path = world.resolve(path).or_else(|| world.place(path))?;
    if let Some(directory) = world.boot_directories.get_mut(&path) {
        directory.user = user.unwrap_or(&directory.user).to_owned();
        directory.group = group.unwrap_or(&directory.group).to_owned();
    } else if !World::is_volatile(&path) {
        world.own(&path, recursive, user, group);
    }
    Some(())
}

pub(super) fn change_mode(world: &mut World<'_>, arguments: &[&str]) -> Option<()> {
    // `chmod -x file` is a mode, not an option.
    let is_option =
        |argument: &&&str| matches!(**argument, "-R" | "-f" | "-v" | "-c" | "--recursive" | "--quiet");
    let recursive = arguments.iter().any(|argument| matches!(*argument, "-R" | "--recursive"));
    let operands: Vec<&str> = arguments.iter().filter(|a| !is_option(a)).copied().collect();
    let (wanted, paths) = operands.split_first()?;
    for path in paths {
        set_mode(world, path, |old, is_directory| mode::change(old, wanted, is_directory))?;
        let Some(top) = world.resolve(path).filter(|_| recursive) else { continue };
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
pub(super) fn set_mode(
    world: &mut World<'_>,
    path: &str,
    change: impl Fn(u32, bool) -> Option<u32>,
) -> Option<()> {
    let path = world.resolve(path).or_else(|| world.place(path))?;
    if let Some(directory) = world.boot_directories.get_mut(&path) {
        directory.mode = change(directory.mode, true)?;
    } else if let Some((entry, _)) = world.tree.entries.get_mut(&path) {
        entry.mode = change(entry.mode, entry.kind == Kind::Directory)?;
    }
    Some(())
}

pub(super) fn link(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    let short = |flag: char| given.iter().any(|(name, _)| self::short(name, flag));
    if let [targets @ .., at] = operands.as_slice()
        && targets.len() > 1
    {
        let flags: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
        return targets
            .iter()
            .try_for_each(|target| link(world, source, &[flags.as_slice(), &[target, at]].concat()));
    }
    let [target, at] = operands[..] else { return None };
    if !short('s') && get(&given, &["--symbolic"]).is_none() {
        return copy(world, source, &[target, at]);
    }
    let mut path = world.place(at)?;
    let followed = world.resolve(&path).and_then(|path| world.tree.get(&path));
    if followed.is_some_and(|entry| entry.kind == Kind::Directory) && !short('n') && !short('T') {
        let name = target.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."))?;
        path = format!("{}/{name}", world.resolve(&path)?);
    }
    if World::is_volatile(&path) {
        return None;
    }
    if !world.tree.entries.contains_key(&path) || short('f') || get(&given, &["--force"]).is_some() {
        world.insert(&path, Entry::symlink(target), World::origin(source));
    }
    Some(())
}

/// cp(1) and `install` of files: what is copied, and where to.
pub(super) fn copy(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["-t"]);
    let known = |name: &str| {
        matches!(
            name,
            "--preserve"
                | "--recursive"
                | "--archive"
                | "--force"
                | "--no-clobber"
                | "--update"
                | "--no-dereference"
                | "--remove-destination"
        ) || (!name.starts_with("--") && name[1..].chars().all(|letter| "apfnrRvdLPuZb".contains(letter)))
    };
    if !given.iter().all(|(name, _)| known(name)) {
        return None;
    }
    let has = |letters: &str| given.iter().any(|(name, _)| letters.chars().any(|letter| short(name, letter)));
    let recursive = has("arR") || get(&given, &["--recursive", "--archive"]).is_some();
    let keeps_links = has("adP") || get(&given, &["--archive", "--no-dereference"]).is_some();
    let keeps_all = has("ap") || get(&given, &["--archive", "--preserve"]).is_some();
    let no_clobber = has("n") || get(&given, &["--no-clobber"]).is_some();
    let (to, from) = operands.split_last().filter(|(_, from)| !from.is_empty())?;
    let into = is_directory(world, to);
    if from.len() > 1 && !into {
        return None;
    }
    for from in from {
        if *from == "/dev/null" && !into {
            let path = world.resolve(to).or_else(|| world.place(to))?;
            world.write(&path, b"", 0o666 & !world.umask, &World::origin(source)).ok()?;
            continue;
        }
        let place = if keeps_links { world.place(from)? } else { world.resolve(from)? };
        world.tree.get(&place)?;
        let name =
            from.trim_end_matches('/').rsplit('/').next().filter(|name| !matches!(*name, "" | ".."))?;
        world.spend(world.tree.entries.len());
        let target = match (into, name) {
            (true, ".") => world.resolve(to)?, // `cp -a from/. to`
            (true, name) => format!("{}/{name}", world.resolve(to).unwrap_or_else(|| (*to).to_owned())),
            _ => world.resolve(to).or_else(|| world.place(to))?,
        };
        copy_one(world, source, &place, &target, (recursive, keeps_all, no_clobber))?;
    }
    Some(())
}

fn copy_one(
    world: &mut World<'_>,
    source: &str,
    from: &str,
    to: &str,
    (recursive, keeps_all, no_clobber): (bool, bool, bool),
) -> Option<()> {
    let below = format!("{from}/");
    let is_directory = world.tree.get(from)?.kind == Kind::Directory;
    if is_directory && (!recursive || format!("{to}/").starts_with(&below)) {
        return None;
    }
    let tree = &world.tree.entries;
    let children = tree.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
    let all: Vec<(String, Entry)> = tree
        .get_key_value(from)
        .into_iter()
        .chain(children.filter(|_| is_directory))
        .map(|(path, (entry, _))| (format!("{to}{}", &path[from.len()..]), entry.clone()))
        .collect();
    for (path, mut entry) in all {
        let old = world.tree.get(&path).cloned();
        if old
            .as_ref()
            .is_some_and(|old| no_clobber || (old.kind == Kind::Directory && entry.kind == Kind::Directory))
        {
            continue;
        }
        entry.link_group = None;
        if !keeps_all && !matches!(entry.kind, Kind::Symlink { .. }) {
            // A file that is there keeps its mode and owner; a new one has the source's mode under the umask.
            let fresh = Entry { mode: entry.mode & 0o777 & !world.umask, uid: 0, gid: 0, ..entry.clone() };
            entry = match old.filter(|old| matches!(old.kind, Kind::File { .. })) {
                Some(old) => Entry { kind: entry.kind, ..old },
                None => Entry { xattrs: Default::default(), ..fresh },
            };
        }
        world.insert(&path, entry, World::origin(source));
    }
    Some(())
}

/// mv(1).
pub(super) fn rename(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    let no_clobber = given.iter().any(|(name, _)| short(name, 'n'));
    if !given
        .iter()
        .all(|(name, _)| !name.starts_with("--") && name[1..].chars().all(|letter| "fnvTZb".contains(letter)))
    {
        return None;
    }
    let (to, from) = operands.split_last().filter(|(_, from)| !from.is_empty())?;
    let into = is_directory(world, to);
    for from in from {
        let place = world.place(from)?;
        world.tree.get(&place)?;
        let mut target = world.place(to)?;
        if into {
            target = format!("{}/{}", world.resolve(to)?, place.rsplit('/').next()?);
        }
        if no_clobber && world.tree.get(&target).is_some() {
            continue;
        }
        let below = format!("{place}/");
        let moved: Vec<String> = world
            .tree
            .entries
            .range(place.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(place.as_str()))
            .filter(|path| **path == place || path.starts_with(&below))
            .cloned()
            .collect();
        for path in moved {
            let (entry, _) = world.tree.entries.remove(&path)?;
            world.insert(&format!("{target}{}", &path[place.len()..]), entry, World::origin(source));
        }
        world.rename_owners(&place, &target);
    }
    Some(())
}

pub(super) fn touch(world: &mut World<'_>, source: &str, path: &str) -> Option<()> {
    let path = world.place(path)?;
    if world.resolve(&path).is_some() {
        return Some(());
    }
    let mode = 0o666 & !world.umask;
    match world.write(&path, b"", mode, &World::origin(source)) {
        Ok(()) => Some(()),
        Err(error) => {
            world.failure.get_or_insert(error);
            None
        }
    }
}

/// rm(1), and rmdir(1) for `only_empty`.
pub(super) fn remove(world: &mut World<'_>, only_empty: bool, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &[]);
    let recursive =
        given.iter().any(|(name, _)| *name == "--recursive" || short(name, 'r') || short(name, 'R'));
    for path in operands {
        let path = world.place(path)?;
        let below = format!("{path}/");
        let children: Vec<String> = world
            .tree
            .entries
            .range(below.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&below))
            .cloned()
            .collect();
        match world.tree.get(&path).map(|entry| &entry.kind) {
            None => {}
            Some(Kind::Directory) if only_empty && !children.is_empty() => {}
            Some(Kind::Directory) if !only_empty && !recursive => return None,
            Some(_) => {
                for child in children {
                    world.tree.entries.remove(&child);
                }
                world.tree.entries.remove(&path);
            }
        }
    }
    Some(())
}
