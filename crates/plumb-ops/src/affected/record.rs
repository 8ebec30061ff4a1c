//! Keeps the index equal to the releases: adds those that are not in it, and forgets those that are gone.

use std::collections::BTreeMap;
use std::io;

use plumb_model::definition::Definition;
use plumb_model::lock::Lock;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{Digest, MachineName};
use plumb_search::Component;
use plumb_search::advisory::Advisory;
use plumb_store::LockGuard;
use rayon::prelude::*;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::changelog::Source;
use super::index::{Index, is_damage};
use super::lookup;
use super::seen::{Content, Piece, Seen, Subject};
use crate::Plumb;
use crate::error::OpsError;
use crate::progress::{Progress, StoreStep};
use crate::why::WhyLink;

/// Lock of the store that writers of the index hold.
const LOCK: &str = "search";

/// Releases that are looked into before they are written down: enough for all processors, and never more than a few
/// inventories in memory.
const BATCH: usize = 8;

/// Name of the feed that the packages' own changelogs are.
pub(super) const CHANGELOGS: &str = "changelogs";

/// What the index lacks or has too much.
#[derive(Default)]
struct Gap {
    missing: Vec<ReleaseName>,
    gone: Vec<ReleaseName>,
}

/// A release that is looked into.
struct Read {
    release: Release,
    definition: Definition,
    lock: Lock,
}

