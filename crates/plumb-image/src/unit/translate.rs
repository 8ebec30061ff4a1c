//! From a unit, or a command line of the definition, to a [`ServiceSpec`].

use plumb_guest_proto::{Command, Directory, Ready, ServiceKind, ServiceSpec};

use super::command::Place;
use super::identity::{Identity, Wanted};
use super::parse::Unit;
use super::source::load;
use super::specifier::UnitName;
use super::table::{Treatment, treatment};
use super::{
    Accounts, DEFAULT_READY_TIMEOUT_MS, Notes, ServiceInput, Severity, Translated, UnitError, UnitSource,
    absorb, dependency, rehearsal, value,
};

/// What a service written out is, in the words of a unit. A server that ends, ends wrongly, with whatever status.
const WRITTEN_OUT: &str = "[Service]\nType=exec\nRestart=always\n";

/// Translates a package's unit: `nginx`, `nginx.service`, `postgresql@15-main`. What `overrides` says, wins.
///
/// # Errors
/// [`UnitError`] if there is no such unit, it names users or programs that the image does not have, or it cannot work
/// in a machine (`Type=dbus`, `Sockets=`, `RootDirectory=`, `DynamicUser=` without such a user).
pub fn from_unit(
    unit_name: &str,
    overrides: &ServiceInput<'_>,
    units: &dyn UnitSource,
    accounts: &dyn Accounts,
) -> Result<Translated, UnitError> {
    let (name, unit) = load(&UnitName::parse(unit_name)?, units)?;
    let mut notes = Notes::default();
    report_untreated(&unit, &mut notes);
    dependency::report_missing(&unit, overrides, units, &mut notes);
    let after = dependency::after(&name, &unit, overrides, units);
    let label = name.full.clone();
    let translation = Translation { unit, name: Some(name), label, input: overrides, accounts, notes };
    translation.finish(after)
}

/// Makes a service of a command line of the definition.
///
/// It counts as started when the program runs (`Type=exec`), is restarted whenever it ends, and, unless it runs as
/// root, can gain no privileges.
///
/// # Errors
/// [`UnitError`] if there is no command, or users or programs are not in the image.
pub fn from_exec(input: &ServiceInput<'_>, accounts: &dyn Accounts) -> Result<Translated, UnitError> {
    let label = input.name.clone();
    let unit =
        Unit::parse(WRITTEN_OUT, &[]).map_err(|source| UnitError::Parse { name: label.clone(), source })?;
    let translation = Translation { unit, name: None, label, input, accounts, notes: Notes::default() };
    translation.finish(input.after.clone())
}

/// Notes for everything that is not carried over, by the lists of [`super::table`].
fn report_untreated(unit: &Unit, notes: &mut Notes) {
    for line in unit.malformed() {
        notes.add(Severity::Info, "", format!("the line `{line}` is no assignment"));
    }
    for (section, directive) in unit.directives() {
        let is_off = |value: &String| value.is_empty() || value::boolean(value) == Some(false);
        let is_asked = || unit.assignments(section, directive).last().is_some_and(|value| !is_off(value));
        match treatment(section, directive) {
            Some(Treatment::Supported | Treatment::Covered(_)) => {}
            Some(Treatment::NotApplied(why)) if is_asked() => notes.add(Severity::NotApplied, directive, why),
            Some(Treatment::Unsupported(why)) if is_asked() => {
                notes.add(Severity::Unsupported, directive, why)
            }
            Some(_) => {}
            None => {
                let message = format!("unknown in section `[{section}]`");
                notes.add(Severity::Unsupported, directive, message);
            }
        }
    }
}

/// One translation under way.
pub(super) struct Translation<'a> {
    pub unit: Unit,
    /// `None` for a service written out.
    pub name: Option<UnitName>,
    pub label: String,
    pub input: &'a ServiceInput<'a>,
    pub accounts: &'a dyn Accounts,
    pub notes: Notes,
}

