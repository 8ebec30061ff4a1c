//! What the guest says: to the console for a person, to the control port for the host, always to both.

use plumb_guest_proto::{Event, GuestMessage, MAX_LOG_LINE_BYTES};

use crate::clock::uptime_ms;
use crate::console::Console;
use crate::control::Control;
use crate::limit;

/// Console and control port together.
#[derive(Debug)]
pub struct Reporter {
    /// Where a person looks.
    pub console: Console,
    /// Where the host listens.
    pub control: Control,
}

impl Reporter {
    /// One line about a step of PID 1.
    pub fn say(&mut self, text: &str) {
        self.log("plumb", text.to_owned());
    }

    /// One line of a service.
    pub fn log(&mut self, service: &str, line: String) {
        self.console.line(service, &line);
        let line = shorten(line, MAX_LOG_LINE_BYTES);
        self.control.send(&GuestMessage::Log { uptime_ms: uptime_ms(), service: service.to_owned(), line });
    }

    /// Something the host acts upon.
    pub fn event(&mut self, event: Event) {
        self.control.send(&GuestMessage::Event { uptime_ms: uptime_ms(), event });
    }

    /// Gets everything out before the power goes.
    pub fn drain(&mut self) {
        self.control.drain(limit::LAST_WORDS_MS);
        self.console.drain(limit::LAST_WORDS_MS);
    }
}

/// At most `limit` bytes; what was cut ends in `…`.
pub fn shorten(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let mut end = limit.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorten_keeps_characters_whole() {
        assert_eq!(shorten("abc".into(), 3), "abc");
        assert_eq!(shorten("ääää".into(), 6), "ä…");
        assert!(shorten("x".repeat(10_000), 240).len() <= 240);
    }
}
