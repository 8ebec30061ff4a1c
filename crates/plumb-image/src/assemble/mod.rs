//! Package contents and the user's files to one tree, with everything maintainer scripts would have done to it.
//!
//! The order: diversions (from `preinst`), merge, skeleton, accounts, `postinst`, tmpfiles.d, drop rules,
//! alternatives, certificates, the user's files, linker cache, owners, package list.

pub(crate) mod merge;
mod scripted;
mod scripts;
mod skeleton;
mod stage;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use plumb_guest_proto::Directory;
use plumb_model::Digest;
use plumb_model::definition::Init;
use serde::{Deserialize, Serialize};

pub use self::stage::{Stage, StagePackage, stage};
use crate::binary;
use crate::deb::PackageContent;
use crate::effect::Effects;
use crate::rule::account::{AccountError, Accounts, WantedUser};
use crate::rule::drop::Dropped;
use crate::rule::world::World;
use crate::rule::{Report, certificate, drop, linker, secret, tmpfile};
use crate::tree::{Entry, Kind, Layer, Objects, Origin, Tree};
use scripts::Scripts;

/// One package of the closure.
#[derive(Debug, Clone, Copy)]
pub struct PackageInput<'a> {
    /// Name.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Architecture, or `all`.
    pub architecture: &'a str,
    /// Who wants it.
    pub layer: Layer,
    /// Its content.
    pub content: &'a PackageContent,
}

/// One file of the user's.
#[derive(Debug, Clone)]
pub struct AppFile {
    /// Absolute path in the image; parents that are links are followed.
    pub path: String,
    /// Content.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner by name; root if `None`.
    pub user: Option<String>,
    /// Group by name; root if `None`.
    pub group: Option<String>,
}

/// Everything that decides a tree.
#[derive(Debug, Clone, Default)]
pub struct AssembleInput<'a> {
    /// The closure, in any order.
    pub packages: Vec<PackageInput<'a>>,
    /// The user's files; they win over packages' files.
    pub app_files: Vec<AppFile>,
    /// Accounts that services run as; made if no package does.
    pub users: BTreeSet<String>,
    /// [`Accounts::allocated`] of the last build, from the lock.
    pub previous: BTreeMap<String, (u32, u32)>,
    /// Mount points of volumes.
    pub mounts: Vec<String>,
    /// Paths, as shell patterns, that drop rules leave alone.
    pub keep: Vec<String>,
    /// Debian suite by code name, for example `bookworm`.
    pub suite: String,
    /// Who is PID 1.
    pub init: Init,
    /// What the user chose where no rule covers a package's scripts, by package.
    pub choices: BTreeMap<String, Choice>,
    /// What the maintainer scripts did, if they really ran; rules take their place otherwise.
    pub effects: Option<&'a Effects>,
}

/// The user's answer to what no rule covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// It is not needed in this machine.
    Skip,
    /// Commands that are evaluated instead of the lines that no rule covers.
    Rule(String),
}

/// A finished tree and what came out beside it.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The tree, closed.
    pub tree: Tree,
    /// All accounts; [`Accounts::allocated`] goes into the lock.
    pub accounts: Accounts,
    /// Directories below `/run` and `/tmp`, to be made at boot, parents first.
    pub directories: Vec<Directory>,
    /// systemd units and their drop-ins by path; the tree has them only where systemd is PID 1.
    pub units: BTreeMap<String, (Entry, Origin)>,
    /// What no rule does.
    pub reports: Vec<Report>,
    /// What was left out, by rule.
    pub dropped: BTreeMap<String, Dropped>,
    /// Notes that are neither errors nor effects left out.
    pub notes: Vec<Note>,
}

/// Something the user may want to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "note")]
pub enum Note {
    /// A file of the user's stands where a package has one.
    Replaced {
        /// The path.
        path: String,
        /// The package.
        package: String,
    },
    /// A script would have made what belongs to one instance: a key, a password, a database.
    LeftToInstance {
        /// The package.
        package: String,
        /// The line of its script.
        line: String,
        /// Why an image cannot have it.
        reason: String,
    },
}

