//! Commands that ask about the system, answered from the tree, the accounts and the package list.

use super::call::known;
use super::expand::UNKNOWN_ID;
use super::filter::{Outcome, id_text, letters, program};
use super::postfix;
use super::script::{Argument, Machine};
use super::world::World;
use crate::assemble::merge::merged;
use crate::tree::{Kind, Layer, Origin};

const UNKNOWN: Outcome = (None, None);

fn good(text: impl Into<String>) -> Outcome {
    (Some(text.into()), Some(true))
}

fn bad() -> Outcome {
    (Some(String::new()), Some(false))
}

/// Answers; `None` for another command.
#[expect(clippy::too_many_lines, reason = "one table of commands")]
pub(super) fn run(machine: &mut Machine<'_, '_, '_>, name: &str, arguments: &[Argument]) -> Option<Outcome> {
    let word = |at: usize| arguments.get(at).and_then(Option::as_deref);
    Some(match name {
        "command" if matches!(word(0), Some("-v" | "-V")) => match word(1) {
            Some(name) => program(machine, name),
            None => UNKNOWN,
        },
        "which" | "type" => match arguments.iter().flatten().find(|argument| !argument.starts_with('-')) {
            Some(name) => program(machine, name),
            None => UNKNOWN,
        },
        "basename" => match (word(0), word(1)) {
            (Some(path), suffix) => {
                let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                let cut = suffix.and_then(|suffix| last.strip_suffix(suffix)).filter(|cut| !cut.is_empty());
                good(format!("{}\n", cut.unwrap_or(last)))
            }
            _ => UNKNOWN,
        },
        "dirname" => match word(0) {
            Some(path) => {
                let path = path.trim_end_matches('/');
                let parent = path.rfind('/').map_or(".", |cut| if cut == 0 { "/" } else { &path[..cut] });
                good(format!("{parent}\n"))
            }
            None => UNKNOWN,
        },
        "readlink" | "realpath" => link(machine.world, name, arguments).unwrap_or(UNKNOWN),
        "stat" => status(machine.world, arguments).unwrap_or(UNKNOWN),
        "getent" => entry(machine.world, word(0), word(1)),
        "id" => account(machine.world, arguments).unwrap_or(UNKNOWN),
        "groups" => match word(0) {
            Some(user) => good(format!("{user} : {}\n", machine.world.accounts.groups_of(user).join(" "))),
            None => UNKNOWN,
        },
        "whoami" | "logname" => good("root\n"),
        "arch" => good("x86_64\n"),
        "uname" => match word(0) {
            Some("-m" | "-p" | "-i") => good("x86_64\n"),
            None | Some("-s") => good("Linux\n"),
            Some("-o") => good("GNU/Linux\n"),
            Some("-n") => good("localhost\n"),
            _ => UNKNOWN,
        },
        "hostname" | "dnsdomainname" => {
            let told = (
                machine.script.package.to_owned(),
                name.to_owned(),
                "a name is given to each instance; `localhost` stands in its place",
            );
            machine.world.left_to_instance.insert(told);
            if matches!(word(0), Some("--nis" | "--yp" | "-y")) {
                return Some(bad());
            }
            let domain = name == "dnsdomainname" || matches!(word(0), Some("-d" | "--domain"));
            good(if domain { "\n" } else { "localhost\n" })
        }
        // Nothing runs while an image is built.
        "ps" | "pidof" | "pgrep" | "lsof" | "fuser" | "ss" | "netstat" => bad(),
        // There is no network.
        "host" | "dig" | "nslookup" | "ldapsearch" => bad(),
        "run-parts" if word(0).is_some_and(|folder| is_empty(machine.world, folder)) => good(""),
        "pg_lsclusters" => good(""), // there is no cluster yet
        "pam_getenv" => good(""),
        "update-alternatives"
            if matches!(word(0), Some("--query"))
                && word(1).is_some_and(|name| machine.world.alternatives.has(name)) =>
        {
            let value = machine.world.alternatives.value(machine.world, word(1).unwrap_or_default());
            value.map_or(UNKNOWN, |value| {
                good(format!(
                    "Name: {}\nStatus: auto\nBest: {value}\nValue: {value}\n",
                    word(1).unwrap_or_default()
                ))
            })
        }
        "a2query" => super::apache::query(machine.world, arguments).unwrap_or(UNKNOWN),
        "postconf" if arguments.iter().flatten().any(|word| word.starts_with("-h")) => {
            known(arguments).and_then(|known| postfix::get(machine.world, &known)).unwrap_or(UNKNOWN)
        }
        "getfacl" => access_list(machine.world, arguments).unwrap_or(UNKNOWN),
        "ucfq" => registered(machine.world, arguments).unwrap_or(UNKNOWN),
        "getopt" => super::getopt::run(arguments).unwrap_or(UNKNOWN),
        "pwd" => good(format!("{}\n", machine.world.directory)),
        "ls" => list(machine.world, arguments).unwrap_or(UNKNOWN),
        "dpkg" | "dpkg-query" | "dpkg-architecture" | "dpkg-vendor" => {
            return packages(machine.world, name, arguments);
        }
        "dpkg-divert" if word(0) == Some("--truename") => match word(1) {
            Some(path) => {
                let true_name = machine.world.diversions.get(path).map_or(path, |(to, _)| to);
                good(format!("{true_name}\n"))
            }
            None => UNKNOWN,
        },
        "dpkg-divert" if matches!(word(0), Some("--listpackage" | "--list")) => match word(1) {
            Some(path) => match machine.world.diversions.get(path) {
                Some((_, keeper)) => good(format!("{keeper}\n")),
                None => (Some(String::new()), Some(word(0) == Some("--listpackage"))),
            },
            None => UNKNOWN,
        },
        "true" => good(""),
        _ => return None,
    })
}

