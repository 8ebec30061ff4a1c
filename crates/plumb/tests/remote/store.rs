//! An object store: moto's S3, which honours conditional requests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{free_port, get, printed, wait_until};

use super::base::{Home, base};
use super::server::{Line, Process};

/// Longest time until a server of Python answers on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/s3.txt");

/// A server with a bucket `releases`.
fn start() -> Result<(Process, u16)> {
    let venv = base()?.world.folder().join("venv");
    let place = |name: &str| venv.join("bin").join(name);
    printed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    printed(Command::new(place("pip")).args(["install", "--quiet", "--requirement", SERVER]))?;
    let port = free_port()?;
    let child = Command::new(place("moto_server"))
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let process = Process(child);
    wait_until("the object store answers", LIMIT, &mut || get(port, "/").is_ok())?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"PUT /releases HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains(" 200 "), "{answer}");
    Ok((process, port))
}

#[test]
fn a_release_travels_by_an_object_store() -> Result<()> {
    let base = base()?;
    let (_server, port) = start()?;
    let line = Line::start(port)?;
    let endpoint = format!("http://127.0.0.1:{}", line.port);
    let (bucket, address) = ("s3://releases/team", format!("s3://releases/team?endpoint={endpoint}"));
    // Sends with the credentials of the environment.
    let sender = Home::new("s3-sender")?;
    for part in ["store", "keys"] {
        testkit::copy_tree(&base.world.home().join(part), &sender.0.join(part))?;
    }
    let dry = sender.json(&["push", "hello@1", &address, "--dry-run"])?;
    let whole = dry["bytes"].as_u64().context("bytes")?;

    // Killed after ever more bytes: parts that arrived are not sent again.
    for step in [1, 3, 14] {
        let begun = line.total();
        let mut child = sender.spawn(&["push", "hello@1", &address])?;
        if !line.kill_after(begun + whole * step / 16, &mut child)? {
            continue;
        }
        let home = Home::new("s3-early")?;
        let refused = home.run(&["clone", &address, "hello"])?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("has no release of `hello`"),
            "{}",
            refused.stderr
        );
    }
    let begun = line.total();
    sender.ok(&["push", "hello@1", &address])?;
    ensure!(line.total() - begun < whole * 3 / 4, "{} of {whole} bytes", line.total() - begun);
    // Over a line that breaks.
    line.cut(7, 16_000_000);
    let mut runs = 0;
    while sender.run(&["push", "hello@1", &address.replace("team", "other")])?.code != 0 {
        runs += 1;
        ensure!(runs < 50, "it never gets there");
    }
    line.cut(0, 0);
    let again = sender.ok(&["push", "hello@1", &address])?;
    ensure!(again.stderr.contains("has it already"), "{}", again.stderr);

    // Two at once: one has to read the index again.
    let mut children = Vec::new();
    for release in ["hello@2", "hello@3"] {
        children.push(sender.spawn(&["push", release, &address])?);
    }
    for mut child in children {
        ensure!(child.wait()?.success());
    }
    let home = Home::new("s3-receiver")?;
    line.cut(9, 4_000_000);
    let mut runs = 0;
    while home.run(&["clone", bucket, "hello", "--endpoint", &endpoint])?.code != 0 {
        runs += 1;
        ensure!(runs < 50, "it never gets there");
    }
    line.cut(0, 0);
    home.verify("hello@3")?;
    home.ok(&["pull", "hello@2"])?;

    // No secret is kept or shown, and a bucket that is not there is named.
    let entry = fs::read_to_string(home.0.join("store/entries/remote-1/origin"))?;
    assert_eq!(entry, address);
    let refused = sender.run(&["push", "hello@1", &address.replace("releases", "nowhere")])?;
    ensure!(refused.code == 1 && refused.stderr.contains("NoSuchBucket"), "{}", refused.stderr);
    ensure!(!refused.stderr.contains("Signature"), "{}", refused.stderr);
    let listed = home.json(&["remote"])?;
    assert_eq!(listed[0]["address"], Value::from(address));
    Ok(())
}
