//! What machines are made of and why, asked of a real image.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;
use testkit::{World, copy_example, free_port};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

/// Adds a line to the only machine of the example.
fn add_line(folder: &Path, line: &str) -> Result<()> {
    let path = folder.join("plumb.toml");
    let before = fs::read_to_string(&path)?;
    Ok(fs::write(path, before.replace("[machine.web]\n", &format!("[machine.web]\n{line}\n")))?)
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn a_machine_and_why_it_is_so() -> Result<()> {
    let world = World::new("footprint", PLUMB)?;
    let folder = copy_example(&world, "hello", "app", free_port()?)?;
    world.ok(&["up", text(&folder)])?;
    world.share()?;

    let view = world.json(&["footprint", "hello@1"])?;
    let web = &view["machines"][0];
    let layers = &web["content"]["layers"];
    assert_eq!(layers["middleware"]["packages"], 1);
    ensure!(layers["os"]["elf"].as_u64() > Some(20), "nginx and its libraries: {layers}");
    assert_eq!((&layers["app"]["files"], &layers["app"]["elf"]), (&Value::from(2), &Value::from(0)));
    assert_eq!(strings(&web["content"]["privileged"]), [""; 0]);
    // It runs, so what it does is known, and that is still so when it is down.
    let measured = &web["measured"];
    ensure!(
        measured["listening"].as_array().is_some_and(|ports| ports.iter().any(|port| port["port"] == 80)),
        "nginx listens: {measured}"
    );
    ensure!(measured["processes"].as_u64() >= Some(2), "PID 1 and nginx: {measured}");
    ensure!(measured["memory_used_kib"].as_u64() > Some(1000), "{measured}");
    world.ok(&["down", "hello"])?;
    let text_view = world.ok(&["footprint", "hello@1"])?.stdout;
    for line in text_view.lines() {
        ensure!(line.chars().count() <= 80, "too wide: {line}");
    }
    for part in ["1/", "open port    80/tcp", "LARGEST PACKAGES", "libssl3", "WHAT COULD GO", "memory in use"]
    {
        ensure!(text_view.contains(part), "no `{part}` in\n{text_view}");
    }

    let why = |what: &str| -> Result<Value> { Ok(world.json(&["why", what, "hello@1"])?[0].clone()) };
    let chain = why("libpcre2-8-0")?;
    assert_eq!(chain["kind"], "package");
    assert_eq!(chain["chain"][0]["by"], "middleware = [\"nginx-light\"]");
    let last = chain["chain"].as_array().and_then(|links| links.last()).cloned().unwrap_or_default();
    assert_eq!(last["answer"], "libpcre2-8-0");
    ensure!(chain["used_by"][0]["by"].as_str().is_some_and(|by| by.contains("nginx")), "{chain}");
    assert_eq!(why("/usr/sbin/nginx")?["package"], "nginx");
    assert_eq!(why("/sbin/nginx")?["path"], "/usr/sbin/nginx");
    assert_eq!(why("/etc/passwd")?["rule"], "accounts");
    assert_eq!(why("/srv/www/index.html")?["kind"], "app");
    assert_eq!(why("/usr/share/doc/nginx")?["kind"], "dropped");
    let module = why("dm_bufio")?;
    assert_eq!(
        (&module["kind"], &module["chain"][0]["by"]),
        (&Value::from("module"), &Value::from("every machine"))
    );
    assert_eq!(module["chain"][1]["by"], "dm_verity");
    let nothing = world.run(&["why", "no-such-thing", "hello@1"])?;
    assert_eq!(nothing.code, 1);
    assert!(nothing.stderr.contains("no machine of `hello@1` holds"), "{}", nothing.stderr);
    let nowhere = world.run(&["why", "nginx", "hello@1", "--machine", "db"])?;
    assert!(nowhere.stderr.contains("`hello@1` has no machine `db`"), "{}", nowhere.stderr);
    world.end()
}

#[test]
fn what_is_left_out_is_recorded_and_what_is_needed_is_not_left_out() -> Result<()> {
    let world = World::new("without", PLUMB)?;
    let folder = copy_example(&world, "hello", "app", free_port()?)?;
    add_line(&folder, "without = [\"debconf\"]")?;
    world.ok(&["release", text(&folder)])?;
    world.share()?;
    let lock = fs::read_to_string(folder.join("plumb.lock"))?;
    ensure!(lock.contains("without = [\n  \"debconf\",\n]"), "{lock}");
    let shown = world.json(&["show", "hello@1"])?;
    assert_eq!(strings(&shown["images"]["web"]["without"]), ["debconf"]);
    assert!(shown["images"]["web"]["packages"]["debconf"].is_null());
    assert!(world.ok(&["show", "hello@1"])?.stdout.contains("without  debconf"));
    assert_eq!(strings(&world.json(&["footprint", "hello@1"])?["machines"][0]["without"]), ["debconf"]);
    assert_eq!(world.json(&["why", "debconf", "hello@1"])?[0]["kind"], "without");

    // A program's library is not left out, whoever says so.
    add_line(&folder, "os = []")?;
    let path = folder.join("plumb.toml");
    fs::write(&path, fs::read_to_string(&path)?.replace("[\"debconf\"]", "[\"libpcre2-8-0\"]"))?;
    let refused = world.run(&["build", text(&folder)])?;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for part in ["/usr/sbin/nginx", "libpcre2-8.so.0"] {
        ensure!(refused.stderr.contains(part), "no `{part}` in\n{}", refused.stderr);
    }
    world.end()
}
