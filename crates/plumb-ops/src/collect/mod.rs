//! `plumb gc`: what nothing reaches goes, and what stays but is not used is folded.
//!
//! ```text
//!  shared   roots ─► need ─► fold what stays and is not hot ─► sync
//!  alone    roots ─► need ─► what goes ─► take away           (`plumb_store::Store::alone`: why this is safe)
//! ```
//!
//! Whole stays a release that runs, that a rollback would choose, that a channel points to, that is pinned, among the
//! newest, or young. Of any other its images go; its documents, its inventory and what it was made from stay, so that it
//! can be shown, compared and built again. With `releases` its document goes, too, and with it all that only it needed.

#[cfg(test)]
pub(crate) mod fault_tests;
mod fold;
mod kind;
mod need;
mod root;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_model::release::{Release, ReleaseName};
use plumb_store::{Alone, Leftover, Stored};
use rayon::prelude::*;
use serde::Serialize;

pub use self::kind::Kind;
pub use self::root::Reason;

pub(crate) use self::need::digests as named_digests;
pub(crate) use self::root::key_of;
pub(crate) use self::sweep::{is_elsewhere, is_remembered};

use self::fold::Folded;
use self::need::Need;
use self::root::{PINS, Roots};
use self::sweep::{Count, Fate, Rule};
use crate::error::OpsError;
use crate::fsck::{COLLECTED, WITH_PACKAGES};
use crate::progress::{Progress, StoreStep};
use crate::{Plumb, clock};

/// What stays besides what is in use.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// So many of the newest releases of each application.
    pub newest: usize,
    /// What was made less than so many seconds ago.
    pub young_s: i64,
    /// What becomes of the documents of releases whose images go.
    pub documents: Documents,
}

/// What becomes of the document of a release whose images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documents {
    /// It stays: history.
    Keep,
    /// It goes with everything that only it needs.
    Remove,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Do,
    /// Only say what would be done.
    DryRun,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Collection {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Every release, by name.
    pub releases: Vec<CollectedRelease>,
    /// What lies there, by kind.
    pub kinds: Vec<KindRow>,
    /// Entries that went: what was remembered of things that went.
    pub entries: u64,
    /// Unfinished files of dead processes, old downloads and old damaged objects that went.
    pub leftovers: u64,
    /// Bytes of all files below the store, before and after; the same in a dry run.
    pub bytes_before: u64,
    /// After.
    pub bytes_after: u64,
    /// What is damaged or lost; `plumb fsck` deals with it. While a document is among it, of which it is not known what it
    /// leads to, nothing goes but what can be made again.
    pub problems: Vec<String>,
    /// The disk was full, so not everything was folded.
    pub disk_full: bool,
}

/// What became of a release.
#[derive(Debug, Clone, Serialize)]
pub struct CollectedRelease {
    /// Its name.
    pub release: ReleaseName,
    /// Why it stays; empty if it does not.
    pub reasons: BTreeSet<Reason>,
    /// Bytes that go with it.
    pub bytes: u64,
}

/// What became of the objects of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct KindRow {
    /// The kind.
    pub kind: Kind,
    /// Objects that go.
    pub gone_objects: u64,
    /// Bytes of their files.
    pub gone_bytes: u64,
    /// Objects that are folded, or that would be.
    pub folded_objects: u64,
    /// Bytes that they took before.
    pub folded_bytes: u64,
    /// Objects that stay, in whatever form.
    pub stay_objects: u64,
    /// Bytes of their files now.
    pub stay_bytes: u64,
}

/// What one look at the store brought.
struct Survey {
    /// Every release that there is, whether its document can be read or not.
    names: BTreeSet<ReleaseName>,
    /// Those whose documents stay, as far as they can be read.
    releases: Vec<Release>,
    roots: Roots,
    need: Need,
    stored: Vec<Stored>,
    redundant: BTreeSet<Digest>,
}

