//! The recorder's clock: what its wall shows, summer time included.
//!
//! Inside, moments are seconds since 1970 in UTC. What a recorder writes is the time on its wall with a `Z` behind it.

use std::str::FromStr;

use anyhow::{Context as _, ensure};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime};

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
const COMPACT: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]");

/// A time zone as recorders write it: `CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00` is Berlin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    text: String,
    /// Seconds east of Greenwich in winter.
    standard: i64,
    summer: Option<Summer>,
}

/// When the clock shows more than standard time, and how much more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Summer {
    more: i64,
    begin: Rule,
    end: Rule,
}

/// A moment in every year, by the clock on the wall: the n-th such weekday of a month, 5 being the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    month: u8,
    week: i64,
    weekday: i64,
    time: i64,
}

impl Zone {
    /// What the wall shows beyond UTC at this moment, in seconds.
    pub(super) fn offset(&self, moment: i64) -> i64 {
        self.standard + self.beyond_standard(moment)
    }

    /// How much of that is summer time.
    pub(super) fn beyond_standard(&self, moment: i64) -> i64 {
        let Some(Summer { more, begin, end }) = &self.summer else { return 0 };
        let year = civil(moment + self.standard).year();
        let begin = begin.wall(year) - self.standard;
        let end = end.wall(year) - self.standard - more;
        let summer = if begin < end { (begin..end).contains(&moment) } else { !(end..begin).contains(&moment) };
        if summer { *more } else { 0 }
    }

    /// Seconds east of Greenwich in winter.
    pub(super) fn standard(&self) -> i64 {
        self.standard
    }

    /// What the wall shows.
    pub(super) fn wall(&self, moment: i64) -> i64 {
        moment + self.offset(moment)
    }

    /// The first and the last moment at which the wall shows this: they differ in the hour that comes twice. For the
    /// hour that never comes it is the moment at which it would be that late by the clock of before.
    pub(super) fn moments(&self, wall: i64) -> (i64, i64) {
        let summer = self.summer.as_ref().map_or(0, |summer| summer.more);
        let (early, late) = (wall - self.standard - summer, wall - self.standard);
        match (self.wall(early) == wall, self.wall(late) == wall) {
            (true, false) => (early, early),
            (false, _) => (late, late),
            (true, true) => (early, late),
        }
    }
}

impl Rule {
    /// When it is so far in that year, as the wall shows it just before.
    fn wall(&self, year: i32) -> i64 {
        let month = Month::try_from(self.month).expect("checked when it was read");
        let first = Date::from_calendar_date(year, month, 1).expect("every month has a first");
        let to_weekday = (self.weekday - i64::from(first.weekday().number_days_from_sunday())).rem_euclid(7);
        let mut day = 1 + to_weekday + 7 * (self.week - 1);
        while day > i64::from(month.length(year)) {
            day -= 7;
        }
        let midnight = first.midnight().assume_utc().unix_timestamp();
        midnight + 86_400 * (day - 1) + self.time
    }
}

impl FromStr for Zone {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Zone> {
        let zone = || {
            let from = text.find(|c: char| !c.is_ascii_alphabetic()).context("no offset behind its name")?;
            let mut parts = text[from..].split(',');
            let offsets = parts.next().unwrap_or_default();
            // West is positive there.
            let (standard, summer) = offsets.split_once("DST").unwrap_or((offsets, ""));
            let standard = -seconds(standard)?;
            let summer = match (parts.next(), parts.next(), parts.next()) {
                (None, ..) => None,
                (Some(begin), Some(end), None) => {
                    let more = if summer.is_empty() { 3600 } else { seconds(summer)? };
                    Some(Summer { more, begin: begin.parse()?, end: end.parse()? })
                }
                _ => anyhow::bail!("summer time has a begin and an end"),
            };
            ensure!(standard.abs() <= 14 * 3600, "more than 14 hours from Greenwich");
            Ok(Zone { text: text.to_owned(), standard, summer })
        };
        zone().with_context(|| format!("`{text}` is no time zone as recorders write it"))
    }
}

impl std::fmt::Display for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Rule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Rule> {
        let rule = || {
            let (day, time) = text.strip_prefix('M')?.split_once('/')?;
            let mut numbers = day.split('.').map(|number| number.parse::<u8>().ok());
            let (month, week, weekday) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let valid = (1..=12).contains(&month) && (1..=5).contains(&week) && weekday < 7 && numbers.next().is_none();
            valid.then_some((month, week, weekday, time))
        };
        let (month, week, weekday, time) = rule().with_context(|| format!("`{text}` is not like M3.5.0/02:00:00"))?;
        Ok(Rule { month, week: week.into(), weekday: weekday.into(), time: seconds(time)? })
    }
}

