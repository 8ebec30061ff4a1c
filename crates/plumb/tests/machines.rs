//! The product on real virtual machines, used as people use it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, copy_example, free_port, get, post, process_names, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Longest time for something that takes seconds: a starved emulator needs its time.
const LIMIT: Duration = Duration::from_secs(120);

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

fn deployment(world: &World, name: &str) -> Result<Value> {
    let all = world.json(&["ps", name])?;
    Ok(all[0].clone())
}

/// One edit in a file.
fn edit(path: &Path, from: &str, to: &str) -> Result<()> {
    let before = fs::read_to_string(path)?;
    ensure!(before.contains(from), "{} has no `{from}`", path.display());
    Ok(fs::write(path, before.replace(from, to))?)
}

/// No process and no file but the store, the state and the volumes.
fn ensure_nothing_left(world: &World) -> Result<()> {
    let home = world.home().canonicalize()?;
    let left = process_names(text(&home))?;
    ensure!(left.is_empty(), "processes are left: {left:?}");
    let run = home.join("run");
    let files: Vec<_> = fs::read_dir(&run).map(|entries| entries.flatten().collect()).unwrap_or_default();
    ensure!(files.is_empty(), "files are left below run/: {files:?}");
    Ok(())
}

#[test]
fn the_shop_lives_through_its_versions() -> Result<()> {
    let world = World::new("shop", PLUMB)?;
    let port = free_port()?;
    let v1 = copy_example(&world, "shop/v1", "v1", port)?;
    world.ok(&["up", text(&v1)])?;
    world.share()?;

    // Both web instances answer, and the order is in the database.
    let mut answered: Vec<String> = (0..4)
        .map(|_| get(port, "/").map(|answer| answer.headers["x-plumb-instance"].clone()))
        .collect::<Result<_>>()?;
    answered.sort();
    answered.dedup();
    assert_eq!(answered, ["web-1", "web-2"]);
    assert_eq!(post(port, "/orders", "customer=ann&product=1&quantity=2")?.status, 303);
    let orders = |port| -> Result<Value> { Ok(serde_json::from_str(&get(port, "/orders.json")?.body)?) };
    assert_eq!(orders(port)?["orders"][0]["customer"], "ann");
    assert_eq!(orders(port)?["version"], "1");

    // v2: the row is still there, the new feature is visible, and what did not change was not restarted.
    let database = deployment(&world, "shop")?["instances"][1]["pid"].clone();
    let v2 = copy_example(&world, "shop/v2", "v2", port)?;
    fs::copy(v1.join("plumb.lock"), v2.join("plumb.lock"))?;
    world.ok(&["up", text(&v2), "-m", "ratings"])?;
    assert_eq!(orders(port)?["orders"][0]["customer"], "ann");
    assert_eq!(orders(port)?["version"], "2");
    ensure!(get(port, "/")?.body.contains("Not rated yet"), "the new feature is not visible");
    let seen = deployment(&world, "shop")?;
    assert_eq!(seen["instances"][1]["pid"], database, "the database was restarted");
    assert_eq!(seen["instances"][1]["release"], "shop@2");

    // v3 is broken: the whole set returns to v2 by itself and says why.
    let v3 = copy_example(&world, "shop/v3", "v3", port)?;
    fs::copy(v1.join("plumb.lock"), v3.join("plumb.lock"))?;
    let failed = world.run(&["up", text(&v3)])?;
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    for part in [
        "error: `shop@3` did not become healthy; deployment `shop` runs `shop@2` again",
        "caused by: instance `api-1` did not become ready:",
        "HTTP status 500",
        "the end of its console:",
        "hint: `plumb logs api-1`",
    ] {
        ensure!(failed.stderr.contains(part), "`{part}` is not in:\n{}", failed.stderr);
    }
    assert_eq!(orders(port)?["version"], "2");
    assert_eq!(orders(port)?["orders"][0]["customer"], "ann");
    let seen = deployment(&world, "shop")?;
    assert_eq!((&seen["release"], &seen["state"]), (&Value::from("shop@2"), &Value::from("ready")));

    // v2's definition forbids to go below itself.
    let refused = world.run(&["rollback", "shop"])?;
    assert_eq!(refused.code, 1);
    ensure!(refused.stderr.contains("sets the fence at release 2"), "{}", refused.stderr);

    // Down leaves nothing but store and volumes; up again finds the old volume.
    world.ok(&["down", "shop"])?;
    ensure_nothing_left(&world)?;
    world.ok(&["up", "shop@2"])?;
    assert_eq!(orders(port)?["orders"][0]["customer"], "ann");
    world.end()?;
    ensure!(!world.home().exists(), "the home is still there");
    Ok(())
}

