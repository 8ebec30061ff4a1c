//! The index: which image holds which package and file, and which release has which image. One SQLite database beside the
//! releases that it is made from.
//!
//! ```text
//!  release(id, app, number, unread)         unread: why its images could not be looked into
//!  image(id, digest, blind, again)          blind: why its packages are not known; again: whether another look may help
//!  member(image, release, machine, instances)
//!  component(id, ecosystem, name, version, source, source_version, suite)      every distinct one once
//!  holds(component, image, chain)           chain(id, links): what leads to it
//!  piece(id, digest, origin)                files that came together: those of one package version, or of one folder
//!  file(id, piece, path, name, digest, target)
//!  has(piece, image)
//!  feed(id, name, digest)                   feeds whose advisories are in here
//!  statement(feed, name, ecosystem, suite, package, claim, urgency, note)
//!  alias(name, feed, statement)             other names of vulnerabilities
//!  asked(source, version, suite, package)   whose changelog was read; without a name of a package that of the whole source
//! ```
//! It says nothing that releases and feeds do not say: it is made again when it is not there, damaged, or of another
//! form, and whoever asks it compares it with the releases first ([`super::record`]). What it costs follows from how many
//! distinct packages, files and images there are. Writers, and whoever replaces it, hold the store's lock `search`; whoever
//! asks it reads one state of it, whatever writers do meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plumb_store::LockGuard;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::OpsError;

/// Changes with the tables and with what is put into them.
const FORMAT: u32 = 4;

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
    blind  TEXT,
    again  INTEGER NOT NULL
);
CREATE INDEX image_again ON image (id) WHERE again = 1;
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
CREATE TABLE asked (
    source  TEXT NOT NULL,
    version TEXT NOT NULL,
    suite   TEXT NOT NULL,
    package TEXT NOT NULL,
    PRIMARY KEY (source, version, suite, package)
) WITHOUT ROWID;
";

/// The database.
pub(super) struct Index {
    pub(super) connection: Connection,
    path: PathBuf,
}

impl Index {
    /// Opens the index of this form as it is; `None` if there is none. Nothing is replaced, so that no lock is needed.
    pub(super) fn try_open(path: &Path) -> Result<Option<Index>, OpsError> {
        let Some(number) = inode(path) else { return Ok(None) };
        let Some(index) = Index::open_file(path)? else { return Ok(None) };
        // Were it replaced before its log was opened, that log would be the new one's.
        Ok((inode(path) == Some(number)).then_some(index))
    }

    /// Opens the index of this form. What is there of another form, or is no database, makes way for an empty one.
    pub(super) fn open(path: &Path, held: &LockGuard) -> Result<Index, OpsError> {
        match Index::open_file(path) {
            Ok(Some(index)) => Ok(index),
            Ok(None) => Index::make_again(path, held),
            Err(OpsError::Search { source, .. }) if is_damage(&source) => Index::make_again(path, held),
            Err(error) => Err(error),
        }
    }

    /// Removes what is there and begins with an empty index, as only the holder of the lock may.
    pub(super) fn make_again(path: &Path, _held: &LockGuard) -> Result<Index, OpsError> {
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
        let failed = |source| OpsError::Search { action: "make", path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        begin(&connection).map_err(failed)?;
        let make = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;");
        connection.execute_batch(&make).map_err(failed)?;
        Ok(Index { connection, path: path.to_owned() })
    }

    /// `None` if there is nothing, or something of another form.
    fn open_file(path: &Path) -> Result<Option<Index>, OpsError> {
        let failed = |source| OpsError::Search { action: "open", path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(path, flags) {
            Err(_) if inode(path).is_none() => return Ok(None),
            other => other.map_err(failed)?,
        };
        let found = begin(&connection).map_err(failed)?;
        Ok((found == FORMAT).then(|| Index { connection, path: path.to_owned() }))
    }

    /// Asks for one state of the index: what others write meanwhile is seen by the next question.
    pub(super) fn ask<T>(&self, ask: &dyn Fn(&Index) -> Result<T, OpsError>) -> Result<T, OpsError> {
        let snapshot = self.connection.unchecked_transaction().map_err(self.failed("read"))?;
        let answer = ask(self)?;
        snapshot.finish().map_err(self.failed("read"))?;
        Ok(answer)
    }

    /// For `map_err`.
    pub(super) fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> OpsError + use<> {
        let path = self.path.clone();
        move |source| OpsError::Search { action, path: path.clone(), source }
    }
}

/// Sets a connection up, and returns the number of the form that it finds.
fn begin(connection: &Connection) -> rusqlite::Result<u32> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What a power cut takes is made again: releases that are not in here are seen to be missing.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA mmap_size = 1073741824;",
    )?;
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Which file lies there now.
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
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

    const ADD: &str = "INSERT INTO release (app, number) SELECT 'shop', count(*) + 1 FROM release";

    #[test]
    fn what_is_no_index_makes_way_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let held = plumb_store::Store::open(folder.path()).unwrap().lock("search").unwrap();
        let path = folder.path().join("search.db");
        assert!(Index::try_open(&path).unwrap().is_none());
        let index = Index::open(&path, &held).unwrap();
        index.connection.execute(ADD, []).unwrap();
        drop(index);
        assert_eq!(count(&Index::open(&path, &held).unwrap()).unwrap(), 1, "what is good stays");
        assert_eq!(count(&Index::try_open(&path).unwrap().unwrap()).unwrap(), 1);
        for text in ["not a database at all, but long enough to be read as one", ""] {
            fs::write(&path, text).unwrap();
            assert!(!matches!(Index::try_open(&path), Ok(Some(_))));
            let left = fs::read(&path).unwrap();
            assert!(left.starts_with(text.as_bytes()), "without the lock nothing is replaced");
            assert_eq!(count(&Index::open(&path, &held).unwrap()).unwrap(), 0);
        }
        let index = Index::open(&path, &held).unwrap();
        index.connection.execute(ADD, []).unwrap();
        index.connection.execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(Index::try_open(&path).unwrap().is_none());
        assert_eq!(count(&index).unwrap(), 1, "without the lock nothing is replaced");
        drop(index);
        assert_eq!(count(&Index::open(&path, &held).unwrap()).unwrap(), 0, "another form");
        let index = Index::open(&path, &held).unwrap();
        index.connection.execute_batch("DROP TABLE release").unwrap();
        assert!(is_damage(&count(&index).unwrap_err()));
    }

    #[test]
    fn a_question_sees_one_state_while_others_write() {
        let folder = tempfile::tempdir().unwrap();
        let held = plumb_store::Store::open(folder.path()).unwrap().lock("search").unwrap();
        let path = folder.path().join("search.db");
        let writer = Index::open(&path, &held).unwrap();
        let reader = Index::try_open(&path).unwrap().unwrap();
        let seen = reader.ask(&|index| {
            let before = count(index).map_err(index.failed("read"))?;
            writer.connection.execute(ADD, []).map_err(writer.failed("write"))?;
            Ok((before, count(index).map_err(index.failed("read"))?))
        });
        assert_eq!(seen.unwrap(), (0, 0));
        assert_eq!(reader.ask(&|index| count(index).map_err(index.failed("read"))).unwrap(), 1);
    }
}
