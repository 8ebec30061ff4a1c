//! A machine whose PID 1 is systemd, seen from outside like every other.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use testkit::{World, free_port, get, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Longest time until systemd has started something again, on processors that others use, too.
const LIMIT: Duration = Duration::from_secs(120);

/// nginx by Debian's unit, and a tool by a command line; both ready by a check, one after the other.
const DEFINITION: &str = r##"
app = "house"

[machine.web]
init       = "systemd"
middleware = ["nginx-light", "busybox-static"]
app        = { "/srv/tool" = "tool", "/var/www/html" = "www" }
volume.data = { size = "32MiB", mount = "/srv/data" }
publish    = ["WEB:80", "TOOL:8081"]

[machine.web.service.nginx]
restart    = "always"
ready.http = ":80/"

[machine.web.service.tool]
exec       = "busybox httpd -f -vv -p 8081 -h /srv/tool"
prepare    = "busybox echo prepared"
after      = ["nginx"]
environment.GREETING = "50% of \"$5\""
ready.exec = "busybox wget -q -O /dev/null http://127.0.0.1:8081/cgi-bin/do?pid1"
"##;

/// What the test does inside the machine.
const TOOL: &str = r##"#!/usr/bin/busybox sh
printf 'Content-type: text/plain\r\n\r\n'
case "$QUERY_STRING" in
    pid1) cat /proc/1/comm ;;
    greeting) echo "$GREETING" ;;
    write) echo kept > /srv/data/file ;;
    read) cat /srv/data/file ;;
    readonly) touch /etc/x 2>&1 ;;
    failed) systemctl --failed --plain --no-legend ;;
    nginx) kill -9 "$(cat /run/nginx.pid)" ;;
    agent) kill -9 "$(pidof guest)" ;;
esac
"##;

struct House {
    world: World,
    web: u16,
    tool: u16,
}

impl House {
    fn new() -> Result<House> {
        let world = World::new("systemd", PLUMB)?;
        let (web, tool) = (free_port()?, free_port()?);
        let folder = world.folder().join("house");
        fs::create_dir_all(folder.join("www"))?;
        fs::create_dir_all(folder.join("tool/cgi-bin"))?;
        let definition = DEFINITION.replace("WEB", &web.to_string()).replace("TOOL", &tool.to_string());
        fs::write(folder.join("plumb.toml"), definition)?;
        fs::write(folder.join("www/index.html"), "the house\n")?;
        let script = folder.join("tool/cgi-bin/do");
        fs::write(&script, TOOL)?;
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(House { world, web, tool })
    }

    fn folder(&self) -> String {
        self.world.folder().join("house").display().to_string()
    }

    /// What the tool answers.
    fn ask(&self, what: &str) -> Result<String> {
        Ok(get(self.tool, &format!("/cgi-bin/do?{what}"))?.body.trim().to_owned())
    }

    /// The instance as `plumb ps` shows it.
    fn instance(&self) -> Result<Value> {
        Ok(self.world.json(&["ps"])?[0]["instances"][0].clone())
    }

    fn service(&self, name: &str) -> Result<Value> {
        let instance = self.instance()?;
        let services = instance["services"].as_array().cloned().unwrap_or_default();
        Ok(services.into_iter().find(|service| service["name"] == name).unwrap_or_default())
    }

    fn logs(&self) -> Result<String> {
        Ok(self.world.ok(&["logs", "web-1"])?.stdout)
    }
}

#[test]
fn systemd_runs_the_services_and_plumb_sees_them() -> Result<()> {
    let house = House::new()?;
    house.world.ok(&["up", &house.folder()])?;
    house.world.share()?;

    // PID 1, the packages' unit, the definition's own, its environment, and a root that stays what it is.
    assert_eq!(get(house.web, "/")?.body, "the house\n");
    assert_eq!(house.ask("pid1")?, "systemd");
    assert_eq!(house.ask("greeting")?, "50% of \"$5\"");
    assert_eq!(house.ask("failed")?, "", "no unit of the image fails");
    ensure!(house.ask("readonly")?.contains("Read-only file system"));
    house.ask("write")?;
    let instance = house.instance()?;
    assert_eq!(
        (&instance["state"], instance["services"].as_array().map(Vec::len)),
        (&"ready".into(), Some(2))
    );
    let logs = house.logs()?;
    for line in
        ["plumb | systemd takes over", "systemd | Started nginx.service", "tool | prepared", "plumb | ready"]
    {
        ensure!(logs.contains(line), "no `{line}` in\n{logs}");
    }
    let of = |line: &str| logs.find(line).unwrap_or_default();
    ensure!(of("service nginx ready") < of("service tool ready"), "one after the other\n{logs}");

    // What ends is started again, the agent as well, and nothing is told twice.
    house.ask("nginx")?;
    let mut restarted =
        || house.service("nginx").is_ok_and(|one| one["restarts"] == 1 && one["state"]["state"] == "ready");
    wait_until("nginx runs again", LIMIT, &mut restarted)?;
    assert_eq!(get(house.web, "/")?.body, "the house\n");
    house.ask("agent")?;
    house.ask("nginx")?;
    let mut told =
        || house.service("nginx").is_ok_and(|one| one["restarts"] == 2 && one["state"]["state"] == "ready");
    wait_until("the next agent speaks", LIMIT, &mut told)?;
    assert_eq!(house.logs()?.matches("tool | prepared").count(), 1);

    // Down in order: the volume needs no check afterwards, and what was written is there.
    house.world.ok(&["down", "house"])?;
    house.world.ok(&["up", &house.folder()])?;
    assert_eq!(house.ask("read")?, "kept");
    let logs = house.logs()?;
    ensure!(logs.contains("volume data mounted (32.0 MiB)"), "{logs}");
    house.world.ok(&["down", "house"])?;

    // The same bytes from nothing.
    let image = |world: &World| Ok::<_, anyhow::Error>(world.json(&["build", &house.folder()])?[0].clone());
    let first = image(&house.world)?;
    house.world.forget_builds()?;
    let second = image(&house.world)?;
    assert_eq!((&second["cached"], &second["image"]), (&Value::Bool(false), &first["image"]));
    house.world.end()?;
    Ok(())
}
