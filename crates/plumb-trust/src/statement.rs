//! What is said about a release: in-toto statements (<https://github.com/in-toto/attestation>, statement v1), each in its
//! own signed envelope.
//!
//! ```text
//!  {"_type": "https://in-toto.io/Statement/v1",
//!   "subject": [{"name": "shop@7", "digest": {"sha256": …}}, …],      the release first, then its images
//!   "predicateType": …, "predicate": {…}}
//!
//!  predicateType                                              says                        made by
//!  https://slsa.dev/provenance/v1                             what it was built from      plumb release
//!  https://in-toto.io/attestation/test-result/v0.1            tests passed or failed      plumb test
//!  https://in-toto.io/attestation/vulns/v0.1                  which known CVEs it has     plumb scan
//!  urn:plumb:approval:v1                                      somebody approves           plumb approve
//!  urn:plumb:soak:v1                                          it ran, and for how long    plumb soak
//!  urn:plumb:finding:v1                                       anything else, by name      plumb evidence add
//!  urn:plumb:promotion:v1                                     a channel points to it      plumb promote
//! ```

use std::collections::BTreeMap;

use plumb_model::release::ReleaseName;
use plumb_model::{ChannelName, DeploymentName, Digest, EvidenceName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::{Envelope, EnvelopeError};
use crate::key::{KeyId, PublicKey, SecretKey};

/// The payload type of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `shop@7`, or `shop@7/web` for an image.
    pub name: String,
    /// The digest, by algorithm; `sha256` always.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// A subject by its SHA-256.
    #[must_use]
    pub fn new(name: impl Into<String>, digest: &Digest) -> Self {
        Subject { name: name.into(), digest: BTreeMap::from([("sha256".to_owned(), digest.hex())]) }
    }
}

/// Something with a digest that a statement refers to (in-toto ResourceDescriptor v1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The digest, by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Resource {
    /// A resource by its SHA-256.
    #[must_use]
    pub fn new(name: impl Into<String>, digest: &Digest) -> Self {
        Resource {
            name: name.into(),
            uri: None,
            digest: BTreeMap::from([("sha256".to_owned(), digest.hex())]),
        }
    }
}

/// Passed or not, as in-toto writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Good.
    Passed,
    /// Good, with a warning.
    Warned,
    /// Not good.
    Failed,
}

/// `test-result/v0.1`, and when and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// Of all together.
    pub result: Verdict,
    /// What the tests were: the full record, logs included, by digest.
    pub configuration: Vec<Resource>,
    /// Names of checks that passed.
    #[serde(default)]
    pub passed_tests: Vec<String>,
    /// Names of checks that failed.
    #[serde(default)]
    pub failed_tests: Vec<String>,
    /// When they ended; RFC 3339.
    pub finished_on: String,
}

/// `vulns/v0.1`: which published vulnerabilities were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The scanner and what it found.
    pub scanner: Scanner,
    /// When.
    pub metadata: ScanTimes,
}

/// Part of [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanner {
    /// Who scanned.
    pub uri: String,
    /// Its version.
    pub version: String,
    /// What it knew.
    pub db: ScanData,
    /// What it found.
    pub result: Vec<Vulnerability>,
}

/// Part of [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanData {
    /// Where the data came from.
    pub uri: String,
    /// How old the data was; RFC 3339.
    pub last_update: String,
}

/// Part of [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vulnerability {
    /// `CVE-2024-…`.
    pub id: String,
    /// Method and score; Debian's urgency.
    #[serde(default)]
    pub severity: Vec<Severity>,
    /// What it is in, one for each version of a source package.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
}

/// Part of [`Vulnerability`]: the specification leaves open what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// Source package.
    #[serde(default)]
    pub source: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The first version that does not have it; nothing if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
}

impl Vulnerability {
    /// A newer version of something in the release does not have it.
    #[must_use]
    pub fn is_fixable(&self) -> bool {
        self.annotations.iter().any(|annotation| annotation.fixed.is_some())
    }
}

/// Part of [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Severity {
    /// Who rates.
    pub method: String,
    /// The rate.
    pub score: String,
}

/// Part of [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanTimes {
    /// RFC 3339.
    pub scan_started_on: String,
    /// RFC 3339.
    pub scan_finished_on: String,
}

/// Somebody approves, or takes an approval back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// `PASSED` approves; `FAILED` takes it back.
    pub result: Verdict,
    /// Why.
    pub comment: String,
    /// When; RFC 3339.
    pub approved_on: String,
}

/// The release ran without trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Soak {
    /// Where.
    pub deployment: DeploymentName,
    /// For how long every instance was up without a restart, seconds.
    pub seconds: u64,
    /// When that was looked at; RFC 3339.
    pub observed_on: String,
}

/// Any other evidence, by a name of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `pentest`, `licences`.
    pub name: EvidenceName,
    /// Good or not.
    pub result: Verdict,
    /// In words.
    pub comment: String,
    /// Reports, by digest.
    #[serde(default)]
    pub attachments: Vec<Resource>,
    /// When; RFC 3339.
    pub found_on: String,
}

