//! Who vouched for what: policies of channels, keys that come and go, and every kind of tampering, found before a machine
//! is started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{Output, World, copy_example, free_port, process_names};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Exit code where a signature or a digest does not hold.
const VERIFICATION: i32 = 3;

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

/// A world in which alice and bob have keys and alice made `hello@1`, whose `prod` asks for somebody's approval.
fn released(name: &str) -> Result<World> {
    let world = World::new(name, PLUMB)?;
    world.ok(&["key", "new", "alice", "--open"])?;
    let folder = copy_example(&world, "hello", "app", free_port()?)?;
    let definition = folder.join("plumb.toml");
    let channel = "\n[channel.prod]\nrequires = [\"approval\", \"channel:test\"]\n";
    fs::write(&definition, fs::read_to_string(&definition)? + channel)?;
    world.ok(&["release", text(&folder), "-m", "the first"])?;
    world.share()?;
    world.ok(&["key", "new", "bob", "--open"])?;
    let bob = world.ok(&["key", "show", "bob"])?.stdout;
    world.ok(&["trust", "add", "hello", "bob", bob.trim()])?;
    Ok(world)
}

fn refused(output: &Output, code: i32, why: &str) -> Result<()> {
    ensure!(
        output.code == code && output.stderr.contains(why),
        "{} {}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    Ok(())
}

#[test]
fn a_channel_gets_what_it_asks_for() -> Result<()> {
    let world = released("trust-channel")?;
    let missing = world.run(&["--key", "alice", "promote", "hello@1", "prod"])?;
    refused(&missing, 1, "`hello@1` lacks what channel `prod` asks for")?;
    refused(&missing, 1, "approval: 0 of 1 approved")?;
    refused(&missing, 1, "channel:test: it never was in channel `test`")?;

    // Nobody approves what they made themselves.
    world.ok(&["--key", "alice", "approve", "hello@1", "-m", "mine is good"])?;
    refused(
        &world.run(&["--key", "alice", "promote", "hello@1", "prod"])?,
        1,
        "who made the release does not count",
    )?;
    world.ok(&["--key", "bob", "approve", "hello@1", "-m", "looked at it"])?;
    world.ok(&["--key", "alice", "promote", "hello@1", "test"])?;
    let preview = world.ok(&["--key", "alice", "promote", "hello@test", "prod", "--dry-run"])?;
    ensure!(preview.stdout.contains("met      approval"), "{}", preview.stdout);
    refused(&world.run(&["channel", "hello", "prod"])?, 1, "has no channel `prod`")?;
    world.ok(&["--key", "alice", "promote", "hello@test", "prod", "-m", "for everybody"])?;
    let again = world.json(&["--key", "alice", "promote", "hello@1", "prod"])?;
    assert_eq!(again["changed"], Value::Bool(false), "promoting twice moves once");

    // An approval is taken back: what was promoted stays, and it would not be promoted again.
    world.ok(&["--key", "bob", "approve", "hello@1", "--withdraw", "-m", "it is slow"])?;
    let evidence = world.json(&["evidence", "hello@prod"])?;
    assert_eq!(evidence["channels"][0]["ready"], Value::Bool(false), "{evidence}");

    // A policy is loosened: the one of what the channel holds still counts.
    let definition = world.folder().join("app/plumb.toml");
    fs::write(&definition, fs::read_to_string(&definition)?.replace("\"approval\", \"channel:test\"", ""))?;
    world.ok(&[
        "--key",
        "alice",
        "release",
        text(definition.parent().context("a folder")?),
        "-m",
        "the second",
    ])?;
    let loosened = world.run(&["--key", "alice", "promote", "hello@2", "prod"])?;
    refused(&loosened, 1, "approval: 0 of 1 approved")?;

    world.ok(&["--key", "alice", "promote", "hello@2", "test"])?;
    world.ok(&["--key", "bob", "approve", "hello@2"])?;
    world.ok(&["--key", "bob", "promote", "hello@2", "prod"])?;
    world.ok(&["--key", "bob", "demote", "hello", "prod", "-m", "it is slower"])?;
    let history = world.json(&["channel", "hello", "prod"])?;
    let steps: Vec<String> = (history.as_array().context("a list")?.iter())
        .map(|step| format!("{} {} {}", step["sequence"], step["release"], step["by"][0]))
        .collect();
    assert_eq!(steps, ["3 \"hello@1\" \"bob\"", "2 \"hello@2\" \"bob\"", "1 \"hello@1\" \"alice\""]);
    let log = world.ok(&["log", "hello"])?.stdout;
    ensure!(log.contains("* hello@1 (prod)") && log.contains("* hello@2 (test)"), "{log}");

    // A key is taken out: nothing that only it signed counts any more.
    world.ok(&["--key", "alice", "trust", "remove", "hello", "bob"])?;
    let gone = world.run(&["show", "hello@prod"])?;
    refused(&gone, VERIFICATION, "no trusted key signed it")?;
    refused(
        &world.run(&["--key", "bob", "approve", "hello@1"])?,
        1,
        "no key on this host may sign for `hello`",
    )?;
    world.end()
}

/// Changes a file for the time of `look`.
fn tampered(
    path: &Path,
    change: impl FnOnce(&str) -> String,
    look: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = fs::read(path)?;
    let text = String::from_utf8_lossy(&before).into_owned();
    let after = change(&text);
    ensure!(after != text, "{}: nothing was changed", path.display());
    fs::remove_file(path)?;
    fs::write(path, after)?;
    look().with_context(|| path.display().to_string())?;
    if path.exists() {
        fs::remove_file(path)?;
    }
    fs::write(path, before)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o444))?;
    Ok(())
}

