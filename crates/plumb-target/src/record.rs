//! What is known about the guest of an instance: kept by the keeper, written to `status.json`.

use std::collections::VecDeque;

use plumb_guest_proto::{CheckAnswer, Event, GuestMessage, ServiceState, Status};
use serde::{Deserialize, Serialize};

use crate::file;

/// Events kept per instance: a whole start of a machine with 20 services. Older ones are forgotten.
const MAX_EVENTS: usize = 128;

/// One event with its place in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    /// Value of [`GuestRecord::sequence`] when it arrived.
    pub sequence: u64,
    /// Milliseconds since the guest's kernel started.
    pub uptime_ms: u64,
    /// What happened.
    pub event: Event,
}

/// Everything a guest has said in this boot, bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRecord {
    /// Grows with every change.
    pub sequence: u64,
    /// The control channel is open now.
    pub connected: bool,
    /// Kernel release, once the guest has said hello.
    pub kernel: Option<String>,
    /// It can hold its volumes still.
    #[serde(default)]
    pub freezes: bool,
    /// The latest status.
    pub status: Option<Status>,
    /// Why the guest gave up.
    pub fatal: Option<String>,
    /// The guest is on its way down, or was asked to go.
    pub stopping: bool,
    /// The latest events, oldest first.
    pub events: VecDeque<EventEntry>,
    /// Log lines that the guest had to drop.
    pub log_dropped: u64,
    /// When its kernel started, milliseconds since 1970 on this host's clock: the earliest that any message allows.
    #[serde(default)]
    pub kernel_unix_ms: Option<u64>,
    /// When its word that it is ready came, milliseconds since 1970.
    #[serde(default)]
    pub ready_unix_ms: Option<u64>,
}

impl GuestRecord {
    /// All services are ready and the guest is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.connected && !self.stopping && self.status.as_ref().is_some_and(|status| status.ready)
    }

    pub(crate) fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
        self.sequence += 1;
    }

    /// Takes in one message that came at `now_unix_ms`; log lines are not for the record.
    pub fn take(&mut self, mut message: GuestMessage, now_unix_ms: u64) {
        make_plain(&mut message);
        if let GuestMessage::Event { uptime_ms, .. } | GuestMessage::Log { uptime_ms, .. } = &message {
            // A message may have waited, none comes early: the earliest start is the true one.
            let began = now_unix_ms.saturating_sub(*uptime_ms);
            self.kernel_unix_ms = Some(self.kernel_unix_ms.map_or(began, |known| known.min(began)));
        }
        match message {
            GuestMessage::Hello { kernel, freezes, .. } => {
                self.kernel = Some(kernel);
                self.freezes = freezes;
            }
            GuestMessage::Status(status) => self.status = Some(status),
            GuestMessage::LogDropped { count } => self.log_dropped = self.log_dropped.saturating_add(count),
            // Not for the record: it goes to whoever asked.
            GuestMessage::Log { .. } | GuestMessage::Checked(_) | GuestMessage::Quiesced(_) => return,
            GuestMessage::Event { uptime_ms, event } => {
                match &event {
                    Event::Fatal { message } => self.fatal = Some(message.clone()),
                    Event::Stopping => self.stopping = true,
                    Event::Ready => self.ready_unix_ms = Some(now_unix_ms),
                    _ => {}
                }
                if self.events.len() == MAX_EVENTS {
                    self.events.pop_front();
                }
                self.events.push_back(EventEntry { sequence: self.sequence + 1, uptime_ms, event });
            }
        }
        self.sequence += 1;
    }
}

