//! The one place where PID 1 sleeps: poll(2) over everything that can happen.

use plumb_guest_proto::ServiceState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::runtime::Runtime;
use super::slot::Check;
use crate::clock::uptime_ms;
use crate::errand::Errand;
use crate::limit;

/// What one entry of the poll list stands for.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// The signal descriptor.
    Signals,
    /// The control port.
    Control,
    /// A console that takes output again.
    Console,
    /// The socket of syslog(3).
    Syslog,
    /// Output of a service.
    Output(usize),
    /// A child that runs or could not be started.
    Exec(usize),
    /// The notify socket of a service.
    Notify(usize),
    /// The socket of a readiness check.
    Check(usize),
    /// Something that the host asked for.
    Errand(Errand),
}

impl Runtime<'_> {
    /// Waits for anything to happen; returns what did.
    pub fn wait(&mut self) -> Vec<(Source, PollFlags)> {
        let timeout = self.pause();
        let mut sources = vec![Source::Signals, Source::Syslog];
        let mut polled = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.syslog.as_fd(), PollFlags::IN),
        ];
        if let Some((port, wants_out)) = self.reporter.control.pollable() {
            sources.push(Source::Control);
            let out = if wants_out { PollFlags::OUT } else { PollFlags::empty() };
            polled.push(PollFd::from_borrowed_fd(port, PollFlags::IN | out));
        }
        if let Some(console) = self.reporter.console.pending() {
            sources.push(Source::Console);
            polled.push(PollFd::from_borrowed_fd(console, PollFlags::OUT));
        }
        for (index, slot) in self.slots.iter().enumerate() {
            sources.push(Source::Output(index));
            polled.push(PollFd::from_borrowed_fd(slot.output_fd(), PollFlags::IN));
            for pending in &slot.pending {
                sources.push(Source::Exec(index));
                polled.push(PollFd::new(&pending.child.exec, PollFlags::IN));
            }
            if let Some(notify) = &slot.notify {
                sources.push(Source::Notify(index));
                polled.push(PollFd::from_borrowed_fd(notify.as_fd(), PollFlags::IN));
            }
            if let Some(Check::Network(probe)) = &slot.check {
                let (socket, flags) = probe.interest();
                sources.push(Source::Check(index));
                polled.push(PollFd::from_borrowed_fd(socket, flags));
            }
        }
        for (errand, fd, flags) in self.errands.interests() {
            sources.push(Source::Errand(errand));
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        }
        // An error (EINTR) shows as nothing ready; the next turn polls again.
        if poll(&mut polled, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let mut ready: Vec<(Source, PollFlags)> = Vec::new();
        for (source, fd) in sources.into_iter().zip(&polled) {
            // Checks are looked at in every turn, for their deadlines.
            if !fd.revents().is_empty() || matches!(source, Source::Check(_)) {
                ready.push((source, fd.revents()));
            }
        }
        ready
    }

    /// How long nothing has to be done without an outside event.
    fn pause(&mut self) -> Option<Timespec> {
        let now = uptime_ms();
        let mut next = self
            .group
            .next_tick()
            .into_iter()
            .chain(self.shutdown_deadline)
            .chain(self.errands.next_tick())
            .min();
        let mut sooner = |at: u64| next = Some(next.map_or(at, |n| n.min(at)));
        for slot in &self.slots {
            match &slot.check {
                Some(Check::Network(probe)) => sooner(probe.deadline()),
                Some(Check::Command { deadline }) => sooner(*deadline),
                None => {}
            }
        }
        if self.group.services().iter().any(|s| s.awaits_empty_group() && s.state() == ServiceState::Stopping)
        {
            sooner(now + limit::GROUP_POLL_MS);
        }
        if self.reporter.control.is_detached() {
            self.next_probe = self.next_probe.max(now).min(now + self.reporter.control.look_again_ms());
            if self.next_probe <= now {
                self.reporter.control.look();
                self.next_probe = now + self.reporter.control.look_again_ms();
            }
            sooner(self.next_probe);
        }
        let wait = next?.saturating_sub(now);
        Some(Timespec {
            tv_sec: (wait / 1000).cast_signed(),
            tv_nsec: ((wait % 1000) * 1_000_000).cast_signed(),
        })
    }
}
