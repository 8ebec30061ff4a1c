//! The set that served before, kept for a time.

use plumb_model::DeploymentName;
use plumb_model::release::ReleaseName;
use plumb_plan::{Kept, check, plan_relieve};
use plumb_state::State;
use serde::Serialize;

use super::{Locked, repair_lock};
use crate::error::OpsError;
use crate::{Plumb, clock};

/// The set that served before, and runs on for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptSet {
    /// Its release.
    pub release: ReleaseName,
    /// Until when, milliseconds since 1970.
    pub until_ms: u64,
    /// How long that still is, milliseconds.
    pub left_ms: u64,
}

impl Plumb<'_> {
    /// What is kept beside a deployment's current release.
    pub(crate) fn kept_set(
        &self,
        state: &State,
        name: &DeploymentName,
        current: Option<&ReleaseName>,
    ) -> Result<Option<KeptSet>, OpsError> {
        let Some(current) = current else { return Ok(None) };
        let kept = state.serving(name)?.kept;
        Ok(kept.map(|Kept { release, until_ms }| KeptSet {
            release: ReleaseName { app: current.app.clone(), number: release },
            until_ms,
            left_ms: until_ms.saturating_sub(clock::now_ms()),
        }))
    }

    /// Takes away the set that served before if its time is over, unless a command works on the deployment.
    pub(crate) fn relieve_if_over(&self, name: &DeploymentName, now_ms: u64) -> Result<(), OpsError> {
        let is_over = |state: &State| -> Result<bool, OpsError> {
            Ok(state.serving(name)?.kept.is_some_and(|kept| kept.until_ms <= now_ms))
        };
        if !is_over(&self.state()?)? {
            return Ok(());
        }
        // Taken first: who finds the deployment busy sees why.
        let _repairing = self.store.lock(&repair_lock(name))?;
        let Some(mut locked) = self.try_lock_deployment(name, self.bare_target(name))? else {
            return Ok(());
        };
        // As it is now that nobody else changes it.
        if is_over(&locked.state)? { self.relieve(&mut locked) } else { Ok(()) }
    }

    /// Takes away the set that served before.
    pub(crate) fn relieve(&self, locked: &mut Locked) -> Result<(), OpsError> {
        let observed = self.observed(locked)?;
        let Some(current) = &observed.current else { return Ok(()) };
        let release = self.read_release(current)?;
        let parent = locked.state.last_plan(&locked.name)?.map(|record| record.plan);
        let plan = plan_relieve(&locked.name, &observed, &release, parent.as_ref())?;
        let broken = check(&plan, &observed, Some(&release));
        if !broken.is_empty() {
            return Err(OpsError::Unsound { deployment: locked.name.clone(), broken });
        }
        self.execute(locked, &plan)
    }
}
