//! Replacing a machine with several instances: a client notices nothing, and a batch that does not stay ready ends it.

use std::fs;
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
        site.world.ok(&["release", &site.app])?;
        Ok(site)
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
    let done = AtomicBool::new(false);
    let asked: Result<(usize, usize)> = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut all, mut new) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let answer = get(site.port, "/").context("a request in the middle of an upgrade")?;
                ensure!(answer.status == 200, "{}", answer.status);
                all += 1;
                new += usize::from(answer.body.contains("again"));
            }
            Ok((all, new))
        });
        let upgraded = site.world.ok(&["upgrade", "hello"]);
        done.store(true, Ordering::Relaxed);
        let asked = client.join().expect("the client does not panic");
        upgraded.and(asked)
    });
    let (all, new) = asked?;
    ensure!(all > 50 && new > 0 && new < all, "{new} of {all} answers are new");
    site.world.end()
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
    site.world.end()
}
