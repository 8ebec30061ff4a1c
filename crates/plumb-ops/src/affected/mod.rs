//! Which releases hold a package, a file or a vulnerability, where they run, and which no longer do.
//!
//! ```text
//!  releases ─ record, seen ─┐
//!  feeds ─ feed ────────────┴─► index ─ lookup ─► plumb-search ─► answer
//!                      deployments, channels ─ pin ─┘
//! ```
//! No question uses the network: feeds are taken by `plumb advisory`, and an answer says how old they are.

mod between;
mod changelog;
mod compile;
mod feed;
mod file;
mod index;
mod lookup;
mod open;
mod pin;
mod record;
mod scan;
mod seen;

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::AppName;
use plumb_model::release::ReleaseName;
use plumb_search::advisory::Verdict;
use plumb_search::{
    Affected, Because, Component, Ecosystem, FileQuery, Findings, Found, PackageQuery, Query,
    VulnerabilityName, answer,
};
use serde::Serialize;

pub(crate) use between::OpenByPackage;
pub use feed::{FeedName, FeedOutcome, FeedView};
pub use open::{DeploymentRisk, OpenView, OpenVulnerability};
pub use scan::ScanView;
pub(crate) use seen::Subject;

use crate::Plumb;
use crate::error::OpsError;
use crate::why::WhyLink;
use index::Index;
use lookup::{Hit, Kind, Releases, Said};
use record::CHANGELOGS;
use seen::UNKNOWN_SUITE;

/// Most versions that are named where none of them is meant.
const VERSIONS_NAMED: usize = 20;

/// What was asked and what is true.
#[derive(Debug, Clone, Serialize)]
pub struct AffectedView {
    /// As it was understood.
    pub query: String,
    /// Whether any release is affected.
    pub affected: bool,
    /// What was found, by number.
    pub found: Vec<Found>,
    /// What leads to it, by number: each step is needed by the one before.
    pub chains: Vec<Vec<WhyLink>>,
    /// Releases and what runs.
    #[serde(flatten)]
    pub answer: Affected,
    /// Packages of which nobody knows, or whose versions cannot be compared.
    pub undetermined: Vec<Undetermined>,
    /// Packages that somebody says are not affected, of those that a vulnerability is about.
    pub clear: Vec<Clear>,
    /// Source packages that the vulnerability is about.
    pub about: BTreeSet<String>,
    /// Versions that releases hold of the package, where none is meant.
    pub other_versions: Vec<String>,
    /// How many releases were looked into, in part at least.
    pub searched: usize,
    /// What could not be looked into.
    pub unread: Vec<Unread>,
    /// What else could not be found out.
    pub notes: Vec<String>,
    /// What was asked about a vulnerability.
    pub feeds: Vec<FeedView>,
    /// Feeds that could not be read.
    pub unread_feeds: Vec<FeedName>,
}

impl AffectedView {
    /// Whether nothing is missing that could say more: what was not looked into may well be affected.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.undetermined.is_empty()
            && self.unread.is_empty()
            && self.unread_feeds.is_empty()
            && self.notes.is_empty()
    }
}

/// A package of which it is not known whether it is affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undetermined {
    /// The package.
    #[serde(flatten)]
    pub component: Component,
    /// Why it is not known.
    pub reason: String,
}

/// A package that is not affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clear {
    /// The package.
    #[serde(flatten)]
    pub component: Component,
    /// Who says so.
    pub feeds: BTreeSet<String>,
}

/// A release of which not everything could be looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Which.
    pub release: ReleaseName,
    /// Why.
    pub reason: String,
}

/// Things in images, before it is known which releases these are.
#[derive(Default)]
struct Hits {
    found: Vec<Found>,
    hits: Vec<Hit>,
    undetermined: Vec<Undetermined>,
    clear: Vec<Clear>,
    about: BTreeSet<String>,
    other_versions: Vec<String>,
    notes: Vec<String>,
}

/// What is searched in images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Packages,
    /// These are known of every image that could be read, whatever its list of packages says.
    Files,
}

