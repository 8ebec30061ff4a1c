//! Changes of a deployment's configuration: what is asked for, the next version of the document, and its way to the
//! instances.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use plumb_model::config::{ConfigName, ConfigNameError, Configuration, Key, Kind, Settings, settings};
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, DeploymentName, Digest, Document as _};
use plumb_plan::lease::Origin;
use plumb_plan::{Explanation, Plan};
use plumb_state::{DeploymentRecord, RecipientRecord, State};
use serde::Serialize;

use super::ConfigError;
use super::seal::{self, Identities, Purpose};
use crate::deploy::{Errand, Locked, Which};
use crate::error::OpsError;
use crate::project::read_text;
use crate::trust::random;
use crate::{Plumb, clock};

/// A secret on its way; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// Takes the end of the line away from a secret of one line: it is of the file or the pipe, not of the secret.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        if lines == 1 && bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        SecretValue(bytes)
    }

    /// A random one: letters and digits, as no program reads more into them.
    ///
    /// # Errors
    /// What the host's source of randomness says.
    pub fn random(limit_bytes: usize) -> Result<Self, OpsError> {
        let length = limit_bytes.min(RANDOM_LENGTH);
        let mut text = Vec::with_capacity(length);
        while text.len() < length {
            // What is above the last multiple of their number would make some letters likelier than others.
            let fair = random()?.into_iter().filter(|byte| *byte < 248);
            text.extend(
                fair.map(|byte| LETTERS[usize::from(byte) % LETTERS.len()]).take(length - text.len()),
            );
        }
        Ok(SecretValue(text))
    }
}

/// Letters of a random secret.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Length of a random secret: 190 bits, which nobody guesses.
const RANDOM_LENGTH: usize = 32;

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// What is to be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChange {
    /// Values, as they were written.
    pub set: Vec<(ConfigName, String)>,
    /// Secrets.
    pub secrets: Vec<(ConfigName, SecretValue)>,
    /// What goes back to its default, or is no longer set.
    pub unset: Vec<ConfigName>,
}

/// Values of a file of settings: TOML, a line `NAME = VALUE` each.
///
/// # Errors
/// [`ConfigError::File`] and what reading says.
pub fn read_settings(path: &Path) -> Result<Vec<(ConfigName, String)>, OpsError> {
    let text = read_text(path)?;
    let refused = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| refused(error.to_string()))?;
    let read = |(name, value): (String, toml::Value)| {
        let name: ConfigName = name.parse().map_err(|error: ConfigNameError| refused(error.to_string()))?;
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(value) => value.to_string(),
            _ => {
                return Err(
                    refused(format!("`{name}` is no string, no whole number and no truth value")).into()
                );
            }
        };
        Ok((name, text))
    };
    table.into_iter().map(read).collect()
}

/// When instances are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Now, if the deployment runs.
    Now,
    /// With the next plan.
    Later,
    /// Nothing is set: what would happen is told.
    DryRun,
}

/// What came of a change.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigOutcome {
    /// Deployment.
    pub deployment: DeploymentName,
    /// The configuration that is wanted now; `None` if nothing was ever set.
    pub configuration: Option<u64>,
    /// It is new.
    pub changed: bool,
    /// Instances were told.
    pub applied: bool,
    /// What was done for that, or would be.
    pub plan: Option<Explanation>,
    /// Its steps.
    pub steps: Vec<String>,
}

/// The next version, and what is new in it.
pub(crate) struct Draft {
    pub(crate) configuration: Configuration,
    secrets: Vec<(ConfigName, Digest, Vec<u8>)>,
}

