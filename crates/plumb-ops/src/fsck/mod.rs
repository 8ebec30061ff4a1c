//! `plumb fsck`: everything that is wrong with a store has a name, and what can be made good again is.
//!
//! ```text
//!  every object       hashed, in each form it has            wrong: moved to `damaged/`, then as if it were missing
//!  every release      canonical, in its place, chain of digests; statements by their digests
//!  what they reach    there                                   missing: another form, the archive's pool, taken out of an
//!                                                             image or a package, built again (`repair.rs`)
//!  entries            what they name is there                 forgotten, if they only spare work
//!  everything else    unfinished files of dead processes, permissions, foreign files
//! ```
//!
//! A release whose images were collected lacks them rightly: the collector left a note ([`COLLECTED`]).

mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{Digest, Document as _};
use plumb_store::{Leftover, Stored};
use rayon::prelude::*;
use serde::Serialize;

use crate::Plumb;
use crate::collect::{Mode, named_digests};
use crate::error::OpsError;
use crate::progress::{Progress, StoreStep};

/// Kind of the store entries that say that a release's images were collected; the value is its name.
pub(crate) const COLLECTED: &str = "collected";

/// Permissions of an object's file.
const OBJECT_MODE: u32 = 0o444;
/// Permissions that nobody but the owner may have at the store.
const OTHERS_WRITE: u32 = 0o022;

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
}

impl Checkup {
    /// Nothing is wrong that matters and was not mended.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damages.iter().all(|damage| matches!(damage.outcome, Outcome::Repaired(_) | Outcome::Harmless))
    }
}

/// Objects that are needed, with the releases that need them.
pub(crate) type NeededBy = BTreeMap<Digest, BTreeSet<ReleaseName>>;

