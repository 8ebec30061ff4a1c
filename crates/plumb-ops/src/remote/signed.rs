//! What a remote says it has of one application, signed: TUF metadata (see [`plumb_trust::tuf`]) over a few documents.
//!
//! ```text
//!  apps/<app>/metadata/1.root.json, 2.root.json …       who may sign
//!  apps/<app>/metadata/4.targets.json, 4.snapshot.json  immutable; what there was at one time
//!  apps/<app>/metadata/timestamp.json                   the one document that is replaced, and the last that is written
//!
//!  documents, blobs of the remote:
//!    index.json           which releases there are, and ways to their objects (`index.rs`)
//!    release-7.json       what was said about release 7
//!    channel-prod.json    everything that a channel pointed to
//! ```
//!
//! Everything above asks [`Plumb::visit`] what there is and tells [`Plumb::publish`] what is new. What was seen of a remote is
//! remembered, so that it cannot go back in time.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::{AppName, Digest, Document};
use plumb_remote::{Blob, Bound, Expected, Memory, Name, Remote, Tag, Upload, Version, Written};
use plumb_trust::tuf::{
    Fresh, MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES, Published, Role,
    Target, Trusted, TufError, publish,
};
use plumb_trust::{KeyId, SecretKey};
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::{Place, TransferError};
use crate::error::OpsError;
use crate::progress::{Progress, Travel};
use crate::trust::{Trust, TrustError};
use crate::{Plumb, clock};

/// Kind of the store entries that hold what was last seen of a remote.
const SEEN: &str = "remote-seen-1";

/// The roles that sign what a remote shows.
const PUBLISHERS: [Role; 3] = [Role::Targets, Role::Snapshot, Role::Timestamp];

/// Newer roots that are followed in one go: a root a week for twenty years.
const ROOT_STEPS: usize = 1024;

/// How often a push begins again because another one came to its end meanwhile.
const PUBLISH_TRIES: usize = 32;

/// Versions that are passed over at most: pushes one after the other that were killed just before their end.
const SKIPS: u64 = 1024;

/// How long targets and snapshot stay good, seconds: a year.
const LONG_S: i64 = 365 * 86_400;

/// How long a timestamp stays good, seconds: so long nobody notices that a remote keeps news back. Ninety days, as a remote
/// without a server is only signed anew when somebody pushes.
const SHORT_S: i64 = 90 * 86_400;

/// Largest document: an index of a hundred thousand bundles.
const DOCUMENT_LIMIT: u64 = 32 * 1024 * 1024;

/// Media type of documents, for registries.
const DOCUMENT_TYPE: &str = "application/vnd.plumb.document.v1+json";

/// What looking is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To believe it: by who is trusted now.
    Pull,
    /// To replace it: it may be signed by who was trusted when it was written.
    Push,
}

/// What a remote shows of an application, verified.
pub(super) struct Look {
    trusted: Trusted,
    timestamp: Option<Version>,
    seen: Option<Seen>,
    /// Versions of the root that are not here yet.
    roots: Vec<(u64, Vec<u8>)>,
    /// Newest version of the root that is there.
    root_there: u64,
    /// The releases.
    pub(super) index: Index,
}

/// A document as it is to be on a remote.
pub(super) enum Wanted {
    /// The one that is there.
    AsItIs,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Documents by name.
pub(super) type Documents = BTreeMap<String, Wanted>;

/// The newest that was accepted, as text: metadata is JSON. Versions of targets stand in the snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    /// Version of the root.
    #[serde(default)]
    root: u64,
    /// Version of the timestamp.
    #[serde(default)]
    version: u64,
    timestamp: String,
    snapshot: String,
}

impl Seen {
    fn of((root, version): (u64, Option<u64>), timestamp: &[u8], snapshot: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let version = version.unwrap_or_default();
        Seen { root, version, timestamp: text(timestamp), snapshot: text(snapshot) }
    }
}

impl Look {
    /// A document's digest and length.
    pub(super) fn document(&self, name: &str) -> Option<Blob> {
        let target = self.trusted.documents()?.targets.get(name)?;
        Some(Blob { digest: target.digest()?, size: target.length })
    }

    /// A document for these bytes: the one that is there, if it is the same.
    pub(super) fn or_new(&self, name: &str, bytes: Vec<u8>) -> Wanted {
        if self.document(name) == Some(blob_of(&bytes)) { Wanted::AsItIs } else { Wanted::Bytes(bytes) }
    }

