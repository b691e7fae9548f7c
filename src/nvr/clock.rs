//! A recorder's clock: what its times mean.

use std::fmt;
use std::time::Duration;

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::Zone;
use crate::model::UnixMicros;

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// By so much a border is moved, and so often at most, to get out of the hour that a clock shows twice.
const STEP: Duration = Duration::from_secs(900);
const STEPS: usize = 16;

/// From when to when, the end left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Where it begins.
    pub from: UnixMicros,
    /// Where it ends.
    pub to: UnixMicros,
}

/// A moment as a recorder tells it. Prints what the recorder wrote, without a `Z`: `2026-11-19T00:00:00`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceTime {
    /// What the recorder wrote.
    pub literal: PrimitiveDateTime,
    /// The moment that it means.
    pub utc: UnixMicros,
    /// Whether its clock shows this twice, as in the hour when summer time ends: then `utc` is the better guess.
    pub ambiguous: bool,
}

impl fmt::Display for DeviceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.literal.format(SECONDS).map_err(|_| fmt::Error)?)
    }
}

/// How a recorder's times are read and written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceClock {
    writes_utc: bool,
    zone: Zone,
    ahead: time::Duration,
}

impl DeviceClock {
    /// A clock on a wall in `zone` that is so far ahead of the right time. In what the recorder writes it stands as it
    /// is, or as UTC.
    pub fn new(zone: Zone, writes_utc: bool, ahead: time::Duration) -> Self {
        Self { writes_utc, zone, ahead }
    }

    /// Whether the recorder writes UTC, and not what its wall clock shows.
    pub fn writes_utc(&self) -> bool {
        self.writes_utc
    }

    /// The zone of its wall clock.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// How far its clock is ahead of ours; negative where it is behind.
    pub fn ahead(&self) -> time::Duration {
        self.ahead
    }

    /// What the recorder takes for now.
    pub fn now(&self) -> DeviceTime {
        let ours = UnixMicros::now();
        self.tell(match self.ahead.is_negative() {
            true => ours.before(self.ahead.unsigned_abs()),
            false => ours.after(self.ahead.unsigned_abs()),
        })
    }

    /// A moment as the recorder writes it, to the second.
    pub fn tell(&self, moment: UnixMicros) -> DeviceTime {
        let literal = if self.writes_utc { Zone::utc().wall(moment) } else { self.zone.wall(moment) };
        let (first, last) = self.moments(literal);
        DeviceTime { literal, utc: moment, ambiguous: first != last }
    }

    /// What the recorder means by this. Where its clock shows it twice, the first moment that is not before `since`.
    pub fn read(&self, literal: PrimitiveDateTime, since: Option<UnixMicros>) -> DeviceTime {
        let (first, last) = self.moments(literal);
        let utc = if since.is_some_and(|since| first < since) { last } else { first };
        DeviceTime { literal, utc, ambiguous: first != last }
    }

    /// What a span on the recorder's wall means, whatever it writes: from the first moment at which the wall shows
    /// `from` to the last one at which it shows `to`.
    pub fn span(&self, from: PrimitiveDateTime, to: PrimitiveDateTime) -> Span {
        Span { from: self.zone.moments(from).0, to: self.zone.moments(to).1 }
    }

    /// The parts of a span within which the recorder's clock is never set back, in their order. It is made so much
    /// longer first that its borders do not lie in an hour that the clock shows twice: what a recorder finds for one of
    /// those is anybody's guess.
    pub(super) fn parts(&self, span: Span) -> Vec<Span> {
        let is_clear = |moment: &UnixMicros| !self.tell(*moment).ambiguous;
        let mut earlier = std::iter::successors(Some(span.from), |from| Some(from.before(STEP))).take(STEPS);
        let mut later = std::iter::successors(Some(span.to), |to| Some(to.after(STEP))).take(STEPS);
        let span =
            Span { from: earlier.find(is_clear).unwrap_or(span.from), to: later.find(is_clear).unwrap_or(span.to) };
        let set_back = if self.writes_utc { Vec::new() } else { self.zone.set_back(span) };
        let mut from = span.from;
        let mut parts: Vec<Span> =
            set_back.into_iter().map(|at| Span { from: std::mem::replace(&mut from, at), to: at }).collect();
        parts.push(Span { from, to: span.to });
        parts
    }

    fn moments(&self, literal: PrimitiveDateTime) -> (UnixMicros, UnixMicros) {
        if self.writes_utc { Zone::utc().moments(literal) } else { self.zone.moments(literal) }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn utc(text: &str) -> UnixMicros {
        UnixMicros::parse(&format!("{text}.000000Z")).unwrap()
    }

    fn clock(writes_utc: bool) -> DeviceClock {
        DeviceClock::new("Europe/Berlin".parse().unwrap(), writes_utc, time::Duration::ZERO)
    }

    #[test]
    fn a_span_has_a_part_on_each_side_of_where_the_clock_is_set_back() {
        let year = Span { from: utc("2026-01-01T00:00:00"), to: utc("2027-01-01T00:00:00") };
        let back = utc("2026-10-25T01:00:00");
        assert_eq!(clock(false).parts(year), [Span { to: back, ..year }, Span { from: back, ..year }]);
        assert_eq!(clock(true).parts(year), [year]);
        // Borders within the hour that comes twice are moved out of it, by quarters of an hour.
        let within = Span { from: utc("2026-10-25T00:20:00"), to: utc("2026-10-25T01:50:00") };
        let wider =
            [Span { from: utc("2026-10-24T23:50:00"), to: back }, Span { from: back, to: utc("2026-10-25T02:05:00") }];
        assert_eq!(clock(false).parts(within), wider);
        assert_eq!(clock(true).parts(within), [within]);
    }

    #[test]
    fn what_is_shown_twice_is_the_first_that_is_not_before() {
        let shown = datetime!(2026-10-25 02:30);
        let (first, last) = (utc("2026-10-25T00:30:00"), utc("2026-10-25T01:30:00"));
        for (since, expected) in [(None, first), (Some(first), first), (Some(utc("2026-10-25T00:30:01")), last)] {
            let read = clock(false).read(shown, since);
            assert_eq!((read.utc, read.ambiguous, read.literal), (expected, true, shown), "{since:?}");
        }
        let read = clock(true).read(shown, None);
        assert_eq!((read.utc, read.ambiguous), (utc("2026-10-25T02:30:00"), false));
        assert_eq!(clock(false).tell(last).to_string(), "2026-10-25T02:30:00");
    }
}
