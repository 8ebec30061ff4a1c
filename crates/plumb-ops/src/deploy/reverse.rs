//! Going below a fence with the data as it is: what is known of the release whose data is turned back.

use plumb_model::config::Settings;
use plumb_model::release::{Release, ReleaseName};
use plumb_plan::{Former, Observed, has_reverse_tasks};
use plumb_state::PlanStatus;

use super::Locked;
use crate::Plumb;
use crate::error::OpsError;

/// The release whose data it is, if it can turn that back.
pub(crate) struct Reversible {
    pub(super) release: Release,
    settings: Settings,
    reaches: u64,
}

impl Reversible {
    pub(super) fn borrowed(&self) -> Former<'_> {
        Former { release: &self.release, settings: &self.settings, reaches: self.reaches }
    }
}

impl Plumb<'_> {
    /// The release whose data it is, if `wanted` is below its fence and it has tasks that turn its data back.
    pub(super) fn reversible(
        &self,
        locked: &Locked,
        observed: &Observed,
        wanted: &Release,
    ) -> Result<Option<Reversible>, OpsError> {
        let Some(current) = observed.holder().filter(|_| wanted.number < observed.fence) else {
            return Ok(None);
        };
        let release = self.read_release(current)?;
        if !has_reverse_tasks(&release) {
            return Ok(None);
        }
        // Its images start machines, too.
        self.check_images(&release)?;
        let settings = self.settings_of(&locked.state, &locked.name, &release)?;
        // The data is then as the release below the fence leaves it, and how far down that is read is what it says itself.
        let below = observed.fence.saturating_sub(1);
        let reaches = match self.read_release(&ReleaseName { app: current.app.clone(), number: below }) {
            Ok(release) => release.content.fence,
            Err(OpsError::NoRelease { .. }) => below,
            Err(error) => return Err(error),
        };
        Ok(Some(Reversible { release, settings, reaches }))
    }

    /// The release whose data a plan that did not come to its end may have turned back.
    pub(super) fn turned_back(&self, locked: &Locked) -> Result<Option<ReleaseName>, OpsError> {
        let last = locked.state.last_plan(&locked.name)?;
        Ok(last.and_then(|last| {
            let is_over = last.status == PlanStatus::Done && last.plan.settles();
            last.plan.reversed.filter(|_| !is_over)
        }))
    }
}
