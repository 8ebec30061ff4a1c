//! Names of shared libraries: `DT_SONAME` of elf(5), by which programs ask for them.

use std::collections::BTreeMap;
use std::io;

use crate::binary::{self, Binary};
use crate::tree::{Kind, Objects, Tree};

/// Every name that a file of the tree has for itself, with the first path that has it.
///
/// # Errors
/// What opening or reading an object says.
pub fn names(tree: &Tree, objects: &dyn Objects) -> io::Result<BTreeMap<String, String>> {
    let binaries = binary::scan(tree, objects)?;
    let mut names = BTreeMap::new();
    for (path, (entry, _)) in &tree.entries {
        let Kind::File { digest, .. } = &entry.kind else { continue };
        if let Some(Binary::Elf(elf)) = binaries.get(digest)
            && let Some(name) = &elf.soname
        {
            names.entry(name.clone()).or_insert_with(|| path.clone());
        }
    }
    Ok(names)
}
