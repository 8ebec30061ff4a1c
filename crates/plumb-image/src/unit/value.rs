//! Values: booleans, time spans, sizes, modes, signals, exit statuses, resource limits.

use plumb_guest_proto::Limit;

/// systemd.syntax(7): `1 yes y true t on`, `0 no n false f off`, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// Permission bits in octal.
pub(super) fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'))
}

/// A span of systemd.time(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// Microseconds.
    Micros(u64),
    /// `infinity`.
    Infinite,
}

impl Span {
    /// Milliseconds, rounded up, at most `limit_ms`, which is also what infinity becomes.
    pub(super) fn millis(self, limit_ms: u64) -> u64 {
        match self {
            Span::Micros(micros) => micros.div_ceil(1000).min(limit_ms),
            Span::Infinite => limit_ms,
        }
    }
}

/// Reads `5min 20s`, `1.5h`, `90`, `infinity`. A bare number counts in `default_unit_us`.
pub(super) fn span(text: &str, default_unit_us: u64) -> Option<Span> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(Span::Infinite);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_us = if unit.is_empty() { default_unit_us } else { unit_micros(unit)? };
        total = total.checked_add(decimal(number, unit_us)?)?;
        rest = tail.trim_start();
    }
    Some(Span::Micros(total))
}

fn unit_micros(unit: &str) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    Some(match unit {
        "us" | "usec" | "µs" | "μs" => 1,
        "ms" | "msec" => 1000,
        "s" | "sec" | "second" | "seconds" => SECOND,
        "m" | "min" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hour" | "hours" => 3600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "week" | "weeks" => 604_800 * SECOND,
        // systemd.time(7): a month is 30.44 days, a year 365.25.
        "M" | "month" | "months" => 2_629_800 * SECOND,
        "y" | "year" | "years" => 31_557_600 * SECOND,
        _ => return None,
    })
}

/// `number` (with at most six places after the point that count) times `unit`.
fn decimal(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let places: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let millionths: u64 = places.parse().ok().filter(|_| !fraction.is_empty() && !fraction.contains('.'))?;
    let part = u128::from(millionths) * u128::from(unit) / 1_000_000;
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

/// A number of bytes with an optional suffix K, M, G, T, P or E to the base 1024.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let power = match suffix.trim() {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// What a resource limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Count,
    Bytes,
    Seconds,
    Nice,
}

/// systemd.exec(5) "Limit directives": directive, getrlimit(2) name in lower case, what it counts. Those that a guest
/// knows: `LimitRTTIME=` is missing, because no service has a real-time priority.
pub(super) const RESOURCES: [(&str, &str, Resource); 15] = [
    ("LimitAS", "as", Resource::Bytes),
    ("LimitCORE", "core", Resource::Bytes),
    ("LimitCPU", "cpu", Resource::Seconds),
    ("LimitDATA", "data", Resource::Bytes),
    ("LimitFSIZE", "fsize", Resource::Bytes),
    ("LimitLOCKS", "locks", Resource::Count),
    ("LimitMEMLOCK", "memlock", Resource::Bytes),
    ("LimitMSGQUEUE", "msgqueue", Resource::Bytes),
    ("LimitNICE", "nice", Resource::Nice),
    ("LimitNOFILE", "nofile", Resource::Count),
    ("LimitNPROC", "nproc", Resource::Count),
    ("LimitRSS", "rss", Resource::Bytes),
    ("LimitRTPRIO", "rtprio", Resource::Count),
    ("LimitSIGPENDING", "sigpending", Resource::Count),
    ("LimitSTACK", "stack", Resource::Bytes),
];

/// Reads `value` or `soft:hard`, each a number or `infinity`.
pub(super) fn limit(text: &str, resource: Resource) -> Option<Limit> {
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let (soft, hard) = (limit_part(soft, resource)?, limit_part(hard, resource)?);
    let soft_fits = match (soft, hard) {
        (Some(soft), Some(hard)) => soft <= hard,
        (soft, hard) => hard.is_none() || soft.is_some(),
    };
    soft_fits.then_some(Limit { soft, hard })
}

fn limit_part(text: &str, resource: Resource) -> Option<Option<u64>> {
    let text = text.trim();
    if text == "infinity" {
        return Some(None);
    }
    match resource {
        Resource::Count => text.parse().ok().map(Some),
        Resource::Bytes => size(text).map(Some),
        Resource::Seconds => span(text, 1_000_000).map(|span| match span {
            Span::Micros(micros) => Some(micros.div_ceil(1_000_000)),
            Span::Infinite => None,
        }),
        // A signed value is a nice level; the kernel counts 20 minus it (getrlimit(2) RLIMIT_NICE).
        Resource::Nice if text.starts_with(['+', '-']) => {
            let level: i64 = text.parse().ok().filter(|level| (-20..=19).contains(level))?;
            u64::try_from(20 - level).ok().map(Some)
        }
        Resource::Nice => text.parse().ok().filter(|raw| *raw <= 40).map(Some),
    }
}

