//! Kernel and initramfs of a kernel package, made once.

use plumb_image::tree::{Layer, Origin, Tree};
use plumb_image::{initramfs, kernel, module};
use plumb_model::Digest;
use plumb_model::image::Part;
use serde::{Deserialize, Serialize};

use super::recipe::Job;
use crate::Plumb;
use crate::contents::{StoreObjects, content};
use crate::error::OpsError;
use crate::guest::{GUEST, RULES};

/// Kind of the store entries that name kernel and initramfs of a kernel package.
const KERNELS: &str = "kernel-1";

/// Kernel and initramfs; the same for all machines with one kernel package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KernelParts {
    pub(super) release: String,
    pub(super) kernel: Part,
    pub(super) initrd: Part,
}

impl Plumb<'_> {
    /// Kernel and initramfs of the machine's kernel package, made once.
    pub(super) fn kernel(&self, job: &Job<'_>) -> Result<KernelParts, OpsError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpsError::Build {
            machine: job.name.clone(),
            source,
        };
        let package = job
            .lock
            .package(&job.locked.kernel)
            .ok_or_else(|| OpsError::NoKernel { package: job.locked.kernel.clone() })?;
        let key = Digest::of(format!("{} {} {RULES}", package.digest, Digest::of(GUEST)).as_bytes()).hex();
        let remembered = self.store.entry(KERNELS, &key)?;
        if let Some(known) = remembered.and_then(|entry| serde_json::from_slice::<KernelParts>(&entry).ok())
            && self.store.contains(&known.kernel.digest)
            && self.store.contains(&known.initrd.digest)
        {
            return Ok(known);
        }
        let objects = StoreObjects(&self.store);
        let content = content(&self.store, package)?;
        let origin = Origin { layer: Layer::Os, source: package.name.to_string() };
        let entries =
            content.entries.into_iter().map(|(path, entry)| (path, (entry, origin.clone()))).collect();
        let tree = Tree { entries };
        let kernel = kernel::load(&tree, &objects).map_err(|error| failed(Box::new(error)))?;
        let modules = module::closure(&tree, &objects, &kernel.release, &module::REQUIRED, &module::OPTIONAL)
            .map_err(|error| failed(Box::new(error)))?;
        let initrd = initramfs::build(GUEST, &modules).map_err(|error| failed(Box::new(error)))?;
        let part = |bytes: &[u8]| -> Result<Part, OpsError> {
            Ok(Part { digest: self.store.put_bytes(bytes)?, size: bytes.len() as u64 })
        };
        let made =
            KernelParts { release: kernel.release, kernel: part(&kernel.bytes)?, initrd: part(&initrd)? };
        let entry = serde_json::to_vec(&made).map_err(|error| failed(Box::new(error)))?;
        self.store.put_entry(KERNELS, &key, &entry)?;
        Ok(made)
    }
}
