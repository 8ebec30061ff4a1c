//! Services: from the packages' own systemd units, or written out, to what PID 1 of a machine runs.
//!
//! ```text
//!  unit text + drop-ins ─ parse ─► Unit ─┐
//!  definition ──────────────────────────┼─ translate ─► ServiceSpec + notes ─ order_services ─► start order
//!  users, programs of the image ────────┘
//! ```
//!
//! Everything a guest would have to look up is decided here: users and groups become numbers, `%` specifiers are
//! resolved, programs are found. `$VAR` and `${VAR}` stay as they are, the guest expands them with the environment of
//! the moment. Every directive stands in one of the lists of [`table`]; what a machine does not do is never dropped
//! silently but becomes a [`Note`].
//!
//! Sources: systemd.syntax(7), systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.time(7),
//! and, where these are vague, the behaviour of systemd 252 (Debian 12).

mod absorb;
mod capability;
mod command;
mod dependency;
mod directory;
mod identity;
mod order;
mod parse;
mod program;
mod rehearsal;
mod setting;
mod source;
mod specifier;
mod systemd;
pub mod table;
mod translate;
mod value;
mod word;

use std::collections::BTreeMap;
use std::fmt;

use plumb_guest_proto::{Ready, Restart, ServiceSpec};

pub use capability::{ROOT_BOUNDING, capability_number};
pub use command::parse_command;
pub use order::{OrderError, order_services};
pub use parse::{Unit, UnitParseError};
pub use program::{PATH, find_program, find_program_in};
pub use source::{Accounts, TreeUnits, UnitSource, UserRecord};
pub use systemd::{HandedOver, hand_over_exec, hand_over_unit};
pub use translate::{from_exec, from_unit};

/// Most bytes of one unit file or drop-in that are read. The longest of Debian 12's 600 units has 10 KiB.
pub const MAX_UNIT_BYTES: usize = 256 * 1024;

/// Most drop-ins of one unit. Packages ship one or two.
pub const MAX_DROP_INS: usize = 64;

/// Most words of one command line, and most bytes of one expanded word: far above any unit, far below ARG_MAX.
pub const MAX_WORDS: usize = 1024;

/// Most bytes of one word after its specifiers are resolved.
pub const MAX_WORD_BYTES: usize = 64 * 1024;

/// What stands in for "no limit" of a start or stop timeout: a day. A wait needs an end, and nobody waits longer.
pub const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

/// How long readiness may take unless the definition says otherwise: systemd's own start timeout.
pub const DEFAULT_READY_TIMEOUT_MS: u64 = 90_000;

/// What the definition says about a service, besides what a unit says.
pub struct ServiceInput<'a> {
    /// Service name in the definition.
    pub name: String,
    /// Command line; replaces the unit's `ExecStart=`, or is all there is for a service written out.
    pub exec: Option<String>,
    /// Command lines run before every start, one per line.
    pub prepare: Option<String>,
    /// User; wins over `User=`.
    pub user: Option<String>,
    /// Group; wins over `Group=`.
    pub group: Option<String>,
    /// Environment; wins over `Environment=`, but what an `EnvironmentFile=` sets at start wins over both.
    pub environment: BTreeMap<String, String>,
    /// Working directory; wins over `WorkingDirectory=`.
    pub working_directory: Option<String>,
    /// When the service counts as ready.
    pub ready: Option<Ready>,
    /// How long that may take.
    pub ready_timeout_ms: Option<u64>,
    /// Wins over `Restart=`.
    pub restart: Option<Restart>,
    /// Services of the same machine that must be ready before, by their names in the definition.
    pub after: Vec<String>,
    /// The other services of the same machine.
    pub siblings: &'a [Sibling],
    /// Finds a program inside the image: for a bare name the absolute path found in `PATH`, for an absolute path that
    /// path if it leads to a file. See [`find_program`].
    pub resolve_program: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> ServiceInput<'a> {
    /// A service of which the definition says nothing but its name.
    pub fn new(name: impl Into<String>, resolve_program: &'a dyn Fn(&str) -> Option<String>) -> Self {
        ServiceInput {
            name: name.into(),
            exec: None,
            prepare: None,
            user: None,
            group: None,
            environment: BTreeMap::new(),
            working_directory: None,
            ready: None,
            ready_timeout_ms: None,
            restart: None,
            after: Vec::new(),
            siblings: &[],
            resolve_program,
        }
    }
}

/// Another service of the same machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// Its name in the definition.
    pub name: String,
    /// The unit it comes from, if it comes from one.
    pub unit: Option<String>,
}

/// A service as PID 1 runs it, and what was lost on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// The service.
    pub spec: ServiceSpec,
    /// What is not carried over, most severe first.
    pub notes: Vec<Note>,
}

