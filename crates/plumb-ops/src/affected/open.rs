//! Which known vulnerabilities are open in what runs.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, DeploymentName};
use plumb_search::advisory::{Claim, Urgency, Verdict};
use plumb_search::{Component, Ecosystem, Pin, Place, VulnerabilityName};
use serde::Serialize;

use super::index::Index;
use super::lookup::{self, Releases, Said};
use super::{FeedName, FeedView, Scope, Unread, read_and_not, unread};
use crate::Plumb;
use crate::error::OpsError;

/// Open vulnerabilities of what runs.
#[derive(Debug, Clone, Serialize)]
pub struct OpenView {
    /// Deployments, the worst first.
    pub deployments: Vec<DeploymentRisk>,
    /// Each vulnerability of each source package, the worst first.
    pub vulnerabilities: Vec<OpenVulnerability>,
    /// What could not be looked into.
    pub unread: Vec<Unread>,
    /// What could not be found out about what runs.
    pub notes: Vec<String>,
    /// What was asked.
    pub feeds: Vec<FeedView>,
    /// Feeds that could not be read.
    pub unread_feeds: Vec<FeedName>,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentRisk {
    /// Which.
    pub deployment: DeploymentName,
    /// What it runs.
    pub release: ReleaseName,
    /// How many vulnerabilities by urgency.
    pub counts: BTreeMap<Urgency, usize>,
    /// How many of them a newer version of the package mends.
    pub fixable: usize,
    /// Numbers of the vulnerabilities.
    pub vulnerabilities: Vec<usize>,
}

/// A vulnerability of one version of a source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenVulnerability {
    /// Its name; that of CVE, where it has one.
    pub name: VulnerabilityName,
    /// How much it matters.
    pub urgency: Urgency,
    /// Where the package comes from.
    pub ecosystem: Ecosystem,
    /// The source package.
    pub source: String,
    /// Its version.
    pub source_version: String,
    /// Packages of it that are there.
    pub packages: BTreeSet<String>,
    /// The version that is affected no longer.
    pub fixed: Option<String>,
    /// Who says so.
    pub feeds: BTreeSet<String>,
    /// Why there is no fix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Names in a note.
const NAMES: usize = 4;

/// What makes two findings one.
type Key = (VulnerabilityName, Ecosystem, String, String, String);

/// Open vulnerabilities, with the images that have each.
type Taken = BTreeMap<Key, (OpenVulnerability, BTreeSet<u32>)>;

/// What is open in images.
pub(super) struct Open {
    /// The worst first.
    pub(super) vulnerabilities: Vec<OpenVulnerability>,
    /// Those of which it is not determined whether they are open.
    pub(super) not_determined: Vec<OpenVulnerability>,
    /// Packages with a version that cannot be compared with those that feeds name: `x 1.bad`.
    pub(super) incomparable: BTreeSet<String>,
    /// Which image has which of them.
    by_image: BTreeMap<u32, BTreeSet<usize>>,
}

/// Deployments with the release that they run.
type Running = BTreeSet<(ReleaseName, DeploymentName)>;

impl Plumb<'_> {
    /// All vulnerabilities that feeds and changelogs know of and that are open in what runs.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn open_vulnerabilities(&self) -> Result<OpenView, OpsError> {
        let feeds = self.feeds()?;
        // First what runs, then the index: a release that was made between the two would be in none.
        let (running, notes) = self.running()?;
        self.with_index(&|index| {
            let failed = index.failed("read");
            let releases = lookup::releases(&index.connection).map_err(&failed)?;
            let images = images_of(index, &releases, &running).map_err(&failed)?;
            let all: BTreeSet<u32> = images.values().flatten().copied().collect();
            let open = open_in(index, &all).map_err(&failed)?;
            let notes = notes.iter().cloned().chain(open.notes()).collect();
            let Open { vulnerabilities, by_image, .. } = open;
            let mut unread = unread(index, &releases, Scope::Packages).map_err(&failed)?;
            unread.retain(|one| images.contains_key(&one.release));
            let of = |(release, deployment): &(ReleaseName, DeploymentName)| {
                let mine = images.get(release).into_iter().flatten();
                let numbers = mine.filter_map(|image| by_image.get(image)).flatten().copied().collect();
                risk(deployment.clone(), release.clone(), numbers, &vulnerabilities)
            };
            let mut deployments: Vec<DeploymentRisk> = running.iter().map(of).collect();
            deployments.sort_by(|one, other| {
                other.weight().cmp(&one.weight()).then(one.deployment.cmp(&other.deployment))
            });
            let (feeds, unread_feeds) = read_and_not(index, &feeds).map_err(&failed)?;
            Ok(OpenView { deployments, vulnerabilities, unread, notes, feeds, unread_feeds })
        })
    }

    /// What runs, and what could not be found out about it.
    fn running(&self) -> Result<(Running, Vec<String>), OpsError> {
        let apps = self.store.apps()?;
        let pins = self.pinned_by_deployments(&apps.iter().collect::<BTreeSet<&AppName>>())?;
        let deployed = |pin: Pin| match pin.place {
            Place::Deployment { name, .. } => Some((pin.release, name)),
            Place::Channel { .. } => None,
        };
        Ok((pins.all.into_iter().filter_map(deployed).collect(), pins.notes))
    }
}

