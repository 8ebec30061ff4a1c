//! `plumb secret`.

use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use plumb_model::config::{ConfigName, Kind};
use plumb_ops::{ConfigChange, OpsError, RecipientView, Resealed, SecretValue};

use super::Session;
use super::config::{apply, origin, tell};
use crate::args::{Secret, SecretCommand};
use crate::output::{err, out};
use crate::render::{self, passphrase, table};

/// Most bytes that are read: one more than a secret may have, so that a longer one is told and not cut.
const LIMIT_BYTES: u64 = 64 * 1024 + 2;

pub(super) fn run(session: &Session<'_>, arguments: &Secret) -> Result<(), OpsError> {
    let plumb = &session.plumb;
    match &arguments.command {
        SecretCommand::Set { deployment, name, file, generate, when } => {
            let secret =
                if *generate { SecretValue::random(usize::MAX)? } else { read(name, file.as_deref())? };
            let change = ConfigChange { secrets: vec![(name.clone(), secret)], ..ConfigChange::default() };
            tell(session, &plumb.configure(deployment, &change, apply(*when))?, apply(*when));
        }
        SecretCommand::Rm { deployment, name, when } => {
            let change = ConfigChange { unset: vec![name.clone()], ..ConfigChange::default() };
            tell(session, &plumb.configure(deployment, &change, apply(*when))?, apply(*when));
        }
        SecretCommand::Ls { deployment } => {
            let mut view = plumb.config(deployment, None)?;
            view.settings.retain(|setting| setting.kind == Kind::Secret);
            if session.global.json {
                render::json(&view);
                return Ok(());
            }
            if view.settings.is_empty() {
                err!("The definition of {} has no secret in `[config]`.", view.release);
                return Ok(());
            }
            let mut rows = table(&["NAME", "STATE", "USED BY", "WHAT IT IS"]);
            for setting in &view.settings {
                let used: Vec<&str> = setting.used_by.iter().map(|machine| machine.as_str()).collect();
                let state = origin(setting.origin).to_owned();
                rows.add_row([setting.name.to_string(), state, used.join(" "), setting.about.clone()]);
            }
            out!("{rows}");
        }
        SecretCommand::Recipients { add, name, remove } => {
            let add: Vec<(String, String)> = add.clone().zip(name.clone()).into_iter().collect();
            if add.is_empty() && remove.is_empty() {
                let all = plumb.secret_recipients()?;
                if session.global.json {
                    render::json(&all)
                } else {
                    recipients(&all)
                }
                return Ok(());
            }
            resealed(session, &plumb.change_recipients(&add, remove)?);
        }
        SecretCommand::RotateKey => resealed(session, &plumb.rotate_secret_key()?),
    }
    Ok(())
}

fn recipients(all: &[RecipientView]) {
    let mut rows = table(&["KEY", "WHOSE"]);
    for one in all {
        let own = if one.own { " (this home)" } else { "" };
        rows.add_row([one.recipient.clone(), format!("{}{own}", one.name)]);
    }
    out!("{rows}");
}

fn resealed(session: &Session<'_>, outcome: &Resealed) {
    if session.global.json {
        render::json(outcome);
        return;
    }
    out!("{} secrets are sealed anew, for:", outcome.secrets);
    recipients(&outcome.recipients);
}

/// From the file, from standard input, or from a person.
fn read(name: &ConfigName, file: Option<&Path>) -> Result<SecretValue, OpsError> {
    let bounded = |reader: &mut dyn Read, path: &Path| {
        let mut bytes = Vec::new();
        match reader.take(LIMIT_BYTES).read_to_end(&mut bytes) {
            Ok(_) => Ok(SecretValue::new(bytes)),
            Err(source) => Err(OpsError::Io { action: "read", path: path.to_owned(), source }),
        }
    };
    if let Some(path) = file {
        let opened = std::fs::File::open(path);
        let mut opened =
            opened.map_err(|source| OpsError::Io { action: "read", path: path.to_owned(), source })?;
        return bounded(&mut opened, path);
    }
    if !io::stdin().is_terminal() {
        return bounded(&mut io::stdin().lock(), Path::new("/dev/stdin"));
    }
    passphrase::secret(name).map(|text| SecretValue::new(text.into_bytes())).ok_or_else(|| OpsError::Io {
        action: "read",
        path: PathBuf::from("/dev/tty"),
        source: io::Error::from(io::ErrorKind::UnexpectedEof),
    })
}
