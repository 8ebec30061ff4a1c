//! A service of the definition that systemd runs: what systemd says about it, and whether it answers.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_guest_proto::{Ready, ServiceState, ServiceStatus, UnitSpec};

use super::check::{Check, Surroundings};
use super::state::Shown;
use crate::{file, limit};

/// One service.
#[derive(Debug)]
pub struct Watched {
    /// What it is made from.
    pub spec: UnitSpec,
    /// What the host was told last.
    pub state: ServiceState,
    /// What systemd said last.
    pub shown: Shown,
    /// The host knows how long its first start took.
    pub was_timed: bool,
    /// It was ready and does not answer any more.
    is_lost: bool,
    failures: u32,
    check: Option<Check>,
    next_check: u64,
}

impl Watched {
    /// Nothing is known of it yet.
    pub fn new(spec: UnitSpec) -> Watched {
        Watched {
            spec,
            state: ServiceState::Waiting,
            shown: Shown::default(),
            was_timed: false,
            is_lost: false,
            failures: 0,
            check: None,
            next_check: 0,
        }
    }

    /// What systemd says now.
    pub fn show(&mut self, now: u64, shown: Shown) {
        let is_same_run = shown.is_serving() && self.shown.is_serving() && shown.pid() == self.shown.pid();
        if !is_same_run {
            // It became active by its first check; the next one is due after the usual pause.
            self.check = None;
            self.is_lost = false;
            self.failures = 0;
            self.next_check = now + limit::CHECK_READY_MS;
        }
        self.shown = shown;
    }

    /// Its state now, also for a machine that is being stopped.
    pub fn current(&self, is_stopping: bool) -> ServiceState {
        match self.shown.state() {
            ServiceState::Ready if self.is_lost => ServiceState::Started,
            // It was told to, and no start is wanted any more.
            ServiceState::Failed { .. } | ServiceState::Waiting | ServiceState::Done if is_stopping => {
                ServiceState::Stopped
            }
            state => state,
        }
    }

    /// For the host.
    pub fn status(&self) -> ServiceStatus {
        ServiceStatus {
            name: self.spec.name.clone(),
            state: self.state.clone(),
            pid: self.shown.pid(),
            restarts: self.shown.restarts(),
        }
    }

    /// The check that is under way.
    pub fn check(&self) -> Option<&Check> {
        self.check.as_ref()
    }

    /// When something has to be done without an outside event.
    pub fn next_tick(&self) -> Option<u64> {
        let is_checked = self.shown.is_serving() && self.readiness().is_some();
        match &self.check {
            Some(check) => Some(check.deadline()),
            None => is_checked.then_some(self.next_check),
        }
    }

    /// Returns the verdict if there is one at once.
    fn begin_check(&mut self, now: u64) -> Option<Result<(), String>> {
        let ready = self.readiness()?;
        let started = Check::start(now, ready, &surroundings(ready, self.shown.pid()));
        match started {
            Ok(check) => {
                self.check = check;
                None
            }
            Err(answer) => Some(Err(answer)),
        }
    }

    fn readiness(&self) -> Option<&Ready> {
        self.spec.ready.as_ref().filter(|ready| **ready != Ready::Notify)
    }

    /// Starts a check that is due, and takes the answer of one that is over.
    pub fn advance(&mut self, now: u64, is_ready: bool) {
        if !self.shown.is_serving() {
            return;
        }
        let verdict = match &mut self.check {
            Some(check) => check.advance(now, is_ready),
            None if now < self.next_check => return,
            None => self.begin_check(now),
        };
        let Some(verdict) = verdict else { return };
        self.check = None;
        self.failures = if verdict.is_ok() { 0 } else { self.failures.saturating_add(1) };
        self.is_lost = self.failures >= limit::CHECK_FAILURES || (self.is_lost && verdict.is_err());
        let is_well = self.failures == 0;
        self.next_check = now + if is_well { limit::CHECK_READY_MS } else { limit::CHECK_LOST_MS };
    }
}

/// As the main process of the service is.
fn surroundings(ready: &Ready, pid: Option<u32>) -> Surroundings {
    let (Ready::Exec { .. }, Some(pid)) = (ready, pid) else { return Surroundings::default() };
    let environment = file::read_bounded(Path::new(&format!("/proc/{pid}/environ")), limit::SMALL_FILE_BYTES);
    let status = file::read_text(format!("/proc/{pid}/status")).unwrap_or_default();
    Surroundings { environment: variables(&environment.unwrap_or_default()), ids: ids(&status) }
}

/// `/proc/PID/environ`: NUL-separated assignments.
fn variables(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Effective user, effective group and other groups of `/proc/PID/status`.
fn ids(status: &str) -> Option<(u32, u32, Vec<u32>)> {
    let numbers = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>().ok()
    };
    Some((*numbers("Uid:")?.get(1)?, *numbers("Gid:")?.get(1)?, numbers("Groups:")?))
}

#[cfg(test)]
mod tests {
    use super::super::state::parse;
    use super::*;

    fn shown(text: &str) -> Shown {
        parse(text).pop().expect("one unit")
    }

    fn watched(port: u16) -> Watched {
        Watched::new(UnitSpec {
            name: "web".into(),
            unit: "web.service".into(),
            ready: Some(Ready::Tcp { port }),
            ready_timeout_ms: 1000,
        })
    }

    /// Lets its checks run until it wants to be asked after `until`.
    fn run(watched: &mut Watched, until: u64) {
        while let Some(at) = watched.next_tick().filter(|at| *at <= until) {
            watched.advance(at, true);
        }
    }

    #[test]
    fn a_service_that_stops_answering_is_not_ready() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
        let mut service = watched(closed.port());
        assert_eq!(service.current(false), ServiceState::Waiting);
        assert_eq!(service.next_tick(), None);
        let active = "ActiveState=active\nType=exec\nMainPID=5";
        service.show(0, shown(active));
        assert_eq!(service.current(false), ServiceState::Ready);
        let first = limit::CHECK_READY_MS;
        run(&mut service, first);
        assert_eq!(service.current(false), ServiceState::Ready, "one failure is no outage");
        run(&mut service, first + 3 * (limit::CHECK_LOST_MS + limit::CHECK_TIMEOUT_MS));
        assert_eq!(service.current(false), ServiceState::Started);
        service.show(0, shown(active));
        assert_eq!(service.current(false), ServiceState::Started, "the same run");
        service.show(0, shown("ActiveState=active\nType=exec\nMainPID=6"));
        assert_eq!(service.current(false), ServiceState::Ready, "another run");
    }

    #[test]
    fn what_is_stopped_on_request_has_not_failed() {
        let mut service = watched(1);
        service.show(0, shown("ActiveState=inactive\nType=exec\nExecMainStartTimestampMonotonic=1"));
        assert!(matches!(service.current(false), ServiceState::Failed { .. }));
        assert_eq!(service.current(true), ServiceState::Stopped);
    }

    #[test]
    fn a_check_runs_as_the_service_does() {
        assert_eq!(
            variables(b"A=1\0B=x=y\0\0broken\0"),
            [("A", "1"), ("B", "x=y")].map(|(k, v)| (k.into(), v.into())).into()
        );
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        assert_eq!(ids(status), Some((2, 6, vec![9, 10])));
        assert_eq!(ids("Uid:\t1"), None);
    }
}
