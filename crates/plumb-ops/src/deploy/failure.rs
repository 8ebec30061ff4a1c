//! What follows when a plan failed, as the plan itself says: back, or to stay as everything is then.

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{DeploymentName, InstanceName};
use plumb_plan::{Action, Broken, LeftBehind, OnFailure, Plan, PlanKind};
use plumb_state::{PlanStatus, State};
use plumb_target::{InstanceState, Target as _};
use serde::Serialize;

use super::Locked;
use crate::Plumb;
use crate::config::ConfigError;
use crate::data::{self, Wish};
use crate::error::OpsError;
use crate::progress::Progress;

/// A plan that failed, and what ran before.
pub(super) struct Failure<'f> {
    pub(super) release: &'f Release,
    pub(super) plan: &'f Plan,
    pub(super) before: Option<&'f ReleaseName>,
    /// The configuration that it was to bring.
    pub(super) config: Option<u64>,
    /// The one that ran before.
    pub(super) ran: Option<u64>,
}

/// One instance, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stands {
    /// Instance.
    pub instance: String,
    /// The release it was started as.
    pub release: String,
    /// `ready`, `not ready` or `ended`.
    pub state: &'static str,
}

impl Plumb<'_> {
    /// Does what the plan says about its failure. The result is the error to report.
    pub(super) fn after_failure(
        &self,
        locked: &mut Locked,
        failure: Failure<'_>,
        Broken { step, error }: Broken<OpsError>,
    ) -> OpsError {
        let Failure { release, plan, before, config, ran } = failure;
        match error {
            // All was done but for some instances.
            OpsError::NotWhole { .. } => error,
            // Going back would have to be written down, too.
            OpsError::State(error) if error.is_lost() => error.into(),
            error if data::changed_nothing(plan, &error) => error,
            error if plan.on_failure(step) == OnFailure::Stop => OpsError::Stopped {
                deployment: locked.name.clone(),
                to: release.name(),
                before: before.cloned(),
                stands: stands(locked),
                source: Box::new(error),
            },
            error => {
                // The same release may have run with another configuration; what was stopped for its data comes back, too.
                let is_at_rest = matches!(plan.kind, PlanKind::Snapshot | PlanKind::Restore);
                let stays = is_at_rest || (before.is_some() && config != ran);
                let own = release.name();
                match before.filter(|before| **before != own).or(stays.then_some(&own)) {
                    Some(back) => self.go_back(locked, failure, back, error),
                    None => error,
                }
            }
        }
    }

    /// Whether all instances are there, or the plan came to its end without some.
    #[expect(clippy::result_large_err, reason = "one command has one, and it is passed on as it is")]
    pub(super) fn all_there(
        &self,
        locked: &Locked,
        plan: &Plan,
        left: Vec<LeftBehind<OpsError>>,
    ) -> Result<(), Broken<OpsError>> {
        let names: Box<[InstanceName]> = left.iter().map(|(name, _)| name.clone()).collect();
        let (Some((_, first)), Some(to)) = (left.into_iter().next(), &plan.to) else { return Ok(()) };
        let error = OpsError::NotWhole {
            deployment: locked.name.clone(),
            to: to.clone(),
            before: plan.from.clone().filter(|from| from != to),
            instances: names,
            source: Box::new(first),
        };
        Err(Broken { step: None, error })
    }

    /// Whether a plan to somewhere else than what is current was begun, and neither finished nor taken back.
    pub(super) fn is_begun(
        &self,
        state: &State,
        name: &DeploymentName,
        current: &ReleaseName,
    ) -> Result<bool, OpsError> {
        let Some(last) = state.last_plan(name)? else { return Ok(false) };
        let leads_on = matches!(
            last.plan.kind,
            PlanKind::Up | PlanKind::Upgrade | PlanKind::Configure | PlanKind::Rollback
        );
        let pair = (last.plan.to.as_ref(), last.plan.config.map(|config| config.number));
        let is_other = pair != (Some(current), state.configured(name)?.current);
        let first = last.plan.actions.iter().position(|action| matches!(action, Action::Start { .. }));
        let started = first.is_some_and(|first| last.steps_done >= first as u64);
        let is_open = matches!(last.status, PlanStatus::Running | PlanStatus::Failed);
        Ok(leads_on && is_other && started && is_open)
    }

    /// Returns the whole set to the pair it ran before: `current` with the configuration of then. The result is the error to
    /// report.
    fn go_back(
        &self,
        locked: &mut Locked,
        Failure { release: failed, plan, config, ran, .. }: Failure<'_>,
        current: &ReleaseName,
        error: OpsError,
    ) -> OpsError {
        let deployment = locked.name.clone();
        let to = failed.name();
        let stranded = |why: OpsError, error: OpsError| OpsError::Stranded {
            deployment: deployment.clone(),
            to: to.clone(),
            why: Box::new(why),
            source: Box::new(error),
        };
        let restore = match self.data_before(locked, failed, plan) {
            Ok(restore) => restore,
            Err(second) => return stranded(second, error),
        };
        let told = |release: &ReleaseName, config: Option<u64>| match config {
            Some(config) if to == *current => format!("configuration {config}"),
            _ => release.to_string(),
        };
        let returned = self.read_release(current).and_then(|release| {
            let configuration = self.configuration(&locked.state, &locked.name, ran)?;
            let settings = self.fit(&locked.name, &release, configuration.as_ref())?;
            let wish = Wish { restore, ..Wish::default() };
            // Where a fence is in between there may be none.
            let back = self.plan_from(locked, (&release, &settings), PlanKind::Return, &wish)?;
            self.report(Progress::Returning { from: told(&to, config), to: told(current, ran) });
            self.execute(locked, &back.plan)?;
            self.lease_returned(locked, &release)?;
            // What failed is not tried again by the next command.
            Ok(locked.state.want_configuration(&locked.name, ran)?)
        });
        match returned {
            Ok(()) if to == *current => ConfigError::Returned {
                deployment: deployment.clone(),
                config: config.unwrap_or_default(),
                back: ran,
                source: Box::new(error),
            }
            .into(),
            Ok(()) => OpsError::Returned {
                deployment: deployment.clone(),
                to,
                from: current.clone(),
                source: Box::new(error),
            },
            Err(second) => stranded(second, error),
        }
    }
}

/// Every instance of which anything is left. What cannot be seen is not told.
fn stands(locked: &Locked) -> Box<[Stands]> {
    let seen = locked.target.observe().unwrap_or_default();
    let all = seen.into_iter().map(|one| Stands {
        state: match (one.state == InstanceState::Running, one.is_ready()) {
            (false, _) => "ended",
            (true, false) => "not ready",
            (true, true) => "ready",
        },
        instance: one.name,
        release: one.release,
    });
    all.collect()
}
