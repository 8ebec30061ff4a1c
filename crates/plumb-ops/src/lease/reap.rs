//! What is due by leases, done: by `plumb reap`, and by whoever watches.
//!
//! Both go the same way and under the deployment's lock, so that everything is noticed, stopped and deleted once, whoever comes first.
//! What is about to be done is in the journal before it is begun: whoever is killed in between leaves the reason there.

use plumb_model::DeploymentName;
use plumb_plan::lease::{ClockCheck, Due, Lease, Life, check_clock, due};
use plumb_state::{DeploymentRecord, EventFilter, EventKind, State};
use plumb_target::Target as _;
use serde::Serialize;

use super::day;
use crate::deploy::Locked;
use crate::error::OpsError;
use crate::watch::EventView;
use crate::{Mode, Plumb};

/// How much later than last time the clock must be to be written down again, milliseconds: far below what is let pass as a jump, and
/// no write with every look.
const CLOCK_STEP_MS: u64 = 10 * 60 * 1000;

/// Events about one end of a lease that are looked through: many more than there are.
const TOLD_LIMIT: u64 = 50;

/// Whether somebody vouches for the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockWord {
    /// Nobody; it is compared with what it was.
    Checked,
    /// Somebody says that it is right, whatever it was.
    SaidToBeRight,
}

/// How far whoever watches goes with leases that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaping {
    /// Notices are given, nothing else.
    Notice,
    /// What has ended is stopped; no data goes.
    Stop,
    /// What has ended is stopped, and data goes whose grace is over.
    #[default]
    Delete,
}

/// What was due for a deployment.
#[derive(Debug, Clone, Serialize)]
pub struct Reaped {
    /// Which.
    pub deployment: DeploymentName,
    /// Whose it is.
    pub owner: String,
    /// What was done, or would be.
    pub what: ReapedWhat,
    /// Since when it is due, or when it will be, milliseconds since 1970.
    pub at_ms: u64,
    /// Volumes that go.
    pub volumes: Vec<String>,
    /// Why it was not done, if it was not.
    pub trouble: Option<String>,
}

/// What a lease leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReapedWhat {
    /// It will be stopped.
    StopsSoon,
    /// It is stopped.
    Stop,
    /// The set that served before its current release goes.
    Relieve,
    /// It is recorded that its volumes are about to go.
    Notice,
    /// Its volumes will go.
    GoesSoon,
    /// Its volumes go, and all that is known of it but its journal.
    Delete,
    /// Nothing was found out.
    Unknown,
}

/// What is wanted of leases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reap {
    pub(crate) mode: Mode,
    pub(crate) reaping: Reaping,
    pub(crate) now_ms: u64,
}

/// What came of one deployment's lease.
#[derive(Debug, Default)]
pub(crate) struct ReapedOne {
    pub(crate) row: Option<Reaped>,
    /// What was written into the journal.
    pub(crate) events: Vec<EventView>,
}

