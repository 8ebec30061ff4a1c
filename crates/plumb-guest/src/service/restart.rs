//! When a service is started again, and after which pause: systemd.service(5), table "Exit causes and the effect of
//! the Restart= settings".

use plumb_guest_proto::Restart;

use crate::limit;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Exit status.
    Code(i32),
    /// Signal number.
    Signal(i32),
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0, one of `SuccessExitStatus=`, or a signal that asks to end.
    Clean(Exit),
    /// Another exit status.
    Code(i32),
    /// Another signal.
    Signal(i32),
    /// A start or readiness that took too long; the text says which.
    Timeout(String),
    /// A start that could not even be tried, or a daemon that was lost; the text says which.
    Broken(String),
}

impl Outcome {
    /// Judges the end of a service's main process.
    pub fn of(exit: Exit, success: &[i32]) -> Outcome {
        match exit {
            Exit::Code(code) if code == 0 || success.contains(&code) => Outcome::Clean(exit),
            Exit::Code(code) => Outcome::Code(code),
            // systemd.service(5): a clean exit is also one by these four.
            Exit::Signal(libc::SIGHUP | libc::SIGINT | libc::SIGTERM | libc::SIGPIPE) => Outcome::Clean(exit),
            Exit::Signal(signal) => Outcome::Signal(signal),
        }
    }

    /// For a person.
    pub fn reason(&self) -> String {
        match self {
            Outcome::Clean(exit) => describe(*exit),
            Outcome::Code(code) => describe(Exit::Code(*code)),
            Outcome::Signal(signal) => describe(Exit::Signal(*signal)),
            Outcome::Timeout(text) | Outcome::Broken(text) => text.clone(),
        }
    }
}

/// `exited with status 1`, `killed by SIGSEGV`.
pub fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with status {code}"),
        Exit::Signal(signal) => format!("killed by {}", signal_name(signal)),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// Whether the policy starts the service again after this.
pub fn wanted(policy: Restart, outcome: &Outcome) -> bool {
    use Outcome::{Broken, Clean, Code, Signal, Timeout};
    match policy {
        Restart::No => false,
        Restart::Always => true,
        Restart::OnSuccess => matches!(outcome, Clean(_)),
        Restart::OnFailure => matches!(outcome, Code(_) | Signal(_) | Timeout(_) | Broken(_)),
        Restart::OnAbnormal => matches!(outcome, Signal(_) | Timeout(_)),
        Restart::OnAbort => matches!(outcome, Signal(_)),
    }
}

/// The pause before restart number `streak` (from 0) in a row: doubles from `first_ms` to the limit.
pub fn delay_ms(first_ms: u64, streak: u32) -> u64 {
    let first = first_ms.max(limit::RESTART_FIRST_MS);
    let factor = 1u64.checked_shl(streak).unwrap_or(u64::MAX);
    // Whoever asks for a longer first pause than the limit gets it, but it does not double.
    first.saturating_mul(factor).min(limit::RESTART_LAST_MS.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_systemd_service() {
        let clean = Outcome::Clean(Exit::Code(0));
        let outcomes = [clean, Outcome::Code(1), Outcome::Signal(11), Outcome::Timeout(String::new())];
        let row = |policy| outcomes.each_ref().map(|outcome| wanted(policy, outcome));
        assert_eq!(row(Restart::No), [false, false, false, false]);
        assert_eq!(row(Restart::Always), [true, true, true, true]);
        assert_eq!(row(Restart::OnSuccess), [true, false, false, false]);
        assert_eq!(row(Restart::OnFailure), [false, true, true, true]);
        assert_eq!(row(Restart::OnAbnormal), [false, false, true, true]);
        assert_eq!(row(Restart::OnAbort), [false, false, true, false]);
    }

    #[test]
    fn delays_double_to_the_limit() {
        let delays: Vec<u64> = (0..10).map(|n| delay_ms(100, n)).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(delay_ms(0, 0), limit::RESTART_FIRST_MS);
        assert_eq!(delay_ms(60_000, 3), 60_000);
        assert_eq!(delay_ms(1, 500), 30_000);
    }

    #[test]
    fn clean_and_unclean() {
        assert_eq!(Outcome::of(Exit::Code(143), &[143]), Outcome::Clean(Exit::Code(143)));
        assert_eq!(Outcome::of(Exit::Signal(15), &[]), Outcome::Clean(Exit::Signal(15)));
        assert_eq!(Outcome::of(Exit::Code(2), &[]).reason(), "exited with status 2");
        assert_eq!(Outcome::of(Exit::Signal(11), &[]).reason(), "killed by SIGSEGV");
    }
}
