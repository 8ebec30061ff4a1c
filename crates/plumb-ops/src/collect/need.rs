//! What is needed: from the releases that stay, down to every object.
//!
//! ```text
//!  every release     definition, lock, recipe ──(every digest in their text)──► packages, the user's files, layers, …
//!                    image manifest, inventory              so that it can be shown, compared and built again
//!  one that stays    all that `reach` says, and the contents of its files         so that it can run
//!  archives          their state ──► signed index, package index ──► catalog      so that `lock` works offline
//!  statements        ──(every digest in their text)──► evidence
//! ```
//!
//! Documents are searched for digests as texts. A field that is new in one of them is then followed without anybody
//! thinking of it, and what is followed without need costs bytes, never a release.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plumb_image::tree::Kind as FileKind;
use plumb_model::image::Image;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{Digest, Document as _};

use super::kind::Kind;
use super::root::{Roots, payload};
use crate::Plumb;
use crate::error::OpsError;

/// Longest document that is searched for digests; a recipe of 200,000 files has 50 MB.
const DOCUMENT_LIMIT: u64 = 256 * 1024 * 1024;

/// Documents that lead to documents that lead to documents: an index of container images, an image, its layers.
const MOST_STEPS: usize = 8;

/// What is needed of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) kind: Kind,
    /// It is to stay a plain file.
    pub(super) is_hot: bool,
}

/// A root that may be folded, and what says where its files lie.
#[derive(Debug, Clone)]
pub(super) struct RootOf {
    pub(super) image: Image,
}

/// Everything that is needed.
#[derive(Debug, Default)]
pub(super) struct Need {
    pub(super) objects: BTreeMap<Digest, Use>,
    pub(super) roots: BTreeMap<Digest, RootOf>,
    /// Images of releases that stay.
    pub(super) images: BTreeSet<Digest>,
}

impl Need {
    fn add(&mut self, digest: Digest, kind: Kind, is_hot: bool) {
        let found = self.objects.entry(digest).or_insert(Use { kind, is_hot });
        found.is_hot |= is_hot;
        // What is a package to one and a file to another (a tarball that an image holds as it is) stays as it is.
        found.kind = found.kind.min(kind);
    }
}

