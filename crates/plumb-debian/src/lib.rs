//! Debian's words: version order, control stanzas, dependency grammar, package index, release file.
//!
//! No IO: every parser here eats text that somebody else read, bounds what it accepts, and names the line it refuses.
#![forbid(unsafe_code)]

pub mod catalog;
pub mod changelog;
pub mod control;
pub mod date;
pub mod index;
pub mod name;
pub mod relation;
pub mod release;
pub mod version;

pub use catalog::Catalog;
pub use control::{ControlError, Field, Paragraph, Paragraphs, parse_source};
pub use index::{IndexError, PackageRecord, parse_packages};
pub use name::{NameError, PackageName};
pub use relation::{Alternatives, Operator, Relation, RelationError, parse_relations};
pub use release::{IndexFile, ReleaseError, ReleaseFile};
pub use version::{Version, VersionError};

/// The architecture Plumb builds machines for. Packages of it and of `all` are considered, everything else is not.
pub const ARCHITECTURE: &str = "amd64";