/// A guest writes what it likes, and all of it ends on somebody's terminal: control characters are replaced.
pub(crate) fn make_plain(message: &mut GuestMessage) {
    match message {
        GuestMessage::Hello { instance, kernel, .. } => [instance, kernel].into_iter().for_each(plain_text),
        GuestMessage::Event { event, .. } => match event {
            Event::VolumeMounted { name, .. } => plain_text(name),
            Event::Service { name, state } => {
                plain_text(name);
                plain_state(state);
            }
            Event::Fatal { message } => plain_text(message),
            Event::ServiceTimes(times) => plain_text(&mut times.name),
            Event::RootMounted | Event::Booted { .. } | Event::Ready | Event::Stopping => {}
        },
        GuestMessage::Status(status) => {
            for service in &mut status.services {
                plain_text(&mut service.name);
                plain_state(&mut service.state);
            }
        }
        GuestMessage::Log { service, line, .. } => [service, line].into_iter().for_each(plain_text),
        GuestMessage::Checked(CheckAnswer { name, failure, output, .. }) => {
            plain_text(name);
            failure.iter_mut().for_each(plain_text);
            *output = file::plain_lines(output);
        }
        GuestMessage::Quiesced(answer) => {
            answer.failure.iter_mut().chain(&mut answer.after).for_each(plain_text);
        }
        GuestMessage::LogDropped { .. } => {}
    }
}

fn plain_state(state: &mut ServiceState) {
    if let ServiceState::Backoff { reason, .. } | ServiceState::Failed { reason } = state {
        plain_text(reason);
    }
}

fn plain_text(text: &mut String) {
    if text.contains(file::is_unprintable) {
        *text = file::plain(text);
    }
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::ServiceStatus;

    use super::*;

    fn event(event: Event) -> GuestMessage {
        GuestMessage::Event { uptime_ms: 1, event }
    }

    #[test]
    fn ready_needs_a_live_channel() {
        let mut record = GuestRecord::default();
        record.take(GuestMessage::Status(Status { ready: true, ..Status::default() }), 0);
        assert!(!record.is_ready());
        record.set_connected(true);
        assert!(record.is_ready());
        record.take(event(Event::Stopping), 0);
        assert!(!record.is_ready());
    }

    #[test]
    fn what_a_guest_says_is_safe_to_print() {
        let evil = || "\x1b]0;x\x07a\u{9b}2J".to_owned();
        let mut record = GuestRecord::default();
        record.take(event(Event::Fatal { message: evil() }), 0);
        record
            .take(event(Event::Service { name: evil(), state: ServiceState::Failed { reason: evil() } }), 0);
        record.take(
            event(Event::VolumeMounted { name: evil(), formatted: true, grown: true, size_bytes: 1 }),
            0,
        );
        record.take(
            GuestMessage::Hello { format: 1, instance: evil(), generation: 1, kernel: evil(), freezes: true },
            0,
        );
        let state = ServiceState::Backoff { reason: evil(), delay_ms: 1 };
        let service = ServiceStatus { name: evil(), state, pid: None, restarts: 0 };
        record.take(GuestMessage::Status(Status { services: vec![service], ..Status::default() }), 0);
        let mut checked = GuestMessage::Checked(CheckAnswer {
            run: 1,
            name: evil(),
            failure: Some(evil()),
            duration_ms: 0,
            output: format!("one\n{}", evil()),
            left_out_bytes: 0,
        });
        make_plain(&mut checked);
        let GuestMessage::Checked(answer) = checked else { unreachable!() };
        assert_eq!(answer.output, "one\n\u{fffd}]0;x\u{fffd}a\u{fffd}2J");
        assert!(!format!("{answer:?}").contains("\\u{1b}"));
        let said = format!("{record:?}");
        assert!(!said.contains("\\u{1b}") && !said.contains("\\u{9b}"), "{said}");
        assert_eq!(record.kernel.as_deref(), Some("\u{fffd}]0;x\u{fffd}a\u{fffd}2J"));
    }

    #[test]
    fn a_flood_of_events_is_bounded() {
        let mut record = GuestRecord::default();
        for _ in 0..1000 {
            record.take(event(Event::RootMounted), 0);
        }
        assert_eq!(record.events.len(), MAX_EVENTS);
        assert_eq!(record.events.back().unwrap().sequence, record.sequence);
        record.take(event(Event::Fatal { message: "no root".into() }), 0);
        assert_eq!(record.fatal.as_deref(), Some("no root"));
    }
}
