//! Kernel modules of the initramfs, in the order computed at build time.

use std::fs::File;
use std::path::Path;

use plumb_guest_proto::MODULE_LIST_PATH;
use rustix::io::Errno;
use rustix::system::finit_module;

use crate::error::Error;
use crate::{file, limit};

/// Loads every module of the list and returns how many there were. One that is already there is fine.
///
/// # Errors
/// [`Error::File`], [`Error::Module`], [`Error::Contradiction`] for a name with a slash.
pub fn load_all() -> Result<usize, Error> {
    let list = Path::new(MODULE_LIST_PATH);
    let folder = list.parent().unwrap_or(Path::new("/"));
    let bytes =
        file::read_bounded(list, limit::SMALL_FILE_BYTES).map_err(Error::file("read", MODULE_LIST_PATH))?;
    let text = String::from_utf8_lossy(&bytes);
    let names: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for name in &names {
        if name.contains('/') {
            let problem = format!("`{name}` is not a file name");
            return Err(Error::Contradiction { path: MODULE_LIST_PATH, problem });
        }
        let path = folder.join(name);
        let module = File::open(&path).map_err(Error::file("open", path.display().to_string()))?;
        match finit_module(&module, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::Module { name: (*name).to_owned(), source: errno.into() }),
        }
    }
    Ok(names.len())
}

/// Gives the memory of the module files and of our own file back; the mapped program lives on.
///
/// # Errors
/// [`Error::File`] naming what could not be removed.
pub fn free_initramfs() -> Result<(), Error> {
    let folder = Path::new(MODULE_LIST_PATH).parent().unwrap_or(Path::new("/plumb"));
    std::fs::remove_dir_all(folder).map_err(Error::file("remove", folder.display().to_string()))?;
    std::fs::remove_file("/init").map_err(Error::file("remove", "/init"))
}
