//! A boot that builds: maintainer scripts run over a root that is otherwise read-only, and what they changed goes out
//! on the answer disk ([`plumb_guest_proto::BuildTask`] draws it).
//!
//! ```text
//!  verified root  lower ┐
//!  tmpfs          upper ┴ overlay = /   ─► steps ─► kill everything ─► walk upper ─► answer disk ─► power off
//! ```
//! The upper layer *is* the difference, deletions included. No network, no control port, no volumes.

mod answer;
mod step;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use plumb_guest_proto::{BUILD_TASK_PATH, BUILD_WORD, BuildOutcome, BuildTask, FORMAT, InstanceSpec};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::error::Error;
use crate::report::Reporter;
use crate::{disk, document, file, identity, module, mount, network, signal};

/// The serial of the answer disk if this boot is a build.
///
/// # Errors
/// [`Error::File`].
pub fn requested() -> Result<Option<String>, Error> {
    let line = file::read_text("/proc/cmdline").map_err(Error::file("read", "/proc/cmdline"))?;
    Ok(line.split_whitespace().find_map(|word| word.strip_prefix(BUILD_WORD)).map(str::to_owned))
}

/// Runs the task of the root and writes the answer.
///
/// # Errors
/// What keeps the task from being run or the answer from being written; a step that fails is an answer.
pub fn run(serial: &str, reporter: &mut Reporter) -> Result<(), Error> {
    module::load_all()?;
    let disk = disk::find(serial)?;
    let upper = enter(reporter)?;
    let task: BuildTask = document::task(BUILD_TASK_PATH)?;
    for step in &task.steps {
        reporter.say(&step.name);
        let failed = step::run(step, &task.environment, reporter);
        if failed.is_some() {
            let outcome = BuildOutcome { failed, changes: 0, bytes: 0, checksum: 0 };
            return answer::finish(&disk, &outcome);
        }
    }
    // A daemon that a script has started must not write while the changes are read.
    signal::kill_everyone();
    let outcome = answer::write(&disk, &PathBuf::from(format!("/proc/self/fd/{}", upper.as_raw_fd())))?;
    reporter.say(&format!("{} changes, {} bytes", outcome.changes, outcome.bytes));
    answer::finish(&disk, &outcome)
}

/// Makes the root writable and enters it. Returns the upper layer, which has no path any more then.
fn enter(reporter: &mut Reporter) -> Result<OwnedFd, Error> {
    for path in ["/lower", "/upper"] {
        file::make_directory(path)?;
    }
    let device = crate::verified_root()?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    mount::file_system("erofs", &device.display().to_string(), "/lower", flags, "")?;
    mount::file_system("tmpfs", "tmpfs", "/upper", MountFlags::empty(), "mode=0755,size=75%")?;
    for path in ["/upper/changes", "/upper/work"] {
        file::make_directory(path)?;
    }
    let layers =
        "lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work,redirect_dir=off,metacopy=off,index=off";
    mount::file_system("overlay", "overlay", "/sysroot", MountFlags::empty(), layers)?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let upper = rustix::fs::open(Path::new("/upper/changes"), flags, Mode::empty())
        .map_err(|errno| Error::file("open", "/upper/changes")(errno.into()))?;
    module::free_initramfs()?;
    mount::switch_root()?;
    mount::volatile_places()?;
    mount::devices()?;
    file::make_directory("/run/plumb")?;
    identity::write(&nobody())?;
    network::configure(&[])?;
    reporter.say("root mounted, writable in memory");
    Ok(upper)
}

/// A machine without a name of its own: no name of one build must get into an image.
fn nobody() -> InstanceSpec {
    InstanceSpec {
        format: FORMAT,
        deployment: String::new(),
        instance: "localhost".to_owned(),
        machine: String::new(),
        release: String::new(),
        generation: 0,
        interfaces: Vec::new(),
        peers: Vec::new(),
        volumes: Vec::new(),
        idle: false,
        config: std::collections::BTreeMap::new(),
    }
}
