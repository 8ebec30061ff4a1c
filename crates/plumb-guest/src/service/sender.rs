//! Datagrams with the process that sent them, as the kernel knows it: unix(7), `SO_PASSCRED`.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, UCred, recvmsg, sockopt::set_socket_passcred,
};

/// A socket at `path` that every process may write to.
///
/// # Errors
/// From the file system.
pub fn listen(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    set_socket_passcred(&socket, true)?;
    // connect(2) to a socket needs write permission on it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// The next datagram: its length in `buffer`, and who sent it. `None` when there is none for now.
pub fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> Option<(usize, UCred)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender),
        _ => None,
    });
    // The kernel adds it to every datagram of such a socket.
    Some((message.bytes, sender?))
}
