//! What others know about vulnerabilities: feeds of advisories, one for each package that they speak of, and how one is judged.
//!
//! ```text
//!  Debian's tracker   {source: {CVE: {releases: {bookworm: {status, fixed_version, urgency, nodsa}}}}}
//!  OSV                {id, aliases, upstream, affected: [{package: {ecosystem, name}, ranges, versions}]}, or many of them
//! ```
//! A feed is hostile: it has a limit as a whole, for each record, and for what is kept of one. Nothing but a record is held
//! in memory at a time. What a record says in a form that is not understood is counted, never guessed.

mod debian;
mod guard;
mod osv;

use std::cmp::Ordering;
use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::query::MAX_TEXT_BYTES;
use crate::{Ecosystem, VulnerabilityName};

/// Largest feed, unpacked. Debian's tracker has some 70 MB, the records of all of PyPI some 200.
pub const MAX_FEED_BYTES: u64 = 1024 * 1024 * 1024;

/// Largest record: what one package has to one vulnerability, or one record of OSV. The largest known has 2 MB.
pub const MAX_RECORD_BYTES: u64 = 16 * 1024 * 1024;

/// Most advisories of one feed with all their aliases, each of which is a row of the index: twenty times those of Debian's
/// tracker.
const MAX_ROWS: u64 = 8_000_000;

/// Most spans and exact versions of one statement; the longest lists of PyPI have some 2,000 versions.
const MAX_LIST: usize = 20_000;

/// Most other names of one record. They are kept for every package that it speaks of; an announcement about a kernel
/// bundles some hundred.
const MAX_ALIASES: usize = 1_000;

/// Longest note that is kept, in characters.
const MAX_NOTE: usize = 300;

/// Debian's suites by the number that OSV calls them. Others are counted as not understood.
const SUITES: [(&str, &str); 7] = [
    ("9", "stretch"),
    ("10", "buster"),
    ("11", "bullseye"),
    ("12", "bookworm"),
    ("13", "trixie"),
    ("14", "forky"),
    ("15", "duke"),
];

/// `bookworm` of `12`: the name of the suite of Debian that has this number.
#[must_use]
pub fn suite_of_number(number: &str) -> Option<&'static str> {
    SUITES.iter().find(|(known, _)| *known == number).map(|(_, suite)| *suite)
}

/// How a feed is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The JSON of Debian's security tracker.
    DebianTracker,
    /// A record of OSV, a list of them, or one a line.
    Osv,
    /// Records of OSV in a zip file, one each.
    OsvZip,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::DebianTracker => "Debian tracker",
            Form::Osv => "OSV",
            Form::OsvZip => "OSV, zip",
        })
    }
}

/// What a feed says about one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advisory {
    /// The vulnerability, as the feed calls it.
    pub name: VulnerabilityName,
    /// Other names of it.
    pub aliases: Vec<VulnerabilityName>,
    /// Where the package comes from.
    pub ecosystem: Ecosystem,
    /// Debian's suite it speaks of; `None` is every one.
    pub suite: Option<String>,
    /// The package; in Debian the source package.
    pub package: String,
    /// What is said.
    pub claim: Claim,
    /// How much it matters.
    pub urgency: Urgency,
    /// Why there is no fix, if it says so.
    pub note: String,
}

/// Which versions are affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// Those within one of the spans, and those of the list; with neither, none.
    Affects {
        /// Spans.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        spans: Vec<Span>,
        /// Exact versions.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        versions: Vec<String>,
    },
    /// Nobody has found out yet.
    Undetermined,
}

/// Versions from one to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first one; `None` is the very first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where it ends.
    pub until: Until,
}

/// The end of a span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Until {
    /// There is none.
    Open,
    /// The first version that is not affected.
    Fixed(String),
    /// The last version that is.
    Through(String),
}

/// How much a vulnerability matters, in the words of Debian's tracker, and `critical` of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Worst of all.
    Critical,
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
    /// Nobody said.
    Unknown,
    /// Not of practical relevance.
    Unimportant,
}

impl Urgency {
    /// All of them, the worst first.
    pub const ALL: [Urgency; 6] = [
        Urgency::Critical,
        Urgency::High,
        Urgency::Medium,
        Urgency::Low,
        Urgency::Unknown,
        Urgency::Unimportant,
    ];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Urgency::Critical => "critical",
            Urgency::High => "high",
            Urgency::Medium => "medium",
            Urgency::Low => "low",
            Urgency::Unknown => "unknown",
            Urgency::Unimportant => "unimportant",
        }
    }

    /// As a feed writes it. Debian marks with `**` what was derived from NVD.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word.trim_end_matches('*').to_ascii_lowercase().as_str() {
            "critical" => Urgency::Critical,
            "high" => Urgency::High,
            "medium" | "moderate" => Urgency::Medium,
            "low" => Urgency::Low,
            "unimportant" => Urgency::Unimportant,
            _ => Urgency::Unknown,
        }
    }
}

/// What a claim says about one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is affected.
    Affected {
        /// The first version that is not, if there is one yet.
        fixed: Option<String>,
    },
    /// It is not.
    Clear,
    /// Nobody knows, or the version cannot be compared.
    Undetermined,
}

impl Claim {
    /// Every version below is affected.
    #[must_use]
    pub fn fixed_in(version: &str) -> Self {
        let until = Until::Fixed(version.to_owned());
        Claim::Affects { spans: vec![Span { from: None, until }], versions: Vec::new() }
    }

    /// Every version is affected.
    #[must_use]
    pub fn open() -> Self {
        Claim::Affects { spans: vec![Span { from: None, until: Until::Open }], versions: Vec::new() }
    }

