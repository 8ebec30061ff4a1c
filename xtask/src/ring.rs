//! The test files that run real programs and machines, two side by side, each with one test at a time.
//!
//! A set of machines that boots leaves a third of two processors idle: it waits for a service, a timer, a client. Two
//! sets fill them; more would only slow each other down.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

const SIDE_BY_SIDE: usize = 2;

/// Those that take longest, longest first: begun last, one of them would be left alone at the end.
const LONG: [&str; 8] =
    ["machines", "remote", "oracle", "volume", "test_command", "rolling", "soak", "container"];

/// One test program, as cargo tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// Name of the test target.
    name: String,
    program: PathBuf,
    /// Where cargo would start it: the folder of its package.
    folder: PathBuf,
}

/// Builds with `cargo ARGUMENTS` what is not built, and runs every file. Half an hour of machines tells of everything that
/// is wrong, not of the first.
pub fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    println!("==> cargo {} --test *, {SIDE_BY_SIDE} files side by side", arguments.join(" "));
    let build = Command::new("cargo")
        .args(arguments)
        .args(["--test", "*", "--no-run", "--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(build.status.success(), "the tests do not build ({})", build.status);
    let files = in_order(files(&String::from_utf8_lossy(&build.stdout))?);
    ensure!(!files.is_empty(), "cargo names no test file");
    let (count, left) = (files.len(), Mutex::new(files.into_iter()));
    let failed = Mutex::new(Vec::new());
    let next = || left.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(file) = next() {
                    let began = Instant::now();
                    let ended = play(&file);
                    if !tell(&file, began.elapsed(), ended)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(file.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("{} of {count} test files failed: {}", failed.len(), failed.join(", "));
    }
    println!("{count} test files passed");
    Ok(())
}

fn play(file: &File) -> Result<Output> {
    Command::new(&file.program)
        .args(["--test-threads=1", "--color=never"])
        .current_dir(&file.folder)
        .env("CARGO_MANIFEST_DIR", &file.folder)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", file.program.display()))
}

/// All that a file said, in one piece. Says whether it passed.
fn tell(file: &File, took: Duration, ended: Result<Output>) -> bool {
    let (passed, said) = match ended {
        Ok(output) => (
            output.status.success(),
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat(),
        ),
        Err(error) => (false, format!("{error:#}\n")),
    };
    let word = if passed { "passed" } else { "FAILED" };
    println!("==> {} {word} in {} s\n{}", file.name, took.as_secs(), said.trim());
    passed
}

/// The test programs in cargo's messages, one JSON object for each line (cargo's book, "External tools").
fn files(messages: &str) -> Result<Vec<File>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        target: Option<Target>,
        executable: Option<PathBuf>,
        manifest_path: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let mut files = Vec::new();
    for line in messages.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("cargo says `{line}`"))?;
        let Message {
            target: Some(target), executable: Some(program), manifest_path: Some(manifest), ..
        } = message
        else {
            continue;
        };
        if message.reason != "compiler-artifact" || target.kind != ["test"] {
            continue;
        }
        let folder = manifest.parent().context("a manifest is in a folder")?.to_owned();
        files.push(File { name: target.name, program, folder });
    }
    Ok(files)
}

fn in_order(mut files: Vec<File>) -> Vec<File> {
    let place = |file: &File| LONG.iter().position(|name| *name == file.name).unwrap_or(LONG.len());
    files.sort_by(|a, b| (place(a), &a.name).cmp(&(place(b), &b.name)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_read_from_what_cargo_says() -> Result<()> {
        let artifact = |name: &str, kind: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/p/{name}/Cargo.toml","target":{{"name":"{name}","kind":["{kind}"]}},"executable":{executable}}}"#
            )
        };
        let said = [
            artifact("serde", "lib", "null"),
            artifact("plumb", "bin", r#""/t/plumb""#),
            artifact("lease", "test", r#""/t/lease-1""#),
            artifact("accounts", "test", r#""/t/accounts-1""#),
            artifact("remote", "test", r#""/t/remote-1""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let files = in_order(files(&said.join("\n"))?);
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["remote", "accounts", "lease"]);
        assert_eq!(files[1].folder, Path::new("/p/accounts"));
        assert_eq!(files[1].program, Path::new("/t/accounts-1"));
        Ok(())
    }

    #[test]
    fn what_takes_long_is_there() {
        let tests = crate::root().join("crates/plumb/tests");
        for name in LONG {
            let there =
                tests.join(format!("{name}.rs")).exists() || tests.join(name).join("main.rs").exists();
            assert!(there, "{name}");
        }
    }
}
