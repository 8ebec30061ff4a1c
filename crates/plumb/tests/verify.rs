//! A release is what it was, can be built again from itself, and says what differs if not.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use plumb_model::Digest;
use serde_json::Value;
use testkit::{World, copy_example, free_port};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

/// Where the object of a digest lies.
fn object(world: &World, digest: &Value) -> Result<PathBuf> {
    Ok(world.object(digest.as_str().context("a digest")?))
}

/// Changes one byte of an object, as a bad disk does.
fn flip(path: &Path, at: u64) -> Result<()> {
    // A file of its own: the test's packages are shared between homes by hard links.
    let bytes = fs::read(path)?;
    fs::remove_file(path)?;
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    let file = fs::File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[byte[0] ^ 1], at)?)
}

#[test]
fn a_release_verifies_and_is_built_again_without_its_folder() -> Result<()> {
    let world = World::new("verify", PLUMB)?;
    let folder = copy_example(&world, "hello", "app", free_port()?)?;
    world.ok(&["release", text(&folder)])?;
    world.share()?;
    fs::remove_dir_all(&folder)?;

    let found = world.json(&["--offline", "verify", "hello@1", "--rebuild"])?;
    assert_eq!(found["problems"], Value::Array(Vec::new()));
    assert_eq!(found["rebuilt"][0]["parts"], Value::Array(Vec::new()), "{}", found["rebuilt"]);
    ensure!(found["objects"].as_u64() >= Some(9), "{found}");
    let said = world.ok(&["verify", "hello@1"])?.stdout;
    ensure!(said.starts_with("hello@1: "), "{said}");

    // A byte of a program in the root: which file it is.
    let shown = world.json(&["show", "hello@1"])?;
    let web = &shown["images"]["web"];
    let root = object(&world, &web["root"]["digest"])?;
    let bytes = fs::read(&root)?;
    let marker = b"nginx version: ";
    let at = bytes.windows(marker.len()).position(|part| part == marker).context("nginx is in the root")?;
    flip(&root, at as u64)?;
    let wrong = world.run(&["verify", "hello@1"])?;
    assert_eq!(wrong.code, 3, "{}", wrong.stderr);
    ensure!(wrong.stdout.contains("machine web: root: "), "{}", wrong.stdout);
    ensure!(wrong.stdout.contains("/usr/sbin/nginx differs"), "{}", wrong.stdout);
    ensure!(wrong.stderr.contains("error: `hello@1` does not verify"), "{}", wrong.stderr);
    // It was set aside: the object is missing now, and JSON stays one document.
    let missing = world.run(&["--json", "verify", "hello@1"])?;
    assert_eq!(missing.code, 3);
    let report: Value = serde_json::from_str(&missing.stdout)?;
    assert_eq!(report["problems"][0]["part"], "root");
    world.end()
}

#[test]
fn another_file_is_named() -> Result<()> {
    let world = World::new("verify-differs", PLUMB)?;
    let folder = copy_example(&world, "hello", "app", free_port()?)?;
    world.ok(&["release", text(&folder)])?;
    world.share()?;

    // A release that claims another build's recipe: what is built from it has another page.
    let shown = world.json(&["show", "hello@1"])?;
    let recipe = object(&world, &shown["images"]["web"]["recipe"])?;
    let before = fs::read_to_string(&recipe)?;
    fs::write(folder.join("www/index.html"), "another page\n")?;
    world.ok(&["release", text(&folder)])?;
    let other = object(&world, &world.json(&["show", "hello@2"])?["images"]["web"]["recipe"])?;
    let after = fs::read_to_string(&other)?;
    let page = |text: &str| -> Result<String> {
        let value: Value = serde_json::from_str(text)?;
        let files = value["files"].as_array().cloned().unwrap_or_default();
        let page = files.into_iter().find(|file| file["target"] == "/srv/www/index.html");
        Ok(page.context("the page is in the recipe")?["kind"]["File"].to_string())
    };
    ensure!(before.contains(&page(&before)?), "a recipe has one form");
    let forged = forge(&world, &shown, &before.replace(&page(&before)?, &page(&after)?))?;
    let found = world.run(&["--json", "--offline", "verify", &forged, "--rebuild"])?;
    assert_eq!(found.code, 3, "{}", found.stderr);
    let report: Value = serde_json::from_str(&found.stdout)?;
    assert_eq!(report["problems"], Value::Array(Vec::new()));
    let differences = &report["rebuilt"][0]["differences"];
    assert_eq!(differences[0]["path"], "/srv/www/index.html", "{differences}");
    assert_eq!(differences[0]["what"], "content");
    assert_eq!(differences.as_array().map(Vec::len), Some(1), "{differences}");
    let said = world.run(&["--offline", "verify", &forged, "--rebuild"])?.stdout;
    ensure!(said.contains("built again, other bytes: root"), "{said}");
    ensure!(said.contains("/srv/www/index.html: other content"), "{said}");
    world.end()
}

/// A third release whose image names another recipe; everything is in its canonical form and has its digest.
fn forge(world: &World, shown: &Value, recipe: &str) -> Result<String> {
    let put = |bytes: &[u8]| -> Result<String> {
        let digest = Digest::of(bytes).to_string();
        let path = object(world, &Value::from(digest.clone()))?;
        fs::create_dir_all(path.parent().context("objects have a folder")?)?;
        fs::write(path, bytes)?;
        Ok(digest)
    };
    let recipe = put(recipe.as_bytes())?;
    let manifest = object(world, &shown["release"]["content"]["machines"]["web"]["image"])?;
    let old = shown["images"]["web"]["recipe"].as_str().context("a digest")?;
    let manifest = put(fs::read_to_string(manifest)?.replace(old, &recipe).as_bytes())?;
    let releases = world.home().join("store/releases/hello");
    let second = fs::read_to_string(releases.join("2"))?;
    let old = world.json(&["show", "hello@2"])?["release"]["content"]["machines"]["web"]["image"].clone();
    let third = second
        .replace(old.as_str().context("a digest")?, &manifest)
        .replace("\"number\":2", "\"number\":3")
        .replace(
            world.json(&["show", "hello@2"])?["release"]["previous"].as_str().context("a digest")?,
            &Digest::of(second.as_bytes()).to_string(),
        );
    fs::write(releases.join("3"), third)?;
    // Nobody vouches for it, and that is told; then somebody does.
    let unsigned = world.run(&["verify", "hello@3"])?;
    ensure!(
        unsigned.stdout.contains("signature: nobody who is trusted for `hello` signed it"),
        "{}",
        unsigned.stdout
    );
    world.ok(&["sign", "hello@3"])?;
    Ok("hello@3".to_owned())
}
