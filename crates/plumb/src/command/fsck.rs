//! `plumb fsck`.

use plumb_ops::{Checkup, Damage, Mode, OpsError, Outcome};

use super::Session;
use crate::args::Fsck;
use crate::output::out;
use crate::render::{self, bytes, tell};

/// Damages that are listed; `--json` has all.
const ROWS: usize = 100;
/// Digits of a digest that people read.
const DIGITS: usize = 12;

pub(super) fn run(session: &Session<'_>, arguments: &Fsck) -> Result<(), OpsError> {
    let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Do };
    let found = session.plumb.check_store(mode)?;
    session.live.clear();
    if session.global.json {
        render::json(&found);
    } else {
        print(&found);
    }
    if found.is_good() {
        return Ok(());
    }
    let left =
        found.damages.iter().filter(|damage| matches!(damage.outcome, Outcome::Left | Outcome::Repairable));
    Err(OpsError::StoreDamaged { left: left.count() })
}

fn print(found: &Checkup) {
    for damage in found.damages.iter().take(ROWS) {
        line(damage);
    }
    if found.damages.len() > ROWS {
        out!("… and {} more; `--json` has all", found.damages.len() - ROWS);
    }
    for problem in &found.remotes {
        tell(0, problem);
    }
    if found.kept_aside > 0 {
        out!("{} unfinished downloads or objects set aside are kept", found.kept_aside);
    }
    let good = if found.damages.is_empty() { ": all good" } else { "" };
    out!("{} objects, {}, {} releases{good}", found.objects, bytes(found.bytes), found.releases);
}

/// Digests by their first digits, as everywhere where people read them.
fn short(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(&part[..digits.min(DIGITS)]);
        out.push_str(&part[digits..]);
    }
    out
}

fn line(damage: &Damage) {
    tell(0, &short(&format!("{}: {}", damage.what, damage.reason)));
    if !damage.needed_by.is_empty() {
        let names: Vec<String> = damage.needed_by.iter().map(ToString::to_string).collect();
        tell(2, &format!("needed by {}", names.join(", ")));
    }
    match &damage.outcome {
        Outcome::Repaired(how) => tell(2, &format!("repaired: {how}")),
        Outcome::Repairable => tell(2, "`plumb fsck` without `--dry-run` tries to repair it"),
        Outcome::Left => tell(2, "not repaired"),
        Outcome::Harmless => tell(2, "harmless; it stays"),
    }
}
