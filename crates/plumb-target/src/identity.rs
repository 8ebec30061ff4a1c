//! Which process is ours.
//!
//! A process id alone says nothing: it is reused, also after a reboot. Ours is the one whose id stands in the file that
//! QEMU wrote, whose command line names that very file and our title, and whose start time is the recorded one. The
//! process is held by a pidfd (pidfd_open(2)) before it is examined, so what was examined is what gets the signal.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::error::{At, TargetError};

/// Longest command line that is read; ours have a few KiB.
const MAX_COMMAND_LINE_BYTES: u64 = 256 * 1024;

/// Ticks of `/proc/<pid>/stat` per second: USER_HZ is 100 on every Linux that runs on x86-64.
const MS_PER_TICK: u64 = 10;

/// Identity of this boot of the host.
pub(crate) fn boot_id() -> Result<String, TargetError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|text| text.trim().to_owned()).at("read", path)
}

/// A process as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub pid: u32,
    /// Clock ticks after boot, field 22 of proc_pid_stat(5).
    pub start_ticks: u64,
}

/// A process of ours that runs.
#[derive(Debug)]
pub(crate) struct Live {
    pub process: ProcessRecord,
    handle: OwnedFd,
}

impl Live {
    /// Sends a signal; a process that has ended in the meantime is fine.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.handle, signal);
    }

    /// Waits for the end of the process.
    pub fn wait_end(&self, limit: Duration) -> bool {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut waiting = [PollFd::new(&self.handle, PollFlags::IN)];
        // An interrupted wait counts as "not yet": every caller looks again or goes on to a stronger means.
        poll(&mut waiting, Some(&limit)).is_ok_and(|count| count > 0)
    }

    /// Resident and proportional memory in KiB, processor time in ms. Zero for what cannot be read any more.
    pub fn usage(&self) -> Usage {
        let base = format!("/proc/{}", self.process.pid);
        let rollup = fs::read_to_string(format!("{base}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
        };
        let cpu_ms = stat(self.process.pid).map_or(0, |stat| stat.cpu_ticks * MS_PER_TICK);
        Usage { rss_kib: field("Rss:"), pss_kib: field("Pss:"), cpu_ms }
    }
}

/// What a process costs the host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// Proportional memory, KiB: shared pages are counted in parts.
    pub pss_kib: u64,
    /// Processor time since the start, milliseconds.
    pub cpu_ms: u64,
}

struct Stat {
    state: char,
    cpu_ticks: u64,
    start_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name (field 2) may hold spaces and brackets, so fields are counted from its closing one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        cpu_ticks: number(14)? + number(15)?,
        start_ticks: number(22)?,
    })
}

/// Start time of a process that was started just now.
pub(crate) fn process_record(pid: u32) -> Option<ProcessRecord> {
    Some(ProcessRecord { pid, start_ticks: stat(pid)?.start_ticks })
}

/// The process that wrote `pid_file` with `-name <title>`, if it runs. `recorded` narrows it to one start.
pub(crate) fn find(pid_file: &Path, title: Option<&str>, recorded: Option<ProcessRecord>) -> Option<Live> {
    let pid: u32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let handle = rustix::process::pidfd_open(raw, PidfdFlags::empty()).ok()?;
    let stat = stat(pid)?;
    let process = ProcessRecord { pid, start_ticks: stat.start_ticks };
    let other_start = recorded.is_some_and(|recorded| recorded.pid == pid && recorded != process);
    if matches!(stat.state, 'Z' | 'X') || other_start || !names(pid, pid_file, title) {
        return None;
    }
    Some(Live { process, handle })
}

fn names(pid: u32, pid_file: &Path, title: Option<&str>) -> bool {
    let mut line = Vec::new();
    let Ok(file) = File::open(format!("/proc/{pid}/cmdline")) else { return false };
    if file.take(MAX_COMMAND_LINE_BYTES).read_to_end(&mut line).is_err() {
        return false;
    }
    use std::os::unix::ffi::OsStrExt;
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let has = |option: &[u8], value: &dyn Fn(&[u8]) -> bool| {
        arguments.windows(2).any(|pair| pair[0] == option && value(pair[1]))
    };
    has(b"-pidfile", &|value| value == pid_file.as_os_str().as_bytes())
        && has(b"-name", &|value| match title {
            Some(title) => value == title.as_bytes(),
            None => value.starts_with(b"plumb/"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_nasty_name() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 11 22 0 0 20 0 1 0 12345 1 2 3";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.cpu_ticks, stat.start_ticks), ('S', 33, 12345));
        assert!(parse_stat("nonsense").is_none());
    }

    #[test]
    fn a_reused_pid_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        assert!(find(&file, None, None).is_none());
        fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert!(find(&file, None, None).is_none(), "this test is no QEMU");
        fs::write(&file, "0\n").unwrap();
        assert!(find(&file, None, None).is_none());
    }
}