    /// No version is affected.
    #[must_use]
    pub fn none() -> Self {
        Claim::Affects { spans: Vec::new(), versions: Vec::new() }
    }

    /// What it says about a version.
    #[must_use]
    pub fn judge(&self, ecosystem: Ecosystem, version: &str) -> Verdict {
        let Claim::Affects { spans, versions } = self else { return Verdict::Undetermined };
        let mut is_known = true;
        for span in spans {
            match span.contains(ecosystem, version) {
                Some(true) => {
                    let fixed = match &span.until {
                        Until::Fixed(fixed) => Some(fixed.clone()),
                        Until::Open | Until::Through(_) => None,
                    };
                    return Verdict::Affected { fixed };
                }
                Some(false) => {}
                None => is_known = false,
            }
        }
        if versions
            .iter()
            .any(|one| one == version || ecosystem.compare(one, version) == Some(Ordering::Equal))
        {
            return Verdict::Affected { fixed: None };
        }
        if is_known { Verdict::Clear } else { Verdict::Undetermined }
    }
}

impl Span {
    fn contains(&self, ecosystem: Ecosystem, version: &str) -> Option<bool> {
        let after = match &self.from {
            Some(from) => ecosystem.compare(version, from)?.is_ge(),
            None => true,
        };
        let before = match &self.until {
            Until::Open => true,
            Until::Fixed(fixed) => ecosystem.compare(version, fixed)?.is_lt(),
            Until::Through(last) => ecosystem.compare(version, last)?.is_le(),
        };
        Some(after && before)
    }
}

/// What came of a feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Statements.
    pub advisories: u64,
    /// Statements that were left out, as their name, package or versions are in no form that is understood, and aliases
    /// beyond the limit.
    pub skipped: u64,
    /// Statements and their aliases, which is what a feed costs.
    #[serde(skip)]
    rows: u64,
}

/// Why a feed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AdvisoryError {
    /// Neither of the forms.
    #[error("this is neither the JSON of Debian's security tracker nor records of OSV")]
    Form,
    /// Not JSON, not of this form, or cut.
    #[error("the feed is not understood")]
    Malformed(#[source] serde_json::Error),
    /// More than the limit.
    #[error(
        "the feed is larger than {MAX_FEED_BYTES} bytes, a record of it larger than {MAX_RECORD_BYTES}, or it has too many"
    )]
    TooLarge,
    /// What takes the advisories refused one.
    #[error("what the feed says cannot be kept")]
    Keep(#[source] io::Error),
    /// The bytes could not be read.
    #[error("the feed cannot be read")]
    Read(#[source] io::Error),
    /// Not one statement.
    #[error("the feed says nothing about any package of Debian, PyPI or npm")]
    Empty,
}

/// Takes the advisories of a feed.
pub type Sink<'s> = dyn FnMut(&Advisory) -> io::Result<()> + 's;

/// What the beginning of a feed shows. A zip file is taken for records of OSV.
#[must_use]
pub fn form_of(head: &[u8]) -> Option<Form> {
    if head.starts_with(b"PK\x03\x04") {
        return Some(Form::OsvZip);
    }
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('[') {
        return Some(Form::Osv);
    }
    let key = text.strip_prefix('{')?.trim_start().strip_prefix('"')?;
    const OF_OSV: [&str; 14] = [
        "schema_version",
        "id",
        "modified",
        "published",
        "withdrawn",
        "aliases",
        "upstream",
        "related",
        "summary",
        "details",
        "severity",
        "affected",
        "references",
        "database_specific",
    ];
    let key = key.split('"').next()?;
    Some(if OF_OSV.contains(&key) { Form::Osv } else { Form::DebianTracker })
}

/// Reads a feed and gives every statement to `sink`. Of [`Form::OsvZip`] it reads one member. It goes on counting from
/// `before`, so that the limits are those of all members together.
///
/// # Errors
/// [`AdvisoryError`]; what was given before stays given.
pub fn read(
    form: Form,
    source: &mut dyn Read,
    before: Tally,
    sink: &mut Sink<'_>,
) -> Result<Tally, AdvisoryError> {
    let mut keeper = Keeper { sink, tally: before, error: None };
    let (reader, guard) = guard::guarded(source);
    let outcome = match form {
        Form::DebianTracker => debian::read(reader, &guard, &mut keeper),
        Form::Osv | Form::OsvZip => osv::read(reader, &guard, &mut keeper),
    };
    match (outcome, keeper.error) {
        (_, Some(error)) => Err(error),
        (Err(_), None) if guard.is_exhausted() => Err(AdvisoryError::TooLarge),
        (Err(error), None) => Err(AdvisoryError::Malformed(error)),
        (Ok(()), None) => Ok(keeper.tally),
    }
}

/// Counts what goes to the sink, and remembers why it stopped: what goes through serde loses its type.
struct Keeper<'k, 's> {
    sink: &'k mut Sink<'s>,
    tally: Tally,
    error: Option<AdvisoryError>,
}

impl Keeper<'_, '_> {
    fn keep<E: serde::de::Error>(&mut self, statement: &Advisory) -> Result<(), E> {
        self.tally.advisories += 1;
        self.tally.rows += 1 + statement.aliases.len() as u64;
        let error = if self.tally.rows > MAX_ROWS {
            AdvisoryError::TooLarge
        } else if let Err(error) = (self.sink)(statement) {
            AdvisoryError::Keep(error)
        } else {
            return Ok(());
        };
        self.error = Some(error);
        Err(E::custom("it was given up"))
    }

    fn skip(&mut self) {
        self.tally.skipped += 1;
    }
}

/// A short text of a feed: printable, and no longer than what anybody reads.
fn note(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_NOTE)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Names of packages and suites become words of answers.
fn is_word(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
