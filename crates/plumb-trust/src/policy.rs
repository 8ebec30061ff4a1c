//! Does a release have what a channel asks for? (Decided from verified statements alone; the time is an argument.)

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::definition::{ChannelPolicy, Requirement};
use plumb_model::{Digest, SignerName};
use serde::Serialize;

use crate::key::KeyId;
use crate::statement::{Predicate, Scan, Statement, Verdict};

/// How far a statement's time may lie ahead of this clock, seconds: clocks of people who work together differ by less.
const CLOCK_SKEW_S: i64 = 300;

/// Names in a sentence; `plumb evidence` has all.
const NAMES: usize = 4;

/// What is known about a release.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Everything that trusted keys said about it.
    pub statements: &'a [Statement],
    /// Names of the trusted keys.
    pub names: &'a BTreeMap<KeyId, SignerName>,
    /// Now, seconds since 1970.
    pub now_s: i64,
}

/// One requirement and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The requirement, as the definition writes it; `signers` for who may sign at all.
    pub requirement: String,
    /// Why it is not met; `None` if it is.
    pub missing: Option<String>,
    /// The statements that meet it.
    pub evidence: Vec<Digest>,
}

impl Facts<'_> {
    /// Statements that count for `policy`: by an allowed signer, and not from the future. Oldest first.
    fn counting(&self, policy: &ChannelPolicy) -> Vec<&Statement> {
        let allowed = |statement: &&Statement| {
            policy.signers.is_empty()
                || statement
                    .by
                    .iter()
                    .filter_map(|key| self.names.get(key))
                    .any(|name| policy.signers.contains(name))
        };
        let past = |statement: &&Statement| statement.predicate.time_s() <= self.now_s + CLOCK_SKEW_S;
        let mut found: Vec<&Statement> = self.statements.iter().filter(allowed).filter(past).collect();
        // Times are whole seconds: of two in one, the one that says no counts.
        found.sort_by_key(|s| (s.predicate.time_s(), objections(&s.predicate), s.digest));
        found
    }
}

/// How a release stands with the policy of a channel: one entry per requirement, and one for the signers if they are
/// restricted.
#[must_use]
pub fn check(policy: &ChannelPolicy, facts: &Facts<'_>) -> Vec<Standing> {
    let counting = facts.counting(policy);
    let mut all = Vec::new();
    if !policy.signers.is_empty() {
        let signed: Vec<&&Statement> =
            counting.iter().filter(|s| matches!(s.predicate, Predicate::Provenance(_))).collect();
        let who = policy.signers.iter().map(SignerName::as_str).collect::<Vec<_>>().join(", ");
        all.push(Standing {
            requirement: "signers".to_owned(),
            missing: signed.is_empty().then(|| format!("the release is signed by none of {who}")),
            evidence: signed.iter().map(|statement| statement.digest).collect(),
        });
    }
    all.extend(policy.requires.iter().map(|requirement| {
        let outcome = one(requirement, &counting, facts);
        let (missing, evidence) = match outcome {
            Ok(evidence) => (None, evidence),
            Err(why) => (Some(why), Vec::new()),
        };
        Standing { requirement: requirement.to_string(), missing, evidence }
    }));
    all
}

/// The statements that meet a requirement, or why none does.
fn one(requirement: &Requirement, counting: &[&Statement], facts: &Facts<'_>) -> Result<Vec<Digest>, String> {
    match requirement {
        Requirement::Tests => newest(counting, "no tests ran", |predicate| match predicate {
            Predicate::Tests(tests) => {
                let failed = format!("the newest tests failed: {}", tests.failed_tests.join(", "));
                Some((tests.result != Verdict::Failed).then_some(()).ok_or(failed))
            }
            _ => None,
        }),
        Requirement::Scan { max_age_s } => {
            newest(counting, "it was not scanned", |predicate| match predicate {
                Predicate::Scan(scan) => Some(recent(scan, *max_age_s, facts.now_s)),
                _ => None,
            })
        }
        Requirement::Patched => newest(counting, "it was not scanned", |predicate| match predicate {
            Predicate::Scan(scan) => Some(patched(scan)),
            _ => None,
        }),
        Requirement::Soak { seconds } => soak(*seconds, counting),
        Requirement::Approval { count } => approvals(*count, counting, facts),
        Requirement::Channel { channel } => {
            let there = counting.iter().filter(
                |s| matches!(&s.predicate, Predicate::Promotion(promotion) if promotion.channel == *channel),
            );
            let found: Vec<Digest> = there.map(|statement| statement.digest).collect();
            if found.is_empty() { Err(format!("it never was in channel `{channel}`")) } else { Ok(found) }
        }
        Requirement::Finding { name } => {
            newest(counting, "there is no such evidence", |predicate| match predicate {
                Predicate::Finding(finding) if finding.name == *name => {
                    let failed = format!("the newest says: {}", finding.comment);
                    Some((finding.result != Verdict::Failed).then_some(()).ok_or(failed))
                }
                _ => None,
            })
        }
    }
}

