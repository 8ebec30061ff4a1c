//! Kernel and initramfs of a kernel package, made once.

use plumb_image::inventory::ModuleEntry;
use plumb_image::module::Module;
use plumb_image::tree::{Entry, Kind, Layer, Origin, Tree};
use plumb_image::{initramfs, kernel, module};
use plumb_model::image::Part;
use plumb_model::lock::LockedPackage;
use plumb_model::{Digest, MachineName};
use serde::{Deserialize, Serialize};

use super::pile::Pile;
use super::recipe::guest_digest;
use crate::Plumb;
use crate::contents::read_package;
use crate::error::{OpsError, io};
use crate::guest::{GUEST, RULES};

/// Kind of the store entries that name kernel and initramfs of a kernel package.
const KERNELS: &str = "kernel-3";

/// Kernel and initramfs; the same for all machines with one kernel package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KernelParts {
    pub(super) release: String,
    pub(super) kernel: Part,
    pub(super) initrd: Part,
    pub(super) modules: Vec<ModuleEntry>,
    /// All of them have a signature.
    pub(super) signed: bool,
    /// The kernel as the package ships it, compressed.
    pub(super) packed_bytes: u64,
}

fn key(package: &LockedPackage) -> String {
    Digest::of(format!("{} {} {RULES}", package.digest, guest_digest()).as_bytes()).hex()
}

impl Plumb<'_> {
    /// Kernel and initramfs of a kernel package, if they were made before and are there in full length.
    pub(super) fn known_kernel(&self, package: &LockedPackage) -> Result<Option<KernelParts>, OpsError> {
        let entry = self.store.entry(KERNELS, &key(package))?;
        let Some(known) = entry.and_then(|entry| serde_json::from_slice::<KernelParts>(&entry).ok()) else {
            return Ok(None);
        };
        for part in [&known.kernel, &known.initrd] {
            if self.store.size(&part.digest)? != Some(part.size) {
                return Ok(None);
            }
        }
        Ok(Some(known))
    }

    /// Makes kernel and initramfs from a kernel package, for `machine`. Its `.deb` is in the store.
    pub(super) fn make_kernel(
        &self,
        machine: &MachineName,
        package: &LockedPackage,
    ) -> Result<KernelParts, OpsError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpsError::Build {
            machine: machine.clone(),
            source,
        };
        let path = self.store.scratch_path()?;
        let pile = Pile::new(&path).map_err(io("write", &path))?;
        let content = read_package(&self.store, package, &pile)?;
        let packed = |(path, entry): (&String, &Entry)| match entry.kind {
            Kind::File { size, .. } if path.starts_with("/boot/vmlinuz-") => Some(size),
            _ => None,
        };
        let packed_bytes = content.entries.iter().find_map(packed).unwrap_or_default();
        let origin = Origin { layer: Layer::Os, source: package.name.to_string() };
        let entries =
            content.entries.into_iter().map(|(path, entry)| (path, (entry, origin.clone()))).collect();
        let tree = Tree { entries };
        let kernel = kernel::load(&tree, &pile).map_err(|error| failed(Box::new(error)))?;
        let modules = module::closure(&tree, &pile, &kernel.release, &module::REQUIRED, &module::OPTIONAL)
            .map_err(|error| failed(Box::new(error)))?;
        let initrd = initramfs::build(GUEST, &modules).map_err(|error| failed(Box::new(error)))?;
        let part = |bytes: &[u8]| -> Result<Part, OpsError> {
            Ok(Part { digest: self.store.put_bytes(bytes)?, size: bytes.len() as u64 })
        };
        let made = KernelParts {
            release: kernel.release,
            kernel: part(&kernel.bytes)?,
            initrd: part(&initrd)?,
            modules: modules.iter().map(ModuleEntry::of).collect(),
            signed: modules.iter().all(Module::is_signed),
            packed_bytes,
        };
        let entry = serde_json::to_vec(&made).map_err(|error| failed(Box::new(error)))?;
        self.store.remember(KERNELS, &key(package), &entry)?;
        Ok(made)
    }
}
