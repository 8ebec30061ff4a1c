//! Hardware virtualization or emulation: what this host can do, found once per boot.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::pause;
use crate::error::TargetError;
use crate::file;
use crate::identity::boot_id;
use crate::kvm;

/// How QEMU runs a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorKind {
    /// The processor runs the guest.
    Kvm,
    /// QEMU translates the guest's code: slower, works everywhere.
    Tcg,
}

impl fmt::Display for AcceleratorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcceleratorKind::Kvm => "kvm",
            AcceleratorKind::Tcg => "tcg",
        })
    }
}

/// What is used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accelerator {
    /// What to use.
    pub kind: AcceleratorKind,
    /// Why, for a person.
    pub reason: String,
    /// A command that may give something better.
    pub hint: Option<String>,
    /// Rate of this host's time stamp counter in kHz; a guest under TCG sees the same counter and need not measure it.
    pub tsc_khz: u32,
    /// It was found out just now rather than remembered: worth saying once.
    pub fresh: bool,
}

/// The file that remembers.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    boot_id: String,
    tsc_khz: u32,
    /// Result of the probe: `None` is good, `Some` says what is wrong. Missing until /dev/kvm could be opened.
    probe: Option<Probe>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Probe {
    fault: Option<String>,
}

/// How long the counter is measured: 20 ms are good for one part in 10,000.
const MEASURE: Duration = Duration::from_millis(20);

/// Finds out what to use. `PLUMB_ACCEL=kvm` or `=tcg` decides by hand. The result is kept in `cache_file` until the
/// next boot; without a usable file everything works, but is measured every time.
///
/// # Errors
/// If `PLUMB_ACCEL` has another value.
#[expect(clippy::disallowed_methods, reason = "the one variable of this target, documented here")]
pub fn detect(cache_file: &Path) -> Result<Accelerator, TargetError> {
    let wish = std::env::var("PLUMB_ACCEL").unwrap_or_default();
    detect_with(cache_file, &wish, Path::new("/dev/kvm"))
}

fn detect_with(cache_file: &Path, wish: &str, device: &Path) -> Result<Accelerator, TargetError> {
    let boot_id = boot_id()?;
    // A file that cannot be understood is as good as none.
    let known =
        file::read_json::<Remembered>(cache_file).ok().flatten().filter(|known| known.boot_id == boot_id);
    let fresh = known.is_none();
    let mut remembered =
        known.unwrap_or_else(|| Remembered { boot_id, tsc_khz: measure_tsc_khz(), probe: None });
    let forced = |kind| Verdict { kind, reason: format!("PLUMB_ACCEL={wish}"), hint: None };
    let probed_before = remembered.probe.is_some();
    let verdict = match wish {
        "tcg" => forced(AcceleratorKind::Tcg),
        "kvm" => forced(AcceleratorKind::Kvm),
        "" => examine(device, &mut remembered.probe),
        other => return Err(TargetError::Accelerator { value: other.to_owned() }),
    };
    let fresh = fresh || probed_before != remembered.probe.is_some();
    if fresh {
        // Remembering is a matter of speed only: a read-only home must not stop a start.
        let _ = file::write_json(cache_file, &remembered);
    }
    let Verdict { kind, reason, hint } = verdict;
    Ok(Accelerator { kind, reason, hint, tsc_khz: remembered.tsc_khz, fresh })
}

struct Verdict {
    kind: AcceleratorKind,
    reason: String,
    hint: Option<String>,
}

/// Access is looked at every time, as it changes with a login; the probe is run once.
fn examine(device: &Path, probe: &mut Option<Probe>) -> Verdict {
    let tcg = |reason: String, hint: Option<&str>| Verdict {
        kind: AcceleratorKind::Tcg,
        reason,
        hint: hint.map(str::to_owned),
    };
    let file = match OpenOptions::new().read(true).write(true).open(device) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return tcg(format!("`{}` is missing", device.display()), None);
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let reason = format!("`{}` is not open to this user", device.display());
            return tcg(reason, Some("sudo adduser \"$USER\" kvm, then log in again"));
        }
        Err(error) => return tcg(format!("`{}` cannot be opened: {error}", device.display()), None),
    };
    let result = probe.get_or_insert_with(|| Probe { fault: kvm::probe(&file).err() });
    match &result.fault {
        Some(fault) => tcg(format!("`{}` is not usable: {fault}", device.display()), None),
        None => Verdict {
            kind: AcceleratorKind::Kvm,
            reason: format!("`{}` works", device.display()),
            hint: None,
        },
    }
}

/// Rate of the time stamp counter against the monotonic clock.
fn measure_tsc_khz() -> u32 {
    // SAFETY: rdtsc is part of every x86-64 processor and only reads a counter.
    let now = || unsafe { std::arch::x86_64::_rdtsc() };
    let (start, first) = (Instant::now(), now());
    pause(MEASURE);
    let (passed, last) = (start.elapsed(), now());
    let per_ms = u128::from(last.wrapping_sub(first)) * 1_000_000 / passed.as_nanos().max(1);
    u32::try_from(per_ms).unwrap_or(u32::MAX)
}

/// The kernel's own word for a KVM that emulates; only for messages of `plumb doctor`.
#[must_use]
pub fn kvm_flavour() -> Option<String> {
    ["kvm_amd", "kvm_intel", "kvm_pvm"]
        .into_iter()
        .find(|module| fs::metadata(format!("/sys/module/{module}")).is_ok())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_remembered_and_a_wish_wins() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("accelerator.json");
        let null = Path::new("/dev/null");
        let first = detect_with(&cache, "", null).unwrap();
        assert_eq!(first.kind, AcceleratorKind::Tcg);
        assert_eq!(first.reason, "`/dev/null` is not usable: KVM fails at step 1 of the probe");
        assert!(first.fresh && first.tsc_khz > 100_000, "{first:?}");
        let second = detect_with(&cache, "", null).unwrap();
        assert_eq!(second, Accelerator { fresh: false, ..first });
        assert_eq!(detect_with(&cache, "kvm", null).unwrap().kind, AcceleratorKind::Kvm);
        assert_eq!(detect_with(&cache, "", &dir.path().join("none")).unwrap().kind, AcceleratorKind::Tcg);
        assert!(detect_with(&cache, "xen", null).is_err());
    }

    #[test]
    fn another_boot_is_measured_anew() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("accelerator.json");
        fs::write(&cache, r#"{"boot_id":"old","tsc_khz":1,"probe":{"fault":null}}"#).unwrap();
        let found = detect_with(&cache, "", Path::new("/dev/null")).unwrap();
        assert!(found.fresh && found.tsc_khz > 1 && found.kind == AcceleratorKind::Tcg);
    }

    #[test]
    fn the_real_device_gives_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let found = detect_with(&dir.path().join("a"), "", Path::new("/dev/kvm")).unwrap();
        assert!(!found.reason.is_empty());
    }
}
