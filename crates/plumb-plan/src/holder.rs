//! Whose data it is: that of the release which is current, until another one may have written to it.
//!
//! A plan that was begun and did not come to its end may have let its release at the data: a task migrated it, or an instance
//! ran with it. If that release sets a fence above what is current, the data is no longer that of what is current, whatever the
//! state says, until a plan that leads somewhere is through. Every plan meanwhile says so in [`Plan::touched`].

use plumb_model::release::ReleaseName;

use crate::document::{Action, Plan};
use crate::planner::Observed;

/// How far the last plan came.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'p> {
    /// The plan.
    pub plan: &'p Plan,
    /// Steps that were done; the one after them may have been begun.
    pub done: usize,
    /// It came to its end.
    pub is_through: bool,
}

impl Observed {
    /// The release whose data it is, as far as there is data: one that was let at it, the current one, or, where nothing runs
    /// and volumes are there, the one that ran last. Its fence is [`Observed::fence`].
    #[must_use]
    pub fn holder(&self) -> Option<&ReleaseName> {
        let has_data = self.current.is_some() || !self.volumes.is_empty();
        let touched = self.touched.as_ref().filter(|_| has_data);
        let ran = self.data_of.as_ref().filter(|_| !self.volumes.is_empty());
        touched.or(self.current.as_ref()).or(ran)
    }
}

/// The release that was let at the data of `base`, which may not read it any more. `fence_of` tells the lowest release that
/// reads what one wrote.
///
/// # Errors
/// Those of `fence_of`.
pub fn touched<E>(
    last: Option<Progress<'_>>,
    base: Option<&ReleaseName>,
    fence_of: impl Fn(&ReleaseName) -> Result<u64, E>,
) -> Result<Option<ReleaseName>, E> {
    let (Some(Progress { plan, done, is_through }), Some(base)) = (last, base) else { return Ok(None) };
    if is_through && plan.settles() {
        return Ok(None);
    }
    let began = plan.actions.iter().take(done + 1).any(|action| match action {
        Action::Start { boot, .. } => Some(&boot.release) == plan.to.as_ref(),
        _ => false,
    });
    let own = plan.to.as_ref().filter(|to| began && *to != base && to.app == base.app);
    let mut highest: Option<(u64, &ReleaseName)> = None;
    for name in plan.touched.iter().chain(own) {
        let fence = fence_of(name)?;
        if fence > base.number && highest.is_none_or(|(other, _)| other <= fence) {
            highest = Some((fence, name));
        }
    }
    Ok(highest.map(|(_, name)| name.clone()))
}
