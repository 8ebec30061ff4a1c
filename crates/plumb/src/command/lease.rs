//! `plumb lease`, `plumb reap`, `plumb quota`.

use plumb_ops::{ClockWord, LeaseChange, LeaseView, Mode, OpsError, QuotaView, Reaped, ReapedWhat, Term};

use super::Session;
use crate::args::{Lease, LeaseAction, Quota, QuotaAction, Reap, SetLease};
use crate::output::{err, out};
use crate::render::{self, bytes, duration, table};

pub(super) fn lease(session: &Session<'_>, arguments: &Lease) -> Result<(), OpsError> {
    let plumb = &session.plumb;
    let views = match &arguments.action {
        None => plumb.leases(None)?,
        Some(LeaseAction::Show { deployment }) => plumb.leases(deployment.as_ref())?,
        Some(LeaseAction::Renew { deployment }) => {
            vec![plumb.change_lease(deployment, &LeaseChange::default())?]
        }
        Some(LeaseAction::Set(set)) => vec![plumb.change_lease(&set.deployment, &change(set))?],
    };
    session.live.clear();
    if session.global.json {
        render::json(&views);
        return Ok(());
    }
    if views.is_empty() {
        err!("no deployments; `plumb up` makes one");
        return Ok(());
    }
    let mut rows = table(&["DEPLOYMENT", "OWNER", "STOPS", "DATA", "PURPOSE"]);
    for view in &views {
        rows.add_row([
            view.deployment.to_string(),
            view.owner.clone().unwrap_or_else(|| "nobody".to_owned()),
            stops(view),
            data(view),
            view.purpose.clone(),
        ]);
    }
    out!("{rows}");
    for view in &views {
        if let Some(notice) = &view.notice {
            err!("{}: {notice}", view.deployment);
        }
    }
    Ok(())
}

fn change(set: &SetLease) -> LeaseChange {
    let never = set.never.then_some(Term::Never);
    LeaseChange {
        run_for: set.run_for.map(Term::For).or(never),
        keep_for: set.keep.map(Term::For).or(never).or(set.keep_data.then_some(Term::Never)),
        owner: set.owner.clone(),
        purpose: set.purpose.clone(),
    }
}

fn stops(view: &LeaseView) -> String {
    match (view.stopped_ms, view.stops_ms) {
        (Some(stopped), _) => format!("stopped {}", time(stopped)),
        (None, Some(at)) => time(at),
        (None, None) => "never".to_owned(),
    }
}

fn data(view: &LeaseView) -> String {
    view.keep_for_ms.map_or_else(|| "stays".to_owned(), |time| format!("{} after it stopped", duration(time)))
}

pub(super) fn reap(session: &Session<'_>, arguments: &Reap) -> Result<(), OpsError> {
    let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Do };
    let word = if arguments.clock_is_right { ClockWord::SaidToBeRight } else { ClockWord::Checked };
    let rows = session.plumb.reap(mode, word)?;
    session.live.clear();
    if session.global.json {
        render::json(&rows);
        return Ok(());
    }
    for row in &rows {
        out!("{} ({}): {}", row.deployment, row.owner, said(row, mode));
        for volume in &row.volumes {
            out!("  volume {volume}");
        }
    }
    if rows.is_empty() {
        err!("nothing is due");
    } else if arguments.dry_run {
        err!("dry run: nothing was changed");
    }
    Ok(())
}

fn said(row: &Reaped, mode: Mode) -> String {
    let at = time(row.at_ms);
    if let Some(trouble) = &row.trouble {
        return format!("not looked after: {trouble}");
    }
    let (stop, delete, notice, relieve) = match mode {
        Mode::DryRun => (
            "would be stopped",
            "would be deleted with its data",
            "notice would be given",
            "what served before would go",
        ),
        Mode::Do => ("stopped", "deleted with its data", "notice is given", "what served before is gone"),
    };
    match row.what {
        ReapedWhat::StopsSoon => format!("will be stopped {at}"),
        ReapedWhat::Stop => format!("{stop}: its lease ended {at}; its data stays"),
        ReapedWhat::Relieve => format!("{relieve}: it was kept until {at}"),
        ReapedWhat::Notice => format!("{notice} that its data goes: its storage lease ended {at}"),
        ReapedWhat::GoesSoon => {
            format!("its data goes {at} or later; `plumb lease renew {}` keeps it", row.deployment)
        }
        ReapedWhat::Delete => format!("{delete}: its storage lease ended {at}, and grace is over"),
        ReapedWhat::Unknown => "nothing was found out".to_owned(),
    }
}

pub(super) fn quota(session: &Session<'_>, arguments: &Quota) -> Result<(), OpsError> {
    let plumb = &session.plumb;
    let views = match &arguments.action {
        None | Some(QuotaAction::Show) => plumb.quotas()?,
        Some(QuotaAction::Set { owner, instances, memory, disk }) => {
            let memory_mib = memory.map(|bytes| bytes >> 20);
            let change = plumb_ops::Quota { instances: *instances, memory_mib, disk_bytes: *disk };
            plumb.set_quota(owner, &change)?
        }
        Some(QuotaAction::Rm { owner }) => return plumb.remove_quota(owner),
    };
    if session.global.json {
        render::json(&views);
        return Ok(());
    }
    if views.is_empty() {
        err!("nobody has anything; `plumb quota set OWNER --instances 20` says what somebody may have");
        return Ok(());
    }
    let mut rows = table(&["OWNER", "INSTANCES", "MEMORY", "VOLUMES"]);
    for QuotaView { owner, instances, memory_mib, disk_bytes } in &views {
        rows.add_row([
            owner.clone(),
            of(*instances, |count| count.to_string()),
            of(*memory_mib, |mib| format!("{mib} MiB")),
            of(*disk_bytes, bytes),
        ]);
    }
    out!("{rows}");
    Ok(())
}

fn of((has, may): (u64, Option<u64>), text: impl Fn(u64) -> String) -> String {
    may.map_or_else(|| text(has), |may| format!("{} of {}", text(has), text(may)))
}

fn time(ms: u64) -> String {
    render::time(i64::try_from(ms / 1000).unwrap_or(i64::MAX))
}
