//! The root in which maintainer scripts run: a machine's packages unpacked and not configured, and beside them, ready
//! for use, the packages that scripts count on (`Essential` ones: a shell, dpkg, perl).
//!
//! ```text
//!  of the machine      as its package has it     dpkg: install ok unpacked     its scripts run
//!  build-only          configured by rules       dpkg: install ok installed    never in the image
//!  /usr/lib/plumb/build.json                     what PID 1 does
//! ```
//! dpkg's own files are those of dpkg 1.21 (deb-triggers(5), dpkg-query(1), dpkg-divert(1)); a newer one reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use plumb_guest_proto::{BUILD_TASK_PATH, BuildStep, BuildTask, FORMAT};

use super::scripts::run_scripts;
use super::{AssembleError, PackageInput, link_libraries, merge, skeleton, status, sysusers};
use crate::rule::account::Accounts;
use crate::rule::world::World;
use crate::tree::{Entry, Objects, Origin, Tree};

/// What is a rule's doing in the stage, and never content of an image.
const RULE: &str = "rule:stage";

/// Members of `control.tar` that dpkg keeps, and whether they are programs.
const MEMBERS: [(&str, bool); 9] = [
    ("preinst", true),
    ("postinst", true),
    ("prerm", true),
    ("postrm", true),
    ("config", true),
    ("templates", false),
    ("triggers", false),
    ("conffiles", false),
    ("md5sums", false),
];

/// What commands of a build see. No locale, no terminal, no questions; orders that programs would make up by chance
/// are fixed.
const ENVIRONMENT: [(&str, &str); 11] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C.UTF-8"),
    ("TERM", "dumb"),
    ("TZ", "UTC"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ("DEBCONF_NOWARNINGS", "yes"),
    ("DPKG_COLORS", "never"),
    ("PERL_HASH_SEED", "0"),
    ("PYTHONHASHSEED", "0"),
];

/// No script may start a daemon (Debian's policy-rc.d interface: 101 is "forbidden by policy").
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// One package of a stage.
#[derive(Debug, Clone, Copy)]
pub struct StagePackage<'a> {
    /// The package.
    pub package: PackageInput<'a>,
    /// Its `control.tar`, byte by byte: a script may be a program.
    pub members: &'a BTreeMap<String, Vec<u8>>,
    /// It is one of the machine's, so its scripts run.
    pub is_of_machine: bool,
}

/// A finished stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The root of the build VM, closed.
    pub tree: Tree,
    /// Accounts that were there before any script ran.
    pub accounts: Accounts,
    /// Paths of the machine's packages and of the skeleton.
    of_machine: BTreeSet<String>,
    /// Packages that are not the machine's.
    build_only: BTreeSet<String>,
    /// Paths that one package alone has, of those of the machine.
    owners: BTreeMap<String, Origin>,
}

impl Stage {
    /// Would an image of the machine have this path, or could it: does it lie in a directory of its packages?
    #[must_use]
    pub fn is_of_machine(&self, path: &str) -> bool {
        if self.of_machine.contains(path) {
            return true;
        }
        if let Some((_, origin)) = self.tree.entries.get(path) {
            return !self.build_only.contains(&origin.source) && origin.source != RULE;
        }
        let mut parent = path;
        while let Some(cut) = parent.rfind('/').filter(|cut| *cut > 0) {
            parent = &parent[..cut];
            if self.tree.get(parent).is_some() {
                return self.of_machine.contains(parent);
            }
        }
        true
    }

    /// The package of the machine that alone has this very path.
    #[must_use]
    pub fn owner(&self, path: &str) -> Option<&Origin> {
        self.owners.get(path)
    }
}

