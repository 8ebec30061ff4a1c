//! `plumb down`.

use plumb_ops::OpsError;

use super::Session;
use crate::args::Down;
use crate::output::{err, out};
use crate::render::{self, bytes};

pub(super) fn run(session: &Session<'_>, arguments: &Down) -> Result<(), OpsError> {
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
    for volume in &outcome.kept {
        out!("  volume {}/{} stays ({})", volume.instance, volume.volume, bytes(volume.size_bytes));
    }
    Ok(())
}
