//! Figures, measured side by side: see bench/README.md.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Builds the product and runs `bench/run` with it.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    crate::cargo(root, &["build", "--release", "--bin", "plumb", "--locked"])?;
    let status = Command::new(root.join("bench/run"))
        .args(arguments)
        .env("PLUMB", root.join("target/release/plumb"))
        .env("XTASK", std::env::current_exe().context("this program has no path")?)
        .current_dir(root)
        .status()
        .context("cannot run bench/run")?;
    if !status.success() {
        bail!("bench/run failed ({status})");
    }
    Ok(())
}
