//! The lease of a deployment that is watched: notices, its end, and what follows.

use std::time::{Duration, Instant};

use plumb_state::{DeploymentRecord, EventKind, State};

use super::EventView;
use super::look::Watcher;
use crate::collect::Mode;
use crate::deploy::repair_lock;
use crate::error::OpsError;
use crate::lease::{Reap, Reaped, ReapedWhat, Reaping};

/// Pause between two looks at a lease: its ends are days away, and one that is renewed in the last minute is renewed.
const PAUSE: Duration = Duration::from_secs(60);

/// What a watcher remembers of a lease.
#[derive(Debug, Default)]
pub(super) struct LeaseMemory {
    /// When it is looked at again.
    next: Option<Instant>,
    /// What hinders looking at it, as it was told.
    trouble: Option<String>,
    /// What was told in a dry run.
    told: Option<(ReapedWhat, u64)>,
}

impl Watcher<'_, '_> {
    /// Does what is due by the lease. What hinders that is told once, and keeps nobody from repairing.
    pub(super) fn lease(&mut self, state: &mut State, record: &DeploymentRecord) -> Result<(), OpsError> {
        let now = Instant::now();
        if self.lease.next.is_some_and(|next| now < next) {
            return Ok(());
        }
        self.lease.next = Some(now + PAUSE);
        match self.reap(state, record) {
            Ok(()) | Err(OpsError::Interrupted) => self.lease.trouble = None,
            // Nothing can be told or kept then; whoever calls says so.
            Err(OpsError::State(error)) => return Err(error.into()),
            Err(error) => {
                let text = format!("its lease is not looked after: {}", why(&error));
                if self.lease.trouble.as_ref() != Some(&text) {
                    self.event(state, EventKind::Trouble, None, &text)?;
                }
                self.lease.trouble = Some(text);
            }
        }
        Ok(())
    }

    fn reap(&mut self, state: &mut State, record: &DeploymentRecord) -> Result<(), OpsError> {
        let (plumb, mode) = (self.plumb, self.mode);
        let wanted = Reap { mode, reaping: self.reaping, now_ms: plumb.lease_now() };
        if !plumb.is_something_due(state, record, wanted)? {
            return Ok(());
        }
        // Taken first: a command that comes meanwhile waits, as it does for a repair.
        let _reaping = plumb.store.lock(&repair_lock(&self.name))?;
        let Some(mut locked) = plumb.try_lock_deployment(&self.name, plumb.bare_target(&self.name))? else {
            return Ok(());
        };
        locked.cancel = self.cancel.clone();
        let reaped = plumb.reap_held(&mut locked, wanted)?;
        for event in &reaped.events {
            (self.tell)(event);
        }
        if let Some(row) = reaped.row.filter(|_| mode == Mode::DryRun) {
            self.tell_due(&row);
        }
        Ok(())
    }

    /// What would be done, once.
    fn tell_due(&mut self, row: &Reaped) {
        let told = Some((row.what, row.at_ms));
        if self.lease.told == told {
            return;
        }
        self.lease.told = told;
        let text = match row.what {
            ReapedWhat::StopsSoon => "its lease stops it soon",
            ReapedWhat::Stop if self.reaping >= Reaping::Stop => "its lease has ended; it would be stopped",
            ReapedWhat::Stop => "its lease has ended",
            ReapedWhat::Notice => "its storage lease has ended; notice would be given",
            ReapedWhat::GoesSoon => "its data goes soon",
            ReapedWhat::Delete => "its storage lease and its grace have ended; its data would be deleted",
            // No lease: whoever watches takes it away whatever becomes of leases.
            ReapedWhat::Relieve | ReapedWhat::Unknown => return,
        };
        let by = &self.plumb.claim().who;
        (self.tell)(&EventView::now(&self.name, EventKind::LeaseNotice, text, by));
    }
}

/// Without the time, which is another one at each look.
fn why(error: &OpsError) -> String {
    match error {
        OpsError::Clock { way, seen, .. } => {
            let right = "`plumb reap --clock-is-right` goes on if it is right";
            format!("the clock is {way} {seen}, when leases were last looked at; {right}")
        }
        error => error.in_one_line(),
    }
}
