//! Reports: what statements refer to. Logs of tests and what people attached to evidence travel beside the statements, as
//! blobs by the digests that the statements vouch for.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::outcome::TestOutcome;
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, Digest, Document as _};
use plumb_remote::{Blob, Bound, Tag};
use plumb_trust::key::{KeyId, PublicKey};
use plumb_trust::statement::{Resource, TestResult};
use plumb_trust::{Predicate, Subject, statement};
use rayon::prelude::*;
use serde::Serialize;

use super::Place;
use super::push::{FILE_TYPE, Item, Stored, absent};
use super::signed::Look;
use crate::Plumb;
use crate::error::OpsError;
use crate::evidence::ATTACHMENT_BYTES;

/// Largest outcome of a test that is read: 200 checks with 64 KiB of output each, at five instances, with room.
const OUTCOME_BYTES: u64 = 128 * 1024 * 1024;

/// A pull that learnt of so many reports that a remote lacks them asks for no older ones: they are asked for each time, and
/// so it takes a few seconds at most. Also how many are asked for at once.
const ABSENT: usize = 200;

/// Reports that travelled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reports {
    /// How many.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How many of those that were asked for the remote does not have, or only too large: they stayed where they were
    /// made.
    pub absent: usize,
}

/// Whether a statement is new for a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Yes,
    No,
}

/// One report that a statement refers to.
struct Report {
    /// For people.
    title: String,
    digest: Digest,
}

