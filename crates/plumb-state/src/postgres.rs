//! PostgreSQL: for several hosts. One session per open state; it holds the locks of deployments, so nothing reconnects by
//! itself: after a lost session somebody else may have them.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut};
use tokio_postgres::{Client, Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::{PostgresAddress, Tls};
use crate::database::{Database, DatabaseError, Each, Row, Sessions, Value};
use crate::{Limits, tls};

/// Whoever brings the tables to a new version holds this lock: the letters of `plumb`.
const MIGRATION_LOCK: u64 = 0x70_6c_75_6d_62;

/// A host that vanished without a word is noticed by both sides within about a minute, and its locks go with its session.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TRIES: u32 = 3;

/// A session.
pub(crate) struct Postgres {
    runtime: Runtime,
    client: Client,
    limits: Limits,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Postgres")
    }
}

impl Postgres {
    /// Connects.
    pub(crate) fn open(
        address: &PostgresAddress,
        password: Option<&str>,
        limits: Limits,
    ) -> Result<Self, DatabaseError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DatabaseError::Runtime)?;
        let mut config = address.config().clone();
        if let Some(password) = password {
            config.password(password);
        }
        config
            .application_name("plumb")
            .connect_timeout(limits.connect)
            .tcp_user_timeout(limits.answer)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_TRIES);
        let client = match address.tls() {
            Tls::Disable => connect(&runtime, config.ssl_mode(SslMode::Disable), NoTls, limits)?,
            mode => {
                let wanted = if *mode == Tls::Prefer { SslMode::Prefer } else { SslMode::Require };
                let tls = MakeRustlsConnect::new(tls::client(mode)?);
                connect(&runtime, config.ssl_mode(wanted), tls, limits)?
            }
        };
        let database = Postgres { runtime, client, limits };
        database.batch(&settings(limits))?;
        Ok(database)
    }

    fn batch(&self, sql: &str) -> Result<(), DatabaseError> {
        self.wait(self.client.batch_execute(sql))
    }

    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DatabaseError> {
        wait(&self.runtime, self.limits.answer, answer)
    }

    fn number(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<u64>, DatabaseError> {
        let mut number = None;
        self.query(sql, values, &mut |row| {
            number = row.number_or_none(0)?;
            Ok(())
        })?;
        Ok(number)
    }
}

/// The server has its own limits a little below ours, so that it usually is the one that says why.
fn settings(limits: Limits) -> String {
    format!(
        "SET statement_timeout = {statement}; SET lock_timeout = {wait};
         SET idle_in_transaction_session_timeout = {statement}; SET synchronous_commit = on;
         SET tcp_keepalives_idle = {idle}; SET tcp_keepalives_interval = {interval};
         SET tcp_keepalives_count = {KEEPALIVE_TRIES}; SET client_min_messages = warning",
        statement = limits.statement.as_millis(),
        wait = limits.wait.as_millis(),
        idle = KEEPALIVE_IDLE.as_secs(),
        interval = KEEPALIVE_INTERVAL.as_secs(),
    )
}

fn connect<T>(runtime: &Runtime, config: &Config, tls: T, limits: Limits) -> Result<Client, DatabaseError>
where
    T: MakeTlsConnect<Socket>,
    T::TlsConnect: Send,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    // `connect_timeout` is for each host and each of its addresses, and not for the words after it.
    let hosts = u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX);
    let limit = limits.connect.saturating_mul(hosts) + limits.answer;
    let (client, connection) = wait(runtime, limit, config.connect(tls))?;
    // What goes wrong in it is told to whoever waits for an answer.
    drop(runtime.spawn(connection));
    Ok(client)
}

fn wait<T>(
    runtime: &Runtime,
    limit: Duration,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DatabaseError> {
    match runtime.block_on(async { tokio::time::timeout(limit, answer).await }) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(DatabaseError::Silent { limit }),
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The server would find out by itself that the session is over, but after the next command has asked for its locks.
        if !self.client.is_closed() {
            let _ = self.batch("SELECT pg_advisory_unlock_all()");
        }
    }
}

