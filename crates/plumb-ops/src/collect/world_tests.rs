//! A small application without machines: its store, a disk that fails as it is told to, and releases as builds make them.
//!
//! A power cut is simulated over what really was written: of every file that has its name and was not synced, all bytes,
//! half of them, none, or zeros are left, or the name is as it was before; a name that was taken away may be back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use plumb_image::image as parts;
use plumb_image::inventory::{Inventory, ModuleEntry};
use plumb_image::tree::{Entry, Layer, Origin, Tree};
use plumb_model::image::{Image, Part};
use plumb_model::lock::{Lock, LockedPackage, LockedSource};
use plumb_model::release::{Content, Release, ReleaseMachine, ReleaseName};
use plumb_model::{Digest, Document as _};
use plumb_store::{Change, Gate, Store};

use super::Mode;
use crate::contents::{StoreObjects, known_content, take_apart};
use crate::error::OpsError;
use crate::progress::Silent;
use crate::project::{AppFile, AppFileKind};
use crate::{Home, Options, Plumb};

/// What happens at the chosen change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails once, as on a full disk.
    Fails,
    /// From it on the disk is full.
    Full,
    /// From it on there is only the space that removing files gives.
    Tight,
    /// It and everything after it does not happen: the process was killed.
    Killed,
    /// As killed, and what was not synced may be lost.
    PowerCut,
}

/// Counts changes, and lets one of them go wrong.
#[derive(Debug)]
pub(crate) struct Counter {
    fault: Option<(Fault, usize)>,
    state: Mutex<Seen>,
}

/// What changes of the disk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// It takes space.
    Writes,
    /// Nobody sees it until the power goes.
    Syncs,
    /// It gives or takes a name.
    Names,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The changes.
    pub(crate) sorts: Vec<Sort>,
    /// Bytes that may be written to a tight disk.
    space: u64,
    is_dead: bool,
    /// Files whose bytes are durable, by the path that they were written at.
    synced: BTreeSet<PathBuf>,
    /// Names given or taken since everything was durable.
    loose: Vec<Loose>,
    /// Copies of what was replaced or removed.
    copies: usize,
}

#[derive(Clone, Debug)]
struct Loose {
    path: PathBuf,
    /// What had the name before.
    before: Option<PathBuf>,
    is_given: bool,
    has_bytes: bool,
}

impl Counter {
    pub(crate) fn new(fault: Option<(Fault, usize)>) -> Arc<Counter> {
        Counter::after(fault, Seen::default())
    }

    /// Goes on counting from 0, with what another one has seen of the disk.
    pub(crate) fn after(fault: Option<(Fault, usize)>, seen: Seen) -> Arc<Counter> {
        let seen = Seen { sorts: Vec::new(), is_dead: false, ..seen };
        Arc::new(Counter { fault, state: Mutex::new(seen) })
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state.lock().unwrap().clone()
    }
}