impl Plumb<'_> {
    /// Which releases hold a package or have a vulnerability.
    ///
    /// # Errors
    /// [`OpsError::UnknownVulnerability`] if nobody who is asked knows it, and [`OpsError`].
    pub fn affected(&self, query: &Query) -> Result<AffectedView, OpsError> {
        let feeds = match query {
            Query::Vulnerability(_) => self.feeds()?,
            Query::Package(_) => Vec::new(),
        };
        self.with_index(&|index| {
            let hits = match query {
                Query::Package(package) => packages(index, package).map_err(index.failed("read"))?,
                Query::Vulnerability(name) => vulnerable(index, name, &feeds)?,
            };
            let mut view = self.put_together(index, query.to_string(), hits, Scope::Packages)?;
            (view.feeds, view.unread_feeds) = read_and_not(index, &feeds).map_err(index.failed("read"))?;
            Ok(view)
        })
    }

    /// Which releases hold a file.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn affected_file(&self, query: &FileQuery) -> Result<AffectedView, OpsError> {
        self.with_index(&|index| {
            let hits = files(index, query).map_err(index.failed("read"))?;
            self.put_together(index, query.to_string(), hits, Scope::Files)
        })
    }

    fn put_together(
        &self,
        index: &Index,
        query: String,
        mut hits: Hits,
        scope: Scope,
    ) -> Result<AffectedView, OpsError> {
        let failed = index.failed("read");
        let releases = lookup::releases(&index.connection).map_err(&failed)?;
        let ids: BTreeSet<i64> = hits.hits.iter().filter_map(|hit| hit.chain).collect();
        let (chains, numbers) = lookup::chains(&index.connection, &ids).map_err(&failed)?;
        let (occurrences, machines) =
            lookup::occurrences(&index.connection, &releases, &mut hits.hits, &numbers).map_err(&failed)?;
        let unread = unread(index, &releases, scope).map_err(&failed)?;
        let searched = match unread.is_empty() {
            true => releases.names.len(),
            false => lookup::searched(&index.connection, scope).map_err(&failed)?,
        };
        let releases = releases.names;
        let apps: BTreeSet<&AppName> = occurrences.iter().map(|one| &releases[one.release].app).collect();
        let mut pins = self.pinned_by_deployments(&apps)?;
        self.add_channels(&apps, &mut pins);
        hits.notes.append(&mut pins.notes);
        let answer = answer(&Findings { occurrences, releases, machines, pins: pins.all });
        let found = answer.releases.len();
        Ok(AffectedView {
            query,
            affected: !answer.releases.is_empty(),
            found: hits.found,
            chains,
            answer,
            undetermined: hits.undetermined,
            clear: hits.clear,
            about: hits.about,
            other_versions: hits.other_versions,
            // Where something was found, somebody looked: in part at least.
            searched: searched.max(found),
            unread,
            notes: hits.notes,
            feeds: Vec::new(),
            unread_feeds: Vec::new(),
        })
    }
}

/// Feeds that the index has, and names of those that could not be read.
fn read_and_not(index: &Index, feeds: &[FeedView]) -> rusqlite::Result<(Vec<FeedView>, Vec<FeedName>)> {
    let compiled = compile::compiled(&index.connection)?;
    let is_read = |feed: &FeedView| compiled.iter().any(|(name, _)| name == feed.name.as_str());
    let (read, unread): (Vec<FeedView>, Vec<FeedView>) = feeds.iter().cloned().partition(is_read);
    Ok((read, unread.into_iter().map(|feed| feed.name).collect()))
}

fn unread(index: &Index, releases: &Releases, scope: Scope) -> rusqlite::Result<Vec<Unread>> {
    let blind = match scope {
        Scope::Packages => lookup::blind(&index.connection, releases)?,
        Scope::Files => Vec::new(),
    };
    let all = releases.unread.iter().cloned().chain(blind);
    Ok(all.map(|(release, reason)| Unread { release, reason }).collect())
}

fn packages(index: &Index, query: &PackageQuery) -> rusqlite::Result<Hits> {
    let mut hits = Hits::default();
    let mut others = BTreeSet::new();
    for (id, component) in lookup::named(&index.connection, &query.name)? {
        let accepts = |version: &str| query.accepts(component.ecosystem, version);
        // A package has its own version where it is asked for by its own name, and that of its source by that one's.
        let is_own = component.name == query.name || component.source != query.name;
        let version = if is_own { &component.version } else { &component.source_version };
        match accepts(version) {
            Some(true) => hits.take(index, id, component, Vec::new())?,
            Some(false) => drop(others.insert(version.clone())),
            None => {
                let reason = format!("`{version}` cannot be compared");
                hits.undetermined.push(Undetermined { component, reason });
            }
        }
    }
    if hits.found.is_empty() {
        hits.other_versions = others.into_iter().take(VERSIONS_NAMED).collect();
    }
    Ok(hits)
}

fn vulnerable(index: &Index, name: &VulnerabilityName, feeds: &[FeedView]) -> Result<Hits, OpsError> {
    let failed = index.failed("read");
    let said = lookup::statements_about(&index.connection, name).map_err(&failed)?;
    if said.is_empty() {
        let mut asked: Vec<String> = feeds.iter().map(FeedView::in_words).collect();
        asked.push("the changelogs of the packages".to_owned());
        return Err(OpsError::UnknownVulnerability { name: name.to_string(), asked });
    }
    judged(index, &said).map_err(failed)
}

