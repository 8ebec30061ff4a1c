//! The main loop: turns what the kernel reports into events of the services, and does what they decide.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use plumb_guest_proto::{
    CheckAnswer, Event, GuestMessage, HostMessage, MachineSpec, Ready, ServiceState, ServiceStatus,
};
use rustix::event::PollFlags;

use super::cgroup;
use super::check::{Probe, Progress};
use super::event::{Action, Input, Role, Stage, command};
use super::group::Group;
use super::notify::Notice;
use super::restart::{Exit, describe};
use super::slot::{Check, Slot};
use super::spawn::verdict;
use super::syslog::SyslogSocket;
use super::trial::Groups;
use super::wait::Source;
use crate::clock::{uptime_ms, wait_for};
use crate::errand::Errands;
use crate::error::Error;
use crate::report::Reporter;
use crate::signal::{self, Signals};
use crate::{activity, limit};

/// Everything that runs after the boot.
#[derive(Debug)]
pub struct Runtime<'a> {
    pub(super) reporter: &'a mut Reporter,
    hello: GuestMessage,
    pub(super) signals: Signals,
    null: OwnedFd,
    pub(super) syslog: SyslogSocket,
    pub(super) group: Group,
    pub(super) slots: Vec<Slot>,
    pub(super) errands: Errands,
    processes: BTreeMap<u32, (usize, Role)>,
    inputs: VecDeque<(usize, Input)>,
    was_ready: bool,
    /// When a shutdown under way is cut short.
    pub(super) shutdown_deadline: Option<u64>,
    pub(super) next_probe: u64,
}

impl<'a> Runtime<'a> {
    /// Everything prepared, nothing started.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::System`].
    pub fn new(
        machine: &MachineSpec,
        hello: GuestMessage,
        signals: Signals,
        reporter: &'a mut Reporter,
    ) -> Result<Self, Error> {
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(Error::file("open", "/dev/null"))?;
        Ok(Runtime {
            reporter,
            hello,
            signals,
            null: OwnedFd::from(null),
            syslog: SyslogSocket::make(Path::new("/dev/log")).map_err(Error::file("make", "/dev/log"))?,
            group: Group::new(&machine.services),
            slots: machine.services.iter().map(Slot::make).collect::<Result<_, _>>()?,
            errands: Errands::new(machine, Groups::Ours)?,
            processes: BTreeMap::new(),
            inputs: VecDeque::new(),
            was_ready: false,
            shutdown_deadline: None,
            next_probe: 0,
        })
    }

    /// Runs the services until they are told to stop, and ends when nothing of them is left.
    /// The host hears of the boot first.
    pub fn run(&mut self, booted: Event) {
        self.reporter.control.send(&self.hello);
        self.reporter.event(booted);
        self.send_status();
        while !self.turn() {}
        self.kill_the_rest();
    }

    /// One turn of the loop; returns whether all is over.
    fn turn(&mut self) -> bool {
        self.decide();
        if self.group.is_stopped() {
            return true;
        }
        if self.shutdown_deadline.is_some_and(|at| uptime_ms() >= at) {
            self.reporter
                .say(&format!("shutdown took longer than {} s, killing the rest", limit::SHUTDOWN_MS / 1000));
            return true;
        }
        for (source, flags) in self.wait() {
            self.handle(source, flags);
        }
        self.errands.finish(self.reporter);
        false
    }

    /// Feeds all events to the services and does what they want, until nothing new comes of it.
    fn decide(&mut self) {
        loop {
            self.look_for_empty_groups();
            let now = uptime_ms();
            let mut actions = Vec::new();
            while let Some((index, input)) = self.inputs.pop_front() {
                actions.extend(self.group.step(now, index, input));
            }
            actions.extend(self.group.advance(now));
            for (index, action) in &actions {
                self.perform(*index, *action);
            }
            self.publish();
            if actions.is_empty() && self.inputs.is_empty() {
                return;
            }
        }
    }

