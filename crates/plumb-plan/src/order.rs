//! The order in which machines start: what is needed first.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::MachineName;
use plumb_model::release::ReleaseMachine;

/// Machines need each other in a circle.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("machines need each other in a circle: {}", .0.iter().map(|m| format!("`{m}`")).collect::<Vec<_>>().join(", "))]
pub struct NeedsCycle(pub Vec<MachineName>);

/// All machines, each after everything it needs; by name where `needs` leaves a choice (Kahn's algorithm).
///
/// # Errors
/// [`NeedsCycle`] with the machines that are left over.
pub fn start_order(machines: &BTreeMap<MachineName, ReleaseMachine>) -> Result<Vec<MachineName>, NeedsCycle> {
    let mut left: BTreeMap<&MachineName, BTreeSet<&MachineName>> =
        machines.iter().map(|(name, machine)| (name, machine.needs.iter().collect())).collect();
    let mut order = Vec::new();
    while let Some(next) = left.iter().find(|(_, needs)| needs.is_empty()).map(|(name, _)| *name) {
        left.remove(next);
        for needs in left.values_mut() {
            needs.remove(next);
        }
        order.push(next.clone());
    }
    if left.is_empty() { Ok(order) } else { Err(NeedsCycle(left.into_keys().cloned().collect())) }
}
