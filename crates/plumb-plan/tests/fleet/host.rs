//! A simulated host with one deployment, and the operator's commands on it.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::config::Settings;
use plumb_model::release::{Quiesce, Release, ReleaseName};
use plumb_model::{DeploymentName, Digest, InstanceName, MachineName, SnapshotName, TaskName};
use plumb_plan::{
    Action, Addresses, Broken, Former, Hands, Health, InstanceVolume, Kept, Life, Observed, ObservedInstance,
    OnFailure, OtherSet, Plan, PlanError, PlanKind, Progress, Side, Verdict, Wanted, allocate, boot_spec,
    carry_out, check, expected, has_reverse_tasks, instances, judge, plan_down, plan_repair, plan_up,
    side_for, task_instances, touched,
};

/// What a start takes, milliseconds of the simulated clock.
const START_MS: u64 = 1_500;

/// What a stop takes.
const STOP_MS: u64 = 1_000;

/// How a step goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be done.
    Fails,
    /// Whoever carries the plan out is killed before it.
    KilledBefore,
    /// Whoever carries the plan out is killed when it was done, before that is written down.
    KilledAfter,
    /// It is done twice.
    Twice,
}

/// Something that goes wrong once.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Step number `.0` of the next plan.
    Step(usize, Fault),
    /// An instance of a release does not become ready.
    NeverReady(InstanceName, u64),
    /// An instance of a release does not stay ready while it is looked at.
    Unsettled(InstanceName, u64),
    /// A task of a release fails.
    Task(String, u64),
}

/// Why a plan ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A step failed.
    Failed(String),
    /// Nobody carries it out any more.
    Killed,
}

#[derive(Debug, Clone)]
struct Vm {
    machine: MachineName,
    boot: Digest,
    release: u64,
    running: bool,
    ready: bool,
    was_ready: bool,
    unready_since_ms: Option<u64>,
}

/// The host.
#[derive(Clone)]
pub struct Host {
    name: DeploymentName,
    pub releases: BTreeMap<u64, Release>,
    vms: BTreeMap<InstanceName, Vm>,
    published: BTreeSet<InstanceName>,
    volumes: BTreeSet<String>,
    addresses: Addresses,
    pub current: Option<ReleaseName>,
    /// The release that ran last.
    data_of: Option<ReleaseName>,
    side: Side,
    pub kept: Option<Kept>,
    last: Option<Plan>,
    /// The last of its steps that was begun.
    begun: usize,
    /// The last plan came to its end.
    is_through: bool,
    /// Releases from this number on, up to the next one with a fence, read the data.
    pub shape: u64,
    /// The shape of the data in snapshots.
    shapes: BTreeMap<SnapshotName, u64>,
    repairs: BTreeMap<InstanceName, Vec<u64>>,
    pub now_ms: u64,
    pub troubles: Vec<Trouble>,
    /// Steps of the plan under way that were done, and its number of steps.
    step: usize,
    /// Instances that the last plan went on without.
    pub left_behind: usize,
    /// Fewest ready instances of each machine while plans were carried out.
    pub fewest: BTreeMap<MachineName, usize>,
    /// What happened, line by line.
    pub trace: Vec<String>,
    /// Tasks that were carried out.
    pub tasks: Vec<String>,
}

impl Host {
    pub fn new(name: &str) -> Host {
        Host {
            name: name.parse().expect("a name"),
            releases: BTreeMap::new(),
            vms: BTreeMap::new(),
            published: BTreeSet::new(),
            volumes: BTreeSet::new(),
            addresses: Addresses::new(),
            current: None,
            data_of: None,
            side: Side::Blue,
            kept: None,
            last: None,
            begun: 0,
            is_through: true,
            shape: 0,
            shapes: BTreeMap::new(),
            repairs: BTreeMap::new(),
            now_ms: 0,
            troubles: Vec::new(),
            step: 0,
            left_behind: 0,
            fewest: BTreeMap::new(),
            trace: Vec::new(),
            tasks: Vec::new(),
        }
    }

    fn say(&mut self, text: &str) {
        self.trace.push(format!("{:>6}.{:01} s  {text}", self.now_ms / 1000, self.now_ms % 1000 / 100));
    }