    fn look_for_empty_groups(&mut self) {
        for (index, service) in self.group.services().iter().enumerate() {
            if service.awaits_empty_group() {
                let slot = &self.slots[index];
                let gone = if service.spares_group() && service.state() == ServiceState::Stopping {
                    let alive = |pid: Option<u32>| pid.is_some_and(|pid| self.processes.contains_key(&pid));
                    !alive(slot.main) && !alive(slot.control)
                } else {
                    slot.group.is_empty()
                };
                // Main and control must have been reaped too, or their end would be booked on the next run.
                let reaped = !self.processes.values().any(|(i, role)| *i == index && *role != Role::Check);
                if gone && (reaped || service.spares_group()) {
                    self.inputs.push_back((index, Input::GroupEmpty));
                }
            }
        }
    }

    fn perform(&mut self, index: usize, action: Action) {
        let input = match action {
            Action::Begin => {
                self.slots[index].begin().err().map(|reason| Input::NotStarted(Role::Control, reason))
            }
            Action::Run(stage, number, role) => self.run_command(index, stage, number, role),
            Action::FindMain => {
                let found = self.slots[index].find_main();
                if let (Input::MainFound, Some(pid)) = (&found, self.slots[index].main) {
                    self.processes.insert(pid, (index, Role::Main));
                }
                Some(found)
            }
            Action::Check => self.start_check(index),
            Action::CancelCheck => {
                self.slots[index].cancel_check();
                None
            }
            Action::Signal(target, signal) => {
                self.slots[index].signal(target, signal);
                None
            }
            Action::KillAll => {
                self.slots[index].group.kill();
                None
            }
        };
        self.inputs.extend(input.map(|input| (index, input)));
    }

    fn run_command(&mut self, index: usize, stage: Stage, number: usize, role: Role) -> Option<Input> {
        let slot = &mut self.slots[index];
        let Some(command) = command(&slot.spec, stage, number).cloned() else {
            return Some(Input::NotStarted(role, "it has no command to start".to_owned()));
        };
        match slot.run(&command, role, self.null.as_fd()) {
            Ok(pid) => {
                self.processes.insert(pid, (index, role));
                None
            }
            Err(reason) => Some(Input::NotStarted(role, reason)),
        }
    }

    fn start_check(&mut self, index: usize) -> Option<Input> {
        let now = uptime_ms();
        let slot = &mut self.slots[index];
        let started = match slot.spec.ready.clone()? {
            Ready::Tcp { port } => Probe::start(now, port, None).map(Check::Network),
            Ready::Http { port, path } => Probe::start(now, port, Some(&path)).map(Check::Network),
            Ready::Notify => return None,
            Ready::Exec { .. } if slot.check_pid.is_some() => {
                Err("the check before is still running".to_owned())
            }
            Ready::Exec { command } => slot.run(&command, Role::Check, self.null.as_fd()).map(|pid| {
                self.processes.insert(pid, (index, Role::Check));
                Check::Command { deadline: now + limit::CHECK_EXEC_TIMEOUT_MS }
            }),
        };
        match started {
            Ok(check) => {
                self.slots[index].check = Some(check);
                None
            }
            Err(answer) => Some(Input::Checked(Err(answer))),
        }
    }

    /// Tells the host and the console what has changed.
    fn publish(&mut self) {
        let changes = self.group.changes();
        let first_ready = self.group.is_ready() && !self.was_ready;
        if changes.is_empty() && !first_ready {
            return;
        }
        for (index, state) in changes {
            let name = self.slots[index].spec.name.clone();
            self.reporter.say(&format!("service {name} {}", state_text(&state)));
            // A later run says nothing about the boot.
            let times = self.group.services()[index].times().filter(|_| !self.slots[index].was_timed);
            self.reporter.event(Event::Service { name, state });
            if let Some(times) = times {
                self.slots[index].was_timed = true;
                self.reporter.event(Event::ServiceTimes(times));
            }
        }
        if first_ready {
            self.was_ready = true;
            self.reporter.say("ready");
            self.reporter.event(Event::Ready);
        }
        self.send_status();
    }

