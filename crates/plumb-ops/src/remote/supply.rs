//! What the images of a release were built from: packages, and files from elsewhere. With them a release can be built again
//! after the archives dropped them.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::image::Part;
use plumb_model::release::Release;
use plumb_model::{Digest, Document};
use plumb_remote::Error;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::bundle::Filling;
use super::index::blob;
use super::{Mode, Place};
use crate::Plumb;
use crate::error::OpsError;
use crate::remote::TransferError;

/// Largest list that is read: 200 bytes a file, so 300,000 files.
const LIST_LIMIT: u64 = 64 * 1024 * 1024;

/// Files that a remote may fail to give before it is asked for no more of them: each costs all tries.
const FAILURES: usize = 8;

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SupplyList {
    format: u32,
    /// By digest.
    pub(super) files: Vec<SupplyFile>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SupplyFile {
    /// For people: `libc6_2.36-9+deb12u13_amd64.deb`.
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// It is also known by its SHA-512, as npm does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sha512: bool,
}

impl Document for SupplyList {
    const WHAT: &'static str = "list of what a release was built from";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl Plumb<'_> {
    /// Everything that the images of `release` were built from; all of it is in the store.
    pub(super) fn supplies(&self, release: &Release) -> Result<SupplyList, OpsError> {
        let mut files: BTreeMap<Digest, SupplyFile> = BTreeMap::new();
        for source in self.sources_of(release)? {
            let known = plumb_fetch::known_file(&self.store, &source.check)?;
            let (digest, size) = known.ok_or_else(|| TransferError::NoSupply {
                release: release.name(),
                file: source.item.clone(),
            })?;
            let sha512 = matches!(source.check, plumb_fetch::Check::Sha512(_));
            files.insert(digest, SupplyFile { name: source.item, digest, size, sha512 });
        }
        Ok(SupplyList { format: SupplyList::FORMAT, files: files.into_values().collect() })
    }

    /// Brings everything that a list of a remote names; says how many files and bytes travelled, or would.
    pub(super) fn bring_supplies(
        &self,
        place: &Place,
        list: &Part,
        mode: Mode,
    ) -> Result<(usize, u64), OpsError> {
        let list = self.supply_list(place, list)?;
        let mut missing = Vec::new();
        for file in &list.files {
            if self.store.size(&file.digest)? != Some(file.size) {
                missing.push(file);
            }
        }
        let count = (missing.len(), missing.iter().map(|file| file.size).fold(0, u64::saturating_add));
        if mode == Mode::DryRun {
            return Ok(count);
        }
        self.check_space(count.1)?;
        let brought: Result<(), OpsError> = super::connections()?.install(|| {
            missing
                .par_iter()
                .try_for_each(|file| self.bring_file(place, (&file.name, &file.digest, file.size)))
        });
        brought?;
        self.store.sync()?;
        for file in list.files.iter().filter(|file| file.sha512) {
            plumb_fetch::index_by_sha512(&self.store, &file.digest)?;
        }
        Ok(count)
    }

    fn supply_list(&self, place: &Place, list: &Part) -> Result<SupplyList, OpsError> {
        let remote = place.remote.as_ref();
        let bytes = plumb_remote::read_blob(remote, &blob(list), LIST_LIMIT, &place.patience)?;
        let name = format!("{} of {}", list.digest, remote.shown());
        let list = SupplyList::from_bytes(&bytes);
        Ok(list.map_err(|source| TransferError::Foreign { name, source: source.into() })?)
    }

    /// Brings those of the `lost` files that a list of a remote names. One that cannot be had does not keep the others
    /// away; nor is a remote asked for all of them that does not answer.
    ///
    /// # Errors
    /// The first one's, and how many others failed.
    pub(super) fn bring_lost(
        &self,
        place: &Place,
        list: &Part,
        lost: &BTreeSet<Digest>,
    ) -> Result<(), OpsError> {
        let files = self.supply_list(place, list)?.files;
        let files: Vec<SupplyFile> = files.into_iter().filter(|file| lost.contains(&file.digest)).collect();
        self.check_space(files.iter().map(|file| file.size).fold(0, u64::saturating_add))?;
        let mut failed: Vec<OpsError> = Vec::new();
        for file in &files {
            match self.bring_file(place, (&file.name, &file.digest, file.size)) {
                Err(OpsError::Transfer(error)) if failed.len() + 1 < FAILURES => failed.push(error.into()),
                Err(error) => {
                    failed.push(error);
                    break;
                }
                Ok(()) => {}
            }
        }
        let count = failed.len();
        match failed.into_iter().next() {
            None => Ok(()),
            Some(first) if count == 1 => Err(first),
            Some(first) => Err(TransferError::Several { count, first: Box::new(first) }.into()),
        }
    }

    /// Brings one file, from where it was when it was interrupted.
    pub(super) fn bring_file(
        &self,
        place: &Place,
        (name, digest, size): (&str, &Digest, u64),
    ) -> Result<(), OpsError> {
        let mut partial = self.store.partial(digest)?;
        let filling = Filling {
            plumb: self,
            remote: place.remote.as_ref(),
            patience: place.patience,
            blob: plumb_remote::Blob { digest: *digest, size },
            range: 0..size,
            item: name.to_owned(),
        };
        filling.fill(&mut partial)?;
        partial.commit().map_err(|error| match error {
            plumb_store::Error::WrongDigest { expected, found } => {
                let what = format!("`{name}` of `{}`", place.remote.shown());
                Error::WrongDigest { what, expected, found }.into()
            }
            other => other.into(),
        })
    }
}
