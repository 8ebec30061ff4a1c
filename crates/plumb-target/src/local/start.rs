//! Starting an instance.
//!
//! Order matters for a kill at any moment: first the record of what is wanted, then the process, then the process in
//! the record. Whoever comes next finds the process by the pid file that QEMU itself writes and locks.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plumb_guest_proto::{InstanceSpec, Interface};

use super::{FORMAT, InstanceRecord, Local, title};
use crate::accelerator::Accelerator;
use crate::clock::{pause, unix_ms};
use crate::command::{Board, Launch, arguments};
use crate::driver::{StartInstance, Started};
use crate::error::{At, TargetError};
use crate::file;
use crate::identity::{boot_id, process_record};
use crate::initrd;
use crate::keeper::request::{Attachment, Request};
use crate::layout::{InstanceDir, check_name};
use crate::qemu::Qemu;
use crate::qmp;
use crate::secret::Secrets;
use crate::switch::Mac;
use crate::volume;

/// How long QEMU may take until it answers on QMP. It reads 60 MB of kernel and initramfs before that.
const UP_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks whether it answers.
const UP_TICK: Duration = Duration::from_millis(10);

/// Starts with fresh forwarded ports, as another process may take one between our choice and QEMU's use of it.
const START_TRIES: usize = 4;

/// Lines of QEMU's own output that an error carries.
const OUTPUT_LINES: usize = 6;

/// Disks per instance; either machine has 32 slots, of which at most seven are taken.
const MAX_VOLUMES: usize = 16;

/// Longest virtio-blk serial (VIRTIO_BLK_ID_BYTES).
const MAX_SERIAL_BYTES: usize = 20;

/// Address of the guest on the interface for published ports: QEMU's user network forwards to it.
pub const PUBLISH_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Its prefix length.
const PUBLISH_PREFIX: u8 = 24;

pub(super) fn start(local: &Local, start: &StartInstance, secrets: &Secrets) -> Result<Started, TargetError> {
    let private = check(start)?;
    let engine = engine(local)?;
    file::make_dir(&local.run().instances())?;
    let dir = local.dir(&start.instance)?;
    file::make_dir(dir.path())?;
    if let Some(record) = local.record(&start.instance)? {
        if start.generation < record.wanted.generation {
            return Err(TargetError::StaleGeneration {
                instance: start.instance.clone(),
                recorded: record.wanted.generation,
                given: start.generation,
            });
        }
        if local.live(&start.instance)?.is_some() {
            if record.wanted != *start {
                return Err(TargetError::RunsOther {
                    instance: start.instance.clone(),
                    release: record.wanted.release,
                    generation: record.wanted.generation,
                });
            }
            let record = with_process(local, &dir, record)?;
            attach(local, &record, &private)?;
            return Ok(Started::Already);
        }
    }
    local.keeper()?;
    let mut board = Board::Microvm;
    let mut tries = 0;
    loop {
        tries += 1;
        match launch(local, engine, board, (start, secrets), &private) {
            Err(TargetError::QemuStart { output, .. }) if tries < START_TRIES && is_passing(&output) => {}
            Err(TargetError::QemuStart { output, .. }) if board == Board::Microvm && has_no(&output) => {
                board = Board::Q35;
            }
            Err(error) => return Err(error),
            Ok(record) => {
                attach(local, &record, &private)?;
                return Ok(Started::Now);
            }
        }
    }
}

/// A forwarded port was taken by someone else in the meantime.
fn is_passing(output: &str) -> bool {
    output.contains("Could not set up host forwarding rule")
}

/// This QEMU was built without `microvm` (Red Hat's), or its firmware is not installed. Its own word is asked for no
/// sooner than it is needed: a question beforehand would cost every start a run of QEMU.
fn has_no(output: &str) -> bool {
    output.contains("unsupported machine type") || output.contains("bios-microvm.bin")
}

type Engine<'a> = (&'a Qemu, &'a Accelerator);

fn engine(local: &Local) -> Result<Engine<'_>, TargetError> {
    local
        .qemu
        .as_ref()
        .zip(local.accelerator.as_ref())
        .ok_or_else(|| TargetError::QemuMissing { program: "qemu-system-x86_64".to_owned() })
}

