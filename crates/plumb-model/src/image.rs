//! The image manifest: what the bytes of one machine are and what they were made of.

use std::collections::{BTreeMap, BTreeSet};

use plumb_debian::{PackageName, Version};
use serde::{Deserialize, Serialize};

use crate::canonical::Document;
use crate::{AppName, Digest, MachineName};

/// The manifest of one image. Its digest is the image's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Always [`Image::FORMAT`].
    pub format: u32,
    /// Application.
    pub app: AppName,
    /// Machine.
    pub machine: MachineName,
    /// Digest of everything the image was built from (lock, files, services, plumb's own guest and rules).
    pub recipe: Digest,
    /// Uncompressed kernel (ELF with PVH entry) or bzImage.
    pub kernel: Part,
    /// Kernel release, for example `6.1.0-40-cloud-amd64`.
    pub kernel_release: String,
    /// initramfs with PID 1 and kernel modules.
    pub initrd: Part,
    /// EROFS root with its dm-verity hash tree behind it.
    pub root: Part,
    /// dm-verity root hash of `root`, hex.
    pub root_hash: String,
    /// Kernel command line; holds the root hash.
    pub cmdline: String,
    /// Packages by name.
    pub packages: BTreeMap<PackageName, ImagePackage>,
    /// Files and bytes per layer (`os`, `middleware`, `app`).
    pub layers: BTreeMap<String, LayerSize>,
    /// Packages that something needs and that are left out because the definition says so (`without`).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<PackageName>,
    /// Packages that something asks for and that a rule leaves out, because only maintainer scripts use them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_out: BTreeSet<PackageName>,
    /// What the image holds, path by path: an object of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Part>,
    /// The object that says what maintainer scripts did, if they ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scripts: Option<Digest>,
}

/// One part of an image, an object of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
}

/// One package of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePackage {
    /// Version.
    pub version: Version,
    /// Layer that owns its files.
    pub layer: String,
}

/// Size of one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSize {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Image {
    /// Bytes of everything it takes to boot: kernel, initramfs, root.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.kernel.size + self.initrd.size + self.root.size
    }
}

impl Document for Image {
    const WHAT: &'static str = "image manifest";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}
