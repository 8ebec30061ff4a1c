//! `plumb state`.

use plumb_ops::{OpsError, SaidWhere, StateView};

use super::Session;
use crate::args::{State, StateAction};
use crate::output::{err, out};
use crate::render;

pub(super) fn run(session: &Session<'_>, arguments: &State) -> Result<(), OpsError> {
    match &arguments.action {
        None | Some(StateAction::Show) => show(session, &session.plumb.show_state()?),
        Some(StateAction::Use { address }) => show(session, &session.plumb.use_state(address)?),
        Some(StateAction::Copy { address }) => {
            let outcome = session.plumb.copy_state(address)?;
            if session.global.json {
                render::json(&outcome);
                return Ok(());
            }
            out!("copied {} deployments, {} rows, all read back", outcome.deployments, outcome.rows);
            err!("  from {}\n  to   {}", outcome.from, outcome.to);
            for name in &outcome.journals_left {
                err!(
                    "what happened to `{name}`, which is gone, was left here: another host has that name there"
                );
            }
            for owner in &outcome.quotas_left {
                err!("what `{owner}` may have there was left as it is; `plumb quota` shows it");
            }
            err!("`plumb state use {address}` keeps the state there from now on");
        }
    }
    Ok(())
}

fn show(session: &Session<'_>, view: &StateView) {
    if session.global.json {
        render::json(view);
        return;
    }
    let said = match view.said {
        SaidWhere::Default => "the default",
        SaidWhere::Home => "by `plumb state use`",
        SaidWhere::Environment => "by PLUMB_STATE",
    };
    out!("{} ({}, {said})", view.place, view.kind);
    out!("  {}, this host: {} deployments", view.host, view.here);
    for (host, count) in &view.elsewhere {
        out!("  {host}: {count} deployments");
    }
}
