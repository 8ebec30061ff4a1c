//! What is known about the guest of an instance: kept by the keeper, written to `status.json`.

use std::collections::VecDeque;

use plumb_guest_proto::{Event, GuestMessage, Status};
use serde::{Deserialize, Serialize};

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

    /// Takes in one message; log lines are not for the record.
    pub fn take(&mut self, message: GuestMessage) {
        match message {
            GuestMessage::Hello { kernel, .. } => self.kernel = Some(kernel),
            GuestMessage::Status(status) => self.status = Some(status),
            GuestMessage::LogDropped { count } => self.log_dropped = self.log_dropped.saturating_add(count),
            GuestMessage::Log { .. } => return,
            GuestMessage::Event { uptime_ms, event } => {
                match &event {
                    Event::Fatal { message } => self.fatal = Some(message.clone()),
                    Event::Stopping => self.stopping = true,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: Event) -> GuestMessage {
        GuestMessage::Event { uptime_ms: 1, event }
    }

    #[test]
    fn ready_needs_a_live_channel() {
        let mut record = GuestRecord::default();
        record.take(GuestMessage::Status(Status { ready: true, ..Status::default() }));
        assert!(!record.is_ready());
        record.set_connected(true);
        assert!(record.is_ready());
        record.take(event(Event::Stopping));
        assert!(!record.is_ready());
    }

    #[test]
    fn a_flood_of_events_is_bounded() {
        let mut record = GuestRecord::default();
        for _ in 0..1000 {
            record.take(event(Event::RootMounted));
        }
        assert_eq!(record.events.len(), MAX_EVENTS);
        assert_eq!(record.events.back().unwrap().sequence, record.sequence);
        record.take(event(Event::Fatal { message: "no root".into() }));
        assert_eq!(record.fatal.as_deref(), Some("no root"));
    }
}
