//! A program of the user's on this host, with limited time and output: it is no instance, but a client of some.
//!
//! It ends with the program that started it, however that ends. When it ends, what it started and left in its process group
//! is ended, too; what began a session of its own, and what a killed parent leaves, is not found.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plumb_guest_proto::Excerpt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::clock::pause;
use crate::file;

/// Output of a program that is kept: some hundred lines, which is what somebody reads of a failed check.
pub const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// Reads of what is left in the pipe of a program that has ended: sixteen times what a pipe holds (pipe(7)).
const DRAIN: usize = 64;

/// How soon the end of a program, its limit or the caller's "no more" is seen.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The same while it has closed its output and nothing can be waited for.
const REST: Duration = Duration::from_millis(50);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// Program and arguments; a name with a slash is below `folder`, any other is looked for in the environment's `PATH`.
    pub argv: &'a [String],
    /// Its working directory.
    pub folder: &'a Path,
    /// Its whole environment.
    pub environment: &'a BTreeMap<String, String>,
    /// It is killed after this time.
    pub limit: Duration,
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub enum ProgramEnd {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It was killed because it took too long.
    Late,
    /// The caller did not want to wait any longer.
    Cancelled,
    /// It could not be started.
    NotStarted(String),
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub struct ProgramOutcome {
    /// Its end.
    pub end: ProgramEnd,
    /// What it wrote, both outputs in order, safe to print.
    pub output: String,
    /// Bytes left out of the middle.
    pub left_out_bytes: u64,
}

/// Runs a program to its end, at most `limit`; as long as `goes_on` says so.
pub fn run(program: &Program<'_>, goes_on: &dyn Fn() -> bool) -> ProgramOutcome {
    let mut kept = Excerpt::new(MAX_OUTPUT_BYTES);
    let end = match start(program) {
        Ok((child, output)) => {
            Running { child, output: Some(output), kept: &mut kept }.wait(program, goes_on)
        }
        Err(error) => ProgramEnd::NotStarted(error.to_string()),
    };
    let (output, left_out_bytes) = kept.text();
    ProgramOutcome { end, output: file::plain_lines(&output), left_out_bytes }
}

fn start(program: &Program<'_>) -> io::Result<(Child, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let name = program.argv.first().ok_or(io::ErrorKind::InvalidInput)?;
    let place = if name.contains('/') { program.folder.join(name) } else { PathBuf::from(name) };
    let mut command = Command::new(place);
    command
        .args(&program.argv[1..])
        .current_dir(program.folder)
        .env_clear()
        .envs(program.environment)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only prctl(2) and getppid(2) are called, bare system calls that are
    // async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        });
    }
    Ok((command.spawn()?, OwnedFd::from(reader)))
}

struct Running<'k> {
    child: Child,
    output: Option<OwnedFd>,
    kept: &'k mut Excerpt,
}

impl Running<'_> {
    fn wait(mut self, program: &Program<'_>, goes_on: &dyn Fn() -> bool) -> ProgramEnd {
        let end = Instant::now() + program.limit;
        let stopped = loop {
            self.read();
            match self.has_ended() {
                Ok(true) => break None,
                Ok(false) if !goes_on() => break Some(ProgramEnd::Cancelled),
                Ok(false) if Instant::now() >= end => break Some(ProgramEnd::Late),
                Ok(false) => {}
                Err(error) => break Some(ProgramEnd::NotStarted(error.to_string())),
            }
        };
        // Before it is collected its number is nobody else's, and what it left behind must not outlive the check.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // Fails only if nothing of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = self.child.wait();
        // Its last words are in the pipe. A process that escaped may go on writing: not for ever.
        for _ in 0..DRAIN {
            if !self.read() {
                break;
            }
        }
        stopped.unwrap_or_else(|| match status.map(|status| (status.code(), status.signal())) {
            Ok((Some(code), _)) => ProgramEnd::Exited(code),
            Ok((None, signal)) => ProgramEnd::Killed(signal.unwrap_or_default()),
            Err(error) => ProgramEnd::NotStarted(error.to_string()),
        })
    }

    /// Leaves it uncollected.
    fn has_ended(&self) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) else { return Ok(true) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(pid), options)?.is_some())
    }

    /// Takes what is there, waiting a moment if nothing is. Was there something?
    fn read(&mut self) -> bool {
        let Some(output) = &self.output else {
            pause(REST);
            return false;
        };
        // An interrupted poll is followed by a read that finds nothing.
        let _ = poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&TICK));
        let mut chunk = [0; 16 * 1024];
        match rustix::io::read(output, &mut chunk) {
            Ok(0) => self.output = None,
            Ok(count) => {
                self.kept.push(&chunk[..count]);
                return true;
            }
            Err(_would_block) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, limit: Duration, goes_on: bool) -> (ProgramEnd, String) {
        let folder = tempfile::tempdir().unwrap();
        let argv = ["sh", "-c", script].map(str::to_owned);
        let environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("PLUMB_WEB_80".to_owned(), "127.0.0.1:1".to_owned()),
        ]);
        let program = Program { argv: &argv, folder: folder.path(), environment: &environment, limit };
        let outcome = run(&program, &|| goes_on);
        (outcome.end, outcome.output)
    }

    #[test]
    fn a_program_and_its_output() {
        let long = Duration::from_secs(60);
        let (end, output) = check("echo $PLUMB_WEB_80; echo two >&2; exit 3", long, true);
        assert_eq!((end, output.as_str()), (ProgramEnd::Exited(3), "127.0.0.1:1\ntwo\n"));
        assert_eq!(check("kill -9 $$", long, true).0, ProgramEnd::Killed(9));
        assert_eq!(check("echo '\u{1b}[2J'", long, true).1, "\u{fffd}[2J\n");
        // The end of much output is where the reason stands.
        let (end, output) = check("head -c 60000 /dev/zero | tr '\\0' x; echo; echo END; exit 1", long, true);
        assert_eq!((end, output.ends_with("END\n")), (ProgramEnd::Exited(1), true));
        // What stays in the background does not keep the check from its end.
        assert_eq!(check("sleep 1000 & exit 0", long, true).0, ProgramEnd::Exited(0));
        // Nor does an output that was closed.
        assert_eq!(check("exec >&- 2>&-; sleep 0.2", long, true).0, ProgramEnd::Exited(0));
    }

    #[test]
    fn one_that_takes_too_long_is_killed_with_all_it_started() {
        let (end, output) = check("echo begun; sleep 1000 & sleep 1000", Duration::from_millis(300), true);
        assert_eq!((end, output.as_str()), (ProgramEnd::Late, "begun\n"));
        assert_eq!(check("sleep 1000", Duration::from_secs(60), false).0, ProgramEnd::Cancelled);
    }

    #[test]
    fn one_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let argv = ["checks/none".to_owned()];
        let environment = BTreeMap::new();
        let limit = Duration::from_secs(60);
        let program = Program { argv: &argv, folder: folder.path(), environment: &environment, limit };
        assert!(matches!(run(&program, &|| true).end, ProgramEnd::NotStarted(_)));
    }
}
