//! Durations and sizes as people write them: a number and its unit.

use std::time::Duration;

/// Milliseconds per unit of a duration, the largest first.
const TIMES: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Bytes per unit of a size, the largest first.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
];

/// Why a text is no amount; reads on after `"...": `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAmount {
    /// There is a number and no unit.
    #[error("the unit is missing, as in {0}")]
    NoUnit(&'static str),
    /// It has another form.
    #[error("write a number and its unit, as in {0}")]
    Form(&'static str),
    /// Nobody can wait that long or has that much.
    #[error("that is too large")]
    TooLarge,
}

const DURATIONS: &str = "\"150ms\", \"20s\" or \"1m30s\"";
const EXAMPLE_SIZES: &str = "\"50MB\" or \"1GiB\"";

/// Returns the duration that a text such as `150ms`, `2h`, `1m30s` or `0` means.
pub fn duration(text: &str) -> Result<Duration, NotAnAmount> {
    parse(text, TIMES, DURATIONS, true).map(Duration::from_millis)
}

/// Returns the number of bytes that a text such as `50MB`, `1GiB` or `0` means.
pub fn size(text: &str) -> Result<u64, NotAnAmount> {
    parse(text, SIZES, EXAMPLE_SIZES, false)
}

/// Returns a duration in the form that [`duration`] reads, `1m30s`. Parts of a millisecond are
/// left out.
pub fn show_duration(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, worth) in TIMES {
        if rest >= *worth {
            parts.push(format!("{}{unit}", rest / worth));
            rest %= worth;
        }
    }
    if parts.is_empty() {
        return "0".into();
    }
    parts.concat()
}

/// Returns a size in the form that [`size`] reads, in the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    let fits = |(_, worth): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*worth);
    SIZES.iter().find(fits).map_or_else(
        || "0".into(),
        |(unit, worth)| format!("{}{unit}", bytes / worth),
    )
}

fn parse(
    text: &str,
    units: &[(&str, u64)],
    example: &'static str,
    several: bool,
) -> Result<u64, NotAnAmount> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(NotAnAmount::Form(example));
        }
        if unit.is_empty() && after.is_empty() {
            return Err(NotAnAmount::NoUnit(example));
        }
        let worth = units
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, worth)| *worth)
            // Each unit once, the large ones first: "30s1m" is a slip of the hand.
            .filter(|worth| *worth < last && (several || last == u64::MAX))
            .ok_or(NotAnAmount::Form(example))?;
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(worth));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or(NotAnAmount::TooLarge)?;
        last = worth;
        rest = after;
    }
    if last == u64::MAX {
        return Err(NotAnAmount::Form(example));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        let millis = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(millis("150ms"), Ok(150));
        assert_eq!(millis("2h"), Ok(7_200_000));
        assert_eq!(millis("1m30s"), Ok(90_000));
        assert_eq!(millis("1d2h3m4s5ms"), Ok(93_784_005));
        assert_eq!(millis("0"), Ok(0));
        assert_eq!(millis("0s"), Ok(0));
        assert_eq!(millis("20"), Err(NotAnAmount::NoUnit(DURATIONS)));
        for bad in [
            "", "s", "1.5s", "-1s", "1 s", "1x", "30s1m", "1s1s", "1S", "1m30",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(duration("300000000000d"), Err(NotAnAmount::TooLarge),);
    }

    #[test]
    fn sizes_carry_units() {
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("50MB"), Ok(50_000_000));
        assert_eq!(size("7B"), Ok(7));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("50"), Err(NotAnAmount::NoUnit(EXAMPLE_SIZES)));
        for bad in ["", "GiB", "1Gb", "1GiB1MiB", "1 GiB", "1.5GiB"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
        assert_eq!(size("99999999TiB"), Err(NotAnAmount::TooLarge));
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for text in ["150ms", "1m30s", "2h", "1d", "0", "1s1ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["1GiB", "50MB", "1025B", "0", "1TiB", "3kB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