impl Plumb<'_> {
    /// Asks the index, brought up to date. A damaged one is made again, once.
    pub(super) fn with_index<T>(&self, ask: &dyn Fn(&Index) -> Result<T, OpsError>) -> Result<T, OpsError> {
        match self.search_index().and_then(|index| index.ask(ask)) {
            Err(OpsError::Search { source, .. }) if is_damage(&source) => {
                let held = self.search_lock()?;
                drop(Index::make_again(&self.home.search(), &held)?);
                drop(held);
                self.search_index()?.ask(ask)
            }
            other => other,
        }
    }

    /// Looks into a release that was just made, so that the first question about it need not. If that does not work, the
    /// next question will.
    pub(crate) fn remember_for_search(&self) {
        if let Err(error) = self.search_index() {
            let what = format!("looking into the release: {}", error.in_one_line());
            self.report(Progress::Postponed { what });
        }
    }

    /// The index as releases and feeds are now.
    fn search_index(&self) -> Result<Index, OpsError> {
        let path = self.home.search();
        let is_current = |index: &Index| Ok(self.gap(index)?.is_none() && !self.feeds_differ(index)?);
        if let Some(index) = Index::try_open(&path)?
            && index.ask(&is_current)?
        {
            return Ok(index);
        }
        let held = self.search_lock()?;
        // Whoever held the lock may have done it.
        let mut index = Index::open(&path, &held)?;
        if let Some(gap) = self.gap(&index)? {
            self.fill(&mut index, gap)?;
        }
        self.compile_feeds(&mut index)?;
        Ok(index)
    }

    /// With the lock that writers hold. What is damaged is made again, once, and the next question fills it.
    pub(super) fn with_writable<T>(
        &self,
        write: &mut dyn FnMut(&mut Index) -> Result<T, OpsError>,
    ) -> Result<T, OpsError> {
        let held = self.search_lock()?;
        let path = self.home.search();
        match write(&mut Index::open(&path, &held)?) {
            Err(OpsError::Search { source, .. }) if is_damage(&source) => {
                write(&mut Index::make_again(&path, &held)?)
            }
            other => other,
        }
    }

    fn search_lock(&self) -> Result<LockGuard, OpsError> {
        Ok(self.store.lock_waiting(LOCK, &mut |_| self.report(Progress::Store(StoreStep::Waiting)))?)
    }

    fn gap(&self, index: &Index) -> Result<Option<Gap>, OpsError> {
        let known = lookup::releases(&index.connection).map_err(index.failed("read"))?;
        let mut unread = lookup::again(&index.connection, &known).map_err(index.failed("read"))?;
        unread.extend(known.unread.iter().map(|(name, _)| name.clone()));
        let mut known_names = known.names.iter().peekable();
        let mut gap = Gap::default();
        // Both are sorted: what is only on one side is missing or gone.
        for app in self.store.apps()? {
            for number in self.store.releases(&app)? {
                let name = ReleaseName { app: app.clone(), number };
                while let Some(gone) = known_names.next_if(|known| **known < name) {
                    gap.gone.push(gone.clone());
                }
                if known_names.next_if(|known| **known == name).is_none() || unread.contains(&name) {
                    gap.missing.push(name);
                }
            }
        }
        gap.gone.extend(known_names.cloned());
        Ok((!gap.missing.is_empty() || !gap.gone.is_empty()).then_some(gap))
    }

    fn fill(&self, index: &mut Index, gap: Gap) -> Result<(), OpsError> {
        let failed = index.failed("write");
        let clean = || -> rusqlite::Result<()> {
            let transaction = index.connection.unchecked_transaction()?;
            forget_halves(&transaction)?;
            // One that could not be read is tried again each time, and one that is gone may be among them.
            transaction.execute(
                "DELETE FROM member WHERE release IN (SELECT id FROM release WHERE unread IS NOT NULL)",
                [],
            )?;
            transaction.execute("DELETE FROM release WHERE unread IS NOT NULL", [])?;
            for name in &gap.gone {
                forget(&transaction, name)?;
            }
            if !gap.gone.is_empty() {
                sweep(&transaction)?;
            }
            transaction.commit()
        };
        clean().map_err(&failed)?;
        let of = gap.missing.len();
        for (at, names) in gap.missing.chunks(BATCH).enumerate() {
            self.report(Progress::Indexing { done: at * BATCH, of });
            self.add(index, names)?;
        }
        if of > 0 {
            self.report(Progress::Indexing { done: of, of });
        }
        Ok(())
    }

    /// Adds releases. What of one cannot be read is remembered with its reason, and is no reason not to answer.
    fn add(&self, index: &mut Index, names: &[ReleaseName]) -> Result<(), OpsError> {
        let failed = index.failed("write");
        let read: Vec<Result<Read, OpsError>> =
            names.par_iter().map(|name| self.read_for_index(name)).collect();
        let mut jobs: BTreeMap<Digest, (&Read, &MachineName)> = BTreeMap::new();
        for read in read.iter().flatten() {
            for (machine, entry) in &read.release.content.machines {
                if image_id(&index.connection, &entry.image).map_err(&failed)?.is_none() {
                    jobs.entry(entry.image).or_insert((read, machine));
                }
            }
        }
        let look = |(digest, (read, machine)): (Digest, (&Read, &MachineName))| {
            let seen = self.image(&digest).and_then(|image| {
                let (definition, lock) = (&read.definition, &read.lock);
                self.look_into(&Subject { machine, image: &image, definition, lock })
            });
            (digest, seen)
        };
        let looked: Vec<(Digest, Result<Seen, OpsError>)> = jobs.clone().into_par_iter().map(look).collect();
        let (mut seen, mut unseen) = (BTreeMap::new(), BTreeMap::new());
        for (digest, outcome) in looked {
            match outcome {
                Ok(one) => drop(seen.insert(digest, one)),
                Err(error) => drop(unseen.insert(digest, error.in_one_line())),
            }
        }
        let sources = jobs.iter().map(|(digest, (read, _))| {
            (*digest, Source { lock: &read.lock, suite: &read.definition.base.suite })
        });
        let said = self.changelogs(&index.connection, &mut seen, &sources.collect()).map_err(&failed)?;
        let mut write = || -> rusqlite::Result<()> {
            let transaction = index.connection.transaction()?;
            for (digest, seen) in &seen {
                insert_image(&transaction, digest, seen)?;
            }
            for (name, read) in names.iter().zip(&read) {
                insert_release(&transaction, name, read, &unseen)?;
            }
            said.iter().try_for_each(|one| one.insert(&transaction))?;
            transaction.commit()
        };
        write().map_err(failed)
    }

    fn read_for_index(&self, name: &ReleaseName) -> Result<Read, OpsError> {
        let release = self.read_release(name)?;
        let definition = self.definition_of(&release)?;
        let lock = self.lock_of(&release)?;
        Ok(Read { release, definition, lock })
    }
}

/// Removes images of which not everything could be read, and leaves their releases to be tried again.
fn forget_halves(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let are_there: bool =
        transaction.query_row("SELECT EXISTS (SELECT 1 FROM image WHERE again = 1)", [], |row| row.get(0))?;
    if !are_there {
        return Ok(());
    }
    transaction.execute_batch(
        "UPDATE release SET unread = '' WHERE id IN
             (SELECT release FROM member JOIN image ON image.id = member.image WHERE again = 1);
         DELETE FROM holds WHERE image IN (SELECT id FROM image WHERE again = 1);
         DELETE FROM has WHERE image IN (SELECT id FROM image WHERE again = 1);
         DELETE FROM member WHERE image IN (SELECT id FROM image WHERE again = 1);
         DELETE FROM image WHERE again = 1;",
    )
}

fn forget(transaction: &Transaction<'_>, name: &ReleaseName) -> rusqlite::Result<()> {
    let at = params![name.app.as_str(), name.number];
    transaction.execute(
        "DELETE FROM member WHERE release = (SELECT id FROM release WHERE app = ?1 AND number = ?2)",
        at,
    )?;
    transaction.execute("DELETE FROM release WHERE app = ?1 AND number = ?2", at)?;
    Ok(())
}

