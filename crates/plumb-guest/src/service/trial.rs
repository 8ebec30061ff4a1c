//! Checks that the image declares: they run when the host asks, each in a group of its own and with limited time.
//!
//! Nothing else can be run: the host sends a name, and the command of that name is part of the verified image.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_guest_proto::{CheckAnswer, Excerpt, MAX_CHECK_OUTPUT_BYTES, ServiceSpec};
use rustix::event::PollFlags;

use super::cgroup::{Cgroup, send_signal};
use super::environment;
use super::restart::{Exit, describe};
use super::spawn::{self, Child, Surroundings, verdict};
use crate::error::Error;
use crate::report::shorten;
use crate::{limit, signal};

/// Whether processes can be put into control groups of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// PID 1 is us.
    Ours,
    /// PID 1 is systemd; a check is in the group of the agent and is ended by its session.
    Systemd,
}

/// The checks of a machine, and those under way.
#[derive(Debug)]
pub struct Trials {
    specs: Vec<ServiceSpec>,
    running: Vec<Trial>,
    groups: Groups,
    null: OwnedFd,
}

/// One check under way.
#[derive(Debug)]
struct Trial {
    run: u64,
    name: String,
    program: String,
    child: Child,
    group: Option<Cgroup>,
    output: Option<File>,
    kept: Excerpt,
    started: u64,
    limit_ms: u64,
    /// When it is killed, and when it is given up after that.
    deadline: u64,
    is_late: bool,
    exit: Option<Exit>,
}

impl Trials {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new(specs: &[ServiceSpec], groups: Groups) -> Result<Trials, Error> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = OwnedFd::from(null.map_err(Error::file("open", "/dev/null"))?);
        Ok(Trials { specs: specs.to_vec(), running: Vec::new(), groups, null })
    }

    /// Starts a check; the answer if there is one at once.
    pub fn begin(&mut self, now: u64, run: u64, name: &str) -> Option<CheckAnswer> {
        match self.start(now, run, name) {
            Ok(trial) => {
                self.running.push(trial);
                None
            }
            Err(reason) => Some(CheckAnswer {
                run,
                name: shorten(name.to_owned(), limit::REASON_BYTES),
                failure: Some(shorten(reason, limit::REASON_BYTES)),
                duration_ms: 0,
                output: String::new(),
                left_out_bytes: 0,
            }),
        }
    }

    fn start(&self, now: u64, run: u64, name: &str) -> Result<Trial, String> {
        let spec = self.specs.iter().find(|spec| spec.name == name);
        let spec = spec.ok_or("the image declares no such check")?;
        if self.running.len() >= limit::TRIALS_AT_ONCE {
            return Err(format!("{} checks run already", limit::TRIALS_AT_ONCE));
        }
        if self.running.iter().any(|trial| trial.name == name) {
            return Err("it runs already".to_owned());
        }
        let command = spec.start.first().ok_or("it has no command")?;
        let told = |error: &dyn std::fmt::Display| format!("cannot be started: {error}");
        let group = match self.groups {
            // A colon is in no service's name, so that a service `x` and a check `x` do not meet.
            Groups::Ours => Some(Cgroup::make(&format!("check:{name}"), "main").map_err(|e| told(&e))?),
            Groups::Systemd => None,
        };
        let door = match &group {
            Some(group) => group.door(),
            // Whoever joins writes a byte; here it joins nothing.
            None => OpenOptions::new().write(true).open("/dev/null"),
        };
        let door = door.map_err(|error| told(&error))?;
        let (reader, writer) = std::io::pipe().map_err(|error| told(&error))?;
        rustix::io::ioctl_fionbio(&reader, true).map_err(|error| told(&error))?;
        let environment = environment::of(spec)?;
        let around = Surroundings {
            spec,
            environment: &environment,
            door: &door,
            input: self.null.as_fd(),
            output: writer.as_fd(),
        };
        Ok(Trial {
            run,
            name: name.to_owned(),
            program: command.argv.first().cloned().unwrap_or_default(),
            child: spawn::start(command, &around)?,
            group,
            output: Some(File::from(OwnedFd::from(reader))),
            kept: Excerpt::new(MAX_CHECK_OUTPUT_BYTES),
            started: now,
            limit_ms: spec.start_timeout_ms,
            deadline: now.saturating_add(spec.start_timeout_ms),
            is_late: false,
            exit: None,
        })
    }

    /// What to poll for.
    pub fn interests(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>, PollFlags)> {
        self.running
            .iter()
            .enumerate()
            .filter_map(|(index, trial)| Some((index, trial.output.as_ref()?.as_fd(), PollFlags::IN)))
    }

    /// When [`Trials::finish`] is wanted at the latest.
    pub fn next_tick(&self) -> Option<u64> {
        self.running.iter().map(|trial| trial.deadline).min()
    }

    /// Takes what a check wrote, so much that others get their turn.
    pub fn read(&mut self, index: usize) {
        if let Some(trial) = self.running.get_mut(index) {
            trial.read();
        }
    }

    /// A process has ended. Returns whether it was a check.
    pub fn ended(&mut self, pid: u32, exit: Exit) -> bool {
        let trial = self.running.iter_mut().find(|trial| trial.child.pid == pid && trial.exit.is_none());
        trial.map(|trial| trial.exit = Some(exit)).is_some()
    }

    /// Collects checks that have ended, where nobody else collects processes.
    pub fn collect(&mut self) {
        for trial in self.running.iter_mut().filter(|trial| trial.exit.is_none()) {
            trial.exit = signal::reap_one(trial.child.pid);
        }
    }

    /// Ends those that take too long; the answers of all that are over.
    pub fn finish(&mut self, now: u64) -> Vec<CheckAnswer> {
        let mut answers = Vec::new();
        self.running.retain_mut(|trial| match trial.finish(now) {
            Some(answer) => {
                answers.push(answer);
                false
            }
            None => true,
        });
        answers
    }
}

