//! What is asked of the index.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::MachineName;
use plumb_model::release::ReleaseName;
use plumb_search::advisory::{Claim, Urgency};
use plumb_search::{Component, Ecosystem, Occurrence, VulnerabilityName};
use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::Scope;
use crate::why::WhyLink;

/// Above so many, all members are read in one go instead of those of one image after the other.
const MANY_HITS: usize = 256;

/// Releases of the index.
pub(super) struct Releases {
    /// All of them, sorted.
    pub(super) names: Vec<ReleaseName>,
    /// Which of them a row is, by the row's number.
    at: BTreeMap<i64, usize>,
    /// Those that could not be looked into, with the reason.
    pub(super) unread: Vec<(ReleaseName, String)>,
}

impl Releases {
    fn of_row(&self, row: &Row<'_>, column: usize) -> rusqlite::Result<usize> {
        self.at.get(&row.get(column)?).copied().ok_or_else(|| damaged(column))
    }

    fn name_of_row(&self, row: &Row<'_>, column: usize) -> rusqlite::Result<&ReleaseName> {
        Ok(&self.names[self.of_row(row, column)?])
    }
}

/// A statement about one component.
pub(super) struct Said {
    pub(super) feed: String,
    pub(super) name: VulnerabilityName,
    pub(super) ecosystem: Ecosystem,
    pub(super) suite: Option<String>,
    pub(super) package: String,
    pub(super) claim: Claim,
    pub(super) urgency: Urgency,
    pub(super) note: String,
    /// The name that CVE has for it, if it is another one.
    pub(super) cve: Option<VulnerabilityName>,
}

/// A thing in an image, and the chain that leads to it.
pub(super) struct Hit {
    pub(super) image: u32,
    pub(super) found: usize,
    pub(super) chain: Option<i64>,
}

/// A value that was written in one form and reads in another.
pub(super) fn damaged(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, "it does not read back".into())
}

pub(super) fn releases(connection: &Connection) -> rusqlite::Result<Releases> {
    let mut releases = Releases { names: Vec::new(), at: BTreeMap::new(), unread: Vec::new() };
    // The index of these two columns has them in this order.
    let mut statement =
        connection.prepare_cached("SELECT id, app, number FROM release ORDER BY app, number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text = row.get_ref(1)?.as_str().map_err(|_| damaged(1))?;
        let app = match releases.names.last().filter(|last| last.app.as_str() == text) {
            Some(last) => last.app.clone(),
            None => text.parse().map_err(|_| damaged(1))?,
        };
        releases.at.insert(row.get(0)?, releases.names.len());
        releases.names.push(ReleaseName { app, number: row.get(2)? });
    }
    let mut statement =
        connection.prepare_cached("SELECT id, unread FROM release WHERE unread IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name = releases.name_of_row(row, 0)?.clone();
        releases.unread.push((name, row.get(1)?));
    }
    Ok(releases)
}

fn component(row: &Row<'_>) -> rusqlite::Result<(i64, Component)> {
    let ecosystem: String = row.get(1)?;
    let component = Component {
        ecosystem: ecosystem.parse().map_err(|()| damaged(1))?,
        name: row.get(2)?,
        version: row.get(3)?,
        source: row.get(4)?,
        source_version: row.get(5)?,
        suite: row.get(6)?,
    };
    Ok((row.get(0)?, component))
}

const COMPONENT: &str = "SELECT id, ecosystem, name, version, source, source_version, suite FROM component";

/// Components that a name means: their own, or that of their source.
pub(super) fn named(connection: &Connection, name: &str) -> rusqlite::Result<Vec<(i64, Component)>> {
    let normal = plumb_content::python::normalize(name);
    let sql = format!(
        "{COMPONENT} WHERE name = ?1 OR source = ?1 OR (ecosystem = 'pypi' AND name = ?2) ORDER BY name, version"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map([name, &normal], component)?.collect()
}

/// Components of one source package.
pub(super) fn of_source(
    connection: &Connection,
    ecosystem: Ecosystem,
    source: &str,
) -> rusqlite::Result<Vec<(i64, Component)>> {
    let sql = format!("{COMPONENT} WHERE source = ?1 AND ecosystem = ?2 ORDER BY name, version");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map([source, ecosystem.as_str()], component)?.collect()
}

/// What images hold, each component once.
pub(super) fn of_images(
    connection: &Connection,
    images: &BTreeSet<u32>,
) -> rusqlite::Result<Vec<(i64, BTreeSet<u32>)>> {
    let mut statement = connection.prepare_cached("SELECT component, image FROM holds ORDER BY component")?;
    let mut rows = statement.query([])?;
    let mut found: Vec<(i64, BTreeSet<u32>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, image): (i64, u32) = (row.get(0)?, row.get(1)?);
        if !images.contains(&image) {
            continue;
        }
        match found.last_mut().filter(|(last, _)| *last == id) {
            Some((_, images)) => drop(images.insert(image)),
            None => found.push((id, [image].into())),
        }
    }
    Ok(found)
}

