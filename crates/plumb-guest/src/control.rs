//! The control port: messages to and from the host. Nothing here ever waits for the host.
//!
//! ```text
//!  events ──┐
//!  status ──┼─► line being written ─► /dev/vportNpM        (status: only the newest waits)
//!  logs  ───┘                                              (logs: the oldest are dropped and counted)
//! ```

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use plumb_guest_proto::{CONTROL_PORT, GuestMessage, HostMessage, LineReader, encode_line};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::uptime_ms;
use crate::{file, limit};

/// The guest's end of the control port.
#[derive(Debug, Default)]
pub struct Control {
    port: Option<File>,
    attached: bool,
    reader: LineReader,
    queue: Queue,
}

impl Control {
    /// A port whose first bytes are `bytes`, which another process has left.
    pub fn with_unsent(bytes: Vec<u8>) -> Control {
        Control { queue: Queue { current: bytes, ..Queue::default() }, ..Control::default() }
    }

    /// Everything that was not sent, as bytes, for the next process at the port. It begins in the middle of a message if
    /// the port took half of it.
    pub fn unsent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(rest) = self.queue.next() {
            bytes.extend_from_slice(rest);
            let count = rest.len();
            self.queue.written(count);
        }
        bytes
    }

    /// Looks for the port and opens it. Returns whether it is open now.
    pub fn open(&mut self) -> bool {
        if self.port.is_none()
            && let Some(path) = find_port()
        {
            let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
            self.port = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok();
            if let Some(port) = &self.port {
                ask_for_sigio(port);
            }
            self.probe();
        }
        self.port.is_some()
    }

    /// Queues a message and sends what the port takes.
    pub fn send(&mut self, message: &GuestMessage) {
        self.queue.push(message);
        if !self.attached {
            // During boot nobody waits for SIGIO yet, and the host may have come in between.
            self.probe();
        }
        self.flush();
    }

    /// The port, if a host is attached, and whether output waits. A port without a host always polls as hung up, so
    /// it must not be polled then.
    pub fn pollable(&self) -> Option<(BorrowedFd<'_>, bool)> {
        let port = self.port.as_ref().filter(|_| self.attached)?;
        Some((port.as_fd(), !self.queue.is_empty()))
    }

    /// Whether a host has to be looked for.
    pub fn is_detached(&self) -> bool {
        !self.attached
    }

    /// How long until [`Control::look`] is worth another try, milliseconds.
    pub fn look_again_ms(&self) -> u64 {
        if self.port.is_some() { limit::CONTROL_PROBE_MS } else { limit::CONTROL_PORT_MS }
    }

    /// Looks for the port, if it was not there yet, and for a host. Host and driver agree on a port some time after the
    /// driver is loaded; on a busy host that can be later than everything else of the boot.
    pub fn look(&mut self) {
        if self.port.is_some() {
            self.probe();
        } else {
            self.open();
        }
    }

    /// Looks whether a host is attached. On a new one the rest of a half-sent line is forgotten.
    pub fn probe(&mut self) {
        let Some(port) = &self.port else { return };
        let mut polled = [PollFd::new(port, PollFlags::IN | PollFlags::OUT)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let hung_up = match poll(&mut polled, Some(&none)) {
            Ok(_) => polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
            Err(_) => return,
        };
        if hung_up {
            self.detach();
        } else {
            self.attached = true;
        }
    }

    /// Everything the host has sent; lines that are not understood come as an error text.
    pub fn receive(&mut self) -> Vec<Result<HostMessage, String>> {
        let Some(port) = &mut self.port else { return Vec::new() };
        let mut messages = Vec::new();
        // Bounded, so that a host that never stops sending cannot keep PID 1 here.
        for _ in 0..64 {
            match self.reader.fill(port) {
                Ok(0) => {
                    self.detach();
                    break;
                }
                Ok(_) => {
                    while let Some(message) = self.reader.next_message::<HostMessage>() {
                        messages.push(message.map_err(|error| error.to_string()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.detach();
                    break;
                }
            }
        }
        messages
    }

    /// Sends what the port takes now.
    pub fn flush(&mut self) {
        let Some(port) = self.port.as_mut().filter(|_| self.attached) else { return };
        while let Some(rest) = self.queue.next() {
            match port.write(rest) {
                Ok(0) => return,
                Ok(count) => self.queue.written(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.detach(),
            }
        }
    }

    /// Waits until all is sent, at most `limit_ms`, and not at all without a host.
    pub fn drain(&mut self, limit_ms: u64) {
        let end = uptime_ms() + limit_ms;
        while self.attached && uptime_ms() < end {
            self.flush();
            if self.queue.is_empty() {
                return;
            }
            if let Some(port) = &self.port {
                let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                // Only a pause: the next write finds out what the port takes.
                let _ = poll(&mut [PollFd::new(port, PollFlags::OUT)], Some(&pause));
            }
            self.probe();
        }
    }

    fn detach(&mut self) {
        self.attached = false;
        self.reader = LineReader::new();
        self.queue.forget_half_line();
    }
}

/// The device node of the port with our name.
fn find_port() -> Option<String> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    let mut names: Vec<String> = ports.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    let is_ours = |name: &String| {
        file::read_text(format!("/sys/class/virtio-ports/{name}/name"))
            .is_ok_and(|found| found == CONTROL_PORT)
    };
    let path = names.into_iter().find(is_ours).map(|name| format!("/dev/{name}"))?;
    std::fs::exists(&path).unwrap_or(false).then_some(path)
}

/// virtio_console sends SIGIO when a host attaches or leaves; without it the port would have to be looked at often.
fn ask_for_sigio(port: &File) {
    // SAFETY: F_SETOWN, F_GETFL and F_SETFL take and return integers and touch no memory. If they fail, the probe of
    // every CONTROL_PROBE_MS remains.
    unsafe {
        libc::fcntl(port.as_raw_fd(), libc::F_SETOWN, libc::getpid());
        let flags = libc::fcntl(port.as_raw_fd(), libc::F_GETFL);
        if flags >= 0 {
            libc::fcntl(port.as_raw_fd(), libc::F_SETFL, flags | libc::O_ASYNC);
        }
    }
}

/// Messages that wait for the host.
#[derive(Debug, Default)]
struct Queue {
    current: Vec<u8>,
    offset: usize,
    events: VecDeque<Vec<u8>>,
    status: Option<Vec<u8>>,
    logs: VecDeque<Vec<u8>>,
    log_bytes: usize,
    dropped: u64,
}

impl Queue {
    fn push(&mut self, message: &GuestMessage) {
        let is_log = matches!(message, GuestMessage::Log { .. });
        let Ok(line) = encode_line(message) else {
            // Cannot happen with the limits of this crate; if it does, it is seen as a dropped line.
            self.dropped += 1;
            return;
        };
        match message {
            GuestMessage::Status(_) => self.status = Some(line),
            _ if is_log => {
                self.log_bytes += line.len();
                self.logs.push_back(line);
                while self.log_bytes > limit::LOG_QUEUE_BYTES {
                    let Some(oldest) = self.logs.pop_front() else { break };
                    self.log_bytes -= oldest.len();
                    self.dropped += 1;
                }
            }
            _ => {
                if self.events.len() >= limit::EVENT_QUEUE_LENGTH {
                    self.events.pop_front();
                }
                self.events.push_back(line);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.offset == self.current.len()
            && self.events.is_empty()
            && self.status.is_none()
            && self.logs.is_empty()
            && self.dropped == 0
    }

    /// The bytes to write next.
    fn next(&mut self) -> Option<&[u8]> {
        if self.offset == self.current.len() {
            self.offset = 0;
            self.current = self.take_line()?;
        }
        Some(&self.current[self.offset..])
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        self.current.clear();
        if let Some(line) = self.events.pop_front().or_else(|| self.status.take()) {
            return Some(line);
        }
        if self.dropped > 0 {
            let count = std::mem::take(&mut self.dropped);
            return encode_line(&GuestMessage::LogDropped { count }).ok();
        }
        let line = self.logs.pop_front()?;
        self.log_bytes -= line.len();
        Some(line)
    }

    fn written(&mut self, count: usize) {
        self.offset += count;
    }

    fn forget_half_line(&mut self) {
        if self.offset > 0 {
            self.current.clear();
            self.offset = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::{Event, Status};

    use super::*;

    fn log(line: &str) -> GuestMessage {
        GuestMessage::Log { uptime_ms: 1, service: "a".into(), line: line.into() }
    }

    fn lines(queue: &mut Queue) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(bytes) = queue.next() {
            let (text, count) = (String::from_utf8_lossy(bytes).trim().to_owned(), bytes.len());
            queue.written(count);
            seen.push(text);
        }
        seen
    }

    #[test]
    fn only_the_newest_status_waits_and_events_go_first() {
        let mut queue = Queue::default();
        queue.push(&log("x"));
        queue.push(&GuestMessage::Status(Status { uptime_ms: 1, ..Status::default() }));
        queue.push(&GuestMessage::Status(Status { uptime_ms: 2, ..Status::default() }));
        queue.push(&GuestMessage::Event { uptime_ms: 3, event: Event::Ready });
        let seen = lines(&mut queue);
        assert_eq!(seen.len(), 3);
        assert!(
            seen[0].contains("\"ready\"") && seen[1].contains("\"uptime_ms\":2") && seen[2].contains("\"x\"")
        );
        assert!(queue.is_empty());
    }

    #[test]
    fn a_flood_of_logs_is_bounded_and_counted() {
        let mut queue = Queue::default();
        let line = "y".repeat(1000);
        for _ in 0..1000 {
            queue.push(&log(&line));
        }
        assert!(queue.log_bytes <= limit::LOG_QUEUE_BYTES);
        let seen = lines(&mut queue);
        assert_eq!(seen[0], format!("{{\"type\":\"log-dropped\",\"count\":{}}}", 1000 - (seen.len() - 1)));
    }

    #[test]
    fn the_next_process_goes_on_where_the_first_stopped() {
        let mut first = Control::default();
        first.send(&log("first"));
        first.send(&GuestMessage::Event { uptime_ms: 3, event: Event::Ready });
        let whole = String::from_utf8(Control::with_unsent(first.unsent()).unsent()).expect("text");
        assert_eq!(whole.lines().count(), 2);
        assert!(first.unsent().is_empty());
        first.send(&log("second"));
        let count = first.queue.next().expect("bytes").len() - 3;
        first.queue.written(count);
        assert_eq!(first.unsent().len(), 3);
    }

    #[test]
    fn a_half_sent_line_is_forgotten_with_its_host() {
        let mut queue = Queue::default();
        queue.push(&log("first"));
        queue.push(&log("second"));
        assert!(queue.next().is_some());
        queue.written(3);
        queue.forget_half_line();
        assert!(lines(&mut queue)[0].contains("second"));
    }
}
