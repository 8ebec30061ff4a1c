//! What can go wrong with the state, and what helps.

use plumb_model::{AppName, DeploymentName};

use crate::DatabaseError;
use crate::hold::Holder;

/// Why the state could not be read or written. `place` is a path or an address without a password.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database refused.
    #[error("cannot {action} the state in `{place}`")]
    Database {
        /// What was being done.
        action: &'static str,
        /// Where it is.
        place: String,
        /// What the database says.
        #[source]
        source: DatabaseError,
    },
    /// There is no session with the server.
    #[error("cannot reach the state in `{place}`")]
    Unreachable {
        /// Where it is.
        place: String,
        /// What the database says.
        #[source]
        source: DatabaseError,
    },
    /// The database was made by a newer Plumb.
    #[error("the state in `{place}` has version {found}; this plumb knows versions up to {known}")]
    Newer {
        /// Where it is.
        place: String,
        /// Version found.
        found: u32,
        /// Newest known.
        known: u32,
    },
    /// A stored value does not read back.
    #[error("the state in `{place}` holds a damaged {what} of deployment `{deployment}`")]
    Damaged {
        /// Where it is.
        place: String,
        /// What is damaged.
        what: &'static str,
        /// Whose.
        deployment: String,
    },
    /// The deployment belongs to another application.
    #[error("deployment `{deployment}` belongs to application `{app}`, not to `{wanted}`")]
    OtherApp {
        /// Deployment.
        deployment: DeploymentName,
        /// Its application.
        app: AppName,
        /// The one asked for.
        wanted: AppName,
    },
    /// The deployment runs on another host.
    #[error("deployment `{deployment}` runs on host `{host}`, not on this one")]
    OtherHost {
        /// Deployment.
        deployment: DeploymentName,
        /// Its host.
        host: String,
    },
    /// What would be copied is there already, or something else of this host.
    #[error("the state in `{place}` has deployment `{deployment}` already; nothing was copied")]
    Taken {
        /// Where it is.
        place: String,
        /// Which.
        deployment: DeploymentName,
    },
    /// Somebody else changes the deployment at this moment.
    #[error("deployment `{deployment}` is in use by {holder}")]
    Held {
        /// Deployment.
        deployment: DeploymentName,
        /// Who.
        holder: Holder,
    },
}

impl StateError {
    /// Whether nothing more can be written: what goes on has to end.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            StateError::Database { source, .. } => source.is_lost(),
            StateError::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// A command or a change that helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            StateError::Database { source: DatabaseError::Gone, .. } => {
                "put the file back if you have it; without it, `plumb up` takes over what runs, by its name".to_owned()
            }
            StateError::Database { source, .. } if source.is_lost() => {
                "what was done is done and nothing else was begun; once the server answers, the same command again goes on"
                    .to_owned()
            }
            StateError::Database { source: DatabaseError::Full, .. } => {
                "free some space there, then give the same command again".to_owned()
            }
            StateError::Database { source: DatabaseError::Locked { .. }, place, .. } => {
                format!("`fuser {place}` says which process it is")
            }
            StateError::Database { source: DatabaseError::Corrupt, place, .. } => format!(
                "`sqlite3 {place} .recover` saves what can be read; or put it aside: `plumb up` takes over what runs, by its name"
            ),
            StateError::Unreachable { source: DatabaseError::Passwords { .. } | DatabaseError::Certificates { .. }, .. } => {
                return None;
            }
            StateError::Unreachable { .. } => {
                "passwords are taken from `PGPASSWORD` or `~/.pgpass`; what runs goes on without the state".to_owned()
            }
            StateError::Newer { .. } => "use the newest plumb that any of its users has".to_owned(),
            StateError::OtherHost { deployment, host } => {
                format!("give the command on `{host}`; here it can be looked at: `plumb ps {deployment}`")
            }
            StateError::Held { .. } => "wait until it has ended, then give the command again".to_owned(),
            StateError::OtherApp { .. } => "`--name` gives the deployment another name".to_owned(),
            StateError::Taken { .. } => {
                "a copy needs a place with nothing of this host and other names for everything".to_owned()
            }
            StateError::Database { .. } | StateError::Damaged { .. } => return None,
        })
    }
}
