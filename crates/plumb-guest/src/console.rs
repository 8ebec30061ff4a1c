//! The console: what a person sees of a boot. Never blocks; what a slow serial line cannot take is dropped and counted.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::uptime_ms;
use crate::limit;

/// Output with a bounded queue in front of it.
#[derive(Debug, Default)]
pub struct Console {
    device: Option<File>,
    queue: VecDeque<u8>,
    dropped: u64,
}

impl Console {
    /// Opens `/dev/console` and makes it the standard input, output and error of PID 1. A machine without a console
    /// has a silent one.
    pub fn open() -> Console {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let open = |path: &str| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok();
        let device = open("/dev/console");
        if let Some(stdio) = device.as_ref().and_then(|d| d.try_clone().ok()).or_else(|| open("/dev/null")) {
            // A failure leaves a descriptor as it was; nothing in this program reads or writes 0, 1 and 2.
            let _ = rustix::stdio::dup2_stdin(&stdio);
            let _ = rustix::stdio::dup2_stdout(&stdio);
            let _ = rustix::stdio::dup2_stderr(&stdio);
        }
        Console { device, ..Console::default() }
    }

    /// Queues one line and writes what the device takes now.
    pub fn line(&mut self, source: &str, text: &str) {
        if self.device.is_none() {
            return;
        }
        let line = format_line(uptime_ms(), source, text);
        if self.queue.len() + line.len() > limit::CONSOLE_QUEUE_BYTES {
            self.dropped += 1;
        } else {
            self.queue.extend(line.as_bytes());
        }
        self.flush();
    }

    /// Writes what the device takes now.
    pub fn flush(&mut self) {
        let Some(device) = &mut self.device else { return };
        loop {
            if self.queue.is_empty() && self.dropped > 0 {
                let note = format!("{} console lines dropped", std::mem::take(&mut self.dropped));
                self.queue.extend(format_line(uptime_ms(), "plumb", &note).as_bytes());
            }
            let (front, _) = self.queue.as_slices();
            if front.is_empty() {
                return;
            }
            match device.write(front) {
                Ok(count) => drop(self.queue.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // A console that fails for another reason (hung up) is given up: there is nobody to tell.
                Err(_) => {
                    self.queue.clear();
                    self.device = None;
                    return;
                }
            }
        }
    }

    /// The device, if output waits for it.
    pub fn pending(&self) -> Option<BorrowedFd<'_>> {
        if self.queue.is_empty() { None } else { self.device.as_ref().map(AsFd::as_fd) }
    }

    /// Waits until all is written, at most `limit_ms`.
    pub fn drain(&mut self, limit_ms: u64) {
        let end = uptime_ms() + limit_ms;
        loop {
            self.flush();
            let Some(device) = self.pending() else { return };
            if uptime_ms() >= end {
                return;
            }
            let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            // Only a pause: the next write finds out what the device takes.
            let _ = poll(&mut [PollFd::new(&device, PollFlags::OUT)], Some(&pause));
        }
    }
}

/// `[   1.234] source: text`, with control characters made harmless for the terminal that shows it.
fn format_line(uptime_ms: u64, source: &str, text: &str) -> String {
    let mut line = format!("[{:4}.{:03}] {source}: ", uptime_ms / 1000, uptime_ms % 1000);
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_stamped_and_harmless() {
        assert_eq!(format_line(1234, "plumb", "up"), "[   1.234] plumb: up\n");
        assert_eq!(format_line(61_002, "web", "a\u{1b}[2Jb\tc"), "[  61.002] web: a\\u{1b}[2Jb\tc\n");
    }
}
