//! Statements about releases: made, read, insisted on.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::lock::Lock;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{Digest, Document as _, SignerName};
use plumb_trust::statement::{self, Predicate, Subject};
use plumb_trust::{KeyId, Statement};
use serde::Serialize;

use super::{Trust, TrustError, provenance};
use crate::Plumb;
use crate::error::OpsError;

/// Longest lock that is read: 100 machines with a thousand packages each.
const LOCK_LIMIT: u64 = 64 * 1024 * 1024;

/// Everything that was said about a release.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// By trusted keys; promotions included.
    pub statements: Vec<Statement>,
    /// What is not believed, and why.
    pub refused: Vec<(Digest, String)>,
    /// Names of the keys.
    pub names: BTreeMap<KeyId, SignerName>,
}

/// Who said something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaidBy {
    /// Digest of the statement.
    pub digest: Digest,
    /// Names of the keys.
    pub by: Vec<String>,
    /// RFC 3339; `None` for provenance.
    pub at: Option<String>,
}

impl Said {
    /// Who made a statement.
    #[must_use]
    pub fn by(&self, statement: &Statement) -> SaidBy {
        let name = |key: &KeyId| self.names.get(key).map_or_else(|| key.short(), ToString::to_string);
        SaidBy {
            digest: statement.digest,
            by: statement.by.iter().map(name).collect(),
            at: statement.predicate.time().map(str::to_owned),
        }
    }

    /// A trusted key vouches for what the release was built from.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.provenance().next().is_some()
    }

    /// Who of those who are trusted signed the release, each once.
    #[must_use]
    pub fn signers(&self) -> Vec<String> {
        let names: BTreeSet<String> = self.provenance().flat_map(|statement| self.by(statement).by).collect();
        names.into_iter().collect()
    }

    /// The statements that sign the release.
    pub fn provenance(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(|statement| matches!(statement.predicate, Predicate::Provenance(_)))
    }
}

/// What a statement about a release is about: the release, then its images.
fn subjects(release: &Release) -> Vec<Subject> {
    let name = release.name();
    let mut all = vec![Subject::new(name.to_string(), &release.digest())];
    let images = release.content.machines.iter();
    all.extend(images.map(|(machine, entry)| Subject::new(format!("{name}/{machine}"), &entry.image)));
    all
}

impl Plumb<'_> {
    /// Everything that was said about a release.
    pub(crate) fn said(&self, release: &Release) -> Result<Said, OpsError> {
        match self.trust_if_any(&release.app)? {
            Some(trust) => self.said_with(release, &trust),
            None => Ok(Said::default()),
        }
    }

    pub(crate) fn said_with(&self, release: &Release, trust: &Trust) -> Result<Said, OpsError> {
        let keys = trust.root().signers();
        let about = Subject::new(release.name().to_string(), &release.digest());
        let names = trust.root().names.clone();
        let mut said = Said { statements: Vec::new(), refused: Vec::new(), names };
        for digest in self.store.statements(&release.app, release.number)? {
            // One that is damaged vouches for nothing; `plumb fsck` names it.
            let bytes = match self.store.statement(&release.app, release.number, &digest) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error @ plumb_store::Error::WrongDigest { .. }) => {
                    said.refused.push((digest, error.to_string()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match statement::verify(&bytes, &about, &keys) {
                Ok(statement) => said.statements.push(statement),
                Err(error) => said.refused.push((digest, error.to_string())),
            }
        }
        for channel in self.store.channels(&release.app)? {
            // A promotion by somebody who is trusted no more is history, not evidence.
            let history = self.history(&release.app, &channel, trust)?.into_iter();
            let about_it = history.filter(|step| step.subject.first() == Some(&about));
            said.statements.extend(about_it.filter(|step| step.by.iter().any(|key| keys.contains_key(key))));
        }
        Ok(said)
    }

    /// Signs what `predicate` says about a release.
    pub(crate) fn vouch(&self, release: &Release, predicate: &Predicate) -> Result<Digest, OpsError> {
        let trust = self.trust(&release.app)?;
        let bytes = self.envelope(release, predicate, &trust)?;
        Ok(self.store.add_statement(&release.app, release.number, &bytes)?)
    }

    /// A signed statement about a release, not yet kept.
    pub(crate) fn envelope(
        &self,
        release: &Release,
        predicate: &Predicate,
        trust: &Trust,
    ) -> Result<Vec<u8>, OpsError> {
        let key = self.signing_key(&release.app, trust.root())?;
        let signed = statement::sign(subjects(release), predicate, &key);
        let signed = signed.map_err(|source| TrustError::Statement { release: release.name(), source })?;
        Ok(signed.to_bytes())
    }

    /// Vouches for a release: this is what it was built from.
    ///
    /// # Errors
    /// [`TrustError::NotTrusted`] and others.
    pub fn sign(&self, name: &ReleaseName) -> Result<SaidBy, OpsError> {
        let release = self.read_release(name)?;
        self.trust_or_begin(&name.app)?;
        self.sign_release(&release)?;
        let said = self.said(&release)?;
        let newest = said.provenance().last();
        newest.map(|statement| said.by(statement)).ok_or_else(|| unsigned(&release, &said).into())
    }

    pub(crate) fn sign_release(&self, release: &Release) -> Result<Digest, OpsError> {
        let lock = self.store.read_bytes(&release.lock, LOCK_LIMIT)?;
        let lock = Lock::parse(&String::from_utf8_lossy(&lock)).map_err(|source| OpsError::Lock {
            path: format!("{} of {}", crate::project::LOCK, release.name()).into(),
            source,
        })?;
        self.vouch(release, &Predicate::Provenance(provenance::of(release, &lock)))
    }

    /// Refuses a release that nobody who is trusted signed.
    pub(crate) fn insist_signed(&self, release: &Release) -> Result<(), OpsError> {
        must_be_signed(release, self.said(release)?).map(drop)
    }

    /// What was said about a release that somebody who is trusted signed.
    pub(crate) fn signed(&self, release: &Release, trust: &Trust) -> Result<Said, OpsError> {
        must_be_signed(release, self.said_with(release, trust)?)
    }
}

fn must_be_signed(release: &Release, said: Said) -> Result<Said, OpsError> {
    if said.is_signed() { Ok(said) } else { Err(unsigned(release, &said).into()) }
}

fn unsigned(release: &Release, said: &Said) -> TrustError {
    TrustError::Unsigned { release: release.name(), why: said.refused.first().map(|(_, why)| why.clone()) }
}