/// The newest statement that `read` has an opinion about decides: an older success does not outlive a failure.
fn newest(
    counting: &[&Statement],
    none: &str,
    read: impl Fn(&Predicate) -> Option<Result<(), String>>,
) -> Result<Vec<Digest>, String> {
    let found =
        counting.iter().rev().find_map(|statement| read(&statement.predicate).map(|good| (statement, good)));
    let (statement, good) = found.ok_or_else(|| none.to_owned())?;
    good.map(|()| vec![statement.digest])
}

/// How much a statement says against a release.
fn objections(predicate: &Predicate) -> usize {
    match predicate {
        Predicate::Scan(scan) => scan.scanner.result.iter().filter(|one| one.is_fixable()).count(),
        other => usize::from(other.is_failed()),
    }
}

/// Data no older than asked for. Data of tomorrow would stay fresh for as long as its clock was wrong.
fn recent(scan: &Scan, max_age_s: Option<u64>, now_s: i64) -> Result<(), String> {
    let Some(max_age_s) = max_age_s else { return Ok(()) };
    let data_s = crate::time::seconds(&scan.scanner.db.last_update).unwrap_or(0);
    let age_s = now_s.saturating_sub(data_s);
    if age_s < -CLOCK_SKEW_S {
        return Err(format!(
            "the newest scan used data from the future, {} ahead",
            span(age_s.saturating_neg())
        ));
    }
    if age_s > i64::try_from(max_age_s).unwrap_or(i64::MAX) {
        return Err(format!("the newest scan used data that is {} old", span(age_s)));
    }
    Ok(())
}

/// Nothing that a newer version of a package mends.
fn patched(scan: &Scan) -> Result<(), String> {
    let open: Vec<&str> =
        scan.scanner.result.iter().filter(|one| one.is_fixable()).map(|one| one.id.as_str()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let named = open.iter().take(NAMES).copied().collect::<Vec<_>>().join(", ");
    let more = if open.len() > NAMES { ", …" } else { "" };
    Err(format!("the newest scan found {} that newer packages mend: {named}{more}", open.len()))
}

fn soak(wanted_s: u64, counting: &[&Statement]) -> Result<Vec<Digest>, String> {
    let runs = counting.iter().filter_map(|statement| match &statement.predicate {
        Predicate::Soak(soak) => Some((soak.seconds, statement.digest)),
        _ => None,
    });
    match runs.max() {
        None => Err("it was not seen running".to_owned()),
        Some((seconds, digest)) if seconds >= wanted_s => Ok(vec![digest]),
        Some((seconds, _)) => Err(format!("it ran for {}", span(i64::try_from(seconds).unwrap_or(i64::MAX)))),
    }
}

/// Each person counts once, by the newest thing said; who made the release does not count: four eyes, not two.
fn approvals(wanted: u32, counting: &[&Statement], facts: &Facts<'_>) -> Result<Vec<Digest>, String> {
    let provenance = facts.statements.iter().filter(|s| matches!(s.predicate, Predicate::Provenance(_)));
    let makers: BTreeSet<&KeyId> = provenance.flat_map(|statement| &statement.by).collect();
    let mut by: BTreeMap<&KeyId, (Verdict, Digest)> = BTreeMap::new();
    for statement in counting {
        if let Predicate::Approval(approval) = &statement.predicate {
            by.extend(statement.by.iter().map(|key| (key, (approval.result, statement.digest))));
        }
    }
    let of_maker = by.keys().any(|key| makers.contains(*key));
    let given: Vec<Digest> = by
        .iter()
        .filter(|(key, (verdict, _))| !makers.contains(**key) && *verdict != Verdict::Failed)
        .map(|(_, (_, digest))| *digest)
        .collect();
    if given.len() >= wanted as usize {
        return Ok(given);
    }
    let own = if of_maker { "; the approval of who made the release does not count" } else { "" };
    Err(format!("{} of {wanted} approved{own}", given.len()))
}

/// `3 d`, `5 h`, `20 min`, `4 s`.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