#[test]
fn ps_tells_the_truth_after_crashes_and_up_repairs() -> Result<()> {
    let world = World::new("crashes", PLUMB)?;
    let port = free_port()?;
    let hello = copy_example(&world, "hello", "hello", port)?;
    world.ok(&["up", text(&hello)])?;
    world.share()?;
    assert_eq!(get(port, "/")?.status, 200);
    world.ok(&["lock", "--check", text(&hello)])?;

    // The log of a service and the console are there.
    let logs = world.ok(&["logs", "web-1"])?.stdout;
    ensure!(logs.contains("service nginx started"), "{logs}");
    let console = world.ok(&["console", "web-1", "--no-follow"])?.stdout;
    ensure!(console.contains("root mounted, verified by"), "{console}");

    // kill -9 of the keeper: ps brings it back, and the port answers again.
    let keeper = process_names(" keeper ")?;
    let home = world.home().canonicalize()?;
    let keeper = keeper.iter().find(|(_, line)| line.contains(text(&home))).context("no keeper runs")?.0;
    kill(keeper)?;
    wait_until("the keeper is gone", LIMIT, &mut || !Path::new(&format!("/proc/{keeper}/cmdline")).exists())?;
    let ready = || deployment(&world, "hello").is_ok_and(|seen| seen["state"] == "ready");
    wait_until("ps says ready again", LIMIT, &mut || ready())?;
    wait_until("the port answers", LIMIT, &mut || get(port, "/").is_ok_and(|answer| answer.status == 200))?;

    // kill -9 of the virtual machine: ps says so, and the same up repairs it.
    let pid = deployment(&world, "hello")?["instances"][0]["pid"].as_u64().context("it has a pid")?;
    kill(u32::try_from(pid)?)?;
    wait_until("ps says exited", LIMIT, &mut || {
        deployment(&world, "hello").is_ok_and(|seen| seen["instances"][0]["state"] == "exited")
    })?;
    world.ok(&["up", text(&hello), "--offline"])?;
    assert_eq!(get(port, "/")?.status, 200);

    // More instances, and a rollback that nothing forbids.
    edit(&hello.join("plumb.toml"), "publish ", "instances  = 2\npublish ")?;
    world.ok(&["up", text(&hello), "--offline"])?;
    let seen = deployment(&world, "hello")?;
    assert_eq!(
        (&seen["state"], seen["instances"].as_array().map(Vec::len)),
        (&Value::from("ready"), Some(2))
    );
    let images = world.json(&["build", text(&hello), "--offline"])?;
    assert_eq!(images[0]["cached"], true, "the number of instances is no part of an image");
    world.ok(&["rollback", "hello"])?;
    let seen = deployment(&world, "hello")?;
    assert_eq!(
        (&seen["release"], seen["instances"].as_array().map(Vec::len)),
        (&Value::from("hello@1"), Some(1))
    );
    world.end()
}

/// Ten points, spread evenly over the time that an undisturbed run takes.
#[test]
fn kill_nine_at_ten_points_converges() -> Result<()> {
    let world = World::new("kill-nine", PLUMB)?;
    let port = free_port()?;
    let hello = copy_example(&world, "hello", "hello", port)?;
    let start = std::time::Instant::now();
    world.ok(&["up", text(&hello)])?;
    world.share()?;
    world.ok(&["down", "hello"])?;
    let warm = std::time::Instant::now();
    world.ok(&["up", text(&hello), "--offline"])?;
    let undisturbed = warm.elapsed().min(start.elapsed());
    world.ok(&["down", "hello"])?;

    for point in 1..=10_u32 {
        // Odd points hit `up` from nothing, even ones hit the upgrade to a changed page.
        if point % 2 == 0 {
            fs::write(hello.join("www/index.html"), format!("page {point}"))?;
        } else if point > 1 {
            world.ok(&["down", "hello"])?;
        }
        let mut child = world.spawn(&["up", text(&hello), "--offline"])?;
        let after = undisturbed * point / 11;
        let end = std::time::Instant::now() + after;
        while std::time::Instant::now() < end && child.try_wait()?.is_none() {
            std::thread::yield_now();
        }
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
        let _ = world.json(&["ps", "--all"])?;
        world
            .ok(&["up", text(&hello), "--offline"])
            .with_context(|| format!("after a kill at point {point}"))?;
        let answer = get(port, "/")?;
        assert_eq!(answer.status, 200, "point {point}");
        if point % 2 == 0 {
            assert_eq!(answer.body, format!("page {point}"));
        }
        let seen = deployment(&world, "hello")?;
        assert_eq!((&seen["state"], &seen["note"]), (&Value::from("ready"), &Value::Null), "point {point}");
        let home = world.home().canonicalize()?;
        let machines = process_names("plumb/hello/web-1")?;
        let ours = machines.iter().filter(|(_, line)| line.contains(text(&home))).count();
        assert_eq!(ours, 1, "point {point}: exactly one virtual machine runs");
    }
    world.ok(&["down", "hello"])?;
    ensure_nothing_left(&world)?;
    world.end()
}

/// Other folder, other home, other time zone, other umask, one thread; as root also another user.
#[test]
fn two_builds_have_equal_digests() -> Result<()> {
    let first = World::new("build-first", PLUMB)?;
    let shop = copy_example(&first, "shop/v1", "shop", 8080)?;
    let digests = |images: &Value| -> Vec<String> {
        let images = images.as_array().into_iter().flatten();
        images.map(|image| image["image"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let expected = digests(&first.json(&["build", text(&shop)])?);
    first.share()?;
    assert_eq!(expected.len(), 3);

    let second = World::new("build-second/in/a/deeper/folder", PLUMB)?;
    second.forget_builds()?;
    let copy = copy_example(&second, "shop/v1", "other", 8080)?;
    let lock = fs::read_to_string(shop.join("plumb.lock"))?;
    fs::write(copy.join("plumb.lock"), lock)?;
    let folder = second.folder().canonicalize()?;
    let script =
        format!("umask 077; exec '{PLUMB}' build '{}' --offline --json", folder.join("other").display());
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("PLUMB_HOME", folder.join("home"));
    command.env("TZ", "Asia/Kolkata").env("RAYON_NUM_THREADS", "1").env("LC_ALL", "C");
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(digests(&serde_json::from_slice(&output.stdout)?), expected);
    second.end()?;
    first.end()
}

fn kill(pid: u32) -> Result<()> {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    ensure!(status.success(), "cannot kill {pid}");
    Ok(())
}
