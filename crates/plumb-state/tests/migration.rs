//! From every former version of the tables: made as a Plumb of that time made them, with rows, opened by this one.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use plumb_model::{AppName, DeploymentName};
use plumb_state::{
    Credentials, EventFilter, Host, Limits, PlanStatus, PostgresAddress, State, StateError, StepStatus,
};
use testkit::Postgres;

/// How the tables of SQLite came to be, word for word; entry `n` leads from version `n` to `n + 1`.
const SQLITE: &[&str] = &[
    "CREATE TABLE deployment (name TEXT PRIMARY KEY, app TEXT NOT NULL, current INTEGER);
     CREATE TABLE address (
         deployment TEXT NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
         instance TEXT NOT NULL, address TEXT NOT NULL,
         PRIMARY KEY (deployment, instance), UNIQUE (deployment, address));
     CREATE TABLE plan (
         deployment TEXT NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
         generation INTEGER NOT NULL, document BLOB NOT NULL, status TEXT NOT NULL, reason TEXT,
         started_ms INTEGER NOT NULL, ended_ms INTEGER, PRIMARY KEY (deployment, generation));
     CREATE TABLE step (
         deployment TEXT NOT NULL, generation INTEGER NOT NULL, seq INTEGER NOT NULL, status TEXT NOT NULL,
         at_ms INTEGER NOT NULL, PRIMARY KEY (deployment, generation, seq),
         FOREIGN KEY (deployment, generation) REFERENCES plan (deployment, generation) ON DELETE CASCADE);",
    "CREATE TABLE test (
         deployment TEXT PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE, started_ms INTEGER NOT NULL);",
    "CREATE INDEX deployment_release ON deployment (app, current, name);",
    "CREATE TABLE host (id TEXT PRIMARY KEY, name TEXT NOT NULL);
     ALTER TABLE deployment ADD COLUMN host TEXT REFERENCES host (id);
     CREATE TABLE holder (
         deployment TEXT PRIMARY KEY, who TEXT NOT NULL, pid BIGINT NOT NULL, what TEXT NOT NULL,
         since_ms BIGINT NOT NULL, session BIGINT NOT NULL);",
    "CREATE TABLE event (
         deployment TEXT NOT NULL, seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, kind TEXT NOT NULL, instance TEXT,
         generation BIGINT, text TEXT NOT NULL, by_whom TEXT NOT NULL, PRIMARY KEY (deployment, seq));
     CREATE INDEX event_time ON event (at_ms);",
    "CREATE TABLE lease (
         deployment TEXT PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE, owner TEXT NOT NULL,
         purpose TEXT NOT NULL, run_for_ms BIGINT, renewed_ms BIGINT NOT NULL, keep_for_ms BIGINT,
         stopped_ms BIGINT, noticed_ms BIGINT, instances BIGINT NOT NULL, memory_mib BIGINT NOT NULL,
         disk_bytes BIGINT NOT NULL);
     CREATE TABLE quota (owner TEXT PRIMARY KEY, instances BIGINT, memory_mib BIGINT, disk_bytes BIGINT);
     CREATE TABLE clock (host TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL);",
];

/// The tables of PostgreSQL at its first version, 4.
const POSTGRES_FIRST: &str = r#"
CREATE TABLE deployment (name TEXT COLLATE "C" PRIMARY KEY, app TEXT COLLATE "C" NOT NULL, current BIGINT);
CREATE TABLE address (
    deployment TEXT COLLATE "C" NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
    instance TEXT COLLATE "C" NOT NULL, address TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (deployment, instance), UNIQUE (deployment, address));
