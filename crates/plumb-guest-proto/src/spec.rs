//! What a machine is (in its image) and what an instance is told at boot.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a machine runs. Part of its image, so it is the same for every instance and every boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Always [`crate::FORMAT`].
    pub format: u32,
    /// Application name, for messages.
    pub app: String,
    /// Machine name, for messages.
    pub machine: String,
    /// Directories made at boot below writable mounts (`/run`, `/tmp`, `/var`), in order.
    pub directories: Vec<Directory>,
    /// Where volumes are mounted; each must be attached by the instance.
    pub volumes: Vec<VolumeMount>,
    /// Services, in an order that respects `after`.
    pub services: Vec<ServiceSpec>,
    /// What of the root can be written to.
    #[serde(default, skip_serializing_if = "Writable::is_places")]
    pub writable: Writable,
    /// Who runs the services.
    #[serde(default, skip_serializing_if = "Init::is_plumb")]
    pub init: Init,
    /// Checks: one-shots of one command that run when the host asks for them by name, and at no other time. Their
    /// `start_timeout_ms` is how long they may take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<ServiceSpec>,
    /// Files that are filled in at boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<ConfigFile>,
    /// Services whose environment refers to configuration, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, ServiceSettings>,
}

/// A file that is filled in at boot: its template is below [`crate::TEMPLATE_PATH`], its result below
/// [`crate::CONFIG_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Absolute path at which programs look for it; the image has a link there.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What of a service depends on the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// Variables, each a [`crate::template`].
    pub environment: BTreeMap<String, String>,
    /// Names of secrets that it gets as files.
    pub secret_files: Vec<String>,
}

/// Who is PID 1 once the machine has booted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Plumb's own; it runs [`MachineSpec::services`].
    #[default]
    Plumb,
    /// systemd of the image. It runs the units of the image; these are the services that the definition names.
    Systemd(Vec<UnitSpec>),
}

impl Init {
    fn is_plumb(&self) -> bool {
        *self == Init::Plumb
    }
}

/// A service that systemd runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitSpec {
    /// Name, as in the definition.
    pub name: String,
    /// Full name of its unit, `nginx.service`.
    pub unit: String,
    /// When it counts as ready; `None` means as soon as systemd calls it active.
    pub ready: Option<Ready>,
    /// How long readiness may take after the start before the start counts as failed.
    pub ready_timeout_ms: u64,
}

/// What of the root can be written to; nothing of it outlives the instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writable {
    /// `/run`, `/tmp` and `/var`; programs and configuration cannot be changed.
    #[default]
    Places,
    /// All of it, over the verified root: what a container image expects.
    Root,
}

impl Writable {
    fn is_places(&self) -> bool {
        *self == Writable::Places
    }
}

/// A directory that must exist before a service starts (tmpfiles.d `d`, `RuntimeDirectory=` and its kin).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permission bits, for example `0o755`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Where a volume of the machine is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Volume name, as in the definition.
    pub name: String,
    /// Absolute mount point; exists as a directory in the image.
    pub mount: String,
    /// Owner given to the root of the file system when it is formatted.
    pub uid: u32,
    /// Group given to the root of the file system when it is formatted.
    pub gid: u32,
    /// Permission bits given to the root of the file system when it is formatted.
    pub mode: u32,
    /// Runs before its file system is frozen for a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<ServiceSpec>>,
    /// Runs after it goes on, also when what was copied meanwhile is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Box<ServiceSpec>>,
}

