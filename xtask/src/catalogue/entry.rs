//! What an entry of the catalogue is: a folder with `plumb.toml` (what a user copies) and `check.toml` (how it is tried).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One folder of `examples/catalogue/`.
pub struct Entry {
    /// Name of the folder, and of the application.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// How it is tried.
    pub check: Check,
    /// A machine of it has a volume.
    pub has_volume: bool,
}

/// `check.toml`. Command lines are for `sh`; they run in a copy of the folder, with `PORT_<guest port>` set to the port
/// of this host that leads there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Debian packages of the programs that the commands use.
    pub clients: Vec<String>,
    /// Secrets of the deployment, set before `plumb up`.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Before `plumb up`: what is not kept in git (a compiled program, a key pair).
    #[serde(default)]
    pub make: Vec<String>,
    /// Changes something inside.
    #[serde(default)]
    pub write: Vec<String>,
    /// Pairs: a command, and a text that must be in what it prints. After `write`, and again after a restart if there
    /// is a volume.
    pub read: Vec<(String, String)>,
}

/// All entries, by name.
pub fn load(root: &Path) -> Result<Vec<Entry>> {
    let catalogue = root.join("examples/catalogue");
    let mut entries = Vec::new();
    for found in fs::read_dir(&catalogue).with_context(|| catalogue.display().to_string())? {
        let folder = found?.path();
        if folder.is_dir() {
            entries.push(read(folder).with_context(|| "an entry of the catalogue is broken")?);
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!entries.is_empty(), "{} is empty", catalogue.display());
    Ok(entries)
}

fn read(folder: PathBuf) -> Result<Entry> {
    let text = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let check: Check =
        toml::from_str(&text("check.toml")?).with_context(|| format!("{}/check.toml", folder.display()))?;
    let definition: toml::Table = text("plumb.toml")?.parse()?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let app = definition.get("app").and_then(toml::Value::as_str).unwrap_or_default();
    ensure!(app == name, "{}: the application is called `{app}`", folder.display());
    ensure!(!check.read.is_empty(), "{}: nothing is read, so nothing can fail", folder.display());
    let machines = definition.get("machine").and_then(toml::Value::as_table);
    let has_volume =
        machines.is_some_and(|machines| machines.values().any(|machine| machine.get("volume").is_some()));
    Ok(Entry { name, folder, check, has_volume })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_can_be_read() -> Result<()> {
        let entries = load(&crate::root())?;
        let redis = entries.iter().find(|entry| entry.name == "redis").context("redis is missing")?;
        assert!(redis.has_volume);
        let nginx = entries.iter().find(|entry| entry.name == "nginx").context("nginx is missing")?;
        assert!(!nginx.has_volume);
        Ok(())
    }
}
