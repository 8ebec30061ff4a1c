//! A readiness check of a unit, without ever waiting: over loopback, or by a command.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use plumb_guest_proto::Ready;
use rustix::event::PollFlags;

use crate::limit;
use crate::service::{Exit, Probe, Progress, describe, expand_arguments};

/// Who a readiness command runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Environment of the service.
    pub environment: BTreeMap<String, String>,
    /// User, group and other groups; `None` is whoever we are.
    pub ids: Option<(u32, u32, Vec<u32>)>,
}

/// A check that is under way.
#[derive(Debug)]
pub enum Check {
    /// Over the network.
    Network(Probe),
    /// A command, and when it has run too long.
    Command(Child, u64),
}

impl Check {
    /// Starts a check; `None` for a service that tells systemd itself.
    ///
    /// # Errors
    /// The answer when it is known at once.
    pub fn start(now: u64, ready: &Ready, around: &Surroundings) -> Result<Option<Check>, String> {
        Ok(Some(match ready {
            Ready::Tcp { port } => Check::Network(Probe::start(now, *port, None)?),
            Ready::Http { port, path } => Check::Network(Probe::start(now, *port, Some(path))?),
            Ready::Exec { command } => {
                let argv = expand_arguments(&command.argv, &around.environment);
                Check::Command(spawn(&argv, around)?, now + limit::CHECK_EXEC_TIMEOUT_MS)
            }
            Ready::Notify => return Ok(None),
        }))
    }

    /// What to poll for; a command ends with a signal.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Check::Network(probe) => Some(probe.interest()),
            Check::Command(..) => None,
        }
    }

    /// When the check is over at the latest.
    pub fn deadline(&self) -> u64 {
        match self {
            Check::Network(probe) => probe.deadline(),
            Check::Command(_, deadline) => *deadline,
        }
    }

    /// Goes on as far as possible; the verdict, once there is one.
    pub fn advance(&mut self, now: u64, is_ready: bool) -> Option<Result<(), String>> {
        match self {
            Check::Network(probe) => match probe.advance(now, is_ready) {
                Progress::Done(verdict) => Some(verdict),
                Progress::Pending => None,
            },
            Check::Command(child, deadline) => match child.try_wait() {
                Ok(Some(status)) if status.success() => Some(Ok(())),
                Ok(Some(status)) => Some(Err(format!("the check {}", describe(exit(status))))),
                Ok(None) if now < *deadline => None,
                Ok(None) => {
                    end(child);
                    Some(Err(format!("the check took longer than {} ms", limit::CHECK_EXEC_TIMEOUT_MS)))
                }
                Err(error) => Some(Err(format!("the check cannot be waited for: {error}"))),
            },
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Check::Command(child, _) = self
            && matches!(child.try_wait(), Ok(None))
        {
            end(child);
        }
    }
}

/// Kills a command with everything it has started, and collects it.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: kill takes two integers and touches no memory. The group is the command's own, and its number is not
        // used again before the command is collected.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    // After SIGKILL it is gone at once, unless it hangs in the kernel; then so does this check.
    let _ = child.wait();
}

/// How a process ended, for [`describe`].
pub fn exit(status: ExitStatus) -> Exit {
    match status.code() {
        Some(code) => Exit::Code(code),
        None => Exit::Signal(status.signal().unwrap_or_default()),
    }
}

fn spawn(argv: &[String], around: &Surroundings) -> Result<Child, String> {
    let [program, arguments @ ..] = argv else { return Err("the check has no program".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env_clear().envs(&around.environment);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Some((uid, gid, groups)) = around.ids.clone() {
        let take = move || {
            // SAFETY: the slice lives through the call; the others take integers. In this order, for the last one
            // gives the right to the first two away.
            let failed = unsafe {
                libc::setgroups(groups.len(), groups.as_ptr()) < 0
                    || libc::setgid(gid) < 0
                    || libc::setuid(uid) < 0
            };
            if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: after fork only system calls are made, nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(take) };
    }
    command.spawn().map_err(|error| format!("cannot run `{program}`: {error}"))
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::Command as Line;

    use super::*;
    use crate::clock::{uptime_ms, wait_for};

    fn verdict(argv: &[&str], now: u64) -> Result<(), String> {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let command = Line { argv, ignore_failure: false, privileged: false };
        let around = Surroundings { environment: [("WORD".to_owned(), "5".to_owned())].into(), ids: None };
        let mut check = Check::start(uptime_ms(), &Ready::Exec { command }, &around)?.expect("a check");
        wait_for(20_000, 5, || check.advance(now, false)).expect("a verdict")
    }

    #[test]
    fn commands_answer_by_their_status() {
        assert_eq!(verdict(&["/bin/sh", "-c", "exit 0"], 0), Ok(()));
        assert_eq!(
            verdict(&["/bin/sh", "-c", "exit $WORD"], 0),
            Err("the check exited with status 5".into())
        );
        assert_eq!(verdict(&["/bin/sh", "-c", "kill -9 $$$$"], 0), Err("the check killed by SIGKILL".into()));
        assert!(verdict(&["/no/such/program"], 0).is_err_and(|error| error.contains("/no/such/program")));
        let slow = verdict(&["/bin/sh", "-c", "sleep 100"], u64::MAX);
        assert!(slow.is_err_and(|error| error.contains("longer than")));
    }
}
