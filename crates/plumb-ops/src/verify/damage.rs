//! Which files a damaged root holds wrongly: its layout follows from the inventory, and the contents are objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use plumb_image::erofs;
use plumb_image::tree::Kind;
use plumb_model::image::Image;
use plumb_model::{Digest, MachineName};

use super::Verification;
use crate::Plumb;
use crate::error::OpsError;

/// Bytes compared at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Most paths named; a root that was overwritten as a whole would name all.
const MOST_PATHS: usize = 20;

impl Plumb<'_> {
    /// The files of the damaged root of `image`, which was set aside last. Empty if the damage is in directories or the
    /// hash tree, or the contents are no longer objects.
    pub(super) fn damaged_paths(
        &self,
        machine: &MachineName,
        image: &Image,
        found: &Verification,
    ) -> Result<Vec<String>, OpsError> {
        let Some(root) = found.problems.last().and_then(|_| self.set_aside(&image.root.digest)) else {
            return Ok(Vec::new());
        };
        let tree = self.inventory(machine, image)?.tree();
        // Where contents lie depends on no time.
        let layout = erofs::layout(&tree, 0)
            .map_err(|error| OpsError::Build { machine: machine.clone(), source: Box::new(error) })?;
        let mut wrong = BTreeSet::new();
        for extent in layout.extents() {
            let place = (extent.image_offset, extent.object_offset, extent.length);
            if !equal(&root, self.store.open_object(&extent.digest).ok(), place) {
                wrong.insert(extent.digest);
            }
        }
        let mut paths: BTreeMap<Digest, Vec<&String>> = BTreeMap::new();
        for (path, (entry, _)) in &tree.entries {
            if let Kind::File { digest, .. } = &entry.kind {
                paths.entry(*digest).or_default().push(path);
            }
        }
        let named: BTreeSet<&String> =
            wrong.iter().filter_map(|digest| paths.get(digest)).flatten().copied().collect();
        Ok(named.into_iter().take(MOST_PATHS).cloned().collect())
    }

    /// Where a damaged object lies now.
    fn set_aside(&self, digest: &Digest) -> Option<File> {
        let folder = self.store.root().join("damaged");
        let mut found: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| path.file_stem().is_some_and(|stem| stem == digest.hex().as_str()));
        found.sort_by_key(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
        File::open(found.last()?).ok()
    }
}

/// Are these bytes of the root those of the object? What cannot be read is not compared.
fn equal(root: &File, object: Option<File>, (at, from, length): (u64, u64, u64)) -> bool {
    let Some(object) = object else { return true };
    let (mut one, mut other) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut done = 0;
    while done < length {
        let step = usize::try_from(length - done).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let (here, there) = (&mut one[..step], &mut other[..step]);
        if object.read_exact_at(there, from + done).is_err() {
            return true;
        }
        if root.read_exact_at(here, at + done).is_err() || here != there {
            return false;
        }
        done += step as u64;
    }
    true
}
