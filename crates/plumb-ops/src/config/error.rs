//! What is wrong with a configuration.

use std::path::PathBuf;

use plumb_model::DeploymentName;
use plumb_model::config::{ConfigName, Kind, Refused, Unfit};
use plumb_model::release::ReleaseName;

use crate::error::OpsError;

/// Why a configuration cannot be set or run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The schema of the release asks for something else.
    #[error("`{release}` cannot run as `{deployment}`: {}", sentence(unfit))]
    Unfit {
        /// Deployment.
        deployment: DeploymentName,
        /// Release.
        release: ReleaseName,
        /// What is missing or refused.
        unfit: Vec<Unfit>,
    },
    /// A test needs values, too.
    #[error("`{release}` cannot be tested: {}", sentence(unfit))]
    Untestable {
        /// Release.
        release: ReleaseName,
        /// What is missing or refused.
        unfit: Vec<Unfit>,
    },
    /// The name is in no schema.
    #[error("`{deployment}` has no setting `{name}`: it is not in `[config]` of {}", names(releases))]
    Unknown {
        /// Deployment.
        deployment: DeploymentName,
        /// Name.
        name: ConfigName,
        /// Releases whose schema was looked at.
        releases: Vec<ReleaseName>,
        /// Names that there are.
        known: Vec<ConfigName>,
    },
    /// A value is not allowed.
    #[error("`{name}` {refused}")]
    Refused {
        /// Name.
        name: ConfigName,
        /// Why.
        refused: Refused,
    },
    /// A secret on a command line could be read by everybody.
    #[error("`{name}` is a secret, and is never an argument")]
    IsSecret {
        /// Deployment.
        deployment: DeploymentName,
        /// Name.
        name: ConfigName,
    },
    /// A value that is no secret.
    #[error("`{name}` is no secret")]
    IsNoSecret {
        /// Deployment.
        deployment: DeploymentName,
        /// Name.
        name: ConfigName,
    },
    /// Nothing, or too much.
    #[error("the secret `{name}` has {bytes} bytes, but must have from 1 to {limit}")]
    SecretLength {
        /// Name.
        name: ConfigName,
        /// Its length.
        bytes: usize,
        /// The longest that is allowed.
        limit: usize,
    },
    /// There is no such configuration.
    #[error("`{deployment}` has no configuration {number}")]
    NoConfiguration {
        /// Deployment.
        deployment: DeploymentName,
        /// Number.
        number: u64,
    },
    /// A file of settings is not one.
    #[error("`{path}` is no file of settings: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was written in an editor cannot be set.
    #[error("what you wrote in `{path}` is not set", path = path.display())]
    Edit {
        /// Deployment.
        deployment: DeploymentName,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<OpsError>,
    },
    /// There is no key.
    #[error("no key of this home opens secrets: `{path}` is not there", path = path.display())]
    NoIdentity {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file of keys is not one.
    #[error("`{path}` holds no age identity of this kind (X25519)", path = path.display())]
    BadIdentity {
        /// The file.
        path: PathBuf,
    },
    /// Nobody can be asked for the passphrase of a file of keys.
    #[error("`{path}` wants a passphrase, and there is no terminal to ask for it", path = path.display())]
    NoPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase of a file of keys is wrong.
    #[error("cannot open `{path}` with this passphrase", path = path.display())]
    LockedIdentity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: age::DecryptError,
    },
    /// A key that was given by the environment is not Plumb's to change.
    #[error("`{path}` was given by the environment, and is not changed", path = path.display())]
    ForeignIdentity {
        /// The file.
        path: PathBuf,
    },
    /// A public key is none.
    #[error("`{value}` is no age recipient")]
    NoRecipient {
        /// What was given.
        value: String,
    },
    /// The recipient is this home, or is not known.
    #[error("`{value}` cannot be taken out: {reason}")]
    KeptRecipient {
        /// What was given.
        value: String,
        /// Why.
        reason: &'static str,
    },
    /// Not sealed for us.
    #[error("cannot open the secret `{name}` of `{deployment}`")]
    Sealed {
        /// Deployment.
        deployment: DeploymentName,
        /// Name.
        name: ConfigName,
        /// Why.
        source: age::DecryptError,
    },
    /// Sealed for something else.
    #[error("what the state holds as the secret `{name}` of `{deployment}` was sealed for something else")]
    Swapped {
        /// Deployment.
        deployment: DeploymentName,
        /// Name.
        name: ConfigName,
    },
    /// Not in the state.
    #[error("the secret `{name}` of `{deployment}` is not in the state any more")]
    Lost {
        /// Deployment.
        deployment: DeploymentName,
        /// Name.
        name: ConfigName,
    },
    /// Sealing failed.
    #[error("cannot seal")]
    Seal(#[source] age::EncryptError),
    /// A secret cannot be sealed anew, as it cannot be opened.
    #[error("cannot open a secret that is to be sealed anew; nothing was changed")]
    Reseal(#[source] age::DecryptError),
    /// The set did not become healthy, and went back.
    #[error("`{deployment}` did not become healthy with configuration {config}, and is back at {}", back_at(back.as_ref()))]
    Returned {
        /// Deployment.
        deployment: DeploymentName,
        /// The configuration that failed.
        config: u64,
        /// The one that runs again.
        back: Option<u64>,
        /// What happened.
        source: Box<OpsError>,
    },
}

/// `` `workers` is 0, but must be at least 1; secret `password` is not set``.
fn sentence(unfit: &[Unfit]) -> String {
    let one = |unfit: &Unfit| {
        let what = if unfit.kind == Kind::Secret { "secret " } else { "" };
        match &unfit.refused {
            Some(refused) => format!("{what}`{}` {refused}", unfit.name),
            None => format!("{what}`{}` is not set", unfit.name),
        }
    };
    unfit.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn names(releases: &[ReleaseName]) -> String {
    releases.iter().map(|release| format!("`{release}`")).collect::<Vec<_>>().join(" or ")
}

fn back_at(back: Option<&u64>) -> String {
    back.map_or_else(|| "what it ran before".to_owned(), |number| format!("configuration {number}"))
}

impl ConfigError {
    /// A command that helps.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            ConfigError::Unfit { deployment, unfit, .. } => {
                let first = unfit.first()?;
                match first.kind {
                    Kind::Secret => format!("`plumb secret set {deployment} {}` asks for it", first.name),
                    _ => format!("`plumb config set {deployment} {}=VALUE` sets it", first.name),
                }
            }
            ConfigError::Untestable { release, unfit } => {
                format!("`plumb test {release} --set {}=VALUE` gives it one", unfit.first()?.name)
            }
            ConfigError::Unknown { known, .. } if known.is_empty() => {
                "its definition has no `[config]`; nothing can be set".to_owned()
            }
            ConfigError::Unknown { name, known, .. } => {
                let near = known.iter().find(|known| is_near(known.as_str(), name.as_str()));
                match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        let all: Vec<&str> = known.iter().map(ConfigName::as_str).collect();
                        format!("known is {}", all.join(", "))
                    }
                }
            }
            ConfigError::IsSecret { deployment, name } => {
                format!("`plumb secret set {deployment} {name}` asks for it, or reads it from standard input")
            }
            ConfigError::IsNoSecret { deployment, name } => {
                format!("`plumb config set {deployment} {name}=VALUE` sets it")
            }
            ConfigError::NoConfiguration { deployment, .. } => format!("`plumb config log {deployment}` lists them"),
            ConfigError::NoIdentity { .. } | ConfigError::Sealed { .. } => {
                "`plumb secret recipients` shows the key of this home; who can open the secrets adds it with `plumb secret recipients --add KEY`".to_owned()
            }
            ConfigError::Swapped { deployment, name } | ConfigError::Lost { deployment, name } => {
                format!("`plumb secret set {deployment} {name}` sets it anew")
            }
            ConfigError::NoRecipient { .. } => "a public key of age begins with `age1`".to_owned(),
            ConfigError::NoPassphrase { .. } => {
                "`PLUMB_PASSPHRASE_FILE` in the environment names a file that holds it".to_owned()
            }
            ConfigError::LockedIdentity { .. } => {
                "it was given to `age -p` when the file was encrypted; nothing was changed".to_owned()
            }
            ConfigError::Edit { deployment, .. } => {
                format!("`plumb config edit {deployment}` goes on with it; without the file it begins anew")
            }
            ConfigError::ForeignIdentity { .. } => {
                "change it with age's own tools, and name its public key with `plumb secret recipients --add KEY`".to_owned()
            }
            ConfigError::Returned { source, .. } => return source.hints().into_iter().next(),
            _ => return None,
        })
    }
}

/// One letter too many, too few or other.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let start = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let end = one[start..].iter().rev().zip(other[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    one.len().max(other.len()) - start - end <= 2 && one.len().min(other.len()) > 2
}
