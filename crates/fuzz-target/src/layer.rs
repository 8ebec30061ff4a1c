//! Layers of a container image: one archive after the other, each with its length in four bytes (little endian) before it.

use std::io::{Seek, SeekFrom, Write};

use plumb_image::layer::{Change, merge, read};
use plumb_image::tree::Kind;

use crate::object::Memory;
use crate::package::LIMITS;

/// As many as one run tries; more only make it slower.
const LAYERS: usize = 4;

pub(crate) fn run(mut data: &[u8]) {
    let objects = Memory::default();
    let mut layers = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>().filter(|_| layers.len() < LAYERS) {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX).min(rest.len());
        let (layer, rest) = rest.split_at(length);
        data = rest;
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(layer).and_then(|()| file.seek(SeekFrom::Start(0))).expect("a temporary file");
        let Ok(changes) = read(&mut file, "x", &LIMITS, &objects) else { continue };
        let written = serde_json::to_vec(&changes).expect("changes are written");
        assert_eq!(
            serde_json::from_slice::<plumb_image::layer::Changes>(&written).expect("and read again"),
            changes
        );
        for change in &changes.changes {
            match change {
                Change::Set(path, _) | Change::Link(path, _) | Change::Remove(path) => {
                    assert!(path.len() <= LIMITS.path_bytes, "{path}");
                }
                Change::Clear(_) => {}
            }
        }
        layers.push(changes);
    }
    let Ok(tree) = merge(&layers) else { return };
    // Each layer's own limit bounds what it names; hard links and made folders multiply it only so far.
    crate::path::check_tree(&tree, 256 << 20);
    for (path, (entry, _)) in &tree.entries {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let is_folder = |path: &str| tree.get(path).is_some_and(|entry| entry.kind == Kind::Directory);
        assert!(parent.is_empty() || is_folder(parent), "`{path}` lies in no folder");
        assert!(entry.mode <= 0o7777);
        assert!(entry.xattrs.keys().all(|name| name == "security.capability" || name.starts_with("user.")));
    }
}
