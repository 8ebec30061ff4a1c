//! From what was found to what somebody wants to know: which releases, what runs, and where to go.

use std::collections::BTreeMap;

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, DeploymentName, Digest, MachineName};
use serde::{Serialize, Serializer};

use crate::advisory::Urgency;
use crate::{Ecosystem, VulnerabilityName};

/// A package of some images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Component {
    /// Where it comes from.
    pub ecosystem: Ecosystem,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The source package, by which advisories call it; elsewhere than in Debian its own name.
    pub source: String,
    /// Version of the source package.
    pub source_version: String,
    /// Debian's suite that the machine is made of; empty elsewhere.
    pub suite: String,
}

/// Something that was searched for and found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Found {
    /// A package.
    Package {
        /// Which.
        #[serde(flatten)]
        component: Component,
        /// Why it is affected, if a vulnerability was asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        because: Vec<Because>,
    },
    /// A file.
    File {
        /// Its real path.
        path: String,
        /// Its content.
        digest: Digest,
        /// The package that brings it with its version, `rule:NAME`, or `app`.
        origin: String,
    },
}

/// Who says that a package is affected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Because {
    /// Name of the feed.
    pub feed: String,
    /// The vulnerability as the feed calls it.
    pub vulnerability: VulnerabilityName,
    /// Version of the source package that is affected no longer.
    pub fixed: Option<String>,
    /// How much it matters.
    pub urgency: Urgency,
    /// Why there is no fix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// One thing found in one machine of one release, by numbers: a library that everything has is found as often as there are
/// machines of releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// Number of the release.
    pub release: usize,
    /// Number of the machine's name.
    pub machine: usize,
    /// Number of the thing.
    pub found: usize,
    /// Number of the chain of dependencies that leads to it.
    pub via: Option<usize>,
    /// How many instances the release has of the machine.
    pub instances: u32,
}

/// Something that holds on to a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The release.
    pub release: ReleaseName,
    /// What.
    pub place: Place,
}

/// What holds on to releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A deployment that runs it, or that has instances left of it.
    Deployment {
        /// Which.
        name: DeploymentName,
        /// Running instances of it by machine, as they were seen; `None` if nobody looked.
        seen: Option<BTreeMap<MachineName, u32>>,
    },
    /// A channel that names it.
    Channel {
        /// Which.
        name: String,
    },
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What, where.
    pub occurrences: Vec<Occurrence>,
    /// All releases, sorted: what their numbers are.
    pub releases: Vec<ReleaseName>,
    /// Names of machines, sorted: what their numbers are.
    pub machines: Vec<MachineName>,
    /// What holds on to releases; of others than those found, too.
    pub pins: Vec<Pin>,
}

/// What is affected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// Releases, by application and number.
    pub releases: Vec<AffectedRelease>,
    /// Applications.
    pub applications: Vec<AffectedApp>,
    /// Channels that name an affected release.
    pub channels: Vec<AffectedChannel>,
    /// Deployments that run an affected release.
    pub deployments: Vec<AffectedDeployment>,
    /// Instances of all of them.
    pub instances: u64,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedRelease {
    /// Which.
    pub release: ReleaseName,
    /// In which of its machines.
    pub machines: Vec<AffectedMachine>,
    /// Deployments that run it.
    pub deployments: Vec<DeploymentName>,
    /// Channels that name it.
    pub channels: Vec<String>,
}

/// A machine of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedMachine {
    /// Which.
    pub machine: MachineName,
    /// Number of what was found.
    pub found: usize,
    /// Number of the chain that leads to it.
    pub via: Option<usize>,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedApp {
    /// Which.
    pub application: AppName,
    /// How many of its releases are affected.
    pub affected: usize,
    /// How many it has.
    pub releases: usize,
    /// Its newest release.
    pub newest: ReleaseName,
    /// The first of the releases, up to the newest, that are no longer affected. `None` if the newest is.
    pub free_since: Option<ReleaseName>,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AffectedChannel {
    /// Which.
    pub channel: String,
    /// What it names.
    pub release: ReleaseName,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedDeployment {
    /// Which.
    pub deployment: DeploymentName,
    /// The affected release.
    pub release: ReleaseName,
    /// Affected instances by machine.
    pub machines: Counts,
    /// Their sum.
    pub instances: u64,
    /// Whether these instances were seen running. Otherwise the release says how many there are.
    pub seen: bool,
    /// A newer release that is not affected.
    pub upgrade: Option<ReleaseName>,
}

/// Instances by machine, sorted: a fleet has ten thousand of these, of few machines each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(pub Vec<(MachineName, u32)>);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(machine, count)| (machine, count)))
    }
}

