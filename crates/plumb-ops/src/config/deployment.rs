//! What a deployment has set, on its way to a plan.

use plumb_model::DeploymentName;
use plumb_model::config::{Settings, settings};
use plumb_model::release::Release;
use plumb_state::State;

use super::ConfigError;
use crate::Plumb;
use crate::deploy::Locked;
use crate::error::OpsError;

impl Plumb<'_> {
    /// What instances of `release` are told in a deployment.
    pub(crate) fn settings(&self, locked: &Locked, release: &Release) -> Result<Settings, OpsError> {
        self.settings_of(&locked.state, &locked.name, release)
    }

    /// The same for who only looks.
    pub(crate) fn settings_of(
        &self,
        _state: &State,
        name: &DeploymentName,
        release: &Release,
    ) -> Result<Settings, OpsError> {
        settings(&release.content.config, None).map_err(|unfit| {
            ConfigError::Unfit { deployment: name.clone(), release: release.name(), unfit }.into()
        })
    }
}