impl Plumb<'_> {
    /// Does what is due by the leases of this host's deployments.
    ///
    /// # Errors
    /// [`OpsError::Clock`] if the clock cannot be believed: nothing was done then.
    pub fn reap(&self, mode: Mode, word: ClockWord) -> Result<Vec<Reaped>, OpsError> {
        let now_ms = self.lease_now();
        let mut state = self.state()?;
        if word == ClockWord::Checked {
            believe(&state, now_ms)?;
        }
        if mode == Mode::Do {
            state.see_clock(now_ms)?;
        }
        let wanted = Reap { mode, reaping: Reaping::Delete, now_ms };
        let tests = state.tests()?;
        let records = state.deployments()?.into_iter();
        let mut rows = Vec::new();
        for record in records.filter(|one| one.elsewhere.is_none() && !tests.contains(&one.name)) {
            let Some(lease) = state.lease(&record.name)? else { continue };
            let name = &record.name;
            let reaped = self.lock_deployment(name, self.bare_target(name)).and_then(|mut locked| {
                let kept = self.reap_kept(&mut locked, &lease, wanted)?;
                Ok(kept.into_iter().chain(self.reap_held(&mut locked, wanted)?.row).collect())
            });
            match reaped {
                Ok(both) => rows.extend::<Vec<_>>(both),
                // One that cannot be stopped keeps no other from its end.
                Err(error) => rows.push(Reaped {
                    deployment: record.name,
                    owner: lease.owner,
                    what: ReapedWhat::Unknown,
                    at_ms: now_ms,
                    volumes: Vec::new(),
                    trouble: Some(error.in_one_line()),
                }),
            }
        }
        Ok(rows)
    }

    /// Whether the lease of a deployment may ask for something: looked at without its lock. Writes down what the clock is.
    ///
    /// # Errors
    /// [`OpsError::Clock`] if the clock cannot be believed.
    pub(crate) fn is_something_due(
        &self,
        state: &mut State,
        record: &DeploymentRecord,
        wanted: Reap,
    ) -> Result<bool, OpsError> {
        let Some(lease) = state.lease(&record.name)? else { return Ok(false) };
        let seen = believe(state, wanted.now_ms)?;
        let is_old = seen.is_none_or(|seen| wanted.now_ms.saturating_sub(seen) >= CLOCK_STEP_MS);
        if wanted.mode == Mode::Do && is_old {
            state.see_clock(wanted.now_ms)?;
        }
        let due = due(&lease, super::life_of(record), wanted.now_ms);
        match due {
            Due::Nothing => Ok(false),
            // Without a current release there may still be instances: only a look at them tells.
            Due::RecordStopped | Due::Notice { .. } => Ok(true),
            Due::Stop { .. } if wanted.reaping >= Reaping::Stop => Ok(true),
            Due::Delete { .. } if wanted.reaping == Reaping::Delete => Ok(true),
            _ => match said(&lease, due, wanted.reaping) {
                Some(said) => Ok(!is_told(state, &record.name, &lease, &said)?),
                None => Ok(false),
            },
        }
    }

    /// Takes away what served before, if its time is over.
    fn reap_kept(
        &self,
        locked: &mut Locked,
        lease: &Lease,
        wanted: Reap,
    ) -> Result<Option<Reaped>, OpsError> {
        let kept = locked.state.serving(&locked.name)?.kept;
        let Some(kept) = kept.filter(|kept| kept.until_ms <= wanted.now_ms) else { return Ok(None) };
        if wanted.mode == Mode::Do {
            self.relieve(locked)?;
        }
        Ok(Some(Reaped {
            deployment: locked.name.clone(),
            owner: lease.owner.clone(),
            what: ReapedWhat::Relieve,
            at_ms: kept.until_ms,
            volumes: Vec::new(),
            trouble: None,
        }))
    }

    /// Does what is due for a deployment that is held.
    pub(crate) fn reap_held(&self, locked: &mut Locked, wanted: Reap) -> Result<ReapedOne, OpsError> {
        let name = locked.name.clone();
        // Somebody may have renewed it, or taken it away, while we came here.
        let (record, lease) = match (locked.state.deployment(&name)?, locked.state.lease(&name)?) {
            (Some(record), Some(lease)) if record.elsewhere.is_none() => (record, lease),
            _ => return Ok(ReapedOne::default()),
        };
        let runs = record.current.is_some() || !locked.target.observe()?.is_empty();
        let due = due(&lease, if runs { Life::Runs } else { Life::Stopped }, wanted.now_ms);
        let volumes = locked.target.volumes()?.into_iter().map(|volume| volume.name).collect();
        let (what, at_ms, volumes) = match due {
            Due::Nothing => return Ok(ReapedOne::default()),
            Due::RecordStopped => {
                if wanted.mode == Mode::Do {
                    self.lease_stopped(locked)?;
                }
                return Ok(ReapedOne::default());
            }
            Due::StopsSoon { at_ms } => (ReapedWhat::StopsSoon, at_ms, Vec::new()),
            Due::Stop { since_ms } => (ReapedWhat::Stop, since_ms, Vec::new()),
            Due::Notice { since_ms } => (ReapedWhat::Notice, since_ms, volumes),
            Due::GoesSoon { at_ms } => (ReapedWhat::GoesSoon, at_ms, volumes),
            Due::Delete { since_ms, .. } => (ReapedWhat::Delete, since_ms, volumes),
        };
        let owner = lease.owner.clone();
        let row = Reaped { deployment: name, owner, what, at_ms, volumes, trouble: None };
        let events = match wanted.mode {
            Mode::Do => self.do_due(locked, (&record, &lease), due, wanted)?,
            Mode::DryRun => Vec::new(),
        };
        Ok(ReapedOne { row: Some(row), events })
    }

    /// By the ways that `down` goes.
    fn do_due(
        &self,
        locked: &mut Locked,
        (record, lease): (&DeploymentRecord, &Lease),
        due: Due,
        wanted: Reap,
    ) -> Result<Vec<EventView>, OpsError> {
        let Some(said) = said(lease, due, wanted.reaping) else { return Ok(Vec::new()) };
        let name = &record.name;
        let mut events = Vec::new();
        // What is looked at every minute, or tried again and again, is told once.
        if !is_told(&locked.state, name, lease, &said)? {
            events.push(self.journal_lease(locked, said)?);
        }
        match due {
            Due::Notice { .. } => {
                let noticed_ms = Some(wanted.now_ms);
                locked.state.set_lease(name, &Lease { noticed_ms, ..lease.clone() })?;
            }
            Due::Stop { .. } if wanted.reaping >= Reaping::Stop => {
                self.take_down(locked, record, false)?;
            }
            Due::Delete { .. } if wanted.reaping == Reaping::Delete => {
                self.take_down(locked, record, true)?;
                let gone = (EventKind::LeaseEnded, "it is gone, with its volumes".to_owned());
                events.push(self.journal_lease(locked, gone)?);
            }
            _ => {}
        }
        Ok(events)
    }
}

