//! Real closures of Debian 12, assembled and checked with Debian's own tools. Needs apt and a mirror; packages are
//! kept in `target/test-cache`.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_image::assemble::{AssembleInput, Assembled, Note, PackageInput, assemble};
use plumb_image::closure::{self, Missing, Severity};
use plumb_image::deb::{self, Limits, PackageContent};
use plumb_image::tree::{Kind, Layer, Objects};
use plumb_model::Digest;

const MIRROR: &str = "http://deb.debian.org/debian";

struct Folder(PathBuf);

impl Objects for Folder {
    fn put(&self, source: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let digest = Digest::of(&bytes);
        fs::write(self.0.join(digest.hex()), &bytes)?;
        Ok((digest, bytes.len() as u64))
    }

    fn open(&self, digest: &Digest) -> io::Result<fs::File> {
        fs::File::open(self.0.join(digest.hex()))
    }
}

/// Package files of the closure of `names`, by way of an apt that knows of no installed package.
fn fetch(names: &[&str]) -> Vec<PathBuf> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("test-cache/debian");
    let key = names.join("+");
    let state = cache.join(&key);
    let archives = cache.join("archives");
    for folder in [state.join("lists/partial"), state.join("etc"), archives.join("partial")] {
        fs::create_dir_all(folder).unwrap();
    }
    // One apt at a time in the shared archive: two that fetch the same package take each other's partial file away.
    let lock = fs::File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    fs::write(state.join("status"), "").unwrap();
    let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    fs::write(state.join("etc/sources.list"), format!("deb {signed} {MIRROR} bookworm main\n")).unwrap();
    let show = |path: &Path| path.display().to_string();
    let config = format!(
        "Dir::State \"{0}\";\nDir::State::lists \"{0}/lists\";\nDir::State::status \"{0}/status\";\n\
         Dir::Cache \"{1}\";\nDir::Cache::archives \"{2}\";\nDir::Etc::sourcelist \"{0}/etc/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\nAPT::Install-Recommends \"false\";\n\
         Acquire::Languages \"none\";\nAPT::Sandbox::User \"\";\nDebug::NoLocking \"true\";\n",
        show(&state),
        show(&cache),
        show(&archives),
    );
    fs::write(state.join("apt.conf"), config).unwrap();
    let apt = |arguments: &[&str]| {
        let output = Command::new("apt-get")
            .env("APT_CONFIG", state.join("apt.conf"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list = state.join("closure");
    if !list.exists() {
        apt(&["update", "-qq"]);
        // Names are asked for first: what is already in the cache is not printed.
        let uris = apt(&[
            &["install", "-y", "-qq", "--print-uris", "-o", "Dir::Cache::archives=/nonexistent"],
            names,
        ]
        .concat());
        apt(&[&["install", "-y", "-qq", "-d"], names].concat());
        let files = uris.lines().filter_map(|line| line.split_whitespace().nth(1));
        fs::write(&list, files.map(|file| format!("{file}\n")).collect::<String>()).unwrap();
    }
    fs::read_to_string(list).unwrap().lines().map(|file| archives.join(file)).collect()
}

fn field(content: &PackageContent, name: &str) -> String {
    let line = content.control.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap().to_owned()
}

struct Built {
    folder: tempfile::TempDir,
    made: Assembled,
    missing: Vec<Missing>,
    packages: usize,
}

impl Built {
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects = Folder(folder.path().to_owned());
        let contents: BTreeMap<PathBuf, PackageContent> = fetch(names)
            .into_iter()
            .map(|path| {
                let content = deb::unpack(fs::File::open(&path).unwrap(), &Limits::default(), &objects);
                (path.clone(), content.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            })
            .collect();
        let fields: Vec<[String; 3]> = contents
            .values()
            .map(|content| ["Package", "Version", "Architecture"].map(|name| field(content, name)))
            .collect();
        let packages = contents.values().zip(&fields).map(|(content, [name, version, architecture])| {
            PackageInput { name, version, architecture, layer: Layer::Middleware, content }
        });
        let mut input = AssembleInput {
            packages: packages.collect(),
            suite: "bookworm".into(),
            ..AssembleInput::default()
        };
        let made = assemble(&input, &objects).unwrap();
        input.packages.reverse();
        assert_eq!(assemble(&input, &objects).unwrap().tree, made.tree, "the order of packages shows");
        let missing = closure::check(&made.tree, &objects, &BTreeSet::new()).unwrap();
        Built { folder, made, missing, packages: fields.len() }
    }

    fn errors(&self) -> Vec<&Missing> {
        self.missing.iter().filter(|missing| missing.severity == Severity::Error).collect()
    }

    fn reports(&self) -> Vec<String> {
        let reports = self.made.reports.iter();
        reports
            .flat_map(|r| r.unhandled.iter().map(move |line| format!("{} {}: {line}", r.package, r.script)))
            .collect()
    }

    /// Writes one part of the tree below a fresh folder.
    fn extract(&self, prefix: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, (entry, _)) in &self.made.tree.entries {
            if let (true, Kind::File { digest, .. }) = (path.starts_with(prefix), &entry.kind) {
                let to = root.path().join(&path[1..]);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(self.folder.path().join(digest.hex()), to).unwrap();
            }
        }
        root
    }

    fn check_tools(&self) {
        let root = self.extract("/var/lib/dpkg/");
        let admin = format!("--admindir={}", root.path().join("var/lib/dpkg").display());
        let output = Command::new("dpkg-query").args([&admin, "-W"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), self.packages);
        let output = Command::new("dpkg-query").args([&admin, "-S", "*/libc.so.6"]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("libc6:"));
        let root = self.extract("/etc/");
        let cache = root.path().join("etc/ld.so.cache");
        let output = Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(cache).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("libc.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libc.so.6"), "{text}");
        for path in text.lines().filter_map(|line| line.split(" => ").nth(1)) {
            assert!(self.made.tree.resolve(path).is_some(), "{path}");
        }
    }
}