/// Puts a stage together. `clock_s` is what SOURCE_DATE_EPOCH says to scripts.
///
/// # Errors
/// [`AssembleError`].
pub fn stage(
    packages: &[StagePackage<'_>],
    suite: &str,
    clock_s: u64,
    objects: &dyn Objects,
) -> Result<Stage, AssembleError> {
    let all: Vec<PackageInput<'_>> = packages.iter().map(|staged| staged.package).collect();
    let build_only: Vec<PackageInput<'_>> =
        packages.iter().filter(|staged| !staged.is_of_machine).map(|staged| staged.package).collect();
    let of_machine: Vec<PackageInput<'_>> =
        packages.iter().filter(|staged| staged.is_of_machine).map(|staged| staged.package).collect();
    let ordered = status::in_dependency_order(&all);
    let mut world = World::new(objects);
    world.diversions = diversions(&ordered, objects)?;
    merge::packages(&mut world, &ordered)?;
    skeleton::apply(&mut world, suite)?;
    sysusers(&mut world)?;
    run_scripts(&mut world, &status::in_dependency_order(&build_only), "postinst")?;
    required_alternatives(&mut world, &of_machine)?;
    std::mem::take(&mut world.alternatives).apply(&mut world);
    skeleton::shell(&mut world);
    let accounts = world.accounts.allocate(&BTreeMap::new())?;
    link_libraries(&mut world, &all)?;
    world.settle_owners(&accounts);
    skeleton::accounts(&mut world, &accounts)?;
    if of_machine.iter().any(|package| package.name == "libpam-runtime") {
        // pam-auth-update keeps its hands off files that it has not written.
        world.tree.entries.retain(|_, (_, origin)| origin.source != "rule:pam");
    }
    database(&mut world, packages)?;
    let origin = World::origin(RULE);
    world.write("/usr/sbin/policy-rc.d", POLICY.as_bytes(), 0o755, &origin)?;
    let task = task(&status::in_dependency_order(&of_machine), packages, clock_s);
    let task = serde_json::to_vec(&task).map_err(std::io::Error::from)?;
    world.write(BUILD_TASK_PATH, &task, 0o444, &origin)?;
    world.tree.close();
    let mut tree = world.tree;
    super::keep_empty(&mut tree);
    super::check_parents(&tree)?;
    let owners = owners(&all, &of_machine);
    let of_machine = machine_paths(&of_machine, suite, objects)?;
    let build_only = build_only.iter().map(|package| package.name.to_owned()).collect();
    Ok(Stage { tree, accounts, of_machine, build_only, owners })
}

/// Where `preinst` scripts move files of other packages: dpkg has to know before it unpacks.
pub(super) fn diversions(
    packages: &[PackageInput<'_>],
    objects: &dyn Objects,
) -> Result<BTreeMap<String, (String, String)>, AssembleError> {
    let mut world = World::new(objects);
    run_scripts(&mut world, packages, "preinst")?;
    Ok(world.diversions)
}

/// What scripts call by an alternative's name before the package that provides it is configured: `awk`. Debian's own
/// installer makes these links by hand, too.
pub(super) fn required_alternatives(
    world: &mut World<'_>,
    packages: &[PackageInput<'_>],
) -> Result<(), AssembleError> {
    let is_required = |package: &&PackageInput<'_>| {
        let control = &package.content.control;
        status::field(control, "Priority").as_deref() == Some("required")
    };
    let required: Vec<PackageInput<'_>> = packages.iter().filter(is_required).copied().collect();
    // In a world of their own: nothing else that rules know of these scripts may anticipate the scripts themselves.
    let mut apart = World::new(world.objects);
    apart.tree = world.tree.clone();
    run_scripts(&mut apart, &required, "postinst")?;
    world.alternatives = std::mem::take(&mut world.alternatives).joined(apart.alternatives);
    Ok(())
}

fn machine_paths(
    packages: &[PackageInput<'_>],
    suite: &str,
    objects: &dyn Objects,
) -> Result<BTreeSet<String>, AssembleError> {
    let ordered = status::in_dependency_order(packages);
    let mut world = World::new(objects);
    world.diversions = diversions(&ordered, objects)?;
    merge::packages(&mut world, &ordered)?;
    skeleton::apply(&mut world, suite)?;
    world.tree.close();
    Ok(world.tree.entries.into_keys().collect())
}

/// By path, the one package that has it. A directory that many packages list says nothing about a file in it.
fn owners(all: &[PackageInput<'_>], of_machine: &[PackageInput<'_>]) -> BTreeMap<String, Origin> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for path in all.iter().flat_map(|package| package.content.entries.keys()) {
        *counts.entry(merge::merged(path)).or_default() += 1;
    }
    let mut owners = BTreeMap::new();
    for package in of_machine {
        for path in package.content.entries.keys().map(|path| merge::merged(path)) {
            if counts.get(&path) == Some(&1) {
                owners.insert(path, Origin { layer: package.layer, source: package.name.to_owned() });
            }
        }
    }
    owners
}

/// dpkg's database.
fn database(world: &mut World<'_>, packages: &[StagePackage<'_>]) -> Result<(), AssembleError> {
    let origin = World::origin(RULE);
    let mut text = String::new();
    let mut triggers = Triggers::default();
    let mut sorted: Vec<&StagePackage<'_>> = packages.iter().collect();
    sorted.sort_by_key(|staged| staged.package.name);
    for staged in sorted {
        let package = &staged.package;
        let state = if staged.is_of_machine { "unpacked" } else { "installed" };
        text.push_str(&status::stanza(package, state));
        text.push('\n');
        let info = info_name(package);
        let mut list = String::from("/.\n");
        for path in package.content.entries.keys() {
            list.push_str(path);
            list.push('\n');
        }
        world.write(&format!("/var/lib/dpkg/info/{info}.list"), list.as_bytes(), 0o644, &origin)?;
        for (name, is_program) in MEMBERS {
            if let Some(bytes) = staged.members.get(name) {
                let mode = if is_program { 0o755 } else { 0o644 };
                world.write(&format!("/var/lib/dpkg/info/{info}.{name}"), bytes, mode, &origin)?;
            }
        }
        if let Some(declared) = package.content.scripts.get("triggers") {
            triggers.take(&info, declared);
        }
    }
    let mut files = vec![
        ("status".to_owned(), text),
        ("info/format".to_owned(), "1\n".to_owned()),
        ("diversions".to_owned(), diversion_lines(world)),
        ("triggers/File".to_owned(), triggers.files),
        ("triggers/Unincorp".to_owned(), String::new()),
    ];
    for empty in ["available", "statoverride", "lock", "lock-frontend", "triggers/Lock"] {
        files.push((empty.to_owned(), String::new()));
    }
    files.extend(triggers.named.into_iter().map(|(name, lines)| (format!("triggers/{name}"), lines)));
    for (name, text) in files {
        world.write(&format!("/var/lib/dpkg/{name}"), text.as_bytes(), 0o644, &origin)?;
    }
    for folder in ["updates", "alternatives", "parts"] {
        world.insert(&format!("/var/lib/dpkg/{folder}"), Entry::directory(0o755), origin.clone());
    }
    Ok(())
}

/// The name of a package's files below `info`: with its architecture if several may be there at once.
fn info_name(package: &PackageInput<'_>) -> String {
    let is_same = status::field(&package.content.control, "Multi-Arch").as_deref() == Some("same");
    if is_same { format!("{}:{}", package.name, package.architecture) } else { package.name.to_owned() }
}

/// Three lines each: from, to, whose.
fn diversion_lines(world: &World<'_>) -> String {
    world.diversions.iter().fold(String::new(), |mut text, (from, (to, keeper))| {
        let _ = writeln!(text, "{from}\n{to}\n{keeper}");
        text
    })
}

/// Who wants to hear of what (deb-triggers(5)). dpkg takes these down when it unpacks a package.
#[derive(Default)]
struct Triggers {
    /// Paths.
    files: String,
    /// Everything else, a file each.
    named: BTreeMap<String, String>,
}

impl Triggers {
    fn take(&mut self, info: &str, declared: &str) {
        for line in declared.lines() {
            let mut words = line.split_whitespace();
            let (Some(directive), Some(name)) = (words.next(), words.next()) else { continue };
            let suffix = match directive {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            if name.starts_with('/') {
                let _ = writeln!(self.files, "{name} {info}{suffix}");
            } else if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte)) {
                let lines = self.named.entry(name.to_owned()).or_default();
                let _ = writeln!(lines, "{info}{suffix}");
            }
        }
    }
}

