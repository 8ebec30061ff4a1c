//! What maintainer scripts did when they really ran: from the answer of a build VM to content of an image.
//!
//! The VM's root is a [`Stage`](crate::assemble::Stage); what it answers is the difference to that. [`settle`] takes
//! out what is no content of an image (residue, and what belongs to packages that were only there to run scripts),
//! and says whose the rest is.

mod account;
pub mod answer;
mod residue;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use self::answer::Change;
use crate::assemble::Stage;
use crate::rule::account::{Wanted, WantedUser};
use crate::tree::{Entry, Kind, Layer, Objects, Origin, normal_parts};

/// Prefix of [`Origin::source`] of what a script made.
pub const SOURCE: &str = "scripts";

/// What the scripts of one machine did. The same packages give the same effects, or a comparison says which differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effects {
    /// Entries that were made or changed, with the ids of the build VM.
    pub made: BTreeMap<String, (Entry, Origin)>,
    /// Paths that are gone; what lay below them is gone, too.
    pub removed: BTreeSet<String>,
    /// Users that were made or changed.
    pub users: BTreeMap<String, MadeUser>,
    /// Groups that were made or changed.
    pub groups: BTreeMap<String, MadeGroup>,
    /// Paths that are left out, and the rule that says so.
    pub left_out: BTreeMap<String, String>,
}

/// A user as a script made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeUser {
    /// Its id in the build VM.
    pub uid: u32,
    /// Its primary group.
    pub group: String,
    /// Comment.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A group as a script made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeGroup {
    /// Its id in the build VM.
    pub gid: u32,
    /// Users in it besides those whose primary group it is.
    pub members: BTreeSet<String>,
}

/// Sorts what a build VM answers.
///
/// # Errors
/// What reading contents says.
pub fn settle(
    stage: &Stage,
    changes: BTreeMap<String, Change>,
    objects: &dyn Objects,
) -> io::Result<Effects> {
    let mut effects = Effects::default();
    account::read(stage, &changes, objects, &mut effects)?;
    let gone = gone(stage, &changes);
    effects.removed = gone.into_iter().filter(|path| stage.is_of_machine(path)).collect();
    effects.removed.retain(|path| residue::find(path).is_none());
    for (path, change) in changes {
        let Change::Entry { entry, .. } = change else {
            if change == Change::Special {
                effects.left_out.insert(path, "special".to_owned());
            }
            continue;
        };
        if stage.tree.get(&path).is_some_and(|old| is_equal(old, &entry)) {
            continue;
        }
        match why_not(stage, &path) {
            Some(rule) => drop(effects.left_out.insert(path, rule.to_owned())),
            None => drop(effects.made.insert(path.clone(), (entry, origin(stage, &path)))),
        }
    }
    leave_out_links(&mut effects);
    Ok(effects)
}

/// An overlay shows a path as changed when it was only touched, and every directory above a change.
fn is_equal(old: &Entry, new: &Entry) -> bool {
    // The mode of a link means nothing, and file systems differ about it.
    let mode = |entry: &Entry| if matches!(entry.kind, Kind::Symlink { .. }) { 0 } else { entry.mode };
    (&old.kind, mode(old), old.uid, old.gid, &old.xattrs)
        == (&new.kind, mode(new), new.uid, new.gid, &new.xattrs)
}

/// Every path of the stage that is no longer there.
fn gone(stage: &Stage, changes: &BTreeMap<String, Change>) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    for (path, change) in changes {
        let hides = match change {
            Change::Removed | Change::Special => true,
            Change::Entry { entry, opaque } => *opaque || entry.kind != Kind::Directory,
        };
        if *change == Change::Removed && stage.tree.get(path).is_some() {
            gone.insert(path.clone());
        }
        if hides {
            let below = format!("{path}/");
            let hidden = stage.tree.entries.range(below.clone()..).map(|(path, _)| path);
            let hidden = hidden.take_while(|path| path.starts_with(&below));
            gone.extend(hidden.filter(|path| !changes.contains_key(*path)).cloned());
        }
    }
    gone
}

