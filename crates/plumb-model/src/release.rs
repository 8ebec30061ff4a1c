//! The release: an immutable, numbered set of images with everything needed to run them as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::canonical::Document;
use crate::config::{ConfigName, Schema};
use crate::{AppName, ChannelName, Digest, MachineName, TaskName, VolumeName};

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Always [`Release::FORMAT`].
    pub format: u32,
    /// Application.
    pub app: AppName,
    /// Number, from 1, without gaps.
    pub number: u64,
    /// Digest of the release before it.
    pub previous: Option<Digest>,
    /// When it was made, seconds since 1970.
    pub created_s: i64,
    /// What the author says about it.
    pub note: String,
    /// The definition's text, an object of the store.
    pub definition: Digest,
    /// The lock's text, an object of the store.
    pub lock: Digest,
    /// What runs.
    pub content: Content,
    /// What a test of it checks: a document [`crate::check::Checks`], an object of the store. Releases that were made
    /// before there were checks have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Digest>,
}

/// What a release runs. Two releases with equal content behave equally.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Lowest release number that a rollback from this release may reach; 0 is no limit.
    pub fence: u64,
    /// What a deployment of it can set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Schema,
    /// The machines.
    pub machines: BTreeMap<MachineName, ReleaseMachine>,
    /// How its data is kept before it is changed.
    #[serde(default, skip_serializing_if = "SnapshotPolicy::is_default")]
    pub snapshots: SnapshotPolicy,
    /// How it takes the place of another release.
    #[serde(default, skip_serializing_if = "UpgradePolicy::is_default")]
    pub upgrade: UpgradePolicy,
}

/// How a release takes the place of another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradePolicy {
    /// What follows when an instance does not become ready, or does not stay so.
    #[serde(default, skip_serializing_if = "FailedInstance::is_default")]
    pub failed_instance: FailedInstance,
    /// The set comes up beside the one before, which is then relieved at once; without, machine by machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
}

/// Both sets run, and the published ports lead from one to the other at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlueGreen {
    /// How long the new set has to stay ready after the ports lead to it, milliseconds; otherwise they lead back.
    pub watch_ms: u64,
    /// How long the old set runs on after that, milliseconds: the way back to it starts nothing.
    pub keep_ms: u64,
}

impl BlueGreen {
    /// First number of an instance of the second set; the first one has the numbers below it, from 1.
    pub const FIRST: u32 = 51;
}

impl Default for BlueGreen {
    fn default() -> Self {
        BlueGreen { watch_ms: 0, keep_ms: 10 * 60_000 }
    }
}

impl UpgradePolicy {
    /// What holds if a definition says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == UpgradePolicy::default()
    }
}

/// What follows when an instance does not become ready, or does not stay so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailedInstance {
    /// The whole set goes back to what it ran before.
    #[default]
    Undo,
    /// Nothing more is changed: what is done stays, and the rest goes on as what it is.
    Stop,
    /// The others follow as long as no more are away than `max_unavailable` allows; then it stops.
    Continue,
}

impl FailedInstance {
    /// Nothing else is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == FailedInstance::default()
    }

    /// As in a definition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailedInstance::Undo => "undo",
            FailedInstance::Stop => "stop",
            FailedInstance::Continue => "continue",
        }
    }
}

/// When the data of a deployment is copied, how, and how long copies stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotPolicy {
    /// An upgrade or a rollback begins with a snapshot.
    pub before_upgrade: bool,
    /// So many of those that were made by themselves stay.
    pub keep: u32,
    /// Those that are younger than this stay too, milliseconds.
    pub keep_for_ms: u64,
    /// Longest time that volumes stand still, milliseconds.
    pub freeze_limit_ms: u64,
    /// What happens when copying takes longer.
    pub when_late: WhenLate,
    /// What becomes of the data when a release fails that had begun to use it.
    pub failed_release: AfterFailure,
}

/// What happens when copying takes longer than volumes may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenLate {
    /// The instances are stopped, and copied then.
    Stop,
    /// Nothing is changed.
    Fail,
}

/// What becomes of the data when a release fails that had begun to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterFailure {
    /// The release before goes on with the data as it is.
    KeepData,
    /// The release before goes on with the data as it was before.
    RestoreData,
}

