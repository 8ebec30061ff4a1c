//! The contents of an image's files, taken out of its root where they are not objects: after a pull, or after a garbage
//! collection. Where they lie follows from the inventory, as the layout of a root depends on its tree alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use plumb_image::erofs::{self, Extent};
use plumb_image::inventory::Inventory;
use plumb_image::tree::Kind;
use plumb_model::image::Image;
use plumb_model::{Digest, MachineName};

use crate::Plumb;
use crate::error::{OpsError, io};

/// Bytes copied at once.
const BUFFER_BYTES: usize = 256 * 1024;

impl Plumb<'_> {
    /// Makes the contents of the files of `image` that `wanted` names (by path) objects of the store, if they are not.
    ///
    /// # Errors
    /// [`OpsError::Store`] with the wrong digest if the root does not hold what its inventory says.
    pub(crate) fn carve(
        &self,
        machine: &MachineName,
        (image, inventory): (&Image, &Inventory),
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(), OpsError> {
        let mut missing = BTreeSet::new();
        for (path, (entry, _)) in &inventory.entries {
            if let Kind::File { digest, size } = &entry.kind
                && wanted(path)
                && self.store.size(digest)? != Some(*size)
            {
                missing.insert(*digest);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let layout = erofs::layout(&inventory.tree(), 0)
            .map_err(|error| OpsError::Build { machine: machine.clone(), source: Box::new(error) })?;
        let mut places: BTreeMap<Digest, Vec<Extent>> = BTreeMap::new();
        for extent in layout.extents() {
            if missing.contains(&extent.digest) {
                let places = places.entry(extent.digest).or_default();
                // Two files with one content lie in the image twice.
                if !places.iter().any(|place| place.object_offset == extent.object_offset) {
                    places.push(extent);
                }
            }
        }
        let root = self.store.open_object(&image.root.digest)?;
        for digest in missing {
            let mut places = places.remove(&digest).unwrap_or_default();
            places.sort_by_key(|place| place.object_offset);
            self.carve_one(&root, image, &digest, &places)?;
        }
        Ok(())
    }

    fn carve_one(
        &self,
        root: &File,
        image: &Image,
        digest: &Digest,
        places: &[Extent],
    ) -> Result<(), OpsError> {
        let mut writer = self.store.writer();
        let mut buffer = vec![0; BUFFER_BYTES];
        for place in places {
            let mut done = 0;
            while done < place.length {
                let step = usize::try_from(place.length - done).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
                let copied = root
                    .read_exact_at(&mut buffer[..step], place.image_offset + done)
                    .and_then(|()| writer.write_all(&buffer[..step]));
                copied.map_err(|error: io::Error| io("read", &self.store.path(&image.root.digest))(error))?;
                done += step as u64;
            }
        }
        writer.commit_expecting(digest)?;
        Ok(())
    }
}
