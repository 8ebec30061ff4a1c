//! The life of one service as a pure function of events and time: no process, no clock, no file is touched here.
//!
//! ```text
//!  Waiting ─► Command(Prepare, StartPre) ─► Launch ─► Command(StartPost) ─► Up ──► Stop ─► Kill ─► Ended
//!                 │  (oneshot, forking: Command(Start) ─► FindMain)         │                ▲
//!                 └──────────────────── failure ────────────────────────────┴────────► Kill ─┤
//!                                                                                            └─► Backoff ─► …
//! ```

use plumb_guest_proto::{KillMode, Ready, ServiceKind, ServiceSpec, ServiceState, ServiceTimes};

use super::check::pause_ms;
use super::event::{Action, Input, Role, Stage, Target, command, command_name};
use super::restart::{Exit, Outcome, delay_ms, describe, wanted};
use crate::limit;
use crate::report::shorten;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Waiting,
    Command(Stage, usize),
    Launch,
    FindMain,
    Up,
    Kill { hard: bool },
    Backoff { delay_ms: u64 },
    Ended(ServiceState),
}

/// One service.
#[derive(Debug)]
pub struct Lifecycle {
    spec: ServiceSpec,
    phase: Phase,
    /// When the phase has taken too long, or its pause is over.
    deadline: Option<u64>,
    /// When the next readiness check (or the next look for the main process) is due.
    next_look: Option<u64>,
    begun_ms: u64,
    launched_ms: u64,
    started_ms: u64,
    ready: bool,
    ready_since: Option<u64>,
    notified: bool,
    main_running: bool,
    control_running: bool,
    failures: u32,
    last_answer: Option<String>,
    outcome: Option<Outcome>,
    stop_requested: bool,
    good_run: bool,
    failed_starts: u32,
    streak: u32,
    restarts: u32,
}

impl Lifecycle {
    /// A service that waits.
    pub fn new(spec: ServiceSpec) -> Self {
        Lifecycle {
            spec,
            phase: Phase::Waiting,
            deadline: None,
            next_look: None,
            begun_ms: 0,
            launched_ms: 0,
            started_ms: 0,
            ready: false,
            ready_since: None,
            notified: false,
            main_running: false,
            control_running: false,
            failures: 0,
            last_answer: None,
            outcome: None,
            stop_requested: false,
            good_run: false,
            failed_starts: 0,
            streak: 0,
            restarts: 0,
        }
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When this run reached what, as soon as the service is ready or done.
    pub fn times(&self) -> Option<ServiceTimes> {
        let ready_ms = match self.phase {
            Phase::Ended(ServiceState::Done) => self.started_ms,
            _ => self.ready_since?,
        };
        let Lifecycle { begun_ms, launched_ms, started_ms, .. } = *self;
        Some(ServiceTimes { name: self.spec.name.clone(), begun_ms, launched_ms, started_ms, ready_ms })
    }

    /// Whether it waits for its `after`.
    pub fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Whether nothing will happen any more.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop_requested
    }

    /// Whether [`Input::GroupEmpty`] is waited for: always while it is being ended, and when a daemon has no known
    /// main process.
    pub fn awaits_empty_group(&self) -> bool {
        match self.phase {
            Phase::Kill { .. } => true,
            Phase::Up => !self.main_running && self.spec.kind == ServiceKind::Forking,
            _ => false,
        }
    }

