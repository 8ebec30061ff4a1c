//! Snapshots of this target's volumes: guests hold still, the host copies.

use std::path::Path;
use std::time::{Duration, Instant};

use plumb_guest_proto::{MAX_HOLD_MS, MAX_HOOK_MS, QuiesceAnswer, QuiescePhase};

use super::Local;
use crate::driver::ObservedVolume;
use crate::error::TargetError;
use crate::keeper::client::Client;
use crate::keeper::request::{QuiesceState, Reply, Request};
use crate::snapshot::disk::Real;
use crate::snapshot::{self, FileSystem, Held, Import, Manifest, Place, SnapshotRequest, Still};
use crate::volume;

/// How long one question to the keeper waits for the answer.
const WAIT_MS: u64 = 200;

/// Longest wait for a guest to freeze beyond its commands before, and to go on: writing out what is in its memory, under
/// software emulation too.
const FREEZE_WAIT: Duration = Duration::from_millis(MAX_HOLD_MS + MAX_HOOK_MS);

/// What a copy leaves of the guest's own deadline, so that our word to go on comes first.
const HEADROOM: Duration = Duration::from_millis(1_000);

impl Local {
    /// Removes and completes what a killed command left of snapshots. Call it with the deployment locked, before anything
    /// of it is started.
    ///
    /// # Errors
    /// If a file cannot be read, written or removed.
    pub fn recover_volumes(&self) -> Result<(), TargetError> {
        snapshot::recover(&Real, self.place())
    }

    /// Copies volumes as of one moment; `news` hears the bytes that were copied.
    ///
    /// # Errors
    /// If a guest cannot hold them, copying takes too long or there is no room. Nothing is left then.
    pub fn snapshot(
        &self,
        request: &SnapshotRequest,
        news: &mut dyn FnMut(u64),
    ) -> Result<Manifest, TargetError> {
        for (name, held) in &request.volumes {
            if *held == Held::AtRest
                && let Some(instance) = self.user_of(&volume::path(&self.paths.volumes, name)?)?
            {
                return Err(TargetError::VolumeInUse { volume: name.clone(), instance });
            }
        }
        let mut guests = Guests::new(self, request)?;
        snapshot::take(&Real, self.place(), request, &mut guests, news)
    }

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Manifest>, TargetError> {
        snapshot::list(self.place())
    }

    /// Replaces volumes by what a snapshot has of them: all of those named, or none.
    ///
    /// # Errors
    /// If an instance runs with one of them, or the snapshot has none of it, or it is damaged. Nothing has changed then.
    pub fn restore_volumes(
        &self,
        name: &str,
        volumes: &[String],
        news: &mut dyn FnMut(u64),
    ) -> Result<(), TargetError> {
        for name in volumes {
            if let Some(instance) = self.user_of(&volume::path(&self.paths.volumes, name)?)? {
                return Err(TargetError::VolumeInUse { volume: name.clone(), instance });
            }
        }
        snapshot::restore(&Real, self.place(), name, volumes, news)
    }

    /// Removes a snapshot; one that is not there is removed already.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove_snapshot(&self, name: &str) -> Result<(), TargetError> {
        snapshot::remove(&Real, self.place(), name)
    }

    /// Writes a snapshot to one file.
    ///
    /// # Errors
    /// If there is no such snapshot, it is damaged, or the file is there already.
    pub fn export_snapshot(
        &self,
        name: &str,
        to: &Path,
        news: &mut dyn FnMut(u64),
    ) -> Result<Manifest, TargetError> {
        snapshot::export(self.place(), name, to, news)
    }

    /// Makes a snapshot `name` of a file that [`Local::export_snapshot`] wrote, here or elsewhere.
    ///
    /// # Errors
    /// If the file is no snapshot or damaged, the name is taken, or there is no room. Nothing is left then.
    pub fn import_snapshot(
        &self,
        from: &Path,
        (name, deployment, why): (&str, &str, &str),
        news: &mut dyn FnMut(u64),
    ) -> Result<Manifest, TargetError> {
        snapshot::import(&Real, self.place(), Import { from, name, deployment, why }, news)
    }

    /// What the file system in a volume says of itself.
    #[must_use]
    pub fn file_system(&self, volume: &ObservedVolume) -> Option<FileSystem> {
        snapshot::file_system(&std::fs::File::open(&volume.path).ok()?)
    }

    fn place(&self) -> Place<'_> {
        Place { volumes: &self.paths.volumes }
    }
}

/// Guests that hold their volumes.
struct Guests<'l> {
    local: &'l Local,
    /// Of the snapshot.
    name: &'l str,
    hold: Duration,
    /// Instances, with their volumes by the names that the guests know.
    wanted: Vec<(String, Vec<String>)>,
    /// Those that were asked, with the numbers of their freezes.
    asked: Vec<(String, u64)>,
    began: Option<Instant>,
}

