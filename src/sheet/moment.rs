//! Dates as people and programs write them into sheets.
//!
//! A text counts only where it can mean one thing: `03/04/2026` is a day in March for some and in April for others.

use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::export::Moment;
use crate::model::UnixMicros;

const HOW: &str = "write 2026-11-19 08:00, with Z or +01:00 behind it for a moment wherever the clock hangs";

/// Recorders count seconds in 32 bits with a sign, and were not built before.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2037;

/// Which day is the first of a workbook's calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Calendar {
    /// The one of Excel: the first of January 1900 is 1, and there was a 29 February that year.
    #[default]
    From1900,
    /// The one of old Macintoshes: the first of January 1904 is 0.
    From1904,
}

impl Calendar {
    /// The moment that a number means; `None` where that is no date.
    pub(super) fn date(self, number: f64) -> Option<PrimitiveDateTime> {
        // The last day of year 9999 has 2,958,465.
        if !(0.0..2_958_466.0).contains(&number) {
            return None;
        }
        let begin = match self {
            Self::From1904 => datetime!(1904-01-01 00:00),
            // A time alone.
            Self::From1900 if number < 1.0 => return None,
            Self::From1900 if number < 60.0 => datetime!(1899-12-31 00:00),
            // The day that never was.
            Self::From1900 if number < 61.0 => return None,
            Self::From1900 => datetime!(1899-12-30 00:00),
        };
        // Thirds of a day are not to be had in binary: whole seconds are what was meant.
        #[expect(clippy::cast_possible_truncation, reason = "less than 2^38")]
        let seconds = (number * 86_400.0).round() as i64;
        begin.checked_add(Duration::seconds(seconds))
    }
}

/// A moment from a text.
///
/// # Errors
///
/// When it is none, or may be two.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    let text = text.trim();
    let digits = |c: char| c.is_ascii_digit();
    // The day ends with the first character that is neither a digit nor stands between the numbers of a day.
    let end = text.find(|c: char| !digits(c) && !"-/.年月日".contains(c)).unwrap_or(text.len());
    let (day, rest) = text.split_at(end);
    let rest = rest.strip_prefix(['T', 't', ' ', ',']).unwrap_or(rest).trim_start();
    let day = self::day(day)?;
    if !YEARS.contains(&day.year()) {
        return Err(outside());
    }
    let clock = rest.strip_suffix(['Z', 'z']);
    let sign = rest.rfind(['+', '-', '−']);
    if clock.is_some() || sign.is_some() {
        let offset = match (clock, sign) {
            (Some(_), _) => "Z".to_owned(),
            (None, Some(at)) => rest[at..].replace('−', "-"),
            (None, None) => unreachable!("one of them is there"),
        };
        let clock = clock.or(sign.map(|at| &rest[..at])).unwrap_or(rest);
        let time = self::clock(clock.trim_end())?;
        let (hour, minute, second) = time.as_hms();
        let written = format!("{day}T{hour:02}:{minute:02}:{second:02}{offset}");
        let at = OffsetDateTime::parse(&written, &Rfc3339).map_err(|_| no_date())?;
        let micros = i64::try_from(at.unix_timestamp_nanos() / 1_000).map_err(|_| no_date())?;
        return Ok(Moment::Instant(UnixMicros(micros)));
    }
    let time = if rest.is_empty() { Time::MIDNIGHT } else { clock_of(rest)? };
    Ok(Moment::Wall(PrimitiveDateTime::new(day, time)))
}

/// A moment from a date of a workbook.
///
/// # Errors
///
/// When no recorder has a recording of that time.
pub(super) fn wall(at: PrimitiveDateTime) -> Result<Moment, String> {
    if YEARS.contains(&at.year()) { Ok(Moment::Wall(at)) } else { Err(outside()) }
}

fn no_date() -> String {
    format!("is no date: {HOW}")
}

fn outside() -> String {
    format!("lies outside the years {} to {}, which recorders know: {HOW}", YEARS.start(), YEARS.end())
}

/// A day: `2026-11-19`, `2026/11/19`, `2026年11月19日`, `19.11.2026`, and `19/11/2026` where it cannot be the other one.
fn day(text: &str) -> Result<Date, String> {
    let text = text.strip_suffix('日').unwrap_or(text).trim_end_matches('.');
    let numbers: Vec<&str> = text.split(['-', '/', '.', '年', '月']).collect();
    let [first, second, third] = numbers[..] else { return Err(no_date()) };
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() <= 4);
    let (Some(a), Some(b), Some(c)) = (number(first), number(second), number(third)) else { return Err(no_date()) };
    let date = |year: u16, month: u16, day: u16| {
        let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok());
        let day = u8::try_from(day).ok();
        month.zip(day).and_then(|(month, day)| Date::from_calendar_date(year.into(), month, day).ok())
    };
    if first.len() == 4 {
        return date(a, b, c).ok_or_else(no_date);
    }
    if third.len() != 4 {
        return Err(format!("has a year of two digits: {HOW}"));
    }
    // With dots the day stands first wherever dots are used.
    if text.contains('.') {
        return date(c, b, a).ok_or_else(no_date);
    }
    match (date(c, b, a), date(c, a, b)) {
        (Some(one), Some(other)) if one != other => {
            Err(format!("may be the {one} or the {other}: write the one that is meant"))
        }
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(no_date()),
    }
}