/// `getfacl -c FILE`: no file has more than its mode.
fn access_list(world: &World<'_>, arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (options, operands) = letters(&arguments, "", &[("omit-header", 'c'), ("absolute-names", 'p')])?;
    let [path] = operands[..] else { return None };
    if !options.iter().any(|(letter, _)| *letter == 'c') {
        return None;
    }
    let Some(mode) = world.resolve(path).and_then(|path| world.tree.get(&path)).map(|entry| entry.mode)
    else {
        return Some(bad());
    };
    let rights = |shift: u32| {
        let bit = |bit: u32, c: char| if mode >> shift & bit == 0 { '-' } else { c };
        format!("{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x'))
    };
    Some(good(format!("user::{}\ngroup::{}\nother::{}\n\n", rights(6), rights(3), rights(0))))
}

/// `ucfq -w FILE…`: of files that are not there, ucf(1) knows nothing; `FILE:PACKAGE:EXISTS:CHANGED` (ucfq(1)).
fn registered(world: &World<'_>, arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (options, operands) = letters(&arguments, "", &[("with-colons", 'w')])?;
    let is_new = operands.iter().all(|path| world.resolve(path).is_none());
    if options.iter().all(|(letter, _)| *letter != 'w') || !is_new {
        return None;
    }
    Some(good(operands.iter().map(|path| format!("{path}::No:No\n")).collect::<String>()))
}

fn is_empty(world: &World<'_>, folder: &str) -> bool {
    let Some(path) = world.resolve(folder) else { return false };
    let below = format!("{path}/");
    world.tree.entries.range(below.clone()..).next().is_none_or(|(path, _)| !path.starts_with(&below))
}

fn link(world: &World<'_>, name: &str, arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (options, operands) = letters(&arguments, "", &[])?;
    let [path] = operands[..] else { return None };
    let follow = name == "realpath" || options.iter().any(|(letter, _)| matches!(letter, 'f' | 'e' | 'm'));
    if follow {
        let may_miss = options.iter().all(|(letter, _)| *letter != 'e');
        return Some(match world.resolve(path).or_else(|| world.place(path).filter(|_| may_miss)) {
            Some(path) => good(format!("{path}\n")),
            None => bad(),
        });
    }
    let place = world.place(path)?;
    Some(match world.tree.get(&place).map(|entry| &entry.kind) {
        Some(Kind::Symlink { target }) => good(format!("{target}\n")),
        _ => bad(),
    })
}

/// `stat -c FORMAT FILE`.
fn status(world: &World<'_>, arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (options, operands) =
        letters(&arguments, "c", &[("format", 'c'), ("printf", 'c'), ("dereference", 'L')])?;
    let [path] = operands[..] else { return None };
    let format = options.iter().find(|(letter, _)| *letter == 'c').map(|(_, value)| *value)?;
    let follow = options.iter().any(|(letter, _)| *letter == 'L');
    let place = if follow { world.resolve(path) } else { world.place(path) };
    let Some(entry) = place.as_ref().and_then(|place| world.tree.get(place)) else { return Some(bad()) };
    let (user, group) = world.owner(place.as_deref()?)?;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match characters.next()? {
            'U' => out.push_str(&user),
            'G' => out.push_str(&group),
            'u' => out.push_str(&id_text((user == "root").then_some(0))),
            'g' => out.push_str(&id_text((group == "root").then_some(0))),
            'a' => out.push_str(&format!("{:o}", entry.mode)),
            'n' => out.push_str(path),
            's' => match entry.kind {
                Kind::File { size, .. } => out.push_str(&size.to_string()),
                _ => return None,
            },
            'F' => out.push_str(match entry.kind {
                Kind::Directory => "directory",
                Kind::File { size: 0, .. } => "regular empty file",
                Kind::File { .. } => "regular file",
                Kind::Symlink { .. } => "symbolic link",
            }),
            _ => return None,
        }
    }
    Some(good(format!("{out}\n")))
}