    fn observed(&self) -> Observed {
        let instances = self.vms.iter().map(|(name, vm)| {
            let seen = ObservedInstance {
                machine: vm.machine.clone(),
                running: vm.running,
                ready: vm.running && vm.ready,
                boot: vm.boot,
            };
            (name.clone(), seen)
        });
        let fence_of = |name: &ReleaseName| Ok::<u64, ()>(self.releases[&name.number].content.fence);
        let last =
            self.last.as_ref().map(|plan| Progress { plan, done: self.begun, is_through: self.is_through });
        let touched = touched(last, self.data_of.as_ref(), fence_of).expect("they are there");
        let volumes = self.volumes.iter().map(|name| {
            let (instance, volume) = name.split_once('/').expect("both");
            let (instance, volume) = (instance.parse().expect("a name"), volume.parse().expect("a name"));
            (InstanceVolume { instance, volume }, Quiesce::Freeze)
        });
        let mut observed = Observed {
            instances: instances.collect(),
            current: self.current.clone(),
            side: self.side,
            kept: self.kept,
            data_of: touched.clone().or_else(|| self.data_of.clone()),
            touched,
            turned_back: self
                .last
                .as_ref()
                .and_then(|last| last.reversed.clone().filter(|_| !(self.is_through && last.settles()))),
            volumes: volumes.collect(),
            ..Observed::default()
        };
        observed.fence = observed.holder().map_or(Ok(0), fence_of).expect("it is there");
        observed
    }

    fn names(release: &Release, side: Side) -> Vec<(MachineName, InstanceName)> {
        instances(release, side).expect("names")
    }

    fn addresses_for(&mut self, release: &Release, side: Side) -> Addresses {
        let mut names: Vec<InstanceName> =
            Host::names(release, side).into_iter().map(|(_, instance)| instance).collect();
        names.extend(task_instances(release).expect("names"));
        self.addresses = allocate(&self.addresses, &names).expect("addresses");
        self.addresses.clone()
    }

    /// The plan to a release, as a command would make it.
    pub fn plan(&mut self, number: u64, kind: PlanKind) -> Result<Plan, PlanError> {
        let release = self.releases[&number].clone();
        let observed = self.observed();
        let side = side_for(&observed, &release, None);
        self.addresses_for(&release, side);
        let current = observed.holder().map(|current| self.releases[&current.number].clone());
        if let Some(current) = &current {
            self.addresses_for(current, self.side);
        }
        let addresses = self.addresses.clone();
        let settings = Settings::default();
        let reaches = observed.fence.checked_sub(1).and_then(|below| self.releases.get(&below));
        let reaches = reaches.map_or(0, |below| below.content.fence);
        let former = current.as_ref().filter(|current| has_reverse_tasks(current));
        let former = former.map(|release| Former { release, settings: &settings, reaches });
        let wanted = Wanted {
            release: &release,
            kind,
            side,
            addresses: &addresses,
            settings: &settings,
            data: plumb_plan::DataWish::default(),
            former,
        };
        let plan = plan_up(&self.name, &observed, &wanted, self.last.as_ref())?;
        assert_eq!(check(&plan, &observed, Some(&release)), [], "{}: {plan:#?}", self.trace.join("\n"));
        Ok(plan)
    }

    /// `up`, `upgrade` or `rollback`, with what follows a failure.
    pub fn go(&mut self, number: u64) -> Result<(), End> {
        let before = self.current.clone();
        let kind = match &before {
            Some(before) if number > before.number => PlanKind::Upgrade,
            Some(before) if number < before.number => PlanKind::Rollback,
            _ => PlanKind::Up,
        };
        let plan = match self.plan(number, kind) {
            Ok(plan) => plan,
            Err(error) => {
                self.say(&format!("refused: {error}"));
                return Err(End::Failed(error.to_string()));
            }
        };
        let end = match self.carry(&plan) {
            Ok(()) => return Ok(()),
            Err(Broken { error: End::Killed, .. }) => return Err(End::Killed),
            // It was committed.
            Err(Broken { step: None, error }) => return Err(error),
            Err(Broken { step, error }) if plan.on_failure(step) == OnFailure::Stop => {
                self.say("it stays as it is now");
                return Err(error);
            }
            Err(Broken { error, .. }) => error,
        };
        match before.filter(|before| before.number != number) {
            None => self.say("there is no way back"),
            Some(before) => match self.plan(before.number, PlanKind::Return) {
                Ok(plan) => {
                    self.say(&format!("back to {before}"));
                    self.carry(&plan).map_err(|broken| broken.error)?;
                }
                Err(error) => self.say(&format!("no way back: {error}")),
            },
        }
        Err(end)
    }

    /// The plan that was carried out last.
    pub fn last_plan(&self) -> Plan {
        self.last.clone().expect("there was one")
    }

    pub fn down(&mut self) -> Result<(), End> {
        let plan = plan_down(&self.name, &self.observed(), &[], self.last.as_ref());
        self.carry(&plan).map_err(|broken| broken.error)
    }

