//! File capabilities: what setcap(8) would write (capabilities(7), "File capability extended attribute versioning").

/// `VFS_CAP_REVISION_2` of `linux/capability.h`.
const REVISION: u32 = 0x0200_0000;
/// `VFS_CAP_FLAGS_EFFECTIVE`.
const EFFECTIVE: u32 = 1;

/// Names by number, without `cap_` (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The value of `security.capability` for `cap_net_raw,cap_net_admin+ep` and its like.
pub(super) fn attribute(text: &str) -> Option<Vec<u8>> {
    let (names, flags) = text.split_once(['+', '='])?;
    let mut mask = 0u64;
    for name in names.split(',') {
        let name = name.to_ascii_lowercase();
        let number = NAMES.iter().position(|known| Some(*known) == name.strip_prefix("cap_"))?;
        mask |= 1 << number;
    }
    if flags.is_empty() || !flags.bytes().all(|b| b"epi".contains(&b)) {
        return None;
    }
    let part = |flag: char| if flags.contains(flag) { mask } else { 0 };
    let (permitted, inheritable) = (part('p'), part('i'));
    let magic = REVISION | if flags.contains('e') { EFFECTIVE } else { 0 };
    let low = |mask: u64| (mask & 0xffff_ffff) as u32;
    let words = [magic, low(permitted), low(inheritable), low(permitted >> 32), low(inheritable >> 32)];
    Some(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_setcap_writes_it() {
        // getfattr -e hex after `setcap cap_net_raw+ep`
        let expected = hex::decode("0100000200200000000000000000000000000000").unwrap();
        assert_eq!(super::attribute("cap_net_raw+ep"), Some(expected));
        assert_eq!(super::attribute("cap_nothing+ep"), None);
        assert_eq!(super::attribute("cap_chown+x"), None);
    }
}
