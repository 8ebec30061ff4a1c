//! The door to the clock: when something was received, and how long to leave something alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970. A clock before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "the keeper is its own process: its log lines are dated here")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The pause of a loop that waits for something no descriptor tells: a socket file that appears, a lock that is given
/// up. Every such loop has a named limit of its own.
#[expect(clippy::disallowed_methods, reason = "the one door; each caller looks again until its limit")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
