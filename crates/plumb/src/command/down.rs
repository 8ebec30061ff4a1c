//! `plumb down`.

use std::io::IsTerminal as _;

use plumb_ops::{DataError, OpsError};

use super::Session;
use crate::args::Down;
use crate::output::{err, out};
use crate::render::passphrase::answer;
use crate::render::{self, bytes};

pub(super) fn run(session: &Session<'_>, arguments: &Down) -> Result<(), OpsError> {
    if arguments.volumes && !arguments.dry_run && !arguments.yes {
        confirm(session, arguments)?;
    }
    let outcome = session.plumb.down(&arguments.deployment, arguments.volumes, arguments.dry_run)?;
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
        return Ok(());
    }
    if arguments.dry_run {
        for step in &outcome.steps {
            out!("{step}");
        }
        err!("dry run: nothing was changed");
        return Ok(());
    }
    out!("{} is down", outcome.deployment);
    if arguments.volumes {
        for step in outcome.steps.iter().filter_map(|step| step.strip_prefix("destroy ")) {
            out!("  {step} is destroyed");
        }
    }
    for volume in &outcome.kept {
        out!("  volume {}/{} stays ({})", volume.instance, volume.volume, bytes(volume.size_bytes));
    }
    for snapshot in &outcome.kept_snapshots {
        out!("  snapshot {snapshot} stays");
    }
    Ok(())
}

/// On a terminal whoever destroys data sees which, and says so. A script has said `--volumes`.
fn confirm(session: &Session<'_>, arguments: &Down) -> Result<(), OpsError> {
    if !std::io::stdin().is_terminal() || session.global.json {
        return Ok(());
    }
    let what = session.plumb.down(&arguments.deployment, true, true)?;
    session.live.clear();
    let all: Vec<&str> = what.steps.iter().filter_map(|step| step.strip_prefix("destroy ")).collect();
    if all.is_empty() {
        return Ok(());
    }
    err!("this destroys for good:");
    for one in &all {
        err!("  {one}");
    }
    let wanted = arguments.deployment.to_string();
    let given = answer(&format!("type `{wanted}` to go on: ")).unwrap_or_default();
    if given == wanted {
        Ok(())
    } else {
        Err(OpsError::Data(DataError::NotConfirmed { what: all.join(", "), wanted }))
    }
}
