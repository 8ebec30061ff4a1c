//! What is wrong with a configuration.

use plumb_model::DeploymentName;
use plumb_model::config::{Kind, Unfit};
use plumb_model::release::ReleaseName;

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

impl ConfigError {
    /// A command that helps.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Unfit { deployment, unfit, .. } => {
                let first = unfit.first()?;
                Some(match first.kind {
                    Kind::Secret => format!("`plumb secret set {deployment} {}` asks for it", first.name),
                    _ => format!("`plumb config set {deployment} {}=VALUE` sets it", first.name),
                })
            }
        }
    }
}