    fn target(&self, name: &str, wanted: &Wanted) -> Option<Target> {
        match wanted {
            Wanted::AsItIs => self.trusted.documents()?.targets.get(name).cloned(),
            Wanted::Bytes(bytes) => Some(Target::of(bytes)),
        }
    }

    /// Names of all documents.
    pub(super) fn documents(&self) -> impl Iterator<Item = &str> {
        self.trusted
            .documents()
            .into_iter()
            .flat_map(|documents| documents.targets.keys().map(String::as_str))
    }

    /// The fingerprint of a root that this host has never seen, and will trust.
    pub(super) fn first_root(&self) -> Option<Digest> {
        self.roots.first().filter(|(version, _)| *version == 1).map(|(_, bytes)| Digest::of(bytes))
    }

    /// Who is trusted by what is there.
    pub(super) fn trusted(&self) -> &Trusted {
        &self.trusted
    }
}

fn metadata_name(app: &AppName, file: &str) -> Result<Name, OpsError> {
    Ok(Name::new(&format!("apps/{app}/metadata/{file}"))?)
}

fn limit(role: Role) -> u64 {
    (match role {
        Role::Root => MAX_ROOT_BYTES,
        Role::Targets => MAX_TARGETS_BYTES,
        Role::Snapshot => MAX_SNAPSHOT_BYTES,
        Role::Timestamp => MAX_TIMESTAMP_BYTES,
    }) as u64
}

/// One application at one remote.
struct Visit<'a> {
    remote: &'a dyn Remote,
    app: &'a AppName,
}

/// A file of the metadata as a remote has it, unverified; `None` if it is not there.
pub(super) fn metadata_of(
    place: &Place,
    app: &AppName,
    role: Role,
    file: &str,
) -> Result<Option<Vec<u8>>, OpsError> {
    let visit = Visit { remote: place.remote.as_ref(), app };
    Ok(visit.read(role, file)?.map(|(bytes, _)| bytes))
}

impl Visit<'_> {
    fn bad(&self, source: TufError) -> OpsError {
        TrustError::Metadata { remote: self.remote.shown(), app: self.app.clone(), source }.into()
    }

    fn gone(&self, name: &str) -> OpsError {
        TrustError::MetadataGone { remote: self.remote.shown(), app: self.app.clone(), name: name.to_owned() }
            .into()
    }

    fn read(&self, role: Role, file: &str) -> Result<Option<(Vec<u8>, Version)>, OpsError> {
        Ok(self.remote.read(&metadata_name(self.app, file)?, limit(role))?)
    }

    /// A file that must be there.
    fn need(&self, role: Role, version: Option<u64>) -> Result<Vec<u8>, OpsError> {
        let name = format!("{}.{role}.json", version.unwrap_or(0));
        Ok(self.read(role, &name)?.ok_or_else(|| self.gone(&name))?.0)
    }

    fn other_trust(&self, here: Digest, there: Digest) -> OpsError {
        TrustError::OtherTrust { remote: self.remote.shown(), app: self.app.clone(), here, there }.into()
    }
}

