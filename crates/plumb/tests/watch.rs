//! Somebody watches: what is killed comes back, what a command works on is left alone, and all of it is told.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, copy_example, free_port, get, process_names, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// What a start under emulation on a busy host may take, with a pause before it.
const LIMIT: Duration = Duration::from_secs(180);

/// `hello` with two instances, and a deployment of it.
struct Site {
    world: World,
    app: String,
    port: u16,
}

impl Site {
    fn new(name: &str, extra: &str) -> Result<Site> {
        let world = World::new(name, PLUMB)?;
        let port = free_port()?;
        let folder = copy_example(&world, "hello", "hello", port)?;
        let definition = folder.join("plumb.toml");
        let machine = format!("[machine.web]\ninstances = 2\n{extra}");
        fs::write(&definition, fs::read_to_string(&definition)?.replace("[machine.web]\n", &machine))?;
        let site = Site { world, app: folder.to_str().context("UTF-8")?.to_owned(), port };
        site.world.ok(&["up", &site.app])?;
        site.world.share()?;
        Ok(site)
    }

    fn instances(&self) -> Result<Vec<Value>> {
        let seen = self.world.json(&["ps", "hello"])?;
        Ok(seen[0]["instances"].as_array().context("instances")?.clone())
    }

    fn pid(&self, name: &str) -> Result<Option<i64>> {
        let all = self.instances()?;
        let one = all.iter().find(|one| one["name"] == name).context("the instance")?;
        Ok(one["pid"].as_i64().filter(|_| one["state"] == "ready"))
    }

    fn kill(&self, pid: i64) -> Result<()> {
        let done = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        ensure!(done.success(), "kill {pid}");
        Ok(())
    }

    /// What happened, as kinds and instances.
    fn journal(&self) -> Result<Vec<(String, String)>> {
        let events = self.world.json(&["journal", "hello"])?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = events.as_array().context("events")?.iter();
        Ok(events.map(|event| (text(&event["kind"]), text(&event["instance"]))).collect())
    }

    fn has(&self, kind: &str, instance: &str) -> bool {
        let wanted = (kind.to_owned(), instance.to_owned());
        self.journal().is_ok_and(|events| events.contains(&wanted))
    }
}

/// A watcher that does not outlive a test that fails.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_killed_comes_back_and_all_of_it_is_told() -> Result<()> {
    let site = Site::new("watch", "")?;
    let first = site.pid("web-1")?.context("it is ready")?;
    let second = site.pid("web-2")?.context("it is ready")?;
    let mut watch = Watching(site.world.spawn(&["watch", "hello"])?);
    wait_until("somebody watches", LIMIT, &mut || site.has("watch-begun", ""))?;

    site.kill(first)?;
    wait_until("it is back", LIMIT, &mut || {
        site.pid("web-1").is_ok_and(|pid| pid.is_some_and(|pid| pid != first))
    })?;
    assert_eq!(site.pid("web-2")?, Some(second), "the other one was left alone");
    wait_until("that is told", LIMIT, &mut || site.has("recovered", "web-1"))?;
    for kind in ["deviation", "repair"] {
        ensure!(site.has(kind, "web-1"), "{kind}: {:?}", site.journal()?);
    }
    assert_eq!(get(site.port, "/")?.status, 200);

    // The keeper holds the ports; it comes back, too.
    let home = fs::canonicalize(site.world.home())?;
    let keepers = process_names(&format!(" keeper {}", home.display()))?;
    let (keeper, _) = keepers.first().context("a keeper")?;
    site.kill(i64::from(*keeper))?;
    wait_until("it serves again", LIMIT, &mut || get(site.port, "/").is_ok())?;
    wait_until("that is told", LIMIT, &mut || site.has("keeper-restarted", ""))?;

    // The second repair of one instance has a pause before it, and a command works meanwhile as without a watcher.
    let again = site.pid("web-1")?.context("it is ready")?;
    site.kill(again)?;
    wait_until("it is noticed", LIMIT, &mut || {
        site.journal().is_ok_and(|all| {
            all.iter().filter(|(kind, name)| kind == "deviation" && name == "web-1").count() == 2
        })
    })?;
    site.world.ok(&["up", "hello@1"])?;
    ensure!(site.pid("web-1")?.is_some(), "the command started it");

    // What is taken down stays down.
    site.world.ok(&["down", "hello"])?;
    let before = site.journal()?.len();
    let now = testkit::now_s();
    wait_until("some looks", LIMIT, &mut || testkit::now_s() > now + 3)?;
    assert_eq!(site.journal()?.len(), before);
    ensure!(site.instances()?.iter().all(|one| one["pid"].is_null()), "nothing was started");
    Command::new("kill").args(["-TERM", &watch.0.id().to_string()]).status()?;
    ensure!(watch.0.wait()?.success(), "it ends in order");
    ensure!(site.has("watch-ended", ""), "{:?}", site.journal()?);
    site.world.end()
}

