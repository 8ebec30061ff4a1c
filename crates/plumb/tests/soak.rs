//! The shop's database under a client that never stops writing, while the set is upgraded and rolled back and something
//! fails at a random moment of each. `cargo xtask soak --rounds 100` goes on for as long as one likes; CI takes the
//! first, which only real machines can show.

use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{Rows, Table, World, copy_example, free_port, process_names, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Longest time for one command on a starved emulator.
const LIMIT: Duration = Duration::from_secs(600);

/// How many rounds, and where the dice start.
const ROUNDS: &str = "PLUMB_SOAK_ROUNDS";
const SEED: &str = "PLUMB_SOAK_SEED";
const ROUNDS_OF_CI: u32 = 1;

/// Longest time that a machine is paused.
const PAUSE: Duration = Duration::from_secs(4);

/// Between two rows: all that were ever written are read after every round.
const PACE: Duration = Duration::from_millis(10);

/// What happens at a random moment of an upgrade or a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Everything on the host is gone at once, as when the power goes: machines, keeper, command and run state.
    PowerCut,
    /// `kill -9` of the command.
    Command,
    /// `kill -9` of the database's machine.
    Database,
    /// `kill -9` of any machine.
    Machine,
    /// `kill -9` of the keeper.
    Keeper,
    /// A machine stands still for a while.
    Pause,
    /// The release does not become healthy.
    BrokenRelease,
    /// Nothing: the way there and back.
    Nothing,
}

const FAULTS: [Fault; 8] = [
    Fault::PowerCut,
    Fault::Database,
    Fault::Command,
    Fault::Machine,
    Fault::Keeper,
    Fault::Pause,
    Fault::BrokenRelease,
    Fault::Nothing,
];