impl DeploymentRisk {
    /// Counts, the worst urgency first.
    fn weight(&self) -> [usize; Urgency::ALL.len()] {
        Urgency::ALL.map(|urgency| self.counts.get(&urgency).copied().unwrap_or(0))
    }
}

/// The images of the releases that run.
fn images_of(
    index: &Index,
    releases: &Releases,
    running: &Running,
) -> rusqlite::Result<BTreeMap<ReleaseName, BTreeSet<u32>>> {
    let mut images: BTreeMap<ReleaseName, BTreeSet<u32>> =
        running.iter().map(|(release, _)| (release.clone(), BTreeSet::new())).collect();
    for (image, release) in lookup::members(&index.connection, releases)? {
        if let Some(images) = images.get_mut(&release) {
            images.insert(image);
        }
    }
    Ok(images)
}

fn risk(
    deployment: DeploymentName,
    release: ReleaseName,
    numbers: BTreeSet<usize>,
    all: &[OpenVulnerability],
) -> DeploymentRisk {
    let mut counts: BTreeMap<Urgency, usize> = BTreeMap::new();
    for number in &numbers {
        *counts.entry(all[*number].urgency).or_default() += 1;
    }
    let fixable = numbers.iter().filter(|number| all[**number].fixed.is_some()).count();
    DeploymentRisk { deployment, release, counts, fixable, vulnerabilities: numbers.into_iter().collect() }
}

impl Open {
    /// What is not known about what runs.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.not_determined.is_empty() {
            notes.push(format!("{} more are not determined: they may be open", self.not_determined.len()));
        }
        if !self.incomparable.is_empty() {
            let named: Vec<&str> = self.incomparable.iter().take(NAMES).map(String::as_str).collect();
            let more = if self.incomparable.len() > NAMES { ", …" } else { "" };
            let (count, named) = (self.incomparable.len(), named.join(", "));
            notes.push(format!(
                "not known for {count} packages with a version that cannot be compared: {named}{more}"
            ));
        }
        notes
    }
}

/// What a statement says of a component that it is about.
enum Word {
    Open {
        fixed: Option<String>,
    },
    Closed,
    /// Whoever says it does not know.
    NotDetermined,
    /// The version of the component is in no form that its ecosystem orders.
    Incomparable,
}

fn word(claim: &Claim, component: &Component) -> Word {
    let (ecosystem, version) = (component.ecosystem, component.source_version.as_str());
    match claim.judge(ecosystem, version) {
        Verdict::Affected { fixed } => Word::Open { fixed },
        Verdict::Clear => Word::Closed,
        Verdict::Undetermined if *claim == Claim::Undetermined => Word::NotDetermined,
        Verdict::Undetermined if ecosystem.compare(version, version).is_none() => Word::Incomparable,
        // It names a version itself that cannot be compared.
        Verdict::Undetermined => Word::NotDetermined,
    }
}

/// Open vulnerabilities of the images.
pub(super) fn open_in(index: &Index, images: &BTreeSet<u32>) -> rusqlite::Result<Open> {
    let (mut found, mut unknown, mut incomparable) = (Taken::new(), Taken::new(), BTreeSet::new());
    let mut known: BTreeMap<(Ecosystem, String), Vec<Said>> = BTreeMap::new();
    for (id, holders) in lookup::of_images(&index.connection, images)? {
        let component = lookup::component_by_id(&index.connection, id)?;
        let key = (component.ecosystem, component.source.clone());
        if !known.contains_key(&key) {
            let said = lookup::statements_of(&index.connection, component.ecosystem, &component.source)?;
            known.insert(key.clone(), said);
        }
        let about = known.get(&key).into_iter().flatten().filter(|said| said.is_about(&component));
        for said in about {
            match word(&said.claim, &component) {
                Word::Open { fixed } => take(&mut found, said, (&component, &holders), fixed),
                Word::Closed => {}
                Word::NotDetermined => take(&mut unknown, said, (&component, &holders), None),
                Word::Incomparable => {
                    incomparable.insert(format!("`{} {}`", component.source, component.source_version));
                }
            }
        }
    }
    // What one calls open is so, whatever another does not know.
    unknown.retain(|key, _| !found.contains_key(key));
    let not_determined = unknown.into_values().map(|(one, _)| one).collect();
    let mut all: Vec<(OpenVulnerability, BTreeSet<u32>)> = found.into_values().collect();
    all.sort_by(|(one, _), (other, _)| {
        (one.urgency, &one.source, &one.name).cmp(&(other.urgency, &other.source, &other.name))
    });
    let mut by_image: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    for (number, (_, holders)) in all.iter().enumerate() {
        for image in holders {
            by_image.entry(*image).or_default().insert(number);
        }
    }
    let vulnerabilities = all.into_iter().map(|(one, _)| one).collect();
    Ok(Open { vulnerabilities, not_determined, incomparable, by_image })
}

