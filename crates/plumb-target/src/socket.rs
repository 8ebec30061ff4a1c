//! Unix sockets at paths of any length.
//!
//! A socket address holds 107 bytes of path (unix(7)). A longer one is reached through the descriptor of its
//! directory: `/proc/self/fd/<n>/<file>`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Longest path that fits into a socket address, without its final zero byte.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// How long a connect may wait for a peer that does not accept. A healthy one accepts within microseconds; a stopped
/// one would block for ever.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Connects to the socket at `path`, whatever its length.
///
/// # Errors
/// What the system says; `WouldBlock` if the other side does not accept within two seconds.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (short, _dir) = shorten(path)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // unix_stream_connect waits for room in the listener's queue as long as the send timeout says.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(CONNECT_LIMIT))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(short.as_path())?)?;
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(None)?;
    Ok(stream)
}

/// Listens at `path`, whatever its length. A file already there is an error.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (short, _dir) = shorten(path)?;
    UnixListener::bind(short)
}

fn shorten(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH_BYTES {
        return Ok((path.to_owned(), None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a socket"));
    };
    let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((short, Some(dir)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn long_paths_work() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(90)).join("e".repeat(90));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("s.sock");
        let listener = listen(&path).unwrap();
        let mut client = connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert!(path.exists());
    }
}
