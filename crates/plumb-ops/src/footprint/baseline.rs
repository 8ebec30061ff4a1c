//! What machines are compared with: a general-purpose Debian 12 that serves the same page with the same nginx.

use serde::Serialize;

/// Figures of one general-purpose installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Baseline {
    /// What was measured.
    pub name: &'static str,
    /// Bytes of all files, the compressed kernel and the initramfs among them.
    pub bytes: u64,
    /// Installed packages.
    pub packages: u64,
    /// Regular files.
    pub files: u64,
    /// Memory in use at idle: MemTotal less MemAvailable, KiB.
    pub memory_used_kib: u64,
    /// Processes at idle, threads of the kernel not counted.
    pub processes: u64,
    /// From the start of QEMU to the first HTTP 200, milliseconds.
    pub boot_ms: u64,
}

/// Debian 12, amd64, by `mmdebstrap --variant=standard` with recommends and `linux-image-cloud-amd64 nginx
/// openssh-server cloud-init netplan.io cloud-guest-utils sudo`: what a cloud's image is. Measured in November 2026 with
/// QEMU 7.2 (TCG, q35, 1 CPU, 512 MiB), first boot, median of five; documented in `docs/internals/footprint.md`.
pub const GENERAL_PURPOSE: Baseline = Baseline {
    name: "Debian 12 as clouds install it, with nginx",
    bytes: 658_246_268,
    packages: 356,
    files: 24_998,
    memory_used_kib: 65_336,
    processes: 19,
    boot_ms: 61_300,
};
