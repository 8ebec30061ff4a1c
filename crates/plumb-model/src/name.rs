//! Names with rules. `FromStr` is the only door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{value}` is not a valid {what}: 1 to 40 of a-z, 0-9 and `-`, starting with a letter, not ending in `-`"
)]
pub struct NameError {
    /// What kind of name was wanted.
    pub what: &'static str,
    /// What was given.
    pub value: String,
}

/// The rules of a DNS label (RFC 1123), lower case only and short enough that `<deployment>-<instance>` still is one:
/// machine and instance names are host names.
fn is_label(value: &str) -> bool {
    (1..=40).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && value.as_bytes()[0].is_ascii_lowercase()
        && !value.ends_with('-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(value: &str) -> Result<Self, NameError> {
                if is_label(value) {
                    Ok($type(value.to_owned()))
                } else {
                    Err(NameError { what: $what, value: value.to_owned() })
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(/** Name of an application. */ AppName, "application name");
name!(/** Name of a machine of an application. */ MachineName, "machine name");
name!(/** Name of a service of a machine. */ ServiceName, "service name");
name!(/** Name of a volume of a machine. */ VolumeName, "volume name");
name!(/** Name of a check of an application. */ CheckName, "check name");
name!(/** Name of a task of a machine. */ TaskName, "task name");
name!(/** Name of a deployment on this host. */ DeploymentName, "deployment name");
name!(/** Name of a channel of an application. */ ChannelName, "channel name");
name!(/** Name of a kind of evidence. */ EvidenceName, "name of evidence");
name!(/** Name of a key in the trust of an application. */ SignerName, "name of a signer");
name!(/** Name of a remote, as this user calls it. */ RemoteName, "remote name");
name!(/** Name of a snapshot of a deployment's data. */ SnapshotName, "snapshot name");
name!(/** Name of an instance: machine name, `-`, number from 1. */ InstanceName, "instance name");

impl InstanceName {
    /// The instance number `number` (from 1) of `machine`.
    ///
    /// # Errors
    /// [`NameError`] if the result is longer than a name may be.
    pub fn of(machine: &MachineName, number: u32) -> Result<Self, NameError> {
        format!("{machine}-{number}").parse()
    }

    /// The one that carries out the tasks of `machine` and is gone afterwards; its number is 0.
    ///
    /// # Errors
    /// [`NameError`] if the result is longer than a name may be.
    pub fn of_tasks(machine: &MachineName) -> Result<Self, NameError> {
        InstanceName::of(machine, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["web", "a", "db-2", "x0"] {
            assert!(good.parse::<MachineName>().is_ok(), "{good}");
        }
        for bad in ["", "Web", "-a", "a-", "0a", "a_b", "a.b", &"a".repeat(41), "ä"] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad}");
        }
    }
}
