//! Leases and quotas: whose a deployment is, until when, and what is done when that is over.

mod quota;
mod reap;

use plumb_model::release::Release;
use plumb_model::{DeploymentName, SignerName};
use plumb_plan::lease::{ClockCheck, Due, Excess, Lease, Life, Origin, Usage, check_clock, due};
use plumb_state::{DeploymentRecord, EventKind, EventRecord, Reservation, State};
use serde::Serialize;

use crate::deploy::Locked;
use crate::error::OpsError;
use crate::watch::EventView;
use crate::{Plumb, clock};

pub use quota::QuotaView;
pub(crate) use reap::Reap;
pub use reap::{ClockWord, Reaped, ReapedWhat, Reaping};

/// Milliseconds since 1970, for leases. Tests put another in its place.
#[derive(Debug, Clone, Copy)]
pub struct LeaseClock(pub fn() -> u64);

impl Default for LeaseClock {
    fn default() -> Self {
        LeaseClock(clock::now_ms)
    }
}

/// A lease, for a person.
#[derive(Debug, Clone, Serialize)]
pub struct LeaseView {
    /// Of which deployment.
    pub deployment: DeploymentName,
    /// Whose it is; nobody's, if it was made before there were leases.
    pub owner: Option<String>,
    /// What it is for.
    pub purpose: String,
    /// When it is stopped, milliseconds since 1970; without, never.
    pub stops_ms: Option<u64>,
    /// How long its volumes are kept after that, milliseconds; without, for ever.
    pub keep_for_ms: Option<u64>,
    /// Since when it is known to be stopped.
    pub stopped_ms: Option<u64>,
    /// What is about to happen, or should have.
    pub notice: Option<String>,
}

/// What of a lease changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseChange {
    /// How long it runs from now on.
    pub run_for: Option<Term>,
    /// How long its volumes are kept after it stopped.
    pub keep_for: Option<Term>,
    /// Whose it is.
    pub owner: Option<SignerName>,
    /// What it is for.
    pub purpose: Option<String>,
}

/// A time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// So many milliseconds.
    For(u64),
    /// Without end.
    Never,
}

/// The lease that a deployment will have, and what it will take.
pub(crate) struct Wanted {
    pub(crate) lease: Lease,
    pub(crate) usage: Usage,
}