/// A time of day, which may have `AM` or `PM` behind it.
fn clock_of(text: &str) -> Result<Time, String> {
    let upper = text.to_ascii_uppercase();
    let (text, half) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(text), _) => (text, Some(0)),
        (None, Some(text)) => (text, Some(12)),
        (None, None) => return clock(text),
    };
    let time = clock(text.trim_end())?;
    let hour = half.filter(|_| (1..=12).contains(&time.hour())).map(|half| time.hour() % 12 + half);
    hour.and_then(|hour| time.replace_hour(hour).ok()).ok_or_else(no_date)
}

/// A time of day: `8:00`, `08:00` or `08:00:00`.
fn clock(text: &str) -> Result<Time, String> {
    let mut numbers = text.split(':');
    let mut next = || {
        let text = numbers.next()?;
        text.parse::<u8>().ok().filter(|_| text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let (hour, minute) = (next(), next());
    let second = if text.matches(':').count() == 2 { next() } else { Some(0) };
    let (Some(hour), Some(minute), Some(second)) = (hour, minute, second) else { return Err(no_date()) };
    // Fractions of a second, and a third colon, are left over.
    if numbers.next().is_some() {
        return Err(no_date());
    }
    Time::from_hms(hour, minute, second).map_err(|_| no_date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_moment_where_it_can_mean_one_alone() {
        let wall = |at| Ok(Moment::Wall(at));
        for text in [
            "2026-11-19 08:00",
            "2026-11-19T08:00:00",
            "2026/11/19 8:00",
            "2026.11.19 08:00:00",
            "2026年11月19日 08:00",
            "19.11.2026 08:00",
            "19.11.2026, 8:00",
            "19/11/2026 08:00",
            "11/19/2026 8:00 AM",
        ] {
            assert_eq!(moment(text), wall(datetime!(2026-11-19 08:00)), "{text}");
        }
        assert_eq!(moment("3.4.2026"), wall(datetime!(2026-04-03 00:00)));
        assert_eq!(moment("05/05/2026 12:30 am"), wall(datetime!(2026-05-05 00:30)));
        assert_eq!(moment("05/05/2026 12:30 PM"), wall(datetime!(2026-05-05 12:30)));
        let at = Ok(Moment::Instant(UnixMicros(1_795_071_600_000_000)));
        for text in ["2026-11-19T07:00:00Z", "2026-11-19 08:00 +01:00", "19.11.2026 02:00-05:00", "2026-11-19T7:00z"] {
            assert_eq!(moment(text), at, "{text}");
        }
    }

    #[test]
    fn what_may_be_two_days_or_none_is_refused() {
        for (text, word) in [
            ("03/04/2026", "may be the 2026-04-03 or the 2026-03-04"),
            ("3-4-2026 08:00", "may be"),
            ("19.11.26", "two digits"),
            ("11/19/26", "two digits"),
            ("11.19.2026", "no date"),
            ("2026-02-29", "no date"),
            ("2026-11-19 24:00", "no date"),
            ("2026-11-19 8", "no date"),
            ("2026-11-19 08:00:00.5", "no date"),
            ("2026-11-19 13:00 PM", "no date"),
            ("2026-11-19 08:00 Berlin", "no date"),
            ("2026-11-19+01:00", "no date"),
            ("08:00", "no date"),
            ("tomorrow", "no date"),
            ("46345", "no date"),
            ("1970-01-01", "2000 to 2037"),
            ("", "no date"),
        ] {
            let told = moment(text).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
        assert!(wall(datetime!(1905-01-01 00:00)).is_err());
    }

    #[test]
    fn numbers_are_dates_of_two_calendars() {
        let (excel, macintosh) = (Calendar::From1900, Calendar::From1904);
        let at = datetime!(2026-11-19 08:00);
        assert_eq!(excel.date(46345.0 + 1.0 / 3.0), Some(at));
        assert_eq!(macintosh.date(44883.0 + 1.0 / 3.0), Some(at));
        assert_eq!(excel.date(1.0), Some(datetime!(1900-01-01 00:00)));
        assert_eq!(excel.date(61.0), Some(datetime!(1900-03-01 00:00)));
        // A second before midnight, as programs round it.
        assert_eq!(excel.date(46_345.999_988_425_93), Some(datetime!(2026-11-19 23:59:59)));
        for number in [0.5, 60.0, -1.0, f64::NAN, f64::INFINITY, 3e6] {
            assert_eq!(excel.date(number), None, "{number}");
        }
    }
}
