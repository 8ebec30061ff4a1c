//! `plumb test`.

use plumb_model::outcome::{CheckResult, Verdict};
use plumb_ops::{Cancel, Evidence, OpsError, Start, TestOptions, Tested};

use super::{Session, listen, variable};
use crate::args::{Assignment, Test};
use crate::output::{err, out};
use crate::render::{self, duration, table, tell};

/// Lines of a failed check's output that are shown; `--json` has all that was kept.
const OUTPUT_LINES: usize = 20;

pub(super) fn run(session: &Session<'_>, arguments: &Test) -> Result<(), OpsError> {
    let start = Start::parse(&arguments.what)?;
    // Until here Ctrl-C ends the command at once, as everywhere.
    let release = session.plumb.released(&start, &arguments.message)?;
    let cancel = Cancel::default();
    listen(&cancel)?;
    let options = TestOptions {
        only: arguments.only.clone(),
        keep: arguments.keep,
        set: arguments.set.iter().map(|Assignment(name, value)| (name.clone(), value.clone())).collect(),
        path: variable("PATH"),
    };
    let tested = session.plumb.test(&release, &options, &cancel)?;
    session.live.clear();
    if session.global.json {
        render::json(&tested);
    } else {
        print(&tested);
    }
    if tested.passed {
        return Ok(());
    }
    let (failed, skipped) = tested.troubles();
    Err(OpsError::ChecksFailed { release, failed, skipped, all: tested.outcome.results.len() })
}

fn print(tested: &Tested) {
    let outcome = &tested.outcome;
    let mut rows = table(&["CHECK", "WHERE", "RESULT", "TIME"]);
    for result in &outcome.results {
        rows.add_row([
            result.check.to_string(),
            result.place.to_string(),
            word(result),
            if result.tries == 0 { String::new() } else { duration(result.duration_ms) },
        ]);
    }
    out!("{rows}");
    outcome.results.iter().for_each(explain);
    let count = outcome.results.len();
    if tested.passed {
        let part = if outcome.is_complete() { "" } else { " that were asked for" };
        out!("\n{}: all {count} checks{part} passed", outcome.release);
    }
    out!("outcome {}", tested.object);
    match &tested.evidence {
        Evidence::Signed { .. } => {
            out!("signed as evidence; `plumb evidence {}` shows all of it", outcome.release)
        }
        Evidence::None { why } => out!("no evidence: {why}"),
    }
    if let Some(name) = &tested.kept {
        err!("{name} runs on; `plumb down {name} --volumes` takes it away");
        for endpoint in &tested.published {
            err!("  {} at {}", endpoint.machine, endpoint.address);
        }
    }
}

fn word(result: &CheckResult) -> String {
    let tries = if result.tries > 1 { format!(" (try {})", result.tries) } else { String::new() };
    match result.verdict {
        Verdict::Passed => format!("passed{tries}"),
        Verdict::Failed { .. } => format!("FAILED{tries}"),
        Verdict::Skipped { .. } => "not tried".to_owned(),
    }
}

/// Why a check failed, and the end of what it said.
fn explain(result: &CheckResult) {
    let reason = match &result.verdict {
        Verdict::Passed => return,
        Verdict::Failed { reason } | Verdict::Skipped { reason } => reason,
    };
    out!();
    tell(0, &format!("{} ({}): {reason}", result.check, result.place));
    let lines: Vec<&str> = result.output.lines().collect();
    for line in &lines[lines.len().saturating_sub(OUTPUT_LINES)..] {
        out!("  | {line}");
    }
}
