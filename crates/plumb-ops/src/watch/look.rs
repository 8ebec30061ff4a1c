//! One look at one deployment, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::config::Settings;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{DeploymentName, InstanceName};
use plumb_plan::{
    Addresses, Case, Deviation, Expected, Health, Plan, PlanKind, Verdict, Wanted, allocate, expected,
    instances, judge, plan_repair,
};
use plumb_state::{DeploymentRecord, EventFilter, EventKind, PlanStatus, Serving, State};
use plumb_store::LockGuard;
use plumb_target::{ObservedInstance, Target as _};

use super::lease::LeaseMemory;
use super::memory::Memory;
use super::{EventView, Tell, WatchWanted, given_up};
use crate::cancel::Cancel;
use crate::collect::Mode;
use crate::deploy::repair_lock;
use crate::error::OpsError;
use crate::lease::Reaping;
use crate::{Plumb, clock};

/// Lines of a console that explain an end.
const CONSOLE_LINES: usize = 3;

/// Earlier repairs that are looked up: as many in a row as a definition may ask for, of dozens of instances.
const REPAIRS: u64 = 2000;

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// There is more to watch.
    On,
    /// The deployment is gone, or another host's.
    Gone,
}

/// Who watches one deployment.
pub(super) struct Watcher<'w, 'p> {
    pub(super) plumb: &'w Plumb<'p>,
    pub(super) name: DeploymentName,
    pub(super) mode: Mode,
    pub(super) reaping: Reaping,
    pub(super) cancel: &'w Cancel,
    pub(super) tell: Tell<'w>,
    memory: Memory,
    pub(super) lease: LeaseMemory,
    /// What was wanted at the last look.
    known: Option<Known>,
    /// The number of a plan of which it was told that nobody carries it out any more.
    interrupted: Option<u64>,
    _one: LockGuard,
}

/// A release with what its instances should be.
struct Known {
    release: Release,
    addresses: Addresses,
    settings: Settings,
    /// Another set runs beside it, for a time.
    is_beside: bool,
    expected: BTreeMap<InstanceName, Expected>,
}

impl<'w, 'p> Watcher<'w, 'p> {
    /// `None` if somebody else watches the deployment.
    pub(super) fn new(
        plumb: &'w Plumb<'p>,
        name: &DeploymentName,
        wanted: &WatchWanted,
        (cancel, tell): (&'w Cancel, Tell<'w>),
    ) -> Result<Option<Self>, OpsError> {
        let one = match plumb.store.lock(&format!("watch-{name}")) {
            Err(plumb_store::Error::Busy { .. }) => return Ok(None),
            other => other?,
        };
        let state = plumb.state()?;
        let filter = EventFilter {
            deployment: Some(name),
            kind: Some(EventKind::Repair),
            since_ms: 0,
            until_ms: u64::MAX,
            limit: REPAIRS,
        };
        let memory = Memory::recall(&state.events(&filter)?, given_up(&state, name)?);
        Ok(Some(Watcher {
            plumb,
            name: name.clone(),
            mode: wanted.mode,
            reaping: wanted.reaping,
            cancel,
            tell,
            memory,
            lease: LeaseMemory::default(),
            known: None,
            interrupted: None,
            _one: one,
        }))
    }

