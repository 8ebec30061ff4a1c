//! `plumb channel`, `plumb promote`, `plumb demote`.

use plumb_ops::{Compared, OpsError, PromoteOutcome, Standing};

use super::Session;
use super::diff;
use crate::args::{Channel, Demote, Promote};
use crate::output::{err, out};
use crate::render::{self, table};

pub(super) fn channel(session: &Session<'_>, arguments: &Channel) -> Result<(), OpsError> {
    if let (Some(app), Some(channel)) = (&arguments.app, &arguments.channel) {
        if arguments.forget {
            session.plumb.forget_channel(app, channel)?;
            err!("forgot `{app}@{channel}`");
            return Ok(());
        }
        let history = session.plumb.channel_history(app, channel)?;
        if session.global.json {
            render::json(&history);
            return Ok(());
        }
        let mut rows = table(&["", "RELEASE", "SINCE", "BY", "WHY"]);
        for step in history {
            let number = step.sequence.to_string();
            rows.add_row([number, step.release.to_string(), step.at, step.by.join(", "), step.reason]);
        }
        out!("{rows}");
        return Ok(());
    }
    let channels = session.plumb.channels(arguments.app.as_ref())?;
    if session.global.json {
        render::json(&channels);
        return Ok(());
    }
    if channels.is_empty() {
        err!("no channels yet; `plumb promote shop@1 dev` makes one");
        return Ok(());
    }
    let mut rows = table(&["CHANNEL", "RELEASE", "SINCE", "BY", "WHY"]);
    for view in channels {
        let by = view.promotion.by.join(", ");
        let by = if view.trusted { by } else { format!("{by} (trusted no more)") };
        let name = format!("{}@{}", view.app, view.channel);
        rows.add_row([
            name,
            view.promotion.release.to_string(),
            view.promotion.at,
            by,
            view.promotion.reason,
        ]);
    }
    out!("{rows}");
    Ok(())
}

pub(super) fn promote(session: &Session<'_>, arguments: &Promote) -> Result<(), OpsError> {
    let release = session.plumb.named(&arguments.release)?;
    let wanted = plumb_ops::Promote {
        channel: &arguments.channel,
        reason: &arguments.message,
        dry_run: arguments.dry_run,
    };
    let outcome = session.plumb.promote(&release, &wanted)?;
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
        return Ok(());
    }
    if arguments.dry_run {
        return preview(session, &outcome);
    }
    tell(&outcome);
    Ok(())
}

pub(super) fn demote(session: &Session<'_>, arguments: &Demote) -> Result<(), OpsError> {
    let wanted = plumb_ops::Promote {
        channel: &arguments.channel,
        reason: &arguments.message,
        dry_run: arguments.dry_run,
    };
    let outcome = session.plumb.demote(&arguments.app, arguments.to.as_ref(), &wanted)?;
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
    } else {
        if arguments.dry_run {
            err!("dry run: nothing was moved");
        }
        tell(&outcome);
    }
    Ok(())
}

fn tell(outcome: &PromoteOutcome) {
    let from = outcome.replaces.as_ref().map(|release| format!(" (was {release})")).unwrap_or_default();
    if outcome.changed {
        out!("{} -> {}{from}", outcome.channel, outcome.release);
    } else {
        out!("{} -> {}", outcome.channel, outcome.release);
        err!("it pointed there already");
    }
}

/// What the channel would get, and what the release lacks for it.
fn preview(session: &Session<'_>, outcome: &PromoteOutcome) -> Result<(), OpsError> {
    match outcome.replaces.as_ref().filter(|_| outcome.changed) {
        Some(before) => {
            let (before, after) =
                (Compared::Release(before.clone().into()), Compared::Release(outcome.release.clone().into()));
            diff::print_short(&session.plumb.diff(&before, Some(&after))?);
        }
        None if outcome.changed => out!("{} is new: it would point to {}", outcome.channel, outcome.release),
        None => out!("{} points to {} already", outcome.channel, outcome.release),
    }
    standings(&outcome.policy);
    err!("dry run: nothing was moved");
    Ok(())
}

/// Requirement by requirement.
pub(super) fn standings(policy: &[Standing]) {
    for standing in policy {
        match &standing.missing {
            None => out!("  met      {}", standing.requirement),
            Some(why) => out!("  missing  {}: {why}", standing.requirement),
        }
    }
}
