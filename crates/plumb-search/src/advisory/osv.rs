//! Records of OSV (OSV schema 1.7, `https://ossf.github.io/osv-schema/`).
//!
//! ```text
//! {"id": "DEBIAN-CVE-2025-9230", "upstream": ["CVE-2025-9230"], "affected": [{
//!    "package": {"ecosystem": "Debian:12", "name": "openssl"},
//!    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.17-1~deb12u3"}]}],
//!    "versions": ["3.0.11-1"], "ecosystem_specific": {"urgency": "medium"}}]}
//! ```
//! A version is affected if it is in the list or within a range: `introduced` begins one, `fixed` and `last_affected` end
//! it ("Evaluation" of the schema).

use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::guard::{Guard, Guarded};
use super::{Advisory, Claim, Keeper, MAX_ALIASES, MAX_LIST, Span, Until, Urgency, is_word, suite_of_number};
use crate::query::MAX_TEXT_BYTES;
use crate::{Ecosystem, VulnerabilityName};

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    aliases: Option<Vec<String>>,
    #[serde(default)]
    upstream: Option<Vec<String>>,
    #[serde(default)]
    related: Option<Vec<String>>,
    #[serde(default)]
    affected: Option<Vec<AffectedPackage>>,
    #[serde(default)]
    database_specific: Option<Value>,
}

#[derive(Deserialize)]
struct AffectedPackage {
    #[serde(default)]
    package: Option<Package>,
    #[serde(default)]
    ranges: Option<Vec<Range>>,
    #[serde(default)]
    versions: Option<Vec<String>>,
    #[serde(default)]
    ecosystem_specific: Option<Value>,
}

#[derive(Deserialize)]
struct Package {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
    limit: Option<String>,
}

/// The word that a database has for how much it matters, in whatever form it writes what it adds.
fn word(specific: Option<&Value>) -> Option<&str> {
    let specific = specific?;
    specific.get("urgency").or_else(|| specific.get("severity"))?.as_str()
}

pub(super) fn read(
    reader: Guarded<'_>,
    guard: &Guard,
    keeper: &mut Keeper<'_, '_>,
) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    loop {
        guard.next_record();
        Records { guard, keeper }.deserialize(&mut json)?;
        // Where more follows, it is one record a line.
        if json.end().is_ok() {
            return Ok(());
        }
    }
}

/// One record, or a list of them.
struct Records<'a, 'k, 's> {
    guard: &'a Guard,
    keeper: &'a mut Keeper<'k, 's>,
}

impl<'de> DeserializeSeed<'de> for Records<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Records<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record of OSV, or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        take(Record::deserialize(MapAccessDeserializer::new(map))?, self.keeper)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(record) = list.next_element::<Record>()? {
            self.guard.next_record();
            take(record, self.keeper)?;
        }
        Ok(())
    }
}

fn take<E: serde::de::Error>(record: Record, keeper: &mut Keeper<'_, '_>) -> Result<(), E> {
    if record.withdrawn.is_some() {
        return Ok(());
    }
    let Ok(name) = record.id.parse::<VulnerabilityName>() else {
        keeper.skip();
        return Ok(());
    };
    let mut aliases = aliases(&name, &record);
    if aliases.len() > MAX_ALIASES {
        aliases.truncate(MAX_ALIASES);
        keeper.skip();
    }
    let of_record = word(record.database_specific.as_ref());
    for affected in record.affected.iter().flatten() {
        let Some(package) = &affected.package else { continue };
        // Other ecosystems are not in any image that Plumb looks into, and nothing is lost.
        let Some((ecosystem, number)) = ecosystem(&package.ecosystem) else { continue };
        let Ok(suite) = number.map(suite).transpose() else {
            keeper.skip();
            continue;
        };
        let Some(claim) = claim(ecosystem, affected).filter(|_| is_word(&package.name)) else {
            keeper.skip();
            continue;
        };
        let urgency = word(affected.ecosystem_specific.as_ref()).or(of_record);
        keeper.keep(&Advisory {
            name: name.clone(),
            aliases: aliases.clone(),
            ecosystem,
            suite,
            package: package_name(ecosystem, &package.name),
            claim,
            urgency: Urgency::of(urgency.unwrap_or_default()),
            note: String::new(),
        })?;
    }
    Ok(())
}