impl Plumb<'_> {
    /// Sends the reports of what is new for a remote, before anything there refers to them, and those of the `pushed`
    /// release that an earlier push left here.
    pub(super) fn send_reports(
        &self,
        place: &Place,
        look: Option<&Look>,
        pushed: &ReleaseName,
        numbers: &BTreeSet<u64>,
    ) -> Result<Reports, OpsError> {
        let app = &pushed.app;
        let signers = self.trust(app)?.root().signers();
        let mut sent = Reports::default();
        // What was said about a release that was collected, document and all, stays; nothing can be checked against it.
        let here: BTreeSet<u64> = self.store.releases(app)?.into_iter().collect();
        for number in numbers.intersection(&here) {
            let new = match look {
                Some(look) => self.unsaid(place, look, app, *number)?,
                None => self.said_here(app, *number)?,
            };
            let said = if *number == pushed.number { self.said_here(app, *number)? } else { new.clone() };
            if said.is_empty() {
                continue;
            }
            let release = self.read_release(&ReleaseName { app: app.clone(), number: *number })?;
            for (statement, bytes) in said {
                let news = if new.contains_key(&statement) { News::Yes } else { News::No };
                let reports = self.reports(believed(&release, &bytes, &signers))?;
                self.send_with(place, (&release.name(), &statement, news), reports, &mut sent)?;
            }
        }
        Ok(sent)
    }

    /// Sends the reports of one statement; a registry keeps them as long as the tag that is made of them.
    fn send_with(
        &self,
        place: &Place,
        (release, statement, news): (&ReleaseName, &Digest, News),
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
        if missing.is_empty() && news == News::No {
            return Ok(());
        }
        self.send(remote, &missing)?;
        sent.files += missing.len();
        sent.bytes += missing.iter().map(|item| item.bound.blob.size).sum::<u64>();
        let all: Vec<Bound> = there.into_iter().chain(missing).map(|item| item.bound).collect();
        let tag = format!("{}.{}.evidence-{}", release.app, release.number, statement.short());
        Ok(remote.bind(&Tag::new(&tag)?, &all)?)
    }

    /// Brings reports of everything that is said here about releases that the remote has; of the newest ones, if it is
    /// too much.
    pub(super) fn bring_reports(
        &self,
        place: &Place,
        look: &Look,
        app: &AppName,
    ) -> Result<Reports, OpsError> {
        let signers = self.trust(app)?.root().signers();
        let here: BTreeSet<u64> = self.store.releases(app)?.into_iter().collect();
        let numbers = look.index.releases.keys().rev().filter(|number| here.contains(number));
        let mut said = Vec::new();
        for number in numbers {
            let words: Vec<Vec<u8>> = self.said_here(app, *number)?.into_values().collect();
            // Whoever signed it: most releases have everything, and then it does not matter.
            if self.lacking(words.iter().map(|bytes| statement::claimed(bytes)), &BTreeSet::new())?.is_empty()
            {
                continue;
            }
            let release = self.read_release(&ReleaseName { app: app.clone(), number: *number })?;
            said.extend(words.iter().filter_map(|bytes| believed(&release, bytes, &signers)));
        }
        let (mut brought, mut asked) = (Reports::default(), BTreeSet::new());
        while brought.absent < ABSENT {
            // What came names more: an outcome its logs.
            let mut lacking = self.lacking(said.iter().cloned().map(Some), &asked)?;
            lacking.truncate(ABSENT);
            if lacking.is_empty() {
                break;
            }
            asked.extend(lacking.iter().map(|report| report.digest));
            self.ask(place, &lacking, &mut brought)?;
        }
        if brought.files > 0 {
            self.store.sync()?;
        }
        Ok(brought)
    }

    /// Reports that are not here and were not `asked` for, each once, in the order of what refers to them.
    fn lacking(
        &self,
        said: impl Iterator<Item = Option<Predicate>>,
        asked: &BTreeSet<Digest>,
    ) -> Result<Vec<Report>, OpsError> {
        let (mut lacking, mut seen) = (Vec::new(), asked.clone());
        for predicate in said {
            for report in self.reports(predicate)? {
                if seen.insert(report.digest) && self.store.size(&report.digest)?.is_none() {
                    lacking.push(report);
                }
            }
        }
        Ok(lacking)
    }

    /// Brings those of the reports that a remote has, and that are not too large.
    fn ask(&self, place: &Place, reports: &[Report], brought: &mut Reports) -> Result<(), OpsError> {
        let pool = super::connections()?;
        let remote = place.remote.as_ref();
        let size = |report: &Report| Ok(remote.blob_size(&report.digest)?);
        let sizes: Result<Vec<Option<u64>>, OpsError> =
            pool.install(|| reports.par_iter().map(size).collect());
        let there = reports.iter().zip(sizes?);
        let there: Vec<(&Report, u64)> = there
            .filter_map(|(report, size)| Some((report, size.filter(|size| *size <= ATTACHMENT_BYTES)?)))
            .collect();
        let bytes = there.iter().map(|(_, size)| size).sum();
        self.check_space(bytes)?;
        pool.install(|| {
            there
                .par_iter()
                .try_for_each(|(report, size)| self.bring_file(place, (&report.title, &report.digest, *size)))
        })?;
        brought.absent += reports.len() - there.len();
        brought.files += there.len();
        brought.bytes += bytes;
        Ok(())
    }

    /// What a statement refers to, as far as that is known here.
    fn reports(&self, said: Option<Predicate>) -> Result<Vec<Report>, OpsError> {
        match said {
            Some(Predicate::Finding(finding)) => Ok(finding.attachments.iter().filter_map(report).collect()),
            Some(Predicate::Tests(tests)) => self.of_tests(&tests),
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
            let bytes = match self.store.read_bytes(&digest, OUTCOME_BYTES) {
                Err(plumb_store::Error::TooLarge { .. }) => continue,
                other => other?,
            };
            let Ok(outcome) = TestOutcome::from_bytes(&bytes) else { continue };
            for (instance, logs) in outcome.logs {
                all.push(Report { title: format!("{instance}.log"), digest: logs.services });
                all.push(Report { title: format!("{instance}.console"), digest: logs.console });
            }
        }
        Ok(all)
    }
}

/// What a statement says, if whoever signed it is trusted; otherwise it says nothing.
fn believed(release: &Release, bytes: &[u8], signers: &BTreeMap<KeyId, PublicKey>) -> Option<Predicate> {
    let about = Subject::new(release.name().to_string(), &release.digest());
    Some(statement::verify(bytes, &about, signers).ok()?.predicate)
}

fn report(resource: &Resource) -> Option<Report> {
    let digest = Digest::from_hex(resource.digest.get("sha256")?).ok()?;
    Some(Report { title: resource.name.clone(), digest })
}
