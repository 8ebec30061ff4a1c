//! How values become text: tables, sizes, times, errors.

mod live;
pub mod page;
pub mod passphrase;

use std::error::Error as _;
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use plumb_guest_proto::ServiceState;
use plumb_model::DeploymentName;
use plumb_ops::{ConfigError, InstanceTimings, KeptSet, OpsError, Stands};
use serde::Serialize;

use crate::output::{self, err, out};

pub use live::{Finished, Live};

/// Our bug.
pub const EXIT_BUG: u8 = 70;
/// A bad command line, as clap has it.
const EXIT_USAGE: u8 = 2;
/// A signature, digest or date did not hold.
const EXIT_VERIFICATION: u8 = 3;
/// Some of it was done, and it could not be taken back.
const EXIT_PARTLY: u8 = 4;

/// Prints a value as JSON on standard output.
pub fn json<T: Serialize>(value: &T) {
    output::json(value);
}

/// Prints an error with its causes, the end of a console where there is one, and hints. Returns the exit code.
pub fn failure(error: &OpsError, as_json: bool) -> ExitCode {
    let mut causes = Vec::new();
    let console = console_of(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if causes.last() != Some(&text) && text != error.to_string() {
            causes.push(text);
        }
        source = cause.source();
    }
    if as_json
        && matches!(
            error,
            OpsError::Unverified { .. }
                | OpsError::ChecksFailed { .. }
                | OpsError::StoreDamaged { .. }
                | OpsError::DiskFull { .. }
        )
    {
        // The report on standard output is the answer, and a second document behind it would not be JSON.
    } else if as_json {
        let mut told = serde_json::json!({
            "error": error.to_string(), "causes": causes, "hints": error.hints(), "console": console,
        });
        let stands = stands_of(error);
        if !stands.is_empty() {
            told["stands"] = serde_json::json!(stands);
        }
        json(&told);
    } else if let OpsError::Definition(errors) = error {
        err!("{errors}");
    } else {
        err!("error: {error}");
        for cause in &causes {
            err!("caused by: {cause}");
        }
        if let Some(lines) = console.filter(|lines| !lines.is_empty()) {
            err!("  the end of its console:");
            for line in lines {
                err!("  | {line}");
            }
        }
        let stands = stands_of(error);
        if !stands.is_empty() {
            err!("  how it stands:");
        }
        for Stands { instance, release, state } in stands {
            err!("  {instance:<12} {release:<12} {state}");
        }
        for hint in error.hints() {
            err!("hint: {hint}");
        }
    }
    match error {
        OpsError::Stranded { .. } | OpsError::Stopped { .. } | OpsError::NotWhole { .. } => {
            ExitCode::from(EXIT_PARTLY)
        }
        OpsError::Fetch(error) if error.is_verification() => ExitCode::from(EXIT_VERIFICATION),
        OpsError::Store(error) if error.is_verification() => ExitCode::from(EXIT_VERIFICATION),
        OpsError::Trust(error) if error.is_verification() => ExitCode::from(EXIT_VERIFICATION),
        OpsError::Transfer(error) if error.is_verification() => ExitCode::from(EXIT_VERIFICATION),
        OpsError::Document { .. }
        | OpsError::Unverified { .. }
        | OpsError::StoreDamaged { .. }
        | OpsError::ScriptsDiffer { .. } => ExitCode::from(EXIT_VERIFICATION),
        OpsError::Unattributed { .. } | OpsError::Unsound { .. } => ExitCode::from(EXIT_BUG),
        OpsError::Query { .. } => ExitCode::from(EXIT_USAGE),
        _ => ExitCode::FAILURE,
    }
}

fn stands_of(error: &OpsError) -> &[Stands] {
    match error {
        OpsError::Stopped { stands, .. } => stands,
        _ => &[],
    }
}

fn console_of(error: &OpsError) -> Option<Vec<String>> {
    match error {
        OpsError::NotReady { console, .. } => Some(console.clone()),
        OpsError::TaskFailed { output, .. } => Some(output.clone()),
        OpsError::Returned { source, .. }
        | OpsError::Stranded { source, .. }
        | OpsError::Stopped { source, .. }
        | OpsError::NotWhole { source, .. }
        | OpsError::Config(ConfigError::Returned { source, .. } | ConfigError::Edit { source, .. }) => {
            console_of(source)
        }
        _ => None,
    }
}

/// Where the time of a start went: when each part began, and how long it took.
pub fn timings(instance: &InstanceTimings) {
    out!("\n{}", timings_text(instance));
}

