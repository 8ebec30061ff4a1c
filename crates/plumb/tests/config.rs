//! What is set of a deployment: only those that are told of it restart, it goes back with its release, and a secret is
//! nowhere in clear.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
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
            "[config]\nlisting = \"off\"\nbody = { type = \"size\", default = \"2MiB\", unit = \"KiB\" }\ngreeting = { type = \"string\", default = \"hello\", max_length = 20 }\ntoken = { type = \"secret\" }\n\n[machine.web]\nconfig.\"/srv/www/greeting.txt\" = \"greeting.in\"\nconfig.\"/etc/nginx/conf.d/more.conf\" = \"more.in\"\n",
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
        // One that nginx does not know ends it.
        fs::write(
            folder.join("more.in"),
            "autoindex {config.listing};\nclient_max_body_size {config.body}k;\n",
        )?;
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

    /// Edits what is set with a script of sed in place of a person.
    fn edit(&self, script: &str) -> Result<Output> {
        let mut command = self.world.command(&["config", "edit", "hello"]);
        let output = command.env_remove("VISUAL").env("EDITOR", format!("sed -i {script}")).output()?;
        Ok(output)
    }

    /// Sets the same secret again with a key that a passphrase protects, and the passphrase, if there is one, in a file.
    fn again(&self, key: &Path, passphrase: Option<&str>) -> Result<(bool, String)> {
        // Without a terminal there is nobody to ask.
        let mut command = Command::new("setsid");
        command.args(["--wait", PLUMB, "secret", "set", "hello", "token", "--no-apply"]);
        command.env("PLUMB_HOME", self.world.home()).env("PLUMB_AGE_IDENTITY", key);
        let file = self.world.home().join("passphrase");
        if let Some(passphrase) = passphrase {
            fs::write(&file, format!("{passphrase}\n"))?;
            command.env("PLUMB_PASSPHRASE_FILE", &file);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        writeln!(child.stdin.take().context("a pipe")?, "{CANARY}")?;
        let output = child.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(!holds(&said), "it says the secret");
        Ok((output.status.success(), String::from_utf8(said)?))
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
    let refused = site.edit("'s/moin/much too long for a greeting/'")?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(said.contains("has 28 bytes, at most 20") && said.contains("goes on with it"), "{said}");
    let preset = site.edit("-e 's/much too.*\"/moin\"/' -e '$ a owner = \"ann\"'")?;
    ensure!(preset.status.success(), "what was written is mended: {preset:?}");
    ensure!(site.processes()? == before, "the release that runs knows no owner: {preset:?}");
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

    check_key_behind_passphrase(&site)?;

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

    check_return(&site)?;
    world.end()
}

/// The same key behind a passphrase opens what is sealed: the secret is the same, and nothing changes.
fn check_key_behind_passphrase(site: &Site) -> Result<()> {
    let plain = fs::read(site.world.home().join("secrets/identity.txt"))?;
    let recipient = age::scrypt::Recipient::new("correct horse".to_owned().into());
    let key = site.world.home().join("key.age");
    fs::write(&key, age::encrypt(&recipient, &plain)?)?;
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let (done, said) = site.again(&key, Some("correct horse"))?;
    ensure!(done && said.contains("hello has configuration 1, as before"), "{said}");
    let (done, said) = site.again(&key, Some("battery staple"))?;
    ensure!(!done && said.contains("key.age` with this passphrase"), "{said}");
    ensure!(!said.contains("staple"), "{said}");
    let (done, said) = site.again(&key, None)?;
    ensure!(!done && said.contains("there is no terminal to ask"), "{said}");
    ensure!(said.contains("PLUMB_PASSPHRASE_FILE"), "{said}");
    Ok(())
}

/// A value with which nginx does not start: killed in the middle and begun again, all goes back to what ran.
fn check_return(site: &Site) -> Result<()> {
    let world = &site.world;
    let (vault, web) = site.processes()?;
    let mut set = world.spawn(&["config", "set", "hello", "listing=perhaps"])?;
    wait_until("web is replaced", LIMIT, &mut || site.processes().is_ok_and(|(_, now)| now != web))?;
    set.kill()?;
    set.wait()?;
    let failed = world.run(&["config", "apply", "hello"])?;
    ensure!(failed.code == 1, "{}", failed.stderr);
    for part in ["did not become healthy with configuration 3, and is back at configuration 2", "perhaps"] {
        ensure!(failed.stderr.contains(part), "`{part}` is not in:\n{}", failed.stderr);
    }
    ensure!(site.greeting()?.starts_with("say moin "), "{}", site.greeting()?);
    let seen = site.ps()?;
    assert_eq!((&seen["configuration"], &seen["state"]), (&2.into(), &"ready".into()), "{seen}");
    let after = site.processes()?;
    ensure!(after.0 == vault, "who is not told of it runs on");
    world.ok(&["up", site.folder()?])?;
    ensure!(site.processes()? == after, "what failed is not tried again");
    Ok(())
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
