//! Releases: made, listed, read.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::definition::{Definition, Fence, VolumeSnapshot};
use plumb_model::image::Image;
use plumb_model::release::{Content, Publish, Quiesce, Release, ReleaseMachine, ReleaseName, VolumeSize};
use plumb_model::{AppName, ChannelName, Document, MachineName};
use plumb_trust::Predicate;
use serde::Serialize;

use crate::build::BuiltImage;
use crate::error::OpsError;
use crate::progress::Progress;
use crate::project::Project;
use crate::trust::Said;
use crate::{Plumb, clock};

/// What releasing did.
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseOutcome {
    /// The release.
    pub release: ReleaseName,
    /// It is new; otherwise nothing had changed since it was made.
    pub changed: bool,
    /// The images of its machines.
    pub images: Vec<BuiltImage>,
}

/// A release and what is known about it.
#[derive(Debug, Clone, Serialize)]
pub struct LogEntry {
    /// The release.
    #[serde(flatten)]
    pub release: Release,
    /// Channels that point to it.
    pub channels: Vec<ChannelName>,
    /// Who of those who are trusted signed it.
    pub signed_by: Vec<String>,
    /// Kinds of evidence there are, each once: `tests`, `tests failed`, `approval`.
    pub evidence: Vec<String>,
    /// Its images are in the store; otherwise they were collected, damaged, or never pulled.
    pub here: bool,
}

/// Kinds of evidence that were given, each once; provenance and promotions are none.
fn evidence_kinds(said: &Said) -> Vec<String> {
    let given = said.statements.iter().map(|statement| &statement.predicate);
    let given = given.filter(|said| !matches!(said, Predicate::Provenance(_) | Predicate::Promotion(_)));
    let kinds: BTreeSet<String> = given
        .map(|said| if said.is_failed() { format!("{} failed", said.kind()) } else { said.kind().to_owned() })
        .collect();
    kinds.into_iter().collect()
}

