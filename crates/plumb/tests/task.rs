//! Tasks of an upgrade: once, in the new image, with the network of the release; one that fails takes the set back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{World, copy_example, free_port, get, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

const LIMIT: Duration = Duration::from_secs(180);

/// `hello`, and a machine with tasks that needs it.
struct Site {
    world: World,
    folder: PathBuf,
    text: String,
    port: u16,
}

impl Site {
    fn new() -> Result<Site> {
        let world = World::new("task", PLUMB)?;
        let port = free_port()?;
        let folder = copy_example(&world, "hello", "hello", port)?;
        let text = fs::read_to_string(folder.join("plumb.toml"))?;
        Ok(Site { world, folder, text, port })
    }

    /// The definition with these tasks.
    fn define(&self, tasks: &str) -> Result<&str> {
        let machine = "[machine.client]\nmiddleware = [\"busybox-static\"]\nmemory = \"128MiB\"\nneeds = [\"web\"]\nservice.idle = { exec = \"/bin/busybox sleep 1000000\" }\n";
        fs::write(self.folder.join("plumb.toml"), format!("{}\n{machine}{tasks}", self.text))?;
        self.folder.to_str().context("UTF-8")
    }
}

#[test]
fn a_task_runs_once_with_the_network_of_the_release_and_one_that_fails_takes_the_set_back() -> Result<()> {
    let site = Site::new()?;
    let before = "task.migrate = { exec = \"busybox wget -q -O /dev/null http://web/index.html?migrate\", timeout = \"2min\" }\n";
    let app = site.define(before)?.to_owned();
    let planned = site.world.ok(&["plan", &app])?.stdout;
    ensure!(planned.contains("migrate in client-0"), "{planned}");
    let up = site.world.ok(&["up", &app])?;
    site.world.share()?;
    ensure!(!up.stdout.contains("client-0"), "it is gone: {}", up.stdout);
    ensure!(site.world.json(&["ps", "hello"])?[0]["instances"].as_array().is_some_and(|all| all.len() == 2));
    // Doing it again does not migrate again.
    let again = site.world.json(&["plan", "hello@1"])?;
    ensure!(again["plan"]["tasks"].as_array().is_some_and(Vec::is_empty), "{again}");
    site.world.ok(&["up", "hello@1"])?;
    let journal = site.world.ok(&["journal", "hello"])?.stdout;
    ensure!(journal.contains("up to hello@1: done"), "{journal}");

    // It fails: the set stays at what it was, and what the task wrote is told.
    let failing = "task.migrate = { exec = \"busybox ls /not-there\" }\n";
    site.define(failing)?;
    site.world.ok(&["release", &app])?;
    let failed = site.world.run(&["upgrade", "hello"])?;
    ensure!(failed.code == 1, "{failed:?}");
    for told in
        ["task `migrate` failed in `client-0`: exited with status 1", "/not-there: No such file", "hello@1"]
    {
        ensure!(failed.stderr.contains(told), "`{told}` is not in {}", failed.stderr);
    }
    let seen = site.world.json(&["ps", "hello"])?[0].clone();
    assert_eq!((&seen["release"], &seen["state"]), (&"hello@1".into(), &"ready".into()), "{seen}");
    ensure!(seen["instances"].as_array().is_some_and(|all| all.len() == 2), "{seen}");
    assert_eq!(get(site.port, "/")?.status, 200);

    // Cut short in the middle of a task: what it left goes, and the same command comes to its end.
    let slow = "task.migrate = { exec = \"busybox sleep 100000\", timeout = \"1h\" }\n";
    site.define(slow)?;
    site.world.ok(&["release", &app])?;
    let mut upgrade = site.world.spawn(&["upgrade", "hello"])?;
    wait_until("it carries out its task", LIMIT, &mut || {
        let seen = site.world.json(&["ps", "hello"]).unwrap_or_default();
        let all = seen[0]["instances"].as_array().cloned().unwrap_or_default();
        all.iter().any(|one| one["name"] == "client-0" && one["state"] == "ready")
    })?;
    upgrade.kill()?;
    upgrade.wait()?;
    let good = "task.migrate = { exec = \"busybox true\" }\ntask.tidy = { exec = \"busybox wget -q -O /dev/null http://client:80/\", when = \"after\" }\n";
    site.define(good)?;
    site.world.ok(&["release", &app])?;
    let failed = site.world.run(&["upgrade", "hello"])?;
    ensure!(failed.stderr.contains("task `tidy` failed"), "nobody listens there: {failed:?}");
    let good = good.replace("http://client:80/", "http://web/");
    site.define(&good)?;
    site.world.ok(&["release", &app])?;
    site.world.ok(&["upgrade", "hello"])?;
    let seen = site.world.json(&["ps", "hello"])?[0].clone();
    ensure!(seen["release"] == "hello@5" && seen["state"] == "ready", "{seen}");
    ensure!(seen["instances"].as_array().is_some_and(|all| all.len() == 2), "{seen}");
    data_is_turned_back(&site)?;
    site.world.end()
}

/// A rollback below the fence carries out what turns data back; where that fails the newer release serves on.
fn data_is_turned_back(site: &Site) -> Result<()> {
    let world = &site.world;
    let release = |fence: &str, revert: &str| -> Result<()> {
        let tasks = format!(
            "task.migrate = {{ exec = \"busybox wget -q -O /dev/null http://web/\" }}\ntask.revert = {{ exec = \"{revert}\", when = \"reverse\" }}\n"
        );
        let app = site.define(&tasks)?;
        let definition = site.folder.join("plumb.toml");
        let text = fs::read_to_string(&definition)?;
        fs::write(&definition, format!("{fence}{text}"))?;
        world.ok(&["release", app])?;
        Ok(())
    };
    let refused = release("", "busybox true").err().context("nothing would ever carry it out")?;
    ensure!(refused.to_string().contains("there is no `fence`"), "{refused:#}");
    release("fence = \"this\"\n", "busybox ls /not-there")?;
    world.ok(&["upgrade", "hello"])?;
    let planned = world.ok(&["rollback", "hello", "--dry-run"])?.stdout;
    ensure!(
        planned.contains("revert in client-0") && planned.contains("turns the data of hello@6 back"),
        "{planned}"
    );
    let failed = world.run(&["rollback", "hello"])?;
    ensure!(failed.code == 1 && failed.stderr.contains("task `revert` failed"), "{failed:?}");
    let seen = world.json(&["ps", "hello"])?[0].clone();
    ensure!(seen["release"] == "hello@6" && seen["state"] == "ready", "{seen}");
    // One for what failed, and one that made the data new again.
    let gone = failed.stderr.lines().filter(|line| line.contains("client-0") && line.contains("removed"));
    ensure!(gone.count() == 2, "{failed:?}");
    release("fence = 6\n", "busybox wget -q -O /dev/null http://web/")?;
    world.ok(&["upgrade", "hello"])?;
    world.ok(&["rollback", "hello", "hello@5"])?;
    let seen = world.json(&["ps", "hello"])?[0].clone();
    ensure!(seen["release"] == "hello@5" && seen["state"] == "ready", "{seen}");
    Ok(())
}
