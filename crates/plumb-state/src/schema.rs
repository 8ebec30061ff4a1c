//! The tables, and how an older database becomes a current one.

use crate::{State, StateError};

/// One entry per version; entry `n` leads from version `n` to `n + 1`. Entries are never changed, only added.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE deployment (
    name    TEXT PRIMARY KEY,
    app     TEXT NOT NULL,
    current INTEGER
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
    generation INTEGER NOT NULL,
    document   BLOB NOT NULL,
    status     TEXT NOT NULL,
    reason     TEXT,
    started_ms INTEGER NOT NULL,
    ended_ms   INTEGER,
    PRIMARY KEY (deployment, generation)
);
CREATE TABLE step (
    deployment TEXT NOT NULL,
    generation INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    status     TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (deployment, generation, seq),
    FOREIGN KEY (deployment, generation) REFERENCES plan (deployment, generation) ON DELETE CASCADE
);
",
    "
CREATE TABLE test (
    deployment TEXT PRIMARY KEY REFERENCES deployment (name) ON DELETE CASCADE,
    started_ms INTEGER NOT NULL
);
",
    "
-- Which deployments run a release of an application is asked for one application among thousands.
CREATE INDEX deployment_release ON deployment (app, current, name);
",
];

/// Brings the database to the newest version, each step in one transaction with its version number.
pub(crate) fn migrate(state: &mut State) -> Result<(), StateError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    loop {
        let failed = state.failed("migrate");
        // IMMEDIATE: two processes that open a new database at once must not both create the tables.
        let transaction =
            match state.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate) {
                Ok(transaction) => transaction,
                Err(error) => return Err(failed(error)),
            };
        let found: u32 = match transaction.query_row("PRAGMA user_version", [], |row| row.get(0)) {
            Ok(found) => found,
            Err(error) => return Err(failed(error)),
        };
        if found > known {
            return Err(StateError::Newer { path: state.path.clone(), found, known });
        }
        let Some(sql) = MIGRATIONS.get(found as usize) else { return Ok(()) };
        let step = transaction
            .execute_batch(&format!("{sql}\nPRAGMA user_version = {};", found + 1))
            .and_then(|()| transaction.commit());
        step.map_err(failed)?;
    }
}
