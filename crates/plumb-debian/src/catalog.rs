//! A package index that is searched without being parsed: what a resolver asks of all packages, and for each package
//! where its stanza lies in the `Packages` text.
//!
//! ```text
//!  head       "plumbcat" format rows provides strings          8 bytes, then 4 x u32
//!  rows       by name, newest version first                     5 x u32 each
//!               text  lengths: name | version << 16  stanza offset  stanza length  rank
//!  provides   by name, then row                                 4 x u32 each
//!               text  lengths: name | version << 16  qualifier length  row
//!  strings    name, version, qualifier of each, one behind the other
//! ```
//!
//! Numbers are little-endian; `text` counts from the start of the strings. Nothing in these bytes is trusted: a place
//! that is out of bounds reads as empty, so a wrong catalog gives wrong answers and never a panic. Whoever keeps one
//! keeps its digest beside it, and whoever reads a stanza compares name and version.

use std::cmp::Reverse;
use std::ops::Range;

use crate::control::{Paragraph, Paragraphs};
use crate::index::{IndexError, MAX_PACKAGES, PackageRecord};
use crate::{ARCHITECTURE, PackageName, Version, parse_relations};

const MAGIC: &[u8; 8] = b"plumbcat";
/// The bit of a rank that stands above every priority.
const NOT_ESSENTIAL: u32 = 1 << 8;

/// Changes with the drawing above and with what the fields mean.
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 24;
const ROW_BYTES: usize = 20;
const PROVIDED_BYTES: usize = 16;

/// The packages of one index for [`ARCHITECTURE`] and `all`, every version of every name once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    bytes: Vec<u8>,
    rows: usize,
    provides: usize,
}

/// One `Provides` of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provided<'a> {
    /// Who provides it.
    pub row: usize,
    /// The version provided; empty if none is named.
    pub version: &'a str,
    /// The qualifier, such as `any`; empty if there is none.
    pub qualifier: &'a str,
}

/// A package on its way into a catalog.
struct Row {
    name: PackageName,
    version: Version,
    stanza: Range<usize>,
    rank: u32,
    provides: Vec<(PackageName, Option<Version>, Option<String>)>,
}

impl Catalog {
    /// Reads a whole `Packages` file, as strictly as [`crate::parse_packages`].
    ///
    /// # Errors
    /// [`IndexError`] for the first stanza that is not one, or that does not say clearly what it provides.
    pub fn build(text: &str) -> Result<Self, IndexError> {
        let mut rows = Vec::new();
        let mut paragraphs = Paragraphs::new(text);
        let mut paragraph = Paragraph::default();
        let mut count = 0;
        while paragraphs.read_into(&mut paragraph).map_err(IndexError::Control)? {
            if count == MAX_PACKAGES {
                return Err(IndexError::Many);
            }
            count += 1;
            let record = PackageRecord::from_paragraph(&paragraph)?;
            if matches!(&*record.architecture, ARCHITECTURE | "all") {
                rows.push(row(record, &paragraph)?);
            }
        }
        // Stable: of equal versions the first counts.
        rows.sort_by(|a, b| (&a.name, Reverse(&a.version)).cmp(&(&b.name, Reverse(&b.version))));
        rows.dedup_by(|later, earlier| later.name == earlier.name && later.version == earlier.version);
        Ok(encode(&rows))
    }

    /// Takes the bytes of a catalog; `None` if they are of another format or not whole.
    #[must_use]
    pub fn load(bytes: Vec<u8>) -> Option<Self> {
        if bytes.get(..8)? != MAGIC || word(&bytes, 8) != FORMAT {
            return None;
        }
        let count = |at| usize::try_from(word(&bytes, at)).ok();
        let (rows, provides, strings) = (count(12)?, count(16)?, count(20)?);
        let tables = rows.checked_mul(ROW_BYTES)?.checked_add(provides.checked_mul(PROVIDED_BYTES)?)?;
        let length = HEAD_BYTES.checked_add(tables)?.checked_add(strings)?;
        (bytes.len() == length).then_some(Catalog { bytes, rows, provides })
    }

    /// The bytes, for [`Catalog::load`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Packages, versions counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Name of a package.
    #[must_use]
    pub fn name(&self, row: usize) -> &str {
        let (text, name, _) = self.row(row);
        self.string(text, name)
    }

    /// Version of a package.
    #[must_use]
    pub fn version(&self, row: usize) -> &str {
        let (text, name, version) = self.row(row);
        self.string(text.saturating_add(name), version)
    }

