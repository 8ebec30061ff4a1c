//! SQLite: one file, one host. WAL mode with `synchronous = FULL`: a transaction that returned is on disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, Statement, ToSql};

use crate::database::{Database, DatabaseError, Each, Row, Sessions, Value};

/// Statements that are kept prepared: more than there are in this crate.
const STATEMENTS: usize = 64;

/// An open database file.
#[derive(Debug)]
pub(crate) struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// Which file that was.
    file: Option<(u64, u64)>,
    wait: Duration,
}

impl Sqlite {
    /// Opens the file at `path`, making it if it is not there. `wait` is the longest wait for another process.
    pub(crate) fn open(path: &Path, wait: Duration) -> Result<Self, DatabaseError> {
        let named = |error| told(error, wait);
        let connection = Connection::open(path).map_err(named)?;
        connection.busy_timeout(wait).map_err(named)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(named)?;
        Ok(Sqlite { connection, path: path.to_owned(), file: identity(path), wait })
    }

    /// SQLite writes on into a file that has no name any more, and would say that all is well.
    fn still_there(&self) -> Result<(), DatabaseError> {
        if identity(&self.path) == self.file { Ok(()) } else { Err(DatabaseError::Gone) }
    }

    fn batch(&self, sql: &str) -> Result<(), DatabaseError> {
        self.connection.execute_batch(sql).map_err(|error| told(error, self.wait))
    }
}

impl Database for Sqlite {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, DatabaseError> {
        self.still_there()?;
        let run = || -> rusqlite::Result<usize> {
            let mut statement = self.connection.prepare_cached(sql)?;
            bind(&mut statement, values)?;
            statement.raw_execute()
        };
        run().map(|count| count as u64).map_err(|error| told(error, self.wait))
    }

    fn query(&self, sql: &str, values: &[Value<'_>], each: &mut Each<'_>) -> Result<(), DatabaseError> {
        let named = |error| told(error, self.wait);
        let mut statement = self.connection.prepare_cached(sql).map_err(named)?;
        bind(&mut statement, values).map_err(named)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(named)? {
            each(&Row::Sqlite(row))?;
        }
        Ok(())
    }

    fn begin(&self) -> Result<(), DatabaseError> {
        self.still_there()?;
        // Not deferred: a transaction that only finds out at its first write that another was faster cannot wait.
        self.batch("BEGIN IMMEDIATE")
    }

    fn commit(&self) -> Result<(), DatabaseError> {
        self.batch("COMMIT")
    }

    fn roll_back(&self) -> Result<(), DatabaseError> {
        self.batch("ROLLBACK")
    }

    fn begin_migration(&self) -> Result<(), DatabaseError> {
        self.begin()
    }

    fn version(&self) -> Result<u32, DatabaseError> {
        self.connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| told(error, self.wait))
    }

    fn migrate(&self, sql: &str, version: u32) -> Result<(), DatabaseError> {
        self.batch(&format!("{sql}\nPRAGMA user_version = {version};"))
    }

    fn lock(&self, _name: &str) -> Result<bool, DatabaseError> {
        // All that use this file are on this host, and hold the store's lock of the deployment.
        Ok(true)
    }

    fn session(&self, _name: &str) -> Result<Sessions, DatabaseError> {
        Ok(Sessions { own: 0, holder: None })
    }
}

/// Device and number of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// `$3` is the third value, in whichever order a statement uses them.
fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> rusqlite::Result<()> {
    for (number, value) in values.iter().enumerate() {
        if let Some(index) = statement.parameter_index(&format!("${}", number + 1))? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    Ok(())
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Number(Some(number)) => ValueRef::Integer(*number),
            Value::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Value::Number(None) | Value::Text(None) | Value::Bytes(None) => ValueRef::Null,
        }))
    }
}

/// What people can do something about has a name.
fn told(error: rusqlite::Error, limit: Duration) -> DatabaseError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DatabaseError::Locked { limit },
        Some(ErrorCode::DiskFull) => DatabaseError::Full,
        Some(ErrorCode::ReadOnly) => DatabaseError::ReadOnly,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DatabaseError::Corrupt,
        _ => DatabaseError::Sqlite(error),
    }
}

#[cfg(test)]
mod tests {
    use plumb_model::{AppName, DeploymentName};
    use plumb_plan::{Observed, Plan, plan_down};

    use super::*;
    use crate::{Limits, State, StateError, schema};

    #[test]
    fn a_full_disk_loses_nothing_that_was_said_to_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let (name, app): (DeploymentName, AppName) =
            ("shop-test".parse().expect("name"), "shop".parse().expect("name"));
        let database = Sqlite::open(&path, Limits::default().wait).expect("opens");
        let mut state = State { database: Box::new(database), place: String::new(), host: None };
        schema::migrate(&mut state).expect("makes its tables");
        state.ensure_deployment(&name, &app).expect("records");
        drop(state);
        let database = Sqlite::open(&path, Limits::default().wait).expect("opens");
        // One page more than there are: what SQLite says then is what it says of a full disk.
        let pages: u32 =
            database.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("counts");
        database
            .connection
            .query_row(&format!("PRAGMA max_page_count = {}", pages + 1), [], |row| row.get::<_, u32>(0))
            .expect("limits");
        let mut state = State { database: Box::new(database), place: String::new(), host: None };
        let plan = |generation| Plan { generation, ..plan_down(&name, &Observed::default(), &[], None) };
        let mut written = 0;
        let error = loop {
            match state.add_plan(&plan(written + 1), 1) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 10_000, "no limit");
        };
        assert!(written > 0, "there was some space");
        assert!(
            matches!(&error, StateError::Database { source: DatabaseError::Full, .. })
                && error.hint().is_some(),
            "{error:?}"
        );
        drop(state);
        let mut state = State::open(&path).expect("opens");
        let last = state.last_plan(&name).expect("reads").expect("is there");
        assert_eq!(last.plan.generation, written);
        state.add_plan(&plan(written + 1), 1).expect("there is space again");
    }
}