fn timings_text(instance: &InstanceTimings) -> String {
    let ready = instance.ready_ms.map_or_else(|| "not ready".to_owned(), |ms| format!("ready after {ms} ms"));
    let mut text = format!("{}, {ready}\n      at ms     took ms", instance.instance);
    for step in &instance.steps {
        let ms = |us: u64| us as f64 / 1000.0;
        text.push_str(&format!("\n{:>11.1} {:>11.1}  {}", ms(step.at_us), ms(step.took_us), step.what));
    }
    text
}

/// A table that fits the terminal.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Columns that text fits into.
pub const COLUMNS: usize = 80;

/// Breaks between words so that `indent` and each line fit [`COLUMNS`]; a longer word stays whole.
pub fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if indent + line.chars().count() + 1 + word.chars().count() <= COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Prints in lines that fit a terminal; those after the first are indented by two more.
pub fn tell(indent: usize, text: &str) {
    for (index, line) in wrapped(text, indent + 2).into_iter().enumerate() {
        let indent = if index == 0 { indent } else { indent + 2 };
        out!("{:indent$}{line}", "");
    }
}

/// `44.4 MB`: decimal units, as disks and downloads are sold.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut scaled = count as f64;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// `1.9 s`, `4 min`, `3 h`, `12 d`.
pub fn duration(ms: u64) -> String {
    match ms / 1000 {
        0..=99 => format!("{:.1} s", ms as f64 / 1000.0),
        seconds @ 100..=5999 => format!("{} min", seconds / 60),
        seconds @ 6000..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86400),
    }
}

/// What is kept beside a deployment's release, for how long, and what for.
pub fn kept(kept: &KeptSet, deployment: &DeploymentName) -> String {
    let KeptSet { release, left_ms, .. } = kept;
    match left_ms {
        0 => format!("{release} was kept beside it; `plumb reap` takes it away, as `plumb watch` does"),
        left_ms => format!(
            "{release} is kept beside it for {}; `plumb rollback {deployment}` leads back to it at once",
            duration(*left_ms)
        ),
    }
}

/// `2026-11-23 10:00 UTC`.
pub fn time(seconds: i64) -> String {
    plumb_ops::utc(seconds, "%Y-%m-%d %H:%M UTC")
}

/// `10:00:07.123` (UTC), for log lines.
pub fn clock_time(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    format!("{}.{:03}", plumb_ops::utc(seconds, "%H:%M:%S"), ms % 1000)
}

/// One word, or a word and its reason.
pub fn service_state(state: &ServiceState) -> String {
    match state {
        ServiceState::Waiting => "waiting".to_owned(),
        ServiceState::Starting => "starting".to_owned(),
        ServiceState::Started => "started".to_owned(),
        ServiceState::Ready => "ready".to_owned(),
        ServiceState::Done => "done".to_owned(),
        ServiceState::Backoff { reason, delay_ms } => {
            format!("restarts in {} ({reason})", duration(*delay_ms))
        }
        ServiceState::Failed { reason } => format!("failed: {reason}"),
        ServiceState::Stopping => "stopping".to_owned(),
        ServiceState::Stopped => "stopped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped() {
        assert_eq!(wrapped("one two three", 73), ["one two", "three"]);
        assert_eq!(wrapped("", 0), [""]);
    }

    #[test]
    fn timings_are_a_table() {
        let step = |what: &str, at_us, took_us| plumb_ops::TimingStep { what: what.into(), at_us, took_us };
        let mut instance = InstanceTimings {
            instance: "web-1".into(),
            ready_ms: Some(1893),
            steps: vec![step("qemu", 0, 83_000), step("kernel", 101_000, 912_345)],
        };
        assert_eq!(
            timings_text(&instance),
            "web-1, ready after 1893 ms\n      at ms     took ms\n        0.0        83.0  qemu\n      101.0       912.3  kernel"
        );
        instance.ready_ms = None;
        assert!(timings_text(&instance).starts_with("web-1, not ready\n"));
    }

    #[test]
    fn sizes_and_times() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1000), bytes(44_371_968)],
            ["0 B", "999 B", "1.0 kB", "44.4 MB"]
        );
        assert_eq!(bytes(999_600), "1.0 MB");
        assert_eq!([duration(1900), duration(240_000), duration(7_300_000)], ["1.9 s", "4 min", "2 h"]);
        assert_eq!(time(0), "1970-01-01 00:00 UTC");
        assert_eq!(clock_time(1_234), "00:00:01.234");
    }
}
