//! Reports: what statements refer to. Logs of tests and what people attached to evidence travel beside the statements, as
//! blobs by the digests that the statements vouch for.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::outcome::TestOutcome;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, Digest, Document as _};
use plumb_remote::{Blob, Bound, Tag};
use plumb_trust::statement::{Resource, TestResult};
use plumb_trust::{Predicate, Subject, statement};
use serde::Serialize;

use super::push::{FILE_TYPE, Item, Stored, absent};
use super::signed::Look;
use super::{Place, TransferError};
use crate::Plumb;
use crate::error::OpsError;
use crate::evidence::ATTACHMENT_BYTES;
use crate::trust::Trust;

/// Largest outcome of a test that is read: 200 checks with 64 KiB of output each, at five instances, with room.
const OUTCOME_BYTES: u64 = 128 * 1024 * 1024;

/// An outcome names logs, and nothing names more behind those.
const STEPS: usize = 2;

/// Reports that travelled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reports {
    /// How many.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How many the remote does not have: they stayed where they were made.
    pub absent: usize,
}

/// One report that a statement refers to.
struct Report {
    /// For people.
    title: String,
    digest: Digest,
}

impl Plumb<'_> {
    /// Sends the reports of what is new for a remote, before anything there refers to them.
    pub(super) fn send_reports(
        &self,
        place: &Place,
        look: Option<&Look>,
        app: &AppName,
        numbers: &BTreeSet<u64>,
    ) -> Result<Reports, OpsError> {
        let trust = self.trust(app)?;
        let mut sent = Reports::default();
        for number in numbers {
            let new = match look {
                Some(look) => self.unsaid(place, look, app, *number)?,
                None => self.said_here(app, *number)?,
            };
            if new.is_empty() {
                continue;
            }
            let release = self.read_release(&ReleaseName { app: app.clone(), number: *number })?;
            for (statement, bytes) in new {
                let reports = self.reports(&release, &bytes, &trust)?;
                self.send_with(place, (&release.name(), &statement), reports, &mut sent)?;
            }
        }
        Ok(sent)
    }

    /// Sends the reports of one statement; a registry keeps them as long as the tag that is made of them.
    fn send_with(
        &self,
        place: &Place,
        (release, statement): (&ReleaseName, &Digest),
        reports: Vec<Report>,
        sent: &mut Reports,
    ) -> Result<(), OpsError> {
        let mut items = Vec::new();
        for Report { title, digest } in reports {
            // What was collected here, or never came here, is elsewhere if anywhere.
            if let Some(size) = self.store.size(&digest)? {
                let source = Stored { store: self.store.clone(), digest };
                let bound = Bound { blob: Blob { digest, size }, media_type: FILE_TYPE, title };
                items.push(Item { bound, source: Box::new(source) });
            }
        }
        if items.is_empty() {
            return Ok(());
        }
        let remote = place.remote.as_ref();
        let (there, missing) = absent(remote, items)?;
        self.send(remote, &missing)?;
        sent.files += missing.len();
        sent.bytes += missing.iter().map(|item| item.bound.blob.size).sum::<u64>();
        let all: Vec<Bound> = there.into_iter().chain(missing).map(|item| item.bound).collect();
        let tag = format!("{}.{}.evidence-{}", release.app, release.number, statement.short());
        Ok(remote.bind(&Tag::new(&tag)?, &all)?)
    }

    /// Brings reports of everything that is said here about releases that the remote has.
    pub(super) fn bring_reports(
        &self,
        place: &Place,
        look: &Look,
        app: &AppName,
    ) -> Result<Reports, OpsError> {
        let trust = self.trust(app)?;
        let mut brought = Reports::default();
        let here: BTreeSet<u64> = self.store.releases(app)?.into_iter().collect();
        for number in look.index.releases.keys().filter(|number| here.contains(number)) {
            let said = self.said_here(app, *number)?;
            let release = self.read_release(&ReleaseName { app: app.clone(), number: *number })?;
            let mut absent = BTreeSet::new();
            for _ in 0..STEPS {
                let mut lacking: BTreeMap<Digest, String> = BTreeMap::new();
                for bytes in said.values() {
                    for Report { title, digest } in self.reports(&release, bytes, &trust)? {
                        if self.store.size(&digest)?.is_none() && !absent.contains(&digest) {
                            lacking.insert(digest, title);
                        }
                    }
                }
                for (digest, title) in lacking {
                    if !self.bring_report(place, &digest, &title, &mut brought)? {
                        absent.insert(digest);
                    }
                }
            }
            brought.absent += absent.len();
        }
        if brought.files > 0 {
            self.store.sync()?;
        }
        Ok(brought)
    }

    /// Brings one report. `false` if the remote does not have it.
    fn bring_report(
        &self,
        place: &Place,
        digest: &Digest,
        title: &str,
        brought: &mut Reports,
    ) -> Result<bool, OpsError> {
        let Some(size) = place.remote.blob_size(digest)? else { return Ok(false) };
        if size > ATTACHMENT_BYTES {
            let name = format!("report `{title}` of `{}`", place.remote.shown());
            let source = format!("it has {size} bytes; at most {ATTACHMENT_BYTES} are taken").into();
            return Err(TransferError::Foreign { name, source }.into());
        }
        self.check_space(size)?;
        self.bring_file(place, (title, digest, size))?;
        brought.files += 1;
        brought.bytes += size;
        Ok(true)
    }

    /// What a statement refers to, as far as that is known here; of one that is not believed nothing.
    fn reports(&self, release: &Release, bytes: &[u8], trust: &Trust) -> Result<Vec<Report>, OpsError> {
        let about = Subject::new(release.name().to_string(), &release.digest());
        let Ok(statement) = statement::verify(bytes, &about, &trust.root().signers()) else {
            return Ok(Vec::new());
        };
        match &statement.predicate {
            Predicate::Finding(finding) => Ok(finding.attachments.iter().filter_map(report).collect()),
            Predicate::Tests(tests) => self.of_tests(tests),
            _ => Ok(Vec::new()),
        }
    }

    fn of_tests(&self, tests: &TestResult) -> Result<Vec<Report>, OpsError> {
        let mut all: Vec<Report> = tests.configuration.iter().filter_map(report).collect();
        for at in 0..all.len() {
            let digest = all[at].digest;
            if self.store.size(&digest)?.is_none() {
                continue;
            }
            // Whatever else a signer calls the configuration of a test refers to nothing.
            let bytes = self.store.read_bytes(&digest, OUTCOME_BYTES)?;
            let Ok(outcome) = TestOutcome::from_bytes(&bytes) else { continue };
            for (instance, logs) in outcome.logs {
                all.push(Report { title: format!("{instance}.log"), digest: logs.services });
                all.push(Report { title: format!("{instance}.console"), digest: logs.console });
            }
        }
        Ok(all)
    }
}

fn report(resource: &Resource) -> Option<Report> {
    let digest = Digest::from_hex(resource.digest.get("sha256")?).ok()?;
    Some(Report { title: resource.name.clone(), digest })
}
