//! Records: releases and what was said about them, trust, channels.

use plumb_model::Document as _;
use plumb_model::release::{Release, ReleaseName};

use super::{Checkup, DamageKind, damage};
use crate::Plumb;
use crate::error::OpsError;

/// What was read; `None`, and damage of a record, if it is not what it should be.
fn record<T, E: Into<OpsError>>(
    read: Result<T, E>,
    what: impl FnOnce() -> String,
    found: &mut Checkup,
) -> Result<Option<T>, OpsError> {
    match read.map_err(Into::into) {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_damage() || matches!(error, OpsError::Trust(_)) => {
            found.damages.push(damage(DamageKind::Record, what(), &error.in_one_line()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Plumb<'_> {
    /// Reads every release document; returns those that are good.
    pub(super) fn check_releases(&self, found: &mut Checkup) -> Result<Vec<Release>, OpsError> {
        let mut good = Vec::new();
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
                        found.damages.push(damage(DamageKind::Release, what, &reason));
                        before = None;
                        continue;
                    }
                    Err(error) => {
                        found.damages.push(damage(DamageKind::Release, what, &error.to_string()));
                        before = None;
                        continue;
                    }
                };
                let last = before.as_ref().filter(|last| last.number + 1 == number);
                if let Some(last) = last
                    && release.previous != Some(last.digest())
                {
                    let reason = format!("it does not follow {} as that is now", last.name());
                    found.damages.push(damage(DamageKind::Chain, what, &reason));
                }
                for statement in self.store.statements(&app, number)? {
                    let what = || format!("statement {} about {name}", statement.short());
                    record(self.store.statement(&app, number, &statement), what, found)?;
                }
                good.push(release.clone());
                before = Some(release);
            }
        }
        Ok(good)
    }

    /// Reads the trust of every application, and every promotion of its channels: each follows from the one before.
    pub(super) fn check_vouching(&self, found: &mut Checkup) -> Result<(), OpsError> {
        for app in self.store.vouched_apps()? {
            let trust = record(self.trust_if_any(&app), || format!("trust of {app}"), found)?;
            let Some(trust) = trust else { continue };
            for channel in self.store.channels(&app)? {
                let what = || format!("channel {channel} of {app}");
                let Some(trust) = &trust else {
                    found.damages.push(damage(DamageKind::Record, what(), "nothing says who may move it"));
                    continue;
                };
                record(self.history(&app, &channel, trust), what, found)?;
            }
        }
        Ok(())
    }
}