/// Instances of the machines of one release in which something was found.
type Instances<'f> = Vec<(&'f MachineName, u32)>;

/// Puts together what was found. Numbers that lead nowhere are passed over.
#[must_use]
pub fn answer(findings: &Findings) -> Affected {
    let mut occurrences = findings.occurrences.clone();
    occurrences.sort_unstable();
    occurrences.dedup();
    let mut affected = Affected::default();
    let mut instances: Vec<Instances<'_>> = Vec::new();
    for group in occurrences.chunk_by(|one, other| one.release == other.release) {
        let Some(release) = findings.releases.get(group[0].release) else { continue };
        let mut of_release = Instances::new();
        let mut machines = Vec::with_capacity(group.len());
        for one in group {
            let Some(machine) = findings.machines.get(one.machine) else { continue };
            machines.push(AffectedMachine { machine: machine.clone(), found: one.found, via: one.via });
            if of_release.last().is_none_or(|(last, _)| *last != machine) {
                of_release.push((machine, one.instances));
            }
        }
        let (deployments, channels) = (Vec::new(), Vec::new());
        affected.releases.push(AffectedRelease { release: release.clone(), machines, deployments, channels });
        instances.push(of_release);
    }
    affected.applications = applications(&affected.releases, &findings.releases);
    for (at, pin) in sorted(&findings.pins, &affected.releases) {
        match &pin.place {
            Place::Channel { name } => {
                affected.releases[at].channels.push(name.clone());
                let release = pin.release.clone();
                affected.channels.push(AffectedChannel { channel: name.clone(), release });
            }
            Place::Deployment { name, seen } => {
                affected.releases[at].deployments.push(name.clone());
                let machines = count(&instances[at], seen.as_ref());
                affected.deployments.push(AffectedDeployment {
                    deployment: name.clone(),
                    release: pin.release.clone(),
                    instances: machines.0.iter().map(|(_, count)| u64::from(*count)).sum(),
                    machines,
                    seen: seen.is_some(),
                    upgrade: upgrade(&affected.applications, &pin.release),
                });
            }
        }
    }
    affected.channels.sort();
    affected.instances = affected.deployments.iter().map(|one| one.instances).sum();
    affected
}

/// What holds on to affected releases, with the place of the release: by application, name of the deployment, and number.
fn sorted<'p>(pins: &'p [Pin], releases: &[AffectedRelease]) -> Vec<(usize, &'p Pin)> {
    let mut all: Vec<(usize, &str, usize, &Pin)> = Vec::with_capacity(pins.len());
    let (mut app, mut last) = (0, 0);
    for pin in pins {
        // The next one most often holds on to the same release as the one before, or to one of the same application.
        if releases.get(last).is_none_or(|one| one.release != pin.release) {
            let found = releases.binary_search_by(|one| one.release.cmp(&pin.release));
            let Ok(at) = found else { continue };
            last = at;
            app = releases.partition_point(|one| one.release.app < pin.release.app);
        }
        let name = match &pin.place {
            Place::Deployment { name, .. } => name.as_str(),
            Place::Channel { name } => name,
        };
        all.push((app, name, last, pin));
    }
    // Comparing numbers first is what makes ten thousand of them quick.
    all.sort_by_key(|(app, name, at, _)| (*app, *name, *at));
    all.into_iter().map(|(_, _, at, pin)| (at, pin)).collect()
}

/// As they were seen, or as the release has them.
fn count(of_release: &Instances<'_>, seen: Option<&BTreeMap<MachineName, u32>>) -> Counts {
    let mut counts = Vec::with_capacity(of_release.len());
    for (machine, planned) in of_release {
        let count = seen.map_or(*planned, |seen| seen.get(*machine).copied().unwrap_or(0));
        if count > 0 {
            counts.push(((*machine).clone(), count));
        }
    }
    Counts(counts)
}