fn entry(world: &World<'_>, database: Option<&str>, name: Option<&str>) -> Outcome {
    if let (Some(database @ ("passwd" | "group")), None) = (database, name) {
        return good(world.accounts.all_lines(database, UNKNOWN_ID));
    }
    let (Some(database), Some(name)) = (database, name) else { return UNKNOWN };
    let line = match database {
        "passwd" => world.accounts.passwd_line(name, UNKNOWN_ID),
        "group" => world.accounts.group_line(name, UNKNOWN_ID),
        "shadow" => world.accounts.has_user(name).then(|| format!("{name}:*:::::::")),
        _ => return UNKNOWN,
    };
    // By number: no id is given yet but Debian's fixed ones.
    if name.parse::<u32>().is_ok() {
        return UNKNOWN;
    }
    match line {
        Some(line) => good(format!("{line}\n")),
        None => bad(),
    }
}

fn account(world: &World<'_>, arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (options, operands) =
        letters(&arguments, "", &[("user", 'u'), ("group", 'g'), ("name", 'n'), ("groups", 'G')])?;
    let has = |letter: char| options.iter().any(|(name, _)| *name == letter);
    let user = operands.first().copied().unwrap_or("root");
    if !world.accounts.has_user(user) {
        return Some(bad());
    }
    Some(match (has('u'), has('g'), has('G'), has('n')) {
        (true, _, _, true) => good(format!("{user}\n")),
        (true, _, _, false) => good(format!("{}\n", id_text(world.accounts.fixed_uid(user)))),
        (_, true, _, true) => good(format!("{}\n", world.accounts.groups_of(user).first()?)),
        (_, _, true, true) => good(format!("{}\n", world.accounts.groups_of(user).join(" "))),
        (false, false, false, false) => (None, Some(true)),
        _ => (Some(format!("{UNKNOWN_ID}\n")), Some(true)),
    })
}

/// `ls [-A1d] PATH…`.
fn list(world: &World<'_>, arguments: &[Argument]) -> Option<Outcome> {
    let arguments = known(arguments)?;
    let (options, operands) = letters(&arguments, "", &[])?;
    if operands.iter().all(|operand| world.resolve(operand).is_none()) && !operands.is_empty() {
        return Some(bad());
    }
    if options.iter().any(|(letter, _)| !"A1ad".contains(*letter)) || operands.is_empty() {
        return None;
    }
    let has = |letter: char| options.iter().any(|(name, _)| *name == letter);
    let (mut out, mut status) = (String::new(), true);
    for operand in operands {
        let Some(path) = world.resolve(operand) else {
            status = false;
            continue;
        };
        let is_directory = world.tree.get(&path).is_none_or(|entry| entry.kind == Kind::Directory);
        if has('d') || !is_directory {
            out.push_str(&format!("{operand}\n"));
            continue;
        }
        let below = format!("{}/", path.trim_end_matches('/'));
        let names = world.tree.entries.range(below.clone()..).map(|(path, _)| path);
        for name in names.take_while(|path| path.starts_with(&below)).map(|path| &path[below.len()..]) {
            if !name.contains('/') && (has('A') || has('a') || !name.starts_with('.')) {
                out.push_str(&format!("{name}\n"));
            }
        }
    }
    Some((Some(out), Some(status)))
}

