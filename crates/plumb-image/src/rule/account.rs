//! Users and groups: Debian's fixed ones, sysusers.d(5), and what maintainer scripts ask for; ids given
//! deterministically and kept by the lock, so that volumes keep their owners.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// First id given to an account without a fixed one (Debian policy 9.2.2: 100 to 999 are given at install time).
const FIRST_ID: u32 = 100;
/// Last such id.
const LAST_ID: u32 = 999;
/// All of them.
pub(super) const GIVEN_IDS: std::ops::RangeInclusive<u32> = FIRST_ID..=LAST_ID;
/// `nogroup`, the primary group of `adduser --system` without `--group`.
const NOGROUP: &str = "nogroup";

/// `passwd.master` of base-passwd 3.6 (Debian 12): name, uid, primary group, gecos, home, shell.
const FIXED_USERS: [(&str, u32, &str, &str, &str, &str); 18] = [
    ("root", 0, "root", "root", "/root", "/bin/sh"),
    ("daemon", 1, "daemon", "daemon", "/usr/sbin", NOLOGIN),
    ("bin", 2, "bin", "bin", "/bin", NOLOGIN),
    ("sys", 3, "sys", "sys", "/dev", NOLOGIN),
    ("sync", 4, NOGROUP, "sync", "/bin", "/bin/sync"),
    ("games", 5, "games", "games", "/usr/games", NOLOGIN),
    ("man", 6, "man", "man", "/var/cache/man", NOLOGIN),
    ("lp", 7, "lp", "lp", "/var/spool/lpd", NOLOGIN),
    ("mail", 8, "mail", "mail", "/var/mail", NOLOGIN),
    ("news", 9, "news", "news", "/var/spool/news", NOLOGIN),
    ("uucp", 10, "uucp", "uucp", "/var/spool/uucp", NOLOGIN),
    ("proxy", 13, "proxy", "proxy", "/bin", NOLOGIN),
    ("www-data", 33, "www-data", "www-data", "/var/www", NOLOGIN),
    ("backup", 34, "backup", "backup", "/var/backups", NOLOGIN),
    ("list", 38, "list", "Mailing List Manager", "/var/list", NOLOGIN),
    ("irc", 39, "irc", "ircd", "/run/ircd", NOLOGIN),
    ("_apt", 42, NOGROUP, "", "/nonexistent", NOLOGIN),
    ("nobody", 65534, NOGROUP, "nobody", "/nonexistent", NOLOGIN),
];

/// `group.master` of base-passwd 3.6 (Debian 12).
const FIXED_GROUPS: [(&str, u32); 38] = [
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("man", 12),
    ("proxy", 13),
    ("kmem", 15),
    ("dialout", 20),
    ("fax", 21),
    ("voice", 22),
    ("cdrom", 24),
    ("floppy", 25),
    ("tape", 26),
    ("sudo", 27),
    ("audio", 29),
    ("dip", 30),
    ("www-data", 33),
    ("backup", 34),
    ("operator", 37),
    ("list", 38),
    ("irc", 39),
    ("src", 40),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("sasl", 45),
    ("plugdev", 46),
    ("staff", 50),
    ("games", 60),
    ("users", 100),
    (NOGROUP, 65534),
];

/// Shell of accounts nobody logs in to.
pub const NOLOGIN: &str = "/usr/sbin/nologin";

/// Why accounts cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// A name that a passwd file cannot hold.
    #[error("`{name}` is no account name")]
    BadName {
        /// The name.
        name: String,
    },
    /// A comment, home or shell that a passwd file cannot hold.
    #[error("account `{name}` has a field with a colon or a control character")]
    BadField {
        /// The account.
        name: String,
    },
    /// All ids from 100 to 999 are taken.
    #[error("no id from 100 to 999 is left for account `{name}`")]
    Exhausted {
        /// The account.
        name: String,
    },
}

/// A user as asked for; the id comes later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedUser {
    /// Id asked for; another one is given if it is taken.
    pub uid: Option<u32>,
    /// Primary group; `None` means `nogroup`.
    pub group: Option<String>,
    /// Comment.
    pub gecos: String,
    /// Home directory; empty means `/nonexistent`.
    pub home: String,
    /// Login shell; empty means [`NOLOGIN`].
    pub shell: String,
}

