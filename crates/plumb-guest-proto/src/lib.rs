//! The contract between host and guest.
//!
//! ```text
//!  image   /usr/lib/plumb/machine.json   MachineSpec   what this machine is: services, directories, volume mounts
//!  initrd  /plumb/instance.json          InstanceSpec  what this boot is: name, addresses, peers, volumes
//!  cmdline plumb.root=…                  RootDisk      where the verified root is (see `RootDisk`)
//!  virtio-serial "plumb.control"         one JSON object per line, each at most MAX_MESSAGE_BYTES long
//!          host -> guest  HostMessage
//!          guest -> host  GuestMessage
//! ```
//!
//! Everything numeric that a guest would otherwise have to look up (user ids, group ids) is resolved at build
//! time, so PID 1 parses no `/etc/passwd` and resolves no name.
#![forbid(unsafe_code)]

mod excerpt;
mod line;
mod message;
mod spec;
mod task;
pub mod template;
mod timing;

pub use excerpt::Excerpt;
pub use line::{LineError, LineReader, encode_line};
pub use message::{
    Activity, CheckAnswer, Event, GuestMessage, HostMessage, Listening, QuiesceAnswer, QuiescePhase,
    ServiceState, ServiceStatus, Status,
};
pub use spec::{
    Command, ConfigFile, Directory, Init, InstanceSpec, Interface, KillMode, Limit, MachineSpec, Peer, Ready,
    Restart, RootDisk, RootDiskError, ServiceKind, ServiceSettings, ServiceSpec, UnitSpec, VolumeAttachment,
    VolumeMount, Writable, task_check,
};
pub use task::{
    ANSWER_FRAMES, ANSWER_MAGIC, BUILD_TASK_PATH, BUILD_WORD, BuildFailure, BuildOutcome, BuildStep,
    BuildTask, Change, ChangeKind, Checksum, MAX_CHANGE_BYTES,
};
pub use timing::{BootPhase, PhaseEnd, ServiceTimes};

/// Version of every document in this crate. A guest refuses a document with another number.
pub const FORMAT: u32 = 1;

/// Longest line either side accepts, newline included. 64 KiB holds the status of 200 services; anything longer is
/// a broken or hostile peer.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Longest part of one service log line that is passed on; the rest is dropped and the line ends in `…`.
pub const MAX_LOG_LINE_BYTES: usize = 8 * 1024;

/// What a check inside writes and the host gets of it: some screenfuls. Escaped as JSON, six bytes for one at worst, it
/// fits into [`MAX_MESSAGE_BYTES`].
pub const MAX_CHECK_OUTPUT_BYTES: usize = 8 * 1024;

/// Most open ports a status names: machines have one to ten, and 256 still leave a status far below
/// [`MAX_MESSAGE_BYTES`].
pub const MAX_LISTENING: usize = 256;

/// Longest time that a guest holds its volumes still, milliseconds. A database blocks meanwhile and its clients wait; two
/// minutes is where they begin to give up, and a host that died is noticed no later than that.
pub const MAX_HOLD_MS: u64 = 120_000;

/// Longest time that one command before or after a snapshot may take, milliseconds: a checkpoint of a database under
/// software emulation.
pub const MAX_HOOK_MS: u64 = 60_000;

/// Where the image keeps its [`MachineSpec`].
pub const MACHINE_SPEC_PATH: &str = "/usr/lib/plumb/machine.json";

/// Where the image of a machine with systemd keeps this guest: it goes on as a service there ([`Init::Systemd`]).
pub const AGENT_PATH: &str = "/usr/lib/plumb/guest";

/// First argument of the guest as a service of systemd: it speaks the control protocol.
pub const AGENT_COMMAND: &str = "agent";

/// First argument of the guest as a command of a unit: it waits until the service named by the second is ready.
pub const WAIT_COMMAND: &str = "wait-ready";

/// First argument of the guest as a command of a unit: it waits until systemd calls the service named by the second
/// active, which with a readiness check it is when it is ready.
pub const AFTER_COMMAND: &str = "wait-active";

/// Where the initramfs keeps the [`InstanceSpec`] of this boot.
pub const INSTANCE_SPEC_PATH: &str = "/plumb/instance.json";

/// Where the initramfs keeps the secrets of this boot, one file each, named as in the definition. They are in no other
/// file of the host, and gone from the guest's initramfs before anything else runs there.
pub const SECRET_PATH: &str = "/plumb/secret";

/// Below this the image keeps the templates of [`MachineSpec::config`], each at its own path.
pub const TEMPLATE_PATH: &str = "/usr/lib/plumb/config";

/// Below this a booted machine has its filled-in files, each at its own path; the image's links lead there.
pub const CONFIG_PATH: &str = "/run/plumb/config";

/// Below this the guest writes the environment of services, `SERVICE.env`, if it refers to configuration.
pub const SETTINGS_PATH: &str = "/run/plumb/settings";

/// Below this a machine without systemd has the secrets of a service, `SERVICE/NAME`; with systemd the secrets that
/// units load as credentials, `NAME`.
pub const SECRETS_PATH: &str = "/run/plumb/secrets";

/// Most bytes of one secret: private keys with their chain are a tenth of it.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Where the initramfs keeps the kernel modules to load: one file name per line, in load order, below the same folder.
pub const MODULE_LIST_PATH: &str = "/plumb/modules/order";

/// Name of the virtio-serial port that carries the messages (`/sys/class/virtio-ports/*/name`).
pub const CONTROL_PORT: &str = "plumb.control";
