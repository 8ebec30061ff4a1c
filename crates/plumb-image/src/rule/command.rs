//! Commands of maintainer scripts that change the tree, done to the tree.
//!
//! Each function returns `None` for a form it does not understand; the caller reports the line.

use super::account::WantedUser;
use super::file::{get, options};
pub(super) use super::file::{rewrite, write};
use super::world::World;
use super::{apache, capability, catalog, file, lighttpd, mime, pam, sax};
use crate::tree::Entry;

/// Does one command whose arguments are all known.
pub(super) fn apply(world: &mut World<'_>, package: &str, name: &str, arguments: &[String]) -> Option<()> {
    let source = format!("rule:script:{package}");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match name {
        "adduser" | "useradd" => add_user(world, name == "adduser", &arguments),
        "addgroup" | "groupadd" => add_group(world, name == "addgroup", &arguments),
        "usermod" => change_user(world, &arguments),
        "deluser" | "delgroup" => {
            let (_, operands) = options(&arguments, &[]);
            if let [user, group] = operands[..] {
                world.accounts.no_member(user, group);
                return Some(());
            }
            // An account that an earlier version had; one that is there stays in use.
            (!operands.iter().any(|name| world.accounts.has_user(name) || world.accounts.has_group(name)))
                .then_some(())
        }
        "gpasswd" => match arguments[..] {
            ["-a" | "--add", user, group] => world.accounts.member(user, group).ok(),
            _ => None,
        },
        "mkdir" => file::make_directories(world, &source, &arguments),
        "install" => file::install(world, &source, &arguments),
        "chown" | "chgrp" => file::change_owner(world, name == "chgrp", &arguments),
        "chmod" => file::change_mode(world, &arguments),
        "ln" => file::link(world, &source, &arguments),
        "cp" => file::copy(world, &source, &arguments),
        "mv" => file::rename(world, &source, &arguments),
        "touch" => arguments
            .iter()
            .filter(|a| !a.starts_with('-'))
            .try_for_each(|path| file::touch(world, &source, path)),
        "rm" | "unlink" => file::remove(world, false, &arguments),
        "rmdir" => file::remove(world, true, &arguments),
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
        "lighty-enable-mod" | "lighttpd-enable-mod" => lighttpd::enable(world, &source, &arguments),
        "a2enmod" | "a2enconf" | "a2ensite" | "a2dismod" | "a2disconf" | "a2dissite" => {
            apache::switch(world, &source, name, &arguments)
        }
        "icinga2" => enable_features(world, &source, &arguments),
        "update-perl-sax-parsers" => sax::update(world, &source, &arguments),
        "pam-auth-update" => pam::update(world),
        "glib-compile-schemas" => nothing_to_compile(world, arguments.last()?, "", ".gschema.xml"),
        "update-mime-database" => mime::update(world, &source, arguments.last()?),
        "postconf" => set_postfix(world, &arguments),
        "update-xmlcatalog" => catalog::add(world, &source, &arguments),
        "update-inetd" => add_internet_service(world, &source, &arguments),
        "setcap" => {
            let pairs = arguments.strip_prefix(&["-q"]).unwrap_or(&arguments);
            if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
                return None;
            }
            pairs.chunks(2).try_for_each(|pair| set_capability(world, pair[0], pair[1]))
        }
        _ => None,
    }
}

/// `icinga2 feature enable NAME…` (icinga2(8)).
fn enable_features(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let ["feature", "enable", names @ ..] = arguments else { return None };
    names.iter().try_for_each(|name| {
        let file = format!("{name}.conf");
        world.resolve(&format!("/etc/icinga2/features-available/{file}"))?;
        let link = Entry::symlink(format!("../features-available/{file}"));
        world.add(&format!("/etc/icinga2/features-enabled/{file}"), link, source);
        Some(())
    })
}

/// A compiler of what packages put into a folder: done where there is nothing, and otherwise no rule's business.
fn nothing_to_compile(world: &World<'_>, folder: &str, below: &str, end: &str) -> Option<()> {
    let folder = format!("{}{below}/", world.resolve(folder).unwrap_or_else(|| folder.to_owned()));
    let mut inside =
        world.tree.entries.range(folder.clone()..).map_while(|(path, _)| path.strip_prefix(&folder));
    (!inside.any(|name| name.ends_with(end))).then_some(())
}

const USER_VALUES: [&str; 24] = [
    "--home",
    "--home-dir",
    "--shell",
    "--uid",
    "--gid",
    "--ingroup",
    "--gecos",
    "--comment",
    "--groups",
    "--base-dir",
    "--firstuid",
    "--lastuid",
    "--firstgid",
    "--lastgid",
    "--conf",
    "-d",
    "-b",
    "-s",
    "-u",
    "-g",
    "-c",
    "-G",
    "-k",
    "-K",
];