    /// Looks once, tells what is new, and repairs what is due.
    pub(super) fn look(&mut self) -> Result<Looked, OpsError> {
        let mut state = self.plumb.state()?;
        let own = |record: &DeploymentRecord| record.elsewhere.is_none();
        let Some(record) = state.deployment(&self.name)?.filter(own) else { return Ok(Looked::Gone) };
        self.lease(&mut state, &record)?;
        // As its lease left it.
        let Some(record) = state.deployment(&self.name)?.filter(own) else { return Ok(Looked::Gone) };
        let Some(current) = record.current else {
            self.memory.forget();
            return Ok(Looked::On);
        };
        let is_settled = match self.standing(&mut state)? {
            Standing::InProgress => return Ok(Looked::On),
            Standing::Settled => true,
            Standing::Unsettled => false,
        };
        if is_settled && self.mode == Mode::Do {
            self.plumb.relieve_if_over(&self.name, clock::now_ms())?;
        }
        self.keeper(&mut state)?;
        self.learn(&state, &current)?;
        let seen = self.plumb.bare_target(&self.name).observe()?;
        let now_ms = clock::now_ms();
        for (instance, times) in self.memory.restarted(&seen) {
            let text = format!("services were started again inside it, {times} times");
            self.event(&mut state, EventKind::ServiceRestarted, Some(&instance), &text)?;
        }
        let health = self.memory.health(&seen, now_ms);
        let cases = self.judged(&health, now_ms);
        let news = self.memory.news(&cases, &health, now_ms);
        for case in &news.deviating {
            let text = self.described(case, &seen, is_settled);
            self.event(&mut state, EventKind::Deviation, Some(&case.instance), &text)?;
        }
        for case in cases.iter().filter(|case| case.verdict == Verdict::GivenUp) {
            if self.memory.give_up(&case.instance, now_ms) {
                let times = match self.memory.repairs.get(&case.instance).map_or(0, Vec::len) {
                    1 => "once".to_owned(),
                    times => format!("{times} times"),
                };
                let text = format!(
                    "it is given up: it was started again {times} and did not stay well; \
                     `plumb up {current} --name {}` tries again",
                    self.name
                );
                self.event(&mut state, EventKind::GivenUp, Some(&case.instance), &text)?;
            }
        }
        for (instance, after_ms) in news.recovered {
            self.memory.is_well(&instance);
            let text = format!("it is well again, after {} s", after_ms.div_ceil(1000));
            self.event(&mut state, EventKind::Recovered, Some(&instance), &text)?;
        }
        if is_settled && self.mode == Mode::Do && cases.iter().any(|case| case.verdict == Verdict::Repair) {
            self.repair(&current)?;
        }
        Ok(Looked::On)
    }

    /// Whether the last plan came to its end, so that what is wanted is clear.
    fn standing(&mut self, state: &mut State) -> Result<Standing, OpsError> {
        let Some(last) = state.last_plan(&self.name)? else { return Ok(Standing::Settled) };
        let to = last.plan.to.as_ref().map_or_else(|| "down".to_owned(), ToString::to_string);
        match last.status {
            PlanStatus::Done if !is_partial(&last.plan) => {
                self.memory.settled(last.ended_ms.unwrap_or_default());
                Ok(Standing::Settled)
            }
            PlanStatus::Done | PlanStatus::Superseded => Ok(Standing::Settled),
            // Only of what was to be repaired: the next one is about what is wrong then.
            PlanStatus::Failed if is_partial(&last.plan) => Ok(Standing::Settled),
            // Half of a set may be of one release and half of another, and only a person knows which is wanted.
            PlanStatus::Failed => Ok(Standing::Unsettled),
            PlanStatus::Running => {
                match self.plumb.store.lock(&format!("deployment-{}", self.name)) {
                    Err(plumb_store::Error::Busy { .. }) => return Ok(Standing::InProgress),
                    guard => drop(guard?),
                }
                if is_partial(&last.plan) {
                    return Ok(Standing::Settled);
                }
                if self.interrupted != Some(last.plan.generation) {
                    self.interrupted = Some(last.plan.generation);
                    let text = format!(
                        "the way to {to} was interrupted after step {} of {}; nothing is repaired until a command completes it",
                        last.steps_done,
                        last.plan.actions.len()
                    );
                    self.event(state, EventKind::PlanInterrupted, None, &text)?;
                }
                Ok(Standing::Unsettled)
            }
        }
    }

    /// Sees to it that somebody holds the network.
    fn keeper(&self, state: &mut State) -> Result<(), OpsError> {
        let target = self.plumb.bare_target(&self.name);
        if target.keeper_status().is_none() && target.ensure_keeper()?.is_some() {
            let text = "the process that holds the network was gone; it is there again";
            self.event(state, EventKind::KeeperRestarted, None, text)?;
        }
        Ok(())
    }

