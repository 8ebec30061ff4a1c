//! What maintainer scripts would have done, done by rules; none of them is ever run.
//!
//! A rule reads contents (`script`, `tmpfile`, `account`) or knows a fact about Debian (`drop`, `certificate`,
//! `linker`); what no rule covers becomes a [`Report`].

pub mod account;
pub(crate) mod alternative;
mod capability;
pub(crate) mod certificate;
mod command;
mod condition;
pub mod drop;
mod expand;
pub(crate) mod ignore;
pub(crate) mod linker;
mod mode;
pub(crate) mod script;
mod shell;
pub(crate) mod tmpfile;
pub(crate) mod world;

use serde::{Deserialize, Serialize};

/// What a package wanted to do at installation and no rule does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Report {
    /// Package name.
    pub package: String,
    /// Which script or file: `postinst`, `preinst`, `triggers`, or a path of the image.
    pub script: String,
    /// The lines, as they stand there.
    pub unhandled: Vec<String>,
}