impl Plumb<'_> {
    /// What a remote shows of an application; `None` if it has nothing of it. `pin` is the fingerprint that its trust must
    /// have where none is known here.
    pub(super) fn visit(
        &self,
        place: &Place,
        app: &AppName,
        purpose: Purpose,
        pin: Option<&Digest>,
    ) -> Result<Option<Look>, OpsError> {
        let visit = Visit { remote: place.remote.as_ref(), app };
        let Some((mut trusted, mut roots, mut root_there)) = self.begin(&visit, purpose, pin)? else {
            return Ok(None);
        };
        let seen = self.seen(&visit)?;
        if let Some(seen) = &seen {
            // What was signed by keys that count no more says nothing about what is new (5.3.11).
            let mut before = trusted.clone();
            if before.remember(seen.timestamp.as_bytes(), seen.snapshot.as_bytes()).is_ok() {
                trusted = before;
            }
        }
        for _ in 0..ROOT_STEPS {
            let next = trusted.root().version + 1;
            let Some((bytes, _)) = visit.read(Role::Root, &format!("{next}.root.json"))? else { break };
            trusted.next_root(&bytes).map_err(|source| visit.bad(source))?;
            roots.push((next, bytes));
            root_there = next;
        }
        // Whoever hides the newest root brings back keys that were taken out.
        if let Some(seen) = seen.filter(|seen| root_there < seen.root) {
            return Err(visit.gone(&format!("{}.root.json", seen.root)));
        }
        let mut look =
            Look { trusted, timestamp: None, seen: None, roots, root_there, index: Index::new(app) };
        let now_s = if purpose == Purpose::Push { i64::MIN } else { clock::now_s() };
        let Some((timestamp, version)) = visit.read(Role::Timestamp, "timestamp.json")? else {
            // It had one, and a push that is on its way has none yet.
            return if look.trusted.timestamp_version().is_some() {
                Err(visit.gone("timestamp.json"))
            } else {
                Ok((purpose == Purpose::Push).then_some(look))
            };
        };
        let trusted = &mut look.trusted;
        trusted.timestamp(&timestamp, now_s).map_err(|source| visit.bad(source))?;
        let snapshot = visit.need(Role::Snapshot, trusted.snapshot_version())?;
        trusted.snapshot(&snapshot, now_s).map_err(|source| visit.bad(source))?;
        let targets = visit.need(Role::Targets, trusted.targets_version())?;
        trusted.targets(&targets, now_s).map_err(|source| visit.bad(source))?;
        look.timestamp = Some(version);
        look.seen = Some(Seen::of((root_there, trusted.timestamp_version()), &timestamp, &snapshot));
        look.index = self.read_index(place, &look, app)?;
        Ok(Some(look))
    }

    /// Where to start from: the newest root that is here, or for a push the newest that both have; else the first one that is
    /// there.
    #[expect(clippy::type_complexity, reason = "three values that are taken apart at once")]
    fn begin(
        &self,
        visit: &Visit<'_>,
        purpose: Purpose,
        pin: Option<&Digest>,
    ) -> Result<Option<(Trusted, Vec<(u64, Vec<u8>)>, u64)>, OpsError> {
        let Some(here) = self.trust_if_any(visit.app)? else {
            let Some((bytes, _)) = visit.read(Role::Root, "1.root.json")? else { return Ok(None) };
            let there = Digest::of(&bytes);
            if let Some(pin) = pin.filter(|pin| **pin != there) {
                return Err(visit.other_trust(*pin, there));
            }
            let trusted = Trusted::new(&bytes, visit.app).map_err(|source| visit.bad(source))?;
            return Ok(Some((trusted, vec![(1, bytes)], 1)));
        };
        if let Some(pin) = pin.filter(|pin| **pin != here.fingerprint) {
            return Err(visit.other_trust(*pin, here.fingerprint));
        }
        let Some((first, _)) = visit.read(Role::Root, "1.root.json")? else {
            // Nobody pushed it yet.
            return Ok(None);
        };
        let there = Digest::of(&first);
        if there != here.fingerprint {
            return Err(visit.other_trust(here.fingerprint, there));
        }
        let mut common = 1;
        for version in (2..=here.root().version).rev() {
            if let Some((bytes, _)) = visit.read(Role::Root, &format!("{version}.root.json"))? {
                let mine = self.store.root_of_trust(visit.app, version)?;
                if mine.as_deref() != Some(&bytes) {
                    return Err(visit.other_trust(Digest::of(&mine.unwrap_or_default()), Digest::of(&bytes)));
                }
                common = version;
                break;
            }
        }
        let from = if purpose == Purpose::Push { common } else { here.root().version };
        let trusted = match self.trust_at(visit.app, from)? {
            Some(trust) => trust.trusted,
            None => here.trusted,
        };
        Ok(Some((trusted, Vec::new(), common)))
    }

    fn read_index(&self, place: &Place, look: &Look, app: &AppName) -> Result<Index, OpsError> {
        let name = "index.json";
        let Some(bytes) = self.read_document(place, look, name)? else { return Ok(Index::new(app)) };
        let foreign =
            |source| TransferError::Foreign { name: format!("{name} of {}", place.remote.shown()), source };
        let index = Index::from_bytes(&bytes).map_err(|source| foreign(source.into()))?;
        if index.app != *app {
            let why = format!("it is that of application `{}`", index.app);
            return Err(OpsError::Transfer(foreign(why.into())));
        }
        Ok(index)
    }

    /// The bytes of a document; `None` if there is none of this name.
    pub(super) fn read_document(
        &self,
        place: &Place,
        look: &Look,
        name: &str,
    ) -> Result<Option<Vec<u8>>, OpsError> {
        let Some(blob) = look.document(name) else { return Ok(None) };
        Ok(Some(plumb_remote::read_blob(place.remote.as_ref(), &blob, DOCUMENT_LIMIT, &place.patience)?))
    }

    /// Keeps what was seen, and the roots that were new: from now on nothing older is believed. Returns and tells the
    /// fingerprint of a root that this host had never seen.
    pub(super) fn keep_seen(
        &self,
        place: &Place,
        app: &AppName,
        look: &Look,
    ) -> Result<Option<Digest>, OpsError> {
        let first = look.first_root().filter(|_| self.store.roots(app).is_ok_and(|roots| roots.is_empty()));
        for (version, bytes) in &look.roots {
            self.add_root(app, *version, bytes)?;
        }
        if let Some(root) = first {
            self.report(Progress::Travel(Travel::Trusts { app: app.to_string(), root }));
        }
        if let Some(seen) = &look.seen {
            self.remember_seen(&Visit { remote: place.remote.as_ref(), app }, seen)?;
        }
        Ok(first)
    }

    fn seen(&self, visit: &Visit<'_>) -> Result<Option<Seen>, OpsError> {
        let key = seen_key(visit);
        let Some(bytes) = self.store.entry(SEEN, &key)? else { return Ok(None) };
        // Not "never seen": that would let the remote go back.
        let damaged = |error: serde_json::Error| TrustError::Seen {
            remote: visit.remote.shown(),
            entry: format!("{SEEN}/{key}"),
            why: error.to_string(),
        };
        Ok(Some(serde_json::from_slice(&bytes).map_err(damaged)?))
    }

    /// Two commands may have looked at the same time; what is newer stays.
    fn remember_seen(&self, visit: &Visit<'_>, seen: &Seen) -> Result<(), OpsError> {
        let _guard = self.store.lock_waiting(&format!("seen-{}", visit.app), &mut |_| {})?;
        if self.seen(visit)?.is_some_and(|known| (known.root, known.version) > (seen.root, seen.version)) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(seen).map_err(|error| {
            visit.bad(TufError::Malformed { role: Role::Timestamp, why: error.to_string() })
        })?;
        Ok(self.store.put_entry(SEEN, &seen_key(visit), &bytes)?)
    }

    /// Makes `documents(look)` what a remote shows of an application. Whatever they name is there already. Returns whether
    /// something was new. Begins again if somebody else published meanwhile.
    pub(super) fn publish(
        &self,
        place: &Place,
        app: &AppName,
        documents: &dyn Fn(&Look) -> Result<Documents, OpsError>,
    ) -> Result<bool, OpsError> {
        let mut keys = None;
        for _ in 0..PUBLISH_TRIES {
            let look = match self.visit(place, app, Purpose::Push, None)? {
                Some(look) => look,
                None => Look {
                    trusted: self.trust(app)?.trusted,
                    timestamp: None,
                    seen: None,
                    roots: Vec::new(),
                    root_there: 0,
                    index: Index::new(app),
                },
            };
            for (version, bytes) in &look.roots {
                self.add_root(app, *version, bytes)?;
            }
            let wanted = documents(&look)?;
            let trust = self.trust(app)?;
            if self.is_current(&trust, &look, &wanted)? {
                return Ok(false);
            }
            if keys.is_none() {
                keys = Some(self.publishing_keys(&trust)?);
            }
            let with = (&trust, keys.as_deref().unwrap_or_default());
            if self.publish_once(place, with, &look, &wanted)? {
                return Ok(true);
            }
        }
        Err(OpsError::Transfer(TransferError::Contended { remote: place.remote.shown() }))
    }

    /// Which role lacks a key of this host, if one does.
    fn lacks(&self, trust: &Trust) -> Result<Option<TufError>, OpsError> {
        let here: BTreeSet<KeyId> = self.keys()?.into_iter().map(|key| key.id).collect();
        let lacking = PUBLISHERS.into_iter().find_map(|role| {
            let (keys, threshold) = trust.root().role(role);
            let found = keys.intersection(&here).count();
            (found < threshold).then_some(TufError::Threshold { role, found, threshold })
        });
        Ok(lacking)
    }

    /// The keys of this host that sign what a remote shows: enough of them for each role.
    pub(super) fn publishing_keys(&self, trust: &Trust) -> Result<Vec<SecretKey>, OpsError> {
        if let Some(source) = self.lacks(trust)? {
            return Err(TrustError::MayNotPublish { app: trust.root().app.clone(), source }.into());
        }
        self.role_keys(trust.root(), &PUBLISHERS)
    }

    /// Nothing is new, and what is there stays good for long enough, or this host may not sign it anew.
    fn is_current(&self, trust: &Trust, look: &Look, wanted: &Documents) -> Result<bool, OpsError> {
        let same = look.documents().count() == wanted.len()
            && wanted.values().all(|document| matches!(document, Wanted::AsItIs));
        let fresh = look.trusted.fresh_until_s().is_some_and(|end_s| end_s > clock::now_s() + SHORT_S / 2);
        let same = same && trust.root().version == look.root_there;
        Ok(same && (fresh || self.lacks(trust)?.is_some()))
    }

    fn publish_once(
        &self,
        place: &Place,
        (trust, keys): (&Trust, &[SecretKey]),
        look: &Look,
        wanted: &Documents,
    ) -> Result<bool, OpsError> {
        let remote = place.remote.as_ref();
        let root = trust.root();
        let app = &root.app;
        let visit = Visit { remote, app };
        let targets: BTreeMap<String, Target> = wanted
            .iter()
            .filter_map(|(name, document)| Some((name.clone(), look.target(name, document)?)))
            .collect();
        let sign = |skip| {
            let now_s = clock::now_s();
            let fresh = Fresh { long_s: now_s + LONG_S, short_s: now_s + SHORT_S, skip };
            publish((root, &look.trusted), targets.clone(), keys, fresh).map_err(|source| visit.bad(source))
        };
        self.send_documents(remote, app, look, wanted)?;
        for version in look.root_there + 1..=root.version {
            let bytes = self.store.root_of_trust(app, version)?;
            let bytes = bytes.ok_or_else(|| TrustError::RootGap { app: app.clone(), version })?;
            plumb_remote::write_once(remote, &metadata_name(app, &format!("{version}.root.json"))?, &bytes)?;
        }
        for skip in 0..SKIPS {
            let published = sign(skip)?;
            if !written(&visit, &published)? {
                continue;
            }
            let expected = look.timestamp.clone().map_or(Expected::Absent, Expected::Is);
            let name = metadata_name(app, "timestamp.json")?;
            if remote.write(&name, &published.timestamp, &expected)? == Written::Changed {
                return Ok(false);
            }
            let version = (root.version, Some(published.version));
            self.remember_seen(&visit, &Seen::of(version, &published.timestamp, &published.files[1].1))?;
            return Ok(true);
        }
        Err(OpsError::Transfer(TransferError::Contended { remote: remote.shown() }))
    }

    fn send_documents(
        &self,
        remote: &dyn Remote,
        app: &AppName,
        look: &Look,
        wanted: &Documents,
    ) -> Result<(), OpsError> {
        let mut bound = Vec::new();
        for (name, document) in wanted {
            let blob = match document {
                Wanted::AsItIs => look.document(name),
                Wanted::Bytes(bytes) => {
                    let blob = blob_of(bytes);
                    let upload = Upload { blob, source: bytes, memory: &Forgetful, arrived: &|_| {} };
                    remote.blob_write(&upload)?;
                    Some(blob)
                }
            };
            bound.extend(blob.map(|blob| Bound { blob, media_type: DOCUMENT_TYPE, title: name.clone() }));
        }
        // What is shown until the end of this push stays, too.
        for name in look.documents() {
            let old = look.document(name).filter(|old| bound.iter().all(|bound| bound.blob != *old));
            bound.extend(old.map(|blob| Bound {
                blob,
                media_type: DOCUMENT_TYPE,
                title: format!("old-{name}"),
            }));
        }
        Ok(remote.bind(&Tag::new(&format!("{app}.documents"))?, &bound)?)
    }
}

/// Writes the immutable files; `false` if one of their names is taken by another push.
fn written(visit: &Visit<'_>, published: &Published) -> Result<bool, OpsError> {
    for (file, bytes) in &published.files {
        let name = metadata_name(visit.app, file)?;
        if visit.remote.write(&name, bytes, &Expected::Absent)? == Written::Changed {
            match visit.remote.read(&name, bytes.len() as u64) {
                Ok(Some((found, _))) if found == *bytes => {}
                Ok(_) | Err(plumb_remote::Error::TooLarge { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(true)
}

fn blob_of(bytes: &[u8]) -> Blob {
    Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn seen_key(visit: &Visit<'_>) -> String {
    Digest::of(format!("{} {}", visit.remote.shown(), visit.app).as_bytes()).hex()
}

/// Documents are small: an upload that was cut begins again.
struct Forgetful;

impl Memory for Forgetful {
    fn recall(&self, _: &Blob) -> Option<String> {
        None
    }

    fn keep(&self, _: &Blob, _: &str) {}

    fn forget(&self, _: &Blob) {}
}