#[test]
fn what_is_only_to_be_told_is_left_alone() -> Result<()> {
    let site = Site::new("watch-report", "watch = { repair = \"report\" }\n")?;
    let pid = site.pid("web-1")?.context("it is ready")?;
    let told = site.world.ok(&["watch", "--once"])?;
    ensure!(told.stdout.is_empty(), "all is well: {}", told.stdout);
    site.kill(pid)?;
    let told = site.world.ok(&["watch", "--once"])?;
    ensure!(
        told.stdout.contains("hello/web-1") && told.stdout.contains("it is left alone"),
        "{}",
        told.stdout
    );
    ensure!(site.pid("web-1")?.is_none() && !site.has("repair", "web-1"), "{:?}", site.journal()?);

    // Nobody can tell what is wanted in the middle of an upgrade that was cut short.
    let folder = std::path::Path::new(&site.app);
    fs::write(folder.join("www/index.html"), "<h1>Hello again</h1>\n")?;
    let definition = folder.join("plumb.toml");
    let text = fs::read_to_string(&definition)?.replace("repair = \"report\"", "tries = 1");
    fs::write(&definition, text)?;
    site.world.ok(&["release", &site.app])?;
    let mut upgrade = site.world.spawn(&["upgrade", "hello"])?;
    wait_until("it is on its way", LIMIT, &mut || {
        site.instances().is_ok_and(|all| all.iter().any(|one| one["release"] == "hello@2"))
    })?;
    upgrade.kill()?;
    upgrade.wait()?;
    let told = site.world.ok(&["watch", "--once"])?;
    ensure!(told.stdout.contains("was interrupted after step"), "{}", told.stdout);
    ensure!(!site.has("repair", "web-1") && !site.has("repair", "web-2"), "{:?}", site.journal()?);
    site.world.ok(&["upgrade", "hello"])?;
    let told = site.world.ok(&["watch", "--once"])?;
    ensure!(!told.stdout.contains("left alone"), "{}", told.stdout);

    // From a timer: one look repairs.
    site.kill(site.pid("web-2")?.context("it is ready")?)?;
    site.world.ok(&["watch", "--once"])?;
    let first = site.pid("web-2")?.with_context(|| format!("{:?}", site.journal()))?;

    // One in a row is all that the definition has it tried; the rest of the set stays, and a command begins anew.
    site.kill(first)?;
    site.world.ok(&["watch", "--once"])?;
    ensure!(site.has("given-up", "web-2"), "{:?}", site.journal()?);
    let told = site.world.ok(&["watch", "--once"])?;
    ensure!(!told.stdout.contains("it is given up:"), "once: {}", told.stdout);
    let seen = site.world.run(&["ps"])?;
    ensure!(seen.code == 1 && seen.stderr.contains("`web-2` of deployment `hello` is given up"), "{seen:?}");
    let serves = seen.stdout.lines().any(|line| line.contains("web-1") && line.contains("ready"));
    ensure!(serves, "the other one does: {}", seen.stdout);
    site.world.ok(&["up", &site.app])?;
    ensure!(site.world.run(&["ps"])?.code == 0 && site.pid("web-2")?.is_some());
    site.world.end()
}

#[test]
fn a_service_manager_gets_a_unit_that_it_understands() -> Result<()> {
    let world = World::new("agent", PLUMB)?;
    let unit = world.ok(&["agent", "unit"])?.stdout;
    for line in ["Type=notify", "KillMode=process", "WantedBy=default.target"] {
        ensure!(unit.lines().any(|found| found == line), "{line} is not in\n{unit}");
    }
    let path = world.folder().join("plumb-agent.service");
    fs::write(&path, &unit)?;
    // By the tool of those who read it.
    let mut judged = Command::new("systemd-analyze");
    let judged = judged
        .args(["verify", "--user", "--man=no"])
        .arg(&path)
        .env("XDG_RUNTIME_DIR", world.folder())
        .output();
    let judged = judged.context("systemd-analyze is missing: `scripts/setup systemd`")?;
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    ensure!(judged.status.success() && !said.contains("plumb-agent"), "{said}");
    world.end()
}
