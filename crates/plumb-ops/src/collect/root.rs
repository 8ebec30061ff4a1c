//! Why a release stays: the only place that says from where the store is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, ChannelName, DeploymentName};
use plumb_state::PlanStatus;
use plumb_trust::Envelope;
use serde::Serialize;

use super::{Documents, Policy};
use crate::Plumb;
use crate::error::OpsError;

/// Kind of the store entries that pin a release; the value is its name.
pub(super) const PINS: &str = "pin";

/// Why all bytes of a release stay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A deployment runs it, or its newest plan leads to it.
    Runs(DeploymentName),
    /// `plumb rollback` of a deployment would lead to it.
    WayBack(DeploymentName),
    /// A channel points to it.
    Channel(ChannelName),
    /// `plumb pin`.
    Pinned,
    /// It is one of the newest of its application.
    Newest,
    /// It was made a short time ago.
    Young,
    /// Something is damaged, so that it is not known what else is needed.
    Damage,
    /// It would go, but there is no space to note that before.
    DiskFull,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Runs(deployment) => write!(f, "runs as {deployment}"),
            Reason::WayBack(deployment) => write!(f, "way back of {deployment}"),
            Reason::Channel(channel) => write!(f, "channel {channel}"),
            Reason::Pinned => f.write_str("pinned"),
            Reason::Newest => f.write_str("among the newest"),
            Reason::Young => f.write_str("young"),
            Reason::DiskFull => f.write_str("no space to note that it goes"),
            Reason::Damage => f.write_str("damage is to be repaired first"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Reason {
    /// Its images are to be files at once, because machines run from them or may have to start again.
    pub(super) fn is_hot(&self) -> bool {
        matches!(self, Reason::Runs(_) | Reason::WayBack(_))
    }
}

/// Releases with the reasons why they stay.
pub(super) type Roots = BTreeMap<ReleaseName, BTreeSet<Reason>>;

impl Plumb<'_> {
    /// Every release that stays whole, with all reasons. What refers to releases in a new way belongs here.
    pub(super) fn roots(&self, policy: &Policy, now_s: i64) -> Result<Roots, OpsError> {
        let mut roots = Roots::new();
        self.deployed(&mut roots)?;
        for app in self.store.apps()? {
            let numbers = self.store.releases(&app)?;
            // Numbers follow from the newest document: were it gone, they would be given out again.
            let newest = match policy.documents {
                Documents::Keep => policy.newest,
                Documents::Remove => policy.newest.max(1),
            };
            for number in numbers.iter().rev().take(newest) {
                add(&mut roots, &app, *number, Reason::Newest);
            }
            for number in &numbers {
                let release = match self.read_release(&ReleaseName { app: app.clone(), number: *number }) {
                    Ok(release) => release,
                    // That is for `plumb fsck`; nothing of it can be young.
                    Err(error) if error.is_damage() => continue,
                    Err(error) => return Err(error),
                };
                if now_s.saturating_sub(release.created_s) < policy.young_s {
                    add(&mut roots, &app, *number, Reason::Young);
                }
            }
            self.promoted(&app, &mut roots)?;
        }
        for pin in self.pinned()? {
            roots.entry(pin).or_default().insert(Reason::Pinned);
        }
        Ok(roots)
    }

    /// What runs, what a plan leads to, and what a rollback would choose.
    fn deployed(&self, roots: &mut Roots) -> Result<(), OpsError> {
        if !self.has_state()? {
            return Ok(());
        }
        let state = self.state()?;
        for record in state.deployments()? {
            let name = &record.name;
            let mut runs = |release: &ReleaseName| {
                roots.entry(release.clone()).or_default().insert(Reason::Runs(name.clone()));
            };
            record.current.iter().for_each(&mut runs);
            let last = state.last_plan(name)?;
            let open = last.filter(|last| last.status != PlanStatus::Done);
            open.iter().filter_map(|last| last.plan.to.as_ref()).for_each(&mut runs);
            if let Some(current) = &record.current {
                let before = state.healthy_releases(name)?;
                let before = before.into_iter().find(|release| release.number < current.number);
                if let Some(before) = before {
                    roots.entry(before).or_default().insert(Reason::WayBack(name.clone()));
                }
            }
        }
        Ok(())
    }

    /// What channels point to. A promotion that is not understood keeps every release of its application.
    fn promoted(&self, app: &AppName, roots: &mut Roots) -> Result<(), OpsError> {
        for channel in self.store.channels(app)? {
            let Some(last) = self.store.promotions(app, &channel)?.last().copied() else { continue };
            let bytes = self.store.promotion(app, &channel, last)?.unwrap_or_default();
            let named: Vec<u64> =
                subjects(&bytes).iter().filter(|name| name.app == *app).map(|name| name.number).collect();
            let named = if named.is_empty() { self.store.releases(app)? } else { named };
            for number in named {
                add(roots, app, number, Reason::Channel(channel.clone()));
            }
        }
        Ok(())
    }

    /// Keeps all bytes of a release until it is unpinned. False if it was pinned already.
    ///
    /// # Errors
    /// [`OpsError::NoRelease`], [`OpsError::Collected`] if its bytes are not all there, [`OpsError::Store`].
    pub fn pin(&self, name: &ReleaseName) -> Result<bool, OpsError> {
        let release = self.read_release(name)?;
        if !self.is_here(&release)? {
            return Err(OpsError::Collected { release: name.clone() });
        }
        let key = key_of(name);
        if self.store.entry(PINS, &key)?.is_some() {
            return Ok(false);
        }
        self.store.put_entry(PINS, &key, name.to_string().as_bytes())?;
        Ok(true)
    }

    /// Forgets that a release was pinned. False if it was not.
    ///
    /// # Errors
    /// [`OpsError::Store`].
    pub fn unpin(&self, name: &ReleaseName) -> Result<bool, OpsError> {
        let key = key_of(name);
        let was = self.store.entry(PINS, &key)?.is_some();
        self.store.remove_entry(PINS, &key)?;
        Ok(was)
    }

    /// The pinned releases.
    ///
    /// # Errors
    /// [`OpsError::Store`].
    pub fn pinned(&self) -> Result<Vec<ReleaseName>, OpsError> {
        let mut pins = Vec::new();
        for key in self.store.entries(PINS)? {
            let value = self.store.entry(PINS, &key)?.unwrap_or_default();
            pins.extend(String::from_utf8_lossy(&value).trim().parse::<ReleaseName>());
        }
        pins.sort();
        Ok(pins)
    }

    /// Whether every image of a release can be started: its bytes were not collected.
    ///
    /// # Errors
    /// [`OpsError::Store`] or [`OpsError::Document`] if a manifest is damaged or cannot be read: that says nothing about
    /// what is here.
    pub fn is_here(&self, release: &Release) -> Result<bool, OpsError> {
        for machine in release.content.machines.values() {
            let image = match self.image(&machine.image) {
                Err(OpsError::Store(plumb_store::Error::Missing { .. })) => return Ok(false),
                other => other?,
            };
            if !self.is_complete(&image)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`Plumb::is_here`], and what is damaged is not here.
    pub(crate) fn is_whole_here(&self, release: &Release) -> Result<bool, OpsError> {
        match self.is_here(release) {
            Err(error) if error.is_damage() => Ok(false),
            other => other,
        }
    }
}

fn add(roots: &mut Roots, app: &AppName, number: u64, reason: Reason) {
    roots.entry(ReleaseName { app: app.clone(), number }).or_default().insert(reason);
}

/// Names of applications have no `.`, so no two releases have one key.
pub(crate) fn key_of(name: &ReleaseName) -> String {
    format!("{}.{}", name.app, name.number)
}

/// What a signed statement says, as text. Who signed it is of no matter here: it only keeps things.
pub(super) fn payload(bytes: &[u8]) -> Option<String> {
    String::from_utf8(Envelope::from_bytes(bytes).ok()?.payload()?).ok()
}

/// The releases that a signed statement is about.
fn subjects(bytes: &[u8]) -> Vec<ReleaseName> {
    let statement: Option<serde_json::Value> =
        payload(bytes).and_then(|payload| serde_json::from_str(&payload).ok());
    let subjects = statement.as_ref().and_then(|value| value.get("subject")?.as_array());
    let names = subjects.into_iter().flatten().filter_map(|subject| subject.get("name")?.as_str());
    names.filter_map(|name| name.parse().ok()).collect()
}
