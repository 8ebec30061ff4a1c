//! The store in the hands of real processes: collections, damage, and many commands at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, copy_example, free_port, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// How long commands that run at once may take together, on a busy machine.
const ALL_DONE: Duration = Duration::from_secs(300);

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

/// A world with three releases of `hello`.
fn world(name: &str) -> Result<(World, PathBuf)> {
    let world = World::new(name, PLUMB)?;
    let folder = copy_example(&world, "hello", "app", free_port()?)?;
    for number in 1..=3 {
        fs::write(folder.join("www/index.html"), format!("page {number}\n").repeat(600))?;
        world.ok(&["release", text(&folder)])?;
    }
    world.share()?;
    Ok((world, folder))
}

fn digest<'a>(shown: &'a Value, part: &str) -> Result<&'a str> {
    shown["images"]["web"][part]["digest"].as_str().context("a digest")
}

/// The file of a folded object.
fn folded(world: &World, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    world.home().join("store/folded").join(&hex[..2]).join(&hex[2..])
}

#[test]
fn a_collected_release_is_built_again() -> Result<()> {
    let (world, _) = world("store-collect")?;
    world.ok(&["pin", "hello@2"])?;
    let shown = world.json(&["show", "hello@1"])?;
    let before = world.json(&["gc", "--newest", "1", "--older-than", "0", "--dry-run"])?;
    ensure!(before["bytes_before"] == before["bytes_after"], "a dry run changes nothing");
    ensure!(world.object(digest(&shown, "root")?).exists(), "a dry run removes nothing");

    let outcome = world.json(&["gc", "--newest", "1", "--older-than", "0"])?;
    let reasons: Vec<String> = outcome["releases"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|release| format!("{} {}", release["release"], release["reasons"]).replace('"', ""))
        .collect();
    assert_eq!(reasons, ["hello@1 []", "hello@2 [pinned]", "hello@3 [among the newest]"]);
    ensure!(
        outcome["bytes_after"].as_u64() < outcome["bytes_before"].as_u64().map(|bytes| bytes / 3),
        "{outcome}"
    );
    ensure!(
        !world.object(digest(&shown, "root")?).exists() && !folded(&world, digest(&shown, "root")?).exists()
    );

    // It says so everywhere, and what stays is whole without being plain.
    ensure!(world.ok(&["log", "hello"])?.stdout.contains("images collected"));
    ensure!(world.ok(&["show", "hello@1"])?.stderr.contains("plumb verify hello@1 --rebuild"));
    let up = world.run(&["up", "hello@1"])?;
    ensure!(up.code == 1 && up.stderr.contains("are not in the store"), "{}", up.stderr);
    ensure!(up.stderr.contains("hint: `plumb verify hello@1 --rebuild`"), "{}", up.stderr);
    let kept = world.json(&["show", "hello@3"])?;
    ensure!(
        !world.object(digest(&kept, "root")?).exists() && folded(&world, digest(&kept, "root")?).exists()
    );
    world.ok(&["verify", "hello@3"])?;
    world.ok(&["fsck"])?;

    let rebuilt = world.json(&["--offline", "verify", "hello@1", "--rebuild"])?;
    ensure!(rebuilt["restored"].as_array().is_some_and(|restored| !restored.is_empty()), "{rebuilt}");
    assert_eq!(rebuilt["problems"], Value::Array(Vec::new()));
    world.ok(&["verify", "hello@1"])?;

    // With `--releases` history goes, too; nothing that stays misses anything.
    world.ok(&["unpin", "hello@2"])?;
    world.ok(&["gc", "--newest", "1", "--older-than", "0", "--releases"])?;
    assert_eq!(world.json(&["log"])?.as_array().map(Vec::len), Some(1));
    world.ok(&["fsck"])?;
    world.ok(&["--offline", "verify", "hello@3", "--rebuild"])?;
    world.end()
}

