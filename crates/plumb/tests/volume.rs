//! A real PostgreSQL keeps its rows: through snapshots, an upgrade, the ways back, and a killed command.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{Rows, Table, World, copy_tree, free_port, wait_until};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// What the database may take to answer under emulation on a busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// Longest time that its volume stands still; also how long a killed command may leave it so.
const FREEZE_LIMIT: &str = "20s";

/// Rows of 8 KiB that make 200 MB.
const FILL_ROWS: u32 = 25_600;

/// Of the deployment's user.
const PASSWORD: &str = "not the one of anybody else";

/// A machine that changes the table for its release, and changes it back for the one below the fence.
const MIGRATION: &str = r#"
[machine.client]
middleware = ["postgresql-client-15", "busybox-static"]
memory = "128MiB"
needs = ["db"]
service.idle = { exec = "/bin/busybox sleep 1000000" }

[machine.client.task.expand]
exec = "/usr/lib/postgresql/15/bin/psql --set=ON_ERROR_STOP=1 --command='ALTER TABLE row ADD COLUMN IF NOT EXISTS note text NOT NULL DEFAULT current_user'"
environment = { PGHOST = "db", PGDATABASE = "app", PGUSER = "app", PGPASSWORD = "{secret.password}" }

[machine.client.task.contract]
exec = "/usr/lib/postgresql/15/bin/psql --set=ON_ERROR_STOP=1 --command='ALTER TABLE row DROP COLUMN IF EXISTS note'"
environment = { PGHOST = "db", PGDATABASE = "app", PGUSER = "app", PGPASSWORD = "{secret.password}" }
when = "reverse"
"#;

/// What makes the upgrade fail when the table is changed already.
const BROKEN: &str = "\n[machine.client.task.verify]\nexec = \"/bin/busybox false\"\nwhen = \"after\"\n";

/// A database of one machine, and a client that keeps on writing.
struct Database {
    world: World,
    app: String,
    rows: Rows,
}

impl Database {
    fn new(name: &str) -> Result<Database> {
        let world = World::new(name, PLUMB)?;
        let port = free_port()?;
        let folder = world.folder().join("pg");
        let examples =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/catalogue/postgresql");
        copy_tree(&examples, &folder)?;
        let definition = folder.join("plumb.toml");
        let text = fs::read_to_string(&definition)?
            .replace("app = \"postgresql\"", "app = \"pg\"")
            .replace("5432:5432", &format!("{port}:5432"));
        fs::write(&definition, format!("{text}\n[snapshots]\nfreeze_limit = \"{FREEZE_LIMIT}\"\n"))?;
        let app = folder.to_str().context("UTF-8")?.to_owned();
        world.ok(&["release", &app])?;
        world.share()?;
        let secret = world.folder().join("password");
        fs::write(&secret, PASSWORD)?;
        world.ok(&["secret", "set", "pg", "password", "--file", secret.to_str().context("UTF-8")?])?;
        world.ok(&["up", "pg@1"])?;
        let rows = Rows::new(Table {
            address: format!("host=127.0.0.1 port={port} user=app dbname=app password='{PASSWORD}'"),
            insert: "INSERT INTO row (id) VALUES ($1)",
            pace: Duration::ZERO,
            select: "SELECT id FROM row ORDER BY id",
        });
        Ok(Database { world, app, rows })
    }

    fn snapshot(&self, name: &str) -> Result<Value> {
        let all = self.world.json(&["volume", "snapshots", "pg"])?;
        let all = all.as_array().context("a list")?;
        all.iter().find(|one| one["name"] == name).cloned().with_context(|| format!("{name} of {all:?}"))
    }
}

#[test]
fn rows_survive_snapshots_upgrades_and_the_way_back() -> Result<()> {
    let database = Database::new("volume")?;
    database.rows.talk(async |client| {
        client.batch_execute("CREATE TABLE row (id bigint PRIMARY KEY)").await?;
        client
            .batch_execute("CREATE TABLE fill (text text); ALTER TABLE fill ALTER text SET STORAGE EXTERNAL")
            .await?;
        let fill = "INSERT INTO fill SELECT repeat(md5(n::text), 256) FROM generate_series(1, $1) AS n";
        client.execute(fill, &[&i32::try_from(FILL_ROWS)?]).await?;
        Ok(())
    })?;
    database.rows.write_during(|| {
        measured(&database)?;
        there_and_back(&database)?;
        turned_back(&database)?;
        killed(&database)
    })?;
    database.world.end()
}

/// By freezing and by stopping, side by side; and the rows of the first are back when it is restored.
fn measured(database: &Database) -> Result<()> {
    database.rows.go_on()?;
    for (name, how) in [("frozen", &[][..]), ("stopped", &["--stop"][..])] {
        let (before, began) = (database.rows.last(), Instant::now());
        database.world.ok(&[&["volume", "snapshot", "pg", name], how].concat())?;
        let took = began.elapsed();
        database.rows.go_on()?;
        let made = database.snapshot(name)?;
        println!(
            "snapshot {name}: {} of {} MiB, {} ms; rows waited {} ms at most; stood still {} ms",
            made["allocated_bytes"].as_u64().unwrap_or(0) >> 20,
            made["volumes"][0]["size_bytes"].as_u64().unwrap_or(0) >> 20,
            took.as_millis(),
            database.rows.longest_pause(began).as_millis(),
            made["frozen_ms"],
        );
        assert_eq!(made["frozen_ms"].is_null(), name == "stopped", "{made}");
        ensure!(made["allocated_bytes"].as_u64() > Some(200_000_000), "{made}");
        if name == "frozen" {
            database.world.ok(&["volume", "restore", "pg", "frozen"])?;
            let last = database.rows.last();
            database.rows.go_on()?;
            let rows = database.rows.stored()?;
            database.rows.ensure_held(&rows, before)?;
            // What came after the snapshot is in the one that was made before the restore, and no longer here.
            database.rows.forget(&rows, last);
        }
    }
    Ok(())
}