fn take(
    found: &mut Taken,
    said: &Said,
    (component, holders): (&Component, &BTreeSet<u32>),
    fixed: Option<String>,
) {
    let name = said.common_name().clone();
    let key = (
        name.clone(),
        component.ecosystem,
        component.source.clone(),
        component.source_version.clone(),
        component.suite.clone(),
    );
    let (one, images) = found.entry(key).or_insert_with(|| {
        let one = OpenVulnerability {
            name,
            urgency: Urgency::Unknown,
            ecosystem: component.ecosystem,
            source: component.source.clone(),
            source_version: component.source_version.clone(),
            packages: BTreeSet::new(),
            fixed: None,
            feeds: BTreeSet::new(),
            note: String::new(),
        };
        (one, BTreeSet::new())
    });
    one.packages.insert(component.name.clone());
    one.feeds.insert(said.feed.clone());
    one.fixed = highest(component.ecosystem, one.fixed.take(), fixed);
    // A feed that has a word about it counts more than one that has none.
    if said.urgency != Urgency::Unknown {
        one.urgency =
            if one.urgency == Urgency::Unknown { said.urgency } else { one.urgency.min(said.urgency) };
    }
    if one.note.is_empty() {
        one.note.clone_from(&said.note);
    }
    images.extend(holders);
}

/// The version in which every one of those who name one sees a fix.
fn highest(ecosystem: Ecosystem, one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) if ecosystem.compare(&one, &other) == Some(Ordering::Less) => Some(other),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(feed: &str, name: &str, fixed: &str) -> Said {
        Said {
            feed: feed.to_owned(),
            name: name.parse().unwrap(),
            ecosystem: Ecosystem::Debian,
            suite: None,
            package: "openssl".to_owned(),
            claim: Claim::fixed_in(fixed),
            urgency: Urgency::Unknown,
            note: String::new(),
            cve: Some("CVE-2025-9230".parse().unwrap()),
        }
    }

    /// What a feed does not know, what cannot be compared, and what is known whatever the version are three things.
    #[test]
    fn what_is_not_known_is_no_word_for_closed() {
        let of = |claim: &Claim, version: &str| {
            let component = Component {
                ecosystem: Ecosystem::Npm,
                name: "left-pad".to_owned(),
                version: version.to_owned(),
                source: "left-pad".to_owned(),
                source_version: version.to_owned(),
                suite: String::new(),
            };
            match word(claim, &component) {
                Word::Open { .. } => "open",
                Word::Closed => "closed",
                Word::NotDetermined => "not determined",
                Word::Incomparable => "incomparable",
            }
        };
        let listed = Claim::Affects { spans: Vec::new(), versions: vec!["latest".to_owned()] };
        for (claim, version, expected) in [
            (Claim::fixed_in("1.2.0"), "1.1.0", "open"),
            (Claim::fixed_in("1.2.0"), "1.2.0", "closed"),
            (Claim::fixed_in("1.2.0"), "latest", "incomparable"),
            (Claim::fixed_in("newest"), "1.2.0", "not determined"),
            (Claim::Undetermined, "1.2.0", "not determined"),
            (Claim::Undetermined, "latest", "not determined"),
            (listed, "latest", "open"),
            (Claim::none(), "latest", "closed"),
        ] {
            assert_eq!(of(&claim, version), expected, "{claim:?} {version}");
        }
    }

    #[test]
    fn what_is_fixed_is_so_by_every_word() {
        let component = Component {
            ecosystem: Ecosystem::Debian,
            name: "libssl3".to_owned(),
            version: "3.0.9-1".to_owned(),
            source: "openssl".to_owned(),
            source_version: "3.0.9-1".to_owned(),
            suite: "bookworm".to_owned(),
        };
        let words = [
            said("debian", "CVE-2025-9230", "3.0.9-2"),
            said("osv", "DEBIAN-CVE-2025-9230", "3.0.17-1"),
            said("old", "CVE-2025-9230", "3.0.10-1"),
            said("osv", "DSA-6015-1", "3.0.18-1"),
        ];
        let mut found = Taken::new();
        for one in &words {
            let Verdict::Affected { fixed } = one.claim.judge(Ecosystem::Debian, "3.0.9-1") else {
                panic!("it is affected")
            };
            take(&mut found, one, (&component, &[7].into()), fixed);
        }
        let told: Vec<(&str, Option<&str>, usize)> = found
            .values()
            .map(|(one, _)| (one.name.as_str(), one.fixed.as_deref(), one.feeds.len()))
            .collect();
        assert_eq!(
            told,
            [("CVE-2025-9230", Some("3.0.17-1"), 3), ("DSA-6015-1", Some("3.0.18-1"), 1)],
            "3.0.17 is above 3.0.9, and an announcement is none of those that it bundles"
        );
    }
}
