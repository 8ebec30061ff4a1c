//! Where the files of a deployment are.
//!
//! ```text
//!  <run>/                        mode 0700
//!    keeper.sock keeper.lock keeper.json keeper.log
//!    instances/<instance>/
//!      instance.json             what was asked for, and the process that came of it
//!      initrd                    image's initrd + /plumb/instance.json
//!      pid                       written and locked by QEMU
//!      net.sock control.sock console.sock qmp.sock      QEMU listens
//!      console.log qemu.log      what the guest's serial port and QEMU itself said
//!      status.json log.jsonl     what the guest said on its control port (written by the keeper)
//!  <volumes>/
//!    <volume>.raw                one disk; <volume>.raw.initialized: seen with a file system
//! ```

use std::path::{Path, PathBuf};

use crate::error::TargetError;

/// Longest name: a DNS label (RFC 1035, 2.3.4), as instance names become host names.
const MAX_NAME_BYTES: usize = 63;

/// Refuses what could leave its directory or confuse a QEMU option.
pub(crate) fn check_name(name: &str) -> Result<(), TargetError> {
    let bytes = name.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= MAX_NAME_BYTES
        && bytes[0] != b'-'
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if good { Ok(()) } else { Err(TargetError::Name { name: name.to_owned() }) }
}

/// The run directory of one deployment.
#[derive(Debug, Clone)]
pub(crate) struct RunDir(pub PathBuf);

impl RunDir {
    pub fn keeper_socket(&self) -> PathBuf {
        self.0.join("keeper.sock")
    }
    pub fn keeper_lock(&self) -> PathBuf {
        self.0.join("keeper.lock")
    }
    pub fn keeper_config(&self) -> PathBuf {
        self.0.join("keeper.json")
    }
    pub fn keeper_log(&self) -> PathBuf {
        self.0.join("keeper.log")
    }
    pub fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }
    /// `name` must have passed [`check_name`].
    pub fn instance(&self, name: &str) -> InstanceDir {
        InstanceDir(self.instances().join(name))
    }
}

/// The directory of one instance.
#[derive(Debug, Clone)]
pub(crate) struct InstanceDir(pub PathBuf);

impl InstanceDir {
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn record(&self) -> PathBuf {
        self.0.join("instance.json")
    }
    pub fn initrd(&self) -> PathBuf {
        self.0.join("initrd")
    }
    pub fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }
    pub fn net_socket(&self) -> PathBuf {
        self.0.join("net.sock")
    }
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
    pub fn console_socket(&self) -> PathBuf {
        self.0.join("console.sock")
    }
    pub fn qmp_socket(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }
    pub fn console_log(&self) -> PathBuf {
        self.0.join("console.log")
    }
    pub fn qemu_log(&self) -> PathBuf {
        self.0.join("qemu.log")
    }
    pub fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }
    pub fn log(&self) -> PathBuf {
        self.0.join("log.jsonl")
    }
    /// What a running QEMU needs; stale as soon as it has ended.
    pub fn sockets(&self) -> [PathBuf; 4] {
        [self.net_socket(), self.control_socket(), self.console_socket(), self.qmp_socket()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["web-1", "a", "0db"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "..", "a/b", "a,b", "A", "a b", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