/// Removes what no release has any more. What changelogs said stays true.
fn sweep(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "DELETE FROM image WHERE id NOT IN (SELECT image FROM member);
         DELETE FROM holds WHERE image NOT IN (SELECT id FROM image);
         DELETE FROM has WHERE image NOT IN (SELECT id FROM image);
         DELETE FROM component WHERE id NOT IN (SELECT component FROM holds);
         DELETE FROM chain WHERE id NOT IN (SELECT chain FROM holds);
         DELETE FROM piece WHERE id NOT IN (SELECT piece FROM has);
         DELETE FROM file WHERE piece NOT IN (SELECT id FROM piece);",
    )
}

fn image_id(connection: &Connection, digest: &Digest) -> rusqlite::Result<Option<i64>> {
    let mut find = connection.prepare_cached("SELECT id FROM image WHERE digest = ?1")?;
    find.query_row([&digest.as_bytes()[..]], |row| row.get(0)).optional()
}

fn insert_image(transaction: &Transaction<'_>, digest: &Digest, seen: &Seen) -> rusqlite::Result<()> {
    transaction.prepare_cached("INSERT INTO image (digest, blind, again) VALUES (?1, ?2, ?3)")?.execute(
        params![&digest.as_bytes()[..], seen.blind.as_ref().or(seen.missed.as_ref()), seen.missed.is_some()],
    )?;
    let image = transaction.last_insert_rowid();
    for (component, links) in &seen.components {
        let id = match find_component(transaction, component)? {
            Some(id) => id,
            None => insert_component(transaction, component)?,
        };
        let chain = chain_id(transaction, links)?;
        transaction
            .prepare_cached("INSERT OR IGNORE INTO holds (component, image, chain) VALUES (?1, ?2, ?3)")?
            .execute([id, image, chain])?;
    }
    for piece in &seen.pieces {
        let id = piece_id(transaction, piece)?;
        transaction
            .prepare_cached("INSERT OR IGNORE INTO has (piece, image) VALUES (?1, ?2)")?
            .execute([id, image])?;
    }
    Ok(())
}

fn find_component(connection: &Connection, component: &Component) -> rusqlite::Result<Option<i64>> {
    let mut find = connection.prepare_cached(
        "SELECT id FROM component WHERE name = ?1 AND version = ?2 AND ecosystem = ?3 AND source = ?4
         AND source_version = ?5 AND suite = ?6",
    )?;
    find.query_row(columns(component), |row| row.get(0)).optional()
}

fn insert_component(transaction: &Transaction<'_>, component: &Component) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO component (name, version, ecosystem, source, source_version, suite)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(columns(component))?;
    Ok(transaction.last_insert_rowid())
}

fn columns(component: &Component) -> [&str; 6] {
    let Component { ecosystem, name, version, source, source_version, suite } = component;
    [name, version, ecosystem.as_str(), source, source_version, suite]
}