/// As adduser has chfn(1) write it: name, room, and two telephone numbers.
fn full_name(gecos: &str) -> String {
    let missing = if gecos.is_empty() { 0 } else { 3usize.saturating_sub(gecos.matches(',').count()) };
    format!("{gecos}{}", ",".repeat(missing))
}

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
    let gecos = get(&given, &["--gecos", "--comment", "-c"]).unwrap_or("");
    let user = WantedUser {
        uid: get(&given, &["--uid", "-u"]).and_then(|uid| uid.parse().ok()),
        group: group.or_else(|| own_group.then(|| name.to_owned())),
        gecos: if debian { full_name(gecos) } else { gecos.to_owned() },
        home: home.clone(),
        shell: get(&given, &["--shell", "-s"]).unwrap_or("").to_owned(),
    };
    let primary = user.group.clone();
    world.accounts.user(name, user).ok()?;
    for group in get(&given, &["-G", "--groups"]).into_iter().flat_map(|groups| groups.split(',')) {
        world.accounts.member(name, group).ok()?;
    }
    let makes_home = if debian {
        get(&given, &["--no-create-home"]).is_none()
    } else {
        get(&given, &["-m", "--create-home"]).is_some()
    };
    if makes_home && home != "/nonexistent" && !World::is_volatile(&home) && world.resolve(&home).is_none() {
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

/// usermod(8); passwords and expiry do not exist in an image.
fn change_user(world: &mut World<'_>, arguments: &[&str]) -> Option<()> {
    let values = ["--groups", "-aG", "-Ga", "-p", "--password", "-e", "--expiredate", "-f", "-l"];
    let (given, operands) = options(arguments, &[USER_VALUES.as_slice(), &values].concat());
    let [user] = operands[..] else { return None };
    if get(&given, &["-u", "--uid", "-l"]).is_some() {
        return None;
    }
    for group in
        get(&given, &["-G", "--groups", "-aG", "-Ga"]).into_iter().flat_map(|groups| groups.split(','))
    {
        world.accounts.member(user, group).ok()?;
    }
    world.accounts.change(user, |account| {
        let set = |field: &mut String, names: &[&str]| {
            if let Some(value) = get(&given, names) {
                value.clone_into(field);
            }
        };
        set(&mut account.gecos, &["-c", "--comment"]);
        set(&mut account.home, &["-d", "--home"]);
        set(&mut account.shell, &["-s", "--shell"]);
        if let Some(group) = get(&given, &["-g", "--gid"]).filter(|group| group.parse::<u32>().is_err()) {
            account.group = Some(group.to_owned());
        }
    })
}

/// ucf(1): at a first installation the package's default becomes the configuration file.
fn configuration(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, operands) = options(arguments, &["--sum-file", "--src-dir", "--package"]);
    if get(&given, &["--purge", "-p"]).is_some() {
        return Some(());
    }
    let [from, to] = operands[..] else { return None };
    if world.resolve(to).is_some() { Some(()) } else { file::copy(world, source, &["-p", from, to]) }
}

/// `postconf -e NAME=VALUE…` (postconf(1)): lines of main.cf are replaced, or added at the end.
fn set_postfix(world: &mut World<'_>, arguments: &[&str]) -> Option<()> {
    let (given, settings) = options(arguments, &[]);
    if given.iter().any(|(name, _)| *name != "-e") || settings.is_empty() {
        return None;
    }
    let path = world.resolve("/etc/postfix/main.cf")?;
    let mut text = world.text(&path).ok()??;
    for setting in settings {
        let (name, value) = setting.split_once('=')?;
        let (name, line) = (name.trim(), format!("{} = {}", name.trim(), value.trim()));
        let is_it = |old: &str| old.split_once('=').is_some_and(|(found, _)| found.trim() == name);
        let found = text.lines().any(is_it);
        let lines = text.lines().map(|old| if is_it(old) { line.as_str() } else { old });
        let mut changed: String = lines.map(|line| format!("{line}\n")).collect();
        if !found {
            changed.push_str(&format!("{line}\n"));
        }
        text = changed;
    }
    rewrite(world, &path, &text)
}

/// `update-inetd --add LINE` (update-inetd(8)).
fn add_internet_service(world: &mut World<'_>, source: &str, arguments: &[&str]) -> Option<()> {
    let (given, _) = options(
        arguments,
        &["--add", "--group", "--remove", "--disable", "--enable", "--comment-chars", "--pattern"],
    );
    let Some(entry) = get(&given, &["--add"]) else { return Some(()) };
    let entry = entry.replace("\\t", "\t");
    let path = "/etc/inetd.conf";
    let mut text = world.text(path).ok()?.unwrap_or_default();
    if !text.lines().any(|line| line.trim_start_matches('#') == entry) {
        text.push_str(&format!("{entry}\n"));
        world.write(path, text.as_bytes(), 0o644, &World::origin(source)).ok()?;
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
    world.overrides.insert(path.to_owned());
    file::set_mode(world, path, |_, _| Some(mode))?;
    file::set_owner(world, path, Some(user), Some(group), false)
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
    if capabilities.contains('-') && !capabilities.contains(['+', '=']) {
        let path = world.resolve(path)?;
        let (entry, _) = world.tree.entries.get_mut(&path)?;
        entry.xattrs.remove("security.capability");
        return Some(());
    }
    // `a=+ep b=+ep` is `a,b+ep`.
    let plain = capabilities.replace("=+", "+");
    let clauses: Option<Vec<(&str, &str)>> =
        plain.split_whitespace().map(|clause| clause.split_once('+')).collect();
    let clauses =
        clauses.filter(|clauses| clauses.len() > 1 && clauses.iter().all(|clause| clause.1 == clauses[0].1));
    let joined = clauses.map(|clauses| {
        let names: Vec<&str> = clauses.iter().map(|clause| clause.0).collect();
        format!("{}+{}", names.join(","), clauses[0].1)
    });
    let value = capability::attribute(joined.as_deref().unwrap_or(&plain))?;
    let path = world.resolve(path)?;
    let (entry, _) = world.tree.entries.get_mut(&path)?;
    entry.xattrs.insert("security.capability".to_owned(), value);
    Some(())
}