    /// When [`Input::Tick`] is wanted at the latest.
    pub fn next_tick(&self) -> Option<u64> {
        match (self.deadline, self.next_look) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The state as the host sees it.
    pub fn state(&self) -> ServiceState {
        match &self.phase {
            Phase::Waiting => ServiceState::Waiting,
            Phase::Command(Stage::Stop, _) | Phase::Kill { .. } => ServiceState::Stopping,
            Phase::Command(..) | Phase::Launch | Phase::FindMain => ServiceState::Starting,
            Phase::Up if self.ready => ServiceState::Ready,
            Phase::Up => ServiceState::Started,
            Phase::Backoff { delay_ms } => {
                ServiceState::Backoff { reason: self.reason(), delay_ms: *delay_ms }
            }
            Phase::Ended(state) => state.clone(),
        }
    }

    /// One event at one time; returns what has to be done now.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Proceed if self.phase == Phase::Waiting => self.begin(now, &mut out),
            Input::Stop => self.stop(now, &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::NotStarted(role, reason) => self.not_started(now, role, reason, &mut out),
            Input::Executed if self.phase == Phase::Launch && self.spec.kind != ServiceKind::Notify => {
                self.run(now, Stage::StartPost, 0, &mut out);
            }
            Input::Exited(Role::Main, exit) => self.main_exited(now, exit, &mut out),
            Input::Exited(Role::Control, exit) => self.control_exited(now, exit, &mut out),
            Input::Notified => self.notified(now, &mut out),
            Input::MainFound if self.phase == Phase::FindMain => {
                self.main_running = true;
                self.run(now, Stage::StartPost, 0, &mut out);
            }
            Input::MainNone if self.phase == Phase::FindMain => self.run(now, Stage::StartPost, 0, &mut out),
            Input::MainUnknown(answer) if self.phase == Phase::FindMain => {
                self.last_answer = Some(answer);
                // Since `FindMain` began; the longer it takes, the less a longer pause adds.
                let passed = now - self.started_ms;
                self.next_look = Some(now + passed.clamp(limit::MAIN_FIRST_MS, limit::GROUP_POLL_MS));
            }
            Input::Checked(verdict) if self.phase == Phase::Up => self.checked(now, verdict),
            Input::GroupEmpty => self.group_empty(now, &mut out),
            _ => {}
        }
        out
    }

    fn begin(&mut self, now: u64, out: &mut Vec<Action>) {
        self.begun_ms = now;
        self.ready = false;
        self.ready_since = None;
        self.notified = false;
        self.main_running = false;
        self.control_running = false;
        self.failures = 0;
        self.last_answer = None;
        self.outcome = None;
        out.push(Action::Begin);
        self.run(now, Stage::Prepare, 0, out);
    }

    /// Runs command `index` of `stage`, or goes on to the stage after it.
    fn run(&mut self, now: u64, stage: Stage, index: usize, out: &mut Vec<Action>) {
        self.next_look = None;
        if (stage, index) == (Stage::Start, 0) {
            self.launched_ms = now;
        }
        let spec = &self.spec;
        let (count, next) = match stage {
            Stage::Prepare => (spec.prepare.len(), Some(Stage::StartPre)),
            Stage::StartPre => (spec.start_pre.len(), Some(Stage::Start)),
            Stage::Start => match spec.kind {
                ServiceKind::Oneshot => (spec.start.len(), Some(Stage::StartPost)),
                ServiceKind::Forking => (1, None),
                ServiceKind::Simple | ServiceKind::Exec | ServiceKind::Notify => {
                    return self.launch(now, out);
                }
            },
            Stage::StartPost => (spec.start_post.len(), None),
            Stage::Stop => (spec.stop.len(), None),
        };
        if index < count {
            let limit_ms = if stage == Stage::Stop { spec.stop_timeout_ms } else { spec.start_timeout_ms };
            self.enter(Phase::Command(stage, index), after(now, limit_ms));
            self.control_running = true;
            out.push(Action::Run(stage, index, Role::Control));
            return;
        }
        match (stage, next) {
            (_, Some(next)) => self.run(now, next, 0, out),
            (Stage::Start, None) => {
                self.started_ms = now;
                self.enter(Phase::FindMain, after(now, self.spec.start_timeout_ms));
                out.push(Action::FindMain);
            }
            (Stage::Stop, None) => self.end_processes(now, out),
            (_, None) => self.started(now, out),
        }
    }

