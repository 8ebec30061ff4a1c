//! sd_notify(3): a datagram socket per service, which listens to processes of that service only.
//!
//! Permission bits cannot say who that is: a server that starts as root and gives root up speaks as its new user, whom
//! only its own configuration knows (mosquitto, squid). So everybody may write, and the kernel says who wrote.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::net::UCred;

use super::sender;

/// What a service says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`.
    Ready,
    /// `STATUS=…`.
    Status(String),
    /// `MAINPID=…`.
    MainPid(u32),
}

/// The receiving end.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
    uid: u32,
}

impl NotifySocket {
    /// Makes `/run/plumb/notify/<service>` for a service that starts as `uid`.
    ///
    /// # Errors
    /// From the file system.
    pub fn make(service: &str, uid: u32) -> io::Result<NotifySocket> {
        let folder = PathBuf::from("/run/plumb/notify");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(service);
        let socket = sender::listen(&path)?;
        Ok(NotifySocket { socket, path, uid })
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// For the main loop.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Everything that was said since the last call, a bounded number of datagrams. `is_member` tells the processes of
    /// the service.
    pub fn receive(&self, is_member: &dyn Fn(u32) -> bool) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut datagram = [0; 4096];
        for _ in 0..32 {
            let Some((length, sender)) = sender::receive(&self.socket, &mut datagram) else { break };
            if self.is_heard(sender, is_member) {
                notices.extend(parse(&datagram[..length]));
            }
        }
        notices
    }

    /// A helper that ends at once (systemd-notify) is a member no more when it is heard; so the service's own user counts,
    /// and root, who could say it in any other way as well.
    fn is_heard(&self, sender: UCred, is_member: &dyn Fn(u32) -> bool) -> bool {
        let uid = sender.uid.as_raw();
        uid == 0 || uid == self.uid || u32::try_from(sender.pid.as_raw_nonzero().get()).is_ok_and(is_member)
    }
}

/// One datagram: `KEY=VALUE` lines, of which only these three matter here.
fn parse(datagram: &[u8]) -> Vec<Notice> {
    let text = String::from_utf8_lossy(datagram);
    let notice = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Notice::Ready),
        ("STATUS", text) => Some(Notice::Status(text.to_owned())),
        ("MAINPID", pid) => pid.trim().parse().ok().map(Notice::MainPid),
        _ => None,
    };
    text.lines().filter_map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams() {
        let found = parse(b"STATUS=warm=yes\nREADY=1\nMAINPID=12\nSTOPPING=1\nREADY=0\nnonsense\nMAINPID=x");
        assert_eq!(found, [Notice::Status("warm=yes".into()), Notice::Ready, Notice::MainPid(12)]);
        assert!(parse(&[0xff, 0, b'\n']).is_empty());
    }
    #[test]
    fn only_processes_of_the_service_are_heard() {
        let (socket, peer) = UnixDatagram::pair().expect("a pair of sockets");
        socket.set_nonblocking(true).expect("a flag");
        rustix::net::sockopt::set_socket_passcred(&socket, true).expect("an option");
        let me = rustix::process::getuid().as_raw();
        // Root counts always, so the rule for everybody else is asked of it directly.
        let stranger = UCred {
            pid: rustix::process::Pid::from_raw(4711).expect("a pid"),
            uid: rustix::process::Uid::from_raw(77),
            gid: rustix::process::Gid::from_raw(77),
        };
        let notify = NotifySocket { socket, path: PathBuf::new(), uid: me };
        peer.send(b"READY=1").expect("it is sent");
        assert_eq!(notify.receive(&|_| false), [Notice::Ready]);
        assert_eq!(notify.receive(&|_| true), []);
        assert!(notify.is_heard(stranger, &|pid| pid == 4711));
        assert!(!notify.is_heard(stranger, &|pid| pid == 4712));
    }
}