    /// With no step where the plan came to its end without some instances.
    fn carry(&mut self, plan: &Plan) -> Result<(), Broken<End>> {
        (self.step, self.begun) = (0, 0);
        self.last = Some(plan.clone());
        self.is_through = false;
        let outcome = carry_out(plan, self);
        self.left_behind = outcome.as_ref().map_or(0, Vec::len);
        self.is_through = outcome.is_ok();
        match &outcome {
            Ok(left) => {
                let without: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
                let text =
                    if left.is_empty() { String::new() } else { format!(", without {}", without.join(" ")) };
                self.say(&format!("{:?}: done{text}", plan.kind).to_lowercase());
            }
            Err(Broken { error: End::Failed(why), .. }) => {
                self.say(&format!("{:?}: {why}", plan.kind).to_lowercase());
            }
            Err(Broken { error: End::Killed, .. }) => self.say("killed"),
        }
        let first = outcome?.into_iter().next();
        first.map_or(Ok(()), |(_, error)| Err(Broken { step: None, error }))
    }

    /// Takes a trouble of this kind, if there is one: each comes once.
    fn trouble(&mut self, is_meant: impl Fn(&Trouble) -> bool) -> Option<Trouble> {
        let at = self.troubles.iter().position(is_meant)?;
        Some(self.troubles.remove(at))
    }

    pub fn crash(&mut self, instance: &str) {
        self.say(&format!("{instance} crashes"));
        let vm = self.vms.get_mut(&instance.parse::<InstanceName>().expect("a name")).expect("it is there");
        (vm.running, vm.ready) = (false, false);
    }

    pub fn hang(&mut self, instance: &str) {
        self.say(&format!("{instance} hangs"));
        let now_ms = self.now_ms;
        let vm = self.vms.get_mut(&instance.parse::<InstanceName>().expect("a name")).expect("it is there");
        (vm.ready, vm.unready_since_ms) = (false, Some(now_ms));
    }

    /// Watches for a time, looking every second.
    pub fn watch(&mut self, for_ms: u64) {
        let end_ms = self.now_ms + for_ms;
        while self.now_ms < end_ms {
            self.look();
            self.now_ms += 1_000;
        }
    }

    fn look(&mut self) {
        let Some(current) = self.current.clone() else { return };
        let release = self.releases[&current.number].clone();
        let side = self.side;
        let addresses = self.addresses_for(&release, side);
        let settings = Settings::default();
        let wanted = Wanted {
            release: &release,
            kind: PlanKind::Repair,
            side,
            addresses: &addresses,
            settings: &settings,
            data: plumb_plan::DataWish::default(),
            former: None,
        };
        let expected = expected(&self.name, &wanted).expect("boots");
        let seen = self.vms.iter().map(|(name, vm)| {
            let life = if vm.running { Life::Runs } else { Life::Ended };
            let unready_since_ms = vm.unready_since_ms.filter(|_| vm.running);
            let health = Health { life, boot: Some(vm.boot), was_ready: vm.was_ready, unready_since_ms };
            (name.clone(), health)
        });
        // What is kept is nobody's concern until its time is over.
        let is_over = self.kept.is_some_and(|kept| kept.until_ms <= self.now_ms);
        if is_over {
            self.say("what was kept goes");
            self.go(current.number).expect("only what is kept goes");
            return;
        }
        let seen = seen.filter(|(name, _)| self.kept.is_none() || expected.contains_key(name));
        let cases = judge(&expected, &seen.collect(), &self.repairs, self.now_ms);
        let due = cases.into_iter().filter(|case| case.verdict == Verdict::Repair);
        let due: BTreeSet<InstanceName> = due.map(|case| case.instance).collect();
        if due.is_empty() {
            return;
        }
        let observed = self.observed();
        let plan = plan_repair(&self.name, &observed, (&wanted, &due), self.last.as_ref()).expect("a plan");
        let Some(plan) = plan else { return };
        assert_eq!(check(&plan, &observed, Some(&release)), []);
        for action in &plan.actions {
            if let Action::Start { boot, .. } = action {
                self.repairs.entry(boot.instance.clone()).or_default().push(self.now_ms);
            }
        }
        // What does not come back is tried again after a pause.
        let _ = self.carry(&plan);
    }

    fn ready_of(&self, machine: &MachineName) -> usize {
        let of_machine = |(name, vm): &(&InstanceName, &Vm)| {
            vm.machine == *machine && !name.as_str().ends_with("-0") && vm.running && vm.ready
        };
        self.vms.iter().filter(of_machine).count()
    }