/// Is this path one that a package has? `None` for a pattern. A folder is also its who has a file below it, as dpkg
/// lists a file's folders with it; so is a folder that a merged `/usr` made a link (`/lib64`).
fn is_of_package(world: &World<'_>, words: &[&str]) -> Option<bool> {
    let [path] = words else { return None };
    if !path.starts_with('/') || path.contains(['*', '?', '[']) {
        return None;
    }
    let place = merged(&world.place(path.trim_end_matches('/'))?);
    // By where it comes from, not by what is being configured: files of the others lie there as well.
    let of_package =
        |(_, origin): &(_, Origin)| origin.layer != Layer::App && !origin.source.starts_with("rule:");
    let Some(found) = world.tree.entries.get(&place) else { return Some(false) };
    let below = format!("{place}/");
    let mut inside =
        world.tree.entries.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
    Some(of_package(found) || inside.any(|(_, entry)| of_package(entry)))
}

fn packages(world: &World<'_>, name: &str, arguments: &[Argument]) -> Option<Outcome> {
    let known_arguments = known(arguments);
    let Some(arguments) = known_arguments else { return Some(UNKNOWN) };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let package = words
        .iter()
        .rev()
        .find(|word| !word.starts_with('-'))
        .map(|word| word.split(':').next().unwrap_or(word));
    let version = package.and_then(|package| world.packages.get(package));
    Some(match (name, words.first().copied()?) {
        ("dpkg", "--print-architecture") => good("amd64\n"),
        ("dpkg", "--compare-versions" | "--validate-version" | "--assert-multi-arch") => return None,
        ("dpkg-architecture", option) if option.contains("MULTIARCH") => good("x86_64-linux-gnu\n"),
        ("dpkg-architecture", _) => UNKNOWN,
        ("dpkg-vendor", "--derives-from") => {
            (Some(String::new()), Some(words.get(1) == Some(&"debian") || words.get(1) == Some(&"Debian")))
        }
        ("dpkg-vendor", _) => good("Debian\n"),
        ("dpkg" | "dpkg-query", "-L" | "--listfiles") => {
            let package = package?;
            let paths = world.tree.entries.iter().filter(|(_, (_, origin))| origin.source == package);
            let list: String = paths.map(|(path, _)| format!("{path}\n")).collect();
            (Some(list), Some(version.is_some()))
        }
        ("dpkg" | "dpkg-query", "-S" | "--search") => (None, is_of_package(world, &words[1..])),
        ("dpkg" | "dpkg-query", _) => match version {
            None => bad(),
            Some(version) => {
                let form = words.iter().find_map(|word| {
                    word.strip_prefix("-f=")
                        .or(word.strip_prefix("--showformat="))
                        .or(word.strip_prefix("-f").filter(|f| !f.is_empty()))
                });
                let after = words
                    .iter()
                    .position(|word| matches!(*word, "-f" | "--showformat"))
                    .and_then(|at| words.get(at + 1));
                match form.or(after.copied()) {
                    Some(form) => {
                        let text = super::print::escaped(form)
                            .replace("${Version}", version)
                            .replace("${Package}", package?)
                            .replace("${binary:Package}", package?)
                            .replace("${Status}", "install ok installed")
                            .replace("${db:Status-Status}", "installed")
                            .replace("${db:Status-Abbrev}", "ii ")
                            .replace("${Architecture}", "amd64");
                        (Some(text).filter(|text| !text.contains("${")), Some(true))
                    }
                    None if matches!(words.first(), Some(&"-s" | &"--status")) => good(format!(
                        "Package: {}\nStatus: install ok installed\nVersion: {version}\n",
                        package?
                    )),
                    None if matches!(words.first(), Some(&"-l" | &"--list")) => {
                        good(format!("ii  {} {version} amd64\n", package?))
                    }
                    None => good(format!("{}\t{version}\n", package?)),
                }
            }
        },
        _ => UNKNOWN,
    })
}