/// One service. The fields follow systemd.service(5) and systemd.exec(5), reduced to what a translated unit needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Name, as in the definition.
    pub name: String,
    /// When the start counts as done.
    pub kind: ServiceKind,
    /// User the commands run as (unless a command is privileged).
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Run before every start; idempotent (the definition's `prepare`), as the service's user.
    pub prepare: Vec<Command>,
    /// `ExecStartPre=`.
    pub start_pre: Vec<Command>,
    /// `ExecStart=`: exactly one, or any number for [`ServiceKind::Oneshot`].
    pub start: Vec<Command>,
    /// `ExecStartPost=`.
    pub start_post: Vec<Command>,
    /// `ExecStop=`; empty means: send `kill_signal`.
    pub stop: Vec<Command>,
    /// `Environment=`, plus `HOME`, `USER`, `LOGNAME`, `PATH`, `RUNTIME_DIRECTORY`… filled in at build time.
    pub environment: BTreeMap<String, String>,
    /// `EnvironmentFile=`: path, and whether it may be missing (a leading `-`).
    pub environment_files: Vec<(String, bool)>,
    /// `WorkingDirectory=`; `/` if the unit names none.
    pub working_directory: String,
    /// `UMask=`, default `0o022`.
    pub umask: u32,
    /// `LimitNOFILE=` and its kin, by rlimit name in lower case (`nofile`, `nproc`, `core`, `memlock`, `stack`, `as`).
    pub limits: BTreeMap<String, Limit>,
    /// `Nice=`.
    pub nice: i32,
    /// `OOMScoreAdjust=`.
    pub oom_score_adjust: i32,
    /// Directories of this service (`RuntimeDirectory=`, `StateDirectory=`, …), made before every start.
    pub directories: Vec<Directory>,
    /// `PIDFile=`, for [`ServiceKind::Forking`].
    pub pid_file: Option<String>,
    /// `Restart=`.
    pub restart: Restart,
    /// `RestartSec=`: the first delay; it doubles up to a limit of the guest.
    pub restart_delay_ms: u64,
    /// `TimeoutStartSec=`.
    pub start_timeout_ms: u64,
    /// `TimeoutStopSec=`.
    pub stop_timeout_ms: u64,
    /// `KillSignal=`, a signal number (15 is SIGTERM).
    pub kill_signal: i32,
    /// `KillMode=`.
    pub kill_mode: KillMode,
    /// `RemainAfterExit=`.
    pub remain_after_exit: bool,
    /// `SuccessExitStatus=`, besides 0.
    pub success_exit_status: Vec<i32>,
    /// Bit `n` set: capability number `n` stays in the bounding set (capabilities(7)).
    pub capability_bounding: u64,
    /// Bit `n` set: capability number `n` is ambient for a service that runs as another user than root.
    pub capability_ambient: u64,
    /// `NoNewPrivileges=`.
    pub no_new_privileges: bool,
    /// When the service counts as ready; `None` means as soon as it has started.
    pub ready: Option<Ready>,
    /// How long readiness may take after the start before the start counts as failed.
    pub ready_timeout_ms: u64,
    /// Names of services of this machine that must be ready before this one starts.
    pub after: Vec<String>,
}

/// When a start is done: systemd.service(5) `Type=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// After fork.
    Simple,
    /// After a successful execve.
    Exec,
    /// When the started process exits and leaves a daemon behind.
    Forking,
    /// When the service sends `READY=1` to `$NOTIFY_SOCKET` (sd_notify(3)).
    Notify,
    /// When the started process exits with success.
    Oneshot,
}

/// One command line. `argv[0]` is an absolute path; `$VAR`, `${VAR}` and `$$` are expanded by the guest as
/// systemd.service(5) "COMMAND LINES" says, with the service's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// A leading `-`: failure is recorded, not acted upon.
    pub ignore_failure: bool,
    /// A leading `+` or `!`: runs as root whatever `uid` says.
    pub privileged: bool,
}

/// A resource limit (getrlimit(2)). `None` is infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Soft limit.
    pub soft: Option<u64>,
    /// Hard limit.
    pub hard: Option<u64>,
}

/// systemd.service(5) `Restart=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After a clean exit only.
    OnSuccess,
    /// After a non-zero exit, a signal or a timeout.
    OnFailure,
    /// After a signal or a timeout.
    OnAbnormal,
    /// After an uncaught signal.
    OnAbort,
    /// Always.
    Always,
}

/// systemd.kill(5) `KillMode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// The whole cgroup gets the signal.
    ControlGroup,
    /// The main process gets the signal, the rest SIGKILL.
    Mixed,
    /// Only the main process is killed.
    Process,
    /// Nothing is killed.
    None,
}

/// A readiness check, made by the guest itself over loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// A TCP connect to 127.0.0.1 succeeds.
    Tcp {
        /// Port.
        port: u16,
    },
    /// `GET path` on 127.0.0.1 answers with a status from 200 to 399.
    Http {
        /// Port.
        port: u16,
        /// Path and query, starts with `/`.
        path: String,
    },
    /// The command exits with 0.
    Exec {
        /// The command, run as the service's user.
        command: Command,
    },
    /// The service says `READY=1` by sd_notify(3).
    Notify,
}

