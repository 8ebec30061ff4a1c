//! What every target can do. No policy: a target does what it is told and says what it sees.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use plumb_guest_proto::{InstanceSpec, Status};
use serde::{Deserialize, Serialize};

use crate::error::TargetError;
use crate::identity::Usage;
use crate::keeper::request::Publication;
use crate::record::{EventEntry, GuestRecord};
use crate::secret::Secrets;
use crate::timing::{self, HostTimes, InstanceTimings};

/// The parts of an image that a boot needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePaths {
    /// Digest of the image, for people and for comparison.
    pub digest: String,
    /// Uncompressed kernel (PVH) or bzImage.
    pub kernel: PathBuf,
    /// Initramfs of the image.
    pub initrd: PathBuf,
    /// Root disk: EROFS with its hash tree.
    pub root: PathBuf,
    /// Kernel command line of the image.
    pub cmdline: String,
}

/// A volume as a disk of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDisk {
    /// virtio-blk serial, at most 20 bytes of a-z, 0-9 and -.
    pub serial: String,
    /// The raw file.
    pub path: PathBuf,
}

/// One instance to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartInstance {
    /// Deployment name.
    pub deployment: String,
    /// Instance name, `web-1`.
    pub instance: String,
    /// Machine name, `web`.
    pub machine: String,
    /// Generation of the plan that wants this.
    pub generation: u64,
    /// Release, `shop@3`.
    pub release: String,
    /// The caller's mark, given back by [`Target::observe`].
    pub label: String,
    /// What it boots. `None` makes a machine that stays paused: for tests of a target without an image.
    pub image: Option<ImagePaths>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// What the boot is told. `interfaces` holds exactly the private interface; the local target adds its own for
    /// published ports. `volumes[].initialized` is set by the target if it has seen the volume in use.
    pub spec: InstanceSpec,
    /// Disks of its volumes, in the order of `spec.volumes`.
    pub volumes: Vec<VolumeDisk>,
    /// Guest ports that may be published.
    pub publish: Vec<u16>,
}

/// Whether [`Target::start_instance`] had something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It was started now.
    Now,
    /// Exactly this ran already.
    Already,
}

/// How an instance came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run.
    Already,
    /// The guest shut down when asked.
    Guest,
    /// The hypervisor ended it on request: the guest did not react in time.
    Quit,
    /// The hypervisor had to be killed.
    Killed,
}

/// State of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Its process runs.
    Running,
    /// Its process has ended since this host booted.
    Exited,
    /// It was started before this host booted.
    Stale,
}

/// An instance as it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedInstance {
    /// Instance name.
    pub name: String,
    /// Machine name.
    pub machine: String,
    /// State.
    pub state: InstanceState,
    /// Process id, if it runs.
    pub pid: Option<u32>,
    /// Image digest.
    pub image: Option<String>,
    /// Release.
    pub release: String,
    /// [`StartInstance::label`].
    pub label: String,
    /// Plan generation that started it.
    pub generation: u64,
    /// When it was started: milliseconds since 1970.
    pub started_unix_ms: u64,
    /// When the hypervisor had it running: milliseconds since 1970.
    pub up_unix_ms: Option<u64>,
    /// Memory it was given, MiB.
    pub memory_mib: u64,
    /// What the guest said; of a dead instance only what explains its end.
    pub guest: Option<GuestRecord>,
    /// What it costs the host.
    pub usage: Usage,
}

impl ObservedInstance {
    /// Where the time of its start went.
    #[must_use]
    pub fn timings(&self) -> InstanceTimings {
        let host = HostTimes { started_unix_ms: self.started_unix_ms, up_unix_ms: self.up_unix_ms };
        timing::timings(&self.name, host, self.guest.as_ref())
    }

    /// Runs, and all its services are ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == InstanceState::Running && self.guest.as_ref().is_some_and(GuestRecord::is_ready)
    }
}

/// A volume as it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedVolume {
    /// Volume name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Size of the disk.
    pub size_bytes: u64,
    /// Space it takes on the host.
    pub allocated_bytes: u64,
    /// A ready instance has used it: it holds a file system.
    pub initialized: bool,
}