/// Other names of a vulnerability. An announcement about several bundles them as `related` ("related field").
fn aliases(name: &VulnerabilityName, record: &Record) -> Vec<VulnerabilityName> {
    let bundled = record.related.iter().flatten().filter(|_| name.is_bundle());
    let all = record.aliases.iter().flatten().chain(record.upstream.iter().flatten()).chain(bundled);
    let mut names: Vec<VulnerabilityName> =
        all.filter_map(|text| text.parse().ok()).filter(|other| other != name).collect();
    names.sort();
    names.dedup();
    names
}

/// `Debian:12`: the ecosystem, and the number of Debian's suite.
fn ecosystem(text: &str) -> Option<(Ecosystem, Option<&str>)> {
    let (name, number) = text.split_once(':').map_or((text, None), |(name, number)| (name, Some(number)));
    match name {
        "PyPI" => Some((Ecosystem::Pypi, None)),
        "npm" => Some((Ecosystem::Npm, None)),
        "Debian" => Some((Ecosystem::Debian, number)),
        _ => None,
    }
}

/// `12` is bookworm.
fn suite(number: &str) -> Result<String, ()> {
    suite_of_number(number).map(str::to_owned).ok_or(())
}

/// Names as images have them: those of Python in their normal form (PEP 503).
fn package_name(ecosystem: Ecosystem, name: &str) -> String {
    match ecosystem {
        Ecosystem::Pypi => plumb_content::python::normalize(name),
        Ecosystem::Debian | Ecosystem::Npm => name.to_owned(),
    }
}

/// `None` if something of it is not understood.
fn claim(ecosystem: Ecosystem, affected: &AffectedPackage) -> Option<Claim> {
    let mut spans = Vec::new();
    for range in affected.ranges.iter().flatten().filter(|range| range.kind != "GIT") {
        spans.extend(spans_of(ecosystem, &range.events)?);
    }
    let versions = affected.versions.clone().unwrap_or_default();
    let good = |version: &String| version.len() <= MAX_TEXT_BYTES && !version.chars().any(char::is_control);
    let fits = spans.len() <= MAX_LIST && versions.len() <= MAX_LIST && versions.iter().all(good);
    fits.then_some(Claim::Affects { spans, versions })
}

/// An event of a range, in its order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Begins,
    Fixed,
    Limit,
    EndsAfter,
}

/// The spans of a range. Events need not be sorted; `introduced` `0` is before every version.
fn spans_of(ecosystem: Ecosystem, events: &[Event]) -> Option<Vec<Span>> {
    let mut turns: Vec<(Option<&str>, Turn)> = Vec::new();
    for event in events {
        let all = [
            (&event.introduced, Turn::Begins),
            (&event.fixed, Turn::Fixed),
            (&event.last_affected, Turn::EndsAfter),
            (&event.limit, Turn::Limit),
        ];
        for (version, turn) in all {
            match version.as_deref() {
                None => {}
                Some("*") if turn == Turn::Limit => {}
                Some("0") if turn == Turn::Begins => turns.push((None, turn)),
                Some(version) if ecosystem.is_version(version) => turns.push((Some(version), turn)),
                Some(_) => return None,
            }
        }
    }
    if turns.len() > MAX_LIST {
        return None;
    }
    turns.sort_by(|(one, _), (other, _)| match (one, other) {
        (Some(one), Some(other)) => ecosystem.compare(one, other).unwrap_or(Ordering::Equal),
        (one, other) => one.is_some().cmp(&other.is_some()),
    });
    let mut spans = Vec::new();
    let mut open: Option<Option<&str>> = None;
    for (version, turn) in turns {
        let until = match (turn, version, open) {
            (Turn::Begins, _, None) => {
                open = Some(version);
                continue;
            }
            // A limit ends a range as a fix does: no version above it is meant.
            (Turn::Fixed | Turn::Limit, Some(version), Some(_)) => Until::Fixed(version.to_owned()),
            (Turn::EndsAfter, Some(version), Some(_)) => Until::Through(version.to_owned()),
            _ => continue,
        };
        if let Some(from) = open.take() {
            spans.push(Span { from: from.map(str::to_owned), until });
        }
    }
    spans.extend(open.map(|from| Span { from: from.map(str::to_owned), until: Until::Open }));
    Some(spans)
}
