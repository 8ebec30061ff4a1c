//! IPv4 by the classic ioctls of netdevice(7): three calls per interface, no netlink library.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use plumb_guest_proto::Interface;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::clock::wait_for;
use crate::error::Error;
use crate::{file, limit};

/// Brings up loopback and every interface of the instance; returns one line per interface.
///
/// # Errors
/// [`Error::DeviceMissing`] for a hardware address nobody has, [`Error::Network`] naming the step.
pub fn configure(interfaces: &[Interface]) -> Result<Vec<String>, Error> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| Error::system("open a network socket")(errno.into()))?;
    up(&socket, "lo")?;
    let mut lines = Vec::new();
    for interface in interfaces {
        let name = find(&interface.mac)?;
        let address = |value| sockaddr(value);
        let mask = netmask(interface.prefix);
        let broadcast = Ipv4Addr::from_bits(interface.address.to_bits() | !mask.to_bits());
        set(&socket, &name, libc::SIOCSIFADDR, "set the address", address(interface.address))?;
        set(&socket, &name, libc::SIOCSIFNETMASK, "set the netmask", address(mask))?;
        set(&socket, &name, libc::SIOCSIFBRDADDR, "set the broadcast address", address(broadcast))?;
        up(&socket, &name)?;
        if let Some(gateway) = interface.gateway {
            default_route(&socket, &name, gateway)?;
        }
        lines.push(format!("network {name} {} {}/{}", interface.mac, interface.address, interface.prefix));
    }
    Ok(lines)
}

fn find(mac: &str) -> Result<String, Error> {
    let wanted = mac.to_ascii_lowercase();
    let look = || {
        let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
            .ok()?
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        names.into_iter().find(|name| {
            file::read_text(format!("/sys/class/net/{name}/address")).is_ok_and(|found| found == wanted)
        })
    };
    wait_for(limit::DEVICE_WAIT_MS, limit::DEVICE_POLL_MS, look).ok_or_else(|| Error::DeviceMissing {
        what: "network interface with hardware address",
        name: mac.to_owned(),
        seconds: limit::DEVICE_WAIT_MS / 1000,
    })
}

/// The mask of a prefix length; anything above 32 is 32.
fn netmask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

fn sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain C data for which all-zero bytes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn call(socket: &OwnedFd, code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the SIOC?IF* requests read and write exactly one ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), code, request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set(
    socket: &OwnedFd,
    name: &str,
    code: libc::c_ulong,
    step: &'static str,
    address: libc::sockaddr,
) -> Result<(), Error> {
    let mut request = request(name);
    request.ifr_ifru.ifru_addr = address;
    call(socket, code, &mut request).map_err(|source| Error::Network {
        step,
        interface: name.to_owned(),
        source,
    })
}

fn up(socket: &OwnedFd, name: &str) -> Result<(), Error> {
    let failed = |source| Error::Network { step: "set the flags", interface: name.to_owned(), source };
    let mut request = request(name);
    call(socket, libc::SIOCGIFFLAGS, &mut request).map_err(failed)?;
    // SAFETY: SIOCGIFFLAGS has just written this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    call(socket, libc::SIOCSIFFLAGS, &mut request).map_err(failed)
}

fn default_route(socket: &OwnedFd, name: &str, gateway: Ipv4Addr) -> Result<(), Error> {
    let mut device: Vec<libc::c_char> = name.bytes().map(u8::cast_signed).collect();
    device.push(0);
    // SAFETY: rtentry is plain C data for which all-zero bytes are a valid value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = sockaddr(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = sockaddr(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = sockaddr(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    route.rt_dev = device.as_mut_ptr();
    // SAFETY: SIOCADDRT reads one rtentry and the NUL-terminated device name; both live until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw mut route) };
    if result < 0 {
        let source = io::Error::last_os_error();
        return Err(Error::Network { step: "set the default route", interface: name.to_owned(), source });
    }
    Ok(())
}

/// Kernel settings that a machine needs, with the reason for each.
const SETTINGS: &[(&str, &str)] = &[
    // A panic ends the virtual machine at once, so that the host sees it.
    ("kernel/panic", "-1"),
    ("kernel/panic_on_oops", "1"),
    // Ctrl-alt-del is a signal to PID 1, not an immediate reset.
    ("kernel/ctrl-alt-del", "0"),
    // Neighbours learn at once that an address moved to a new instance after an upgrade.
    ("net/ipv4/conf/all/arp_notify", "1"),
    ("net/ipv4/conf/default/arp_notify", "1"),
    // Addresses come from the host's plan, never from whoever answers on the wire.
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    // A service must not trick root through links in directories it can write.
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "2"),
];

/// Applies [`SETTINGS`]; returns the names of those that this kernel does not have.
///
/// # Errors
/// [`Error::File`] when a setting exists and refuses.
pub fn apply_settings() -> Result<Vec<&'static str>, Error> {
    let mut absent = Vec::new();
    for (name, value) in SETTINGS {
        let path = format!("/proc/sys/{name}");
        match File::options().write(true).open(&path) {
            Ok(mut setting) => {
                io::Write::write_all(&mut setting, value.as_bytes()).map_err(Error::file("write", path))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => absent.push(*name),
            Err(error) => return Err(Error::file("write", path)(error)),
        }
    }
    Ok(absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netmasks() {
        let of = |prefix| netmask(prefix).to_string();
        assert_eq!(
            [of(0), of(8), of(24), of(32), of(99)],
            ["0.0.0.0", "255.0.0.0", "255.255.255.0", "255.255.255.255", "255.255.255.255"]
        );
    }
}
