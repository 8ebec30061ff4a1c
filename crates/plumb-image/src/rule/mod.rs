//! What maintainer scripts would have done, done by rules; none of them is ever run.
//!
//! A rule reads contents (`script`, `tmpfile`, `account`) or knows a fact about Debian (`drop`, `certificate`,
//! `linker`); what no rule covers becomes a [`Report`].

pub mod account;
pub(crate) mod alternative;
mod apache;
mod arithmetic;
mod call;
mod capability;
mod catalog;
pub(crate) mod certificate;
mod command;
mod condition;
pub(crate) mod debconf;
pub mod drop;
mod enable;
mod expand;
mod file;
mod filter;
mod find;
mod getopt;
pub(crate) mod ignore;
mod lighttpd;
pub(crate) mod linker;
mod mime;
mod mode;
pub(crate) mod pam;
mod perl;
mod pixbuf;
pub mod plugin;
mod postfix;
mod print;
mod query;
mod redirect;
mod regex;
mod sax;
pub(crate) mod script;
pub mod script_only;
pub(crate) mod secret;
mod sed;
mod shell;
mod sum;
pub(crate) mod tmpfile;
pub(crate) mod world;

pub(crate) use self::shell::pattern::matches;

use serde::{Deserialize, Serialize};

/// What the rules that make files are for, by the name in [`crate::tree::Origin::source`] without `rule:`.
const MAKERS: [(&str, &str); 12] = [
    ("accounts", "users and groups, made as the packages ask for them"),
    ("alternatives", "links that update-alternatives would have made"),
    ("certificates", "the bundle that update-ca-certificates would have made"),
    ("enabled", "links by which systemd starts what packages and definition want"),
    ("linker", "the cache that ldconfig would have made; programs find their libraries by it"),
    ("machine", "what PID 1 runs: services, directories, volumes"),
    ("package-list", "the list of packages, in the form that scanners read"),
    ("pam", "what pam-auth-update would have made"),
    ("sh", "`/bin/sh`, which scripts name and no package of the image has"),
    ("skeleton", "directories and links that every system has"),
    ("tmpfiles", "what systemd-tmpfiles would have made"),
    ("volumes", "mount points of volumes"),
];

/// What a rule that makes files is for.
#[must_use]
pub fn purpose(name: &str) -> Option<&'static str> {
    MAKERS.iter().find(|(known, _)| *known == name).map(|(_, purpose)| *purpose)
}

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
