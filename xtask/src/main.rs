//! Repository tasks: `cargo xtask check | tidy | test | catalogue | bench | fuzz | soak | survey`.

mod bench;
mod catalogue;
mod delta;
mod fleet;
mod fuzz;
mod ring;
mod tidy;
mod unxz;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "\
usage: cargo xtask <task>

  check      everything that must hold: format, lints, tidy, all tests, a fifth of the catalogue (this is what CI runs)
  tidy       layers, file sizes, crate map, links in the docs, dependency notes
  test       all tests, those on real virtual machines included
  catalogue  entries of examples/catalogue by NAME, or --all, on real virtual machines, used by real clients;
             without either the fifth that belongs to the commit
  bench      the figures of bench/README.md, side by side with peers where a peer exists
  fuzz       [TARGET] [--seconds N]: fuzzers over every parser of foreign bytes, 10 minutes each; see fuzz/README.md
  soak       [--rounds N] [--seed N]: the shop is upgraded and rolled back while something fails at a random moment of
             each way, and a client writes: no row may be lost; 100 rounds, about half a minute each
  survey     [PACKAGE…]: which packages of xtask/data/server-packages.txt build without a choice; needs network, 10 GB and
             half an hour, less when it has run before (store: target/survey)
";

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let root = root();
    let result = match task.as_str() {
        "check" => check(&root),
        "tidy" => tidy::run(&root),
        "test" => test(&root),
        "catalogue" => catalogue::run(&root, &arguments),
        "soak" => soak(&root, &arguments),
        "survey" => survey(&root, &arguments),
        "bench" => bench::run(&root, &arguments),
        "fuzz" => fuzz::run(&root, &arguments),
        // Not for people: the benchmark runs these.
        "unxz" => unxz::run(&arguments),
        "delta" => delta::run(&arguments),
        "fleet" => fleet::run(&arguments),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

fn check(root: &Path) -> Result<()> {
    tidy::run(root)?;
    cargo(root, &["fmt", "--all", "--check"])?;
    cargo(
        root,
        &["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    test(root)?;
    catalogue::run(root, &[])
}

/// One build for the product and all tests, always of the whole workspace: a selection of packages has other features of
/// shared dependencies, so cargo would compile those again. Then the fast ring, then what runs real programs and machines.
fn test(root: &Path) -> Result<()> {
    const ALL: [&str; 4] = ["test", "--release", "--workspace", "--locked"];
    cargo(root, &[&ALL[..], &["--no-run"]].concat())?;
    cargo(root, &[&ALL[..], &["--no-fail-fast", "--lib", "--bins"]].concat())?;
    cargo(root, &[&ALL[..], &["--doc"]].concat())?;
    ring::run(root, &ALL)
}

/// The test of that name, for longer than CI has time.
fn soak(root: &Path, arguments: &[String]) -> Result<()> {
    let mut variables = vec![("PLUMB_SOAK_ROUNDS", "100")];
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--rounds" => variables.push(("PLUMB_SOAK_ROUNDS", value)),
            [name, value] if name == "--seed" => variables.push(("PLUMB_SOAK_SEED", value)),
            other => bail!("`{}` is not known; {USAGE}", other.join(" ")),
        }
    }
    let mut command = Command::new("cargo");
    command.args(["test", "--release", "--workspace", "--locked", "--test", "soak", "--", "--nocapture"]);
    let status = command.envs(variables).current_dir(root).status().context("cannot run cargo")?;
    ensure!(status.success(), "the soak failed ({status})");
    Ok(())
}

/// Asks for every package of the list whether it builds without a choice; see the example of plumb-ops.
fn survey(root: &Path, packages: &[String]) -> Result<()> {
    let mut arguments =
        vec!["run", "--release", "--locked", "--package", "plumb-ops", "--example", "survey", "--"];
    arguments.extend(["xtask/data/server-packages.txt", "target/survey"]);
    arguments.extend(packages.iter().map(String::as_str));
    cargo(root, &arguments)
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    println!("==> cargo {}", arguments.join(" "));
    let status =
        Command::new("cargo").args(arguments).current_dir(root).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}
