//! Accounts that scripts made: the lines of passwd(5) and group(5) that were not there before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::answer::Change;
use super::{Effects, MadeGroup, MadeUser};
use crate::assemble::Stage;
use crate::rule::account::is_account_name;
use crate::tree::{Kind, Objects};

/// Largest account file that is read: ten thousand accounts.
const FILE_BYTES: u64 = 1 << 20;

/// Reads both files, if they were changed.
pub(super) fn read(
    stage: &Stage,
    changes: &BTreeMap<String, Change>,
    objects: &dyn Objects,
    effects: &mut Effects,
) -> io::Result<()> {
    let text = |path: &str| -> io::Result<String> {
        match changes.get(path) {
            Some(Change::Entry { entry, .. }) => match &entry.kind {
                Kind::File { digest, .. } => {
                    Ok(String::from_utf8_lossy(&objects.read(digest, FILE_BYTES)?).into_owned())
                }
                _ => Ok(String::new()),
            },
            _ => Ok(String::new()),
        }
    };
    let mut names: BTreeMap<u32, String> =
        stage.accounts.groups.iter().map(|(name, group)| (group.gid, name.clone())).collect();
    for (name, group) in groups(&text("/etc/group")?) {
        names.insert(group.gid, name.clone());
        let old = stage.accounts.groups.get(&name);
        if old.is_none_or(|old| (old.gid, &old.members) != (group.gid, &group.members)) {
            effects.groups.insert(name, group);
        }
    }
    for (name, gid, user) in users(&text("/etc/passwd")?) {
        let user =
            MadeUser { group: names.get(&gid).cloned().unwrap_or_else(|| "nogroup".to_owned()), ..user };
        let is_old = stage.accounts.users.get(&name).is_some_and(|old| {
            (old.uid, old.gid, &old.home, &old.shell) == (user.uid, gid, &user.home, &user.shell)
        });
        if !is_old {
            effects.users.insert(name, user);
        }
    }
    Ok(())
}

/// Lines that are no account are passed over: no program could use them either.
fn users(text: &str) -> Vec<(String, u32, MadeUser)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, gecos, home, shell] = fields[..] else { return None };
        let user = MadeUser {
            uid: uid.parse().ok()?,
            group: String::new(),
            gecos: gecos.to_owned(),
            home: home.to_owned(),
            shell: shell.to_owned(),
        };
        let good = is_account_name(name) && !line.chars().any(char::is_control);
        Some((name.to_owned(), gid.parse().ok()?, user)).filter(|_| good)
    };
    text.lines().filter_map(line).collect()
}

fn groups(text: &str) -> Vec<(String, MadeGroup)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { return None };
        let members: BTreeSet<String> =
            members.split(',').filter(|member| is_account_name(member)).map(str::to_owned).collect();
        Some((name.to_owned(), MadeGroup { gid: gid.parse().ok()?, members }))
            .filter(|_| is_account_name(name))
    };
    text.lines().filter_map(line).collect()
}
