//! What a maintainer script may ask, and the answer for a first installation into this tree.

use std::cmp::Ordering;

use plumb_debian::Version;

use super::account::GIVEN_IDS;
use super::expand::UNKNOWN_ID;
use super::script::Argument;
use super::secret::is_in;
use super::world::World;
use crate::tree::Kind;

/// Where programs are looked for, in the order of root's `PATH`.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// The answer of a command that only asks: `Some(status)`, unknown inside if it cannot be told. `None` for a command
/// that does something.
pub(super) fn query(world: &World<'_>, name: &str, arguments: &[Argument]) -> Option<Option<bool>> {
    let text = |at: usize| arguments.get(at).and_then(Option::as_deref);
    Some(match name {
        "[" => test(world, arguments.split_last().map_or(arguments, |(_, inner)| inner)),
        "test" => test(world, arguments),
        "[[" => {
            let inner = arguments.split_last().map_or(arguments, |(_, inner)| inner);
            let plain = |argument: &Argument| match argument.as_deref() {
                Some("&&") => Some("-a".to_owned()),
                Some("||") => Some("-o".to_owned()),
                _ => argument.clone(),
            };
            test(world, &inner.iter().map(plain).collect::<Vec<_>>())
        }
        "dpkg" if text(0) == Some("--compare-versions") => versions(text(1), text(2), text(3)),
        "dpkg-statoverride" if arguments.iter().flatten().any(|argument| argument == "--list") => {
            let path = arguments.iter().flatten().find(|argument| argument.starts_with('/'))?;
            Some(world.overrides.contains(path))
        }
        "dpkg-divert" if text(0) == Some("--list") => Some(false),
        // Nothing runs while an image is built.
        "pidof" | "pgrep" | "ischroot" | "runlevel" => Some(false),
        "mountpoint" => {
            let path = arguments.iter().flatten().find(|argument| !argument.starts_with('-'));
            path.map(|path| ["/proc", "/sys", "/dev"].contains(&path.as_str()))
        }
        "aa-enabled" | "aa-status" | "selinuxenabled" => Some(false),
        "update-alternatives" if matches!(text(0), Some("--query" | "--list" | "--display")) => {
            match text(1).map(|name| world.alternatives.has(name)) {
                Some(false) => Some(false),
                _ => None,
            }
        }
        // `su -c "test -O …"`: nothing belongs to a fresh account yet.
        "su" | "runuser" if arguments.iter().flatten().any(|argument| argument.starts_with("test -O")) => {
            Some(false)
        }
        "su" | "runuser" => {
            let asked = arguments.iter().flatten().find_map(|argument| argument.strip_prefix("test -r "))?;
            let path = world.resolve(asked.trim())?;
            let mode = world.tree.get(&path)?.mode;
            let user =
                arguments.last().and_then(Option::as_deref).filter(|user| world.accounts.has_user(user))?;
            let (owner, group) = world.owner(&path)?;
            let right = if owner == user {
                0o400
            } else if world.accounts.groups_of(user).contains(&group.as_str()) {
                0o040
            } else {
                0o004
            };
            Some(mode & right != 0)
        }
        "systemctl" if matches!(text(0), Some("is-active" | "is-enabled" | "is-failed")) => Some(false),
        _ => return None,
    })
}

/// `dpkg --compare-versions A OPERATOR B`: an empty version is earlier than any, for `-nl` it is later (dpkg(1)).
fn versions(old: Option<&str>, operator: Option<&str>, new: Option<&str>) -> Option<bool> {
    let (old, operator) = (old?, operator?);
    let (relation, empty_is_later) = match operator.strip_suffix("-nl") {
        Some(relation) => (relation, true),
        None => (operator, false),
    };
    // Of a version that is not known so much is known: it is not empty.
    let order = match (old.is_empty(), new.map(str::is_empty)) {
        (true, Some(true)) => Ordering::Equal,
        (true, _) if empty_is_later => Ordering::Greater,
        (true, _) => Ordering::Less,
        (false, Some(true)) if empty_is_later => Ordering::Less,
        (false, Some(true)) => Ordering::Greater,
        (false, _) => old.parse::<Version>().ok()?.cmp(&new?.parse().ok()?),
    };
    match relation {
        "lt" | "<<" => Some(order.is_lt()),
        "le" | "<" | "<=" => Some(order.is_le()),
        "eq" | "=" => Some(order.is_eq()),
        "ne" => Some(order.is_ne()),
        "ge" | ">" | ">=" => Some(order.is_ge()),
        "gt" | ">>" => Some(order.is_gt()),
        _ => None,
    }
}

/// Where a program of that name is.
pub(super) fn program(world: &World<'_>, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return world.resolve(name).map(|_| name.to_owned());
    }
    let paths = PROGRAM_DIRECTORIES.iter().map(|directory| format!("{directory}/{name}"));
    paths.into_iter().find(|path| world.resolve(path).is_some())
}

/// Most operands of one test(1); each `-o` and `!` takes stack.
const MAX_OPERANDS: usize = 200;