impl Gate for Counter {
    fn before(&self, change: &Change<'_>) -> io::Result<()> {
        let mut seen = self.state.lock().unwrap();
        if seen.is_dead {
            return Err(io::Error::other("the process has ended"));
        }
        let at = seen.sorts.len();
        let sort = sort(change);
        seen.sorts.push(sort);
        match self.fault {
            Some((Fault::Fails, point)) if point == at => Err(io::ErrorKind::StorageFull.into()),
            Some((Fault::Full, point)) if point <= at && sort == Sort::Writes => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some((Fault::Tight, point)) if point <= at => seen.pay(change),
            Some((Fault::Killed | Fault::PowerCut, point)) if point == at => {
                seen.is_dead = true;
                Err(io::Error::other("the process ends"))
            }
            Some((Fault::PowerCut, _)) => {
                seen.note(change);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn sort(change: &Change<'_>) -> Sort {
    match change {
        Change::Create(_) | Change::CreateDir(_) | Change::Write(..) => Sort::Writes,
        Change::Sync(_) | Change::SyncAll(_) => Sort::Syncs,
        Change::Rename(..) | Change::Link(..) | Change::Remove(_) => Sort::Names,
    }
}

impl Seen {
    /// Takes the space that a change needs, or gives what it frees.
    fn pay(&mut self, change: &Change<'_>) -> io::Result<()> {
        let needed = match change {
            Change::Create(_) | Change::CreateDir(_) => 1,
            Change::Write(_, bytes) => *bytes as u64,
            Change::Remove(path) => {
                self.space += fs::metadata(path).map_or(0, |metadata| metadata.len());
                0
            }
            _ => 0,
        };
        let left = self.space.checked_sub(needed).ok_or(io::ErrorKind::StorageFull)?;
        // What is written to a file without a name is free again at once.
        if !matches!(change, Change::Write(path, _) if !path.exists()) {
            self.space = left;
        }
        Ok(())
    }

    /// The same, of a copy of the world that it was seen in.
    fn moved(&self, from: &Path, to: &Path) -> Seen {
        let at = |path: &PathBuf| to.join(path.strip_prefix(from).unwrap());
        let loose = |loose: &Loose| Loose {
            path: at(&loose.path),
            before: loose.before.as_ref().map(at),
            ..loose.clone()
        };
        Seen {
            synced: self.synced.iter().map(at).collect(),
            loose: self.loose.iter().map(loose).collect(),
            ..self.clone()
        }
    }

    fn note(&mut self, change: &Change<'_>) {
        match change {
            Change::Sync(path) if path.is_dir() => {
                self.loose.retain(|loose| loose.path.parent() != Some(path) || !loose.has_bytes);
            }
            Change::Sync(path) => drop(self.synced.insert(path.to_path_buf())),
            Change::SyncAll(_) => self.loose.clear(),
            Change::Rename(from, to) | Change::Link(from, to) => {
                let has_bytes = self.synced.contains(*from);
                let before = self.copy(to);
                self.loose.push(Loose { path: to.to_path_buf(), before, is_given: true, has_bytes });
            }
            Change::Remove(path) if path.is_file() => {
                let before = self.copy(path);
                self.loose.push(Loose { path: path.to_path_buf(), before, is_given: false, has_bytes: true });
            }
            _ => {}
        }
    }

    fn copy(&mut self, path: &Path) -> Option<PathBuf> {
        self.copies += 1;
        let copies = path.ancestors().find(|path| path.ends_with("store"))?.parent()?.join("before");
        fs::create_dir_all(&copies).unwrap();
        let copy = copies.join(self.copies.to_string());
        fs::hard_link(path, &copy).ok().map(|()| copy)
    }

    /// Takes away what a disk without power may have lost; `dice` chooses.
    pub(crate) fn cut(&self, dice: &mut u64) {
        for loose in self.loose.iter().rev() {
            *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let choice = *dice >> 33;
            if !loose.is_given {
                if choice.is_multiple_of(2) && !loose.path.exists() {
                    loose.before.iter().for_each(|before| drop(fs::hard_link(before, &loose.path)));
                }
                continue;
            }
            let bytes = fs::read(&loose.path).unwrap_or_default();
            let left = match choice % 5 {
                0 => None,
                1 if !loose.has_bytes => Some(Vec::new()),
                2 if !loose.has_bytes => Some(bytes[..bytes.len() / 2].to_vec()),
                3 if !loose.has_bytes => Some(vec![0; bytes.len()]),
                _ => continue,
            };
            let _ = fs::remove_file(&loose.path);
            match (left, &loose.before) {
                (Some(bytes), _) => drop(fs::write(&loose.path, bytes)),
                (None, Some(before)) => drop(fs::hard_link(before, &loose.path)),
                (None, None) => {}
            }
        }
    }
}

/// A store in memory, if there is such a place: nothing here asks for a disk.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        let shm = Path::new("/dev/shm");
        let folder =
            if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() };
        World { folder }
    }

    /// The same world once more, with what was seen of it. Files are shared: none is ever changed, only replaced.
    pub(crate) fn copy(&self, seen: &Seen) -> (World, Seen) {
        let world = World::new();
        let (from, to) = (self.folder.path(), world.folder.path());
        let mut open = vec![PathBuf::new()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(from.join(&dir)).unwrap() {
                let entry = entry.unwrap();
                let path = dir.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    fs::create_dir(to.join(&path)).unwrap();
                    open.push(path);
                } else if dir.ends_with("locks") {
                    // Who locks one must not lock the other.
                    fs::copy(entry.path(), to.join(&path)).unwrap();
                } else {
                    fs::hard_link(entry.path(), to.join(&path)).unwrap();
                }
            }
        }
        let seen = seen.moved(from, to);
        (world, seen)
    }