fn task(ordered: &[PackageInput<'_>], packages: &[StagePackage<'_>], clock_s: u64) -> BuildTask {
    let mut environment: BTreeMap<String, String> =
        ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    environment.insert("SOURCE_DATE_EPOCH".to_owned(), clock_s.to_string());
    let has_preinst: BTreeSet<&str> = packages
        .iter()
        .filter(|staged| staged.members.contains_key("preinst"))
        .map(|staged| staged.package.name)
        .collect();
    let dpkg = packages.iter().find(|staged| staged.package.name == "dpkg");
    let dpkg = dpkg.map_or("", |staged| staged.package.version);
    let mut steps: Vec<BuildStep> = ordered
        .iter()
        .filter(|package| has_preinst.contains(package.name))
        .map(|package| preinst(package, dpkg))
        .collect();
    let configure = ["/usr/bin/dpkg", "--force-unsafe-io", "--configure", "--pending"];
    steps.push(BuildStep {
        name: "dpkg --configure".to_owned(),
        argv: configure.map(str::to_owned).to_vec(),
        environment: BTreeMap::new(),
    });
    BuildTask { format: FORMAT, steps, environment }
}

/// `preinst install` with what dpkg(1) promises to scripts, section "ENVIRONMENT".
fn preinst(package: &PackageInput<'_>, dpkg: &str) -> BuildStep {
    let variables = [
        ("DPKG_MAINTSCRIPT_PACKAGE", package.name),
        ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
        ("DPKG_MAINTSCRIPT_ARCH", package.architecture),
        ("DPKG_MAINTSCRIPT_NAME", "preinst"),
        ("DPKG_MAINTSCRIPT_DEBUG", "0"),
        ("DPKG_RUNNING_VERSION", dpkg.split('-').next().unwrap_or_default()),
        ("DPKG_ADMINDIR", "/var/lib/dpkg"),
        ("DPKG_ROOT", ""),
    ];
    BuildStep {
        name: format!("preinst of package `{}`", package.name),
        argv: vec![format!("/var/lib/dpkg/info/{}.preinst", info_name(package)), "install".to_owned()],
        environment: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_taken_down_as_dpkg_does() {
        let mut triggers = Triggers::default();
        triggers.take("man-db", "interest-noawait /usr/share/man\n# no\nactivate ldconfig\n");
        triggers.take("libc-bin", "interest-noawait ldconfig\ninterest ../x\n");
        assert_eq!(triggers.files, "/usr/share/man man-db/noawait\n");
        let named: Vec<_> = triggers.named.into_iter().collect();
        assert_eq!(named, [("ldconfig".to_owned(), "libc-bin/noawait\n".to_owned())]);
    }
}
