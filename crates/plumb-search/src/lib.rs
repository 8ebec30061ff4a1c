//! Which releases hold a package, a file or a vulnerability, where they run, and which no longer do.
//!
//! ```text
//!  "libssl3 < 3.0.17" ─ query ─────────────────────────────┐
//!  "CVE-2025-9230" ─ query ─► advisories ─ judge ──────────┼─► components ─► occurrences ─► answer
//!  feeds (Debian's tracker, OSV) ─ advisory ─► advisories ─┘      releases, deployments, channels ─┘
//! ```
//! Versions are compared as their ecosystem orders them; everything here is a function over values, and what a feed says
//! is taken to be hostile: every length and count has a limit ([`advisory`]).
#![forbid(unsafe_code)]

pub mod advisory;
mod answer;
mod ecosystem;
mod path;
mod query;

pub use answer::{
    Affected, AffectedApp, AffectedChannel, AffectedDeployment, AffectedMachine, AffectedRelease, Because,
    Component, Counts, Findings, Found, Occurrence, Pin, Place, answer,
};
pub use ecosystem::Ecosystem;
pub use path::{At, Entry, Resolution, Resolved, resolve};
pub use query::{Constraint, FileQuery, PackageQuery, Query, QueryError, VulnerabilityName};
