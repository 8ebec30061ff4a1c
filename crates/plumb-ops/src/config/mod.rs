//! Configuration and secrets of deployments: how they get into images, and how a deployment's are set.

mod deployment;
mod error;
mod file;

pub use error::ConfigError;
pub(crate) use file::{add_specs, drop_in, files, used};
