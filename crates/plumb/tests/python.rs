//! Requirements of Python in an image, beside what pip makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use plumb_model::Digest;
use serde_json::Value;
use testkit::{World, printed};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Pinned, with hashes: programs to run, native code, and neither.
const REQUIREMENTS: &str = include_str!("data/requirements.txt");

const DEFINITION: &str = r#"
app = "wheels"

[machine.api]
middleware  = ["python3"]
app         = { "/srv/venv" = { pip = "requirements.txt" } }
service.api = { exec = "/srv/venv/bin/gunicorn app:app", user = "api" }
"#;

/// What pip leaves besides the packages, each with its reason.
const PIPS_OWN: [(&str, &str); 8] = [
    ("__pycache__", "compiled when it is installed; a read-only root gains nothing by it"),
    ("site-packages/pip", "pip itself, which installs nothing in an image"),
    ("site-packages/setuptools", "comes with pip's environment"),
    ("site-packages/pkg_resources", "comes with setuptools"),
    ("site-packages/_distutils_hack", "comes with setuptools"),
    ("site-packages/distutils-precedence.pth", "comes with setuptools"),
    ("bin/pip", "pip itself"),
    ("bin/activate", "for shells of people"),
];

/// Files whose contents say who installed, and when: they are there, with other words.
const OTHER_WORDS: [&str; 4] = ["INSTALLER", "RECORD", "REQUESTED", "pyvenv.cfg"];

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

/// Every path of an environment, with what is there.
fn listed(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.to_str().context("UTF-8")?.to_owned();
            if PIPS_OWN.iter().any(|(own, _)| name.contains(own))
                || name.to_lowercase().contains("bin/activate")
            {
                continue;
            }
            let kind = fs::symlink_metadata(&path)?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                found.insert(name, "a link".to_owned());
            } else {
                found.insert(name.clone(), described(&path, &name)?);
            }
        }
    }
    Ok(found)
}

/// Executable or not, and its contents.
fn described(path: &Path, name: &str) -> Result<String> {
    let executable = fs::metadata(path)?.permissions().mode() & 0o100 != 0;
    if OTHER_WORDS.iter().any(|other| name.ends_with(other)) {
        return Ok("other words".to_owned());
    }
    let mut bytes = fs::read(path)?;
    if name.starts_with("bin/") {
        // The interpreter's place is that of the environment.
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        ensure!(bytes.starts_with(b"#!/"), "`{name}` has no interpreter");
        bytes.drain(..end);
    }
    Ok(format!("{} {}", if executable { "x" } else { "-" }, Digest::of(&bytes)))
}

/// The root of the one machine, unpacked.
fn unpacked(world: &World, folder: &Path) -> Result<PathBuf> {
    let built = world.json(&["build", text(folder)])?;
    let object = |digest: &Value| Ok::<_, anyhow::Error>(world.object(digest.as_str().context("a digest")?));
    let manifest: Value = serde_json::from_slice(&fs::read(object(&built[0]["image"])?)?)?;
    let root = object(&manifest["root"]["digest"])?;
    let target = world.folder().join("root");
    printed(Command::new("fsck.erofs").arg(format!("--extract={}", target.display())).arg(&root))?;
    Ok(target)
}

#[test]
fn an_environment_is_what_pip_makes() -> Result<()> {
    let world = World::new("wheels", PLUMB)?;
    let folder = world.folder().join("app");
    fs::create_dir(&folder)?;
    fs::write(folder.join("plumb.toml"), DEFINITION)?;
    fs::write(folder.join("requirements.txt"), REQUIREMENTS)?;
    let ours = listed(&unpacked(&world, &folder)?.join("srv/venv"))?;
    world.share()?;

    let venv = world.folder().join("pip");
    printed(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv))?;
    let requirements = folder.join("requirements.txt");
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r"]);
    printed(pip.arg(&requirements))?;
    let theirs = listed(&venv)?;

    let differences: Vec<String> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| format!("{path}: ours {:?}, pip's {:?}", ours.get(path), theirs.get(path)))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(ours.keys().filter(|path| path.ends_with(".so")).count() >= 2, "native code is among them");
    assert!(ours.contains_key("bin/gunicorn"));
    world.end()
}