#[test]
fn what_is_damaged_is_named_and_comes_back() -> Result<()> {
    let (world, _) = world("store-damage")?;
    world.ok(&["gc", "--older-than", "0"])?;
    let shown = world.json(&["show", "hello@3"])?;
    let spoil = |path: &Path| -> Result<()> {
        let mut bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(path)?;
        Ok(fs::write(path, bytes)?)
    };
    // One of each kind: a root, a kernel, the file of a package, an entry, permissions, a stranger.
    spoil(&folded(&world, digest(&shown, "root")?))?;
    spoil(&folded(&world, digest(&shown, "kernel")?))?;
    // Whoever reads it finds out first.
    assert_eq!(world.run(&["verify", "hello@2"])?.code, 3, "the kernel is shared");
    let store = world.home().join("store");
    fs::write(store.join("objects/stranger"), b"x")?;
    fs::create_dir_all(store.join("entries/image-1"))?;
    fs::write(store.join("entries/image-1").join("0".repeat(64)), format!("sha256:{}", "1".repeat(64)))?;
    let manifest = shown["release"]["content"]["machines"]["web"]["image"].as_str().context("a digest")?;
    let manifest =
        if world.object(manifest).exists() { world.object(manifest) } else { folded(&world, manifest) };
    fs::set_permissions(&manifest, fs::Permissions::from_mode(0o644))?;

    let dry = world.run(&["fsck", "--dry-run", "--json"])?;
    assert_eq!(dry.code, 3, "{}", dry.stdout);
    let found = world.run(&["--offline", "fsck", "--json"])?;
    let report: Value = serde_json::from_str(&found.stdout)?;
    assert_eq!(found.code, 0, "{report:#}");
    let kinds: Vec<&str> = report["damages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|damage| damage["kind"].as_str())
        .collect();
    for kind in ["wrong", "missing", "entry", "permission", "foreign"] {
        ensure!(kinds.contains(&kind), "{kind}: {report:#}");
    }
    for number in 1..=3 {
        world.ok(&["verify", &format!("hello@{number}")])?;
    }
    // A release document that is not what it was, and what nobody can give again: named, and exit code 3.
    let document = store.join("releases/hello/1");
    let bytes = fs::read(&document)?;
    fs::remove_file(&document)?;
    fs::write(&document, [&bytes[..], b" "].concat())?;
    let definition = shown["release"]["lock"].as_str().context("a digest")?;
    let definition =
        if world.object(definition).exists() { world.object(definition) } else { folded(&world, definition) };
    fs::remove_file(definition)?;
    let left = world.run(&["--offline", "fsck"])?;
    assert_eq!(left.code, 3, "{}", left.stdout);
    ensure!(
        left.stdout.contains("release hello@1") && left.stdout.contains("not repaired"),
        "{}",
        left.stdout
    );
    world.end()
}

#[test]
fn builds_releases_collections_and_checks_at_once() -> Result<()> {
    let (world, folder) = world("store-stress")?;
    let second = copy_example(&world, "hello", "second", free_port()?)?;
    fs::copy(folder.join("plumb.lock"), second.join("plumb.lock"))?;
    let definition = fs::read_to_string(second.join("plumb.toml"))?;
    fs::write(second.join("plumb.toml"), definition.replacen("\"hello\"", "\"other\"", 1))?;
    for round in 0..4 {
        for (place, name) in [(&folder, "one"), (&second, "two")] {
            fs::write(place.join("www/index.html"), format!("{name} {round}\n").repeat(600))?;
        }
        let commands: [&[&str]; 7] = [
            &["release", text(&folder)],
            &["gc", "--newest", "1", "--older-than", "0"],
            &["release", text(&second)],
            &["fsck"],
            &["build", text(&folder)],
            &["gc", "--newest", "2", "--older-than", "0"],
            &["fsck"],
        ];
        let mut running = Vec::new();
        for command in commands {
            let log = fs::File::create(world.folder().join(format!("log-{round}-{}", running.len())))?;
            let child = world.command(command).stdout(log.try_clone()?).stderr(log).spawn()?;
            running.push((command, child));
        }
        let mut done = vec![None; running.len()];
        wait_until("all commands end", ALL_DONE, &mut || {
            for (at, (_, child)) in running.iter_mut().enumerate() {
                if done[at].is_none() {
                    done[at] = child.try_wait().ok().flatten();
                }
            }
            done.iter().all(Option::is_some)
        })?;
        for (at, (command, _)) in running.iter().enumerate() {
            let said = fs::read_to_string(world.folder().join(format!("log-{round}-{at}")))?;
            ensure!(done[at].is_some_and(|status| status.success()), "{command:?}:\n{said}");
        }
        // Nothing that stays misses anything, and the newest can be built again.
        let checked = world.json(&["fsck"])?;
        assert_eq!(checked["damages"], Value::Array(Vec::new()), "{checked:#}");
    }
    for app in ["hello", "other"] {
        let log = world.json(&["log", app])?;
        let newest = log.as_array().map_or(0, Vec::len);
        world.ok(&["--offline", "verify", &format!("{app}@{newest}"), "--rebuild"])?;
    }
    world.end()
}