/// A group as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedGroup {
    /// Id asked for; another one is given if it is taken.
    pub gid: Option<u32>,
    /// Users that are in it besides those whose primary group it is.
    pub members: BTreeSet<String>,
}

/// Accounts asked for so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    users: BTreeMap<String, WantedUser>,
    groups: BTreeMap<String, WantedGroup>,
}

/// A user of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
    /// Comment.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A group of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Group id.
    pub gid: u32,
    /// Users that are in it besides those whose primary group it is.
    pub members: BTreeSet<String>,
}

/// All accounts of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// Groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Ids that were given and not fixed: account name to (id, primary gid). A group without a user of its name has
    /// its id twice. Goes into the lock and comes back as `previous`; accounts of earlier builds stay in it.
    pub allocated: BTreeMap<String, (u32, u32)>,
}

impl Default for Wanted {
    fn default() -> Self {
        let mut wanted = Wanted { users: BTreeMap::new(), groups: BTreeMap::new() };
        for (name, gid) in FIXED_GROUPS {
            wanted.groups.insert(name.into(), WantedGroup { gid: Some(gid), members: BTreeSet::new() });
        }
        for (name, uid, group, gecos, home, shell) in FIXED_USERS {
            let user = WantedUser {
                uid: Some(uid),
                group: Some(group.into()),
                gecos: gecos.into(),
                home: home.into(),
                shell: shell.into(),
            };
            wanted.users.insert(name.into(), user);
        }
        wanted
    }
}

