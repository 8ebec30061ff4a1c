//! Maintainer scripts that really run, in real build VMs.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use testkit::{World, free_port, get, process_names, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Longest time until a build VM is seen, and until it is gone: other builds may have the processors.
const LIMIT: Duration = Duration::from_secs(300);

/// `shared-mime-info` makes its database in its `postinst`, which no rule covers; nginx shows it. `ssl-cert` makes a key.
const DEFINITION: &str = r#"
app = "mime"

[machine.web]
middleware    = ["nginx-light", "shared-mime-info", "ssl-cert"]
scripts       = "run"
app           = { "/etc/nginx/sites-enabled/default" = "site.conf" }
service.nginx = { ready.http = ":80/globs2" }
publish       = ["PORT:80"]
"#;

fn image(world: &World, folder: &str) -> Result<Value> {
    Ok(world.json(&["build", folder])?[0].clone())
}

#[test]
fn scripts_run_in_a_build_vm_and_come_out_the_same() -> Result<()> {
    let world = World::new("scripts", PLUMB)?;
    let port = free_port()?;
    let folder = world.folder().join("mime");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("plumb.toml"), DEFINITION.replace("PORT", &port.to_string()))?;
    fs::write(folder.join("site.conf"), "server { listen 80; root /usr/share/mime; }\n")?;
    let folder = folder.to_str().expect("test folders are UTF-8");

    // What only a script could have made is there; the secret that one made is not, and that is told.
    world.ok(&["up", folder])?;
    world.share()?;
    let database = get(port, "/globs2")?;
    ensure!(database.status == 200 && database.body.contains(":text/html:*.html"), "{}", database.body);
    let first = image(&world, folder)?;
    let notices = first["notices"].to_string();
    ensure!(notices.contains("ssl-cert-snakeoil.key`, which is left out: a secret"), "{notices}");
    let lock = fs::read_to_string(format!("{folder}/plumb.lock"))?;
    ensure!(lock.contains("\nbuild = [\n") && lock.contains("\n\"ssl-cert\" = ["), "{lock}");
    world.ok(&["down", "mime"])?;

    // A build that is killed takes its VM with it and leaves no half result.
    world.forget_builds()?;
    let mut build = world.command(&["--quiet", "build", folder]).spawn()?;
    let machines = || {
        let found = process_names("test-worlds/scripts/home").unwrap_or_default();
        found.iter().filter(|(_, line)| line.contains("-name plumb-build")).count()
    };
    wait_until("the build VM runs", LIMIT, &mut || machines() == 1)?;
    build.kill()?;
    build.wait()?;
    wait_until("the build VM is gone", LIMIT, &mut || machines() == 0)?;

    // From nothing, the same bytes.
    let second = image(&world, folder)?;
    assert_eq!((&second["cached"], &second["image"]), (&Value::Bool(false), &first["image"]));
    world.end()?;
    Ok(())
}
