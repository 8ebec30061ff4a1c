//! What is set of deployments: their configurations, and their secrets as they are sealed.
//!
//! A configuration is written once and never changed. A secret is known by its version, a random number; what is sealed can
//! be sealed anew, for other recipients, without a change of the version.

use plumb_model::config::Configuration;
use plumb_model::release::ReleaseName;
use plumb_model::{DeploymentName, Digest, Document};
use plumb_plan::Plan;

use crate::{State, StateError};

/// Which configuration of a deployment is wanted, and which one runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Configured {
    /// The one that the next plan brings.
    pub wanted: Option<u64>,
    /// The one that was committed last, together with the current release.
    pub current: Option<u64>,
}

/// A secret as it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Whose.
    pub deployment: DeploymentName,
    /// Its version.
    pub version: Digest,
    /// The age file.
    pub sealed: Vec<u8>,
}

/// Somebody for whom secrets are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientRecord {
    /// `age1…`.
    pub recipient: String,
    /// Who that is, for people: `user@host`.
    pub name: String,
}

impl State {
    /// Adds a configuration with the secrets that are new in it, and makes it the wanted one.
    ///
    /// # Errors
    /// [`StateError`]; also if its number is taken.
    pub fn add_configuration(
        &mut self,
        configuration: &Configuration,
        secrets: &[(Digest, Vec<u8>)],
    ) -> Result<(), StateError> {
        let name = configuration.deployment.as_str();
        let document = configuration.to_bytes();
        self.transaction(|database| {
            for (version, sealed) in secrets {
                let version = version.to_string();
                database.execute(
                    "INSERT INTO secret (deployment, version, sealed) VALUES ($1, $2, $3)",
                    &[name.into(), version.as_str().into(), sealed.as_slice().into()],
                )?;
            }
            database.execute(
                "INSERT INTO configuration (deployment, number, document) VALUES ($1, $2, $3)",
                &[name.into(), configuration.number.into(), document.as_slice().into()],
            )?;
            database.execute(
                "INSERT INTO configured (deployment, wanted) VALUES ($1, $2)
                 ON CONFLICT (deployment) DO UPDATE SET wanted = $2",
                &[name.into(), configuration.number.into()],
            )?;
            Ok(())
        })
    }

