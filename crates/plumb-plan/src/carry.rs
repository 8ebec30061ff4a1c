//! Carrying a plan out, step by step, and what follows when that failed. Who really does something is somebody else: a host, or
//! a simulation.

use plumb_model::release::{Release, ReleaseName};

use crate::document::{Action, Plan};

/// Who does what a plan says.
pub trait Hands {
    /// Why a step failed.
    type Error;

    /// Does one step. It may have been done before, in part or whole.
    ///
    /// # Errors
    /// If it cannot be done; then the plan has failed.
    fn act(&mut self, action: &Action) -> Result<(), Self::Error>;

    /// Writes down how step `seq` went.
    ///
    /// # Errors
    /// If it cannot be written down; then the plan has failed, too.
    fn record(&mut self, plan: &Plan, seq: usize, is_done: bool) -> Result<(), Self::Error>;
}

/// Does all steps in their order; the first that fails ends it. No choice is made here.
///
/// # Errors
/// What a step, or writing it down, failed with. What failed first is what is told.
pub fn carry_out<H: Hands>(plan: &Plan, hands: &mut H) -> Result<(), H::Error> {
    for (seq, action) in plan.actions.iter().enumerate() {
        let outcome = hands.act(action);
        let recorded = hands.record(plan, seq, outcome.is_ok());
        outcome.and(recorded)?;
    }
    Ok(())
}

/// Where a set goes whose plan failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBack {
    /// Nowhere: it ran nothing before, or this very release.
    None,
    /// To what it ran before.
    To(ReleaseName),
    /// Nowhere: what it ran before cannot read what the failed release may have written.
    Fenced {
        /// What it ran before.
        before: ReleaseName,
        /// Lowest release that may follow the failed one.
        fence: u64,
    },
}

/// Where a set goes that failed to come to `failed`, having run `before`.
#[must_use]
pub fn way_back(failed: &Release, before: Option<&ReleaseName>) -> WayBack {
    match before {
        Some(before) if *before == failed.name() => WayBack::None,
        Some(before) if failed.content.fence > before.number => {
            WayBack::Fenced { before: before.clone(), fence: failed.content.fence }
        }
        Some(before) => WayBack::To(before.clone()),
        None => WayBack::None,
    }
}
