//! What can go wrong, named by what failed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plumb_guest_proto::LineError;

/// Any failure of a target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// Verb, for example `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours does not hold what it should.
    #[error("`{}` is not understood", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A value cannot be written as JSON (a path that is not UTF-8).
    #[error("`{what}` cannot be recorded")]
    Record {
        /// The thing to record.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A name that cannot be part of a path and of a process title.
    #[error("`{name}` is not a name: 1 to 63 of a-z, 0-9 and -, starting with a letter or digit")]
    Name {
        /// What was given.
        name: String,
    },
    /// A request that can never work.
    #[error("instance `{instance}` cannot be described: {reason}")]
    Request {
        /// Instance.
        instance: String,
        /// Which part.
        reason: String,
    },
    /// No QEMU.
    #[error("`{program}` is not found")]
    QemuMissing {
        /// What was looked for.
        program: String,
    },
    /// QEMU cannot be run.
    #[error("cannot run `{}`", path.display())]
    QemuRun {
        /// Program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// QEMU says no version that is understood.
    #[error("`{} --version` says `{output}`, which is no QEMU version", path.display())]
    QemuVersion {
        /// Program.
        path: PathBuf,
        /// First line of its output.
        output: String,
    },
    /// QEMU lacks what is needed (`-netdev stream` came with 7.2).
    #[error("`{}` is version {found}; 7.2 or newer is needed", path.display())]
    QemuTooOld {
        /// Program.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// QEMU ended while it was starting.
    #[error("QEMU of instance `{instance}` ended with {status} while it was starting: {output}")]
    QemuStart {
        /// Instance.
        instance: String,
        /// Exit status.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// QEMU does not come up.
    #[error("QEMU of instance `{instance}` did not answer within {} s", limit.as_secs())]
    QemuSilent {
        /// Instance.
        instance: String,
        /// How long was waited.
        limit: Duration,
    },
    /// A throwaway machine could not do its work.
    #[error("the build machine ended with {status}: {output}")]
    Throwaway {
        /// Exit status of QEMU.
        status: String,
        /// The end of what QEMU wrote.
        output: String,
    },
    /// A throwaway machine took too long.
    #[error("the build machine was not done within {} s; the end of its console:\n{console}", limit.as_secs())]
    ThrowawayLimit {
        /// How long was waited.
        limit: Duration,
        /// The end of its console.
        console: String,
    },
    /// QEMU outlived SIGKILL.
    #[error("process {pid} of instance `{instance}` does not end")]
    Unkillable {
        /// Instance.
        instance: String,
        /// Process id.
        pid: u32,
    },
    /// Something else than asked for runs under this name.
    #[error(
        "instance `{instance}` already runs something else: release `{release}`, generation {generation}"
    )]
    RunsOther {
        /// Instance.
        instance: String,
        /// Running release.
        release: String,
        /// Running generation.
        generation: u64,
    },
    /// An older plan comes late.
    #[error("instance `{instance}` belongs to generation {recorded}; generation {given} is stale")]
    StaleGeneration {
        /// Instance.
        instance: String,
        /// Generation on record.
        recorded: u64,
        /// Generation of the request.
        given: u64,
    },
    /// There is no such instance.
    #[error("there is no instance `{instance}`")]
    NoInstance {
        /// Instance.
        instance: String,
    },
    /// There is no such volume.
    #[error("there is no volume `{}`", shown(volume))]
    NoVolume {
        /// Volume.
        volume: String,
    },
    /// A volume never shrinks.
    #[error(
        "volume `{}` has {size_bytes} bytes and is never made smaller ({wanted_bytes} bytes asked)",
        shown(volume)
    )]
    VolumeShrink {
        /// Volume.
        volume: String,
        /// Its size.
        size_bytes: u64,
        /// Size asked for.
        wanted_bytes: u64,
    },
    /// A volume that an instance uses.
    #[error("volume `{}` is in use by instance `{instance}`", shown(volume))]
    VolumeInUse {
        /// Volume.
        volume: String,
        /// Instance.
        instance: String,
    },
    /// A file of a snapshot that cannot be one.
    #[error("`{}` is no snapshot: {reason}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file that is never written over.
    #[error("`{}` is there already", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot `{snapshot}`")]
    NoSnapshot {
        /// Snapshot.
        snapshot: String,
    },
    /// The name is taken.
    #[error("there is a snapshot `{snapshot}` already")]
    SnapshotExists {
        /// Snapshot.
        snapshot: String,
    },
    /// The snapshot has no copy of it.
    #[error("snapshot `{snapshot}` has no volume `{}`", shown(volume))]
    NotInSnapshot {
        /// Snapshot.
        snapshot: String,
        /// Volume.
        volume: String,
    },
    /// What is in a copy is not what was copied.
    #[error(
        "volume `{}` of snapshot `{snapshot}` is damaged: its bytes are not those that were copied",
        shown(volume)
    )]
    SnapshotDamaged {
        /// Snapshot.
        snapshot: String,
        /// Volume.
        volume: String,
    },
    /// Copying took longer than the volumes may stand still.
    #[error("copying for snapshot `{snapshot}` took longer than the volumes may be frozen ({limit_ms} ms)")]
    SnapshotLate {
        /// Snapshot.
        snapshot: String,
        /// The limit.
        limit_ms: u64,
    },
    /// A guest did not hold its volumes, or not all the time.
    #[error("the volumes of instance `{instance}` cannot be frozen: {reason}")]
    NotFrozen {
        /// Instance.
        instance: String,
        /// Why.
        reason: String,
    },
    /// The disk has no room.
    #[error(
        "`{}` needs {} MiB and has {} MiB free",
        path.display(), wanted_bytes.div_ceil(1 << 20), free_bytes >> 20
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes needed.
        wanted_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// The instance must be stopped first.
    #[error("instance `{instance}` still runs (process {pid})")]
    StillRuns {
        /// Instance.
        instance: String,
        /// Process id.
        pid: u32,
    },
    /// Talking to the keeper failed.
    #[error("cannot talk to the keeper of `{}`", dir.display())]
    Keeper {
        /// Deployment directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The keeper sent something that is no answer.
    #[error("the keeper of `{}` sent no valid answer", dir.display())]
    KeeperAnswer {
        /// Deployment directory.
        dir: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The keeper did not come up.
    #[error("the keeper of `{}` does not start: {output}", dir.display())]
    KeeperStart {
        /// Deployment directory.
        dir: PathBuf,
        /// End of its log.
        output: String,
    },
    /// The keeper refuses.
    #[error("the keeper refuses: {reason}")]
    KeeperRefused {
        /// Its reason.
        reason: String,
    },
    /// A published port cannot be opened.
    #[error("port {} on {} cannot be opened: {reason}{}", address.port(), address.ip(), holder_text(holder.as_deref()))]
    Publish {
        /// Address and port on the host.
        address: SocketAddr,
        /// What the system said.
        reason: String,
        /// Who holds it, if that can be found: `process 4711 (nginx)`.
        holder: Option<String>,
    },
    /// A QMP conversation failed.
    #[error("cannot talk QMP on `{}`", path.display())]
    Qmp {
        /// Socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A message cannot be encoded.
    #[error("a message for the guest cannot be encoded")]
    Message(#[source] LineError),
    /// The value of `PLUMB_ACCEL` is unknown.
    #[error("`PLUMB_ACCEL={value}` is neither `kvm` nor `tcg`")]
    Accelerator {
        /// The value.
        value: String,
    },
}

fn holder_text(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(" (held by {holder})"))
}

impl TargetError {
    /// A command or change that helps, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            TargetError::QemuMissing { .. } | TargetError::QemuTooOld { .. } => {
                Some("sudo apt install qemu-system-x86".to_owned())
            }
            TargetError::Publish { address, .. } => Some(format!(
                "stop what uses port {}, or publish another port in `plumb.toml`",
                address.port()
            )),
            TargetError::Accelerator { .. } => Some("unset PLUMB_ACCEL to let plumb decide".to_owned()),
            TargetError::VolumeInUse { .. } => {
                Some("`plumb down DEPLOYMENT` stops what uses it; its volumes stay".to_owned())
            }
            TargetError::FileExists { .. } => Some("name another file, or remove it".to_owned()),
            _ => None,
        }
    }
}

/// `db-1--data`, the file of a volume, as people write it: `db-1/data`.
fn shown(volume: &str) -> String {
    volume.replacen("--", "/", 1)
}

/// Gives an [`io::Error`] its action and path.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, TargetError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, TargetError> {
        self.map_err(|source| TargetError::File { action, path: path.to_owned(), source: source.into() })
    }
}
