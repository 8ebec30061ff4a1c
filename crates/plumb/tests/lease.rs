//! A lease on a real machine, with a clock of the test's own: notice, stop, notice, grace, and only then the data; by `reap`, and by
//! whoever watches.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use plumb_ops::{
    Bond, Cancel, ClockWord, EventView, Home, LeaseClock, Mode, OpsError, Options, Plumb, Reaped, ReapedWhat,
    Reaping, Silent, StateOptions, WatchWanted,
};
use testkit::{World, copy_example, free_port, now_s};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Hour, in milliseconds.
const HOUR_MS: u64 = 3_600_000;

/// How far the test's clock is ahead.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

fn later() -> u64 {
    u64::try_from(now_s()).unwrap_or_default() * 1000 + AHEAD_MS.load(Ordering::SeqCst)
}

/// `plumb` so many hours after now.
fn at(world: &World, hours: u64) -> Result<Plumb<'static>, OpsError> {
    AHEAD_MS.store(hours * HOUR_MS, Ordering::SeqCst);
    let options = Options {
        offline: true,
        proxies: plumb_ops::Proxies::default(),
        environment: plumb_ops::Environment::default(),
        program: PLUMB.into(),
        signer: None,
        user: "tester".parse().expect("a name"),
        state: StateOptions { clock: LeaseClock(later), ..StateOptions::default() },
        passphrase: |_| None,
        age_identity: None,
    };
    Plumb::open(Home::new(world.home()), options, &Silent)
}

/// `reap` so many hours after now, as the program does it.
fn reap(world: &World, hours: u64, mode: Mode, word: ClockWord) -> Result<Vec<Reaped>, OpsError> {
    at(world, hours)?.reap(mode, word)
}

/// What one look of a watcher so many hours after now tells, by kind.
fn watch(world: &World, hours: u64, mode: Mode, reaping: Reaping) -> Result<Vec<&'static str>> {
    let wanted = WatchWanted { only: Vec::new(), mode, reaping, notify: None };
    let told = Mutex::new(Vec::new());
    let tell = |event: &EventView| told.lock().expect("one at a time").push(event.kind);
    let bond = Bond { cancel: &Cancel::default(), tell: &tell, alive: &|| {} };
    at(world, hours)?.watch_once(&wanted, bond)?;
    Ok(told.into_inner()?)
}

fn what(rows: &[Reaped]) -> Vec<ReapedWhat> {
    rows.iter().map(|row| row.what).collect()
}

