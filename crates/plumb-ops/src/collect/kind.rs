//! What an object is to the store, for people.

use std::fmt;

use serde::Serialize;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A package, or other bytes that images are built from, as they were downloaded.
    Package,
    /// The content of a file.
    File,
    /// The root file system of an image.
    Root,
    /// A kernel.
    Kernel,
    /// An initramfs.
    Initramfs,
    /// A manifest, inventory, recipe, lock, definition or evidence.
    Document,
    /// An index of an archive, with what was made of it to read it quickly.
    Index,
    /// What nothing refers to: mostly what a build made on its way and can make again.
    Unused,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Package => "package",
            Kind::File => "file",
            Kind::Root => "root",
            Kind::Kernel => "kernel",
            Kind::Initramfs => "initramfs",
            Kind::Document => "document",
            Kind::Index => "index",
            Kind::Unused => "unused",
        })
    }
}
