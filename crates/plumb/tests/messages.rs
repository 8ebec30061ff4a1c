//! What the program says when something is wrong: no machines, no network.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::Result;
use expect_test::{Expect, expect};
use testkit::World;

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Runs `arguments` in a folder with `definition` and compares what is said; the folder's own name is left out.
fn check(
    name: &str,
    definition: Option<&str>,
    arguments: &[&str],
    code: i32,
    expected: &Expect,
) -> Result<()> {
    let world = World::new(&format!("messages-{name}"), PLUMB)?;
    if let Some(text) = definition {
        fs::create_dir_all(world.folder().join("app"))?;
        fs::write(world.folder().join("app/plumb.toml"), text)?;
    }
    let output = world.run(arguments)?;
    expected.assert_eq(&format!("{}{}", output.stdout, output.stderr));
    assert_eq!(output.code, code);
    world.end()
}

#[test]
fn an_unknown_key() -> Result<()> {
    check(
        "key",
        Some("app = \"shop\"\n[machine.web]\nmiddleware = [\"nginx-light\"]\nmemmory = \"256MiB\"\n"),
        &["up", "app"],
        1,
        &expect![[r#"
            error: `app/plumb.toml` line 4: unknown key `memmory` in `[machine.web]`
              |
            4 | memmory = "256MiB"
              | ^^^^^^^
            hint: Did you mean `memory`?
        "#]],
    )
}

#[test]
fn no_definition() -> Result<()> {
    check(
        "none",
        None,
        &["up", "."],
        1,
        &expect![[r#"
        error: there is no `plumb.toml` in `.`
        hint: `plumb init hello` makes a folder with a small application
    "#]],
    )
}

#[test]
fn neither_folder_nor_release() -> Result<()> {
    check(
        "what",
        None,
        &["up", "shoop"],
        1,
        &expect![[r#"
        error: `shoop` is neither a folder with a `plumb.toml` nor a release such as `shop@3`
        hint: `plumb log` lists the releases
    "#]],
    )
}

#[test]
fn no_such_release() -> Result<()> {
    check(
        "release",
        None,
        &["up", "shop@7"],
        1,
        &expect![[r#"
        error: there is no release `shop@7`
        hint: `plumb log shop` lists the releases
    "#]],
    )
}

#[test]
fn no_such_deployment() -> Result<()> {
    check(
        "deployment",
        None,
        &["down", "shop"],
        1,
        &expect![[r#"
        error: there is no deployment `shop` on this host
        hint: `plumb up` in a folder with a definition starts one
    "#]],
    )
}

#[test]
fn no_such_instance() -> Result<()> {
    check(
        "instance",
        None,
        &["logs", "web-1"],
        1,
        &expect![[r#"
        error: there is no instance `web-1`
    "#]],
    )
}

#[test]
fn no_such_template() -> Result<()> {
    check(
        "template",
        None,
        &["init", "shoop"],
        1,
        &expect![[r#"
        error: there is no template `shoop`
        hint: there is `hello`, `shop`
    "#]],
    )
}

#[test]
fn offline_without_indices() -> Result<()> {
    let definition = "app = \"none\"\n[base]\nmirror = \"http://127.0.0.1:9/debian\"\n[machine.web]\nmiddleware = [\"nginx-light\"]\nservice.nginx = {}\n";
    check(
        "offline",
        Some(definition),
        &["lock", "app", "--offline"],
        1,
        &expect![[r#"
        error: offline, and the state of `http://127.0.0.1:9/debian` `bookworm` is not in the store
        hint: Run the command once without `--offline`.
    "#]],
    )
}

#[test]
fn a_lock_that_is_not_there() -> Result<()> {
    let definition = "app = \"none\"\n[machine.web]\nmiddleware = [\"nginx-light\"]\nservice.nginx = {}\n";
    check(
        "check",
        Some(definition),
        &["lock", "app", "--check"],
        1,
        &expect![[r#"
        error: `app/plumb.lock` does not fit the definition any more: there is none yet
        hint: `plumb lock` brings it up to date and keeps the versions it has
    "#]],
    )
}

#[test]
fn errors_as_json() -> Result<()> {
    check(
        "json",
        None,
        &["down", "shop", "--json"],
        1,
        &expect![[r#"
        {
          "causes": [],
          "console": null,
          "error": "there is no deployment `shop` on this host",
          "hints": [
            "`plumb up` in a folder with a definition starts one"
          ]
        }
    "#]],
    )
}

#[test]
fn nothing_runs() -> Result<()> {
    check(
        "ps",
        None,
        &["ps"],
        0,
        &expect![[r#"
        Nothing runs. `plumb up` in a folder with a definition starts an application.
    "#]],
    )
}

#[test]
fn a_reader_that_goes_and_a_full_disk() {
    let plumb = |stdout: Stdio| {
        let mut command = Command::new(PLUMB);
        command
            .args(["completions", "bash"])
            .stdin(Stdio::null())
            .stdout(stdout)
            .output()
            .expect("plumb runs")
    };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = plumb(writer.into());
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = plumb(full.into());
    expect![[r#"
        error: cannot write to standard output
        caused by: No space left on device (os error 28)
    "#]]
    .assert_eq(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
}