/// Packages of one kind: where they come from, and their suite.
pub(super) type Kind = (Ecosystem, String);

/// Which kinds of packages images hold.
pub(super) fn kinds(connection: &Connection, images: &BTreeSet<u32>) -> rusqlite::Result<BTreeSet<Kind>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT ecosystem, suite FROM holds JOIN component ON component.id = holds.component
         WHERE holds.image = ?1",
    )?;
    let mut found = BTreeSet::new();
    for image in images {
        for kind in statement.query_map([image], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
            let (ecosystem, suite) = kind?;
            found.insert((ecosystem.parse().map_err(|()| damaged(0))?, suite));
        }
    }
    Ok(found)
}

/// Whether a feed speaks of packages of a kind; what the feed `but` says does not count. As [`Said::is_about`], what is said
/// of every suite is not said of other distributions.
pub(super) fn is_spoken_of(
    connection: &Connection,
    (ecosystem, suite): &Kind,
    but: &str,
) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM statement JOIN feed ON feed.id = statement.feed
               WHERE ecosystem = ?1 AND feed.name != ?3
               AND (suite = ?2 OR (suite IS NULL AND instr(?2, ':') = 0)))";
    connection.prepare_cached(sql)?.query_row([ecosystem.as_str(), suite, but], |row| row.get(0))
}

pub(super) fn component_by_id(connection: &Connection, id: i64) -> rusqlite::Result<Component> {
    let mut statement = connection.prepare_cached(&format!("{COMPONENT} WHERE id = ?1"))?;
    Ok(statement.query_row([id], component)?.1)
}

const STATEMENT: &str = "SELECT feed.name, statement.name, ecosystem, suite, package, claim, urgency, note,
    (SELECT min(alias.name) FROM alias WHERE alias.statement = statement.id AND alias.name LIKE 'CVE-%')
    FROM statement JOIN feed ON feed.id = statement.feed";

fn said(row: &Row<'_>) -> rusqlite::Result<Said> {
    let text = |column| -> rusqlite::Result<String> { row.get(column) };
    Ok(Said {
        feed: text(0)?,
        name: text(1)?.parse().map_err(|_| damaged(1))?,
        ecosystem: text(2)?.parse().map_err(|()| damaged(2))?,
        suite: row.get(3)?,
        package: text(4)?,
        claim: serde_json::from_str(&text(5)?).map_err(|_| damaged(5))?,
        urgency: Urgency::of(&text(6)?),
        note: text(7)?,
        cve: row.get::<_, Option<String>>(8)?.and_then(|name| name.parse().ok()),
    })
}

