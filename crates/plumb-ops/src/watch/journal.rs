//! What happened, for people: written down with every event, read again by `plumb journal`.

use plumb_model::{DeploymentName, InstanceName};
use plumb_plan::{Plan, PlanKind};
use plumb_state::{EventFilter, EventKind, EventRecord, State};
use serde::Serialize;

use crate::deploy::Locked;
use crate::error::OpsError;
use crate::{Plumb, clock};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// To which deployment.
    pub deployment: DeploymentName,
    /// To which of its instances.
    pub instance: Option<InstanceName>,
    /// What kind of thing: `deviation`, `repair`, `recovered`, `plan-done` …
    pub kind: &'static str,
    /// By which plan.
    pub generation: Option<u64>,
    /// In words.
    pub text: String,
    /// Who did it.
    pub by: String,
}

/// Which part of a journal is asked for.
#[derive(Debug, Clone)]
pub struct JournalWanted<'a> {
    /// Of this deployment; of all.
    pub deployment: Option<&'a DeploymentName>,
    /// Not before, milliseconds since 1970.
    pub since_ms: u64,
    /// Before, milliseconds since 1970.
    pub until_ms: u64,
    /// So many at most, the newest.
    pub limit: u64,
}

impl EventView {
    pub(crate) fn now(deployment: &DeploymentName, kind: EventKind, text: &str, by: &str) -> Self {
        EventView::of(EventRecord {
            deployment: deployment.clone(),
            at_ms: clock::now_ms(),
            kind,
            instance: None,
            generation: None,
            text: text.to_owned(),
            by: by.to_owned(),
        })
    }

    pub(crate) fn of(record: EventRecord) -> Self {
        EventView {
            at_ms: record.at_ms,
            deployment: record.deployment,
            instance: record.instance,
            kind: record.kind.as_str(),
            generation: record.generation,
            text: record.text,
            by: record.by,
        }
    }
}

impl Plumb<'_> {
    /// What happened, in the order in which it did. Also of deployments that are gone.
    ///
    /// # Errors
    /// [`OpsError::State`].
    pub fn journal(&self, wanted: &JournalWanted<'_>) -> Result<Vec<EventView>, OpsError> {
        let JournalWanted { deployment, since_ms, until_ms, limit } = *wanted;
        let filter = EventFilter { deployment, kind: None, since_ms, until_ms, limit };
        Ok(self.state()?.events(&filter)?.into_iter().map(EventView::of).collect())
    }

    /// Writes down that a plan begins or ends. Of tests, which come and go by themselves, nothing is kept.
    pub(crate) fn note_plan(
        &self,
        locked: &mut Locked,
        plan: &Plan,
        kind: EventKind,
        more: &str,
    ) -> Result<(), OpsError> {
        if locked.state.tests()?.contains(&locked.name) {
            return Ok(());
        }
        let what = match (plan.kind, &plan.to) {
            (PlanKind::Up, Some(to)) => format!("up to {to}"),
            (PlanKind::Upgrade, Some(to)) => format!("upgrade to {to}"),
            (PlanKind::Rollback, Some(to)) => format!("rollback to {to}"),
            (PlanKind::Return, Some(to)) => format!("return to {to}"),
            (PlanKind::Configure, Some(to)) => format!("configuration of {to}"),
            (PlanKind::Repair, _) => "repair".to_owned(),
            (PlanKind::Relieve, _) => "the set before goes".to_owned(),
            (PlanKind::Snapshot, _) => "a snapshot of the data".to_owned(),
            (PlanKind::Restore, _) => "other data".to_owned(),
            (_, None) | (PlanKind::Down, _) => "down".to_owned(),
        };
        let text = match (kind, more) {
            (EventKind::PlanDone, _) => format!("{what}: done"),
            (EventKind::PlanFailed, why) => format!("{what}: failed: {why}"),
            (_, more) => format!("{what}: {more}"),
        };
        let name = locked.name.clone();
        let about = (None, Some(plan.generation));
        self.note_event(&mut locked.state, (&name, kind), about, &text).map(drop)
    }

    /// Writes an event down.
    pub(crate) fn note_event(
        &self,
        state: &mut State,
        (deployment, kind): (&DeploymentName, EventKind),
        (instance, generation): (Option<&InstanceName>, Option<u64>),
        text: &str,
    ) -> Result<EventView, OpsError> {
        let record = EventRecord {
            deployment: deployment.clone(),
            at_ms: clock::now_ms(),
            kind,
            instance: instance.cloned(),
            generation,
            text: text.to_owned(),
            by: self.claim().who,
        };
        state.add_event(&record)?;
        Ok(EventView::of(record))
    }
}
