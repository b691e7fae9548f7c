//! The camera's own clock, and whether it is believed.
//!
//! RTCP sender reports pair a stream's times with the wall clock of who sends it (RFC 3550, section 6.4.1). Many cameras
//! have no idea of the time; some tell it hours off, or have it jump. So it counts only while it is near the arrival of
//! the pictures and goes on as their presentation times do.

use std::time::Duration;

use serde::Serialize;

use super::{MAX_CLOCK_DRIFT_MICROS, UnixMicros};

/// After a jump, or a time that was too far off, the camera's clock is not believed for so long: each loss of belief ends
/// a session.
const DOUBT: Duration = Duration::from_secs(60);

/// What the `captured_at` of a session's frames goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// The moment in which the capture process had the picture, by the daemon's clock.
    #[default]
    Arrival,
    /// The camera's clock, as its RTCP sender reports tell it.
    Rtcp,
}

impl TimeSource {
    /// The word for it in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Rtcp => "rtcp",
        }
    }

    /// What the word means.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Arrival, Self::Rtcp].into_iter().find(|source| source.as_str() == word)
    }
}

/// When a picture was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dated {
    /// By what.
    pub source: TimeSource,
    /// The time by it.
    pub at: UnixMicros,
}

/// Judges a camera's clock, picture by picture. One for each generation of a camera.
#[derive(Clone, Debug, Default)]
pub struct CameraClock {
    /// How far it may be from the arrival, microseconds; 0 where it is never believed.
    within: i64,
    /// The last picture whose time it told.
    last: Option<Told>,
    /// Until when it is not believed, nanoseconds of the monotonic clock.
    doubted_until: u64,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    wall: i64,
    pts: i64,
    /// From the arrival to the camera's time, microseconds.
    offset: i64,
}

impl CameraClock {
    /// A clock that is believed as long as it is within so much of the arrival; never with zero.
    pub fn new(within: Duration) -> Self {
        Self { within: i64::try_from(within.as_micros()).unwrap_or(i64::MAX), ..Self::default() }
    }

    /// How far the camera's clock was ahead of the last picture's arrival, believed or not, microseconds; negative where
    /// it was behind, as the way of the picture makes it. `None` before it has told a time.
    pub fn offset_micros(&self) -> Option<i64> {
        self.last.map(|told| told.offset)
    }

