//! The service at the control port of a machine with systemd: one thread, one loop.

use plumb_guest_proto::{Event, GuestMessage, HostMessage, Init, MACHINE_SPEC_PATH, ServiceState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::handover;
use super::journal::{Entry, Journal};
use super::look::Look;
use super::watched::Watched;
use crate::clock::uptime_ms;
use crate::console::Console;
use crate::control::Control;
use crate::errand::{Errand, Errands};
use crate::error::Error;
use crate::report::Reporter;
use crate::service::{Groups, state_text};
use crate::signal::Signals;
use crate::{activity, document, limit};

/// Speaks for the machine until systemd ends it.
///
/// # Errors
/// What keeps it from beginning.
pub fn run() -> Result<(), Error> {
    let machine = document::machine("")?;
    let errands = Errands::new(&machine, Groups::Systemd)?;
    errands.thaw_left();
    let Init::Systemd(units) = machine.init else {
        let problem = "its services are not run by systemd".to_owned();
        return Err(Error::Contradiction { path: MACHINE_SPEC_PATH, problem });
    };
    let hello = handover::hello()?;
    // Before the port is opened: it tells of a host by a signal that would end this process.
    let signals = Signals::open()?;
    let control = Control::with_unsent(handover::take_unsent()?);
    let mut agent = Agent {
        reporter: Reporter { console: Console::open(), control },
        hello,
        signals,
        journal: Journal::default(),
        journal_at: 0,
        look: None,
        look_at: 0,
        probe_at: 0,
        services: units.into_iter().map(Watched::new).collect(),
        errands,
        is_stopping: false,
        was_ready: false,
    };
    agent.reporter.control.open();
    agent.reporter.control.send(&agent.hello);
    agent.send_status();
    while agent.turn() {}
    agent.reporter.drain();
    Ok(())
}

/// What one entry of the poll list stands for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Control,
    Console,
    Journal,
    Look,
    Check(usize),
    Errand(Errand),
}

struct Agent {
    reporter: Reporter,
    hello: GuestMessage,
    signals: Signals,
    journal: Journal,
    /// When the journal is followed again.
    journal_at: u64,
    look: Option<Look>,
    /// When the units are looked at next.
    look_at: u64,
    /// When a host is looked for next.
    probe_at: u64,
    services: Vec<Watched>,
    errands: Errands,
    is_stopping: bool,
    was_ready: bool,
}

impl Agent {
    /// One turn of the loop; returns whether there is another.
    fn turn(&mut self) -> bool {
        self.begin_what_is_due();
        let mut goes_on = true;
        for (source, flags) in self.wait() {
            match source {
                Source::Signals => goes_on &= self.handle_signals(),
                Source::Control => self.handle_control(flags),
                Source::Console => self.reporter.console.flush(),
                Source::Journal => self.read_journal(),
                Source::Look => self.finish_look(),
                Source::Check(index) => self.services[index].advance(uptime_ms(), !flags.is_empty()),
                Source::Errand(errand) => self.errands.advance(errand, &mut self.reporter),
            }
        }
        self.errands.collect();
        self.errands.finish(&mut self.reporter);
        self.publish();
        goes_on
    }

    fn begin_what_is_due(&mut self) {
        let now = uptime_ms();
        if !self.journal.is_running() && now >= self.journal_at {
            self.journal_at = now + limit::AGAIN_MS;
            if let Err(problem) = self.journal.start() {
                self.reporter.say(&problem);
            }
        }
        if self.look.is_none() && now >= self.look_at && !self.services.is_empty() {
            self.look_at = now + limit::LOOK_MS;
            match Look::start(now, self.services.iter().map(|service| service.spec.unit.as_str())) {
                Ok(look) => self.look = Some(look),
                Err(problem) => self.reporter.say(&problem),
            }
        }
        if self.reporter.control.is_detached() && now >= self.probe_at {
            self.reporter.control.look();
            self.probe_at = now + self.reporter.control.look_again_ms();
        }
        for service in &mut self.services {
            service.advance(now, false);
        }
    }

    /// Waits for anything to happen; returns what did.
    fn wait(&mut self) -> Vec<(Source, PollFlags)> {
        let timeout = self.pause();
        let mut sources = vec![Source::Signals];
        let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some((port, wants_out)) = self.reporter.control.pollable() {
            let out = if wants_out { PollFlags::OUT } else { PollFlags::empty() };
            sources.push(Source::Control);
            polled.push(PollFd::from_borrowed_fd(port, PollFlags::IN | out));
        }
        if let Some(console) = self.reporter.console.pending() {
            sources.push(Source::Console);
            polled.push(PollFd::from_borrowed_fd(console, PollFlags::OUT));
        }
        if let Some(journal) = self.journal.as_fd() {
            sources.push(Source::Journal);
            polled.push(PollFd::from_borrowed_fd(journal, PollFlags::IN));
        }
        if let Some(look) = &self.look {
            sources.push(Source::Look);
            polled.push(PollFd::from_borrowed_fd(look.as_fd(), PollFlags::IN));
        }
        for (index, service) in self.services.iter().enumerate() {
            if let Some((socket, flags)) = service.check().and_then(|check| check.interest()) {
                sources.push(Source::Check(index));
                polled.push(PollFd::from_borrowed_fd(socket, flags));
            }
        }
        for (errand, fd, flags) in self.errands.interests() {
            sources.push(Source::Errand(errand));
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        }
        // An error (EINTR) shows as nothing ready; the next turn polls again.
        if poll(&mut polled, Some(&timeout)).is_err() {
            return Vec::new();
        }
        let due = self.look.as_ref().is_some_and(|look| uptime_ms() >= look.deadline());
        let all = sources.into_iter().zip(polled.iter().map(PollFd::revents));
        all.filter(|(source, flags)| !flags.is_empty() || (due && matches!(source, Source::Look))).collect()
    }