fn no_machine() -> Result<()> {
    let machines = process_names("test-worlds/trust-tampered/home")?;
    let machines: Vec<_> = machines.iter().filter(|(_, line)| line.contains("qemu")).collect();
    ensure!(machines.is_empty(), "{machines:?}");
    Ok(())
}

/// The only file in a folder.
fn only(folder: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)?;
    Ok(files.next().with_context(|| format!("{} is empty", folder.display()))??.path())
}

/// A promotion cannot be moved to another channel, or to another place in it.
fn replayed(world: &World) -> Result<()> {
    let store = world.home().join("store");
    fs::create_dir_all(store.join("channels/hello/prod"))?;
    fs::copy(store.join("channels/hello/dev/1"), store.join("channels/hello/prod/1"))?;
    refused(
        &world.run(&["up", "hello@prod"])?,
        VERIFICATION,
        "the history of `hello@prod` is broken at promotion 1",
    )?;
    fs::remove_dir_all(store.join("channels/hello/prod"))?;
    fs::copy(store.join("channels/hello/dev/1"), store.join("channels/hello/dev/2"))?;
    refused(
        &world.run(&["up", "hello@dev"])?,
        VERIFICATION,
        "the history of `hello@dev` is broken at promotion 2",
    )?;
    fs::remove_file(store.join("channels/hello/dev/2"))?;
    Ok(())
}

