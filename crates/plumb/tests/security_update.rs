//! docs/guides/security-update.md, step by step: from a vulnerability that is published to a deployment that no longer has it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::{World, copy_example, free_port, get};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

const CHANNEL: &str = "\n[channel.prod]\nrequires = [\"tests\", \"scan:patched\"]\n";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn from_the_advisory_to_the_upgrade() -> Result<()> {
    let world = World::new("security-update", PLUMB)?;
    let port = free_port()?;
    let folder = copy_example(&world, "hello", "hello", port)?;
    let app = folder.to_str().context("UTF-8")?.to_owned();
    let definition = folder.join("plumb.toml");
    fs::write(&definition, fs::read_to_string(&definition)? + CHANNEL)?;
    let lock = folder.join("plumb.lock");

    // What runs is from before the fix.
    world.ok(&["lock", &app])?;
    let (aged, package) =
        testkit::aged(&world, &folder, None)?.context("a package that security has fixed")?;
    let today = world.folder().join("today.lock");
    fs::copy(&lock, &today)?;
    fs::write(&lock, aged.to_text())?;
    world.ok(&["release", &app])?;
    world.share()?;
    world.ok(&["up", "hello@1", "--name", "prod"])?;

    // Published: with the names that the package's own changelog has for what it fixes, in the form of Debian's tracker.
    fs::copy(&today, folder.join("today.lock"))?;
    let diff = world.json(&["diff", lock.to_str().context("UTF-8")?, &format!("{app}/today.lock")])?;
    let change = changed(&diff, &package)?;
    let name = text(&change["fixes"][0]);
    ensure!(name.starts_with("CVE-"), "the update of {package} names what it fixes: {diff}");
    ensure!(
        diff["machines"]["web"]["fixes"].as_array().is_some_and(|all| all.contains(&change["fixes"][0])),
        "a machine sums up its packages: {diff}"
    );
    let found = world.json(&["affected", &package])?["found"][0].clone();
    let fixed = json!({
        "scope": "remote", "releases": {"bookworm": {
            "status": "resolved", "repositories": {"bookworm": found["source_version"]},
            "fixed_version": change["after"], "urgency": "high",
        }},
    });
    let feed = world.folder().join("tracker.json");
    fs::write(&feed, json!({text(&found["source"]): {&name: fixed}}).to_string())?;
    world.ok(&["advisory", "add", "debian", feed.to_str().context("UTF-8")?])?;
    // With the feed, going back is known to bring it in again.
    let back = world.json(&["diff", &format!("{app}/today.lock"), lock.to_str().context("UTF-8")?])?;
    assert_eq!(changed(&back, &package)?["brings"][0], name.as_str(), "{back}");
    ensure!(back["machines"]["web"]["brings"].to_string().contains(&name), "{back}");

    // Where is it, and what stands in the way of calling that good?
    let affected = world.json(&["affected", &name])?;
    assert_eq!(
        (&affected["deployments"][0]["deployment"], &affected["instances"]),
        (&"prod".into(), &1.into())
    );
    assert_eq!(affected["deployments"][0]["upgrade"], Value::Null, "no release is free of it yet");
    let scan = world.ok(&["scan", "hello@1"])?;
    ensure!(scan.stdout.contains(&name) && scan.stderr.contains("plumb lock --security"), "{scan:?}");
    let refused = world.run(&["promote", "hello@1", "prod"])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("no tests ran") && refused.stderr.contains(&name),
        "{refused:?}"
    );

    update(&world, &app, (&package, &name))?;
    follow(&world, &name, port)?;
    world.ok(&["down", "prod"])?;
    world.end()
}

/// Only what security has fixed, and nothing but that.
fn update(world: &World, app: &str, (package, name): (&str, &str)) -> Result<()> {
    let update = world.json(&["lock", "--security", app])?;
    let taken: Vec<String> =
        update["changes"].as_array().into_iter().flatten().map(|one| text(&one["package"])).collect();
    assert_eq!(taken, [package.to_owned()]);
    let diff = world.json(&["diff", app])?;
    let change = changed(&diff, package)?;
    assert_eq!(change["cause"]["kind"], "base", "{change}");
    ensure!(change["fixes"].as_array().is_some_and(|all| all.contains(&name.into())), "{change}");
    world.ok(&["release", app, "-m", name])?;
    Ok(())
}

/// Tested, scanned, promoted, and the deployment follows the channel.
fn follow(world: &World, name: &str, port: u16) -> Result<()> {
    let tested = world.json(&["test", "hello@2"])?;
    assert_eq!(tested["passed"], true, "{tested}");
    world.ok(&["scan", "hello@2"])?;
    world.ok(&["promote", "hello@2", "prod", "-m", name])?;
    let planned = planned(world)?;
    let done = world.json(&["upgrade", "prod", "hello@prod"])?;
    assert_eq!(done["plan"]["digest"], planned, "what was shown is what was done");
    assert_eq!(get(port, "/")?.status, 200);
    let after = world.json(&["affected", name])?;
    assert_eq!(
        (&after["instances"], &after["applications"][0]["free_since"]),
        (&0.into(), &"hello@2".into())
    );
    ensure!(after["channels"].as_array().is_some_and(Vec::is_empty), "{after}");
    let same = world.json(&["diff", "prod", "hello@prod"])?;
    assert_eq!((&same["running"], &same["machines"]), (&json!([]), &json!({})));
    Ok(())
}

/// Digest of the plan to follow the channel: it says what happens, and changes nothing.
fn planned(world: &World) -> Result<Value> {
    let plan = world.json(&["plan", "prod", "hello@prod"])?["plan"].clone();
    let (web, outage) = (&plan["instances"][0], &plan["outages"][0]);
    assert_eq!((&web["instance"], &web["what"]), (&"web-1".into(), &"is-replaced".into()), "{plan}");
    assert_eq!(web["why"][0]["kind"], "image", "{plan}");
    assert_eq!((&outage["machine"], &outage["ready_at_least"]), (&"web".into(), &0.into()), "{plan}");
    let shown = world.ok(&["plan", "prod", "hello@prod"])?;
    ensure!(shown.stdout.contains("hello@1 -> hello@2") && shown.stdout.contains("is replaced"), "{shown:?}");
    ensure!(shown.stderr.contains("nothing was changed"), "{shown:?}");
    // A deployment that there is not yet is not there afterwards.
    world.ok(&["plan", "hello@1", "--name", "other"])?;
    let all = world.json(&["ps", "--all"])?;
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    assert_eq!(all[0]["release"], "hello@1", "{all}");
    Ok(plan["digest"].clone())
}

/// The change of one package of the only machine.
fn changed(diff: &Value, package: &str) -> Result<Value> {
    let packages = diff["machines"]["web"]["packages"].as_array().context("packages")?;
    let found = packages.iter().find(|change| change["name"] == package);
    found.cloned().with_context(|| format!("{package} changes: {diff}"))
}
