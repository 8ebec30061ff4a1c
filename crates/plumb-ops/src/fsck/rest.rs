//! What is neither object nor document: entries, leftovers, permissions.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use plumb_model::Digest;
use plumb_store::Leftover;

use super::{Checkup, DamageKind, Outcome, damage};
use crate::Plumb;
use crate::collect::{Mode, named_digests};
use crate::error::OpsError;

/// Permissions that nobody but the owner may have at the store.
const OTHERS_WRITE: u32 = 0o022;

impl Plumb<'_> {
    /// Entries that name what is not there.
    pub(super) fn check_entries(&self, mode: Mode, found: &mut Checkup) -> Result<(), OpsError> {
        for kind in self.store.entry_kinds()? {
            let is_remembered = crate::collect::is_remembered(&kind);
            let is_elsewhere = crate::collect::is_elsewhere(&kind);
            for key in self.store.entries(&kind)? {
                let value = self.store.entry(&kind, &key)?.unwrap_or_default();
                let named = if is_elsewhere { BTreeSet::new() } else { named_digests(&value) };
                let reason = if value.is_empty() {
                    Some("it is empty".to_owned())
                } else {
                    self.gone(&named)?
                        .map(|digest| format!("it names {}, which is not there", digest.short()))
                };
                let Some(reason) = reason else { continue };
                let what = format!("entry {kind}/{key}");
                let mut damage = damage(DamageKind::Entry, what, &reason);
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

    /// The first of these objects that is not there.
    fn gone(&self, named: &BTreeSet<Digest>) -> Result<Option<Digest>, OpsError> {
        for digest in named {
            if self.store.size(digest)?.is_none() {
                return Ok(Some(*digest));
            }
        }
        Ok(None)
    }

    pub(super) fn check_leftovers(&self, mode: Mode, found: &mut Checkup) -> Result<(), OpsError> {
        for leftover in self.store.leftovers()? {
            let what = leftover.path().display().to_string();
            match leftover {
                Leftover::Partial(_) | Leftover::Damaged(_) => found.kept_aside += 1,
                Leftover::Unfinished(_) => {
                    let mut damage =
                        damage(DamageKind::Unfinished, what, "a process ended while it wrote this");
                    damage.outcome = Outcome::Repairable;
                    if mode == Mode::Do {
                        self.store.remove_leftover(&leftover)?;
                        damage.outcome = Outcome::Repaired("removed".to_owned());
                    }
                    found.damages.push(damage);
                }
                Leftover::Foreign(_) => {
                    let mut damage = damage(DamageKind::Foreign, what, "it is not the store's");
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
            let mut damage = damage(DamageKind::Permission, root.display().to_string(), &reason);
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
