//! Plans: what the planner decides, and what it means.

mod explain;
mod planner;
mod snapshot;
mod world;
