//! Disks are found by their virtio-blk serial, never by the order in which the kernel saw them.

use std::path::PathBuf;

use crate::clock::wait_for;
use crate::error::Error;
use crate::{file, limit};

/// The device node of the disk with this serial; waits for it.
///
/// # Errors
/// [`Error::DeviceMissing`] when it does not appear.
pub fn find(serial: &str) -> Result<PathBuf, Error> {
    wait_for(limit::DEVICE_WAIT_MS, limit::DEVICE_POLL_MS, || look(serial)).ok_or_else(|| {
        Error::DeviceMissing {
            what: "disk with serial",
            name: serial.to_owned(),
            seconds: limit::DEVICE_WAIT_MS / 1000,
        }
    })
}

fn look(serial: &str) -> Option<PathBuf> {
    let mut names: Vec<String> = std::fs::read_dir("/sys/block")
        .ok()?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    let has_serial = |name: &String| {
        file::read_text(format!("/sys/block/{name}/serial")).is_ok_and(|found| found == serial)
    };
    let node = PathBuf::from(format!("/dev/{}", names.into_iter().find(has_serial)?));
    node.exists().then_some(node)
}
