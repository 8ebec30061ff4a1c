//! Commands that only make directories, as directories: `mkdir`, `install -d`, `chown` and `chmod` before a start.

use plumb_guest_proto::Directory;

use super::command::Draft;
use super::identity::{Identity, Wanted};
use super::{Accounts, value};

/// What a command does to its paths.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change<'a> {
    makes: bool,
    mode: Option<u32>,
    user: Option<&'a str>,
    group: Option<&'a str>,
    paths: Vec<&'a str>,
}

/// Does `draft` to `directories` if that is all it does; otherwise changes nothing and says no.
pub(super) fn absorb(
    draft: &Draft,
    owner: &Identity,
    accounts: &dyn Accounts,
    directories: &mut Vec<Directory>,
) -> bool {
    let Some(change) = Change::read(draft) else { return false };
    let wanted = Wanted { service: "", user: change.user, group: change.group, ..Wanted::default() };
    let Ok(named) = wanted.resolve(accounts) else { return false };
    let known = |path: &&str| directories.iter().any(|directory| directory.path == *path);
    if change.paths.is_empty()
        || !change.paths.iter().all(|path| is_writable(path) && (change.makes || known(path)))
    {
        return false;
    }
    let maker = if draft.privileged { (0, 0) } else { (owner.record.uid, owner.record.gid) };
    for path in &change.paths {
        let at = directories.iter().position(|directory| directory.path == *path).unwrap_or_else(|| {
            let (uid, gid) = maker;
            directories.push(Directory { path: (*path).to_owned(), mode: 0o755, uid, gid });
            directories.len() - 1
        });
        let directory = &mut directories[at];
        directory.mode = change.mode.unwrap_or(directory.mode);
        directory.uid = if change.user.is_some() { named.record.uid } else { directory.uid };
        directory.gid = if change.group.is_some() { named.record.gid } else { directory.gid };
    }
    true
}

impl<'a> Change<'a> {
    /// `None` for any other command, and for any option that means more.
    fn read(draft: &'a Draft) -> Option<Change<'a>> {
        let mut arguments = draft.arguments.iter().map(String::as_str).peekable();
        let mut change = Change::default();
        match draft.program.rsplit('/').next()? {
            "mkdir" => change.makes = true,
            "install" => change.makes = arguments.peek() == Some(&"-d"),
            "chown" => (change.user, change.group) = owners(arguments.next()?)?,
            "chmod" => change.mode = Some(value::mode(arguments.next()?)?),
            _ => return None,
        }
        while let Some(argument) = arguments.next() {
            match argument {
                "-d" | "-p" | "--parents" if change.makes => {}
                "-m" if change.makes => change.mode = Some(value::mode(arguments.next()?)?),
                "-o" if change.makes => change.user = Some(arguments.next()?),
                "-g" if change.makes => change.group = Some(arguments.next()?),
                path if path.starts_with('-') => {
                    let mode = path.strip_prefix("--mode=").or_else(|| path.strip_prefix("-m"))?;
                    change.mode = Some(value::mode(mode).filter(|_| change.makes)?);
                }
                path => change.paths.push(path.trim_end_matches('/')),
            }
        }
        let does = change.makes || change.mode.is_some() || change.user.is_some() || change.group.is_some();
        does.then_some(change)
    }
}

/// `user`, `user:group`, `:group`.
fn owners(text: &str) -> Option<(Option<&str>, Option<&str>)> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let given = |name: &'_ str| !name.is_empty();
    (!text.starts_with('-')).then(|| (Some(user).filter(|n| given(n)), Some(group).filter(|n| given(n))))
}

/// Below a folder that a running machine can write to, and nothing that the guest would have to expand.
fn is_writable(path: &str) -> bool {
    let below = ["/run/", "/tmp/", "/var/"].iter().any(|folder| path.starts_with(folder));
    below && !path.contains('$') && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::UserRecord;

    struct Etc;

    impl Accounts for Etc {
        fn user(&self, name: &str) -> Option<UserRecord> {
            let id = if name == "root" { 0 } else { 7 };
            (name != "gone").then(|| UserRecord { uid: id, gid: id, home: "/".into(), shell: String::new() })
        }

        fn group(&self, name: &str) -> Option<u32> {
            (name == "staff").then_some(9)
        }

        fn groups_of(&self, _: &str) -> Vec<u32> {
            Vec::new()
        }
    }

    fn check(commands: &[&str], expect: &[&str]) {
        let owner = Wanted::default().resolve(&Etc).unwrap();
        let mut directories = Vec::new();
        let mut shown = Vec::new();
        for command in commands {
            let mut words = command.split_whitespace().map(str::to_owned);
            let program = words.next().unwrap();
            let draft = Draft { program, arguments: words.collect(), ..Draft::default() };
            if !absorb(&draft, &owner, &Etc, &mut directories) {
                shown.push(format!("no: {command}"));
            }
        }
        shown.extend(directories.iter().map(|d| format!("{} {:o} {}:{}", d.path, d.mode, d.uid, d.gid)));
        assert_eq!(shown, expect);
    }

    #[test]
    fn directories_are_made_without_programs() {
        check(
            &[
                "/bin/mkdir -m 740 -p /run/a /var/log/b/",
                "/bin/chown mosquitto /run/a",
                "/bin/chmod 0700 /var/log/b",
            ],
            &["/run/a 740 7:0", "/var/log/b 700 0:0"],
        );
        check(&["install -d -m 0755 -o www -g staff /run/x"], &["/run/x 755 7:9"]);
        check(&["mkdir -m750 /run/x", "chown www:staff /run/x", "chown :staff /run/x"], &["/run/x 750 7:9"]);
    }

    #[test]
    fn anything_else_is_left_alone() {
        let commands = [
            "rm -rf /run/x",
            "mkdir -p /etc/x",
            "mkdir -p /run/../etc",
            "mkdir -v /run/x",
            "mkdir",
            "mkdir /run/$X",
            "chown gone /run/x",
            "chown www /run/x",
            "chown -R www /run/x",
            "chmod u+w /run/x",
            "install -m 600 /etc/a /run/b",
        ];
        let refused: Vec<String> = commands.iter().map(|command| format!("no: {command}")).collect();
        check(&commands, &refused.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
