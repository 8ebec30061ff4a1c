//! `cargo xtask catalogue`: every folder of `examples/catalogue/`, booted and used by a real client.
//!
//! ```text
//!  check.toml ─ clients ─► scripts/setup
//!             ─ make ────► plumb up ─ write ─ read ─┬─► plumb down --volumes
//!                                                   └─ (volumes) plumb down ─ plumb up ─ read again
//! ```
//!
//! One entry after the other: two sets of machines on two cores only slow each other down. All share one home below
//! `target/`, so that a package is downloaded and unpacked once.

mod entry;
mod stage;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use self::entry::Entry;
use self::stage::Stage;

/// CI runs one part of so many, another one for another commit.
const PARTS: usize = 5;

/// Runs the entries that are named; without names those of one part, with `--all` every one.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let all = entry::load(root)?;
    let chosen = choose(root, all, arguments)?;
    crate::cargo(root, &["build", "--release", "--bin", "plumb", "--locked"])?;
    set_up(root, &chosen)?;
    let mut failed = 0;
    for entry in &chosen {
        let stage = Stage::new(root, entry)?;
        match stage.play() {
            Ok(line) => println!("ok      {:<14} {line}", entry.name),
            Err(error) => {
                println!("FAILED  {:<14} {error:#}{}", entry.name, stage.last_words());
                failed += 1;
            }
        }
        stage.end()?;
    }
    println!("catalogue: {} passed, {failed} failed", chosen.len() - failed);
    ensure!(failed == 0, "{failed} of {} entries failed", chosen.len());
    Ok(())
}

fn choose(root: &Path, all: Vec<Entry>, arguments: &[String]) -> Result<Vec<Entry>> {
    if arguments.iter().any(|argument| argument == "--all") {
        println!("catalogue: all {} entries", all.len());
        return Ok(all);
    }
    if arguments.is_empty() {
        let (commit, part) = part(root)?;
        let chosen: Vec<Entry> = in_part(all, part);
        let names: Vec<&str> = chosen.iter().map(|entry| entry.name.as_str()).collect();
        println!("catalogue: part {} of {PARTS}, by commit {commit}: {}", part + 1, names.join(", "));
        return Ok(chosen);
    }
    let known: Vec<&str> = all.iter().map(|entry| entry.name.as_str()).collect();
    if let Some(unknown) = arguments.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("the catalogue has no `{unknown}`; there is {}", known.join(", "));
    }
    Ok(all.into_iter().filter(|entry| arguments.contains(&entry.name)).collect())
}

/// Every fifth entry, so that neighbours, which are often alike, fall into different parts.
fn in_part(all: Vec<Entry>, part: usize) -> Vec<Entry> {
    all.into_iter().enumerate().filter(|(index, _)| index % PARTS == part).map(|(_, entry)| entry).collect()
}

/// The part of this commit. A tree without git (an unpacked archive) always runs the first.
fn part(root: &Path) -> Result<(String, usize)> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root).output();
    let commit = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "00000000 (no git)".to_owned(),
    };
    let digits = commit.get(..8).context("git names a commit of less than eight digits")?;
    let number = usize::from_str_radix(digits, 16).with_context(|| format!("`{commit}` is no commit"))?;
    Ok((digits.to_owned(), number % PARTS))
}

/// The clients of all chosen entries, in one go.
fn set_up(root: &Path, chosen: &[Entry]) -> Result<()> {
    let mut clients: Vec<&String> = chosen.iter().flat_map(|entry| &entry.check.clients).collect();
    clients.sort();
    clients.dedup();
    let status = Command::new(root.join("scripts/setup"))
        .args(&clients)
        .status()
        .context("cannot run scripts/setup")?;
    ensure!(status.success(), "the clients cannot be installed ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_its_part() -> Result<()> {
        let load = || entry::load(&crate::root());
        let mut names = Vec::new();
        for part in 0..PARTS {
            names.extend(in_part(load()?, part).into_iter().map(|entry| entry.name));
        }
        names.sort();
        assert_eq!(names, load()?.into_iter().map(|entry| entry.name).collect::<Vec<_>>());
        Ok(())
    }
}
