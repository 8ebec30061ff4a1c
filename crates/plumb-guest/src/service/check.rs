//! Readiness checks over loopback, without ever waiting: a socket is polled by the main loop.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};

use crate::limit;

/// The pause between two checks grows with the time since the start, so that waiting for the next check adds at most a
/// tenth to the start.
pub fn pause_ms(since_start_ms: u64) -> u64 {
    (since_start_ms / 10).clamp(limit::CHECK_FIRST_MS, limit::CHECK_LAST_MS)
}

/// A running network check.
#[derive(Debug)]
pub struct Probe {
    socket: OwnedFd,
    deadline: u64,
    connected: bool,
    /// What is left of an HTTP request; `None` for plain TCP.
    request: Option<Vec<u8>>,
    answer: Vec<u8>,
}

/// Why there is no verdict yet, or the verdict.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Ask again when the socket is ready.
    Pending,
    /// The check is over.
    Done(Result<(), String>),
}

impl Probe {
    /// Begins a TCP check, or an HTTP check if there is a path.
    ///
    /// # Errors
    /// The answer when it is known at once, for example `connection refused`.
    pub fn start(now: u64, port: u16, path: Option<&str>) -> Result<Probe, String> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).map_err(answer)?;
        let connected = match connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(errno) => return Err(answer(errno)),
        };
        let request = path.map(|path| {
            format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: plumb\r\nAccept: */*\r\nConnection: close\r\n\r\n")
                .into_bytes()
        });
        Ok(Probe { socket, deadline: now + limit::CHECK_TIMEOUT_MS, connected, request, answer: Vec::new() })
    }

    /// What to poll for.
    pub fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        let sending = !self.connected || self.request.as_ref().is_some_and(|rest| !rest.is_empty());
        (self.socket.as_fd(), if sending { PollFlags::OUT } else { PollFlags::IN })
    }

    /// When the check is over at the latest.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Goes on as far as possible.
    pub fn advance(&mut self, now: u64, is_ready: bool) -> Progress {
        let result = if is_ready || self.connected { self.go_on() } else { Ok(false) };
        match result {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Progress::Done(Err(answer(errno))),
            Ok(true) if self.request.is_none() => return Progress::Done(Ok(())),
            Ok(true) => return Progress::Done(http_verdict(&self.answer, true).unwrap_or(Ok(()))),
            Ok(false) => {}
        }
        if now >= self.deadline {
            return Progress::Done(Err(format!("no answer within {} ms", limit::CHECK_TIMEOUT_MS)));
        }
        Progress::Pending
    }

    /// Returns whether the check is over.
    fn go_on(&mut self) -> Result<bool, Errno> {
        if !self.connected {
            sockopt::socket_error(&self.socket)??;
            self.connected = true;
        }
        let Some(request) = &mut self.request else { return Ok(true) };
        while !request.is_empty() {
            let count = send(&self.socket, request, SendFlags::NOSIGNAL)?;
            request.drain(..count);
        }
        let mut chunk = [0; 512];
        loop {
            let (count, _) = recv(&self.socket, &mut chunk[..], RecvFlags::empty())?;
            self.answer.extend_from_slice(&chunk[..count]);
            if count == 0 || http_verdict(&self.answer, false).is_some() {
                return Ok(true);
            }
        }
    }
}

/// The verdict of an answer, as soon as its status line is there (RFC 9112 section 4): 200 to 399 is ready.
fn http_verdict(answer: &[u8], complete: bool) -> Option<Result<(), String>> {
    let line = match answer.iter().position(|byte| *byte == b'\n') {
        Some(end) => &answer[..end],
        None if complete || answer.len() >= limit::HTTP_ANSWER_BYTES => answer,
        None => return None,
    };
    if line.is_empty() {
        return Some(Err("the connection was closed without an answer".to_owned()));
    }
    let status = line
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| rest.get(1..))
        .and_then(|rest| rest.strip_prefix(b" "))
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u16>().ok());
    Some(match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("HTTP status {status}")),
        None => Err("the answer is not HTTP".to_owned()),
    })
}

/// An errno as a short answer, `connection refused` without number.
fn answer(errno: Errno) -> String {
    match errno {
        Errno::CONNREFUSED => "connection refused".to_owned(),
        Errno::CONNRESET | Errno::PIPE => "connection closed".to_owned(),
        other => io::Error::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use rustix::event::{PollFd, poll};

    use super::*;

    #[test]
    fn status_lines() {
        let verdict = |text: &str| http_verdict(text.as_bytes(), false);
        assert_eq!(verdict("HTTP/1.1 200 OK\r\n"), Some(Ok(())));
        assert_eq!(verdict("HTTP/1.0 302\n"), Some(Ok(())));
        assert_eq!(verdict("HTTP/1.1 503 Nope\r\n"), Some(Err("HTTP status 503".into())));
        assert_eq!(verdict("HTTP/1.1 100 Continue\r\n"), Some(Err("HTTP status 100".into())));
        assert_eq!(verdict("HTTP/1.1 20"), None);
        assert_eq!(verdict("SSH-2.0-x\r\n"), Some(Err("the answer is not HTTP".into())));
        assert_eq!(http_verdict(b"", true), Some(Err("the connection was closed without an answer".into())));
        assert_eq!(http_verdict(b"HTTP/1.1 200", true), Some(Ok(())));
        assert!(http_verdict(&[b'x'; limit::HTTP_ANSWER_BYTES], false).is_some());
    }

    fn finish(mut probe: Probe) -> Result<(), String> {
        for _ in 0..100 {
            let ready = {
                let (fd, flags) = probe.interest();
                let mut polled = [PollFd::from_borrowed_fd(fd, flags)];
                let limit = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
                poll(&mut polled, Some(&limit)).expect("poll") > 0
            };
            if let Progress::Done(verdict) = probe.advance(0, ready) {
                return verdict;
            }
        }
        panic!("no verdict");
    }

    #[test]
    fn against_a_real_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        assert_eq!(finish(Probe::start(0, port, None).expect("started")), Ok(()));
        let server = std::thread::spawn(move || {
            let (first, _) = listener.accept().expect("the TCP check");
            drop(first);
            let (mut socket, _) = listener.accept().expect("the HTTP check");
            let mut request = [0; 512];
            let count = socket.read(&mut request).expect("request");
            socket.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").expect("answer");
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let verdict = finish(Probe::start(0, port, Some("/health")).expect("started"));
        assert_eq!(verdict, Err("HTTP status 404".into()));
        assert!(server.join().expect("server").starts_with("GET /health HTTP/1.1\r\n"));
        let refused = Probe::start(0, port, None).map(finish);
        assert!(
            matches!(refused, Err(ref e) if e == "connection refused")
                || refused == Ok(Err("connection refused".into()))
        );
    }
}
