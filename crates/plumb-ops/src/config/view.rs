//! What is set of a deployment, for people: values with where they come from, versions, differences. Never a secret.

use std::collections::BTreeSet;

use plumb_model::config::{ConfigName, Configuration, Kind};
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{DeploymentName, MachineName};
use plumb_state::{RecipientRecord, SealedSecret};
use serde::Serialize;

use super::{ConfigError, seal};
use crate::Plumb;
use crate::error::OpsError;

/// What is set of a deployment.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigView {
    /// Deployment.
    pub deployment: DeploymentName,
    /// The release whose schema this is: the one that runs, or the newest.
    pub release: ReleaseName,
    /// The configuration that is shown; `None` if nothing was ever set.
    pub configuration: Option<u64>,
    /// The configuration that runs.
    pub running: Option<u64>,
    /// All settings and secrets.
    pub settings: Vec<SettingView>,
}

/// A setting or secret.
#[derive(Debug, Clone, Serialize)]
pub struct SettingView {
    /// Name.
    pub name: ConfigName,
    /// Its type, `string`.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its value; none of a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: SettingOrigin,
    /// What it is for.
    pub about: String,
    /// What it can be, for people.
    pub allowed: String,
    /// Machines that refer to it.
    pub used_by: Vec<MachineName>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingOrigin {
    /// It was set.
    Set,
    /// The definition's default.
    Default,
    /// It has none, and nothing runs without.
    Missing,
    /// It has none, and need not.
    Unset,
    /// It was set, and the release does not know it.
    Unused,
}

/// One configuration of a deployment.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigEntry {
    /// Number.
    pub number: u64,
    /// When it was made, seconds since 1970.
    pub created_s: i64,
    /// Who made it.
    pub author: String,
    /// It is the one that the next plan brings.
    pub wanted: bool,
    /// It is the one that runs.
    pub running: bool,
    /// What differs from the one it was made from.
    pub changes: Vec<ConfigDifference>,
}

/// What differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigDifference {
    /// Name.
    pub name: ConfigName,
    /// It is a secret: no values are told.
    pub secret: bool,
    /// Before; `None` if it was not set.
    pub before: Option<String>,
    /// After; `None` if it is not set.
    pub after: Option<String>,
}

/// For whom secrets are sealed.
#[derive(Debug, Clone, Serialize)]
pub struct RecipientView {
    /// `age1…`.
    pub recipient: String,
    /// Who that is.
    pub name: String,
    /// It is the key of this home.
    pub own: bool,
}

/// What sealing anew did.
#[derive(Debug, Clone, Serialize)]
pub struct Resealed {
    /// Secrets that were sealed anew, of all deployments and versions.
    pub secrets: usize,
    /// For whom.
    pub recipients: Vec<RecipientView>,
}

/// What differs from `before` to `after`, by name.
pub(crate) fn differences(
    before: Option<&Configuration>,
    after: Option<&Configuration>,
) -> Vec<ConfigDifference> {
    let values = |one: Option<&Configuration>, name: &ConfigName| {
        one.and_then(|one| one.values.get(name)).map(ToString::to_string)
    };
    let version =
        |one: Option<&Configuration>, name: &ConfigName| one.and_then(|one| one.secrets.get(name).copied());
    let both = || [before, after].into_iter().flatten();
    let names: BTreeSet<&ConfigName> =
        both().flat_map(|one| one.values.keys().chain(one.secrets.keys())).collect();
    let mut found = Vec::new();
    for name in names {
        let (was, is) = (values(before, name), values(after, name));
        if was != is {
            found.push(ConfigDifference { name: name.clone(), secret: false, before: was, after: is });
        }
        let (was, is) = (version(before, name), version(after, name));
        if was != is {
            let shown = |version: Option<_>| version.map(|_| "set".to_owned());
            found.push(ConfigDifference {
                name: name.clone(),
                secret: true,
                before: shown(was),
                after: shown(is),
            });
        }
    }
    found
}