/// How much a [`Note`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The unit asks for something that a machine does not do; the service may behave otherwise.
    Unsupported,
    /// A protection of the unit is not in force; the service behaves the same.
    NotApplied,
    /// Good to know.
    Info,
}

/// Something of a unit that is not carried over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// Directives without `=`, sorted; empty if the note is about none.
    pub directives: Vec<String>,
    /// What about them, for a person.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, directive) in self.directives.iter().enumerate() {
            write!(f, "{}`{directive}=`", if index == 0 { "" } else { ", " })?;
        }
        let label = match self.severity {
            Severity::Unsupported => "not supported: ",
            Severity::NotApplied => "not applied: ",
            Severity::Info => "",
        };
        let gap = if self.directives.is_empty() { "" } else { " " };
        write!(f, "{gap}{label}{}", self.message)
    }
}

/// Why a service cannot be translated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    /// The name can be no unit.
    #[error(
        "`{name}` is not the name of a service unit (like `nginx`, `nginx.service` or `postgresql@15-main`)"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// A template without instance.
    #[error("`{name}` is a template: an instance must follow the `@`, like `postgresql@15-main`")]
    InstanceMissing {
        /// The unit.
        name: String,
    },
    /// No package of the image has it.
    #[error("no package of the machine has a unit `{name}`{}", available(.near))]
    NotFound {
        /// The unit.
        name: String,
        /// Units with a similar name, sorted; at most ten.
        near: Vec<String>,
    },
    /// The text is beyond the limits.
    #[error("the unit `{name}` is refused")]
    Parse {
        /// The unit.
        name: String,
        /// Why.
        #[source]
        source: UnitParseError,
    },
    /// Nothing to run.
    #[error("`{service}` has no command to run: `ExecStart=` is missing")]
    NoCommand {
        /// Unit or service.
        service: String,
    },
    /// More commands than one process can be.
    #[error("`{service}` has {count} start commands, but only `Type=oneshot` may have more than one")]
    TooManyCommands {
        /// Unit or service.
        service: String,
        /// How many.
        count: usize,
    },
    /// A command line cannot be understood.
    #[error("cannot understand the command `{command}` of `{service}`: {reason}")]
    Command {
        /// Unit or service, with the directive.
        service: String,
        /// The command line.
        command: String,
        /// What is wrong.
        reason: String,
    },
    /// A program is not in the image.
    #[error("the program `{program}` that `{service}` runs is not in the image (looked for {looked_for})")]
    ProgramMissing {
        /// Unit or service, with the directive.
        service: String,
        /// The program, as written.
        program: String,
        /// Where it was looked for.
        looked_for: String,
    },
    /// No such user in the image.
    #[error("the user `{user}` that `{service}` runs as does not exist in the image")]
    UserMissing {
        /// Unit or service.
        service: String,
        /// The user.
        user: String,
    },
    /// No such group in the image.
    #[error("the group `{group}` that `{service}` runs with does not exist in the image")]
    GroupMissing {
        /// Unit or service.
        service: String,
        /// The group.
        group: String,
    },
    /// `DynamicUser=` and no such user in the image.
    #[error(
        "`{service}` wants a user made at boot (`DynamicUser=`), but a machine knows only the users of its image"
    )]
    DynamicUser {
        /// Unit.
        service: String,
    },
    /// The unit cannot work without something that machines do not have.
    #[error(
        "`{service}` cannot be translated: `{directive}={value}` needs {needs}, which a machine does not have"
    )]
    Impossible {
        /// Unit.
        service: String,
        /// Directive.
        directive: String,
        /// Its value.
        value: String,
        /// What is missing.
        needs: &'static str,
    },
    /// A specifier whose value only exists at run time.
    #[error(
        "`{directive}` of `{service}` uses `%{specifier}` ({meaning}), which is unknown when the image is built"
    )]
    Specifier {
        /// Unit.
        service: String,
        /// Directive.
        directive: String,
        /// The letter.
        specifier: char,
        /// What it stands for.
        meaning: &'static str,
    },
}

fn available(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; there is `{}`", near.join("`, `")) }
}

/// Collects notes, one per severity and message, each with all its directives.
#[derive(Debug, Default)]
struct Notes(BTreeMap<(Severity, String), Vec<String>>);

impl Notes {
    fn add(&mut self, severity: Severity, directive: &str, message: impl Into<String>) {
        let directives = self.0.entry((severity, message.into())).or_default();
        if !directive.is_empty() && !directives.iter().any(|known| known == directive) {
            directives.push(directive.to_owned());
            directives.sort();
        }
    }

    fn finish(self) -> Vec<Note> {
        let note = |((severity, message), directives)| Note { severity, directives, message };
        let mut notes: Vec<Note> = self.0.into_iter().map(note).collect();
        notes.sort();
        notes
    }
}
