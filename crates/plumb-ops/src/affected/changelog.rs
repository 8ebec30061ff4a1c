//! What the packages' own changelogs say: which version of a source fixed which vulnerability.

use std::collections::BTreeMap;

use plumb_debian::{Version, changelog};
use plumb_model::Digest;
use plumb_model::lock::{Lock, LockedPackage};
use plumb_search::advisory::{Advisory, Claim, Urgency, Verdict};
use plumb_search::{Component, Ecosystem};
use rayon::prelude::*;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::record::{CHANGELOGS, feed_id, insert_statement};
use super::seen::Seen;
use crate::Plumb;
use crate::error::OpsError;

/// Where the packages of an image are from.
pub(super) struct Source<'l> {
    pub(super) lock: &'l Lock,
    /// The suite of the definition. What is of another is no package of the lock, whatever its name.
    pub(super) suite: &'l str,
}

/// What the changelog of a source says.
pub(super) struct Fixes {
    source: String,
    version: String,
    suite: String,
    /// The lowest version that names each vulnerability.
    lowest: BTreeMap<String, Version>,
    /// Packages that were asked: none of them needs to be again.
    asked: Vec<String>,
}

/// As a package that was asked: one of the source had its changelog, and no other needs to be asked.
const WHOLE_SOURCE: &str = "";

/// Name, version and suite of a source package.
type Key<'c> = (&'c str, &'c str, &'c str);

/// A package that may have the changelog of its source, and the images that it was seen in.
struct Candidate<'c> {
    images: Vec<Digest>,
    package: &'c LockedPackage,
    lock: &'c Lock,
}

/// What became of the changelogs of one source: what the first says that says something, and of which images others could
/// not be read, and why.
type Outcome = (Fixes, Vec<(Digest, String)>);

impl Plumb<'_> {
    /// What the changelogs of packages say that the index does not know yet. Of an image with a changelog that cannot be
    /// read not everything is known, and it is marked so.
    pub(super) fn changelogs(
        &self,
        connection: &Connection,
        seen: &mut BTreeMap<Digest, Seen>,
        sources: &BTreeMap<Digest, Source<'_>>,
    ) -> rusqlite::Result<Vec<Fixes>> {
        let mut candidates: BTreeMap<Key<'_>, BTreeMap<&Component, Candidate<'_>>> = BTreeMap::new();
        for (image, one) in seen.iter() {
            let Some(source) = sources.get(image) else { continue };
            for (component, _) in &one.components {
                let Some(package) = source.package(component) else { continue };
                let key = (&*component.source, &*component.source_version, &*component.suite);
                if !was_asked(connection, key, &component.name)? {
                    let none = Candidate { images: Vec::new(), package, lock: source.lock };
                    let all = candidates.entry(key).or_default();
                    all.entry(component).or_insert(none).images.push(*image);
                }
            }
        }
        let read = |(key, all): (Key<'_>, BTreeMap<&Component, Candidate<'_>>)| {
            let all: Vec<Candidate<'_>> = all.into_values().collect();
            first(key, &all, &|one| self.changelog(one.package, one.lock))
        };
        let outcomes: Vec<Outcome> = candidates.into_par_iter().map(read).collect();
        let mut said = Vec::new();
        for (fixes, troubles) in outcomes {
            said.push(fixes);
            for (image, why) in troubles {
                if let Some(one) = seen.get_mut(&image) {
                    one.missed.get_or_insert(why);
                }
            }
        }
        Ok(said)
    }
}

impl<'l> Source<'l> {
    /// The package of the lock that a component is.
    fn package(&self, component: &Component) -> Option<&'l LockedPackage> {
        let of_lock = component.ecosystem == Ecosystem::Debian && component.suite == self.suite;
        let package = self.lock.package(&component.name).filter(|_| of_lock)?;
        (package.version.as_str() == component.version).then_some(package)
    }
}

/// Whether the changelog of a package was read before, or that of its source. That a package is known says nothing of it.
fn was_asked(
    connection: &Connection,
    (source, version, suite): Key<'_>,
    package: &str,
) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM asked
               WHERE source = ?1 AND version = ?2 AND suite = ?3 AND package IN (?4, ?5))";
    connection
        .prepare_cached(sql)?
        .query_row([source, version, suite, package, WHOLE_SOURCE], |row| row.get(0))
}

