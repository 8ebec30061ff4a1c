//! The tables, and how an older database becomes a current one.

use crate::database::{Database, DatabaseError};
use crate::{State, StateError};

/// One entry per version; entry `n` leads from version `n` to `n + 1`. Entries are never changed, only added, and each is
/// in the SQL that both databases understand: `BIGINT`, `TEXT`, `BYTEA`.
///
/// The first three once said `INTEGER` and `BLOB`: in SQLite these are other words for the same, and PostgreSQL came later.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE deployment (
    name    TEXT PRIMARY KEY,
    app     TEXT NOT NULL,
    current BIGINT
);
CREATE TABLE address (
    deployment TEXT NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
    instance   TEXT NOT NULL,
    address    TEXT NOT NULL,
    PRIMARY KEY (deployment, instance),
    UNIQUE (deployment, address)
);
CREATE TABLE plan (
    deployment TEXT NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    document   BYTEA NOT NULL,
    status     TEXT NOT NULL,
    reason     TEXT,
    started_ms BIGINT NOT NULL,
    ended_ms   BIGINT,
    PRIMARY KEY (deployment, generation)
);
CREATE TABLE step (
    deployment TEXT NOT NULL,
    generation BIGINT NOT NULL,
    seq        BIGINT NOT NULL,
    status     TEXT NOT NULL,
    at_ms      BIGINT NOT NULL,
    PRIMARY KEY (deployment, generation, seq),
    FOREIGN KEY (deployment, generation) REFERENCES plan (deployment, generation) ON DELETE CASCADE
);
",
    "
CREATE TABLE test (
    deployment TEXT PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE,
    started_ms BIGINT NOT NULL
);
",
    "
-- Which deployments run a release of an application is asked for one application among thousands.
CREATE INDEX deployment_release ON deployment (app, current, name);
",
    "
-- The host that runs it; none in a file that is of one host only.
CREATE TABLE host (
    id   TEXT PRIMARY KEY,
    name TEXT NOT NULL
);
ALTER TABLE deployment ADD COLUMN host TEXT REFERENCES host (id);
-- Who holds a deployment, for people. The lock itself is the session's, and so is what is believed of this.
CREATE TABLE holder (
    deployment TEXT PRIMARY KEY,
    who        TEXT NOT NULL,
    pid        BIGINT NOT NULL,
    what       TEXT NOT NULL,
    since_ms   BIGINT NOT NULL,
    session    BIGINT NOT NULL
);
",
    "
-- What happened. Not bound to the deployment: what is asked about one that is gone is why.
CREATE TABLE event (
    deployment TEXT NOT NULL,
    seq        BIGINT NOT NULL,
    at_ms      BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    instance   TEXT,
    generation BIGINT,
    text       TEXT NOT NULL,
    by_whom    TEXT NOT NULL,
    PRIMARY KEY (deployment, seq)
);
CREATE INDEX event_time ON event (at_ms);
",
    "
-- Whose a deployment is, until when, and what it takes. Times that are not there mean for ever, or not yet.
CREATE TABLE lease (
    deployment  TEXT PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE,
    owner       TEXT NOT NULL,
    purpose     TEXT NOT NULL,
    run_for_ms  BIGINT,
    renewed_ms  BIGINT NOT NULL,
    keep_for_ms BIGINT,
    stopped_ms  BIGINT,
    noticed_ms  BIGINT,
    instances   BIGINT NOT NULL,
    memory_mib  BIGINT NOT NULL,
    disk_bytes  BIGINT NOT NULL
);
CREATE TABLE quota (
    owner      TEXT PRIMARY KEY,
    instances  BIGINT,
    memory_mib BIGINT,
    disk_bytes BIGINT
);
-- What the clock of a host was when leases were last looked at.
CREATE TABLE clock (
    host    TEXT PRIMARY KEY,
    seen_ms BIGINT NOT NULL
);
",
    "
CREATE TABLE configuration (
    deployment TEXT NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
    number     BIGINT NOT NULL,
    document   BYTEA NOT NULL,
    PRIMARY KEY (deployment, number)
);
CREATE TABLE configured (
    deployment TEXT PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE,
    wanted     BIGINT,
    current    BIGINT
);
-- Sealed; a version is a random number, and says nothing of what is sealed.
CREATE TABLE secret (
    deployment TEXT NOT NULL REFERENCES deployment (name) ON DELETE CASCADE,
    version    TEXT NOT NULL,
    sealed     BYTEA NOT NULL,
    PRIMARY KEY (deployment, version)
);
CREATE TABLE recipient (
    recipient TEXT PRIMARY KEY,
    name      TEXT NOT NULL
);
",
    "
-- Which of two sets serves, blue if nothing is said; and the release of the other one, if it is kept, and until when.
ALTER TABLE deployment ADD COLUMN side TEXT;
ALTER TABLE deployment ADD COLUMN kept BIGINT;
ALTER TABLE deployment ADD COLUMN kept_until_ms BIGINT;
",
];

/// Brings the database to the newest version, each step in one transaction with its version number.
pub(crate) fn migrate(state: &mut State) -> Result<(), StateError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    // Looked at without a transaction first: nearly always there is nothing to do, and nobody has to wait for that.
    if state.database.version().map_err(state.failed("read"))? == known {
        return Ok(());
    }
    loop {
        match step(&*state.database, known).map_err(state.failed("migrate"))? {
            found if found > known => {
                return Err(StateError::Newer { place: state.place.clone(), found, known });
            }
            found if found == known => return Ok(()),
            _ => {}
        }
    }
}

/// One version further. The result is the version that was found.
fn step(database: &dyn Database, known: u32) -> Result<u32, DatabaseError> {
    // Two processes that open a new database at once must not both create the tables.
    database.begin_migration()?;
    let found = database.version().and_then(|found| {
        if let Some(sql) = MIGRATIONS.get(found as usize).filter(|_| found < known) {
            database.migrate(sql, found + 1)?;
        }
        Ok(found)
    });
    match found {
        Ok(found) => database.commit().map(|()| found),
        Err(error) => {
            // The first error is the one to tell; closing the database undoes it, too.
            let _ = database.roll_back();
            Err(error)
        }
    }
}
