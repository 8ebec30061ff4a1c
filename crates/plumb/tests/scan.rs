//! A release is scanned for known vulnerabilities, and what was found decides whether a channel takes it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::World;

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

const DEFINITION: &str = r#"app = "cache"

[machine.memory]
middleware        = ["memcached"]
service.memcached = { ready.tcp = 11211 }

[channel.prod]
requires = ["scan:7d", "scan:patched"]
"#;

/// In the form of Debian's tracker: one that nothing mends yet, and one that this version mends.
fn tracker(fixed: &str) -> Value {
    let bookworm = |more: Value| {
        let mut one = json!({"repositories": {"bookworm": "2.1.12-stable-8"}, "urgency": "low"});
        if let (Some(one), Some(more)) = (one.as_object_mut(), more.as_object()) {
            one.extend(more.clone());
        }
        json!({"releases": {"bookworm": one}})
    };
    json!({"libevent": {
        "CVE-2099-1001": bookworm(json!({"status": "open"})),
        "CVE-2099-1002": bookworm(json!({"status": "resolved", "fixed_version": fixed})),
    }})
}

#[test]
fn a_release_is_scanned_before_it_is_promoted() -> Result<()> {
    let world = World::new("scan", PLUMB)?;
    let folder = world.folder().join("cache");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("plumb.toml"), DEFINITION)?;
    world.ok(&["release", folder.to_str().context("UTF-8")?])?;
    world.share()?;

    // Who has no eyes has seen nothing.
    let blind = world.run(&["scan", "cache@1"])?;
    ensure!(blind.code == 1 && blind.stderr.contains("no feed speaks of packages of Debian"), "{blind:?}");
    ensure!(blind.stderr.contains("plumb advisory add debian"), "{blind:?}");
    missing(&world, "scan:7d: it was not scanned")?;

    let feed = world.folder().join("tracker.json");
    let path = feed.to_str().context("UTF-8")?;
    fs::write(&feed, tracker("2.1.13-1").to_string())?;
    world.ok(&["advisory", "add", "lab", path])?;
    let looked = world.json(&["scan", "cache@1", "--dry-run"])?;
    assert_eq!((&looked["counts"]["low"], &looked["fixable"]), (&2.into(), &1.into()), "{looked}");
    assert_eq!(looked["statement"], Value::Null);
    missing(&world, "scan:7d: it was not scanned")?;
    let scanned = world.ok(&["scan", "cache@1"])?;
    ensure!(scanned.stdout.contains("2 open (2 low), 1 mended by newer packages"), "{scanned:?}");
    ensure!(scanned.stderr.contains("plumb lock --security"), "{scanned:?}");
    missing(&world, "scan:patched: the newest scan found 1 that newer packages mend: CVE-2099-1002")?;

    // The feed says that the version that is here has it no longer. The newest scan counts.
    let version = text(&looked["vulnerabilities"][0]["source_version"]);
    fs::write(&feed, tracker(&version).to_string())?;
    world.ok(&["advisory", "update"])?;
    damaged(&world)?;
    world.ok(&["advisory", "update"])?;
    // Of two in one second, the one that found more counts.
    let before = testkit::now_s();
    testkit::wait_until("the next second", Duration::from_secs(10), &mut || testkit::now_s() > before)?;
    let scanned = world.json(&["scan", "cache@1"])?;
    assert_eq!((&scanned["counts"]["low"], &scanned["fixable"]), (&1.into(), &0.into()), "{scanned}");
    world.ok(&["promote", "cache@1", "prod"])?;

    let evidence = world.json(&["evidence", "cache@1"])?;
    let scans: Vec<&Value> =
        evidence["statements"].as_array().into_iter().flatten().filter(|one| one["kind"] == "scan").collect();
    assert_eq!(scans.len(), 2);
    ensure!(text(&scans[1]["summary"]).starts_with("1 known, by data of 20"), "{evidence}");
    world.end()
}

/// A feed that cannot be read is a gap; what it said before is forgotten with the index.
fn damaged(world: &World) -> Result<()> {
    let listed = world.json(&["advisory", "ls"])?;
    let copy = world.object(&text(&listed[0]["digest"]));
    ensure!(copy.exists(), "{}", copy.display());
    fs::remove_file(&copy)?;
    fs::remove_file(world.home().join("store/search.db"))?;
    let gap = world.run(&["scan", "cache@1"])?;
    ensure!(gap.code == 1 && gap.stderr.contains("feed `lab` could not be read"), "{gap:?}");
    Ok(())
}

fn missing(world: &World, what: &str) -> Result<()> {
    let refused = world.run(&["promote", "cache@1", "prod"])?;
    ensure!(refused.code == 1 && refused.stderr.contains(what), "{refused:?}");
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
