//! A home of its own for every test.
//!
//! Packages are downloaded once for all tests and runs: their objects are shared by hard links between the homes and
//! `target/test-cache/store`. Releases, state, volumes and machines are never shared.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// A home with its own deployments.
pub struct World {
    program: PathBuf,
    root: PathBuf,
    home: PathBuf,
    cache: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub struct Output {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl World {
    /// A new home for the test `name`; `program` is the plumb to run. What an earlier, interrupted run left is ended.
    ///
    /// # Errors
    /// If folders cannot be made.
    pub fn new(name: &str, program: &str) -> Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let root = target.join("test-worlds").join(name);
        let world = World {
            program: program.into(),
            home: root.join("home"),
            root: root.clone(),
            cache: target.join("test-cache/store"),
        };
        if root.exists() {
            world.end()?;
        }
        fs::create_dir_all(&root)?;
        world.seed()?;
        Ok(world)
    }

    /// Takes downloaded and unpacked packages over from the cache.
    fn seed(&self) -> Result<()> {
        for part in ["objects", "entries"] {
            link_tree(&self.cache.join(part), &self.home.join("store").join(part))?;
        }
        Ok(())
    }

    /// Gives what was downloaded to the cache.
    ///
    /// # Errors
    /// If links cannot be made.
    pub fn share(&self) -> Result<()> {
        link_tree(&self.home.join("store/objects"), &self.cache.join("objects"))?;
        let entries = self.home.join("store/entries");
        for kind in fs::read_dir(&entries)? {
            let kind = kind?.file_name();
            // What a home knows of remotes and pins is its own.
            let own = ["remote", "upstream", "trust", "fingerprint", "pin", "upload"];
            if !own.iter().any(|name| kind.to_string_lossy().starts_with(name)) {
                link_tree(&entries.join(&kind), &self.cache.join("entries").join(&kind))?;
            }
        }
        Ok(())
    }

    /// Forgets everything that was built, but not what was downloaded.
    ///
    /// # Errors
    /// If a folder cannot be removed.
    pub fn forget_builds(&self) -> Result<()> {
        let entries = self.home.join("store/entries");
        for entry in fs::read_dir(&entries)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if ["unpacked", "image", "kernel", "effects"].iter().any(|kind| name.starts_with(kind)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// A folder for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.root
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Where the object of a digest lies, `sha256:HEX` or only its digits.
    #[must_use]
    pub fn object(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.home.join("store/objects").join(&hex[..2]).join(&hex[2..])
    }

    /// The program, in a session of its own so that a killed command cannot take others with it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PLUMB_HOME", &self.home).current_dir(&self.root).stdin(Stdio::null());
        command.process_group(0);
        command
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments).output().context("cannot start plumb")?;
        Ok(Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the program and insists on success.
    ///
    /// # Errors
    /// With everything it said, if it fails.
    pub fn ok(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.run(arguments)?;
        if output.code != 0 {
            bail!(
                "plumb {} exited with {}:\n{}{}",
                arguments.join(" "),
                output.code,
                output.stdout,
                output.stderr
            );
        }
        Ok(output)
    }

    /// Runs the program with `--json` and reads what it prints.
    ///
    /// # Errors
    /// If it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let output = self.ok(&all)?;
        serde_json::from_str(&output.stdout).with_context(|| format!("not JSON: {}", output.stdout))
    }

    /// Starts the program without waiting.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("cannot start plumb")
    }

    /// Stops every deployment and removes the home.
    ///
    /// # Errors
    /// If something stays.
    pub fn end(&self) -> Result<()> {
        if let Ok(deployments) = self.json(&["ps", "--all"]) {
            for deployment in deployments.as_array().into_iter().flatten() {
                let name = deployment["name"].as_str().unwrap_or_default();
                self.run(&["down", name, "--volumes"])?;
            }
        }
        if self.root.exists() {
            fs::remove_dir_all(&self.root).with_context(|| self.root.display().to_string())?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test must not leave machines behind; its files stay for whoever looks into it.
        if let Ok(deployments) = self.json(&["ps", "--all"]) {
            for deployment in deployments.as_array().into_iter().flatten() {
                let _ = self.run(&["down", deployment["name"].as_str().unwrap_or_default()]);
            }
        }
    }
}

/// What a tool prints.
///
/// # Errors
/// With everything it said, if it fails.
pub fn printed(command: &mut Command) -> Result<String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run `{shown}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`{shown}` failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// Copies a folder of `examples/` into the world, with its published port replaced.
///
/// # Errors
/// If it cannot be copied.
pub fn copy_example(world: &World, name: &str, folder: &str, port: u16) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let target = world.folder().join(folder);
    copy_tree(&source, &target)?;
    let definition = target.join("plumb.toml");
    let text = fs::read_to_string(&definition)?;
    fs::write(&definition, text.replace("8080:80", &format!("{port}:80")))?;
    Ok(target)
}

/// Copies a folder with everything below it.
///
/// # Errors
/// If it cannot be copied.
pub fn copy_tree(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source).with_context(|| source.display().to_string())? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Hard links for everything below `source` that `target` does not have. Objects never change; entries are replaced by
/// renaming, so a link never sees the other side's writes.
fn link_tree(source: &Path, target: &Path) -> Result<()> {
    if !source.exists() {
        return Ok(());
    }
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &to)?;
        } else {
            match fs::hard_link(entry.path(), &to) {
                // It is there, or another test links the same at this moment.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// A port that was free a moment ago.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "tests make things that are about to expire")]
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Waits until `condition` holds.
///
/// # Errors
/// If it does not hold within `limit`.
pub fn wait_until(what: &str, limit: Duration, condition: &mut dyn FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= end {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        #[expect(clippy::disallowed_methods, reason = "between two looks at a condition that has a limit")]
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Command lines of all processes that mention `text`.
///
/// # Errors
/// If /proc cannot be read.
pub fn process_names(text: &str) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process may end while we look.
        let Ok(bytes) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        if line.contains(text) && pid != std::process::id() {
            found.push((pid, line));
        }
    }
    Ok(found)
}
