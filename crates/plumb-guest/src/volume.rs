//! Volumes: formatted once, grown when their disk is, checked when they were not unmounted in order, and never
//! formatted when they hold anything.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use plumb_guest_proto::{Event, VolumeAttachment, VolumeMount};
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::clock::wait_for;
use crate::error::Error;
use crate::ext4::{self, Head, Superblock};
use crate::{disk, limit, mount, tool};

/// What has to happen before a volume is mounted.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Format,
    Check,
    Mount,
}

/// Decides what happens to a disk, or why it is refused. This is where data could be lost, so it is a pure function.
fn decide(head: Head, disk_bytes: u64, initialized: bool) -> Result<Step, String> {
    match head {
        Head::Ext4(found) if found.bytes() > disk_bytes => Err(format!(
            "its file system has {} but its disk only {}: the disk was cut off",
            size(found.bytes()),
            size(disk_bytes)
        )),
        Head::Ext4(found) => Ok(if found.clean { Step::Mount } else { Step::Check }),
        _ if disk_bytes < limit::VOLUME_BYTES_MIN => {
            Err(format!("its disk has {disk_bytes} bytes, less than {}", size(limit::VOLUME_BYTES_MIN)))
        }
        Head::Blank if initialized => {
            Err("its disk is blank although it was formatted before; it is not formatted again".to_owned())
        }
        Head::Foreign if initialized => {
            Err("its disk holds no file system although it was formatted before; it is not formatted again"
                .to_owned())
        }
        Head::Foreign => Err("its disk holds something that is not ext4; it is not formatted".to_owned()),
        Head::Blank => Ok(Step::Format),
    }
}

/// A volume that is mounted now.
#[derive(Debug)]
pub struct Mounted {
    /// It was not unmounted in order the last time, and e2fsck has looked at it.
    pub checked: bool,
    /// It was blank and has been formatted.
    pub formatted: bool,
    /// It was grown to its disk.
    pub grown: bool,
    /// Size of the file system.
    pub size_bytes: u64,
}

impl Mounted {
    /// `volume data mounted (formatted, 1.0 GiB)`.
    pub fn line(&self, name: &str) -> String {
        let notes = [(self.checked, "checked, "), (self.formatted, "formatted, "), (self.grown, "grown, ")];
        let notes: String = notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note).collect();
        format!("volume {name} mounted ({notes}{})", size(self.size_bytes))
    }

    /// The same for the host.
    pub fn event(self, name: &str) -> Event {
        let Mounted { formatted, grown, size_bytes, .. } = self;
        Event::VolumeMounted { name: name.to_owned(), formatted, grown, size_bytes }
    }
}

