//! `plumb remote`, `plumb push`, `plumb pull`, `plumb clone`.

use plumb_ops::{Mode, OpsError, Pulled, Pushed, Reports, Supplies, Wanted};

use super::Session;
use crate::args::{Clone, Pull, Push, Remote, RemoteAction};
use crate::output::{err, out};
use crate::render::{self, bytes, table};

pub(super) fn remote(session: &Session<'_>, arguments: &Remote) -> Result<(), OpsError> {
    match &arguments.action {
        None => list(session),
        Some(RemoteAction::Add { name, address, endpoint }) => {
            let added = session.plumb.add_remote(name, &with_endpoint(address, endpoint.as_deref()))?;
            if session.global.json {
                render::json(&added);
            }
            Ok(())
        }
        Some(RemoteAction::Remove { name }) => session.plumb.remove_remote(name),
    }
}

fn list(session: &Session<'_>) -> Result<(), OpsError> {
    let remotes = session.plumb.remotes()?;
    if session.global.json {
        render::json(&remotes);
        return Ok(());
    }
    if remotes.is_empty() {
        err!("no remotes; `plumb remote add origin ADDRESS` names one");
        return Ok(());
    }
    let mut rows = table(&["REMOTE", "ADDRESS"]);
    for remote in remotes {
        rows.add_row([remote.name.to_string(), remote.address]);
    }
    out!("{rows}");
    Ok(())
}

pub(super) fn push(session: &Session<'_>, arguments: &Push) -> Result<(), OpsError> {
    let wanted = Wanted::parse(&arguments.what)?;
    let (supplies, mode) = (supplies(arguments.travel.with_packages), mode(arguments.travel.dry_run));
    let pushed = session.plumb.push(&wanted, arguments.remote.as_deref(), supplies, mode)?;
    session.live.clear();
    if session.global.json {
        render::json(&pushed);
        return Ok(());
    }
    print_pushed(&pushed, arguments.travel.dry_run);
    Ok(())
}

fn print_pushed(pushed: &Pushed, is_dry: bool) {
    out!("{}", pushed.release);
    if !pushed.changed {
        err!("`{}` has it already", pushed.remote);
        return;
    }
    for bundle in &pushed.bundles {
        let how = match &bundle.base {
            Some(base) => format!("as what differs from {base}"),
            None => "as a whole".to_owned(),
        };
        err!("{how}: {} for {}", bytes(bundle.bytes), bytes(pushed.release_bytes));
    }
    tell_supplies(pushed.supplies);
    tell_reports(&pushed.reports, &pushed.remote);
    let verb = if is_dry { "dry run: would send" } else { "sent" };
    err!("{verb} {} to `{}`", bytes(pushed.bytes), pushed.remote);
}

pub(super) fn pull(session: &Session<'_>, arguments: &Pull) -> Result<(), OpsError> {
    let wanted = Wanted::parse(&arguments.what)?;
    let (supplies, mode) = (supplies(arguments.travel.with_packages), mode(arguments.travel.dry_run));
    let pulled = session.plumb.pull(&wanted, arguments.remote.as_deref(), supplies, mode)?;
    finish(session, &pulled, arguments.travel.dry_run);
    Ok(())
}

pub(super) fn clone(session: &Session<'_>, arguments: &Clone) -> Result<(), OpsError> {
    let address = with_endpoint(&arguments.address, arguments.endpoint.as_deref());
    let (supplies, mode) = (supplies(arguments.travel.with_packages), mode(arguments.travel.dry_run));
    let place = (arguments.remote.as_ref(), address.as_str());
    let pulled =
        session.plumb.clone_app(place, (&arguments.app, arguments.trust.as_ref()), (supplies, mode))?;
    finish(session, &pulled, arguments.travel.dry_run);
    Ok(())
}

fn finish(session: &Session<'_>, pulled: &Pulled, is_dry: bool) {
    session.live.clear();
    if session.global.json {
        render::json(pulled);
        return;
    }
    out!("{}", pulled.release);
    for bundle in &pulled.bundles {
        let how = match &bundle.base {
            Some(base) => format!("what differs from {base}"),
            None => "from the whole".to_owned(),
        };
        err!("{}: {how}, {}", bundle.to, bytes(bundle.bytes));
    }
    tell_supplies(pulled.supplies);
    tell_reports(&pulled.reports, &pulled.remote);
    for channel in &pulled.channels {
        err!("channel {channel} moved; `plumb channel {} {channel}` shows where to", pulled.release.app);
    }
    match (pulled.changed || pulled.supplies.0 > 0 || pulled.reports.files > 0, is_dry) {
        (false, _) => err!("it is here already"),
        (true, true) => err!("dry run: would fetch {} from `{}`", bytes(pulled.bytes), pulled.remote),
        (true, false) => err!(
            "fetched {} for {} from `{}`",
            bytes(pulled.bytes),
            bytes(pulled.release_bytes),
            pulled.remote
        ),
    }
}

fn tell_reports(reports: &Reports, remote: &str) {
    if reports.files > 0 {
        let what = if reports.files == 1 { "log or attachment" } else { "logs and attachments" };
        err!("evidence: {} {what}, {}", reports.files, bytes(reports.bytes));
    }
    if reports.absent > 0 {
        err!("note: {} logs or attachments of evidence are not on `{remote}`", reports.absent);
    }
}

fn tell_supplies((files, size): (usize, u64)) {
    if files > 0 {
        err!("packages and files it was built from: {files}, {}", bytes(size));
    }
}

fn supplies(with_packages: bool) -> Supplies {
    if with_packages { Supplies::Bring } else { Supplies::Leave }
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Do }
}

/// The address of an object store that is not Amazon's.
fn with_endpoint(address: &str, endpoint: Option<&str>) -> String {
    match endpoint {
        Some(endpoint) => format!("{address}?endpoint={endpoint}"),
        None => address.to_owned(),
    }
}
