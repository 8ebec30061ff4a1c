//! Where units and accounts come from.

use std::collections::{BTreeMap, BTreeSet};

use super::parse::Unit;
use super::specifier::UnitName;
use super::{MAX_UNIT_BYTES, UnitError};
use crate::tree::{Kind, Objects, Tree};

/// The unit texts of a machine's packages.
pub trait UnitSource {
    /// Text of the unit file `name` (`nginx.service`, `postgresql@.service`), symbolic links followed.
    fn unit(&self, name: &str) -> Option<String>;

    /// Texts of its drop-ins (`name.d/*.conf`), in the order of their names.
    fn drop_ins(&self, name: &str) -> Vec<String>;

    /// Names of all service units, links included, sorted.
    fn names(&self) -> Vec<String>;
}

/// A user of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell; empty if unknown.
    pub shell: String,
}

/// The users and groups of the image.
pub trait Accounts {
    /// A user by name.
    fn user(&self, name: &str) -> Option<UserRecord>;

    /// A group's id by name.
    fn group(&self, name: &str) -> Option<u32>;

    /// Ids of the groups that name `user` as a member, sorted, without the primary group.
    fn groups_of(&self, user: &str) -> Vec<u32>;
}

impl Accounts for crate::rule::account::Accounts {
    fn user(&self, name: &str) -> Option<UserRecord> {
        let user = self.users.get(name)?;
        Some(UserRecord { uid: user.uid, gid: user.gid, home: user.home.clone(), shell: user.shell.clone() })
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).map(|group| group.gid)
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .groups
            .values()
            .filter(|group| group.members.contains(user))
            .map(|group| group.gid)
            .collect();
        ids.sort_unstable();
        ids
    }
}

/// Folders of unit files, most important first: systemd.unit(5) "UNIT FILE LOAD PATH", without what a package does
/// not ship.
const FOLDERS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The units in a file tree.
pub struct TreeUnits<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// Its contents.
    pub objects: &'a dyn Objects,
}

impl TreeUnits<'_> {
    /// A file that is absent, too long or no UTF-8 is no unit.
    fn text(&self, path: &str) -> Option<String> {
        let entry = self.tree.get(&self.tree.resolve(path)?)?;
        let Kind::File { digest, .. } = &entry.kind else { return None };
        let bytes = self.objects.read(digest, MAX_UNIT_BYTES as u64).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// Names directly below `folder`.
    fn children(&self, folder: &str) -> impl Iterator<Item = &str> {
        let below = self.tree.resolve(folder).map(|folder| format!("{folder}/"));
        let range = below.clone().into_iter().flat_map(|below| self.tree.entries.range(below..));
        range
            .map_while(move |(path, _)| path.strip_prefix(below.as_deref()?))
            .filter(|name| !name.is_empty() && !name.contains('/'))
    }
}

impl UnitSource for TreeUnits<'_> {
    fn unit(&self, name: &str) -> Option<String> {
        FOLDERS.iter().find_map(|folder| self.text(&format!("{folder}/{name}")))
    }

    fn drop_ins(&self, name: &str) -> Vec<String> {
        let mut found = BTreeMap::new();
        for folder in FOLDERS.iter().rev().map(|folder| format!("{folder}/{name}.d")) {
            for file in self.children(&folder).filter(|file| file.ends_with(".conf")) {
                found.insert(file.to_owned(), self.text(&format!("{folder}/{file}")));
            }
        }
        found.into_values().flatten().collect()
    }

    fn names(&self) -> Vec<String> {
        let all = FOLDERS.iter().flat_map(|folder| self.children(folder));
        let names: BTreeSet<&str> = all.filter(|name| name.ends_with(".service")).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

/// Finds and reads a unit with its drop-ins; for an instance its template is taken. The name that comes back is
/// another one if `name` is only an `Alias=` of it.
pub(super) fn load(name: &UnitName, units: &dyn UnitSource) -> Result<(UnitName, Unit), UnitError> {
    let text = units.unit(&name.full).or_else(|| units.unit(&name.template()?));
    if let Some(text) = text {
        return merge(name, &text, units).map(|unit| (name.clone(), unit));
    }
    let names = units.names();
    for other in &names {
        let Some(text) = units.unit(other).filter(|text| text.contains("Alias")) else { continue };
        let Ok(other) = UnitName::parse(other) else { continue };
        if aliases(&merge(&other, &text, units)?).any(|alias| alias == name.full) {
            return merge(&other, &text, units).map(|unit| (other, unit));
        }
    }
    let stem = name.prefix.as_str();
    let is_near = |other: &&String| other.contains(stem) || stem.contains(other.trim_end_matches(".service"));
    let near = names.iter().filter(is_near).take(10).cloned().collect();
    Err(UnitError::NotFound { name: name.full.clone(), near })
}

fn merge(name: &UnitName, text: &str, units: &dyn UnitSource) -> Result<Unit, UnitError> {
    let mut drop_ins = name.template().map(|template| units.drop_ins(&template)).unwrap_or_default();
    drop_ins.extend(units.drop_ins(&name.full));
    Unit::parse(text, &drop_ins).map_err(|source| UnitError::Parse { name: name.full.clone(), source })
}

/// Names in `Alias=`.
pub(super) fn aliases(unit: &Unit) -> impl Iterator<Item = &str> {
    unit.list("Install", "Alias").iter().flat_map(|value| value.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Folder, origin};
    use crate::tree::Entry;

    #[test]
    fn units_of_a_tree() {
        let (objects, mut tree) = (Folder::new(), Tree::default());
        let mut add = |path: &str, text: &str| objects.file(&mut tree, path, 0o644, text.as_bytes());
        add("/usr/lib/systemd/system/mariadb.service", "packaged");
        add("/usr/lib/systemd/system/mariadb.service.d/10-a.conf", "replaced");
        add("/usr/lib/systemd/system/mariadb.service.d/20-b.conf", "b");
        add("/usr/lib/systemd/system/mariadb.service.d/README", "no drop-in");
        add("/etc/systemd/system/mariadb.service.d/10-a.conf", "a");
        add("/usr/lib/systemd/system/x.service", "packaged");
        add("/etc/systemd/system/x.service", "own");
        add("/usr/lib/systemd/system/x.socket", "socket");
        tree.insert("/usr/lib/systemd/system/mysql.service", Entry::symlink("mariadb.service"), origin());
        tree.insert("/usr/lib/systemd/system/masked.service", Entry::symlink("/dev/null"), origin());
        tree.insert("/lib", Entry::symlink("usr/lib"), origin());
        tree.close();
        let units = TreeUnits { tree: &tree, objects: &objects };
        assert_eq!(units.names(), ["mariadb.service", "masked.service", "mysql.service", "x.service"]);
        assert_eq!(units.unit("mysql.service").as_deref(), Some("packaged"));
        assert_eq!(units.unit("x.service").as_deref(), Some("own"));
        assert_eq!(units.unit("masked.service"), None);
        assert_eq!(units.drop_ins("mariadb.service"), ["a", "b"]);
        assert!(units.drop_ins("x.service").is_empty());
    }
}
