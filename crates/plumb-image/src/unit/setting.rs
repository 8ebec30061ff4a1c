//! The single settings of a translation: environment, directories, limits, times, capabilities.

use std::collections::BTreeMap;

use plumb_guest_proto::{Directory, KillMode, Limit, Restart, ServiceKind};

use super::capability::{self, ROOT_BOUNDING};
use super::identity::Identity;
use super::program::PATH;
use super::translate::Translation;
use super::value::{self, Span};
use super::{MAX_TIMEOUT_MS, Severity, UnitError, directory, word};

/// systemd.service(5): the timeout of a start and of a stop unless a unit says otherwise (`DefaultTimeoutStartSec=`).
const DEFAULT_TIMEOUT_MS: u64 = 90_000;

/// systemd.service(5): the delay before a restart. Also the least: the guest doubles it, and nothing doubled stays
/// nothing.
const DEFAULT_RESTART_DELAY_MS: u64 = 100;

/// systemd-system.conf(5) `DefaultLimitNOFILE=` and `DefaultLimitMEMLOCK=`: packages are tested with these, the
/// kernel's own are lower.
const DEFAULT_LIMITS: [(&str, Limit); 2] = [
    ("memlock", Limit { soft: Some(8 << 20), hard: Some(8 << 20) }),
    ("nofile", Limit { soft: Some(1024), hard: Some(524_288) }),
];

/// Where a service may write. Everything else is the verified image, if no volume is mounted there.
const WRITABLE: [&str; 5] = ["/run", "/tmp", "/var", "/dev", "/proc"];

/// Output that goes to the log of the machine as it would go to the journal.
const LOGGED: [&str; 7] =
    ["inherit", "journal", "journal+console", "kmsg", "kmsg+console", "syslog", "syslog+console"];

