//! `plumb up`, `plumb upgrade`, `plumb rollback`.

use plumb_ops::{OpsError, Start, UpOutcome};

use super::Session;
use crate::args::{Rollback, Up, Upgrade};
use crate::render;

pub(super) fn up(session: &Session<'_>, arguments: &Up) -> Result<(), OpsError> {
    let start = Start::parse(&arguments.what)?;
    let outcome = session.plumb.up(&start, arguments.name.as_ref(), &arguments.message, arguments.dry_run)?;
    print(session, &outcome, arguments.dry_run);
    if arguments.timings && !session.global.json {
        session.live.print_timings();
    }
    Ok(())
}

pub(super) fn upgrade(session: &Session<'_>, arguments: &Upgrade) -> Result<(), OpsError> {
    let outcome =
        session.plumb.upgrade(&arguments.deployment, arguments.release.as_ref(), arguments.dry_run)?;
    print(session, &outcome, arguments.dry_run);
    Ok(())
}

pub(super) fn rollback(session: &Session<'_>, arguments: &Rollback) -> Result<(), OpsError> {
    let outcome =
        session.plumb.rollback(&arguments.deployment, arguments.release.as_ref(), arguments.dry_run)?;
    print(session, &outcome, arguments.dry_run);
    Ok(())
}

fn print(session: &Session<'_>, outcome: &UpOutcome, dry_run: bool) {
    session.live.clear();
    if session.global.json {
        render::json(outcome);
        return;
    }
    if dry_run {
        for step in &outcome.steps {
            println!("{step}");
        }
        eprintln!("dry run: nothing was changed");
        return;
    }
    println!("{} runs {}", outcome.deployment, outcome.release);
    for url in &outcome.published {
        println!("  {} at {}", url.machine, url.address);
    }
}
