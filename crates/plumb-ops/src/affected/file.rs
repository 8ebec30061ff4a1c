//! Files, as the index knows them: a path is what it is in each image.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_search::{At, Entry, FileQuery, Found, resolve};
use rusqlite::Connection;

use super::lookup::{damaged, holders};

/// Files, each with the images that have it.
#[derive(Default)]
pub(super) struct Files {
    pub(super) found: BTreeMap<Found, BTreeSet<u32>>,
    /// Paths that lead further than they were followed.
    pub(super) cut: BTreeSet<String>,
}

/// Files that a query means.
pub(super) fn files(connection: &Connection, query: &FileQuery) -> rusqlite::Result<Files> {
    let mut files = Files::default();
    match query {
        FileQuery::Content(digest) => {
            let mut statement = connection.prepare_cached("SELECT id, piece FROM file WHERE digest = ?1")?;
            let mut rows = statement.query([&digest.as_bytes()[..]])?;
            while let Some(row) = rows.next()? {
                files.take(connection, row.get(0)?, images_with(connection, row.get(1)?)?)?;
            }
        }
        FileQuery::Path(path) => {
            let mut statement = connection.prepare_cached("SELECT id FROM image")?;
            let images = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            files.follow(connection, path, images)?;
        }
        FileQuery::Name(name) => {
            // Paths of images are real: only a link by this name leads anywhere else, in the images that have it.
            let mut links: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
            let mut statement = connection
                .prepare_cached("SELECT id, piece, path, target IS NULL FROM file WHERE name = ?1")?;
            let mut rows = statement.query([name])?;
            while let Some(row) = rows.next()? {
                let images = images_with(connection, row.get(1)?)?;
                match row.get(3)? {
                    true => files.take(connection, row.get(0)?, images)?,
                    false => links.entry(row.get(2)?).or_default().extend(images),
                }
            }
            for (path, images) in links {
                files.follow(connection, &path, images)?;
            }
        }
    }
    Ok(files)
}

impl Files {
    fn take(&mut self, connection: &Connection, id: i64, images: BTreeSet<u32>) -> rusqlite::Result<()> {
        self.found.entry(file(connection, id)?).or_default().extend(images);
        Ok(())
    }

    fn follow(&mut self, connection: &Connection, path: &str, images: BTreeSet<u32>) -> rusqlite::Result<()> {
        let resolution = resolve(path, images, &mut |path| at(connection, path))?;
        if !resolution.complete {
            self.cut.insert(path.to_owned());
        }
        for one in resolution.found {
            let id = i64::try_from(one.file).map_err(|_| damaged(0))?;
            self.take(connection, id, one.images)?;
        }
        Ok(())
    }
}

/// What lies at exactly this path, in which images.
fn at(connection: &Connection, path: &str) -> rusqlite::Result<Vec<At>> {
    let mut statement = connection.prepare_cached("SELECT id, piece, target FROM file WHERE path = ?1")?;
    let mut rows = statement.query([path])?;
    let mut places: Vec<At> = Vec::new();
    while let Some(row) = rows.next()? {
        let images = images_with(connection, row.get(1)?)?;
        let entry = match row.get::<_, Option<String>>(2)? {
            Some(target) => Entry::Link(target),
            None => Entry::File(row.get(0)?),
        };
        // Links of a thousand pieces to one target are one way on.
        match places.iter_mut().find(|place| place.entry == entry) {
            Some(place) => place.images.extend(images),
            None => places.push(At { images, entry }),
        }
    }
    Ok(places)
}

fn images_with(connection: &Connection, piece: i64) -> rusqlite::Result<BTreeSet<u32>> {
    let mut statement = connection.prepare_cached("SELECT image FROM has WHERE piece = ?1")?;
    statement.query_map([piece], |row| row.get(0))?.collect()
}

fn file(connection: &Connection, id: i64) -> rusqlite::Result<Found> {
    let mut statement = connection.prepare_cached(
        "SELECT path, file.digest, origin FROM file JOIN piece ON piece.id = file.piece WHERE file.id = ?1",
    )?;
    statement.query_row([id], |row| {
        let digest: [u8; 32] = row.get(1)?;
        Ok(Found::File { path: row.get(0)?, digest: Digest::from_bytes(digest), origin: row.get(2)? })
    })
}

/// The chains that lead to the package of a file, by image.
pub(super) fn chains_to_origin(
    connection: &Connection,
    origin: &str,
) -> rusqlite::Result<BTreeMap<u32, i64>> {
    let Some((name, version)) = origin.split_once(' ') else { return Ok(BTreeMap::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT id FROM component WHERE name = ?1 AND version = ?2 AND ecosystem = 'debian'",
    )?;
    let ids: Vec<i64> = statement.query_map([name, version], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut all = BTreeMap::new();
    for id in ids {
        all.extend(holders(connection, id)?);
    }
    Ok(all)
}