    /// All configurations of a deployment, oldest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn configurations(&self, name: &DeploymentName) -> Result<Vec<Configuration>, StateError> {
        let documents = self.rows(
            "SELECT document FROM configuration WHERE deployment = $1 ORDER BY number",
            &[name.as_str().into()],
            |row| Ok(row.bytes(0)?.to_vec()),
        )?;
        documents.iter().map(|bytes| self.read_configuration(name, bytes)).collect()
    }

    /// One configuration of a deployment.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn configuration(
        &self,
        name: &DeploymentName,
        number: u64,
    ) -> Result<Option<Configuration>, StateError> {
        let documents = self.rows(
            "SELECT document FROM configuration WHERE deployment = $1 AND number = $2",
            &[name.as_str().into(), number.into()],
            |row| Ok(row.bytes(0)?.to_vec()),
        )?;
        documents.first().map(|bytes| self.read_configuration(name, bytes)).transpose()
    }

    fn read_configuration(&self, name: &DeploymentName, bytes: &[u8]) -> Result<Configuration, StateError> {
        match Configuration::from_bytes(bytes) {
            Ok(configuration) if configuration.deployment == *name => Ok(configuration),
            _ => Err(self.damaged("configuration", name)),
        }
    }

    /// Which configuration is wanted, and which one runs.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn configured(&self, name: &DeploymentName) -> Result<Configured, StateError> {
        let rows = self.rows(
            "SELECT wanted, current FROM configured WHERE deployment = $1",
            &[name.as_str().into()],
            |row| Ok(Configured { wanted: row.number_or_none(0)?, current: row.number_or_none(1)? }),
        )?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// Makes a configuration the wanted one.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn want_configuration(
        &mut self,
        name: &DeploymentName,
        number: Option<u64>,
    ) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO configured (deployment, wanted) VALUES ($1, $2)
             ON CONFLICT (deployment) DO UPDATE SET wanted = $2",
            &[name.as_str().into(), number.into()],
        )?;
        Ok(())
    }

    /// The pairs of release and configuration that a deployment has run healthily, latest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn healthy_pairs(
        &self,
        name: &DeploymentName,
    ) -> Result<Vec<(ReleaseName, Option<u64>)>, StateError> {
        let documents = self.rows(
            "SELECT document FROM plan WHERE deployment = $1 AND status = 'done' AND reason IS NULL ORDER BY generation DESC",
            &[name.as_str().into()],
            |row| Ok(row.bytes(0)?.to_vec()),
        )?;
        let mut pairs = Vec::new();
        for document in documents {
            let plan = Plan::from_bytes(&document).map_err(|_| self.damaged("plan", name))?;
            let config = plan.config.map(|config| config.number);
            pairs.extend(plan.to.map(|release| (release, config)));
        }
        Ok(pairs)
    }

    /// A secret as it is sealed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn secret(&self, name: &DeploymentName, version: &Digest) -> Result<Option<Vec<u8>>, StateError> {
        let version = version.to_string();
        let rows = self.rows(
            "SELECT sealed FROM secret WHERE deployment = $1 AND version = $2",
            &[name.as_str().into(), version.as_str().into()],
            |row| Ok(row.bytes(0)?.to_vec()),
        )?;
        Ok(rows.into_iter().next())
    }

    /// All secrets of all deployments.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn all_secrets(&self) -> Result<Vec<SealedSecret>, StateError> {
        let rows = self.rows(
            "SELECT deployment, version, sealed FROM secret ORDER BY deployment, version",
            &[],
            |row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.bytes(2)?.to_vec())),
        )?;
        let read = |(name, version, sealed): (String, String, Vec<u8>)| {
            let damaged = || self.damaged("secret", &name);
            Ok(SealedSecret {
                deployment: name.parse().map_err(|_| damaged())?,
                version: version.parse().map_err(|_| damaged())?,
                sealed,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Replaces who secrets are sealed for, and all secrets by what was sealed for them: all of it or nothing.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn reseal(
        &mut self,
        recipients: &[RecipientRecord],
        secrets: &[SealedSecret],
    ) -> Result<(), StateError> {
        self.transaction(|database| {
            database.execute("DELETE FROM recipient", &[])?;
            for one in recipients {
                database.execute(
                    "INSERT INTO recipient (recipient, name) VALUES ($1, $2)",
                    &[one.recipient.as_str().into(), one.name.as_str().into()],
                )?;
            }
            for secret in secrets {
                let version = secret.version.to_string();
                database.execute(
                    "UPDATE secret SET sealed = $3 WHERE deployment = $1 AND version = $2",
                    &[
                        secret.deployment.as_str().into(),
                        version.as_str().into(),
                        secret.sealed.as_slice().into(),
                    ],
                )?;
            }
            Ok(())
        })
    }

    /// For whom secrets are sealed, in order.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn recipients(&self) -> Result<Vec<RecipientRecord>, StateError> {
        self.rows("SELECT recipient, name FROM recipient ORDER BY recipient", &[], |row| {
            Ok(RecipientRecord { recipient: row.text(0)?.to_owned(), name: row.text(1)?.to_owned() })
        })
    }

    /// Adds somebody for whom secrets are sealed from now on; one that is known stays as it is.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn add_recipient(&mut self, record: &RecipientRecord) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO recipient (recipient, name) VALUES ($1, $2) ON CONFLICT (recipient) DO NOTHING",
            &[record.recipient.as_str().into(), record.name.as_str().into()],
        )?;
        Ok(())
    }
}
