//! Services: what is decided is pure (`lifecycle`, `group`, `restart`, `expand`, `environment`, `line`), what is done
//! stands apart (`runtime`, `spawn`, `cgroup`, `directory`, `check`, `notify`,
//! `trial`).

mod cgroup;
mod check;
mod directory;
mod environment;
mod event;
mod expand;
mod group;
mod lifecycle;
mod line;
mod notify;
mod restart;
mod runtime;
mod sender;
mod slot;
mod spawn;
mod syslog;
mod trial;
mod wait;

pub use cgroup::is_safe_name;
pub use check::{Probe, Progress, pause_ms};
pub use directory::make as make_directory;
#[cfg(test)]
pub use environment::parse as read_environment;
pub use expand::arguments as expand_arguments;
pub use restart::{Exit, describe};
pub use runtime::{Runtime, check_text, state_text};
pub use spawn::is_known_limit;
pub use trial::{Groups, Trials};

#[cfg(test)]
pub use lifecycle::tests::spec as test_spec;