CREATE TABLE plan (
    deployment TEXT COLLATE "C" NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
    generation BIGINT NOT NULL, document BYTEA NOT NULL, status TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C", started_ms BIGINT NOT NULL, ended_ms BIGINT, PRIMARY KEY (deployment, generation));
CREATE TABLE step (
    deployment TEXT COLLATE "C" NOT NULL, generation BIGINT NOT NULL, seq BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL, at_ms BIGINT NOT NULL, PRIMARY KEY (deployment, generation, seq),
    FOREIGN KEY (deployment, generation) REFERENCES plan (deployment, generation) ON DELETE CASCADE);
CREATE TABLE test (
    deployment TEXT COLLATE "C" PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE,
    started_ms BIGINT NOT NULL);
CREATE INDEX deployment_release ON deployment (app, current, name);
CREATE TABLE host (id TEXT COLLATE "C" PRIMARY KEY, name TEXT COLLATE "C" NOT NULL);
ALTER TABLE deployment ADD COLUMN host TEXT COLLATE "C" REFERENCES host (id);
CREATE TABLE holder (
    deployment TEXT COLLATE "C" PRIMARY KEY, who TEXT COLLATE "C" NOT NULL, pid BIGINT NOT NULL,
    what TEXT COLLATE "C" NOT NULL, since_ms BIGINT NOT NULL, session BIGINT NOT NULL);
CREATE TABLE plumb_schema (version BIGINT NOT NULL);
INSERT INTO plumb_schema (version) VALUES (4);
"#;

/// What became of them, from version 4 to 5 and so on.
const POSTGRES_LATER: &[&str] = &[
    r#"CREATE TABLE event (
         deployment TEXT COLLATE "C" NOT NULL, seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL, instance TEXT COLLATE "C",
         generation BIGINT, text TEXT COLLATE "C" NOT NULL, by_whom TEXT COLLATE "C" NOT NULL, PRIMARY KEY (deployment, seq));
     CREATE INDEX event_time ON event (at_ms);"#,
    r#"CREATE TABLE lease (
         deployment TEXT COLLATE "C" PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE, owner TEXT COLLATE "C" NOT NULL,
         purpose TEXT COLLATE "C" NOT NULL, run_for_ms BIGINT, renewed_ms BIGINT NOT NULL, keep_for_ms BIGINT,
         stopped_ms BIGINT, noticed_ms BIGINT, instances BIGINT NOT NULL, memory_mib BIGINT NOT NULL,
         disk_bytes BIGINT NOT NULL);
     CREATE TABLE quota (owner TEXT COLLATE "C" PRIMARY KEY, instances BIGINT, memory_mib BIGINT, disk_bytes BIGINT);
     CREATE TABLE clock (host TEXT COLLATE "C" PRIMARY KEY, seen_ms BIGINT NOT NULL);"#,
];

/// A plan as it was written then.
const DOCUMENT: &str = concat!(
    r#"{"format":1,"deployment":"shop","generation":1,"parent":null,"kind":"down","from":null,"to":"shop@2","#,
    r#""actions":[{"action":"teardown"}]}"#,
    "\n"
);

/// Rows that fit from a version on; `{bytes}` are those of the document.
const ROWS: &[(usize, &str)] = &[
    (
        1,
        "INSERT INTO deployment (name, app, current) VALUES ('shop', 'shop', 2);
         INSERT INTO deployment (name, app, current) VALUES ('shop-down', 'shop', NULL);
         INSERT INTO address (deployment, instance, address) VALUES ('shop', 'web-1', '10.77.0.10');
         INSERT INTO plan (deployment, generation, document, status, reason, started_ms, ended_ms)
         VALUES ('shop', 1, {bytes}, 'done', NULL, 1000, 2000);
         INSERT INTO plan (deployment, generation, document, status, reason, started_ms, ended_ms)
         VALUES ('shop', 2, {bytes}, 'failed', 'a reason', 3000, NULL);
         INSERT INTO step (deployment, generation, seq, status, at_ms) VALUES ('shop', 2, 0, 'done', 3500);",
    ),
    (
        2,
        "INSERT INTO deployment (name, app, current) VALUES ('shop-test-1', 'shop', NULL);
         INSERT INTO test (deployment, started_ms) VALUES ('shop-test-1', 5000);",
    ),
    (
        5,
        "INSERT INTO event (deployment, seq, at_ms, kind, instance, generation, text, by_whom)
         VALUES ('shop', 1, 5500, 'repair', 'web-1', 2, 'it had ended', 'ann@alpha');",
    ),
    (
        6,
        "INSERT INTO lease (deployment, owner, purpose, renewed_ms, instances, memory_mib, disk_bytes)
         VALUES ('shop', 'ann', 'a demo', 5600, 2, 256, 1024);
         INSERT INTO quota (owner, instances) VALUES ('ann', 20);",
    ),
];

fn rows(version: usize, bytes: &str) -> String {
    let fit = ROWS.iter().filter(|(from, _)| *from <= version);
    fit.map(|(_, sql)| sql.replace("{bytes}", bytes)).collect()
}