/// Seconds of `-1:30:00`, `8` or `02:00`.
fn seconds(text: &str) -> anyhow::Result<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let numbers: Vec<i64> = digits.split(':').map(str::parse).collect::<Result<_, _>>().context("it has no time")?;
    ensure!((1..=3).contains(&numbers.len()) && numbers.iter().all(|n| (0..60).contains(n)), "`{text}` is no time");
    Ok(sign * numbers.iter().zip([3600, 60, 1]).map(|(number, unit)| number * unit).sum::<i64>())
}

fn civil(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Writes what a wall shows without saying where: `2026-11-19T00:00:00`.
pub(super) fn show(wall: i64) -> String {
    civil(wall).format(SECONDS).expect("a date has all of it")
}

/// The same as playback URIs have it: `20261119T000000Z`.
pub(super) fn show_compact(wall: i64) -> String {
    civil(wall).format(COMPACT).expect("a date has all of it") + "Z"
}

/// Reads `2026-11-19T00:00:00`, with a `Z` behind it or without. An offset is refused, as recorders refuse it.
pub(super) fn read(text: &str) -> anyhow::Result<i64> {
    read_as(text, SECONDS)
}

/// Reads `20261119T000000Z`.
pub(super) fn read_compact(text: &str) -> anyhow::Result<i64> {
    read_as(text, COMPACT)
}

fn read_as(text: &str, format: &[BorrowedFormatItem<'_>]) -> anyhow::Result<i64> {
    let bare = text.strip_suffix('Z').unwrap_or(text);
    let read = PrimitiveDateTime::parse(bare, format).with_context(|| format!("`{text}` is no time"))?;
    Ok(read.assume_utc().unix_timestamp())
}

/// The year, the month and the day.
pub(super) fn day(wall: i64) -> (i32, u8, u8) {
    let date = civil(wall).date();
    (date.year(), date.month().into(), date.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00";
    const SYDNEY: &str = "AEST-10:00:00DST01:00:00,M10.1.0/02:00:00,M4.1.0/03:00:00";

    #[test]
    fn the_wall_shows_what_it_shows_there() {
        for (zone, moment, expected) in [
            (BERLIN, "2026-11-19T00:00:00", "2026-11-19T01:00:00"),
            (BERLIN, "2026-03-29T00:59:59", "2026-03-29T01:59:59"),
            (BERLIN, "2026-03-29T01:00:00", "2026-03-29T03:00:00"),
            (BERLIN, "2026-10-25T00:59:59", "2026-10-25T02:59:59"),
            (BERLIN, "2026-10-25T01:00:00", "2026-10-25T02:00:00"),
            (SYDNEY, "2026-01-01T00:00:00", "2026-01-01T11:00:00"),
            (SYDNEY, "2026-04-04T15:59:59", "2026-04-05T02:59:59"),
            (SYDNEY, "2026-04-04T16:00:00", "2026-04-05T02:00:00"),
            (SYDNEY, "2026-07-01T00:00:00", "2026-07-01T10:00:00"),
            ("EST5:30:00", "2026-07-01T00:00:00", "2026-06-30T18:30:00"),
        ] {
            let zone: Zone = zone.parse().unwrap();
            assert_eq!(show(zone.wall(read(moment).unwrap())), expected, "{zone} {moment}");
        }
    }

    #[test]
    fn an_hour_comes_twice_and_another_one_never() {
        let zone: Zone = BERLIN.parse().unwrap();
        let moments = |wall| {
            let (first, last) = zone.moments(read(wall).unwrap());
            (show(first), show(last))
        };
        let both = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(moments("2026-10-25T01:59:59"), both("2026-10-24T23:59:59"));
        assert_eq!(moments("2026-10-25T02:30:00"), ("2026-10-25T00:30:00".into(), "2026-10-25T01:30:00".into()));
        assert_eq!(moments("2026-10-25T03:00:00"), both("2026-10-25T02:00:00"));
        assert_eq!(moments("2026-03-29T02:30:00"), both("2026-03-29T01:30:00"));
        assert_eq!(moments("2026-03-29T03:00:00"), both("2026-03-29T01:00:00"));
    }

    #[test]
    fn what_is_no_zone_or_no_time_is_refused() {
        for zone in
            ["", "CST", "CST-1:00:00DST01:00:00,M3.5.0/02:00:00", "CST99", "CST-1,M13.5.0/2,M10.5.0/3", "CST-1:61"]
        {
            assert!(zone.parse::<Zone>().is_err(), "{zone}");
        }
        assert_eq!(read("2026-11-19T00:00:00Z").unwrap(), read_compact("20261119T000000Z").unwrap());
        assert_eq!(show_compact(read("2026-11-19T01:02:03").unwrap()), "20261119T010203Z");
        for text in ["2026-11-19T00:00:00+03:00Z", "2026-11-19T00:00:00+03:00", "2026-13-19T00:00:00Z", "today"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
