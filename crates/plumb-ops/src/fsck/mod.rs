//! `plumb fsck`: everything that is wrong with a store has a name, and what can be made good again is.
//!
//! ```text
//!  every object       hashed, in each form it has            wrong: moved to `damaged/`, then as if it were missing
//!  every release      canonical, in its place, chain of digests; statements by their digests
//!  trust, channels    every version follows from the one before, every promotion is signed and in its place
//!                                                             all of these: from a remote (`record.rs`)
//!  what they reach    there                                   missing: another form, the archive's pool, taken out of an
//!                                                             image or a package, built again, a remote (`repair.rs`)
//!  entries            what they name is there                 forgotten, if they only spare work
//!  everything else    unfinished files of dead processes, permissions, foreign files
//! ```
//!
//! A release whose images were collected lacks them rightly: the collector left a note ([`COLLECTED`]). Everything it takes
//! to build them again is to be there.

mod needed;
mod record;
mod repair;
mod rest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;
use plumb_model::release::ReleaseName;
use plumb_store::{Record, Stored};
use rayon::prelude::*;
use serde::Serialize;

pub(crate) use self::needed::WITH_PACKAGES;

use self::needed::Needed;
use self::repair::Repaired;
use crate::Plumb;
use crate::collect::Mode;
use crate::error::OpsError;
use crate::progress::{Progress, StoreStep};

/// Kind of the store entries that say that a release's images were collected; the value is its name.
pub(crate) const COLLECTED: &str = "collected";

/// Permissions of an object's file.
const OBJECT_MODE: u32 = 0o444;

/// How often it is asked what is needed, as what comes back may name more that is lost: a manifest its recipe, that the
/// user's files. One more round finds nothing new.
const ROUNDS: usize = 4;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What kind of thing.
    pub kind: DamageKind,
    /// What is damaged, for people: `object sha256:…`, `release shop@3`, a path.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
    /// The releases that need it.
    pub needed_by: Vec<ReleaseName>,
    /// What became of it.
    pub outcome: Outcome,
    /// The object that is to come back, if it is one.
    #[serde(skip)]
    digest: Option<Digest>,
    /// The record that is to come back, if it is one.
    #[serde(skip)]
    record: Option<Record>,
}

/// Kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DamageKind {
    /// An object whose bytes do not have its digest, or are too few.
    Wrong,
    /// An object that a release needs and that is not there.
    Missing,
    /// A release document that is not canonical, or does not belong where it lies.
    Release,
    /// A release that does not name the one before it by its digest.
    Chain,
    /// A statement, promotion or root of trust that cannot be read.
    Record,
    /// An entry that names what is not there.
    Entry,
    /// A file that an ended process did not finish.
    Unfinished,
    /// Permissions that are not the store's.
    Permission,
    /// A file that is not the store's.
    Foreign,
}

/// What became of damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is good again, or out of the way and not needed.
    Repaired(String),
    /// It would be tried.
    Repairable,
    /// It stays as it is.
    Left,
    /// It harms nothing.
    Harmless,
}

/// What a look at the whole store brought.
#[derive(Debug, Clone, Serialize)]
pub struct Checkup {
    /// Objects that were hashed.
    pub objects: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Releases that were looked at.
    pub releases: u64,
    /// Downloads that can be continued, and objects kept in `damaged/` for a look: no damage.
    pub kept_aside: u64,
    /// What is wrong.
    pub damages: Vec<Damage>,
    /// Remotes that might have helped and could not be asked, and why.
    pub remotes: Vec<String>,
}

impl Checkup {
    /// Nothing is wrong that matters and was not mended.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damages.iter().all(|damage| matches!(damage.outcome, Outcome::Repaired(_) | Outcome::Harmless))
    }
}