    fn remember_fewest(&mut self) {
        let machines: Vec<MachineName> = self.fewest.keys().cloned().collect();
        for machine in machines {
            let now = self.ready_of(&machine);
            self.fewest.entry(machine).and_modify(|fewest| *fewest = (*fewest).min(now));
        }
    }

    /// From now on the fewest ready instances are counted.
    pub fn count_from_here(&mut self) {
        let machines: BTreeSet<MachineName> = self.vms.values().map(|vm| vm.machine.clone()).collect();
        self.fewest =
            machines.into_iter().map(|machine| (machine.clone(), self.ready_of(&machine))).collect();
    }

    /// The release that everything is of, if the set is whole: all of it runs, is ready and published, and nothing else is there.
    pub fn whole(&self) -> Option<u64> {
        let number = self.current.as_ref()?.number;
        let release = &self.releases[&number];
        let names = Host::names(release, self.side);
        let all: BTreeSet<&InstanceName> = names.iter().map(|(_, name)| name).collect();
        // What is kept runs, and serves nobody.
        let is_kept = |name: &InstanceName, vm: &Vm| {
            self.kept.is_some() && vm.running && !self.published.contains(name) && !all.contains(name)
        };
        let others = self.vms.iter().filter(|(name, vm)| !is_kept(name, vm)).map(|(name, _)| name);
        let is_there = others.collect::<BTreeSet<_>>() == all;
        let settings = Settings::default();
        let wanted = Wanted {
            release,
            kind: PlanKind::Up,
            side: self.side,
            addresses: &self.addresses,
            settings: &settings,
            data: plumb_plan::DataWish::default(),
            former: None,
        };
        let is_good = names.iter().all(|(machine, name)| {
            let boot = boot_spec(&self.name, (machine, name), &wanted, 0).map(|(boot, _)| boot.boot);
            let publishes = !release.content.machines[machine].publish.is_empty();
            self.vms.get(name).is_some_and(|vm| vm.running && vm.ready && Ok(vm.boot) == boot)
                && self.published.contains(name) == publishes
        });
        let has_volumes = release.content.machines.iter().all(|(machine, of)| {
            of.volumes.keys().all(|volume| {
                (1..=of.instances).all(|n| self.volumes.contains(&format!("{machine}-{n}/{volume}")))
            })
        });
        let is_readable = !has_reverse_tasks_somewhere(&self.releases) || self.shape == release.content.fence;
        (is_there && is_good && has_volumes && is_readable).then_some(number)
    }

    /// Nothing is there.
    pub fn is_empty(&self) -> bool {
        self.vms.is_empty()
    }

    /// One line per instance.
    pub fn shown(&self) -> String {
        let of = self.current.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let mut text = format!("runs {of}\n");
        for (name, vm) in &self.vms {
            let state = match (vm.running, vm.ready) {
                (false, _) => "ended",
                (true, false) => "not ready",
                (true, true) => "ready",
            };
            let published = if self.published.contains(name) { ", published" } else { "" };
            text.push_str(&format!("  {name:<8} of release {}: {state}{published}\n", vm.release));
        }
        text
    }

    fn does(&mut self, action: &Action) -> Result<(), End> {
        match action {
            Action::Volume { instance, volume, .. } => {
                self.volumes.insert(format!("{instance}/{volume}"));
            }
            Action::Ports { published } => {
                self.published =
                    published.values().flat_map(|machine| machine.instances.iter().cloned()).collect();
            }
            Action::Stop { instance } => {
                if let Some(vm) = self.vms.get_mut(instance).filter(|vm| vm.running) {
                    (vm.running, vm.ready) = (false, false);
                    self.now_ms += STOP_MS;
                    self.say(&format!("stop {instance}"));
                }
            }
            Action::Start { boot, .. } => {
                let is_running = self.vms.get(&boot.instance).is_some_and(|vm| vm.running);
                if is_running && self.vms[&boot.instance].boot == boot.boot {
                    return Ok(());
                }
                assert!(!is_running, "{} runs as something else", boot.instance);
                let vm = Vm {
                    machine: boot.machine.clone(),
                    boot: boot.boot,
                    release: boot.release.number,
                    running: true,
                    ready: false,
                    was_ready: false,
                    unready_since_ms: Some(self.now_ms),
                };
                self.vms.insert(boot.instance.clone(), vm);
                self.say(&format!("start {} of {}", boot.instance, boot.release));
            }
            Action::AwaitReady { instance, timeout_ms, .. } => self.becomes_ready(instance, *timeout_ms)?,
            Action::Task { instance, task, .. } => self.task(instance, task)?,
            Action::Settle { instances, for_ms, .. } => {
                self.now_ms += for_ms;
                for instance in instances {
                    let number = self.vms[instance].release;
                    let is_meant = |trouble: &Trouble| matches!(trouble, Trouble::Unsettled(name, of) if name == instance && *of == number);
                    if self.trouble(is_meant).is_some() {
                        self.crash(instance.as_str());
                        return Err(End::Failed(format!("{instance} did not stay ready")));
                    }
                }
            }
            Action::Snapshot { snapshot, .. } => drop(self.shapes.insert(snapshot.clone(), self.shape)),
            Action::Restore { snapshot, .. } => self.shape = self.shapes[snapshot],
            Action::Remove { instance } => drop(self.vms.remove(instance)),
            Action::Commit { number, side, other, .. } => self.commits(*number, *side, *other),
            Action::Teardown => {
                self.published.clear();
                self.vms.clear();
                self.current = None;
                (self.side, self.kept) = (Side::Blue, None);
            }
            _ => {}
        }
        Ok(())
    }

