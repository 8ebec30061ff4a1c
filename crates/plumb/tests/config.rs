//! What is set of a deployment: only those that are told of it restart, it goes back with its release, and a secret is
//! nowhere in clear.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, copy_example, free_port, get, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Nothing else on this machine is called so.
const CANARY: &str = "canary-4f1d9c52e7";

/// A start under emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// Two machines: `web` shows a value, `vault` a secret.
struct Site {
    world: World,
    folder: PathBuf,
    web: u16,
    vault: u16,
}

impl Site {
    fn new(name: &str) -> Result<Site> {
        let world = World::new(name, PLUMB)?;
        let (web, vault) = (free_port()?, free_port()?);
        let folder = copy_example(&world, "hello", "hello", web)?;
        let text = fs::read_to_string(folder.join("plumb.toml"))?;
        let (head, _) = text.split_once("# What `plumb test`").context("checks")?;
        let definition = head.replace(
            "[machine.web]\n",
            "[config]\ngreeting = { type = \"string\", default = \"hello\", max_length = 20 }\ntoken = { type = \"secret\" }\n\n[machine.web]\nconfig.\"/srv/www/greeting.txt\" = \"greeting.in\"\n",
        );
        let second = format!(
            "\n[machine.vault]\nmiddleware = [\"nginx-light\"]\nmemory = \"128MiB\"\npublish = [\"{vault}:80\"]\n\
             app = {{ \"/srv/www\" = \"www/\", \"/etc/nginx/sites-enabled/default\" = \"hello.conf\" }}\n\
             config.\"/srv/www/token.txt\" = {{ from = \"token.in\", owner = \"www-data\", mode = \"0400\" }}\n\
             service.nginx = {{ ready.http = \":80/\", environment = {{ TOKEN_FILE = \"{{secret-file.token}}\" }} }}\n"
        );
        fs::write(folder.join("plumb.toml"), definition + &second)?;
        fs::write(folder.join("greeting.in"), "say {config.greeting} { and {{config.greeting}\n")?;
        fs::write(folder.join("token.in"), "{secret.token}\n")?;
        Ok(Site { world, folder, web, vault })
    }

    fn folder(&self) -> Result<&str> {
        self.folder.to_str().context("UTF-8")
    }

