//! Releases that travel: by a directory, a web server, an object store and a registry; over lines that break, from processes
//! that are killed, and from remotes that lie.

mod base;
mod hostile;
mod registry;
mod restore;
mod server;
mod store;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{get, wait_until};

use self::base::{Home, PORT, base, check_remote, text_of};
use self::server::{Files, Line, empty};

/// Longest time for something that takes seconds: a starved emulator needs its time.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn a_release_travels_by_directory_and_is_the_same_there() -> Result<()> {
    let (base, home) = (base()?, Home::new("directory")?);
    let remote = text_of(&base.remote);
    assert_eq!(check_remote(&base.remote)?, ["1", "2", "3"]);

    // The newest one by a chain: the first as a whole, the others as what differs.
    let dry = home.json(&["clone", remote, "hello", "--dry-run"])?;
    assert_eq!(dry["release"], "hello@3");
    assert_eq!(home.releases(), Vec::<String>::new());
    let cloned = home.json(&["clone", remote, "hello"])?;
    assert_eq!(dry["bundles"], cloned["bundles"]);
    let bundles = cloned["bundles"].as_array().context("bundles")?;
    // From the first or the second to the third, whichever is less: they differ from it by one line each.
    let bases: Vec<&str> = bundles.iter().map(|one| one["base"].as_str().unwrap_or("nothing")).collect();
    let ways = [&["nothing", "hello@1", "hello@2"][..], &["nothing", "hello@1"]];
    ensure!(ways.contains(&&bases[..]), "{bases:?}");
    let bytes = |value: &Value| value["bytes"].as_u64().unwrap_or(u64::MAX);
    ensure!(bytes(&bundles[1]) < 100_000, "one line changed: {cloned}");
    ensure!(bytes(&cloned) * 3 < cloned["release_bytes"].as_u64().unwrap_or(0), "{cloned}");
    assert_eq!(home.releases(), ["3"]);
    home.verify("hello@3")?;

    // Everything that can be said of it there can be said of it here.
    home.ok(&["pull", "hello@2"])?;
    let ask = |arguments: &[&str]| -> Result<()> {
        let here = home.ok(arguments)?.stdout;
        assert_eq!(here, base.world.ok(arguments)?.stdout, "{arguments:?}");
        Ok(())
    };
    ask(&["show", "hello@3"])?;
    ask(&["diff", "hello@2", "hello@3", "--files"])?;
    ask(&["--json", "diff", "hello@2", "hello@3"])?;
    ask(&["sbom", "hello@3"])?;
    ask(&["why", "libssl3", "hello@3"])?;

    // Again: nothing to do. It comes from the remote it was cloned from.
    let again = home.ok(&["pull", "hello"])?;
    ensure!(again.stderr.contains("it is here already"), "{}", again.stderr);
    ensure!(home.ok(&["remote"])?.stdout.contains(remote));
    let refused = home.run(&["pull", "hello@9"])?;
    assert_eq!(refused.code, 1);
    ensure!(refused.stderr.contains("has no `hello@9`\nhint: it has `hello@3`"), "{}", refused.stderr);

    // And it runs.
    home.ok(&["up", "hello@3"])?;
    let is_there = || get(PORT, "/").is_ok_and(|answer| answer.body.contains("release 3"));
    let up = wait_until("the pulled release answers", LIMIT, &mut || is_there());
    home.ok(&["down", "hello"])?;
    up
}

#[test]
fn what_was_lost_here_comes_back() -> Result<()> {
    let (base, home) = (base()?, Home::new("lost")?);
    home.ok(&["clone", text_of(&base.remote), "hello"])?;
    let shown = home.json(&["show", "hello@3"])?;
    let root = shown["images"]["web"]["root"]["digest"].as_str().context("a digest")?.to_owned();
    let hex = root.trim_start_matches("sha256:");
    fs::remove_file(home.0.join("store/objects").join(&hex[..2]).join(&hex[2..]))?;
    let pushed = home.run(&["push", "hello@3", text_of(&empty(home.0.join("srv"))?)])?;
    assert_eq!(pushed.code, 3, "{}", pushed.stderr);
    ensure!(pushed.stderr.contains("`hello@3` is not whole in the store: web/root"), "{}", pushed.stderr);
    home.ok(&["pull", "hello@3"])?;
    home.verify("hello@3")
}

#[test]
fn with_packages_it_is_built_again_offline() -> Result<()> {
    let (base, home) = (base()?, Home::new("packages")?);
    let remote = empty(base.world.folder().join("srv-packages"))?;
    let remote = text_of(&remote);
    base.world.ok(&["push", "hello@1", remote])?;
    let refused = home.run(&["clone", remote, "hello", "--with-packages"])?;
    assert_eq!(refused.code, 1);
    ensure!(refused.stderr.contains("without its packages"), "{}", refused.stderr);
    let pushed = base.world.json(&["push", "hello@1", remote, "--with-packages"])?;
    ensure!(
        pushed["supplies"][0].as_u64() > Some(5) && pushed["bundles"] == Value::Array(vec![]),
        "{pushed}"
    );
    home.ok(&["pull", "hello@1", remote, "--with-packages"])?;
    let found = home.json(&["--offline", "verify", "hello@1", "--rebuild"])?;
    assert_eq!(found["rebuilt"][0]["parts"], Value::Array(Vec::new()), "{found}");
    Ok(())
}

