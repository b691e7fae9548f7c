//! From when to when recordings are wanted.

use std::str::FromStr;

use time::format_description::well_known::Rfc3339;
use time::macros::{datetime, format_description};
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime};

use crate::model::UnixMicros;
use crate::nvr::{DeviceClock, Span};

/// From when to when. Days are those of the recorder's own calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wanted {
    /// Today, as far as it has come.
    #[default]
    Today,
    /// The day before.
    Yesterday,
    /// So many days, today among them.
    Days(u32),
    /// Whatever there is.
    All,
    /// From one moment to another; without the first, from midnight on; without the second, until the end of today.
    Between(Option<Moment>, Option<Moment>),
}

/// A moment as people write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// What the recorder's wall clock shows: `2026-11-19T08:00:00`, `2026-11-19 08:00` or `2026-11-19`.
    Wall(PrimitiveDateTime),
    /// The same wherever a clock hangs: `2026-11-19T08:00:00+01:00` or `2026-11-19T07:00:00Z`.
    Instant(UnixMicros),
}

/// A text that is no moment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "write 2026-11-19T08:00:00 for what the recorder's clock shows, or 2026-11-19T07:00:00Z or +01:00 behind it for a moment \
     wherever the clock hangs"
)]
pub struct InvalidMoment;

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let text = text.trim().replacen(' ', "T", 1);
        if let Ok(at) = OffsetDateTime::parse(&text, &Rfc3339) {
            let micros = at.unix_timestamp_nanos() / 1_000;
            return i64::try_from(micros).map(|at| Self::Instant(UnixMicros(at))).map_err(|_| InvalidMoment);
        }
        let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]");
        let day = format_description!("[year]-[month]-[day]");
        PrimitiveDateTime::parse(&text, seconds)
            .or_else(|_| PrimitiveDateTime::parse(&text, minutes))
            .or_else(|_| Date::parse(&text, day).map(Date::midnight))
            .map(Self::Wall)
            .map_err(|_| InvalidMoment)
    }
}

/// Recorders count seconds in 32 bits with a sign: the last day that all of them can name (quirk 25).
const FIRST: PrimitiveDateTime = datetime!(2000-01-01 00:00);
const LAST: PrimitiveDateTime = datetime!(2037-10-10 23:59:59);

impl Wanted {
    /// The span by a recorder's clock, which takes `now` for now.
    ///
    /// # Errors
    ///
    /// When it ends before it begins.
    pub(super) fn span(self, clock: &DeviceClock, now: UnixMicros) -> Result<Span, String> {
        let today = clock.zone().wall(now).date();
        // The end is left out: midnight, so that no second is.
        let midnight = |days: i64| {
            let day = today.checked_add(Duration::days(days)).unwrap_or(today);
            day.midnight()
        };
        let wall = |from, to| clock.span(from, to);
        let span = match self {
            Self::Today => wall(midnight(0), midnight(1)),
            Self::Yesterday => wall(midnight(-1), midnight(0)),
            Self::Days(days) => wall(midnight(1 - i64::from(days.max(1))), midnight(1)),
            Self::All => wall(FIRST, LAST),
            Self::Between(from, to) => {
                let at = |moment: Option<Moment>, otherwise| match moment {
                    Some(Moment::Wall(at)) => wall(at, at),
                    Some(Moment::Instant(at)) => Span { from: at, to: at },
                    None => wall(otherwise, otherwise),
                };
                Span { from: at(from, midnight(0)).from, to: at(to, midnight(1)).to }
            }
        };
        let bounds = wall(FIRST, LAST);
        let span = Span { from: span.from.max(bounds.from), to: span.to.min(bounds.to) };
        if span.from >= span.to {
            return Err(format!("nothing lies between {} and {}: the end is not after the begin", span.from, span.to));
        }
        Ok(span)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::nvr::Zone;

    fn micros(at: OffsetDateTime) -> UnixMicros {
        UnixMicros(i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap())
    }

    /// Half past midnight in Berlin, when it is still the day before in UTC.
    fn span(wanted: Wanted) -> (String, String) {
        let clock = DeviceClock::new("Europe/Berlin".parse::<Zone>().unwrap(), false, Duration::ZERO);
        let span = wanted.span(&clock, micros(datetime!(2026-11-18 23:30 UTC))).unwrap();
        let short = |at: UnixMicros| at.to_string().replace(":00.000000Z", "");
        (short(span.from), short(span.to))
    }

    fn texts(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn days_are_those_of_the_recorder() {
        assert_eq!(span(Wanted::Today), texts("2026-11-18T23:00", "2026-11-19T23:00"));
        assert_eq!(span(Wanted::Yesterday), texts("2026-11-17T23:00", "2026-11-18T23:00"));
        assert_eq!(span(Wanted::Days(1)), span(Wanted::Today));
        // Over the end of summer time: 25 hours are a day.
        assert_eq!(span(Wanted::Days(26)), texts("2026-10-24T22:00", "2026-11-19T23:00"));
        assert_eq!(span(Wanted::All), texts("1999-12-31T23:00", "2037-10-10T21:59:59.000000Z"));
    }

    #[test]
    fn moments_are_the_walls_or_the_worlds() {
        let at = |text: &str| Some(text.parse().unwrap());
        let from = at("2026-07-01T08:00:00");
        assert_eq!(span(Wanted::Between(from, at("2026-07-02"))), texts("2026-07-01T06:00", "2026-07-01T22:00"));
        assert_eq!(from, at("2026-07-01 08:00"));
        let (from, to) = (at("2026-07-01T08:00:00+01:00"), at("2026-07-01T08:00:00Z"));
        assert_eq!(span(Wanted::Between(from, to)), texts("2026-07-01T07:00", "2026-07-01T08:00"));
        assert_eq!(span(Wanted::Between(None, None)), span(Wanted::Today));
        for text in ["", "yesterday", "19.11.2026", "2026-11-19T25:00:00", "2026-11-19T08:00:00 Berlin"] {
            assert_eq!(text.parse::<Moment>(), Err(InvalidMoment), "{text}");
        }
    }

    #[test]
    fn quirk_25_a_span_ends_where_recorders_do_and_not_before_it_begins() {
        let at = |text: &str| Some(text.parse().unwrap());
        let all = Wanted::Between(at("1970-01-01"), at("2106-01-01"));
        assert_eq!(span(all), span(Wanted::All));
        let clock = DeviceClock::new(Zone::utc(), false, Duration::ZERO);
        let backwards = Wanted::Between(at("2026-07-02"), at("2026-07-01"));
        assert!(backwards.span(&clock, UnixMicros(0)).unwrap_err().contains("not after the begin"));
    }
}
