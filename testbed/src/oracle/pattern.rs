//! Which frames of a camera should be in a session's list, and whether the next one is it.

use std::str::FromStr;

use anyhow::{Context, bail, ensure};

use crate::mark::Mark;

/// Which of a camera's frames are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// Every n-th frame; 1 is all of them.
    Every(u32),
    /// `wanted` frames per second out of `source`: steps of the ratio rounded up or down, never more than a frame off
    /// the ideal line.
    Fps { source: f64, wanted: f64 },
}

impl Pattern {
    /// Camera frames from one kept frame to the next.
    fn ratio(self) -> f64 {
        match self {
            Self::Every(n) => f64::from(n),
            // A camera slower than what is wanted gives all it has.
            Self::Fps { source, wanted } => (source / wanted).max(1.0),
        }
    }
}

impl FromStr for Pattern {
    type Err = anyhow::Error;

    /// Reads `every:1` or `fps:25:2.5` (source, wanted).
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let pattern = match parts[..] {
            ["every", n] => {
                Self::Every(n.parse().with_context(|| format!("pattern `{text}`: `{n}` is not a whole number"))?)
            }
            ["fps", source, wanted] => {
                let rate = |part: &str| {
                    part.parse::<f64>().with_context(|| format!("pattern `{text}`: `{part}` is not a number"))
                };
                Self::Fps { source: rate(source)?, wanted: rate(wanted)? }
            }
            _ => bail!("pattern `{text}` is neither every:N nor fps:SOURCE:WANTED"),
        };
        let sane = match pattern {
            Self::Every(n) => n > 0,
            Self::Fps { source, wanted } => source > 0.0 && wanted > 0.0 && (source / wanted).is_finite(),
        };
        ensure!(sane, "pattern `{text}`: numbers must be above 0");
        Ok(pattern)
    }
}

/// What a step from one picture to the next turned out to be; the numbers are camera frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Right,
    /// So many frames too far on.
    Gap(u64),
    /// The same counter again.
    Repeat,
    /// So many frames back.
    Inversion(u64),
    /// Forward, but so many frames less than the pattern and the tombstones say.
    Short(u64),
}

/// Rounding must not make a wrong step of a right one.
const EPSILON: f64 = 1e-6;

/// The line a session's counters should follow, from its first readable picture or the last irregular one.
#[derive(Debug)]
pub(super) struct Line {
    ratio: f64,
    clip: i64,
    counter: u32,
    /// Frames and steps since the line began.
    advance: i64,
    steps: u64,
    /// Steps since the last picture that tombstones and unreadable pictures account for.
    explained: u64,
}

impl Line {
    pub(super) fn new(pattern: Pattern, first: Mark) -> Self {
        let (ratio, clip) = (pattern.ratio(), i64::from(first.clip_frames).max(1));
        Self { ratio, clip, counter: first.counter, advance: 0, steps: 0, explained: 0 }
    }

    /// Accounts for `steps` pictures that cannot be seen.
    pub(super) fn explain(&mut self, steps: u64) {
        self.explained += steps;
    }

    /// Judges the next picture's counter and goes on from there, whatever it is: one fault is counted once.
    pub(super) fn step(&mut self, counter: u32) -> Step {
        let steps = 1 + std::mem::take(&mut self.explained);
        let least = (steps as f64 * self.ratio + EPSILON).floor() as i64;
        let most = (steps as f64 * self.ratio - EPSILON).ceil() as i64;
        let difference = i64::from(counter) - i64::from(self.counter);
        self.counter = counter;
        // Of all advances that this difference can mean, the one nearest to what is expected.
        let advance = least + centred(difference - least, self.clip);
        let verdict = if (least..=most).contains(&advance) {
            self.advance += advance;
            self.steps += steps;
            let drift = self.advance as f64 - self.steps as f64 * self.ratio;
            if drift.abs() <= 1.0 + EPSILON {
                return Step::Right;
            }
            // Each step is possible by itself; together they left the ideal line.
            if drift > 0.0 { Step::Gap(1) } else { Step::Short(1) }
        } else if advance > most {
            Step::Gap((advance - most) as u64)
        } else if advance > 0 {
            Step::Short((least - advance) as u64)
        } else if advance == 0 {
            Step::Repeat
        } else {
            Step::Inversion(advance.unsigned_abs())
        };
        (self.advance, self.steps) = (0, 0);
        verdict
    }
}

