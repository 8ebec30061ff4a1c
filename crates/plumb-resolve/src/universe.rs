//! Everything the archives offer, as one view.

use std::cmp::Reverse;
use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use plumb_debian::index::MultiArch;
use plumb_debian::{
    ARCHITECTURE, Catalog, IndexError, PackageName, PackageRecord, Relation, Version, parse_packages,
};

/// Reads stanzas of the `Packages` text that a catalog was made of.
pub trait Stanzas: Send + Sync {
    /// The text between two byte offsets; `None` if it cannot be had.
    fn read(&self, range: Range<u64>) -> Option<String>;
}

/// A text in memory.
impl Stanzas for String {
    fn read(&self, range: Range<u64>) -> Option<String> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.get(range).map(str::to_owned)
    }
}

/// The packages of one index.
pub struct Source {
    /// What messages call it, such as `bookworm-security`.
    pub name: String,
    /// Its packages.
    pub catalog: Catalog,
    /// Where their stanzas are.
    pub stanzas: Box<dyn Stanzas>,
}

impl Source {
    /// The packages of an index in memory.
    ///
    /// # Errors
    /// [`IndexError`] if it is none.
    pub fn from_text(name: impl Into<String>, text: String) -> Result<Self, IndexError> {
        let catalog = Catalog::build(&text)?;
        Ok(Self { name: name.into(), catalog, stanzas: Box::new(text) })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} packages)", self.name, self.catalog.len())
    }
}

/// The packages of all sources for one architecture and `all`, with every version of every name.
///
/// Where two sources hold the same version of a package, the one of the earlier source counts. A stanza is read when a
/// record is first asked for: a machine needs a few hundred of 66,000.
#[derive(Debug)]
pub struct Universe {
    sources: Vec<Source>,
    /// Source and row of each record; sorted by name, newest version first.
    places: Vec<(usize, usize)>,
    /// The records of each name: the names in order, so that the position is the number of the name.
    names: Vec<Range<usize>>,
    /// Number of the name of each record.
    name_of: Vec<u32>,
    /// The record of each row of each source; [`NO_RECORD`] where an earlier source holds the same version.
    record_of: Vec<Vec<u32>>,
    records: Vec<OnceLock<Box<PackageRecord>>>,
    damaged: AtomicBool,
}

const NO_RECORD: u32 = u32::MAX;

/// Stands in for a record that cannot be read, until [`Universe::is_damaged`] is asked.
const UNREADABLE: &str = "Package: unreadable\nVersion: 0\nArchitecture: all\nFilename: unreadable\nSize: 0\n\
    SHA256: 0000000000000000000000000000000000000000000000000000000000000000\n";

/// Who provides a name, as asked for.
struct Provider {
    rank: u32,
    record: usize,
    version: Option<Version>,
    qualifier: String,
}

impl Universe {
    /// Joins `sources`, of which the earlier ones win where the same version is in several.
    #[must_use]
    pub fn new(sources: Vec<Source>) -> Self {
        let count: usize = sources.iter().map(|source| source.catalog.len()).sum();
        let mut universe = Self {
            places: Vec::with_capacity(count),
            names: Vec::with_capacity(count),
            name_of: Vec::with_capacity(count),
            record_of: sources.iter().map(|source| vec![NO_RECORD; source.catalog.len()]).collect(),
            records: Vec::new(),
            damaged: AtomicBool::new(false),
            sources,
        };
        let mut next = vec![0; universe.sources.len()];
        let mut group = Vec::new();
        while universe.take_name(&mut next, &mut group) {
            universe.add_name(&mut group);
        }
        universe.records.resize_with(universe.places.len(), OnceLock::new);
        universe
    }

    /// Moves all rows of the least name that is left, of all sources, into `group`; false if none is left.
    fn take_name(&self, next: &mut [usize], group: &mut Vec<(usize, usize)>) -> bool {
        group.clear();
        let heads = self.sources.iter().zip(&*next);
        let heads = heads.filter(|(source, row)| **row < source.catalog.len());
        let Some(name) = heads.map(|(source, row)| source.catalog.name(*row)).min() else { return false };
        for (number, source) in self.sources.iter().enumerate() {
            // The first row is taken whatever it says: with a catalog that is not sorted this must end, too.
            while next[number] < source.catalog.len() && source.catalog.name(next[number]) == name {
                group.push((number, next[number]));
                next[number] += 1;
            }
        }
        true
    }