impl Plumb<'_> {
    /// Removes what nothing reaches and folds what is not used.
    ///
    /// # Errors
    /// [`OpsError`]. What was removed before an error had to go; the same command again goes on.
    pub fn collect(&self, policy: &Policy, mode: Mode) -> Result<Collection, OpsError> {
        let now_s = clock::now_s();
        let bytes_before = self.store.bytes()?;
        if mode == Mode::DryRun {
            let looking = self.looking();
            let survey = looking.survey(policy, now_s)?;
            let outcome = looking.outcome(policy, &survey, &Folded::default(), now_s)?;
            return Ok(Collection { dry_run: true, bytes_before, bytes_after: bytes_before, ..outcome });
        }
        let survey = self.survey(policy, now_s)?;
        let folded = self.fold_all(&survey.need)?;
        // Alone from here on: what is decided now stays true until it is done.
        let alone = self.store.alone(&mut || self.report(Progress::Store(StoreStep::Waiting)))?;
        // Another collection may have put folded forms of its own, not yet durable, in the place of those seen here.
        self.store.sync()?;
        let survey = self.survey(policy, now_s)?;
        let mut outcome = self.outcome(policy, &survey, &folded, now_s)?;
        self.sweep(&alone, policy, (&survey, &folded, now_s), &mut outcome)?;
        drop(alone);
        Ok(Collection { bytes_before, bytes_after: self.store.bytes()?, ..outcome })
    }

    fn survey(&self, policy: &Policy, now_s: i64) -> Result<Survey, OpsError> {
        self.report(Progress::Store(StoreStep::Surveying));
        let mut roots = self.roots(policy, now_s)?;
        let (mut names, mut releases, mut need) = (BTreeSet::new(), Vec::new(), Need::default());
        for app in self.store.apps()? {
            for number in self.store.releases(&app)? {
                let name = ReleaseName { app: app.clone(), number };
                if policy.documents == Documents::Keep || roots.contains_key(&name) {
                    releases.extend(need.read(self.read_release(&name))?);
                }
                names.insert(name);
            }
        }
        self.need(&releases, &roots, &mut need)?;
        if !need.unread.is_empty() {
            for name in &names {
                roots.entry(name.clone()).or_insert_with(|| [Reason::Damage].into());
            }
        }
        let stored = self.store.stored()?;
        let mut redundant = self.redundant(&need, &stored)?;
        self.need_bases(policy, (&stored, &redundant, now_s), &mut need)?;
        redundant.retain(|digest| !need.objects.contains_key(digest));
        Ok(Survey { names, releases, roots, need, stored, redundant })
    }

    /// What is folded and stays, for whatever reason, needs what it is folded to.
    fn need_bases(
        &self,
        policy: &Policy,
        (stored, redundant, now_s): (&[Stored], &BTreeSet<Digest>, i64),
        need: &mut Need,
    ) -> Result<(), OpsError> {
        let none = BTreeSet::new();
        let young_s = policy.young_s;
        let rule = Rule { need, redundant, proven: &none, unfoldable: &none, now_s, young_s };
        let stays = |stored: &&Stored| stored.folded.is_some() && rule.fate(stored) != Fate::Go;
        let bases: Vec<Vec<Digest>> = stored
            .par_iter()
            .filter(stays)
            .map(|stored| self.store.bases(&stored.digest))
            .collect::<Result<_, _>>()?;
        bases.into_iter().flatten().for_each(|base| need.add(base, Kind::File, false));
        Ok(())
    }

    /// What packages and archives were taken apart into, as far as these stay and can be taken apart again.
    fn redundant(&self, need: &Need, stored: &[Stored]) -> Result<BTreeSet<Digest>, OpsError> {
        let there: BTreeSet<Digest> = stored.iter().map(|stored| stored.digest).collect();
        let (mut redundant, mut sources) = (BTreeSet::new(), BTreeSet::new());
        for kind in self.store.entry_kinds()?.iter().filter(|kind| sweep::is_taken_apart(kind)) {
            for key in self.store.entries(kind)? {
                let Ok(source) = Digest::from_hex(&key) else { continue };
                sources.insert(source);
                if !there.contains(&source) {
                    continue;
                }
                let value = self.store.entry(kind, &key)?.unwrap_or_default();
                for description in need::digests(&value) {
                    redundant.insert(description);
                    let bytes = self.store.read_bytes(&description, crate::contents::CONTENT_LIMIT);
                    match bytes.map_err(OpsError::from) {
                        Ok(bytes) => redundant.extend(need::digests(&bytes)),
                        // Then its parts are not known to be any.
                        Err(error) if error.is_damage() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        // A download is nobody's part, even if a description says what it was read from.
        redundant.retain(|digest| !need.objects.contains_key(digest) && !sources.contains(digest));
        Ok(redundant)
    }

    fn outcome(
        &self,
        policy: &Policy,
        survey: &Survey,
        folded: &Folded,
        now_s: i64,
    ) -> Result<Collection, OpsError> {
        let rule = rule(policy, survey, folded, now_s);
        let (mut gone, mut fold, mut stay) = (Count::default(), Count::default(), Count::default());
        let mut going: BTreeMap<Digest, u64> = BTreeMap::new();
        for stored in &survey.stored {
            let kind = rule.kind(&stored.digest);
            let plain = stored.plain.map_or(0, |form| form.bytes);
            match rule.fate(stored) {
                Fate::Go => {
                    gone.add(kind, stored.bytes());
                    going.insert(stored.digest, stored.bytes());
                }
                Fate::Stay => stay.add(kind, stored.bytes()),
                Fate::Fold => {
                    fold.add(kind, plain);
                    stay.add(kind, stored.bytes());
                }
                Fate::Slim => {
                    fold.add(kind, plain);
                    stay.add(kind, stored.bytes() - plain);
                }
            }
        }
        let kinds: BTreeSet<Kind> = gone.0.keys().chain(stay.0.keys()).copied().collect();
        let row = |kind: Kind| {
            let of = |count: &Count| count.0.get(&kind).copied().unwrap_or_default();
            let ((gone_objects, gone_bytes), (folded_objects, folded_bytes)) = (of(&gone), of(&fold));
            let (stay_objects, stay_bytes) = of(&stay);
            KindRow { kind, gone_objects, gone_bytes, folded_objects, folded_bytes, stay_objects, stay_bytes }
        };
        Ok(Collection {
            dry_run: false,
            releases: self.collected(survey, &going)?,
            kinds: kinds.into_iter().map(row).collect(),
            entries: 0,
            leftovers: 0,
            bytes_before: 0,
            bytes_after: 0,
            problems: BTreeSet::from_iter(folded.problems.iter().chain(&survey.need.unread))
                .into_iter()
                .cloned()
                .collect(),
            disk_full: folded.is_full,
        })
    }

    /// Every release with its reasons, and what goes with it.
    fn collected(
        &self,
        survey: &Survey,
        going: &BTreeMap<Digest, u64>,
    ) -> Result<Vec<CollectedRelease>, OpsError> {
        let mut rows = Vec::new();
        for name in &survey.names {
            let reasons = survey.roots.get(name).cloned().unwrap_or_default();
            let parts = if reasons.is_empty() { self.parts_of(name)? } else { BTreeSet::new() };
            let bytes = parts.iter().filter_map(|part| going.get(part)).sum();
            rows.push(CollectedRelease { release: name.clone(), reasons, bytes });
        }
        Ok(rows)
    }

    /// Kernels, initramfs and roots of a release, as far as its documents can be read.
    fn parts_of(&self, name: &ReleaseName) -> Result<BTreeSet<Digest>, OpsError> {
        // What cannot be read is noted elsewhere, or goes.
        let mut aside = Need::default();
        let mut parts = BTreeSet::new();
        let Some(release) = aside.read(self.read_release(name))? else { return Ok(parts) };
        for machine in release.content.machines.values() {
            let Some(image) = aside.read(self.image(&machine.image))? else { continue };
            parts.extend([image.kernel.digest, image.initrd.digest, image.root.digest]);
        }
        Ok(parts)
    }

    /// Takes away what goes. Objects before what refers to them would be wrong the other way round: a release without
    /// its objects is worse than an object without a release.
    fn sweep(
        &self,
        alone: &Alone,
        policy: &Policy,
        (survey, folded, now_s): (&Survey, &Folded, i64),
        outcome: &mut Collection,
    ) -> Result<(), OpsError> {
        let rule = rule(policy, survey, folded, now_s);
        self.note_collected(survey)?;
        if policy.documents == Documents::Remove {
            for collected in outcome.releases.iter().filter(|collected| collected.reasons.is_empty()) {
                self.store.remove_release(alone, &collected.release.app, collected.release.number)?;
            }
            self.store.sync()?;
        }
        let going: BTreeSet<Digest> = survey
            .stored
            .iter()
            .filter(|stored| rule.fate(stored) == Fate::Go)
            .map(|stored| stored.digest)
            .collect();
        outcome.entries = self.forget(policy, survey, &going)?;
        // What is folded goes before what it is folded to, as far as both go.
        for stored in survey.stored.iter().filter(|stored| rule.fate(stored) == Fate::Go) {
            if stored.folded.is_some() && !self.store.bases(&stored.digest)?.is_empty() {
                self.store.remove_folded(alone, &stored.digest)?;
            }
        }
        for stored in &survey.stored {
            match rule.fate(stored) {
                Fate::Go => {
                    self.store.remove_plain(alone, &stored.digest)?;
                    self.store.remove_folded(alone, &stored.digest)?;
                }
                Fate::Slim => self.store.remove_plain(alone, &stored.digest)?,
                Fate::Stay | Fate::Fold => {}
            }
        }
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
                outcome.leftovers += 1;
            }
        }
        Ok(())
    }

    /// Says of each release whether its images were collected, before they are.
    fn note_collected(&self, survey: &Survey) -> Result<(), OpsError> {
        for release in &survey.releases {
            let (name, key) = (release.name(), key_of(&release.name()));
            let known = self.store.entry(COLLECTED, &key)?.is_some();
            let stays = survey.roots.contains_key(&name);
            if !stays && !known {
                let note = if self.has_packages(release)? {
                    format!("{name} {WITH_PACKAGES}")
                } else {
                    name.to_string()
                };
                self.store.put_entry(COLLECTED, &key, note.as_bytes())?;
            } else if stays && known && self.is_whole_here(release)? {
                self.store.remove_entry(COLLECTED, &key)?;
            }
        }
        Ok(())
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

fn rule<'a>(policy: &Policy, survey: &'a Survey, folded: &'a Folded, now_s: i64) -> Rule<'a> {
    Rule {
        need: &survey.need,
        redundant: &survey.redundant,
        proven: &folded.proven,
        unfoldable: &folded.unfoldable,
        now_s,
        young_s: policy.young_s,
    }
}
