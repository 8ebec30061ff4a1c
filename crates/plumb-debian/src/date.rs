//! Dates of release files (RFC 2822, section 3.3, as `apt-ftparchive` writes them).

use thiserror::Error;

/// Why a text is not such a date.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{0}` is not a date such as `Sat, 11 Oct 2025 09:20:13 UTC`")]
pub struct DateError(pub String);

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970-01-01 00:00:00 UTC of a text such as `Sat, 11 Oct 2025 09:20:13 UTC`.
///
/// # Errors
/// [`DateError`] with the text; also for a date before 1970.
pub fn parse_date(text: &str) -> Result<u64, DateError> {
    parse(text).ok_or_else(|| DateError(text.to_owned()))
}

fn parse(text: &str) -> Option<u64> {
    // The name of the day says nothing new and is optional in the RFC.
    let rest = text.split_once(',').map_or(text, |(_, rest)| rest);
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [day, month, year, time, zone] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let (day, year) = (number(day, 1..=2)?, number(year, 4..=4)?);
    let mut clock = time.split(':');
    let (hour, minute) = (number(clock.next()?, 1..=2)?, number(clock.next()?, 2..=2)?);
    let second = clock.next().map_or(Some(0), |second| number(second, 2..=2))?;
    if clock.next().is_some()
        || hour > 23
        || minute > 59
        || second > 60
        || day == 0
        || day > month_days(year, month)
    {
        return None;
    }
    let seconds =
        ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - zone_seconds(zone)?;
    u64::try_from(seconds).ok()
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let valid = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

fn zone_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return matches!(zone, "UTC" | "GMT" | "Z").then_some(0),
    };
    let (hours, minutes) = zone.get(1..)?.split_at_checked(2)?;
    Some(sign * (number(hours, 2..=2)? * 60 + number(minutes, 2..=2)?) * 60)
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of a month; `month` counts from 0.
fn month_days(year: i64, month: usize) -> i64 {
    match month {
        1 if leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: usize, day: i64) -> i64 {
    let before = year - 1;
    let days_of_years = before * 365 + before / 4 - before / 100 + before / 400;
    // 719162 days lie between 0001-01-01 and 1970-01-01.
    days_of_years - 719_162 + (0..month).map(|m| month_days(year, m)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Sat, 11 Oct 2025 09:20:13 UTC", 1_760_174_413),
            ("29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Sat, 11 Oct 2025 11:20:13 +0200", 1_760_174_413),
            ("Sat, 11 Oct 2025 9:20:13 Z", 1_760_174_413),
            ("Fri, 31 Dec 9999 23:59:59 UTC", 253_402_300_799),
        ] {
            assert_eq!(parse_date(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "Sat, 11 Oct 2025",
            "Sat, 31 Feb 2025 09:20:13 UTC",
            "Sat, 11 Oct 2025 24:00:00 UTC",
            "Sat, 11 Oct 2025 09:20:13 CEST",
            "Sat, 11 Oct 25 09:20:13 UTC",
            "Sat, +1 Oct 2025 09:20:13 UTC",
            "01 Jan 1969 00:00:00 UTC",
            "Sat, 11 Oct 2025 09:20:13 +é00",
        ] {
            assert_eq!(parse_date(text), Err(DateError(text.to_owned())));
        }
    }
}