/// Why no tree can be made.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Two packages have different files of one name and none replaces the other.
    #[error("packages `{first}` and `{second}` both have `{path}`")]
    Conflict {
        /// The path.
        path: String,
        /// One package.
        first: String,
        /// The other package.
        second: String,
    },
    /// A path below something that is no directory.
    #[error("`{path}` of `{source_name}` lies below `{parent}`, which is no directory")]
    NoDirectory {
        /// The path.
        path: String,
        /// Its owner.
        source_name: String,
        /// The parent.
        parent: String,
    },
    /// A path that is not absolute, not normal, or empty at boot.
    #[error("`{path}` cannot hold a file of an image: {reason}")]
    BadPath {
        /// The path.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A suite whose version is not known.
    #[error("suite `{suite}` is not a Debian suite that Plumb knows")]
    UnknownSuite {
        /// The suite.
        suite: String,
    },
    /// An account cannot be made.
    #[error("cannot make the accounts of the image")]
    Account(#[from] AccountError),
    /// A file is to belong to nobody.
    #[error("`{path}` is to belong to `{name}`, which is no account of the image")]
    NoAccount {
        /// The path.
        path: String,
        /// The name.
        name: String,
    },
    /// Contents cannot be read or kept.
    #[error("cannot read or keep file contents")]
    Objects(#[from] io::Error),
}

/// Makes the tree.
///
/// # Errors
/// [`AssembleError`].
pub fn assemble(input: &AssembleInput<'_>, objects: &dyn Objects) -> Result<Assembled, AssembleError> {
    let mut world = World::new(objects);
    world.init = input.init;
    let packages = status::in_dependency_order(&input.packages);
    world.packages = packages.iter().map(|p| (p.name.to_owned(), p.version.to_owned())).collect();
    let mut scripts = Scripts { choices: &input.choices, reports: Vec::new() };
    if input.effects.is_some() {
        world.diversions = stage::diversions(&packages, objects)?;
    } else {
        scripts.preinst(&mut world, &packages)?;
    }
    merge::packages(&mut world, &packages)?;
    skeleton::apply(&mut world, &input.suite)?;
    if let Some(effects) = input.effects {
        effects.want(&mut world.accounts);
    }
    scripts.reports.extend(sysusers(&mut world)?);
    if let Some(effects) = input.effects {
        scripted::apply(&mut world, effects, &packages)?;
    } else {
        scripts.postinst(&mut world, &packages)?;
        scripts.triggers(&mut world, &packages)?;
    }
    let Scripts { mut reports, .. } = scripts;
    let is_of_package =
        |path: &str| packages.iter().any(|package| package.content.entries.contains_key(path));
    reports.extend(secret::leave_out(&mut world, &is_of_package));
    reports.extend(tmpfile::apply(&mut world)?);
    for user in &input.users {
        let account = WantedUser { group: Some(user.clone()), ..WantedUser::default() };
        world.accounts.user(user, account)?;
    }
    let (dropped, units) = drop::apply(&mut world.tree, &input.keep, input.init);
    std::mem::take(&mut world.alternatives).apply(&mut world);
    skeleton::shell(&mut world);
    if input.effects.is_none() {
        certificate::apply(&mut world)?;
    }
    let accounts = world.accounts.allocate(&input.previous)?;
    if let Some(effects) = input.effects {
        scripted::give_ids(&mut world.tree, effects, &accounts);
        scripted::prune_alternatives(&mut world.tree);
    }
    let mut notes = app_files(&mut world, &input.app_files, &accounts)?;
    for mount in &input.mounts {
        let path = checked_place(&world, mount)?;
        world.add(&path, Entry::directory(0o755), "rule:volumes");
    }
    link_libraries(&mut world, &input.packages)?;
    for (package, unhandled) in world.settle_owners(&accounts) {
        reports.push(Report { package, script: "owners".to_owned(), unhandled });
    }
    skeleton::accounts(&mut world, &accounts)?;
    status::write(&mut world, &packages)?;
    // systemd-tmpfiles of the image makes them at boot.
    let directories = if input.init.is_plumb() { boot_directories(&world, &accounts) } else { Vec::new() };
    let mut tree = std::mem::take(&mut world.tree);
    keep_empty(&mut tree);
    tree.close();
    check_parents(&tree)?;
    reports.retain(|report| !input.choices.contains_key(&report.package) || report.script == scripts::RULE);
    reports.sort();
    notes.extend(world.left_to_instance.into_iter().map(|(package, line, reason)| Note::LeftToInstance {
        package,
        line,
        reason: reason.to_owned(),
    }));
    Ok(Assembled { tree, accounts, directories, units, reports, dropped, notes })
}

/// sysusers.d(5), in the order of file names.
fn sysusers(world: &mut World<'_>) -> Result<Vec<Report>, AssembleError> {
    let mut files = BTreeMap::new();
    for folder in ["/usr/lib/sysusers.d/", "/etc/sysusers.d/"] {
        for (path, (_, origin)) in world.tree.entries.range(folder.to_owned()..) {
            let Some(name) = path.strip_prefix(folder) else { break };
            if name.ends_with(".conf") {
                files.insert(name.to_owned(), (path.clone(), origin.source.clone()));
            }
        }
    }
    let mut reports = Vec::new();
    for (path, package) in files.into_values() {
        let text = world.text(&path)?.unwrap_or_default();
        let unhandled = world.accounts.sysusers(&text);
        if !unhandled.is_empty() {
            reports.push(Report { package, script: path, unhandled });
        }
    }
    Ok(reports)
}

/// Where a path named by the user leads, if it may hold something.
fn checked_place(world: &World<'_>, path: &str) -> Result<String, AssembleError> {
    let refuse = |reason| AssembleError::BadPath { path: path.to_owned(), reason };
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(refuse("it is not the absolute path of a file"));
    }
    if path.split('/').any(|part| part == "..") || path.chars().any(char::is_control) {
        return Err(refuse("it has a `..` or a control character"));
    }
    let place = world.place(path).ok_or_else(|| refuse("its links lead in a circle"))?;
    if World::is_volatile(&place) {
        return Err(refuse("it lies below a mount that is empty at boot"));
    }
    Ok(place)
}

fn app_files(
    world: &mut World<'_>,
    files: &[AppFile],
    accounts: &Accounts,
) -> Result<Vec<Note>, AssembleError> {
    let mut notes = BTreeSet::new();
    for file in files {
        let path = checked_place(world, &file.path)?;
        let nobody = |name: &str| AssembleError::NoAccount { path: file.path.clone(), name: name.to_owned() };
        let mut entry = Entry::file(file.digest, file.size, file.mode & 0o7777);
        if let Some(name) = &file.user {
            entry.uid = accounts.users.get(name).ok_or_else(|| nobody(name))?.uid;
        }
        if let Some(name) = &file.group {
            entry.gid = accounts.groups.get(name).ok_or_else(|| nobody(name))?.gid;
        }
        if let Some((old, origin)) = world.tree.entries.get(&path) {
            if old.kind == Kind::Directory {
                let reason = "a directory of a package is in its place";
                return Err(AssembleError::BadPath { path: file.path.clone(), reason });
            }
            notes.insert(Note::Replaced { path: path.clone(), package: origin.source.clone() });
        }
        world.insert(&path, entry, Origin { layer: Layer::App, source: "app".into() });
    }
    Ok(notes.into_iter().collect())
}

fn link_libraries(world: &mut World<'_>, packages: &[PackageInput<'_>]) -> Result<(), AssembleError> {
    let architectures: BTreeSet<&str> = packages.iter().map(|package| package.architecture).collect();
    let mut folders = linker::configured_folders(world)?;
    for (architecture, triplet) in [("amd64", "x86_64-linux-gnu"), ("arm64", "aarch64-linux-gnu")] {
        if architectures.contains(architecture) {
            folders.extend(linker::default_folders(triplet));
        }
    }
    let binaries = binary::scan(&world.tree, world.objects)?;
    Ok(linker::apply(world, &folders, &binaries)?)
}

