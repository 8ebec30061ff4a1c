//! How the instances of a machine are replaced, and what is done if one is not well.

use std::collections::BTreeMap;

use super::diagnostic::{Report, quoted};
use super::machine::{absolute, account};
use super::service::{command_text, read_environment};
use super::table::Table;
use super::{Fence, Machine, TaskCommand, value};
use crate::release::{Canary, Repair, Rolling, Task, Watch, When};
use crate::{MachineName, TaskName};

/// Most tasks of one machine: each is waited for in every upgrade.
const MAX_TASKS: usize = 20;

/// How long a task may take unless it says otherwise.
const DEFAULT_TASK_MS: u64 = 10 * 60_000;

/// Longest time of a task: a migration of a large database, over night.
const MAX_TASK_MS: u64 = 24 * 3_600_000;

/// Longest `min_ready`: an upgrade that waits longer between two batches is a soak, and evidence of that is recorded.
const MAX_MIN_READY_MS: u64 = 3_600_000;

/// Longest time that the first instances are watched: an upgrade is a command that somebody waits for.
const MAX_CANARY_MS: u64 = 24 * 3_600_000;

/// Longest time that an instance may be not ready before something is done.
const MAX_UNREADY_MS: u64 = 3_600_000;

/// Most starts in a row before an instance is given up: some hours of trying, and no more than whoever watches remembers.
const MAX_TRIES: u64 = 50;

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
    table.allow(&["repair", "tries", "unready"], report);
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
    if let Some(tries) = table.get("tries").and_then(|field| field.integer(1..=MAX_TRIES, report)) {
        watch.tries = u32::try_from(tries).unwrap_or(watch.tries);
    }
    if let Some(field) = table.get("unready") {
        watch.unready_ms = value::duration_ms(&field, MAX_UNREADY_MS, report).unwrap_or(watch.unready_ms);
    }
    watch
}

/// `task.migrate = { exec = "/srv/api/migrate", user = "api", when = "before", timeout = "10min" }`.
pub(super) fn read_tasks(table: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<TaskName, TaskCommand> {
    const EXAMPLE: &str = "task.migrate = { exec = \"/srv/api/migrate\" }";
    let mut tasks = BTreeMap::new();
    let Some(field) = table.get("task") else { return tasks };
    let Some(all) = field.table(EXAMPLE, report) else { return tasks };
    for (key, why) in [
        ("volume", "a task runs beside the instances, whose volumes it does not have"),
        ("init", "tasks need Plumb's own PID 1: systemd starts everything"),
    ] {
        let is_meant = table.get(key).is_some_and(|found| key == "volume" || found.is_systemd());
        if is_meant {
            report
                .add(&field.key, format!("`task` and `{key}`{}: {why}", table.inside()))
                .hint("Give the task to a machine that talks to this one, or make one for it.");
            return tasks;
        }
    }
    let fields = all.fields();
    if fields.len() > MAX_TASKS {
        report.add(&all.at, format!("{} tasks, but a machine has at most {MAX_TASKS}", fields.len()));
        return tasks;
    }
    for field in fields {
        let name = field.parsed_name::<TaskName>(report);
        let task = field.table(EXAMPLE, report).and_then(|table| read_task(&table, report));
        if let (Some(name), Some(task)) = (name, task) {
            tasks.insert(name, task);
        }
    }
    tasks
}

/// Without a fence there is no rollback that needs its data turned back.
pub(super) fn check_reverse(
    root: &Table<'_>,
    fence: Option<&Fence>,
    machines: &BTreeMap<MachineName, Machine>,
    report: &mut Report<'_>,
) {
    let Some(machines_key) = root.get("machine").filter(|_| fence.is_none()) else { return };
    for (machine, of) in machines {
        let idle = of.tasks.iter().filter(|(_, task)| task.task.when == When::Reverse);
        for (name, _) in idle {
            report
                .add(
                    &machines_key.key,
                    format!("task `{name}` of machine `{machine}` turns data back, but there is no `fence`"),
                )
                .hint("`fence = \"this\"` says that older releases cannot read the data of this one; then the task is what leads back.");
        }
    }
}

fn read_task(table: &Table<'_>, report: &mut Report<'_>) -> Option<TaskCommand> {
    table.allow(&["directory", "environment", "exec", "timeout", "user", "when"], report);
    let exec = table.required("exec", "\"/srv/api/migrate\"", report);
    let exec = exec.and_then(|field| command_text(&field, report));
    let user = table.get("user").and_then(|field| account(&field, report));
    let mut when = When::Before;
    if let Some(field) = table.get("when") {
        match field.text("when = \"before\"", report) {
            Some("before") => {}
            Some("after") => when = When::After,
            Some("reverse") => when = When::Reverse,
            Some(other) => {
                report
                    .add(&field.span, format!("{}: {} is no time of an upgrade", field.what(), quoted(other)))
                    .hint(
                        "Write `\"before\"` its machine is replaced, `\"after\"` the whole set is ready, or `\"reverse\"` before \
                         a rollback below the fence.",
                    );
            }
            None => {}
        }
    }
    let timeout = table.get("timeout").and_then(|field| value::duration_ms(&field, MAX_TASK_MS, report));
    let task = Task { when, timeout_ms: timeout.unwrap_or(DEFAULT_TASK_MS) };
    let environment = read_environment(table, report);
    let directory = table.get("directory").and_then(|field| absolute(&field, report));
    Some(TaskCommand { exec: exec?, user, environment, settings: BTreeMap::new(), directory, task })
}