impl Wanted {
    /// Is there such a user?
    #[must_use]
    pub fn has_user(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// Is there such a group?
    #[must_use]
    pub fn has_group(&self, name: &str) -> bool {
        self.groups.contains_key(name)
    }

    /// Is the group the user's primary one, or is the user listed in it?
    #[must_use]
    pub fn is_member(&self, user: &str, group: &str) -> bool {
        let primary = self.users.get(user).and_then(|user| user.group.as_deref()) == Some(group);
        primary || self.groups.get(group).is_some_and(|group| group.members.contains(user))
    }

    /// Groups of a user by name, the primary one first.
    #[must_use]
    pub fn groups_of(&self, user: &str) -> Vec<&str> {
        let primary = self.users.get(user).map(|user| user.group.as_deref().unwrap_or(NOGROUP));
        let others = self
            .groups
            .iter()
            .filter(|(name, group)| group.members.contains(user) && Some(name.as_str()) != primary);
        primary.into_iter().chain(others.map(|(name, _)| name.as_str())).collect()
    }

    /// The home directory of a user.
    #[must_use]
    pub fn home(&self, user: &str) -> Option<&str> {
        self.users
            .get(user)
            .map(|user| if user.home.is_empty() { "/nonexistent" } else { user.home.as_str() })
    }

    /// Primary group of a user.
    #[must_use]
    pub fn primary_group(&self, user: &str) -> Option<&str> {
        self.users.get(user).map(|user| user.group.as_deref().unwrap_or(NOGROUP))
    }

    /// Changes a user that is there; `None` if there is none.
    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut WantedUser)) -> Option<()> {
        let mut user = self.users.get(name)?.clone();
        change(&mut user);
        self.users.remove(name);
        self.user(name, user).ok()
    }

    /// Takes a user out of a group.
    pub(crate) fn no_member(&mut self, user: &str, group: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            group.members.remove(user);
        }
    }

    /// The id of a user that has the same one in every image.
    #[must_use]
    pub fn fixed_uid(&self, name: &str) -> Option<u32> {
        FIXED_USERS.iter().find(|(user, ..)| *user == name).map(|(_, uid, ..)| *uid)
    }

    /// The line of passwd(5), with `unknown` for an id that is not given yet.
    pub(crate) fn passwd_line(&self, name: &str, unknown: char) -> Option<String> {
        let user = self.users.get(name)?;
        let or =
            |value: &str, default: &str| if value.is_empty() { default.into() } else { value.to_owned() };
        let uid = self.fixed_uid(name).map_or_else(|| unknown.to_string(), |uid| uid.to_string());
        let (home, shell) = (or(&user.home, "/nonexistent"), or(&user.shell, NOLOGIN));
        Some(format!("{name}:x:{uid}:{unknown}:{}:{home}:{shell}", user.gecos))
    }

    /// All lines of passwd(5) or group(5).
    pub(crate) fn all_lines(&self, database: &str, unknown: char) -> String {
        let lines: Vec<String> = if database == "passwd" {
            self.users.keys().filter_map(|name| self.passwd_line(name, unknown)).collect()
        } else {
            self.groups.keys().filter_map(|name| self.group_line(name, unknown)).collect()
        };
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The line of group(5), with `unknown` for its id.
    pub(crate) fn group_line(&self, name: &str, unknown: char) -> Option<String> {
        let group = self.groups.get(name)?;
        let members: Vec<&str> = group.members.iter().map(String::as_str).collect();
        Some(format!("{name}:x:{unknown}:{}", members.join(",")))
    }

    /// Adds a user unless it is there, and its primary group.
    ///
    /// # Errors
    /// [`AccountError::BadName`], [`AccountError::BadField`].
    pub fn user(&mut self, name: &str, user: WantedUser) -> Result<(), AccountError> {
        check_name(name)?;
        if [&user.gecos, &user.home, &user.shell]
            .iter()
            .any(|s| s.contains(|c: char| c == ':' || c.is_control()))
        {
            return Err(AccountError::BadField { name: name.to_owned() });
        }
        if let Some(group) = &user.group {
            self.group(group, None)?;
        }
        self.users.entry(name.to_owned()).or_insert(user);
        Ok(())
    }

    /// Adds a group unless it is there.
    ///
    /// # Errors
    /// [`AccountError::BadName`].
    pub fn group(&mut self, name: &str, gid: Option<u32>) -> Result<(), AccountError> {
        check_name(name)?;
        self.groups.entry(name.to_owned()).or_insert(WantedGroup { gid, members: BTreeSet::new() });
        Ok(())
    }

    /// Puts a user into a group.
    ///
    /// # Errors
    /// [`AccountError::BadName`].
    pub fn member(&mut self, user: &str, group: &str) -> Result<(), AccountError> {
        check_name(user)?;
        self.group(group, None)?;
        if let Some(group) = self.groups.get_mut(group) {
            group.members.insert(user.to_owned());
        }
        Ok(())
    }

    /// Adds or replaces a user whose fields were checked, as a script made it. `root` and the likes keep their ids.
    pub(crate) fn take_user(&mut self, name: &str, user: WantedUser) {
        let uid = self.users.get(name).and_then(|old| old.uid).or(user.uid);
        self.users.insert(name.to_owned(), WantedUser { uid, ..user });
    }

    /// Adds a group whose fields were checked, or members to it.
    pub(crate) fn take_group(&mut self, name: &str, gid: u32, members: &BTreeSet<String>) {
        let fresh = WantedGroup { gid: Some(gid), members: BTreeSet::new() };
        self.groups.entry(name.to_owned()).or_insert(fresh).members.extend(members.iter().cloned());
    }

    /// Gives every account its id: fixed ids first, then those of `previous`, then free ones from 100 up in the
    /// order of names. A user and the group of its name share one number.
    ///
    /// # Errors
    /// [`AccountError::Exhausted`].
    pub fn allocate(&self, previous: &BTreeMap<String, (u32, u32)>) -> Result<Accounts, AccountError> {
        let fixed: BTreeMap<&str, u32> =
            FIXED_USERS.iter().map(|(name, uid, ..)| (*name, *uid)).chain(FIXED_GROUPS).collect();
        let mut used: BTreeSet<u32> = fixed.values().copied().collect();
        used.extend(previous.values().map(|(id, _)| *id));
        let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
        let names: BTreeSet<&String> = self.users.keys().chain(self.groups.keys()).collect();
        let open =
            |name: &&&String| !fixed.contains_key(name.as_str()) && !previous.contains_key(name.as_str());
        // Ids asked for by number go first: a sorted-before account must not take them.
        for name in names.iter().filter(open) {
            let asked = self.users.get(*name).and_then(|user| user.uid);
            let asked = asked.or_else(|| self.groups.get(*name).and_then(|group| group.gid));
            if let Some(id) = asked.filter(|id| *id > 0 && used.insert(*id)) {
                ids.insert(name, id);
            }
        }
        for name in &names {
            let id = if let Some((id, _)) = previous.get(*name).filter(|_| !fixed.contains_key(name.as_str()))
            {
                *id
            } else if !open(&name) || ids.contains_key(name.as_str()) {
                continue;
            } else {
                let free = (FIRST_ID..=LAST_ID).find(|id| !used.contains(id));
                free.ok_or_else(|| AccountError::Exhausted { name: (*name).clone() })?
            };
            used.insert(id);
            ids.insert(name, id);
        }
        Ok(self.finish(&ids, previous))
    }

    fn finish(&self, ids: &BTreeMap<&str, u32>, previous: &BTreeMap<String, (u32, u32)>) -> Accounts {
        let uid = |name: &str| ids.get(name).copied().or(self.users.get(name).and_then(|user| user.uid));
        let gid = |name: &str| ids.get(name).copied().or(self.groups.get(name).and_then(|group| group.gid));
        let mut accounts = Accounts { allocated: previous.clone(), ..Accounts::default() };
        for (name, group) in &self.groups {
            let members =
                group.members.iter().filter(|user| self.users.contains_key(*user)).cloned().collect();
            let group = Group { gid: gid(name).unwrap_or(65534), members };
            if ids.contains_key(name.as_str()) {
                accounts.allocated.insert(name.clone(), (group.gid, group.gid));
            }
            accounts.groups.insert(name.clone(), group);
        }
        for (name, user) in &self.users {
            let or =
                |value: &str, default: &str| if value.is_empty() { default.into() } else { value.to_owned() };
            let user = User {
                uid: uid(name).unwrap_or(65534),
                gid: gid(user.group.as_deref().unwrap_or(NOGROUP)).unwrap_or(65534),
                gecos: user.gecos.clone(),
                home: or(&user.home, "/nonexistent"),
                shell: or(&user.shell, NOLOGIN),
            };
            if ids.contains_key(name.as_str()) {
                accounts.allocated.insert(name.clone(), (user.uid, user.gid));
            }
            accounts.users.insert(name.clone(), user);
        }
        accounts
    }

    /// Takes the lines of a sysusers.d(5) file; returns those it does not understand.
    pub fn sysusers(&mut self, text: &str) -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.filter(|line| self.sysusers_line(line).is_none()).map(str::to_owned).collect()
    }

    fn sysusers_line(&mut self, line: &str) -> Option<()> {
        let fields = shlex::split(line)?;
        let field =
            |at: usize| fields.get(at).map(String::as_str).filter(|field| *field != "-").unwrap_or("");
        let (name, id) = (field(1), field(2));
        match field(0).trim_end_matches('!') {
            "u" => {
                let (uid, group) = id.split_once(':').unwrap_or((id, ""));
                // A group that has this number already is meant (sysusers.d(5)).
                let group = FIXED_GROUPS
                    .iter()
                    .find(|(_, gid)| group.parse() == Ok(*gid))
                    .map_or(group, |(name, _)| *name);
                if self.has_user(name) && self.fixed_uid(name).is_some() {
                    return Some(()); // as it is
                }
                let group_is_name = !group.is_empty() && group.parse::<u32>().is_err();
                let primary = if group_is_name { group } else { name };
                self.group(primary, if group_is_name { None } else { group.parse().or(uid.parse()).ok() })
                    .ok()?;
                let user = WantedUser {
                    uid: uid.parse().ok(),
                    group: Some(primary.to_owned()),
                    gecos: field(3).to_owned(),
                    home: field(4).to_owned(),
                    shell: field(5).to_owned(),
                };
                self.user(name, user).ok()
            }
            "g" => self.group(name, id.parse().ok()).ok(),
            "m" => self.member(name, id).ok(),
            "r" => Some(()), // a range to allocate from; ours is fixed
            _ => None,
        }
    }
}