fn hex() -> String {
    DOCUMENT.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that was there is there, and can be gone on with.
fn check(version: usize, open: &dyn Fn() -> Result<State, StateError>) -> Result<()> {
    let mut state = open()?;
    let name: DeploymentName = "shop".parse()?;
    let app: AppName = "shop".parse()?;
    let record = state.deployment(&name)?.context("the deployment")?;
    ensure!(record.current.context("a release")?.to_string() == "shop@2" && record.elsewhere.is_none());
    ensure!(state.deployment(&"shop-down".parse()?)?.context("is there")?.current.is_none());
    ensure!(
        state.addresses(&name)?.get(&"web-1".parse()?).context("an address")?.to_string() == "10.77.0.10"
    );
    ensure!(state.healthy_releases(&name)?.first().context("a plan")?.to_string() == "shop@2");
    let last = state.last_plan(&name)?.context("a plan")?;
    ensure!((last.status, last.reason.as_deref()) == (PlanStatus::Failed, Some("a reason")));
    ensure!((last.started_ms, last.ended_ms, last.steps_done) == (3000, None, 1));
    let every = EventFilter { deployment: None, kind: None, since_ms: 0, until_ms: u64::MAX, limit: 9 };
    let events: Vec<String> = state.events(&every)?.into_iter().map(|event| event.text).collect();
    ensure!(events.len() == usize::from(version >= 5) && events.iter().all(|text| text == "it had ended"));
    let lease = state.lease(&name)?;
    ensure!(lease.is_some() == (version >= 6) && lease.is_none_or(|lease| lease.purpose == "a demo"));
    ensure!(state.quota("ann")?.instances == (version >= 6).then_some(20));
    let tests = state.tests()?;
    ensure!(tests.len() == usize::from(version >= 2), "{tests:?}");
    state.ensure_deployment(&name, &app)?;
    let plan = plumb_plan::Plan { generation: 3, ..last.plan };
    state.add_plan(&plan, 6000)?;
    state.record_step(&plan, 0, StepStatus::Done, 6000)?;
    drop(state);
    ensure!(open()?.last_plan(&name)?.context("a plan")?.steps_done == 1, "and again");
    Ok(())
}

fn sqlite(path: &Path, version: usize) -> Result<()> {
    let connection = rusqlite::Connection::open(path)?;
    for entry in &SQLITE[..version] {
        connection.execute_batch(entry)?;
    }
    connection.execute_batch(&format!("PRAGMA user_version = {version}"))?;
    connection.execute_batch(&rows(version, &format!("x'{}'", hex())))?;
    Ok(())
}

#[test]
fn every_former_version_of_a_file_is_brought_up_to_date() -> Result<()> {
    for version in 1..=SQLITE.len() {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("state.db");
        sqlite(&path, version)?;
        check(version, &|| State::open(&path)).with_context(|| format!("version {version}"))?;
    }
    Ok(())
}

#[test]
fn every_former_version_on_a_server_is_brought_up_to_date() -> Result<()> {
    let server = Postgres::start()?;
    for version in 4..=SQLITE.len() {
        let database = format!("former{version}");
        server.database(&database)?;
        server.sql(&database, POSTGRES_FIRST)?;
        for later in &POSTGRES_LATER[..version - 4] {
            server.sql(&database, later)?;
        }
        server.sql(&database, &format!("UPDATE plumb_schema SET version = {version}"))?;
        server.sql(&database, "INSERT INTO host (id, name) VALUES ('id', 'alpha')")?;
        server.sql(&database, &rows(version, &format!("'\\x{}'", hex())))?;
        server.sql(&database, "UPDATE deployment SET host = 'id'")?;
        let address: PostgresAddress = server.address(&database).parse()?;
        let host = Host { id: "id".to_owned(), name: "alpha".to_owned() };
        let open = || State::connect(&address, &Credentials::default(), host.clone(), Limits::default());
        check(version, &open).with_context(|| format!("version {version}"))?;
    }
    Ok(())
}

#[test]
fn a_newer_version_is_refused_and_left_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    State::open(&path)?;
    let connection = rusqlite::Connection::open(&path)?;
    connection.execute_batch("PRAGMA user_version = 4000")?;
    ensure!(matches!(State::open(&path), Err(StateError::Newer { found: 4000, .. })));
    let server = Postgres::start()?;
    server.database("newer")?;
    let address: PostgresAddress = server.address("newer").parse()?;
    let host = Host { id: "id".to_owned(), name: "alpha".to_owned() };
    let open = || State::connect(&address, &Credentials::default(), host.clone(), Limits::default());
    open()?;
    server.sql("newer", "UPDATE plumb_schema SET version = 4000")?;
    ensure!(matches!(open(), Err(StateError::Newer { found: 4000, .. })));
    Ok(())
}
