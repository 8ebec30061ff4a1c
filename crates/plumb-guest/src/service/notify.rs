//! sd_notify(3): a datagram socket per service, which only that service's user can write to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

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
}

impl NotifySocket {
    /// Makes `/run/plumb/notify/<service>`.
    ///
    /// # Errors
    /// From the file system.
    pub fn make(service: &str, uid: u32, gid: u32) -> io::Result<NotifySocket> {
        let folder = PathBuf::from("/run/plumb/notify");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(service);
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        // connect(2) to a socket needs write permission on it: only this user and root can speak for the service.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        chown(&path, Some(uid), Some(gid))?;
        Ok(NotifySocket { socket, path })
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// For the main loop.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Everything that was said since the last call, a bounded number of datagrams.
    pub fn receive(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut datagram = [0; 4096];
        for _ in 0..32 {
            let Ok(count) = self.socket.recv(&mut datagram) else { break };
            notices.extend(parse(&datagram[..count]));
        }
        notices
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
}
