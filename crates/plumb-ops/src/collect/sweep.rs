//! What goes and what stays, as a decision over what lies there and what is needed.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_store::{Form, Stored};

use super::kind::Kind;
use super::need::{Need, Use};

/// Names of the kinds of entries that only spare work, without their numbers. What they name stays for other reasons or
/// not at all.
const REMEMBERED: [&str; 12] = [
    "archive", "bundle", "catalog", "effects", "image", "kernel", "layer", "measured", "sha512", "unpacked",
    "upload", "verified",
];

/// Kinds whose entries speak of what is elsewhere: the digests in them need not be here.
const ELSEWHERE: [&str; 5] = ["fingerprint", "remote", "remote-seen", "trust-draft", "upstream"];

/// Kinds whose entries name what a download was taken apart into: it can be taken apart again.
const TAKEN_APART: [&str; 3] = ["archive", "layer", "unpacked"];

/// Whether entries of this kind only spare work: `unpacked-2`, but not `archive`.
pub(crate) fn is_remembered(kind: &str) -> bool {
    name_of(kind).is_some_and(|name| REMEMBERED.contains(&name))
}

/// Whether entries of this kind speak of what is elsewhere.
pub(crate) fn is_elsewhere(kind: &str) -> bool {
    name_of(kind).is_some_and(|name| ELSEWHERE.contains(&name))
}

/// Whether entries of this kind name what can be taken apart again.
pub(super) fn is_taken_apart(kind: &str) -> bool {
    name_of(kind).is_some_and(|name| TAKEN_APART.contains(&name))
}

/// Whether entries of this kind say something about the object that their key names.
pub(super) fn is_about_its_key(kind: &str) -> bool {
    name_of(kind).is_some_and(|name| ["measured", "verified"].contains(&name))
}

fn name_of(kind: &str) -> Option<&str> {
    let (name, number) = kind.rsplit_once('-')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// What becomes of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stay,
    /// It stays, and is to be folded.
    Fold,
    /// Its plain file goes, because it is folded.
    Slim,
    /// All of it goes.
    Go,
}

/// What the decision needs to know besides the objects.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub(super) need: &'a Need,
    /// What can be made again at once from what stays.
    pub(super) redundant: &'a BTreeSet<Digest>,
    /// What would be missed.
    pub(super) missed: &'a BTreeSet<Digest>,
    /// Folded forms that were seen to make their object.
    pub(super) proven: &'a BTreeSet<Digest>,
    /// Folded objects that save nothing.
    pub(super) unfoldable: &'a BTreeSet<Digest>,
    pub(super) now_s: i64,
    pub(super) young_s: i64,
}

impl Rule<'_> {
    /// What becomes of an object.
    pub(super) fn fate(&self, stored: &Stored) -> Fate {
        match self.need.objects.get(&stored.digest) {
            Some(found) => self.fate_of_needed(stored, *found),
            None if self.missed.contains(&stored.digest) => Fate::Stay,
            None if self.redundant.contains(&stored.digest) => Fate::Go,
            // A document that cannot be read may need it.
            None if !self.need.unread.is_empty() || self.is_young(stored) => Fate::Stay,
            None => Fate::Go,
        }
    }

    fn fate_of_needed(&self, stored: &Stored, found: Use) -> Fate {
        if stored.plain.is_none() || found.is_hot {
            return Fate::Stay;
        }
        if stored.folded.is_some() {
            let is_proven = self.proven.contains(&stored.digest);
            return if is_proven { Fate::Slim } else { Fate::Stay };
        }
        // Packages are compressed already, and are what everything else can be made of: they stay as they came.
        let stays = found.kind == Kind::Package || self.unfoldable.contains(&stored.digest);
        if stays { Fate::Stay } else { Fate::Fold }
    }

    fn is_young(&self, stored: &Stored) -> bool {
        let written =
            [stored.plain, stored.folded].into_iter().flatten().map(|form: Form| form.modified_s).max();
        written.is_some_and(|written| self.now_s.saturating_sub(written) < self.young_s)
    }

    /// What an object is.
    pub(super) fn kind(&self, digest: &Digest) -> Kind {
        self.need.objects.get(digest).map_or(Kind::Unused, |found| found.kind)
    }
}

/// Objects and bytes by kind.
#[derive(Debug, Default)]
pub(super) struct Count(pub(super) BTreeMap<Kind, (u64, u64)>);

impl Count {
    pub(super) fn add(&mut self, kind: Kind, bytes: u64) {
        let row = self.0.entry(kind).or_default();
        row.0 += 1;
        row.1 += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(modified_s: i64) -> Option<Form> {
        Some(Form { bytes: 1, modified_s, mode: 0o444 })
    }

    #[test]
    fn kinds_of_entries() {
        for kind in ["unpacked-2", "archive-1", "image-1", "sha512-1", "kernel-13"] {
            assert!(is_remembered(kind), "{kind}");
        }
        for kind in ["archive", "pin", "remote-state", "tuf-x"] {
            assert!(!is_remembered(kind), "{kind}");
        }
        assert!(is_taken_apart("archive-1") && !is_taken_apart("archive") && !is_taken_apart("image-1"));
    }

    #[test]
    fn fates() {
        let digest = |name: &str| Digest::of(name.as_bytes());
        let mut need = Need::default();
        for (name, kind, is_hot) in [
            ("deb", Kind::Package, false),
            ("file", Kind::File, false),
            ("hot", Kind::Root, true),
            ("small", Kind::Document, false),
        ] {
            need.objects.insert(digest(name), Use { kind, is_hot });
        }
        let missed = [digest("noted later")].into();
        let (redundant, proven, unfoldable) = (
            [digest("docs"), digest("noted later")].into(),
            [digest("file"), digest("hot")].into(),
            [digest("small")].into(),
        );
        let rule = Rule {
            need: &need,
            redundant: &redundant,
            missed: &missed,
            proven: &proven,
            unfoldable: &unfoldable,
            now_s: 1000,
            young_s: 100,
        };
        let fate = |name: &str, plain, folded| rule.fate(&Stored { digest: digest(name), plain, folded });
        assert_eq!(fate("deb", form(0), None), Fate::Stay);
        assert_eq!(fate("file", form(0), None), Fate::Fold);
        assert_eq!(fate("file", form(0), form(0)), Fate::Slim);
        assert_eq!(fate("file", None, form(0)), Fate::Stay);
        assert_eq!(fate("hot", form(0), form(0)), Fate::Stay);
        assert_eq!(fate("small", form(0), None), Fate::Stay);
        assert_eq!(fate("docs", form(1000), None), Fate::Go);
        assert_eq!(fate("noted later", form(0), None), Fate::Stay);
        assert_eq!(fate("draft", form(950), None), Fate::Stay);
        assert_eq!(fate("draft", form(900), None), Fate::Go);
        assert_eq!(fate("draft", form(0), form(950)), Fate::Stay);
        let nothing = Rule { proven: &BTreeSet::new(), ..rule };
        let both = Stored { digest: digest("file"), plain: form(0), folded: form(0) };
        assert_eq!(nothing.fate(&both), Fate::Stay, "what was not proven is not relied on");
        need.unread.insert("a lock that is damaged".to_owned());
        let rule = Rule {
            need: &need,
            redundant: &redundant,
            missed: &missed,
            proven: &proven,
            unfoldable: &unfoldable,
            now_s: 1000,
            young_s: 100,
        };
        let fate = |name: &str| rule.fate(&Stored { digest: digest(name), plain: form(0), folded: None });
        assert_eq!((fate("draft"), fate("docs")), (Fate::Stay, Fate::Go));
    }
}
