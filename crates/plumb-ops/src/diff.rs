//! What differs between two releases, folders or deployments: reads both sides, and lets `plumb-diff` decide.

mod vulnerability;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use plumb_debian::PackageName;
use plumb_diff::{Diff, Running, Side, SideMachine};
use plumb_guest_proto::{MACHINE_SPEC_PATH, MachineSpec};
use plumb_image::deb::PackageContent;
use plumb_image::library;
use plumb_image::tree::{Kind, Tree};
use plumb_model::definition::Definition;
use plumb_model::lock::{Lock, LockedPackage};
use plumb_model::release::{Content, ReleaseName, ReleaseRef};
use plumb_model::{DeploymentName, MachineName};

use crate::build::{BuiltImage, MANIFEST_LIMIT};
use crate::config::ConfigDifference;
use crate::contents::{StoreObjects, known_content, take_apart};
use crate::error::OpsError;
use crate::observe::{DeploymentView, InstanceView, READY};
use crate::project::{DEFINITION, Project};
use crate::subject::{STATUS, roots};
use crate::{Plumb, release};

/// Longest changelog that is looked at, unpacked: the kernel's of ten years has 10 MB.
const CHANGELOG_BYTES: u64 = 64 * 1024 * 1024;

/// The files of an image that are read to compare it.
const DOCUMENTS: [&str; 4] = [MACHINE_SPEC_PATH, STATUS, "/etc/passwd", "/etc/group"];

/// One side as it is named on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// A release of the store.
    Release(ReleaseRef),
    /// A folder with a definition, as it would be released now.
    Folder(PathBuf),
    /// A lock file.
    Lock {
        /// The file.
        path: PathBuf,
        /// The folder it lies in, if there is a definition. Otherwise it is read with that of what it is compared with, or
        /// that of the current folder.
        beside: Option<PathBuf>,
    },
    /// The release that a deployment runs.
    Deployment(DeploymentName),
}

impl Compared {
    /// `shop@3`, a folder, a lock file, or else a deployment.
    ///
    /// # Errors
    /// [`OpsError::NotComparable`] if it can be none of them.
    pub fn parse(text: &str) -> Result<Compared, OpsError> {
        if let Ok(release) = text.parse() {
            return Ok(Compared::Release(release));
        }
        let path = Path::new(text);
        if path.is_file() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let beside = folder.join(DEFINITION).is_file().then(|| folder.to_owned());
            return Ok(Compared::Lock { path: path.to_owned(), beside });
        }
        if text.contains('/') || text == "." || text == ".." || path.join(DEFINITION).is_file() {
            return Ok(Compared::Folder(path.to_owned()));
        }
        let refused = |_| OpsError::NotComparable { what: text.to_owned() };
        text.parse().map(Compared::Deployment).map_err(refused)
    }

    /// Where its definition lies, if in a folder.
    fn folder(&self) -> Option<&Path> {
        match self {
            Compared::Folder(folder) => Some(folder),
            Compared::Lock { beside, .. } => beside.as_deref(),
            Compared::Release(_) | Compared::Deployment(_) => None,
        }
    }

    /// A lock that lies elsewhere, with the definition of what it is compared with.
    fn beside(&self, other: Option<&Compared>) -> Compared {
        match self {
            Compared::Lock { path, beside: None } => {
                let beside = other.and_then(Compared::folder).map(Path::to_owned);
                Compared::Lock { path: path.clone(), beside }
            }
            this => this.clone(),
        }
    }

    fn deployment(&self) -> Option<&DeploymentName> {
        match self {
            Compared::Deployment(name) => Some(name),
            _ => None,
        }
    }
}

/// Instances that are not as the release of their deployment says.
fn drift(view: &DeploymentView) -> Vec<Running> {
    let release = view.release.as_deref().unwrap_or_default();
    let of = |instance: &InstanceView, what, expected: &str, found: &str| Running {
        deployment: view.name.clone(),
        instance: instance.name.clone(),
        what,
        expected: expected.to_owned(),
        found: found.to_owned(),
        why: view.note.clone(),
    };
    let mut all = Vec::new();
    for instance in &view.instances {
        if instance.state != READY {
            all.push(of(instance, "state", READY, &instance.state));
        }
        if instance.release != release {
            all.push(of(instance, "release", release, &instance.release));
        }
    }
    all
}