    /// Gives a secret by standard input.
    fn secret(&self, value: &str) -> Result<()> {
        let mut command = self.world.command(&["secret", "set", "hello", "token"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        writeln!(child.stdin.take().context("a pipe")?, "{value}")?;
        ensure!(child.wait()?.success(), "the secret is set");
        Ok(())
    }

    fn ps(&self) -> Result<Value> {
        Ok(self.world.json(&["ps", "hello"])?[0].clone())
    }

    /// Processes of `vault-1` and `web-1`.
    fn processes(&self) -> Result<(i64, i64)> {
        let seen = self.ps()?;
        let of = |name: &str| {
            let all = seen["instances"].as_array()?;
            all.iter().find(|one| one["name"] == name)?["pid"].as_i64()
        };
        Ok((of("vault-1").context("vault-1")?, of("web-1").context("web-1")?))
    }

    fn greeting(&self) -> Result<String> {
        Ok(get(self.web, "/greeting.txt")?.body)
    }

    fn token(&self) -> Result<String> {
        Ok(get(self.vault, "/token.txt")?.body)
    }
}

#[test]
fn what_is_set_reaches_those_that_use_it_and_goes_back_with_its_release() -> Result<()> {
    let site = Site::new("config")?;
    let world = &site.world;
    let refused = world.run(&["up", site.folder()?])?;
    ensure!(refused.code == 1 && refused.stderr.contains("secret `token` is not set"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("plumb secret set hello token"), "{}", refused.stderr);
    let argument = world.run(&["config", "set", "hello", &format!("token={CANARY}")])?;
    ensure!(argument.code == 1 && argument.stderr.contains("never an argument"), "{}", argument.stderr);
    site.secret(CANARY)?;
    world.ok(&["up", site.folder()?])?;
    world.share()?;
    ensure!(site.greeting()? == "say hello { and {config.greeting}\n", "{}", site.greeting()?);
    ensure!(site.token()? == format!("{CANARY}\n"), "the secret is there");
    let (vault, web) = site.processes()?;

    // A value: one machine.
    let typing_error = world.run(&["config", "set", "hello", "greting=x"])?;
    ensure!(typing_error.stderr.contains("did you mean `greeting`?"), "{}", typing_error.stderr);
    world.ok(&["config", "set", "hello", "greeting=moin"])?;
    ensure!(site.greeting()?.starts_with("say moin "), "{}", site.greeting()?);
    let (same, other) = site.processes()?;
    ensure!(same == vault && other != web, "only who is told of it restarts");
    let entries = world.json(&["config", "log", "hello"])?;
    assert_eq!(entries[1]["changes"][0]["after"], "moin", "{entries}");

    // An upgrade, another value, and the way back, pair by pair.
    fs::write(site.folder.join("www/index.html"), "<h1>second</h1>\n")?;
    world.ok(&["up", site.folder()?])?;
    world.ok(&["config", "set", "hello", "greeting=ahoj"])?;
    world.ok(&["rollback", "hello"])?;
    let seen = site.ps()?;
    assert_eq!((&seen["release"], &seen["configuration"]), (&"hello@2".into(), &2.into()), "{seen}");
    ensure!(site.greeting()?.starts_with("say moin "), "{}", site.greeting()?);
    world.ok(&["rollback", "hello"])?;
    let seen = site.ps()?;
    assert_eq!((&seen["release"], &seen["configuration"]), (&"hello@1".into(), &2.into()), "{seen}");
    ensure!(get(site.web, "/")?.body.contains("Hello"), "the first release");

    // A release that needs more than is set is refused before anything stops.
    let before = site.processes()?;
    let text = fs::read_to_string(site.folder.join("plumb.toml"))?;
    let text = text.replace("token = {", "owner = { type = \"string\" }\ntoken = {");
    fs::write(site.folder.join("plumb.toml"), text)?;
    fs::write(site.folder.join("greeting.in"), "say {config.greeting} to {config.owner}\n")?;
    world.ok(&["release", site.folder()?])?;
    let refused = world.run(&["upgrade", "hello"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("`owner` is not set"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("plumb config set hello owner=VALUE"), "{}", refused.stderr);
    ensure!(site.processes()? == before, "nothing has stopped");
    let preset = world.json(&["config", "set", "hello", "owner=ann"])?;
    ensure!(site.processes()? == before, "the release that runs knows no owner: {preset}");
    world.ok(&["upgrade", "hello"])?;
    ensure!(site.greeting()? == "say moin to ann\n", "{}", site.greeting()?);
    world.end()
}

#[test]
fn a_secret_is_nowhere_in_clear_and_what_was_set_is_applied_after_a_kill() -> Result<()> {
    let site = Site::new("config-secret")?;
    let world = &site.world;
    ensure!(world.run(&["up", site.folder()?])?.code == 1, "a secret is missing");
    site.secret(CANARY)?;
    let up = world.ok(&["up", site.folder()?])?;
    ensure!(site.token()? == format!("{CANARY}\n"), "the secret is there");
    let (vault, web) = site.processes()?;

    let mut said = up.stdout + &up.stderr;
    for command in [
        &["ps", "--json"][..],
        &["config", "show", "hello", "--json"],
        &["plan", "hello", "--steps", "--json"],
        &["show", "hello@1", "--json"],
    ] {
        let output = world.ok(command)?;
        said = said + &output.stdout + &output.stderr;
    }
    ensure!(!said.contains(CANARY), "a command says it: {said}");
    for pid in [vault, web] {
        for part in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{part}"))?;
            ensure!(!holds(&bytes), "it is in /proc/{pid}/{part}");
        }
    }
    let found = files_with_canary(world.folder())?;
    ensure!(found.is_empty(), "in clear: {found:?}");

    // The key is rotated: what is sealed opens for the new one only.
    let before = fs::read(world.home().join("secrets/identity.txt"))?;
    world.ok(&["secret", "rotate-key"])?;
    ensure!(fs::read(world.home().join("secrets/identity.txt"))? != before, "another key");
    ensure!(site.processes()? == (vault, web), "nothing restarts for that");

    // Killed between setting and applying.
    let mut set = world.spawn(&["config", "set", "hello", "greeting=moin"])?;
    wait_until("it is set", LIMIT, &mut || {
        world
            .json(&["config", "log", "hello"])
            .is_ok_and(|all| all.as_array().is_some_and(|all| all.len() == 2))
    })?;
    set.kill()?;
    set.wait()?;
    world.ok(&["up", site.folder()?])?;
    ensure!(site.greeting()?.starts_with("say moin "), "{}", site.greeting()?);
    assert_eq!(site.ps()?["configuration"], 2);
    ensure!(site.token()? == format!("{CANARY}\n"), "the secret is still there");
    world.end()
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes())
}

/// Files below a folder that hold the canary: the home with state, journal, plans, logs, consoles, images and releases.
fn files_with_canary(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut left, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() && holds(&fs::read(&path)?) {
                found.push(path);
            }
        }
    }
    Ok(found)
}
