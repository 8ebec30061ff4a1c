//! `/dev/log`: what services say by syslog(3) joins what they print. Many servers (named, sshd, postfix) say nowhere
//! else why they end.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::cgroup;
use super::runtime::Runtime;
use super::sender;
use crate::limit;

/// The receiving end.
#[derive(Debug)]
pub struct SyslogSocket(UnixDatagram);

impl SyslogSocket {
    /// Makes it.
    ///
    /// # Errors
    /// From the file system.
    pub fn make(path: &Path) -> std::io::Result<SyslogSocket> {
        sender::listen(path).map(SyslogSocket)
    }

    /// For the main loop.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next message and the process that sent it.
    fn receive(&self) -> Option<(u32, String)> {
        let mut datagram = [0; 8192];
        let (length, sender) = sender::receive(&self.0, &mut datagram)?;
        Some((sender.pid.as_raw_nonzero().get().cast_unsigned(), text(&datagram[..length])))
    }
}

impl Runtime<'_> {
    /// Every message that waits, a bounded number of them, under the name of the service it comes from.
    pub(super) fn read_syslog(&mut self) {
        for _ in 0..limit::SYSLOG_MESSAGES_PER_TURN {
            let Some((pid, text)) = self.syslog.receive() else { return };
            // Nobody is left to be asked when the sender was collected already.
            let service = cgroup::service_of(pid).unwrap_or_else(|| "syslog".to_owned());
            for line in text.lines() {
                self.reporter.log(&service, line.to_owned());
            }
        }
    }
}

/// The message without priority and time, which the log has of its own: RFC 3164, as syslog(3) writes it.
fn text(datagram: &[u8]) -> String {
    let text = String::from_utf8_lossy(datagram);
    let text = text.trim_end_matches(['\0', '\n']);
    let text = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(text, |(_, rest)| rest);
    // `Nov 25 02:47:01 `
    let bytes = text.as_bytes();
    let has_time = bytes.len() > 16
        && text.is_char_boundary(16)
        && [(3, b' '), (6, b' '), (9, b':'), (12, b':'), (15, b' ')].iter().all(|(at, b)| bytes[*at] == *b);
    if has_time { text[16..].to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let check = |datagram: &[u8], expect: &str| assert_eq!(text(datagram), expect);
        check(
            b"<27>Nov 25 02:47:01 named[12]: exiting (due to fatal error)",
            "named[12]: exiting (due to fatal error)",
        );
        check(b"<6>Nov  5 02:47:01 x: y\n\0", "x: y");
        check(b"<6>no time", "no time");
        check(b"no priority <6>", "no priority <6>");
        check(b"", "");
        check(b"\xff\xff\xff \xff\xff", "\u{fffd}\u{fffd}\u{fffd} \u{fffd}\u{fffd}");
    }

    #[test]
    fn the_sender_is_known() {
        let folder = std::env::temp_dir().join(format!("plumb-guest-syslog-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("log");
        let socket = SyslogSocket::make(&path).expect("a socket");
        assert_eq!(socket.receive(), None);
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.send_to(b"<13>Nov 25 02:47:01 me: hello", &path).expect("it is sent");
        assert_eq!(socket.receive(), Some((std::process::id(), "me: hello".to_owned())));
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
