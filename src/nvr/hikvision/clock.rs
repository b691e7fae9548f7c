//! What the recorder's times mean: its zone, how far its clock is ahead, and whether it writes what its wall shows.

use time::{Duration, PrimitiveDateTime};

use super::Hikvision;
use super::page::literal;
use super::xml::Element;
use crate::model::UnixMicros;
use crate::nvr::{ClockMode, DeviceClock, Query, RecorderError, SegmentKind, Span, StreamKind, Zone};

/// The newest recording ends this close to now, if there is one that goes on: below half of the smallest offset.
const NEAR: Duration = Duration::minutes(7);
/// How far back the newest recordings are looked for.
const BACK: Duration = Duration::minutes(10);
/// Tracks that are asked for their newest recordings, at most.
const TRACKS: usize = 4;

impl Hikvision {
    /// How its times are read.
    pub(super) async fn ask_clock(&self) -> Result<DeviceClock, RecorderError> {
        let root = self.optional("System/time").await?.unwrap_or_default();
        let ours = UnixMicros::now();
        let settings = self.client.settings();
        let zone = settings.zone.clone().or_else(|| told_zone(&root)).unwrap_or_else(Zone::utc);
        let shown = root.text(&["localTime"]).and_then(literal);
        let ahead = shown.map_or(Duration::ZERO, |shown| ahead(&zone, shown, ours));
        let clock = |writes_utc| DeviceClock::new(zone.clone(), writes_utc, ahead);
        match settings.clock {
            ClockMode::DeviceLocal => Ok(clock(false)),
            ClockMode::Utc => Ok(clock(true)),
            ClockMode::Auto => {
                let now = clock(false).now().utc;
                let [wall, utc] = [false, true].map(|writes_utc| whole(clock(writes_utc).tell(now).literal));
                Ok(clock(wall != utc && self.newest_is_at(wall, utc).await?))
            }
        }
    }

    /// Whether the newest recordings end at what UTC is now, and not at what the wall shows.
    async fn newest_is_at(&self, wall: PrimitiveDateTime, utc: PrimitiveDateTime) -> Result<bool, RecorderError> {
        // One window for both readings. It goes on into the future, so that its border is nobody's end.
        let window = (wall.min(utc).saturating_sub(BACK), wall.max(utc).saturating_add(Duration::DAY));
        // Whoever may not see the tracks may search them, and a search that fails tells nothing of the clock; what
        // ends all will show again.
        let tracks = match self.list_tracks().await {
            Err(error) if error.kind.ends_all() => return Err(error),
            found => found.unwrap_or_default(),
        };
        for track in tracks.into_iter().filter(|track| track.stream == StreamKind::Main).take(TRACKS) {
            let span = Span { from: UnixMicros(0), to: UnixMicros(0) };
            let query = Query { track: track.id, span, kind: SegmentKind::Video, event: None };
            let newest = match self.newest(&query, window).await {
                Err(error) if error.kind.ends_all() || error.kind.may_pass() => return Err(error),
                found => found.unwrap_or_default(),
            };
            let is_near = |now: PrimitiveDateTime| newest.is_some_and(|end| (end - now).abs() <= NEAR);
            if is_near(wall) || is_near(utc) {
                return Ok(is_near(utc));
            }
        }
        Ok(false)
    }
}

/// The zone that a recorder tells of itself: with its summer time, or else how far its clock is ahead just now.
fn told_zone(root: &Element) -> Option<Zone> {
    if let Some(zone) = root.text(&["timeZone"]).and_then(Zone::of_recorder) {
        return Some(zone);
    }
    let offset = root.text(&["localTime"])?.get(19..)?;
    let (sign, digits) = match offset.as_bytes().first()? {
        b'+' => (1, &offset[1..]),
        b'-' => (-1, &offset[1..]),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let valid = (0..24).contains(&hours) && (0..60).contains(&minutes);
    valid.then(|| Zone::ahead_of_utc(sign * (hours * 3_600 + minutes * 60)))?
}

/// How far the clock of a recorder that tells this is ahead of ours; `None` where it tells no time.
pub(super) fn told_ahead(zone: &Zone, root: &Element) -> Option<Duration> {
    let ours = UnixMicros::now();
    root.text(&["localTime"]).and_then(literal).map(|shown| ahead(zone, shown, ours))
}

/// How far a clock that shows this is ahead of ours. In the hour that comes twice it is the one nearer to ours.
fn ahead(zone: &Zone, shown: PrimitiveDateTime, ours: UnixMicros) -> Duration {
    let (first, last) = zone.moments(shown);
    let [first, last] = [first, last].map(|moment| Duration::microseconds(moment.0.saturating_sub(ours.0)));
    // It shows whole seconds: less than one is no difference.
    let nearer = if last.abs() < first.abs() { last } else { first };
    if nearer.abs() <= Duration::SECOND { Duration::ZERO } else { nearer }
}

fn whole(time: PrimitiveDateTime) -> PrimitiveDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn told(text: &str) -> Option<Zone> {
        told_zone(&Element::read(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_zone_is_what_the_recorder_tells_of_it() {
        let summer = UnixMicros::parse("2026-07-01T00:00:00.000000Z").unwrap();
        let berlin = "<Time><localTime>2026-07-01T02:00:00+01:00</localTime>\
                      <timeZone>CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00</timeZone></Time>";
        // The offset lies in summer: the rule counts.
        assert_eq!(told(berlin).unwrap().wall(summer), datetime!(2026-07-01 02:00));
        let bare = "<Time><localTime>2026-07-01T02:00:00-03:30</localTime><timeZone>?</timeZone></Time>";
        assert_eq!(told(bare).unwrap().wall(summer), datetime!(2026-06-30 20:30));
        for none in ["<Time/>", "<Time><localTime>2026-07-01T02:00:00Z</localTime></Time>"] {
            assert_eq!(told(none), None, "{none}");
        }
    }

    #[test]
    fn a_clock_is_ahead_of_ours_by_the_smaller_of_two_readings() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let ours = UnixMicros::parse("2026-10-25T01:30:00.500000Z").unwrap();
        assert_eq!(ahead(&zone, datetime!(2026-10-25 02:30:00), ours), Duration::ZERO);
        assert_eq!(ahead(&zone, datetime!(2026-10-25 02:31:00), ours), Duration::milliseconds(59_500));
        assert_eq!(ahead(&zone, datetime!(2026-10-25 01:30:00), ours), Duration::milliseconds(-7_200_500));
    }
}