/// What one boot of an instance is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSpec {
    /// Always [`crate::FORMAT`].
    pub format: u32,
    /// Deployment name.
    pub deployment: String,
    /// Instance name, for example `web-1`; also the host name.
    pub instance: String,
    /// Machine name; must equal the image's.
    pub machine: String,
    /// Release, for example `shop@3`, for messages.
    pub release: String,
    /// Plan generation that started this boot.
    pub generation: u64,
    /// Network interfaces, found by hardware address.
    pub interfaces: Vec<Interface>,
    /// Everything `/etc/hosts` says besides localhost.
    pub peers: Vec<Peer>,
    /// Volumes, found by virtio-blk serial.
    pub volumes: Vec<VolumeAttachment>,
    /// It is there for tasks: no service is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Values of the settings that the machine refers to, as text. Those that are not set are not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// Name among [`MachineSpec::checks`] of the command of a task. No check has a colon in its name.
#[must_use]
pub fn task_check(task: &str) -> String {
    format!("task:{task}")
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Hardware address, `52:54:00:…` in lower case.
    pub mac: String,
    /// Address.
    pub address: Ipv4Addr,
    /// Network prefix length.
    pub prefix: u8,
    /// Default gateway through this interface, if any.
    pub gateway: Option<Ipv4Addr>,
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Names: the instance and its machine (`db-1`, `db`).
    pub names: Vec<String>,
    /// Address.
    pub address: Ipv4Addr,
}

/// A disk that holds a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeAttachment {
    /// Volume name; matches a [`VolumeMount`].
    pub name: String,
    /// virtio-blk serial (`/sys/block/vd?/serial`), at most 20 bytes.
    pub serial: String,
    /// The host has seen this volume formatted. A disk that then holds no file system is refused, never formatted.
    pub initialized: bool,
}

/// Where the verified root is; carried on the kernel command line, which the image's digest covers:
/// `plumb.root=<serial>,<data blocks>,<hash start block>,<salt hex or ->,<root hash hex>`; blocks are 4096 bytes,
/// hash is SHA-256, verity format 1 (kernel Documentation/admin-guide/device-mapper/verity.rst).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootDisk {
    /// virtio-blk serial of the disk that holds data and hash tree.
    pub serial: String,
    /// Number of 4096-byte data blocks.
    pub data_blocks: u64,
    /// Block at which the hash tree starts (no verity superblock), counted from the start of the same disk.
    pub hash_start_block: u64,
    /// Salt in lower-case hex; empty for none.
    pub salt: String,
    /// Root hash, 64 lower-case hex digits.
    pub root_hash: String,
}

/// Why a `plumb.root=` value is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`plumb.root={value}` is not `serial,data blocks,hash start block,salt,root hash`")]
pub struct RootDiskError {
    /// What was given.
    pub value: String,
}

impl fmt::Display for RootDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let salt = if self.salt.is_empty() { "-" } else { &self.salt };
        write!(f, "{},{},{},{salt},{}", self.serial, self.data_blocks, self.hash_start_block, self.root_hash)
    }
}

impl FromStr for RootDisk {
    type Err = RootDiskError;

    fn from_str(value: &str) -> Result<Self, RootDiskError> {
        let refuse = || RootDiskError { value: value.to_owned() };
        let parts: Vec<&str> = value.split(',').collect();
        let [serial, data_blocks, hash_start_block, salt, root_hash] = parts[..] else {
            return Err(refuse());
        };
        let is_hex =
            |s: &str| s.len().is_multiple_of(2) && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if serial.is_empty() || root_hash.len() != 64 || !is_hex(root_hash) || (salt != "-" && !is_hex(salt))
        {
            return Err(refuse());
        }
        Ok(RootDisk {
            serial: serial.to_owned(),
            data_blocks: data_blocks.parse().map_err(|_| refuse())?,
            hash_start_block: hash_start_block.parse().map_err(|_| refuse())?,
            salt: if salt == "-" { String::new() } else { salt.to_owned() },
            root_hash: root_hash.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_disk_round_trip() {
        let disk = RootDisk {
            serial: "plumb-root".into(),
            data_blocks: 7168,
            hash_start_block: 7168,
            salt: String::new(),
            root_hash: "ab".repeat(32),
        };
        let text = disk.to_string();
        assert_eq!(text, format!("plumb-root,7168,7168,-,{}", "ab".repeat(32)));
        assert_eq!(text.parse::<RootDisk>(), Ok(disk));
    }

    #[test]
    fn root_disk_refuses() {
        for bad in ["", "a,1,2,-", "a,1,2,-,zz", "a,x,2,-,", &format!(",1,2,-,{}", "ab".repeat(32))] {
            assert!(bad.parse::<RootDisk>().is_err(), "{bad}");
        }
    }
}