impl Plumb<'_> {
    /// Everything that `releases` need; those in `roots` whole.
    pub(super) fn need(&self, releases: &[Release], roots: &Roots) -> Result<Need, OpsError> {
        let mut need = Need::default();
        for release in releases {
            let reasons = roots.get(&release.name());
            let is_hot = reasons.is_some_and(|reasons| reasons.iter().any(super::Reason::is_hot));
            self.need_source(release, &mut need)?;
            if reasons.is_some() {
                self.need_whole(release, is_hot, &mut need)?;
            }
            self.need_evidence(&release.name(), &mut need)?;
        }
        self.need_archives(&mut need)?;
        Ok(need)
    }

    /// What it takes to show a release and to build it again.
    fn need_source(&self, release: &Release, need: &mut Need) -> Result<(), OpsError> {
        let manifests: BTreeSet<Digest> =
            release.content.machines.values().map(|machine| machine.image).collect();
        for digest in digests(&release.to_bytes()) {
            if !manifests.contains(&digest) && self.store.contains(&digest) {
                need.add(digest, Kind::Document, false);
                self.follow(&digest, Kind::Package, need)?;
            }
        }
        for machine in release.content.machines.values() {
            need.add(machine.image, Kind::Document, false);
            // What cannot be read leads nowhere; `plumb fsck` names it.
            let Ok(image) = self.image(&machine.image) else { continue };
            need.add(image.recipe, Kind::Document, false);
            self.follow(&image.recipe, Kind::File, need)?;
            if let Some(part) = &image.inventory {
                need.add(part.digest, Kind::Document, false);
            }
            if let Some(scripts) = image.scripts {
                need.add(scripts, Kind::Document, false);
                self.follow(&scripts, Kind::File, need)?;
            }
        }
        Ok(())
    }

    /// What it takes to run a release.
    fn need_whole(&self, release: &Release, is_hot: bool, need: &mut Need) -> Result<(), OpsError> {
        for (machine, entry) in &release.content.machines {
            let Ok(image) = self.image(&entry.image) else { continue };
            need.images.insert(entry.image);
            need.add(image.kernel.digest, Kind::Kernel, is_hot);
            need.add(image.initrd.digest, Kind::Initramfs, is_hot);
            need.add(image.root.digest, Kind::Root, is_hot);
            for base in self.store.bases(&image.root.digest).unwrap_or_default() {
                need.add(base, Kind::File, false);
            }
            if let Ok(inventory) = self.inventory(machine, &image) {
                for (entry, _) in inventory.entries.values() {
                    if let FileKind::File { digest, .. } = &entry.kind {
                        need.add(*digest, Kind::File, false);
                    }
                }
            }
            need.roots.insert(image.root.digest, RootOf { image });
        }
        if let Ok(reached) = self.reach(release) {
            for object in reached {
                need.add(object.digest, kind_of(&object.name), false);
            }
        }
        Ok(())
    }

    /// Statements about a release may have reports beside them.
    fn need_evidence(&self, name: &ReleaseName, need: &mut Need) -> Result<(), OpsError> {
        for statement in self.store.statements(&name.app, name.number)? {
            let Ok(Some(bytes)) = self.store.statement(&name.app, name.number, &statement) else { continue };
            let text = payload(&bytes).unwrap_or_default();
            for digest in digests(text.as_bytes()) {
                if self.store.contains(&digest) {
                    need.add(digest, Kind::Document, false);
                }
            }
            // The outcome of a test names what its instances said.
            for digest in digests(outcome(&text).as_bytes()) {
                self.follow(&digest, Kind::File, need)?;
            }
        }
        Ok(())
    }

    /// The state of the archives, and whatever other lasting entries name.
    fn need_archives(&self, need: &mut Need) -> Result<(), OpsError> {
        for kind in self.store.entry_kinds()? {
            if super::sweep::is_remembered(&kind) || super::sweep::is_elsewhere(&kind) {
                continue;
            }
            for key in self.store.entries(&kind)? {
                let value = self.store.entry(&kind, &key)?.unwrap_or_default();
                for digest in digests(&value) {
                    if self.store.contains(&digest) {
                        need.add(digest, Kind::Index, false);
                    }
                }
            }
        }
        for key in self.store.entries(crate::universe::CATALOGS)? {
            let of_need = Digest::from_hex(&key).is_ok_and(|index| need.objects.contains_key(&index));
            if of_need {
                let value = self.store.entry(crate::universe::CATALOGS, &key)?.unwrap_or_default();
                digests(&value).into_iter().for_each(|digest| need.add(digest, Kind::Index, false));
            }
        }
        Ok(())
    }

    /// Everything that a document's text names and the store has, as `kind`, and what documents among those name.
    fn follow(&self, document: &Digest, kind: Kind, need: &mut Need) -> Result<(), OpsError> {
        let mut left = vec![(*document, 0)];
        let mut seen = BTreeSet::from([*document]);
        while let Some((document, step)) = left.pop() {
            let Some(size) = self.store.size(&document)? else { continue };
            if size > DOCUMENT_LIMIT {
                continue;
            }
            let Ok(bytes) = self.store.read_bytes(&document, DOCUMENT_LIMIT) else { continue };
            for digest in digests(&bytes) {
                let Some(size) = self.store.size(&digest)? else { continue };
                if !seen.insert(digest) {
                    continue;
                }
                need.add(digest, kind, false);
                if step < MOST_STEPS && size <= crate::build::MANIFEST_LIMIT && self.is_json(&digest) {
                    left.push((digest, step + 1));
                }
            }
            self.follow_long(&bytes, need)?;
        }
        Ok(())
    }

    /// SHA-512, in digits or as npm writes it: an entry leads to the object.
    fn follow_long(&self, bytes: &[u8], need: &mut Need) -> Result<(), OpsError> {
        let text = String::from_utf8_lossy(bytes);
        for key in self.store.entries(plumb_fetch::BY_SHA512)? {
            let npm = hex::decode(&key).map(|digest| STANDARD.encode(digest)).unwrap_or_default();
            if npm.is_empty() || !text.contains(&key) && !text.contains(&npm) {
                continue;
            }
            let value = self.store.entry(plumb_fetch::BY_SHA512, &key)?.unwrap_or_default();
            digests(&value).into_iter().for_each(|digest| need.add(digest, Kind::Package, false));
        }
        Ok(())
    }

    fn is_json(&self, digest: &Digest) -> bool {
        let Ok(mut file) = self.store.open_object(digest) else { return false };
        let mut first = [0];
        std::io::Read::read(&mut file, &mut first).is_ok_and(|count| count == 1 && first == *b"{")
    }
}

fn kind_of(name: &str) -> Kind {
    match name.rsplit('/').next().unwrap_or_default() {
        "kernel" => Kind::Kernel,
        "initrd" => Kind::Initramfs,
        "root" => Kind::Root,
        _ if name.contains("/file/") => Kind::File,
        _ => Kind::Document,
    }
}

/// What the tests were, as a statement about them says it; of other statements nothing.
fn outcome(statement: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(statement).ok();
    let found = value.as_ref().and_then(|value| value.pointer("/predicate/configuration"));
    found.map(ToString::to_string).unwrap_or_default()
}

/// Every run of exactly 64 lower case hexadecimal digits.
pub(crate) fn digests(text: &[u8]) -> BTreeSet<Digest> {
    let mut found = BTreeSet::new();
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    for run in text.split(|byte| !is_digit(byte)) {
        if run.len() == 64
            && let Some(digest) = std::str::from_utf8(run).ok().and_then(|hex| Digest::from_hex(hex).ok())
        {
            found.insert(digest);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_texts() {
        let digest = Digest::of(b"x");
        for text in [digest.to_string(), format!("{{\"a\":\"{digest}\"}}"), format!("x {} y", digest.hex())] {
            assert_eq!(digests(text.as_bytes()), [digest].into(), "{text}");
        }
        assert!(digests(format!("{}0", digest.hex()).as_bytes()).is_empty());
        assert!(digests(&digest.hex().as_bytes()[1..]).is_empty());
    }
}