impl Plumb<'_> {
    /// Changes what is set of a deployment; instances whose machines refer to it are replaced in the order of `needs`.
    ///
    /// # Errors
    /// [`ConfigError`] and others. Nothing is set if the deployment could not run with it.
    pub fn configure(
        &self,
        name: &DeploymentName,
        change: &ConfigChange,
        apply: Apply,
    ) -> Result<ConfigOutcome, OpsError> {
        let record = self.to_configure(name, apply)?;
        let before = self.state()?.configured(name)?.wanted;
        let wanted = |state: &State| state.configured(name).map(|configured| configured.wanted);
        if let Some(current) = record.current.as_ref().filter(|_| apply != Apply::Later) {
            let release = self.read_release(current)?;
            let which = Which::With(change.clone());
            let errand = Errand::to(&release, which, Origin::Release, apply == Apply::DryRun);
            let outcome = self.deploy(name, errand)?;
            let configuration = wanted(&self.state()?)?;
            return Ok(ConfigOutcome {
                deployment: name.clone(),
                configuration,
                changed: configuration != before,
                applied: apply == Apply::Now,
                plan: Some(outcome.plan),
                steps: outcome.steps,
            });
        }
        let mut locked = self.lock_deployment(name, self.bare_target(name))?;
        let release = record.current.as_ref().map(|current| self.read_release(current)).transpose()?;
        let draft = self.next_configuration(&locked.state, (name, &record.app), release.as_ref(), change)?;
        if let Some(draft) = draft.filter(|_| apply != Apply::DryRun) {
            self.keep(&mut locked.state, draft)?;
        }
        let configuration = wanted(&locked.state)?;
        Ok(ConfigOutcome {
            deployment: name.clone(),
            configuration,
            changed: configuration != before,
            applied: false,
            plan: None,
            steps: Vec::new(),
        })
    }

    /// The record of a deployment. What is set first may come before it ever ran: it is then one of the application of its name.
    fn to_configure(&self, name: &DeploymentName, apply: Apply) -> Result<DeploymentRecord, OpsError> {
        let unknown = match self.known(name) {
            Err(error @ OpsError::NoDeployment { .. }) => error,
            known => return known,
        };
        let Ok(app) = name.as_str().parse::<AppName>() else { return Err(unknown) };
        if apply == Apply::DryRun || self.store.releases(&app)?.is_empty() {
            return Err(unknown);
        }
        Ok(self.state()?.ensure_deployment(name, &app)?)
    }

    /// The configuration that a plan is to bring. A change is kept, unless the release cannot run with it.
    pub(crate) fn choose(
        &self,
        locked: &mut Locked,
        release: &Release,
        which: &Which,
        dry_run: bool,
    ) -> Result<(Option<Configuration>, Settings), OpsError> {
        let number = match which {
            Which::Exactly(number) => *number,
            Which::Wanted | Which::With(_) => locked.state.configured(&locked.name)?.wanted,
        };
        let found = self.configuration(&locked.state, &locked.name, number)?;
        let draft = match which {
            Which::With(change) => {
                self.next_configuration(&locked.state, (&locked.name, &release.app), Some(release), change)?
            }
            Which::Wanted => {
                // It may want a secret that is to be made.
                let none = ConfigChange::default();
                self.next_configuration(&locked.state, (&locked.name, &release.app), Some(release), &none)?
            }
            Which::Exactly(_) => None,
        };
        let chosen = draft.as_ref().map(|draft| draft.configuration.clone()).or(found);
        let told = self.fit(&locked.name, release, chosen.as_ref())?;
        if let Some(draft) = draft.filter(|_| !dry_run) {
            self.keep(&mut locked.state, draft)?;
        }
        Ok((chosen, told))
    }

    /// What a release is tested with: values that are given, defaults, and random secrets.
    pub(crate) fn configure_test(
        &self,
        locked: &mut Locked,
        release: &Release,
        set: &[(ConfigName, String)],
    ) -> Result<Settings, OpsError> {
        let mut change = ConfigChange { set: set.to_vec(), ..ConfigChange::default() };
        for (name, key) in release.content.config.iter().filter(|(_, key)| key.kind == Kind::Secret) {
            change.secrets.push((name.clone(), SecretValue::random(key.secret_limit())?));
        }
        match self.choose(locked, release, &Which::With(change), false) {
            Ok((_, told)) => Ok(told),
            Err(OpsError::Config(ConfigError::Unfit { release, unfit, .. })) => {
                Err(ConfigError::Untestable { release, unfit }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// What instances of `release` are told with a configuration.
    pub(crate) fn fit(
        &self,
        name: &DeploymentName,
        release: &Release,
        configuration: Option<&Configuration>,
    ) -> Result<Settings, OpsError> {
        settings(&release.content.config, configuration).map_err(|unfit| {
            ConfigError::Unfit { deployment: name.clone(), release: release.name(), unfit }.into()
        })
    }

    /// What instances are told as a deployment runs now, for who watches it.
    pub(crate) fn settings_of(
        &self,
        state: &State,
        name: &DeploymentName,
        release: &Release,
    ) -> Result<Settings, OpsError> {
        let configuration = self.configuration(state, name, state.configured(name)?.current)?;
        self.fit(name, release, configuration.as_ref())
    }

    /// A configuration by number.
    pub(crate) fn configuration(
        &self,
        state: &State,
        name: &DeploymentName,
        number: Option<u64>,
    ) -> Result<Option<Configuration>, OpsError> {
        let Some(number) = number else { return Ok(None) };
        let found = state.configuration(name, number)?;
        found
            .map(Some)
            .ok_or_else(|| ConfigError::NoConfiguration { deployment: name.clone(), number }.into())
    }

    /// The next version with the change; `None` if it changes nothing.
    fn next_configuration(
        &self,
        state: &State,
        (name, app): (&DeploymentName, &AppName),
        release: Option<&Release>,
        change: &ConfigChange,
    ) -> Result<Option<Draft>, OpsError> {
        let base = self.configuration(state, name, state.configured(name)?.wanted)?;
        let (mut values, mut secrets) =
            base.as_ref().map(|base| (base.values.clone(), base.secrets.clone())).unwrap_or_default();
        let schemas = self.schemas(app, release)?;
        for (key_name, text) in &change.set {
            let key = key(&schemas, name, key_name)?;
            if key.kind == Kind::Secret {
                return Err(ConfigError::IsSecret { deployment: name.clone(), name: key_name.clone() }.into());
            }
            let value =
                key.read(text).map_err(|refused| ConfigError::Refused { name: key_name.clone(), refused })?;
            values.insert(key_name.clone(), value);
        }
        for key_name in &change.unset {
            if values.remove(key_name).is_none() && secrets.remove(key_name).is_none() {
                key(&schemas, name, key_name)?;
            }
        }
        let mut given = Vec::new();
        for (key_name, secret) in &change.secrets {
            check_secret(key(&schemas, name, key_name)?, (name, key_name), secret)?;
            let before = secrets.get(key_name);
            let before = before.map(|version| Purpose { deployment: name, name: key_name, version });
            if !before.map_or(Ok(false), |before| self.is_same_secret(state, before, secret))? {
                given.push((key_name.clone(), secret.clone()));
            }
        }
        for (key_name, key) in release.iter().flat_map(|release| &release.content.config) {
            let is_given = given.iter().any(|(given, _)| given == key_name);
            if key.generate && !secrets.contains_key(key_name) && !is_given {
                given.push((key_name.clone(), SecretValue::random(key.secret_limit())?));
            }
        }
        let mut fresh = Vec::new();
        for (key_name, SecretValue(secret)) in given {
            let version = Digest::from_bytes(random()?);
            secrets.insert(key_name.clone(), version);
            fresh.push((key_name, version, secret));
        }
        let is_same = base.as_ref().is_some_and(|base| base.values == values && base.secrets == secrets);
        if is_same || (base.is_none() && values.is_empty() && secrets.is_empty()) {
            return Ok(None);
        }
        let number = state.configurations(name)?.last().map_or(0, |last| last.number) + 1;
        let configuration = Configuration {
            format: Configuration::FORMAT,
            deployment: name.clone(),
            app: app.clone(),
            number,
            previous: base.map(|base| base.digest()),
            created_s: clock::now_s(),
            author: self.author(),
            values,
            secrets,
        };
        Ok(Some(Draft { configuration, secrets: fresh }))
    }

    /// Who changes something: `user@host`.
    pub(crate) fn author(&self) -> String {
        self.claim().who
    }

    fn is_same_secret(
        &self,
        state: &State,
        purpose: Purpose<'_>,
        secret: &SecretValue,
    ) -> Result<bool, OpsError> {
        let Some(sealed) = state.secret(purpose.deployment, purpose.version)? else { return Ok(false) };
        let Some(identities) = self.identities()? else { return Ok(false) };
        // One that cannot be opened here is another one.
        Ok(identities.open(&sealed, purpose).is_ok_and(|before| before == secret.0))
    }

    /// Releases whose schema says what can be set: the one at hand, and the newest, which may be the next one.
    fn schemas(&self, app: &AppName, release: Option<&Release>) -> Result<Vec<Release>, OpsError> {
        let mut all: Vec<Release> = release.cloned().into_iter().collect();
        match self.newest_release(app) {
            Ok(newest) if all.iter().all(|one| one.number != newest.number) => all.push(newest),
            Ok(_) | Err(OpsError::NoReleases { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(all)
    }

    /// Seals what is new and keeps the version.
    fn keep(&self, state: &mut State, draft: Draft) -> Result<(), OpsError> {
        let Draft { configuration, secrets } = draft;
        let mut sealed = Vec::new();
        if !secrets.is_empty() {
            let identities = self.identities_or_new()?;
            let recipients = self.recipients(state, &identities)?;
            for (name, version, secret) in &secrets {
                let purpose = Purpose { deployment: &configuration.deployment, name, version };
                sealed.push((*version, seal::seal(secret, purpose, &recipients)?));
            }
        }
        Ok(state.add_configuration(&configuration, &sealed)?)
    }

    /// For whom is sealed; this home is always one of them.
    pub(super) fn recipients(
        &self,
        state: &mut State,
        identities: &Identities,
    ) -> Result<Vec<age::x25519::Recipient>, OpsError> {
        state.add_recipient(&RecipientRecord { recipient: identities.public(), name: self.author() })?;
        state.recipients()?.iter().map(|record| seal::recipient(&record.recipient)).collect()
    }

    /// Opens the secrets of all instances that a plan starts.
    pub(crate) fn open_secrets(&self, state: &State, plan: &Plan) -> Result<Opened, OpsError> {
        let mut opened = Opened::default();
        let wanted: BTreeSet<(&ConfigName, &Digest)> = plan
            .actions
            .iter()
            .filter_map(|action| match action {
                plumb_plan::Action::Start { boot, .. } => Some(boot.secrets.iter()),
                _ => None,
            })
            .flatten()
            .collect();
        if wanted.is_empty() {
            return Ok(opened);
        }
        let path = || PathBuf::from("secrets/identity.txt");
        let identities = self.identities()?.ok_or_else(|| ConfigError::NoIdentity { path: path() })?;
        for (name, version) in wanted {
            let deployment = &plan.deployment;
            let sealed = state
                .secret(deployment, version)?
                .ok_or_else(|| ConfigError::Lost { deployment: deployment.clone(), name: name.clone() })?;
            opened.0.insert(*version, identities.open(&sealed, Purpose { deployment, name, version })?);
        }
        Ok(opened)
    }
}

/// Secrets by version, while a plan is carried out.
#[derive(Default)]
pub(crate) struct Opened(std::collections::BTreeMap<Digest, Vec<u8>>);

impl Opened {
    /// Those of one start.
    pub(crate) fn of(&self, boot: &plumb_plan::BootSpec) -> plumb_target::Secrets {
        let own = boot.secrets.iter();
        let own = own.filter_map(|(name, version)| Some((name.to_string(), self.0.get(version)?.clone())));
        plumb_target::Secrets::new(own.collect())
    }
}

/// Whether a text can be this secret.
fn check_secret(
    key: &Key,
    (deployment, name): (&DeploymentName, &ConfigName),
    SecretValue(secret): &SecretValue,
) -> Result<(), ConfigError> {
    if key.kind != Kind::Secret {
        return Err(ConfigError::IsNoSecret { deployment: deployment.clone(), name: name.clone() });
    }
    let (bytes, limit) = (secret.len(), key.secret_limit());
    if bytes == 0 || bytes > limit {
        return Err(ConfigError::SecretLength { name: name.clone(), bytes, limit });
    }
    Ok(())
}

fn key<'s>(
    schemas: &'s [Release],
    deployment: &DeploymentName,
    name: &ConfigName,
) -> Result<&'s Key, OpsError> {
    let found = schemas.iter().find_map(|release| release.content.config.get(name));
    found.ok_or_else(|| {
        let known: BTreeSet<ConfigName> =
            schemas.iter().flat_map(|release| release.content.config.keys().cloned()).collect();
        let releases: Vec<ReleaseName> = schemas.iter().map(Release::name).collect();
        ConfigError::Unknown {
            deployment: deployment.clone(),
            name: name.clone(),
            releases,
            known: known.into_iter().collect(),
        }
        .into()
    })
}