impl Plumb<'_> {
    /// Builds and keeps the set as a release, unless the newest release has the same content.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn release(&self, project: &Project, note: &str) -> Result<ReleaseOutcome, OpsError> {
        let (release, changed, images) = self.make_release(project, note, true)?;
        Ok(ReleaseOutcome { release: release.name(), changed, images })
    }

    /// As [`Plumb::release`]; keeps nothing unless `keep`.
    pub(crate) fn make_release(
        &self,
        project: &Project,
        note: &str,
        keep: bool,
    ) -> Result<(Release, bool, Vec<BuiltImage>), OpsError> {
        let (lock, images) = self.build_locked(project)?;
        let app = &project.definition.app;
        // Two builds at once must not give out one number twice.
        let _guard = self.store.lock_waiting(&format!("release-{app}"), &mut |_| {})?;
        let previous = match self.store.releases(app)?.last() {
            Some(number) => Some(self.read_release(&ReleaseName { app: app.clone(), number: *number })?),
            None => None,
        };
        let checks = self.keep_checks(project)?;
        let number = previous.as_ref().map_or(0, |release| release.number) + 1;
        let content = |fence_here| content(&project.definition, &images, fence_here);
        // What channels ask for is a part of the release, although nothing that runs depends on it; so are its checks.
        let same_policy = |previous: &Release| {
            self.definition_of(previous).is_ok_and(|before| {
                before.channels == project.definition.channels && before.lease == project.definition.lease
            })
        };
        let same_checks = |previous: &Release| previous.checks == checks;
        if let Some(previous) = previous.as_ref().filter(|previous| {
            previous.content == content(previous.number) && same_policy(previous) && same_checks(previous)
        }) {
            // One that was made before its maker could sign it: a command that was killed, or an older Plumb.
            if keep && !self.said(previous)?.is_signed() {
                self.trust_or_begin(app)?;
                self.sign_release(previous)?;
            }
            self.report(Progress::Released { release: previous.name().to_string(), changed: false });
            return Ok((previous.clone(), false, images));
        }
        let release = Release {
            format: Release::FORMAT,
            app: app.clone(),
            number,
            previous: previous.map(|release| release.digest()),
            created_s: clock::now_s(),
            note: note.to_owned(),
            definition: self.store.put_bytes(project.text.as_bytes())?,
            lock: self.store.put_bytes(lock.to_text().as_bytes())?,
            content: content(number),
            checks,
        };
        if keep {
            // Who may not sign learns it before the release is there.
            let trust = self.trust_or_begin(app)?;
            self.signing_key(app, trust.root())?;
            self.store.add_release(app, number, &release.to_bytes())?;
            self.sign_release(&release)?;
            self.remember_for_search();
            self.report(Progress::Released { release: release.name().to_string(), changed: true });
        }
        Ok((release, true, images))
    }

    /// Reads a release.
    pub(crate) fn read_release(&self, name: &ReleaseName) -> Result<Release, OpsError> {
        if !self.store.releases(&name.app)?.contains(&name.number) {
            return Err(OpsError::NoRelease { release: name.clone() });
        }
        let bytes = self.store.release(&name.app, name.number)?;
        Release::from_bytes(&bytes).map_err(|source| OpsError::Document { name: name.to_string(), source })
    }

    /// The newest release of an application.
    pub(crate) fn newest_release(&self, app: &AppName) -> Result<Release, OpsError> {
        let number = self.store.releases(app)?.last().copied();
        let number = number.ok_or_else(|| OpsError::NoReleases { app: app.clone() })?;
        self.read_release(&ReleaseName { app: app.clone(), number })
    }

    /// All releases of an application, or of all, oldest first.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn releases(&self, app: Option<&AppName>) -> Result<Vec<Release>, OpsError> {
        let apps = match app {
            Some(app) => vec![app.clone()],
            None => self.store.apps()?,
        };
        let mut releases = Vec::new();
        for app in apps {
            for number in self.store.releases(&app)? {
                releases.push(self.read_release(&ReleaseName { app: app.clone(), number })?);
            }
        }
        match app {
            Some(app) if releases.is_empty() => Err(OpsError::NoReleases { app: app.clone() }),
            _ => Ok(releases),
        }
    }

    /// All releases of an application, or of all, oldest first, with what is known about each.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn history_of(&self, app: Option<&AppName>) -> Result<Vec<LogEntry>, OpsError> {
        let channels = self.channels(app)?;
        let mut entries = Vec::new();
        for release in self.releases(app)? {
            let name = release.name();
            let said = self.said(&release)?;
            let pointing = channels.iter().filter(|view| view.promotion.release == name);
            let (signed_by, evidence) = (said.signers(), evidence_kinds(&said));
            let channels = pointing.map(|view| view.channel.clone()).collect();
            let here = self.is_whole_here(&release)?;
            entries.push(LogEntry { release, channels, signed_by, evidence, here });
        }
        Ok(entries)
    }

    /// A release with the manifests of its images.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn show(&self, name: &ReleaseName) -> Result<(Release, BTreeMap<MachineName, Image>), OpsError> {
        let release = self.read_release(name)?;
        let mut images = BTreeMap::new();
        for (machine, entry) in &release.content.machines {
            images.insert(machine.clone(), self.image(&entry.image)?);
        }
        Ok((release, images))
    }
}

/// Commands are the image's; whoever asks for a snapshot need not know them.
fn quiesce(volume: &VolumeSnapshot) -> Quiesce {
    match volume {
        VolumeSnapshot::Stop => Quiesce::Stop,
        VolumeSnapshot::Freeze | VolumeSnapshot::Commands { .. } => Quiesce::Freeze,
    }
}

/// What the definition and its images amount to; `own_number` is what a fence of "this" means.
pub(crate) fn content(definition: &Definition, images: &[BuiltImage], own_number: u64) -> Content {
    let machines = images.iter().filter_map(|image| {
        let machine = definition.machines.get(&image.machine)?;
        let publish = machine.publish.iter().map(|publish| Publish {
            address: publish.address,
            host_port: publish.host_port,
            guest_port: publish.guest_port,
        });
        let volumes = machine.volumes.iter().map(|(name, volume)| {
            (name.clone(), VolumeSize { size_bytes: volume.size_bytes, snapshot: quiesce(&volume.snapshot) })
        });
        let entry = ReleaseMachine {
            image: image.image,
            instances: machine.instances,
            memory_mib: machine.memory_mib,
            cpus: machine.cpus,
            needs: machine.needs.clone(),
            publish: publish.collect(),
            volumes: volumes.collect(),
            ready_timeout_ms: image.ready_timeout_ms,
            rolling: machine.rolling,
            watch: machine.watch,
            tasks: machine.tasks.iter().map(|(name, task)| (name.clone(), task.task)).collect(),
            config: image.config.clone(),
        };
        Some((image.machine.clone(), entry))
    });
    let fence = match definition.fence {
        None => 0,
        Some(Fence::This) => own_number,
        Some(Fence::Release(number)) => number,
    };
    Content {
        fence,
        config: definition.config.clone(),
        machines: machines.collect(),
        snapshots: definition.snapshots,
        upgrade: definition.upgrade,
    }
}
