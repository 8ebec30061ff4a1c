//! What was lost here is given back by a remote, without anybody saying which.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use plumb_model::Digest;
use plumb_trust::SecretKey;
use plumb_trust::tuf::Draft;
use serde_json::Value;
use testkit::copy_tree;

use super::base::{Home, base, text_of};

fn shown(home: &Home, release: &str, part: &str) -> Result<Digest> {
    let shown = home.json(&["show", release])?;
    let digest = shown["images"]["web"][part]["digest"].as_str().or(shown["images"]["web"][part].as_str());
    Ok(digest.context("a digest")?.parse()?)
}

/// The files that an object lies in.
fn files(home: &Home, digest: &Digest) -> Vec<PathBuf> {
    let hex = digest.hex();
    let at = |place: &str| home.0.join("store").join(place).join(&hex[..2]).join(&hex[2..]);
    ["objects", "folded"].map(at).into_iter().filter(|path| path.exists()).collect()
}

fn lose(home: &Home, digest: &Digest) -> Result<()> {
    let files = files(home, digest);
    ensure!(!files.is_empty(), "{digest} is not there");
    Ok(files.iter().try_for_each(fs::remove_file)?)
}

fn spoil(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path)?;
    Ok(fs::write(path, bytes)?)
}

/// Checks the store; everything that is wrong comes back, and `from_remote` of it from the remote.
fn repaired(home: &Home, from_remote: &[Digest]) -> Result<()> {
    let found = home.json(&["--offline", "fsck"])?;
    for digest in from_remote {
        let what = format!("object {digest}");
        let damages = found["damages"].as_array().into_iter().flatten();
        let outcomes: Vec<&Value> = damages
            .filter(|damage| damage["what"] == what)
            .map(|damage| &damage["outcome"]["repaired"])
            .collect();
        ensure!(outcomes == ["from remote `origin`"], "{what}: {found:#}");
    }
    let again = home.json(&["--offline", "fsck"])?;
    assert_eq!(again["damages"], Value::Array(Vec::new()), "{again:#}");
    home.verify("hello@3")
}

#[test]
fn fsck_takes_from_a_remote_what_nobody_here_has() -> Result<()> {
    let (base, home) = (base()?, Home::new("restore")?);
    home.ok(&["clone", text_of(&base.remote), "hello"])?;
    let page = Digest::of(&fs::read(base.world.folder().join("app/www/index.html"))?);
    let root = shown(&home, "hello@3", "root")?;
    let release = home.json(&["show", "hello@3"])?;
    let manifest = release["release"]["content"]["machines"]["web"]["image"].as_str().context("a digest")?;
    let manifest: Digest = manifest.parse()?;

    // A root that is damaged and a file of the user; nothing here has the packages that it was built from.
    spoil(&files(&home, &root)[0])?;
    lose(&home, &page)?;
    let dry = home.run(&["--offline", "fsck", "--dry-run"])?;
    assert_eq!(dry.code, 3, "{}", dry.stdout);
    repaired(&home, &[root, page])?;

    // What names others is lost with what it names.
    let recipe = shown(&home, "hello@3", "recipe")?;
    for digest in [manifest, recipe, page] {
        lose(&home, &digest)?;
    }
    repaired(&home, &[manifest])?;
    ensure!(!files(&home, &recipe).is_empty() && !files(&home, &page).is_empty());

    // A root that is folded to files, one of which is lost.
    home.ok(&["gc", "--newest", "1", "--older-than", "0"])?;
    ensure!(files(&home, &root)[0].starts_with(home.0.join("store/folded")));
    let lost =
        largest_file(&home, &[root, shown(&home, "hello@3", "kernel")?, shown(&home, "hello@3", "initrd")?])?;
    fs::remove_file(lost)?;
    repaired(&home, &[root])?;

    // A remote that is not there is named, and is no reason to stop.
    lose(&home, &page)?;
    lose(&home, &root)?;
    home.ok(&["remote", "remove", "origin"])?;
    home.ok(&["remote", "add", "origin", "https://127.0.0.1:9/nowhere"])?;
    let found = home.run(&["--offline", "fsck"])?;
    assert_eq!(found.code, 3, "{}", found.stdout);
    ensure!(found.stdout.contains("remote `origin` cannot help hello@3: offline"), "{}", found.stdout);
    home.ok(&["remote", "add", "second", text_of(&base.remote)])?;
    ensure!(home.ok(&["--offline", "fsck"])?.stdout.contains("from remote `second`"));
    home.verify("hello@3")
}

