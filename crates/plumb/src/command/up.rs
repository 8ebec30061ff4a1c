//! `plumb up`, `plumb upgrade`, `plumb rollback`.

use plumb_ops::{ConfigChange, DataChoice, InstanceTimings, OpsError, Start, UpOptions, UpOutcome};
use serde::Serialize;

use super::{Session, plan};
use crate::args::{Assignment, Rollback, Up, Upgrade};
use crate::output::out;
use crate::render::{self, Finished};

pub(super) fn up(session: &Session<'_>, arguments: &Up) -> Result<(), OpsError> {
    let start = Start::parse(&arguments.what)?;
    let mut set = match &arguments.config {
        Some(path) => plumb_ops::read_settings(path)?,
        None => Vec::new(),
    };
    set.extend(arguments.set.iter().map(|Assignment(name, value)| (name.clone(), value.clone())));
    let options = UpOptions {
        name: arguments.name.clone(),
        note: arguments.message.clone(),
        set: ConfigChange { set, ..ConfigChange::default() },
        dry_run: arguments.dry_run,
    };
    let outcome = session.plumb.up(&start, &options)?;
    if arguments.timings && session.global.json {
        session.live.clear();
        let timings = Timings { commands: session.live.timings(), instances: &outcome.timings };
        render::json(&Timed { outcome: &outcome, timings });
        return Ok(());
    }
    print(session, &outcome, arguments.dry_run);
    if arguments.timings {
        session.live.print_timings();
        for instance in &outcome.timings {
            render::timings(instance);
        }
    }
    Ok(())
}

/// The outcome with `--timings --json`.
#[derive(Serialize)]
struct Timed<'a> {
    #[serde(flatten)]
    outcome: &'a UpOutcome,
    timings: Timings<'a>,
}

#[derive(Serialize)]
struct Timings<'a> {
    /// What the command had done when.
    commands: Vec<Finished>,
    /// Each start, by both clocks.
    instances: &'a [InstanceTimings],
}

pub(super) fn upgrade(session: &Session<'_>, arguments: &Upgrade) -> Result<(), OpsError> {
    let outcome =
        session.plumb.upgrade(&arguments.deployment, arguments.release.as_ref(), arguments.dry_run)?;
    print(session, &outcome, arguments.dry_run);
    Ok(())
}

pub(super) fn rollback(session: &Session<'_>, arguments: &Rollback) -> Result<(), OpsError> {
    let data = match &arguments.with_data {
        None => DataChoice::Keep,
        Some(None) => DataChoice::Newest,
        Some(Some(snapshot)) => DataChoice::Named(snapshot),
    };
    let wanted = (arguments.release.as_ref(), data);
    let outcome = session.plumb.rollback(&arguments.deployment, wanted, arguments.dry_run)?;
    print(session, &outcome, arguments.dry_run);
    Ok(())
}

pub(super) fn print(session: &Session<'_>, outcome: &UpOutcome, dry_run: bool) {
    session.live.clear();
    if session.global.json {
        render::json(outcome);
        return;
    }
    if dry_run {
        plan::print(outcome, true);
        return;
    }
    let config =
        outcome.configuration.map_or_else(String::new, |number| format!(" with configuration {number}"));
    out!("{} runs {}{config}", outcome.deployment, outcome.release);
    plan::print_restored(&outcome.plan);
    if let Some(kept) = &outcome.kept {
        out!("  {}", render::kept(kept, &outcome.deployment));
    }
    for url in &outcome.published {
        out!("  {} at {}", url.machine, url.address);
    }
}
