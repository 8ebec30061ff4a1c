//! Plans: what the planner decides, and what it means.

mod explain;
mod planner;
mod world;
