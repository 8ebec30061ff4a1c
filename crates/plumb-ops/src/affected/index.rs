//! The index: which image holds which package and file, and which release has which image. One SQLite database beside the
//! releases that it is made from.
//!
//! ```text
//!  release(id, app, number, unread)         unread: why its images could not be looked into
//!  image(id, digest, blind)                 blind: why its packages are not known
//!  member(image, release, machine, instances)
//!  component(id, ecosystem, name, version, source, source_version, suite)      every distinct one once
//!  holds(component, image, chain)           chain(id, links): what leads to it
//!  piece(id, digest, origin)                files that came together: those of one package version, or of one folder
//!  file(id, piece, path, name, digest, target)
//!  has(piece, image)
//!  feed(id, name, digest)                   feeds whose advisories are in here
//!  statement(feed, name, ecosystem, suite, package, claim, urgency, note)
//!  alias(name, feed, statement)             other names of vulnerabilities
//! ```
//! It says nothing that releases and feeds do not say: it is made again when it is not there, damaged, or of another
//! form, and whoever asks it compares it with the releases first ([`super::record`]). What it costs follows from how many
//! distinct packages, files and images there are. Writers hold the store's lock `search`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::error::OpsError;

/// Changes with the tables and with what is put into them.
const FORMAT: u32 = 1;

/// How long a reader waits for a writer that replaces the head of the log; a second is far more than that takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE release (
    id     INTEGER PRIMARY KEY,
    app    TEXT NOT NULL,
    number INTEGER NOT NULL,
    unread TEXT,
    UNIQUE (app, number)
);
CREATE INDEX release_unread ON release (id) WHERE unread IS NOT NULL;
CREATE TABLE image (
    id     INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    blind  TEXT
);
CREATE INDEX image_blind ON image (id) WHERE blind IS NOT NULL;
CREATE TABLE member (
    image     INTEGER NOT NULL,
    release   INTEGER NOT NULL,
    machine   TEXT NOT NULL,
    instances INTEGER NOT NULL,
    PRIMARY KEY (image, release, machine)
) WITHOUT ROWID;
CREATE TABLE component (
    id             INTEGER PRIMARY KEY,
    ecosystem      TEXT NOT NULL,
    name           TEXT NOT NULL,
    version        TEXT NOT NULL,
    source         TEXT NOT NULL,
    source_version TEXT NOT NULL,
    suite          TEXT NOT NULL,
    UNIQUE (name, version, ecosystem, source, source_version, suite)
);
CREATE INDEX component_source ON component (source);
CREATE TABLE chain (
    id    INTEGER PRIMARY KEY,
    links TEXT NOT NULL UNIQUE
);
CREATE TABLE holds (
    component INTEGER NOT NULL,
    image     INTEGER NOT NULL,
    chain     INTEGER NOT NULL,
    PRIMARY KEY (component, image)
) WITHOUT ROWID;
CREATE TABLE piece (
    id     INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    origin TEXT NOT NULL
);
CREATE TABLE file (
    id     INTEGER PRIMARY KEY,
    piece  INTEGER NOT NULL,
    path   TEXT NOT NULL,
    name   TEXT NOT NULL,
    digest BLOB,
    target TEXT
);
CREATE INDEX file_path ON file (path);
CREATE INDEX file_name ON file (name);
CREATE INDEX file_digest ON file (digest) WHERE digest IS NOT NULL;
CREATE TABLE has (
    piece INTEGER NOT NULL,
    image INTEGER NOT NULL,
    PRIMARY KEY (piece, image)
) WITHOUT ROWID;
CREATE TABLE feed (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL
);
CREATE TABLE statement (
    id        INTEGER PRIMARY KEY,
    feed      INTEGER NOT NULL,
    name      TEXT NOT NULL,
    ecosystem TEXT NOT NULL,
    suite     TEXT,
    package   TEXT NOT NULL,
    claim     TEXT NOT NULL,
    urgency   TEXT NOT NULL,
    note      TEXT NOT NULL
);
CREATE INDEX statement_name ON statement (name);
CREATE INDEX statement_package ON statement (package, ecosystem);
CREATE TABLE alias (
    name      TEXT NOT NULL,
    statement INTEGER NOT NULL,
    PRIMARY KEY (name, statement)
) WITHOUT ROWID;
CREATE INDEX alias_statement ON alias (statement);
";

/// The database.
pub(super) struct Index {
    pub(super) connection: Connection,
    path: PathBuf,
}

impl Index {
    /// Opens the index of this form. What is there of another form, or is no database, makes way for an empty one.
    pub(super) fn open(path: &Path) -> Result<Index, OpsError> {
        match Index::try_open(path) {
            Ok(Some(index)) => Ok(index),
            Ok(None) => Index::make_again(path),
            Err(OpsError::Search { source, .. }) if is_damage(&source) => Index::make_again(path),
            Err(error) => Err(error),
        }
    }

    /// Removes what is there and begins with an empty index.
    pub(super) fn make_again(path: &Path) -> Result<Index, OpsError> {
        for end in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            match fs::remove_file(&name) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(OpsError::Io { action: "remove", path: name.into(), source });
                }
                _ => {}
            }
        }
        let opened = Index::try_open(path)?;
        opened.ok_or_else(|| OpsError::Search {
            action: "make",
            path: path.to_owned(),
            source: rusqlite::Error::InvalidQuery,
        })
    }

    /// `None` for another form.
    fn try_open(path: &Path) -> Result<Option<Index>, OpsError> {
        let failed = |source| OpsError::Search { action: "open", path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        let begin = || {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // What a power cut takes is made again: releases that are not in here are seen to be missing.
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA mmap_size = 1073741824;",
            )?;
            let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if found == 0 {
                let make = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;");
                if let Err(error) = connection.execute_batch(&make) {
                    // Another process may have made them while we waited for it.
                    if !connection.is_autocommit() {
                        connection.execute_batch("ROLLBACK")?;
                    }
                    let now: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
                    return if now == FORMAT { Ok(now) } else { Err(error) };
                }
                return Ok(FORMAT);
            }
            Ok(found)
        };
        let found = begin().map_err(failed)?;
        Ok((found == FORMAT).then(|| Index { connection, path: path.to_owned() }))
    }

    /// For `map_err`.
    pub(super) fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> OpsError + use<> {
        let path = self.path.clone();
        move |source| OpsError::Search { action, path: path.clone(), source }
    }
}

/// Whether an error means that the file is not what was written.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                // A table that is not there: somebody else's database, or half of ours.
                || message.as_deref().is_some_and(|text| text.starts_with("no such"))
        }
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(index: &Index) -> rusqlite::Result<u32> {
        index.connection.query_row("SELECT count(*) FROM release", [], |row| row.get(0))
    }

    #[test]
    fn what_is_no_index_makes_way_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search.db");
        let index = Index::open(&path).unwrap();
        index.connection.execute("INSERT INTO release (app, number) VALUES ('shop', 1)", []).unwrap();
        drop(index);
        assert_eq!(count(&Index::open(&path).unwrap()).unwrap(), 1, "what is good stays");
        for text in ["not a database at all, but long enough to be read as one", ""] {
            fs::write(&path, text).unwrap();
            assert_eq!(count(&Index::open(&path).unwrap()).unwrap(), 0);
        }
        let index = Index::open(&path).unwrap();
        index.connection.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(index);
        assert_eq!(count(&Index::open(&path).unwrap()).unwrap(), 0, "another form");
        let index = Index::open(&path).unwrap();
        index.connection.execute_batch("DROP TABLE release").unwrap();
        assert!(is_damage(&count(&index).unwrap_err()));
    }
}
