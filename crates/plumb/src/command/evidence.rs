//! `plumb evidence`, `plumb approve`, `plumb soak`, `plumb sign`.

use plumb_ops::{NewFinding, OpsError, Verdict};

use super::Session;
use super::channel::standings;
use crate::args::{Approve, Evidence, EvidenceAction, EvidenceAdd, Sign, Soak};
use crate::output::{err, out};
use crate::render::{self, table};

pub(super) fn evidence(session: &Session<'_>, arguments: &Evidence) -> Result<(), OpsError> {
    match (&arguments.action, &arguments.release) {
        (Some(EvidenceAction::Add(add)), _) => self::add(session, add),
        (None, Some(release)) => show(session, release),
        // The help was printed.
        (None, None) => Ok(()),
    }
}

fn show(session: &Session<'_>, release: &plumb_model::release::ReleaseRef) -> Result<(), OpsError> {
    let found = session.plumb.evidence(&session.plumb.named(release)?)?;
    if session.global.json {
        render::json(&found);
        return Ok(());
    }
    if found.statements.is_empty() {
        out!("{}: nothing was said about it", found.release);
    } else {
        let mut rows = table(&["EVIDENCE", "WHAT", "BY", "WHEN"]);
        for statement in &found.statements {
            let what = if statement.failed {
                format!("FAILED {}", statement.summary)
            } else {
                statement.summary.clone()
            };
            let at = statement.said.at.clone().unwrap_or_default();
            rows.add_row([statement.kind.clone(), what, statement.said.by.join(", "), at]);
        }
        out!("{rows}");
    }
    for refused in &found.refused {
        err!("note: statement {} is not believed: {}", refused.digest.short(), refused.why);
    }
    for channel in &found.channels {
        out!("\n{}: {}", channel.channel, if channel.ready { "ready" } else { "not ready" });
        standings(&channel.policy);
    }
    Ok(())
}

fn add(session: &Session<'_>, arguments: &EvidenceAdd) -> Result<(), OpsError> {
    let release = session.plumb.named(&arguments.release)?;
    let finding = NewFinding {
        name: &arguments.name,
        result: if arguments.failed { Verdict::Failed } else { Verdict::Passed },
        comment: &arguments.message,
        attachments: &arguments.attach,
    };
    let digest = session.plumb.add_finding(&release, &finding)?;
    said(session, &release, &digest);
    Ok(())
}

pub(super) fn approve(session: &Session<'_>, arguments: &Approve) -> Result<(), OpsError> {
    let release = session.plumb.named(&arguments.release)?;
    let result = if arguments.withdraw { Verdict::Failed } else { Verdict::Passed };
    let digest = session.plumb.approve(&release, result, &arguments.message)?;
    said(session, &release, &digest);
    Ok(())
}

pub(super) fn soak(session: &Session<'_>, arguments: &Soak) -> Result<(), OpsError> {
    let (release, seconds) = session.plumb.soak(&arguments.deployment)?;
    session.live.clear();
    if session.global.json {
        render::json(&serde_json::json!({"release": release, "seconds": seconds}));
    } else {
        out!("{release} ran for {seconds} s in {} without a restart", arguments.deployment);
    }
    Ok(())
}

pub(super) fn sign(session: &Session<'_>, arguments: &Sign) -> Result<(), OpsError> {
    let signed = session.plumb.sign(&arguments.release)?;
    session.live.clear();
    if session.global.json {
        render::json(&signed);
    } else {
        out!("{} is signed by {}", arguments.release, signed.by.join(", "));
    }
    Ok(())
}

fn said(session: &Session<'_>, release: &plumb_model::release::ReleaseName, digest: &plumb_model::Digest) {
    session.live.clear();
    if session.global.json {
        render::json(&serde_json::json!({"release": release, "statement": digest}));
    } else {
        out!("{release}: statement {}", digest.short());
    }
}