impl Plumb<'_> {
    /// What changed from one to the other, and why. Without a second one it is: of a folder, what releasing it would
    /// change; of a lock, what the one of its folder changes; of a release, what it changed; of a deployment, what the newest release would change.
    ///
    /// # Errors
    /// [`OpsError`]; [`OpsError::FirstRelease`] for a first release.
    pub fn diff(&self, one: &Compared, other: Option<&Compared>) -> Result<Diff, OpsError> {
        let (before, after) = match other {
            Some(other) => (self.side(&one.beside(Some(other)))?, self.side(&other.beside(Some(one)))?),
            None => self.natural_sides(one)?,
        };
        let (mut before, mut after) = (before, after);
        let names: Vec<MachineName> =
            before.machines.keys().filter(|name| after.machines.contains_key(*name)).cloned().collect();
        for name in names {
            if let (Some(one), Some(other)) = (before.machines.get_mut(&name), after.machines.get_mut(&name))
            {
                self.read_libraries(&name, one, other)?;
            }
        }
        let mut diff = plumb_diff::diff(&before, &after);
        self.add_vulnerabilities(&mut diff, &before, &after)?;
        for deployment in [Some(one), other].into_iter().flatten().filter_map(Compared::deployment) {
            diff.running.extend(self.drifted(deployment)?);
        }
        Ok(diff)
    }

    /// Where a deployment is not what its release says.
    fn drifted(&self, name: &DeploymentName) -> Result<Vec<Running>, OpsError> {
        let views = self.ps(Some(name), true)?;
        let mut all: Vec<Running> = views.iter().flat_map(drift).collect();
        if views.iter().any(|view| view.release.is_some()) {
            let shown = |one: &ConfigDifference, value: &Option<String>| match (one.secret, value) {
                (_, None) => format!("{} not set", one.name),
                // Both are a secret, of which nothing more is told.
                (true, Some(_)) => format!("{} as it was set last", one.name),
                (false, Some(value)) => format!("{} = {value}", one.name),
            };
            all.extend(self.config_diff(name, None, None)?.iter().map(|one| Running {
                deployment: name.clone(),
                instance: "configuration".to_owned(),
                what: "config",
                expected: shown(one, &one.after),
                found: if one.secret { format!("{} as before", one.name) } else { shown(one, &one.before) },
                why: Some(format!("it is set and not applied; `plumb config apply {name}` brings it")),
            }));
        }
        Ok(all)
    }

    fn natural_sides(&self, one: &Compared) -> Result<(Side, Side), OpsError> {
        match one {
            Compared::Release(name) => {
                let name = self.named(name)?;
                let number = name.number - 1;
                let previous = ReleaseName { app: name.app.clone(), number };
                // A release that is not there is told before it is asked what was before it.
                let after = self.side(one)?;
                if number == 0 {
                    return Err(OpsError::FirstRelease { release: name.clone() });
                }
                Ok((self.side(&Compared::Release(previous.into()))?, after))
            }
            Compared::Folder(folder) => {
                let project = Project::load(folder)?;
                let newest = self.newest_release(&project.definition.app)?.name();
                Ok((self.side(&Compared::Release(newest.into()))?, self.side(one)?))
            }
            Compared::Lock { beside, .. } => {
                let folder = beside.clone().unwrap_or_else(|| PathBuf::from("."));
                Ok((self.side(one)?, self.side(&Compared::Folder(folder))?))
            }
            Compared::Deployment(_) => {
                let before = self.side(one)?;
                let newest = self.newest_release(&before.lock.app)?.name();
                Ok((before, self.side(&Compared::Release(newest.into()))?))
            }
        }
    }

    pub(crate) fn side(&self, compared: &Compared) -> Result<Side, OpsError> {
        match compared {
            Compared::Release(wanted) => {
                let name = self.named(wanted)?;
                let shown = match wanted {
                    ReleaseRef::Release(_) => name.to_string(),
                    ReleaseRef::Channel { .. } => format!("{wanted} ({name})"),
                };
                self.side_of_release(&name, shown)
            }
            Compared::Deployment(name) => {
                let current = self.known(name)?.current;
                let release = current.ok_or_else(|| OpsError::NotRunning { deployment: name.clone() })?;
                self.side_of_release(&release, format!("{name} ({release})"))
            }
            Compared::Folder(folder) => {
                let project = Project::load(folder)?;
                let built = self.build_locked(&project)?;
                let name = format!("{} (here)", project.definition.app);
                self.side_of_project(name, project, built)
            }
            Compared::Lock { path, beside } => {
                let folder = beside.as_deref().unwrap_or(Path::new("."));
                let project = Project::load(folder)?.with_lock(path.clone());
                self.check_lock(&project).map_err(|error| match error {
                    OpsError::StaleLock { path: lock, reason } => {
                        OpsError::ForeignLock { lock, folder: project.folder.clone(), reason }
                    }
                    other => other,
                })?;
                let lock = project
                    .lock()?
                    .ok_or_else(|| OpsError::NotComparable { what: path.display().to_string() })?;
                let built = self.build_from(&project, lock)?;
                let name = format!("{} ({})", project.definition.app, path.display());
                self.side_of_project(name, project, built)
            }
        }
    }

    /// What a folder would be as a release.
    fn side_of_project(
        &self,
        name: String,
        project: Project,
        (lock, built): (Lock, Vec<BuiltImage>),
    ) -> Result<Side, OpsError> {
        let number = self.store.releases(&project.definition.app)?.last().map_or(1, |last| last + 1);
        let content = release::content(&project.definition, &built, number);
        self.make_side(name, project.definition, lock, content)
    }

    fn side_of_release(&self, name: &ReleaseName, label: String) -> Result<Side, OpsError> {
        let release = self.read_release(name)?;
        let definition = self.definition_of(&release)?;
        let lock = self.lock_of(&release)?;
        self.make_side(label, definition, lock, release.content)
    }

    fn make_side(
        &self,
        name: String,
        definition: Definition,
        lock: Lock,
        content: Content,
    ) -> Result<Side, OpsError> {
        let mut machines = BTreeMap::new();
        for (machine, entry) in &content.machines {
            let asked = definition.machines.get(machine).map(roots).unwrap_or_default();
            let image = self.image(&entry.image)?;
            let inventory = self.inventory(machine, &image)?;
            let tree = inventory.tree();
            let read: BTreeSet<String> = DOCUMENTS.iter().filter_map(|path| tree.resolve(path)).collect();
            self.carve(machine, (&image, &inventory), &|path| read.contains(path))?;
            let recorded = self.recorded(&image)?;
            let measured = self.measured(&entry.image)?.map(|seen| plumb_diff::Measured {
                memory_used_kib: seen.memory_used_kib,
                ready_ms: seen.ready_ms,
            });
            let found = SideMachine {
                dependencies: self.dependencies(machine, &inventory)?,
                roots: asked,
                spec: self.spec(machine, &tree)?,
                libraries: BTreeMap::new(),
                accounts: self.accounts(machine, &tree)?,
                rules: recorded.rules,
                guest: recorded.guest,
                measured,
                inventory,
                image,
            };
            machines.insert(machine.clone(), found);
        }
        Ok(Side { name, definition, lock, content, machines })
    }

    /// A file of an image as text; nothing if it has none.
    pub(crate) fn text_of(&self, machine: &MachineName, tree: &Tree, path: &str) -> Result<String, OpsError> {
        let entry = tree.resolve(path).and_then(|path| tree.get(&path));
        let Some(Kind::File { digest, .. }) = entry.map(|entry| &entry.kind) else {
            return Ok(String::new());
        };
        let bytes = self.store.read_bytes(digest, MANIFEST_LIMIT)?;
        String::from_utf8(bytes)
            .map_err(|error| OpsError::Build { machine: machine.clone(), source: Box::new(error) })
    }

    fn spec(&self, machine: &MachineName, tree: &Tree) -> Result<MachineSpec, OpsError> {
        let text = self.text_of(machine, tree, MACHINE_SPEC_PATH)?;
        serde_json::from_str(&text)
            .map_err(|error| OpsError::Build { machine: machine.clone(), source: Box::new(error) })
    }

    /// passwd(5) and group(5), line by line.
    fn accounts(&self, machine: &MachineName, tree: &Tree) -> Result<BTreeMap<String, String>, OpsError> {
        let mut accounts = BTreeMap::new();
        for (kind, path) in [("user", "/etc/passwd"), ("group", "/etc/group")] {
            for line in self.text_of(machine, tree, path)?.lines() {
                if let Some((name, rest)) = line.split_once(':') {
                    let said = rest.strip_prefix("x:").unwrap_or(rest);
                    accounts.insert(format!("{kind} {name}"), said.to_owned());
                }
            }
        }
        Ok(accounts)
    }

    /// Names of the shared libraries of what one of the two has and the other has not.
    fn read_libraries(
        &self,
        machine: &MachineName,
        one: &mut SideMachine,
        other: &mut SideMachine,
    ) -> Result<(), OpsError> {
        let objects = StoreObjects(&self.store);
        let names = |tree: &Tree| {
            library::names(tree, &objects)
                .map_err(|error| OpsError::Build { machine: machine.clone(), source: Box::new(error) })
        };
        let (before, after) = (&one.inventory.entries, &other.inventory.entries);
        let differs = |mine: &plumb_diff::Entries, theirs: &plumb_diff::Entries, path: &str| {
            mine.get(path).map(|it| &it.0.kind) != theirs.get(path).map(|it| &it.0.kind)
        };
        for (mine, theirs) in [(&*one, &*other), (&*other, &*one)] {
            let (mine, theirs) = (mine, &theirs.inventory.entries);
            let wanted = |path: &str| differs(&mine.inventory.entries, theirs, path);
            self.carve(machine, (&mine.image, &mine.inventory), &wanted)?;
        }
        let only = |mine: &plumb_diff::Entries, theirs: &plumb_diff::Entries| {
            let entries = mine.iter().filter(|(path, _)| differs(mine, theirs, path));
            Tree { entries: entries.map(|(path, it)| (path.clone(), it.clone())).collect() }
        };
        let (of_one, of_other) = (names(&only(before, after))?, names(&only(after, before))?);
        one.libraries = of_one;
        other.libraries = of_other;
        Ok(())
    }

    /// The changelog of a package, as it lies in its `.deb`; nothing if the package is not in the store, or has another
    /// one's (Debian policy 12.3: its documentation folder may be a link to that of a package of the same source).
    pub(crate) fn changelog(&self, package: &LockedPackage, lock: &Lock) -> Result<String, OpsError> {
        let Some(content) = self.in_package(package)? else { return Ok(String::new()) };
        let folder = format!("/usr/share/doc/{}", package.name);
        if let Some(Kind::Symlink { target }) = content.entries.get(&folder).map(|entry| &entry.kind) {
            let other = target.rsplit('/').next().and_then(|name| name.parse::<PackageName>().ok());
            let other = other.filter(|name| *name != package.name);
            let other = other.and_then(|name| lock.package(name.as_str()));
            let Some(other) = other else { return Ok(String::new()) };
            let content = self.in_package(other)?;
            return content.map_or(Ok(String::new()), |content| self.changelog_in(other, &content));
        }
        self.changelog_in(package, &content)
    }

    /// What is in a package, as far as it is in the store: taken apart again where that was forgotten.
    fn in_package(&self, package: &LockedPackage) -> Result<Option<PackageContent>, OpsError> {
        match known_content(&self.store, package)? {
            None if self.store.contains(&package.digest) => take_apart(&self.store, package).map(Some),
            known => Ok(known),
        }
    }

    fn changelog_in(&self, package: &LockedPackage, content: &PackageContent) -> Result<String, OpsError> {
        let path = |name: &str| format!("/usr/share/doc/{}/{name}", package.name);
        let found = ["changelog.Debian.gz", "changelog.gz"].map(path);
        let entry = found.iter().find_map(|path| content.entries.get(path));
        let Some(Kind::File { digest, .. }) = entry.map(|entry| &entry.kind) else {
            return Ok(String::new());
        };
        let unreadable = |source| OpsError::Unpack {
            package: format!("{} {}", package.name, package.version),
            source: Box::new(source),
        };
        let mut bytes = Vec::new();
        GzDecoder::new(self.store.open_object(digest)?)
            .take(CHANGELOG_BYTES)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
