//! A deployment is changed by one at a time, also where several hosts share the state.
//!
//! The lock is one of the session: whoever is killed, or loses the connection, loses it. What is written beside it says
//! who that is, and is believed only while the session that wrote it holds the lock.

use std::fmt;

use plumb_model::DeploymentName;

use crate::{State, StateError};

/// Who wants to change a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// `user@host`.
    pub who: String,
    /// Process there.
    pub pid: u32,
    /// The command, without what may be private.
    pub what: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
}

/// Who has it, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder(pub Option<Claim>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Claim { who, pid, what, .. }) => write!(f, "{who}, process {pid} ({what})"),
            // Between its lock and its name, or between its name and its end.
            None => f.write_str("another session of the state's server"),
        }
    }
}

impl State {
    /// Holds a deployment until this value is dropped. In a file this only looks whose the deployment is: all that use a
    /// file are on one host, and hold the store's lock.
    ///
    /// # Errors
    /// [`StateError::Held`], [`StateError::OtherHost`].
    pub fn hold(&mut self, name: &DeploymentName, claim: &Claim) -> Result<(), StateError> {
        if let Some(host) = self.deployment(name)?.and_then(|record| record.elsewhere) {
            return Err(StateError::OtherHost { deployment: name.clone(), host });
        }
        if self.host.is_none() {
            return Ok(());
        }
        if !self.database.lock(name.as_str()).map_err(self.failed("lock"))? {
            return Err(StateError::Held { deployment: name.clone(), holder: self.holder(name)? });
        }
        let session = self.database.session(name.as_str()).map_err(self.failed("lock"))?.own;
        self.execute(
            "INSERT INTO holder (deployment, who, pid, what, since_ms, session) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (deployment) DO UPDATE SET who = $2, pid = $3, what = $4, since_ms = $5, session = $6",
            &[
                name.as_str().into(),
                claim.who.as_str().into(),
                u64::from(claim.pid).into(),
                claim.what.as_str().into(),
                claim.since_ms.into(),
                session.into(),
            ],
        )?;
        Ok(())
    }

    /// Who holds a deployment.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn holder(&self, name: &DeploymentName) -> Result<Holder, StateError> {
        let session = self.database.session(name.as_str()).map_err(self.failed("read"))?.holder;
        let claims = self.rows(
            "SELECT who, pid, what, since_ms FROM holder WHERE deployment = $1 AND session = $2",
            &[name.as_str().into(), session.into()],
            |row| {
                let pid = u32::try_from(row.number(1)?).unwrap_or_default();
                let (who, what) = (row.text(0)?.to_owned(), row.text(2)?.to_owned());
                Ok(Claim { who, pid, what, since_ms: row.number(3)? })
            },
        )?;
        Ok(Holder(claims.into_iter().next()))
    }
}