/// test(1), with unknown operands.
fn test(world: &World<'_>, arguments: &[Argument]) -> Option<bool> {
    let is = |at: usize, what: &str| arguments.get(at).and_then(Option::as_deref) == Some(what);
    if arguments.len() > MAX_OPERANDS {
        return None;
    }
    match arguments {
        [] => return Some(false),
        [only] => return only.as_ref().map(|text| !text.is_empty()),
        [_, operand] if is(0, "!") => return operand.as_ref().map(String::is_empty),
        [Some(operator), operand] => return unary(world, operator, operand.as_deref()),
        [left, Some(operator), right] if is_binary(operator) => {
            return binary(world, left.as_deref()?, operator, right.as_deref()?);
        }
        _ => {}
    }
    if let Some(at) = (1..arguments.len()).find(|at| is(*at, "-o")) {
        let (left, right) = (test(world, &arguments[..at]), test(world, &arguments[at + 1..]));
        return match (left, right) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
    }
    if let Some(at) = (1..arguments.len()).find(|at| is(*at, "-a")) {
        let (left, right) = (test(world, &arguments[..at]), test(world, &arguments[at + 1..]));
        return match (left, right) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
    }
    if is(0, "!") {
        return test(world, &arguments[1..]).map(|status| !status);
    }
    None
}

fn is_binary(operator: &str) -> bool {
    matches!(
        operator,
        "=" | "==" | "!=" | "-nt" | "-ot" | "-ef" | "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge"
    )
}

fn binary(world: &World<'_>, left: &str, operator: &str, right: &str) -> Option<bool> {
    if left.contains(UNKNOWN_ID) || right.contains(UNKNOWN_ID) {
        // Which id an account gets is not known yet; what it cannot be is.
        let given = UNKNOWN_ID.to_string();
        let other = if left == given { right } else { left };
        let never = [left, right].contains(&given.as_str())
            && other.parse::<u32>().is_ok_and(|id| !GIVEN_IDS.contains(&id));
        return match operator {
            "=" | "==" | "-eq" if never => Some(false),
            "!=" | "-ne" if never => Some(true),
            _ => None,
        };
    }
    // Only chance would make a secret what a script knows.
    if is_in(left) != is_in(right) {
        return match operator {
            "=" | "==" => Some(false),
            "!=" => Some(true),
            _ => None,
        };
    }
    if is_in(left) {
        return None;
    }
    match operator {
        // All files of an image are of one time.
        "-nt" | "-ot" => {
            let (left, right) = (world.resolve(left), world.resolve(right));
            return match operator {
                "-nt" => Some(left.is_some() && right.is_none()),
                _ => Some(left.is_none() && right.is_some()),
            };
        }
        "-ef" => {
            let left = world.resolve(left);
            return Some(left.is_some() && left == world.resolve(right));
        }
        "=" | "==" => return Some(left == right),
        "!=" => return Some(left != right),
        _ => {}
    }
    let (left, right): (i64, i64) = (left.trim().parse().ok()?, right.trim().parse().ok()?);
    match operator {
        "-eq" => Some(left == right),
        "-ne" => Some(left != right),
        "-lt" => Some(left < right),
        "-le" => Some(left <= right),
        "-gt" => Some(left > right),
        "-ge" => Some(left >= right),
        _ => None,
    }
}

fn unary(world: &World<'_>, operator: &str, operand: Option<&str>) -> Option<bool> {
    let operand = operand?;
    match operator {
        "-n" => return Some(!operand.is_empty()),
        "-z" => return Some(operand.is_empty()),
        "-t" | "-p" | "-S" | "-b" | "-c" => return Some(false),
        _ => {}
    }
    // No system runs at build time, so nothing is below `/run`, `/proc` and their like but what a script put there.
    if World::is_volatile(operand) && world.resolve(operand).is_none() {
        let made = world.place(operand).is_some_and(|path| world.boot_directories.contains_key(&path));
        return Some((made || operand == "/tmp") && matches!(operator, "-d" | "-e" | "-w" | "-x" | "-r"));
    }
    let link = world.place(operand).and_then(|path| world.tree.get(&path));
    if matches!(operator, "-L" | "-h") {
        return Some(link.is_some_and(|entry| matches!(entry.kind, Kind::Symlink { .. })));
    }
    if world.is_of_boot(operand) {
        return Some(matches!(operator, "-e" | "-a" | "-f" | "-r" | "-w" | "-s"));
    }
    let entry = world.resolve(operand).and_then(|path| world.tree.get(&path).cloned());
    let Some(entry) = entry else { return Some(operand == "/" && matches!(operator, "-d" | "-e")) };
    match operator {
        "-e" | "-a" | "-r" | "-w" => Some(true),
        "-d" => Some(entry.kind == Kind::Directory),
        "-f" => Some(matches!(entry.kind, Kind::File { .. })),
        "-x" => Some(entry.kind == Kind::Directory || entry.mode & 0o111 != 0),
        "-s" => Some(!matches!(entry.kind, Kind::File { size: 0, .. })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_installation_is_the_earliest_version() {
        assert_eq!(versions(Some(""), Some("lt"), None), Some(true));
        assert_eq!(versions(Some(""), Some("lt-nl"), None), Some(false));
        assert_eq!(versions(None, Some("lt"), None), None);
        assert_eq!(versions(Some("4.1"), Some("gt-nl"), Some("")), Some(false));
        assert_eq!(versions(Some("4.1"), Some("gt"), Some("")), Some(true));
        assert_eq!(versions(Some("4.1"), Some("lt-nl"), Some("")), Some(true));
        assert_eq!(versions(Some(""), Some("eq"), Some("")), Some(true));
        assert_eq!(versions(Some(""), Some("lt"), Some("")), Some(false));
        assert_eq!(versions(Some("1:2"), Some("gt"), Some("3")), Some(true));
    }
}
