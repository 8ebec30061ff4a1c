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
mod notify;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plumb_model::{DeploymentName, InstanceName};
use plumb_state::{EventFilter, EventKind, PlanStatus, State};

pub use journal::{EventView, JournalWanted};
pub use notify::Notify;

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
    /// A program that hears of everything that happens.
    pub notify: Option<Notify>,
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
        let names = self.watched(wanted)?;
        self.notified(wanted, bond, |Bond { cancel, tell, .. }| {
            let mut first = None;
            for name in names {
                let looked = Watcher::new(self, &name, wanted, (cancel, tell))
                    .and_then(|watcher| watcher.map_or(Ok(()), |mut watcher| watcher.look().map(drop)));
                if let Err(error) = looked {
                    first.get_or_insert(error);
                }
            }
            first.map_or(Ok(()), Err)
        })
    }

    /// Watches until `cancel` is set. What hinders it is told and tried again.
    ///
    /// # Errors
    /// [`OpsError::NoDeployment`] for a name that there is not; [`OpsError`] if the deployments cannot be listed at the
    /// beginning.
    pub fn watch(&self, wanted: &WatchWanted, bond: Bond<'_>) -> Result<(), OpsError> {
        let names = self.watched(wanted)?;
        self.notified(wanted, bond, |bond| self.watch_all(names, wanted, bond));
        Ok(())
    }

    fn watch_all(&self, mut names: Vec<DeploymentName>, wanted: &WatchWanted, bond: Bond<'_>) {
        let Bond { cancel, tell, alive } = bond;
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

    /// Watches with a program that hears of what is told, if there is one. What is wrong with it is told and written down.
    fn notified<T>(&self, wanted: &WatchWanted, bond: Bond<'_>, watch: impl FnOnce(Bond<'_>) -> T) -> T {
        let Some(notify) = &wanted.notify else { return watch(bond) };
        let (queue, waiting) = notify::queue();
        let trouble = |name: &DeploymentName, text: &str| {
            (bond.tell)(&EventView::now(name, EventKind::Trouble, text, &self.claim().who));
            if let Ok(mut state) = self.state() {
                // It was told; a state that cannot be written to is told by whoever watches.
                let _ = self.note_event(&mut state, (name, EventKind::Trouble), (None, None), text);
            }
        };
        std::thread::scope(|scope| {
            let (cancel, trouble) = (bond.cancel, &trouble);
            scope.spawn(move || waiting.carry(notify, cancel, trouble));
            let tell = |event: &EventView| {
                queue.offer(event);
                (bond.tell)(event);
            };
            let outcome = watch(Bond { tell: &tell, ..bond });
            // The program's thread ends once nothing can come any more.
            drop(queue);
            outcome
        })
    }
}

/// Events that are looked through for instances that were given up: all that say something about that, of the last weeks.
const GIVEN_UP_LIMIT: u64 = 500;

/// Instances that were given up, and when; those that were started again or were well since are not.
pub(crate) fn given_up(
    state: &State,
    name: &DeploymentName,
) -> Result<BTreeMap<InstanceName, u64>, OpsError> {
    let of = |kind| {
        let filter = EventFilter {
            deployment: Some(name),
            kind: Some(kind),
            since_ms: 0,
            until_ms: u64::MAX,
            limit: GIVEN_UP_LIMIT,
        };
        state.events(&filter)
    };
    let mut found: BTreeMap<InstanceName, u64> = BTreeMap::new();
    for event in of(EventKind::GivenUp)? {
        found.extend(event.instance.map(|instance| (instance, event.at_ms)));
    }
    if found.is_empty() {
        return Ok(found);
    }
    for event in of(EventKind::Recovered)?.into_iter().chain(of(EventKind::Repair)?) {
        let Some(instance) = event.instance else { continue };
        if found.get(&instance).is_some_and(|gave_up_ms| *gave_up_ms < event.at_ms) {
            found.remove(&instance);
        }
    }
    if let Some(last) = state.last_plan(name)?
        && last.status == PlanStatus::Done
        && !look::is_partial(&last.plan)
    {
        found.retain(|_, gave_up_ms| last.ended_ms.is_some_and(|ended_ms| *gave_up_ms > ended_ms));
    }
    Ok(found)
}

fn pause(time: Duration, cancel: &Cancel) {
    let end = Instant::now() + time;
    while !cancel.is_set() && Instant::now() < end {
        clock::pause(TICK);
    }
}