/// Everything that can be refused before anything is touched. Returns the address of the private interface.
fn check(start: &StartInstance) -> Result<Mac, TargetError> {
    for name in [&start.deployment, &start.instance, &start.machine] {
        check_name(name)?;
    }
    let refuse = |reason: String| TargetError::Request { instance: start.instance.clone(), reason };
    let [interface] = &start.spec.interfaces[..] else {
        return Err(refuse(format!("{} interfaces instead of one", start.spec.interfaces.len())));
    };
    let mac = interface.mac.parse().map_err(|()| refuse(format!("hardware address `{}`", interface.mac)))?;
    if start.volumes.len() > MAX_VOLUMES {
        return Err(refuse(format!("{} volumes, at most {MAX_VOLUMES}", start.volumes.len())));
    }
    for disk in &start.volumes {
        let good = (1..=MAX_SERIAL_BYTES).contains(&disk.serial.len())
            && disk.serial.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            return Err(refuse(format!("serial `{}` of a volume", disk.serial)));
        }
    }
    if start.cpus == 0 || start.memory_mib == 0 {
        return Err(refuse("no processor or no memory".to_owned()));
    }
    if let Some(image) = &start.image {
        for path in [&image.kernel, &image.initrd, &image.root] {
            initrd::check_file(path)?;
        }
    }
    Ok(mac)
}

/// The interface for published ports has its own address, told from the private one by a bit of the vendor part.
fn publish_mac(private: Mac) -> Mac {
    let mut bytes = private.0;
    bytes[0] ^= 4;
    Mac(bytes)
}

fn launch(
    local: &Local,
    (qemu, accelerator): Engine<'_>,
    board: Board,
    (start, secrets): (&StartInstance, &Secrets),
    private: &Mac,
) -> Result<InstanceRecord, TargetError> {
    let dir = local.dir(&start.instance)?;
    let free = free_ports(start.publish.len()).at("find free ports for", dir.path())?;
    let forwards = start.publish.iter().copied().zip(free).collect();
    let initrd = prepare(&dir, (start, secrets), *private)?;
    let now = unix_ms();
    let mut record = InstanceRecord {
        format: FORMAT,
        wanted: start.clone(),
        host_boot: boot_id()?,
        boot: format!("{now}-{}", std::process::id()),
        forwards,
        started_unix_ms: now,
        up_unix_ms: None,
        process: None,
    };
    file::write_json(&dir.record(), &record)?;
    let arguments = arguments(&Launch {
        start,
        dir: &dir,
        accelerator,
        board,
        initrd: &initrd.path(&dir),
        title: &title(start),
        mac: &private.to_string(),
        publish_mac: &publish_mac(*private).to_string(),
        forwards: &record.forwards,
    });
    let log = file::append(&dir.qemu_log())?;
    let mut child = spawn(qemu, &arguments, (&dir, &initrd), &log)?;
    // QEMU has its own.
    drop(initrd);
    record.process = process_record(child.id());
    let up = file::write_json(&dir.record(), &record).and_then(|()| wait_up(&mut child, start, &dir));
    if let Err(error) = up {
        // It may have ended already; nothing half-started stays behind.
        let _ = child.kill();
        child.wait().at("wait for", &qemu.path)?;
        return Err(error);
    }
    record.up_unix_ms = Some(unix_ms());
    file::write_json(&dir.record(), &record)?;
    // Nobody waits for it in this process, but a dead child has to be collected if we live longer than it does.
    let reaper = std::thread::Builder::new().name("reaper".into()).spawn(move || drop(child.wait()));
    reaper.at("start a thread for", dir.path())?;
    Ok(record)
}

/// Clears what an earlier start left and writes what this one is told.
fn prepare(
    dir: &InstanceDir,
    (start, secrets): (&StartInstance, &Secrets),
    private: Mac,
) -> Result<Initrd, TargetError> {
    for path in dir.sockets().iter().chain([&dir.pid(), &dir.status(), &dir.qemu_log()]) {
        file::remove(path)?;
    }
    let console = dir.console_log();
    if console.exists() {
        fs::rename(&console, console.with_extension("log.1")).at("set aside", &console)?;
    }
    let Some(image) = &start.image else { return Ok(Initrd::File) };
    if secrets.is_empty() {
        initrd::write(&image.initrd, &told(start, private), &dir.initrd())?;
        return Ok(Initrd::File);
    }
    file::remove(&dir.initrd())?;
    initrd::in_memory(&image.initrd, &told(start, private), secrets).map(Initrd::Memory)
}

/// Where the initramfs of a boot is.
enum Initrd {
    /// In the instance's folder.
    File,
    /// In memory.
    Memory(File),
}