    fn task(&mut self, instance: &InstanceName, task: &TaskName) -> Result<(), End> {
        let number = self.vms[instance].release;
        self.now_ms += START_MS;
        let is_meant = |trouble: &Trouble| matches!(trouble, Trouble::Task(name, of) if name == task.as_str() && *of == number);
        if self.trouble(is_meant).is_some() {
            return Err(End::Failed(format!("task {task} failed in {instance}")));
        }
        self.say(&format!("task {task} in {instance}"));
        self.tasks.push(format!("{task} of {number}"));
        let fence = self.releases[&number].content.fence;
        match task.as_str() {
            "migrate" => self.shape = fence,
            "revert" => {
                let below = self.releases.get(&(fence - 1));
                self.shape = below.map_or(0, |below| below.content.fence);
            }
            _ => {}
        }
        Ok(())
    }

    fn commits(&mut self, number: u64, side: Side, other: OtherSet) {
        self.side = side;
        self.kept = match other {
            OtherSet::Gone => None,
            OtherSet::Unchanged => self.kept,
            OtherSet::Kept { release, for_ms } => Some(Kept { release, until_ms: self.now_ms + for_ms }),
        };
        self.current = Some(self.releases[&number].name());
        self.data_of = self.current.clone();
        self.say(&format!("commit {number}"));
    }

    fn becomes_ready(&mut self, instance: &InstanceName, timeout_ms: u64) -> Result<(), End> {
        let Some(vm) = self.vms.get(instance).filter(|vm| vm.running) else {
            return Err(End::Failed(format!("{instance} does not run")));
        };
        if vm.ready {
            return Ok(());
        }
        let number = vm.release;
        let is_meant = |trouble: &Trouble| matches!(trouble, Trouble::NeverReady(name, of) if name == instance && *of == number);
        // One that hung is not ready by being waited for.
        if vm.was_ready || self.trouble(is_meant).is_some() {
            self.now_ms += timeout_ms;
            return Err(End::Failed(format!("{instance} did not become ready")));
        }
        self.now_ms += START_MS;
        if let Some(vm) = self.vms.get_mut(instance) {
            (vm.ready, vm.was_ready, vm.unready_since_ms) = (true, true, None);
        }
        self.say(&format!("{instance} is ready"));
        Ok(())
    }
}

impl Hands for Host {
    type Error = End;

    fn act(&mut self, action: &Action) -> Result<(), End> {
        let step = self.step;
        self.step += 1;
        let is_meant = |trouble: &Trouble| matches!(trouble, Trouble::Step(at, _) if *at == step);
        let fault = match self.trouble(is_meant) {
            Some(Trouble::Step(_, fault)) => Some(fault),
            _ => None,
        };
        match fault {
            Some(Fault::Fails) => return Err(End::Failed("a step failed".to_owned())),
            Some(Fault::KilledBefore) => return Err(End::Killed),
            Some(Fault::Twice) => self.does(action)?,
            Some(Fault::KilledAfter) | None => {}
        }
        let outcome = self.does(action);
        self.remember_fewest();
        if fault == Some(Fault::KilledAfter) { Err(End::Killed) } else { outcome }
    }

    fn record(&mut self, _plan: &Plan, seq: usize, _is_done: bool) -> Result<(), End> {
        self.begun = seq;
        Ok(())
    }

    fn is_of_instance(&self, error: &End) -> bool {
        *error != End::Killed
    }
}

/// Data has a shape where some release can turn it back.
fn has_reverse_tasks_somewhere(releases: &BTreeMap<u64, Release>) -> bool {
    releases.values().any(has_reverse_tasks)
}
