//! `plumb test` on real machines: the very release, in isolation, its checks from outside and inside, and nothing left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, copy_example, free_port, get, process_names, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Longest time for something that takes seconds: a starved emulator needs its time.
const LIMIT: Duration = Duration::from_secs(120);

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

/// Adds lines to a definition.
fn add(folder: &Path, lines: &str) -> Result<()> {
    let path = folder.join("plumb.toml");
    let before = fs::read_to_string(&path)?;
    Ok(fs::write(&path, format!("{before}\n{lines}\n"))?)
}

/// A program beside the definition.
fn program(folder: &Path, path: &str, script: &str) -> Result<()> {
    let place = folder.join(path);
    fs::create_dir_all(place.parent().context("it has a folder")?)?;
    fs::write(&place, script)?;
    Ok(fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?)
}

/// Processes of this home's tests.
fn of_tests(world: &World) -> Result<Vec<(u32, String)>> {
    let home = world.home().canonicalize()?;
    let mut all = process_names("-test-")?;
    all.retain(|(_, line)| line.contains(text(&home)));
    Ok(all)
}

/// Nothing of a test is there any more: no process, no file, no volume, no deployment.
fn ensure_gone(world: &World) -> Result<()> {
    let left = of_tests(world)?;
    ensure!(left.is_empty(), "processes are left: {left:?}");
    for place in ["run", "volumes"] {
        let entries: Vec<_> =
            fs::read_dir(world.home().join(place)).map(|e| e.flatten().collect()).unwrap_or_default();
        let names: Vec<_> = entries.iter().map(|entry| entry.file_name()).collect();
        ensure!(!names.iter().any(|name| name.to_string_lossy().contains("-test-")), "{place}: {names:?}");
    }
    let known = world.json(&["ps", "--all"])?;
    ensure!(!known.to_string().contains("-test-"), "{known}");
    Ok(())
}

/// One result of an outcome.
fn result<'v>(tested: &'v Value, check: &str) -> Result<&'v Value> {
    let all = tested["outcome"]["results"].as_array().context("no results")?;
    all.iter().find(|result| result["check"] == check).with_context(|| format!("no `{check}` in {tested}"))
}

const FAILING: &str = r#"
[check.outside]
http = "web:80/none"

[check.closed]
tcp = "web:81"

[check.open]
tcp = "web:80"

[check.program]
run   = "checks/shout.sh loudly"
files = ["checks/data"]

[check.slow]
run     = "sleep 1000"
timeout = "500ms"

[check.inside]
exec    = "nginx -t -c /nowhere"
machine = "web"

[check.slow-inside]
exec    = "nginx -g 'daemon off;' -c /etc/slow.conf"
machine = "web"
timeout = "2s"
"#;

#[test]
fn a_release_is_tested_beside_the_one_that_runs() -> Result<()> {
    let world = World::new("test-hello", PLUMB)?;
    let port = free_port()?;
    let hello = copy_example(&world, "hello", "hello", port)?;
    world.ok(&["up", text(&hello)])?;
    world.share()?;
    let before = world.json(&["ps", "hello"])?[0]["instances"][0]["pid"].clone();

    // The template's own checks hold, for the release that runs.
    let tested = world.json(&["test", "hello@1"])?;
    assert_eq!(tested["passed"], true, "{tested}");
    let places: Vec<String> = tested["outcome"]["results"]
        .as_array()
        .context("no results")?
        .iter()
        .map(|result| format!("{} {} {}", result["check"], result["place"], result["verdict"]))
        .collect();
    assert_eq!(
        places,
        [
            r#""ready" {"inside":"web-1"} "passed""#,
            r#""configuration" {"inside":"web-1"} "passed""#,
            r#""page" {"outside":"web-1"} "passed""#
        ]
    );
    let inside = result(&tested, "configuration")?["output"].as_str().unwrap_or_default();
    ensure!(inside.contains("test is successful"), "{inside}");
    ensure_gone(&world)?;

    // It is evidence.
    ensure!(tested["evidence"]["signed"]["statement"].is_string(), "{tested}");
    let evidence = world.json(&["evidence", "hello@1"])?;
    ensure!(evidence.to_string().contains("\"kind\":\"tests\""), "{evidence}");

    // The outcome and the logs are objects.
    let outcome: Value =
        serde_json::from_slice(&fs::read(world.object(tested["object"].as_str().context("no object")?))?)?;
    assert_eq!(outcome, tested["outcome"]);
    let logs = &outcome["logs"]["web-1"];
    let read = |part: &str| -> Result<String> {
        let path = world.object(logs[part].as_str().context("no log")?);
        Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
    };
    ensure!(read("console")?.contains("root mounted, verified by"), "{}", read("console")?);
    ensure!(read("services")?.contains("check configuration passed"), "{}", read("services")?);

    failing_checks(&world, &hello)?;

    // All that time the deployment ran, and it was not touched.
    assert_eq!(world.json(&["ps", "hello"])?[0]["instances"][0]["pid"], before);
    assert_eq!(get(port, "/")?.status, 200);
    world.ok(&["logs", "web-1"])?;
    world.end()
}