    /// Where the stanza lies in the text, in bytes.
    #[must_use]
    pub fn stanza(&self, row: usize) -> Range<u64> {
        let at = HEAD_BYTES + row * ROW_BYTES;
        let start = u64::from(word(&self.bytes, at + 8));
        start..start + u64::from(word(&self.bytes, at + 12))
    }

    /// Whom apt prefers among those who provide the same: lower is better.
    #[must_use]
    pub fn rank(&self, row: usize) -> u32 {
        word(&self.bytes, HEAD_BYTES + row * ROW_BYTES + 16)
    }

    /// Does `Essential: yes` stand in the package?
    #[must_use]
    pub fn is_essential(&self, row: usize) -> bool {
        self.rank(row) & NOT_ESSENTIAL == 0
    }

    /// Who provides a name, by row.
    pub fn providers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Provided<'a>> {
        let (mut low, mut high) = (0, self.provides);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.provided_name(middle) < name { low = middle + 1 } else { high = middle }
        }
        (low..self.provides).take_while(move |&at| self.provided_name(at) == name).map(|at| self.provided(at))
    }

    fn row(&self, row: usize) -> (usize, usize, usize) {
        let at = HEAD_BYTES + row * ROW_BYTES;
        let lengths = word(&self.bytes, at + 4);
        (word(&self.bytes, at) as usize, (lengths & 0xffff) as usize, (lengths >> 16) as usize)
    }

    fn provided_name(&self, index: usize) -> &str {
        let at = HEAD_BYTES + self.rows * ROW_BYTES + index * PROVIDED_BYTES;
        self.string(word(&self.bytes, at) as usize, (word(&self.bytes, at + 4) & 0xffff) as usize)
    }

    fn provided(&self, index: usize) -> Provided<'_> {
        let at = HEAD_BYTES + self.rows * ROW_BYTES + index * PROVIDED_BYTES;
        let lengths = word(&self.bytes, at + 4);
        let version = (word(&self.bytes, at) as usize).saturating_add((lengths & 0xffff) as usize);
        let version_length = (lengths >> 16) as usize;
        Provided {
            row: word(&self.bytes, at + 12) as usize,
            version: self.string(version, version_length),
            qualifier: self
                .string(version.saturating_add(version_length), word(&self.bytes, at + 8) as usize),
        }
    }

    fn string(&self, at: usize, length: usize) -> &str {
        let start = HEAD_BYTES + self.rows * ROW_BYTES + self.provides * PROVIDED_BYTES;
        let start = start.saturating_add(at);
        let bytes = self.bytes.get(start..start.saturating_add(length)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

fn row(record: PackageRecord, paragraph: &Paragraph<'_>) -> Result<Row, IndexError> {
    let groups = parse_relations(&record.provides).map_err(|source| IndexError::Provides {
        package: record.name.clone(),
        version: record.version.clone(),
        line: paragraph.line,
        source: Box::new(source),
    })?;
    let provides = groups
        .into_iter()
        .flat_map(|group| group.0)
        .map(|relation| (relation.name, relation.version.map(|(_, version)| version), relation.qualifier))
        .collect();
    // What apt prefers: essential ones, then by priority.
    let rank = if record.essential { 0 } else { NOT_ESSENTIAL } | record.priority as u32;
    Ok(Row { name: record.name, version: record.version, stanza: paragraph.range.clone(), rank, provides })
}

fn encode(rows: &[Row]) -> Catalog {
    let mut provides: Vec<(&PackageName, usize, &Option<Version>, &Option<String>)> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        provides.extend(row.provides.iter().map(|(name, version, extra)| (name, number, version, extra)));
    }
    provides.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let mut strings = Vec::new();
    let mut table = Vec::with_capacity(rows.len() * ROW_BYTES + provides.len() * PROVIDED_BYTES);
    for row in rows {
        let (name, version) = (row.name.as_str(), row.version.as_str());
        let lengths = number(name.len()) | number(version.len()) << 16;
        let stanza = (number(row.stanza.start), number(row.stanza.len()));
        put(&mut table, &[number(strings.len()), lengths, stanza.0, stanza.1, row.rank]);
        strings.extend_from_slice(name.as_bytes());
        strings.extend_from_slice(version.as_bytes());
    }
    for (name, row, version, qualifier) in &provides {
        let version = version.as_ref().map_or("", Version::as_str);
        let qualifier = qualifier.as_deref().unwrap_or_default();
        let lengths = number(name.as_str().len()) | number(version.len()) << 16;
        put(&mut table, &[number(strings.len()), lengths, number(qualifier.len()), number(*row)]);
        for text in [name.as_str(), version, qualifier] {
            strings.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, &[FORMAT, number(rows.len()), number(provides.len()), number(strings.len())]);
    bytes.extend_from_slice(&table);
    bytes.extend_from_slice(&strings);
    Catalog { bytes, rows: rows.len(), provides: provides.len() }
}

fn put(bytes: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}

/// Everything counted here comes from one text, and no index is longer than 4 GiB: it is held in memory, and what reads
/// indices refuses far shorter ones. Were it otherwise, the stanza would be missed, and that is noticed.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "Package: zz\nVersion: 1.0\nArchitecture: all\nFilename: p/zz\nSize: 1\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000000\nProvides: virt (= 2), other:any\n\n\
        # a note\nPackage: aa\nVersion: 1.9\nArchitecture: amd64\nPriority: required\nFilename: p/aa\nSize: 1\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000000\nProvides: virt\n\n\
        Package: aa\nVersion: 1.10\nArchitecture: amd64\nFilename: p/aa\nSize: 2\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000000\n\n\
        Package: aa\nVersion: 0:1.10\nArchitecture: amd64\nFilename: p/second\nSize: 2\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000000\n\n\
        Package: bb\nVersion: 1\nArchitecture: i386\nFilename: p/bb\nSize: 2\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000000";

    fn stanza(catalog: &Catalog, row: usize) -> PackageRecord {
        let range = catalog.stanza(row);
        let text = &INDEX[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        let mut records = crate::parse_packages(text).unwrap();
        assert_eq!(records.len(), 1);
        records.remove(0)
    }

    #[test]
    fn rows_are_sorted_and_lead_to_their_stanzas() {
        let catalog = Catalog::build(INDEX).unwrap();
        let rows: Vec<_> = (0..catalog.len()).map(|row| (catalog.name(row), catalog.version(row))).collect();
        assert_eq!(rows, [("aa", "1.10"), ("aa", "1.9"), ("zz", "1.0")]);
        for (row, named) in rows.iter().enumerate() {
            let record = stanza(&catalog, row);
            assert_eq!((record.name.as_str(), record.version.as_str()), *named);
        }
        assert_eq!(&*stanza(&catalog, 0).filename, "p/aa");
        assert!(catalog.rank(1) < catalog.rank(0));
    }

    #[test]
    fn provides_are_found_by_name() {
        let catalog = Catalog::build(INDEX).unwrap();
        let found: Vec<_> = catalog.providers("virt").map(|p| (p.row, p.version, p.qualifier)).collect();
        assert_eq!(found, [(1, "", ""), (2, "2", "")]);
        let found: Vec<_> = catalog.providers("other").map(|p| (p.row, p.version, p.qualifier)).collect();
        assert_eq!(found, [(2, "", "any")]);
        assert_eq!(catalog.providers("aa").count() + catalog.providers("").count(), 0);
    }

    #[test]
    fn another_format_or_a_part_is_none() {
        let catalog = Catalog::build(INDEX).unwrap();
        let bytes = catalog.bytes().to_vec();
        assert_eq!(Catalog::load(bytes.clone()), Some(catalog));
        for cut in 0..bytes.len() {
            assert_eq!(Catalog::load(bytes[..cut].to_vec()), None, "cut at {cut}");
        }
        assert_eq!(Catalog::load([&bytes[..], b"x"].concat()), None);
        for at in 0..12 {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(Catalog::load(other), None, "another byte {at}");
        }
        assert!(Catalog::build("").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let error = Catalog::build(&INDEX.replace("virt (= 2)", "virt (")).unwrap_err();
        assert_eq!(error.to_string(), "line 1: `Provides` of package `zz` 1.0 cannot be read");
        assert!(Catalog::build(&INDEX.replace("Size: 1", "Size: x")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_damage_is_survived(at in 12_usize..400, byte: u8, name in "[a-z]{0,3}") {
            let mut bytes = Catalog::build(INDEX).unwrap().bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Some(catalog) = Catalog::load(bytes) {
                for row in 0..catalog.len() {
                    let _ = (catalog.name(row), catalog.version(row), catalog.stanza(row), catalog.rank(row));
                }
                for provided in catalog.providers(&name) {
                    let _ = (catalog.name(provided.row), provided.version, provided.qualifier);
                }
            }
        }
    }
}