/// A channel points to the release from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// The channel.
    pub channel: ChannelName,
    /// Which promotion of this channel, from 1, without gaps.
    pub sequence: u64,
    /// Digest of the statement before it in this channel.
    pub previous: Option<Digest>,
    /// What the channel held before.
    pub replaces: Option<ReleaseName>,
    /// Why.
    pub reason: String,
    /// The statements that met the channel's policy.
    pub evidence: Vec<Digest>,
    /// When; RFC 3339.
    pub promoted_on: String,
}

/// What is said.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// What it was built from (SLSA provenance v1), as it stands.
    Provenance(Value),
    /// Tests.
    Tests(TestResult),
    /// Known vulnerabilities.
    Scan(Scan),
    /// An approval.
    Approval(Approval),
    /// It ran.
    Soak(Soak),
    /// Anything else.
    Finding(Finding),
    /// A channel points to it.
    Promotion(Promotion),
}

/// One row for each kind: name of the type, reader.
macro_rules! predicates {
    ($($variant:ident = $uri:literal),+ $(,)?) => {
        impl Predicate {
            /// The `predicateType`.
            #[must_use]
            pub fn uri(&self) -> &'static str {
                match self { $(Predicate::$variant(_) => $uri,)+ }
            }

            fn value(&self) -> serde_json::Result<Value> {
                match self { $(Predicate::$variant(inner) => serde_json::to_value(inner),)+ }
            }

            fn read(uri: &str, value: Value) -> Result<Self, StatementError> {
                match uri {
                    $($uri => serde_json::from_value(value).map(Predicate::$variant).map_err(StatementError::Malformed),)+
                    _ => Err(StatementError::Unknown { uri: shown(uri) }),
                }
            }
        }
    };
}

predicates! {
    Provenance = "https://slsa.dev/provenance/v1",
    Tests = "https://in-toto.io/attestation/test-result/v0.1",
    Scan = "https://in-toto.io/attestation/vulns/v0.1",
    Approval = "urn:plumb:approval:v1",
    Soak = "urn:plumb:soak:v1",
    Finding = "urn:plumb:finding:v1",
    Promotion = "urn:plumb:promotion:v1",
}

impl Predicate {
    /// When, as it says itself; RFC 3339. `None` for provenance, whose release says it.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        match self {
            Predicate::Provenance(_) => None,
            Predicate::Tests(tests) => Some(&tests.finished_on),
            Predicate::Scan(scan) => Some(&scan.metadata.scan_finished_on),
            Predicate::Approval(approval) => Some(&approval.approved_on),
            Predicate::Soak(soak) => Some(&soak.observed_on),
            Predicate::Finding(finding) => Some(&finding.found_on),
            Predicate::Promotion(promotion) => Some(&promotion.promoted_on),
        }
    }

    /// What sort of word it is, for people: `signed`, `tests`, `scan`, `approval`, `soak`, `promotion`, or a finding's name.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Predicate::Provenance(_) => "signed",
            Predicate::Tests(_) => "tests",
            Predicate::Scan(_) => "scan",
            Predicate::Approval(_) => "approval",
            Predicate::Soak(_) => "soak",
            Predicate::Finding(finding) => finding.name.as_str(),
            Predicate::Promotion(_) => "promotion",
        }
    }

    /// It says that something is not good.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        let verdict = match self {
            Predicate::Tests(tests) => tests.result,
            Predicate::Approval(approval) => approval.result,
            Predicate::Finding(finding) => finding.result,
            _ => Verdict::Passed,
        };
        verdict == Verdict::Failed
    }

    /// [`Predicate::time`] in seconds since 1970; 0 if it is not a time.
    #[must_use]
    pub fn time_s(&self) -> i64 {
        self.time().and_then(crate::time::seconds).unwrap_or(0)
    }
}

/// Why a statement is refused.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// The envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Not a statement.
    #[error("it is not an in-toto statement")]
    Malformed(#[source] serde_json::Error),
    /// Another form of statement.
    #[error("it is a statement of the form `{form}`, not `{STATEMENT}`")]
    Form {
        /// Found.
        form: String,
    },
    /// A kind that is not known here.
    #[error("it says something of the kind `{uri}`, which this plumb does not know")]
    Unknown {
        /// Its type.
        uri: String,
    },
    /// About something else.
    #[error("it is about {found}, not about `{wanted}`")]
    Subject {
        /// Wanted.
        wanted: String,
        /// Found.
        found: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "_type")]
    form: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Value,
}

/// A statement whose signature was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Digest of its envelope: its name in the store.
    pub digest: Digest,
    /// What it is about; the release first.
    pub subject: Vec<Subject>,
    /// What it says.
    pub predicate: Predicate,
    /// Who of the trusted keys signed it; at least one.
    pub by: Vec<KeyId>,
}

