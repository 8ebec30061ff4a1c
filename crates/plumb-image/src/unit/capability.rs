//! Capabilities: names, sets, and what a service keeps when its unit does not say.
//!
//! Policy. A service of root keeps [`ROOT_BOUNDING`]. A service of another user keeps nothing but what its unit asks
//! for. A unit that names a `CapabilityBoundingSet=` gets exactly that; one that only takes away (`~`) takes away from
//! the policy's set, not from all that the kernel has. Ambient capabilities are always part of the bounding set,
//! because capset(2) refuses to make a capability inheritable that is in neither set.

/// Names by number: capabilities(7), `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// All capabilities.
const ALL: u64 = (1 << NAMES.len()) - 1;

/// What a service of root keeps unless its unit says otherwise: what Docker leaves a container, on which practically
/// all server software is known to run, without `MKNOD`. Docker can leave that one because a device control group
/// confines its containers; here it would open the raw disks of other volumes.
pub const ROOT_BOUNDING: u64 = 1 // CHOWN
    | 1 << 1 // DAC_OVERRIDE
    | 1 << 3 // FOWNER
    | 1 << 4 // FSETID
    | 1 << 5 // KILL
    | 1 << 6 // SETGID
    | 1 << 7 // SETUID
    | 1 << 8 // SETPCAP
    | 1 << 10 // NET_BIND_SERVICE
    | 1 << 13 // NET_RAW
    | 1 << 18 // SYS_CHROOT
    | 1 << 29 // AUDIT_WRITE
    | 1 << 31; // SETFCAP

/// Number of a capability, by its name with or without `CAP_`, in any case.
#[must_use]
pub fn capability_number(name: &str) -> Option<u32> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|known| *known == name).and_then(|number| u32::try_from(number).ok())
}

/// Merges assignments as systemd does: sets add up, `~` takes away, an empty one clears, a lone `~` is all.
///
/// `policy` is what a first `~` takes away from. `None` if there is no assignment. Unknown names go to `unknown`.
pub(super) fn merge(assignments: &[String], policy: u64, unknown: &mut Vec<String>) -> Option<u64> {
    let mut set = None;
    for assignment in assignments {
        let (invert, names) = match assignment.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, assignment.as_str()),
        };
        let mut named = 0_u64;
        for name in names.split_whitespace() {
            match capability_number(name) {
                Some(number) => named |= 1 << number,
                None => unknown.push(name.to_owned()),
            }
        }
        let empty = names.trim().is_empty();
        set = Some(match (set, invert) {
            (_, true) if empty => ALL,
            (_, false) if empty => 0,
            (set, true) => set.unwrap_or(policy) & !named,
            (set, false) => set.unwrap_or(0) | named,
        });
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(assignments: &[&str], expect: Option<&[&str]>) {
        let assignments: Vec<String> = assignments.iter().map(|&text| text.to_owned()).collect();
        let bits =
            |names: &[&str]| names.iter().fold(0, |set, name| set | 1 << capability_number(name).unwrap());
        assert_eq!(
            merge(&assignments, bits(&["KILL", "BPF"]), &mut Vec::new()),
            expect.map(bits),
            "{assignments:?}"
        );
    }

    #[test]
    fn merging() {
        check(&[], None);
        check(&[""], Some(&[]));
        check(&["CAP_SETUID cap_setgid", "CAP_CHOWN"], Some(&["SETUID", "SETGID", "CHOWN"]));
        check(&["CAP_SETUID", "", "CAP_CHOWN"], Some(&["CHOWN"]));
        check(&["~CAP_BPF"], Some(&["KILL"]));
        check(&["CAP_BPF CAP_KILL", "~CAP_KILL"], Some(&["BPF"]));
        check(&["~"], Some(&NAMES));
    }

    #[test]
    fn the_root_set_is_named_right() {
        let kept: Vec<&str> =
            (0..41).filter(|bit| ROOT_BOUNDING >> bit & 1 == 1).map(|bit| NAMES[bit]).collect();
        let expect = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT \
                      AUDIT_WRITE SETFCAP";
        assert_eq!(kept.join(" "), expect);
    }
}
