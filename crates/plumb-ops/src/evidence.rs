//! Evidence: what people and programs say about a release, signed.

use std::path::{Path, PathBuf};

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{ChannelName, DeploymentName, Digest, EvidenceName};
use plumb_trust::Statement;
use plumb_trust::policy::Standing;
use plumb_trust::statement::{Approval, Finding, Predicate, Resource, Soak, Verdict};
use serde::Serialize;

use crate::error::{OpsError, io};
use crate::trust::{Said, SaidBy};
use crate::{Plumb, clock};

/// Largest report that is attached: a PDF of hundreds of pages.
pub(crate) const ATTACHMENT_BYTES: u64 = 256 * 1024 * 1024;

/// What is known about a release.
#[derive(Debug, Clone, Serialize)]
pub struct EvidenceView {
    /// Release.
    pub release: ReleaseName,
    /// Everything said by trusted keys, oldest first.
    pub statements: Vec<StatementView>,
    /// What is not believed, and why.
    pub refused: Vec<RefusedView>,
    /// How it stands with the channels of its definition.
    pub channels: Vec<ChannelStanding>,
}

/// One statement.
#[derive(Debug, Clone, Serialize)]
pub struct StatementView {
    /// `signed`, `tests`, `scan`, `approval`, `soak`, `promotion`, or the name of a finding.
    pub kind: String,
    /// In short.
    pub summary: String,
    /// It says that something is not good.
    pub failed: bool,
    /// Who and when.
    #[serde(flatten)]
    pub said: SaidBy,
}

/// A statement that is not believed.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedView {
    /// Digest of its envelope.
    pub digest: Digest,
    /// Why.
    pub why: String,
}

/// A release and a channel.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelStanding {
    /// Channel.
    pub channel: ChannelName,
    /// It may be promoted there.
    pub ready: bool,
    /// Requirement by requirement.
    pub policy: Vec<Standing>,
}

/// Evidence of a kind of the user's own.
#[derive(Debug, Clone)]
pub struct NewFinding<'a> {
    /// Its name.
    pub name: &'a EvidenceName,
    /// Good or not.
    pub result: Verdict,
    /// In words.
    pub comment: &'a str,
    /// Files to keep with it.
    pub attachments: &'a [PathBuf],
}

