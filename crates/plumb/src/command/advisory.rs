//! `plumb advisory`.

use plumb_ops::{FeedOutcome, FeedView, OpsError};

use super::Session;
use crate::args::AdvisoryAction;
use crate::output::{err, out};
use crate::render::{self, bytes, table};

pub(super) fn run(session: &Session<'_>, action: &AdvisoryAction) -> Result<(), OpsError> {
    match action {
        AdvisoryAction::Add { name, origin } => {
            let outcome = session.plumb.add_feed(name, origin.as_deref())?;
            outcomes(session, &[outcome]);
        }
        AdvisoryAction::Update { names } => {
            let all = session.plumb.update_feeds(names)?;
            if all.is_empty() {
                session.live.clear();
                err!(
                    "There is no feed. `plumb advisory add debian` takes what Debian's security team knows."
                );
            }
            outcomes(session, &all);
        }
        AdvisoryAction::Ls => list(session, &session.plumb.feeds()?),
        AdvisoryAction::Rm { name } => {
            session.plumb.remove_feed(name)?;
            if session.global.json {
                render::json(&serde_json::json!({ "removed": name }));
            } else {
                out!("{name} is forgotten");
            }
        }
    }
    Ok(())
}

fn outcomes(session: &Session<'_>, outcomes: &[FeedOutcome]) {
    session.live.clear();
    if session.global.json {
        render::json(&outcomes);
        return;
    }
    for FeedOutcome { feed, changed } in outcomes {
        let what = if *changed { "taken" } else { "has not changed" };
        out!("{}: {what}, {} advisories, {}", feed.name, feed.tally.advisories, bytes(feed.bytes));
        if feed.tally.skipped > 0 {
            let skipped = feed.tally.skipped;
            err!("note: `{}` says {skipped} things in a form that is not understood", feed.name);
        }
    }
}

fn list(session: &Session<'_>, feeds: &[FeedView]) {
    if session.global.json {
        render::json(&feeds);
        return;
    }
    if feeds.is_empty() {
        err!("There is no feed. `plumb advisory add debian` takes what Debian's security team knows.");
        return;
    }
    let mut rows = table(&["FEED", "TAKEN", "AGE", "ADVISORIES", "FORM", "FROM"]);
    for feed in feeds {
        rows.add_row([
            feed.name.to_string(),
            render::time(feed.taken_s),
            render::duration(u64::try_from(feed.age_s).unwrap_or(0).saturating_mul(1000)),
            feed.tally.advisories.to_string(),
            feed.form.to_string(),
            feed.origin.clone(),
        ]);
    }
    out!("{rows}");
}
