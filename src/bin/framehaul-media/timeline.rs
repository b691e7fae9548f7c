//! One clock for all inputs: each goes on where the one before ended, and where a clock jumps, the joint one does not.

use crate::input::Kind;

/// A packet's times by its input's clock, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Of presentation.
    pub pts: Option<i64>,
    /// Of decoding.
    pub dts: Option<i64>,
    /// How long it lasts; 0 where that is not known.
    pub length: i64,
}

/// A packet's times by the joint clock, microseconds from the first picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of presentation.
    pub pts: i64,
    /// Of decoding.
    pub dts: i64,
    /// How long it lasts.
    pub length: i64,
}

impl Place {
    /// The same, so much earlier.
    pub fn less(self, micros: i64) -> Self {
        Self { pts: self.pts - micros, dts: self.dts - micros, ..self }
    }
}

/// A step forward beyond this is no gap in a recording but another clock, microseconds.
const MOST_AHEAD: i64 = 10_000_000;
/// A step back beyond this is another clock. Pictures are not decoded out of order, but where a container has only times of
/// presentation, these stand a few pictures back.
const MOST_BACK: i64 = 100_000;
/// Sound is in the container before and after its pictures, as far as this.
const MOST_SOUND_BACK: i64 = 1_000_000;
/// The length of a picture that nothing is known of: at 25 a second.
const USUAL: i64 = 40_000;
/// No picture lasts longer, at a file's end, than this.
const MOST_LASTING: i64 = 1_000_000;

/// The joint clock.
#[derive(Debug, Default)]
pub struct Timeline {
    /// From an input's clock to the joint one; `None` before its first packet.
    offset: Option<i64>,
    /// Whether the next picture is its input's first.
    fresh: bool,
    /// When the last picture was decoded.
    last: Option<i64>,
    /// From one picture to the next, as it was last.
    step: Option<i64>,
    /// By how much pictures are decoded before they are shown: where they come in another order, not at once.
    delay: i64,
    /// Where the sound ends.
    sound_end: i64,
    /// How often a clock jumped within an input.
    pub jumps: u64,
}

impl Timeline {
    /// Another input follows, whose pictures begin at this time of its clock, if that is known.
    pub fn next_input(&mut self, begin: Option<i64>) {
        self.fresh = true;
        self.offset = begin.map(|begin| self.end() + self.delay - begin);
    }

    /// Where the pictures end.
    pub fn end(&self) -> i64 {
        self.last.map_or(0, |last| last + self.step.unwrap_or(USUAL).min(MOST_LASTING))
    }

    /// Where a packet stands.
    pub fn place(&mut self, kind: Kind, times: Times) -> Place {
        match kind {
            Kind::Picture => self.place_picture(times),
            Kind::Sound => self.place_sound(times),
        }
    }

    fn place_picture(&mut self, times: Times) -> Place {
        let end = self.end();
        let Some(dts) = times.dts.or(times.pts) else {
            // It has no time: it follows on the one before.
            return self.went_on(end, end, times.length);
        };
        let mut offset = self.offset.unwrap_or_default();
        if self.fresh {
            self.delay = times.pts.map_or(0, |pts| (pts - dts).max(0));
            // The first picture of all is shown at zero, even if it is decoded before that.
            offset = if self.last.is_none() { -dts - self.delay } else { end - dts };
        } else {
            let at = dts + offset;
            let back = self.last.is_some_and(|last| at < last - MOST_BACK);
            if back || at > end.max(self.sound_end) + MOST_AHEAD {
                offset = end - dts;
                self.jumps += 1;
            }
        }
        self.fresh = false;
        self.offset = Some(offset);
        let at = dts + offset;
        self.went_on(at, times.pts.map_or(at, |pts| pts + offset), times.length)
    }

    fn went_on(&mut self, dts: i64, pts: i64, length: i64) -> Place {
        let dts = self.last.map_or(dts, |last| dts.max(last + 1));
        match self.last.map(|last| dts - last) {
            Some(step @ 1_000..=MOST_LASTING) => self.step = Some(step),
            None if length > 0 => self.step = Some(length),
            _ => {}
        }
        self.last = Some(dts);
        Place { pts: pts.max(dts), dts, length: self.step.unwrap_or(USUAL) }
    }

