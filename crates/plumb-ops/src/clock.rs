//! The clock: the only place that reads it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970.
#[must_use]
pub fn now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> i64 {
    i64::try_from(now().as_secs()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

/// A time in UTC, in a strftime(3) format.
#[must_use]
pub fn utc(seconds: i64, format: &str) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime(format).to_string())
        .unwrap_or_else(|_| seconds.to_string())
}
