//! A release to a remote: only what the remote does not have, and what makes it visible last.

use std::collections::BTreeSet;

use plumb_delta::Object;
use plumb_model::image::Part;
use plumb_model::release::{Release, ReleaseName, ReleaseRef};
use plumb_model::{AppName, Digest, Document as _};
use plumb_remote::{Blob, Bound, Memory, Remote, Source, Tag, Upload};
use plumb_store::Store;
use rayon::prelude::*;
use serde::Serialize;

use super::index::{self, Bundle, Entry, Index, blob};
use super::object::Here;
use super::report::Reports;
use super::signed::Purpose;
use super::{Mode, Place, Supplies, Wanted, chain};
use crate::Plumb;
use crate::error::OpsError;
use crate::progress::{Progress, Travel};
use crate::remote::TransferError;

/// Releases of the remote that a delta is tried against: each trial costs the time of making one.
const TRIALS: usize = 2;

/// Releases of the remote that are looked at, from the newest: what a new release resembles is among them.
const CANDIDATES: usize = 16;

/// Kind of the store entries that remember unfinished uploads.
const UPLOADS: &str = "upload-1";

/// Kind of the store entries that name bundles that were made.
const BUNDLES: &str = "bundle-1";

/// Largest bundle that is taken from the store: it was in memory when it was made.
const BUNDLE_LIMIT: u64 = 64 * 1024 * 1024 * 1024;

/// Media types, for registries.
const DOCUMENT_TYPE: &str = "application/vnd.plumb.release.v1+json";
const DELTA_TYPE: &str = "application/vnd.plumb.delta.v1";
const LIST_TYPE: &str = "application/vnd.plumb.supplies.v1+json";
pub(super) const FILE_TYPE: &str = "application/octet-stream";

/// What a push did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Pushed {
    /// The release.
    pub release: ReleaseName,
    /// Where it went.
    pub remote: String,
    /// Something was new there.
    pub changed: bool,
    /// Bytes that travelled, or would.
    pub bytes: u64,
    /// Bytes of all objects of the release.
    pub release_bytes: u64,
    /// As what they travel.
    pub bundles: Vec<PushedBundle>,
    /// Packages and files its images were built from, and their bytes.
    pub supplies: (usize, u64),
    /// Logs and attachments that statements refer to.
    pub reports: Reports,
}

/// A bundle that travelled.
#[derive(Debug, Clone, Serialize)]
pub struct PushedBundle {
    /// The release that it is a delta against; none if it is full.
    pub base: Option<ReleaseName>,
    /// Its bytes.
    pub bytes: u64,
}

/// One blob that a release has on a remote.
pub(super) struct Item {
    pub(super) bound: Bound,
    pub(super) source: Box<dyn Source>,
}

/// An object as a source that is opened when it is read: a release may be built from thousands of packages and files.
pub(super) struct Stored {
    pub(super) store: Store,
    pub(super) digest: Digest,
}

impl Source for Stored {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let file = self.store.open_object(&self.digest).map_err(std::io::Error::other)?;
        std::os::unix::fs::FileExt::read_exact_at(&file, out, offset)
    }
}

/// A release on its way.
struct Parcel {
    entry: Entry,
    items: Vec<Item>,
    bundles: Vec<PushedBundle>,
    supplies: (usize, u64),
}

/// A delta and the release it starts from.
struct Made {
    base: Option<u64>,
    bytes: Vec<u8>,
}

