//! The words of Plumb as types: the documents, their canonical form and their validation.
//!
//! No IO, no clock, no environment: everything here is a value.
#![forbid(unsafe_code)]

pub mod definition;
mod digest;
mod name;

pub use digest::{Digest, DigestError};
pub use name::{AppName, DeploymentName, InstanceName, MachineName, NameError, ServiceName, VolumeName};