/// An upgrade past a fence, and the way back with data.
fn there_and_back(database: &Database) -> Result<()> {
    let world = &database.world;
    let definition = std::path::Path::new(&database.app).join("plumb.toml");
    let text = fs::read_to_string(&definition)?;
    fs::write(
        &definition,
        format!("fence = \"this\"\n{}", text.replace("[machine.db]\n", "[machine.db]\ncpus = 2\n")),
    )?;
    world.ok(&["release", &database.app])?;
    let plan = world.json(&["plan", "pg"])?["plan"].clone();
    assert_eq!(plan["snapshot"]["why"], "before-upgrade", "{plan}");
    assert_eq!(plan["snapshot"]["volumes"][0]["hold"], "frozen", "{plan}");
    let name = plan["snapshot"]["snapshot"].as_str().context("a name")?.to_owned();
    let before = database.rows.last();
    world.ok(&["upgrade", "pg"])?;
    database.rows.go_on()?;
    let last = database.rows.last();
    database.rows.ensure_held(&database.rows.stored()?, last)?;
    let refused = world.run(&["rollback", "pg"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("--with-data"), "{}", refused.stderr);
    let after = database.rows.last();
    let back = world.ok(&["rollback", "pg", "--with-data"])?;
    ensure!(back.stdout.contains(&format!("snapshot {name}")), "{}", back.stdout);
    database.rows.go_on()?;
    let rows = database.rows.stored()?;
    database.rows.ensure_held(&rows, before)?;
    ensure!(rows.binary_search(&after).is_err(), "a row of after the snapshot is gone from it");
    database.rows.forget(&rows, rows.last().copied().unwrap_or_default());
    let seen = world.json(&["ps", "pg"])?[0].clone();
    assert_eq!((&seen["release"], &seen["state"]), (&"pg@1".into(), &"ready".into()), "{seen}");
    let kept = database.snapshot(&format!("g{}", name[1..].parse::<u64>()? + 1))?;
    assert_eq!(kept["why"], "before-rollback", "nothing is lost: {kept}");
    Ok(())
}

/// An upgrade past a fence whose release can turn its data back: nothing that was written since is lost.
fn turned_back(database: &Database) -> Result<()> {
    let world = &database.world;
    let definition = std::path::Path::new(&database.app).join("plumb.toml");
    let text = fs::read_to_string(&definition)?.replace("fence = \"this\"\n", "fence = 2\n");
    fs::write(&definition, format!("{text}{MIGRATION}{BROKEN}"))?;
    world.ok(&["release", &database.app])?;
    let failed = world.run(&["upgrade", "pg"])?;
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    ensure!(failed.stderr.contains("runs `pg@1` again"), "{}", failed.stderr);
    is_as_before(database)?;

    fs::write(&definition, format!("{text}{MIGRATION}"))?;
    world.ok(&["release", &database.app])?;
    world.ok(&["upgrade", "pg"])?;
    database.rows.go_on()?;
    let noted = database.rows.talk(async |client| {
        Ok(client.query_one("SELECT count(*) FROM row WHERE note = 'app'", &[]).await?.get::<_, i64>(0))
    })?;
    ensure!(noted > 0, "the task has changed the table");
    let planned = world.ok(&["rollback", "pg", "pg@1", "--dry-run"])?.stdout;
    ensure!(planned.contains("turns the data of pg@4 back"), "{planned}");
    world.ok(&["rollback", "pg", "pg@1"])?;
    is_as_before(database)
}

/// The first release runs with the table that it knows, and no row is lost.
fn is_as_before(database: &Database) -> Result<()> {
    database.rows.go_on()?;
    let last = database.rows.last();
    database.rows.ensure_held(&database.rows.stored()?, last)?;
    let columns = database.rows.talk(async |client| {
        let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'row'";
        Ok(client.query_one(columns, &[]).await?.get::<_, i64>(0))
    })?;
    assert_eq!(columns, 1);
    let seen = database.world.json(&["ps", "pg"])?[0].clone();
    assert_eq!((&seen["release"], &seen["state"]), (&"pg@1".into(), &"ready".into()), "{seen}");
    Ok(())
}

/// The command is killed while the volume stands still: the database goes on by itself, and there is no snapshot.
fn killed(database: &Database) -> Result<()> {
    let draft = database.world.home().join("volumes/pg/snapshots/.new-killed/db-1--data.raw");
    let mut command = database.world.spawn(&["volume", "snapshot", "pg", "killed"])?;
    wait_until("the copy has begun", LIMIT, &mut || draft.exists())?;
    command.kill()?;
    command.wait()?;
    let began = Instant::now();
    ensure!(draft.exists(), "it was killed in the middle of copying");
    database.rows.go_on()?;
    println!("after kill -9 the database went on within {} ms", began.elapsed().as_millis());
    ensure!(database.snapshot("killed").is_err(), "there is no half snapshot");
    database.world.ok(&["volume", "snapshot", "pg", "again"])?;
    ensure!(!draft.exists(), "the next command cleans up");
    database.snapshot("again").map(drop)
}
