//! The host's apt over a private root: it fetches indices, and it simulates installations.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use tempfile::TempDir;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org/debian";

/// One `Packages` file.
pub struct Index {
    pub name: String,
    pub text: String,
}

/// A private apt whose archive is exactly some indices, on a system with nothing installed.
pub struct Apt {
    root: TempDir,
}

/// Writes an apt root without installed packages into `root`.
fn write_root(root: &Path, sources: &str) {
    for folder in
        ["etc/preferences.d", "etc/auth.conf.d", "state/lists/partial", "cache/archives/partial", "log"]
    {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::write(root.join("state/status"), "").expect("write");
    fs::write(root.join("etc/sources.list"), sources).expect("write");
    let shown = root.display();
    let settings = format!(
        r#"
        Dir "{shown}";
        Dir::Etc "{shown}/etc";
        Dir::Etc::sourcelist "{shown}/etc/sources.list";
        Dir::Etc::sourceparts "/dev/null";
        Dir::Etc::parts "/dev/null";
        Dir::Etc::trusted "/dev/null";
        Dir::Etc::trustedparts "/dev/null";
        Dir::State "{shown}/state";
        Dir::State::status "{shown}/state/status";
        Dir::Cache "{shown}/cache";
        Dir::Log "{shown}/log";
        Dir::Bin::methods "/usr/lib/apt/methods";
        Dir::Bin::dpkg "/bin/false";
        APT::Architecture "amd64";
        APT::Architectures {{ "amd64"; }};
        APT::Sandbox::User "root";
        Acquire::Languages "none";
        Acquire::GzipIndexes "false";
        Acquire::Retries "3";
        "#
    );
    fs::write(root.join("apt.conf"), settings).expect("write");
}

fn apt_get(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("apt-get");
    command.env("APT_CONFIG", root.join("apt.conf")).env("LC_ALL", "C").args(arguments);
    command.output().expect("apt-get runs")
}

fn update(root: &Path) {
    let output = apt_get(root, &["update"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The folder with the indices; fetched once if none is given.
#[expect(clippy::disallowed_methods, reason = "where the test finds the archive is the environment's to say")]
fn archive() -> PathBuf {
    if let Some(folder) = env::var_os("PLUMB_TEST_ARCHIVE") {
        return folder.into();
    }
    // Cargo gives tests `target/tmp`; the cache lies beside it.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let cache = target.join("test-cache/apt");
    if cache.is_dir() {
        return cache;
    }
    let mirror = env::var("PLUMB_TEST_MIRROR").unwrap_or_else(|_| MIRROR.into());
    let mut sources = String::new();
    for (address, suite) in [
        (mirror.clone(), "bookworm"),
        (mirror.clone(), "bookworm-updates"),
        (format!("{mirror}-security"), "bookworm-security"),
    ] {
        writeln!(sources, "deb [signed-by={KEYRING}] {address} {suite} main").expect("write to a string");
    }
    fs::create_dir_all(target.join("test-cache")).expect("a folder");
    let root = TempDir::new_in(target.join("test-cache")).expect("a folder");
    write_root(root.path(), &sources);
    update(root.path());
    let fetched = root.path().join("fetched");
    fs::create_dir(&fetched).expect("a folder");
    let lists = packages_files(&root.path().join("state/lists"));
    assert_eq!(lists.len(), 3, "one index for each of main, updates and security");
    for list in lists {
        fs::rename(&list, fetched.join(list.file_name().expect("a file name"))).expect("rename");
    }
    // Two tests may fetch at the same time: the first one wins, the other has the same.
    if let Err(error) = fs::rename(&fetched, &cache) {
        assert!(cache.is_dir(), "{}: {error}", cache.display());
    }
    cache
}

fn packages_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with("_Packages"));
    files.sort();
    files
}

/// The real indices.
pub fn indices() -> Vec<Index> {
    let folder = archive();
    let files = packages_files(&folder);
    assert!(!files.is_empty(), "{} holds no `*_Packages`", folder.display());
    let index = |file: &PathBuf| {
        let name = file.file_name().expect("a file name").to_string_lossy();
        let name = name.split("_dists_").nth(1).unwrap_or(&name).split('_').next().unwrap_or(&name);
        Index { name: name.to_owned(), text: fs::read_to_string(file).expect("text") }
    };
    files.iter().map(index).collect()
}

impl Apt {
    /// An apt that knows exactly `indices`.
    pub fn new(indices: &[Index]) -> Self {
        let root = TempDir::new().expect("a folder");
        let mut sources = String::new();
        for (i, index) in indices.iter().enumerate() {
            // A flat repository each: apt wants no signature from a folder that we trust.
            let repository = root.path().join(format!("repository{i}"));
            fs::create_dir(&repository).expect("a folder");
            fs::write(repository.join("Packages"), &index.text).expect("write");
            writeln!(sources, "deb [trusted=yes] file:{} ./", repository.display())
                .expect("write to a string");
        }
        write_root(root.path(), &sources);
        update(root.path());
        Self { root }
    }

    /// An apt that knows of `indices` only the packages in `set` (`name=version`). It judges sets of them as one that
    /// knows all would, in a tenth of the time: what a set lacks is either missing here or added from here.
    pub fn of_set(indices: &[Index], set: &BTreeSet<String>) -> Self {
        let value = |stanza: &str, field: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
            line.trim().to_owned()
        };
        let in_set = |stanza: &&str| {
            !stanza.trim().is_empty()
                && set.contains(&format!("{}={}", value(stanza, "Package:"), value(stanza, "Version:")))
        };
        let narrow = |index: &Index| {
            let stanzas: Vec<&str> = index.text.split("\n\n").filter(in_set).collect();
            Index { name: index.name.clone(), text: stanzas.join("\n\n") + "\n" }
        };
        let narrowed = indices.iter().map(narrow).filter(|index| !index.text.trim().is_empty());
        Self::new(&narrowed.collect::<Vec<_>>())
    }

    fn simulate(&self, wanted: &[&str]) -> Output {
        let arguments = [&["install", "-s", "--no-install-recommends", "--"], wanted].concat();
        apt_get(self.root.path(), &arguments)
    }

    /// What apt itself would install for `wanted`, as `name=version`.
    pub fn install(&self, wanted: &[&str]) -> BTreeSet<String> {
        let output = self.simulate(wanted);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        installed(&String::from_utf8_lossy(&output.stdout))
    }

    /// Whether apt installs exactly `set` when asked for it.
    pub fn judge_set(&self, set: &BTreeSet<String>) -> Result<(), String> {
        let wanted: Vec<&str> = set.iter().map(String::as_str).collect();
        let output = self.simulate(&wanted);
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("apt refuses our set: {stdout}{}", String::from_utf8_lossy(&output.stderr)));
        }
        if let Some(removal) = stdout.lines().find(|line| line.starts_with("Remv ")) {
            return Err(format!("apt removes something: {removal}"));
        }
        let theirs = installed(&stdout);
        if theirs == *set {
            return Ok(());
        }
        let more: Vec<_> = theirs.difference(set).collect();
        let less: Vec<_> = set.difference(&theirs).collect();
        Err(format!("apt adds {more:?} and leaves {less:?}"))
    }

    /// Whether apt cannot install `wanted` either; we cannot because of `explanation`.
    pub fn judge_unsolvable(&self, wanted: &[&str], explanation: &str) -> Result<(), String> {
        let output = self.simulate(wanted);
        if output.status.success() {
            let stdout = String::from_utf8_lossy(&output.stdout);
            return Err(format!("apt installs {wanted:?}: {stdout}\nwe say: {explanation}"));
        }
        Ok(())
    }
}

/// The lines `Inst NAME (VERSION …)` of a simulation as `name=version`.
fn installed(stdout: &str) -> BTreeSet<String> {
    let lines = stdout.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(" (").expect("name and version");
            let version = rest.split_whitespace().next().expect("a version");
            format!("{name}={version}")
        })
        .collect()
}
