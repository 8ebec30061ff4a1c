//! The real side of one service: its control groups, pipe, sockets and processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plumb_guest_proto::{Command, Ready, ServiceKind, ServiceSpec};
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};

use super::cgroup::{Cgroup, send_signal};
use super::check::Probe;
use super::event::{Input, Role, Target};
use super::line::Splitter;
use super::notify::NotifySocket;
use super::restart::Exit;
use super::spawn::{Child, Surroundings};
use super::{directory, environment, spawn};
use crate::error::Error;
use crate::{file, limit};

/// A readiness check that is under way.
#[derive(Debug)]
pub enum Check {
    /// Over the network.
    Network(Probe),
    /// A command, and when it has run too long.
    Command {
        /// The last moment.
        deadline: u64,
    },
}

/// A child whose execve is not known yet.
#[derive(Debug)]
pub struct Pending {
    /// In which role it was started.
    pub role: Role,
    /// The program, for messages.
    pub program: String,
    /// Process and pipe.
    pub child: Child,
}

/// One service.
#[derive(Debug)]
pub struct Slot {
    /// What it is made from.
    pub spec: ServiceSpec,
    /// The group of the service.
    pub group: Cgroup,
    check_group: Cgroup,
    output: File,
    output_end: OwnedFd,
    splitter: Splitter,
    /// Where it says READY=1, if it is expected to.
    pub notify: Option<NotifySocket>,
    environment: BTreeMap<String, String>,
    /// Main process.
    pub main: Option<u32>,
    /// Running command.
    pub control: Option<u32>,
    /// Children between fork and execve.
    pub pending: Vec<Pending>,
    /// Running check.
    pub check: Option<Check>,
    /// Process of a running or cancelled readiness command.
    pub check_pid: Option<u32>,
    /// The host knows how long its first start took.
    pub was_timed: bool,
}

impl Slot {
    /// Makes control groups, pipe and socket.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::System`].
    pub fn make(spec: &ServiceSpec) -> Result<Slot, Error> {
        let (reader, writer) = std::io::pipe().map_err(Error::system("make a pipe"))?;
        let (output, output_end) = (OwnedFd::from(reader), OwnedFd::from(writer));
        rustix::io::ioctl_fionbio(&output, true).map_err(|e| Error::system("make a pipe")(e.into()))?;
        // A program that opens /dev/stderr by name needs the permission to, also one that has given root up since it
        // started (squid). Nobody else can: the only way to the pipe is /proc/PID/fd of its own processes.
        fchown(&output_end, Some(Uid::from_raw(spec.uid)), Some(Gid::from_raw(spec.gid)))
            .and_then(|()| fchmod(&output_end, Mode::from_raw_mode(0o666)))
            .map_err(|e| Error::system("give a pipe to a service")(e.into()))?;
        let notifies = spec.kind == ServiceKind::Notify || spec.ready == Some(Ready::Notify);
        let notify = if notifies {
            let socket = NotifySocket::make(&spec.name, spec.uid);
            Some(socket.map_err(Error::file("make", format!("/run/plumb/notify/{}", spec.name)))?)
        } else {
            None
        };
        Ok(Slot {
            group: Cgroup::make(&spec.name, "main")?,
            check_group: Cgroup::make(&spec.name, "check")?,
            spec: spec.clone(),
            output: File::from(output),
            output_end,
            splitter: Splitter::default(),
            notify,
            environment: BTreeMap::new(),
            main: None,
            control: None,
            pending: Vec::new(),
            check: None,
            check_pid: None,
            was_timed: false,
        })
    }

    /// Before a run: directories, and the environment with its files read anew.
    ///
    /// # Errors
    /// A sentence naming the directory or the file.
    pub fn begin(&mut self) -> Result<(), String> {
        self.main = None;
        self.control = None;
        self.environment = environment::of(&self.spec)?;
        if let Some(socket) = &self.notify {
            self.environment.insert("NOTIFY_SOCKET".to_owned(), socket.path());
        }
        self.spec.directories.iter().try_for_each(directory::make)
    }

