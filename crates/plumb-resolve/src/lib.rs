//! Decides which exact packages a machine is made of, or explains why none fit.
//!
//! ```text
//!  Universe  what the archives offer        ─┐
//!  Request   roots, left out, previous lock ─┴─► resolve ──► Resolution  exact packages and who needs each
//!                                                        └─► ResolveError what cannot be, for a person to read
//!  check     the same rules again, written a second time and simply: does this set hold together?
//! ```
//! The result is the true closure: Pre-Depends and Depends of what is asked for. Nothing is added because it is
//! `Essential`, and no Recommends. Pure: no IO, no clock; the same values give the same result.
#![forbid(unsafe_code)]

mod check;
mod closure;
mod context;
mod explain;
mod provider;
mod reason;
mod request;
mod solve;
#[cfg(test)]
mod test;
mod universe;

pub use check::{Violation, check};
pub use explain::Explanation;
pub use reason::{Dependencies, Link};
pub use request::{Chosen, Note, Request, Requirer, Resolution, RootRequest, Update, Waived, Waiver};
pub use solve::{ResolveError, resolve};
pub use universe::{Source, Stanzas, Universe};
