//! Which part is kept. Without encoding anew a part can only begin with a key frame.

use framehaul::media::{Cut, Span};

use crate::timeline::Place;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is left out.
    Leave,
    /// It may be part of what is kept: it is held, and of what was held before only sound that is heard with it.
    HoldAnew,
    /// It is held with what was held before.
    Hold,
    /// What was held belongs to what is kept, and so does this.
    Keep,
    /// What is kept is over.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No key frame has come.
    Waiting,
    /// The part may begin with the key frame of this time.
    Holding(i64),
    /// It began at this time.
    Going(i64),
}

/// Decides by the joint clock, microseconds.
#[derive(Debug)]
pub struct Begin {
    skip: i64,
    until: i64,
    state: State,
    /// Pictures before the first key frame, which nobody can decode.
    leading: u64,
    /// When the last one that is kept is over.
    end: i64,
}

impl Begin {
    /// For this part.
    pub fn new(cut: Cut) -> Self {
        let micros = |time: std::time::Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let skip = micros(cut.skip);
        let until = cut.most.map_or(i64::MAX, |most| skip.saturating_add(micros(most)));
        Self { skip, until, state: State::Waiting, leading: 0, end: 0 }
    }

    /// What becomes of a picture.
    pub fn picture(&mut self, place: Place, is_key: bool) -> Verdict {
        if place.dts >= self.until {
            return Verdict::Over;
        }
        self.state = match self.state {
            State::Waiting if !is_key => {
                self.leading += 1;
                return Verdict::Leave;
            }
            State::Waiting if place.pts >= self.skip => State::Going(place.pts),
            State::Holding(_) if is_key && place.pts <= self.skip => State::Holding(place.pts),
            State::Waiting => State::Holding(place.pts),
            State::Holding(at) if place.pts > self.skip => State::Going(at),
            state => state,
        };
        self.end = self.end.max(place.pts + place.length);
        match self.state {
            State::Holding(at) if at == place.pts && is_key => Verdict::HoldAnew,
            State::Holding(_) => Verdict::Hold,
            _ => Verdict::Keep,
        }
    }

    /// What becomes of a piece of sound.
    pub fn sound(&self, place: Place) -> Verdict {
        match self.state {
            _ if place.pts >= self.until => Verdict::Leave,
            // A demuxer gives a picture when the next one begins, and its sound before that.
            State::Waiting | State::Holding(_) => Verdict::Hold,
            State::Going(from) if place.pts + place.length <= from => Verdict::Leave,
            State::Going(_) => Verdict::Keep,
        }
    }

    /// The inputs are over: whether what is held is kept.
    pub fn finish(&mut self) -> bool {
        match self.state {
            State::Holding(at) if self.end > self.skip => {
                self.state = State::Going(at);
                true
            }
            _ => false,
        }
    }

    /// What is held is too much to be kept: the part begins with the next key frame.
    pub fn give_up(&mut self) {
        self.state = State::Waiting;
        self.leading = 0;
    }

    /// Where it began.
    pub fn from(&self) -> Option<i64> {
        match self.state {
            State::Going(from) => Some(from),
            _ => None,
        }
    }

    /// Wanted pictures that had no key frame before them.
    pub fn lost(&self) -> u64 {
        if self.from().is_some_and(|from| from > self.skip) { self.leading } else { 0 }
    }

    /// What is kept.
    pub fn kept(&self) -> Span {
        let time = |micros: i64| std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        let from = self.from().unwrap_or(self.end);
        Span { from: time(from), until: time(self.end) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place(tenths: i64) -> Place {
        Place { pts: tenths * 100_000, dts: tenths * 100_000, length: 100_000 }
    }

    /// The verdicts on ten pictures a second with a key frame each second, and what is kept, seconds.
    fn verdicts(skip: f64, most: Option<f64>, count: i64) -> (Vec<Verdict>, (f64, f64)) {
        let cut = Cut { skip: Duration::from_secs_f64(skip), most: most.map(Duration::from_secs_f64) };
        let mut begin = Begin::new(cut);
        let verdicts = (0..count).map(|nth| begin.picture(place(nth), nth % 10 == 0)).collect();
        begin.finish();
        let kept = begin.kept();
        (verdicts, (kept.from.as_secs_f64(), kept.until.as_secs_f64()))
    }

    #[test]
    fn a_part_begins_with_the_key_frame_before_it() {
        use Verdict::{Hold, HoldAnew, Keep, Over};
        let (all, kept) = verdicts(0.0, None, 25);
        assert!(all.iter().all(|verdict| *verdict == Keep));
        assert_eq!(kept, (0.0, 2.5));

        let (some, kept) = verdicts(1.25, Some(0.5), 25);
        assert_eq!((some[0], some[9], some[10], some[12], some[13]), (HoldAnew, Hold, HoldAnew, Hold, Keep));
        assert_eq!((some[17], some[18]), (Keep, Over));
        assert_eq!(kept, (1.0, 1.8));

        // On the key frame itself, and within the last picture.
        assert_eq!(verdicts(2.0, None, 25).1, (2.0, 2.5));
        assert_eq!(verdicts(2.45, None, 25).1, (2.0, 2.5));
        assert_eq!(verdicts(2.5, None, 25).1, (2.5, 2.5));
    }

    #[test]
    fn pictures_without_a_key_frame_before_them_are_left_out_and_counted() {
        let mut begin = Begin::new(Cut::default());
        let verdicts: Vec<_> = (0..4).map(|nth| begin.picture(place(nth), nth == 2)).collect();
        assert_eq!(verdicts, [Verdict::Leave, Verdict::Leave, Verdict::Keep, Verdict::Keep]);
        assert_eq!((begin.lost(), begin.from()), (2, Some(200_000)));
    }

    #[test]
    fn sound_goes_with_the_pictures() {
        let mut begin = Begin::new(Cut { skip: Duration::from_millis(500), most: Some(Duration::from_secs(1)) });
        assert_eq!(begin.sound(place(0)), Verdict::Hold);
        begin.picture(place(0), true);
        assert_eq!(begin.sound(place(1)), Verdict::Hold);
        begin.picture(place(6), false);
        assert_eq!((begin.sound(place(-1)), begin.sound(place(6))), (Verdict::Leave, Verdict::Keep));
        assert_eq!(begin.sound(place(15)), Verdict::Leave);
    }
}