impl SnapshotPolicy {
    /// What holds if a definition says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == SnapshotPolicy::default()
    }
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        SnapshotPolicy {
            before_upgrade: true,
            keep: 3,
            keep_for_ms: 0,
            // Clients of a database begin to give up after half a minute.
            freeze_limit_ms: 30_000,
            when_late: WhenLate::Stop,
            failed_release: AfterFailure::KeepData,
        }
    }
}

/// One machine of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseMachine {
    /// Digest of the image manifest.
    pub image: Digest,
    /// How many instances.
    pub instances: u32,
    /// Memory of each, MiB.
    pub memory_mib: u32,
    /// Virtual processors of each.
    pub cpus: u32,
    /// Machines that must be ready first.
    pub needs: Vec<MachineName>,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// Volumes of each instance.
    pub volumes: BTreeMap<VolumeName, VolumeSize>,
    /// Longest time from start to ready, milliseconds, of all its services together.
    pub ready_timeout_ms: u64,
    /// How its instances are replaced.
    #[serde(default, skip_serializing_if = "Rolling::is_default")]
    pub rolling: Rolling,
    /// What is done about an instance that is not well.
    #[serde(default, skip_serializing_if = "Watch::is_default")]
    pub watch: Watch,
    /// What an upgrade to the release carries out once. The commands are part of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<TaskName, Task>,
    /// What of the configuration its instances are told.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub config: BTreeSet<ConfigName>,
}

/// Something that an upgrade carries out once, in a virtual machine of the new image that runs nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// When.
    pub when: When,
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
}

/// When a task is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before the first instance of its machine is started or replaced; what the machine needs is ready.
    Before,
    /// When the whole set is ready.
    After,
    /// Before a release below the fence follows: turns the data back into what that one reads, while this one still serves.
    Reverse,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Before => "before",
            When::After => "after",
            When::Reverse => "reverse",
        };
        write!(f, "{when}, within {} ms", self.timeout_ms)
    }
}

/// What who watches a deployment does about an instance that is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Whether it is started again.
    pub repair: Repair,
    /// How long one that was ready may be not ready before something is done, milliseconds.
    pub unready_ms: u64,
    /// How often in a row it is started again before it is given up.
    #[serde(default = "Watch::default_tries", skip_serializing_if = "Watch::is_default_tries")]
    pub tries: u32,
}

/// What is done about an instance that is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// It is started, or replaced by one as the release says.
    Restart,
    /// Nothing: its owner is told.
    Report,
}

impl Watch {
    /// Started again, after two minutes if it runs.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Watch::default()
    }

    /// With pauses that double up to five minutes these take about half an hour.
    const fn default_tries() -> u32 {
        10
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_default_tries(tries: &u32) -> bool {
        *tries == Watch::default_tries()
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.repair {
            Repair::Restart if Watch::is_default_tries(&self.tries) => {
                write!(f, "restart, after {} ms if it is not ready", self.unready_ms)
            }
            Repair::Restart => write!(
                f,
                "restart, after {} ms if it is not ready, at most {} times in a row",
                self.unready_ms, self.tries
            ),
            Repair::Report => f.write_str("report"),
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Watch { repair: Repair::Restart, unready_ms: 120_000, tries: Watch::default_tries() }
    }
}

/// How instances of a machine are replaced by others: batch by batch, so that the rest serves meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rolling {
    /// Most instances that are away at once.
    pub max_unavailable: u32,
    /// How long the instances of a batch must stay ready before the next one begins, milliseconds.
    pub min_ready_ms: u64,
    /// The first ones, which are watched before the others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// The first instances that are replaced: the others follow once these stayed ready for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// How many.
    pub instances: u32,
    /// How long they must stay ready, milliseconds.
    pub for_ms: u64,
}

impl Rolling {
    /// One by one, without waiting.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Rolling::default()
    }
}

impl Default for Rolling {
    fn default() -> Self {
        Rolling { max_unavailable: 1, min_ready_ms: 0, canary: None }
    }
}

impl fmt::Display for Rolling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} away", self.max_unavailable)?;
        if self.min_ready_ms > 0 {
            write!(f, ", ready for {} ms", self.min_ready_ms)?;
        }
        match self.canary {
            Some(Canary { instances, for_ms }) => write!(f, ", the first {instances} for {for_ms} ms"),
            None => Ok(()),
        }
    }
}

/// A port of the host that leads to a port of the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Address of the host.
    pub address: Ipv4Addr,
    /// Port of the host.
    pub host_port: u16,
    /// Port of each instance.
    pub guest_port: u16,
}

