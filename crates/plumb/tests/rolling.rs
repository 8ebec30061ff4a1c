//! Replacing a machine with several instances: a client notices nothing, and a batch that does not stay ready ends it.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{World, copy_example, free_port, get, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// What an upgrade of three machines may take under emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// `hello` with three instances, of which two may be away at once.
struct Site {
    world: World,
    app: String,
    port: u16,
}

impl Site {
    fn new(name: &str, min_ready: &str) -> Result<Site> {
        let world = World::new(name, PLUMB)?;
        let port = free_port()?;
        let folder = copy_example(&world, "hello", "hello", port)?;
        let definition = folder.join("plumb.toml");
        let rolling = format!(
            "[machine.web]\ninstances = 3\nrolling = {{ max_unavailable = 2, min_ready = \"{min_ready}\" }}\n"
        );
        fs::write(&definition, fs::read_to_string(&definition)?.replace("[machine.web]\n", &rolling))?;
        let site = Site { world, app: folder.to_str().context("UTF-8")?.to_owned(), port };
        site.world.ok(&["release", &site.app])?;
        site.world.share()?;
        site.world.ok(&["up", "hello@1"])?;
        fs::write(folder.join("www/index.html"), "<h1>Hello again</h1>\n")?;
        let larger = fs::read_to_string(&definition)?.replace("\"128MiB\"", "\"136MiB\"");
        fs::write(&definition, larger)?;
        site.world.ok(&["release", &site.app])?;
        Ok(site)
    }

    /// Another release, with this policy and page.
    fn release(&self, policy: &str, page: &str) -> Result<()> {
        self.define(&format!("[upgrade]\nfailed_instance = \"{policy}\"\n"), page)
    }

    /// Another release, with this way of upgrading, and page.
    fn define(&self, upgrade: &str, page: &str) -> Result<()> {
        let definition = Path::new(&self.app).join("plumb.toml");
        let text = fs::read_to_string(&definition)?;
        let (before, _) = text.split_once("\n[upgrade]").unwrap_or((&text, ""));
        let before = before.replace("\"10min\"", "\"500ms\"");
        fs::write(&definition, format!("{before}\n{upgrade}"))?;
        fs::write(Path::new(&self.app).join("www/index.html"), page)?;
        self.world.ok(&["release", &self.app])?;
        Ok(())
    }

    /// Upgrades, and kills an instance of the new release before it is ready.
    fn upgrade_and_kill(&self, instance: &str, release: &str) -> Result<Output> {
        let mut upgrade = self.world.command(&["upgrade", "hello"]);
        let upgrade = upgrade.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut pid = None;
        wait_until("it starts", LIMIT, &mut || {
            let seen = self.world.json(&["ps", "hello"]).unwrap_or_default();
            let all = seen[0]["instances"].as_array().cloned().unwrap_or_default();
            let found = all.iter().find(|one| one["name"] == instance && one["release"] == release);
            pid = found.and_then(|one| one["pid"].as_i64());
            pid.is_some()
        })?;
        let pid = pid.context("a process")?.to_string();
        std::process::Command::new("kill").args(["-9", &pid]).status()?;
        Ok(upgrade.wait_with_output()?)
    }

    /// Release and process of an instance, if it is ready.
    fn ready(&self, instance: &str) -> Option<(String, i64)> {
        let seen = self.world.json(&["ps", "hello"]).ok()?;
        let all = seen[0]["instances"].as_array()?.clone();
        let found = all.iter().find(|one| one["name"] == instance && one["state"] == "ready")?;
        Some((found["release"].as_str()?.to_owned(), found["pid"].as_i64()?))
    }
}

#[test]
fn a_client_notices_nothing_of_an_upgrade() -> Result<()> {
    let site = Site::new("rolling", "500ms")?;
    let plan = site.world.json(&["plan", "hello"])?["plan"].clone();
    assert_eq!(plan["outages"][0]["ready_at_least"], 1, "{plan}");
    let answers = asked_meanwhile(&site, &["upgrade", "hello"])?;
    let new = answers.iter().filter(|answer| answer.contains("again")).count();
    ensure!(answers.len() > 50 && new > 0 && new < answers.len(), "{new} of {} are new", answers.len());
    two_sets_take_turns(&site)?;
    site.world.end()
}