    /// Dates a picture: `arrival` by the daemon's clock, `monotonic_ns` the same instant by the monotonic one, `pts` its
    /// presentation time and `wall` the camera's time, both in microseconds and both as a capture process says them,
    /// which is not trusted. Call it once for each picture, in their order.
    pub fn date(&mut self, arrival: UnixMicros, monotonic_ns: u64, pts: i64, wall: Option<i64>) -> Dated {
        let by_arrival = Dated { source: TimeSource::Arrival, at: arrival };
        if self.within == 0 {
            return by_arrival;
        }
        if let Some(wall) = wall {
            let offset = wall.saturating_sub(arrival.0);
            let jumped = self.last.is_some_and(|told| {
                let step = wall.saturating_sub(told.wall).saturating_sub(pts.saturating_sub(told.pts));
                step.saturating_abs() > MAX_CLOCK_DRIFT_MICROS
            });
            if jumped || offset.saturating_abs() > self.within {
                self.doubted_until = monotonic_ns.saturating_add(DOUBT.as_nanos() as u64);
            }
            self.last = Some(Told { wall, pts, offset });
        }
        match self.last {
            // A picture of which it tells nothing is as far off as the last one.
            Some(told) if monotonic_ns >= self.doubted_until => {
                Dated { source: TimeSource::Rtcp, at: UnixMicros(arrival.0.saturating_add(told.offset)) }
            }
            _ => by_arrival,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    /// When the daemon's clocks begin, Unix microseconds and nanoseconds.
    const BEGIN: (i64, u64) = (1_700_000_000_000_000, 5_000_000_000);

    /// The clock after pictures, each as (arrival after the begin, presentation time, offset of the camera's clock from
    /// the presentation time); what each was dated by, and how far from its arrival.
    fn dated(pictures: &[(i64, i64, Option<i64>)]) -> Vec<(TimeSource, i64)> {
        let mut clock = CameraClock::new(Duration::from_secs(5));
        let date = |(arrival, pts, offset): &(i64, i64, Option<i64>)| {
            let at = UnixMicros(BEGIN.0 + arrival);
            let wall = offset.map(|offset| BEGIN.0 + pts + offset);
            let found = clock.date(at, BEGIN.1 + *arrival as u64 * 1_000, *pts, wall);
            (found.source, found.at.0 - at.0)
        };
        pictures.iter().map(date).collect()
    }

    const ARRIVAL: (TimeSource, i64) = (TimeSource::Arrival, 0);

    #[test]
    fn a_clock_that_is_near_is_believed_from_its_first_word_on() {
        let found = dated(&[
            (0, 0, None),
            (40_000, 40_000, Some(-300_000)),
            // Late by the network, not by the camera.
            (2_000_000, 80_000, Some(-300_000)),
            (2_000_001, 120_000, Some(-299_000)),
            (2_000_100, 160_000, None),
        ]);
        let rtcp = |offset| (TimeSource::Rtcp, offset);
        assert_eq!(found, [ARRIVAL, rtcp(-300_000), rtcp(-2_220_000), rtcp(-2_179_001), rtcp(-2_179_001)]);
    }

    #[test]
    fn a_clock_that_is_far_off_is_not_believed() {
        for offset in [-9_800 * SECOND, 37_600 * SECOND, 5 * SECOND + 1, -5 * SECOND - 1, i64::MAX, i64::MIN] {
            let mut clock = CameraClock::new(Duration::from_secs(5));
            let at = UnixMicros(BEGIN.0);
            let wall = BEGIN.0.saturating_add(offset);
            assert_eq!(clock.date(at, BEGIN.1, 0, Some(wall)), Dated { source: TimeSource::Arrival, at }, "{offset}");
            assert_eq!(clock.offset_micros(), Some(wall.saturating_sub(BEGIN.0)));
        }
        let edge = dated(&[(0, 0, Some(5 * SECOND)), (1, 1, Some(5 * SECOND))]);
        assert_eq!(edge, [(TimeSource::Rtcp, 5 * SECOND); 2]);
    }

    #[test]
    fn a_jump_costs_a_minute_of_doubt_and_each_further_one_begins_it_anew() {
        let at = |seconds: i64, offset: i64| (seconds * SECOND, seconds * SECOND, Some(offset));
        let found = dated(&[
            at(0, 0),
            at(1, 500_000),
            at(2, 1_000_001),
            at(61, 1_000_001),
            at(61, 0),
            at(120, 0),
            at(121, 0),
            // The camera's media clock jumps, and takes its wall clock along.
            (122 * SECOND, 0, Some(122 * SECOND)),
        ]);
        let sources: Vec<TimeSource> = found.into_iter().map(|(source, _)| source).collect();
        use TimeSource::{Arrival, Rtcp};
        assert_eq!(sources, [Rtcp, Rtcp, Arrival, Arrival, Arrival, Arrival, Rtcp, Arrival]);
    }

    #[test]
    fn who_asks_for_arrival_gets_it() {
        let mut clock = CameraClock::new(Duration::ZERO);
        let at = UnixMicros(BEGIN.0);
        assert_eq!(clock.date(at, BEGIN.1, 0, Some(BEGIN.0)), Dated { source: TimeSource::Arrival, at });
        assert_eq!(clock.offset_micros(), None);
    }

    #[test]
    fn words_read_back() {
        for source in [TimeSource::Arrival, TimeSource::Rtcp] {
            assert_eq!(TimeSource::parse(source.as_str()), Some(source));
        }
    }
}