/// Signals by number, signal(7) for x86 and arm: index is the number minus 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal by name (with or without `SIG`, also `SIGRTMIN+n`) or number.
pub(super) fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        // glibc keeps 32 and 33 for itself, so its SIGRTMIN, which units mean, is 34.
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    let position = SIGNALS.iter().position(|known| *known == name)?;
    i32::try_from(position + 1).ok()
}

/// Exit statuses by name: systemd.exec(5) "PROCESS EXIT CODES", the C library's, LSB's and BSD's.
const EXIT_STATUSES: [(&str, i32); 23] = [
    ("SUCCESS", 0),
    ("FAILURE", 1),
    ("INVALIDARGUMENT", 2),
    ("NOTIMPLEMENTED", 3),
    ("NOPERMISSION", 4),
    ("NOTINSTALLED", 5),
    ("NOTCONFIGURED", 6),
    ("NOTRUNNING", 7),
    ("USAGE", 64),
    ("DATAERR", 65),
    ("NOINPUT", 66),
    ("NOUSER", 67),
    ("NOHOST", 68),
    ("UNAVAILABLE", 69),
    ("SOFTWARE", 70),
    ("OSERR", 71),
    ("OSFILE", 72),
    ("CANTCREAT", 73),
    ("IOERR", 74),
    ("TEMPFAIL", 75),
    ("PROTOCOL", 76),
    ("NOPERM", 77),
    ("CONFIG", 78),
];

/// An exit status by number or name.
pub(super) fn exit_status(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<u8>() {
        return Some(i32::from(number));
    }
    EXIT_STATUSES.iter().find(|(name, _)| *name == text).map(|(_, status)| *status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans() {
        let check = |text: &str, expect: Option<u64>| {
            let got = span(text, 1_000_000).map(|span| span.millis(u64::MAX));
            assert_eq!(got, expect, "{text}");
        };
        check("90", Some(90_000));
        check("5min 20s", Some(320_000));
        check("5min20s", Some(320_000));
        check("1.5h", Some(5_400_000));
        check("2 h", Some(7_200_000));
        check("55s500ms", Some(55_500));
        check("1us", Some(1));
        check("infinity", Some(u64::MAX));
        for bad in ["", "s", "5x", "-5", "1.", "1.2.3", ".5", "99999999999999999999", "9999999999999y"] {
            check(bad, None);
        }
    }

    #[test]
    fn limits() {
        let both = |n| Some(Limit { soft: Some(n), hard: Some(n) });
        assert_eq!(limit("65535", Resource::Count), both(65_535));
        assert_eq!(limit("512K", Resource::Bytes), both(524_288));
        assert_eq!(limit("1min", Resource::Seconds), both(60));
        assert_eq!(limit("-5", Resource::Nice), both(25));
        assert_eq!(limit("1024:infinity", Resource::Count), Some(Limit { soft: Some(1024), hard: None }));
        assert_eq!(limit("infinity", Resource::Bytes), Some(Limit { soft: None, hard: None }));
        for bad in ["", "a", "2:1", "infinity:1", "1K", "99999999999999999999"] {
            assert_eq!(limit(bad, Resource::Count), None, "{bad}");
        }
        assert_eq!(size("16E"), None);
    }

    #[test]
    fn signals_and_statuses() {
        assert_eq!(
            ["SIGTERM", "QUIT", "9", "SIGRTMIN+3", "SIGSYS"].map(signal),
            [15, 3, 9, 37, 31].map(Some)
        );
        assert_eq!(["0", "65", "SIGNO", "RTMIN-1", ""].map(signal), [None; 5]);
        assert_eq!(["143", "TEMPFAIL", "CONFIG"].map(exit_status), [143, 75, 78].map(Some));
        assert_eq!(["256", "SIGKILL"].map(exit_status), [None; 2]);
        assert_eq!(
            ["0755", "2755", "9", "77777", "+7"].map(mode),
            [Some(0o755), Some(0o2755), None, None, None]
        );
    }

    proptest! {
        #[test]
        fn no_value_panics(text in "\\PC{0,40}|[0-9.smhMyµKE:+ -]{0,40}") {
            let _ = (boolean(&text), mode(&text), span(&text, 1_000_000), size(&text), signal(&text));
            for (_, _, resource) in RESOURCES {
                let _ = limit(&text, resource);
            }
        }
    }
}
