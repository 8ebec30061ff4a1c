//! Builds PID 1 of the machines and hands it to the crate as bytes (`guest.rs`).
//!
//! A nested cargo, because PID 1 is static, small and built with other flags than the program that carries it; it has
//! its own target folder, so the two builds do not wait for each other.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script what to do by its environment")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The dynamic linker, as the ELF interpreter of a dynamically linked program names it.
const LINKER: &[u8] = b"/lib64/ld-linux-x86-64.so.2";

fn main() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("cargo did not set {name}"));
    let crates = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    for input in ["plumb-guest/src", "plumb-guest/Cargo.toml", "plumb-guest-proto/src", "../Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", crates.join(input).display());
    }
    let target = PathBuf::from(variable("OUT_DIR")?).join("guest");
    let mut build = Command::new(variable("CARGO")?);
    build
        .args(["build", "--quiet", "--package", "plumb-guest", "--profile", "guest"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(&target)
        .current_dir(crates.join(".."))
        .env("RUSTFLAGS", flags(&crates)?)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER");
    println!(
        "cargo:rustc-env=PLUMB_RULES={:016x}",
        rules(&[crates.join("plumb-content/src"), crates.join("plumb-image/src")])?
    );
    let status = build.status().map_err(|error| format!("cannot run cargo for plumb-guest: {error}"))?;
    if !status.success() {
        return Err(format!("building plumb-guest failed ({status})"));
    }
    let binary = target.join("x86_64-unknown-linux-gnu/guest/plumb-guest");
    // A dynamically linked PID 1 finds no linker in the initramfs and the machine hangs without a word.
    let bytes = fs::read(&binary).map_err(|error| format!("cannot read {}: {error}", binary.display()))?;
    if bytes.windows(LINKER.len()).any(|window| window == LINKER) {
        return Err(format!("{} is not statically linked", binary.display()));
    }
    println!("cargo:rustc-env=PLUMB_GUEST={}", binary.display());
    Ok(())
}

/// Paths of the building machine must not reach the image: the same source gives the same bytes anywhere.
fn flags(crates: &Path) -> Result<String, String> {
    let root =
        crates.join("..").canonicalize().map_err(|error| format!("cannot find the workspace: {error}"))?;
    let home =
        env::var("CARGO_HOME").ok().or_else(|| env::var("HOME").ok().map(|home| format!("{home}/.cargo")));
    let home = home.map(|home| format!(" --remap-path-prefix={home}=/cargo")).unwrap_or_default();
    Ok(format!("-C target-feature=+crt-static --remap-path-prefix={}=/plumb{home}", root.display()))
}

/// A digest of every source file of the crates that decide what an image is, in the order of their names.
fn rules(folders: &[PathBuf]) -> Result<u64, String> {
    for folder in folders {
        println!("cargo:rerun-if-changed={}", folder.display());
    }
    let mut hasher = DefaultHasher::new();
    let mut left = folders.to_vec();
    let mut files = BTreeMap::new();
    while let Some(path) = left.pop() {
        let failed = |error| format!("cannot read {}: {error}", path.display());
        if path.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed)? {
                left.push(entry.map_err(failed)?.path());
            }
        } else {
            let name = folders.iter().find_map(|folder| path.strip_prefix(folder.parent()?.parent()?).ok());
            let name = name.unwrap_or(&path).to_owned();
            files.insert(name, fs::read(&path).map_err(failed)?);
        }
    }
    files.hash(&mut hasher);
    Ok(hasher.finish())
}