/// News while waiting for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Something happened in the guest.
    Event(EventEntry),
    /// The whole state.
    Status(Status),
    /// Nothing new; a moment has passed.
    Waiting,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// All services are ready.
    Ready,
    /// It will not become ready, or not in time.
    NotReady {
        /// Why, for a person.
        reason: String,
        /// The end of its console.
        console: Vec<String>,
    },
    /// The caller did not want to wait any longer.
    Cancelled,
}

/// Where instances run. One value stands for one deployment.
pub trait Target {
    /// What is there, by instance name. Changes nothing.
    ///
    /// # Errors
    /// If the records cannot be read.
    fn observe(&self) -> Result<Vec<ObservedInstance>, TargetError>;

    /// The volumes that are there, by name.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn volumes(&self) -> Result<Vec<ObservedVolume>, TargetError>;

    /// Makes sure a volume of at least `size_bytes` exists. An existing one is never shortened or emptied. The name is
    /// the caller's and unique in the deployment, for example `db-data-1`.
    ///
    /// # Errors
    /// If the file cannot be made.
    fn create_volume(&self, name: &str, size_bytes: u64) -> Result<ObservedVolume, TargetError>;

    /// Makes a volume larger; its instance sees it at its next start.
    ///
    /// # Errors
    /// If there is no such volume, or it is larger already.
    fn grow_volume(&self, name: &str, size_bytes: u64) -> Result<ObservedVolume, TargetError>;

    /// Deletes a volume with its data. One that is not there is deleted already.
    ///
    /// # Errors
    /// If an instance runs with it, or the file cannot be removed.
    fn remove_volume(&self, name: &str) -> Result<(), TargetError>;

    /// Starts an instance; the same again changes nothing.
    ///
    /// # Errors
    /// If something else runs under the name, the generation is stale, or it cannot be started.
    fn start_instance(&self, start: &StartInstance) -> Result<Started, TargetError> {
        self.start_with(start, &Secrets::default())
    }

    /// As [`Target::start_instance`], with secrets, which are kept nowhere: which ones it was started with, the label has to
    /// tell.
    ///
    /// # Errors
    /// As [`Target::start_instance`].
    fn start_with(&self, start: &StartInstance, secrets: &Secrets) -> Result<Started, TargetError>;

    /// Stops an instance: the guest gets `grace` to shut down, then harder means follow.
    ///
    /// # Errors
    /// If its process cannot be ended.
    fn stop_instance(&self, name: &str, grace: Duration) -> Result<Stopped, TargetError>;

    /// Forgets a stopped instance and removes its files (not its volumes).
    ///
    /// # Errors
    /// If it runs, or the files cannot be removed.
    fn remove_instance(&self, name: &str) -> Result<(), TargetError>;

    /// Sets the whole list of published ports. On an error nothing has changed.
    ///
    /// # Errors
    /// If a port cannot be opened.
    fn set_published(&self, publications: &[Publication]) -> Result<(), TargetError>;

    /// Waits until an instance is ready, at most `limit`; `news` hears what happens and may end the wait.
    ///
    /// # Errors
    /// If the instance cannot be observed.
    fn wait_ready(
        &self,
        name: &str,
        limit: Duration,
        news: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Readiness, TargetError>;

    /// The last lines of an instance's console, safe to print.
    ///
    /// # Errors
    /// If there is no such instance.
    fn console_tail(&self, name: &str, lines: usize) -> Result<Vec<String>, TargetError>;

    /// Removes what dead instances left behind. What runs, and what is not ours, stays.
    ///
    /// # Errors
    /// If a file cannot be removed.
    fn clean(&self) -> Result<(), TargetError>;

    /// Ends everything and removes every file but the volumes. Running guests get `grace`.
    ///
    /// # Errors
    /// If a process cannot be ended or a file cannot be removed.
    fn teardown(&self, grace: Duration) -> Result<(), TargetError>;
}
