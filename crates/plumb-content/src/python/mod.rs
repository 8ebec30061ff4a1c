//! Python requirements with hashes to wheels: what `pip install --require-hashes` would choose.
//!
//! ```text
//!  requirements.txt ─ markers ─► pins with hashes ─┐
//!  index of each project (PEP 503, PEP 691) ───────┼─► one wheel each ─► entries of a virtual environment
//!  Python and glibc of the image ─ tags (PEP 425) ─┘
//! ```

mod index;
mod marker;
mod requirement;
mod tag;
mod version;
mod wheel;

pub use index::{Candidate, Listing, choose, parse_listing};
pub use marker::Environment;
pub use requirement::{Requirement, parse_requirements};
pub use tag::Tags;
pub use version::PyVersion;
pub use wheel::{EntryPoint, WheelError, WheelFile, entry_points, install, missing_requirements};

/// Why requirements cannot be met.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PythonError {
    /// A line that is not understood, or not taken.
    #[error("line {line} of the requirements: {reason}")]
    Line {
        /// From 1.
        line: usize,
        /// What about it.
        reason: String,
    },
    /// A marker that is not understood.
    #[error("the marker `{marker}` is not understood")]
    Marker {
        /// As written.
        marker: String,
    },
    /// An index that is not understood.
    #[error("what the index says about `{project}` is not understood: {message}")]
    Index {
        /// Project.
        project: String,
        /// What the parser says.
        message: String,
    },
    /// No file of this version.
    #[error("the index has no file of `{project}` {version}")]
    NoVersion {
        /// Project.
        project: String,
        /// Version.
        version: String,
    },
    /// Only source.
    #[error(
        "`{project}` {version} has no wheel, only source, which would have to be built by running its code"
    )]
    OnlySource {
        /// Project.
        project: String,
        /// Version.
        version: String,
    },
    /// No wheel for this Python.
    #[error("`{project}` {version} has no wheel for Python {python} on x86-64 with glibc {glibc}")]
    NoWheel {
        /// Project.
        project: String,
        /// Version.
        version: String,
        /// Python of the image.
        python: String,
        /// C library of the image.
        glibc: String,
    },
    /// A wheel, but not one of those named by hash.
    #[error("no wheel of `{project}` {version} that fits has one of the hashes in the requirements")]
    NoHash {
        /// Project.
        project: String,
        /// Version.
        version: String,
    },
}

impl PythonError {
    /// What helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            PythonError::OnlySource { project, .. } | PythonError::NoWheel { project, .. } => format!(
                "take the Debian package (`middleware = [\"python3-{project}\"]`) and leave it out of the requirements, \
                 pin a version that has a wheel, or build one with `pip wheel` and take it as `url`"
            ),
            PythonError::NoHash { .. } => {
                "`pip-compile --generate-hashes` writes the hashes of all files".into()
            }
            PythonError::Line { .. } => {
                "`pip-compile --generate-hashes` writes requirements of the form that is wanted here".into()
            }
            _ => return None,
        })
    }
}

/// The normal form of a project's name (PEP 503).
#[must_use]
pub fn normalize(name: &str) -> String {
    let mut normal = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c.to_ascii_lowercase()),
        }
    }
    normal
}

#[cfg(test)]
mod tests;
