//! A point of the past in the words of a person.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::AmbiguousOffset;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

use crate::engine::recall::At;
use crate::names::escape;

/// Reads `2h`, `3 days ago`, `yesterday`, `yesterday 14:00`, `14:00`, `2026-11-20`,
/// `2026-11-20 14:00`, RFC 3339, or a commit. Errors in one sentence.
pub(in crate::cli) fn parse(text: &str, now: &Zoned) -> Result<At, String> {
    let text = text.trim();
    let shown = escape(text.as_bytes());
    if text.is_empty() {
        return Err("an empty time is none".to_owned());
    }
    match moment(text, now) {
        Some(Ok(at)) if at > now.timestamp() => Err(format!("`{shown}` is in the future")),
        Some(Ok(at)) => Ok(At::Seconds(at.as_second())),
        Some(Err(why)) => Err(format!("`{shown}` {why}")),
        None if text.contains(char::is_whitespace) => {
            Err(format!("`{shown}` is neither a time nor a commit"))
        }
        None => Ok(At::Commit(text.to_owned())),
    }
}

/// What a time can be: none at all, a moment, or one that is not certain.
type Found = Option<Result<Timestamp, &'static str>>;

fn moment(text: &str, now: &Zoned) -> Found {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(Ok(at));
    }
    if let Some(ago) = ago(text) {
        return Some(match ago {
            Ok(span) => now
                .checked_sub(span)
                .map(|at| at.timestamp())
                .map_err(|_| "is longer ago than any calendar knows"),
            Err(why) => Err(why),
        });
    }
    let (day, time) = match text.split_once([' ', 'T']) {
        Some((day, time)) => (day, Some(time.trim())),
        None => (text, None),
    };
    if time.is_none()
        && let Some(time) = clock_time(text)
    {
        return Some(certain(now.date().to_datetime(time), now));
    }
    let date = match day {
        "today" => now.date(),
        "yesterday" => now.date().yesterday().ok()?,
        other => other.parse::<Date>().ok().filter(|_| is_date(other))?,
    };
    if let Some(time) = time {
        return Some(certain(date.to_datetime(clock_time(time)?), now));
    }
    // The end of that day; today's is now.
    let end = date.tomorrow().ok()?.to_datetime(Time::midnight());
    let end = end.to_zoned(now.time_zone().clone()).ok()?.timestamp();
    Some(Ok(if date == now.date() {
        now.timestamp()
    } else {
        end
    }))
}

/// Whether a text is a date with hyphens: others could be commits.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-'
}

fn clock_time(text: &str) -> Option<Time> {
    let digits =
        |part: &str| matches!(part.len(), 1..=2) && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split(':').collect();
    if !matches!(parts.len(), 2..=3) || !parts.iter().all(|part| digits(part)) {
        return None;
    }
    let number = |at: usize| {
        parts
            .get(at)
            .map_or(Some(0), |part| part.parse::<i8>().ok())
    };
    Time::new(number(0)?, number(1)?, number(2)?, 0).ok()
}

/// Returns the moment of a local time, if there is exactly one.
fn certain(at: DateTime, now: &Zoned) -> Result<Timestamp, &'static str> {
    let ambiguous = now.time_zone().to_ambiguous_timestamp(at);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous
            .unambiguous()
            .map_err(|_| "is no time that a calendar knows"),
        AmbiguousOffset::Gap { .. } => Err(
            "did not exist: the clocks were put forward; give it with its offset, as in RFC 3339",
        ),
        AmbiguousOffset::Fold { .. } => Err(
            "was there twice: the clocks were put back; give it with its offset, as in RFC 3339",
        ),
    }
}

/// Reads `2h`, `90 minutes`, `3 days ago`.
fn ago(text: &str) -> Option<Result<Span, &'static str>> {
    let text = text.strip_suffix(" ago").unwrap_or(text).trim();
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    if number.is_empty() {
        return None;
    }
    let unit = unit.trim();
    let long = Err("is longer ago than any calendar knows");
    let Ok(number) = number.parse::<i64>() else {
        return Some(long);
    };
    let seconds = |each: i64| match number.checked_mul(each) {
        Some(seconds) => Span::try_from(SignedDuration::from_secs(seconds))
            .map_err(|_| "is longer ago than any calendar knows"),
        None => long,
    };
    let calendar =
        |span: Result<Span, jiff::Error>| span.map_err(|_| "is longer ago than any calendar knows");
    Some(match unit {
        "s" | "sec" | "second" | "seconds" => seconds(1),
        "m" | "min" | "minute" | "minutes" => seconds(60),
        "h" | "hour" | "hours" => seconds(3600),
        "d" | "day" | "days" => calendar(Span::new().try_days(number)),
        "w" | "week" | "weeks" => calendar(Span::new().try_weeks(number)),
        "month" | "months" => calendar(Span::new().try_months(number)),
        "y" | "year" | "years" => calendar(Span::new().try_years(number)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// A quarter past ten in the evening of a Friday, where the clocks change.
    fn now() -> Zoned {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        "2026-11-20T22:15:00+01:00"
            .parse::<Timestamp>()
            .unwrap()
            .to_zoned(zone)
    }

    fn seconds(text: &str) -> At {
        At::Seconds(text.parse::<Timestamp>().unwrap().as_second())
    }

    #[test]
    fn a_point_of_the_past_is_read_as_people_write_it() {
        for (text, means) in [
            ("2h", "2026-11-20T20:15:00+01:00"),
            ("90 minutes ago", "2026-11-20T20:45:00+01:00"),
            ("3d", "2026-11-17T22:15:00+01:00"),
            ("1 week", "2026-11-13T22:15:00+01:00"),
            // Over the change of the clocks a day is a day.
            ("30 days ago", "2026-10-21T22:15:00+02:00"),
            ("2 months", "2026-09-20T22:15:00+02:00"),
            ("yesterday", "2026-11-20T00:00:00+01:00"),
            ("yesterday 14:00", "2026-11-19T14:00:00+01:00"),
            ("today 9:30", "2026-11-20T09:30:00+01:00"),
            ("today", "2026-11-20T22:15:00+01:00"),
            ("14:00", "2026-11-20T14:00:00+01:00"),
            ("2026-11-18", "2026-11-19T00:00:00+01:00"),
            ("2026-11-18 14:00", "2026-11-18T14:00:00+01:00"),
            ("2026-11-18T14:00:05", "2026-11-18T14:00:05+01:00"),
            ("2026-11-18T14:00:05Z", "2026-11-18T14:00:05Z"),
            ("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+02:00"),
        ] {
            assert_eq!(parse(text, &now()), Ok(seconds(means)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_a_commit() {
        for text in ["1000d00", "HEAD~3", "main", "20261118", "2h3", "abcdef1"] {
            assert_eq!(
                parse(text, &now()),
                Ok(At::Commit(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_time_that_is_not_certain_is_asked_for_again() {
        for (text, why) in [
            ("23:00", "is in the future"),
            ("2027-01-01", "is in the future"),
            ("2026-10-25 02:30", "was there twice"),
            ("2026-03-29 02:30", "did not exist"),
            ("the other day", "is neither a time nor a commit"),
            ("2026-11-18 25:00", "is neither a time nor a commit"),
            ("99999999999999999999 days", "is longer ago"),
            ("999999999 years", "is longer ago"),
            ("", "an empty time is none"),
        ] {
            let said = parse(text, &now()).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
