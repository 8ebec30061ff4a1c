//! What other tools' documents say about content, as values. Pure: no file is opened here.
//!
//! | module | reads | gives |
//! |---|---|---|
//! | [`npm`] | `package-lock.json` | packages to fetch, where they go |
//! | [`oci`] | manifests and configurations of container images | layers to fetch, the command to run |
//! | [`python`] | `requirements.txt`, indices, wheels | wheels to fetch, where their files go |
#![forbid(unsafe_code)]

pub mod npm;
pub mod oci;
pub mod python;
