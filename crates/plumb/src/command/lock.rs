//! `plumb lock`.

use std::io::{BufRead as _, IsTerminal as _};

use plumb_ops::{LockOutcome, OpsError, Project, Update};

use super::Session;
use crate::args::Lock;
use crate::output::{err, out};
use crate::render::{self, table};

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
    let update = update(arguments);
    // Where a person looks on, an update is shown before it is written.
    let asks = update != Update::Keep
        && !arguments.yes
        && !arguments.dry_run
        && !session.global.json
        && std::io::stdin().is_terminal()
        && std::io::stderr().is_terminal();
    let outcome = session.plumb.lock(&project, &update, arguments.dry_run || asks)?;
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
        return Ok(());
    }
    print(&outcome);
    let path = project.lock_path();
    if !outcome.changed {
        err!("{} is up to date: {} packages", path.display(), outcome.packages);
    } else if arguments.dry_run || asks && !agreed() {
        err!("{} would have {} packages; nothing was written", path.display(), outcome.packages);
    } else {
        if asks {
            session.plumb.write_lock(&project, &outcome)?;
        }
        err!("{}: {} packages", path.display(), outcome.packages);
    }
    Ok(())
}

fn update(arguments: &Lock) -> Update {
    let named: Vec<String> =
        arguments.update.iter().filter(|name| *name != "*").chain(&arguments.package).cloned().collect();
    if arguments.security {
        Update::Security
    } else if arguments.update.iter().any(|name| name == "*") {
        Update::All
    } else if named.is_empty() {
        Update::Keep
    } else {
        Update::Packages(named)
    }
}

fn print(outcome: &LockOutcome) {
    for note in &outcome.notes {
        err!("note: {note}");
    }
    if outcome.changes.is_empty() {
        return;
    }
    let mut rows = table(&["", "PACKAGE", "BEFORE", "NOW", "FROM", "MACHINES"]);
    for change in &outcome.changes {
        let sign = match (&change.from, &change.to) {
            (None, _) => "+",
            (_, None) => "-",
            _ => "~",
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let machines: Vec<&str> = change.machines.iter().map(|machine| machine.as_str()).collect();
        rows.add_row([
            sign.to_owned(),
            change.package.clone(),
            text(&change.from),
            text(&change.to),
            text(&change.suite),
            machines.join(", "),
        ]);
    }
    out!("{rows}");
}

fn agreed() -> bool {
    err!("Write it? [Y/n]");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    // Nothing at all, an end of the input, is no consent.
    matches!(read, Ok(1..)) && matches!(line.trim().to_lowercase().as_str(), "" | "y" | "yes")
}