impl Database for Postgres {
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, DatabaseError> {
        self.wait(self.client.execute_typed(sql, &typed(values)))
    }

    fn query(&self, sql: &str, values: &[Value<'_>], each: &mut Each<'_>) -> Result<(), DatabaseError> {
        let rows = self.wait(self.client.query_typed(sql, &typed(values)))?;
        rows.iter().try_for_each(|row| each(&Row::Postgres(row)))
    }

    fn begin(&self) -> Result<(), DatabaseError> {
        self.batch("BEGIN")
    }

    fn commit(&self) -> Result<(), DatabaseError> {
        self.batch("COMMIT")
    }

    fn roll_back(&self) -> Result<(), DatabaseError> {
        self.batch("ROLLBACK")
    }

    fn begin_migration(&self) -> Result<(), DatabaseError> {
        self.batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    }

    fn version(&self) -> Result<u32, DatabaseError> {
        let there = "SELECT count(*) FROM pg_tables WHERE tablename = 'plumb_schema' AND schemaname = current_schema()";
        if self.number(there, &[])?.unwrap_or(0) == 0 {
            return Ok(0);
        }
        let version = self.number("SELECT version FROM plumb_schema", &[])?.unwrap_or(0);
        Ok(u32::try_from(version).unwrap_or(u32::MAX))
    }

    fn migrate(&self, sql: &str, version: u32) -> Result<(), DatabaseError> {
        // Text is compared byte by byte, as SQLite does, and not by whichever language the server speaks.
        let sql = sql.replace(" TEXT", " TEXT COLLATE \"C\"");
        self.batch(&format!(
            "{sql}
             CREATE TABLE IF NOT EXISTS plumb_schema (version BIGINT NOT NULL);
             DELETE FROM plumb_schema;
             INSERT INTO plumb_schema (version) VALUES ({version});"
        ))
    }

    fn lock(&self, name: &str) -> Result<bool, DatabaseError> {
        let sql = format!(
            "SET lock_timeout = {}; SELECT pg_advisory_lock({}); SET lock_timeout = {}",
            self.limits.held.as_millis(),
            key(name),
            self.limits.wait.as_millis()
        );
        match self.batch(&sql) {
            Ok(()) => Ok(true),
            Err(DatabaseError::Postgres(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn session(&self, name: &str) -> Result<Sessions, DatabaseError> {
        let own = self.number("SELECT pg_backend_pid()::bigint", &[])?.unwrap_or(0);
        // How a lock by one 64-bit number is listed: PostgreSQL 15, 54.12, "pg_locks".
        let sql = format!(
            "SELECT pid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND ((classid::bigint << 32) | objid::bigint) = {}",
            key(name)
        );
        Ok(Sessions { own, holder: self.number(&sql, &[])? })
    }
}

/// Digits of a digest that a lock is numbered by: 60 bits, so that the number is positive.
const KEY_DIGITS: usize = 15;

/// The number that a deployment is locked by.
fn key(name: &str) -> i64 {
    let digest = plumb_model::Digest::of(format!("plumb deployment {name}").as_bytes()).to_string();
    let digits: String = digest.trim_start_matches("sha256:").chars().take(KEY_DIGITS).collect();
    i64::from_str_radix(&digits, 16).unwrap_or_default()
}

fn typed<'a>(values: &'a [Value<'a>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    values
        .iter()
        .map(|value| {
            let kind = match value {
                Value::Number(_) => Type::INT8,
                Value::Text(_) => Type::TEXT,
                Value::Bytes(_) => Type::BYTEA,
            };
            (value as &(dyn ToSql + Sync), kind)
        })
        .collect()
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Number(number) => number.to_sql(kind, out),
            Value::Text(text) => text.to_sql(kind, out),
            Value::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(kind)
    }

    tokio_postgres::types::to_sql_checked!();
}