fn applications(affected: &[AffectedRelease], all: &[ReleaseName]) -> Vec<AffectedApp> {
    let same_app = |one: &AffectedRelease, other: &AffectedRelease| one.release.app == other.release.app;
    let of = |bad: &[AffectedRelease]| {
        let (app, last) = (&bad[0].release.app, &bad[bad.len() - 1].release);
        let begin = all.partition_point(|one| one.app < *app);
        let end = begin + all[begin..].partition_point(|one| one.app == *app);
        let numbers = &all[begin..end];
        AffectedApp {
            application: app.clone(),
            affected: bad.len(),
            releases: numbers.len(),
            newest: numbers.last().unwrap_or(last).clone(),
            free_since: numbers.iter().find(|one| one.number > last.number).cloned(),
        }
    };
    affected.chunk_by(same_app).map(of).collect()
}

/// The newest release, if it is free and newer.
fn upgrade(applications: &[AffectedApp], release: &ReleaseName) -> Option<ReleaseName> {
    let at = applications.binary_search_by(|one| one.application.cmp(&release.app)).ok()?;
    let app = &applications[at];
    app.free_since.as_ref().filter(|_| app.newest.number > release.number).map(|_| app.newest.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> ReleaseName {
        text.parse().expect("a release")
    }

    const RELEASES: [&str; 5] = ["blog@1", "shop@1", "shop@2", "shop@3", "shop@5"];
    const MACHINES: [&str; 2] = ["db", "web"];

    fn occurrence(name: &str, machine: &str, found: usize) -> Occurrence {
        let at =
            |names: &[&str], name: &str| names.iter().position(|one| *one == name).expect("a known name");
        let (release, machine) = (at(&RELEASES, name), at(&MACHINES, machine));
        Occurrence { release, machine, found, via: None, instances: 2 }
    }

    fn findings() -> Findings {
        let deployment = |name: &str, of: &str, seen: Option<u32>| Pin {
            release: release(of),
            place: Place::Deployment {
                name: name.parse().expect("a name"),
                seen: seen.map(|count| [("web".parse().expect("a machine"), count)].into()),
            },
        };
        Findings {
            occurrences: vec![
                occurrence("shop@2", "web", 1),
                occurrence("shop@1", "web", 0),
                occurrence("shop@1", "db", 0),
                occurrence("shop@1", "web", 0),
                occurrence("blog@1", "web", 0),
            ],
            releases: RELEASES.map(release).to_vec(),
            machines: MACHINES.map(|name| name.parse().expect("a machine")).to_vec(),
            pins: vec![
                deployment("shop-test", "shop@2", None),
                deployment("shop-prod", "shop@1", Some(1)),
                deployment("shop-new", "shop@5", Some(9)),
                deployment("blog", "blog@1", None),
                Pin { release: release("shop@1"), place: Place::Channel { name: "prod".into() } },
            ],
        }
    }

    #[test]
    fn who_is_affected_and_who_no_longer() {
        let found = answer(&findings());
        let releases: Vec<String> = found.releases.iter().map(|one| one.release.to_string()).collect();
        assert_eq!(releases, ["blog@1", "shop@1", "shop@2"]);
        assert_eq!(found.releases[1].machines.len(), 2, "what was found twice is told once");
        assert_eq!(found.releases[1].channels, ["prod"]);
        let [blog, shop] = &found.applications[..] else { panic!("{:?}", found.applications) };
        assert_eq!((blog.affected, blog.releases, blog.free_since.as_ref()), (1, 1, None));
        assert_eq!((shop.affected, shop.releases, shop.free_since.clone()), (2, 4, Some(release("shop@3"))));
        assert_eq!(shop.newest, release("shop@5"));
    }

    #[test]
    fn instances_are_seen_or_those_of_the_release() {
        let found = answer(&findings());
        let of = |name: &str| found.deployments.iter().find(|one| one.deployment.as_str() == name);
        let prod = of("shop-prod").expect("is affected");
        assert_eq!((prod.instances, prod.seen), (1, true), "one web was seen, and no db");
        assert_eq!(prod.upgrade, Some(release("shop@5")));
        let test = of("shop-test").expect("is affected");
        assert_eq!((test.instances, test.seen), (2, false));
        assert!(of("shop-new").is_none());
        assert_eq!(of("blog").and_then(|one| one.upgrade.clone()), None, "its newest release is affected");
        assert_eq!(found.instances, 5);
    }

    #[test]
    fn nothing_is_nothing() {
        let none = Findings { occurrences: Vec::new(), ..findings() };
        assert_eq!(answer(&none), Affected::default());
    }
}