impl Plumb<'_> {
    /// Looks at everything in the store and mends what can be; in a dry run only looks.
    ///
    /// # Errors
    /// [`OpsError`] if the store cannot be read; what is wrong with it is the value.
    pub fn check_store(&self, mode: Mode) -> Result<Checkup, OpsError> {
        let mut found = Checkup { objects: 0, bytes: 0, releases: 0, kept_aside: 0, damages: Vec::new() };
        let mut wrong = self.check_objects_of_store(mode, &mut found)?;
        let releases = self.check_releases(&mut found)?;
        let needed = self.needed_by(&releases)?;
        for (digest, names) in &needed {
            if !wrong.contains_key(digest) && !self.store.contains(digest) {
                wrong.insert(*digest, "it is not there".to_owned());
                found.damages.push(damage(DamageKind::Missing, object(digest), "it is not there", names));
            }
        }
        if mode == Mode::Do {
            let lost: BTreeSet<Digest> =
                wrong.keys().filter(|digest| !self.store.contains(digest)).copied().collect();
            let how = self.repair(&lost, &releases)?;
            self.judge(&wrong, &how, &needed, &mut found);
        } else {
            for damage in &mut found.damages {
                damage.outcome = match damage.kind {
                    DamageKind::Release | DamageKind::Chain | DamageKind::Record => Outcome::Left,
                    _ => Outcome::Repairable,
                };
            }
        }
        self.check_entries(mode, &mut found)?;
        self.check_leftovers(mode, &mut found)?;
        Ok(found)
    }

    /// Hashes all objects. Returns those that are wrong; they were moved away.
    fn check_objects_of_store(
        &self,
        mode: Mode,
        found: &mut Checkup,
    ) -> Result<BTreeMap<Digest, String>, OpsError> {
        let all = self.store.stored()?;
        self.report(Progress::Store(StoreStep::Checking { objects: all.len() as u64 }));
        let wrong = Mutex::new(BTreeMap::new());
        let damages = Mutex::new(Vec::new());
        // Those that start from others come last, so that a base that is damaged was named by itself.
        let (alone, made): (Vec<&Stored>, Vec<&Stored>) = all.iter().partition(|stored| {
            stored.folded.is_none() || self.store.bases(&stored.digest).is_ok_and(|bases| bases.is_empty())
        });
        for part in [alone, made] {
            let before = wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
            part.par_iter().with_max_len(1).try_for_each(|stored| {
                let (reasons, good) = self.look(stored, mode, &before)?;
                if reasons.is_empty() {
                    return Ok(());
                }
                let reason = reasons.join("; ");
                let outcome = if good {
                    Outcome::Repaired("its other form is good".to_owned())
                } else {
                    wrong
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(stored.digest, reason.clone());
                    Outcome::Left
                };
                let damage = Damage {
                    outcome,
                    ..damage(DamageKind::Wrong, object(&stored.digest), &reason, &BTreeSet::new())
                };
                damages.lock().unwrap_or_else(PoisonError::into_inner).push(damage);
                Ok::<(), OpsError>(())
            })?;
        }
        for stored in &all {
            found.objects += 1;
            found.bytes += stored.bytes();
            let modes = [stored.plain, stored.folded].into_iter().flatten().map(|form| form.mode);
            if let Some(mode_bits) = modes.into_iter().find(|bits| *bits != OBJECT_MODE)
                && self.store.contains(&stored.digest)
            {
                let reason = format!("its mode is {mode_bits:04o}, not {OBJECT_MODE:04o}");
                let mut damage =
                    damage(DamageKind::Permission, object(&stored.digest), &reason, &BTreeSet::new());
                if mode == Mode::Do {
                    self.store.correct_mode(&stored.digest)?;
                    damage.outcome = Outcome::Repaired("it has its mode again".to_owned());
                }
                found.damages.push(damage);
            }
        }
        found.damages.extend(damages.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(wrong.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at each form of an object: what is wrong, and whether one is good. What is wrong is moved away.
    fn look(
        &self,
        stored: &Stored,
        mode: Mode,
        before: &BTreeMap<Digest, String>,
    ) -> Result<(Vec<String>, bool), OpsError> {
        let mut reasons = Vec::new();
        let mut good = false;
        if stored.plain.is_some() {
            match self.store.plain_digest(&stored.digest)? {
                Some(found) if found == stored.digest => good = true,
                Some(found) => {
                    let bytes = stored.plain.map_or(0, |form| form.bytes);
                    reasons.push(format!("its {bytes} bytes are {}", found.short()));
                    if mode == Mode::Do {
                        self.store.set_plain_aside(&stored.digest)?;
                    }
                }
                // Another process took it away meanwhile, because it is wrong.
                None => {}
            }
        }
        if mode == Mode::DryRun && stored.folded.is_some() {
            let bases = self.store.bases(&stored.digest)?;
            let trouble = match bases.iter().find(|base| before.contains_key(*base)) {
                Some(base) => Some(format!("it needs object {base}, which is damaged")),
                None => self.store.fold_trouble(&stored.digest)?,
            };
            match trouble {
                Some(trouble) => reasons.push(format!("its folded form: {trouble}")),
                None => good = true,
            }
        } else if stored.folded.is_some() {
            use plumb_store::Error::{Damaged, DamagedFold, Missing};
            match self.store.prove(&stored.digest) {
                Ok(()) => good = true,
                Err(DamagedFold { reason, .. }) => reasons.push(format!("its folded form: {reason}")),
                // It is the other object that is damaged; this one comes back with it.
                Err(error @ (Damaged { .. } | Missing { .. })) => reasons.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((reasons, good))
    }

    /// Reads every release document; returns those that are good.
    fn check_releases(&self, found: &mut Checkup) -> Result<Vec<Release>, OpsError> {
        let mut good = Vec::new();
        let nobody = BTreeSet::new();
        for app in self.store.apps()? {
            let mut before: Option<Release> = None;
            for number in self.store.releases(&app)? {
                found.releases += 1;
                let name = ReleaseName { app: app.clone(), number };
                let what = format!("release {name}");
                let bytes = self.store.release(&app, number)?;
                let release = match Release::from_bytes(&bytes) {
                    Ok(release) if release.name() == name => release,
                    Ok(other) => {
                        let reason = format!("it says that it is {}", other.name());
                        found.damages.push(damage(DamageKind::Release, what, &reason, &nobody));
                        before = None;
                        continue;
                    }
                    Err(error) => {
                        found.damages.push(damage(DamageKind::Release, what, &error.to_string(), &nobody));
                        before = None;
                        continue;
                    }
                };
                let last = before.as_ref().filter(|last| last.number + 1 == number);
                if let Some(last) = last
                    && release.previous != Some(last.digest())
                {
                    let reason = format!("it does not follow {} as that is now", last.name());
                    found.damages.push(damage(DamageKind::Chain, what, &reason, &nobody));
                }
                for statement in self.store.statements(&app, number)? {
                    if let Err(error) = self.store.statement(&app, number, &statement) {
                        let what = format!("statement {} about {name}", statement.short());
                        found.damages.push(damage(DamageKind::Record, what, &error.to_string(), &nobody));
                    }
                }
                good.push(release.clone());
                before = Some(release);
            }
        }
        Ok(good)
    }

    /// Everything that releases need: all of it, unless their images were collected.
    fn needed_by(&self, releases: &[Release]) -> Result<NeededBy, OpsError> {
        let mut needed = NeededBy::new();
        for release in releases {
            let name = release.name();
            let mut add = |digest: Digest| {
                needed.entry(digest).or_default().insert(name.clone());
            };
            add(release.definition);
            add(release.lock);
            release.checks.iter().copied().for_each(&mut add);
            let is_collected = self.is_collected(&name)?;
            for machine in release.content.machines.values() {
                add(machine.image);
                let Ok(image) = self.image(&machine.image) else { continue };
                image.inventory.iter().for_each(|part| add(part.digest));
                image.scripts.into_iter().for_each(&mut add);
                if is_collected {
                    continue;
                }
                for part in [&image.kernel, &image.initrd, &image.root] {
                    add(part.digest);
                    self.store.bases(&part.digest).unwrap_or_default().into_iter().for_each(&mut add);
                }
            }
            if !is_collected && let Ok(reached) = self.reach(release) {
                reached.into_iter().for_each(|object| add(object.digest));
            }
        }
        Ok(needed)
    }

    pub(crate) fn is_collected(&self, name: &ReleaseName) -> Result<bool, OpsError> {
        Ok(self.store.entry(COLLECTED, &crate::collect::key_of(name))?.is_some())
    }

    /// Says what became of each object that was wrong or missing.
    fn judge(
        &self,
        wrong: &BTreeMap<Digest, String>,
        how: &BTreeMap<Digest, String>,
        needed: &NeededBy,
        found: &mut Checkup,
    ) {
        let by_name: BTreeMap<String, &Digest> =
            wrong.keys().map(|digest| (object(digest), digest)).collect();
        for damage in &mut found.damages {
            let Some(digest) = by_name.get(&damage.what).copied() else { continue };
            damage.needed_by = needed.get(digest).into_iter().flatten().cloned().collect();
            damage.outcome = match how.get(digest) {
                Some(how) => Outcome::Repaired(how.clone()),
                // A root whose base came back is whole again without anybody making it.
                None if self.store.contains(digest) && self.store.verify(digest).is_ok() => {
                    Outcome::Repaired("it is whole again".to_owned())
                }
                None if damage.needed_by.is_empty() => {
                    Outcome::Repaired("moved away; no release needs it".to_owned())
                }
                None => Outcome::Left,
            };
        }
    }

    /// Entries that name what is not there.
    fn check_entries(&self, mode: Mode, found: &mut Checkup) -> Result<(), OpsError> {
        for kind in self.store.entry_kinds()? {
            let is_remembered = crate::collect::is_remembered(&kind);
            let is_elsewhere = crate::collect::is_elsewhere(&kind);
            for key in self.store.entries(&kind)? {
                let value = self.store.entry(&kind, &key)?.unwrap_or_default();
                let named = if is_elsewhere { BTreeSet::new() } else { named_digests(&value) };
                let reason = if value.is_empty() {
                    Some("it is empty".to_owned())
                } else {
                    let gone = named.iter().find(|digest| !self.store.contains(digest));
                    gone.map(|digest| format!("it names {}, which is not there", digest.short()))
                };
                let Some(reason) = reason else { continue };
                let what = format!("entry {kind}/{key}");
                let mut damage = damage(DamageKind::Entry, what, &reason, &BTreeSet::new());
                damage.outcome = match (is_remembered, mode) {
                    (true, Mode::Do) => {
                        self.store.remove_entry(&kind, &key)?;
                        Outcome::Repaired("forgotten; it is found out again when needed".to_owned())
                    }
                    (true, Mode::DryRun) => Outcome::Repairable,
                    // The state of an archive: what it names is downloaded again with the next lock.
                    (false, _) if kind == "archive" => Outcome::Harmless,
                    (false, _) => Outcome::Left,
                };
                found.damages.push(damage);
            }
        }
        Ok(())
    }

    fn check_leftovers(&self, mode: Mode, found: &mut Checkup) -> Result<(), OpsError> {
        let nobody = BTreeSet::new();
        for leftover in self.store.leftovers()? {
            let what = leftover.path().display().to_string();
            match leftover {
                Leftover::Partial(_) | Leftover::Damaged(_) => found.kept_aside += 1,
                Leftover::Unfinished(_) => {
                    let mut damage =
                        damage(DamageKind::Unfinished, what, "a process ended while it wrote this", &nobody);
                    damage.outcome = Outcome::Repairable;
                    if mode == Mode::Do {
                        self.store.remove_leftover(&leftover)?;
                        damage.outcome = Outcome::Repaired("removed".to_owned());
                    }
                    found.damages.push(damage);
                }
                Leftover::Foreign(_) => {
                    let mut damage = damage(DamageKind::Foreign, what, "it is not the store's", &nobody);
                    damage.outcome = Outcome::Harmless;
                    found.damages.push(damage);
                }
            }
        }
        let root: PathBuf = self.store.root().to_owned();
        let bits =
            fs::metadata(&root).map_err(crate::error::io("read", &root))?.permissions().mode() & 0o7777;
        if bits & OTHERS_WRITE != 0 {
            let reason = format!("others may write to it: its mode is {bits:04o}");
            let mut damage = damage(DamageKind::Permission, root.display().to_string(), &reason, &nobody);
            damage.outcome = Outcome::Repairable;
            if mode == Mode::Do {
                let permissions = fs::Permissions::from_mode(bits & !OTHERS_WRITE);
                fs::set_permissions(&root, permissions).map_err(crate::error::io("write", &root))?;
                damage.outcome = Outcome::Repaired("only you may write to it".to_owned());
            }
            found.damages.push(damage);
        }
        Ok(())
    }
}

fn object(digest: &Digest) -> String {
    format!("object {digest}")
}

fn damage(kind: DamageKind, what: String, reason: &str, needed_by: &BTreeSet<ReleaseName>) -> Damage {
    let needed_by = needed_by.iter().cloned().collect();
    Damage { kind, what, reason: reason.to_owned(), needed_by, outcome: Outcome::Left }
}