    fn launch(&mut self, now: u64, out: &mut Vec<Action>) {
        self.enter(Phase::Launch, after(now, self.spec.start_timeout_ms));
        self.main_running = true;
        out.push(Action::Run(Stage::Start, 0, Role::Main));
    }

    /// The start itself is done; readiness comes next.
    fn started(&mut self, now: u64, out: &mut Vec<Action>) {
        self.started_ms = now;
        if self.spec.kind == ServiceKind::Oneshot {
            return self.enter(Phase::Ended(ServiceState::Done), None);
        }
        self.enter(Phase::Up, after(now, self.spec.ready_timeout_ms));
        match self.spec.ready {
            None => self.now_ready(now),
            Some(Ready::Notify) if self.notified => self.now_ready(now),
            Some(Ready::Notify) => self.last_answer = Some("no READY=1 from the service".to_owned()),
            Some(_) => out.push(Action::Check),
        }
    }

    fn now_ready(&mut self, now: u64) {
        self.ready = true;
        self.ready_since.get_or_insert(now);
        self.failures = 0;
        self.deadline = None;
        if !self.good_run {
            // Wake up to notice that the run has become a good one.
            self.deadline = Some(now + limit::GOOD_RUN_MS);
        }
    }

    fn notified(&mut self, now: u64, out: &mut Vec<Action>) {
        self.notified = true;
        match self.phase {
            Phase::Launch if self.spec.kind == ServiceKind::Notify => self.run(now, Stage::StartPost, 0, out),
            Phase::Up if self.spec.ready == Some(Ready::Notify) && !self.ready => self.now_ready(now),
            _ => {}
        }
    }

    fn checked(&mut self, now: u64, verdict: Result<(), String>) {
        let was_ready = self.ready_since.is_some();
        match verdict {
            Ok(()) => {
                if !self.ready {
                    self.now_ready(now);
                }
                self.failures = 0;
                self.next_look = Some(now + limit::CHECK_READY_MS);
            }
            Err(answer) => {
                self.last_answer = Some(answer);
                self.failures += 1;
                self.ready &= self.failures < limit::CHECK_FAILURES;
                let pause = if was_ready { limit::CHECK_LOST_MS } else { pause_ms(now - self.started_ms) };
                self.next_look = Some(now + pause);
            }
        }
    }

    fn main_exited(&mut self, now: u64, exit: Exit, out: &mut Vec<Action>) {
        self.main_running = false;
        let outcome = Outcome::of(exit, &self.spec.success_exit_status);
        match self.phase {
            Phase::Up if self.spec.remain_after_exit && matches!(outcome, Outcome::Clean(_)) => {
                out.push(Action::CancelCheck);
                self.ready = false;
                self.enter(Phase::Ended(ServiceState::Done), None);
            }
            Phase::Launch | Phase::FindMain | Phase::Up | Phase::Command(Stage::StartPost, _) => {
                self.fail(now, outcome, out);
            }
            // KillMode=mixed: the rest goes as soon as the main process has gone.
            Phase::Kill { hard: false } if self.spec.kill_mode == KillMode::Mixed => {
                out.push(Action::KillAll)
            }
            _ => {}
        }
    }

    fn control_exited(&mut self, now: u64, exit: Exit, out: &mut Vec<Action>) {
        self.control_running = false;
        let Phase::Command(stage, index) = self.phase else { return };
        let success = match stage {
            Stage::Start => {
                matches!(Outcome::of(exit, &self.spec.success_exit_status), Outcome::Clean(Exit::Code(_)))
            }
            _ => exit == Exit::Code(0),
        };
        if success || stage == Stage::Stop || self.ignores_failure(stage, index) {
            return self.run(now, stage, index + 1, out);
        }
        let outcome = match exit {
            Exit::Code(code) if stage == Stage::Start => Outcome::Code(code),
            Exit::Signal(signal) if stage == Stage::Start => Outcome::Signal(signal),
            _ => Outcome::Broken(format!("{} {}", command_name(&self.spec, stage, index), describe(exit))),
        };
        self.fail(now, outcome, out);
    }