    /// Looks up what the instances of a release should be.
    fn learn(&mut self, state: &State, current: &ReleaseName) -> Result<(), OpsError> {
        let known = state.addresses(&self.name)?;
        let release = self.plumb.read_release(current)?;
        let Serving { side, kept } = state.serving(&self.name)?;
        let names: Vec<InstanceName> =
            instances(&release, side)?.into_iter().map(|(_, instance)| instance).collect();
        let addresses = allocate(&known, &names)?;
        let settings = self.plumb.settings_of(state, &self.name, &release)?;
        let wanted = Wanted {
            release: &release,
            kind: PlanKind::Repair,
            side,
            addresses: &addresses,
            settings: &settings,
            data: plumb_plan::DataWish::default(),
            former: None,
        };
        let expected = expected(&self.name, &wanted)?;
        let is_beside = kept.is_some();
        self.known = Some(Known { release, addresses, settings, is_beside, expected });
        Ok(())
    }

    fn judged(&self, health: &BTreeMap<InstanceName, Health>, now_ms: u64) -> Vec<Case> {
        let none = BTreeMap::new();
        let expected = self.known.as_ref().map_or(&none, |known| &known.expected);
        let mut cases = judge(expected, health, &self.memory.repairs, now_ms);
        // What is kept for a time is nobody's concern.
        let is_beside = self.known.as_ref().is_some_and(|known| known.is_beside);
        cases.retain(|case| case.deviation != Deviation::Unwanted || !is_beside);
        for case in &mut cases {
            if case.verdict != Verdict::Report && self.memory.is_given_up(case) {
                case.verdict = Verdict::GivenUp;
            }
        }
        cases
    }

    /// What is wrong, why as far as is known, and what follows.
    fn described(&self, case: &Case, seen: &[ObservedInstance], is_settled: bool) -> String {
        let what = match case.deviation {
            Deviation::Missing => "it is not there".to_owned(),
            Deviation::Ended => self.end_of(&case.instance, seen),
            Deviation::HostRestarted => "it ended with the host, which was started again".to_owned(),
            Deviation::Changed => "it was started in another way than the release says".to_owned(),
            Deviation::Unready => "it is not ready any more".to_owned(),
            Deviation::Unwanted => "the release does not have it".to_owned(),
        };
        let then = match case.verdict {
            _ if !is_settled => "it is left alone: the last plan did not come to its end".to_owned(),
            _ if self.mode == Mode::DryRun => "it is left alone: nothing is to be repaired".to_owned(),
            Verdict::Repair => "it is started again".to_owned(),
            Verdict::NotBefore(at_ms) => {
                let left_ms = at_ms.saturating_sub(clock::now_ms());
                format!("something is done in {} s", left_ms.div_ceil(1000))
            }
            Verdict::Report => "it is left alone".to_owned(),
            Verdict::GivenUp => "it is left alone: it is given up".to_owned(),
        };
        format!("{what}; {then}")
    }

    /// How an instance ended, by what its guest or its console said last.
    fn end_of(&self, instance: &InstanceName, seen: &[ObservedInstance]) -> String {
        let found = seen.iter().find(|seen| seen.name == instance.as_str());
        let fatal = found.and_then(|seen| seen.guest.as_ref()?.fatal.clone());
        let said = fatal.or_else(|| {
            let lines = self.plumb.bare_target(&self.name).console_tail(instance.as_str(), CONSOLE_LINES);
            lines.ok()?.into_iter().rfind(|line| !line.trim().is_empty())
        });
        match said {
            Some(said) => format!("its virtual machine has ended; its last word was `{}`", said.trim()),
            None => "its virtual machine has ended".to_owned(),
        }
    }

