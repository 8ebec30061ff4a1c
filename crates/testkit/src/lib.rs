//! What tests on real machines need: a home of their own that shares downloads, the program, a small HTTP client, and
//! conditions to wait for.

mod aged;
pub mod fleet;
mod http;
mod postgres;
mod registry;
mod rows;
mod world;

pub use aged::aged;
pub use http::{Answer, get, post};
pub use postgres::{Frozen, Postgres};
pub use registry::Registry;
pub use rows::{Rows, Table};
pub use world::{
    Output, World, copy_example, copy_tree, free_port, now_s, printed, process_names, wait_until,
};
