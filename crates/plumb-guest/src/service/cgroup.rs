//! One control group per service, so that all of it can be found and killed whatever it forks:
//! `/sys/fs/cgroup/plumb/<service>/{main,check}` (Documentation/admin-guide/cgroup-v2.rst).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::{file, limit};

const ROOT: &str = "/sys/fs/cgroup/plumb";

/// Whether the name can be a directory of its own: no separator, nothing hidden, nothing special.
pub fn is_safe_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':'))
}

/// A control group.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group `leaf` of a service whose name [`is_safe_name`].
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn make(service: &str, leaf: &str) -> Result<Cgroup, Error> {
        let path = Path::new(ROOT).join(service).join(leaf);
        std::fs::create_dir_all(&path).map_err(Error::file("make", path.display().to_string()))?;
        Ok(Cgroup { path })
    }

    /// `cgroup.procs`, to be written by a process that joins.
    pub fn door(&self) -> std::io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// The processes of the group. Unreadable means none: the group cannot go away while it has any.
    pub fn processes(&self) -> Vec<u32> {
        let path = self.path.join("cgroup.procs");
        let bytes = file::read_bounded(&path, limit::SMALL_FILE_BYTES).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// Whether no process is left, zombies not counted.
    pub fn is_empty(&self) -> bool {
        file::read_text(self.path.join("cgroup.events"))
            .is_ok_and(|text| text.lines().any(|l| l == "populated 0"))
    }

    /// Sends a signal to every process.
    pub fn signal(&self, signal: i32) {
        for pid in self.processes() {
            send_signal(pid, signal);
        }
    }

    /// SIGKILL to every process at once, also to those being forked now.
    pub fn kill(&self) {
        kill_below(&self.path);
    }
}

/// The service whose control group a process is in; a process that has ended but was not collected yet counts.
pub fn service_of(pid: u32) -> Option<String> {
    let text = file::read_text(format!("/proc/{pid}/cgroup")).ok()?;
    service_in(&text).map(str::to_owned)
}

/// From `/proc/PID/cgroup` of cgroups(7): `0::/plumb/<service>/main`.
fn service_in(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/plumb/"))?.split('/').next()
}

/// SIGKILL to every process of every service.
pub fn kill_all() {
    kill_below(Path::new(ROOT));
}

fn kill_below(path: &Path) {
    let result =
        OpenOptions::new().write(true).open(path.join("cgroup.kill")).and_then(|mut f| f.write_all(b"1"));
    if result.is_err() {
        // A kernel before 5.14 has no cgroup.kill; the processes one by one is the next best.
        let group = Cgroup { path: path.to_owned() };
        group.signal(libc::SIGKILL);
    }
}

/// kill(2); a process that is already gone is fine. Never a group: pid 0 and above `i32::MAX` are ignored.
pub fn send_signal(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // SAFETY: kill takes two integers and touches no memory.
        unsafe { libc::kill(pid, signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_processes() {
        assert_eq!(service_in("0::/plumb/web/main\n"), Some("web"));
        assert_eq!(service_in("1:name=x:/plumb/y/main\n0::/plumb/db/check\n"), Some("db"));
        assert_eq!(service_in("0::/\n"), None);
    }

    #[test]
    fn names_that_leave_their_place_are_refused() {
        for good in ["web", "postgresql@15-main", "a.b", "x_1"] {
            assert!(is_safe_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".x", "a/b", "../x", "a b", "a\n", "ä", &"x".repeat(101)] {
            assert!(!is_safe_name(bad), "{bad}");
        }
    }
}