impl Initrd {
    /// The path by which QEMU opens it.
    fn path(&self, dir: &InstanceDir) -> PathBuf {
        match self {
            Initrd::File => dir.initrd(),
            Initrd::Memory(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        }
    }
}

/// The spec with what only the target knows.
fn told(start: &StartInstance, private: Mac) -> InstanceSpec {
    let mut spec = start.spec.clone();
    if !start.publish.is_empty() {
        spec.interfaces.push(Interface {
            mac: publish_mac(private).to_string(),
            address: PUBLISH_ADDRESS,
            prefix: PUBLISH_PREFIX,
            gateway: None,
        });
    }
    for attachment in &mut spec.volumes {
        let disk = start.volumes.iter().find(|disk| disk.serial == attachment.serial);
        attachment.initialized |= disk.is_some_and(|disk| volume::is_initialized(&disk.path));
    }
    spec
}

/// Ports of 127.0.0.1 that are free at this moment, all different: each is held until all are chosen.
///
/// # Errors
/// If the host has none left.
pub fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let held: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    held?.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// QEMU's own `-daemonize` cannot be used: it forks, which the sandbox forbids. So it becomes its own session here and
/// tells by QMP that it is up.
fn spawn(
    qemu: &Qemu,
    arguments: &[std::ffi::OsString],
    (dir, initrd): (&InstanceDir, &Initrd),
    log: &File,
) -> Result<Child, TargetError> {
    let mut command = Command::new(&qemu.path);
    command
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().at("open", &dir.qemu_log())?)
        .stderr(log.try_clone().at("open", &dir.qemu_log())?);
    let inherited = match initrd {
        Initrd::File => None,
        Initrd::Memory(file) => Some(file.as_raw_fd()),
    };
    // SAFETY: between fork and exec only setsid(2), setrlimit(2) and fcntl(2) are called, bare system calls that are
    // async-signal-safe; the descriptor is open in the parent until the child was made.
    unsafe {
        command.pre_exec(move || {
            // A new child never leads a group, so this cannot fail; if it did, QEMU would still run.
            let _ = rustix::process::setsid();
            if let Some(fd) = inherited {
                // The memory of this machine is in no core dump.
                let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
                rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
                rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(fd), rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    command.spawn().map_err(|source| TargetError::QemuRun { path: qemu.path.clone(), source })
}

fn wait_up(child: &mut Child, start: &StartInstance, dir: &InstanceDir) -> Result<(), TargetError> {
    let end = Instant::now() + UP_LIMIT;
    loop {
        if dir.qmp_socket().exists() && qmp::execute(&dir.qmp_socket(), "query-status").is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait().at("wait for", dir.path())? {
            return Err(TargetError::QemuStart {
                instance: start.instance.clone(),
                status: status.to_string(),
                output: file::tail(&dir.qemu_log(), OUTPUT_LINES)?.join("\n"),
            });
        }
        if Instant::now() >= end {
            return Err(TargetError::QemuSilent { instance: start.instance.clone(), limit: UP_LIMIT });
        }
        pause(UP_TICK);
    }
}

/// Completes the record of a start that was cut short by a kill.
fn with_process(
    local: &Local,
    dir: &InstanceDir,
    mut record: InstanceRecord,
) -> Result<InstanceRecord, TargetError> {
    if record.process.is_none() {
        record.process = local.live(&record.wanted.instance)?.map(|live| live.process);
        file::write_json(&dir.record(), &record)?;
    }
    Ok(record)
}

/// Tells the keeper of an instance that runs. It knows of it already, unless whoever started it was killed before saying so.
pub(super) fn attach_again(local: &Local, name: &str) -> Result<(), TargetError> {
    let Some(record) = local.record(name)? else { return Ok(()) };
    let mac = record.wanted.spec.interfaces.first().and_then(|interface| interface.mac.parse().ok());
    match mac {
        Some(mac) => attach(local, &record, &mac),
        // Of another version; whoever wrote it told the keeper in its way.
        None => Ok(()),
    }
}

fn attach(local: &Local, record: &InstanceRecord, private: &Mac) -> Result<(), TargetError> {
    let attachment = Attachment {
        mac: private.to_string(),
        boot: record.boot.clone(),
        forwards: record.forwards.iter().map(|(guest, host)| (*guest, *host)).collect(),
    };
    local.tell_keeper(&Request::Attach { instance: record.wanted.instance.clone(), attachment })
}
