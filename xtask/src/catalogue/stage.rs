//! One entry on real machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::{copy_tree, free_port};

use super::entry::Entry;

/// Longest time of one client command: a first answer of a Java server under emulation takes most of it.
const COMMAND_LIMIT: &str = "180s";

/// Lines of each instance's log that are shown with a failure.
const LAST_LINES: &str = "15";

/// An entry copied to its place, with ports of its own.
pub struct Stage<'a> {
    entry: &'a Entry,
    program: PathBuf,
    home: PathBuf,
    folder: PathBuf,
    /// Ports of this host by variable name, `PORT_80`.
    ports: Vec<(String, u16)>,
}

impl<'a> Stage<'a> {
    /// Copies the entry; what an earlier, interrupted run left is ended.
    pub fn new(root: &Path, entry: &'a Entry) -> Result<Self> {
        let place = root.join("target/catalogue");
        let mut stage = Stage {
            entry,
            program: root.join("target/release/plumb"),
            home: place.join("home"),
            folder: place.join("work").join(&entry.name),
            ports: Vec::new(),
        };
        stage.end()?;
        copy_tree(&entry.folder, &stage.folder)?;
        let definition = stage.folder.join("plumb.toml");
        let text = stage.move_ports(&fs::read_to_string(&definition)?)?;
        fs::write(&definition, text)?;
        Ok(stage)
    }

    /// Every published port becomes a free one of this host.
    fn move_ports(&mut self, text: &str) -> Result<String> {
        let mut moved = String::new();
        for line in text.lines() {
            let mut line = line.to_owned();
            if let Some(list) = line.strip_prefix("publish").and_then(|rest| rest.split_once('[')) {
                let list = list.1.to_owned();
                for pair in list.split('"').filter(|part| part.contains(':')) {
                    let guest = pair.rsplit_once(':').map_or("", |(_, guest)| guest);
                    let port = free_port()?;
                    line = line.replace(&format!("\"{pair}\""), &format!("\"{port}:{guest}\""));
                    self.ports.push((format!("PORT_{guest}"), port));
                }
            }
            moved += &line;
            moved.push('\n');
        }
        Ok(moved)
    }

    /// Everything, in order. The line says what it took.
    pub fn play(&self) -> Result<String> {
        let started = Instant::now();
        let check = &self.entry.check;
        check.make.iter().try_for_each(|line| self.client(line).map(drop))?;
        let built = self.json(&["build", "."])?;
        self.set_secrets()?;
        self.plumb(&["up", "."])?;
        check.write.iter().try_for_each(|line| self.client(line).map(drop))?;
        self.read()?;
        let memory = self.memory()?;
        if self.entry.has_volume {
            self.plumb(&["down", &self.entry.name])?;
            self.plumb(&["up", "."])?;
            self.read().context("after `down` and `up`")?;
        }
        let kept = if self.entry.has_volume { ", data kept" } else { "" };
        Ok(format!("{} in {} s{kept}", machines(&built, &memory), started.elapsed().as_secs()))
    }

    /// Before it has ever run, which a release must be there for.
    fn set_secrets(&self) -> Result<()> {
        if self.entry.check.secrets.is_empty() {
            return Ok(());
        }
        self.plumb(&["release", "."])?;
        for (name, secret) in &self.entry.check.secrets {
            let file = self.folder.join("secret");
            fs::write(&file, secret)?;
            let file = file.to_str().context("UTF-8")?;
            self.plumb(&["secret", "set", &self.entry.name, name, "--file", file])?;
        }
        Ok(())
    }

    fn read(&self) -> Result<()> {
        for (line, wanted) in &self.entry.check.read {
            let said = self.client(line)?;
            ensure!(said.contains(wanted), "`{line}` does not say `{wanted}` but:\n{said}");
        }
        Ok(())
    }

    /// One command of `check.toml`; returns what it printed.
    fn client(&self, line: &str) -> Result<String> {
        let mut command = Command::new("timeout");
        command.args([COMMAND_LIMIT, "sh", "-euc", line]).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.ports.iter().map(|(name, port)| (name, port.to_string())));
        let output = command.output().context("cannot run timeout(1)")?;
        let said = text(&output);
        match output.status.code() {
            Some(0) => Ok(said),
            Some(124) => bail!("`{line}` took longer than {COMMAND_LIMIT}:\n{said}"),
            _ => bail!("`{line}` failed ({}):\n{said}", output.status),
        }
    }

    fn plumb(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PLUMB_HOME", &self.home).current_dir(&self.folder).stdin(Stdio::null());
        let output = command.output().context("cannot run plumb")?;
        ensure!(output.status.success(), "`plumb {}` failed:\n{}", arguments.join(" "), text(&output));
        Ok(output)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.plumb(&[arguments, &["--json"]].concat())?;
        serde_json::from_slice(&output.stdout).context("plumb printed no JSON")
    }

    /// Memory in use, by instance.
    fn memory(&self) -> Result<Value> {
        Ok(self.json(&["ps", &self.entry.name])?[0]["instances"].clone())
    }

    /// The end of every instance's log, for a failure.
    pub fn last_words(&self) -> String {
        let instances = self.memory().unwrap_or_default();
        let mut words = String::new();
        for name in instances.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()) {
            if let Ok(output) =
                self.plumb(&["logs", &format!("{}/{name}", self.entry.name), "--lines", LAST_LINES])
            {
                words += &format!("\n--- {name}\n{}", text(&output));
            }
        }
        words
    }

    /// Ends its machines and removes its files.
    pub fn end(&self) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let deployments = self.json(&["ps", "--all"])?;
        if deployments.as_array().into_iter().flatten().any(|one| one["name"] == self.entry.name.as_str()) {
            self.plumb(&["down", &self.entry.name, "--volumes"])?;
        }
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }
}

/// Per machine the size of its image, and per instance the memory in use.
fn machines(built: &Value, instances: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let texts = list(built).into_iter().map(|image| {
        let machine = image["machine"].as_str().unwrap_or_default().to_owned();
        let memory = list(instances)
            .iter()
            .find(|one| one["machine"] == image["machine"])
            .map_or(0, |one| one["memory_used_kib"].as_u64().unwrap_or_default() / 1024);
        let megabytes = |name: &str| image[name].as_u64().unwrap_or_default().div_ceil(1_000_000);
        let (all, packages) = (megabytes("size_bytes"), &image["packages"]);
        format!("{machine}: {all} MB, {packages} packages, {memory} MiB used")
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
