//! A machine that runs once and is thrown away: it boots, does what its image says, answers on a disk and powers off.
//!
//! Nobody needs to find it again, so there is no record, no keeper, no socket. It ends with the program that started
//! it, however that ends.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::accelerator::Accelerator;
use crate::clock::pause;
use crate::command::throwaway_arguments;
use crate::driver::ImagePaths;
use crate::error::{At, TargetError};
use crate::file;
use crate::qemu::Qemu;

/// Pause between two looks whether QEMU has ended; short against a boot.
const TICK: Duration = Duration::from_millis(20);

/// Lines of QEMU's own output and of the console that explain a failure.
const OUTPUT_LINES: usize = 20;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Throwaway<'a> {
    /// What it boots.
    pub image: &'a ImagePaths,
    /// The disk it answers on: a file of the wanted length, all zeros.
    pub answer: &'a Path,
    /// virtio-blk serial of that disk, at most 20 bytes.
    pub answer_serial: &'a str,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// What its clock says when it starts, like `2025-09-06T12:00:00`: dates that it writes do not depend on today.
    pub clock: &'a str,
    /// It is killed after this time.
    pub limit: Duration,
    /// An empty folder for what it says: `console.log`, `qemu.log`.
    pub folder: &'a Path,
}

/// Runs it to its end. Returns the end of its console.
///
/// # Errors
/// If QEMU cannot be run, ends with an error, or takes too long.
pub fn run(
    qemu: &Qemu,
    accelerator: &Accelerator,
    wanted: &Throwaway<'_>,
) -> Result<Vec<String>, TargetError> {
    let log = wanted.folder.join("qemu.log");
    let output = file::append(&log)?;
    let mut command = Command::new(&qemu.path);
    command
        .args(throwaway_arguments(wanted, accelerator))
        .current_dir(wanted.folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone().at("open", &log)?)
        .stderr(output);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only prctl(2) and getppid(2) are called, bare system calls that are
    // async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before the line above.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(std::io::ErrorKind::NotFound.into())
            }
        });
    }
    let mut child =
        command.spawn().map_err(|source| TargetError::QemuRun { path: qemu.path.clone(), source })?;
    let ended = wait(&mut child, wanted.limit).at("wait for", &qemu.path)?;
    let console = file::tail(&wanted.folder.join("console.log"), OUTPUT_LINES)?;
    match ended {
        Some(status) if status.success() => Ok(console),
        Some(status) => Err(TargetError::Throwaway {
            status: status.to_string(),
            output: file::tail(&log, OUTPUT_LINES)?.join("\n"),
        }),
        None => Err(TargetError::ThrowawayLimit { limit: wanted.limit, console: console.join("\n") }),
    }
}

/// Waits for the end; kills it after `limit` and says `None` then.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        pause(TICK);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::accelerator::AcceleratorKind;

    /// A program in QEMU's place.
    fn check(script: &str, limit: Duration) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let qemu = Qemu { path, version: (7, 2) };
        let accelerator = Accelerator {
            kind: AcceleratorKind::Tcg,
            reason: String::new(),
            hint: None,
            tsc_khz: 1,
            fresh: false,
        };
        let (kernel, initrd, root) = ("k".into(), "i".into(), "r".into());
        let image = ImagePaths { digest: String::new(), kernel, initrd, root, cmdline: "quiet".into() };
        let wanted = Throwaway {
            image: &image,
            answer: Path::new("answer"),
            answer_serial: "answer",
            memory_mib: 64,
            clock: "2025-09-06T12:00:00",
            limit,
            folder: folder.path(),
        };
        run(&qemu, &accelerator, &wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn ends_are_told() {
        let long = Duration::from_secs(60);
        assert_eq!(check("echo one > console.log", long).unwrap(), ["one"]);
        let failed = check("echo no such disk >&2; exit 3", long).unwrap_err();
        assert_eq!(failed, "the build machine ended with exit status: 3: no such disk");
        let late =
            check("echo hangs > console.log; exec sleep 1000", Duration::from_millis(500)).unwrap_err();
        assert!(late.starts_with("the build machine was not done within 0 s"), "{late}");
    }

    #[test]
    fn it_reaches_nobody_and_its_clock_is_set() {
        let arguments = check("echo \"$@\" > console.log", Duration::from_secs(60)).unwrap().join(" ");
        for part in ["-nodefaults", "-rtc base=2025-09-06T12:00:00,clock=vm", "serial=answer", "-sandbox on"]
        {
            assert!(arguments.contains(part), "{part} is not in {arguments}");
        }
        assert!(!arguments.contains("-netdev") && !arguments.contains("socket"), "{arguments}");
    }
}