    fn place_sound(&mut self, times: Times) -> Place {
        let Some(time) = times.pts.or(times.dts) else {
            let at = self.sound_end;
            self.sound_end += times.length;
            return Place { pts: at, dts: at, length: times.length };
        };
        let end = self.end();
        let mut offset = *self.offset.get_or_insert(end + self.delay - time);
        let at = time + offset;
        if !self.fresh && (at < self.sound_end.min(end) - MOST_SOUND_BACK || at > end.max(self.sound_end) + MOST_AHEAD)
        {
            offset = end - time;
            self.offset = Some(offset);
            self.jumps += 1;
        }
        let at = time + offset;
        self.sound_end = at + times.length;
        Place { pts: at, dts: at, length: times.length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(dts: i64) -> Times {
        Times { pts: Some(dts), dts: Some(dts), length: 40_000 }
    }

    fn decoded(timeline: &mut Timeline, times: &[i64]) -> Vec<i64> {
        times.iter().map(|dts| timeline.place(Kind::Picture, picture(*dts)).dts).collect()
    }

    #[test]
    fn an_input_goes_on_where_the_one_before_ended() {
        let mut timeline = Timeline::default();
        timeline.next_input(Some(5_000_000));
        assert_eq!(decoded(&mut timeline, &[5_000_000, 5_200_000, 5_400_000]), [0, 200_000, 400_000]);
        // Its clock begins anywhere, and its begin was not known.
        timeline.next_input(None);
        assert_eq!(decoded(&mut timeline, &[-70, 199_930]), [600_000, 800_000]);
        // A single picture tells nothing of its length: it is as long as those before.
        timeline.next_input(Some(9));
        assert_eq!(decoded(&mut timeline, &[9]), [1_000_000]);
        assert_eq!((timeline.end(), timeline.jumps), (1_200_000, 0));
    }

    #[test]
    fn a_clock_that_jumps_is_followed_without_a_gap() {
        let mut timeline = Timeline::default();
        timeline.next_input(Some(0));
        let jumped = [0, 200_000, 400_000, 0, 200_000, 90_000_000, 90_200_000];
        assert_eq!(decoded(&mut timeline, &jumped), [0, 200_000, 400_000, 600_000, 800_000, 1_000_000, 1_200_000]);
        assert_eq!(timeline.jumps, 2);
        // A gap of some seconds is one of the recording.
        assert_eq!(decoded(&mut timeline, &[95_000_000]), [6_000_000]);
        assert_eq!(timeline.jumps, 2);
    }

    #[test]
    fn what_has_no_time_follows_and_no_time_comes_twice() {
        let mut timeline = Timeline::default();
        timeline.next_input(None);
        assert_eq!(decoded(&mut timeline, &[0, 40_000, 40_000, 30_000]), [0, 40_000, 40_001, 40_002]);
        let placed = timeline.place(Kind::Picture, Times::default());
        assert_eq!((placed.dts, placed.pts), (80_002, 80_002));
    }

    #[test]
    fn sound_keeps_its_distance_from_the_pictures() {
        let mut timeline = Timeline::default();
        timeline.next_input(Some(1_000_000));
        let sound = |time: i64| Times { pts: Some(time), dts: Some(time), length: 20_000 };
        assert_eq!(timeline.place(Kind::Sound, sound(990_000)).pts, -10_000);
        decoded(&mut timeline, &[1_000_000, 1_040_000]);
        assert_eq!(timeline.place(Kind::Sound, sound(1_010_000)).pts, 10_000);
        // No pictures for long, while the sound goes on: no jump.
        for at in 1..100 {
            timeline.place(Kind::Sound, sound(1_010_000 + at * 1_000_000));
        }
        assert_eq!(decoded(&mut timeline, &[100_000_000]), [99_000_000]);
        assert_eq!(timeline.jumps, 0);
        // Both jump, the sound first.
        assert_eq!(timeline.place(Kind::Sound, sound(5)).pts, 100_000_000 - 960_000);
        assert_eq!(timeline.jumps, 1);
    }

    #[test]
    fn pictures_shown_in_another_order_stay_in_it() {
        let mut timeline = Timeline::default();
        timeline.next_input(Some(80_000));
        let placed: Vec<_> = [(80_000, 0), (200_000, 40_000), (120_000, 80_000), (160_000, 120_000)]
            .into_iter()
            .map(|(pts, dts)| timeline.place(Kind::Picture, Times { pts: Some(pts), dts: Some(dts), length: 40_000 }))
            .map(|place| (place.pts, place.dts))
            .collect();
        assert_eq!(placed, [(0, -80_000), (120_000, -40_000), (40_000, 0), (80_000, 40_000)]);
        // The next input's have the same order, and follow.
        timeline.next_input(Some(0));
        let next = timeline.place(Kind::Picture, Times { pts: Some(0), dts: Some(-80_000), length: 40_000 });
        assert_eq!((next.pts, next.dts), (160_000, 80_000));
    }
}
