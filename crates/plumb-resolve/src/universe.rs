//! Everything the archives offer, as one view.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use plumb_debian::index::{MultiArch, Priority};
use plumb_debian::{
    ARCHITECTURE, PackageName, PackageRecord, Relation, RelationError, Version, parse_relations,
};
use thiserror::Error;

/// The packages of one index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What messages call it, such as `bookworm-security`.
    pub name: String,
    /// Its packages; those of other architectures are passed over.
    pub packages: Vec<PackageRecord>,
}

/// The packages of all sources for one architecture and `all`, with every version of every name.
///
/// Where two sources hold the same version of a package, the one of the earlier source counts.
#[derive(Debug)]
pub struct Universe {
    /// Sorted by name, newest version first.
    records: Vec<PackageRecord>,
    /// Which source each record came from.
    source_of: Vec<usize>,
    sources: Vec<String>,
    /// The records of each name: the names in order, so that the position is the number of the name.
    names: Vec<Range<usize>>,
    /// Number of the name of each record.
    name_of: Vec<u32>,
    /// Who provides a name, best first.
    provided: BTreeMap<PackageName, Vec<Provided>>,
}

/// One entry of a `Provides`.
#[derive(Debug)]
struct Provided {
    record: usize,
    version: Option<Version>,
    qualifier: Option<String>,
}

/// Why sources do not make a universe.
#[derive(Debug, Error)]
pub enum UniverseError {
    /// A `Provides` that cannot be read: what the package answers to is not known.
    #[error("`Provides` of package `{package}` {version} in `{source_name}` cannot be read")]
    Provides {
        /// The package.
        package: PackageName,
        /// Its version.
        version: Version,
        /// The index it is in.
        source_name: String,
        /// What is wrong with it.
        #[source]
        source: Box<RelationError>,
    },
}

impl Universe {
    /// Joins `sources`, of which the earlier ones win where the same version is in several.
    ///
    /// # Errors
    /// [`UniverseError::Provides`] if a package does not say clearly what it provides.
    pub fn new(sources: Vec<Source>) -> Result<Self, UniverseError> {
        let mut names_of_sources = Vec::with_capacity(sources.len());
        let mut all = Vec::with_capacity(sources.iter().map(|source| source.packages.len()).sum());
        for (number, source) in sources.into_iter().enumerate() {
            names_of_sources.push(source.name);
            let fitting =
                source.packages.into_iter().filter(|p| matches!(&*p.architecture, ARCHITECTURE | "all"));
            all.extend(fitting.map(|package| (number, package)));
        }
        all.sort_by(|(source_a, a), (source_b, b)| {
            let newest_first = || (Reverse(&a.version), source_a).cmp(&(Reverse(&b.version), source_b));
            a.name.cmp(&b.name).then_with(newest_first)
        });
        all.dedup_by(|(_, later), (_, earlier)| {
            later.name == earlier.name && later.version == earlier.version
        });
        let (source_of, records): (Vec<usize>, Vec<PackageRecord>) = all.into_iter().unzip();
        let mut universe = Self {
            names: Vec::new(),
            name_of: Vec::with_capacity(records.len()),
            provided: BTreeMap::new(),
            sources: names_of_sources,
            source_of,
            records,
        };
        universe.number_names();
        universe.index_provides()?;
        Ok(universe)
    }

    fn number_names(&mut self) {
        let mut end = 0;
        for group in self.records.chunk_by(|a, b| a.name == b.name) {
            // Package names are far fewer than 2^32: an index holds at most a million.
            let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            self.name_of.extend(std::iter::repeat_n(number, group.len()));
            self.names.push(end..end + group.len());
            end += group.len();
        }
    }

    fn index_provides(&mut self) -> Result<(), UniverseError> {
        for (record, package) in self.records.iter().enumerate().filter(|(_, p)| !p.provides.is_empty()) {
            let groups = parse_relations(&package.provides).map_err(|source| UniverseError::Provides {
                package: package.name.clone(),
                version: package.version.clone(),
                source_name: self.sources[self.source_of[record]].clone(),
                source: Box::new(source),
            })?;
            for relation in groups.into_iter().flat_map(|group| group.0) {
                let version = relation.version.map(|(_, version)| version);
                let entry = Provided { record, version, qualifier: relation.qualifier };
                self.provided.entry(relation.name).or_default().push(entry);
            }
        }
        for providers in self.provided.values_mut() {
            // What apt prefers: essential ones, then by priority; equals by name, which the records' order is.
            let rank = |record: &PackageRecord| -> (bool, Priority) { (!record.essential, record.priority) };
            providers.sort_by_key(|provided| (rank(&self.records[provided.record]), provided.record));
        }
        Ok(())
    }

