//! Going below a fence with the data as it is: what is known of the release whose data is turned back.

use plumb_model::config::Settings;
use plumb_model::release::{Release, ReleaseName};
use plumb_plan::{Former, Observed, Progress, has_reverse_tasks, touched};
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
        let settings = if observed.touched.as_ref() == Some(current) {
            // It was to run with what the plan says that let it at the data.
            let last = locked.state.last_plan(&locked.name)?.map(|last| last.plan);
            let own = last.filter(|plan| plan.to.as_ref() == Some(current)).and_then(|plan| plan.config);
            let number = own.map(|config| config.number).or(observed.config);
            let configuration = self.configuration(&locked.state, &locked.name, number)?;
            self.fit(&locked.name, &release, configuration.as_ref())?
        } else {
            self.settings_of(&locked.state, &locked.name, &release)?
        };
        // The data is then as the release below the fence leaves it, and how far down that is read is what it says itself.
        let below = observed.fence.saturating_sub(1);
        let reaches = match self.read_release(&ReleaseName { app: current.app.clone(), number: below }) {
            Ok(release) => release.content.fence,
            Err(OpsError::NoRelease { .. }) => below,
            Err(error) => return Err(error),
        };
        Ok(Some(Reversible { release, settings, reaches }))
    }

    /// The release that was let at the data of `base`; see [`plumb_plan::touched`].
    pub(crate) fn touched(
        &self,
        locked: &Locked,
        base: Option<&ReleaseName>,
    ) -> Result<Option<ReleaseName>, OpsError> {
        let last = locked.state.last_plan(&locked.name)?;
        let last = last.as_ref().map(|last| Progress {
            plan: &last.plan,
            done: usize::try_from(last.steps_done).unwrap_or(usize::MAX),
            is_through: last.status == PlanStatus::Done,
        });
        touched(last, base, |name| self.fence_of(name))
    }

    /// Lowest release that reads what a release wrote; 0 if that is not known any more.
    pub(super) fn fence_of(&self, name: &ReleaseName) -> Result<u64, OpsError> {
        match self.read_release(name) {
            Ok(release) => Ok(release.content.fence),
            Err(OpsError::NoRelease { .. }) => Ok(0),
            Err(error) => Err(error),
        }
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