impl Trial {
    fn read(&mut self) {
        let mut chunk = [0; 4096];
        for _ in 0..limit::OUTPUT_BYTES_PER_TURN / chunk.len() {
            let Some(output) = &mut self.output else { return };
            match output.read(&mut chunk) {
                // Everybody who could write has gone.
                Ok(0) => self.output = None,
                Ok(count) => self.kept.push(&chunk[..count]),
                // Would block: nothing more for now.
                Err(_) => return,
            }
        }
    }

    /// Kills it with everything it has started.
    fn kill(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
        if let Ok(session) = i32::try_from(self.child.pid) {
            // SAFETY: kill takes two integers and touches no memory. The child leads a group of its own since it began,
            // and its number is not used again before it is collected; a group without processes is no error here.
            unsafe { libc::kill(-session, libc::SIGKILL) };
            send_signal(self.child.pid, libc::SIGKILL);
        }
    }

    fn finish(&mut self, now: u64) -> Option<CheckAnswer> {
        let is_due = now >= self.deadline;
        let failure = match self.exit {
            Some(exit) => self.why(exit),
            None if is_due && !self.is_late => {
                self.kill();
                self.is_late = true;
                self.deadline = now + limit::KILL_WAIT_MS;
                return None;
            }
            // It hangs in the kernel.
            None if is_due => Some(self.too_late()),
            None => return None,
        };
        if let Some(group) = &self.group {
            // What it left behind belongs to the check, not to the machine.
            group.kill();
        }
        self.read();
        let (output, left_out_bytes) = self.kept.text();
        Some(CheckAnswer {
            run: self.run,
            name: self.name.clone(),
            failure: failure.map(|reason| shorten(reason, limit::REASON_BYTES)),
            duration_ms: now.saturating_sub(self.started),
            output,
            left_out_bytes,
        })
    }