/// Mounts one volume, whatever that takes.
///
/// # Errors
/// [`Error::Volume`] naming the volume and the reason, [`Error::DeviceMissing`], [`Error::Mount`].
pub fn bring_up(volume: &VolumeMount, attachment: &VolumeAttachment) -> Result<Mounted, Error> {
    let refused = |problem: String| Error::Volume { name: volume.name.clone(), problem };
    let device = disk::find(&attachment.serial)?;
    let (head, disk_bytes) = inspect(&device).map_err(Error::file("read", device.display().to_string()))?;
    let step = decide(head, disk_bytes, attachment.initialized).map_err(refused)?;
    let node = device.display().to_string();
    match step {
        Step::Format => format(&volume.name, &node).map_err(refused)?,
        Step::Check => check(&node).map_err(refused)?,
        Step::Mount => {}
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    mount::file_system("ext4", &node, &volume.mount, flags, "data=ordered")?;
    if step == Step::Format {
        own(volume).map_err(Error::file("prepare", volume.mount.clone()))?;
    }
    let (grown, size_bytes) = grow(&device, &volume.mount, disk_bytes).map_err(refused)?;
    Ok(Mounted { checked: step == Step::Check, formatted: step == Step::Format, grown, size_bytes })
}

/// `1.0 GiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10) / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

fn inspect(device: &Path) -> std::io::Result<(Head, u64)> {
    let mut disk = File::open(device)?;
    let bytes = disk.seek(SeekFrom::End(0))?;
    let mut head = [0; ext4::HEAD_BYTES];
    if bytes >= ext4::HEAD_BYTES as u64 {
        disk.seek(SeekFrom::Start(0))?;
        disk.read_exact(&mut head)?;
    }
    Ok((ext4::read(&head), bytes))
}

fn format(name: &str, node: &str) -> Result<(), String> {
    let program =
        tool::find(&["/usr/sbin/mke2fs", "/sbin/mke2fs"]).ok_or("the image has no `mke2fs` to format it")?;
    // ext4 labels have 16 bytes.
    let label: String = name.chars().filter(char::is_ascii).take(16).collect();
    let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
    let arguments = ["-q", "-F", "-t", "ext4", "-m", "0", "-L", &label, "-E", options, node];
    match tool::run(program, &arguments)? {
        tool::Finished { code: Some(0), .. } => Ok(()),
        failed => Err(format!("`mke2fs` {}", ended(&failed))),
    }
}

/// e2fsck(8): 0 is clean, 1 is repaired; everything else needs a person.
fn check(node: &str) -> Result<(), String> {
    let program =
        tool::find(&["/usr/sbin/e2fsck", "/sbin/e2fsck"]).ok_or("the image has no `e2fsck` to check it")?;
    match tool::run(program, &["-p", node])? {
        tool::Finished { code: Some(0 | 1), .. } => Ok(()),
        failed => Err(format!("its file system is damaged; `e2fsck -p` {}", ended(&failed))),
    }
}

fn ended(finished: &tool::Finished) -> String {
    match finished.code {
        Some(code) => format!("exited with status {code}: {}", finished.output),
        None => format!("was killed: {}", finished.output),
    }
}

/// First use: owner, mode, and no `lost+found`, for programs such as initdb insist on an empty directory. e2fsck makes
/// it again should it ever need it.
fn own(volume: &VolumeMount) -> std::io::Result<()> {
    let found = Path::new(&volume.mount).join("lost+found");
    if found.exists() {
        std::fs::remove_dir(&found)?;
    }
    chown(&volume.mount, Some(volume.uid), Some(volume.gid))?;
    std::fs::set_permissions(&volume.mount, std::fs::Permissions::from_mode(volume.mode))
}

/// Grows the mounted file system to its disk. Returns whether it grew, and its size.
fn grow(device: &Path, mounted: &str, disk_bytes: u64) -> Result<(bool, u64), String> {
    let before = superblock(device)?;
    let blocks = disk_bytes / before.block_bytes;
    if blocks <= before.blocks {
        return Ok((false, before.bytes()));
    }
    // _IOW('f', 16, __u64), linux/ext4.h
    const RESIZE_FS: libc::c_ulong = (1 << 30) | (8 << 16) | ((b'f' as libc::c_ulong) << 8) | 16;
    let root = File::open(mounted).map_err(|error| format!("cannot open `{mounted}`: {error}"))?;
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64, which lives until the call returns.
    if unsafe { libc::ioctl(root.as_raw_fd(), RESIZE_FS, &raw const blocks) } < 0 {
        let error = std::io::Error::last_os_error();
        return Err(format!("cannot grow from {} to {}: {error}", size(before.bytes()), size(disk_bytes)));
    }
    rustix::fs::syncfs(&root).map_err(|errno| format!("cannot write it: {errno}"))?;
    let after = superblock(device)?;
    // A remainder smaller than a block group cannot be used; then nothing has grown.
    Ok((after.blocks > before.blocks, after.bytes().max(before.bytes())))
}

fn superblock(device: &Path) -> Result<Superblock, String> {
    match inspect(device) {
        Ok((Head::Ext4(found), _)) => Ok(found),
        Ok(_) => Err("its file system is gone after the mount".to_owned()),
        Err(error) => Err(format!("cannot read `{}`: {error}", device.display())),
    }
}

/// Writes everything out and unmounts, for processes may need a moment to let go. Returns what could not be done.
pub fn take_down(path: &str) -> Result<(), String> {
    let mut last = None;
    for _ in 0..limit::UNMOUNT_TRIES {
        match unmount(path, UnmountFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(errno) => last = Some(errno),
        }
        wait_for(limit::GROUP_POLL_MS, limit::GROUP_POLL_MS, || None::<()>);
    }
    // What is written is safe even if the mount stays: the journal was committed by the sync.
    match OpenOptions::new().read(true).open(path).map(|root| rustix::fs::syncfs(&root)) {
        Ok(Ok(())) => {}
        Ok(Err(errno)) => return Err(format!("cannot write `{path}`: {errno}")),
        Err(error) => return Err(format!("cannot open `{path}`: {error}")),
    }
    Err(format!("cannot unmount `{path}`: {}", last.map_or_else(String::new, |errno| errno.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn ext4(bytes: u64, clean: bool) -> Head {
        Head::Ext4(Superblock { blocks: bytes / 4096, block_bytes: 4096, clean })
    }

    #[test]
    fn only_a_blank_new_disk_is_formatted() {
        assert_eq!(decide(Head::Blank, GIB, false), Ok(Step::Format));
        assert!(decide(Head::Blank, GIB, true).is_err_and(|e| e.contains("not formatted again")));
        assert!(decide(Head::Foreign, GIB, false).is_err_and(|e| e.contains("not ext4")));
        assert!(decide(Head::Foreign, GIB, true).is_err());
        assert!(decide(Head::Blank, 0, false).is_err());
        assert!(decide(Head::Blank, 4096, false).is_err());
    }

    #[test]
    fn a_file_system_is_kept() {
        for initialized in [false, true] {
            assert_eq!(decide(ext4(GIB, true), GIB, initialized), Ok(Step::Mount));
            assert_eq!(decide(ext4(GIB, true), 2 * GIB, initialized), Ok(Step::Mount));
            assert_eq!(decide(ext4(GIB, false), GIB, initialized), Ok(Step::Check));
            assert!(decide(ext4(2 * GIB, true), GIB, initialized).is_err_and(|e| e.contains("cut off")));
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(
            [size(GIB), size(64 << 20), size(1536 << 20), size(2048)],
            ["1.0 GiB", "64.0 MiB", "1.5 GiB", "2.0 KiB"]
        );
    }
}
