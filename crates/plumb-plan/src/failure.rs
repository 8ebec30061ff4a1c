//! What a plan does about an instance that does not become ready: written into it, so that nobody chooses while it is carried out.
//!
//! ```text
//!              data, stops for it │ first instance …                     commit
//!  undo        ───── back ────────┼──────────── back ─────────────────────────
//!  stop        ───── back ────────┼──────────── stays as it is then ──────────
//!  continue    ───── back ────────┼─ goes on without it, while no more than `max_unavailable` of its machine are away
//! ```

use std::collections::BTreeSet;

use plumb_model::InstanceName;
use plumb_model::release::{FailedInstance, ReleaseMachine};

use crate::document::{Action, PlanKind};
use crate::planner::Wanted;

/// The policy that a plan is made with.
fn policy(wanted: &Wanted<'_>) -> FailedInstance {
    match wanted.kind {
        PlanKind::Up | PlanKind::Upgrade | PlanKind::Configure | PlanKind::Rollback
            // Other data was put in place for the whole set: it is taken back whole.
            if wanted.data.restore.is_none() =>
        {
            wanted.release.content.upgrade.failed_instance
        }
        _ => FailedInstance::Undo,
    }
}

/// The step from which on a failure leaves everything as it is then; see [`crate::Plan::stops_from`]. Before an instance was
/// started nothing of the new release is there, and what was `stopped` for its data has to come back.
pub(crate) fn stops_from(
    wanted: &Wanted<'_>,
    actions: &[Action],
    stopped: &BTreeSet<InstanceName>,
) -> Option<usize> {
    if wanted.kind == PlanKind::Return {
        return Some(0);
    }
    if policy(wanted) == FailedInstance::Undo {
        return None;
    }
    let name = wanted.release.name();
    let is_first = |action: &Action| matches!(action, Action::Start { boot, .. } if boot.release == name);
    let first = actions.iter().position(is_first)?;
    let is_back =
        |action: &Action| matches!(action, Action::AwaitReady { instance, .. } if stopped.contains(instance));
    let back = actions.iter().rposition(is_back).map_or(0, |at| at + 1);
    Some(first.max(back))
}

/// How many instances of a machine may fail, and how many are replaced at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    away: u32,
    others: u32,
    goes_on: bool,
}

impl Patience {
    pub(crate) fn of(wanted: &Wanted<'_>, machine: &ReleaseMachine) -> Self {
        let goes_on = policy(wanted) == FailedInstance::Continue;
        Patience {
            away: machine.rolling.max_unavailable.max(1),
            // Who needs the machine finds one.
            others: machine.instances.saturating_sub(1),
            goes_on,
        }
    }

    /// How many instances are replaced at once. Where it goes on without some, one by one: the others that may be away are
    /// those that failed.
    pub(crate) fn batch(self) -> usize {
        if self.goes_on { 1 } else { self.away as usize }
    }

    /// How many may have failed when an instance fails after which `left` more are to be stopped. One that failed is away, and
    /// the next one will be.
    pub(crate) fn may_fail(self, left: usize) -> u32 {
        match self.goes_on {
            false => 0,
            true => self.away.saturating_sub(u32::from(left > 0)).min(self.others),
        }
    }
}
