//! What `systemctl show` says about a unit, and what that is in the words of a machine.

use std::collections::BTreeMap;

use plumb_guest_proto::{ServiceState, ServiceTimes};

use crate::limit;
use crate::report::shorten;
use crate::service::{Exit, describe};

/// The properties that are asked for: org.freedesktop.systemd1(5).
pub const PROPERTIES: &str = "ActiveState,SubState,Type,Result,LoadState,ConditionResult,ConditionTimestampMonotonic,\
    MainPID,NRestarts,RestartUSec,ExecMainCode,ExecMainStatus,ExecMainStartTimestampMonotonic,\
    InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic";

/// One unit as systemd sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown(BTreeMap<String, String>);

/// The answer, one unit after the other in the order they were asked for, with an empty line between two.
pub fn parse(text: &str) -> Vec<Shown> {
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    let lines = |block: &str| {
        let pairs = block.lines().filter_map(|line| line.split_once('='));
        Shown(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    };
    blocks.map(lines).collect()
}

impl Shown {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    /// Main process, if one runs.
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.number("MainPID")).ok().filter(|pid| *pid > 0)
    }

    /// How often systemd has started it again.
    pub fn restarts(&self) -> u32 {
        u32::try_from(self.number("NRestarts")).unwrap_or(u32::MAX)
    }

    /// It does its work, as far as systemd can tell.
    pub fn is_active(&self) -> bool {
        matches!(self.text("ActiveState"), "active" | "reloading" | "refreshing")
    }

    /// A readiness check makes sense: it is active, and goes on.
    pub fn is_serving(&self) -> bool {
        self.is_active() && self.text("Type") != "oneshot"
    }

    /// The state, while nobody stops the machine.
    pub fn state(&self) -> ServiceState {
        let is_oneshot = self.text("Type") == "oneshot";
        match (self.text("ActiveState"), self.text("SubState")) {
            ("active" | "reloading" | "refreshing", _) if is_oneshot => ServiceState::Done,
            ("active" | "reloading" | "refreshing", _) => ServiceState::Ready,
            ("activating", "auto-restart" | "auto-restart-queued") => ServiceState::Backoff {
                reason: self.reason(),
                delay_ms: milliseconds(self.text("RestartUSec")),
            },
            ("activating", "start-post") => ServiceState::Started,
            ("activating", _) => ServiceState::Starting,
            ("deactivating", _) => ServiceState::Stopping,
            ("failed", _) => ServiceState::Failed { reason: self.reason() },
            _ => self.idle(is_oneshot),
        }
    }

    /// `inactive`: not begun, over, or never to begin.
    fn idle(&self, is_oneshot: bool) -> ServiceState {
        let failed = |reason: &str| ServiceState::Failed { reason: reason.to_owned() };
        match self.text("LoadState") {
            "masked" => return failed("its unit is masked"),
            "not-found" => return failed("there is no such unit"),
            "error" | "bad-setting" => return failed("systemd does not understand its unit"),
            _ => {}
        }
        if self.number("ConditionTimestampMonotonic") > 0 && self.text("ConditionResult") == "no" {
            return failed("a condition of its unit does not hold");
        }
        match self.number("ExecMainStartTimestampMonotonic") {
            0 => ServiceState::Waiting,
            _ if is_oneshot => ServiceState::Done,
            _ => ServiceState::Failed { reason: self.reason() },
        }
    }

    /// Why the last run ended: `Result` of systemd.exec(5), `$SERVICE_RESULT`.
    fn reason(&self) -> String {
        let status = i32::try_from(self.number("ExecMainStatus")).unwrap_or_default();
        // siginfo of sigaction(2): 1 is CLD_EXITED, 2 CLD_KILLED, 3 CLD_DUMPED.
        let end = match self.number("ExecMainCode") {
            1 => Some(describe(Exit::Code(status))),
            2 | 3 => Some(describe(Exit::Signal(status))),
            _ => None,
        };
        let text = match (self.text("Result"), end) {
            ("success" | "exit-code" | "signal" | "core-dump", Some(end)) => end,
            ("timeout", _) => "took too long".to_owned(),
            ("watchdog", _) => "gave no sign of life in time".to_owned(),
            ("start-limit-hit", Some(end)) => format!("{end}, too often in a short time"),
            ("oom-kill", _) => "killed for want of memory".to_owned(),
            ("protocol", _) => "did not start as its unit says".to_owned(),
            (other, _) => format!("systemd says `{other}`"),
        };
        shorten(text, limit::REASON_BYTES)
    }

    /// When it reached what. systemd's clock stops in a suspend, which a machine does not know.
    pub fn times(&self, name: &str) -> ServiceTimes {
        let at = |key: &str| self.number(key) / 1000;
        let launched_ms = at("ExecMainStartTimestampMonotonic");
        ServiceTimes {
            name: name.to_owned(),
            begun_ms: at("InactiveExitTimestampMonotonic"),
            launched_ms,
            started_ms: launched_ms,
            ready_ms: at("ActiveEnterTimestampMonotonic"),
        }
    }
}

