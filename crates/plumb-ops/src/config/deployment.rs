//! What a deployment has set, on its way to a plan.

use plumb_model::config::{Settings, settings};
use plumb_model::release::Release;

use super::ConfigError;
use crate::Plumb;
use crate::deploy::Locked;
use crate::error::OpsError;

impl Plumb<'_> {
    /// What instances of `release` are told in a deployment.
    pub(crate) fn settings(&self, locked: &Locked, release: &Release) -> Result<Settings, OpsError> {
        settings(&release.content.config, None).map_err(|unfit| {
            ConfigError::Unfit { deployment: locked.name.clone(), release: release.name(), unfit }.into()
        })
    }
}