impl Translation<'_> {
    fn finish(mut self, after: Vec<String>) -> Result<Translated, UnitError> {
        self.refuse_impossible()?;
        let kind = self.kind()?;
        let owner = self.identity()?;
        let start = self.start(kind)?;
        let (mut directories, directory_variables) = self.directories(&owner)?;
        let mut start_pre = self.start_pre(&owner, &mut directories)?;
        self.drop_rehearsals(&mut start_pre, &start);
        let environment = self.environment(&owner, directory_variables)?;
        let (bounding, ambient) = self.capabilities(&owner);
        self.streams()?;
        self.odds_and_ends();
        let spec = ServiceSpec {
            name: self.input.name.clone(),
            kind,
            uid: owner.record.uid,
            gid: owner.record.gid,
            groups: owner.groups.clone(),
            prepare: self.prepare()?,
            start_pre,
            start,
            start_post: self.commands("ExecStartPost")?,
            stop: self.commands("ExecStop")?,
            environment,
            environment_files: self.environment_files()?,
            working_directory: self.working_directory(&owner)?,
            umask: self.scalar("UMask", value::mode, "an octal mode").unwrap_or(0o022),
            limits: self.limits(),
            nice: self.number("Nice", -20, 19),
            oom_score_adjust: self.number("OOMScoreAdjust", -1000, 1000),
            directories,
            pid_file: self.pid_file(kind)?,
            restart: self.restart(),
            restart_delay_ms: self.restart_delay(),
            start_timeout_ms: self.start_timeout(kind),
            stop_timeout_ms: self.timeout("TimeoutStopSec", false),
            kill_signal: self.scalar("KillSignal", value::signal, "a signal").unwrap_or(15),
            kill_mode: self.kill_mode(),
            remain_after_exit: self.flag("RemainAfterExit", false),
            success_exit_status: self.success_exit_status(),
            capability_bounding: bounding,
            capability_ambient: ambient,
            no_new_privileges: self.no_new_privileges(&owner),
            ready: self.ready()?,
            ready_timeout_ms: self.input.ready_timeout_ms.unwrap_or(DEFAULT_READY_TIMEOUT_MS),
            after,
        };
        Ok(Translated { spec, notes: self.notes.finish() })
    }

    /// `TimeoutStartSec=`, but no less than what the definition gives the service until it is ready: what it prepares is a
    /// part of that.
    fn start_timeout(&mut self, kind: ServiceKind) -> u64 {
        let own = self.timeout("TimeoutStartSec", kind == ServiceKind::Oneshot);
        own.max(self.input.ready_timeout_ms.unwrap_or(0))
    }

    /// Units that would start and then not work.
    fn refuse_impossible(&self) -> Result<(), UnitError> {
        for (directive, needs) in [
            ("Sockets", "socket activation"),
            ("RootDirectory", "a root directory per service"),
            ("RootImage", "a root image per service"),
        ] {
            if let Some(value) = self.last(directive).filter(|value| *value != "/") {
                return Err(self.impossible(directive, value, needs));
            }
        }
        Ok(())
    }

    fn kind(&mut self) -> Result<ServiceKind, UnitError> {
        const BUS: &str = "a D-Bus message bus";
        let wants_notify = self.input.ready == Some(Ready::Notify);
        let kind = match self.last("Type") {
            None if self.last("BusName").is_some() => {
                return Err(self.impossible("BusName", self.last("BusName").unwrap_or_default(), BUS));
            }
            Some("dbus") => return Err(self.impossible("Type", "dbus", BUS)),
            None | Some("simple" | "idle") => ServiceKind::Simple,
            Some("exec") => ServiceKind::Exec,
            Some("forking") => ServiceKind::Forking,
            Some("notify" | "notify-reload") => ServiceKind::Notify,
            Some("oneshot") => ServiceKind::Oneshot,
            Some(other) => {
                let message = format!("`{other}` is no kind of service; `simple` is used");
                self.notes.add(Severity::Unsupported, "Type", message);
                ServiceKind::Simple
            }
        };
        // Without it the guest would give the service no socket to say READY=1 on.
        let is_plain = matches!(kind, ServiceKind::Simple | ServiceKind::Exec);
        Ok(if wants_notify && is_plain { ServiceKind::Notify } else { kind })
    }

    pub(super) fn identity(&mut self) -> Result<Identity, UnitError> {
        let dynamic = self.flag("DynamicUser", false);
        let (user, group) = (self.expanded("User")?, self.expanded("Group")?);
        let stem = self.name.as_ref().map(|name| name.stem().to_owned()).filter(|_| dynamic);
        // A user of the definition comes with its own group, not with the unit's.
        let group = if self.input.user.is_some() { None } else { group };
        let supplementary = self.unit.list("Service", "SupplementaryGroups");
        let wanted = Wanted {
            service: &self.label,
            user: self.input.user.as_deref().or(user.as_deref()).or(stem.as_deref()),
            group: self.input.group.as_deref().or(group.as_deref()),
            supplementary: supplementary.iter().flat_map(|line| line.split_whitespace()).collect(),
            dynamic: dynamic && self.input.user.is_none(),
        };
        wanted.resolve(self.accounts)
    }

    fn start(&mut self, kind: ServiceKind) -> Result<Vec<Command>, UnitError> {
        let own = self.own_start()?;
        let start = if own.is_empty() { self.commands("ExecStart")? } else { own };
        match start.len() {
            0 => Err(UnitError::NoCommand { service: self.label.clone() }),
            1 => Ok(start),
            _ if kind == ServiceKind::Oneshot => Ok(start),
            count => Err(UnitError::TooManyCommands { service: self.label.clone(), count }),
        }
    }

    /// `exec` of the definition, if it says it.
    pub(super) fn own_start(&mut self) -> Result<Vec<Command>, UnitError> {
        self.written("exec", self.input.exec.iter().cloned().collect())
    }

    /// Commands before the start. Those that only make directories are done by the guest if the image has no program
    /// for it: `coreutils` is larger than most services.
    fn start_pre(
        &mut self,
        owner: &Identity,
        directories: &mut Vec<Directory>,
    ) -> Result<Vec<Command>, UnitError> {
        let directive = "ExecStartPre";
        let resolve = self.input.resolve_program;
        let place = Place {
            service: &self.label,
            directive,
            unit: self.name.as_ref(),
            resolve,
            may_be_missing: true,
        };
        let mut commands = Vec::new();
        for line in self.unit.list("Service", directive) {
            for draft in place.drafts(line)? {
                let is_missing = resolve(&draft.program).is_none();
                if is_missing && absorb::absorb(&draft, owner, self.accounts, directories) {
                    let message = format!(
                        "`{}` is not in the image, the guest makes the directory itself",
                        draft.program
                    );
                    self.notes.add(Severity::Info, directive, message);
                } else {
                    commands.extend(place.place(draft, &mut self.notes)?);
                }
            }
        }
        Ok(commands)
    }

    /// Takes out what would only test the configuration that the service reads next.
    fn drop_rehearsals(&mut self, commands: &mut Vec<Command>, start: &[Command]) {
        commands.retain(|command| {
            let is_rehearsal = rehearsal::is_rehearsal(command, start);
            if is_rehearsal {
                let message = format!(
                    "`{}` only tests the configuration that the service itself reads at its start: left out",
                    command.argv.join(" ")
                );
                self.notes.add(Severity::Info, "ExecStartPre", message);
            }
            !is_rehearsal
        });
    }

    pub(super) fn prepare(&mut self) -> Result<Vec<Command>, UnitError> {
        let lines = self.input.prepare.iter().flat_map(|lines| lines.lines());
        let lines = lines.filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned).collect();
        self.written("prepare", lines)
    }

    /// The definition's readiness, a command with its program found in the image.
    pub(super) fn ready(&self) -> Result<Option<Ready>, UnitError> {
        let Some(Ready::Exec { command }) = &self.input.ready else { return Ok(self.input.ready.clone()) };
        let resolve = self.input.resolve_program;
        let directive = "ready.exec";
        let place = Place { service: &self.label, directive, unit: None, resolve, may_be_missing: false };
        let mut command = command.clone();
        if let Some(program) = command.argv.first_mut() {
            *program = place.program(program)?;
        }
        Ok(Some(Ready::Exec { command }))
    }

    /// Command lines of the definition.
    fn written(&mut self, directive: &'static str, lines: Vec<String>) -> Result<Vec<Command>, UnitError> {
        let resolve = self.input.resolve_program;
        let place = Place { service: &self.label, directive, unit: None, resolve, may_be_missing: false };
        place.all(&lines, &mut self.notes)
    }

    /// Command lines of the unit.
    fn commands(&mut self, directive: &'static str) -> Result<Vec<Command>, UnitError> {
        let may_be_missing = directive != "ExecStart";
        let resolve = self.input.resolve_program;
        let place =
            Place { service: &self.label, directive, unit: self.name.as_ref(), resolve, may_be_missing };
        place.all(self.unit.list("Service", directive), &mut self.notes)
    }
}