/// The rule that keeps a changed path out of the image.
fn why_not(stage: &Stage, path: &str) -> Option<&'static str> {
    if let Some(rule) = residue::find(path) {
        return Some(rule.name);
    }
    (!stage.is_of_machine(path)).then_some("build-only")
}

/// The nearest package above: `/var/lib/postgresql/15` is made by whoever has `/var/lib/postgresql`. What lies in
/// directories that packages share (`/etc`, `/var/lib`) has no owner.
fn origin(stage: &Stage, path: &str) -> Origin {
    let mut at = path;
    while at.matches('/').count() >= 2 || at == path {
        if let Some(owner) = stage.owner(at) {
            return Origin { layer: owner.layer, source: format!("{SOURCE}:{}", owner.source) };
        }
        match at.rfind('/').filter(|cut| *cut > 0) {
            Some(cut) => at = &at[..cut],
            None => break,
        }
    }
    Origin { layer: Layer::Os, source: SOURCE.to_owned() }
}

/// A link to what is left out goes with it: the one by which a certificate that is left out is found.
fn leave_out_links(effects: &mut Effects) {
    let mut dangling = Vec::new();
    for (path, (entry, _)) in &effects.made {
        let Kind::Symlink { target } = &entry.kind else { continue };
        let folder = path.rfind('/').map_or("", |cut| &path[..cut]);
        let target = if target.starts_with('/') { target.clone() } else { format!("{folder}/{target}") };
        let target = format!("/{}", normal_parts(&target).join("/"));
        if effects.left_out.contains_key(&target) {
            dangling.push(path.clone());
        }
    }
    for path in dangling {
        effects.made.remove(&path);
        effects.left_out.insert(path, "dangling".to_owned());
    }
}

impl Effects {
    /// What people should be told each time: path and reason.
    #[must_use]
    pub fn told(&self) -> Vec<(&str, &'static str)> {
        let rule = |name: &String| residue::RULES.iter().find(|rule| rule.name == name && rule.told);
        self.left_out.iter().filter_map(|(path, name)| Some((path.as_str(), rule(name)?.reason))).collect()
    }

    /// What differs between two runs, a line each, like ``/etc/x: contents``.
    #[must_use]
    pub fn difference(&self, other: &Effects) -> Vec<String> {
        let mut lines = Vec::new();
        let paths: BTreeSet<&String> = self.made.keys().chain(other.made.keys()).collect();
        for path in paths {
            match (self.made.get(path), other.made.get(path)) {
                (Some((one, _)), Some((two, _))) if one.kind != two.kind => {
                    lines.push(format!("{path}: contents"))
                }
                (Some((one, _)), Some((two, _))) if one != two => {
                    lines.push(format!("{path}: owner or mode"))
                }
                (Some(_), None) | (None, Some(_)) => lines.push(format!("{path}: made only once")),
                _ => {}
            }
        }
        lines.extend(
            self.removed
                .symmetric_difference(&other.removed)
                .map(|path| format!("{path}: removed only once")),
        );
        if (&self.users, &self.groups) != (&other.users, &other.groups) {
            lines.push("/etc/passwd: accounts".to_owned());
        }
        lines
    }

    /// Asks for the accounts that the scripts made, with the ids that they gave if these are free.
    pub(crate) fn want(&self, wanted: &mut Wanted) {
        for (name, group) in &self.groups {
            wanted.take_group(name, group.gid, &group.members);
        }
        for (name, user) in &self.users {
            let user = WantedUser {
                uid: Some(user.uid),
                group: Some(user.group.clone()),
                gecos: user.gecos.clone(),
                home: user.home.clone(),
                shell: user.shell.clone(),
            };
            wanted.take_user(name, user);
        }
    }
}

#[cfg(test)]
mod tests;
