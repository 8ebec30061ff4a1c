//! What can go wrong with content that is no Debian package.

use std::path::PathBuf;

use plumb_model::MachineName;

/// Why content (a file, an archive, packages of npm or Python, a container image) cannot be taken into an image.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Content by URL is said to be an archive, and is none.
    #[error(
        "`{file}`, which machine `{machine}` takes for `{target}`, is no archive, so nothing can be stripped from it"
    )]
    NotAnArchive {
        /// Machine.
        machine: MachineName,
        /// Path in the image.
        target: String,
        /// File.
        file: String,
    },
    /// A lock of npm cannot be used.
    #[error("the packages of npm for `{target}` cannot be taken")]
    Npm {
        /// Path in the image.
        target: String,
        /// Why.
        #[source]
        source: Box<plumb_content::npm::NpmError>,
    },
    /// A machine takes wheels and has no Python.
    #[error("machine `{machine}` takes Python requirements for `{target}`, but has no Python")]
    NoPython {
        /// Machine.
        machine: MachineName,
        /// Path in the image.
        target: String,
    },
    /// Python requirements cannot be met.
    #[error("the requirements in `{path}` cannot be met")]
    Requirements {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<plumb_content::python::PythonError>,
    },
    /// Python requirements that leave something open.
    #[error("`{path}` does not pin everything: {}", .missing.join(", "))]
    Unpinned {
        /// File.
        path: PathBuf,
        /// Who needs what.
        missing: Vec<String>,
    },
    /// Two wheels of one environment have one file.
    #[error("two wheels of machine `{machine}` have `{path}`")]
    TwoWheels {
        /// Machine.
        machine: MachineName,
        /// Path in the image.
        path: String,
    },
    /// The container image of a machine cannot be used.
    #[error("the container image of machine `{machine}` cannot be used")]
    Container {
        /// Machine.
        machine: MachineName,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A container image says nothing that could be run.
    #[error(
        "the container image of machine `{machine}` names no command, and service `{service}` has no `exec`"
    )]
    NoCommand {
        /// Machine.
        machine: MachineName,
        /// Service.
        service: String,
    },
    /// A folder that holds no such image.
    #[error("`{path}` is not part of the image of machine `{machine}` as its digest names it")]
    WrongBlob {
        /// Machine.
        machine: MachineName,
        /// File.
        path: PathBuf,
    },
    /// What was fetched for a machine cannot be used.
    #[error("the content for `{target}` cannot be used")]
    Unusable {
        /// Path in the image.
        target: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
