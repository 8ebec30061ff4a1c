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
//!
//! What a document that is damaged or lost would lead to is not known. It is noted, and then nothing goes that could be it
//! ([`Need::unread`]). What cannot be read for another reason (too many open files, say) ends the collection.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
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

/// Everything that is needed.
#[derive(Debug, Default)]
pub(super) struct Need {
    pub(super) objects: BTreeMap<Digest, Use>,
    /// Roots that may be folded; the image says where their files lie.
    pub(super) roots: BTreeMap<Digest, Image>,
    /// Images of releases that stay.
    pub(super) images: BTreeSet<Digest>,
    /// What is damaged or lost and would have led further.
    pub(super) unread: BTreeSet<String>,
    /// Documents that were searched, with what for and by how many steps they were reached.
    followed: BTreeMap<(Digest, Kind), usize>,
    /// Whether an object looks like a document that may lead further.
    documents: BTreeMap<Digest, bool>,
    /// What else objects are called: SHA-512, in digits or as npm writes it, without the `=` at its end.
    long: BTreeMap<String, BTreeSet<Digest>>,
}

impl Need {
    pub(super) fn add(&mut self, digest: Digest, kind: Kind, is_hot: bool) {
        let found = self.objects.entry(digest).or_insert(Use { kind, is_hot });
        found.is_hot |= is_hot;
        // What is a package to one and a file to another (a tarball that an image holds as it is) stays as it is.
        found.kind = found.kind.min(kind);
    }

