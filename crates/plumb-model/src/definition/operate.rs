//! How the instances of a machine are replaced, and what is done if one is not well.

use super::diagnostic::{Report, quoted};
use super::table::Table;
use super::value;
use crate::release::{Canary, Repair, Rolling, Watch};

/// Longest `min_ready`: an upgrade that waits longer between two batches is a soak, and evidence of that is recorded.
const MAX_MIN_READY_MS: u64 = 3_600_000;

/// Longest time that the first instances are watched: an upgrade is a command that somebody waits for.
const MAX_CANARY_MS: u64 = 24 * 3_600_000;

/// Longest time that an instance may be not ready before something is done.
const MAX_UNREADY_MS: u64 = 3_600_000;

/// `rolling = { max_unavailable = 2, min_ready = "10s", canary = { instances = 1, for = "10min" } }`.
pub(super) fn read_rolling(table: &Table<'_>, instances: u64, report: &mut Report<'_>) -> Rolling {
    const EXAMPLE: &str = "rolling = { max_unavailable = 2, min_ready = \"10s\" }";
    let mut rolling = Rolling::default();
    let Some(table) = table.get("rolling").and_then(|field| field.table(EXAMPLE, report)) else {
        return rolling;
    };
    table.allow(&["max_unavailable", "min_ready", "canary"], report);
    if let Some(field) = table.get("max_unavailable") {
        let number = field.integer(1..=instances, report).and_then(|number| u32::try_from(number).ok());
        rolling.max_unavailable = number.unwrap_or(rolling.max_unavailable);
    }
    if let Some(field) = table.get("min_ready") {
        rolling.min_ready_ms =
            value::duration_ms(&field, MAX_MIN_READY_MS, report).unwrap_or(rolling.min_ready_ms);
    }
    rolling.canary = read_canary(&table, instances, report);
    rolling
}

fn read_canary(table: &Table<'_>, instances: u64, report: &mut Report<'_>) -> Option<Canary> {
    const EXAMPLE: &str = "canary = { instances = 1, for = \"10min\" }";
    let table = table.get("canary").and_then(|field| field.table(EXAMPLE, report))?;
    table.allow(&["instances", "for"], report);
    let number = match table.get("instances") {
        Some(field) => field.integer(1..=instances, report)?,
        None => 1,
    };
    let time = table.required("for", "\"10min\"", report)?;
    let for_ms = value::duration_ms(&time, MAX_CANARY_MS, report)?;
    Some(Canary { instances: u32::try_from(number).ok()?, for_ms })
}

/// `watch = { repair = "report", unready = "2min" }`.
pub(super) fn read_watch(table: &Table<'_>, report: &mut Report<'_>) -> Watch {
    const EXAMPLE: &str = "watch = { repair = \"report\", unready = \"2min\" }";
    let mut watch = Watch::default();
    let Some(table) = table.get("watch").and_then(|field| field.table(EXAMPLE, report)) else {
        return watch;
    };
    table.allow(&["repair", "unready"], report);
    if let Some(field) = table.get("repair") {
        match field.text("repair = \"restart\"", report) {
            Some("restart") => watch.repair = Repair::Restart,
            Some("report") => watch.repair = Repair::Report,
            Some(other) => {
                report
                    .add(&field.span, format!("{}: {} is nothing that is done", field.what(), quoted(other)))
                    .hint("Write `\"restart\"` to have it started again, or `\"report\"` to be told.");
            }
            None => {}
        }
    }
    if let Some(field) = table.get("unready") {
        watch.unready_ms = value::duration_ms(&field, MAX_UNREADY_MS, report).unwrap_or(watch.unready_ms);
    }
    watch
}
