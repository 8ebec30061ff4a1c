//! Holding volumes still for a snapshot.
//!
//! ```text
//!  idle ─Freeze─► commands before ─► frozen (see `hold`) ─Thaw, deadline, shutdown─► commands after ─► idle
//!                       │ one fails           │ one cannot be frozen
//!                       └─────────────────────┴──► commands after, for those that were begun ─► idle
//! ```
//!
//! Every way leads through the commands after: a host that died must not leave a database in a state for backups.

mod hold;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::Path;

use plumb_guest_proto::{CheckAnswer, MAX_HOLD_MS, MachineSpec, QuiesceAnswer, QuiescePhase, ServiceSpec};

pub use hold::{Gate, Kernel};
use hold::{Hold, News};

use crate::limit;
use crate::report::shorten;

/// The number under which commands before and after run; the host counts from the time of day.
pub const HOOK_RUN: u64 = u64::MAX;

/// What the main loop has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Run the declared command of this name, under [`HOOK_RUN`].
    Run(String),
    /// Tell the host.
    Answer(QuiesceAnswer),
}

#[derive(Debug)]
struct Volume {
    name: String,
    mount: String,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Debug)]
enum Stage {
    Before,
    Held(Hold),
    After,
}

/// A freeze under way.
#[derive(Debug)]
struct Current {
    run: u64,
    hold_ms: u64,
    mounts: Vec<String>,
    /// Commands to run in this stage; the first one runs now.
    commands: VecDeque<String>,
    /// Commands that have to follow those that were begun.
    after: VecDeque<String>,
    stage: Stage,
    /// The last word that the host gets.
    answer: QuiesceAnswer,
}

/// The volumes of a machine as far as snapshots are concerned.
#[derive(Debug)]
pub struct Quiesce<G> {
    gate: G,
    volumes: Vec<Volume>,
    current: Option<Current>,
}

/// The commands that volumes declare.
pub fn commands(machine: &MachineSpec) -> Vec<ServiceSpec> {
    let hooks = machine.volumes.iter().flat_map(|volume| volume.before.iter().chain(&volume.after));
    hooks.map(|hook| (**hook).clone()).collect()
}

impl<G: Gate + Copy> Quiesce<G> {
    /// Nothing is held.
    pub fn new(machine: &MachineSpec, gate: G) -> Self {
        let volumes = machine.volumes.iter().map(|volume| Volume {
            name: volume.name.clone(),
            mount: volume.mount.clone(),
            before: volume.before.as_ref().map(|hook| hook.name.clone()),
            after: volume.after.as_ref().map(|hook| hook.name.clone()),
        });
        Quiesce { gate, volumes: volumes.collect(), current: None }
    }

    /// A process before us may have ended while it held something.
    pub fn thaw_left(&self) {
        self.volumes.iter().for_each(|volume| hold::thaw_left(Path::new(&volume.mount)));
    }

    /// The host wants volumes held.
    pub fn freeze(&mut self, run: u64, names: &[String], hold_ms: u64) -> Vec<Wish> {
        let refuse = |why: String| vec![Wish::Answer(answer(run, QuiescePhase::Frozen, Some(why)))];
        if self.current.is_some() {
            return refuse("its volumes are held for another snapshot".to_owned());
        }
        let mut current = Current {
            run,
            hold_ms: hold_ms.min(MAX_HOLD_MS),
            mounts: Vec::new(),
            commands: VecDeque::new(),
            after: VecDeque::new(),
            stage: Stage::Before,
            answer: answer(run, QuiescePhase::Thawed, None),
        };
        for name in names {
            let Some(volume) = self.volumes.iter().find(|volume| volume.name == *name) else {
                return refuse(format!("the image has no volume `{}`", name.escape_debug()));
            };
            current.mounts.push(volume.mount.clone());
            current.commands.extend(volume.before.clone());
            current.after.extend(volume.after.clone());
        }
        self.current = Some(current);
        self.go_on()
    }

    /// The host has its copy.
    pub fn thaw(&mut self, run: u64) -> Vec<Wish> {
        match &mut self.current {
            Some(current) if current.run == run => {
                match &mut current.stage {
                    Stage::Held(hold) => hold.thaw(),
                    // It gave up before anything was frozen; what is begun still ends by itself.
                    Stage::Before => {
                        current.answer.failure = Some("nothing was frozen yet".to_owned());
                        current.stage = Stage::After;
                        current.commands.truncate(1);
                        current.commands.append(&mut current.after);
                    }
                    Stage::After => {}
                }
                Vec::new()
            }
            _ => {
                let why = "its volumes are not held: they went on by themselves".to_owned();
                vec![Wish::Answer(answer(run, QuiescePhase::Thawed, Some(why)))]
            }
        }
    }