    /// What was read; `None`, and noted, if it is damaged or lost.
    pub(super) fn read<T>(&mut self, result: Result<T, OpsError>) -> Result<Option<T>, OpsError> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_damage() => {
                self.unread.insert(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Plumb<'_> {
    /// Adds everything that `releases` need; those in `roots` whole.
    pub(super) fn need(&self, releases: &[Release], roots: &Roots, need: &mut Need) -> Result<(), OpsError> {
        need.long = self.long_names()?;
        for release in releases {
            let reasons = roots.get(&release.name());
            let is_hot = reasons.is_some_and(|reasons| reasons.iter().any(super::Reason::is_hot));
            self.need_source(release, need)?;
            if reasons.is_some() {
                self.need_whole(release, is_hot, need)?;
            }
            self.need_evidence(&release.name(), need)?;
        }
        self.need_archives(need)
    }

    /// What it takes to show a release and to build it again.
    fn need_source(&self, release: &Release, need: &mut Need) -> Result<(), OpsError> {
        let manifests: BTreeSet<Digest> =
            release.content.machines.values().map(|machine| machine.image).collect();
        let must = BTreeSet::from_iter([release.definition, release.lock].into_iter().chain(release.checks));
        for digest in digests(&release.to_bytes()) {
            // The digest of the release before, for example, is not one of an object.
            if must.contains(&digest) || !manifests.contains(&digest) && self.has(&digest)? {
                self.need_document(&digest, Kind::Package, need)?;
            }
        }
        for manifest in manifests {
            need.add(manifest, Kind::Document, false);
            let Some(image) = need.read(self.image(&manifest))? else { continue };
            // Images of the first versions of Plumb have neither.
            if image.inventory.is_some() || self.has(&image.recipe)? {
                self.need_document(&image.recipe, Kind::File, need)?;
            }
            if let Some(part) = &image.inventory {
                need.add(part.digest, Kind::Document, false);
            }
            if let Some(scripts) = image.scripts {
                self.need_document(&scripts, Kind::File, need)?;
            }
        }
        Ok(())
    }

    /// What it takes to run a release.
    fn need_whole(&self, release: &Release, is_hot: bool, need: &mut Need) -> Result<(), OpsError> {
        for (machine, entry) in &release.content.machines {
            let Some(image) = need.read(self.image(&entry.image))? else { continue };
            need.images.insert(entry.image);
            need.add(image.kernel.digest, Kind::Kernel, is_hot);
            need.add(image.initrd.digest, Kind::Initramfs, is_hot);
            need.add(image.root.digest, Kind::Root, is_hot);
            if image.inventory.is_some()
                && let Some(inventory) = need.read(self.inventory(machine, &image))?
            {
                for (entry, _) in inventory.entries.values() {
                    if let FileKind::File { digest, .. } = &entry.kind {
                        need.add(*digest, Kind::File, false);
                    }
                }
            }
            need.roots.insert(image.root.digest, image);
        }
        for object in need.read(self.reach(release))?.into_iter().flatten() {
            need.add(object.digest, kind_of(&object.name), false);
        }
        Ok(())
    }

    /// Statements about a release may have reports beside them.
    fn need_evidence(&self, name: &ReleaseName, need: &mut Need) -> Result<(), OpsError> {
        for statement in self.store.statements(&name.app, name.number)? {
            let bytes = self.store.statement(&name.app, name.number, &statement);
            let Some(Some(bytes)) = need.read(bytes.map_err(OpsError::from))? else { continue };
            let text = payload(&bytes).unwrap_or_default();
            for digest in digests(text.as_bytes()) {
                if self.has(&digest)? {
                    need.add(digest, Kind::Document, false);
                }
            }
            // The outcome of a test names what its instances said.
            for digest in digests(outcome(&text).as_bytes()) {
                if self.has(&digest)? {
                    self.follow(&digest, Kind::File, need)?;
                }
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
                    if self.has(&digest)? {
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

    /// Whether the store has an object; what the file system cannot say is not a no.
    fn has(&self, digest: &Digest) -> Result<bool, OpsError> {
        Ok(self.store.size(digest)?.is_some())
    }

    /// A document, and what it leads to, as `kind`.
    fn need_document(&self, digest: &Digest, kind: Kind, need: &mut Need) -> Result<(), OpsError> {
        need.add(*digest, Kind::Document, false);
        self.follow(digest, kind, need)
    }

    /// Everything that a document's text names and the store has, as `kind`, and what documents among those name.
    fn follow(&self, document: &Digest, kind: Kind, need: &mut Need) -> Result<(), OpsError> {
        let mut left = vec![(*document, 0)];
        while let Some((document, step)) = left.pop() {
            // Releases share much of what they name.
            let before = need.followed.entry((document, kind)).or_insert(usize::MAX);
            if *before <= step {
                continue;
            }
            *before = step;
            let bytes = self.store.read_bytes(&document, DOCUMENT_LIMIT);
            let Some(bytes) = need.read(bytes.map_err(OpsError::from))? else { continue };
            for digest in digests(&bytes) {
                let Some(size) = self.store.size(&digest)? else { continue };
                need.add(digest, kind, false);
                if step < MOST_STEPS && size <= crate::build::MANIFEST_LIMIT && self.is_json(&digest, need)? {
                    left.push((digest, step + 1));
                }
            }
            let named = long_runs(&bytes).into_iter().filter_map(|name| need.long.get(name));
            let named: BTreeSet<Digest> = named.flatten().copied().collect();
            named.into_iter().for_each(|digest| need.add(digest, Kind::Package, false));
        }
        Ok(())
    }

    /// What objects are called by their SHA-512: an entry leads to the object.
    fn long_names(&self) -> Result<BTreeMap<String, BTreeSet<Digest>>, OpsError> {
        let mut names: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        for key in self.store.entries(plumb_fetch::BY_SHA512)? {
            let value = self.store.entry(plumb_fetch::BY_SHA512, &key)?.unwrap_or_default();
            let found = digests(&value);
            if let Ok(bytes) = hex::decode(&key) {
                names.entry(STANDARD_NO_PAD.encode(bytes)).or_default().extend(&found);
            }
            names.entry(key).or_default().extend(found);
        }
        Ok(names)
    }

    fn is_json(&self, digest: &Digest, need: &mut Need) -> Result<bool, OpsError> {
        if let Some(known) = need.documents.get(digest) {
            return Ok(*known);
        }
        let first = need.read(self.store.first_byte(digest).map_err(OpsError::from))?;
        let is_json = first.flatten() == Some(b'{');
        need.documents.insert(*digest, is_json);
        Ok(is_json)
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

/// Every run that may be a SHA-512: 128 hexadecimal digits, or 86 characters of base64.
fn long_runs(text: &[u8]) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    for run in text.split(|byte| !is_part(byte)) {
        if matches!(run.len(), 86 | 128) {
            found.extend(std::str::from_utf8(run));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_digests_in_texts() {
        let (hex, npm) = ("0a".repeat(64), STANDARD_NO_PAD.encode([0xfe; 64]));
        assert_eq!(npm.len(), 86);
        for text in [format!("sha512:{hex}"), format!("\"sha512-{npm}==\""), format!("{hex} {npm}==\n")] {
            assert!(!long_runs(text.as_bytes()).is_empty(), "{text}");
        }
        assert!(long_runs(format!("{hex}0").as_bytes()).is_empty());
    }

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
