//! Signals and the end of processes, for the one thread there is.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

use crate::error::Error;
use crate::service::Exit;

/// Signals arrive here instead of interrupting anything (signalfd(2)).
#[derive(Debug)]
pub struct Signals {
    file: File,
}

const SIGNALS: [libc::c_int; 5] = [libc::SIGCHLD, libc::SIGIO, libc::SIGTERM, libc::SIGINT, libc::SIGPWR];

impl Signals {
    /// Blocks the signals that matter and opens the descriptor for them.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn open() -> Result<Signals, Error> {
        // SAFETY: `set` is initialised by sigemptyset before use and lives through the calls; the descriptor that
        // signalfd returns is owned by nobody else.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in SIGNALS {
                libc::sigaddset(&raw mut set, signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
                return Err(Error::system("block signals")(io::Error::last_os_error()));
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(Error::system("open a signal descriptor")(io::Error::last_os_error()));
            }
            Ok(Signals { file: File::from_raw_fd(fd) })
        }
    }

    /// The numbers of the signals that came since the last call.
    pub fn take(&mut self) -> Vec<i32> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut numbers = Vec::new();
        let mut bytes = [0; SIZE * 8];
        // ssi_signo is the first field, a u32.
        while let Ok(count) = self.file.read(&mut bytes) {
            for info in bytes[..count].chunks_exact(SIZE) {
                numbers.push(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]));
            }
            if count < bytes.len() {
                break;
            }
        }
        numbers
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// One child that has ended, if there is one.
pub fn reap() -> Option<(u32, Exit)> {
    wait(-1)
}

/// How this child has ended, if it has.
pub fn reap_one(pid: u32) -> Option<Exit> {
    wait(i32::try_from(pid).ok()?).map(|(_, exit)| exit)
}

fn wait(child: i32) -> Option<(u32, Exit)> {
    loop {
        let mut status = 0;
        // SAFETY: `status` lives through the call.
        let pid = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if pid < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
        if libc::WIFEXITED(status) {
            return Some((pid, Exit::Code(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            return Some((pid, Exit::Signal(libc::WTERMSIG(status))));
        }
    }
}

/// Whether any child is left, ended or not.
pub fn has_children() -> bool {
    // SAFETY: siginfo_t is plain C data; WNOWAIT leaves the child to be reaped by `reap`.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0
    }
}

/// SIGKILL to every process but PID 1 and kernel threads.
pub fn kill_everyone() {
    // SAFETY: kill takes two integers and touches no memory.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}
