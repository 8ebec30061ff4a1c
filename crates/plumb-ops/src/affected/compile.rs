//! What a feed says, read into the index.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use flate2::read::MultiGzDecoder;
use plumb_image::archive;
use plumb_image::deb::Limits;
use plumb_model::Digest;
use plumb_search::advisory::{self, Advisory, AdvisoryError, Form, MAX_FEED_BYTES, MAX_RECORD_BYTES, Tally};
use rusqlite::Connection;

use super::record::{CHANGELOGS, feed_id, insert_statement};
use crate::error::OpsError;

/// How much of a feed shows its form.
const HEAD_BYTES: u64 = 64 * 1024;

/// Name and digest of the feeds in the index, the changelogs left out.
pub(super) fn compiled(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare_cached("SELECT name, digest FROM feed WHERE name <> ?1")?;
    let rows = statement.query_map([CHANGELOGS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Removes what a feed said.
pub(super) fn forget(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    for delete in [
        "DELETE FROM alias WHERE statement IN
         (SELECT id FROM statement WHERE feed = (SELECT id FROM feed WHERE name = ?1))",
        "DELETE FROM statement WHERE feed = (SELECT id FROM feed WHERE name = ?1)",
        "DELETE FROM feed WHERE name = ?1",
    ] {
        connection.execute(delete, [name])?;
    }
    Ok(())
}

/// Puts what a feed says in the place of what it said before.
pub(super) fn compile(
    connection: &Connection,
    name: &str,
    digest: &Digest,
    file: &mut File,
) -> Result<(Form, Tally), CompileError> {
    forget(connection, name).map_err(CompileError::Index)?;
    let feed = feed_id(connection, name, &digest.to_string()).map_err(CompileError::Index)?;
    let mut refused = None;
    let outcome = read(file, &mut |statement: &Advisory| {
        insert_statement(connection, feed, statement).map_err(|error| {
            refused = Some(error);
            io::Error::other("the index took it not")
        })
    });
    match (outcome, refused) {
        (Err(AdvisoryError::Keep(_)), Some(error)) => Err(CompileError::Index(error)),
        (Err(error), _) => Err(CompileError::Feed(error)),
        (Ok((_, tally)), _) if tally.advisories == 0 => Err(CompileError::Feed(AdvisoryError::Empty)),
        (Ok(read), _) => Ok(read),
    }
}

/// Which of the two did not work.
#[derive(Debug)]
pub(super) enum CompileError {
    Feed(AdvisoryError),
    Index(rusqlite::Error),
}

impl CompileError {
    pub(super) fn of(self, origin: &str, failed: &dyn Fn(rusqlite::Error) -> OpsError) -> OpsError {
        match self {
            CompileError::Index(error) => failed(error),
            CompileError::Feed(error) => {
                OpsError::Advisory { origin: origin.to_owned(), source: Box::new(error) }
            }
        }
    }
}

/// Reads a feed in any form, packed with gzip or not.
fn read(file: &mut File, sink: &mut advisory::Sink<'_>) -> Result<(Form, Tally), AdvisoryError> {
    let mut head = beginning(file, false)?;
    let is_packed = head.starts_with(&[0x1f, 0x8b]);
    if is_packed {
        head = beginning(file, true)?;
    }
    let form = advisory::form_of(&head).ok_or(AdvisoryError::Form)?;
    file.seek(SeekFrom::Start(0)).map_err(AdvisoryError::Read)?;
    let tally = match (form, is_packed) {
        (Form::OsvZip, true) => return Err(AdvisoryError::Form),
        (Form::OsvZip, false) => read_members(file, sink)?,
        (_, true) => advisory::read(form, &mut MultiGzDecoder::new(file), Tally::default(), sink)?,
        (_, false) => advisory::read(form, file, Tally::default(), sink)?,
    };
    Ok((form, tally))
}

fn beginning(file: &mut File, is_packed: bool) -> Result<Vec<u8>, AdvisoryError> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(AdvisoryError::Read)?;
    let outcome = if is_packed {
        MultiGzDecoder::new(file).take(HEAD_BYTES).read_to_end(&mut head)
    } else {
        file.take(HEAD_BYTES).read_to_end(&mut head)
    };
    outcome.map_err(AdvisoryError::Read)?;
    Ok(head)
}

fn read_members(file: &mut File, sink: &mut advisory::Sink<'_>) -> Result<Tally, AdvisoryError> {
    let limits = Limits { unpacked_bytes: MAX_FEED_BYTES, file_bytes: MAX_RECORD_BYTES, ..Limits::default() };
    let mut all = Tally::default();
    let mut error = None;
    let outcome = archive::zip_members(file, &limits, &mut |name, data| {
        if !name.ends_with(".json") {
            return Ok(());
        }
        match advisory::read(Form::OsvZip, data, all, sink) {
            Ok(tally) => {
                all = tally;
                Ok(())
            }
            Err(found) => {
                error = Some(found);
                Err(io::Error::other("given up"))
            }
        }
    });
    match (error, outcome) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(AdvisoryError::Read(error)),
        (None, Ok(())) => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const ONE: &str = "{\"id\": \"CVE-2025-1234\", \"aliases\": [\"GHSA-x\"], \"affected\": [\
        {\"package\": {\"ecosystem\": \"PyPI\", \"name\": \"x\"}, \"versions\": [\"1\"]}, \
        {\"package\": {\"ecosystem\": \"Debian:99\", \"name\": \"x\"}, \"versions\": [\"1\"]}]}";

    /// A zip file with members that are stored as they are (APPNOTE 4.3).
    fn zipped(members: &[(&str, &str)]) -> Vec<u8> {
        let (mut all, mut directory) = (Vec::new(), Vec::new());
        for (name, text) in members {
            let mut crc = flate2::Crc::new();
            crc.update(text.as_bytes());
            let length = u32::try_from(text.len()).unwrap().to_le_bytes();
            let fields = [
                &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &crc.sum().to_le_bytes(),
                &length,
                &length,
                &u16::try_from(name.len()).unwrap().to_le_bytes(),
                &[0, 0],
            ]
            .concat();
            let at = u32::try_from(all.len()).unwrap();
            all.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), text.as_bytes()].concat());
            let place = [&[0; 10][..], &at.to_le_bytes()].concat();
            directory.extend([b"PK\x01\x02", &[20, 0][..], &fields, &place, name.as_bytes()].concat());
        }
        let (begin, length) = (u32::try_from(all.len()).unwrap(), u32::try_from(directory.len()).unwrap());
        let count = u16::try_from(members.len()).unwrap().to_le_bytes();
        let (length, begin) = (length.to_le_bytes(), begin.to_le_bytes());
        all.extend(directory);
        all.extend([b"PK\x05\x06", &[0; 4][..], &count, &count, &length, &begin, &[0, 0]].concat());
        all
    }

    #[test]
    fn the_same_records_count_the_same_however_they_are_packed() {
        let two = [ONE, ONE].join("\n");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(two.as_bytes()).unwrap();
        let zip = zipped(&[("a.json", ONE), ("readme", "no record"), ("b.json", ONE)]);
        for (bytes, form) in
            [(two.clone().into_bytes(), Form::Osv), (gzip.finish().unwrap(), Form::Osv), (zip, Form::OsvZip)]
        {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut names = Vec::new();
            let (found, tally) = read(&mut file, &mut |one| {
                names.push(one.name.to_string());
                Ok(())
            })
            .unwrap();
            assert_eq!((found, tally.advisories, tally.skipped), (form, 2, 2));
            assert_eq!(names, ["CVE-2025-1234", "CVE-2025-1234"]);
        }
    }

    #[test]
    fn an_index_that_fails_is_not_the_fault_of_the_feed() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE feed (id INTEGER PRIMARY KEY, name TEXT, digest TEXT)")
            .unwrap();
        connection
            .execute_batch("CREATE TABLE alias (name, statement); CREATE TABLE statement (id, feed)")
            .unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(ONE.as_bytes()).unwrap();
        let error = compile(&connection, "lab", &Digest::of(b"x"), &mut file).unwrap_err();
        assert!(matches!(error, CompileError::Index(_)), "{error:?}");
    }
}
