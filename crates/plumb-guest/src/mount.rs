//! Mounts of the guest.

use std::ffi::CString;
use std::io;

use plumb_guest_proto::Writable;
use rustix::mount::{MountFlags, mount, mount_move};

use crate::error::Error;
use crate::file;

const KERNEL: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// One file system.
///
/// # Errors
/// [`Error::Mount`].
pub fn file_system(
    kind: &str,
    source: &str,
    at: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), Error> {
    let failed = |source| Error::Mount { what: kind.to_owned(), at: at.to_owned(), source };
    let options = CString::new(options).map_err(|e| failed(io::Error::other(e)))?;
    mount(source, at, kind, flags, options.as_c_str()).map_err(|errno| failed(errno.into()))
}

/// `/proc`, `/sys` and `/dev` of the initramfs; the console is open only after this.
///
/// # Errors
/// [`Error::Mount`], [`Error::File`].
pub fn kernel_file_systems() -> Result<(), Error> {
    for path in ["/proc", "/sys", "/dev", "/sysroot"] {
        file::make_directory(path)?;
    }
    file_system("proc", "proc", "/proc", KERNEL, "")?;
    file_system("sysfs", "sysfs", "/sys", KERNEL, "")?;
    match file_system("devtmpfs", "devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755") {
        // A kernel with CONFIG_DEVTMPFS_MOUNT may have done it.
        Err(Error::Mount { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}

/// Makes `/sysroot` the root of this process and everything after it.
///
/// # Errors
/// [`Error::Mount`], [`Error::System`].
pub fn switch_root() -> Result<(), Error> {
    for path in ["/proc", "/sys", "/dev"] {
        let target = format!("/sysroot{path}");
        mount_move(path, target.as_str()).map_err(|errno| Error::Mount {
            what: path.to_owned(),
            at: target.clone(),
            source: errno.into(),
        })?;
    }
    rustix::process::chdir("/sysroot").map_err(|e| Error::system("enter the new root")(e.into()))?;
    mount_move(".", "/").map_err(|e| Error::system("move the new root")(e.into()))?;
    rustix::process::chroot(".").map_err(|e| Error::system("change the root")(e.into()))?;
    rustix::process::chdir("/").map_err(|e| Error::system("enter the new root")(e.into()))
}

/// A writable layer in memory over the whole of `/sysroot`, which is not yet the root.
///
/// # Errors
/// [`Error::Mount`], [`Error::File`].
pub fn writable_root() -> Result<(), Error> {
    file::make_directory("/writable")?;
    // Programs of a container image may be set-uid, so neither mount is nosuid.
    file_system("tmpfs", "tmpfs", "/writable", MountFlags::NODEV, "mode=0755,size=50%")?;
    for path in ["/writable/upper", "/writable/work"] {
        file::make_directory(path)?;
    }
    let layers = "lowerdir=/sysroot,upperdir=/writable/upper,workdir=/writable/work";
    file_system("overlay", "overlay", "/sysroot", MountFlags::NODEV, layers)
}

/// The writable places of the machine, none of which is kept over a boot.
///
/// # Errors
/// [`Error::Mount`], [`Error::File`].
pub fn writable_places(writable: Writable) -> Result<(), Error> {
    match writable {
        Writable::Places => volatile_places()?,
        // The image's own, with what is in them; an image of a single program has none.
        Writable::Root => {
            file::make_directory("/run")?;
            if !std::path::Path::new("/tmp").exists() {
                directory_for_all("/tmp")?;
            }
        }
    }
    file::make_directory("/run/plumb")?;
    devices()?;
    file_system("cgroup2", "cgroup2", "/sys/fs/cgroup", KERNEL, "nsdelegate")?;
    match writable {
        Writable::Places => var(),
        Writable::Root => Ok(()),
    }
}

/// `/run` with `/run/lock`, where `/var/lock` leads, and `/tmp`.
///
/// # Errors
/// [`Error::Mount`], [`Error::File`].
pub fn volatile_places() -> Result<(), Error> {
    file_system("tmpfs", "tmpfs", "/run", PLAIN, "mode=0755,size=25%")?;
    file_system("tmpfs", "tmpfs", "/tmp", PLAIN, "mode=1777,size=50%")?;
    directory_for_all("/run/lock")
}

fn directory_for_all(path: &str) -> Result<(), Error> {
    file::make_directory(path)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(path, mode).map_err(Error::file("open to all", path))
}

/// What belongs below `/dev` and is no device.
///
/// # Errors
/// [`Error::Mount`], [`Error::File`].
pub fn devices() -> Result<(), Error> {
    file::make_directory("/dev/pts")?;
    file::make_directory("/dev/shm")?;
    let pts = MountFlags::NOSUID | MountFlags::NOEXEC;
    file_system("devpts", "devpts", "/dev/pts", pts, "mode=0620,ptmxmode=0666,gid=5")?;
    file_system("tmpfs", "tmpfs", "/dev/shm", PLAIN, "mode=1777,size=50%")?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        match std::os::unix::fs::symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::file("make", link)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `/var` of the image with a writable layer in memory over it; volumes are mounted over that.
fn var() -> Result<(), Error> {
    file::make_directory("/run/plumb/var")?;
    file_system("tmpfs", "tmpfs", "/run/plumb/var", PLAIN, "mode=0700,size=50%")?;
    for path in ["/run/plumb/var/upper", "/run/plumb/var/work"] {
        file::make_directory(path)?;
    }
    let layers = "lowerdir=/var,upperdir=/run/plumb/var/upper,workdir=/run/plumb/var/work";
    file_system("overlay", "overlay", "/var", PLAIN, layers)
}
