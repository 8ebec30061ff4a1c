//! A release from a remote: its objects from the fewest bytes, the release itself last.

use std::collections::BTreeSet;

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{ChannelName, Digest, Document as _};
use plumb_remote::Remote;
use serde::Serialize;

use super::bundle::RemoteBundle;
use super::chain::{self, Link};
use super::index::{self, Entry, Index, blob};
use super::object::Wish;
use super::report::Reports;
use super::signed::{Look, Purpose};
use super::{Mode, Place, Supplies, Wanted};
use crate::Plumb;
use crate::error::{OpsError, io};
use crate::progress::{Progress, Travel};
use crate::remote::TransferError;

/// Largest release document that is read from a remote.
const DOCUMENT_LIMIT: u64 = 16 * 1024 * 1024;

/// How often another way is looked for, because a release that a bundle starts from turned out to be damaged here, or an
/// unfinished download did.
const WAYS: usize = 4;

/// How often something more is brought because what is wanted is made from it, before all that is missing comes: what is
/// in a bundle is rarely made from more than one or two others in it.
const STEPS: usize = 16;

/// What a pull did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Pulled {
    /// The release.
    pub release: ReleaseName,
    /// Where it came from.
    pub remote: String,
    /// It was not here.
    pub changed: bool,
    /// Bytes that travelled, or would.
    pub bytes: u64,
    /// Bytes of all objects of the release.
    pub release_bytes: u64,
    /// The root of trust that this host had never seen, and trusts from now on.
    pub trusts: Option<Digest>,
    /// As what they travelled.
    pub bundles: Vec<PulledBundle>,
    /// Channels that point elsewhere now.
    pub channels: Vec<ChannelName>,
    /// Packages and files its images were built from, and their bytes.
    pub supplies: (usize, u64),
    /// Logs and attachments that statements refer to.
    pub reports: Reports,
}

/// A bundle of a remote, as far as it travelled.
#[derive(Debug, Clone, Serialize)]
pub struct PulledBundle {
    /// The release whose objects it makes.
    pub to: ReleaseName,
    /// The release that it is a delta against; none if it is full.
    pub base: Option<ReleaseName>,
    /// Bytes that were needed of it.
    pub bytes: u64,
}

/// What is to be pulled, and from where.
struct Job<'a> {
    remote: &'a dyn Remote,
    place: &'a Place,
    look: &'a Look,
    index: &'a Index,
    name: ReleaseName,
    mode: Mode,
    wish: Wish,
}

impl Pulled {
    fn nothing(job: &Job<'_>, entry: &Entry) -> Pulled {
        Pulled {
            release: job.name.clone(),
            remote: job.remote.shown(),
            changed: false,
            bytes: 0,
            release_bytes: entry.bytes,
            trusts: None,
            bundles: Vec::new(),
            channels: Vec::new(),
            supplies: (0, 0),
            reports: Reports::default(),
        }
    }
}