    fn not_started(&mut self, now: u64, role: Role, reason: String, out: &mut Vec<Action>) {
        match role {
            Role::Main => self.main_running = false,
            Role::Control => self.control_running = false,
            Role::Check => {}
        }
        match self.phase {
            Phase::Command(stage, index) if stage == Stage::Stop || self.ignores_failure(stage, index) => {
                self.run(now, stage, index + 1, out);
            }
            Phase::Command(..) | Phase::Launch | Phase::FindMain | Phase::Up => {
                self.fail(now, Outcome::Broken(reason), out);
            }
            _ => {}
        }
    }

    fn group_empty(&mut self, now: u64, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Kill { .. } => self.finish(now),
            Phase::Up if self.awaits_empty_group() => {
                self.fail(now, Outcome::Broken("all its processes ended".to_owned()), out);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: u64, out: &mut Vec<Action>) {
        if self.next_look.is_some_and(|at| at <= now) {
            self.next_look = None;
            match self.phase {
                Phase::FindMain => out.push(Action::FindMain),
                Phase::Up => out.push(Action::Check),
                _ => {}
            }
        }
        if self.deadline.is_none_or(|at| at > now) {
            return;
        }
        self.deadline = None;
        match self.phase.clone() {
            Phase::Backoff { .. } => {
                self.restarts += 1;
                self.begin(now, out);
            }
            Phase::Command(Stage::Stop, _) => self.end_processes(now, out),
            Phase::Command(stage, index) => {
                let what = format!(
                    "{} took longer than {}",
                    command_name(&self.spec, stage, index),
                    self.start_limit()
                );
                self.fail(now, Outcome::Timeout(what), out);
            }
            Phase::Launch if self.spec.kind == ServiceKind::Notify => {
                let what = format!("no READY=1 from the service after {}", self.start_limit());
                self.fail(now, Outcome::Timeout(what), out);
            }
            Phase::Launch | Phase::FindMain => {
                let answer =
                    self.last_answer.clone().map_or_else(String::new, |answer| format!(": {answer}"));
                let what = format!("the start took longer than {}{answer}", self.start_limit());
                self.fail(now, Outcome::Timeout(what), out);
            }
            Phase::Up if self.ready_since.is_none() => {
                let answer = self.last_answer.clone().unwrap_or_else(|| "no answer".to_owned());
                let what = format!("not ready after {}: {answer}", seconds(self.spec.ready_timeout_ms));
                self.fail(now, Outcome::Timeout(what), out);
            }
            Phase::Up => self.good_run = true,
            Phase::Kill { hard: false } => self.kill_hard(now, out),
            Phase::Kill { hard: true } => self.finish(now),
            Phase::Waiting | Phase::Ended(_) => {}
        }
    }

    /// The run has failed or ended: whatever is left of it has to go.
    fn fail(&mut self, now: u64, outcome: Outcome, out: &mut Vec<Action>) {
        self.outcome = Some(outcome);
        self.end_processes(now, out);
    }

    fn stop(&mut self, now: u64, out: &mut Vec<Action>) {
        self.stop_requested = true;
        match self.phase {
            Phase::Waiting | Phase::Backoff { .. } => self.enter(Phase::Ended(ServiceState::Stopped), None),
            Phase::Up if !self.spec.stop.is_empty() => {
                out.push(Action::CancelCheck);
                self.run(now, Stage::Stop, 0, out);
            }
            Phase::Up | Phase::Command(..) | Phase::Launch | Phase::FindMain => self.end_processes(now, out),
            // A one-shot may have left processes behind, and RemainAfterExit= a stop command.
            Phase::Ended(ServiceState::Done) if self.spec.remain_after_exit => {
                self.run(now, Stage::Stop, 0, out)
            }
            Phase::Kill { .. } | Phase::Ended(_) => {}
        }
    }

    fn end_processes(&mut self, now: u64, out: &mut Vec<Action>) {
        out.push(Action::CancelCheck);
        let signal = self.spec.kill_signal;
        self.enter(Phase::Kill { hard: false }, after(now, self.spec.stop_timeout_ms));
        if self.control_running && self.spec.kill_mode != KillMode::ControlGroup {
            out.push(Action::Signal(Target::Control, libc::SIGKILL));
        }
        match self.spec.kill_mode {
            KillMode::ControlGroup => {
                out.push(Action::Signal(Target::Group, signal));
                // A stopped process cannot act upon its signal.
                out.push(Action::Signal(Target::Group, libc::SIGCONT));
            }
            KillMode::Mixed if self.main_running => {
                out.push(Action::Signal(Target::Main, signal));
                out.push(Action::Signal(Target::Main, libc::SIGCONT));
            }
            KillMode::Mixed => out.push(Action::KillAll),
            KillMode::Process if self.main_running => {
                out.push(Action::Signal(Target::Main, signal));
                out.push(Action::Signal(Target::Main, libc::SIGCONT));
            }
            KillMode::Process | KillMode::None => {}
        }
    }

    fn kill_hard(&mut self, now: u64, out: &mut Vec<Action>) {
        self.enter(Phase::Kill { hard: true }, Some(now + limit::KILL_WAIT_MS));
        out.push(match self.spec.kill_mode {
            KillMode::Process | KillMode::None => Action::Signal(Target::Main, libc::SIGKILL),
            KillMode::ControlGroup | KillMode::Mixed => Action::KillAll,
        });
    }

    /// Whether the end of the main process is all that is waited for (`KillMode=process` and `none`).
    pub fn spares_group(&self) -> bool {
        matches!(self.spec.kill_mode, KillMode::Process | KillMode::None)
    }

    /// Nothing is left of the run: again, or never again.
    fn finish(&mut self, now: u64) {
        let was_ready = self.ready_since.take();
        self.ready = false;
        if self.stop_requested {
            return self.enter(Phase::Ended(ServiceState::Stopped), None);
        }
        let up_ms = was_ready.map_or(0, |since| now.saturating_sub(since));
        self.good_run |= was_ready.is_some() && up_ms >= limit::GOOD_RUN_MS;
        if up_ms >= limit::RESTART_RESET_MS {
            self.streak = 0;
        }
        let again = self.outcome.as_ref().is_some_and(|outcome| wanted(self.spec.restart, outcome));
        if !again {
            return self.enter(Phase::Ended(ServiceState::Failed { reason: self.reason() }), None);
        }
        if !self.good_run {
            self.failed_starts += 1;
            if self.failed_starts >= limit::FAILED_STARTS {
                let reason = shorten(
                    format!("given up after {} failed starts: {}", self.failed_starts, self.reason()),
                    limit::REASON_BYTES,
                );
                return self.enter(Phase::Ended(ServiceState::Failed { reason }), None);
            }
        }
        let delay_ms = delay_ms(self.spec.restart_delay_ms, self.streak);
        self.streak += 1;
        self.enter(Phase::Backoff { delay_ms }, Some(now + delay_ms));
    }

    fn enter(&mut self, phase: Phase, deadline: Option<u64>) {
        self.phase = phase;
        self.deadline = deadline;
        self.next_look = None;
    }

    fn reason(&self) -> String {
        let reason = self.outcome.as_ref().map_or_else(|| "ended".to_owned(), Outcome::reason);
        shorten(reason, limit::REASON_BYTES)
    }

    fn start_limit(&self) -> String {
        seconds(self.spec.start_timeout_ms)
    }

    fn ignores_failure(&self, stage: Stage, index: usize) -> bool {
        command(&self.spec, stage, index).is_some_and(|command| command.ignore_failure)
    }
}

/// The end of a span; 0 means no end, as `TimeoutStartSec=0` does.
fn after(now: u64, limit_ms: u64) -> Option<u64> {
    if limit_ms == 0 { None } else { now.checked_add(limit_ms) }
}

fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
pub mod tests;
