//! A container registry: Debian's docker-registry, and skopeo as the tool that others have.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{Registry, printed};

use super::base::{Home, base, text_of};
use super::server::{Line, empty};

#[test]
fn a_release_travels_by_a_registry_and_other_tools_copy_it() -> Result<()> {
    let base = base()?;
    let folder = empty(base.world.folder().join("registry"))?;
    let registry = Registry::start(&folder, "")?;
    let port = registry.port;
    let line = Line::start(port)?;
    let address = format!("oci://127.0.0.1:{}/team/releases", line.port);
    let whole = base.world.json(&["push", "hello@1", &address, "--dry-run"])?["bytes"].as_u64();
    let whole = whole.context("bytes")?;
    for step in 1..=3 {
        let begun = line.total();
        let mut child = base.world.spawn(&["push", "hello@1", &address])?;
        if !line.kill_after(begun + whole * step / 5, &mut child)? {
            continue;
        }
        let home = Home::new("oci-early")?;
        let refused = home.run(&["clone", &address, "hello"])?;
        ensure!(
            refused.code == 1 && refused.stderr.contains("has no release of `hello`"),
            "{}",
            refused.stderr
        );
    }
    line.cut(3, 30_000_000);
    let mut runs = 0;
    while base.world.run(&["push", "hello@1", &address])?.code != 0 {
        runs += 1;
        ensure!(runs < 50, "it never gets there");
    }
    line.cut(0, 0);
    let report = folder.join("report.txt");
    fs::write(&report, "attached to evidence\n")?;
    base.world.ok(&["evidence", "add", "hello@2", "reviewed", "--attach", text_of(&report)])?;
    assert_eq!(base.world.json(&["push", "hello@2", &address])?["reports"]["files"], 1);
    let home = Home::new("oci-receiver")?;
    line.cut(5, 4_000_000);
    let mut runs = 0;
    while home.run(&["clone", &address, "hello"])?.code != 0 {
        runs += 1;
        ensure!(runs < 50, "it never gets there");
    }
    line.cut(0, 0);
    home.verify("hello@2")?;

    others_copy_it(port)?;

    // What the registry's own garbage collection finds unused is nothing of ours.
    let config = folder.join("registry.yml");
    printed(Command::new("docker-registry").args(["garbage-collect", text_of(&config)]))?;
    let after = Home::new("oci-after")?;
    let cloned = after.json(&["clone", &address, "hello"])?;
    assert_eq!(
        (&cloned["reports"]["files"], &cloned["reports"]["absent"]),
        (&1.into(), &0.into()),
        "{cloned}"
    );
    after.verify("hello@2")
}

/// Listed and copied by a tool that knows nothing of Plumb: to another repository, from which a release comes as well.
fn others_copy_it(port: u16) -> Result<()> {
    let host = format!("127.0.0.1:{port}");
    let tags = printed(
        Command::new("skopeo")
            .args(["list-tags", "--tls-verify=false"])
            .arg(format!("docker://{host}/team/releases")),
    )?;
    let tags: Value = serde_json::from_str(&tags)?;
    let tags = tags["Tags"].as_array().context("tags")?;
    for tag in ["plumb.json", "apps_hello_metadata_timestamp.json", "hello.documents", "hello.1", "hello.2"] {
        ensure!(tags.contains(&Value::from(tag)), "{tags:?}");
    }
    for tag in tags.iter().filter_map(Value::as_str) {
        printed(
            Command::new("skopeo")
                .args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"])
                .args([
                    format!("docker://{host}/team/releases:{tag}"),
                    format!("docker://{host}/copied:{tag}"),
                ]),
        )?;
    }
    let copied = Home::new("oci-copied")?;
    copied.ok(&["clone", &format!("oci://{host}/copied"), "hello"])?;
    copied.verify("hello@2")
}

#[test]
fn a_registry_that_wants_a_login_gets_that_of_other_tools() -> Result<()> {
    let base = base()?;
    let folder = empty(base.world.folder().join("registry-login"))?;
    let file = folder.join("htpasswd");
    // The form that the registry reads: bcrypt.
    let made = printed(Command::new("python3").args([
        "-c",
        "import crypt; print('me:' + crypt.crypt('secret', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))",
    ]))?;
    fs::write(&file, made.replace("$2b$", "$2y$"))?;
    let extra = format!("auth: {{ htpasswd: {{ realm: x, path: {} }} }}\n", file.display());
    let registry = Registry::start(&folder, &extra)?;
    let port = registry.port;
    let address = format!("oci://127.0.0.1:{port}/releases");
    let refused = base.world.run(&["push", "hello@1", &address])?;
    assert_eq!(refused.code, 1);
    ensure!(refused.stderr.contains("only for those who log in\nhint:"), "{}", refused.stderr);
    let login = folder.join("auth.json");
    // `me:secret`.
    fs::write(&login, format!("{{\"auths\":{{\"127.0.0.1:{port}\":{{\"auth\":\"bWU6c2VjcmV0\"}}}}}}"))?;
    let mut command = base.world.command(&["push", "hello@1", &address]);
    let output = command.env("REGISTRY_AUTH_FILE", &login).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