fn who_takes_it_over_needs_room(world: &World, owner: &str) -> Result<()> {
    world.ok(&["quota", "set", "eve", "--disk", "8MiB"])?;
    let refused = world.run(&["lease", "set", "hello", "--owner", "eve"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("`eve` would have more"), "{}", refused.stderr);
    ensure!(world.json(&["lease"])?[0]["owner"] == owner);
    Ok(())
}

#[test]
fn a_lease_ends_with_notice_and_data_goes_last() -> Result<()> {
    let world = World::new("lease", PLUMB)?;
    let folder = copy_example(&world, "hello", "hello", free_port()?)?;
    let definition = folder.join("plumb.toml");
    let volume = "[machine.web]\nvolume.data = { size = \"16MiB\", mount = \"/srv/data\" }\n";
    let lease = "\n[lease]\nkeep = \"2d\"\ndeployment.hello = { purpose = \"by its name\" }\n";
    let text = fs::read_to_string(&definition)?.replace("[machine.web]\n", volume);
    fs::write(&definition, text + lease)?;
    let app = folder.to_str().context("UTF-8")?;
    world.ok(&["release", app])?;
    world.share()?;

    // More than the owner may have is told by a plan, and refused before anything is there.
    // The first release made a key in the name of whoever works here.
    let owner = world.json(&["key"])?[0]["name"].as_str().context("a key")?.to_owned();
    world.ok(&["quota", "set", &owner, "--instances", "0", "--disk", "8MiB"])?;
    let exceeds = world.json(&["plan", app])?["exceeds"].clone();
    ensure!(exceeds.as_array().map(Vec::len) == Some(2), "{exceeds}");
    let refused = world.run(&["up", app])?;
    let said = "would have more than the quota allows: 1 instances of 0 (1 too many), 16 MiB of volumes of 8 (8 too much)";
    ensure!(refused.code == 1 && refused.stderr.contains(said), "{}", refused.stderr);
    ensure!(world.json(&["ps", "--all"])?.as_array().is_some_and(Vec::is_empty), "nothing of it is there");
    world.ok(&["quota", "rm", &owner])?;

    world.ok(&["up", app])?;
    let lease = world.json(&["lease"])?[0].clone();
    ensure!(lease["owner"] == owner.as_str() && lease["purpose"] == "by its name", "{lease}");
    ensure!(lease["keep_for_ms"] == 2 * 24 * HOUR_MS, "as the definition says: {lease}");
    let days = (lease["stops_ms"].as_u64().context("an end")? - later()).div_ceil(24 * HOUR_MS);
    ensure!(days == 7, "{days}");
    who_takes_it_over_needs_room(&world, &owner)?;
    world.ok(&["lease", "set", "hello", "--keep", "1d", "--purpose", "a test"])?;

    // Days ahead: nobody vouches for the clock.
    let (day, checked) = (24, ClockWord::Checked);
    let error = reap(&world, 6 * day, Mode::Do, checked).err().context("the clock jumped")?;
    ensure!(matches!(error, OpsError::Clock { .. }), "{error:?}");
    assert_eq!(
        watch(&world, 6 * day, Mode::Do, Reaping::Delete)?,
        ["trouble"],
        "nor does who watches believe it"
    );
    let rows = reap(&world, 6 * day, Mode::Do, ClockWord::SaidToBeRight)?;
    ensure!(what(&rows) == [ReapedWhat::StopsSoon], "{rows:?}");
    // The notice is in the journal, once for each end.
    let nothing: [&str; 0] = [];
    assert_eq!(watch(&world, 6 * day + 1, Mode::Do, Reaping::Delete)?, nothing);
    world.ok(&["lease", "set", "hello", "--for", "170h"])?;
    assert_eq!(watch(&world, 6 * day + 2, Mode::DryRun, Reaping::Delete)?, ["lease-notice"]);
    assert_eq!(watch(&world, 6 * day + 2, Mode::Do, Reaping::Delete)?, ["lease-notice"]);
    ensure!(world.json(&["ps", "hello"])?[0]["state"] == "ready");

    let end = 7 * day + 3;
    ensure!(what(&reap(&world, end, Mode::DryRun, checked)?) == [ReapedWhat::Stop]);
    assert_eq!(watch(&world, end, Mode::DryRun, Reaping::Delete)?, ["lease-notice"]);
    assert_eq!(watch(&world, end, Mode::Do, Reaping::Notice)?, ["lease-ended"], "it is told");
    assert_eq!(watch(&world, end, Mode::Do, Reaping::Notice)?, nothing, "once");
    ensure!(world.json(&["ps", "hello"])?[0]["state"] == "ready", "and nothing was stopped");
    assert_eq!(watch(&world, end, Mode::Do, Reaping::Stop)?, ["lease-ended"]);
    assert_eq!(
        watch(&world, end, Mode::Do, Reaping::Stop)?,
        ["lease-notice"],
        "its data is the next, and soon"
    );
    assert_eq!(watch(&world, end, Mode::Do, Reaping::Stop)?, nothing, "it stays down");
    ensure!(world.json(&["ps", "hello"])?[0]["state"] == "down");
    let data = world.home().join("volumes/hello");
    ensure!(fs::read_dir(&data)?.count() > 0, "its data stays");

    assert_eq!(watch(&world, 8 * day + 4, Mode::Do, Reaping::Stop)?, ["lease-notice"]);
    ensure!(what(&reap(&world, 12 * day, Mode::Do, checked)?) == [ReapedWhat::GoesSoon]);
    let rows = reap(&world, 15 * day + 5, Mode::DryRun, checked)?;
    ensure!(what(&rows) == [ReapedWhat::Delete] && rows[0].volumes == ["web-1--data"], "{rows:?}");
    ensure!(fs::read_dir(&data)?.count() > 0, "a dry run deletes nothing");
    assert_eq!(watch(&world, 15 * day + 5, Mode::Do, Reaping::Stop)?, nothing, "no data goes");
    ensure!(fs::read_dir(&data)?.count() > 0);
    assert_eq!(watch(&world, 15 * day + 5, Mode::Do, Reaping::Delete)?, ["lease-ended", "lease-ended"]);
    ensure!(!data.exists() && world.json(&["ps", "--all"])?.as_array().is_some_and(Vec::is_empty));
    world.end()
}