impl<'l> Guests<'l> {
    fn new(local: &'l Local, request: &'l SnapshotRequest) -> Result<Self, TargetError> {
        let mut wanted: Vec<(String, Vec<String>)> = Vec::new();
        for (name, _) in request.volumes.iter().filter(|(_, held)| *held == Held::Frozen) {
            let path = volume::path(&local.paths.volumes, name)?;
            // Nobody runs with it: it is as still as can be, and stays so while the deployment is locked.
            let Some(instance) = local.user_of(&path)? else { continue };
            let record = local.record(&instance)?;
            let disks = record.iter().flat_map(|record| {
                record
                    .wanted
                    .volumes
                    .iter()
                    .zip(&record.wanted.spec.volumes)
                    .filter(|(disk, _)| disk.path == path)
            });
            let inside: Vec<String> = disks.map(|(_, attached)| attached.name.clone()).collect();
            match wanted.iter_mut().find(|(known, _)| *known == instance) {
                Some((_, volumes)) => volumes.extend(inside),
                None => wanted.push((instance, inside)),
            }
        }
        let hold = Duration::from_millis(request.hold_ms.min(MAX_HOLD_MS));
        Ok(Guests { local, name: &request.name, hold, wanted, asked: Vec::new(), began: None })
    }

    fn client(&self) -> Result<Client, TargetError> {
        self.local.keeper()?;
        Client::open(&self.local.run())
    }

    /// What a guest says of its freeze when it is as far as `phase`.
    fn answer(
        &self,
        client: &mut Client,
        (instance, run): (&str, u64),
        phase: QuiescePhase,
    ) -> Result<QuiesceAnswer, TargetError> {
        let refuse = |reason: &str| TargetError::NotFrozen {
            instance: instance.to_owned(),
            reason: reason.to_owned(),
        };
        let end = Instant::now() + FREEZE_WAIT;
        loop {
            let request =
                Request::QuiesceAnswer { instance: instance.to_owned(), run, phase, wait_ms: WAIT_MS };
            match client.ask(&request)? {
                Reply::Quiesced { state: QuiesceState::Over { answer } } => return Ok(answer),
                Reply::Quiesced { state: QuiesceState::Lost } => {
                    return Err(refuse("its guest went away meanwhile"));
                }
                Reply::Quiesced { state: QuiesceState::Running } if Instant::now() < end => {}
                Reply::Quiesced { state: QuiesceState::Running } => {
                    return Err(refuse("its guest does not answer"));
                }
                other => return Err(refuse(&format!("unexpected answer {other:?}"))),
            }
        }
    }
}

impl Still for Guests<'_> {
    fn hold(&mut self) -> Result<(), TargetError> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let mut client = self.client()?;
        // All at once: what one guest waits for the others is the time that its database stands still.
        let hold_ms = u64::try_from(self.hold.as_millis()).unwrap_or(u64::MAX);
        for (instance, volumes) in &self.wanted {
            let request = Request::Freeze { instance: instance.clone(), volumes: volumes.clone(), hold_ms };
            match client.ask(&request)? {
                Reply::Asked { run } => self.asked.push((instance.clone(), run)),
                Reply::Refused { reason } => {
                    return Err(TargetError::NotFrozen { instance: instance.clone(), reason });
                }
                other => {
                    let reason = format!("unexpected answer {other:?}");
                    return Err(TargetError::NotFrozen { instance: instance.clone(), reason });
                }
            }
        }
        for (instance, run) in &self.asked {
            let answer = self.answer(&mut client, (instance, *run), QuiescePhase::Frozen)?;
            if let Some(reason) = answer.failure {
                return Err(TargetError::NotFrozen { instance: instance.clone(), reason });
            }
            let began = Instant::now().checked_sub(Duration::from_millis(answer.frozen_ms.min(MAX_HOLD_MS)));
            self.began = self.began.into_iter().chain(began).min();
        }
        Ok(())
    }

    fn is_in_time(&self) -> bool {
        self.began.is_none_or(|began| began.elapsed() + HEADROOM < self.hold)
    }

    fn let_go(&mut self) -> Result<Option<u64>, TargetError> {
        if self.asked.is_empty() {
            return Ok(None);
        }
        let is_in_time = self.is_in_time();
        let mut client = self.client()?;
        let mut failure = None;
        // Everybody is told before anybody is waited for.
        for (instance, run) in &self.asked {
            if let Err(error) = client.tell(&Request::Thaw { instance: instance.clone(), run: *run }) {
                failure.get_or_insert(error);
            }
        }
        let mut longest_ms = 0;
        for (instance, run) in &self.asked {
            let refuse = |reason| TargetError::NotFrozen { instance: instance.clone(), reason };
            let wrong = match self.answer(&mut client, (instance, *run), QuiescePhase::Thawed) {
                Ok(QuiesceAnswer { failure: Some(_), .. }) if !is_in_time => {
                    let limit_ms = u64::try_from(self.hold.as_millis()).unwrap_or(u64::MAX);
                    Some(TargetError::SnapshotLate { snapshot: self.name.to_owned(), limit_ms })
                }
                Ok(
                    QuiesceAnswer { failure: Some(reason), .. } | QuiesceAnswer { after: Some(reason), .. },
                ) => Some(refuse(reason)),
                Ok(answer) => {
                    longest_ms = longest_ms.max(answer.frozen_ms);
                    None
                }
                Err(error) => Some(error),
            };
            failure = failure.or(wrong);
        }
        failure.map_or(Ok(Some(longest_ms)), Err)
    }
}