impl Plumb<'_> {
    /// Looks at everything in the store and mends what can be; in a dry run only looks, and moves nothing.
    ///
    /// # Errors
    /// [`OpsError`] if the store cannot be read; what is wrong with it is the value.
    pub fn check_store(&self, mode: Mode) -> Result<Checkup, OpsError> {
        match mode {
            Mode::Do => self.check_all(mode),
            Mode::DryRun => self.looking().check_all(mode),
        }
    }

    fn check_all(&self, mode: Mode) -> Result<Checkup, OpsError> {
        let mut found = Checkup {
            objects: 0,
            bytes: 0,
            releases: 0,
            kept_aside: 0,
            damages: Vec::new(),
            remotes: Vec::new(),
        };
        let mut wrong = self.check_objects_of_store(mode, &mut found)?;
        let releases = self.check_records(mode, &mut found)?;
        let (mut repaired, mut needed) = (Repaired::default(), Needed::default());
        for round in 0..ROUNDS {
            needed = self.needed_by(&releases)?;
            let before = wrong.len();
            self.check_needed(&needed, &mut wrong, &mut found)?;
            let is_known = wrong.is_empty() || round > 0 && wrong.len() == before;
            if is_known || mode == Mode::DryRun {
                break;
            }
            let mut lost = BTreeSet::new();
            for digest in &wrong {
                if self.store.size(digest)?.is_none() {
                    lost.insert(*digest);
                }
            }
            self.repair(&lost, &releases, &mut repaired)?;
        }
        self.judge(mode, &repaired.how, &needed, &mut found)?;
        found.remotes.extend(repaired.problems);
        self.check_entries(mode, &mut found)?;
        self.check_leftovers(mode, &mut found)?;
        Ok(found)
    }

    /// Hashes all objects. Returns those that are wrong; they were moved away.
    fn check_objects_of_store(&self, mode: Mode, found: &mut Checkup) -> Result<BTreeSet<Digest>, OpsError> {
        let all = self.store.stored()?;
        self.report(Progress::Store(StoreStep::Checking { objects: all.len() as u64 }));
        // Those that start from others come last, so that a base that is damaged was named by itself.
        let mut parts = [Vec::new(), Vec::new()];
        for stored in &all {
            let is_made = stored.folded.is_some() && !self.store.bases(&stored.digest)?.is_empty();
            parts[usize::from(is_made)].push(stored);
        }
        let mut wrong = BTreeSet::new();
        for part in parts {
            let looked = part.par_iter().with_max_len(1).map(|stored| self.look(stored));
            for (stored, (reasons, good)) in part.iter().zip(looked.collect::<Result<Vec<_>, _>>()?) {
                if reasons.is_empty() {
                    continue;
                }
                let mut damage = lacking(DamageKind::Wrong, &stored.digest, &reasons.join("; "));
                if good {
                    damage.outcome = match mode {
                        Mode::Do => Outcome::Repaired("its other form is good".to_owned()),
                        Mode::DryRun => Outcome::Repairable,
                    };
                    damage.digest = None;
                } else {
                    wrong.insert(stored.digest);
                }
                found.damages.push(damage);
            }
        }
        for stored in &all {
            found.objects += 1;
            found.bytes += stored.bytes();
            self.check_mode(mode, stored, found)?;
        }
        Ok(wrong)
    }

    fn check_mode(&self, mode: Mode, stored: &Stored, found: &mut Checkup) -> Result<(), OpsError> {
        let modes = [stored.plain, stored.folded].into_iter().flatten().map(|form| form.mode);
        let Some(bits) = modes.into_iter().find(|bits| *bits != OBJECT_MODE) else { return Ok(()) };
        if self.store.size(&stored.digest)?.is_none() {
            return Ok(());
        }
        let reason = format!("its mode is {bits:04o}, not {OBJECT_MODE:04o}");
        let mut damage = damage(DamageKind::Permission, object(&stored.digest), &reason);
        damage.outcome = Outcome::Repairable;
        if mode == Mode::Do {
            self.store.correct_mode(&stored.digest)?;
            damage.outcome = Outcome::Repaired("it has its mode again".to_owned());
        }
        found.damages.push(damage);
        Ok(())
    }

    /// Looks at each form of an object: what is wrong, and whether one is good. What is wrong is moved away.
    fn look(&self, stored: &Stored) -> Result<(Vec<String>, bool), OpsError> {
        let mut reasons = Vec::new();
        let mut good = false;
        // Where there is none any more, another process took it away meanwhile, because it is wrong.
        if stored.plain.is_some()
            && let Some(found) = self.store.plain_digest(&stored.digest)?
        {
            let (found, seen) = found;
            if found == stored.digest {
                good = true;
            } else {
                let bytes = stored.plain.map_or(0, |form| form.bytes);
                match self.store.set_plain_aside(&stored.digest, seen) {
                    Ok(_) => reasons.push(format!("its {bytes} bytes are {}", found.short())),
                    // Another process moved it away before; a good one may be in its place.
                    Err(plumb_store::Error::Missing { .. }) => good = self.store.contains(&stored.digest),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if stored.folded.is_some() {
            use plumb_store::Error::{Damaged, DamagedFold, Missing};
            match self.store.prove(&stored.digest) {
                Ok(()) => good = true,
                Err(DamagedFold { digest, reason, .. }) if digest == stored.digest => {
                    reasons.push(format!("its folded form: {reason}"));
                }
                // It is the other object that is damaged; this one comes back with it.
                Err(error @ (Damaged { .. } | DamagedFold { .. } | Missing { .. })) => {
                    reasons.push(format!("its folded form: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((reasons, good))
    }

    /// What releases need and is not there.
    fn check_needed(
        &self,
        needed: &Needed,
        wrong: &mut BTreeSet<Digest>,
        found: &mut Checkup,
    ) -> Result<(), OpsError> {
        for digest in needed.by.keys() {
            if !wrong.contains(digest) && self.store.size(digest)?.is_none() {
                wrong.insert(*digest);
                found.damages.push(lacking(DamageKind::Missing, digest, "it is not there"));
            }
        }
        Ok(())
    }

    /// Says what became, or would become, of each object that was wrong or missing.
    fn judge(
        &self,
        mode: Mode,
        how: &BTreeMap<Digest, String>,
        needed: &Needed,
        found: &mut Checkup,
    ) -> Result<(), OpsError> {
        let is_unread = |damage: &&Damage| {
            damage.kind == DamageKind::Release && !matches!(damage.outcome, Outcome::Repaired(_))
        };
        let unread = found.damages.iter().find(is_unread);
        let unread = unread.map(|damage| damage.what.clone());
        let unread = unread.or_else(|| Some(format!("all of {}", needed.unread.first()?)));
        for damage in &mut found.damages {
            let Some(digest) = damage.digest else { continue };
            damage.needed_by = needed.by.get(&digest).into_iter().flatten().cloned().collect();
            damage.outcome = match how.get(&digest) {
                _ if mode == Mode::DryRun => Outcome::Repairable,
                Some(how) => Outcome::Repaired(how.clone()),
                // A root whose base came back is whole again without anybody making it.
                None if self.is_good(&digest)? => Outcome::Repaired("it is whole again".to_owned()),
                // As a collection does: what cannot be read may need it.
                None if damage.needed_by.is_empty()
                    && let Some(unread) = &unread =>
                {
                    damage.reason.push_str(&format!("; {unread} cannot be read, and may need it"));
                    Outcome::Left
                }
                None if damage.needed_by.is_empty() => {
                    // It may still be there: good itself, and made from what is not there any more.
                    if self.store.size(&digest)?.is_some() {
                        self.store.set_aside(&digest)?;
                    }
                    Outcome::Repaired("moved away; no release needs it".to_owned())
                }
                None => Outcome::Left,
            };
        }
        Ok(())
    }

    fn is_good(&self, digest: &Digest) -> Result<bool, OpsError> {
        match self.store.verify(digest).map_err(OpsError::from) {
            Ok(()) => Ok(true),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn object(digest: &Digest) -> String {
    format!("object {digest}")
}

/// Damage of an object that may come back.
fn lacking(kind: DamageKind, digest: &Digest, reason: &str) -> Damage {
    Damage { digest: Some(*digest), ..damage(kind, object(digest), reason) }
}

fn damage(kind: DamageKind, what: String, reason: &str) -> Damage {
    let (reason, needed_by) = (reason.to_owned(), Vec::new());
    Damage { kind, what, reason, needed_by, outcome: Outcome::Left, digest: None, record: None }
}
