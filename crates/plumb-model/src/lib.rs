//! The words of Plumb as types: the documents, their canonical form and their validation.
//!
//! No IO, no clock, no environment: everything here is a value.
#![forbid(unsafe_code)]

mod canonical;
pub mod check;
pub mod config;
pub mod definition;
mod digest;
pub mod image;
pub mod lock;
mod name;
pub mod outcome;
pub mod release;

pub use canonical::{Document, DocumentError};
pub use digest::{Digest, DigestError};
pub use name::{
    AppName, ChannelName, CheckName, DeploymentName, EvidenceName, InstanceName, MachineName, NameError,
    RemoteName, ServiceName, SignerName, SnapshotName, TaskName, VolumeName,
};