#[test]
fn nginx() {
    let built = Built::new(&["nginx-light"]);
    assert_eq!(built.errors(), Vec::<&Missing>::new());
    assert_eq!(built.reports(), Vec::<String>::new());
    built.check_tools();
    let tree = &built.made.tree;
    let log = tree.get("/var/log/nginx/access.log").unwrap();
    assert_eq!((log.mode, log.uid, log.gid), (0o640, 33, 4));
    assert!(tree.resolve("/etc/nginx/sites-enabled/default").is_some());
    assert!(tree.resolve("/var/www/html/index.nginx-debian.html").is_some());
    assert!(tree.resolve("/etc/nginx/modules-enabled/50-mod-http-echo.conf").is_some());
    assert!(built.made.units.contains_key("/usr/lib/systemd/system/nginx.service"));
}

#[test]
fn postgresql() {
    let built = Built::new(&["postgresql-15"]);
    assert_eq!(built.errors(), Vec::<&Missing>::new());
    built.check_tools();
    let accounts = &built.made.accounts;
    let id = accounts.users["postgres"].uid;
    assert_eq!(accounts.allocated["postgres"], (id, id));
    assert_eq!(built.made.tree.get("/var/lib/postgresql").unwrap().uid, id);
    let run = built.made.directories.iter().find(|directory| directory.path == "/run/postgresql").unwrap();
    assert_eq!((run.mode, run.uid), (0o2775, id));
    // A cluster and a key are made by the service's `prepare`, not at build time; both are said.
    assert_eq!(built.reports(), Vec::<String>::new());
    let told: Vec<&str> = built
        .made
        .notes
        .iter()
        .filter_map(|note| match note {
            Note::LeftToInstance { line, .. } => Some(line.as_str()),
            Note::Replaced { .. } => None,
        })
        .collect();
    assert!(told.iter().any(|line| line.contains("pg_createcluster")), "{told:#?}");
    assert!(told.iter().any(|line| line.contains("make-ssl-cert")), "{told:#?}");
}

#[test]
fn flask() {
    let built = Built::new(&["python3-flask", "gunicorn", "python3-psycopg2"]);
    assert_eq!(built.errors(), Vec::<&Missing>::new());
    assert_eq!(built.reports(), Vec::<String>::new());
    built.check_tools();
    assert!(built.made.tree.resolve("/usr/bin/python3").is_some());
    assert_eq!(built.made.tree.get("/var/log/gunicorn").unwrap().uid, 33);
}