    /// Repairs what is due, if nobody else works on the deployment.
    fn repair(&mut self, current: &ReleaseName) -> Result<(), OpsError> {
        let plumb = self.plumb;
        // Taken first: who finds the deployment busy sees why.
        let _repairing = plumb.store.lock(&repair_lock(&self.name))?;
        let Some(mut locked) = plumb.try_lock_deployment(&self.name, plumb.target(&self.name)?)? else {
            return Ok(());
        };
        locked.cancel = self.cancel.clone();
        // As it is now that nobody else changes it.
        if locked.state.deployment(&self.name)?.and_then(|record| record.current).as_ref() != Some(current) {
            return Ok(());
        }
        let health = self.memory.health(&locked.target.observe()?, clock::now_ms());
        let cases = self.judged(&health, clock::now_ms());
        let due = cases.into_iter().filter(|case| case.verdict == Verdict::Repair);
        let due: BTreeSet<InstanceName> = due.map(|case| case.instance).collect();
        let Some(known) = &self.known else { return Ok(()) };
        let (release, addresses, settings) = (&known.release, &known.addresses, &known.settings);
        plumb.insist_signed(release)?;
        plumb.check_images(release)?;
        let observed = plumb.observed(&locked)?;
        let parent = locked.state.last_plan(&self.name)?.map(|record| record.plan);
        let wanted = Wanted {
            release,
            kind: PlanKind::Repair,
            side: observed.side,
            addresses,
            settings,
            data: plumb_plan::DataWish::default(),
            former: None,
        };
        let Some(plan) = plan_repair(&self.name, &observed, (&wanted, &due), parent.as_ref())? else {
            return Ok(());
        };
        let started: BTreeSet<InstanceName> = plan
            .actions
            .iter()
            .filter_map(|action| match action {
                plumb_plan::Action::Start { boot, .. } => Some(boot.instance.clone()),
                _ => None,
            })
            .collect();
        for instance in &started {
            // Before it is tried: whoever comes after a crash of the watcher knows of this one.
            let again = self.memory.repairs.get(instance).map_or(0, Vec::len);
            let text = match again {
                0 => "it is being started".to_owned(),
                again => format!("it is being started, for the {}. time", again + 1),
            };
            self.event(&mut locked.state, EventKind::Repair, Some(instance), &text)?;
            self.memory.repaired(instance, clock::now_ms());
        }
        match plumb.execute(&mut locked, &plan) {
            Ok(()) => Ok(()),
            // The plan says so, and the pause until the next one has begun.
            Err(OpsError::NotReady { .. } | OpsError::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn event(
        &self,
        state: &mut State,
        kind: EventKind,
        instance: Option<&InstanceName>,
        text: &str,
    ) -> Result<(), OpsError> {
        let event = self.plumb.note_event(state, (&self.name, kind), (instance, None), text)?;
        (self.tell)(&event);
        Ok(())
    }

    /// Writes down that somebody watches: that nobody did is an answer, too.
    pub(super) fn begin(&self) {
        self.say(EventKind::WatchBegun, &format!("process {} watches", std::process::id()));
    }

    /// Writes down that nobody watches any more.
    pub(super) fn end(&self) {
        self.say(EventKind::WatchEnded, &format!("process {} watches no more", std::process::id()));
    }

    /// Tells what hinders watching.
    pub(super) fn trouble(&self, text: &str) {
        self.say(EventKind::Trouble, text);
    }

    /// Tells, and writes it down if that is possible.
    fn say(&self, kind: EventKind, text: &str) {
        let event = EventView::now(&self.name, kind, text, &self.plumb.claim().who);
        (self.tell)(&event);
        if let Ok(mut state) = self.plumb.state() {
            // It may well be the state that hinders watching, and this was told.
            let _ = self.plumb.note_event(&mut state, (&self.name, kind), (None, None), text);
        }
    }
}

/// The next one is about what is wrong then.
pub(super) fn is_partial(plan: &Plan) -> bool {
    matches!(plan.kind, PlanKind::Repair | PlanKind::Relieve)
}

/// What becomes of a deployment's last plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Somebody carries it out.
    InProgress,
    /// What is wanted is clear.
    Settled,
    /// Nobody can tell what is wanted.
    Unsettled,
}