impl Plumb<'_> {
    pub(crate) fn lease_now(&self) -> u64 {
        (self.options.state.clock.0)()
    }

    /// The lease that `release` would run under, from now on.
    pub(crate) fn wanted_lease(
        &self,
        state: &State,
        name: &DeploymentName,
        (release, origin): (&Release, Origin<'_>),
    ) -> Result<Wanted, OpsError> {
        let now = self.lease_now();
        let lease = match state.lease(name)? {
            Some(lease) => Lease { stopped_ms: None, ..lease.renewed(now) },
            None => {
                let channel = match origin {
                    Origin::Channel(name) => Some(name),
                    Origin::Folder | Origin::Release => None,
                };
                // What cannot be read any more says nothing: whoever brings it up is told when it ends.
                let said = self.definition_of(release).map(|definition| definition.lease).unwrap_or_default();
                Lease::first(self.options.user.as_str(), origin, now).with(&said.of(name, channel))
            }
        };
        Ok(Wanted { lease, usage: usage(release) })
    }

    /// What would be more than the owner may have.
    pub(crate) fn excess(
        &self,
        state: &State,
        name: &DeploymentName,
        wanted: &Wanted,
    ) -> Result<Vec<Excess>, OpsError> {
        Ok(state.excess(name, &wanted.lease.owner, wanted.usage)?)
    }

    /// Refuses what is more than the owner may have, before anything of it is there.
    pub(crate) fn insist_on_quota(
        &self,
        state: &State,
        name: &DeploymentName,
        wanted: &Wanted,
    ) -> Result<(), OpsError> {
        let excess = self.excess(state, name, wanted)?;
        if excess.is_empty() { Ok(()) } else { Err(over(wanted, excess)) }
    }

    /// Takes what is wanted, and the lease with it.
    pub(crate) fn reserve(&self, locked: &mut Locked, wanted: &Wanted) -> Result<(), OpsError> {
        let name = locked.name.clone();
        if let Reservation::Refused(excess) = locked.state.reserve(&name, &wanted.lease, wanted.usage)? {
            return Err(over(wanted, excess));
        }
        // A clock that is not believed is left for `reap` to ask about.
        let now = self.lease_now();
        if check_clock(locked.state.clock_seen()?, now) == ClockCheck::Plausible {
            locked.state.see_clock(now)?;
        }
        Ok(())
    }

    /// What failed is gone: a deployment takes again what the release takes that it went back to.
    pub(crate) fn lease_returned(&self, locked: &mut Locked, release: &Release) -> Result<(), OpsError> {
        let name = locked.name.clone();
        if let Some(lease) = locked.state.lease(&name)? {
            locked.state.set_usage(&name, &lease, usage(release))?;
        }
        Ok(())
    }

    /// From now on the storage lease of a deployment counts.
    pub(crate) fn lease_stopped(&self, locked: &mut Locked) -> Result<(), OpsError> {
        let name = locked.name.clone();
        if let Some(lease) = locked.state.lease(&name)?.filter(|lease| lease.stopped_ms.is_none()) {
            let stopped_ms = Some(self.lease_now());
            locked.state.set_lease(&name, &Lease { stopped_ms, noticed_ms: None, ..lease })?;
        }
        Ok(())
    }

    /// The lease of a deployment, as it is recorded.
    pub(crate) fn lease_view(
        &self,
        state: &State,
        record: &DeploymentRecord,
        life: Life,
    ) -> Result<LeaseView, OpsError> {
        let name = &record.name;
        let Some(lease) = state.lease(name)? else {
            return Ok(LeaseView {
                deployment: name.clone(),
                owner: None,
                purpose: String::new(),
                stops_ms: None,
                keep_for_ms: None,
                stopped_ms: None,
                notice: None,
            });
        };
        Ok(LeaseView {
            deployment: name.clone(),
            notice: notice(name, due(&lease, life, self.lease_now())),
            stops_ms: lease.run_end_ms(),
            owner: Some(lease.owner),
            purpose: lease.purpose,
            keep_for_ms: lease.keep_for_ms,
            stopped_ms: lease.stopped_ms,
        })
    }

    /// The leases of all deployments, or of one.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn leases(&self, only: Option<&DeploymentName>) -> Result<Vec<LeaseView>, OpsError> {
        let records = match only {
            Some(name) => vec![self.find_deployment(name)?],
            None => self.state()?.deployments()?,
        };
        let state = self.state()?;
        let view = |record: &DeploymentRecord| self.lease_view(&state, record, life_of(record));
        records.iter().map(view).collect()
    }

    /// Changes a lease and begins it anew. Without a change it is only begun anew.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn change_lease(&self, name: &DeploymentName, change: &LeaseChange) -> Result<LeaseView, OpsError> {
        let record = self.known(name)?;
        let mut locked = self.lock_deployment(name, self.bare_target(name))?;
        let now = self.lease_now();
        let before = locked.state.lease(name)?;
        let user = self.options.user.as_str();
        let lease = before.unwrap_or_else(|| Lease::first(user, Origin::Release, now)).renewed(now);
        let term = |change: Option<Term>, before| match change {
            None => before,
            Some(Term::Never) => None,
            Some(Term::For(time)) => Some(time),
        };
        let lease = Lease {
            run_for_ms: term(change.run_for, lease.run_for_ms),
            keep_for_ms: term(change.keep_for, lease.keep_for_ms),
            owner: change.owner.as_ref().map_or(lease.owner, ToString::to_string),
            purpose: change.purpose.clone().unwrap_or(lease.purpose),
            ..lease
        };
        if let Reservation::Refused(excess) = locked.state.change_lease(name, &lease)? {
            return Err(OpsError::OverQuota { owner: lease.owner, excess });
        }
        let end =
            lease.run_end_ms().map_or_else(|| "never stops".to_owned(), |end| format!("stops {}", day(end)));
        let said = (EventKind::LeaseChanged, format!("of {}, {end}", lease.owner));
        self.journal_lease(&mut locked, said)?;
        self.lease_view(&locked.state, &record, life_of(&record))
    }

    fn journal_lease(
        &self,
        locked: &mut Locked,
        (kind, text): (EventKind, String),
    ) -> Result<EventView, OpsError> {
        let event = EventRecord {
            deployment: locked.name.clone(),
            at_ms: self.lease_now(),
            kind,
            instance: None,
            generation: None,
            text,
            by: self.claim().who,
        };
        locked.state.add_event(&event)?;
        Ok(EventView::of(event))
    }
}

/// What a release takes when all of it runs.
/// What a release takes at most: of a set that comes up beside the one before, both.
fn usage(release: &Release) -> Usage {
    release.content.machines.values().fold(Usage::default(), |sum, machine| {
        let is_twice = release.content.upgrade.blue_green.is_some() && machine.volumes.is_empty();
        let instances = u64::from(machine.instances) * if is_twice { 2 } else { 1 };
        let disk: u64 = machine.volumes.values().map(|volume| volume.size_bytes).sum();
        sum + Usage {
            instances,
            memory_mib: instances.saturating_mul(machine.memory_mib.into()),
            disk_bytes: instances.saturating_mul(disk),
        }
    })
}

fn over(wanted: &Wanted, excess: Vec<Excess>) -> OpsError {
    OpsError::OverQuota { owner: wanted.lease.owner.clone(), excess }
}

fn life_of(record: &DeploymentRecord) -> Life {
    if record.current.is_some() { Life::Runs } else { Life::Stopped }
}

fn notice(name: &DeploymentName, due: Due) -> Option<String> {
    let renew = format!("`plumb lease renew {name}` begins it anew");
    Some(match due {
        Due::Nothing | Due::RecordStopped => return None,
        Due::StopsSoon { at_ms } => format!("its lease stops it {}; {renew}", day(at_ms)),
        Due::Stop { since_ms } => {
            format!("its lease ended {}; `plumb reap`, or whoever watches, stops it; {renew}", day(since_ms))
        }
        Due::GoesSoon { at_ms } => format!("its data goes {} or later; {renew}", day(at_ms)),
        Due::Notice { since_ms } => {
            format!("its storage lease ended {}; the next `plumb reap` gives notice; {renew}", day(since_ms))
        }
        Due::Delete { since_ms, .. } => {
            format!(
                "its storage lease ended {}; the next `plumb reap` deletes its data; {renew}",
                day(since_ms)
            )
        }
    })
}

fn day(ms: u64) -> String {
    clock::utc(i64::try_from(ms / 1000).unwrap_or(i64::MAX), "%Y-%m-%d %H:%M UTC")
}
