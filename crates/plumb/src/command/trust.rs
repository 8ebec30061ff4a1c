//! `plumb key`, `plumb trust`.

use plumb_ops::{KeyView, OpsError, TrustChange, TrustView};

use super::Session;
use crate::args::{Key, KeyAction, Trust, TrustAction};
use crate::output::{err, out};
use crate::render::{self, passphrase, table};

pub(super) fn key(session: &Session<'_>, arguments: &Key) -> Result<(), OpsError> {
    match &arguments.action {
        None => list(session),
        Some(KeyAction::Show { name }) => {
            let key = session.plumb.key_view(name)?;
            if session.global.json {
                render::json(&key);
            } else {
                out!("{}", key.public);
            }
            Ok(())
        }
        Some(KeyAction::New { name, open }) => {
            let sealed = if *open { None } else { passphrase::new(name) };
            let key = session.plumb.new_key(name, sealed.as_ref())?;
            made(session, &key);
            Ok(())
        }
    }
}

fn made(session: &Session<'_>, key: &KeyView) {
    if session.global.json {
        render::json(key);
    } else {
        out!("{}", key.public);
        if !key.sealed {
            err!("note: the key has no passphrase; whoever reads its file can sign as `{}`", key.name);
        }
    }
}

fn list(session: &Session<'_>) -> Result<(), OpsError> {
    let keys = session.plumb.keys()?;
    if session.global.json {
        render::json(&keys);
        return Ok(());
    }
    if keys.is_empty() {
        err!("no keys yet; the first `plumb release` makes one, or `plumb key new NAME`");
        return Ok(());
    }
    let mut rows = table(&["KEY", "PASSPHRASE", "PUBLIC"]);
    for key in keys {
        rows.add_row([key.name.to_string(), if key.sealed { "yes" } else { "no" }.to_owned(), key.public]);
    }
    out!("{rows}");
    Ok(())
}

pub(super) fn trust(session: &Session<'_>, arguments: &Trust) -> Result<(), OpsError> {
    let plumb = &session.plumb;
    let view = match (&arguments.action, &arguments.app) {
        (None, Some(app)) => plumb.trust_view(app)?,
        (None, None) => return all(session),
        (Some(TrustAction::Add { app, name, public, role }), _) => {
            let change = TrustChange::Add { name: name.clone(), key: public.clone(), roles: role.clone() };
            plumb.change_trust(app, &change)?
        }
        (Some(TrustAction::Remove { app, name }), _) => {
            plumb.change_trust(app, &TrustChange::Remove { name: name.clone() })?
        }
        (Some(TrustAction::Threshold { app, role, count }), _) => {
            plumb.change_trust(app, &TrustChange::Threshold { role: *role, count: *count })?
        }
        (Some(TrustAction::Renew { app }), _) => plumb.change_trust(app, &TrustChange::Renew)?,
        (Some(TrustAction::Sign { app, file }), _) => {
            let bytes = match file {
                Some(path) => Some(std::fs::read(path).map_err(|source| OpsError::Io {
                    action: "read",
                    path: path.clone(),
                    source,
                })?),
                None => None,
            };
            plumb.sign_trust(app, bytes.as_deref())?
        }
        (Some(TrustAction::Draft { app }), _) => {
            out!("{}", String::from_utf8_lossy(&plumb.trust_draft(app)?).trim_end());
            return Ok(());
        }
        (Some(TrustAction::Discard { app }), _) => {
            plumb.discard_trust(app)?;
            plumb.trust_view(app)?
        }
    };
    if session.global.json {
        render::json(&view);
    } else {
        show(&view);
    }
    Ok(())
}

fn all(session: &Session<'_>) -> Result<(), OpsError> {
    let views = session.plumb.trust_views()?;
    if session.global.json {
        render::json(&views);
    } else if views.is_empty() {
        err!("no application has releases yet");
    }
    if !session.global.json {
        views.iter().for_each(show);
    }
    Ok(())
}

fn show(view: &TrustView) {
    out!("{}, version {} of its trust, until {}", view.app, view.version, view.expires);
    out!("  {}", view.fingerprint);
    let mut rows = table(&["  KEY", "HERE", "MAY SIGN", "PUBLIC"]);
    for key in &view.keys {
        let mut may = vec!["statements".to_owned()];
        may.extend(key.roles.iter().map(ToString::to_string));
        let here = if key.here { "yes" } else { "" };
        rows.add_row([format!("  {}", key.name), here.to_owned(), may.join(", "), key.public.clone()]);
    }
    out!("{rows}");
    for (role, count) in view.thresholds.iter().filter(|(_, count)| **count > 1) {
        out!("  {count} must sign for {role}");
    }
    if let Some(draft) = &view.draft {
        err!(
            "note: version {} waits, signed by {}: {}",
            draft.version,
            if draft.signed_by.is_empty() { "nobody".to_owned() } else { draft.signed_by.join(", ") },
            draft.waiting
        );
        err!(
            "hint: `plumb trust draft {}` prints it for a colleague, who runs `plumb trust sign {0} FILE`",
            view.app
        );
    }
}