fn boot_directories(world: &World<'_>, accounts: &Accounts) -> Vec<Directory> {
    let mounts = ["/run", "/tmp", "/dev", "/proc", "/sys"];
    let wanted = world.boot_directories.iter().filter(|(path, _)| !mounts.contains(&path.as_str()));
    let id = |name: &String, known: Option<u32>| known.or_else(|| name.parse().ok()).unwrap_or(0);
    wanted
        .map(|(path, directory)| Directory {
            path: path.clone(),
            mode: directory.mode,
            uid: id(&directory.user, accounts.users.get(&directory.user).map(|user| user.uid)),
            gid: id(&directory.group, accounts.groups.get(&directory.group).map(|group| group.gid)),
        })
        .collect()
}

/// Nothing may lie below the mounts that are empty at boot: it would be there and never be seen.
fn keep_empty(tree: &mut Tree) {
    let mounts = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    tree.entries.retain(|path, _| !World::is_volatile(path) || mounts.contains(&path.as_str()));
}

/// Every parent must be a directory; a link would make the image writer's tree ambiguous.
fn check_parents(tree: &Tree) -> Result<(), AssembleError> {
    for (path, (_, origin)) in &tree.entries {
        let parent = path.rfind('/').map_or("", |cut| &path[..cut]);
        if !parent.is_empty() && tree.get(parent).is_none_or(|entry| entry.kind != Kind::Directory) {
            return Err(AssembleError::NoDirectory {
                path: path.clone(),
                source_name: origin.source.clone(),
                parent: parent.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
