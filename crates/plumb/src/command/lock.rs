//! `plumb lock`.

use plumb_ops::{OpsError, Project, Update};

use super::Session;
use crate::args::Lock;
use crate::output::{err, out};
use crate::render;

pub(super) fn run(session: &Session<'_>, arguments: &Lock) -> Result<(), OpsError> {
    let project = Project::load(&arguments.folder)?;
    if arguments.check {
        let packages = session.plumb.check_lock(&project)?;
        if session.global.json {
            render::json(&serde_json::json!({ "fits": true, "packages": packages }));
        } else {
            out!("{} fits the definition ({packages} packages)", project.lock_path().display());
        }
        return Ok(());
    }
    let update = match arguments.update.as_slice() {
        [] => Update::Keep,
        [all] if all == "*" => Update::All,
        names => Update::Packages(names.to_vec()),
    };
    let outcome = session.plumb.lock(&project, &update, arguments.dry_run)?;
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
        return Ok(());
    }
    for note in &outcome.notes {
        err!("note: {note}");
    }
    for change in &outcome.changes {
        match (&change.from, &change.to) {
            (None, Some(to)) => out!("+ {} {to}", change.package),
            (Some(from), None) => out!("- {} {from}", change.package),
            (Some(from), Some(to)) => out!("~ {} {from} -> {to}", change.package),
            (None, None) => {}
        }
    }
    let path = project.lock_path();
    match (outcome.changed, arguments.dry_run) {
        (false, _) => err!("{} is up to date: {} packages", path.display(), outcome.packages),
        (true, false) => err!("{}: {} packages", path.display(), outcome.packages),
        (true, true) => {
            err!("{} would have {} packages; nothing was written", path.display(), outcome.packages)
        }
    }
    Ok(())
}
