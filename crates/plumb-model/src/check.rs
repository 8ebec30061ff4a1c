//! Checks: what must be true of a running release, as a definition says it and as a release keeps it.
//!
//! ```text
//!  plumb.toml  [check.NAME] ─┬─► Checks      an object that the release names: every check, and the files that `run` needs
//!                            └─► image       the command of an `exec` check is part of the machine it runs in
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::canonical::Document;
use crate::{CheckName, Digest, MachineName};

/// Most checks of one application. Far more than anybody reads in one report.
pub const MAX_CHECKS: usize = 200;

/// How long a check may take unless it says otherwise.
pub const DEFAULT_TIMEOUT_MS: u64 = 30_000;

/// Longest `timeout`. What takes longer is a test suite of its own, not a check of one release.
pub const MAX_TIMEOUT_MS: u64 = 60 * 60 * 1000;

/// Most tries after a failed one. A check that needs more tells nothing.
pub const MAX_RETRIES: u32 = 10;

/// Longest path of a file of a check: PATH_MAX.
const MAX_PATH_BYTES: usize = 4096;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is tried.
    pub probe: Probe,
    /// How long one try may take, milliseconds.
    pub timeout_ms: u64,
    /// How often it is tried again after a failure.
    pub retry: u32,
}

/// What a check tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// From outside: an HTTP request, to each instance.
    Http(HttpProbe),
    /// From outside: a TCP connection, to each instance.
    Tcp(MachinePort),
    /// From outside: a program of the user's, on the host, against the whole set.
    Run(RunProbe),
    /// From inside: a command of the image, in each instance.
    Exec(ExecProbe),
}

/// A port of a machine: `web:80`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachinePort {
    /// Machine.
    pub machine: MachineName,
    /// Port inside its instances.
    pub port: u16,
}

/// An HTTP request and what its answer must be. Redirections are not followed: they are answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// Where.
    pub at: MachinePort,
    /// Path and query; starts with `/`.
    pub path: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// Header fields of the request.
    pub headers: BTreeMap<String, String>,
    /// Body of the request.
    pub body: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Text that the body of the answer must hold.
    pub contains: Option<String>,
}

/// A program of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProbe {
    /// Command line, words quoted as in a shell; no shell reads it.
    pub command: String,
    /// Files and folders beside the definition that it needs, besides those that the command names.
    pub files: Vec<String>,
    /// Ports that it needs, besides those that are published or that another check names.
    pub ports: Vec<MachinePort>,
}

/// A command of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecProbe {
    /// Command line, words quoted as in a shell; no shell reads it.
    pub command: String,
    /// The machine in whose instances it runs.
    pub machine: MachineName,
    /// User it runs as; `None` is root.
    pub user: Option<String>,
}

/// All checks of a release, with the files they need: an object that the release names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// Always [`Checks::FORMAT`].
    pub format: u32,
    /// The checks.
    pub checks: BTreeMap<CheckName, Check>,
    /// Files for `run` checks, laid out anew for every test.
    pub files: BTreeMap<CheckPath, CheckFile>,
}

/// A file for `run` checks; an object of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckFile {
    /// Its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// May it be executed?
    pub executable: bool,
}

/// Path of a file for checks, from the folder of the definition: without `..`, and in one form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckPath(String);

/// Why a text is not a [`CheckPath`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not the path of a file for checks: relative, without `.`, `..` or an empty part", value.escape_debug())]
pub struct CheckPathError {
    /// What was given.
    pub value: String,
}

impl Check {
    /// The ports it needs, whoever publishes them.
    #[must_use]
    pub fn ports(&self) -> Vec<&MachinePort> {
        match &self.probe {
            Probe::Http(http) => vec![&http.at],
            Probe::Tcp(at) => vec![at],
            Probe::Run(run) => run.ports.iter().collect(),
            Probe::Exec(_) => Vec::new(),
        }
    }
}

impl RunProbe {
    /// Program and arguments; `None` if a quote is not closed or there is no word, which no definition has.
    #[must_use]
    pub fn argv(&self) -> Option<Vec<String>> {
        shlex::split(&self.command).filter(|words| !words.is_empty())
    }
}

impl Checks {
    /// Every object that has to be kept for them.
    pub fn objects(&self) -> impl Iterator<Item = (&CheckPath, &Digest)> {
        self.files.iter().map(|(path, file)| (path, &file.digest))
    }
}

impl Document for Checks {
    const WHAT: &'static str = "list of checks";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl fmt::Display for MachinePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.machine, self.port)
    }
}

/// In a line: `GET web:80/health`, `connect to db:5432`, `run checks/order.py`, `pg_isready in db`.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.probe {
            Probe::Http(http) => {
                write!(f, "{} {}{}: {}", http.method, http.at, http.path, http.status)?;
                http.contains.iter().try_for_each(|text| write!(f, ", contains {text:?}"))?;
            }
            Probe::Tcp(at) => write!(f, "connect to {at}")?,
            Probe::Run(run) => write!(f, "run {}", run.command)?,
            Probe::Exec(exec) => {
                write!(f, "{} in {}", exec.command, exec.machine)?;
                exec.user.iter().try_for_each(|user| write!(f, " as {user}"))?;
            }
        }
        if self.timeout_ms != DEFAULT_TIMEOUT_MS {
            write!(f, ", within {} ms", self.timeout_ms)?;
        }
        if self.retry > 0 { write!(f, ", tried {} times", self.retry + 1) } else { Ok(()) }
    }
}

impl CheckPath {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CheckPath {
    type Err = CheckPathError;

    fn from_str(value: &str) -> Result<Self, CheckPathError> {
        let is_good = value.len() <= MAX_PATH_BYTES
            && !value.chars().any(char::is_control)
            && value.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if is_good {
            Ok(CheckPath(value.to_owned()))
        } else {
            Err(CheckPathError { value: value.to_owned() })
        }
    }
}

impl fmt::Display for CheckPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for CheckPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CheckPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_folder() {
        for good in ["order.py", "checks/a b/ä.sh", "..x", "a/.hidden"] {
            assert!(good.parse::<CheckPath>().is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\nb", "a\0b", &"x".repeat(4097)]
        {
            assert!(bad.parse::<CheckPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_document_is_canonical_and_leads_nowhere_else() {
        let at = MachinePort { machine: "web".parse().expect("name"), port: 80 };
        let check = Check { probe: Probe::Tcp(at), timeout_ms: 30_000, retry: 0 };
        let file = CheckFile { digest: Digest::of(b""), size: 0, executable: true };
        let checks = Checks {
            format: Checks::FORMAT,
            checks: [("port".parse().expect("name"), check)].into(),
            files: [("checks/a.sh".parse().expect("path"), file)].into(),
        };
        let bytes = checks.to_bytes();
        let text = String::from_utf8(bytes.clone()).expect("JSON");
        assert!(text.starts_with(
            r#"{"format":1,"checks":{"port":{"probe":{"tcp":{"machine":"web","port":80}},"timeout_ms":30000,"retry":0}}"#
        ));
        assert_eq!(Checks::from_bytes(&bytes).expect("canonical"), checks);
        let hostile = text.replace("checks/a.sh", "../a.sh");
        assert!(Checks::from_bytes(hostile.as_bytes()).is_err());
    }
}