/// The files of a folder of records, by name.
fn records(home: &Home, folder: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(home.0.join("store").join(folder))? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// A home that has three releases, trust of two versions and a channel that moved twice, and a remote that has all of it.
fn vouched(name: &str) -> Result<(Home, PathBuf)> {
    let base = base()?;
    let home = Home::new(name)?;
    let remote = super::server::empty(base.world.folder().join(format!("{name}-remote")))?;
    // The keys of who made the releases.
    fs::create_dir_all(&home.0)?;
    let keys = base.world.home().join("keys");
    fs::create_dir_all(home.0.join("keys"))?;
    for key in fs::read_dir(keys)? {
        let key = key?;
        fs::copy(key.path(), home.0.join("keys").join(key.file_name()))?;
    }
    home.ok(&["clone", text_of(&base.remote), "hello"])?;
    for release in ["hello@1", "hello@2"] {
        home.ok(&["pull", release])?;
        home.ok(&["promote", release, "dev", "-m", "a test"])?;
    }
    home.ok(&["trust", "renew", "hello"])?;
    home.ok(&["remote", "add", "second", text_of(&remote)])?;
    for release in ["hello@1", "hello@2", "hello@3"] {
        home.ok(&["push", release, "second"])?;
    }
    home.ok(&["remote", "remove", "origin"])?;
    Ok((home, remote))
}

#[test]
fn fsck_takes_records_from_a_remote_that_has_what_is_meant() -> Result<()> {
    let (home, remote) = vouched("records")?;
    let good = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let statement = records(&home, "statements/hello/2")?.remove(0);
    let paths: Vec<PathBuf> = ["releases/hello/2", "releases/hello/3", "trust/hello/1", "trust/hello/2"]
        .iter()
        .chain(&["channels/hello/dev/1", "channels/hello/dev/2"])
        .map(|path| home.0.join("store").join(path))
        .chain([statement])
        .collect();
    let before = paths.iter().map(|path| good(path)).collect::<Result<Vec<_>>>()?;
    let check = |from: &str| -> Result<()> {
        let found = home.json(&["fsck"])?;
        let damages = found["damages"].as_array().context("a list")?;
        ensure!(!damages.is_empty());
        for damage in damages {
            let kind = damage["kind"].as_str().unwrap_or_default();
            ensure!(["release", "record"].contains(&kind), "{found:#}");
            ensure!(damage["outcome"]["repaired"] == from, "{found:#}");
        }
        for (path, before) in paths.iter().zip(&before) {
            ensure!(good(path)? == *before, "{}", path.display());
        }
        Ok(())
    };
    spoil(&paths[0])?;
    let dry = home.run(&["fsck", "--dry-run"])?;
    ensure!(dry.code == 3 && dry.stdout.contains("without `--dry-run`"), "{}", dry.stdout);
    check("from remote `second`")?;
    // Each alone, and all at once.
    for path in &paths[1..] {
        spoil(path)?;
        check("from remote `second`").with_context(|| path.display().to_string())?;
    }
    paths.iter().try_for_each(|path| spoil(path))?;
    check("from remote `second`")?;
    let again = home.json(&["fsck"])?;
    ensure!(again["damages"] == Value::Array(Vec::new()), "{again:#}");
    // What is gone in the middle of a chain, or is the root of trust, is missed.
    for path in [&paths[2], &paths[4]] {
        fs::remove_file(path)?;
        check("from remote `second`").with_context(|| path.display().to_string())?;
    }

    // Without the remote it is named, and stays.
    fs::rename(&remote, remote.with_extension("away"))?;
    spoil(&paths[1])?;
    let found = home.run(&["fsck"])?;
    ensure!(found.code == 3, "{}", found.stdout);
    ensure!(found.stdout.contains("remote `second` cannot help"), "{}", found.stdout);
    fs::rename(remote.with_extension("away"), &remote)?;
    home.ok(&["fsck"])?;
    ensure!(good(&paths[1])? == before[1]);
    Ok(())
}

#[test]
fn fsck_takes_no_record_that_is_not_the_one_that_was_here() -> Result<()> {
    let (home, _) = vouched("others")?;
    // A remote with another history: channel `dev` moved to the second release first; and other trust.
    let other = Home::new("theirs")?;
    copy_tree(&home.0, &other.0)?;
    other.ok(&["channel", "hello", "dev", "--forget"])?;
    let elsewhere = super::server::empty(base()?.world.folder().join("others-elsewhere"))?;
    other.ok(&["promote", "hello@2", "dev", "-m", "another order"])?;
    other.ok(&["promote", "hello@1", "dev", "-m", "another order"])?;
    other.ok(&["push", "hello@3", text_of(&elsewhere)])?;
    home.ok(&["remote", "remove", "second"])?;
    home.ok(&["remote", "add", "second", text_of(&elsewhere)])?;
    let refused = |path: &str, why: &str| -> Result<()> {
        let path = home.0.join("store").join(path);
        let before = fs::read(&path)?;
        spoil(&path)?;
        let found = home.run(&["fsck"])?;
        ensure!(found.code == 3 && found.stdout.contains(why), "{}\n{}", found.stdout, found.stderr);
        ensure!(found.stdout.contains("not repaired"), "{}", found.stdout);
        fs::remove_file(&path)?;
        Ok(fs::write(&path, before)?)
    };
    // The second promotion names the first by its digest, and the first root has a fingerprint.
    refused("channels/hello/dev/1", "cannot help promotion 1 of `hello@dev`")?;
    let key = SecretKey::from_seed(&[7; 32]);
    let mut root = Draft::first(&"hello".parse()?, &"mallory".parse()?, &key.public(), super::base::FAR_S);
    root.sign(&key)?;
    fs::write(super::base::metadata(&elsewhere).join("1.root.json"), root.to_bytes()?)?;
    refused("trust/hello/1", "cannot help version 1 of the trust of `hello`")?;
    home.ok(&["fsck"])?;
    Ok(())
}

/// The file of the largest folded object beside those named: one that the root is folded to.
fn largest_file(home: &Home, besides: &[Digest]) -> Result<PathBuf> {
    let besides: Vec<PathBuf> = besides.iter().flat_map(|digest| files(home, digest)).collect();
    let mut found = Vec::new();
    for fan in fs::read_dir(home.0.join("store/folded"))? {
        for entry in fs::read_dir(fan?.path())? {
            let entry = entry?;
            found.push((entry.metadata()?.len(), entry.path()));
        }
    }
    found.retain(|(_, path)| !besides.contains(path));
    Ok(found.into_iter().max().context("a folded file")?.1)
}

#[test]
fn what_was_collected_and_pulled_again_is_missed() -> Result<()> {
    let (base, home) = (base()?, Home::new("pulled-again")?);
    home.ok(&["clone", text_of(&base.remote), "hello"])?;
    home.ok(&["pull", "hello@2"])?;
    home.ok(&["gc", "--newest", "1", "--older-than", "0"])?;
    let root = shown(&home, "hello@2", "root")?;
    ensure!(files(&home, &root).is_empty());
    // Collected: rightly missing. Pulled again: missed.
    repaired(&home, &[])?;
    // A file that it takes to build it comes back alone, and the release stays collected.
    let page = fs::read_to_string(base.world.folder().join("app/www/index.html"))?;
    let page = Digest::of(page.replace("release 3", "release 2").as_bytes());
    lose(&home, &page)?;
    repaired(&home, &[page])?;
    ensure!(files(&home, &root).is_empty(), "only what was lost came");
    home.ok(&["pull", "hello@2"])?;
    lose(&home, &root)?;
    repaired(&home, &[root])?;
    home.verify("hello@2")
}
