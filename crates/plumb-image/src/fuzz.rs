//! Doors for the fuzz targets: parsers that the product reaches only behind others. Nothing else uses them.

use std::fs::File;
use std::io;

use crate::binary::{self, Binary};
use crate::kernel::{self, Kernel, KernelError};
use crate::module;
use crate::rule::world::World;
use crate::rule::{Report, script, tmpfile};
use crate::tree::{Objects, Tree};

/// What a maintainer script or a file of rules made of a tree.
pub struct Evaluated {
    /// The tree.
    pub tree: Tree,
    /// What it could not do.
    pub report: Option<Report>,
}

/// Evaluates a `postinst` of a package `x`.
///
/// # Errors
/// What `objects` says.
pub fn script(text: &str, tree: Tree, objects: &dyn Objects) -> io::Result<Evaluated> {
    let mut world = World::new(objects);
    world.tree = tree;
    let report =
        script::run(&mut world, script::Script { package: "x", name: "postinst", text, triggers: "" })?;
    Ok(Evaluated { tree: world.tree, report })
}

/// Applies the tmpfiles.d files of a tree.
///
/// # Errors
/// What `objects` says.
pub fn tmpfiles(tree: Tree, objects: &dyn Objects) -> io::Result<Evaluated> {
    let mut world = World::new(objects);
    world.tree = tree;
    let report = tmpfile::apply(&mut world)?.pop();
    Ok(Evaluated { tree: world.tree, report })
}

/// All names and paths that an executable file asks for.
///
/// # Errors
/// What reading the file says.
pub fn needs(file: &File) -> io::Result<Vec<String>> {
    Ok(match binary::read(file)? {
        Some(Binary::Script { interpreter, argument }) => [interpreter].into_iter().chain(argument).collect(),
        Some(Binary::Elf(elf)) => [elf.interpreter, elf.soname]
            .into_iter()
            .flatten()
            .chain([elf.needed, elf.rpath, elf.runpath].concat())
            .collect(),
        None => Vec::new(),
    })
}

/// Reads what orders a kernel module.
///
/// # Errors
/// Why it is none.
pub fn modinfo(bytes: &[u8]) -> Result<(), String> {
    module::Info::parse(bytes).map(drop)
}

/// Looks for the PVH entry of an uncompressed kernel, and for its end.
///
/// # Errors
/// Why it is none.
pub fn vmlinux(bytes: &[u8]) -> Result<(bool, usize), String> {
    kernel::inspect(bytes)
}

/// [`kernel::extract`] with another limit on the uncompressed kernel.
///
/// # Errors
/// [`KernelError`].
pub fn kernel(bzimage: &[u8], limit_bytes: u64) -> Result<Kernel, KernelError> {
    kernel::extract_within(bzimage, limit_bytes)
}
