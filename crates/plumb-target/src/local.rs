//! The local target: QEMU on this host, without root, without a daemon.

mod check;
mod snapshot;
mod start;
mod stop;
mod wait;

pub use check::Checked;
pub use start::{PUBLISH_ADDRESS, free_ports};

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::driver::{
    InstanceState, ObservedInstance, ObservedVolume, Progress, Readiness, StartInstance, Started, Stopped,
    Target,
};
use crate::error::{At, TargetError};
use crate::file;
use crate::identity::{Live, ProcessRecord, Usage, boot_id, find};
use crate::keeper;
use crate::keeper::client::Client;
use crate::keeper::request::{KeeperStatus, Publication, Reply, Request};
use crate::layout::{InstanceDir, RunDir, check_name};
use crate::qemu::Qemu;
use crate::record::GuestRecord;
use crate::secret::Secrets;
use crate::volume;

/// Version of `instance.json`.
const FORMAT: u32 = 1;

/// Where a deployment keeps its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPaths {
    /// What lives as long as the instances: `…/run/<deployment>`.
    pub run: PathBuf,
    /// What outlives them: `…/volumes/<deployment>`.
    pub volumes: PathBuf,
}

/// `instance.json`: what was asked for, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InstanceRecord {
    format: u32,
    wanted: StartInstance,
    /// Boot of the host in which it was started.
    host_boot: String,
    /// This start, told from any other.
    boot: String,
    forwards: BTreeMap<u16, u16>,
    started_unix_ms: u64,
    /// When QEMU answered.
    #[serde(default)]
    up_unix_ms: Option<u64>,
    /// `None` if we were killed between the start and its recording; the pid file tells then.
    process: Option<ProcessRecord>,
}

impl InstanceRecord {
    fn title(&self) -> String {
        title(&self.wanted)
    }
}

fn title(start: &StartInstance) -> String {
    format!("plumb/{}/{}", start.deployment, start.instance)
}

/// Where what an instance said is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// By its services.
    pub services: Vec<PathBuf>,
    /// On its console.
    pub console: Vec<PathBuf>,
}

/// The local target of one deployment.
#[derive(Debug, Clone)]
pub struct Local {
    paths: LocalPaths,
    exe: PathBuf,
    qemu: Option<Qemu>,
    accelerator: Option<Accelerator>,
}

impl Local {
    /// A target that can observe, stop and tear down. `exe keeper <run directory>` must call [`keeper::run`].
    #[must_use]
    pub fn new(paths: LocalPaths, exe: PathBuf) -> Local {
        Local { paths, exe, qemu: None, accelerator: None }
    }

    /// The same target, able to start instances.
    #[must_use]
    pub fn with_engine(mut self, qemu: Qemu, accelerator: Accelerator) -> Local {
        self.qemu = Some(qemu);
        self.accelerator = Some(accelerator);
        self
    }

    /// Makes sure that network, published ports and control channels of running instances are held, for example after
    /// the keeper was killed. Returns the keeper's process id, or `None` if nothing runs.
    ///
    /// # Errors
    /// If the keeper cannot be started.
    pub fn ensure_keeper(&self) -> Result<Option<u32>, TargetError> {
        let mut keeper = None;
        for name in self.names()? {
            if self.live(&name)?.is_none() {
                continue;
            }
            if keeper.is_none() {
                keeper = Some(self.keeper()?);
            }
            start::attach_again(self, &name)?;
        }
        Ok(keeper)
    }

    /// What the keeper knows; `None` if none runs.
    #[must_use]
    pub fn keeper_status(&self) -> Option<KeeperStatus> {
        match Client::open(&self.run()).ok()?.ask(&Request::Status).ok()? {
            Reply::Status { status } => Some(status),
            _ => None,
        }
    }

    /// The socket that is the serial console of an instance; see [`crate::connect`].
    ///
    /// # Errors
    /// If the name is none.
    pub fn console_socket(&self, name: &str) -> Result<PathBuf, TargetError> {
        Ok(self.dir(name)?.console_socket())
    }

