//! `plumb verify`.

use plumb_ops::{Difference, DifferenceKind, OpsError, Problem, Rebuilt};

use super::Session;
use crate::args::Verify;
use crate::output::out;
use crate::render::{self, bytes, tell};

/// Lines of differing files; `--json` has all.
const ROWS: usize = 20;

pub(super) fn run(session: &Session<'_>, arguments: &Verify) -> Result<(), OpsError> {
    let found = session.plumb.verify(&session.plumb.named(&arguments.release)?, arguments.rebuild)?;
    session.live.clear();
    if session.global.json {
        render::json(&found);
    } else {
        let by = if found.signed_by.is_empty() {
            String::new()
        } else {
            format!(", signed by {}", found.signed_by.join(", "))
        };
        out!("{}: {} objects, {}{by}", found.release, found.objects, bytes(found.bytes));
        found.problems.iter().for_each(problem);
        for restored in &found.restored {
            let machine =
                restored.machine.as_ref().map(|name| format!("machine {name}: ")).unwrap_or_default();
            tell(0, &format!("{machine}{}: built again and kept", restored.part));
        }
        found.rebuilt.iter().for_each(rebuilt);
    }
    if found.is_good() {
        return Ok(());
    }
    Err(OpsError::Unverified { release: found.release })
}

fn problem(problem: &Problem) {
    let machine = problem.machine.as_ref().map(|machine| format!("machine {machine}: ")).unwrap_or_default();
    tell(0, &format!("{machine}{}: {}", problem.part, problem.reason));
    for path in &problem.paths {
        tell(2, &format!("{path} differs"));
    }
}

fn rebuilt(machine: &Rebuilt) {
    if machine.parts.is_empty() {
        out!("machine {}: built again, the same bytes", machine.machine);
        return;
    }
    out!("machine {}: built again, other bytes: {}", machine.machine, machine.parts.join(", "));
    for cause in &machine.causes {
        tell(2, cause);
    }
    for difference in machine.differences.iter().take(ROWS) {
        tell(2, &line(difference));
    }
    match machine.differences.len() {
        0 if machine.parts.iter().any(|part| part == "root") => {
            tell(2, "the files are the same; the file system was written in another way");
        }
        count if count > ROWS => out!("  and {} more", count - ROWS),
        _ => {}
    }
}

fn line(difference: &Difference) -> String {
    let path = &difference.path;
    match &difference.what {
        DifferenceKind::Missing => format!("{path}: not there any more"),
        DifferenceKind::Added => format!("{path}: was not there"),
        DifferenceKind::Kind { before, after } => format!("{path}: {before} became {after}"),
        DifferenceKind::Content { before_bytes, after_bytes } if before_bytes == after_bytes => {
            format!("{path}: other content of the same length ({before_bytes} bytes)")
        }
        DifferenceKind::Content { before_bytes, after_bytes } => {
            format!("{path}: other content ({before_bytes} bytes, now {after_bytes})")
        }
        DifferenceKind::Target { before, after } => format!("{path}: led to `{before}`, now to `{after}`"),
        DifferenceKind::Mode { before, after } => format!("{path}: mode {before:04o}, now {after:04o}"),
        DifferenceKind::Owner { before, after } => {
            format!("{path}: owner {}:{}, now {}:{}", before.0, before.1, after.0, after.1)
        }
        DifferenceKind::Attributes => format!("{path}: other extended attributes"),
        DifferenceKind::Links => format!("{path}: other hard links"),
    }
}