impl Plumb<'_> {
    /// What is known about a release, and what channels still ask for.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn evidence(&self, name: &ReleaseName) -> Result<EvidenceView, OpsError> {
        let release = self.read_release(name)?;
        let trust = self.trust_if_any(&name.app)?;
        let said = match &trust {
            Some(trust) => self.said_with(&release, trust)?,
            None => Said::default(),
        };
        let mut statements: Vec<&Statement> = said.statements.iter().collect();
        statements.sort_by_key(|statement| (statement.predicate.time_s(), statement.digest));
        let mut channels = Vec::new();
        for channel in self.definition_of(&release)?.channels.into_keys() {
            let policy = match trust.as_ref().filter(|_| said.is_signed()) {
                Some(trust) => {
                    let history = self.history(&name.app, &channel, trust)?;
                    self.standing((&release, &said), &channel, &history)?
                }
                None => Vec::new(),
            };
            let ready = said.is_signed() && policy.iter().all(|standing| standing.missing.is_none());
            channels.push(ChannelStanding { channel, ready, policy });
        }
        Ok(EvidenceView {
            release: name.clone(),
            statements: statements.into_iter().map(|statement| view(statement, &said)).collect(),
            refused: said
                .refused
                .iter()
                .map(|(digest, why)| RefusedView { digest: *digest, why: why.clone() })
                .collect(),
            channels,
        })
    }

    /// Approves a release, or takes an approval back.
    ///
    /// # Errors
    /// [`crate::TrustError`].
    pub fn approve(&self, name: &ReleaseName, result: Verdict, comment: &str) -> Result<Digest, OpsError> {
        let release = self.read_release(name)?;
        self.insist_signed(&release)?;
        let approved_on = plumb_trust::time::text(clock::now_s());
        self.vouch(
            &release,
            &Predicate::Approval(Approval { result, comment: comment.to_owned(), approved_on }),
        )
    }

    /// Adds evidence of a kind of the user's own.
    ///
    /// # Errors
    /// [`OpsError::Io`], [`crate::TrustError`].
    pub fn add_finding(&self, name: &ReleaseName, finding: &NewFinding<'_>) -> Result<Digest, OpsError> {
        let release = self.read_release(name)?;
        let mut attachments = Vec::new();
        for path in finding.attachments {
            attachments.push(self.attach(path)?);
        }
        self.store.sync()?;
        let predicate = Predicate::Finding(Finding {
            name: finding.name.clone(),
            result: finding.result,
            comment: finding.comment.to_owned(),
            attachments,
            found_on: plumb_trust::time::text(clock::now_s()),
        });
        self.vouch(&release, &predicate)
    }

    fn attach(&self, path: &Path) -> Result<Resource, OpsError> {
        let file = std::fs::File::open(path).map_err(io("read", path))?;
        let size = file.metadata().map_err(io("read", path))?.len();
        if size > ATTACHMENT_BYTES {
            return Err(OpsError::TooLarge { path: path.to_owned(), limit_bytes: ATTACHMENT_BYTES });
        }
        let (digest, _) = self.store.put_reader(&mut std::io::Read::take(file, ATTACHMENT_BYTES))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Resource::new(name, &digest))
    }

    /// Says how long a deployment has run its release without a restart.
    ///
    /// # Errors
    /// [`OpsError::NotSoaking`] if an instance is not ready, or was started again.
    pub fn soak(&self, deployment: &DeploymentName) -> Result<(ReleaseName, u64), OpsError> {
        let current = self.known(deployment)?.current;
        let name = current.ok_or_else(|| OpsError::NotRunning { deployment: deployment.clone() })?;
        let release = self.read_release(&name)?;
        let views = self.ps(Some(deployment), false)?;
        let instances = views.iter().flat_map(|view| &view.instances);
        let mut seconds = u64::MAX;
        for instance in instances {
            let refuse = |why: String| OpsError::NotSoaking {
                deployment: deployment.clone(),
                why: format!("{}: {why}", instance.name),
            };
            if instance.state != "ready" {
                return Err(refuse(format!("it is {}", instance.state)));
            }
            if let Some(service) = instance.services.iter().find(|service| service.restarts > 0) {
                return Err(refuse(format!(
                    "service {} was restarted {} times",
                    service.name, service.restarts
                )));
            }
            if instance.release != name.to_string()
                && !self.same_boot(&release, &instance.release, &instance.machine)?
            {
                return Err(refuse(format!("it runs {}", instance.release)));
            }
            seconds = seconds.min(instance.uptime_ms.unwrap_or(0) / 1000);
        }
        if seconds == u64::MAX {
            return Err(OpsError::NotRunning { deployment: deployment.clone() });
        }
        let observed_on = plumb_trust::time::text(clock::now_s());
        let predicate = Predicate::Soak(Soak { deployment: deployment.clone(), seconds, observed_on });
        self.vouch(&release, &predicate)?;
        Ok((name, seconds))
    }

    /// An upgrade leaves instances running whose machine did not change: they run this release, too.
    fn same_boot(&self, release: &Release, other: &str, machine: &str) -> Result<bool, OpsError> {
        let Ok(other) = other.parse::<ReleaseName>() else { return Ok(false) };
        let other = self.read_release(&other)?;
        let find = |of: &Release| {
            of.content.machines.iter().find(|(name, _)| name.as_str() == machine).map(|m| m.1.image)
        };
        Ok(find(release).is_some() && find(release) == find(&other))
    }
}

fn view(statement: &Statement, said: &Said) -> StatementView {
    let summary = match &statement.predicate {
        Predicate::Provenance(_) => "built from its lock".to_owned(),
        Predicate::Tests(tests) => match tests.failed_tests.as_slice() {
            [] => format!("{} passed", tests.passed_tests.len()),
            failed => format!("failed: {}", failed.join(", ")),
        },
        Predicate::Scan(scan) => {
            format!("{} known, by data of {}", scan.scanner.result.len(), scan.scanner.db.last_update)
        }
        Predicate::Approval(approval) => approval.comment.clone(),
        Predicate::Soak(soak) => format!("{} s in {}", soak.seconds, soak.deployment),
        Predicate::Finding(finding) => finding.comment.clone(),
        Predicate::Promotion(promotion) => format!("to {}", promotion.channel),
    };
    StatementView {
        kind: statement.predicate.kind().to_owned(),
        summary,
        failed: statement.predicate.is_failed(),
        said: said.by(statement),
    }
}