/// xorshift64: the same faults at the same points of every run with one seed, as far as a host keeps time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }

    /// A moment before `end`.
    fn time(&mut self, end: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(end.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A little time on the way to a random moment, without a processor for it.
fn rest() {
    #[expect(clippy::disallowed_methods, reason = "it is time that is waited for, and nothing else")]
    std::thread::sleep(Duration::from_millis(1));
}

/// The shop with two healthy releases, between which every machine changes, and a broken one.
struct Shop {
    world: World,
    rows: Arc<Rows>,
    /// Number of the release that runs.
    runs: u32,
    /// What starting all of it takes, undisturbed: about what an upgrade takes.
    undisturbed: Duration,
}

impl Shop {
    fn new() -> Result<Shop> {
        let world = World::new("soak", PLUMB)?;
        let (web, database) = (free_port()?, free_port()?);
        let mut lock = None;
        for (number, example) in [(1, "shop/v2"), (2, "shop/v2"), (3, "shop/v3")] {
            let folder = copy_example(&world, example, &format!("v{number}"), web)?;
            let definition = folder.join("plumb.toml");
            let text = fs::read_to_string(&definition)?;
            let published = format!("[machine.db]\npublish = [\"{database}:5432\"]\n");
            let text = text.replace("[machine.db]\n", &published);
            fs::write(&definition, text.replace("fence = \"this\"\n", "").replace("fence = 2\n", ""))?;
            // The port is published for the client of this test only.
            let hba = folder.join("db/pg_hba.conf");
            fs::write(&hba, format!("{}host shop shop all trust\n", fs::read_to_string(&hba)?))?;
            for file in ["db/version", "api/version", "web/shop.conf"] {
                let file = folder.join(file);
                let text = fs::read_to_string(&file).unwrap_or_default();
                fs::write(file, format!("{text}# release {number}\n"))?;
            }
            let locked = folder.join("plumb.lock");
            match &lock {
                Some(lock) => drop(fs::copy(lock, &locked)?),
                None => lock = Some(locked),
            }
            world.ok(&["release", folder.to_str().context("UTF-8")?])?;
            world.share()?;
        }
        let began = Instant::now();
        world.ok(&["up", "shop@1"])?;
        let undisturbed = began.elapsed();
        let rows = Rows::new(Table {
            address: format!("host=127.0.0.1 port={database} user=shop dbname=shop"),
            insert: "INSERT INTO soak (id) VALUES ($1)",
            pace: PACE,
            select: "SELECT id FROM soak ORDER BY id",
        });
        // Beside the orders: the shop looks through all of those for its page, and there are more than any shop has.
        rows.talk(async |client| {
            Ok(client.batch_execute("CREATE TABLE soak (id bigint PRIMARY KEY)").await?)
        })?;
        Ok(Shop { world, rows: Arc::new(rows), runs: 1, undisturbed })
    }

    /// The command that leads to a release, by its own name for the direction.
    fn way(&self, to: u32) -> [String; 3] {
        let way = if to > self.runs { "upgrade" } else { "rollback" };
        [way.into(), "shop".into(), format!("shop@{to}")]
    }

    /// One way with one fault; afterwards the next command leads to its end, and no row is lost.
    fn round(&mut self, fault: Fault, dice: &mut Dice) -> Result<String> {
        let to = match fault {
            Fault::BrokenRelease => 3,
            _ => 3 - self.runs,
        };
        let before = self.rows.last();
        let mut command = self.world.spawn(&self.way(to).each_ref().map(String::as_str))?;
        let after = dice.time(self.undisturbed);
        let end = Instant::now() + after;
        while Instant::now() < end && command.try_wait()?.is_none() {
            rest();
        }
        let hit = self.happens(fault, &mut command, dice).with_context(|| format!("{fault:?}"))?;
        let code = self.end_of(&mut command)?;
        let to = if fault == Fault::BrokenRelease {
            ensure!(matches!(code, Some(1 | 4)), "a broken release was taken: exit code {code:?}");
            if code == Some(4) {
                // On a starved host what ran before did not become ready in its time either, and the next command goes on.
                self.world.ok(&["up", &format!("shop@{}", self.runs)])?;
            }
            self.runs
        } else {
            // Whoever sees what was left needs nothing but the way to where it should go.
            self.world.ok(&["up", &format!("shop@{to}")])?;
            to
        };
        self.runs = to;
        self.ensure_whole(to)?;
        self.rows.go_on()?;
        let last = self.rows.last();
        self.rows.ensure_held(&self.rows.stored()?, last)?;
        Ok(format!(
            "{hit} {} ms after its start; the command ended with {}; {} rows meanwhile",
            after.as_millis(),
            code.map_or("a signal".to_owned(), |code| code.to_string()),
            last - before
        ))
    }

    /// Does it, and says what was hit.
    fn happens(&self, fault: Fault, command: &mut Child, dice: &mut Dice) -> Result<String> {
        match fault {
            Fault::Nothing | Fault::BrokenRelease => return Ok("nothing".into()),
            Fault::Command => {
                // It may have ended by itself.
                let _ = command.kill();
                return Ok("its own process".into());
            }
            Fault::PowerCut => {
                let _ = command.kill();
                return self.power_cut();
            }
            _ => {}
        }
        let mut found = match fault {
            Fault::Database => self.processes("plumb/shop/db-1")?,
            Fault::Keeper => self.processes(" keeper ")?,
            _ => self.processes("plumb/shop/")?,
        };
        // Between the end of one and the start of the next there is none.
        if found.is_empty() {
            return Ok("nobody (none ran)".into());
        }
        let chosen = usize::try_from(dice.below(found.len() as u64))?;
        let (pid, name) = found.swap_remove(chosen);
        if fault == Fault::Pause {
            let pause = dice.time(PAUSE);
            signal(pid, "-STOP")?;
            let end = Instant::now() + pause;
            while Instant::now() < end {
                rest();
            }
            signal(pid, "-CONT")?;
        } else {
            signal(pid, "-KILL")?;
        }
        Ok(name)
    }

    /// All processes of this home whose command line has `text`, each with a short name.
    fn processes(&self, text: &str) -> Result<Vec<(u32, String)>> {
        let home = self.world.home().canonicalize()?;
        let home = home.to_str().context("UTF-8")?.to_owned();
        let all = process_names(text)?;
        let ours = all.into_iter().filter(|(_, line)| line.contains(&home));
        Ok(ours
            .map(|(pid, line)| {
                let name = line.split("plumb/shop/").nth(1).and_then(|rest| rest.split([',', ' ']).next());
                (pid, name.unwrap_or("the keeper").to_owned())
            })
            .collect())
    }

    fn power_cut(&self) -> Result<String> {
        let end = Instant::now() + LIMIT;
        // A process that starts another one between the look and the kill: look again.
        loop {
            let left = self.processes("")?;
            if left.is_empty() {
                break;
            }
            ensure!(Instant::now() < end, "these do not end: {left:?}");
            for (pid, _) in left {
                // It may be gone by now.
                let _ = signal(pid, "-KILL");
            }
        }
        fs::remove_dir_all(self.world.home().join("run"))?;
        Ok("everything".into())
    }

    fn end_of(&self, command: &mut Child) -> Result<Option<i32>> {
        let mut status = None;
        wait_until("the command ends", LIMIT, &mut || {
            status = command.try_wait().ok().flatten();
            status.is_some()
        })?;
        Ok(status.and_then(|status| status.code()))
    }

    /// Every instance is ready and of one release, and each runs once.
    fn ensure_whole(&self, release: u32) -> Result<()> {
        let seen = self.world.json(&["ps", "shop"])?[0].clone();
        let name = Value::from(format!("shop@{release}"));
        let instances = seen["instances"].as_array().context("instances")?;
        let whole = seen["state"] == "ready"
            && seen["note"].is_null()
            && seen["release"] == name
            && instances.len() == 4
            && instances.iter().all(|instance| instance["release"] == name && instance["state"] == "ready");
        ensure!(whole, "it is not whole at {name}: {seen:#}");
        let machines = self.processes("plumb/shop/")?;
        ensure!(machines.len() == 4, "each runs once: {machines:?}");
        Ok(())
    }
}

fn signal(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status()?;
    ensure!(status.success(), "cannot send {signal} to {pid}");
    Ok(())
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    #[expect(clippy::disallowed_methods, reason = "how long it goes on is for whoever runs it")]
    let value = std::env::var(name);
    match value {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

#[test]
fn no_acknowledged_row_is_lost() -> Result<()> {
    let (rounds, seed) = (setting(ROUNDS, ROUNDS_OF_CI)?, setting(SEED, 1_u64)?);
    let mut shop = Shop::new()?;
    let mut dice = Dice(seed.max(1));
    let rows = shop.rows.clone();
    rows.write_during(|| {
        rows.go_on()?;
        for number in 0..rounds as usize {
            let any = dice.below(FAULTS.len() as u64);
            let fault = FAULTS.get(number).copied().unwrap_or(FAULTS[usize::try_from(any)?]);
            let said = shop.round(fault, &mut dice);
            let said = said.with_context(|| format!("round {}, {fault:?}, seed {seed}", number + 1))?;
            println!("round {:3} {fault:?}: {said}", number + 1);
        }
        Ok(())
    })?;
    println!("{rounds} rounds, seed {seed}: {} rows were acknowledged, and all are there", rows.count());
    shop.world.end()
}
