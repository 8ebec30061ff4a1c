//! How long the parts of a boot took, on the guest's clock.

use serde::{Deserialize, Serialize};

/// A part of the boot before the first service, in the order of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPhase {
    /// From the kernel's first instruction on its own clock to PID 1, unpacking of the initramfs included.
    Kernel,
    /// `/proc`, `/sys`, `/dev`, console, signals, kernel settings.
    Setup,
    /// Kernel modules, and the devices that they find.
    Modules,
    /// The root disk is found and dm-verity lies over it.
    Verity,
    /// The root is mounted and entered, with its writable places.
    Root,
    /// Interfaces have their addresses.
    Network,
    /// Volumes are checked, formatted if new, and mounted.
    Volumes,
    /// Directories below writable places, and control groups.
    Directories,
}

impl BootPhase {
    /// As a person reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BootPhase::Kernel => "kernel",
            BootPhase::Setup => "setup",
            BootPhase::Modules => "modules",
            BootPhase::Verity => "verity",
            BootPhase::Root => "root",
            BootPhase::Network => "network",
            BootPhase::Volumes => "volumes",
            BootPhase::Directories => "directories",
        }
    }
}

/// A phase and when it ended; it began when the one before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseEnd {
    /// Which.
    pub phase: BootPhase,
    /// Microseconds since the kernel started (CLOCK_BOOTTIME).
    pub end_us: u64,
}

/// When a service reached what in the run that became ready first. All in milliseconds since the kernel started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTimes {
    /// Service name.
    pub name: String,
    /// Its turn came: directories, `prepare` and commands before the start.
    pub begun_ms: u64,
    /// The start itself began.
    pub launched_ms: u64,
    /// The start was done; readiness was waited for.
    pub started_ms: u64,
    /// It was ready.
    pub ready_ms: u64,
}
