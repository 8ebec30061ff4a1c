//! Bytes both ways between a client and one backend, until both directions are closed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of a request that are kept until the backend answers, so that another backend can be asked.
pub(crate) const MAX_REPLAY_BYTES: usize = 64 * 1024;

/// Bytes on their way in one direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long one direction may stay silent once the other is closed. A peer that got the end of the answer and does not
/// close would hold its thread for ever.
const LINGER: Timespec = Timespec { tv_sec: 300, tv_nsec: 0 };

/// How a connection to a backend ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered, or nothing more can be done.
    Done,
    /// The backend closed before it answered one byte, and the whole request is still at hand.
    NoAnswer,
}

/// One direction.
struct Flow {
    buffer: Vec<u8>,
    head: usize,
    tail: usize,
    ended: bool,
    shut: bool,
}

impl Flow {
    fn new(first: &[u8]) -> Flow {
        let mut buffer = vec![0; BUFFER_BYTES.max(first.len())];
        buffer[..first.len()].copy_from_slice(first);
        Flow { buffer, head: 0, tail: first.len(), ended: false, shut: false }
    }

    fn wants_read(&self) -> bool {
        !self.ended && self.tail < self.buffer.len()
    }

    fn wants_write(&self) -> bool {
        self.head < self.tail
    }

    /// Reads once; returns where the new bytes are.
    fn read(&mut self, mut from: &TcpStream) -> io::Result<std::ops::Range<usize>> {
        let start = self.tail;
        match from.read(&mut self.buffer[start..]) {
            Ok(0) => self.ended = true,
            Ok(count) => self.tail += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(start..self.tail)
    }

    /// Writes once; passes on the end of the stream when all is written.
    fn write(&mut self, mut to: &TcpStream) -> io::Result<()> {
        if self.wants_write() {
            match to.write(&self.buffer[self.head..self.tail]) {
                Ok(count) => self.head += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        if self.head == self.tail {
            (self.head, self.tail) = (0, 0);
            if self.ended && !self.shut {
                self.shut = true;
                to.shutdown(Shutdown::Write)?;
            }
        }
        Ok(())
    }
}

/// Relays until both directions have ended. `replay` holds what the client has sent so far and grows until the backend
/// answers; `client` is non-blocking.
///
/// # Errors
/// A failure of the client's side, or of the backend's after it has answered.
pub(crate) fn relay(client: &TcpStream, backend: &TcpStream, replay: &mut Vec<u8>) -> io::Result<Outcome> {
    backend.set_nonblocking(true)?;
    backend.set_nodelay(true)?;
    let mut up = Flow::new(replay);
    let mut down = Flow::new(&[]);
    let mut answered = false;
    let mut replayable = true;
    loop {
        wait(client, backend, &up, &down)?;
        if up.wants_read() {
            let fresh = up.read(client)?;
            if !answered && replayable {
                replayable = replay.len() + fresh.len() <= MAX_REPLAY_BYTES;
                if replayable {
                    replay.extend_from_slice(&up.buffer[fresh]);
                }
            }
        }
        let backend_side = up.write(backend).and_then(|()| {
            if down.wants_read() { down.read(backend).map(|fresh| !fresh.is_empty()) } else { Ok(false) }
        });
        match backend_side {
            Ok(fresh) => answered |= fresh,
            Err(_) if !answered && replayable => return Ok(Outcome::NoAnswer),
            Err(error) => return Err(error),
        }
        if down.ended && !answered && replayable && !(up.ended && replay.is_empty()) {
            return Ok(Outcome::NoAnswer);
        }
        down.write(client)?;
        if up.shut && down.shut {
            return Ok(Outcome::Done);
        }
    }
}

fn wait(client: &TcpStream, backend: &TcpStream, up: &Flow, down: &Flow) -> io::Result<()> {
    let flags = |read: bool, write: bool| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, read);
        flags.set(PollFlags::OUT, write);
        flags
    };
    let client_flags = flags(up.wants_read(), down.wants_write());
    let backend_flags = flags(down.wants_read(), up.wants_write());
    let mut both = Vec::with_capacity(2);
    // poll reports a hang-up whatever is asked, so a side that nothing is expected from must not be in the list.
    if !client_flags.is_empty() {
        both.push(PollFd::new(client, client_flags));
    }
    if !backend_flags.is_empty() {
        both.push(PollFd::new(backend, backend_flags));
    }
    let limit = (up.ended || down.ended).then_some(&LINGER);
    match poll(&mut both, limit) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
