//! Leases and quotas: whose a deployment is, until when, and what is done when that is over.

use plumb_model::release::Release;
use plumb_model::{DeploymentName, SignerName};
use plumb_plan::lease::{ClockCheck, Due, Excess, Lease, Life, Origin, Quota, Usage, check_clock, due};
use plumb_state::{DeploymentRecord, EventKind, EventRecord, Reservation, State};
use plumb_target::Target as _;
use serde::Serialize;

use crate::deploy::Locked;
use crate::error::OpsError;
use crate::{Mode, Plumb, clock};

/// Milliseconds since 1970, for leases. Tests put another in its place.
#[derive(Debug, Clone, Copy)]
pub struct LeaseClock(pub fn() -> u64);

impl Default for LeaseClock {
    fn default() -> Self {
        LeaseClock(clock::now_ms)
    }
}

/// Whether somebody vouches for the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockWord {
    /// Nobody; it is compared with what it was.
    Checked,
    /// Somebody says that it is right, whatever it was.
    SaidToBeRight,
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
    /// It is recorded that its volumes are about to go.
    Notice,
    /// Its volumes will go.
    GoesSoon,
    /// Its volumes go, and all that is known of it but its journal.
    Delete,
    /// Nothing was found out.
    Unknown,
}

/// What an owner may have, and has.
#[derive(Debug, Clone, Serialize)]
pub struct QuotaView {
    /// Who.
    pub owner: String,
    /// Instances: has, may have.
    pub instances: (u64, Option<u64>),
    /// Memory, MiB.
    pub memory_mib: (u64, Option<u64>),
    /// Volumes, bytes.
    pub disk_bytes: (u64, Option<u64>),
}

/// The lease that a deployment will have, and what it will take.
pub(crate) struct Wanted {
    pub(crate) lease: Lease,
    pub(crate) usage: Usage,
}