impl Plumb<'_> {
    /// Sends a release to a remote.
    ///
    /// # Errors
    /// [`OpsError`]; [`TransferError::Differs`] if the remote has another release of this number.
    pub fn push(
        &self,
        wanted: &Wanted,
        remote: Option<&str>,
        supplies: Supplies,
        mode: Mode,
    ) -> Result<Pushed, OpsError> {
        let release = match (wanted.number, &wanted.channel) {
            (Some(number), _) => self.read_release(&ReleaseName { app: wanted.app.clone(), number })?,
            (None, Some(channel)) => {
                let channel = ReleaseRef::Channel { app: wanted.app.clone(), channel: channel.clone() };
                self.read_release(&self.named(&channel)?)?
            }
            (None, None) => self.newest_release(&wanted.app)?,
        };
        // Nobody is sent what nobody vouches for.
        self.insist_signed(&release)?;
        let place = self.place(remote, &wanted.app)?;
        let pushed = self.push_to(&place, &release, supplies, mode)?;
        if mode == Mode::Do {
            self.keep_upstream(&place, &wanted.app)?;
        }
        Ok(pushed)
    }

    fn push_to(
        &self,
        place: &Place,
        release: &Release,
        supplies: Supplies,
        mode: Mode,
    ) -> Result<Pushed, OpsError> {
        let remote = place.remote.as_ref();
        let name = release.name();
        remote.writable()?;
        let objects = self.whole(release)?;
        let look = self.visit(place, &name.app, Purpose::Push, None)?;
        let known = look.as_ref().map_or_else(|| Index::new(&name.app), |look| look.index.clone());
        let there = known.releases.get(&name.number);
        if let Some(there) = there.filter(|there| there.document.digest != release.digest()) {
            return Err(index::differs(remote, &name, &there.document.digest));
        }
        if mode == Mode::Do {
            if there.is_none() {
                // Who may not publish learns it before a release is packed.
                self.publishing_keys(&self.trust(&name.app)?)?;
            }
            plumb_remote::found(remote)?;
        }
        let parcel = self.parcel(&known, release, &objects, supplies)?;
        let mut pushed = Pushed {
            release: name.clone(),
            remote: remote.shown(),
            changed: there != Some(&parcel.entry),
            bytes: 0,
            release_bytes: parcel.entry.bytes,
            bundles: parcel.bundles,
            supplies: parcel.supplies,
            reports: Reports::default(),
        };
        let numbers: BTreeSet<u64> = known.releases.keys().copied().chain([name.number]).collect();
        let reports = || self.send_reports(place, look.as_ref(), &name, &numbers);
        if !pushed.changed {
            if mode == Mode::Do {
                pushed.reports = reports()?;
                pushed.bytes = pushed.reports.bytes;
                // What was said meanwhile, and where channels point to.
                pushed.changed = self.announce(place, &name, &parcel.entry)?;
            }
            return Ok(pushed);
        }
        let missing = absent(remote, parcel.items)?;
        pushed.bytes = missing.1.iter().map(|item| item.bound.blob.size).sum();
        if mode == Mode::DryRun {
            return Ok(pushed);
        }
        self.send(remote, &missing.1)?;
        let tag = Tag::new(&format!("{}.{}", name.app, name.number))?;
        remote.bind(&tag, &bound(missing, there))?;
        pushed.reports = reports()?;
        pushed.bytes += pushed.reports.bytes;
        self.announce(place, &name, &parcel.entry)?;
        Ok(pushed)
    }

    /// Makes a release, and all that was said, a part of what the remote shows. Returns whether something was new.
    fn announce(&self, place: &Place, name: &ReleaseName, entry: &Entry) -> Result<bool, OpsError> {
        self.publish(place, &name.app, &|look| {
            let mut index = look.index.clone();
            index.add(place.remote.as_ref(), name, entry)?;
            self.documents(place, look, &name.app, &index)
        })
    }

    /// Everything that a release has to have on a remote, and what is said about it there.
    fn parcel(
        &self,
        known: &Index,
        release: &Release,
        objects: &[Object],
        supplies: Supplies,
    ) -> Result<Parcel, OpsError> {
        let name = release.name();
        let there = known.releases.get(&name.number);
        let document = item(release.to_bytes(), DOCUMENT_TYPE, format!("{name}.json"));
        let mut entry = Entry {
            document: part(&document),
            bytes: objects.iter().map(|object| object.size).sum(),
            bundles: Vec::new(),
            supplies: None,
        };
        let mut items = vec![document];
        let mut bundles = Vec::new();
        if let Some(there) = there {
            entry = index::merge(there, &entry).unwrap_or(entry);
        } else {
            self.check(objects)?;
            for made in self.bundles(known, release, objects)? {
                let base = made.base.map(|number| ReleaseName { app: name.app.clone(), number });
                let title = match &base {
                    Some(base) => format!("{name}-from-{}.delta", base.number),
                    None => format!("{name}-full.delta"),
                };
                bundles.push(PushedBundle { base, bytes: made.bytes.len() as u64 });
                let sent = item(made.bytes, DELTA_TYPE, title);
                entry.bundles.push(Bundle { base: made.base, delta: part(&sent) });
                items.push(sent);
            }
        }
        let mut brought = (0, 0);
        if supplies == Supplies::Bring && entry.supplies.is_none() {
            let (list, files) = self.supply_items(release)?;
            brought = (files.len(), files.iter().map(|file| file.bound.blob.size).sum());
            entry.supplies = Some(part(&list));
            items.push(list);
            items.extend(files);
        }
        Ok(Parcel { entry, items, bundles, supplies: brought })
    }

    /// Nothing damaged is sent: every object by its digest.
    fn check(&self, objects: &[Object]) -> Result<(), OpsError> {
        Ok(objects.par_iter().map(|object| self.store.verify(&object.digest)).collect::<Result<(), _>>()?)
    }

    /// The bundles to send: the smallest delta, and a full one where there is no base, or the way to it gets too long.
    fn bundles(&self, known: &Index, release: &Release, objects: &[Object]) -> Result<Vec<Made>, OpsError> {
        let full = || self.bundle(&[], None, objects, release);
        let mut best: Option<Made> = None;
        for (number, old) in self.candidates(known, release, objects)? {
            let made = self.bundle(&old, Some(number), objects, release)?;
            if best.as_ref().is_none_or(|best| made.bytes.len() < best.bytes.len()) {
                best = Some(made);
            }
        }
        let Some(best) = best else { return Ok(vec![full()?]) };
        let Some(base) = best.base else { return Ok(vec![best]) };
        if !chain::needs_full(known, base, best.bytes.len() as u64) {
            return Ok(vec![best]);
        }
        let full = full()?;
        // Where all of it is less, all of it is sent.
        Ok(if full.bytes.len() <= best.bytes.len() { vec![full] } else { vec![full, best] })
    }

    fn bundle(
        &self,
        old: &[Object],
        base: Option<u64>,
        new: &[Object],
        release: &Release,
    ) -> Result<Made, OpsError> {
        let key = bundle_key(old, new);
        if let Some(bytes) = self.made_before(&key)? {
            return Ok(Made { base, bytes });
        }
        let from = base.map(|number| ReleaseName { app: release.app.clone(), number }.to_string());
        self.report(Progress::Travel(Travel::Packing { release: release.name().to_string(), from }));
        let bytes = plumb_delta::create(old, new, &Here(&self.store))
            .map_err(|source| TransferError::Packing { release: release.name(), source })?;
        // A push that was interrupted, or one to another remote, does not make it again.
        let object = self.store.put_bytes(&bytes)?;
        self.store.remember(BUNDLES, &key, object.to_string().as_bytes())?;
        Ok(Made { base, bytes })
    }

    fn made_before(&self, key: &str) -> Result<Option<Vec<u8>>, OpsError> {
        let entry = self.store.entry(BUNDLES, key)?;
        let digest = entry.and_then(|entry| String::from_utf8(entry).ok()?.parse::<Digest>().ok());
        let Some(digest) = digest.filter(|digest| self.store.contains(digest)) else { return Ok(None) };
        match self.store.read_bytes(&digest, BUNDLE_LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            // A power cut left it short: it is made again.
            Err(plumb_store::Error::Damaged { .. } | plumb_store::Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Releases that both sides have, those first that share the most objects, then the newest.
    fn candidates(
        &self,
        known: &Index,
        release: &Release,
        objects: &[Object],
    ) -> Result<Vec<(u64, Vec<Object>)>, OpsError> {
        let mut found = Vec::new();
        for (number, entry) in known.releases.iter().rev().take(CANDIDATES) {
            let Some(old) = self.held(&release.app, *number, &entry.document.digest)? else { continue };
            let there: BTreeSet<Digest> = old.iter().map(|object| object.digest).collect();
            let new = objects.iter().filter(|object| !there.contains(&object.digest));
            let bytes: u64 = new.map(|object| object.size).sum();
            found.push((bytes, std::cmp::Reverse(*number), old));
        }
        found.sort_by_key(|(bytes, number, _)| (*bytes, *number));
        // What comes before it is tried in any case: objects that differ may still be alike.
        let before = found.iter().position(|(_, number, _)| number.0 < release.number);
        if let Some(place) = before.filter(|place| *place >= TRIALS) {
            let before = found.remove(place);
            found.insert(TRIALS - 1, before);
        }
        Ok(found.into_iter().take(TRIALS).map(|(_, number, old)| (number.0, old)).collect())
    }

    /// The objects of a release, if it is here, is that one, and is whole.
    pub(super) fn held(
        &self,
        app: &AppName,
        number: u64,
        digest: &Digest,
    ) -> Result<Option<Vec<Object>>, OpsError> {
        let name = ReleaseName { app: app.clone(), number };
        let release = match self.read_release(&name) {
            Ok(release) => release,
            Err(OpsError::NoRelease { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if release.digest() != *digest {
            return Ok(None);
        }
        // One that lost something is no base, and no reason to stop.
        Ok(self.whole(&release).ok())
    }

    pub(super) fn send(&self, remote: &dyn Remote, items: &[Item]) -> Result<(), OpsError> {
        if items.is_empty() {
            return Ok(());
        }
        self.report(Progress::Travel(Travel::Sending));
        let memory = Uploads { plumb: self, remote: remote.shown() };
        let sent: Result<(), OpsError> = super::connections()?.install(|| {
            items.par_iter().try_for_each(|one| {
                let name = one.bound.title.clone();
                let bytes = one.bound.blob.size;
                self.report(Progress::DownloadBegan { item: name.clone(), bytes });
                let arrived =
                    |bytes| self.report(Progress::Downloaded { item: one.bound.title.clone(), bytes });
                let blob = one.bound.blob;
                let upload = Upload { blob, source: one.source.as_ref(), memory: &memory, arrived: &arrived };
                remote.blob_write(&upload)?;
                self.report(Progress::DownloadEnded { item: name });
                Ok(())
            })
        });
        sent?;
        self.report(Progress::Travel(Travel::Transferred));
        Ok(())
    }

    fn supply_items(&self, release: &Release) -> Result<(Item, Vec<Item>), OpsError> {
        let list = self.supplies(release)?;
        let mut files = Vec::new();
        for file in &list.files {
            let source = Stored { store: self.store.clone(), digest: file.digest };
            let blob = Blob { digest: file.digest, size: file.size };
            let bound = Bound { blob, media_type: FILE_TYPE, title: file.name.clone() };
            files.push(Item { bound, source: Box::new(source) });
        }
        let title = format!("{}-supplies.json", release.name());
        Ok((item(list.to_bytes(), LIST_TYPE, title), files))
    }
}

/// What a bundle is made from, as one word.
fn bundle_key(old: &[Object], new: &[Object]) -> String {
    let mut text = format!("{}", plumb_delta::FORMAT);
    for (side, objects) in [("old", old), ("new", new)] {
        for object in objects {
            text.push_str(&format!("\n{side} {} {}", object.name, object.digest));
        }
    }
    Digest::of(text.as_bytes()).hex()
}

pub(super) fn item(bytes: Vec<u8>, media_type: &'static str, title: String) -> Item {
    let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    Item { bound: Bound { blob, media_type, title }, source: Box::new(bytes) }
}

pub(super) fn part(item: &Item) -> Part {
    Part { digest: item.bound.blob.digest, size: item.bound.blob.size }
}

/// What is there already, and what is not.
pub(super) fn absent(remote: &dyn Remote, items: Vec<Item>) -> Result<(Vec<Item>, Vec<Item>), OpsError> {
    let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
    for item in items {
        if !seen.insert(item.bound.blob.digest) {
            continue;
        }
        wanted.push(item);
    }
    let is_there = |item: &Item| Ok(remote.blob_size(&item.bound.blob.digest)? == Some(item.bound.blob.size));
    let found: Result<Vec<bool>, OpsError> =
        super::connections()?.install(|| wanted.par_iter().map(is_there).collect());
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for (item, is_there) in wanted.into_iter().zip(found?) {
        if is_there { there.push(item) } else { missing.push(item) }
    }
    Ok((there, missing))
}

/// Everything that has to stay with the release: what was sent, and what is there from an earlier push.
fn bound((there, sent): (Vec<Item>, Vec<Item>), before: Option<&Entry>) -> Vec<Bound> {
    let mut all: Vec<Bound> = there.into_iter().chain(sent).map(|item| item.bound).collect();
    for bundle in before.into_iter().flat_map(|entry| &entry.bundles) {
        let title = format!("{}.delta", bundle.delta.digest.short());
        all.push(Bound { blob: blob(&bundle.delta), media_type: DELTA_TYPE, title });
    }
    all.sort_by_key(|bound| bound.blob);
    all.dedup_by_key(|bound| bound.blob);
    all.sort_by(|one, other| (one.media_type, &one.title).cmp(&(other.media_type, &other.title)));
    all
}

/// Unfinished uploads to one remote, remembered by the store.
struct Uploads<'a> {
    plumb: &'a Plumb<'a>,
    remote: String,
}

impl Uploads<'_> {
    fn key(&self, blob: &Blob) -> String {
        Digest::of(format!("{} {}", self.remote, blob.digest).as_bytes()).hex()
    }
}

impl Memory for Uploads<'_> {
    fn recall(&self, blob: &Blob) -> Option<String> {
        let entry = self.plumb.store.entry(UPLOADS, &self.key(blob)).ok()??;
        String::from_utf8(entry).ok().filter(|text| !text.is_empty())
    }

    fn keep(&self, blob: &Blob, text: &str) {
        // What cannot be remembered is sent again from its start: a loss of time and of nothing else.
        let _ = self.plumb.store.remember(UPLOADS, &self.key(blob), text.as_bytes());
    }

    fn forget(&self, blob: &Blob) {
        // It leads to an upload that has ended, which the next push would find out.
        let _ = self.plumb.store.remove_entry(UPLOADS, &self.key(blob));
    }
}
