//! Taking away what goes, on a full disk, too.
//!
//! A release is told from one that lost its images by a note, and the note is durable before the images go. So what needs
//! no note goes first, and makes room for the notes of what does:
//!
//! ```text
//!  leftovers ─► documents that go ─► sync ─► what nobody would miss ─┬─► notes, as far as there is space
//!                                              ▲                     │
//!                                              └── one more noted ◄──┘
//! ```
//!
//! What cannot be noted stays, and the collection says so.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_model::release::{Release, ReleaseName};
use plumb_store::{Alone, Leftover, Stored};

use super::fold::Folded;
use super::need;
use super::root::{PINS, key_of};
use super::sweep::{self, Fate};
use super::{Documents, Policy, Survey, rule};
use crate::Plumb;
use crate::error::OpsError;
use crate::fsck::{COLLECTED, WITH_PACKAGES};

/// What went.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Files of objects and documents.
    pub(super) files: u64,
    /// Entries.
    pub(super) entries: u64,
    /// Releases whose images stay, because there is no space to note that they go.
    pub(super) unannounced: Vec<ReleaseName>,
}

/// Releases that are not noted yet, with what would be missed of each.
type Unannounced = BTreeMap<ReleaseName, BTreeSet<Digest>>;

impl Plumb<'_> {
    /// Takes away what goes. A release without its objects is worse than an object without a release, so what refers to
    /// objects goes before them.
    pub(super) fn sweep(
        &self,
        alone: &Alone,
        policy: &Policy,
        (survey, folded, now_s): (&mut Survey, &Folded, i64),
    ) -> Result<Removed, OpsError> {
        let mut removed = Removed::default();
        self.forget_notes(survey)?;
        if policy.documents == Documents::Remove {
            for name in survey.names.iter().filter(|name| !survey.roots.contains_key(*name)) {
                self.store.remove_release(alone, &name.app, name.number)?;
                removed.files += 1;
            }
            self.store.sync()?;
        }
        let mut left = self.unannounced(survey)?;
        let mut going = BTreeSet::new();
        loop {
            survey.missed = self.missed(&left)?;
            let rule = rule(policy, survey, folded, now_s);
            let goes = |stored: &&Stored| rule.fate(stored) == Fate::Go && !going.contains(&stored.digest);
            let now: Vec<&Stored> = survey.stored.iter().filter(goes).collect();
            let slim: Vec<&Stored> = if going.is_empty() {
                survey.stored.iter().filter(|stored| rule.fate(stored) == Fate::Slim).collect()
            } else {
                Vec::new()
            };
            going.extend(now.iter().map(|stored| stored.digest));
            removed.entries += self.forget(policy, survey, &going)?;
            removed.files += self.take_away(alone, &now)?;
            for stored in slim {
                self.store.remove_plain(alone, &stored.digest)?;
                removed.files += 1;
            }
            if !self.note_collected(survey, &mut left)? {
                break;
            }
        }
        removed.unannounced = left.into_keys().collect();
        Ok(removed)
    }

    /// Takes objects away in all their forms. Returns how many files these are.
    fn take_away(&self, alone: &Alone, going: &[&Stored]) -> Result<u64, OpsError> {
        let mut files = 0;
        // What is folded goes before what it is folded to, as far as both go.
        for stored in going {
            if stored.folded.is_some() && !self.store.bases(&stored.digest)?.is_empty() {
                self.store.remove_folded(alone, &stored.digest)?;
            }
        }
        for stored in going {
            self.store.remove_plain(alone, &stored.digest)?;
            self.store.remove_folded(alone, &stored.digest)?;
            files += [stored.plain, stored.folded].iter().flatten().count() as u64;
        }
        Ok(files)
    }

    /// Takes away what is nobody's and old enough. Returns how many files these are.
    pub(super) fn remove_leftovers(&self, policy: &Policy, now_s: i64) -> Result<u64, OpsError> {
        let mut removed = 0;
        for leftover in self.store.leftovers()? {
            let is_old = match &leftover {
                Leftover::Unfinished(_) => true,
                Leftover::Partial(path) | Leftover::Damaged(path) => {
                    plumb_store::modified_s(path).is_some_and(|at| now_s - at >= policy.young_s)
                }
                // Not ours to remove.
                Leftover::Foreign(_) => false,
            };
            if is_old {
                self.store.remove_leftover(&leftover)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Releases that are whole again are no longer said to be collected.
    fn forget_notes(&self, survey: &Survey) -> Result<(), OpsError> {
        for release in survey.releases.iter().filter(|release| survey.roots.contains_key(&release.name())) {
            let key = key_of(&release.name());
            if self.store.entry(COLLECTED, &key)?.is_some() && self.is_whole_here(release)? {
                self.store.remove_entry(COLLECTED, &key)?;
            }
        }
        Ok(())
    }

    /// Releases whose documents stay and whose images go, as far as that is not noted, each with what it needs until then.
    fn unannounced(&self, survey: &Survey) -> Result<Unannounced, OpsError> {
        let mut found = Unannounced::new();
        for release in survey.releases.iter().filter(|release| !survey.roots.contains_key(&release.name())) {
            let name = release.name();
            if self.store.entry(COLLECTED, &key_of(&name))?.is_none() {
                found.insert(name, self.needs(release)?);
            }
        }
        Ok(found)
    }

    /// All that would be missed, with what it is folded to.
    fn missed(&self, left: &Unannounced) -> Result<BTreeSet<Digest>, OpsError> {
        let mut missed: BTreeSet<Digest> = left.values().flatten().copied().collect();
        for digest in left.values().flatten() {
            missed.extend(self.store.bases(digest)?);
        }
        Ok(missed)
    }

    /// Says of releases that their images were collected, before they are. Those that there is space to say it of are not
    /// `left` any more; false if there is no such release.
    fn note_collected(&self, survey: &Survey, left: &mut Unannounced) -> Result<bool, OpsError> {
        let before = left.len();
        for release in &survey.releases {
            let name = release.name();
            if !left.contains_key(&name) {
                continue;
            }
            let note = if self.has_packages(release)? {
                format!("{name} {WITH_PACKAGES}")
            } else {
                name.to_string()
            };
            match self.store.put_entry(COLLECTED, &key_of(&name), note.as_bytes()).map_err(OpsError::from) {
                Ok(()) => drop(left.remove(&name)),
                Err(error) if error.is_full() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(left.len() < before)
    }

    /// Whether all packages of a release are here; of one that was pulled they need not be.
    fn has_packages(&self, release: &Release) -> Result<bool, OpsError> {
        for package in self.lock_of(release)?.packages {
            if self.store.size(&package.digest)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes entries that name something that goes.
    fn forget(&self, policy: &Policy, survey: &Survey, going: &BTreeSet<Digest>) -> Result<u64, OpsError> {
        let mut forgotten = 0;
        let there: BTreeSet<Digest> = survey
            .stored
            .iter()
            .map(|stored| stored.digest)
            .filter(|digest| !going.contains(digest))
            .collect();
        for kind in self.store.entry_kinds()? {
            let is_pin = [PINS, COLLECTED].contains(&kind.as_str());
            if !is_pin && !sweep::is_remembered(&kind) {
                continue;
            }
            for key in self.store.entries(&kind)? {
                let value = self.store.entry(&kind, &key)?.unwrap_or_default();
                let stays = if is_pin {
                    let value = String::from_utf8_lossy(&value);
                    let name = value.split_whitespace().next().unwrap_or_default().parse::<ReleaseName>();
                    name.is_ok_and(|name| match policy.documents {
                        Documents::Keep => survey.names.contains(&name),
                        Documents::Remove => survey.roots.contains_key(&name),
                    })
                } else {
                    let mut named = need::digests(&value);
                    named.extend(Digest::from_hex(&key).ok().filter(|_| sweep::is_about_its_key(&kind)));
                    let whole = |digest: &Digest| {
                        !kind.starts_with("image-")
                            || survey.need.images.contains(digest)
                            || self.image(digest).is_ok_and(|image| {
                                [&image.kernel, &image.initrd, &image.root]
                                    .iter()
                                    .all(|part| there.contains(&part.digest))
                            })
                    };
                    named.iter().all(|digest| there.contains(digest) && whole(digest))
                };
                if !stays {
                    self.store.remove_entry(&kind, &key)?;
                    forgotten += 1;
                }
            }
        }
        Ok(forgotten)
    }
}
