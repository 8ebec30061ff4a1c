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

/// The pause of a loop that waits for something no descriptor tells. Each such loop has a named limit, or somebody who ends
/// it.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A time as this host's people write it, in a strftime(3) format.
#[must_use]
pub fn local(seconds: i64, format: &str) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string())
        .unwrap_or_else(|_| seconds.to_string())
}

/// Seconds since 1970 that a person means: `2026-11-30`, `2026-11-30 22:15` in the time of this host, RFC 3339, or so long before
/// `now_s` as `90s`, `30m`, `12h` or `7d`.
#[must_use]
pub fn parse(text: &str, now_s: i64) -> Option<i64> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    for (unit, seconds) in units {
        if let Some(number) = text.strip_suffix(unit).and_then(|number| number.parse::<i64>().ok()) {
            return now_s.checked_sub(number.checked_mul(seconds)?);
        }
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_second());
    }
    let time = text.parse::<jiff::civil::DateTime>();
    let time = time.or_else(|_| text.parse::<jiff::civil::Date>().map(|day| day.at(0, 0, 0, 0)));
    Some(time.ok()?.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp().as_second())
}

/// A time in UTC, in a strftime(3) format.
#[must_use]
pub fn utc(seconds: i64, format: &str) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime(format).to_string())
        .unwrap_or_else(|_| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        assert_eq!(parse("90s", 1_000), Some(910));
        assert_eq!(parse("2h", 10_000), Some(2_800));
        assert_eq!(parse("7d", 0), Some(-604_800));
        assert_eq!(parse("2026-11-30T22:15:00Z", 0), Some(1_796_076_900));
        let noon = parse("2026-11-30 12:00", 0).expect("a time");
        assert_eq!(local(noon, "%Y-%m-%d %H:%M"), "2026-11-30 12:00");
        assert_eq!(parse("2026-11-30", 0), Some(noon - 12 * 3600));
        assert_eq!(parse("yesterday", 0), None);
        assert_eq!(parse("99999999999999999999d", 0), None);
    }
}
