//! The one door to the database, whichever it is: statements with values in, rows out.
//!
//! Every statement is written once, in the SQL that SQLite and PostgreSQL both understand: values are `$1`, `$2`, …;
//! whole numbers are `BIGINT`, bytes are `BYTEA`. What differs between the two is in their two modules and nowhere else.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

/// A value of a statement. The kind is known also where there is no value: PostgreSQL wants to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// A whole number.
    Number(Option<i64>),
    /// A text.
    Text(Option<&'a str>),
    /// Bytes.
    Bytes(Option<&'a [u8]>),
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::from(Some(number))
    }
}

impl From<Option<u64>> for Value<'_> {
    fn from(number: Option<u64>) -> Self {
        // Both databases count to 2^63; no time and no count gets there, and one that claims to stays at the end.
        Value::Number(number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Value::Bytes(Some(bytes))
    }
}

/// A row while it is read.
pub(crate) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

impl Row<'_> {
    /// The text in a column.
    pub(crate) fn text(&self, column: usize) -> Result<&str, DatabaseError> {
        self.text_or_none(column)?.ok_or(DatabaseError::Column { column })
    }

    /// The text in a column that may be empty.
    pub(crate) fn text_or_none(&self, column: usize) -> Result<Option<&str>, DatabaseError> {
        match self {
            Row::Sqlite(row) => {
                row.get_ref(column)?.as_str_or_null().map_err(|_| DatabaseError::Column { column })
            }
            Row::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// The number in a column.
    pub(crate) fn number(&self, column: usize) -> Result<u64, DatabaseError> {
        self.number_or_none(column)?.ok_or(DatabaseError::Column { column })
    }

    /// The number in a column that may be empty.
    pub(crate) fn number_or_none(&self, column: usize) -> Result<Option<u64>, DatabaseError> {
        let number: Option<i64> = match self {
            Row::Sqlite(row) => {
                row.get_ref(column)?.as_i64_or_null().map_err(|_| DatabaseError::Column { column })?
            }
            Row::Postgres(row) => row.try_get(column)?,
        };
        number.map(u64::try_from).transpose().map_err(|_| DatabaseError::Column { column })
    }

    /// The bytes in a column that may be empty.
    pub(crate) fn bytes_or_none(&self, column: usize) -> Result<Option<&[u8]>, DatabaseError> {
        match self {
            Row::Sqlite(row) => {
                row.get_ref(column)?.as_blob_or_null().map_err(|_| DatabaseError::Column { column })
            }
            Row::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// The bytes in a column.
    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], DatabaseError> {
        self.bytes_or_none(column)?.ok_or(DatabaseError::Column { column })
    }
}

/// What is done with each row.
pub(crate) type Each<'a> = dyn FnMut(&Row<'_>) -> Result<(), DatabaseError> + 'a;

/// A database that is open. All waiting in it has a limit.
pub(crate) trait Database: Debug + Send {
    /// Carries out one statement. The result is how many rows it changed.
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, DatabaseError>;

    /// Hands every row of the answer to `each`, in its order.
    fn query(&self, sql: &str, values: &[Value<'_>], each: &mut Each<'_>) -> Result<(), DatabaseError>;

    /// Begins a transaction in which nobody else writes what is read in it.
    fn begin(&self) -> Result<(), DatabaseError>;

    /// Ends it; what was written is on disk.
    fn commit(&self) -> Result<(), DatabaseError>;

    /// Ends it as if it had not been.
    fn roll_back(&self) -> Result<(), DatabaseError>;

    /// Begins a transaction in which nobody else changes tables.
    fn begin_migration(&self) -> Result<(), DatabaseError>;

    /// Version of the tables; 0 before there are any.
    fn version(&self) -> Result<u32, DatabaseError>;

    /// Carries out one entry of the list of versions: statements without values.
    fn migrate(&self, sql: &str, version: u32) -> Result<(), DatabaseError>;

    /// Takes a lock that ends with this session, by name. `false` if another session has it.
    fn lock(&self, name: &str) -> Result<bool, DatabaseError>;

    /// What tells this session from others that are open, and from the one that holds the lock `name`.
    fn session(&self, name: &str) -> Result<Sessions, DatabaseError>;
}

/// Numbers of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// This one.
    pub(crate) own: u64,
    /// The one that holds the lock.
    pub(crate) holder: Option<u64>,
}

/// What a database says.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refused.
    #[error("{}", said(.0))]
    Postgres(tokio_postgres::Error),
    /// The session with PostgreSQL has ended, and the transaction and the locks with it.
    #[error("the connection was lost: {}", said(.0))]
    Lost(tokio_postgres::Error),
    /// No answer in time.
    #[error("no answer within {} s", limit.as_secs())]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// The file was removed or replaced while it was open: what is written would be lost.
    #[error("the file was removed or replaced while it was in use")]
    Gone,
    /// Another process holds it for longer than is waited.
    #[error("another process has locked it for more than {} s", limit.as_secs())]
    Locked {
        /// How long was waited.
        limit: Duration,
    },
    /// The disk is full.
    #[error("there is no space left on its file system")]
    Full,
    /// It may only be read.
    #[error("it may only be read, by its permissions or those of its folder")]
    ReadOnly,
    /// What is stored is not a database any more.
    #[error("the file is damaged, or no database")]
    Corrupt,
    /// Something else than expected stands in a column.
    #[error("column {} is not what it should be", column + 1)]
    Column {
        /// Which, from 0.
        column: usize,
    },
    /// What was copied reads back as something else; it was taken back.
    #[error("table `{table}` reads back as something else; nothing was copied")]
    Copy {
        /// Which table.
        table: &'static str,
    },
    /// No runtime for the connection.
    #[error("cannot prepare a connection")]
    Runtime(#[source] std::io::Error),
    /// A file with certificates cannot be used.
    #[error("cannot use the certificates in `{path}`: {reason}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file with passwords cannot be used.
    #[error("cannot use the passwords in `{path}`: {reason}")]
    Passwords {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl DatabaseError {
    /// Whether the session is over: nothing more can be written through it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, DatabaseError::Lost(_) | DatabaseError::Silent { .. } | DatabaseError::Gone)
    }

    /// Whether another session was faster with the same key: the same once more may do.
    pub(crate) fn is_taken(&self) -> bool {
        use tokio_postgres::error::SqlState;
        let DatabaseError::Postgres(error) = self else { return false };
        let codes = [SqlState::UNIQUE_VIOLATION, SqlState::T_R_SERIALIZATION_FAILURE];
        error.code().is_some_and(|code| codes.contains(code))
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        use tokio_postgres::error::SqlState;
        // Class 57P: the server ends the session (PostgreSQL 15, appendix A).
        let ended = error.code().is_some_and(|code| {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
        });
        let broken = std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>());
        if error.is_closed() || ended || broken {
            DatabaseError::Lost(error)
        } else if error.code() == Some(&SqlState::DISK_FULL) {
            DatabaseError::Full
        } else {
            DatabaseError::Postgres(error)
        }
    }
}

/// An error of PostgreSQL in one line. None of its parts holds a password.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_what_both_databases_count() {
        assert!(matches!(Value::from(u64::MAX), Value::Number(Some(i64::MAX))));
        assert!(matches!(Value::from(None::<u64>), Value::Number(None)));
    }
}
