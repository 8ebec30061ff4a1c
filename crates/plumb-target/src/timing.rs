//! Where the time of a start went, from the host's clock and the guest's.
//!
//! ```text
//!  host    started ── QEMU answers                                          ready is heard
//!             │ qemu │ firmware │                                                 │
//!  guest                        kernel │ setup │ … │ directories │ services ─ ready
//! ```

use plumb_guest_proto::{Event, ServiceTimes};
use serde::Serialize;

use crate::record::GuestRecord;

/// One part of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimingStep {
    /// What: `qemu`, `kernel`, `service nginx: start`.
    pub what: String,
    /// When it began: microseconds since the instance was started.
    pub at_us: u64,
    /// How long it took, microseconds. Of steps that end on another clock than they begin to about a millisecond.
    pub took_us: u64,
}

/// All parts of a start that are known, in order of their beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceTimings {
    /// Instance name.
    pub instance: String,
    /// From the start to the word that it is ready, milliseconds; `None` if that word never came.
    pub ready_ms: Option<u64>,
    /// The parts.
    pub steps: Vec<TimingStep>,
}

/// What the host knows of a start, milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostTimes {
    pub started_unix_ms: u64,
    pub up_unix_ms: Option<u64>,
}

/// Puts both clocks together. A guest may say anything: its numbers never overflow ours.
pub(crate) fn timings(instance: &str, host: HostTimes, guest: Option<&GuestRecord>) -> InstanceTimings {
    let since_start_us = |unix_ms: u64| unix_ms.saturating_sub(host.started_unix_ms) * 1000;
    let mut line = Line::default();
    if let Some(up) = host.up_unix_ms {
        line.part("qemu", since_start_us(up));
    }
    let Some((guest, kernel)) = guest.and_then(|guest| guest.kernel_unix_ms.map(|at| (guest, at))) else {
        return InstanceTimings { instance: instance.to_owned(), ready_ms: None, steps: line.steps };
    };
    let kernel_us = since_start_us(kernel);
    line.part("firmware", kernel_us);
    let mut services: Vec<&ServiceTimes> = Vec::new();
    for entry in &guest.events {
        match &entry.event {
            Event::Booted { phases } => {
                for end in phases {
                    line.part(end.phase.name(), kernel_us.saturating_add(end.end_us));
                }
            }
            Event::ServiceTimes(times) => services.push(times),
            _ => {}
        }
    }
    services.sort_by_key(|times| times.begun_ms);
    for times in services {
        let name = &times.name;
        line.span(format!("service {name}: before"), kernel_us, times.begun_ms, times.launched_ms);
        line.span(format!("service {name}: start"), kernel_us, times.launched_ms, times.started_ms);
        line.span(format!("service {name}: ready"), kernel_us, times.started_ms, times.ready_ms);
    }
    let ready_ms = guest.ready_unix_ms.map(|at| at.saturating_sub(host.started_unix_ms));
    InstanceTimings { instance: instance.to_owned(), ready_ms, steps: line.steps }
}

#[derive(Default)]
struct Line {
    now_us: u64,
    steps: Vec<TimingStep>,
}

impl Line {
    /// A part from the end of the one before to `end_us`. Two clocks may disagree by a little: nothing takes less than
    /// no time.
    fn part(&mut self, what: &str, end_us: u64) {
        let end_us = end_us.max(self.now_us);
        self.steps.push(TimingStep {
            what: what.to_owned(),
            at_us: self.now_us,
            took_us: end_us - self.now_us,
        });
        self.now_us = end_us;
    }

    /// A part of a service; services overlap.
    fn span(&mut self, what: String, kernel_us: u64, begin_ms: u64, end_ms: u64) {
        let took_us = end_ms.saturating_sub(begin_ms).saturating_mul(1000);
        let at_us = kernel_us.saturating_add(begin_ms.saturating_mul(1000));
        self.steps.push(TimingStep { what, at_us, took_us });
    }
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::{BootPhase, GuestMessage, PhaseEnd};

    use super::*;

    const HOST: HostTimes = HostTimes { started_unix_ms: 1_000, up_unix_ms: Some(1_100) };

    fn shown(timings: &InstanceTimings) -> Vec<String> {
        let line = |step: &TimingStep| format!("{} {} +{}", step.what, step.at_us, step.took_us);
        timings.steps.iter().map(line).collect()
    }

    #[test]
    fn both_clocks_make_one_line() {
        let mut guest = GuestRecord::default();
        let phases = vec![
            PhaseEnd { phase: BootPhase::Kernel, end_us: 900_500 },
            PhaseEnd { phase: BootPhase::Setup, end_us: 910_000 },
        ];
        // The first message waited 70 ms, the second none: the kernel began at 1200.
        let tell = |guest: &mut GuestRecord, uptime_ms, event, now| {
            guest.take(GuestMessage::Event { uptime_ms, event }, now);
        };
        tell(&mut guest, 910, Event::Booted { phases }, 2_180);
        let times = ServiceTimes {
            name: "nginx".into(),
            begun_ms: 911,
            launched_ms: 920,
            started_ms: 1_400,
            ready_ms: 1_410,
        };
        tell(&mut guest, 1_410, Event::ServiceTimes(times), 2_610);
        tell(&mut guest, 1_411, Event::Ready, 2_615);
        let timings = timings("web-1", HOST, Some(&guest));
        assert_eq!(timings.ready_ms, Some(1_615));
        assert_eq!(
            shown(&timings),
            [
                "qemu 0 +100000",
                "firmware 100000 +100000",
                "kernel 200000 +900500",
                "setup 1100500 +9500",
                "service nginx: before 1111000 +9000",
                "service nginx: start 1120000 +480000",
                "service nginx: ready 1600000 +10000",
            ]
        );
    }

    #[test]
    fn a_lying_guest_does_no_harm() {
        let mut guest = GuestRecord::default();
        let phases = vec![
            PhaseEnd { phase: BootPhase::Kernel, end_us: u64::MAX },
            PhaseEnd { phase: BootPhase::Setup, end_us: 1 },
        ];
        guest.take(GuestMessage::Event { uptime_ms: u64::MAX, event: Event::Booted { phases } }, 2_000);
        let (begun_ms, launched_ms) = (u64::MAX, 0);
        let times =
            ServiceTimes { name: "a".into(), begun_ms, launched_ms, started_ms: u64::MAX, ready_ms: 0 };
        guest.take(GuestMessage::Event { uptime_ms: 0, event: Event::ServiceTimes(times) }, 2_000);
        assert_eq!(timings("web-1", HOST, Some(&guest)).steps.len(), 7);
    }

    #[test]
    fn a_silent_guest_leaves_what_the_host_knows() {
        let silent = timings("web-1", HOST, Some(&GuestRecord::default()));
        assert_eq!((silent.ready_ms, shown(&silent)), (None, vec!["qemu 0 +100000".to_owned()]));
    }
}
