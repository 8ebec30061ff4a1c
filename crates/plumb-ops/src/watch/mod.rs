//! Keeping deployments alive: what crashed, was killed, hangs or was changed from outside is noticed, told, and repaired
//! where the definition wants that. What is due by leases is done, too.
//!
//! ```text
//!  one thread per deployment:  look ─► judge (plumb-plan) ─► events, told and kept ─► a repair plan, under the deployment's lock
//! ```
//! A command that works on a deployment is left alone: only the lock decides. Whoever watches may be killed at any time; pauses
//! between repairs are found again in what was kept.

mod journal;
mod lease;
mod look;
mod memory;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plumb_model::DeploymentName;
use plumb_state::EventKind;

pub use journal::{EventView, JournalWanted};

use crate::cancel::Cancel;
use crate::collect::Mode;
use crate::error::OpsError;
use crate::lease::Reaping;
use crate::{Plumb, clock};
use look::{Looked, Watcher};

/// Pause between two looks at a deployment: a crash is noticed before a person reads that something is slow, and a look costs a
/// few milliseconds.
const PAUSE: Duration = Duration::from_secs(1);

/// Pause after something that hinders watching: a full disk, a state that cannot be reached.
const TROUBLE_PAUSE: Duration = Duration::from_secs(10);

/// How often it is looked whether somebody wants an end.
const TICK: Duration = Duration::from_millis(100);

/// What is to be watched.
#[derive(Debug, Clone)]
pub struct WatchWanted {
    /// These deployments; all of this host if there are none.
    pub only: Vec<DeploymentName>,
    /// In a dry run everything is told, and nothing repaired.
    pub mode: Mode,
    /// How far it goes with leases that have ended.
    pub reaping: Reaping,
}

/// Who hears of events, from several threads.
pub type Tell<'t> = &'t (dyn Fn(&EventView) + Sync);

/// How whoever watches is bound to whoever wants that.
#[derive(Clone, Copy)]
pub struct Bond<'b> {
    /// Wants an end.
    pub cancel: &'b Cancel,
    /// Hears of everything that happens.
    pub tell: Tell<'b>,
    /// Hears again and again that the watcher is not stuck.
    pub alive: &'b dyn Fn(),
}

impl Plumb<'_> {
    /// Looks at each deployment once and repairs what is due.
    ///
    /// # Errors
    /// [`OpsError`] of the first deployment that could not be looked at; the others are.
    pub fn watch_once(&self, wanted: &WatchWanted, bond: Bond<'_>) -> Result<(), OpsError> {
        let Bond { cancel, tell, .. } = bond;
        let mut first = None;
        for name in self.watched(wanted)? {
            let looked = Watcher::new(self, &name, wanted, (cancel, tell))
                .and_then(|watcher| watcher.map_or(Ok(()), |mut watcher| watcher.look().map(drop)));
            if let Err(error) = looked {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Watches until `cancel` is set. What hinders it is told and tried again.
    ///
    /// # Errors
    /// [`OpsError::NoDeployment`] for a name that there is not; [`OpsError`] if the deployments cannot be listed at the
    /// beginning.
    pub fn watch(&self, wanted: &WatchWanted, bond: Bond<'_>) -> Result<(), OpsError> {
        let Bond { cancel, tell, alive } = bond;
        let mut names = self.watched(wanted)?;
        std::thread::scope(|scope| {
            let mut threads: BTreeMap<DeploymentName, _> = BTreeMap::new();
            while !cancel.is_set() {
                for name in names {
                    let runs = |thread: &std::thread::ScopedJoinHandle<'_, ()>| !thread.is_finished();
                    if !threads.get(&name).is_some_and(runs) {
                        let own = name.clone();
                        let watch = move || self.watch_one(&own, wanted, (cancel, tell));
                        threads.insert(name, scope.spawn(watch));
                    }
                }
                alive();
                pause(PAUSE, cancel);
                // New ones may have come; what hinders listing them is told by those that are watched.
                names = self.watched(wanted).unwrap_or_default();
            }
        });
        Ok(())
    }

    /// The deployments of this host that are to be watched. Tests come and go by themselves.
    fn watched(&self, wanted: &WatchWanted) -> Result<Vec<DeploymentName>, OpsError> {
        for name in &wanted.only {
            self.known(name)?;
        }
        let state = self.state()?;
        let tests = state.tests()?;
        let all = state.deployments()?.into_iter().filter(|record| record.elsewhere.is_none());
        let all = all.map(|record| record.name);
        Ok(all
            .filter(|name| match wanted.only.as_slice() {
                [] => !tests.contains(name),
                only => only.contains(name),
            })
            .collect())
    }

    fn watch_one(&self, name: &DeploymentName, wanted: &WatchWanted, bond: (&Cancel, Tell<'_>)) {
        let (cancel, tell) = bond;
        let mut watcher = match Watcher::new(self, name, wanted, bond) {
            Ok(Some(watcher)) => watcher,
            // Somebody else watches it.
            Ok(None) => return,
            Err(error) => {
                let text = error.in_one_line();
                tell(&EventView::now(name, EventKind::Trouble, &text, &self.claim().who));
                return pause(TROUBLE_PAUSE, cancel);
            }
        };
        watcher.begin();
        let mut trouble: Option<String> = None;
        while !cancel.is_set() {
            match watcher.look() {
                Ok(Looked::Gone) => return,
                Ok(Looked::On) => {
                    trouble = None;
                    pause(PAUSE, cancel);
                }
                Err(error) => {
                    // Once is enough, however long it lasts.
                    let text = error.in_one_line();
                    if trouble.as_ref() != Some(&text) {
                        watcher.trouble(&text);
                    }
                    trouble = Some(text);
                    pause(TROUBLE_PAUSE, cancel);
                }
            }
        }
        watcher.end();
    }
}

fn pause(time: Duration, cancel: &Cancel) {
    let end = Instant::now() + time;
    while !cancel.is_set() && Instant::now() < end {
        clock::pause(TICK);
    }
}
