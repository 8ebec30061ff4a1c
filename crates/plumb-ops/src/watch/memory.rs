//! What one look leaves for the next: what was told already, since when something is so.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::InstanceName;
use plumb_plan::{Case, Deviation, Health, Life};
use plumb_state::EventRecord;
use plumb_target::{InstanceState, ObservedInstance};

/// Repairs of one instance that are remembered: more than a definition may ask for before it is given up.
const REPAIRS: usize = 64;

/// What a watcher remembers of a deployment.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Instances that run and are not ready: the start they belong to, and since when.
    unready: BTreeMap<InstanceName, (u64, u64)>,
    /// What was told of instances that are not as they should be, and since when it is so.
    told: BTreeMap<InstanceName, (Deviation, u64)>,
    /// How often the services of an instance were started again: the start it belongs to, and the number.
    restarts: BTreeMap<InstanceName, (u64, u64)>,
    /// When instances were repaired.
    pub(super) repairs: BTreeMap<InstanceName, Vec<u64>>,
    /// Instances that were given up, and when. Only a person's command, or that one is well, makes that undone.
    gave_up: BTreeMap<InstanceName, u64>,
}

/// What a look brought that is new.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Instances that differ from what they should be, and did not, or in another way.
    pub(super) deviating: Vec<Case>,
    /// Instances that are well again, and how long they were not, milliseconds.
    pub(super) recovered: Vec<(InstanceName, u64)>,
}

impl Memory {
    /// How instances are, by name. Whether one was ready before is what the guest said; since when it is not is what was
    /// seen here.
    pub(super) fn health(
        &mut self,
        seen: &[ObservedInstance],
        now_ms: u64,
    ) -> BTreeMap<InstanceName, Health> {
        let mut all = BTreeMap::new();
        for instance in seen {
            let Ok(name) = instance.name.parse::<InstanceName>() else { continue };
            let life = match instance.state {
                InstanceState::Running => Life::Runs,
                InstanceState::Exited => Life::Ended,
                InstanceState::Stale => Life::Stale,
            };
            let was_ready = instance.guest.as_ref().is_some_and(|guest| guest.ready_unix_ms.is_some());
            let start = instance.started_unix_ms;
            let unready_since_ms = if instance.is_ready() || life != Life::Runs {
                self.unready.remove(&name);
                None
            } else {
                let since = if was_ready { now_ms } else { start };
                let known = self.unready.entry(name.clone()).or_insert((start, since));
                if known.0 != start {
                    *known = (start, since);
                }
                Some(known.1)
            };
            let boot = instance.label.parse().ok();
            all.insert(name, Health { life, boot, was_ready, unready_since_ms });
        }
        self.unready.retain(|name, _| all.contains_key(name));
        all
    }

    /// What of `cases` is new, and who is well again. Who is being started is not told: it has its time.
    pub(super) fn news(
        &mut self,
        cases: &[Case],
        health: &BTreeMap<InstanceName, Health>,
        now_ms: u64,
    ) -> News {
        let mut news = News::default();
        for case in cases {
            let is_starting = case.deviation == Deviation::Unready
                && health.get(&case.instance).is_some_and(|health| !health.was_ready);
            let known = self.told.get(&case.instance);
            if is_starting || known.is_some_and(|(deviation, _)| *deviation == case.deviation) {
                continue;
            }
            let since_ms = known.map_or(now_ms, |(_, since_ms)| *since_ms);
            self.told.insert(case.instance.clone(), (case.deviation, since_ms));
            news.deviating.push(case.clone());
        }
        let ill: BTreeSet<&InstanceName> = cases.iter().map(|case| &case.instance).collect();
        let well: Vec<InstanceName> = self.told.keys().filter(|name| !ill.contains(name)).cloned().collect();
        for name in well {
            if let Some((_, since_ms)) = self.told.remove(&name) {
                news.recovered.push((name, now_ms.saturating_sub(since_ms)));
            }
        }
        news
    }

    /// Instances in which services were started again since the last look, and how often.
    pub(super) fn restarted(&mut self, seen: &[ObservedInstance]) -> Vec<(InstanceName, u64)> {
        let mut more = Vec::new();
        for instance in seen.iter().filter(|instance| instance.state == InstanceState::Running) {
            let Ok(name) = instance.name.parse::<InstanceName>() else { continue };
            let now = (instance.started_unix_ms, crate::execute::restarts(instance));
            let before = self.restarts.insert(name.clone(), now);
            // What happened before the first look is not news; a new start begins at none.
            let before = match before {
                Some((start, count)) if start == now.0 => count,
                Some(_) => 0,
                None => now.1,
            };
            if now.1 > before {
                more.push((name, now.1 - before));
            }
        }
        more
    }

    /// An instance is being repaired.
    pub(super) fn repaired(&mut self, instance: &InstanceName, now_ms: u64) {
        self.gave_up.remove(instance);
        let times = self.repairs.entry(instance.clone()).or_default();
        times.push(now_ms);
        if times.len() > REPAIRS {
            times.remove(0);
        }
    }

    /// What was kept of earlier watchers.
    pub(super) fn recall(repairs: &[EventRecord], gave_up: BTreeMap<InstanceName, u64>) -> Self {
        let mut memory = Memory::default();
        for event in repairs {
            if let Some(instance) = &event.instance {
                memory.repaired(instance, event.at_ms);
            }
        }
        // Those that were started again since are not among them.
        memory.gave_up = gave_up;
        memory
    }

    /// An instance is given up. `false` if it was before.
    pub(super) fn give_up(&mut self, instance: &InstanceName, now_ms: u64) -> bool {
        self.gave_up.insert(instance.clone(), now_ms).is_none()
    }

    /// Whether nothing more is done about an instance by itself.
    pub(super) fn is_given_up(&self, case: &Case) -> bool {
        // A host that was started again begins anew.
        case.deviation != Deviation::HostRestarted && self.gave_up.contains_key(&case.instance)
    }

    /// An instance that was given up is well: somebody mended it, and what was before says nothing any more.
    pub(super) fn is_well(&mut self, instance: &InstanceName) {
        if self.gave_up.remove(instance).is_some() {
            self.repairs.remove(instance);
        }
    }

    /// A command came to its end at this time: all was well then, and it begins anew.
    pub(super) fn settled(&mut self, at_ms: u64) {
        self.gave_up.retain(|_, gave_up_ms| *gave_up_ms > at_ms);
        for times in self.repairs.values_mut() {
            times.retain(|repaired_ms| *repaired_ms > at_ms);
        }
    }

    /// Nothing is wanted any more: nothing is wrong.
    pub(super) fn forget(&mut self) {
        self.told.clear();
        self.gave_up.clear();
        self.unready.clear();
    }
}