impl Translation<'_> {
    /// The value of a scalar of `[Service]`.
    pub(super) fn last(&self, directive: &str) -> Option<&str> {
        self.unit.last("Service", directive)
    }

    /// The same with its specifiers resolved.
    pub(super) fn expanded(&self, directive: &str) -> Result<Option<String>, UnitError> {
        self.last(directive).map(|text| self.expand(directive, text)).transpose()
    }

    fn expand(&self, directive: &str, text: &str) -> Result<String, UnitError> {
        self.name.as_ref().map_or_else(|| Ok(text.to_owned()), |name| name.expand(directive, text))
    }

    /// Reads a scalar; one that is not understood is noted and ignored, as systemd does.
    pub(super) fn scalar<T>(
        &mut self,
        directive: &str,
        read: impl Fn(&str) -> Option<T>,
        what: &str,
    ) -> Option<T> {
        let text = self.last(directive)?;
        let value = read(text);
        if value.is_none() {
            let message = format!("`{text}` is not {what}; the default is used");
            self.notes.add(Severity::Unsupported, directive, message);
        }
        value
    }

    pub(super) fn flag(&mut self, directive: &str, default: bool) -> bool {
        self.scalar(directive, value::boolean, "a yes or no").unwrap_or(default)
    }

    pub(super) fn number(&mut self, directive: &str, low: i32, high: i32) -> i32 {
        let read = |text: &str| text.parse().ok().filter(|number| (low..=high).contains(number));
        self.scalar(directive, read, &format!("a number from {low} to {high}")).unwrap_or(0)
    }

    pub(super) fn directories(
        &mut self,
        owner: &Identity,
    ) -> Result<(Vec<Directory>, BTreeMap<String, String>), UnitError> {
        match &self.name {
            Some(name) => directory::of_unit(&self.unit, name, owner, &mut self.notes),
            None => Ok((Vec::new(), BTreeMap::new())),
        }
    }

    /// Defaults, then directories, then the unit, then the definition.
    pub(super) fn environment(
        &mut self,
        owner: &Identity,
        directories: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, UnitError> {
        let shell = if owner.record.shell.is_empty() { "/bin/sh" } else { &owner.record.shell };
        let defaults = [
            ("HOME", owner.record.home.as_str()),
            ("LANG", "C.UTF-8"),
            ("LOGNAME", &owner.name),
            ("PATH", PATH),
            // The root is read-only: every attempt to write a cache would be in vain.
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("SHELL", shell),
            ("USER", &owner.name),
        ];
        let mut all: BTreeMap<String, String> =
            defaults.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        all.extend(directories);
        for (name, value) in self.words("Environment")?.iter().filter_map(|word| word.split_once('=')) {
            all.insert(name.to_owned(), value.to_owned());
        }
        for removed in self.words("UnsetEnvironment")? {
            let (name, value) =
                removed.split_once('=').map_or((removed.as_str(), None), |(n, v)| (n, Some(v)));
            if value.is_none_or(|value| all.get(name).is_some_and(|set| set == value)) {
                all.remove(name);
            }
        }
        all.extend(self.input.environment.clone());
        Ok(all)
    }

    /// Words of all lines of a list, specifiers resolved. `NAME=value` lists note what has no good name.
    fn words(&mut self, directive: &str) -> Result<Vec<String>, UnitError> {
        let mut all = Vec::new();
        for line in self.unit.list("Service", directive) {
            match word::words(line) {
                Ok(words) => all.extend(words),
                Err(reason) => {
                    let message = format!("`{line}` is not understood: {reason}");
                    self.notes.add(Severity::Unsupported, directive, message);
                }
            }
        }
        let mut expanded = Vec::new();
        for word in all {
            let word = self.expand(directive, &word)?;
            let name = word.split('=').next().unwrap_or_default();
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let is_name = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
            if is_name && (directive != "Environment" || word.contains('=')) {
                expanded.push(word);
            } else {
                self.notes.add(Severity::Unsupported, directive, format!("`{word}` is no `NAME=value`"));
            }
        }
        Ok(expanded)
    }

    pub(super) fn environment_files(&mut self) -> Result<Vec<(String, bool)>, UnitError> {
        let mut files = Vec::new();
        for line in self.unit.list("Service", "EnvironmentFile") {
            let (path, optional) = line.strip_prefix('-').map_or((line.as_str(), false), |path| (path, true));
            let path = self.expand("EnvironmentFile", path)?;
            if !path.starts_with('/') || path.contains(['*', '?', '[']) {
                let message = format!("`{path}` is not the path of one file");
                self.notes.add(Severity::Unsupported, "EnvironmentFile", message);
            } else {
                files.push((path, optional));
            }
        }
        Ok(files)
    }

    pub(super) fn working_directory(&mut self, owner: &Identity) -> Result<String, UnitError> {
        if let Some(path) = &self.input.working_directory {
            return Ok(if path == "~" { owner.record.home.clone() } else { path.clone() });
        }
        let Some(path) = self.expanded("WorkingDirectory")? else { return Ok("/".to_owned()) };
        let path = match path.strip_prefix('-') {
            Some(path) => {
                self.notes.add(
                    Severity::Info,
                    "WorkingDirectory",
                    format!("`{path}` must exist, despite its `-`"),
                );
                path.to_owned()
            }
            None => path,
        };
        if path == "~" {
            return Ok(owner.record.home.clone());
        }
        if path.starts_with('/') {
            return Ok(path);
        }
        self.notes.add(
            Severity::Unsupported,
            "WorkingDirectory",
            format!("`{path}` is no absolute path; `/` is used"),
        );
        Ok("/".to_owned())
    }

    pub(super) fn limits(&mut self) -> BTreeMap<String, Limit> {
        let mut limits: BTreeMap<String, Limit> =
            DEFAULT_LIMITS.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect();
        for (directive, name, resource) in value::RESOURCES {
            if let Some(limit) = self.scalar(directive, |text| value::limit(text, resource), "a limit") {
                limits.insert(name.to_owned(), limit);
            }
        }
        limits
    }

    /// A relative path is below `/run`, and `/var/run` is `/run`: systemd.service(5).
    pub(super) fn pid_file(&self, kind: ServiceKind) -> Result<Option<String>, UnitError> {
        let Some(path) = self.expanded("PIDFile")?.filter(|_| kind == ServiceKind::Forking) else {
            return Ok(None);
        };
        Ok(Some(match path.strip_prefix("/var/run/") {
            Some(below) => format!("/run/{below}"),
            None if path.starts_with('/') => path,
            None => format!("/run/{path}"),
        }))
    }

    pub(super) fn restart(&mut self) -> Restart {
        let read = |text: &str| {
            Some(match text {
                "no" => Restart::No,
                "on-success" => Restart::OnSuccess,
                "on-failure" => Restart::OnFailure,
                // A watchdog timeout is abnormal; a machine watches nothing else that way.
                "on-abnormal" | "on-watchdog" => Restart::OnAbnormal,
                "on-abort" => Restart::OnAbort,
                "always" => Restart::Always,
                _ => return None,
            })
        };
        let of_unit = self.scalar("Restart", read, "a kind of restart").unwrap_or(Restart::No);
        self.input.restart.unwrap_or(of_unit)
    }

    pub(super) fn restart_delay(&mut self) -> u64 {
        let delay = self.scalar("RestartSec", seconds, "a time span");
        delay
            .map_or(DEFAULT_RESTART_DELAY_MS, |delay| delay.millis(MAX_TIMEOUT_MS))
            .max(DEFAULT_RESTART_DELAY_MS)
    }

    /// `TimeoutSec=` stands for both. 0 means no limit, as systemd reads it, and so does nothing at all for a oneshot.
    pub(super) fn timeout(&mut self, directive: &str, unlimited_by_default: bool) -> u64 {
        let own = self.scalar(directive, seconds, "a time span");
        match own.or_else(|| self.scalar("TimeoutSec", seconds, "a time span")) {
            Some(Span::Micros(0)) => MAX_TIMEOUT_MS,
            Some(span) => span.millis(MAX_TIMEOUT_MS),
            None if unlimited_by_default => MAX_TIMEOUT_MS,
            None => DEFAULT_TIMEOUT_MS,
        }
    }

    pub(super) fn kill_mode(&mut self) -> KillMode {
        let read = |text: &str| {
            Some(match text {
                "control-group" => KillMode::ControlGroup,
                "mixed" => KillMode::Mixed,
                "process" => KillMode::Process,
                "none" => KillMode::None,
                _ => return None,
            })
        };
        self.scalar("KillMode", read, "a way to kill").unwrap_or(KillMode::ControlGroup)
    }

    pub(super) fn success_exit_status(&mut self) -> Vec<i32> {
        let mut statuses = Vec::new();
        for word in
            self.unit.list("Service", "SuccessExitStatus").iter().flat_map(|line| line.split_whitespace())
        {
            match (value::exit_status(word), value::signal(word)) {
                (Some(status), _) => statuses.push(status),
                (None, Some(_)) => {
                    let message = format!("an end by the signal `{word}` is not a success");
                    self.notes.add(Severity::Unsupported, "SuccessExitStatus", message);
                }
                (None, None) => {
                    let message = format!("`{word}` is no exit status");
                    self.notes.add(Severity::Unsupported, "SuccessExitStatus", message);
                }
            }
        }
        statuses.retain(|status| *status != 0);
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }

    /// Bounding and ambient set, by the policy of [`capability`].
    pub(super) fn capabilities(&mut self, owner: &Identity) -> (u64, u64) {
        let policy = if owner.record.uid == 0 { ROOT_BOUNDING } else { 0 };
        let mut sets = [0; 2];
        for (set, (directive, policy)) in
            sets.iter_mut().zip([("CapabilityBoundingSet", policy), ("AmbientCapabilities", 0)])
        {
            let mut unknown = Vec::new();
            let assignments = self.unit.assignments("Service", directive);
            *set = capability::merge(assignments, policy, &mut unknown).unwrap_or(policy);
            for name in unknown {
                self.notes.add(Severity::Unsupported, directive, format!("`{name}` is no capability"));
            }
        }
        let [bounding, ambient] = sets;
        // The capabilities of root are in force without being ambient.
        let ambient = if owner.record.uid == 0 { 0 } else { ambient };
        (bounding | ambient, ambient)
    }

    /// systemd.exec(5): implied by `DynamicUser=`. A service written out that is not root has no use for privileges.
    pub(super) fn no_new_privileges(&mut self, owner: &Identity) -> bool {
        let is_written_out = self.name.is_none() && owner.record.uid != 0;
        self.flag("NoNewPrivileges", false) || self.flag("DynamicUser", false) || is_written_out
    }

    /// Output belongs to the log of the machine, input is empty.
    pub(super) fn streams(&mut self) -> Result<(), UnitError> {
        for directive in ["StandardOutput", "StandardError"] {
            let target = self.last(directive).map(str::to_owned).unwrap_or_default();
            if target == "socket" {
                return Err(self.impossible(directive, "socket", "socket activation"));
            }
            if !target.is_empty() && !LOGGED.contains(&target.as_str()) {
                let message = format!("output goes to the log of the machine, not to `{target}`");
                self.notes.add(Severity::Info, directive, message);
            }
        }
        match self.last("StandardInput").map(str::to_owned) {
            None => Ok(()),
            Some(source) if source == "null" => Ok(()),
            Some(source) if source == "socket" => {
                Err(self.impossible("StandardInput", "socket", "socket activation"))
            }
            Some(source) => {
                let message = format!("the service reads nothing, not `{source}`");
                self.notes.add(Severity::Unsupported, "StandardInput", message);
                Ok(())
            }
        }
    }

    /// Directives with one value that a machine honours anyway, and paths that are not writable.
    pub(super) fn odds_and_ends(&mut self) {
        let fixed: [(&str, &[&str], &str); 4] = [
            ("IgnoreSIGPIPE", &["no", "false", "0", "off"], "SIGPIPE keeps its default action"),
            ("OOMPolicy", &["continue"], "the service goes on when one of its processes ran out of memory"),
            ("SendSIGHUP", &["no", "false", "0", "off"], "only `KillSignal=` is sent"),
            ("SendSIGKILL", &["yes", "true", "1", "on"], "what does not stop in time is killed with SIGKILL"),
        ];
        for (directive, honoured, message) in fixed {
            if self.last(directive).is_some_and(|value| !honoured.contains(&value)) {
                self.notes.add(Severity::Unsupported, directive, message);
            }
        }
        for directive in ["ReadWritePaths", "ReadWriteDirectories"] {
            for path in self.unit.list("Service", directive).iter().flat_map(|line| line.split_whitespace()) {
                let path = path.trim_start_matches(['-', '+']);
                let rest = WRITABLE.iter().find_map(|folder| path.strip_prefix(folder));
                if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                    let message = format!("`{path}` is read-only unless a volume is mounted there");
                    self.notes.add(Severity::Info, directive, message);
                }
            }
        }
    }

    pub(super) fn impossible(&self, directive: &str, value: &str, needs: &'static str) -> UnitError {
        UnitError::Impossible {
            service: self.label.clone(),
            directive: directive.to_owned(),
            value: value.to_owned(),
            needs,
        }
    }
}

/// A time span whose bare numbers are seconds.
fn seconds(text: &str) -> Option<Span> {
    value::span(text, 1_000_000)
}
