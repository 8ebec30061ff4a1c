//! Records: releases and what was said about them, trust, channels. What is damaged comes back from remotes, as
//! [`crate::remote`] decides.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, Document as _};
use plumb_store::Record;

use super::{Checkup, Damage, DamageKind, Outcome, damage};
use crate::Plumb;
use crate::collect::Mode;
use crate::error::OpsError;
use crate::trust::{FINGERPRINTS, Trust, TrustError};

/// What a look at all records brought.
#[derive(Default)]
struct Records {
    releases: u64,
    good: Vec<Release>,
    damages: Vec<Damage>,
}

impl Records {
    /// What was read; `None`, and damage, if it is not what it should be. `whole` is where the record is not known by itself.
    fn read<T, E: Into<OpsError>>(
        &mut self,
        read: Result<T, E>,
        record: Option<Record>,
        whole: impl FnOnce() -> String,
    ) -> Result<Option<T>, OpsError> {
        match read.map_err(Into::into) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.is_damage() || matches!(error, OpsError::Trust(_)) => {
                let record = broken(&error).or(record);
                let mut damage = damage(DamageKind::Record, whole(), &error.in_one_line());
                damage.record = record;
                self.damages.push(damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn bad_release(&mut self, name: ReleaseName, reason: &str) {
        let mut damage = damage(DamageKind::Release, format!("release {name}"), reason);
        damage.record = Some(Record::Release(name));
        self.damages.push(damage);
    }
}

/// The record of a chain that does not hold.
fn broken(error: &OpsError) -> Option<Record> {
    let OpsError::Trust(error) = error else { return None };
    Some(match error {
        TrustError::Root { app, version, .. } | TrustError::RootGap { app, version } => {
            Record::Root(app.clone(), *version)
        }
        TrustError::Promotion { app, channel, sequence, .. }
        | TrustError::History { app, channel, sequence } => {
            Record::Promotion(app.clone(), channel.clone(), *sequence)
        }
        _ => return None,
    })
}

/// What came back from remotes.
#[derive(Default)]
struct Regained {
    from: BTreeMap<Record, String>,
    problems: BTreeSet<String>,
}

impl Plumb<'_> {
    /// Reads every record, and brings back what is damaged. Returns the releases that are good.
    pub(super) fn check_records(&self, mode: Mode, found: &mut Checkup) -> Result<Vec<Release>, OpsError> {
        let mut regained = Regained::default();
        loop {
            let mut records = Records::default();
            self.check_releases(&mut records)?;
            self.check_vouching(mode, &mut records)?;
            let lost = records.damages.iter().filter_map(|damage| damage.record.clone());
            // One that came and is still wrong is not asked for again.
            let lost: BTreeSet<Record> = lost.filter(|record| !regained.from.contains_key(record)).collect();
            let came = match mode {
                Mode::Do => self.regain_all(&lost, &mut regained)?,
                Mode::DryRun => BTreeSet::new(),
            };
            for mut damage in records.damages {
                let record = damage.record.clone();
                let is_back = record.as_ref().is_some_and(|record| came.contains(record));
                if let Some(from) = record.as_ref().filter(|_| is_back).and_then(|it| regained.from.get(it)) {
                    damage.outcome = Outcome::Repaired(format!("from remote `{from}`"));
                    found.damages.push(damage);
                } else if came.is_empty() {
                    // The last look: it stays.
                    if let Some(record) = record
                        && mode == Mode::DryRun
                        && !self.remotes_of(record.app())?.is_empty()
                    {
                        damage.outcome = Outcome::Repairable;
                    }
                    found.damages.push(damage);
                }
            }
            if came.is_empty() {
                found.releases = records.releases;
                found.remotes.extend(regained.problems);
                return Ok(records.good);
            }
        }
    }

    fn regain_all(
        &self,
        lost: &BTreeSet<Record>,
        regained: &mut Regained,
    ) -> Result<BTreeSet<Record>, OpsError> {
        let mut came = BTreeSet::new();
        let apps: BTreeSet<&AppName> = lost.iter().map(Record::app).collect();
        for app in apps {
            let mut left: BTreeSet<Record> =
                lost.iter().filter(|record| record.app() == app).cloned().collect();
            for remote in self.remotes_of(app)? {
                if left.is_empty() {
                    break;
                }
                let mut tell = |what: String, error: &OpsError| {
                    let why = error.in_one_line();
                    regained.problems.insert(format!("remote `{remote}` cannot help {what}: {why}"));
                };
                match self.regain(&remote, app, &left) {
                    Ok((back, refused)) => {
                        for (record, error) in refused {
                            tell(record.to_string(), &error);
                        }
                        for record in back {
                            left.remove(&record);
                            regained.from.insert(record.clone(), remote.clone());
                            came.insert(record);
                        }
                    }
                    Err(error) if error.is_full() => return Err(error),
                    Err(error) => tell(app.to_string(), &error),
                }
            }
        }
        Ok(came)
    }

    /// Reads every release document, and every statement.
    fn check_releases(&self, records: &mut Records) -> Result<(), OpsError> {
        for app in self.store.apps()? {
            let mut before: Option<Release> = None;
            for number in self.store.releases(&app)? {
                records.releases += 1;
                let name = ReleaseName { app: app.clone(), number };
                let bytes = self.store.release(&app, number)?;
                let release = match Release::from_bytes(&bytes) {
                    Ok(release) if release.name() == name => release,
                    Ok(other) => {
                        records.bad_release(name, &format!("it says that it is {}", other.name()));
                        before = None;
                        continue;
                    }
                    Err(error) => {
                        records.bad_release(name, &error.to_string());
                        before = None;
                        continue;
                    }
                };
                let last = before.as_ref().filter(|last| last.number + 1 == number);
                if let Some(last) = last
                    && release.previous != Some(last.digest())
                {
                    let reason = format!("it does not follow {} as that is now", last.name());
                    let what = format!("release {name}");
                    records.damages.push(damage(DamageKind::Chain, what, &reason));
                }
                for statement in self.store.statements(&app, number)? {
                    let what = || format!("statement {} about {name}", statement.short());
                    let record = Record::Statement(name.clone(), statement);
                    records.read(self.store.statement(&app, number, &statement), Some(record), what)?;
                }
                records.good.push(release.clone());
                before = Some(release);
            }
        }
        Ok(())
    }

    /// Reads the trust of every application, and every promotion of its channels: each follows from the one before.
    fn check_vouching(&self, mode: Mode, records: &mut Records) -> Result<(), OpsError> {
        let mut apps: BTreeSet<AppName> = self.store.vouched_apps()?.into_iter().collect();
        apps.extend(self.store.entries(FINGERPRINTS)?.iter().filter_map(|name| name.parse().ok()));
        for app in apps {
            let trust = records.read(self.trust_if_any(&app), None, || format!("trust of {app}"))?;
            let Some(trust) = trust else { continue };
            if let (Some(trust), Mode::Do) = (&trust, mode) {
                self.note_fingerprint(&app, trust)?;
            }
            for channel in self.store.channels(&app)? {
                let what = || format!("channel {channel} of {app}");
                let Some(trust) = &trust else {
                    let reason = "nothing says who may move it";
                    records.damages.push(damage(DamageKind::Record, what(), reason));
                    continue;
                };
                records.read(self.history(&app, &channel, trust), None, what)?;
            }
        }
        Ok(())
    }

    /// For trust that was begun before fingerprints were remembered.
    fn note_fingerprint(&self, app: &AppName, trust: &Trust) -> Result<(), OpsError> {
        match self.fingerprint(app)? {
            None => self.remember_fingerprint(app, &trust.fingerprint),
            Some(_) => Ok(()),
        }
    }
}