/// What a client was told that asks all the time while a command is carried out: no request fails.
fn asked_meanwhile(site: &Site, command: &[&str]) -> Result<Vec<String>> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut all = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let answer = get(site.port, "/").context("a request in the middle of an upgrade")?;
                ensure!(answer.status == 200, "{}", answer.status);
                all.push(answer.body);
            }
            Ok(all)
        });
        let upgraded = site.world.ok(command);
        done.store(true, Ordering::Relaxed);
        let asked = client.join().expect("the client does not panic");
        upgraded.and(asked)
    })
}

/// How often the answer changed, and what it was at last.
fn turns(answers: &[String]) -> (usize, &str) {
    let turns = answers.windows(2).filter(|two| two[0] != two[1]).count();
    (turns, answers.last().map_or("", String::as_str))
}

fn two_sets_take_turns(site: &Site) -> Result<()> {
    site.define("[upgrade]\nblue_green = { watch = \"500ms\", keep = \"1h\" }\n", "<h1>Three</h1>\n")?;
    let plan = site.world.ok(&["plan", "hello"])?.stdout;
    ensure!(plan.contains("two sets beside each other") && plan.contains("web-51"), "{plan}");
    ensure!(!plan.contains("meanwhile"), "nothing is away: {plan}");
    let answers = asked_meanwhile(site, &["upgrade", "hello"])?;
    let (times, last) = turns(&answers);
    ensure!(times == 1 && last.contains("Three"), "{times} turns in {} answers, to {last}", answers.len());
    let names = |state: &str| -> Result<Vec<(String, i64)>> {
        let seen = site.world.json(&["ps", "hello"])?[0].clone();
        let all = seen["instances"].as_array().context("instances")?.clone();
        let is_kept = |one: &&serde_json::Value| one.get("kept_until_ms").is_some() == (state == "kept");
        let named = all.iter().filter(is_kept).map(|one| {
            Ok((
                one["name"].as_str().context("a name")?.to_owned(),
                one["pid"].as_i64().context("a process")?,
            ))
        });
        named.collect()
    };
    let (kept, serving) = (names("kept")?, names("serving")?);
    ensure!(kept.len() == 3 && kept[0].0 == "web-1" && serving[0].0 == "web-51", "{kept:?} {serving:?}");
    let shown = site.world.ok(&["ps", "hello"])?.stdout;
    ensure!(shown.contains("hello@2 is kept beside it for") && shown.contains("kept, ready"), "{shown}");
    ensure!(site.world.ok(&["reap"])?.stderr.contains("nothing is due"), "it is not over");
    // The way back starts nothing: the same processes serve again.
    let answers = asked_meanwhile(site, &["rollback", "hello"])?;
    let (times, last) = turns(&answers);
    ensure!(times == 1 && last.contains("again"), "{times} turns in {} answers, to {last}", answers.len());
    ensure!(names("serving")? == kept && names("kept")?.is_empty(), "{:?}", names("serving")?);
    // A time that is over is found by whoever looks after leases.
    site.define("[upgrade]\nblue_green = { keep = \"1ms\" }\n", "<h1>Four</h1>\n")?;
    site.world.ok(&["upgrade", "hello"])?;
    let reaped = site.world.ok(&["reap"])?.stdout;
    ensure!(reaped.contains("what served before is gone"), "{reaped}");
    ensure!(names("kept")?.is_empty() && names("serving")?.len() == 3, "{:?}", names("serving")?);
    ensure!(get(site.port, "/")?.body.contains("Four"), "it serves");
    Ok(())
}

