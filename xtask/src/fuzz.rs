//! Long runs of the fuzzers, one after the other: see fuzz/README.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// How long one target runs unless `--seconds` says otherwise.
const SECONDS: u64 = 600;

/// Every run has these limits. An input may take 10 s, one allocation 512 MiB, the process 2 GiB: far above what the
/// product's own limits allow, and far below what an attacker would call a success.
const LIMITS: [&str; 5] =
    ["-timeout=10", "-malloc_limit_mb=512", "-rss_limit_mb=2048", "-print_funcs=0", "-fork=1"];

/// In a fork run the fuzzer goes on after a finding, so that one does not hide the others.
const GO_ON: [&str; 3] = ["-ignore_crashes=1", "-ignore_timeouts=1", "-ignore_ooms=1"];

/// Runs all targets, or the one named.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let (mut only, mut seconds) = (None, SECONDS);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => {
                let value = rest.next().context("`--seconds` needs a number")?;
                seconds = value.parse().with_context(|| format!("`{value}` is no number of seconds"))?;
            }
            name if !name.starts_with('-') && only.is_none() => only = Some(name.to_owned()),
            other => bail!("unknown argument `{other}`; usage: cargo xtask fuzz [TARGET] [--seconds N]"),
        }
    }
    let mut targets = targets(root)?;
    if let Some(only) = only {
        if !targets.contains(&only) {
            bail!("there is no target `{only}`; there are {}", targets.join(", "));
        }
        targets = vec![only];
    }
    let mut found = Vec::new();
    for target in &targets {
        println!("==> {target}, {seconds} s");
        found.extend(fuzz(root, target, seconds)?);
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "{} inputs break a promise: {}\nhint: fix the cause, then keep each as `fuzz/corpus/<target>/found-<what>`",
        found.len(),
        found.join(", ")
    )
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(root.join("fuzz/fuzz_targets"))
        .context("fuzz/fuzz_targets")?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// One run; returns the inputs that were found. New inputs go to a folder that git ignores.
fn fuzz(root: &Path, target: &str, seconds: u64) -> Result<Vec<String>> {
    let folder = root.join("fuzz");
    let work = folder.join("target/grown").join(target);
    let found = folder.join("artifacts").join(target);
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&found)?;
    let corpus = folder.join("corpus").join(target);
    let longest = fs::read_dir(&corpus)
        .with_context(|| corpus.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .max();
    let mut command = Command::new("cargo");
    // The sanitizer is an unstable flag of a stable compiler.
    command.current_dir(root).env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", "--release", target]);
    command.args([&work, &corpus]).arg("--").args(LIMITS).args(GO_ON);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={}", longest.unwrap_or(0).max(8192)));
    let dictionary = folder.join("dictionary").join(format!("{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("`cargo fuzz` failed ({status}); is it there? `cargo install --locked cargo-fuzz` brings it");
    }
    let inputs = fs::read_dir(&found)?.filter_map(|entry| Some(entry.ok()?.path().display().to_string()));
    Ok(inputs.collect())
}
