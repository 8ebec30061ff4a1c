//! Directories made at boot and before a service starts, as root, in places that services can write: so no link
//! that a service could have planted is followed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use plumb_guest_proto::Directory;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::limit;

/// Makes the directory and its parents (parents: root, 0755) and gives it owner and mode.
///
/// # Errors
/// A sentence naming the directory.
pub fn make(directory: &Directory) -> Result<(), String> {
    make_below(Path::new("/"), directory)
        .map_err(|error| format!("cannot make directory `{}`: {error}", directory.path))
}

fn make_below(root: &Path, directory: &Directory) -> io::Result<()> {
    let mut current = open_directory(root)?;
    let components: Vec<Component> = Path::new(&directory.path).components().collect();
    if components.len() > limit::PATH_STEPS {
        return Err(io::Error::from(Errno::NAMETOOLONG));
    }
    for component in components {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => current = enter(&current, name)?,
            Component::ParentDir | Component::Prefix(_) => return Err(io::Error::from(Errno::INVAL)),
        }
    }
    let stat = rustix::fs::fstat(&current)?;
    let uid_differs = stat.st_uid != directory.uid || stat.st_gid != directory.gid;
    if uid_differs {
        fchown(&current, Some(Uid::from_raw(directory.uid)), Some(Gid::from_raw(directory.gid)))?;
    }
    // A change of owner clears set-id bits, so the mode comes after it.
    if uid_differs || stat.st_mode & 0o7777 != directory.mode {
        fchmod(&current, Mode::from_raw_mode(directory.mode))?;
    }
    Ok(())
}

/// Opens one component, making it if it is not there. A link is followed only if root made it.
fn enter(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        // A read-only place may still hold the directory already.
        Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    match openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(opened) => Ok(opened),
        // O_DIRECTORY | O_NOFOLLOW on a link says ENOTDIR or ELOOP.
        Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
            let link = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if rustix::fs::FileType::from_raw_mode(link.st_mode).is_symlink() && link.st_uid == 0 {
                Ok(openat(parent, name, flags, Mode::empty())?)
            } else {
                Err(errno.into())
            }
        }
        Err(errno) => Err(errno.into()),
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("plumb-guest-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("scratch");
        path
    }

    #[test]
    fn parents_mode_and_planted_links() {
        let root = scratch("directory");
        let own = std::fs::metadata(&root).expect("scratch");
        let wanted =
            |path: &str| Directory { path: path.into(), mode: 0o700, uid: own.uid(), gid: own.gid() };
        make_below(&root, &wanted("/a/b/c")).expect("made");
        make_below(&root, &wanted("/a/b/c")).expect("made again");
        assert_eq!(std::fs::metadata(root.join("a/b/c")).expect("there").mode() & 0o7777, 0o700);
        assert_eq!(std::fs::metadata(root.join("a")).expect("there").mode() & 0o7777, 0o755);
        assert!(make_below(&root, &wanted("/a/../x")).is_err());
        std::fs::write(root.join("file"), "").expect("file");
        assert!(make_below(&root, &wanted("/file/x")).is_err());
        symlink(root.join("a"), root.join("link")).expect("link");
        // Only a link that root made is followed.
        assert_eq!(make_below(&root, &wanted("/link/d")).is_ok(), own.uid() == 0);
        if own.uid() == 0 {
            std::os::unix::fs::lchown(root.join("link"), Some(1000), Some(1000)).expect("lchown");
            assert!(make_below(&root, &wanted("/link/e")).is_err());
        }
        std::fs::remove_dir_all(&root).expect("cleaned");
    }
}