/// `value` modulo `modulus`, taken from the range around zero.
fn centred(value: i64, modulus: i64) -> i64 {
    let half = modulus / 2;
    (value + half).rem_euclid(modulus) - half
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: u16 = 100;

    /// Judges counters of a clip of 100 frames; a number in front is how many pictures before are explained.
    fn steps(pattern: &str, pictures: &[(u64, u32)]) -> Vec<Step> {
        let mark = |counter| Mark { camera: 1, counter, clip_frames: CLIP };
        let mut line = Line::new(pattern.parse().unwrap(), mark(pictures[0].1));
        let judged = pictures[1..].iter().map(|&(explained, counter)| {
            line.explain(explained);
            line.step(counter)
        });
        judged.collect()
    }

    fn plain(pattern: &str, counters: &[u32]) -> Vec<Step> {
        steps(pattern, &counters.iter().map(|&counter| (0, counter)).collect::<Vec<_>>())
    }

    #[test]
    fn every_frame() {
        use Step::*;
        for (counters, expected) in [
            (&[3, 4, 5][..], &[Right, Right][..]),
            (&[98, 99, 0, 1], &[Right, Right, Right]),
            (&[3, 5, 6], &[Gap(1), Right]),
            (&[98, 2, 3], &[Gap(3), Right]),
            (&[3, 3, 4], &[Repeat, Right]),
            (&[3, 2, 3], &[Inversion(1), Right]),
            (&[0, 99, 0], &[Inversion(1), Right]),
            (&[3, 5, 4, 6], &[Gap(1), Inversion(1), Gap(1)]),
        ] {
            assert_eq!(plain("every:1", counters), expected, "{counters:?}");
        }
    }

    #[test]
    fn every_fifth_frame() {
        use Step::*;
        for (counters, expected) in [
            (&[3, 8, 13][..], &[Right, Right][..]),
            (&[92, 97, 2], &[Right, Right]),
            (&[3, 13], &[Gap(5)]),
            (&[3, 7], &[Short(1)]),
            (&[3, 9], &[Gap(1)]),
            (&[3, 3], &[Repeat]),
            (&[3, 98], &[Inversion(5)]),
        ] {
            assert_eq!(plain("every:5", counters), expected, "{counters:?}");
        }
    }

    #[test]
    fn what_is_explained_is_exactly_that() {
        use Step::*;
        for (explained, counter, expected) in [
            (3, 14, Right),
            (2, 14, Gap(1)),
            (4, 14, Short(1)),
            (0, 14, Gap(3)),
            // More than a clip: what is seen is the rest.
            (203, 14, Right),
            (202, 14, Gap(1)),
        ] {
            assert_eq!(steps("every:1", &[(0, 10), (explained, counter)]), [expected], "{explained}");
        }
        assert_eq!(steps("every:5", &[(0, 10), (2, 25)]), [Right]);
        assert_eq!(steps("every:5", &[(0, 10), (2, 30)]), [Gap(5)]);
        // An explanation is used up by the step it stands before.
        assert_eq!(steps("every:1", &[(0, 10), (1, 12), (0, 14)]), [Right, Gap(1)]);
    }

    #[test]
    fn a_sampling_rate() {
        // 25/3 = 8.33: steps of 8 and 9.
        for phase in 0..25 {
            let counters: Vec<u32> = (0..60).map(|index| (index * 25 + phase) / 3 % 100).collect();
            assert_eq!(plain("fps:25:3", &counters), vec![Step::Right; 59], "{phase}");
            // Each third one missing, and explained.
            let explained: Vec<(u64, u32)> = counters
                .iter()
                .enumerate()
                .filter(|(index, _)| index % 3 != 2)
                .map(|(index, &counter)| ((index % 3 == 0 && index > 0).into(), counter))
                .collect();
            assert_eq!(steps("fps:25:3", &explained), vec![Step::Right; explained.len() - 1], "{phase}");
        }
        assert_eq!(plain("fps:25:2.5", &[5, 15, 25]), [Step::Right; 2]);
        assert_eq!(plain("fps:25:2.5", &[5, 16]), [Step::Gap(1)]);
        assert_eq!(plain("fps:25:3", &[0, 7]), [Step::Short(1)]);
        assert_eq!(plain("fps:25:3", &[0, 17]), [Step::Gap(8)]);
        // A camera slower than wanted gives all.
        assert_eq!(plain("fps:10:25", &[0, 1, 2]), [Step::Right; 2]);
    }

    #[test]
    fn steps_that_are_possible_one_by_one_must_not_drift() {
        // 0.67 ahead each: the second one is more than a frame off.
        assert_eq!(plain("fps:25:3", &[0, 9, 18]), [Step::Right, Step::Gap(1)]);
        // 0.33 behind each: the fourth one is.
        assert_eq!(plain("fps:25:3", &[0, 8, 16, 24, 32]), [Step::Right, Step::Right, Step::Right, Step::Short(1)]);
    }

    #[test]
    fn patterns_are_read() {
        assert_eq!("every:2".parse::<Pattern>().unwrap(), Pattern::Every(2));
        assert_eq!("fps:25:2.5".parse::<Pattern>().unwrap(), Pattern::Fps { source: 25.0, wanted: 2.5 });
        for wrong in ["every:0", "every:1.5", "fps:25", "fps:25:0", "fps:25:-1", "fps:nan:1", "all", ""] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
