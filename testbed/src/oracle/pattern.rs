//! Which frames of a camera should be in a session's list, and whether the next one is it.

use std::str::FromStr;

use anyhow::{Context, bail, ensure};

use crate::mark::Mark;

/// Which of a camera's frames are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// Every n-th frame; 1 is all of them.
    Every(u32),
    /// `wanted` frames per second out of `source`: steps of the ratio rounded up or down, never more than a frame off the ideal line.
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
            ["every", n] => Self::Every(n.parse().with_context(|| format!("pattern `{text}`: `{n}` is not a whole number"))?),
            ["fps", source, wanted] => {
                let rate = |part: &str| part.parse::<f64>().with_context(|| format!("pattern `{text}`: `{part}` is not a number"));
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