/// Size of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSize {
    /// Bytes.
    pub size_bytes: u64,
    /// How it is kept from changing while it is copied.
    #[serde(default, skip_serializing_if = "Quiesce::is_default")]
    pub snapshot: Quiesce,
}

/// How a volume is kept from changing while it is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quiesce {
    /// Its file system stands still; the image knows commands around that, if there are any.
    #[default]
    Freeze,
    /// Its instance is stopped.
    Stop,
}

impl Quiesce {
    /// Nothing else is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Quiesce::default()
    }
}

impl Document for Release {
    const WHAT: &'static str = "release";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl Release {
    /// Its name, for example `shop@3`.
    #[must_use]
    pub fn name(&self) -> ReleaseName {
        ReleaseName { app: self.app.clone(), number: self.number }
    }
}

/// Name of a release: `shop@3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseName {
    /// Application.
    pub app: AppName,
    /// Number.
    pub number: u64,
}

/// Why a text is not a [`ReleaseName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{value}` is not a release; write it as `app@number`, for example `shop@3`, or `app@channel`")]
pub struct ReleaseNameError {
    /// What was given.
    pub value: String,
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.app, self.number)
    }
}

impl FromStr for ReleaseName {
    type Err = ReleaseNameError;

    fn from_str(value: &str) -> Result<Self, ReleaseNameError> {
        let refuse = || ReleaseNameError { value: value.to_owned() };
        let (app, number) = value.split_once('@').ok_or_else(refuse)?;
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let app = app.parse().map_err(|_| refuse())?;
        if number == 0 { Err(refuse()) } else { Ok(ReleaseName { app, number }) }
    }
}

impl Serialize for ReleaseName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReleaseName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A release as people name it: `shop@3`, or `shop@prod` for the one that a channel points to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseRef {
    /// By number.
    Release(ReleaseName),
    /// By channel.
    Channel {
        /// Application.
        app: AppName,
        /// Channel.
        channel: ChannelName,
    },
}

impl fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseRef::Release(name) => write!(f, "{name}"),
            ReleaseRef::Channel { app, channel } => write!(f, "{app}@{channel}"),
        }
    }
}

impl From<ReleaseName> for ReleaseRef {
    fn from(name: ReleaseName) -> Self {
        ReleaseRef::Release(name)
    }
}

impl FromStr for ReleaseRef {
    type Err = ReleaseNameError;

    fn from_str(value: &str) -> Result<Self, ReleaseNameError> {
        value.parse().map(ReleaseRef::Release).or_else(|refused| {
            let named = value
                .split_once('@')
                .and_then(|(app, channel)| Some((app.parse().ok()?, channel.parse().ok()?)));
            named.map(|(app, channel)| ReleaseRef::Channel { app, channel }).ok_or(refused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_names() {
        assert_eq!("shop@3".parse::<ReleaseName>().expect("a name").to_string(), "shop@3");
        for bad in ["shop", "shop@", "shop@0", "@3", "shop@x", "Shop@1"] {
            assert!(bad.parse::<ReleaseName>().is_err(), "{bad}");
        }
        for good in ["shop@3", "shop@prod"] {
            assert_eq!(good.parse::<ReleaseRef>().expect("a release").to_string(), good);
        }
        for bad in ["shop", "shop@", "shop@0", "@prod", "shop@Prod", "shop@3x"] {
            assert!(bad.parse::<ReleaseRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn canonical_form_is_insisted_on() {
        let release = Release {
            format: 1,
            app: "shop".parse().expect("name"),
            number: 1,
            previous: None,
            created_s: 0,
            note: String::new(),
            definition: Digest::of(b""),
            lock: Digest::of(b""),
            content: Content {
                fence: 0,
                config: BTreeMap::new(),
                machines: BTreeMap::new(),
                snapshots: SnapshotPolicy::default(),
                upgrade: UpgradePolicy::default(),
            },
            checks: None,
        };
        let bytes = release.to_bytes();
        assert!(
            bytes.ends_with(b"\"content\":{\"fence\":0,\"machines\":{}}}\n"),
            "the form before there were checks"
        );
        assert_eq!(Release::from_bytes(&bytes).expect("canonical"), release);
        let mut loose = bytes.clone();
        loose.insert(1, b' ');
        assert!(Release::from_bytes(&loose).is_err());
    }
}
