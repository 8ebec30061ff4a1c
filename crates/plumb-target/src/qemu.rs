//! Finding QEMU.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::TargetError;

/// The program that is looked for on `PATH`.
const PROGRAM: &str = "qemu-system-x86_64";

/// Oldest version that will do: `-netdev stream` came with 7.2.
const OLDEST: (u32, u32) = (7, 2);

/// A QEMU that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Qemu {
    /// Finds QEMU: `PLUMB_QEMU`, else `PATH`.
    ///
    /// # Errors
    /// If there is none, or it is too old.
    pub fn find() -> Result<Qemu, TargetError> {
        let named = env::var_os("PLUMB_QEMU").filter(|value| !value.is_empty()).map(PathBuf::from);
        match named {
            Some(path) => Qemu::examine(path),
            None => Qemu::examine(on_path(&env::var_os("PATH").unwrap_or_default())?),
        }
    }

    fn examine(path: PathBuf) -> Result<Qemu, TargetError> {
        let output = match Command::new(&path).arg("--version").output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(TargetError::QemuMissing { program: path.display().to_string() });
            }
            Err(source) => return Err(TargetError::QemuRun { path, source }),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default().to_owned();
        let Some(version) = parse_version(&first) else {
            return Err(TargetError::QemuVersion { path, output: first });
        };
        if version < OLDEST {
            return Err(TargetError::QemuTooOld { path, found: format!("{}.{}", version.0, version.1) });
        }
        Ok(Qemu { path, version })
    }
}

fn on_path(path: &std::ffi::OsStr) -> Result<PathBuf, TargetError> {
    env::split_paths(path)
        .map(|dir| dir.join(PROGRAM))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| TargetError::QemuMissing { program: PROGRAM.to_owned() })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`
fn parse_version(line: &str) -> Option<(u32, u32)> {
    let version = line.split("version ").nth(1)?.split_whitespace().next()?;
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn check(output: &str, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PROGRAM);
        std::fs::write(&path, format!("#!/bin/sh\necho '{output}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = on_path(dir.path().as_os_str()).unwrap();
        let result = match Qemu::examine(found) {
            Ok(qemu) => format!("{:?}", qemu.version),
            Err(error) => error.to_string().replace(&dir.path().display().to_string(), ""),
        };
        assert_eq!(result, expected);
    }

    #[test]
    fn versions() {
        check("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", "(7, 2)");
        check("QEMU emulator version 10.0.2", "(10, 0)");
        check("QEMU emulator version 5.2.0", "`/qemu-system-x86_64` is version 5.2; 7.2 or newer is needed");
        check("hello", "`/qemu-system-x86_64 --version` says `hello`, which is no QEMU version");
    }

    #[test]
    fn missing_comes_with_a_hint() {
        let error = on_path(std::ffi::OsStr::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "`qemu-system-x86_64` is not found");
        assert_eq!(error.hint().as_deref(), Some("sudo apt install qemu-system-x86"));
    }
}