    /// Adds the records of one name: newest version first, equal versions once.
    fn add_name(&mut self, group: &mut [(usize, usize)]) {
        let start = self.places.len();
        // Package names are far fewer than 2^32: an index holds at most a million.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        if let [place] = *group {
            self.add_record(place, number);
        } else {
            let version =
                |place: &(usize, usize)| self.sources[place.0].catalog.version(place.1).parse().ok();
            let mut versions: Vec<(Option<Version>, (usize, usize))> =
                group.iter().map(|place| (version(place), *place)).collect();
            versions.sort_by(|a, b| (Reverse(&a.0), a.1).cmp(&(Reverse(&b.0), b.1)));
            versions.dedup_by(|later, earlier| later.0 == earlier.0);
            for (_, place) in versions {
                self.add_record(place, number);
            }
        }
        self.names.push(start..self.places.len());
    }

    fn add_record(&mut self, place: (usize, usize), name: u32) {
        self.record_of[place.0][place.1] = u32::try_from(self.places.len()).unwrap_or(NO_RECORD);
        self.places.push(place);
        self.name_of.push(name);
    }

    /// Whether a record could not be read, or was not the one its catalog names: then nothing that this universe was
    /// asked for holds, and the catalogs have to be made again.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    fn read_record(&self, record: usize) -> PackageRecord {
        let (source, row) = self.places[record];
        let Source { catalog, stanzas, .. } = &self.sources[source];
        let text = stanzas.read(catalog.stanza(row));
        let mut found = text.and_then(|text| parse_packages(&text).ok()).unwrap_or_default();
        match found.pop() {
            Some(found)
                if found.name.as_str() == catalog.name(row)
                    && found.version.as_str() == catalog.version(row) =>
            {
                found
            }
            _ => {
                self.damaged.store(true, Ordering::Relaxed);
                parse_packages(UNREADABLE).ok().and_then(|mut one| one.pop()).expect("a right stanza")
            }
        }
    }

    /// Who provides a name, best first: what apt prefers, equals by name, which the records' order is.
    fn providers(&self, name: &str) -> Vec<Provider> {
        let mut providers = Vec::new();
        for (source, records) in self.sources.iter().zip(&self.record_of) {
            for provided in source.catalog.providers(name) {
                let record = records.get(provided.row).copied().filter(|record| *record != NO_RECORD);
                let Some(record) = record else { continue };
                providers.push(Provider {
                    rank: source.catalog.rank(provided.row),
                    record: record as usize,
                    version: provided.version.parse().ok(),
                    qualifier: provided.qualifier.to_owned(),
                });
            }
        }
        providers.sort_by_key(|provider| (provider.rank, provider.record));
        providers
    }

    /// How many packages there are, versions counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no package at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All versions of a package, newest first.
    #[must_use]
    pub fn versions(&self, name: &str) -> Vec<&PackageRecord> {
        let records = self.number_of(name).map_or(0..0, |number| self.records_of(number));
        records.map(|record| self.record(record)).collect()
    }

    /// All versions of a package, newest first, each with the position of its source.
    #[must_use]
    pub fn candidates(&self, name: &PackageName) -> Vec<(&PackageRecord, usize)> {
        let records = self.number_of(name.as_str()).map_or(0..0, |number| self.records_of(number));
        records.map(|record| (self.record(record), self.source_number(record))).collect()
    }

    /// The newest version of a package, and the position of its source in the list that [`Universe::new`] got.
    #[must_use]
    pub fn newest(&self, name: &PackageName) -> Option<(&PackageRecord, usize)> {
        let first = self.names[self.number_of(name.as_str())? as usize].start;
        Some((self.record(first), self.source_number(first)))
    }

    /// The newest version that one of the `chosen` sources has, wherever its record was taken from: equal versions of
    /// several sources are one record.
    #[must_use]
    pub fn newest_in(&self, name: &PackageName, chosen: &dyn Fn(usize) -> bool) -> Option<&PackageRecord> {
        let sources = self.sources.iter().enumerate().filter(|(number, _)| chosen(*number));
        let versions = sources.flat_map(|(_, source)| {
            let catalog = &source.catalog;
            let (mut low, mut high) = (0, catalog.len());
            while low < high {
                let middle = low.midpoint(high);
                if catalog.name(middle) < name.as_str() { low = middle + 1 } else { high = middle }
            }
            let rows = (low..catalog.len()).take_while(|row| catalog.name(*row) == name.as_str());
            rows.filter_map(|row| catalog.version(row).parse::<Version>().ok())
        });
        let newest = versions.max()?;
        self.versions(name.as_str()).into_iter().find(|record| record.version == newest)
    }

    /// All package names, sorted.
    pub fn package_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|range| self.name_at(range.start))
    }

    /// Names of packages that every system has (`Essential: yes`), sorted.
    pub fn essential(&self) -> impl Iterator<Item = &str> {
        let is_essential = |record: usize| {
            let (source, row) = self.places[record];
            self.sources[source].catalog.is_essential(row)
        };
        self.names
            .iter()
            .map(|range| range.start)
            .filter(move |record| is_essential(*record))
            .map(|record| self.name_at(record))
    }

    fn name_at(&self, record: usize) -> &str {
        let (source, row) = self.places[record];
        self.sources[source].catalog.name(row)
    }

    /// Whether some package has the name or provides it.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.number_of(name).is_some() || !self.providers(name).is_empty()
    }

    pub(crate) fn record(&self, record: usize) -> &PackageRecord {
        self.records[record].get_or_init(|| Box::new(self.read_record(record)))
    }

    pub(crate) fn source_name(&self, record: usize) -> &str {
        &self.sources[self.source_number(record)].name
    }

    pub(crate) fn source_names(&self) -> Vec<&str> {
        self.sources.iter().map(|source| source.name.as_str()).collect()
    }

    pub(crate) fn source_number(&self, record: usize) -> usize {
        self.places[record].0
    }

    pub(crate) fn name_number(&self, record: usize) -> u32 {
        self.name_of[record]
    }

    pub(crate) fn records_of(&self, name_number: u32) -> Range<usize> {
        self.names[name_number as usize].clone()
    }

    pub(crate) fn number_of(&self, name: &str) -> Option<u32> {
        let found = self.names.binary_search_by(|range| self.name_at(range.start).cmp(name));
        found.ok().and_then(|position| u32::try_from(position).ok())
    }

    /// The records that answer a dependency, best first: the package itself (newest version first), then who
    /// provides it.
    pub(crate) fn answers(&self, relation: &Relation) -> Vec<usize> {
        let mut found = Vec::new();
        if let Some(number) = self.number_of(relation.name.as_str()) {
            found.extend(self.records_of(number).filter(|&record| {
                relation.accepts(&self.record(record).version) && self.qualifier_fits(relation, record, None)
            }));
        }
        for provided in self.providers(relation.name.as_str()) {
            let version_fits = match (&relation.version, &provided.version) {
                (None, _) => true,
                // Policy 7.5: an unversioned Provides answers no versioned relation.
                (Some(_), None) => false,
                (Some(_), Some(version)) => relation.accepts(version),
            };
            let fits = version_fits
                && self.qualifier_fits(relation, provided.record, Some(provided.qualifier.as_str()));
            if fits && !found.contains(&provided.record) {
                found.push(provided.record);
            }
        }
        found
    }

    /// `name:any` is answered only by packages that allow it, `name:ARCH` only by packages of that architecture.
    fn qualifier_fits(&self, relation: &Relation, record: usize, provided: Option<&str>) -> bool {
        match relation.qualifier.as_deref() {
            None | Some("native") => true,
            Some("any") => self.record(record).multi_arch == MultiArch::Allowed || provided == Some("any"),
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
