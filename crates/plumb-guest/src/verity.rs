//! dm-verity by three device-mapper ioctls; no library, no udev.
//!
//! ```text
//!  struct dm_ioctl (312 bytes)        linux/dm-ioctl.h
//!    0 version[3]   12 data_size   16 data_start   20 target_count   28 flags   40 dev   48 name[128]   176 uuid[129]
//!  struct dm_target_spec (40 bytes), then the parameters, NUL-terminated
//!    0 sector_start    8 length in sectors    16 status   20 next   24 target_type[16]
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use plumb_guest_proto::RootDisk;

use crate::clock::wait_for;
use crate::error::Error;
use crate::limit;

const NAME: &[u8] = b"plumb-root";
const HEADER: usize = 312;
const TARGET: usize = 40;
const PARAMETERS: usize = 1024;
const READ_ONLY: u32 = 1;

const DEV_CREATE: libc::c_ulong = 3;
const DEV_SUSPEND: libc::c_ulong = 6;
const TABLE_LOAD: libc::c_ulong = 9;

/// The parameters of the verity target: Documentation/admin-guide/device-mapper/verity.rst.
fn table(root: &RootDisk, device: &Path) -> String {
    let device = device.display();
    let salt = if root.salt.is_empty() { "-" } else { &root.salt };
    let RootDisk { data_blocks, hash_start_block, root_hash, .. } = root;
    format!("1 {device} {device} 4096 4096 {data_blocks} {hash_start_block} sha256 {root_hash} {salt}")
}

/// Puts dm-verity over the disk and returns the verified, read-only device.
///
/// # Errors
/// [`Error::Verity`] naming the step, [`Error::Contradiction`] for parameters that cannot be right.
pub fn open(root: &RootDisk, disk: &Path) -> Result<PathBuf, Error> {
    let failed = |step| move |source| Error::Verity { step, serial: root.serial.clone(), source };
    let bad = |problem: &str| Error::Contradiction { path: "/proc/cmdline", problem: problem.to_owned() };
    let sectors = root.data_blocks.checked_mul(8).ok_or_else(|| bad("`plumb.root=` has too many blocks"))?;
    let parameters = table(root, disk);
    if parameters.len() >= PARAMETERS {
        return Err(bad("`plumb.root=` is too long"));
    }
    let control = wait_for(limit::DEVICE_WAIT_MS, limit::DEVICE_POLL_MS, || {
        OpenOptions::new().read(true).write(true).open("/dev/mapper/control").ok()
    })
    .ok_or_else(|| failed("reach device-mapper for")(io::Error::from(io::ErrorKind::NotFound)))?;

    let mut request = request(0);
    call(&control, DEV_CREATE, &mut request).map_err(failed("create"))?;
    let minor = minor_of(&request);

    let mut request = self::request(READ_ONLY);
    request[20..24].copy_from_slice(&1u32.to_ne_bytes());
    request[HEADER + 8..HEADER + 16].copy_from_slice(&sectors.to_ne_bytes());
    request[HEADER + 24..HEADER + 30].copy_from_slice(b"verity");
    request[HEADER + TARGET..HEADER + TARGET + parameters.len()].copy_from_slice(parameters.as_bytes());
    call(&control, TABLE_LOAD, &mut request).map_err(failed("load"))?;

    // A suspend without the suspend flag resumes: the table becomes live.
    call(&control, DEV_SUSPEND, &mut self::request(0)).map_err(failed("start"))?;
    let node = PathBuf::from(format!("/dev/dm-{minor}"));
    wait_for(limit::DEVICE_WAIT_MS, 1, || node.exists().then(|| node.clone())).ok_or_else(|| {
        Error::DeviceMissing {
            what: "device-mapper device",
            name: node.display().to_string(),
            seconds: limit::DEVICE_WAIT_MS / 1000,
        }
    })
}

fn request(flags: u32) -> Vec<u8> {
    let size = HEADER + TARGET + PARAMETERS;
    let mut bytes = vec![0; size];
    bytes[0..4].copy_from_slice(&4u32.to_ne_bytes());
    bytes[12..16].copy_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_ne_bytes());
    bytes[16..20].copy_from_slice(&u32::try_from(HEADER).unwrap_or(u32::MAX).to_ne_bytes());
    bytes[28..32].copy_from_slice(&flags.to_ne_bytes());
    bytes[48..48 + NAME.len()].copy_from_slice(NAME);
    bytes
}

/// The minor number in `dev`, which the kernel writes as huge_encode_dev: low byte, then bits 20 and up.
fn minor_of(request: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&request[40..48]);
    let device = u64::from_ne_bytes(bytes);
    (device & 0xff) | ((device >> 12) & 0xfff_ff00)
}

fn call(control: &File, number: libc::c_ulong, request: &mut [u8]) -> io::Result<()> {
    // _IOWR(0xfd, number, struct dm_ioctl)
    let code = (3 << 30) | ((HEADER as libc::c_ulong) << 16) | (0xfd << 8) | number;
    // SAFETY: `request` is longer than HEADER and its data_size field says its true length, which is all the kernel
    // reads and writes; it lives until the call returns.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), code, request.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_form() {
        let mut root = RootDisk {
            serial: "r".into(),
            data_blocks: 10,
            hash_start_block: 11,
            salt: String::new(),
            root_hash: "ab".repeat(32),
        };
        let hash = "ab".repeat(32);
        let disk = Path::new("/dev/vda");
        assert_eq!(table(&root, disk), format!("1 /dev/vda /dev/vda 4096 4096 10 11 sha256 {hash} -"));
        root.salt = "00".into();
        assert!(table(&root, disk).ends_with(" 00"));
    }

    #[test]
    fn minor_numbers() {
        let mut bytes = request(0);
        bytes[40..48].copy_from_slice(&((254u64 << 8) | 3).to_ne_bytes());
        assert_eq!(minor_of(&bytes), 3);
    }
}
