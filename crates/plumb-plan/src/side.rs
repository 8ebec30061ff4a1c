//! Two sets of one deployment beside each other.
//!
//! ```text
//!             web-1  web-2      blue: numbers from 1
//!  ports ══►  web-51 web-52     green: numbers from 51
//!             db-1              a machine with volumes is there once, and belongs to both
//! ```
//! An upgrade with `blue_green` starts the set that does not serve, leads all published ports to it at once, and keeps the
//! other one for a time. Which of them serves is written down with the current release.

use std::ops::RangeInclusive;

use plumb_model::release::{BlueGreen, Release, ReleaseMachine};
use plumb_model::{InstanceName, MachineName};
use serde::{Deserialize, Serialize};

use crate::document::PlanKind;
use crate::planner::{Observed, PlanError, Wanted};

/// One of the two sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The one that is there where nothing is there twice.
    #[default]
    Blue,
    /// The other.
    Green,
}

/// The set that served before, and still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Number of its release.
    pub release: u64,
    /// Until when, milliseconds since 1970.
    pub until_ms: u64,
}

/// What becomes of the other set when a plan is through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum OtherSet {
    /// There is none any more.
    #[default]
    Gone,
    /// It runs on for so long.
    Kept {
        /// Number of its release.
        release: u64,
        /// Milliseconds.
        for_ms: u64,
    },
    /// As before.
    Unchanged,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Side::Blue => Side::Green,
            Side::Green => Side::Blue,
        }
    }

    /// As it is written down.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Blue => "blue",
            Side::Green => "green",
        }
    }

    pub(crate) fn is_blue(&self) -> bool {
        *self == Side::Blue
    }

    /// The numbers of a machine's instances.
    #[must_use]
    pub fn numbers(self, machine: &ReleaseMachine) -> RangeInclusive<u32> {
        let first = if self == Side::Green && is_twice(machine) { BlueGreen::FIRST } else { 1 };
        first..=first + machine.instances - 1
    }

    /// The side that a name belongs to.
    pub(crate) fn of(instance: &InstanceName) -> Self {
        let number = instance.as_str().rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok());
        if number.is_some_and(|number| number >= BlueGreen::FIRST) { Side::Green } else { Side::Blue }
    }
}

impl OtherSet {
    pub(crate) fn is_gone(&self) -> bool {
        *self == OtherSet::Gone
    }
}

/// Whether a machine can be there twice: one with volumes has its data once.
pub(crate) fn is_twice(machine: &ReleaseMachine) -> bool {
    machine.volumes.is_empty()
}

/// All instances of a release, machine by machine.
///
/// # Errors
/// [`PlanError::Name`] if one has no name.
pub fn instances(release: &Release, side: Side) -> Result<Vec<(MachineName, InstanceName)>, PlanError> {
    let mut all = Vec::new();
    for (name, machine) in &release.content.machines {
        for number in side.numbers(machine) {
            all.push((name.clone(), InstanceName::of(name, number).map_err(PlanError::Name)?));
        }
    }
    Ok(all)
}

/// The side that a release comes up on with this configuration: where it runs, where it still is, or beside what runs.
#[must_use]
pub fn side_for(observed: &Observed, release: &Release, config: Option<u64>) -> Side {
    let Some(current) = &observed.current else { return Side::Blue };
    let is_current = *current == release.name() && observed.config == config;
    let is_kept = observed.kept.is_some_and(|kept| kept.release == release.number);
    let is_beside = is_kept || release.content.upgrade.blue_green.is_some();
    if is_beside && !is_current { observed.side.other() } else { observed.side }
}

/// Whether an instance is there for tasks, and serves nobody.
pub(crate) fn is_for_tasks(instance: &InstanceName) -> bool {
    instance.as_str().ends_with("-0")
}

/// Whether an instance is of the set that serves: of its side, or of a machine whose data is there once.
pub(crate) fn serves(observed: &Observed, instance: &InstanceName) -> bool {
    if is_for_tasks(instance) {
        return false;
    }
    Side::of(instance) == observed.side || observed.volumes.keys().any(|volume| volume.instance == *instance)
}

/// What a plan to `wanted` leaves of the set that serves now.
pub(crate) fn other_set(observed: &Observed, wanted: &Wanted<'_>) -> OtherSet {
    let is_forth = matches!(wanted.kind, PlanKind::Up | PlanKind::Upgrade | PlanKind::Configure);
    let keep_ms = wanted.release.content.upgrade.blue_green.map_or(0, |policy| policy.keep_ms);
    match &observed.current {
        Some(current) if is_forth && wanted.side != observed.side && keep_ms > 0 => {
            OtherSet::Kept { release: current.number, for_ms: keep_ms }
        }
        _ => OtherSet::Gone,
    }
}