    pub(crate) fn open(&self, gate: &Arc<Counter>) -> Result<Plumb<'static>, OpsError> {
        let home = Home::new(self.folder.path());
        let store = Store::open_behind(&home.store(), gate.clone())?;
        let options = Options {
            offline: true,
            proxies: plumb_fetch::Proxies::default(),
            environment: crate::Environment::default(),
            program: PathBuf::from("/nonexistent"),
            signer: None,
            user: "tester".parse().unwrap(),
            state: crate::StateOptions::default(),
            passphrase: |_| None,
            age_identity: None,
        };
        Ok(Plumb { home, store, options, reporter: &Silent, unsealed: std::sync::Mutex::default() })
    }

    /// Every file that counts, with the digest of its bytes.
    pub(crate) fn files(&self) -> BTreeMap<String, Digest> {
        let (mut found, mut open) = (BTreeMap::new(), Vec::new());
        let root = self.folder.path().join("store");
        for place in ["objects", "folded", "releases", "entries"] {
            open.push(root.join(place));
        }
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().display().to_string();
                    found.insert(name, Digest::of(&fs::read(&path).unwrap()));
                }
            }
        }
        found
    }
}

/// Compresses by half, and differs by seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0x0f
    };
    (0..length).map(|_| next()).collect()
}

/// Text that makes a document long enough to be folded.
fn padding() -> String {
    noise(9, 20_000).into_iter().map(|byte| char::from(b'g' + byte)).collect()
}

/// A package with a library of 40 kB, one that the first images have, and documentation that none has.
fn package() -> Vec<u8> {
    let tarball = |files: &[(&str, Vec<u8>)]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            builder.append_data(&mut header, path, &**bytes).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let control = tarball(&[("control", b"Package: xy\nVersion: 1\n".to_vec())]);
    let data = tarball(&[
        ("usr/lib/old.so", noise(5, 30_000)),
        ("usr/lib/xy.so", noise(1, 40_000)),
        ("usr/share/doc/xy/readme", noise(2, 20_000)),
    ]);
    let mut deb = b"!<arch>\n".to_vec();
    for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), ("data.tar", &data)] {
        deb.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len()).bytes(),
        );
        deb.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    deb
}

