//! What the host is told of a guest: its services, and from /proc (proc(5)) memory, processes and open ports.

use std::collections::BTreeSet;
use std::path::Path;

use plumb_guest_proto::{Activity, Listening, MAX_LISTENING, ServiceStatus, Status};

use crate::clock::uptime_ms;
use crate::{file, limit};

/// File, protocol and the state (kernel, `include/net/tcp_states.h`) of a socket that waits for strangers: TCP_LISTEN,
/// and TCP_CLOSE for a UDP socket that is bound and not connected.
const TABLES: [(&str, &str, &str); 4] = [
    ("/proc/net/tcp", "tcp", "0A"),
    ("/proc/net/tcp6", "tcp", "0A"),
    ("/proc/net/udp", "udp", "07"),
    ("/proc/net/udp6", "udp", "07"),
];

/// The state of the guest now.
pub fn status(ready: bool, services: Vec<ServiceStatus>) -> Status {
    let memory = file::read_text("/proc/meminfo").unwrap_or_default();
    let of = |key: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    Status {
        uptime_ms: uptime_ms(),
        ready,
        memory_total_kib: of("MemTotal:"),
        memory_available_kib: of("MemAvailable:"),
        services,
        activity: ready.then(observe),
    }
}

fn observe() -> Activity {
    let mut listening = BTreeSet::new();
    for (path, protocol, state) in TABLES {
        // A kernel without IPv6 has no tcp6; a table that is too long is read as far as the limit goes.
        let bytes = file::read_head(Path::new(path), limit::SOCKET_TABLE_BYTES).unwrap_or_default();
        listening.extend(sockets(&String::from_utf8_lossy(&bytes), protocol, state));
    }
    let listening = listening.into_iter().take(MAX_LISTENING).collect();
    Activity { processes: processes(), listening }
}

/// A thread of the kernel has no program: reading its `exe` fails.
fn processes() -> u32 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let programs = numbers.filter(|number| std::fs::read_link(format!("/proc/{number}/exe")).is_ok());
    u32::try_from(programs.count()).unwrap_or(u32::MAX)
}

/// Lines such as `0: 0100007F:1F90 00000000:0000 0A …`: local address and port, remote address and port, state.
fn sockets(table: &str, protocol: &str, wanted: &str) -> Vec<Listening> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        if words.nth(1)? != wanted {
            return None;
        }
        let port = u16::from_str_radix(port, 16).ok()?;
        // In the byte order of the processor, 32 bits each: 127.0.0.1 is 0100007F.
        let loopback = match address.len() {
            8 => address.ends_with("7F"),
            _ => address == "00000000000000000000000001000000",
        };
        Some(Listening { protocol: protocol.to_owned(), port, loopback })
    };
    table.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2\n\
             \x20  1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3\n\
             \x20  2: 0A00020F:0050 0202000A:D431 01 00000000:00000000 00:00000000 00000000     0        0 4\n\
             broken\n";
        let found = sockets(table, "tcp", "0A");
        assert_eq!(
            found.iter().map(|one| (one.port, one.loopback)).collect::<Vec<_>>(),
            [(8080, true), (80, false)]
        );
        let six =
            "head\n 0: 00000000000000000000000001000000:0019 00000000000000000000000000000000:0000 0A 0\n";
        assert_eq!(
            sockets(six, "tcp", "0A"),
            [Listening { protocol: "tcp".into(), port: 25, loopback: true }]
        );
        assert!(sockets("", "tcp", "0A").is_empty());
    }

    #[test]
    fn this_test_is_a_process() {
        assert!(observe().processes >= 1);
    }
}
