//! Reading `[channel.NAME]`: what a release must have before the channel may point to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::diagnostic::Report;
use super::table::{Field, Table};
use super::value;
use crate::{ChannelName, EvidenceName, SignerName};

/// Most approvals that can be asked for; a board of more people needs another tool.
const MAX_APPROVALS: u32 = 20;

const EXAMPLE: &str = "channel.prod = { requires = [\"tests\", \"approval:2\"] }";

/// `[channel.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChannelPolicy {
    /// What a release must have; each once.
    pub requires: Vec<Requirement>,
    /// Names of the keys whose statements count, that of the promotion included; empty is every trusted key.
    pub signers: BTreeSet<SignerName>,
}

/// One thing that a release must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// `tests`: its newest tests passed.
    Tests,
    /// `scan`, `scan:7d`: it was scanned for known vulnerabilities, with data at most this old when it is promoted.
    Scan {
        /// Seconds; `None` is any age.
        max_age_s: Option<u64>,
    },
    /// `scan:patched`: its newest scan found nothing that a newer version of a package mends.
    Patched,
    /// `soak:24h`: a deployment ran it this long without a restart.
    Soak {
        /// Seconds.
        seconds: u64,
    },
    /// `approval`, `approval:2`: this many people approved, who made the release not counted.
    Approval {
        /// How many.
        count: u32,
    },
    /// `channel:test`: it is or was in this channel.
    Channel {
        /// Which.
        channel: ChannelName,
    },
    /// Any other name: evidence of this name that does not say `failed`.
    Finding {
        /// Its name.
        name: EvidenceName,
    },
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::Tests => f.write_str("tests"),
            Requirement::Scan { max_age_s: None } => f.write_str("scan"),
            Requirement::Scan { max_age_s: Some(seconds) } => write!(f, "scan:{}", span(*seconds)),
            Requirement::Patched => f.write_str("scan:patched"),
            Requirement::Soak { seconds } => write!(f, "soak:{}", span(*seconds)),
            Requirement::Approval { count: 1 } => f.write_str("approval"),
            Requirement::Approval { count } => write!(f, "approval:{count}"),
            Requirement::Channel { channel } => write!(f, "channel:{channel}"),
            Requirement::Finding { name } => write!(f, "{name}"),
        }
    }
}

impl Serialize for Requirement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The largest unit that divides it.
pub(super) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let unit = units.iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size));
    unit.map_or_else(|| format!("{seconds}s"), |(size, name)| format!("{}{name}", seconds / size))
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let seconds = |argument: &str| {
            value::span_s(argument).ok_or_else(|| format!("`{argument}` is not a time like `24h` or `7d`"))
        };
        match (name, argument) {
            ("tests", None) => Ok(Requirement::Tests),
            ("scan", Some("patched")) => Ok(Requirement::Patched),
            ("scan", argument) => Ok(Requirement::Scan { max_age_s: argument.map(seconds).transpose()? }),
            ("soak", Some(argument)) => Ok(Requirement::Soak { seconds: seconds(argument)? }),
            ("soak", None) => Err("`soak` needs a time, like `soak:24h`".to_owned()),
            ("approval", argument) => {
                let count = argument.unwrap_or("1").parse().ok();
                let count = count.filter(|count| (1..=MAX_APPROVALS).contains(count));
                let count =
                    count.ok_or_else(|| format!("`approval` needs a number from 1 to {MAX_APPROVALS}"))?;
                Ok(Requirement::Approval { count })
            }
            ("channel", Some(channel)) => {
                Ok(Requirement::Channel { channel: channel.parse().map_err(|error| format!("{error}"))? })
            }
            ("channel", None) => Err("`channel` needs a name, like `channel:test`".to_owned()),
            (name, None) => {
                Ok(Requirement::Finding { name: name.parse().map_err(|error| format!("{error}"))? })
            }
            (name, Some(_)) => Err(format!("`{name}` takes nothing behind a `:`")),
        }
    }
}

pub(super) fn read(root: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<ChannelName, ChannelPolicy> {
    let Some(all) = root.get("channel").and_then(|field| field.table(EXAMPLE, report)) else {
        return BTreeMap::new();
    };
    let mut channels = BTreeMap::new();
    for field in all.fields() {
        let name = field.parsed_name::<ChannelName>(report);
        let policy = read_policy(&field, report);
        if let (Some(name), Some(policy)) = (name, policy) {
            if policy.requires.contains(&Requirement::Channel { channel: name.clone() }) {
                report.add(&field.span, format!("channel `{name}` requires itself"));
            }
            channels.insert(name, policy);
        }
    }
    channels
}

fn read_policy(field: &Field<'_>, report: &mut Report<'_>) -> Option<ChannelPolicy> {
    let table = field.table(EXAMPLE, report)?;
    table.allow(&["requires", "signers"], report);
    let mut policy = ChannelPolicy::default();
    for item in table.get("requires").map(|list| list.list("[\"tests\"]", report)).unwrap_or_default() {
        let Some(text) = item.text("\"tests\"", report) else { continue };
        match text.parse::<Requirement>() {
            Ok(requirement) if policy.requires.contains(&requirement) => {
                report.add(&item.span, format!("{}: `{requirement}` stands there twice", item.what()));
            }
            Ok(requirement) => policy.requires.push(requirement),
            Err(why) => {
                report.add(&item.span, format!("{}: {why}", item.what())).hint(
                    "Known are `tests`, `scan`, `scan:7d`, `scan:patched`, `soak:24h`, `approval:2`, `channel:test`, and names of evidence of your own.",
                );
            }
        }
    }
    for item in table.get("signers").map(|list| list.list("[\"alice\"]", report)).unwrap_or_default() {
        policy.signers.extend(item.parsed::<SignerName>("\"alice\"", report));
    }
    Some(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read_and_written() {
        for text in [
            "tests",
            "scan",
            "scan:7d",
            "scan:patched",
            "soak:24h",
            "soak:90min",
            "approval",
            "approval:2",
            "channel:test",
            "pentest",
        ] {
            let read: Requirement = text.parse().expect(text);
            let written = read.to_string();
            assert_eq!(written.parse(), Ok(read), "{text}");
        }
        assert_eq!("soak:24h".parse::<Requirement>().map(|r| r.to_string()), Ok("soak:1d".to_owned()));
        for bad in ["", "soak", "soak:x", "approval:0", "approval:21", "tests:1", "channel", "Pentest", "a:b"]
        {
            assert!(bad.parse::<Requirement>().is_err(), "{bad}");
        }
    }
}
