//! One command of a build.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, PipeReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use plumb_guest_proto::{BuildFailure, BuildStep};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limit;
use crate::report::{Reporter, shorten};

/// The last lines of a command's output.
#[derive(Default)]
struct Output {
    lines: VecDeque<String>,
    bytes: usize,
    /// The line that has no end yet.
    open: Vec<u8>,
}

impl Output {
    fn take(&mut self, chunk: &[u8], reporter: &mut Reporter) {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let room = limit::BUILD_LINE_BYTES.saturating_sub(self.open.len());
            self.open.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line(reporter);
            }
        }
    }

    fn end_line(&mut self, reporter: &mut Reporter) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).trim_end().to_owned();
        if line.is_empty() {
            return;
        }
        reporter.log("build", line.clone());
        let line = shorten(line, limit::BUILD_LINE_BYTES);
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > limit::BUILD_OUTPUT_BYTES {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len();
        }
    }
}

/// Runs the command to its end; what it wrote goes to the console. Returns how it failed, if it did.
pub fn run(
    step: &BuildStep,
    environment: &BTreeMap<String, String>,
    reporter: &mut Reporter,
) -> Option<BuildFailure> {
    let mut output = Output::default();
    let failure = |status: String, output: Output| {
        Some(BuildFailure { step: step.name.clone(), status, output: output.lines.into() })
    };
    match execute(step, environment, reporter, &mut output) {
        Ok(status) if status.success() => None,
        Ok(status) => failure(status.to_string(), output),
        Err(error) => failure(format!("it cannot be run: {error}"), output),
    }
}

fn execute(
    step: &BuildStep,
    environment: &BTreeMap<String, String>,
    reporter: &mut Reporter,
    output: &mut Output,
) -> std::io::Result<ExitStatus> {
    let program = step.argv.first().ok_or(ErrorKind::InvalidInput)?;
    let (mut reader, writer) = std::io::pipe()?;
    let second = writer.try_clone()?;
    let mut command = Command::new(program);
    command.args(&step.argv[1..]).env_clear().envs(environment).envs(&step.environment).current_dir("/");
    command.stdin(Stdio::null()).stdout(writer).stderr(second);
    let mut child = command.spawn()?;
    drop(command);
    rustix::io::ioctl_fionbio(&reader, true)?;
    let status = watch(&mut child, &mut reader, reporter, output)?;
    if !output.open.is_empty() {
        output.end_line(reporter);
    }
    Ok(status)
}

/// Reads until the command has ended and has nothing more to say. The end of the pipe is not waited for: a daemon that
/// a script has started may keep it open for ever.
fn watch(
    child: &mut Child,
    reader: &mut PipeReader,
    reporter: &mut Reporter,
    output: &mut Output,
) -> std::io::Result<ExitStatus> {
    let mut chunk = [0; 4096];
    loop {
        let ended = child.try_wait()?;
        loop {
            match reader.read(&mut chunk) {
                Ok(0) if ended.is_none() => return child.wait(),
                Ok(0) => break,
                Ok(count) => output.take(&chunk[..count], reporter),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(status) = ended {
            return Ok(status);
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: limit::BUILD_POLL_MS * 1_000_000 };
        match poll(&mut [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)], Some(&wait)) {
            Err(errno) if errno != rustix::io::Errno::INTR => return Err(errno.into()),
            _ => {}
        }
    }
}
