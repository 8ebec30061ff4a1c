//! What a test of a release brought: which check ran where, how it went, and what the instances said meanwhile.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canonical::Document;
use crate::release::ReleaseName;
use crate::{CheckName, Digest, InstanceName};

/// The outcome of one test; an object of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestOutcome {
    /// Always [`TestOutcome::FORMAT`].
    pub format: u32,
    /// The release.
    pub release: ReleaseName,
    /// Digest of the release's document: what the outcome is about.
    pub digest: Digest,
    /// The checks that were asked for; empty is all of them.
    pub only: Vec<CheckName>,
    /// Where it was tested.
    pub host: TestHost,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// When the last check was over.
    pub ended_ms: u64,
    /// Every check at every place: readiness first, then by name and place.
    pub results: Vec<CheckResult>,
    /// What each instance said.
    pub logs: BTreeMap<InstanceName, InstanceLogs>,
}

/// What ran the virtual machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestHost {
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Version of QEMU, `7.2`.
    pub qemu: String,
    /// Version of Plumb.
    pub plumb: String,
}

/// One check at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// The check; `ready` is the readiness of an instance.
    pub check: CheckName,
    /// Where it ran.
    pub place: CheckPlace,
    /// How it went.
    pub verdict: Verdict,
    /// How often it was tried.
    pub tries: u32,
    /// When the first try began, milliseconds since 1970.
    pub started_ms: u64,
    /// How long all tries took together.
    pub duration_ms: u64,
    /// What the last try said: output of a program, the answer of a server, the end of a console. Bounded.
    pub output: String,
    /// Bytes of it that were left out.
    pub left_out_bytes: u64,
}

/// Where a check runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckPlace {
    /// From outside, against the whole set.
    Host,
    /// From outside, through a port of this instance.
    Outside(InstanceName),
    /// Inside this instance.
    Inside(InstanceName),
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// It was not tried.
    Skipped {
        /// Why not.
        reason: String,
    },
}

/// What an instance said; objects of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceLogs {
    /// Lines of its services, one JSON object each.
    pub services: Digest,
    /// Its console.
    pub console: Digest,
}

impl Document for TestOutcome {
    const WHAT: &'static str = "outcome of a test";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl TestOutcome {
    /// Every check that was asked for holds.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.results.iter().all(|result| result.verdict == Verdict::Passed)
    }

    /// All checks of the release were asked for: an outcome that is not complete vouches for nothing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.only.is_empty()
    }

    /// Every object that has to be kept for it.
    pub fn objects(&self) -> impl Iterator<Item = &Digest> {
        self.logs.values().flat_map(|logs| [&logs.services, &logs.console])
    }
}

impl CheckPlace {
    /// The instance, if it is at one.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceName> {
        match self {
            CheckPlace::Host => None,
            CheckPlace::Outside(instance) | CheckPlace::Inside(instance) => Some(instance),
        }
    }
}

/// `host`, `web-1`, `inside db-1`.
impl fmt::Display for CheckPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckPlace::Host => f.write_str("host"),
            CheckPlace::Outside(instance) => write!(f, "{instance}"),
            CheckPlace::Inside(instance) => write!(f, "inside {instance}"),
        }
    }
}