/// Everything that feeds and changelogs say of a vulnerability, by this or another name.
pub(super) fn statements_about(
    connection: &Connection,
    name: &VulnerabilityName,
) -> rusqlite::Result<Vec<Said>> {
    let sql = format!(
        "{STATEMENT} WHERE statement.name = ?1 OR statement.id IN (SELECT statement FROM alias WHERE name = ?1)
         ORDER BY feed.name, package, suite, statement.name"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map([name.as_str()], said)?.collect()
}

/// Everything that they say of a package.
pub(super) fn statements_of(
    connection: &Connection,
    ecosystem: Ecosystem,
    package: &str,
) -> rusqlite::Result<Vec<Said>> {
    let sql = format!("{STATEMENT} WHERE package = ?1 AND ecosystem = ?2 ORDER BY statement.name, feed.name");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map([package, ecosystem.as_str()], said)?.collect()
}

impl Said {
    /// The name that CVE has for it, or else its own. An announcement stands for all that it bundles, and is none of them.
    pub(super) fn common_name(&self) -> &VulnerabilityName {
        self.cve.as_ref().filter(|_| !self.name.is_bundle()).unwrap_or(&self.name)
    }

    /// Whether it speaks of a component: of its source, and of its suite or of all. What is said of Debian is not said of
    /// other distributions, whose suites have a colon.
    pub(super) fn is_about(&self, component: &Component) -> bool {
        self.ecosystem == component.ecosystem
            && self.package == component.source
            && match &self.suite {
                Some(suite) => *suite == component.suite,
                None => !component.suite.contains(':'),
            }
    }
}

/// The images that hold a component, with the chain that leads to it.
pub(super) fn holders(connection: &Connection, component: i64) -> rusqlite::Result<Vec<(u32, i64)>> {
    let mut statement = connection.prepare_cached("SELECT image, chain FROM holds WHERE component = ?1")?;
    statement.query_map([component], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Which releases have the images: occurrences, and the names of their machines, sorted.
pub(super) fn occurrences(
    connection: &Connection,
    releases: &Releases,
    hits: &mut [Hit],
    chains: &BTreeMap<i64, usize>,
) -> rusqlite::Result<(Vec<Occurrence>, Vec<MachineName>)> {
    hits.sort_unstable_by_key(|hit| hit.image);
    let mut found =
        Gathered { releases, chains, machines: Vec::new(), occurrences: Vec::with_capacity(hits.len()) };
    if hits.len() > MANY_HITS {
        let mut statement = connection
            .prepare_cached("SELECT image, release, machine, instances FROM member ORDER BY image")?;
        let mut rows = statement.query([])?;
        let mut at = 0;
        while let Some(row) = rows.next()? {
            let image: u32 = row.get(0)?;
            at += hits[at..].iter().take_while(|hit| hit.image < image).count();
            found.take(row, hits[at..].iter().take_while(|hit| hit.image == image))?;
        }
        return Ok(found.sorted());
    }
    let mut statement = connection
        .prepare_cached("SELECT image, release, machine, instances FROM member WHERE image = ?1")?;
    for hits in hits.chunk_by(|one, other| one.image == other.image) {
        let mut rows = statement.query([hits[0].image])?;
        while let Some(row) = rows.next()? {
            found.take(row, hits.iter())?;
        }
    }
    Ok(found.sorted())
}

/// Occurrences on their way.
struct Gathered<'r> {
    releases: &'r Releases,
    chains: &'r BTreeMap<i64, usize>,
    /// Names in the order in which they came.
    machines: Vec<MachineName>,
    occurrences: Vec<Occurrence>,
}

impl Gathered<'_> {
    /// A row of `member`, and what is in its image.
    fn take<'h>(&mut self, row: &Row<'_>, hits: impl Iterator<Item = &'h Hit>) -> rusqlite::Result<()> {
        let mut hits = hits.peekable();
        if hits.peek().is_none() {
            return Ok(());
        }
        let release = self.releases.of_row(row, 1)?;
        let name = row.get_ref(2)?.as_str().map_err(|_| damaged(2))?;
        // There are few names of machines, and a row often has the one before.
        let machine = match self.machines.iter().position(|known| known.as_str() == name) {
            Some(machine) => machine,
            None => {
                self.machines.push(name.parse().map_err(|_| damaged(2))?);
                self.machines.len() - 1
            }
        };
        let instances = row.get(3)?;
        self.occurrences.extend(hits.map(|hit| {
            let via = hit.chain.and_then(|chain| self.chains.get(&chain).copied());
            Occurrence { release, machine, found: hit.found, via, instances }
        }));
        Ok(())
    }

    /// Numbers of machines in the order of their names.
    fn sorted(mut self) -> (Vec<Occurrence>, Vec<MachineName>) {
        let mut sorted = self.machines.clone();
        sorted.sort();
        let number = |name: &MachineName| sorted.binary_search(name).unwrap_or_default();
        let numbers: Vec<usize> = self.machines.iter().map(number).collect();
        for one in &mut self.occurrences {
            one.machine = numbers[one.machine];
        }
        (self.occurrences, sorted)
    }
}

/// Images of releases: which machine of which release is which image.
pub(super) fn members(
    connection: &Connection,
    releases: &Releases,
) -> rusqlite::Result<Vec<(u32, ReleaseName)>> {
    let mut statement = connection.prepare_cached("SELECT image, release FROM member")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(0)?, releases.name_of_row(row, 1)?.clone()));
    }
    Ok(found)
}

