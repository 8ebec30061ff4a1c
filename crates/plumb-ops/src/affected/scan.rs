//! Scanning one release: which known vulnerabilities are open in it, as signed evidence.
//!
//! Evidence says that somebody looked everywhere with eyes that see. So a scan is refused where an image could not be
//! looked into, where a feed could not be read, where the release holds packages of a kind that no feed speaks of, and where
//! a version cannot be compared. What feeds have not determined is counted.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_model::release::ReleaseName;
use plumb_search::advisory::Urgency;
use plumb_trust::statement::{
    Annotation, Predicate, Scan, ScanData, ScanTimes, Scanner, Severity, Vulnerability,
};
use serde::Serialize;

use super::index::Index;
use super::open::{Open, open_in};
use super::record::CHANGELOGS;
use super::seen::UNKNOWN_SUITE;
use super::{FeedView, OpenVulnerability, Scope, compile, known_as, lookup, unread};
use crate::collect::Mode;
use crate::error::OpsError;
use crate::{Plumb, clock};

/// Who scans, in statements.
const SCANNER: &str = "pkg:cargo/plumb";

/// What a scan found.
#[derive(Debug, Clone, Serialize)]
pub struct ScanView {
    /// The release.
    pub release: ReleaseName,
    /// How many vulnerabilities are open, by urgency.
    pub counts: BTreeMap<Urgency, usize>,
    /// How many of them a newer version of a package mends.
    pub fixable: usize,
    /// Each vulnerability of each source package, the worst first.
    pub vulnerabilities: Vec<OpenVulnerability>,
    /// How many may be open, too.
    pub undetermined: usize,
    /// Those of which feeds have not determined whether a package that is there is affected.
    pub not_determined: Vec<OpenVulnerability>,
    /// What was asked.
    pub feeds: Vec<FeedView>,
    /// The statement that says so; none in a dry run.
    pub statement: Option<Digest>,
}

/// What an index says of a release.
struct Looked {
    open: Open,
    /// Feeds that were read.
    read: BTreeSet<String>,
    /// Why the scan is not whole.
    gaps: Vec<String>,
}

impl Plumb<'_> {
    /// Looks for known vulnerabilities in a release, and vouches for what was found.
    ///
    /// # Errors
    /// [`OpsError::ScanIncomplete`], [`crate::TrustError`].
    pub fn scan(&self, name: &ReleaseName, mode: Mode) -> Result<ScanView, OpsError> {
        let release = self.read_release(name)?;
        if mode == Mode::Do {
            self.insist_signed(&release)?;
        }
        let started_s = clock::now_s();
        let feeds = self.feeds()?;
        let mut looked = self.with_index(&|index| look(index, name))?;
        let unread = feeds.iter().filter(|feed| !looked.read.contains(feed.name.as_str()));
        looked.gaps.extend(unread.map(|feed| format!("feed `{}` could not be read", feed.name)));
        if !looked.gaps.is_empty() {
            return Err(OpsError::ScanIncomplete { release: name.clone(), gaps: looked.gaps });
        }
        let Open { vulnerabilities, not_determined, .. } = looked.open;
        let mut counts: BTreeMap<Urgency, usize> = BTreeMap::new();
        for one in &vulnerabilities {
            *counts.entry(one.urgency).or_default() += 1;
        }
        let fixable = vulnerabilities.iter().filter(|one| one.fixed.is_some()).count();
        let statement = match mode {
            Mode::DryRun => None,
            Mode::Do => {
                let scan = predicate(&vulnerabilities, &feeds, (started_s, clock::now_s()));
                Some(self.vouch(&release, &Predicate::Scan(scan))?)
            }
        };
        Ok(ScanView {
            release: name.clone(),
            counts,
            fixable,
            vulnerabilities,
            undetermined: not_determined.len(),
            not_determined,
            feeds,
            statement,
        })
    }
}

fn look(index: &Index, name: &ReleaseName) -> Result<Looked, OpsError> {
    let failed = index.failed("read");
    let connection = &index.connection;
    let releases = lookup::releases(connection).map_err(&failed)?;
    let members = lookup::members(connection, &releases).map_err(&failed)?;
    let images: BTreeSet<u32> =
        members.into_iter().filter(|(_, release)| release == name).map(|(image, _)| image).collect();
    let unread = unread(index, &releases, Scope::Packages).map_err(&failed)?;
    let mut gaps: Vec<String> =
        unread.into_iter().filter(|one| one.release == *name).map(|one| one.reason).collect();
    let mut kinds = lookup::kinds(connection, &images).map_err(&failed)?;
    // That nobody knows whose packages these are is told already: their image is blind.
    kinds.retain(|(_, suite)| suite != UNKNOWN_SUITE);
    for kind in kinds {
        if !lookup::is_spoken_of(connection, &kind, CHANGELOGS).map_err(&failed)? {
            gaps.push(format!("no feed speaks of packages of {}", known_as(&kind)));
        }
    }
    let open = open_in(index, &images).map_err(&failed)?;
    gaps.extend(open.incomparable.iter().map(|one| format!("the version of {one} cannot be compared")));
    let read = compile::compiled(connection).map_err(&failed)?.into_iter().map(|(name, _)| name).collect();
    Ok(Looked { open, read, gaps })
}

/// In the words of in-toto's predicate for vulnerabilities: one entry for each, whatever it is in.
fn predicate(
    vulnerabilities: &[OpenVulnerability],
    feeds: &[FeedView],
    (started_s, ended_s): (i64, i64),
) -> Scan {
    let mut result: BTreeMap<&str, Vulnerability> = BTreeMap::new();
    for one in vulnerabilities {
        let entry = result.entry(one.name.as_str()).or_insert_with(|| Vulnerability {
            id: one.name.to_string(),
            severity: Vec::new(),
            annotations: Vec::new(),
        });
        let method = one.feeds.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let severity = Severity { method, score: one.urgency.as_str().to_owned() };
        if !entry.severity.contains(&severity) {
            entry.severity.push(severity);
        }
        entry.annotations.push(Annotation {
            source: one.source.clone(),
            version: one.source_version.clone(),
            fixed: one.fixed.clone(),
        });
    }
    let origins: Vec<&str> = feeds.iter().map(|feed| feed.origin.as_str()).collect();
    // All of it is as old as the oldest of it.
    let oldest_s = feeds.iter().map(|feed| feed.taken_s).min().unwrap_or_default();
    let (text, version) = (plumb_trust::time::text, env!("CARGO_PKG_VERSION").to_owned());
    Scan {
        scanner: Scanner {
            uri: SCANNER.to_owned(),
            version,
            db: ScanData { uri: origins.join(" "), last_update: text(oldest_s) },
            result: result.into_values().collect(),
        },
        metadata: ScanTimes { scan_started_on: text(started_s), scan_finished_on: text(ended_s) },
    }
}