impl Plumb<'_> {
    /// What is set of a deployment, in the wanted configuration or the one named.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn config(&self, name: &DeploymentName, number: Option<u64>) -> Result<ConfigView, OpsError> {
        let record = self.known(name)?;
        let state = self.state()?;
        let configured = state.configured(name)?;
        let release = match &record.current {
            Some(current) => self.read_release(current)?,
            None => self.newest_release(&record.app)?,
        };
        let number = number.or(configured.wanted);
        let configuration = self.configuration(&state, name, number)?;
        let settings = settings_view(&release, configuration.as_ref());
        Ok(ConfigView {
            deployment: name.clone(),
            release: release.name(),
            configuration: number,
            running: configured.current.filter(|_| record.current.is_some()),
            settings,
        })
    }

    /// All configurations of a deployment, oldest first.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn config_log(&self, name: &DeploymentName) -> Result<Vec<ConfigEntry>, OpsError> {
        let record = self.known(name)?;
        let state = self.state()?;
        let configured = state.configured(name)?;
        let all = state.configurations(name)?;
        let entry = |one: &Configuration| {
            use plumb_model::Document as _;
            let before = one.previous.and_then(|digest| all.iter().find(|other| other.digest() == digest));
            ConfigEntry {
                number: one.number,
                created_s: one.created_s,
                author: one.author.clone(),
                wanted: configured.wanted == Some(one.number),
                running: record.current.is_some() && configured.current == Some(one.number),
                changes: differences(before, Some(one)),
            }
        };
        Ok(all.iter().map(entry).collect())
    }

    /// What differs between two configurations: without `one` the one that runs, without `other` the wanted one.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn config_diff(
        &self,
        name: &DeploymentName,
        one: Option<u64>,
        other: Option<u64>,
    ) -> Result<Vec<ConfigDifference>, OpsError> {
        self.known(name)?;
        let state = self.state()?;
        let configured = state.configured(name)?;
        let before = self.configuration(&state, name, one.or(configured.current))?;
        let after = self.configuration(&state, name, other.or(configured.wanted))?;
        Ok(differences(before.as_ref(), after.as_ref()))
    }

    /// For whom secrets are sealed, the key of this home first; it is made if there is none.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn secret_recipients(&self) -> Result<Vec<RecipientView>, OpsError> {
        let own = self.identities_or_new()?.public();
        let mut all = vec![RecipientView { recipient: own.clone(), name: self.author(), own: true }];
        let others = self.state()?.recipients()?.into_iter().filter(|one| one.recipient != own);
        all.extend(others.map(|one| RecipientView { recipient: one.recipient, name: one.name, own: false }));
        Ok(all)
    }

    /// Seals all secrets anew, for one more recipient, or one less.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn change_recipients(
        &self,
        add: &[(String, String)],
        remove: &[String],
    ) -> Result<Resealed, OpsError> {
        let identities = self.identities_or_new()?;
        let own = identities.public();
        let mut state = self.state()?;
        let mut records = state.recipients()?;
        if !records.iter().any(|record| record.recipient == own) {
            records.push(RecipientRecord { recipient: own.clone(), name: self.author() });
        }
        for (key, name) in add {
            seal::recipient(key)?;
            records.retain(|record| record.recipient != *key);
            records.push(RecipientRecord { recipient: key.clone(), name: name.clone() });
        }
        for key in remove {
            let refused =
                |reason| ConfigError::KeptRecipient { value: key.chars().take(80).collect(), reason };
            if *key == own {
                return Err(refused("it is the key of this home").into());
            }
            if !records.iter().any(|record| record.recipient == *key) {
                return Err(refused("it is none of the recipients").into());
            }
            records.retain(|record| record.recipient != *key);
        }
        self.reseal(&mut state, &identities, &records)
    }

    /// A new key for this home: all secrets are sealed anew, and the former key opens none of them any more.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn rotate_secret_key(&self) -> Result<Resealed, OpsError> {
        let former = self.identities_or_new()?.public();
        let identities = self.begin_rotation()?;
        let mut state = self.state()?;
        let mut records = state.recipients()?;
        records.retain(|record| record.recipient != former && record.recipient != identities.public());
        records.push(RecipientRecord { recipient: identities.public(), name: self.author() });
        let resealed = self.reseal(&mut state, &identities, &records)?;
        self.end_rotation()?;
        Ok(resealed)
    }

    fn reseal(
        &self,
        state: &mut plumb_state::State,
        identities: &seal::Identities,
        records: &[RecipientRecord],
    ) -> Result<Resealed, OpsError> {
        let recipients =
            records.iter().map(|record| seal::recipient(&record.recipient)).collect::<Result<Vec<_>, _>>()?;
        let mut sealed = Vec::new();
        for secret in state.all_secrets()? {
            let again = identities.reseal(&secret.sealed, &recipients)?;
            sealed.push(SealedSecret { sealed: again, ..secret });
        }
        state.reseal(records, &sealed)?;
        let own = identities.public();
        let view = |record: &RecipientRecord| RecipientView {
            recipient: record.recipient.clone(),
            name: record.name.clone(),
            own: record.recipient == own,
        };
        Ok(Resealed { secrets: sealed.len(), recipients: records.iter().map(view).collect() })
    }
}

fn settings_view(release: &Release, configuration: Option<&Configuration>) -> Vec<SettingView> {
    let used_by = |name: &ConfigName| {
        let machines = release.content.machines.iter().filter(|(_, machine)| machine.config.contains(name));
        machines.map(|(machine, _)| machine.clone()).collect()
    };
    let mut all = Vec::new();
    for (name, key) in &release.content.config {
        let set = configuration.and_then(|one| one.values.get(name));
        let is_secret_set = configuration.is_some_and(|one| one.secrets.contains_key(name));
        let (value, origin) = match (set, &key.default) {
            _ if is_secret_set => (None, SettingOrigin::Set),
            (Some(value), _) => (Some(value.to_string()), SettingOrigin::Set),
            (None, Some(default)) => (Some(default.to_string()), SettingOrigin::Default),
            (None, None) if key.required => (None, SettingOrigin::Missing),
            (None, None) => (None, SettingOrigin::Unset),
        };
        all.push(SettingView {
            name: name.clone(),
            kind: key.kind,
            value,
            origin,
            about: key.about.clone(),
            allowed: key.to_string(),
            used_by: used_by(name),
        });
    }
    let Some(configuration) = configuration else { return all };
    let unknown = |name: &&ConfigName| !release.content.config.contains_key(*name);
    let unused = |name: &ConfigName, kind, value: Option<String>| SettingView {
        name: name.clone(),
        kind,
        value,
        origin: SettingOrigin::Unused,
        about: String::new(),
        allowed: String::new(),
        used_by: Vec::new(),
    };
    let values = configuration.values.iter().filter(|(name, _)| unknown(name));
    all.extend(values.map(|(name, value)| unused(name, Kind::String, Some(value.to_string()))));
    all.extend(configuration.secrets.keys().filter(unknown).map(|name| unused(name, Kind::Secret, None)));
    all
}