    /// Starts a command in a role.
    ///
    /// # Errors
    /// A sentence naming the program.
    pub fn run(&mut self, command: &Command, role: Role, null: BorrowedFd) -> Result<u32, String> {
        match self.main {
            Some(pid) => self.environment.insert("MAINPID".to_owned(), pid.to_string()),
            None => self.environment.remove("MAINPID"),
        };
        let group = if role == Role::Check { &self.check_group } else { &self.group };
        let door = group.door().map_err(|error| format!("cannot open its control group: {error}"))?;
        let around = Surroundings {
            spec: &self.spec,
            environment: &self.environment,
            door: &door,
            input: null,
            output: self.output_end.as_fd(),
        };
        let child = spawn::start(command, &around)?;
        let pid = child.pid;
        match role {
            Role::Main => self.main = Some(pid),
            Role::Control => self.control = Some(pid),
            Role::Check => self.check_pid = Some(pid),
        }
        let program = command.argv.first().cloned().unwrap_or_default();
        self.pending.push(Pending { role, program, child });
        Ok(pid)
    }

    /// The pipe with the service's output.
    pub fn output_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Lines that the service wrote, at most so much that the other services get their turn.
    pub fn read_output(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut chunk = [0; 4096];
        for _ in 0..limit::OUTPUT_BYTES_PER_TURN / chunk.len() {
            match self.output.read(&mut chunk) {
                Ok(count) if count > 0 => lines.extend(self.splitter.push(&chunk[..count])),
                // Would block: nothing more. The pipe never ends, for we hold its other end too.
                _ => break,
            }
        }
        lines
    }

    /// What is left of an unfinished line after the last process.
    pub fn last_line(&mut self) -> Option<String> {
        self.splitter.finish()
    }

    /// Sends a signal; to a single process only while it belongs to the service, for numbers are used again.
    pub fn signal(&self, target: Target, signal: i32) {
        let single = match target {
            Target::Main => self.main,
            Target::Control => self.control,
            Target::Group => return self.group.signal(signal),
        };
        if let Some(pid) = single.filter(|pid| self.group.processes().contains(pid)) {
            send_signal(pid, signal);
        }
    }

    /// The process has ended. Returns whether it was the main process or the command of the present run.
    pub fn forget(&mut self, pid: u32) -> bool {
        let [main, control] =
            [&mut self.main, &mut self.control].map(|known| known.take_if(|p| *p == pid).is_some());
        main || control
    }

    /// After the main process of a forking service ended: the process that took its place, if there is one. Daemons
    /// fork twice and replace themselves on upgrades; systemd looks into the PID file again for the same reason.
    pub fn successor(&mut self, exit: Exit) -> Option<u32> {
        let moves_on =
            self.spec.kind == ServiceKind::Forking && (self.spec.pid_file.is_some() || exit == Exit::Code(0));
        if moves_on && self.find_main() == Input::MainFound { self.main } else { None }
    }

    /// Forgets a running check and kills its command.
    pub fn cancel_check(&mut self) {
        self.check = None;
        if self.check_pid.is_some() {
            self.check_group.kill();
        }
    }

    /// The main process of a forking service: from its PID file, or the process that was left to us.
    pub fn find_main(&mut self) -> Input {
        let members = self.group.processes();
        if let Some(path) = &self.spec.pid_file {
            let pid = match file::read_text(path) {
                Ok(text) => text.parse::<u32>().ok(),
                Err(error) => return Input::MainUnknown(format!("cannot read `{path}`: {error}")),
            };
            // A stale or hostile file must not make us signal somebody else's process.
            let Some(pid) = pid.filter(|pid| members.contains(pid)) else {
                return Input::MainUnknown(format!("`{path}` names no process of the service"));
            };
            self.main = Some(pid);
            // A process whose parent still lives is not reaped by us: then the whole group is watched instead.
            if parent_of(pid) == Some(1) {
                return Input::MainFound;
            }
            return Input::MainNone;
        }
        let mut orphans = members.into_iter().filter(|pid| parent_of(*pid) == Some(1));
        match (orphans.next(), orphans.next()) {
            (Some(pid), None) => {
                self.main = Some(pid);
                Input::MainFound
            }
            (None, _) if self.group.is_empty() => {
                Input::NotStarted(Role::Main, "it left no process behind".to_owned())
            }
            _ => Input::MainNone,
        }
    }
}

/// `PPid:` of /proc/PID/status.
fn parent_of(pid: u32) -> Option<u32> {
    let status = file::read_text(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}
