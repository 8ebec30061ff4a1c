//! Two homes with one state on a PostgreSQL server: whose a deployment is, and a server that dies in the middle.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{Output, Postgres, World, copy_example, free_port, get, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// What a start may take under emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(300);

fn refused(output: &Output, said: &str) -> Result<()> {
    ensure!(output.code == 1 && output.stderr.contains(said), "{said}: {output:?}");
    Ok(())
}

#[test]
fn a_team_shares_a_state_and_a_server_that_dies_ends_only_the_command() -> Result<()> {
    let mut server = Postgres::start()?;
    server.database("team")?;
    let address = server.address("team");
    let (ann, bob) = (World::new("team-state-ann", PLUMB)?, World::new("team-state-bob", PLUMB)?);
    let port = free_port()?;
    let folder = copy_example(&ann, "hello", "hello", port)?;
    let app = folder.to_str().context("UTF-8")?;
    ann.ok(&["up", app])?;
    ann.share()?;

    // Nothing gets out of sight: first the copy, then the use.
    refused(&ann.run(&["state", "use", &address])?, "does not know `hello` as it is now")?;
    let copied = ann.json(&["state", "copy", &address])?;
    ensure!(copied["deployments"] == 1, "{copied}");
    refused(&ann.run(&["state", "copy", &address])?, "has deployment `hello` already")?;
    ann.ok(&["state", "use", &address])?;
    let seen = ann.json(&["ps"])?;
    ensure!(seen[0]["state"] == "ready" && seen[0]["host"].is_null(), "{seen}");

    // Others see it, and do nothing to it.
    bob.ok(&["state", "use", &address])?;
    let seen = bob.json(&["ps"])?;
    ensure!(seen[0]["state"] == "elsewhere" && seen[0]["release"] == "hello@1", "{seen}");
    let host = seen[0]["host"].as_str().context("a host")?.to_owned();
    ensure!(bob.ok(&["ps"])?.stdout.starts_with(&format!("hello  hello@1  on {host}")));
    for command in [
        &["down", "hello"][..],
        &["down", "hello", "--volumes"],
        &["upgrade", "hello"],
        &["lease", "renew", "hello"],
    ] {
        refused(&bob.run(command)?, &format!("deployment `hello` runs on host `{host}`, not on this one"))?;
    }
    ensure!(get(port, "/")?.status == 200, "it runs on");

    // The server dies after the first step of a plan: the command ends, what runs goes on, the same command converges.
    ann.ok(&["down", "hello"])?;
    let mut up = ann.command(&["up", "hello@1"]);
    let child = up.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn()?;
    wait_until("a step is done", LIMIT, &mut || {
        let sql = "SELECT count(*) FROM step JOIN plan USING (deployment, generation) WHERE plan.status = 'running'";
        server.sql("team", sql).is_ok_and(|count| count.trim() != "0")
    })?;
    server.kill()?;
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.code() == Some(1) && said.contains("cannot write the state"), "{said}");
    ensure!(said.contains("hint: ") && said.contains("the same command again goes on"), "{said}");
    refused(&ann.run(&["ps"])?, "cannot reach the state")?;
    server.go()?;
    let seen = ann.json(&["ps", "hello"])?;
    ensure!(seen[0]["note"].as_str().is_some_and(|note| note.contains("was interrupted")), "{seen}");
    ann.ok(&["up", "hello@1"])?;
    ensure!(ann.json(&["ps", "hello"])?[0]["state"] == "ready" && get(port, "/")?.status == 200);

    // And back into the home's own file: not the old one.
    refused(&ann.run(&["state", "use", "local"])?, "does not know `hello` as it is now")?;
    std::fs::rename(ann.home().join("state.db"), ann.home().join("old.db"))?;
    ann.ok(&["state", "copy", "local"])?;
    ann.ok(&["state", "use", "local"])?;
    ensure!(ann.json(&["ps", "hello"])?[0]["state"] == "ready");
    ann.end()?;
    bob.end()
}
