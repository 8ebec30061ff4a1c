//! The messages on the control port. One JSON object per line.

use serde::{Deserialize, Serialize};

use crate::{PhaseEnd, ServiceTimes};

/// From host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostMessage {
    /// Ask for a [`GuestMessage::Hello`] and a [`GuestMessage::Status`]. The host sends it first after every connect.
    Status,
    /// Stop all services in reverse order, unmount, power off.
    Shutdown,
    /// Run a check that the image declares ([`crate::MachineSpec::checks`]). The answer is a [`GuestMessage::Checked`].
    Check {
        /// Number chosen by the host; comes back with the answer.
        run: u64,
        /// Name of the check.
        name: String,
    },
    /// Hold the volumes still: run what the image declares for before a snapshot, then freeze their file systems all
    /// together. The answer is a [`GuestMessage::Quiesced`]; the guest lets go by itself when `hold_ms` are over.
    Freeze {
        /// Number chosen by the host; comes back with every answer.
        run: u64,
        /// Names of the volumes.
        volumes: Vec<String>,
        /// Longest hold in milliseconds, at most [`crate::MAX_HOLD_MS`].
        hold_ms: u64,
    },
    /// Let the volumes go on. The answer is a [`GuestMessage::Quiesced`] that says whether they were still held.
    Thaw {
        /// The number of the freeze.
        run: u64,
    },
}

/// From guest to host. Every message is complete in itself: a host that connects late asks for the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum GuestMessage {
    /// Who answers.
    Hello {
        /// Always [`crate::FORMAT`].
        format: u32,
        /// Instance name.
        instance: String,
        /// Plan generation of this boot.
        generation: u64,
        /// Kernel release.
        kernel: String,
        /// It knows [`HostMessage::Freeze`]; guests of older images do not.
        #[serde(default)]
        freezes: bool,
    },
    /// Something happened.
    Event {
        /// Milliseconds since the kernel started (CLOCK_BOOTTIME).
        uptime_ms: u64,
        /// What.
        event: Event,
    },
    /// The whole state, as an answer and after every change.
    Status(Status),
    /// A check is over, or cannot be run.
    Checked(CheckAnswer),
    /// Volumes are held still, or go on, or neither could be done.
    Quiesced(QuiesceAnswer),
    /// One line that a service wrote to its standard output or error.
    Log {
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
        /// Service name; `plumb` for PID 1 itself.
        service: String,
        /// The line without newline, invalid UTF-8 replaced, at most [`crate::MAX_LOG_LINE_BYTES`] bytes.
        line: String,
    },
    /// So many log lines were dropped because the host did not read.
    LogDropped {
        /// How many since the last such message.
        count: u64,
    },
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckAnswer {
    /// The number that the host chose.
    pub run: u64,
    /// Name of the check.
    pub name: String,
    /// Why it failed, for a person: `exited with status 1`; `None` if it passed.
    pub failure: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// What it wrote, both outputs in order; at most [`crate::MAX_CHECK_OUTPUT_BYTES`] of it, invalid UTF-8 replaced.
    pub output: String,
    /// Bytes that were left out of its middle.
    pub left_out_bytes: u64,
}

/// Where a freeze has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuiesceAnswer {
    /// The number that the host chose.
    pub run: u64,
    /// How far it is.
    pub phase: QuiescePhase,
    /// What went wrong, for a person: of [`QuiescePhase::Frozen`], why nothing is held; of [`QuiescePhase::Thawed`], why
    /// what was copied meanwhile is not consistent.
    pub failure: Option<String>,
    /// How long the file systems have stood still, milliseconds; of [`QuiescePhase::Frozen`], how much of the longest hold
    /// is gone.
    pub frozen_ms: u64,
    /// What went wrong after they went on: a command that the image declares for then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How far a freeze is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuiescePhase {
    /// The volumes are held, or cannot be.
    Frozen,
    /// The volumes go on, and what is declared for then has run.
    Thawed,
}

/// What happened in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The verified root is mounted.
    RootMounted,
    /// A volume is mounted.
    VolumeMounted {
        /// Volume name.
        name: String,
        /// It was empty and has been formatted now.
        formatted: bool,
        /// The file system was grown to fill its disk.
        grown: bool,
        /// Size of the file system in bytes.
        size_bytes: u64,
    },
    /// A service changed its state.
    Service {
        /// Service name.
        name: String,
        /// The new state.
        state: ServiceState,
    },
    /// The boot is over, the services begin.
    Booted {
        /// Its parts, in order.
        phases: Vec<PhaseEnd>,
    },
    /// A service became ready, or done, for the first time in this boot.
    ServiceTimes(ServiceTimes),
    /// All services are ready for the first time in this boot.
    Ready,
    /// The guest cannot go on; it powers off after this.
    Fatal {
        /// What could not be done, naming the object.
        message: String,
    },
    /// The guest stops, as told.
    Stopping,
}

/// The whole state of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// All services are ready now.
    pub ready: bool,
    /// MemTotal of /proc/meminfo, KiB.
    pub memory_total_kib: u64,
    /// MemAvailable of /proc/meminfo, KiB.
    pub memory_available_kib: u64,
    /// One entry per service, in the machine's order.
    pub services: Vec<ServiceStatus>,
    /// What runs and listens; only while all services are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
}

/// What runs in a guest and where it can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Processes, PID 1 included, threads of the kernel not.
    pub processes: u32,
    /// Open ports, sorted; at most [`crate::MAX_LISTENING`].
    pub listening: Vec<Listening>,
}

/// One open port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listening {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The port.
    pub port: u16,
    /// Only the instance itself reaches it (127.0.0.0/8, ::1).
    pub loopback: bool,
}

/// One service of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Service name.
    pub name: String,
    /// State.
    pub state: ServiceState,
    /// Main process, if one runs.
    pub pid: Option<u32>,
    /// How often it was restarted in this boot.
    pub restarts: u32,
}

/// State of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ServiceState {
    /// Waits for the services in `after`.
    Waiting,
    /// Commands before the start run, or the start itself.
    Starting,
    /// Started, not ready yet.
    Started,
    /// Ready.
    Ready,
    /// A one-shot that is done.
    Done,
    /// Waits for its restart.
    Backoff {
        /// Why the last run ended.
        reason: String,
        /// Delay before the next start.
        delay_ms: u64,
    },
    /// Ended and not to be restarted, or its start failed for good.
    Failed {
        /// Why, for a person: `exited with status 1`, `killed by SIGSEGV`, `not ready after 30 s: connection refused`.
        reason: String,
    },
    /// Being stopped.
    Stopping,
    /// Stopped on request.
    Stopped,
}

impl ServiceState {
    /// Counts as up for readiness of the machine.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, ServiceState::Ready | ServiceState::Done)
    }
}