#[test]
fn a_line_that_breaks_all_the_time_still_carries_it() -> Result<()> {
    let base = base()?;
    let files = Files::start(&base.remote, None)?;
    let line = Line::start(files.port)?;
    let url = format!("http://127.0.0.1:{}", line.port);
    for seed in 1..=3 {
        let home = Home::new("breaking")?;
        line.cut(seed, 3_000_000);
        let mut runs = 0;
        while home.run(&["clone", &url, "hello"])?.code != 0 {
            runs += 1;
            ensure!(home.releases().is_empty(), "a release that is not whole");
            ensure!(runs < 50, "it never gets there");
        }
        home.verify("hello@3")?;
    }
    ensure!(line.cuts() > 5, "{} cuts", line.cuts());
    let refused = base.world.run(&["push", "hello@3", &url])?;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    line.cut(0, 0);
    let refused = base.world.run(&["push", "hello@3", &url])?;
    ensure!(refused.stderr.contains("can only be read\nhint: push to the folder"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_was() -> Result<()> {
    let base = base()?;
    let files = Files::start(&base.remote, None)?;
    let line = Line::start(files.port)?;
    let url = format!("http://127.0.0.1:{}", line.port);
    let home = Home::new("killed")?;
    let whole = Home::new("whole")?.json(&["clone", &url, "hello", "--dry-run"])?["bytes"].as_u64();
    let whole = whole.context("bytes")?;
    // Kills that come after ever more bytes; the last ones fall into the making of objects.
    for step in 1..=8 {
        let begun = line.total();
        let mut child = home.spawn(&["clone", &url, "hello"])?;
        line.kill_after(begun + whole * step / 40, &mut child)?;
        for number in home.releases() {
            home.verify(&format!("hello@{number}"))?;
        }
    }
    let begun = line.total();
    home.ok(&["clone", &url, "hello"])?;
    home.verify("hello@3")?;
    ensure!(line.total() - begun < whole, "what came before did not come again");
    Ok(())
}

#[test]
fn a_push_that_is_killed_leaves_nothing_half() -> Result<()> {
    let base = base()?;
    let remote = empty(base.world.folder().join("srv-killed"))?;
    let address = text_of(&remote);
    let length = |path: &str| fs::metadata(remote.join(path)).map_or(0, |found| found.len());
    let drafts = || -> u64 {
        let found = fs::read_dir(remote.join("tmp")).into_iter().flatten().flatten();
        found.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).max().unwrap_or(0)
    };
    let blobs = || fs::read_dir(remote.join("blobs")).map_or(0, Iterator::count) > 0;
    let points: [(&str, &dyn Fn() -> bool); 5] = [
        ("the mark", &|| length("plumb.json") > 0),
        ("a draft", &|| drafts() > 0),
        ("half a draft", &|| drafts() > 5_000_000 || length("apps/hello/metadata/timestamp.json") > 0),
        ("a blob", &blobs),
        ("an index", &|| length("apps/hello/metadata/timestamp.json") > 0),
    ];
    for (what, point) in points {
        let mut command = base.world.command(&["push", "hello@1", address]);
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
        // Looked at without a pause: what is waited for lasts milliseconds.
        while !point() && child.try_wait()?.is_none() {
            std::hint::spin_loop();
        }
        child.kill()?;
        child.wait()?;
        check_remote(&remote).with_context(|| format!("killed after {what}"))?;
    }
    base.world.ok(&["push", "hello@1", address])?;
    assert_eq!(check_remote(&remote)?, ["1"]);
    let home = Home::new("after-kills")?;
    home.ok(&["clone", address, "hello"])?;
    home.verify("hello@1")
}

#[test]
fn two_pushes_at_once_both_arrive_and_two_releases_of_one_number_do_not() -> Result<()> {
    let base = base()?;
    let remote = empty(base.world.folder().join("srv-two"))?;
    let address = text_of(&remote);
    base.world.ok(&["push", "hello@1", address])?;
    let mut children = Vec::new();
    for release in ["hello@2", "hello@3", "hello@3"] {
        children.push(base.world.spawn(&["push", release, address])?);
    }
    for mut child in children {
        ensure!(child.wait()?.success());
    }
    assert_eq!(check_remote(&remote)?, ["1", "2", "3"]);

    // Somebody else's hello@1.
    let other = Home::new("other")?;
    let folder = base.world.folder().join("app");
    // Of the same application: with its trust and the key.
    for part in ["store/objects", "store/entries", "store/trust", "keys"] {
        testkit::copy_tree(&base.world.home().join(part), &other.0.join(part))?;
    }
    other.ok(&["release", text_of(&folder), "-m", "mine"])?;
    for command in ["push", "pull"] {
        let refused = other.run(&[command, "hello@1", address])?;
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        ensure!(refused.stderr.contains("error: there are two releases `hello@1`"), "{}", refused.stderr);
    }
    Ok(())
}
