//! What changed between two real releases, and why: every change has a cause.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::World;

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

const FIRST: &str = r#"
app = "shop"

[machine.web]
middleware    = ["nginx-light"]
app           = { "/var/www/html" = "www" }
service.nginx = { ready.http = ":80/" }
publish       = ["8080:80"]
"#;

/// Another page, another package with a service, more memory, and no `lockdown`.
const SECOND: &str = r#"
app = "shop"

[machine.web]
middleware        = ["nginx-light", "memcached"]
memory            = "384MiB"
lockdown          = false
app               = { "/var/www/html" = "www", "/etc/motd" = "motd" }
service.nginx     = { ready.http = ":80/", environment.TZ = "UTC" }
service.memcached = { ready.tcp = 11211 }
publish           = ["8080:80"]

[machine.cache]
middleware           = ["redis-server"]
service.redis-server = { ready.tcp = 6379 }
"#;

/// Causes by what changed, of one list of a machine.
fn causes(machine: &Value, list: &str, name: &str) -> Result<BTreeMap<String, Value>> {
    let changes = machine[list].as_array().with_context(|| format!("no list `{list}` in {machine}"))?;
    let of = |change: &Value| (change[name].as_str().unwrap_or_default().to_owned(), change["cause"].clone());
    Ok(changes.iter().map(of).collect())
}

#[test]
fn every_change_has_a_cause() -> Result<()> {
    let world = World::new("diff", PLUMB)?;
    let folder = world.folder().join("shop");
    fs::create_dir_all(folder.join("www"))?;
    fs::write(folder.join("www/index.html"), "one\n")?;
    fs::write(folder.join("motd"), "hello\n")?;
    fs::write(folder.join("plumb.toml"), FIRST)?;
    let folder = folder.to_str().expect("test folders are UTF-8");
    world.ok(&["release", folder])?;
    world.share()?;
    ensure!(world.ok(&["diff", folder])?.stdout.contains("nothing differs"));
    ensure!(world.run(&["diff", "shop@1"])?.stderr.contains("first release"));

    fs::write(format!("{folder}/www/index.html"), "another\n")?;
    fs::write(format!("{folder}/plumb.toml"), SECOND)?;
    let page = world.folder().join("change.html");
    let diff = world.json(&["diff", folder, "--html", page.to_str().expect("UTF-8")])?;
    let web = &diff["machines"]["web"];

    // What the definition asks for, and what comes along with it.
    let packages = causes(web, "packages", "name")?;
    let line = "machine.web.middleware = [\"memcached\"]";
    assert_eq!(packages["memcached"], serde_json::json!({"kind": "definition", "key": line}));
    let along = &packages["libevent-2.1-7"];
    assert_eq!((&along["kind"], &along["by"]), (&"dependency".into(), &"memcached".into()));
    assert_eq!(along["because"]["key"], line);
    let settings = causes(web, "settings", "what")?;
    assert_eq!(settings["memory"]["key"], "machine.web.memory");
    let services = causes(web, "services", "what")?;
    assert_eq!(services["service memcached"]["key"], "machine.web.service.memcached");
    assert_eq!(services["service nginx: environment"]["key"], "machine.web.service.nginx");
    let files = causes(web, "files", "path")?;
    assert_eq!(files["/var/www/html/index.html"]["kind"], "files");
    assert_eq!(files["/etc/motd"]["key"], "machine.web.app.\"/etc/motd\"");
    assert_eq!(files["/usr/bin/memcached"], serde_json::json!({"kind": "package", "name": "memcached"}));
    assert_eq!(files["/etc/ld.so.cache"]["rule"], "linker");
    ensure!(causes(web, "accounts", "what")?.contains_key("user memcache"), "{web}");
    ensure!(causes(web, "libraries", "what")?.contains_key("libevent-2.1.so.7"), "{web}");
    assert_eq!(causes(web, "kernel", "what")?["kernel parameters"]["key"], "machine.web.lockdown");
    assert_eq!(diff["machines"]["cache"]["presence"], "added");

    // Nothing without a cause: that would have been an error. The page says so, and is whole by itself.
    let text = fs::read_to_string(&page)?;
    ensure!(text.contains("Every change has a cause.") && text.ends_with("</html>\n"), "{text}");
    ensure!(!text.contains("<script") && !text.contains("src="), "it fetches nothing");

    // The same backwards between two releases: what came is gone, for the same reasons.
    world.ok(&["release", folder])?;
    let back = world.json(&["diff", "shop@2", "shop@1"])?;
    let packages = causes(&back["machines"]["web"], "packages", "name")?;
    assert_eq!(packages["memcached"]["key"], line);
    assert_eq!(packages["libevent-2.1-7"]["kind"], "not-needed");
    assert_eq!(back["machines"]["cache"]["presence"], "removed");
    let forward = world.json(&["diff", "shop@2"])?;
    assert_eq!(forward["machines"], diff["machines"], "a release is compared with the one before it");
    what_runs(&world)?;
    world.end()?;
    Ok(())
}

