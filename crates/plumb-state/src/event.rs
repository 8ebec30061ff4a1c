//! What happened to deployments: kept also when a deployment is gone, because that is when people ask.

use plumb_model::{DeploymentName, InstanceName};

use crate::database::{Row, Value};
use crate::{DatabaseError, State, StateError};

/// Events of one deployment that are kept: some weeks of one that is restarted every few minutes.
pub(crate) const KEPT: u64 = 10_000;

/// How often another number is tried when two processes write about one deployment at once.
const TRIES: usize = 8;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Somebody began to carry out a plan.
    PlanBegun,
    /// All steps of a plan are done.
    PlanDone,
    /// A step of a plan failed.
    PlanFailed,
    /// A plan was begun, and nobody carries it out any more.
    PlanInterrupted,
    /// Something is not as it should be.
    Deviation,
    /// Something is done about it.
    Repair,
    /// It is as it should be again.
    Recovered,
    /// It was started again so often in a row that nothing more is done by itself.
    GivenUp,
    /// A service was started again inside an instance.
    ServiceRestarted,
    /// The process that holds the network was gone, and is there again.
    KeeperRestarted,
    /// Somebody begins to watch.
    WatchBegun,
    /// Nobody watches any more.
    WatchEnded,
    /// Watching is hindered.
    Trouble,
    /// Owner, purpose or end of a deployment changed.
    LeaseChanged,
    /// It was recorded that its data is about to go.
    LeaseNotice,
    /// Its lease has ended, and what follows was done.
    LeaseEnded,
    /// A kind that a newer Plumb knows.
    Other,
}

impl EventKind {
    const ALL: [(EventKind, &'static str); 17] = [
        (EventKind::PlanBegun, "plan-begun"),
        (EventKind::PlanDone, "plan-done"),
        (EventKind::PlanFailed, "plan-failed"),
        (EventKind::PlanInterrupted, "plan-interrupted"),
        (EventKind::Deviation, "deviation"),
        (EventKind::Repair, "repair"),
        (EventKind::Recovered, "recovered"),
        (EventKind::GivenUp, "given-up"),
        (EventKind::ServiceRestarted, "service-restarted"),
        (EventKind::KeeperRestarted, "keeper-restarted"),
        (EventKind::WatchBegun, "watch-begun"),
        (EventKind::WatchEnded, "watch-ended"),
        (EventKind::Trouble, "trouble"),
        (EventKind::LeaseChanged, "lease-changed"),
        (EventKind::LeaseNotice, "lease-notice"),
        (EventKind::LeaseEnded, "lease-ended"),
        (EventKind::Other, "other"),
    ];

    /// In the database, and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        EventKind::ALL.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, text)| text)
    }

    fn of(text: &str) -> Self {
        EventKind::ALL.iter().find(|(_, known)| *known == text).map_or(EventKind::Other, |(kind, _)| *kind)
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// To which deployment.
    pub deployment: DeploymentName,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// What kind.
    pub kind: EventKind,
    /// To which of its instances.
    pub instance: Option<InstanceName>,
    /// By which plan.
    pub generation: Option<u64>,
    /// In words.
    pub text: String,
    /// Who did it.
    pub by: String,
}

/// Which events are asked for.
#[derive(Debug, Clone, Copy)]
pub struct EventFilter<'a> {
    /// Of this deployment; of all.
    pub deployment: Option<&'a DeploymentName>,
    /// Of this kind; of all.
    pub kind: Option<EventKind>,
    /// Not before, milliseconds since 1970.
    pub since_ms: u64,
    /// Before, milliseconds since 1970.
    pub until_ms: u64,
    /// Only so many, the newest.
    pub limit: u64,
}

impl State {
    /// Records an event. The oldest of its deployment go once there are too many.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn add_event(&mut self, event: &EventRecord) -> Result<(), StateError> {
        let mut tries = 0;
        loop {
            match self.insert_event(event) {
                Err(StateError::Database { source, .. }) if source.is_taken() && tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    fn insert_event(&mut self, event: &EventRecord) -> Result<(), StateError> {
        let name = event.deployment.as_str();
        self.transaction(|database| {
            database.execute(
                "INSERT INTO event (deployment, seq, at_ms, kind, instance, generation, text, by_whom)
                 SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5, $6, $7 FROM event WHERE deployment = $1",
                &[
                    name.into(),
                    event.at_ms.into(),
                    event.kind.as_str().into(),
                    event.instance.as_ref().map(InstanceName::as_str).into(),
                    event.generation.into(),
                    event.text.as_str().into(),
                    event.by.as_str().into(),
                ],
            )?;
            database.execute(
                "DELETE FROM event WHERE deployment = $1
                 AND seq <= (SELECT MAX(seq) FROM event WHERE deployment = $1) - $2",
                &[name.into(), KEPT.into()],
            )?;
            Ok(())
        })
    }

    /// Events in the order in which they happened.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn events(&self, filter: &EventFilter<'_>) -> Result<Vec<EventRecord>, StateError> {
        let mut events = self.rows(
            "SELECT deployment, at_ms, kind, instance, generation, text, by_whom FROM event
             WHERE (deployment = $1 OR $1 = '') AND (kind = $2 OR $2 = '') AND at_ms >= $3 AND at_ms < $4
             ORDER BY at_ms DESC, deployment DESC, seq DESC LIMIT $5",
            &[
                filter.deployment.map_or("", DeploymentName::as_str).into(),
                filter.kind.map_or("", EventKind::as_str).into(),
                Value::from(filter.since_ms),
                filter.until_ms.into(),
                filter.limit.into(),
            ],
            read,
        )?;
        events.reverse();
        Ok(events)
    }
}

fn read(row: &Row<'_>) -> Result<EventRecord, DatabaseError> {
    let bad = |column| move |_| DatabaseError::Column { column };
    Ok(EventRecord {
        deployment: row.text(0)?.parse().map_err(bad(0))?,
        at_ms: row.number(1)?,
        kind: EventKind::of(row.text(2)?),
        instance: row.text_or_none(3)?.map(str::parse).transpose().map_err(bad(3))?,
        generation: row.number_or_none(4)?,
        text: row.text(5)?.to_owned(),
        by: row.text(6)?.to_owned(),
    })
}