    /// How long nothing has to be done without an outside event.
    fn pause(&self) -> Timespec {
        let mut next = vec![];
        next.extend((!self.journal.is_running()).then_some(self.journal_at));
        next.push(self.look.as_ref().map_or(self.look_at, Look::deadline));
        next.extend(self.reporter.control.is_detached().then_some(self.probe_at));
        next.extend(self.services.iter().filter_map(Watched::next_tick).chain(self.errands.next_tick()));
        let now = uptime_ms();
        let wait = next.into_iter().min().unwrap_or(now).saturating_sub(now);
        Timespec { tv_sec: (wait / 1000).cast_signed(), tv_nsec: ((wait % 1000) * 1_000_000).cast_signed() }
    }

    /// Returns whether systemd lets us go on.
    fn handle_signals(&mut self) -> bool {
        let mut goes_on = true;
        for number in self.signals.take() {
            match number {
                libc::SIGIO => self.reporter.control.probe(),
                // A check or a look has ended; the next turn sees it.
                libc::SIGCHLD => {}
                _ => goes_on = false,
            }
        }
        goes_on
    }

    fn handle_control(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::IN) {
            for message in self.reporter.control.receive() {
                match message {
                    Ok(HostMessage::Status) => {
                        self.reporter.control.send(&self.hello);
                        self.send_status();
                    }
                    Ok(HostMessage::Shutdown) => self.shut_down(),
                    Ok(HostMessage::Check { run, name }) => {
                        self.errands.check(run, &name, &mut self.reporter);
                    }
                    Ok(HostMessage::Freeze { run, volumes, hold_ms }) => {
                        self.errands.freeze(run, (&volumes, hold_ms), &mut self.reporter);
                    }
                    Ok(HostMessage::Thaw { run }) => self.errands.thaw(run, &mut self.reporter),
                    Err(problem) => self.reporter.say(&format!("control port: {problem}")),
                }
            }
        }
        if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.reporter.control.probe();
        }
        self.reporter.control.flush();
    }

    fn shut_down(&mut self) {
        if std::mem::replace(&mut self.is_stopping, true) {
            return;
        }
        self.reporter.say("stopping, told by the host");
        self.reporter.event(Event::Stopping);
        self.errands.let_go();
        // systemd(1), "Signals": starts poweroff.target. It needs neither a bus nor another program.
        // SAFETY: kill takes two integers and touches no memory.
        unsafe { libc::kill(1, libc::SIGRTMIN() + 4) };
        self.look_at = uptime_ms() + limit::LOOK_SOON_MS;
    }

    fn read_journal(&mut self) {
        for Entry { source, about, lines } in self.journal.read() {
            let is_ours = |unit: &String| self.services.iter().any(|service| service.spec.unit == *unit);
            if about.as_ref().is_some_and(is_ours) {
                self.look_at = self.look_at.min(uptime_ms() + limit::LOOK_SOON_MS);
            }
            let known = self.services.iter().find(|service| service.spec.unit == source);
            let name = match known {
                Some(service) => service.spec.name.clone(),
                None => source.strip_suffix(".service").unwrap_or(&source).to_owned(),
            };
            for line in lines {
                self.reporter.log(&name, line);
            }
        }
        if let Err(error) = self.journal.remember() {
            self.reporter.say(&error.chain());
        }
        if !self.journal.is_running() {
            self.journal_at = uptime_ms() + limit::AGAIN_MS;
        }
    }

    fn finish_look(&mut self) {
        let now = uptime_ms();
        let Some(units) = self.look.as_mut().and_then(|look| look.advance(now)) else { return };
        self.look = None;
        if units.len() == self.services.len() {
            for (service, shown) in self.services.iter_mut().zip(units) {
                service.show(now, shown);
            }
        } else {
            self.look_at = now + limit::AGAIN_MS;
        }
    }

    /// Tells the host and the console what has changed.
    fn publish(&mut self) {
        let mut has_changed = false;
        for service in &mut self.services {
            let state = service.current(self.is_stopping);
            if state == service.state {
                continue;
            }
            has_changed = true;
            service.state = state.clone();
            let name = service.spec.name.clone();
            self.reporter.say(&format!("service {name} {}", state_text(&state)));
            self.reporter.event(Event::Service { name, state });
            // A later run says nothing about the boot.
            if service.state.is_ready() && !std::mem::replace(&mut service.was_timed, true) {
                self.reporter.event(Event::ServiceTimes(service.shown.times(&service.spec.name)));
            }
        }
        let first_ready = self.is_ready() && !self.was_ready;
        if first_ready {
            self.was_ready = true;
            self.reporter.say("ready");
            self.reporter.event(Event::Ready);
        }
        if has_changed || first_ready {
            self.send_status();
        }
    }

    fn is_ready(&self) -> bool {
        !self.is_stopping && self.services.iter().all(|service| ServiceState::is_ready(&service.state))
    }

    fn send_status(&mut self) {
        let services = self.services.iter().map(Watched::status).collect();
        self.reporter.control.send(&GuestMessage::Status(activity::status(self.is_ready(), services)));
    }
}
