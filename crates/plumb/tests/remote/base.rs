//! What all tests of this file start from: an application with three releases, made and packed once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, ensure};
use plumb_model::Digest;
use plumb_trust::SecretKey;
use plumb_trust::tuf::{Fresh, Target, Trusted, publish};
use serde_json::Value;
/// A time far ahead, seconds since 1970: 2100.
pub const FAR_S: i64 = 4_102_444_800;

use testkit::{Output, World, copy_example};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Port of the application; always the same, so that its releases are, and are packed only once on one machine.
pub const PORT: u16 = 38731;

/// A home with `hello@1`, `hello@2` and `hello@3`, and a directory remote that has them.
pub struct Base {
    pub world: World,
    pub remote: PathBuf,
}

/// Made by the first test that asks; the others wait.
pub fn base() -> Result<&'static Base> {
    static BASE: OnceLock<Base> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(base) = BASE.get() {
        return Ok(base);
    }
    let made = make()?;
    Ok(BASE.get_or_init(|| made))
}

fn make() -> Result<Base> {
    let world = World::new("remote", PLUMB)?;
    let folder = copy_example(&world, "hello", "app", PORT)?;
    let page = folder.join("www/index.html");
    let text = fs::read_to_string(&page)?;
    let remote = world.folder().join("srv");
    for number in 1..=3 {
        fs::write(&page, format!("{text}<p>release {number}\n"))?;
        world.ok(&["release", text_of(&folder)])?;
        world.ok(&["push", &format!("hello@{number}"), text_of(&remote)])?;
        // Also the bundle: the next run does not make it again.
        world.share()?;
    }
    Ok(Base { world, remote })
}

pub fn text_of(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

/// Another person's home.
pub struct Home(pub PathBuf);

impl Home {
    /// An empty one.
    pub fn new(name: &str) -> Result<Home> {
        Ok(Home(super::server::empty(base()?.world.folder().join(name))?))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PLUMB);
        command.args(arguments).env("PLUMB_HOME", &self.0).stdin(Stdio::null());
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env(name, "test");
        }
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments).output().context("cannot start plumb")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Ok(Output { code, stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    pub fn ok(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.run(arguments)?;
        ensure!(output.code == 0, "plumb {arguments:?}: {}\n{}{}", output.code, output.stdout, output.stderr);
        Ok(output)
    }

    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = self.ok(&all)?;
        serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
    }

    pub fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("cannot start plumb")
    }

    /// The releases that are here.
    pub fn releases(&self) -> Vec<String> {
        let folder = self.0.join("store/releases/hello");
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Everything of a release is here and good.
    pub fn verify(&self, release: &str) -> Result<()> {
        let found = self.json(&["--offline", "verify", release])?;
        ensure!(found["problems"] == Value::Array(Vec::new()), "{found}");
        Ok(())
    }
}

/// Where the metadata of the application lies.
pub fn metadata(root: &Path) -> PathBuf {
    root.join("apps/hello/metadata")
}

/// The blob and the text of the index that a remote shows; `None` if it shows nothing yet.
pub fn index(root: &Path) -> Result<Option<(PathBuf, String)>> {
    let read = |name: &str| -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(metadata(root).join(name))?)?)
    };
    if !metadata(root).join("timestamp.json").exists() {
        return Ok(None);
    }
    let snapshot = read("timestamp.json")?["signed"]["meta"]["snapshot.json"]["version"].clone();
    let targets =
        read(&format!("{snapshot}.snapshot.json"))?["signed"]["meta"]["targets.json"]["version"].clone();
    let targets = read(&format!("{targets}.targets.json"))?;
    let hex = targets["signed"]["targets"]["index.json"]["hashes"]["sha256"]
        .as_str()
        .context("an index")?
        .to_owned();
    let path = root.join("blobs").join(&hex[..2]).join(&hex[2..]);
    let text = fs::read_to_string(&path)?;
    Ok(Some((path, text)))
}

/// Makes `text` the index that a remote shows, signed by the keys of the one who made the remote: what somebody could do
/// who is trusted and lies.
pub fn resign(root: &Path, text: &str) -> Result<()> {
    let app = "hello".parse()?;
    let read = |name: &str| fs::read(metadata(root).join(name));
    let first = read("1.root.json")?;
    let mut seen = Trusted::new(&first, &app)?;
    seen.timestamp(&read("timestamp.json")?, 0)?;
    seen.snapshot(&read(&format!("{}.snapshot.json", seen.snapshot_version().context("a version")?))?, 0)?;
    seen.targets(&read(&format!("{}.targets.json", seen.targets_version().context("a version")?))?, 0)?;
    let mut documents = seen.documents().context("documents")?.targets.clone();
    documents.insert("index.json".to_owned(), Target::of(text.as_bytes()));
    let blob = Digest::of(text.as_bytes()).hex();
    let path = root.join("blobs").join(&blob[..2]).join(&blob[2..]);
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(path, text)?;
    let mut keys = Vec::new();
    for entry in fs::read_dir(base()?.world.home().join("keys"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            keys.push(SecretKey::from_pem(&fs::read_to_string(path)?, None)?);
        }
    }
    let fresh = Fresh { long_s: FAR_S, short_s: FAR_S, skip: 0 };
    let published = publish((seen.root(), &seen), documents, &keys, fresh)?;
    for (name, bytes) in &published.files {
        fs::write(metadata(root).join(name), bytes)?;
    }
    Ok(fs::write(metadata(root).join("timestamp.json"), published.timestamp)?)
}

/// Every blob of a directory has its name, and everything that the index names is there.
pub fn check_remote(root: &Path) -> Result<Vec<String>> {
    for fan in fs::read_dir(root.join("blobs")).into_iter().flatten().flatten() {
        for blob in fs::read_dir(fan.path())?.flatten() {
            let name = format!("{}{}", fan.file_name().display(), blob.file_name().display());
            ensure!(Digest::of(&fs::read(blob.path())?).hex() == name, "{name} has other bytes");
        }
    }
    let Some((_, text)) = index(root)? else { return Ok(Vec::new()) };
    let index: Value = serde_json::from_str(&text)?;
    let releases = index["releases"].as_object().context("releases")?;
    for entry in releases.values() {
        let bundles = entry["bundles"].as_array().context("bundles")?;
        for blob in bundles.iter().map(|bundle| &bundle["delta"]).chain([&entry["document"]]) {
            let hex = blob["digest"].as_str().context("a digest")?.trim_start_matches("sha256:");
            let path = root.join("blobs").join(&hex[..2]).join(&hex[2..]);
            let size = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
            ensure!(blob["size"] == size, "{}", path.display());
        }
    }
    Ok(releases.keys().cloned().collect())
}