    fn send_status(&mut self) {
        let services = self.group.services().iter().zip(&self.slots).map(|(service, slot)| ServiceStatus {
            name: slot.spec.name.clone(),
            state: service.state(),
            pid: slot.main.filter(|pid| self.processes.contains_key(pid)),
            restarts: service.restarts(),
        });
        let status = activity::status(self.group.is_ready(), services.collect());
        self.reporter.control.send(&GuestMessage::Status(status));
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Signals => self.handle_signals(),
            Source::Control => self.handle_control(flags),
            Source::Console => self.reporter.console.flush(),
            Source::Syslog => self.read_syslog(),
            Source::Output(index) => self.read_output(index),
            Source::Exec(index) => self.handle_exec(index),
            Source::Notify(index) => self.handle_notices(index),
            Source::Check(index) => self.handle_check(index, !flags.is_empty()),
            Source::Errand(errand) => self.errands.advance(errand, self.reporter),
        }
    }

    fn handle_signals(&mut self) {
        for number in self.signals.take() {
            match number {
                libc::SIGCHLD => self.reap(),
                libc::SIGIO => self.reporter.control.probe(),
                _ => self.begin_shutdown("told by a signal"),
            }
        }
    }

    fn handle_control(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::IN) {
            for message in self.reporter.control.receive() {
                match message {
                    Ok(HostMessage::Status) => {
                        self.reporter.control.send(&self.hello);
                        self.send_status();
                    }
                    Ok(HostMessage::Shutdown) => self.begin_shutdown("told by the host"),
                    Ok(HostMessage::Check { run, name }) => {
                        self.errands.check(run, &name, self.reporter);
                    }
                    Ok(HostMessage::Freeze { run, volumes, hold_ms }) => {
                        self.errands.freeze(run, (&volumes, hold_ms), self.reporter);
                    }
                    Ok(HostMessage::Thaw { run }) => self.errands.thaw(run, self.reporter),
                    Err(problem) => self.reporter.say(&format!("control port: {problem}")),
                }
            }
        }
        if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.reporter.control.probe();
        }
        self.reporter.control.flush();
    }

    fn begin_shutdown(&mut self, why: &str) {
        if self.shutdown_deadline.is_none() {
            self.shutdown_deadline = Some(uptime_ms() + limit::SHUTDOWN_MS);
            self.reporter.say(&format!("stopping, {why}"));
            self.reporter.event(Event::Stopping);
            self.errands.let_go();
            self.group.stop();
        }
    }

    fn read_output(&mut self, index: usize) {
        let lines = self.slots[index].read_output();
        for line in lines {
            self.reporter.log(&self.slots[index].spec.name, line);
        }
    }

    /// Which of the children are running now and which could not be started.
    fn handle_exec(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let mut waiting = Vec::new();
        for mut pending in std::mem::take(&mut slot.pending) {
            match verdict(&mut pending.child.exec, &pending.program) {
                None => waiting.push(pending),
                Some(Ok(())) if pending.role == Role::Main => self.inputs.push_back((index, Input::Executed)),
                Some(Ok(())) => {}
                Some(Err(reason)) => {
                    // Its exit with 127 says nothing more, and its number may soon be somebody else's.
                    self.processes.remove(&pending.child.pid);
                    slot.forget(pending.child.pid);
                    if pending.role == Role::Check {
                        slot.check = None;
                        slot.check_pid = None;
                        self.inputs.push_back((index, Input::Checked(Err(reason))));
                    } else {
                        self.inputs.push_back((index, Input::NotStarted(pending.role, reason)));
                    }
                }
            }
        }
        slot.pending = waiting;
    }

    fn handle_notices(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let is_member = |pid| slot.group.processes().contains(&pid);
        let notices = slot.notify.as_ref().map(|socket| socket.receive(&is_member)).unwrap_or_default();
        for notice in notices {
            let slot = &mut self.slots[index];
            match notice {
                Notice::Ready => self.inputs.push_back((index, Input::Notified)),
                Notice::Status(text) => self.reporter.log(&slot.spec.name, format!("status: {text}")),
                Notice::MainPid(pid) => {
                    // Only a process of the service, and only one that comes to us when its parent ends.
                    if slot.group.processes().contains(&pid) && slot.main != Some(pid) {
                        if let Some(old) = slot.main.replace(pid) {
                            self.processes.remove(&old);
                        }
                        self.processes.insert(pid, (index, Role::Main));
                    }
                }
            }
        }
    }

    fn handle_check(&mut self, index: usize, is_ready: bool) {
        let Some(Check::Network(probe)) = &mut self.slots[index].check else { return };
        if let Progress::Done(answer) = probe.advance(uptime_ms(), is_ready) {
            self.slots[index].check = None;
            self.inputs.push_back((index, Input::Checked(answer)));
        }
    }

    /// Collects every process that has ended, our own and those left to us.
    fn reap(&mut self) {
        // While a process that has ended is not collected, its service is still known.
        self.read_syslog();
        while let Some((pid, exit)) = signal::reap() {
            if self.errands.ended(pid, exit) {
                continue;
            }
            let Some((index, role)) = self.processes.get(&pid).copied() else { continue };
            // What it still has to say comes before the word that it ended.
            self.handle_exec(index);
            self.handle_notices(index);
            self.read_output(index);
            if self.processes.remove(&pid).is_some() {
                self.book_exit(index, role, pid, exit);
            }
        }
    }

    fn book_exit(&mut self, index: usize, role: Role, pid: u32, exit: Exit) {
        let slot = &mut self.slots[index];
        if role == Role::Check {
            slot.check_pid = slot.check_pid.filter(|current| *current != pid);
            if slot.check.take().is_some() {
                let verdict =
                    if exit == Exit::Code(0) { Ok(()) } else { Err(format!("the check {}", describe(exit))) };
                self.inputs.push_back((index, Input::Checked(verdict)));
            }
            return;
        }
        // A process that outlived its run, even SIGKILL, says nothing about the run of now.
        if !slot.forget(pid) {
            return;
        }
        if let Some(line) = slot.last_line() {
            self.reporter.log(&slot.spec.name, line);
        }
        if role == Role::Main
            && let Some(successor) = slot.successor(exit)
        {
            self.processes.insert(successor, (index, Role::Main));
            return;
        }
        self.inputs.push_back((index, Input::Exited(role, exit)));
    }

    /// After the orderly stop: whatever ignored it.
    fn kill_the_rest(&mut self) {
        cgroup::kill_all();
        signal::kill_everyone();
        // A process that hangs in the kernel does not keep the machine from powering off.
        let _ = wait_for(limit::KILL_WAIT_MS, limit::DEVICE_POLL_MS, || {
            self.reap();
            (!signal::has_children()).then_some(())
        });
        for index in 0..self.slots.len() {
            self.read_output(index);
        }
        self.publish();
    }
}

/// The end of a check for the console.
pub fn check_text(answer: &CheckAnswer) -> String {
    match &answer.failure {
        None => format!("check {} passed", answer.name),
        Some(reason) => format!("check {} failed: {reason}", answer.name.escape_debug()),
    }
}

/// A state for the console.
pub fn state_text(state: &ServiceState) -> String {
    match state {
        ServiceState::Waiting => "waiting".to_owned(),
        ServiceState::Starting => "starting".to_owned(),
        ServiceState::Started => "started".to_owned(),
        ServiceState::Ready => "ready".to_owned(),
        ServiceState::Done => "done".to_owned(),
        ServiceState::Backoff { reason, delay_ms } => format!("ended: {reason}; next start in {delay_ms} ms"),
        ServiceState::Failed { reason } => format!("failed: {reason}"),
        ServiceState::Stopping => "stopping".to_owned(),
        ServiceState::Stopped => "stopped".to_owned(),
    }
}