fn key_that_others_read(world: &World) -> Result<()> {
    let key = world.home().join("keys/alice.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    refused(
        &world.run(&["--key", "alice", "approve", "hello@1"])?,
        VERIFICATION,
        "can be read by others (mode 644)",
    )?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

#[test]
fn tampering_is_found_before_a_machine_starts() -> Result<()> {
    let world = released("trust-tampered")?;
    world.ok(&["--key", "alice", "promote", "hello@1", "dev"])?;
    let store = world.home().join("store");
    let shown = world.json(&["show", "hello@dev"])?;
    let web = &shown["images"]["web"];
    let object = |value: &Value| -> Result<PathBuf> { Ok(world.object(value.as_str().context("a digest")?)) };
    let up = |why: &str| -> Result<()> {
        refused(&world.run(&["up", "hello@dev"])?, VERIFICATION, why)?;
        no_machine()
    };
    let flip = |text: &str| format!("{}~", &text[..text.len() - 1]);

    // Objects: what the hypervisor would start, and what says which they are.
    for part in ["kernel", "initrd"] {
        let path = object(&web[part]["digest"])?;
        let before = fs::read(&path)?;
        let mut after = before.clone();
        let middle = after.len() / 2;
        after[middle] ^= 1;
        fs::remove_file(&path)?;
        fs::write(&path, after)?;
        up("is damaged").with_context(|| part.to_owned())?;
        fs::write(&path, before)?;
    }
    tampered(
        &object(&shown["release"]["content"]["machines"]["web"]["image"])?,
        |t| t.replace("root", "toor"),
        || up("is damaged"),
    )?;

    // Records: the release, what vouches for it, where the channel points to, who is trusted.
    tampered(
        &store.join("releases/hello/1"),
        |t| t.replace("\"memory_mib\":128", "\"memory_mib\":256"),
        || up("it is about another `hello@1`"),
    )?;
    let statement = only(&store.join("statements/hello/1"))?;
    tampered(&statement, flip, || up("is not signed by anybody who is trusted"))?;
    let wrong = statement.with_file_name("0".repeat(64));
    fs::rename(&statement, &wrong)?;
    up("is not signed by anybody who is trusted")?;
    fs::rename(&wrong, &statement)?;
    tampered(
        &store.join("channels/hello/dev/1"),
        |t| t.replace("\"sig\":\"", "\"sig\":\"AAAA"),
        || up("promotion 1 of `hello@dev` does not hold"),
    )?;
    tampered(
        &store.join("trust/hello/1"),
        |t| t.replace("alice", "mallo"),
        || up("version 1 of the trust of `hello` does not hold"),
    )?;
    tampered(
        &store.join("trust/hello/2"),
        |t| t.replace("\"threshold\":1", "\"threshold\":2"),
        || up("version 2 of the trust of `hello` does not hold"),
    )?;

    replayed(&world)?;
    key_that_others_read(&world)?;
    // Everything is as it was: it starts.
    world.ok(&["up", "hello@dev"])?;
    world.end()
}

#[test]
fn two_must_sign_a_change_of_trust() -> Result<()> {
    let world = released("trust-threshold")?;
    let bob = world.ok(&["key", "show", "bob"])?.stdout;
    world.ok(&["trust", "add", "hello", "bob", bob.trim(), "--role", "root,targets,snapshot,timestamp"])?;
    world.ok(&["trust", "threshold", "hello", "root", "2"])?;
    // Bob is away.
    let (key, away) = (world.home().join("keys/bob.pem"), world.folder().join("bob.pem"));
    fs::rename(&key, &away)?;
    world.ok(&["key", "new", "carol", "--open"])?;
    let carol = world.ok(&["key", "show", "carol"])?.stdout;
    let waits = world.json(&["trust", "add", "hello", "carol", carol.trim()])?;
    assert_eq!(
        (&waits["version"], &waits["draft"]["signed_by"][0]),
        (&Value::from(4), &Value::from("alice")),
        "{waits}"
    );
    refused(&world.run(&["--key", "carol", "approve", "hello@1"])?, 1, "no key on this host may sign")?;
    refused(&world.run(&["trust", "renew", "hello"])?, 1, "another change waits for signatures")?;
    // He is back, and signs the file that was sent to him.
    let draft = world.folder().join("draft.json");
    fs::write(&draft, world.ok(&["trust", "draft", "hello"])?.stdout)?;
    fs::rename(&away, &key)?;
    let signed = world.json(&["trust", "sign", "hello", text(&draft)])?;
    assert_eq!((&signed["version"], &signed["draft"]), (&Value::from(5), &Value::Null), "{signed}");
    world.ok(&["--key", "carol", "approve", "hello@1"])?;
    let all = world.run(&["trust", "threshold", "hello", "root", "3"])?;
    refused(&all, 1, "3 signatures are asked of 2 keys for root")?;
    world.end()
}
