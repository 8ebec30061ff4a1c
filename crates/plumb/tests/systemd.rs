//! A machine whose PID 1 is systemd, seen from outside like every other.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, free_port, get, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Longest time until systemd has started something again, on processors that others use, too.
const LIMIT: Duration = Duration::from_secs(120);

/// A secret; nothing else on this machine is called so.
const TOKEN: &str = "canary-71c0d2ab95";

/// nginx by Debian's unit, and tools by command lines: one of root, and one of somebody else who is told a value and secrets.
const DEFINITION: &str = r##"
app = "house"

[config]
colour = "red"
token  = { type = "secret" }
unset  = { type = "secret", required = false }

[machine.web]
init       = "systemd"
middleware = ["nginx-light", "busybox-static"]
app        = { "/srv/tool" = "tool", "/srv/reader" = "reader", "/var/www/html" = "www" }
config."/var/www/html/colour.txt" = "colour.in"
volume.data = { size = "32MiB", mount = "/srv/data" }
publish    = ["WEB:80", "TOOL:8081", "READER:8082"]

[machine.web.service.nginx]
restart    = "always"
ready.http = ":80/"

[machine.web.service.tool]
exec       = "busybox httpd -f -vv -p 8081 -h /srv/tool"
prepare    = "busybox echo prepared"
after      = ["nginx"]
environment.GREETING = "50% of \"$5\""
ready.exec = "busybox wget -q -O /dev/null http://127.0.0.1:8081/cgi-bin/do?pid1"

[machine.web.service.reader]
exec        = "busybox httpd -f -p 8082 -h /srv/reader"
user        = "reader"
environment = { COLOUR = "{config.colour}", TOKEN_FILE = "{secret-file.token}", UNSET_FILE = "{secret-file.unset}" }
ready.tcp   = 8082
"##;

/// Says what the service is told, as the user of the service.
const READER: &str = r##"#!/usr/bin/busybox sh
printf 'Content-type: text/plain\r\n\r\n'
echo "$(busybox id -un) $COLOUR $(busybox cat "$TOKEN_FILE") ${UNSET_FILE-none} $(busybox ls "$CREDENTIALS_DIRECTORY")"
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
    others)
        for file in /run/credentials/reader.service/token /run/plumb/secrets/token /run/plumb/settings/reader.env; do
            busybox stat -c '%A %n' "$file"
            busybox start-stop-daemon -S -n none -c nobody -a /usr/bin/busybox -- cat "$file" 2>&1
        done
        ;;
esac
"##;

struct House {
    world: World,
    web: u16,
    tool: u16,
    reader: u16,
}

impl House {
    fn new() -> Result<House> {
        let world = World::new("systemd", PLUMB)?;
        let (web, tool, reader) = (free_port()?, free_port()?, free_port()?);
        let folder = world.folder().join("house");
        fs::create_dir_all(folder.join("www"))?;
        fs::create_dir_all(folder.join("tool/cgi-bin"))?;
        fs::create_dir_all(folder.join("reader/cgi-bin"))?;
        let definition = DEFINITION
            .replace("WEB", &web.to_string())
            .replace("TOOL", &tool.to_string())
            .replace("READER", &reader.to_string());
        fs::write(folder.join("plumb.toml"), definition)?;
        fs::write(folder.join("www/index.html"), "the house\n")?;
        fs::write(folder.join("colour.in"), "{config.colour}\n")?;
        for (path, text) in [("tool/cgi-bin/do", TOOL), ("reader/cgi-bin/say", READER)] {
            let script = folder.join(path);
            fs::write(&script, text)?;
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(House { world, web, tool, reader })
    }

    fn folder(&self) -> String {
        self.world.folder().join("house").display().to_string()
    }

    /// What the tool answers.
    fn ask(&self, what: &str) -> Result<String> {
        Ok(get(self.tool, &format!("/cgi-bin/do?{what}"))?.body.trim().to_owned())
    }

    /// What a service that is not root's is told: who it is, the value, the secret, where one is that is not set, and all files.
    fn told(&self) -> Result<String> {
        Ok(get(self.reader, "/cgi-bin/say")?.body.trim().to_owned())
    }

    /// Sets the secret by standard input.
    fn secret(&self, value: &str) -> Result<()> {
        let mut command = self.world.command(&["secret", "set", "house", "token"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        writeln!(child.stdin.take().context("a pipe")?, "{value}")?;
        ensure!(child.wait()?.success(), "the secret is set");
        Ok(())
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
    ensure!(house.world.run(&["up", &house.folder()])?.code == 1, "a secret is missing");
    house.secret(TOKEN)?;
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
        (&"ready".into(), Some(3))
    );
    let logs = house.logs()?;
    for line in
        ["plumb | systemd takes over", "systemd | Started nginx.service", "tool | prepared", "plumb | ready"]
    {
        ensure!(logs.contains(line), "no `{line}` in\n{logs}");
    }
    // What is set is told to who is to know it, and to nobody else.
    assert_eq!(get(house.web, "/colour.txt")?.body, "red\n");
    assert_eq!(house.told()?, format!("reader red {TOKEN} none token"));
    let others = house.ask("others")?;
    ensure!(others.matches("Permission denied").count() == 3 && !others.contains(TOKEN), "{others}");
    ensure!(others.matches("-r--").count() + others.matches("-rw-------").count() == 3, "{others}");
    ensure!(!logs.contains(TOKEN), "{logs}");

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
    // What is set meanwhile is told at the next start.
    house.world.ok(&["down", "house"])?;
    house.world.ok(&["config", "set", "house", "colour=blue"])?;
    house.secret("another")?;
    house.world.ok(&["up", &house.folder()])?;
    assert_eq!(house.ask("read")?, "kept");
    assert_eq!(get(house.web, "/colour.txt")?.body, "blue\n");
    assert_eq!(house.told()?, "reader blue another none token");
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