impl Plumb<'_> {
    /// Brings a release here from a remote.
    ///
    /// # Errors
    /// [`OpsError`]; [`TransferError::Differs`] if there is another release of this number here.
    pub fn pull(
        &self,
        wanted: &Wanted,
        remote: Option<&str>,
        supplies: Supplies,
        mode: Mode,
    ) -> Result<Pulled, OpsError> {
        let place = self.place(remote, &wanted.app)?;
        let pulled = self.pull_from(&place, (wanted, None), supplies, mode)?;
        if mode == Mode::Do {
            self.keep_upstream(&place, &wanted.app)?;
        }
        Ok(pulled)
    }

    pub(super) fn pull_from(
        &self,
        place: &Place,
        (wanted, pin): (&Wanted, Option<&Digest>),
        supplies: Supplies,
        mode: Mode,
    ) -> Result<Pulled, OpsError> {
        let remote = place.remote.as_ref();
        plumb_remote::require(remote)?;
        let nothing = |known: Option<&Index>| TransferError::NotThere {
            app: wanted.app.clone(),
            number: wanted.number,
            remote: remote.shown(),
            known: known.map(|index| index.releases.keys().copied().collect()).unwrap_or_default(),
        };
        // Whoever comes second finds it here, and sees the remote as it is then.
        let _held = self.store.lock_waiting(&format!("pull-{}", wanted.app), &mut |_| {})?;
        let look = self.visit(place, &wanted.app, Purpose::Pull, pin)?.ok_or_else(|| nothing(None))?;
        let known = &look.index;
        let number = match &wanted.channel {
            Some(channel) => Some(self.channel_there(place, &look, (&wanted.app, channel))?.number),
            None => wanted.number.or_else(|| known.releases.keys().next_back().copied()),
        };
        let number = number.ok_or_else(|| nothing(Some(known)))?;
        let entry = known.releases.get(&number).ok_or_else(|| nothing(Some(known)))?;
        let name = ReleaseName { app: wanted.app.clone(), number };
        let job = Job { remote, place, look: &look, index: known, name, mode, wish: Wish::default() };
        let missing = || TransferError::NoSupplies { release: job.name.clone(), remote: remote.shown() };
        let list = match supplies {
            Supplies::Bring => Some(entry.supplies.as_ref().ok_or_else(missing)?),
            Supplies::Leave => None,
        };
        let mut pulled = self.bring_release(&job, entry)?;
        if mode == Mode::Do {
            pulled.channels = self.take_words(place, &look, &wanted.app)?;
            pulled.reports = self.bring_reports(place, &look, &wanted.app)?;
            pulled.bytes += pulled.reports.bytes;
        }
        if let Some(list) = list {
            pulled.supplies = self.bring_supplies(place, list, mode)?;
            pulled.bytes += pulled.supplies.1;
        }
        Ok(pulled)
    }

    fn bring_release(&self, job: &Job<'_>, entry: &Entry) -> Result<Pulled, OpsError> {
        let mut pulled = Pulled::nothing(job, entry);
        let here = match self.read_release(&job.name) {
            Ok(here) if here.digest() != entry.document.digest => {
                return Err(index::differs(job.remote, &job.name, &entry.document.digest));
            }
            Ok(here) if self.whole(&here).is_ok() => {
                if job.mode == Mode::Do {
                    pulled.trusts = self.keep_seen(job.place, &job.name.app, job.look)?;
                    self.forget_collected(&here)?;
                }
                return Ok(pulled);
            }
            // It lost something: what is missing is brought again.
            Ok(_) => true,
            Err(OpsError::NoRelease { .. }) => false,
            Err(error) => return Err(error),
        };
        pulled.changed = true;
        let release = self.document_there(job.place, &job.name, entry)?;
        pulled.bytes += entry.document.size;
        // Nothing is fetched, kept or trusted for what nobody vouches for.
        let words = self.believed(job.place, job.look, &release)?;
        self.bring_objects(job, &mut pulled)?;
        if job.mode == Mode::DryRun {
            return Ok(pulled);
        }
        self.check_objects_of(job, &release)?;
        pulled.trusts = self.keep_seen(job.place, &job.name.app, job.look)?;
        self.add_statements(&release, &words)?;
        self.insist_signed(&release)?;
        if here {
            self.store.sync()?;
        } else {
            match self.store.add_release(&job.name.app, job.name.number, &release.to_bytes()) {
                // Somebody released here meanwhile.
                Err(plumb_store::Error::ReleaseExists { .. }) => {
                    return Err(index::differs(job.remote, &job.name, &entry.document.digest));
                }
                other => other?,
            }
        }
        self.forget_collected(&release)?;
        self.report(Progress::Travel(Travel::Pulled { release: job.name.to_string() }));
        Ok(pulled)
    }

    /// Brings what is wished of the objects of a release, which is the one that the remote has, as far as it has them.
    pub(super) fn bring_missing(
        &self,
        place: &Place,
        look: &Look,
        (name, entry): (ReleaseName, &Entry),
        wish: Wish,
    ) -> Result<(), OpsError> {
        let (remote, mode) = (place.remote.as_ref(), Mode::Do);
        let job = Job { remote, place, look, index: &look.index, name, mode, wish };
        self.bring_objects(&job, &mut Pulled::nothing(&job, entry))
    }

    /// The release's own document: it is what it says, and says what it was asked for.
    pub(super) fn document_there(
        &self,
        place: &Place,
        name: &ReleaseName,
        entry: &Entry,
    ) -> Result<Release, OpsError> {
        let remote = place.remote.as_ref();
        let bytes = plumb_remote::read_blob(remote, &blob(&entry.document), DOCUMENT_LIMIT, &place.patience)?;
        let foreign =
            |source| TransferError::Foreign { name: format!("release {name} of {}", remote.shown()), source };
        let release = Release::from_bytes(&bytes).map_err(|error| foreign(error.into()))?;
        if release.name() != *name {
            return Err(OpsError::Transfer(foreign(format!("it is {}", release.name()).into())));
        }
        Ok(release)
    }

    /// Brings the objects of a release here, by the cheapest way that works.
    fn bring_objects(&self, job: &Job<'_>, pulled: &mut Pulled) -> Result<(), OpsError> {
        let (mut here, mut wish) = (self.releases_held(job)?, job.wish.clone());
        for way in 1.. {
            let links = chain::cheapest(job.index, &here, job.name.number);
            let links = links.ok_or_else(|| TransferError::NoWay {
                release: job.name.clone(),
                remote: job.remote.shown(),
            })?;
            match self.follow_all(job, &links, &mut wish, pulled) {
                Ok(true) => return Ok(()),
                Ok(false) if way < WAYS => {}
                Err(error) if way < WAYS => {
                    let Some(base) = broken_base(&error) else { return Err(error) };
                    // Sets it aside if it is damaged, so that the next way brings it again.
                    match self.store.verify(&base) {
                        Ok(())
                        | Err(plumb_store::Error::Damaged { .. } | plumb_store::Error::Missing { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                    match links.first().and_then(|link| link.bundle.base) {
                        Some(base) => drop(here.remove(&base)),
                        None => return Err(error),
                    }
                }
                Ok(false) => break,
                Err(error) => return Err(error),
            }
        }
        Err(OpsError::Transfer(TransferError::NoWay {
            release: job.name.clone(),
            remote: job.remote.shown(),
        }))
    }

    /// Numbers of the releases that both have, and that are whole here.
    fn releases_held(&self, job: &Job<'_>) -> Result<BTreeSet<u64>, OpsError> {
        let mut here = BTreeSet::new();
        for (number, entry) in &job.index.releases {
            if *number != job.name.number
                && self.held(&job.name.app, *number, &entry.document.digest)?.is_some()
            {
                here.insert(*number);
            }
        }
        Ok(here)
    }

    /// Brings what is wished, and what that is made from. `false` if it is worth another try.
    fn follow_all(
        &self,
        job: &Job<'_>,
        links: &[Link<'_>],
        wish: &mut Wish,
        pulled: &mut Pulled,
    ) -> Result<bool, OpsError> {
        for _ in 0..STEPS {
            match self.follow_links(job, links, wish, pulled) {
                Err(error) if missing_base(&error).is_some_and(|base| wish.add(base)) => {}
                other => return other,
            }
        }
        wish.only = None;
        self.follow_links(job, links, wish, pulled)
    }

    /// Applies one bundle after the other. `false` if it is worth another try.
    fn follow_links(
        &self,
        job: &Job<'_>,
        links: &[Link<'_>],
        wish: &Wish,
        pulled: &mut Pulled,
    ) -> Result<bool, OpsError> {
        let release = |number| ReleaseName { app: job.name.app.clone(), number };
        pulled.bundles.clear();
        for link in links {
            let delta = blob(&link.bundle.delta);
            let mut bundle = RemoteBundle::new(self, job.remote, job.place.patience, delta);
            let (objects, ranges) = bundle.missing(wish)?;
            let needed: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let bytes = needed + bundle.head_bytes().min(delta.size - needed.min(delta.size));
            pulled.bytes += bytes;
            let base = link.bundle.base.map(release);
            pulled.bundles.push(PulledBundle { to: release(link.to), base, bytes });
            if job.mode == Mode::DryRun {
                continue;
            }
            self.check_space(objects.saturating_add(needed))?;
            bundle.fetch(&ranges)?;
            self.report(Progress::Travel(Travel::Applying {
                release: release(link.to).to_string(),
                bytes: objects,
            }));
            if bundle.apply(wish)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// There is room for what is about to come: a remote cannot fill the disk by what it promises.
    pub(super) fn check_space(&self, needed: u64) -> Result<(), OpsError> {
        let root = self.store.root();
        let found = rustix::fs::statvfs(root).map_err(|errno| io("look at", root)(errno.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if needed > free {
            return Err(OpsError::Transfer(TransferError::NoSpace { path: root.to_owned(), needed, free }));
        }
        Ok(())
    }

    /// Everything that the release reaches is here; the store knows each object by the digest it was made with.
    fn check_objects_of(&self, job: &Job<'_>, release: &Release) -> Result<(), OpsError> {
        let lacking = |part: String, digest: Digest| TransferError::Lacking {
            release: job.name.clone(),
            remote: job.remote.shown(),
            part,
            digest,
        };
        match self.whole(release) {
            Ok(_) => Ok(()),
            Err(OpsError::Transfer(TransferError::NotWhole { part, digest, .. })) => {
                Err(OpsError::Transfer(lacking(part, digest)))
            }
            Err(OpsError::Store(plumb_store::Error::Missing { digest })) => {
                Err(OpsError::Transfer(lacking("an image manifest".to_owned(), digest)))
            }
            Err(error) => Err(error),
        }
    }
}

/// The object that a bundle needs and that is not here.
fn missing_base(error: &OpsError) -> Option<Digest> {
    match error {
        OpsError::Transfer(TransferError::Bundle {
            source: plumb_delta::Error::MissingBase { base },
            ..
        }) => Some(*base),
        _ => None,
    }
}

/// The object here that a bundle could not start from.
fn broken_base(error: &OpsError) -> Option<Digest> {
    match error {
        OpsError::Transfer(TransferError::Bundle {
            source: plumb_delta::Error::MissingBase { base } | plumb_delta::Error::WrongBase { base },
            ..
        }) => Some(*base),
        _ => None,
    }
}
