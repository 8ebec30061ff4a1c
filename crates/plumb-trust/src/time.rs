//! Times as signed documents write them: RFC 3339, UTC, whole seconds.

/// `2026-11-30T12:00:00Z`.
#[must_use]
pub fn text(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Seconds since 1970, or `None` if it is not a time.
#[must_use]
pub fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_ways() {
        assert_eq!(super::text(1_796_040_000), "2026-11-30T12:00:00Z");
        assert_eq!(super::seconds("2026-11-30T12:00:00Z"), Some(1_796_040_000));
        assert_eq!(super::seconds("yesterday"), None);
    }
}
