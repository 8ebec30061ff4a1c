//! Sizes and durations as values: `64MiB`, `30s`.

use super::Kind;

/// A number and one of `units` (name, factor); `None` if it is something else.
pub(crate) fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, factor)| factor)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl Kind {
    /// Units of its values with their factors, the smallest first; none if it is no quantity.
    #[must_use]
    pub fn units(self) -> &'static [(&'static str, u64)] {
        match self {
            Kind::Size => &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)],
            Kind::Duration => &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
            Kind::String | Kind::Integer | Kind::Boolean | Kind::Secret => &[],
        }
    }

    /// What a value of this kind looks like, for messages.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Kind::String | Kind::Secret => "\"info\"",
            Kind::Integer => "1",
            Kind::Boolean => "true",
            Kind::Size => "\"64MiB\"",
            Kind::Duration => "\"30s\"",
        }
    }

    /// The bytes or milliseconds of a text, if that is what it is.
    pub(crate) fn amount(self, text: &str) -> Option<i64> {
        measure(text, self.units()).and_then(|amount| i64::try_from(amount).ok())
    }

    /// An amount in the largest unit of which it is a whole number; a number of another kind as it is.
    pub(super) fn written(self, amount: i64) -> String {
        let fits = |factor: u64| amount != 0 && amount.unsigned_abs().is_multiple_of(factor);
        match self.units().iter().rev().find(|(_, factor)| fits(*factor)).or(self.units().first()) {
            Some((unit, factor)) => format!("{}{unit}", amount.unsigned_abs() / factor),
            None => amount.to_string(),
        }
    }

    /// The factor of a unit.
    pub(super) fn factor(self, unit: &str) -> Option<i64> {
        let found = self.units().iter().find(|(name, _)| *name == unit);
        found.and_then(|(_, factor)| i64::try_from(*factor).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_back() {
        for (kind, text, amount, written) in [
            (Kind::Size, "64MiB", Some(64 << 20), "64MiB"),
            (Kind::Size, "1024 KiB", Some(1 << 20), "1MiB"),
            (Kind::Size, "0B", Some(0), "0B"),
            (Kind::Size, "64", None, ""),
            (Kind::Size, "64MB", None, ""),
            (Kind::Size, "-1MiB", None, ""),
            (Kind::Size, "9999999999TiB", None, ""),
            (Kind::Duration, "90s", Some(90_000), "90s"),
            (Kind::Duration, "120s", Some(120_000), "2min"),
            (Kind::Duration, "1d", Some(86_400_000), "1d"),
            (Kind::Duration, "1w", None, ""),
            (Kind::Integer, "5", None, ""),
        ] {
            assert_eq!(kind.amount(text), amount, "{text}");
            if let Some(amount) = amount {
                assert_eq!(kind.written(amount), written, "{text}");
            }
        }
        assert_eq!(Kind::Integer.written(-3), "-3");
    }
}