/// The components that advisories call affected.
fn judged(index: &Index, said: &[Said]) -> rusqlite::Result<Hits> {
    let mut hits = Hits::default();
    let mut affected: BTreeMap<i64, (Component, Vec<Because>)> = BTreeMap::new();
    let mut unknown: BTreeMap<i64, Undetermined> = BTreeMap::new();
    let mut clear: BTreeMap<i64, Clear> = BTreeMap::new();
    let mut silent: BTreeMap<i64, Component> = BTreeMap::new();
    for one in said {
        hits.about.insert(one.package.clone());
        for (id, component) in lookup::of_source(&index.connection, one.ecosystem, &one.package)? {
            if !one.is_about(&component) {
                silent.insert(id, component);
                continue;
            }
            match one.claim.judge(component.ecosystem, &component.source_version) {
                Verdict::Clear => {
                    let none = Clear { component, feeds: BTreeSet::new() };
                    clear.entry(id).or_insert(none).feeds.insert(one.feed.clone());
                }
                Verdict::Affected { fixed } => {
                    affected.entry(id).or_insert_with(|| (component, Vec::new())).1.push(one.because(fixed));
                }
                Verdict::Undetermined => {
                    let reason = format!("feed `{}` has not determined it, or in other versions", one.feed);
                    unknown.insert(id, Undetermined { component, reason });
                }
            }
        }
    }
    silent.retain(|id, _| !(affected.contains_key(id) || unknown.contains_key(id) || clear.contains_key(id)));
    unknown.extend(of_no_feed(index, silent)?);
    unknown.retain(|id, _| !affected.contains_key(id));
    clear.retain(|id, _| !affected.contains_key(id) && !unknown.contains_key(id));
    hits.undetermined = unknown.into_values().collect();
    hits.clear = clear.into_values().collect();
    for (id, (component, because)) in affected {
        hits.take(index, id, component, because)?;
    }
    Ok(hits)
}

/// Those of which nobody says anything because no feed is about what they are: that they are not affected does not follow.
fn of_no_feed(index: &Index, silent: BTreeMap<i64, Component>) -> rusqlite::Result<Vec<(i64, Undetermined)>> {
    let mut spoken: BTreeMap<Kind, bool> = BTreeMap::new();
    let mut found = Vec::new();
    for (id, component) in silent {
        let kind = (component.ecosystem, component.suite.clone());
        let is_spoken_of = match spoken.get(&kind) {
            Some(known) => *known,
            None => lookup::is_spoken_of(&index.connection, &kind, CHANGELOGS)?,
        };
        if !is_spoken_of {
            let reason = format!("no feed speaks of packages of {}", known_as(&kind));
            found.push((id, Undetermined { component, reason }));
        }
        spoken.insert(kind, is_spoken_of);
    }
    Ok(found)
}

/// Whose packages these are, for people.
fn known_as((ecosystem, suite): &Kind) -> String {
    match ecosystem {
        Ecosystem::Debian if suite == UNKNOWN_SUITE => "a distribution that is not known".to_owned(),
        Ecosystem::Debian if suite.contains(':') => format!("`{suite}`"),
        Ecosystem::Debian => format!("Debian `{suite}`"),
        Ecosystem::Pypi => "PyPI".to_owned(),
        Ecosystem::Npm => "npm".to_owned(),
    }
}

impl Said {
    fn because(&self, fixed: Option<String>) -> Because {
        Because {
            feed: self.feed.clone(),
            vulnerability: self.name.clone(),
            fixed,
            urgency: self.urgency,
            note: self.note.clone(),
        }
    }
}

impl Hits {
    fn take(
        &mut self,
        index: &Index,
        id: i64,
        component: Component,
        because: Vec<Because>,
    ) -> rusqlite::Result<()> {
        let found = self.found.len();
        self.found.push(Found::Package { component, because });
        let holders = lookup::holders(&index.connection, id)?;
        self.hits.extend(holders.into_iter().map(|(image, chain)| Hit { image, found, chain: Some(chain) }));
        Ok(())
    }
}

fn files(index: &Index, query: &FileQuery) -> rusqlite::Result<Hits> {
    let files = file::files(&index.connection, query)?;
    let note = |path| format!("`{path}` leads further than Plumb follows links; there may be more files");
    let mut hits = Hits { notes: files.cut.iter().map(note).collect(), ..Hits::default() };
    for (file, images) in files.found {
        let found = hits.found.len();
        let chains = match &file {
            Found::File { origin, .. } => file::chains_to_origin(&index.connection, origin)?,
            Found::Package { .. } => BTreeMap::new(),
        };
        hits.hits.extend(images.into_iter().map(|image| Hit {
            image,
            found,
            chain: chains.get(&image).copied(),
        }));
        hits.found.push(file);
    }
    Ok(hits)
}