/// Packages of one source have one changelog; where the first has none, another may.
fn first(
    (source, version, suite): Key<'_>,
    candidates: &[Candidate<'_>],
    read: &dyn Fn(&Candidate<'_>) -> Result<String, OpsError>,
) -> Outcome {
    let [source, version, suite] = [source, version, suite].map(str::to_owned);
    let mut fixes = Fixes { source, version, suite, lowest: BTreeMap::new(), asked: Vec::new() };
    let mut troubles = Vec::new();
    for one in candidates {
        match read(one) {
            Ok(text) if text.is_empty() => fixes.asked.push(one.package.name.to_string()),
            Ok(text) => {
                fixes.lowest = changelog::fixes(&text);
                fixes.asked = vec![WHOLE_SOURCE.to_owned()];
                // What one could not say, another of the same source did.
                return (fixes, Vec::new());
            }
            Err(error) => {
                let LockedPackage { name, version, .. } = one.package;
                let why =
                    format!("the changelog of `{name} {version}` is not known: {}", error.in_one_line());
                troubles.extend(one.images.iter().map(|image| (*image, why.clone())));
            }
        }
    }
    (fixes, troubles)
}

impl Fixes {
    /// Remembers that vulnerabilities are named as fixed; of several versions the lowest counts.
    pub(super) fn insert(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for (name, version) in &self.lowest {
            self.insert_one(transaction, name, version)?;
        }
        let mut remember = transaction.prepare_cached(
            "INSERT OR IGNORE INTO asked (source, version, suite, package) VALUES (?1, ?2, ?3, ?4)",
        )?;
        for package in &self.asked {
            remember.execute([&self.source, &self.version, &self.suite, package])?;
        }
        Ok(())
    }

    fn insert_one(
        &self,
        transaction: &Transaction<'_>,
        name: &str,
        version: &Version,
    ) -> rusqlite::Result<()> {
        let feed = feed_id(transaction, CHANGELOGS, "")?;
        let known: Option<(i64, String)> = transaction
            .prepare_cached(
                "SELECT id, claim FROM statement WHERE name = ?2 AND feed = ?1 AND package = ?3 AND suite = ?4",
            )?
            .query_row(params![feed, name, self.source, self.suite], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((id, claim)) = known {
            let lowest = serde_json::from_str::<Claim>(&claim).ok();
            let is_fixed = |claim: Claim| claim.judge(Ecosystem::Debian, version.as_str());
            // Below the lowest version, a version is affected: there the new one is lower.
            if !matches!(lowest.map(is_fixed), Some(Verdict::Affected { .. })) {
                return Ok(());
            }
            transaction.prepare_cached("DELETE FROM statement WHERE id = ?1")?.execute([id])?;
        }
        let Ok(name) = name.parse() else { return Ok(()) };
        insert_statement(
            transaction,
            feed,
            &Advisory {
                name,
                aliases: Vec::new(),
                ecosystem: Ecosystem::Debian,
                suite: Some(self.suite.clone()),
                package: self.source.clone(),
                claim: Claim::fixed_in(version.as_str()),
                urgency: Urgency::Unknown,
                note: String::new(),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> LockedPackage {
        LockedPackage {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            architecture: "amd64".to_owned(),
            suite: "bookworm-security".to_owned(),
            file: String::new(),
            size: 1,
            digest: Digest::of(name.as_bytes()),
        }
    }

    fn lock() -> Lock {
        Lock {
            format: plumb_model::lock::FORMAT,
            app: "shop".parse().unwrap(),
            inputs: Digest::of(b"inputs"),
            sources: Vec::new(),
            machines: BTreeMap::new(),
            packages: vec![package("libssl3", "3.0.17-1"), package("openssl", "3.0.17-1")],
        }
    }

    /// A container image beside a machine of packages may have one of the same name, and it is another one.
    #[test]
    fn only_a_package_of_the_lock_has_its_changelog() {
        let lock = lock();
        let source = Source { lock: &lock, suite: "bookworm" };
        let component = |ecosystem, version: &str, suite: &str| Component {
            ecosystem,
            name: "libssl3".to_owned(),
            version: version.to_owned(),
            source: "openssl".to_owned(),
            source_version: version.to_owned(),
            suite: suite.to_owned(),
        };
        for (ecosystem, version, suite, is_it) in [
            (Ecosystem::Debian, "3.0.17-1", "bookworm", true),
            (Ecosystem::Debian, "1.1.1n-0", "bookworm", false),
            (Ecosystem::Debian, "3.0.17-1", "bullseye", false),
            (Ecosystem::Debian, "3.0.17-1", "ubuntu:jammy", false),
            (Ecosystem::Pypi, "3.0.17-1", "bookworm", false),
        ] {
            let found = source.package(&component(ecosystem, version, suite));
            assert_eq!(found.is_some(), is_it, "{ecosystem} {version} {suite}");
        }
    }

    #[test]
    fn a_changelog_that_cannot_be_read_is_told_unless_another_says_the_same() {
        const TEXT: &str = "openssl (3.0.17-1) bookworm; urgency=medium\n\n  * Fixes CVE-2025-9230.\n";
        let (lock, image) = (lock(), Digest::of(b"image"));
        let all: Vec<Candidate<'_>> = lock
            .packages
            .iter()
            .map(|package| Candidate { images: vec![image], package, lock: &lock })
            .collect();
        let broken = || OpsError::Store(plumb_store::Error::Missing { digest: image });
        let of = |good: &str| {
            first(("openssl", "3.0.17-1", "bookworm"), &all, &|one| match one.package.name.as_str() {
                name if name == good => Ok(TEXT.to_owned()),
                _ => Err(broken()),
            })
        };
        let (fixes, troubles) = of("openssl");
        assert_eq!(fixes.lowest.get("CVE-2025-9230").map(Version::as_str), Some("3.0.17-1"));
        assert_eq!(fixes.asked, [WHOLE_SOURCE]);
        assert!(troubles.is_empty(), "{troubles:?}");
        let (fixes, troubles) = of("neither");
        assert!(fixes.lowest.is_empty() && fixes.asked.is_empty(), "it is asked again: {:?}", fixes.asked);
        assert!(troubles[0].0 == image && troubles[0].1.contains("`libssl3 3.0.17-1`"), "{troubles:?}");
    }
    /// That an earlier release has the package does not say that its changelog was read.
    #[test]
    fn a_changelog_is_asked_for_until_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let held = plumb_store::Store::open(folder.path()).unwrap().lock("search").unwrap();
        let path = folder.path().join("search.db");
        let mut index = super::super::index::Index::open(&path, &held).unwrap();
        let transaction = index.connection.transaction().unwrap();
        let key = ("openssl", "3.0.17-1", "bookworm");
        let asked = || ["libssl3", "openssl"].map(|name| was_asked(&transaction, key, name).unwrap());
        let (lock, image) = (lock(), Digest::of(b"image"));
        let all: Vec<Candidate<'_>> = lock
            .packages
            .iter()
            .map(|package| Candidate { images: vec![image], package, lock: &lock })
            .collect();
        let of = |libssl3: Result<&str, ()>, openssl: Result<&str, ()>| {
            let missing = |()| OpsError::Store(plumb_store::Error::Missing { digest: image });
            let (fixes, troubles) = first(key, &all, &|one| match one.package.name.as_str() {
                "openssl" => openssl.map(str::to_owned).map_err(missing),
                _ => libssl3.map(str::to_owned).map_err(missing),
            });
            fixes.insert(&transaction).unwrap();
            troubles.len()
        };
        assert_eq!((of(Err(()), Err(())), asked()), (2, [false, false]));
        assert_eq!(
            (of(Err(()), Ok("")), asked()),
            (1, [false, true]),
            "it has none, and the other is damaged"
        );
        assert_eq!((of(Err(()), Ok("openssl (3.0.17-1) x; y=z\n")), asked()), (0, [true, true]));
        assert!(!was_asked(&transaction, ("openssl", "3.0.18-1", "bookworm"), "openssl").unwrap());
    }
}
