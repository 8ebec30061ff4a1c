//! `plumb gc`, `plumb pin`, `plumb unpin`.

use plumb_ops::{Collection, Documents, Mode, OpsError, Policy, Reason};

use super::Session;
use crate::args::{Gc, Pin, Unpin};
use crate::output::{err, out};
use crate::render::{self, bytes, table, tell};

pub(super) fn run(session: &Session<'_>, arguments: &Gc) -> Result<(), OpsError> {
    let policy = Policy {
        newest: arguments.newest,
        young_s: arguments.older_than,
        documents: if arguments.releases { Documents::Remove } else { Documents::Keep },
    };
    let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Do };
    let outcome = session.plumb.collect(&policy, mode)?;
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
    } else {
        print(&outcome, policy.documents);
    }
    session.plumb.check_collected(&outcome)
}

fn print(outcome: &Collection, documents: Documents) {
    releases(outcome, documents);
    kinds(outcome);
    for problem in &outcome.problems {
        err!("warning: {problem}");
    }
    if !outcome.problems.is_empty() {
        err!("hint: `plumb fsck` names all damage and repairs what can be");
    }
    if outcome.dry_run {
        out!("\n{}; nothing was changed", bytes(outcome.bytes_before));
    } else {
        out!("\n{} before, {} now", bytes(outcome.bytes_before), bytes(outcome.bytes_after));
    }
}

/// Which releases stay and why, and which do not.
fn releases(outcome: &Collection, documents: Documents) {
    let mut rows = table(&["RELEASE", "STAYS BECAUSE"]);
    for collected in outcome.releases.iter().rev() {
        let reasons: Vec<String> = collected.reasons.iter().map(Reason::to_string).collect();
        let why = match (reasons.is_empty(), documents) {
            (false, _) => reasons.join(", "),
            (true, Documents::Keep) => format!("its images go ({})", bytes(collected.bytes)),
            (true, Documents::Remove) => format!("it goes ({} of images)", bytes(collected.bytes)),
        };
        rows.add_row([collected.release.to_string(), why]);
    }
    out!("{rows}\n");
}

fn kinds(outcome: &Collection) {
    let mut rows = table(&["KIND", "GO", "", "FOLDED", "", "STAY", ""]);
    for row in &outcome.kinds {
        rows.add_row([
            row.kind.to_string(),
            row.gone_objects.to_string(),
            bytes(row.gone_bytes),
            row.folded_objects.to_string(),
            bytes(row.folded_bytes),
            row.stay_objects.to_string(),
            bytes(row.stay_bytes),
        ]);
    }
    out!("{rows}");
    if outcome.entries + outcome.leftovers > 0 {
        out!("{} notes and {} unfinished or damaged files removed", outcome.entries, outcome.leftovers);
    }
}

pub(super) fn pin(session: &Session<'_>, arguments: &Pin) -> Result<(), OpsError> {
    let Some(release) = &arguments.release else {
        let pins = session.plumb.pinned()?;
        if session.global.json {
            render::json(&pins);
        } else {
            pins.iter().for_each(|pin| out!("{pin}"));
        }
        return Ok(());
    };
    let release = &session.plumb.named(release)?;
    let changed = session.plumb.pin(release)?;
    said(
        session,
        "pinned",
        changed,
        &format!("{release} {}", if changed { "pinned" } else { "was pinned already" }),
    );
    Ok(())
}

pub(super) fn unpin(session: &Session<'_>, arguments: &Unpin) -> Result<(), OpsError> {
    let release = &session.plumb.named(&arguments.release)?;
    let changed = session.plumb.unpin(release)?;
    said(
        session,
        "unpinned",
        changed,
        &format!("{release} {}", if changed { "unpinned" } else { "was not pinned" }),
    );
    Ok(())
}

fn said(session: &Session<'_>, what: &str, changed: bool, text: &str) {
    if session.global.json {
        render::json(&serde_json::json!({ what: changed }));
    } else {
        tell(0, text);
    }
}