/// Makes release `number` as a build and a release do, in the same order; it may be there.
#[expect(clippy::too_many_lines, reason = "one release, with all that belongs to it")]
pub(crate) fn make(plumb: &Plumb<'_>, number: u64) -> Result<(), OpsError> {
    let store = &plumb.store;
    let deb = package();
    let package = LockedPackage {
        name: "xy".parse().unwrap(),
        version: "1".parse().unwrap(),
        architecture: "all".to_owned(),
        suite: "bookworm".to_owned(),
        file: "pool/xy.deb".to_owned(),
        size: deb.len() as u64,
        digest: Digest::of(&deb),
    };
    if store.size(&package.digest)? != Some(package.size) {
        store.put_bytes(&deb)?;
    }
    let content = match known_content(store, &package)? {
        Some(content) => content,
        None => take_apart(store, &package)?,
    };
    let page = noise(100 + number, 12_000);
    let page = (store.put_bytes(&page)?, page.len() as u64);
    let mut tree = Tree::default();
    let origin = |layer| Origin { layer, source: "test".to_owned() };
    let is_in = |path: &str| path.starts_with("/usr/lib/") && (number <= 2 || !path.ends_with("/old.so"));
    for (path, entry) in content.entries.into_iter().filter(|(path, _)| is_in(path)) {
        tree.insert(path, entry, origin(Layer::Os));
    }
    tree.insert("/srv/page", Entry::file(page.0, page.1, 0o644), origin(Layer::App));
    tree.close();
    let image = image(plumb, &tree, page)?;
    let lock = Lock {
        format: plumb_model::lock::FORMAT,
        app: "tiny".parse().unwrap(),
        inputs: Digest::of(b"inputs"),
        sources: Vec::<LockedSource>::new(),
        machines: BTreeMap::new(),
        packages: vec![package],
    };
    let definition = store.put_bytes(b"app = \"tiny\"\n")?;
    let lock = store.put_bytes(lock.to_text().as_bytes())?;
    let before = plumb.store.release(&"tiny".parse().unwrap(), number - 1).ok();
    let machine = ReleaseMachine {
        image,
        instances: 1,
        memory_mib: 64,
        cpus: 1,
        needs: Vec::new(),
        publish: Vec::new(),
        volumes: BTreeMap::new(),
        ready_timeout_ms: 1000,
        rolling: plumb_model::release::Rolling::default(),
        watch: plumb_model::release::Watch::default(),
        tasks: std::collections::BTreeMap::new(),
        config: std::collections::BTreeSet::new(),
    };
    let release = Release {
        format: Release::FORMAT,
        app: "tiny".parse().unwrap(),
        number,
        previous: before.map(|bytes| Digest::of(&bytes)),
        created_s: 0,
        note: String::new(),
        definition,
        lock,
        content: Content {
            fence: 0,
            config: std::collections::BTreeMap::new(),
            machines: [("web".parse().unwrap(), machine)].into(),
            snapshots: plumb_model::release::SnapshotPolicy::default(),
            upgrade: plumb_model::release::UpgradePolicy::default(),
        },
        checks: None,
    };
    match store.add_release(&release.app, number, &release.to_bytes()) {
        Err(plumb_store::Error::ReleaseExists { .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// An image of a tree, kept as [`Plumb::build_one`] keeps it.
fn image(plumb: &Plumb<'_>, tree: &Tree, (page, size): (Digest, u64)) -> Result<Digest, OpsError> {
    let store = &plumb.store;
    let path = store.scratch_path()?;
    let (root, disk) = parts::build_root(tree, &StoreObjects(store), 1, &path)
        .map_err(|error| OpsError::Build { machine: "web".parse().unwrap(), source: Box::new(error) })?;
    store.adopt(&path, &root.digest)?;
    let part = |bytes: &[u8]| -> Result<Part, OpsError> {
        Ok(Part { digest: store.put_bytes(bytes)?, size: bytes.len() as u64 })
    };
    let inventory = Inventory {
        format: Inventory::FORMAT,
        kernel_packed_bytes: 0,
        init_bytes: 0,
        modules: vec![ModuleEntry { name: padding(), bytes: 1, needed_by: None }],
        dropped: BTreeMap::new(),
        entries: tree.entries.clone(),
    };
    let kind = AppFileKind::File { source: None, digest: page, size };
    let file =
        AppFile { content: 0, target: "/srv/page".to_owned(), kind, mode: 0o644, owner: None, group: None };
    let recipe = serde_json::json!({ "rules": "", "guest": Digest::of(b"guest"), "files": [file],
        "padding": padding() });
    let image = Image {
        format: Image::FORMAT,
        app: "tiny".parse().unwrap(),
        machine: "web".parse().unwrap(),
        recipe: store.put_bytes(recipe.to_string().as_bytes())?,
        kernel: part(&noise(3, 60_000))?,
        kernel_release: "6".to_owned(),
        initrd: part(&noise(4, 20_000))?,
        root: Part { digest: root.digest, size: root.size_bytes },
        root_hash: disk.root_hash,
        cmdline: String::new(),
        packages: BTreeMap::new(),
        layers: BTreeMap::new(),
        without: BTreeSet::new(),
        left_out: BTreeSet::new(),
        inventory: Some(part(&inventory.to_bytes())?),
        scripts: None,
    };
    let digest = store.put_bytes(&image.to_bytes())?;
    let note = serde_json::json!({ "image": digest, "ready_timeout_ms": 1, "notices": [] });
    store.remember("image-1", &image.recipe.hex(), note.to_string().as_bytes())?;
    Ok(digest)
}

/// Every release that was acknowledged is there, and whole unless it was collected.
pub(crate) fn check(plumb: &Plumb<'_>, made: &BTreeSet<u64>, context: &str) {
    let found = plumb.check_store(Mode::Do).unwrap();
    assert!(found.is_good(), "{context}: {:#?}", found.damages);
    if !found.damages.is_empty() {
        let again = plumb.check_store(Mode::Do).unwrap();
        assert!(again.damages.is_empty(), "{context}: repaired, but {:#?}", again.damages);
    }
    let mut verified = BTreeSet::new();
    for number in made {
        let name = ReleaseName { app: "tiny".parse().unwrap(), number: *number };
        let release = plumb.read_release(&name).unwrap_or_else(|error| panic!("{context}: {error}"));
        if plumb.is_collected(&name).unwrap() {
            continue;
        }
        for object in plumb.reach(&release).unwrap() {
            if !verified.insert(object.digest) {
                continue;
            }
            let good = plumb.store.verify(&object.digest);
            good.unwrap_or_else(|error| panic!("{context}: {} of {name}: {error}", object.name));
        }
    }
}
