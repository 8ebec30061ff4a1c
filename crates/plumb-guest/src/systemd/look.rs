//! One call of systemctl(1), without waiting for it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use super::state::{self, PROPERTIES, Shown};
use crate::limit;

/// systemctl(1).
pub const PROGRAM: &str = "/usr/bin/systemctl";

/// A look at units that is under way.
#[derive(Debug)]
pub struct Look {
    child: Child,
    output: File,
    text: Vec<u8>,
    deadline: u64,
}

impl Look {
    /// Asks for these units.
    ///
    /// # Errors
    /// A sentence naming the program.
    pub fn start<'u>(now: u64, units: impl Iterator<Item = &'u str>) -> Result<Look, String> {
        let mut command = Command::new(PROGRAM);
        command.args(["show", "--no-pager", "--property", PROPERTIES, "--"]).args(units);
        let (child, output) =
            start(&mut command).map_err(|error| format!("cannot run `{PROGRAM}`: {error}"))?;
        Ok(Look { child, output, text: Vec::new(), deadline: now + limit::LOOK_TIMEOUT_MS })
    }

    /// What to poll for reading.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// When it is given up.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Reads what there is. The units once all is said; none if systemd did not answer, as in the last moments of a
    /// machine.
    pub fn advance(&mut self, now: u64) -> Option<Vec<Shown>> {
        let mut chunk = [0; 4096];
        loop {
            match self.output.read(&mut chunk) {
                Ok(0) => return Some(state::parse(&String::from_utf8_lossy(&self.text))),
                Ok(count) if self.text.len() + count <= limit::LOOK_BYTES => {
                    self.text.extend_from_slice(&chunk[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && now < self.deadline => return None,
                _ => return Some(Vec::new()),
            }
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        // It has closed its output or is given up: either way nothing more is wanted of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a program of systemd with its output in a pipe that never blocks the reader.
pub fn start(command: &mut Command) -> std::io::Result<(Child, File)> {
    command.env_clear().env("LC_ALL", "C.UTF-8").env("SYSTEMD_COLORS", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or_else(|| std::io::Error::other("it has no output"))?;
    let output = OwnedFd::from(output);
    rustix::io::ioctl_fionbio(&output, true)?;
    Ok((child, File::from(output)))
}