#[test]
fn a_batch_that_does_not_stay_ready_takes_the_set_back() -> Result<()> {
    let site = Site::new("rolling-back", "10min")?;
    let mut upgrade = site.world.spawn(&["upgrade", "hello"])?;
    let mut found = None;
    wait_until("the first batch is ready", LIMIT, &mut || {
        found = ["web-1", "web-2"]
            .into_iter()
            .map(|name| site.ready(name).filter(|(release, _)| release == "hello@2"))
            .collect::<Option<Vec<_>>>();
        found.is_some()
    })?;
    let pid = found.and_then(|all| all.first().map(|(_, pid)| pid.to_string())).context("a process")?;
    std::process::Command::new("kill").args(["-9", &pid]).status()?;
    ensure!(upgrade.wait()?.code() == Some(1), "an upgrade whose first batch dies has failed");
    let seen = site.world.json(&["ps", "hello"])?[0].clone();
    assert_eq!((&seen["release"], &seen["state"]), (&"hello@1".into(), &"ready".into()), "{seen}");
    ensure!(!get(site.port, "/")?.body.contains("again"), "it serves what it did");
    let kept = seen["instances"].as_array().context("instances")?.len();
    assert_eq!(kept, 3, "{seen}");
    let quota = site.world.json(&["quota"])?;
    assert_eq!(quota[0]["memory_mib"][0], 3 * 128, "its owner has what is there, not what failed: {quota}");
    one_that_fails_is_left_behind_where_the_definition_says_so(&site)?;
    everything_stays_as_it_is_where_the_definition_says_so(&site)?;
    site.world.end()
}

fn one_that_fails_is_left_behind_where_the_definition_says_so(site: &Site) -> Result<()> {
    site.release("continue", "<h1>Hello three</h1>\n")?;
    let planned = site.world.ok(&["plan", "hello"])?.stdout;
    ensure!(planned.contains("the others follow without it"), "{planned}");
    let ended = site.upgrade_and_kill("web-1", "hello@3")?;
    let told = String::from_utf8(ended.stderr)?;
    ensure!(ended.status.code() == Some(4), "{:?}: {told}", ended.status);
    ensure!(told.contains("not all of it is healthy: `web-1`"), "{told}");
    let seen = site.world.json(&["ps", "hello"])?[0].clone();
    assert_eq!((&seen["release"], &seen["state"]), (&"hello@3".into(), &"not ready".into()), "{seen}");
    for instance in ["web-2", "web-3"] {
        let found = site.ready(instance).with_context(|| format!("{instance} serves: {seen}"))?;
        assert_eq!(found.0, "hello@3");
    }
    ensure!(get(site.port, "/")?.body.contains("three"));
    site.world.ok(&["upgrade", "hello"])?;
    ensure!(site.world.json(&["ps", "hello"])?[0]["state"] == "ready", "the same again starts it");
    Ok(())
}

fn everything_stays_as_it_is_where_the_definition_says_so(site: &Site) -> Result<()> {
    site.release("stop", "<h1>Hello four</h1>\n")?;
    let ended = site.upgrade_and_kill("web-2", "hello@4")?;
    let told = String::from_utf8(ended.stderr)?;
    ensure!(ended.status.code() == Some(4), "{:?}: {told}", ended.status);
    for line in [
        "the way to `hello@4` stopped",
        "web-2",
        "ended",
        "plumb upgrade hello hello@4",
        "plumb rollback hello`",
    ] {
        ensure!(told.contains(line), "`{line}` is not in {told}");
    }
    let left = site.ready("web-3").context("the rest goes on")?;
    assert_eq!(left.0, "hello@3");
    ensure!(get(site.port, "/")?.body.contains("three"), "what serves is what did");
    let seen = site.world.json(&["ps", "hello"])?[0].clone();
    ensure!(seen["note"].as_str().is_some_and(|note| note.contains("plumb rollback hello")), "{seen}");
    // Back to where it was, and not to the release before that.
    site.world.ok(&["rollback", "hello"])?;
    let seen = site.world.json(&["ps", "hello"])?[0].clone();
    assert_eq!((&seen["release"], &seen["state"]), (&"hello@3".into(), &"ready".into()), "{seen}");
    ensure!(get(site.port, "/")?.body.contains("three"));
    Ok(())
}
