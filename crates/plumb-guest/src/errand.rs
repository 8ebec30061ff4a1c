//! What the host asks of a machine besides running: checks, and volumes that hold still. The same in both kinds of machines,
//! whoever is PID 1; a command that a volume declares runs as a check does.

use std::os::fd::BorrowedFd;

use plumb_guest_proto::{CheckAnswer, GuestMessage, MachineSpec};
use rustix::event::PollFlags;

use crate::clock::uptime_ms;
use crate::error::Error;
use crate::quiesce::{self, HOOK_RUN, Kernel, Quiesce, Wish};
use crate::report::Reporter;
use crate::service::{Exit, Groups, Trials, check_text};

/// What one entry of the poll list stands for.
#[derive(Debug, Clone, Copy)]
pub enum Errand {
    /// Output of a command.
    Output(usize),
    /// The thread that holds volumes.
    Hold,
}

/// All that is under way.
#[derive(Debug)]
pub struct Errands {
    trials: Trials,
    quiesce: Quiesce<Kernel>,
}

impl Errands {
    /// None under way; where groups of processes are made says `groups`.
    ///
    /// # Errors
    /// Those of [`Trials::new`].
    pub fn new(machine: &MachineSpec, groups: Groups) -> Result<Self, Error> {
        let commands = [&machine.checks[..], &quiesce::commands(machine)].concat();
        Ok(Errands { trials: Trials::new(&commands, groups)?, quiesce: Quiesce::new(machine, Kernel) })
    }

    /// A process before us may have ended while it held something.
    pub fn thaw_left(&self) {
        self.quiesce.thaw_left();
    }

    /// The host wants a check run.
    pub fn check(&mut self, run: u64, name: &str, reporter: &mut Reporter) {
        let answer = self.trials.begin(uptime_ms(), run, name);
        answer.into_iter().for_each(|answer| self.ended_with(answer, reporter));
    }

    /// The host wants volumes held.
    pub fn freeze(&mut self, run: u64, (volumes, hold_ms): (&[String], u64), reporter: &mut Reporter) {
        let wishes = self.quiesce.freeze(run, volumes, hold_ms);
        self.fulfil(wishes, reporter);
    }

    /// The host has its copy.
    pub fn thaw(&mut self, run: u64, reporter: &mut Reporter) {
        let wishes = self.quiesce.thaw(run);
        self.fulfil(wishes, reporter);
    }

    /// The machine goes down: services that stop must be able to write.
    pub fn let_go(&mut self) {
        self.quiesce.let_go();
    }

    /// What to poll for.
    pub fn interests(&self) -> impl Iterator<Item = (Errand, BorrowedFd<'_>, PollFlags)> {
        let outputs = self.trials.interests().map(|(index, fd, flags)| (Errand::Output(index), fd, flags));
        outputs.chain(self.quiesce.interest().map(|fd| (Errand::Hold, fd, PollFlags::IN)))
    }

    /// When [`Errands::finish`] is wanted at the latest.
    pub fn next_tick(&self) -> Option<u64> {
        self.trials.next_tick()
    }

    /// Takes what is there of one.
    pub fn advance(&mut self, errand: Errand, reporter: &mut Reporter) {
        match errand {
            Errand::Output(index) => self.trials.read(index),
            Errand::Hold => {
                let wishes = self.quiesce.advance();
                self.fulfil(wishes, reporter);
            }
        }
    }

    /// A process has ended. Returns whether it was one of ours.
    pub fn ended(&mut self, pid: u32, exit: Exit) -> bool {
        self.trials.ended(pid, exit)
    }

    /// Collects processes of ours that have ended, where nobody else does.
    pub fn collect(&mut self) {
        self.trials.collect();
    }

    /// Ends what takes too long, and tells what is over.
    pub fn finish(&mut self, reporter: &mut Reporter) {
        for answer in self.trials.finish(uptime_ms()) {
            self.ended_with(answer, reporter);
        }
    }

    fn ended_with(&mut self, answer: CheckAnswer, reporter: &mut Reporter) {
        if answer.run == HOOK_RUN {
            let wishes = self.quiesce.ran(&answer);
            return self.fulfil(wishes, reporter);
        }
        reporter.say(&check_text(&answer));
        reporter.control.send(&GuestMessage::Checked(answer));
    }

    fn fulfil(&mut self, wishes: Vec<Wish>, reporter: &mut Reporter) {
        for wish in wishes {
            match wish {
                Wish::Run(name) => self.check(HOOK_RUN, &name, reporter),
                Wish::Answer(answer) => {
                    reporter.say(&quiesce::text(&answer));
                    reporter.control.send(&GuestMessage::Quiesced(answer));
                }
            }
        }
    }
}
