//! `plumb gc`: what nothing reaches goes, and what stays but is not used is folded.
//!
//! ```text
//!  shared   roots ─► need ─► fold what stays and is not hot ─► sync
//!  alone    roots ─► need ─► what goes ─► take away           (`plumb_store::Store::alone`: why this is safe)
//! ```
//!
//! On a full disk folding ends, and so does nothing else: what goes makes room for what has to be written before more can
//! go, and for folding, which is tried again.
//!
//! Whole stays a release that runs, that a rollback would choose, that a channel points to, that is pinned, among the
//! newest, or young. Of any other its images go; its documents, its inventory and what it was made from stay, so that it
//! can be shown, compared and built again. With `releases` its document goes, too, and with it all that only it needed.

#[cfg(test)]
mod fault_tests;
mod fold;
mod kind;
mod need;
mod remove;
mod root;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) mod world_tests;

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_model::release::{Release, ReleaseName};
use plumb_store::Stored;
use rayon::prelude::*;
use serde::Serialize;

pub use self::kind::Kind;
pub use self::root::Reason;

pub(crate) use self::need::digests as named_digests;
pub(crate) use self::root::key_of;
pub(crate) use self::sweep::{is_elsewhere, is_remembered};

use self::fold::Folded;
use self::need::Need;
use self::root::Roots;
use self::sweep::{Count, Fate, Rule};
use crate::error::OpsError;
use crate::progress::{Progress, StoreStep};
use crate::{Plumb, clock};

/// Rounds of folding and removing on a full disk, each of which begins with the space that the one before gained. What is
/// folded takes less than it did, so the space at hand grows from round to round.
const MOST_ROUNDS: usize = 16;

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
    /// The disk is full, also after all that could go went: the rest of what was to be folded or to go stays as it is.
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
    /// What would be missed, because it is not written down that it goes: it stays until that is.
    missed: BTreeSet<Digest>,
    /// Kernels, initramfs and roots of the releases that do not stay whole.
    parts: BTreeMap<ReleaseName, BTreeSet<Digest>>,
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
            let outcome = looking.outcome(policy, &survey, (&Folded::default(), now_s), mode)?;
            return Ok(Collection { dry_run: true, bytes_before, bytes_after: bytes_before, ..outcome });
        }
        let (mut outcome, mut gain) = self.round(policy, now_s)?;
        for _ in 1..MOST_ROUNDS {
            if !outcome.disk_full || gain == 0 {
                break;
            }
            let next;
            (next, gain) = self.round(policy, now_s)?;
            outcome = outcome.then(next);
        }
        Ok(Collection { bytes_before, bytes_after: self.store.bytes()?, ..outcome })
    }

    /// Whether a collection did all that there was to do.
    ///
    /// # Errors
    /// [`OpsError::DiskFull`] if it did not.
    pub fn check_collected(&self, outcome: &Collection) -> Result<(), OpsError> {
        if outcome.disk_full { Err(OpsError::DiskFull { store: self.home.store() }) } else { Ok(()) }
    }

    /// Folds, then removes. Returns how many files went, too.
    fn round(&self, policy: &Policy, now_s: i64) -> Result<(Collection, u64), OpsError> {
        let survey = self.survey(policy, now_s)?;
        let folded = self.fold_all(&survey.need)?;
        // Alone from here on: what is decided now stays true until it is done.
        let alone = self.store.alone(&mut || self.report(Progress::Store(StoreStep::Waiting)))?;
        // Nobody relies on these, so they may be what makes room for everything that follows.
        let leftovers = self.remove_leftovers(policy, now_s)?;
        // Another collection may have put folded forms of its own, not yet durable, in the place of those seen here.
        self.store.sync()?;
        let mut survey = self.survey(policy, now_s)?;
        let removed = self.sweep(&alone, policy, (&mut survey, &folded, now_s))?;
        drop(alone);
        let disk_full = folded.is_full() || !removed.unannounced.is_empty();
        for release in removed.unannounced {
            survey.roots.entry(release).or_default().insert(Reason::DiskFull);
        }
        let outcome = self.outcome(policy, &survey, (&folded, now_s), Mode::Do)?;
        let gain = removed.files + leftovers;
        Ok((Collection { entries: removed.entries, leftovers, disk_full, ..outcome }, gain))
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
        let (missed, parts) = (BTreeSet::new(), self.parts(&names, &roots)?);
        Ok(Survey { names, releases, roots, need, stored, redundant, missed, parts })
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
        let rule = Rule { need, redundant, missed: &none, proven: &none, unfoldable: &none, now_s, young_s };
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
        (folded, now_s): (&Folded, i64),
        mode: Mode,
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
                // What was to be folded was folded before, as far as that was possible.
                Fate::Fold if mode == Mode::Do => stay.add(kind, stored.bytes()),
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
            releases: collected(survey, &going),
            kinds: kinds.into_iter().map(row).collect(),
            entries: 0,
            leftovers: 0,
            bytes_before: 0,
            bytes_after: 0,
            problems: BTreeSet::from_iter(folded.problems.iter().chain(&survey.need.unread))
                .into_iter()
                .cloned()
                .collect(),
            disk_full: false,
        })
    }

    /// The parts of every release that has no reason to stay.
    fn parts(
        &self,
        names: &BTreeSet<ReleaseName>,
        roots: &Roots,
    ) -> Result<BTreeMap<ReleaseName, BTreeSet<Digest>>, OpsError> {
        let gone = names.iter().filter(|name| !roots.contains_key(*name));
        gone.map(|name| Ok((name.clone(), self.parts_of(name)?))).collect()
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
}