/// Machines whose packages are not known, with the reason.
pub(super) fn blind(
    connection: &Connection,
    releases: &Releases,
) -> rusqlite::Result<Vec<(ReleaseName, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT member.release, machine, blind FROM image INDEXED BY image_blind
         JOIN member ON member.image = image.id WHERE blind IS NOT NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name = releases.name_of_row(row, 0)?;
        let (machine, reason): (String, String) = (row.get(1)?, row.get(2)?);
        found.push((name.clone(), format!("machine `{machine}`: {reason}")));
    }
    found.sort();
    Ok(found)
}

/// Releases with an image that is to be looked into again.
pub(super) fn again(connection: &Connection, releases: &Releases) -> rusqlite::Result<BTreeSet<ReleaseName>> {
    let mut statement = connection.prepare_cached(
        "SELECT member.release FROM image INDEXED BY image_again
         JOIN member ON member.image = image.id WHERE again = 1",
    )?;
    let mut rows = statement.query([])?;
    let mut found = BTreeSet::new();
    while let Some(row) = rows.next()? {
        found.insert(releases.name_of_row(row, 0)?.clone());
    }
    Ok(found)
}

/// How many releases have a machine that was looked into.
pub(super) fn searched(connection: &Connection, scope: Scope) -> rusqlite::Result<usize> {
    let of = match scope {
        Scope::Packages => "JOIN image ON image.id = member.image WHERE blind IS NULL",
        Scope::Files => "",
    };
    let sql = format!("SELECT count(DISTINCT release) FROM member {of}");
    connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
}

/// Chains, and the number of each by its row.
type Chains = (Vec<Vec<WhyLink>>, BTreeMap<i64, usize>);

/// The chains with these numbers, in a new numbering; an empty one has none.
pub(super) fn chains(connection: &Connection, ids: &BTreeSet<i64>) -> rusqlite::Result<Chains> {
    let mut statement = connection.prepare_cached("SELECT links FROM chain WHERE id = ?1")?;
    let (mut all, mut numbers) = (Vec::new(), BTreeMap::new());
    for id in ids {
        let text: String = statement.query_row([id], |row| row.get(0))?;
        let links: Vec<WhyLink> = serde_json::from_str(&text).map_err(|_| damaged(0))?;
        if !links.is_empty() {
            numbers.insert(*id, all.len());
            all.push(links);
        }
    }
    Ok((all, numbers))
}

#[cfg(test)]
mod tests {
    use plumb_search::advisory::Advisory;

    use super::super::index::Index;
    use super::super::record::{CHANGELOGS, feed_id, insert_statement};
    use super::*;

    #[test]
    fn a_feed_speaks_of_its_suites_and_of_no_other_distribution() {
        let folder = tempfile::tempdir().unwrap();
        let held = plumb_store::Store::open(folder.path()).unwrap().lock("search").unwrap();
        let index = Index::open(&folder.path().join("search.db"), &held).unwrap();
        let connection = &index.connection;
        let say = |feed: &str, ecosystem, suite: Option<&str>| {
            let one = Advisory {
                name: "CVE-2025-9230".parse().unwrap(),
                aliases: Vec::new(),
                ecosystem,
                suite: suite.map(str::to_owned),
                package: "openssl".to_owned(),
                claim: Claim::open(),
                urgency: Urgency::Unknown,
                note: String::new(),
            };
            insert_statement(connection, feed_id(connection, feed, "").unwrap(), &one).unwrap();
        };
        let spoken = || {
            let of = |(ecosystem, suite): (Ecosystem, &str)| {
                is_spoken_of(connection, &(ecosystem, suite.to_owned()), CHANGELOGS).unwrap()
            };
            let debian = |suite| (Ecosystem::Debian, suite);
            [debian("bookworm"), debian("trixie"), debian("ubuntu:jammy"), (Ecosystem::Npm, "")].map(of)
        };
        say(CHANGELOGS, Ecosystem::Debian, Some("trixie"));
        assert_eq!(spoken(), [false; 4], "changelogs say nothing of what nobody has fixed");
        say("debian", Ecosystem::Debian, Some("bookworm"));
        assert_eq!(spoken(), [true, false, false, false]);
        say("osv", Ecosystem::Npm, None);
        assert_eq!(spoken(), [true, false, false, true]);
        say("osv", Ecosystem::Debian, None);
        assert_eq!(spoken(), [true, true, false, true]);
    }
}