/// Every way to fail, its reason and its output; and an older release is tested with its own checks.
fn failing_checks(world: &World, hello: &Path) -> Result<()> {
    add(hello, FAILING)?;
    program(
        hello,
        "checks/shout.sh",
        "#!/bin/sh\ncat checks/data/x; echo \"$1 at $PLUMB_WEB_80 $PLUMB_WEB_1_80\" >&2; exit 4\n",
    )?;
    fs::create_dir_all(hello.join("checks/data"))?;
    fs::write(hello.join("checks/data/x"), "from the release\n")?;
    // A configuration that is right, and a server that does not end.
    fs::write(hello.join("slow.conf"), "pid /tmp/slow.pid;\nerror_log stderr;\nevents {}\n")?;
    let path = hello.join("plumb.toml");
    let definition = fs::read_to_string(&path)?;
    fs::write(
        &path,
        definition.replace(
            "\"/srv/www\" = \"www/\",",
            "\"/srv/www\" = \"www/\", \"/etc/slow.conf\" = \"slow.conf\",",
        ),
    )?;
    let failed = world.run(&["test", text(hello), "--json"])?;
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let tested: Value = serde_json::from_str(&failed.stdout).context("one document")?;
    assert_eq!(tested["outcome"]["release"], "hello@2");
    for (check, reason) in [
        ("outside", "HTTP status 404 instead of 200"),
        ("closed", "nothing listens on port 81"),
        ("program", "exited with status 4"),
        ("slow", "took longer than 500 ms"),
        ("inside", "exited with status 1"),
        ("slow-inside", "took longer than 2000 ms"),
    ] {
        assert_eq!(result(&tested, check)?["verdict"]["failed"]["reason"], reason, "{check}");
    }
    for good in ["ready", "page", "configuration", "open"] {
        assert_eq!(result(&tested, good)?["verdict"], "passed", "{good}");
    }
    let output = |check: &str| -> Result<String> {
        Ok(result(&tested, check)?["output"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(
        output("program")?.starts_with("from the release\nloudly at 127.0.0.1:"),
        "{}",
        output("program")?
    );
    ensure!(output("inside")?.contains("No such file or directory"), "{}", output("inside")?);
    ensure!(output("outside")?.starts_with("HTTP 404\n"), "{}", output("outside")?);
    ensure_gone(world)?;

    // What was released is what is tested: the folder has other files by now, and hello@1 has its own checks.
    program(hello, "checks/shout.sh", "#!/bin/sh\nexit 0\n")?;
    let again = world.run(&["test", "hello@2", "--only", "program", "--only", "page"])?;
    assert_eq!(again.code, 1);
    for part in ["program (host): exited with status 4", "  | from the release"] {
        ensure!(again.stdout.contains(part), "`{part}` is not in:\n{}", again.stdout);
    }
    ensure!(again.stderr.contains("1 of 3 checks failed"), "{}", again.stderr);
    let first = world.json(&["test", "hello@1", "--only", "page"])?;
    ensure!(first["evidence"]["none"]["why"].is_string(), "a part is no evidence: {first}");
    assert_eq!(first["outcome"]["only"], serde_json::json!(["page"]));
    let unknown = world.run(&["test", "hello@1", "--only", "program"])?;
    ensure!(unknown.stderr.contains("`hello@1` has no check `program`"), "{}", unknown.stderr);
    world.ok(&["verify", "hello@2"])?;
    ensure_gone(world)
}

#[test]
fn a_test_that_is_stopped_or_killed_leaves_nothing() -> Result<()> {
    let world = World::new("test-killed", PLUMB)?;
    let hello = copy_example(&world, "hello", "hello", free_port()?)?;
    add(&hello, "[check.slow]\nrun = \"sleep 1000\"\ntimeout = \"10min\"")?;
    add(&hello, "[machine.web.volume.data]\nsize = \"16MiB\"\nmount = \"/var/lib/data\"")?;
    world.ok(&["release", text(&hello)])?;
    world.share()?;
    let home = world.home().canonicalize()?;
    let is_checking = || {
        let sleepers = process_names("sleep 1000").unwrap_or_default();
        sleepers.iter().any(|(pid, _)| {
            let place = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            place.starts_with(&home)
        })
    };

    // Ctrl-C: it takes everything away itself.
    let mut child = world.spawn(&["test", "hello@1"])?;
    wait_until("the check runs", LIMIT, &mut || is_checking())?;
    signal(child.id(), "-INT")?;
    let status = child.wait()?;
    assert_eq!(status.code(), Some(1), "{status}");
    ensure!(!is_checking(), "the program of the check goes on");
    ensure_gone(&world)?;

    // kill -9: the program of the check ends with it, and the next look takes the machines away.
    let mut child = world.spawn(&["test", "hello@1"])?;
    wait_until("the check runs", LIMIT, &mut || is_checking())?;
    child.kill()?;
    child.wait()?;
    wait_until("the program of the check is gone", LIMIT, &mut || !is_checking())?;
    ensure!(!of_tests(&world)?.is_empty(), "the machines cannot know yet");
    let seen = world.ok(&["ps"])?;
    ensure!(seen.stderr.contains("hello-test-1 was left by a test that was killed"), "{}", seen.stderr);
    ensure_gone(&world)?;

    // One that runs is not taken for a dead one, and two do not meet.
    let mut child = world.spawn(&["test", "hello@1"])?;
    wait_until("the check runs", LIMIT, &mut || is_checking())?;
    let tested = world.json(&["test", "hello@1", "--only", "page"])?;
    assert_eq!(tested["passed"], true);
    ensure!(is_checking(), "the other test was disturbed");
    signal(child.id(), "-TERM")?;
    child.wait()?;
    ensure_gone(&world)?;

    // `--keep`: from then on it is a deployment like any other.
    let kept = world.json(&["test", "hello@1", "--only", "page", "--keep"])?;
    assert_eq!(kept["kept"], "hello-test-1");
    let address = kept["published"][0]["address"].as_str().context("a port")?.to_owned();
    let port: u16 = address.trim_start_matches("127.0.0.1:").parse()?;
    assert_eq!(get(port, "/")?.status, 200);
    let seen = world.json(&["ps", "hello-test-1"])?;
    assert_eq!(seen[0]["instances"][0]["ports"], serde_json::json!([format!("{port}->80")]));
    let leases = world.json(&["lease"])?;
    let lease = leases.as_array().context("leases")?.iter().find(|one| one["deployment"] == "hello-test-1");
    let lease = lease.with_context(|| format!("it has a lease: {leases}"))?;
    assert_eq!(lease["purpose"], "a test of hello@1 that was kept");
    ensure!(lease["owner"].is_string() && lease["stops_ms"].is_u64(), "an owner and an end: {lease}");
    world.ok(&["down", "hello-test-1", "--volumes"])?;
    // One that is more than its owner may have is refused before it runs, and leaves nothing.
    let owner = lease["owner"].as_str().context("an owner")?;
    world.ok(&["quota", "set", owner, "--instances", "0"])?;
    let refused = world.run(&["test", "hello@1", "--only", "page", "--keep"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("than the quota allows"), "{}", refused.stderr);
    ensure_gone(&world)?;
    world.end()
}

#[test]
fn the_shop_is_tested_with_an_empty_database() -> Result<()> {
    let world = World::new("test-shop", PLUMB)?;
    let shop = copy_example(&world, "shop/v1", "shop", free_port()?)?;
    let tested = world.json(&["test", text(&shop)])?;
    world.share()?;
    assert_eq!(tested["passed"], true, "{tested}");
    let order = result(&tested, "order")?["output"].as_str().unwrap_or_default();
    ensure!(order.contains("'quantity': 3"), "{order}");
    ensure!(result(&tested, "database")?["output"].to_string().contains("rows)"), "{tested}");
    ensure_gone(&world)?;

    // The database does not come up: nothing else is tried, and its console is in the outcome.
    let path = shop.join("plumb.toml");
    let definition = fs::read_to_string(&path)?;
    fs::write(
        &path,
        definition.replace("config_file=/etc/shop/postgresql.conf", "config_file=/etc/shop/none.conf"),
    )?;
    let failed = world.run(&["test", text(&shop), "--json"])?;
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let tested: Value = serde_json::from_str(&failed.stdout)?;
    let results = tested["outcome"]["results"].as_array().context("no results")?;
    let of = |check: &str, instance: &str| {
        results.iter().find(|r| r["check"] == check && r["place"].to_string().contains(instance)).cloned()
    };
    let database = of("ready", "db-1").context("no readiness")?;
    ensure!(database["verdict"]["failed"]["reason"].is_string(), "{database}");
    ensure!(database["output"].to_string().contains("none.conf"), "{database}");
    let web = of("page", "web-1").context("no page")?;
    assert_eq!(web["verdict"]["skipped"]["reason"], "the set did not become ready");
    ensure_gone(&world)?;
    world.end()
}

/// The guest that answers is another one there: a service of systemd.
#[test]
fn checks_inside_a_machine_with_systemd() -> Result<()> {
    let world = World::new("test-systemd", PLUMB)?;
    let hello = copy_example(&world, "hello", "hello", free_port()?)?;
    let path = hello.join("plumb.toml");
    let definition = fs::read_to_string(&path)?;
    let definition = definition.replace("\"128MiB\"", "\"256MiB\"\ninit = \"systemd\"");
    fs::write(
        &path,
        definition.replace(
            "\"/srv/www\" = \"www/\",",
            "\"/srv/www\" = \"www/\", \"/etc/slow.conf\" = \"slow.conf\",",
        ),
    )?;
    fs::write(hello.join("slow.conf"), "pid /tmp/slow.pid;\nerror_log stderr;\nevents {}\n")?;
    add(&hello, "[check.user]\nexec = \"nginx -t\"\nmachine = \"web\"\nuser = \"www-data\"")?;
    add(
        &hello,
        "[check.slow]\nexec = \"nginx -g 'daemon off;' -c /etc/slow.conf\"\nmachine = \"web\"\ntimeout = \"1s\"",
    )?;
    let failed = world.run(&["test", text(&hello), "--json"])?;
    world.share()?;
    let tested: Value = serde_json::from_str(&failed.stdout).with_context(|| failed.stderr.clone())?;
    assert_eq!(result(&tested, "configuration")?["verdict"], "passed", "{tested}");
    assert_eq!(result(&tested, "slow")?["verdict"]["failed"]["reason"], "took longer than 1000 ms");
    // It ran as the user, who may not write what root may.
    let user = result(&tested, "user")?["output"].to_string();
    ensure!(user.contains("makes sense only if the master process runs with super-user"), "{user}");
    ensure_gone(&world)?;
    world.end()
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let status = std::process::Command::new("kill").args([name, &pid.to_string()]).status()?;
    ensure!(status.success(), "cannot signal {pid}");
    Ok(())
}
