//! Decides the ordered actions that lead from what is observed to what is wanted.
//!
//! A plan is a value: made once, numbered, never changed. The executor makes no choices; `plumb-plan` never sees a
//! host, a clock or a file.
#![forbid(unsafe_code)]

mod boot;
mod carry;
mod check;
mod document;
mod explain;
mod failure;
mod holder;
mod keep;
pub mod lease;
mod order;
mod planner;
mod reverse;
mod side;
mod snapshot;
mod task;

pub use boot::{Addresses, BootSpec, allocate, boot_spec, mac_address};
pub use carry::{Broken, Hands, LeftBehind, carry_out};
pub use check::{Violation, check};
pub use document::{Action, OnFailure, Plan, PlanKind, Published};
pub use explain::{
    Beside, Effect, EffectCause, Explanation, FailureEffect, Irreversible, Known, Order, Outage,
    RestoreEffect, SnapshotEffect, TaskEffect, VolumeEffect, What, explain,
};
pub use holder::{Progress, touched};
pub use keep::{Case, Deviation, Expected, Health, Life, Verdict, expected, judge};
pub use order::{NeedsCycle, start_order};
pub use planner::{
    Observed, ObservedInstance, PlanError, Wanted, plan_at_rest, plan_down, plan_relieve, plan_repair,
    plan_snapshot, plan_up,
};
pub use reverse::{Former, has_reverse_tasks, is_below_fence};
pub use side::{Kept, OtherSet, Side, instances, side_for};
pub use snapshot::{
    DataWish, HeldVolume, Hold, InstanceVolume, ObservedSnapshot, SnapshotReason, is_given_by_plans,
    snapshot_stops,
};
pub use task::task_instances;
