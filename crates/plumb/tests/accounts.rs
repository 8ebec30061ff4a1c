//! A volume outlives releases, so the accounts that own its files keep their ids whatever packages come and go.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use plumb_model::lock::Lock;
use testkit::World;

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Account name to its user and group id.
type Accounts = BTreeMap<String, (u32, u32)>;

/// Locks and builds a machine of these packages in `folder`, where a lock may lie already; the accounts of its lock.
fn accounts(world: &World, folder: &str, packages: &[&str]) -> Result<Accounts> {
    let path = world.folder().join(folder);
    fs::create_dir_all(&path)?;
    let text = format!("app = \"ids\"\n[machine.a]\nmiddleware = {packages:?}\n");
    fs::write(path.join("plumb.toml"), text)?;
    let shown = path.to_str().context("UTF-8")?;
    world.ok(&["lock", shown])?;
    let read = || -> Result<Accounts> {
        let lock = Lock::parse(&fs::read_to_string(path.join("plumb.lock"))?)?;
        Ok(lock.machines.values().next().context("one machine")?.accounts.clone())
    };
    let locked = read()?;
    world.ok(&["build", shown])?;
    let built = read()?;
    ensure!(locked.iter().all(|(name, ids)| built.get(name) == Some(ids)), "{locked:?} became {built:?}");
    Ok(built)
}

#[test]
fn accounts_keep_their_ids_when_packages_come_and_go() -> Result<()> {
    let world = World::new("accounts", PLUMB)?;
    let (ssh, dns) = ("openssh-server", "bind9");
    let first = accounts(&world, "app", &[ssh])?;
    world.share()?;
    let sshd = *first.get("sshd").context("openssh-server makes `sshd`")?;

    // Asked for at once, `bind` comes before `sshd`: only the lock keeps the ids as they were.
    let anew = accounts(&world, "anew", &[ssh, dns])?;
    assert_ne!(anew["sshd"], sshd, "without a lock the ids would be the same, so this test shows nothing");

    // A lock made anew finds the image in the store, and the ids with it.
    fs::remove_file(world.folder().join("app/plumb.lock"))?;
    assert_eq!(accounts(&world, "app", &[ssh])?, first, "the lock lost the ids");

    let both = accounts(&world, "app", &[ssh, dns])?;
    let bind = *both.get("bind").context("bind9 makes `bind`")?;
    assert_eq!(both["sshd"], sshd);
    assert_ne!(bind.0, sshd.0);

    // Gone, and not forgotten: its id is given to nobody else, and is there when the package comes back.
    let without = accounts(&world, "app", &[dns])?;
    assert_eq!((without["bind"], without["sshd"]), (bind, sshd));
    let again = accounts(&world, "app", &[dns, ssh])?;
    assert_eq!((again["bind"], again["sshd"]), (bind, sshd));
    world.end()
}