    /// How many packages there are, versions counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no package at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All versions of a package, newest first.
    #[must_use]
    pub fn versions(&self, name: &str) -> &[PackageRecord] {
        self.number_of(name).map_or(&[], |number| &self.records[self.names[number as usize].clone()])
    }

    /// The newest version of a package, and the position of its source in the list that [`Universe::new`] got.
    #[must_use]
    pub fn newest(&self, name: &PackageName) -> Option<(&PackageRecord, usize)> {
        let first = self.names[self.number_of(name.as_str())? as usize].start;
        Some((&self.records[first], self.source_of[first]))
    }

    /// All package names, sorted.
    pub fn package_names(&self) -> impl Iterator<Item = &PackageName> {
        self.names.iter().map(|range| &self.records[range.start].name)
    }

    /// Whether some package has the name or provides it.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.number_of(name).is_some() || self.provided.contains_key(name)
    }

    pub(crate) fn record(&self, record: usize) -> &PackageRecord {
        &self.records[record]
    }

    pub(crate) fn source_name(&self, record: usize) -> &str {
        &self.sources[self.source_of[record]]
    }

    pub(crate) fn source_names(&self) -> &[String] {
        &self.sources
    }

    pub(crate) fn source_number(&self, record: usize) -> usize {
        self.source_of[record]
    }

    pub(crate) fn name_number(&self, record: usize) -> u32 {
        self.name_of[record]
    }

    pub(crate) fn records_of(&self, name_number: u32) -> Range<usize> {
        self.names[name_number as usize].clone()
    }

    pub(crate) fn number_of(&self, name: &str) -> Option<u32> {
        let found = self.names.binary_search_by(|range| self.records[range.start].name.as_str().cmp(name));
        found.ok().and_then(|position| u32::try_from(position).ok())
    }

    /// The records that answer a dependency, best first: the package itself (newest version first), then who
    /// provides it.
    pub(crate) fn answers(&self, relation: &Relation) -> Vec<usize> {
        let mut found = Vec::new();
        if let Some(number) = self.number_of(relation.name.as_str()) {
            found.extend(self.records_of(number).filter(|&record| {
                let package = &self.records[record];
                relation.accepts(&package.version) && self.qualifier_fits(relation, record, None)
            }));
        }
        for provided in self.provided.get(&relation.name).into_iter().flatten() {
            let version_fits = match (&relation.version, &provided.version) {
                (None, _) => true,
                // Policy 7.5: an unversioned Provides answers no versioned relation.
                (Some(_), None) => false,
                (Some(_), Some(version)) => relation.accepts(version),
            };
            let fits =
                version_fits && self.qualifier_fits(relation, provided.record, provided.qualifier.as_deref());
            if fits && !found.contains(&provided.record) {
                found.push(provided.record);
            }
        }
        found
    }

    /// `name:any` is answered only by packages that allow it, `name:ARCH` only by packages of that architecture.
    fn qualifier_fits(&self, relation: &Relation, record: usize, provided: Option<&str>) -> bool {
        let package = &self.records[record];
        match relation.qualifier.as_deref() {
            None | Some("native") => true,
            Some("any") => package.multi_arch == MultiArch::Allowed || provided == Some("any"),
            Some(architecture) => architecture == ARCHITECTURE,
        }
    }

    /// The records that a `Conflicts` or `Breaks` excludes. The qualifier only matters for foreign architectures.
    pub(crate) fn excluded_by(&self, relation: &Relation) -> Vec<usize> {
        match relation.qualifier.as_deref() {
            Some(architecture) if !matches!(architecture, "any" | "native" | ARCHITECTURE) => Vec::new(),
            _ => self.answers(&Relation { qualifier: None, ..relation.clone() }),
        }
    }
}
