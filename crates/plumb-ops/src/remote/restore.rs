//! What a release lost here, from the remotes that are known.
//!
//! What a remote shows is verified as for a pull, by who is trusted here already; it must have this very release, to the
//! digest; and every object is checked by its own. Nothing else is taken: no trust, no channel, no statement.

use std::collections::BTreeSet;

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, Digest, Document as _};

use super::index::Entry;
use super::object::Wish;
use super::signed::{Look, Purpose};
use super::{Place, REMOTES, TransferError, UPSTREAMS, index};
use crate::Plumb;
use crate::error::OpsError;

/// What is to come back.
pub(crate) struct Lost<'a> {
    /// Objects that are not here.
    pub(crate) objects: &'a BTreeSet<Digest>,
    /// Those that are packages: not a part of the release, but of what it was built from.
    pub(crate) packages: &'a BTreeSet<Digest>,
    /// Objects that are here and cannot be made whole: they make way for what a remote has.
    pub(crate) unusable: &'a BTreeSet<Digest>,
}

impl Plumb<'_> {
    /// The remotes that may have an application, by name: the one that it came from or went to first.
    pub(crate) fn remotes_of(&self, app: &AppName) -> Result<Vec<String>, OpsError> {
        let mut names = self.store.entries(REMOTES)?;
        let upstream = self.store.entry(UPSTREAMS, app.as_str())?.unwrap_or_default();
        names.sort_by_key(|name| name.as_bytes() != upstream);
        Ok(names)
    }

    /// Brings back what `release` lost, from the remote of this name, and nothing else as far as its bundles allow it. What
    /// came is here even if not all did.
    ///
    /// # Errors
    /// [`TransferError::NotThere`], [`TransferError::Differs`] and whatever a pull says.
    pub(crate) fn give_back(&self, remote: &str, release: &Release, lost: &Lost<'_>) -> Result<(), OpsError> {
        let name = release.name();
        // Who is trusted there is nobody here, if nobody is.
        self.trust(&name.app)?;
        let place = self.place(Some(remote), &name.app)?;
        plumb_remote::require(place.remote.as_ref())?;
        let _held = self.store.lock_waiting(&format!("pull-{}", name.app), &mut |_| {})?;
        let look = self.visit(&place, &name.app, Purpose::Pull, None)?;
        let entry = look.as_ref().and_then(|look| Some((look, look.index.releases.get(&name.number)?)));
        let (look, entry) = entry.ok_or_else(|| TransferError::NotThere {
            app: name.app.clone(),
            number: Some(name.number),
            remote: place.remote.shown(),
            known: Vec::new(),
        })?;
        if entry.document.digest != release.digest() {
            return Err(index::differs(place.remote.as_ref(), &name, &entry.document.digest));
        }
        // Packages that cannot be had are no reason to leave the rest there.
        let packages = match &entry.supplies {
            Some(list) if !lost.packages.is_empty() => self.bring_lost(&place, list, lost.packages),
            _ => Ok(()),
        };
        self.bring_parts((&place, look), (&name, entry), lost)?;
        self.store.sync()?;
        self.forget_collected(release)?;
        packages
    }

    /// Brings the lost parts of a release, and then anew what still cannot be made whole.
    fn bring_parts(
        &self,
        (place, look): (&Place, &Look),
        (name, entry): (&ReleaseName, &Entry),
        lost: &Lost<'_>,
    ) -> Result<(), OpsError> {
        let mut only = lost.objects - lost.packages;
        only.retain(|digest| !self.store.contains(digest));
        if only.is_empty() {
            return Ok(());
        }
        let wish = Wish { only: Some(only), anew: BTreeSet::new() };
        self.bring_missing(place, look, (name.clone(), entry), wish)?;
        let mut anew = BTreeSet::new();
        for root in lost.unusable {
            if self.is_unusable(root)? {
                anew.insert(*root);
            }
        }
        if anew.is_empty() {
            return Ok(());
        }
        let wish = Wish { only: Some(anew.clone()), anew };
        self.bring_missing(place, look, (name.clone(), entry), wish)
    }

    /// Whether an object is here only in a folded form that starts from what is not here.
    pub(crate) fn is_unusable(&self, digest: &Digest) -> Result<bool, OpsError> {
        if self.store.path(digest).exists() {
            return Ok(false);
        }
        Ok(self.store.bases(digest)?.iter().any(|base| !self.store.contains(base)))
    }
}