/// Signs what `predicate` says about `subject`.
///
/// # Errors
/// [`StatementError::Malformed`] if JSON cannot express it.
pub fn sign(
    subject: Vec<Subject>,
    predicate: &Predicate,
    key: &SecretKey,
) -> Result<Envelope, StatementError> {
    let wire = Wire {
        form: STATEMENT.to_owned(),
        subject,
        predicate_type: predicate.uri().to_owned(),
        predicate: predicate.value().map_err(StatementError::Malformed)?,
    };
    let payload = serde_json::to_vec(&wire).map_err(StatementError::Malformed)?;
    Ok(Envelope::sign(PAYLOAD_TYPE, &payload, key))
}

/// Verifies an envelope and reads its statement, whatever it is about.
///
/// # Errors
/// [`StatementError`].
pub fn open(bytes: &[u8], trusted: &BTreeMap<KeyId, PublicKey>) -> Result<Statement, StatementError> {
    let (payload, by) = Envelope::from_bytes(bytes)?.verify(PAYLOAD_TYPE, trusted)?;
    let (subject, predicate) = read(&payload)?;
    Ok(Statement { digest: Digest::of(bytes), subject, predicate, by })
}

/// What an envelope says, whoever signed it and whatever it is about: for what does not depend on that. `None` if it is
/// no statement of a known kind.
#[must_use]
pub fn claimed(bytes: &[u8]) -> Option<Predicate> {
    Some(read(&Envelope::from_bytes(bytes).ok()?.payload()?).ok()?.1)
}

fn read(payload: &[u8]) -> Result<(Vec<Subject>, Predicate), StatementError> {
    let wire: Wire = serde_json::from_slice(payload).map_err(StatementError::Malformed)?;
    if wire.form != STATEMENT {
        return Err(StatementError::Form { form: shown(&wire.form) });
    }
    let predicate = Predicate::read(&wire.predicate_type, wire.predicate)?;
    Ok((wire.subject, predicate))
}

/// As [`open`], and the statement must be about `about`, by name and digest.
///
/// # Errors
/// [`StatementError`].
pub fn verify(
    bytes: &[u8],
    about: &Subject,
    trusted: &BTreeMap<KeyId, PublicKey>,
) -> Result<Statement, StatementError> {
    let statement = open(bytes, trusted)?;
    if statement.subject.first() != Some(about) {
        let found =
            statement.subject.first().map_or_else(|| "nothing".to_owned(), |subject| shown(&subject.name));
        let found = if found == about.name { format!("another `{found}`") } else { format!("`{found}`") };
        return Err(StatementError::Subject { wanted: about.name.clone(), found });
    }
    Ok(statement)
}

/// A foreign text, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(80).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(number: u64) -> Subject {
        Subject::new(format!("shop@{number}"), &Digest::of(&[7]))
    }

    #[test]
    fn what_was_said_is_read() {
        let key = SecretKey::from_seed(&[1; 32]);
        let trusted = BTreeMap::from([(key.public().id(), key.public())]);
        let said = Predicate::Approval(Approval {
            result: Verdict::Passed,
            comment: "looked at it".to_owned(),
            approved_on: "2026-11-30T12:00:00Z".to_owned(),
        });
        let bytes = sign(vec![about(7)], &said, &key).expect("signed").to_bytes();
        let statement = verify(&bytes, &about(7), &trusted).expect("trusted");
        assert_eq!((&statement.predicate, statement.predicate.time_s()), (&said, 1_796_040_000));
        assert_eq!(statement.by, [key.public().id()]);
        let error = verify(&bytes, &about(8), &trusted).expect_err("another release");
        assert_eq!(error.to_string(), "it is about `shop@7`, not about `shop@8`");
        let other = Subject::new("shop@7", &Digest::of(&[8]));
        let error = verify(&bytes, &other, &trusted).expect_err("another release of this name");
        assert_eq!(error.to_string(), "it is about another `shop@7`, not about `shop@7`");
    }

    #[test]
    fn what_is_not_known_is_told() {
        let key = SecretKey::from_seed(&[1; 32]);
        let trusted = BTreeMap::from([(key.public().id(), key.public())]);
        let wire = |form: &str, uri: &str| {
            let text = serde_json::json!({"_type": form, "subject": [about(7)], "predicateType": uri, "predicate": {}});
            Envelope::sign(PAYLOAD_TYPE, text.to_string().as_bytes(), &key).to_bytes()
        };
        let unknown = verify(&wire(STATEMENT, "urn:x"), &about(7), &trusted).expect_err("unknown");
        assert!(matches!(unknown, StatementError::Unknown { .. }));
        let form = verify(&wire("https://in-toto.io/Statement/v0.1", "urn:x"), &about(7), &trusted)
            .expect_err("form");
        assert!(matches!(form, StatementError::Form { .. }));
        let empty =
            verify(&wire(STATEMENT, "urn:plumb:approval:v1"), &about(7), &trusted).expect_err("empty");
        assert!(matches!(empty, StatementError::Malformed(_)));
    }
}
