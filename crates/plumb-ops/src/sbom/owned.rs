//! Which files of a container its own Debian packages brought: what they name is these packages, and counts once.

use std::collections::BTreeSet;

use plumb_image::inventory::Inventory;
use plumb_image::tree::Kind;
use plumb_model::MachineName;
use plumb_model::image::Image;

use super::{CONTAINER, METADATA_BYTES, names_a_project};
use crate::Plumb;
use crate::error::OpsError;

/// Where dpkg keeps the paths of each package, one a line (`PACKAGE.list`).
const LISTS: &str = "/var/lib/dpkg/info/";

/// Where images without dpkg have them, with a digest before each (`PACKAGE.md5sums`).
const SUMS: &str = "/var/lib/dpkg/status.d/";

impl Plumb<'_> {
    /// Files of a container that name a project of another language and that its own dpkg brought.
    pub(super) fn owned_by_dpkg<'i>(
        &self,
        name: &MachineName,
        (image, inventory): (&Image, &'i Inventory),
    ) -> Result<BTreeSet<&'i str>, OpsError> {
        let mut found = BTreeSet::new();
        let named = inventory
            .entries
            .iter()
            .filter(|(path, (_, origin))| origin.source == CONTAINER && names_a_project(path));
        let named: BTreeSet<&str> = named.map(|(path, _)| path.as_str()).collect();
        if named.is_empty() {
            return Ok(found);
        }
        self.carve(name, (image, inventory), &is_list)?;
        for (path, (entry, _)) in &inventory.entries {
            if let Kind::File { digest, .. } = &entry.kind
                && is_list(path)
            {
                let text = self.store.read_bytes(digest, METADATA_BYTES)?;
                found.extend(listed(&String::from_utf8_lossy(&text)).filter_map(|path| named.get(&*path)));
            }
        }
        Ok(found)
    }
}

fn is_list(path: &str) -> bool {
    path.starts_with(LISTS) && path.ends_with(".list") || path.starts_with(SUMS) && path.ends_with(".md5sums")
}

/// The paths of a list: `/usr/bin/x`, or `DIGEST  usr/bin/x`.
fn listed(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| match line.split_once("  ") {
        Some((digest, path)) if !digest.starts_with('/') => format!("/{}", path.trim_start_matches('/')),
        _ => line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_packages() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(listed(text).collect::<Vec<_>>(), expected, "{text}");
        };
        check("/.\n/usr\n/usr/share/a  b\n", &["/.", "/usr", "/usr/share/a  b"]);
        check("d41d8cd98f00b204e9800998ecf8427e  usr/lib/x/METADATA\n", &["/usr/lib/x/METADATA"]);
        assert!(is_list("/var/lib/dpkg/info/libc6:amd64.list") && !is_list("/var/lib/dpkg/info/x.postinst"));
        assert!(is_list("/var/lib/dpkg/status.d/x.md5sums") && !is_list("/var/lib/dpkg/status.d/x"));
    }
}