fn chain_id(transaction: &Transaction<'_>, links: &[WhyLink]) -> rusqlite::Result<i64> {
    let text = serde_json::to_string(links)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut find = transaction.prepare_cached("SELECT id FROM chain WHERE links = ?1")?;
    if let Some(id) = find.query_row([&text], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    transaction.prepare_cached("INSERT INTO chain (links) VALUES (?1)")?.execute([&text])?;
    Ok(transaction.last_insert_rowid())
}

fn piece_id(transaction: &Transaction<'_>, piece: &Piece) -> rusqlite::Result<i64> {
    let mut find = transaction.prepare_cached("SELECT id FROM piece WHERE digest = ?1")?;
    if let Some(id) = find.query_row([&piece.digest.as_bytes()[..]], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    transaction
        .prepare_cached("INSERT INTO piece (digest, origin) VALUES (?1, ?2)")?
        .execute(params![&piece.digest.as_bytes()[..], piece.origin])?;
    let id = transaction.last_insert_rowid();
    let mut add = transaction
        .prepare_cached("INSERT INTO file (piece, path, name, digest, target) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for file in &piece.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let (digest, target) = match &file.content {
            Content::File(digest) => (Some(&digest.as_bytes()[..]), None),
            Content::Link(target) => (None, Some(target)),
        };
        add.execute(params![id, file.path, name, digest, target])?;
    }
    Ok(id)
}

fn insert_release(
    transaction: &Transaction<'_>,
    name: &ReleaseName,
    read: &Result<Read, OpsError>,
    unseen: &BTreeMap<Digest, String>,
) -> rusqlite::Result<()> {
    let machines = read.as_ref().map(|read| &read.release.content.machines);
    let unread = match &machines {
        Err(error) => Some(error.in_one_line()),
        Ok(machines) => machines.iter().find_map(|(machine, entry)| {
            unseen.get(&entry.image).map(|reason| format!("machine `{machine}`: {reason}"))
        }),
    };
    transaction
        .prepare_cached("INSERT INTO release (app, number, unread) VALUES (?1, ?2, ?3)")?
        .execute(params![name.app.as_str(), name.number, unread])?;
    let release = transaction.last_insert_rowid();
    for (machine, entry) in machines.into_iter().flatten() {
        let Some(image) = image_id(transaction, &entry.image)? else { continue };
        transaction
            .prepare_cached(
                "INSERT INTO member (image, release, machine, instances) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![image, release, machine.as_str(), entry.instances])?;
    }
    Ok(())
}

/// Number of a feed; with another digest than before, it is now the one with this.
pub(super) fn feed_id(transaction: &Connection, name: &str, digest: &str) -> rusqlite::Result<i64> {
    let mut find = transaction.prepare_cached("SELECT id FROM feed WHERE name = ?1 AND digest = ?2")?;
    if let Some(id) = find.query_row([name, digest], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    transaction.execute("INSERT INTO feed (name, digest) VALUES (?1, ?2)", [name, digest])?;
    Ok(transaction.last_insert_rowid())
}

pub(super) fn insert_statement(
    transaction: &Connection,
    feed: i64,
    statement: &Advisory,
) -> rusqlite::Result<()> {
    let claim = serde_json::to_string(&statement.claim)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(io::Error::from(error))))?;
    transaction
        .prepare_cached(
            "INSERT INTO statement (feed, name, ecosystem, suite, package, claim, urgency, note)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            feed,
            statement.name.as_str(),
            statement.ecosystem.as_str(),
            statement.suite,
            statement.package,
            claim,
            statement.urgency.as_str(),
            statement.note
        ])?;
    let id = transaction.last_insert_rowid();
    for alias in &statement.aliases {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO alias (name, statement) VALUES (?1, ?2)")?
            .execute(params![alias.as_str(), id])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(transaction: &Transaction<'_>, table: &str) -> u32 {
        transaction.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    fn seen(missed: Option<&str>) -> Seen {
        let component = Component {
            ecosystem: plumb_search::Ecosystem::Debian,
            name: "libssl3".to_owned(),
            version: "3.0.17-1".to_owned(),
            source: "openssl".to_owned(),
            source_version: "3.0.17-1".to_owned(),
            suite: "bookworm".to_owned(),
        };
        let components = vec![(component, Vec::new())];
        Seen { components, pieces: Vec::new(), blind: None, missed: missed.map(str::to_owned) }
    }

    /// A disk that failed once hides nothing for ever.
    #[test]
    fn what_was_not_read_whole_is_looked_into_again() {
        let folder = tempfile::tempdir().unwrap();
        let held = plumb_store::Store::open(folder.path()).unwrap().lock("search").unwrap();
        let mut index = Index::open(&folder.path().join("search.db"), &held).unwrap();
        let transaction = index.connection.transaction().unwrap();
        for (number, missed) in [(1, None), (2, Some("the changelog of `libssl3` is not known"))] {
            insert_image(&transaction, &Digest::of(&[number]), &seen(missed)).unwrap();
            transaction.execute("INSERT INTO release (app, number) VALUES ('shop', ?1)", [number]).unwrap();
            transaction
                .execute(
                    "INSERT INTO member (image, release, machine, instances)
                     SELECT image.id, release.id, 'web', 1 FROM image, release
                     WHERE image.digest = ?1 AND number = ?2",
                    params![&Digest::of(&[number]).as_bytes()[..], number],
                )
                .unwrap();
        }
        let releases = lookup::releases(&transaction).unwrap();
        let told = lookup::blind(&transaction, &releases).unwrap();
        let again = lookup::again(&transaction, &releases).unwrap();
        let names: Vec<u64> = again.iter().map(|name| name.number).collect();
        assert_eq!((names, told.len()), (vec![2], 1));
        assert!(told[0].1.contains("`libssl3` is not known"), "{told:?}");
        forget_halves(&transaction).unwrap();
        let left = ["image", "holds", "member", "component"].map(|table| count(&transaction, table));
        assert_eq!(left, [1, 1, 1, 1]);
        let releases = lookup::releases(&transaction).unwrap();
        assert_eq!(releases.unread.iter().map(|(name, _)| name.number).collect::<Vec<_>>(), [2]);
        assert_eq!(lookup::again(&transaction, &releases).unwrap(), [].into());
        forget_halves(&transaction).unwrap();
        assert_eq!(count(&transaction, "image"), 1, "what was read stays");
    }
}