/// A deployment that is not what its release says.
fn what_runs(world: &World) -> Result<()> {
    world.ok(&["up", "shop@1", "--name", "prod"])?;
    let diff = world.json(&["diff", "prod"])?;
    assert_eq!((&diff["running"], &diff["after"]), (&Value::Array(Vec::new()), &"shop@2".into()));
    let pid = world.json(&["ps", "prod"])?[0]["instances"][0]["pid"].as_i64().context("a process")?;
    std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    let mut diff = Value::Null;
    testkit::wait_until("the end of the instance", Duration::from_secs(30), &mut || {
        diff = world.json(&["diff", "prod", "shop@1"]).unwrap_or_default();
        diff["running"][0]["found"] == "exited"
    })?;
    let found = &diff["running"][0];
    assert_eq!((&found["instance"], &found["expected"]), (&"web-1".into(), &"ready".into()), "{diff}");
    let page = world.folder().join("running.html");
    let shown = world.ok(&["diff", "prod", "shop@1", "--html", page.to_str().context("UTF-8")?])?;
    ensure!(shown.stdout.contains("prod/web-1: state exited, not ready"), "{shown:?}");
    ensure!(fs::read_to_string(page)?.contains("<code>prod/web-1</code>"));
    world.ok(&["down", "prod"])?;
    Ok(())
}

#[test]
fn locks_of_one_definition_are_compared() -> Result<()> {
    let world = World::new("diff-locks", PLUMB)?;
    let folder = world.folder().join("cache");
    fs::create_dir_all(&folder)?;
    let definition = |more: &str| {
        format!(
            "app = \"cache\"\n[machine.memory]\nmiddleware = [\"memcached\"{more}]\nscript.memcached = \"skip\"\n"
        )
    };
    fs::write(folder.join("plumb.toml"), definition(""))?;
    let shown = folder.to_str().context("UTF-8")?;
    world.ok(&["build", shown])?;
    world.share()?;
    let (lock, old) = (folder.join("plumb.lock"), world.folder().join("old.lock"));
    // As a lock of another day: the archive has moved since, and one package with it.
    let text = fs::read_to_string(&lock)?;
    let (aged, name) = testkit::aged(&world, &folder, None)?.context("a package that security has fixed")?;
    fs::write(&old, aged.to_text())?;
    let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("UTF-8");
    let kept = fs::read(&old)?;
    let run = |arguments: &[&str]| world.command(arguments).current_dir(&folder).output();
    let output = run(&["diff", &path(&old)?, "plumb.lock", "--json"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let diff: Value = serde_json::from_slice(&output.stdout)?;
    let packages = causes(&diff["machines"]["memory"], "packages", "name")?;
    assert_eq!(packages.len(), 1, "{packages:?}");
    assert_eq!(packages[&name]["kind"], "base", "{packages:?}");
    ensure!(fs::read(&old)? == kept && fs::read_to_string(&lock)? == text, "locks are only read");
    let one = run(&["diff", &path(&old)?])?;
    ensure!(String::from_utf8_lossy(&one.stdout).contains("cache (here)"), "{one:?}");

    // From elsewhere: the definition of the other side is taken.
    let lock_text = path(&lock)?;
    let far = world.json(&["diff", &path(&old)?, &lock_text])?;
    assert_eq!(far["machines"], diff["machines"]);
    assert_eq!(world.json(&["diff", &path(&old)?, shown])?["machines"], diff["machines"]);

    // A definition that it does not fit.
    fs::write(folder.join("plumb.toml"), definition(", \"tzdata\""))?;
    let output = run(&["diff", &path(&old)?, "cache@1"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("does not fit the definition in `.`") && said.contains("beside"), "{said}");
    world.end()
}
