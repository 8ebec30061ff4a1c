//! A container registry: Debian's docker-registry.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{free_port, get, wait_until};

/// Longest time until it answers on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What it answers when it is ready (distribution-spec, "Determining Support"): 401 if it wants a login.
const OPEN: u16 = 200;
const LOGIN_FIRST: u16 = 401;

/// One that runs; it ends with this value.
pub struct Registry {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl Registry {
    /// Starts one that keeps its data in `folder`, with `registry.yml` beside; `extra` is added to that.
    ///
    /// # Errors
    /// If it is not installed or does not answer.
    pub fn start(folder: &Path, extra: &str) -> Result<Self> {
        let port = free_port()?;
        let config = folder.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n{extra}",
            folder.join("registry").display()
        );
        fs::write(&config, text)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry is missing: `scripts/setup docker-registry skopeo`")?;
        let registry = Registry { child, port };
        wait_until("the registry answers", LIMIT, &mut || {
            get(port, "/v2/").is_ok_and(|answer| matches!(answer.status, OPEN | LOGIN_FIRST))
        })?;
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
