//! Carrying a plan out, step by step, and what follows when that failed. Who really does something is somebody else: a host, or
//! a simulation.

use plumb_model::InstanceName;

use crate::document::{Action, OnFailure, Plan};
use crate::side::is_for_tasks;

/// Who does what a plan says.
pub trait Hands {
    /// Why a step failed.
    type Error;

    /// Does one step. It may have been done before, in part or whole.
    ///
    /// # Errors
    /// If it cannot be done; then the plan has failed, or goes on without the instance if it says so.
    fn act(&mut self, action: &Action) -> Result<(), Self::Error>;

    /// Writes down how step `seq` went.
    ///
    /// # Errors
    /// If it cannot be written down; then the plan has failed, too.
    fn record(&mut self, plan: &Plan, seq: usize, is_done: bool) -> Result<(), Self::Error>;

    /// Whether the error says that an instance is not well, and not that nobody can go on.
    fn is_of_instance(&self, error: &Self::Error) -> bool;
}

/// How a plan ended before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken<E> {
    /// The step that failed; `None` if not even the first one was begun.
    pub step: Option<usize>,
    /// Why.
    pub error: E,
}

/// An instance that a plan went on without, and why.
pub type LeftBehind<E> = (InstanceName, E);

/// Does all steps in their order; the first that fails ends it, unless the plan goes on without its instance. No choice is made
/// here.
///
/// # Errors
/// What a step, or writing it down, failed with. What failed first is what is told.
pub fn carry_out<H: Hands>(
    plan: &Plan,
    hands: &mut H,
) -> Result<Vec<LeftBehind<H::Error>>, Broken<H::Error>> {
    let mut left: Vec<LeftBehind<H::Error>> = Vec::new();
    for (seq, action) in plan.actions.iter().enumerate() {
        let broken = |error| Broken { step: Some(seq), error };
        if action.dispensable().is_some_and(|(name, _)| left.iter().any(|(other, _)| other == name)) {
            hands.record(plan, seq, false).map_err(broken)?;
            continue;
        }
        let outcome = hands.act(action);
        let recorded = hands.record(plan, seq, outcome.is_ok());
        match (outcome, action.dispensable()) {
            (Err(error), Some((instance, may_fail)))
                if hands.is_of_instance(&error) && goes_on(instance, may_fail, &left) =>
            {
                left.push((instance.clone(), error));
            }
            (Err(error), _) => {
                if plan.on_failure(Some(seq)) == OnFailure::Stop {
                    take_away_tasks(plan, seq, hands);
                }
                return Err(broken(error));
            }
            (Ok(()), _) => {}
        }
        recorded.map_err(broken)?;
    }
    Ok(left)
}

fn goes_on<E>(instance: &InstanceName, may_fail: u32, left: &[LeftBehind<E>]) -> bool {
    let of_machine = left.iter().filter(|(other, _)| machine_of(other) == machine_of(instance));
    of_machine.count() < may_fail as usize
}

pub(crate) fn machine_of(instance: &InstanceName) -> &str {
    instance.as_str().rsplit_once('-').map_or("", |(machine, _)| machine)
}

/// The instance of the failed step's tasks goes as the plan says: who stops there leaves nothing that serves nobody.
fn take_away_tasks<H: Hands>(plan: &Plan, failed: usize, hands: &mut H) {
    let Some(instance) = plan.actions[failed].instance().filter(|name| is_for_tasks(name)) else {
        return;
    };
    let later = plan.actions.iter().enumerate().skip(failed + 1);
    for (seq, action) in later.filter(|(_, action)| action.instance() == Some(instance)) {
        if matches!(action, Action::Stop { .. } | Action::Remove { .. }) {
            // What failed first is what is told; the next plan removes what stays here.
            let is_done = hands.act(action).is_ok();
            let _ = hands.record(plan, seq, is_done);
        }
    }
}