    /// The console's log file of an instance.
    ///
    /// # Errors
    /// If the name is none.
    pub fn console_log(&self, name: &str) -> Result<PathBuf, TargetError> {
        Ok(self.dir(name)?.console_log())
    }

    /// The log of an instance's services: lines of [`crate::LogLine`]; the previous part is `<path>.1`.
    ///
    /// # Errors
    /// If the name is none.
    pub fn log_path(&self, name: &str) -> Result<PathBuf, TargetError> {
        Ok(self.dir(name)?.log())
    }

    /// Runs a check that the image of an instance declares, at most `limit`; as long as `goes_on` says so.
    ///
    /// # Errors
    /// If the keeper or the guest cannot be asked.
    pub fn check(
        &self,
        instance: &str,
        name: &str,
        limit: Duration,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Checked, TargetError> {
        check::check(self, (instance, name), limit, goes_on)
    }

    /// Where on this host a port of an instance is reached, past the published ports: `None` if it may not be published.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn forward(&self, instance: &str, guest_port: u16) -> Result<Option<SocketAddr>, TargetError> {
        let port = self.record(instance)?.and_then(|record| record.forwards.get(&guest_port).copied());
        Ok(port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }

    /// The files that hold what an instance said, oldest first: lines of its services ([`crate::LogLine`]), and its
    /// console. Not all of them need be there.
    ///
    /// # Errors
    /// If the name is none.
    pub fn said(&self, name: &str) -> Result<Said, TargetError> {
        let dir = self.dir(name)?;
        let both = |path: PathBuf, older: &str| vec![path.with_extension(older), path];
        Ok(Said { services: both(dir.log(), "jsonl.1"), console: both(dir.console_log(), "log.1") })
    }

    /// One path for one directory, however the caller came to it: QEMU's command line names it.
    fn run(&self) -> RunDir {
        let path = &self.paths.run;
        let known = fs::canonicalize(path).or_else(|_| std::path::absolute(path));
        RunDir(known.unwrap_or_else(|_| path.clone()))
    }

    fn dir(&self, name: &str) -> Result<InstanceDir, TargetError> {
        check_name(name)?;
        Ok(self.run().instance(name))
    }

    fn keeper(&self) -> Result<u32, TargetError> {
        keeper::ensure(&self.run().0, &self.exe)
    }

    fn tell_keeper(&self, request: &Request) -> Result<(), TargetError> {
        self.keeper()?;
        Client::open(&self.run())?.tell(request)
    }

    /// Names of everything in the instance directory that can be ours.
    fn names(&self) -> Result<Vec<String>, TargetError> {
        let dir = self.run().instances();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(source).at("read", &dir),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Some(name) = entry.at("read", &dir)?.file_name().to_str()
                && check_name(name).is_ok()
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn record(&self, name: &str) -> Result<Option<InstanceRecord>, TargetError> {
        file::read_json(&self.dir(name)?.record())
    }

    /// The process of an instance, if it runs; also one whose record was lost.
    fn live(&self, name: &str) -> Result<Option<Live>, TargetError> {
        let pid_file = self.dir(name)?.pid();
        Ok(match self.record(name)? {
            Some(record) if record.host_boot != boot_id()? => None,
            Some(record) => find(&pid_file, Some(&record.title()), record.process),
            None => find(&pid_file, None, None),
        })
    }

    fn observe_one(
        &self,
        name: &str,
        record: InstanceRecord,
        heard: Option<GuestRecord>,
    ) -> Result<ObservedInstance, TargetError> {
        let dir = self.dir(name)?;
        let live = self.live(name)?;
        let state = match &live {
            Some(_) => InstanceState::Running,
            None if record.host_boot == boot_id()? => InstanceState::Exited,
            None => InstanceState::Stale,
        };
        // The keeper's memory is the freshest; the file is what a dead keeper left.
        let mut guest = match heard {
            Some(guest) => Some(guest),
            None => file::read_json::<GuestRecord>(&dir.status()).ok().flatten(),
        };
        if live.is_none()
            && let Some(guest) = &mut guest
        {
            guest.connected = false;
            guest.status = None;
        }
        Ok(ObservedInstance {
            name: name.to_owned(),
            machine: record.wanted.machine,
            state,
            pid: live.as_ref().map(|live| live.process.pid),
            image: record.wanted.image.map(|image| image.digest),
            release: record.wanted.release,
            label: record.wanted.label,
            generation: record.wanted.generation,
            started_unix_ms: record.started_unix_ms,
            up_unix_ms: record.up_unix_ms,
            memory_mib: record.wanted.memory_mib,
            guest,
            usage: live.map_or_else(Usage::default, |live| live.usage()),
        })
    }

    /// The instance that runs with this volume.
    fn user_of(&self, volume: &Path) -> Result<Option<String>, TargetError> {
        for name in self.names()? {
            if let Some(record) = self.record(&name)?
                && record.wanted.volumes.iter().any(|disk| disk.path == volume)
                && self.live(&name)?.is_some()
            {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

impl Target for Local {
    fn observe(&self) -> Result<Vec<ObservedInstance>, TargetError> {
        let mut heard = self.keeper_status().unwrap_or_default().guests;
        let mut seen = Vec::new();
        for name in self.names()? {
            if let Some(record) = self.record(&name)? {
                let guest = heard.remove(&name);
                seen.push(self.observe_one(&name, record, guest)?);
            }
        }
        Ok(seen)
    }

    fn volumes(&self) -> Result<Vec<ObservedVolume>, TargetError> {
        volume::list(&self.paths.volumes)
    }

    fn create_volume(&self, name: &str, size_bytes: u64) -> Result<ObservedVolume, TargetError> {
        volume::create(&self.paths.volumes, name, size_bytes)
    }

    fn grow_volume(&self, name: &str, size_bytes: u64) -> Result<ObservedVolume, TargetError> {
        volume::grow(&self.paths.volumes, name, size_bytes)
    }

    fn remove_volume(&self, name: &str) -> Result<(), TargetError> {
        let path = volume::path(&self.paths.volumes, name)?;
        if let Some(instance) = self.user_of(&path)? {
            return Err(TargetError::VolumeInUse { volume: name.to_owned(), instance });
        }
        volume::remove(&self.paths.volumes, name)
    }

    fn start_with(&self, start: &StartInstance, secrets: &Secrets) -> Result<Started, TargetError> {
        start::start(self, start, secrets)
    }

    fn stop_instance(&self, name: &str, grace: Duration) -> Result<Stopped, TargetError> {
        stop::stop(self, name, grace)
    }

    fn remove_instance(&self, name: &str) -> Result<(), TargetError> {
        if let Some(live) = self.live(name)? {
            return Err(TargetError::StillRuns { instance: name.to_owned(), pid: live.process.pid });
        }
        stop::detach(self, name)?;
        let dir = self.dir(name)?;
        // The record goes last: a kill in the middle leaves something that is still known as ours.
        for path in dir.sockets().iter().chain([&dir.status(), &dir.initrd(), &dir.log()]) {
            file::remove(path)?;
        }
        file::remove_tree(dir.path())
    }

    fn set_published(&self, publications: &[Publication]) -> Result<(), TargetError> {
        self.tell_keeper(&Request::Publish { publications: publications.to_vec() })
    }

    fn wait_ready(
        &self,
        name: &str,
        limit: Duration,
        news: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Readiness, TargetError> {
        wait::wait_ready(self, name, limit, news)
    }

    fn console_tail(&self, name: &str, lines: usize) -> Result<Vec<String>, TargetError> {
        let dir = self.dir(name)?;
        if !dir.path().exists() {
            return Err(TargetError::NoInstance { instance: name.to_owned() });
        }
        file::tail(&dir.console_log(), lines)
    }

    fn clean(&self) -> Result<(), TargetError> {
        for name in self.names()? {
            if self.live(&name)?.is_none() {
                let dir = self.dir(&name)?;
                for path in dir.sockets().iter().chain([&dir.pid(), &dir.initrd()]) {
                    file::remove(path)?;
                }
            }
        }
        Ok(())
    }

    fn teardown(&self, grace: Duration) -> Result<(), TargetError> {
        stop::teardown(self, grace)
    }
}