/// Can an account file hold this name?
pub(crate) fn is_account_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= 32
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        && !name.bytes().all(|b| b.is_ascii_digit())
}

fn check_name(name: &str) -> Result<(), AccountError> {
    if is_account_name(name) { Ok(()) } else { Err(AccountError::BadName { name: name.to_owned() }) }
}

impl Accounts {
    /// `/etc/passwd` (passwd(5)).
    #[must_use]
    pub fn passwd(&self) -> String {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by_key(|(name, user)| (user.uid, *name));
        users.iter().fold(String::new(), |mut out, (name, user)| {
            let User { uid, gid, gecos, home, shell } = user;
            let _ = writeln!(out, "{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}");
            out
        })
    }

    /// `/etc/group` (group(5)).
    #[must_use]
    pub fn group(&self) -> String {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(name, group)| (group.gid, *name));
        groups.iter().fold(String::new(), |mut out, (name, group)| {
            let members = group.members.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let _ = writeln!(out, "{name}:x:{}:{members}", group.gid);
            out
        })
    }

    /// `/etc/shadow` (shadow(5)): no account has a password, and none ages, as an image has no date. For the rest the lines
    /// are those of pwconv(8) for Debian's own accounts and of useradd(8) for all others.
    #[must_use]
    pub fn shadow(&self) -> String {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by_key(|(name, user)| (user.uid, *name));
        let is_fixed = |name: &str| FIXED_USERS.iter().any(|(fixed, ..)| *fixed == name);
        let rest = |name: &str| if is_fixed(name) { "*::0:99999:7:::" } else { "!:::::::" };
        users.iter().map(|(name, _)| format!("{name}:{}\n", rest(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(group: &str) -> WantedUser {
        WantedUser { group: Some(group.into()), ..WantedUser::default() }
    }

    #[test]
    fn ids_are_given_by_name_and_kept() {
        let mut wanted = Wanted::default();
        wanted.user("postgres", user("postgres")).unwrap();
        wanted.user("messagebus", user("messagebus")).unwrap();
        wanted.user("sshd", WantedUser::default()).unwrap();
        wanted.group("ssl-cert", None).unwrap();
        let first = wanted.allocate(&BTreeMap::new()).unwrap();
        assert_eq!(first.allocated["messagebus"], (101, 101)); // 100 is Debian's group `users`
        assert_eq!(first.allocated["postgres"], (102, 102));
        assert_eq!(first.allocated["sshd"], (103, 65534));
        assert_eq!(first.allocated["ssl-cert"], (104, 104));
        wanted.user("aaa", user("aaa")).unwrap();
        let second = wanted.allocate(&first.allocated).unwrap();
        assert_eq!(second.users["postgres"].uid, 102);
        assert_eq!(second.users["aaa"].uid, 105);
        assert!(second.passwd().contains("www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"));
        let without = Wanted::default().allocate(&second.allocated).unwrap();
        assert_eq!(without.allocated, second.allocated);
        assert!(!without.users.contains_key("postgres"));
    }

    #[test]
    fn sysusers_forms() {
        let mut wanted = Wanted::default();
        let text = "# c\nu redis - \"Redis server\" /var/lib/redis /bin/sh\nu! x 700:nogroup\ng kvm 36\nm redis adm\nz y\n";
        assert_eq!(wanted.sysusers(text), ["z y"]);
        let accounts = wanted.allocate(&BTreeMap::new()).unwrap();
        assert_eq!((accounts.users["x"].uid, accounts.users["x"].gid), (700, 65534));
        assert_eq!(accounts.groups["kvm"].gid, 36);
        assert!(accounts.groups["adm"].members.contains("redis"));
        assert_eq!(accounts.users["redis"].gecos, "Redis server");
    }

    #[test]
    fn names_that_would_forge_lines_are_refused() {
        let mut wanted = Wanted::default();
        for bad in ["", "a:b", "a\nb", "-x", "0", "ä"] {
            assert!(wanted.group(bad, None).is_err(), "{bad:?}");
        }
        let bad = WantedUser { gecos: "a\nroot::0:0".into(), ..WantedUser::default() };
        assert!(wanted.user("x", bad).is_err());
    }
}
