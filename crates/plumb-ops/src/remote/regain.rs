//! Records that were damaged here, from the remotes that are known: roots of trust, promotions, releases, statements.
//!
//! What is here decides which record it was, never the remote:
//!
//! ```text
//!  root of trust 1        its fingerprint, remembered when it was first trusted
//!  root of trust n        signed by the keys of n-1, and n+1 follows from it
//!  promotion n            names n-1, signed by somebody who was ever trusted, and n+1 names it
//!  release n              signed by somebody who is trusted, names n-1, n+1 names it; no statement here is about another
//!  statement              its digest is its name
//! ```

use std::collections::BTreeSet;

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, ChannelName, Digest, Document as _};
use plumb_store::Record;
use plumb_trust::tuf::{Role, Trusted};
use plumb_trust::{Predicate, Subject, statement};

use super::signed::{Look, Purpose, metadata_of};
use super::{Place, TransferError};
use crate::Plumb;
use crate::channel::next_promotion;
use crate::error::OpsError;
use crate::trust::TrustError;

/// Why a remote did not give a record back.
pub(crate) type Refused = (Record, OpsError);

impl Plumb<'_> {
    /// Puts right what it can of the lost records of an application, all of them of it, from the remote of this name, roots
    /// first. Returns what came, and why something did not.
    ///
    /// # Errors
    /// [`OpsError`] if the store cannot be written, or the remote cannot be asked.
    pub(crate) fn regain(
        &self,
        remote: &str,
        app: &AppName,
        lost: &BTreeSet<Record>,
    ) -> Result<(BTreeSet<Record>, Vec<Refused>), OpsError> {
        let place = self.place(Some(remote), app)?;
        plumb_remote::require(place.remote.as_ref())?;
        let _held = self.store.lock_waiting(&format!("pull-{app}"), &mut |_| {})?;
        let (mut came, mut refused, mut look) = (BTreeSet::new(), Vec::new(), None);
        // In the order of the kinds: who is trusted decides what else is believed.
        for record in lost {
            let found = match record {
                Record::Root(_, version) => self.root_there(&place, app, *version),
                _ => self.look_once(&place, app, &mut look).and_then(|look| match look {
                    Some(look) => self.record_there(&place, look, record),
                    None => Ok(None),
                }),
            };
            match found {
                Ok(Some(bytes)) => {
                    self.store.put_right(record, &bytes)?;
                    came.insert(record.clone());
                }
                Ok(None) => {}
                Err(error) => refused.push((record.clone(), error)),
            }
        }
        Ok((came, refused))
    }

    fn look_once<'l>(
        &self,
        place: &Place,
        app: &AppName,
        look: &'l mut Option<Option<Look>>,
    ) -> Result<Option<&'l Look>, OpsError> {
        if look.is_none() {
            // Who is trusted there is nobody here, if nobody is.
            self.trust(app)?;
            *look = Some(self.visit(place, app, Purpose::Pull, None)?);
        }
        Ok(look.as_ref().and_then(Option::as_ref))
    }

    fn record_there(&self, place: &Place, look: &Look, record: &Record) -> Result<Option<Vec<u8>>, OpsError> {
        match record {
            Record::Root(app, version) => self.root_there(place, app, *version),
            Record::Promotion(app, channel, sequence) => {
                self.promotion_there(place, look, (app, channel), *sequence)
            }
            Record::Release(name) => self.release_there(place, look, name),
            Record::Statement(name, digest) => {
                let words = self.words_about(place, look, name)?;
                Ok(words.into_iter().find(|bytes| Digest::of(bytes) == *digest))
            }
        }
    }

    fn root_there(&self, place: &Place, app: &AppName, version: u64) -> Result<Option<Vec<u8>>, OpsError> {
        let Some(bytes) = metadata_of(place, app, Role::Root, &format!("{version}.root.json"))? else {
            return Ok(None);
        };
        let fail = |source| OpsError::from(TrustError::Root { app: app.clone(), version, source });
        if version == 1 {
            let there = Digest::of(&bytes);
            let unknown = || TrustError::NoFingerprint { app: app.clone(), there };
            let here = self.fingerprint(app)?.ok_or_else(unknown)?;
            if here != there {
                let remote = place.remote.shown();
                return Err(TrustError::OtherTrust { remote, app: app.clone(), here, there }.into());
            }
            return Ok(Some(bytes));
        }
        let before = self.trust_at(app, version - 1)?;
        let mut trusted = before.ok_or_else(|| TrustError::NoRoot { app: app.clone() })?.trusted;
        trusted.next_root(&bytes).map_err(fail)?;
        // One that is damaged itself says nothing.
        if let Some(next) = self.store.root_of_trust(app, version + 1)?
            && Trusted::new(&next, app).is_ok()
        {
            trusted.next_root(&next).map_err(|source| TrustError::Root {
                app: app.clone(),
                version: version + 1,
                source,
            })?;
        }
        Ok(Some(bytes))
    }

    fn promotion_there(
        &self,
        place: &Place,
        look: &Look,
        (app, channel): (&AppName, &ChannelName),
        sequence: u64,
    ) -> Result<Option<Vec<u8>>, OpsError> {
        let at = usize::try_from(sequence).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(bytes) = self.moves_of(place, look, app, channel)?.into_iter().nth(at) else {
            return Ok(None);
        };
        let trust = self.trust(app)?;
        let mut history = Vec::new();
        for before in 1..sequence {
            let gap = || TrustError::History { app: app.clone(), channel: channel.clone(), sequence: before };
            let step = self.store.promotion(app, channel, before)?.ok_or_else(gap)?;
            history.push(next_promotion(&history, &step, (app, channel), &trust)?);
        }
        history.push(next_promotion(&history, &bytes, (app, channel), &trust)?);
        if let Some(next) = self.store.promotion(app, channel, sequence + 1)?
            && let Ok(next) = statement::open(&next, &trust.ever)
            && let Predicate::Promotion(next) = next.predicate
            && next.previous != history.last().map(|step| step.digest)
        {
            let (remote, app, channel) = (place.remote.shown(), app.clone(), channel.clone());
            return Err(TrustError::Diverged { remote, app, channel }.into());
        }
        Ok(Some(bytes))
    }

    fn release_there(
        &self,
        place: &Place,
        look: &Look,
        name: &ReleaseName,
    ) -> Result<Option<Vec<u8>>, OpsError> {
        let Some(entry) = look.index.releases.get(&name.number) else { return Ok(None) };
        let release = self.document_there(place, name, entry)?;
        self.believed(place, look, &release)?;
        let differs = || TransferError::Differs {
            release: name.clone(),
            remote: place.remote.shown(),
            there: release.digest(),
        };
        if self.fits(&release)? { Ok(Some(release.to_bytes())) } else { Err(differs().into()) }
    }

    /// Whether everything here that names the release by its digest means this one.
    fn fits(&self, release: &Release) -> Result<bool, OpsError> {
        let beside = |number: u64| -> Result<Option<Release>, OpsError> {
            match self.store.release(&release.app, number) {
                // One that is damaged itself says nothing.
                Ok(bytes) => Ok(Release::from_bytes(&bytes).ok()),
                Err(plumb_store::Error::ReleaseMissing { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let before = beside(release.number.saturating_sub(1))?;
        let before = before.is_none_or(|it| release.previous == Some(it.digest()));
        let after = beside(release.number.saturating_add(1))?;
        let after = after.is_none_or(|it| it.previous == Some(release.digest()));
        let about = Subject::new(release.name().to_string(), &release.digest());
        let signers = self.trust(&release.app)?.root().signers();
        let said = self.store.statements(&release.app, release.number)?;
        let mut is_meant = true;
        for digest in said {
            let bytes = match self.store.statement(&release.app, release.number, &digest) {
                Err(plumb_store::Error::WrongDigest { .. }) => None,
                other => other?,
            };
            let said = bytes.and_then(|bytes| statement::open(&bytes, &signers).ok());
            is_meant &= said.is_none_or(|said| said.subject.contains(&about));
        }
        Ok(before && after && is_meant)
    }
}