/// What is written into the journal before anything is done; nothing where nothing follows.
fn said(lease: &Lease, due: Due, reaping: Reaping) -> Option<(EventKind, String)> {
    let owner = &lease.owner;
    Some(match due {
        Due::Nothing | Due::RecordStopped => return None,
        Due::StopsSoon { at_ms } => {
            (EventKind::LeaseNotice, format!("its lease, of {owner}, stops it {}", day(at_ms)))
        }
        Due::GoesSoon { at_ms } => (EventKind::LeaseNotice, format!("its data goes {} or later", day(at_ms))),
        Due::Notice { since_ms } => {
            let text = format!("its data is about to go: its storage lease ended {}", day(since_ms));
            (EventKind::LeaseNotice, text)
        }
        Due::Stop { since_ms } if reaping == Reaping::Notice => {
            let ended = day(since_ms);
            (EventKind::LeaseEnded, format!("its lease, of {owner}, ended {ended}; it is left running"))
        }
        Due::Stop { since_ms } => {
            (EventKind::LeaseEnded, format!("it is stopped: its lease, of {owner}, ended {}", day(since_ms)))
        }
        Due::Delete { .. } if reaping < Reaping::Delete => return None,
        Due::Delete { since_ms, noticed_ms } => {
            let (ended, noticed) = (day(since_ms), day(noticed_ms));
            let text = format!(
                "it is deleted with its volumes: its storage lease ended {ended}, notice was given {noticed}"
            );
            (EventKind::LeaseEnded, text)
        }
    })
}

/// Whether it is in the journal since the lease began to lead to it.
fn is_told(
    state: &State,
    name: &DeploymentName,
    lease: &Lease,
    (kind, text): &(EventKind, String),
) -> Result<bool, OpsError> {
    let filter = EventFilter {
        deployment: Some(name),
        kind: Some(*kind),
        since_ms: lease.noticed_ms.or(lease.stopped_ms).unwrap_or(lease.renewed_ms),
        until_ms: u64::MAX,
        limit: TOLD_LIMIT,
    };
    Ok(state.events(&filter)?.iter().any(|event| event.text == *text))
}

/// What the clock was, if what it is can be believed.
fn believe(state: &State, now_ms: u64) -> Result<Option<u64>, OpsError> {
    let seen = state.clock_seen()?;
    let (by_ms, way) = match check_clock(seen, now_ms) {
        ClockCheck::Plausible => return Ok(seen),
        ClockCheck::Backwards { by_ms } => (by_ms, "behind"),
        ClockCheck::Forwards { by_ms } => (by_ms, "ahead of"),
    };
    Err(OpsError::Clock { now: day(now_ms), by: span(by_ms), way, seen: day(seen.unwrap_or(now_ms)) })
}

fn span(ms: u64) -> String {
    match ms / 3_600_000 {
        0..=47 => format!("{} h", ms.div_ceil(3_600_000)),
        hours => format!("{} days", hours / 24),
    }
}
