//! The initramfs of a machine: PID 1, the modules it loads, and the directories it mounts on.
//!
//! ```text
//!  /init                       the static PID 1
//!  /dev /proc /sys /sysroot    mount points
//!  /dev/console /dev/null      PID 1 can speak before anything is mounted
//!  /plumb/modules/order        file names below the same directory, one per line, in load order
//!  /plumb/modules/<name>.ko
//! ```
//!
//! Uncompressed: it is unpacked at every start of an instance, and the store compresses.

use crate::cpio::{CpioError, Writer};
use crate::module::Module;

/// Builds the archive.
///
/// # Errors
/// [`CpioError`] if a part has 4 GiB or more.
pub fn build(init: &[u8], modules: &[Module]) -> Result<Vec<u8>, CpioError> {
    let list = plumb_guest_proto::MODULE_LIST_PATH.trim_start_matches('/');
    let folder = list.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut archive = Writer::new();
    for directory in ["dev", "proc", "sys", "sysroot"] {
        archive.directory(directory, 0o755)?;
    }
    for (at, _) in list.match_indices('/') {
        archive.directory(&list[..at], 0o755)?;
    }
    // Numbers: kernel Documentation/admin-guide/devices.txt.
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.character_device("dev/null", 0o666, (1, 3))?;
    archive.file("init", 0o755, init)?;
    let order: String = modules.iter().map(|module| format!("{}.ko\n", module.name)).collect();
    archive.file(list, 0o644, order.as_bytes())?;
    for module in modules {
        archive.file(&format!("{folder}/{}.ko", module.name), 0o644, &module.bytes)?;
    }
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_everything_in_order() {
        let module =
            |name: &str| Module { name: name.to_owned(), bytes: name.as_bytes().to_vec(), needed_by: None };
        let archive = build(b"init", &[module("virtio"), module("dm_verity")]).unwrap();
        let text = String::from_utf8_lossy(&archive);
        let mut rest = text.as_ref();
        for name in [
            "dev\0",
            "sysroot\0",
            "plumb\0",
            "plumb/modules\0",
            "dev/console\0",
            "init\0",
            "plumb/modules/order\0",
            "virtio.ko\ndm_verity.ko\n",
            "plumb/modules/virtio.ko\0",
            "plumb/modules/dm_verity.ko\0",
            "TRAILER!!!",
        ] {
            let at = rest.find(name).unwrap_or_else(|| panic!("{name:?} is missing or at a wrong place"));
            rest = &rest[at + name.len()..];
        }
    }
}