/// Units of systemd.time(7) as `systemctl show` writes them, in microseconds.
const UNITS: [(&str, u64); 7] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

/// `1min 30s` in milliseconds; 0 for what is not understood.
fn milliseconds(span: &str) -> u64 {
    let part = |part: &str| {
        let cut = part.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(part.len());
        let (number, unit) = part.split_at(cut);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        Some(number.parse::<u64>().ok()?.saturating_mul(*factor))
    };
    span.split_whitespace().map(|word| part(word).unwrap_or(0)).sum::<u64>() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Shown {
        parse(text).pop().expect("one unit")
    }

    fn check(text: &str, expected: ServiceState) {
        assert_eq!(shown(text).state(), expected, "{text}");
    }

    #[test]
    fn several_units_in_their_order() {
        let units = parse("MainPID=7\nNRestarts=2\nType=simple\n\nMainPID=0\nDescription=a=b\n");
        assert_eq!(units.len(), 2);
        assert_eq!((units[0].pid(), units[0].restarts()), (Some(7), 2));
        assert_eq!((units[1].pid(), units[1].text("Description")), (None, "a=b"));
        assert!(parse("").is_empty());
    }

    #[test]
    fn states_of_a_unit() {
        let failed = |reason: &str| ServiceState::Failed { reason: reason.to_owned() };
        check("ActiveState=active\nSubState=running\nType=forking", ServiceState::Ready);
        check("ActiveState=active\nSubState=exited\nType=oneshot", ServiceState::Done);
        check("ActiveState=activating\nSubState=start-pre", ServiceState::Starting);
        check("ActiveState=activating\nSubState=start-post", ServiceState::Started);
        check("ActiveState=deactivating\nSubState=stop-sigterm", ServiceState::Stopping);
        check("ActiveState=inactive\nSubState=dead\nConditionResult=no", ServiceState::Waiting);
        check(
            "ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=5",
            failed("a condition of its unit does not hold"),
        );
        check("ActiveState=inactive\nLoadState=masked", failed("its unit is masked"));
        check(
            "ActiveState=inactive\nType=oneshot\nExecMainStartTimestampMonotonic=9\nResult=success",
            ServiceState::Done,
        );
        check(
            "ActiveState=inactive\nType=exec\nExecMainStartTimestampMonotonic=9\nResult=success\nExecMainCode=1",
            failed("exited with status 0"),
        );
        check(
            "ActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=3",
            failed("exited with status 3"),
        );
        check(
            "ActiveState=failed\nResult=signal\nExecMainCode=2\nExecMainStatus=11",
            failed("killed by SIGSEGV"),
        );
        check("ActiveState=failed\nResult=resources", failed("systemd says `resources`"));
        check(
            "ActiveState=activating\nSubState=auto-restart\nRestartUSec=1min 500ms\nResult=timeout",
            ServiceState::Backoff { reason: "took too long".into(), delay_ms: 60_500 },
        );
    }

    #[test]
    fn spans_of_time() {
        let all = ["100ms", "5s", "1min 30s", "1h", "infinity", "", "250us 2ms"].map(milliseconds);
        assert_eq!(all, [100, 5_000, 90_000, 3_600_000, 0, 0, 2]);
    }
}