    fn why(&mut self, exit: Exit) -> Option<String> {
        match verdict(&mut self.child.exec, &self.program) {
            Some(Err(reason)) => Some(reason),
            _ if self.is_late => Some(self.too_late()),
            _ if exit == Exit::Code(0) => None,
            _ => Some(describe(exit)),
        }
    }

    fn too_late(&self) -> String {
        format!("took longer than {} ms", self.limit_ms)
    }
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::{Command, Limit};

    use super::*;
    use crate::clock::{uptime_ms, wait_for};
    use crate::service::test_spec;

    fn declared(name: &str, script: &str, start_timeout_ms: u64) -> ServiceSpec {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let start = vec![Command { argv, ignore_failure: false, privileged: false }];
        // SAFETY: both take nothing and always succeed.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        ServiceSpec {
            name: name.into(),
            start,
            start_timeout_ms,
            uid,
            gid,
            capability_bounding: u64::MAX,
            // Below whatever the host allows.
            limits: [("nofile".to_owned(), Limit { soft: Some(64), hard: Some(64) })].into(),
            ..test_spec()
        }
    }

    /// The answer to one check of `specs`.
    fn answer(specs: &[ServiceSpec], name: &str) -> CheckAnswer {
        let mut trials = Trials::new(specs, Groups::Systemd).expect("made");
        if let Some(answer) = trials.begin(uptime_ms(), 7, name) {
            return answer;
        }
        wait_for(30_000, 2, || {
            (0..trials.interests().count()).for_each(|index| trials.read(index));
            trials.collect();
            trials.finish(uptime_ms()).pop()
        })
        .expect("an answer")
    }

    fn is_root() -> bool {
        // SAFETY: geteuid takes nothing and always succeeds.
        unsafe { libc::geteuid() == 0 }
    }

    #[test]
    fn a_check_answers_with_its_output() {
        if !is_root() {
            // Groups of a process are given by root only.
            return;
        }
        let specs = [
            declared("good", "echo one; echo two >&2", 20_000),
            declared("bad", "echo why; exit 3", 20_000),
            declared("slow", "echo begun; sleep 100 & sleep 100", 300),
            declared("loud", "i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done", 20_000),
        ];
        let good = answer(&specs, "good");
        assert_eq!((good.run, good.failure, good.output.as_str()), (7, None, "one\ntwo\n"));
        let bad = answer(&specs, "bad");
        assert_eq!((bad.failure.as_deref(), bad.output.as_str()), (Some("exited with status 3"), "why\n"));
        let slow = answer(&specs, "slow");
        assert_eq!(
            (slow.failure.as_deref(), slow.output.as_str()),
            (Some("took longer than 300 ms"), "begun\n")
        );
        let loud = answer(&specs, "loud");
        assert_eq!(loud.failure, None);
        assert_eq!(loud.left_out_bytes, 33_000 - MAX_CHECK_OUTPUT_BYTES as u64);
    }

    #[test]
    fn nothing_else_is_run() {
        let specs = [declared("good", "exit 0", 1000)];
        let failure = answer(&specs, "/bin/sh").failure;
        assert_eq!(failure.as_deref(), Some("the image declares no such check"));
        let mut trials = Trials::new(&[], Groups::Systemd).expect("made");
        assert!(trials.begin(0, 1, "good").is_some());
        assert!(trials.next_tick().is_none());
    }

    #[test]
    fn the_same_check_runs_once_at_a_time() {
        let specs = [declared("slow", "sleep 100", 20_000)];
        let mut trials = Trials::new(&specs, Groups::Systemd).expect("made");
        assert!(trials.begin(uptime_ms(), 1, "slow").is_none());
        let second = trials.begin(uptime_ms(), 2, "slow").expect("refused");
        assert_eq!(second.failure.as_deref(), Some("it runs already"));
        trials.running[0].kill();
        wait_for(30_000, 2, || {
            trials.collect();
            trials.finish(uptime_ms()).pop()
        })
        .expect("it ended");
    }
}