/// Every release with its reasons, and what goes with it.
fn collected(survey: &Survey, going: &BTreeMap<Digest, u64>) -> Vec<CollectedRelease> {
    let row = |name: &ReleaseName| {
        let reasons = survey.roots.get(name).cloned().unwrap_or_default();
        let parts = if reasons.is_empty() { survey.parts.get(name) } else { None };
        let bytes = parts.into_iter().flatten().filter_map(|part| going.get(part)).sum();
        CollectedRelease { release: name.clone(), reasons, bytes }
    };
    survey.names.iter().map(row).collect()
}

fn rule<'a>(policy: &Policy, survey: &'a Survey, folded: &'a Folded, now_s: i64) -> Rule<'a> {
    Rule {
        need: &survey.need,
        redundant: &survey.redundant,
        missed: &survey.missed,
        proven: &folded.proven,
        unfoldable: &folded.unfoldable,
        now_s,
        young_s: policy.young_s,
    }
}

impl Collection {
    /// What this round and the one after it did together.
    fn then(self, next: Collection) -> Collection {
        let mut releases: BTreeMap<ReleaseName, CollectedRelease> =
            self.releases.into_iter().map(|row| (row.release.clone(), row)).collect();
        for row in next.releases {
            let before = releases.get(&row.release).map_or(0, |before| before.bytes);
            releases.insert(row.release.clone(), CollectedRelease { bytes: before + row.bytes, ..row });
        }
        let mut kinds: BTreeMap<Kind, KindRow> = BTreeMap::new();
        for row in self.kinds {
            kinds.insert(row.kind, KindRow { stay_objects: 0, stay_bytes: 0, ..row });
        }
        for row in next.kinds {
            kinds
                .entry(row.kind)
                .and_modify(|sum| {
                    sum.gone_objects += row.gone_objects;
                    sum.gone_bytes += row.gone_bytes;
                    sum.folded_objects += row.folded_objects;
                    sum.folded_bytes += row.folded_bytes;
                    (sum.stay_objects, sum.stay_bytes) = (row.stay_objects, row.stay_bytes);
                })
                .or_insert(row);
        }
        let problems = BTreeSet::from_iter(self.problems.into_iter().chain(next.problems));
        Collection {
            releases: releases.into_values().collect(),
            kinds: kinds.into_values().collect(),
            entries: self.entries + next.entries,
            leftovers: self.leftovers + next.leftovers,
            problems: problems.into_iter().collect(),
            ..next
        }
    }
}
