//! Plans and the journal of their steps.

use plumb_model::release::ReleaseName;
use plumb_model::{DeploymentName, Document};
use plumb_plan::Plan;

use crate::{State, StateError};

/// How a plan went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanStatus {
    /// Begun. If nobody executes it any more, it was interrupted.
    Running,
    /// All steps done.
    Done,
    /// A step failed.
    Failed,
    /// Another plan took over before it ended.
    Superseded,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// Begun.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
}

/// A plan with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRecord {
    /// The plan.
    pub plan: Plan,
    /// How it went.
    pub status: PlanStatus,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// How many of its steps are done.
    pub steps_done: u64,
}

impl PlanStatus {
    fn as_str(self) -> &'static str {
        match self {
            PlanStatus::Running => "running",
            PlanStatus::Done => "done",
            PlanStatus::Failed => "failed",
            PlanStatus::Superseded => "superseded",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [PlanStatus::Running, PlanStatus::Done, PlanStatus::Failed, PlanStatus::Superseded]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

impl StepStatus {
    fn as_str(self) -> &'static str {
        match self {
            StepStatus::Running => "running",
            StepStatus::Done => "done",
            StepStatus::Failed => "failed",
        }
    }
}

impl State {
    /// Records a plan before its first step. Marks an unfinished one as superseded. A generation is used once.
    ///
    /// # Errors
    /// [`StateError`]; also if a plan with this generation exists.
    pub fn add_plan(&mut self, plan: &Plan, now_ms: u64) -> Result<(), StateError> {
        let name = plan.deployment.as_str();
        self.transaction(|database| {
            database.execute(
                "UPDATE plan SET status = 'superseded', ended_ms = $2 WHERE deployment = $1 AND status = 'running'",
                &[name.into(), now_ms.into()],
            )?;
            let document = plan.to_bytes();
            database.execute(
                "INSERT INTO plan (deployment, generation, document, status, started_ms)
                 VALUES ($1, $2, $3, 'running', $4)",
                &[name.into(), plan.generation.into(), document.as_slice().into(), now_ms.into()],
            )?;
            Ok(())
        })
    }

    /// Journals a step.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn record_step(
        &mut self,
        plan: &Plan,
        seq: usize,
        status: StepStatus,
        now_ms: u64,
    ) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO step (deployment, generation, seq, status, at_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (deployment, generation, seq) DO UPDATE SET status = $4, at_ms = $5",
            &[
                plan.deployment.as_str().into(),
                plan.generation.into(),
                (seq as u64).into(),
                status.as_str().into(),
                now_ms.into(),
            ],
        )?;
        Ok(())
    }

    /// Records how a plan ended.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn end_plan(
        &mut self,
        plan: &Plan,
        status: PlanStatus,
        reason: Option<&str>,
        now_ms: u64,
    ) -> Result<(), StateError> {
        self.execute(
            "UPDATE plan SET status = $3, reason = $4, ended_ms = $5 WHERE deployment = $1 AND generation = $2",
            &[
                plan.deployment.as_str().into(),
                plan.generation.into(),
                status.as_str().into(),
                reason.into(),
                now_ms.into(),
            ],
        )?;
        Ok(())
    }

    /// The releases that a deployment has run healthily, latest first; one that was run again is named again.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn healthy_releases(&self, name: &DeploymentName) -> Result<Vec<ReleaseName>, StateError> {
        let documents = self.rows(
            "SELECT document FROM plan WHERE deployment = $1 AND status = 'done' AND reason IS NULL ORDER BY generation DESC",
            &[name.as_str().into()],
            |row| Ok(row.bytes(0)?.to_vec()),
        )?;
        let mut releases = Vec::new();
        for document in documents {
            let plan = Plan::from_bytes(&document).map_err(|_| self.damaged("plan", name))?;
            releases.extend(plan.to);
        }
        Ok(releases)
    }

    /// The newest plan of a deployment.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn last_plan(&self, name: &DeploymentName) -> Result<Option<PlanRecord>, StateError> {
        let rows = self.rows(
            "SELECT document, status, reason, started_ms, ended_ms,
                    (SELECT count(*) FROM step WHERE step.deployment = plan.deployment
                     AND step.generation = plan.generation AND step.status = 'done')
             FROM plan WHERE deployment = $1 ORDER BY generation DESC LIMIT 1",
            &[name.as_str().into()],
            |row| {
                let (status, reason) = (row.text(1)?.to_owned(), row.text_or_none(2)?.map(str::to_owned));
                let times = (row.number(3)?, row.number_or_none(4)?);
                Ok((row.bytes(0)?.to_vec(), status, reason, times, row.number(5)?))
            },
        )?;
        let Some((document, status, reason, (started_ms, ended_ms), steps_done)) = rows.into_iter().next()
        else {
            return Ok(None);
        };
        let plan = Plan::from_bytes(&document).map_err(|_| self.damaged("plan", name))?;
        let status = PlanStatus::parse(&status).ok_or_else(|| self.damaged("plan", name))?;
        Ok(Some(PlanRecord { plan, status, reason, started_ms, ended_ms, steps_done }))
    }
}