impl Plumb<'_> {
    fn lease_now(&self) -> u64 {
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
            None => Lease::first(self.options.user.as_str(), origin, now),
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
        locked.state.set_lease(name, &lease)?;
        let end =
            lease.run_end_ms().map_or_else(|| "never stops".to_owned(), |end| format!("stops {}", day(end)));
        self.journal_lease(&mut locked, EventKind::LeaseChanged, format!("of {}, {end}", lease.owner))?;
        self.lease_view(&locked.state, &record, life_of(&record))
    }

    /// Does what is due by the leases of this host's deployments.
    ///
    /// # Errors
    /// [`OpsError::Clock`] if the clock cannot be believed: nothing was done then.
    pub fn reap(&self, mode: Mode, word: ClockWord) -> Result<Vec<Reaped>, OpsError> {
        let now = self.lease_now();
        let mut state = self.state()?;
        let seen = state.clock_seen()?;
        let checked = check_clock(seen, now);
        if checked != ClockCheck::Plausible && word == ClockWord::Checked {
            let by_ms = match checked {
                ClockCheck::Backwards { by_ms } | ClockCheck::Forwards { by_ms } => by_ms,
                ClockCheck::Plausible => 0,
            };
            let way = if matches!(checked, ClockCheck::Backwards { .. }) { "behind" } else { "ahead of" };
            return Err(OpsError::Clock {
                now: day(now),
                by: span(by_ms),
                way,
                seen: day(seen.unwrap_or(now)),
            });
        }
        if mode == Mode::Do {
            state.see_clock(now)?;
        }
        let tests = state.tests()?;
        let records = state.deployments()?.into_iter();
        let mut rows = Vec::new();
        for record in records.filter(|one| one.elsewhere.is_none() && !tests.contains(&one.name)) {
            let Some(lease) = state.lease(&record.name)? else { continue };
            match self.reap_one(&record, mode, now) {
                Ok(row) => rows.extend(row),
                // One that cannot be stopped keeps no other from its end.
                Err(error) => rows.push(Reaped {
                    deployment: record.name,
                    owner: lease.owner,
                    what: ReapedWhat::Unknown,
                    at_ms: now,
                    volumes: Vec::new(),
                    trouble: Some(error.in_one_line()),
                }),
            }
        }
        Ok(rows)
    }

    fn reap_one(&self, record: &DeploymentRecord, mode: Mode, now: u64) -> Result<Option<Reaped>, OpsError> {
        let name = &record.name;
        let mut locked = self.lock_deployment(name, self.bare_target(name))?;
        // Somebody may have renewed it while we came here.
        let Some(lease) = locked.state.lease(name)? else { return Ok(None) };
        let runs = record.current.is_some() || !locked.target.observe()?.is_empty();
        let what = due(&lease, if runs { Life::Runs } else { Life::Stopped }, now);
        let volumes = locked.target.volumes()?.into_iter().map(|volume| volume.name).collect();
        let row = |what, at_ms, volumes| {
            Some(Reaped {
                deployment: name.clone(),
                owner: lease.owner.clone(),
                what,
                at_ms,
                volumes,
                trouble: None,
            })
        };
        let row = match what {
            Due::Nothing | Due::RecordStopped => None,
            Due::StopsSoon { at_ms } => row(ReapedWhat::StopsSoon, at_ms, Vec::new()),
            Due::Stop { since_ms } => row(ReapedWhat::Stop, since_ms, Vec::new()),
            Due::Notice { since_ms } => row(ReapedWhat::Notice, since_ms, volumes),
            Due::GoesSoon { at_ms } => row(ReapedWhat::GoesSoon, at_ms, volumes),
            Due::Delete { since_ms, .. } => row(ReapedWhat::Delete, since_ms, volumes),
        };
        if mode == Mode::Do {
            self.do_due(&mut locked, (record, &lease), what, now)?;
        }
        Ok(row)
    }

    /// By the ways that `down` goes.
    fn do_due(
        &self,
        locked: &mut Locked,
        (record, lease): (&DeploymentRecord, &Lease),
        what: Due,
        now: u64,
    ) -> Result<(), OpsError> {
        let name = &record.name;
        match what {
            Due::Nothing | Due::StopsSoon { .. } | Due::GoesSoon { .. } => Ok(()),
            Due::Stop { since_ms } => {
                self.take_down(locked, record, false)?;
                let text = format!("stopped: its lease, of {}, ended {}", lease.owner, day(since_ms));
                self.journal_lease(locked, EventKind::LeaseEnded, text)
            }
            Due::RecordStopped => self.lease_stopped(locked),
            Due::Notice { since_ms } => {
                locked.state.set_lease(name, &Lease { noticed_ms: Some(now), ..lease.clone() })?;
                let text = format!("its data is about to go: its storage lease ended {}", day(since_ms));
                self.journal_lease(locked, EventKind::LeaseNotice, text)
            }
            Due::Delete { since_ms, noticed_ms } => {
                let (ended, noticed) = (day(since_ms), day(noticed_ms));
                let text = format!(
                    "deleted with its volumes: its storage lease ended {ended}, notice was given {noticed}"
                );
                self.take_down(locked, record, true)?;
                self.journal_lease(locked, EventKind::LeaseEnded, text)
            }
        }
    }

    fn journal_lease(&self, locked: &mut Locked, kind: EventKind, text: String) -> Result<(), OpsError> {
        let event = EventRecord {
            deployment: locked.name.clone(),
            at_ms: self.lease_now(),
            kind,
            instance: None,
            generation: None,
            text,
            by: self.claim().who,
        };
        Ok(locked.state.add_event(&event)?)
    }

    /// What owners may have, and have.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn quotas(&self) -> Result<Vec<QuotaView>, OpsError> {
        let state = self.state()?;
        let limited = state.quotas()?.into_iter().map(|(owner, _)| owner);
        let owners: std::collections::BTreeSet<String> = limited.chain(state.owners()?).collect();
        owners
            .into_iter()
            .map(|owner| {
                let (quota, usage) = (state.quota(&owner)?, state.usage(&owner)?);
                Ok(QuotaView {
                    owner,
                    instances: (usage.instances, quota.instances),
                    memory_mib: (usage.memory_mib, quota.memory_mib),
                    disk_bytes: (usage.disk_bytes, quota.disk_bytes),
                })
            })
            .collect()
    }

    /// Changes what an owner may have; what is not named stays as it was.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn set_quota(&self, owner: &SignerName, change: &Quota) -> Result<Vec<QuotaView>, OpsError> {
        let mut state = self.state()?;
        let before = state.quota(owner.as_str())?;
        let quota = Quota {
            instances: change.instances.or(before.instances),
            memory_mib: change.memory_mib.or(before.memory_mib),
            disk_bytes: change.disk_bytes.or(before.disk_bytes),
        };
        state.set_quota(owner.as_str(), &quota)?;
        Ok(self.quotas()?.into_iter().filter(|view| view.owner == owner.as_str()).collect())
    }

    /// Lets an owner have as much as there is.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn remove_quota(&self, owner: &SignerName) -> Result<(), OpsError> {
        Ok(self.state()?.set_quota(owner.as_str(), &Quota::default())?)
    }
}

/// What a release takes when all of it runs.
fn usage(release: &Release) -> Usage {
    release.content.machines.values().fold(Usage::default(), |sum, machine| {
        let instances = u64::from(machine.instances);
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
            format!("its lease ended {}; the next `plumb reap` stops it; {renew}", day(since_ms))
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

fn span(ms: u64) -> String {
    match ms / 3_600_000 {
        0..=47 => format!("{} h", ms.div_ceil(3_600_000)),
        hours => format!("{} days", hours / 24),
    }
}
