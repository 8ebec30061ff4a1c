//! The same packages as mmdebstrap configures them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use plumb_debian::PackageName;
use plumb_model::lock::{Lock, LockedMachine, LockedPackage};
use plumb_model::{Digest, MachineName};
use testkit::{World, printed};

use super::tree::{Form, LISTS, Node, Tree};

/// Where dpkg keeps the lists of packages' files.
const FILE_LISTS: &str = "/var/lib/dpkg/info/";

/// The trees of all machines of a lock. Scripts run one after the other, so as many machines at a time as there are
/// processors.
pub(crate) fn of_all(world: &World, lock: &Lock) -> Result<BTreeMap<MachineName, Tree>> {
    let (left, made) = (Mutex::new(lock.machines.iter()), Mutex::new(BTreeMap::new()));
    let work = || -> Result<()> {
        loop {
            let next = left.lock().expect("whoever holds it does not panic").next();
            let Some((name, machine)) = next else { return Ok(()) };
            let tree = configured(world, lock, machine).with_context(|| format!("machine `{name}`"))?;
            made.lock().expect("whoever holds it does not panic").insert(name.clone(), tree);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..std::thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    Ok(made.into_inner().expect("whoever held it did not panic"))
}

/// The tree of a machine's packages, with all that their scripts need.
fn configured(world: &World, lock: &Lock, machine: &LockedMachine) -> Result<Tree> {
    // In /tmp and open to everybody: apt's own user, or the users of an unshared namespace, read it.
    let folder = tempfile::Builder::new().prefix("plumb-oracle-").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let names: BTreeSet<&PackageName> = machine.packages.iter().chain(&machine.build).collect();
    let mut index = String::new();
    for name in &names {
        let package = lock.package(name.as_str()).context("a lock has all its packages")?;
        let file = folder.path().join(format!("{name}.deb"));
        take(world, lock, package, &file)?;
        let control = printed(Command::new("dpkg-deb").arg("--field").arg(&file))?;
        let (size, digest) = (package.size, package.digest.hex());
        writeln!(index, "{}\nFilename: ./{name}.deb\nSize: {size}\nSHA256: {digest}\n", control.trim_end())?;
    }
    fs::write(folder.path().join("Packages"), index)?;
    let suite = &lock.sources.first().context("a lock has sources")?.suite;
    let made = folder.path().join("root.tar");
    let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
    // The name that our rules answer with: scripts write it to files.
    let (mut command, mode) = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("unshare");
        command.args(["--uts", "mmdebstrap"]);
        (command, "root")
    } else {
        (Command::new("mmdebstrap"), "unshare") // whose namespaces have a name of their own
    };
    command.arg("--setup-hook=hostname localhost");
    // Nothing of it has to survive a power cut; the file that says so is no part of what is compared.
    command.arg("--dpkgopt=force-unsafe-io");
    command.arg("--customize-hook=rm \"$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap\"");
    command.args(["--variant=custom", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]);
    command.arg(format!("--mode={mode}")).arg(format!("--include={names}")).arg(suite).arg(&made);
    command.arg(format!("deb [trusted=yes] copy:{} ./", folder.path().display()));
    printed(&mut command)
        .context("mmdebstrap is needed, as root or with user namespaces and subordinate ids")?;
    read(&made)
}

/// Puts the file of a package to `file`: from the store, from an earlier test, or from the archive.
fn take(world: &World, lock: &Lock, package: &LockedPackage, file: &Path) -> Result<()> {
    let hex = package.digest.hex();
    let stored = world.object(&hex);
    let kept = super::cache()?.join(&hex);
    if !stored.exists() && !kept.exists() {
        let source = lock.sources.iter().find(|source| source.suite == package.suite);
        let url = format!("{}/{}", source.context("every package has a source")?.uri, package.file);
        let draft = tempfile::NamedTempFile::new_in(super::cache()?)?;
        printed(Command::new("curl").args(["-fsSL", "--retry", "3", "-o"]).arg(draft.path()).arg(&url))?;
        ensure!(Digest::of(&fs::read(draft.path())?) == package.digest, "{url} is not what the lock says");
        draft.persist(&kept)?;
    }
    fs::copy(if stored.exists() { &stored } else { &kept }, file)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    Ok(())
}

fn read(path: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut ids = BTreeMap::new();
    let mut links = 0;
    let mut archive = tar::Archive::new(File::open(path)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = absolute(&entry.path_bytes());
        if path == "/" {
            continue;
        }
        let mut xattrs = BTreeMap::new();
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            if let Some(name) = extension.key()?.strip_prefix("SCHILY.xattr.") {
                xattrs.insert(name.to_owned(), extension.value_bytes().to_owned());
            }
        }
        let header = entry.header();
        let (mode, kind) = (header.mode()? & 0o7777, header.entry_type());
        ids.insert(path.clone(), (u32::try_from(header.uid()?)?, u32::try_from(header.gid()?)?));
        let form = if kind.is_dir() {
            Form::Directory
        } else if kind.is_symlink() {
            Form::Link(String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned())
        } else if kind.is_hard_link() {
            let first = absolute(&entry.link_name_bytes().unwrap_or_default());
            let node = tree.nodes.get_mut(&first).context("a hard link follows its file")?;
            links += u32::from(node.hard_link.is_none());
            node.hard_link.get_or_insert(links);
            let node = node.clone();
            ids.insert(path.clone(), ids[&first]);
            tree.nodes.insert(path, node);
            continue;
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            keep_text(&mut tree, &path, &bytes);
            Form::File(Digest::of(&bytes))
        } else {
            Form::Device
        };
        let (user, group) = (String::new(), String::new());
        tree.nodes.insert(path, Node { form, mode, user, group, xattrs, hard_link: None });
    }
    tree.name_owners(&ids);
    Ok(tree)
}

fn absolute(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    format!("/{}", path.trim_start_matches('.').trim_matches('/'))
}

fn keep_text(tree: &mut Tree, path: &str, bytes: &[u8]) {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    if LISTS.contains(&path) {
        tree.lists.insert(path.to_owned(), text());
    }
    let Some(name) = path.strip_prefix(FILE_LISTS).and_then(|name| name.strip_suffix(".list")) else {
        return;
    };
    let package = name.split(':').next().unwrap_or(name);
    for path in text().lines() {
        // Packages of Debian 12 still name the folders that are links since.
        let is_old = ["/bin/", "/lib/", "/lib64/", "/sbin/"].iter().any(|old| path.starts_with(old));
        let path = if is_old { format!("/usr{path}") } else { path.to_owned() };
        tree.packages.entry(path).or_default().push(package.to_owned());
    }
}