    /// The machine goes down: services that stop must be able to write.
    pub fn let_go(&mut self) {
        if let Some(Current { stage: Stage::Held(_), .. }) = &self.current {
            // Dropping our end of the pipe is the word.
            self.current = None;
        }
    }

    /// What to poll for.
    pub fn interest(&self) -> Option<BorrowedFd<'_>> {
        match &self.current {
            Some(Current { stage: Stage::Held(hold), .. }) => Some(hold.fd()),
            _ => None,
        }
    }

    /// The thread has something to say.
    pub fn advance(&mut self) -> Vec<Wish> {
        let Some(Current { stage: Stage::Held(hold), run, .. }) = &mut self.current else {
            return Vec::new();
        };
        let run = *run;
        let mut wishes = Vec::new();
        for news in hold.news() {
            match news {
                News::Frozen(Ok(frozen_ms)) => {
                    let frozen = QuiesceAnswer { frozen_ms, ..answer(run, QuiescePhase::Frozen, None) };
                    wishes.push(Wish::Answer(frozen));
                }
                News::Frozen(Err(why)) => wishes.extend(self.give_up(why)),
                News::Thawed { failure, frozen_ms } => {
                    if let Some(current) = &mut self.current {
                        current.answer.failure = failure;
                        current.answer.frozen_ms = frozen_ms;
                        current.commands = std::mem::take(&mut current.after);
                        current.stage = Stage::After;
                    }
                    wishes.extend(self.go_on());
                }
            }
        }
        wishes
    }

    /// A command before or after is over.
    pub fn ran(&mut self, ended: &CheckAnswer) -> Vec<Wish> {
        let Some(current) = &mut self.current else { return Vec::new() };
        if current.commands.front() != Some(&ended.name) {
            return Vec::new();
        }
        current.commands.pop_front();
        let why = ended.failure.as_ref().map(|failure| {
            let said = ended.output.trim();
            let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
            shorten(format!("`{}` {failure}{said}", ended.name), limit::REASON_BYTES)
        });
        match (&current.stage, why) {
            (Stage::Before, Some(why)) => self.give_up(why),
            (Stage::After, Some(why)) => {
                current.answer.after.get_or_insert(why);
                self.go_on()
            }
            _ => self.go_on(),
        }
    }

    /// Nothing is held, and the host hears why; the commands after follow all the same.
    fn give_up(&mut self, why: String) -> Vec<Wish> {
        let Some(current) = &mut self.current else { return Vec::new() };
        let mut wishes = vec![Wish::Answer(answer(current.run, QuiescePhase::Frozen, Some(why.clone())))];
        current.answer.failure = Some(why);
        current.commands = std::mem::take(&mut current.after);
        current.stage = Stage::After;
        wishes.extend(self.go_on());
        wishes
    }

    fn go_on(&mut self) -> Vec<Wish> {
        let Some(current) = &mut self.current else { return Vec::new() };
        if let Some(next) = current.commands.front() {
            return vec![Wish::Run(next.clone())];
        }
        match current.stage {
            Stage::Before => match Hold::begin(self.gate, current.mounts.clone(), current.hold_ms) {
                Ok(hold) => {
                    current.stage = Stage::Held(hold);
                    Vec::new()
                }
                Err(error) => self.give_up(format!("cannot begin to freeze: {error}")),
            },
            Stage::Held(_) => Vec::new(),
            Stage::After => {
                let last = current.answer.clone();
                self.current = None;
                vec![Wish::Answer(last)]
            }
        }
    }
}

/// An answer for the console.
pub fn text(answer: &QuiesceAnswer) -> String {
    match (answer.phase, &answer.failure) {
        (QuiescePhase::Frozen, None) => "volumes frozen".to_owned(),
        (QuiescePhase::Frozen, Some(why)) => format!("volumes not frozen: {why}"),
        (QuiescePhase::Thawed, None) => format!("volumes go on after {} ms", answer.frozen_ms),
        (QuiescePhase::Thawed, Some(why)) => format!("volumes go on after {} ms: {why}", answer.frozen_ms),
    }
}

fn answer(run: u64, phase: QuiescePhase, failure: Option<String>) -> QuiesceAnswer {
    let failure = failure.map(|why| shorten(why, limit::REASON_BYTES));
    QuiesceAnswer { run, phase, failure, frozen_ms: 0, after: None }
}

#[cfg(test)]
mod tests;
