//! Who vouches for a release travels with it: the root of trust of its application, version by version, and what was signed
//! about it. None of it is believed because of where it came from: a root follows from the one before, a statement from a key
//! that the root names. Only the first root of an application that this host has never seen is taken as it is, and told.

use std::collections::BTreeMap;

use plumb_model::image::Part;
use plumb_model::release::Release;
use plumb_model::{AppName, Digest, Document as _};
use plumb_remote::{Blob, Bound};
use plumb_trust::envelope::MAX_ENVELOPE_BYTES;
use plumb_trust::statement::{self, Predicate, Subject};
use plumb_trust::tuf::{MAX_ROOT_BYTES, Trusted};

use super::index::{Entry, blob};
use super::pull::Job;
use super::push::Item;
use crate::Plumb;
use crate::error::OpsError;
use crate::remote::TransferError;
use crate::trust::TrustError;

/// Media types, for registries.
const ROOT_TYPE: &str = "application/vnd.plumb.root.v1+json";
const STATEMENT_TYPE: &str = "application/vnd.dsse.envelope.v1+json";

/// What vouches for a release, as it goes to a remote.
pub(super) struct Vouching {
    /// By version.
    pub(super) roots: BTreeMap<u64, Part>,
    /// By digest.
    pub(super) statements: Vec<Part>,
    pub(super) items: Vec<Item>,
}

/// What vouches for a release, as it came from a remote and was verified.
pub(super) struct Vouched {
    roots: Vec<(u64, Vec<u8>)>,
    statements: Vec<Vec<u8>>,
    /// The fingerprint of a root that this host has never seen.
    pub(super) first: Option<Digest>,
}

impl Plumb<'_> {
    /// Everything here that vouches for a release.
    pub(super) fn vouching(&self, release: &Release) -> Result<Vouching, OpsError> {
        let mut found = Vouching { roots: BTreeMap::new(), statements: Vec::new(), items: Vec::new() };
        for version in self.store.roots(&release.app)? {
            let Some(bytes) = self.store.root_of_trust(&release.app, version)? else { continue };
            let item = super::push::item(bytes, ROOT_TYPE, format!("{}-{version}.root.json", release.app));
            found.roots.insert(version, super::push::part(&item));
            found.items.push(item);
        }
        for digest in self.store.statements(&release.app, release.number)? {
            let Some(bytes) = self.store.statement(&release.app, release.number, &digest)? else { continue };
            let item = super::push::item(bytes, STATEMENT_TYPE, format!("{}.dsse.json", digest.short()));
            found.statements.push(super::push::part(&item));
            found.items.push(item);
        }
        Ok(found)
    }

    /// What vouches for a release of a remote: verified, and not kept yet.
    ///
    /// # Errors
    /// [`TransferError::OtherTrust`] if the remote has another root than this host; [`TrustError`] if a root does not follow
    /// from the one before, or nobody who is trusted signed the release.
    pub(super) fn vouched(
        &self,
        job: &Job<'_>,
        release: &Release,
        entry: &Entry,
    ) -> Result<Vouched, OpsError> {
        let (roots, trusted, first) = self.roots_there(job, &release.app)?;
        let mut found = Vouched { roots, statements: Vec::new(), first };
        let Some(trusted) = trusted else { return Ok(found) };
        let keys = trusted.root().signers();
        let about = Subject::new(release.name().to_string(), &release.digest());
        let (mut signed, mut why) = (false, None);
        for part in &entry.statements {
            let bytes = match self.store.statement(&release.app, release.number, &part.digest)? {
                Some(bytes) => bytes,
                None => self.small_blob(job, part, MAX_ENVELOPE_BYTES)?,
            };
            match statement::verify(&bytes, &about, &keys) {
                Ok(statement) => signed |= matches!(statement.predicate, Predicate::Provenance(_)),
                // It may count again under another root, and is history until then.
                Err(error) => why = Some(error.to_string()),
            }
            found.statements.push(bytes);
        }
        if !signed && !self.said(release)?.is_signed() {
            return Err(TrustError::Unsigned { release: release.name(), why }.into());
        }
        Ok(found)
    }

    /// Keeps what was verified; says whether something was new.
    pub(super) fn keep_vouched(&self, release: &Release, vouched: &Vouched) -> Result<bool, OpsError> {
        let before = (self.store.roots(&release.app)?, self.store.statements(&release.app, release.number)?);
        for (version, bytes) in &vouched.roots {
            self.store.add_root(&release.app, *version, bytes)?;
        }
        for bytes in &vouched.statements {
            self.store.add_statement(&release.app, release.number, bytes)?;
        }
        let after = (self.store.roots(&release.app)?, self.store.statements(&release.app, release.number)?);
        Ok(before != after)
    }

    /// The roots of a remote that are not here, the trust they lead to, and the fingerprint of the first if none was here.
    #[expect(clippy::type_complexity, reason = "three answers to one question, asked once")]
    fn roots_there(
        &self,
        job: &Job<'_>,
        app: &AppName,
    ) -> Result<(Vec<(u64, Vec<u8>)>, Option<Trusted>, Option<Digest>), OpsError> {
        let known = self.store.roots(app)?;
        let mut trusted = self.trust_if_any(app)?.map(|trust| trust.trusted);
        let (mut roots, mut first) = (Vec::new(), None);
        for (version, part) in &job.index.roots {
            if known.contains(version) {
                let here = self.store.root_of_trust(app, *version)?;
                if here.is_some_and(|here| Digest::of(&here) != part.digest) {
                    return Err(other_trust(job, app).into());
                }
                continue;
            }
            // Versions before the first that is known here are of no use.
            if known.first().is_some_and(|first| version < first) {
                continue;
            }
            let bytes = self.small_blob(job, part, MAX_ROOT_BYTES)?;
            let failed = |source| TrustError::Root { app: app.clone(), version: *version, source };
            match &mut trusted {
                Some(trusted) => trusted.next_root(&bytes).map_err(failed)?,
                None => {
                    trusted = Some(Trusted::new(&bytes, app).map_err(failed)?);
                    first = Some(part.digest);
                }
            }
            roots.push((*version, bytes));
        }
        Ok((roots, trusted, first))
    }

    fn small_blob(&self, job: &Job<'_>, part: &Part, limit: usize) -> Result<Vec<u8>, OpsError> {
        let patience = &job.place.patience;
        Ok(plumb_remote::read_blob(job.remote, &blob(part), limit as u64, patience)?)
    }
}

pub(super) fn other_trust(job: &Job<'_>, app: &AppName) -> TransferError {
    TransferError::OtherTrust { app: app.clone(), remote: job.remote.shown() }
}

/// What a remote has of these kinds, as parts of a release in a registry.
pub(super) fn bound_before(entry: &Entry, roots: &BTreeMap<u64, Part>) -> Vec<Bound> {
    let bound = |part: &Part, media_type, title| Bound {
        blob: Blob { digest: part.digest, size: part.size },
        media_type,
        title,
    };
    let statements = entry
        .statements
        .iter()
        .map(|part| bound(part, STATEMENT_TYPE, format!("{}.dsse.json", part.digest.short())));
    let roots = roots.iter().map(|(version, part)| bound(part, ROOT_TYPE, format!("{version}.root.json")));
    statements.chain(roots).collect()
}
