//! Which frames of a stream are wanted.

use super::Sampling;

/// A jump of the presentation time by more than this, in either direction, starts the sampling grid anew, microseconds.
const MAX_PTS_STEP_MICROS: i64 = 10_000_000;

/// Decides, frame by frame, which ones to keep. It works on presentation times against a fixed grid, so that errors do
/// not add up: 2.5 fps of a 25 fps stream gives every tenth frame for ever, and of a jittering stream the same number.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    seen: u64,
    grid: Option<Grid>,
}

/// `origin` is the presentation time of slot 0, `last` that of the last frame; `next` is the first slot not yet filled.
#[derive(Clone, Copy, Debug)]
struct Grid {
    origin: i64,
    last: i64,
    next: u64,
    /// Set while the first two frames have the same time, which is then the second one's.
    first_undated: bool,
}

impl Sampler {
    /// A sampler at the start of a stream.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, seen: 0, grid: None }
    }

    /// Whether the frame with this presentation time (microseconds) is wanted. Call it once per grabbed frame, in
    /// order.
    pub fn wants(&mut self, pts_micros: i64) -> bool {
        let index = self.seen;
        self.seen += 1;
        match self.sampling {
            // Of key frames alone, the source offers no others.
            Sampling::All | Sampling::Keyframes => true,
            Sampling::Every(every) => index.is_multiple_of(u64::from(every.get())),
            Sampling::Fps(fps) => self.wants_at(pts_micros, 1e6 / fps),
        }
    }

    fn wants_at(&mut self, pts: i64, period: f64) -> bool {
        let mut grid = match self.grid {
            Some(grid) if (pts - grid.last).abs() <= MAX_PTS_STEP_MICROS => grid,
            _ => Grid { origin: pts, last: pts, next: 0, first_undated: false },
        };
        // The first packet of an RTSP stream has no time of its own in FFmpeg, and OpenCV then reports the second
        // one's: the third frame shows how much earlier it was.
        if self.seen == 2 && pts == grid.last {
            grid.first_undated = true;
        } else if std::mem::take(&mut grid.first_undated) {
            grid.origin -= (pts - grid.last).max(0);
        }
        // A frame fills the slot it is nearest to, so that a stream whose period divides the slot's is not thrown off
        // by the microsecond that rounding its times takes away.
        let slot = ((pts - grid.origin) as f64 / period + SLOT_TOLERANCE).floor();
        let wanted = slot >= grid.next as f64;
        let next = if wanted { slot as u64 + 1 } else { grid.next };
        self.grid = Some(Grid { last: pts, next, ..grid });
        wanted
    }
}

/// How early, in slots, a frame may come and still fill its slot.
const SLOT_TOLERANCE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn kept(sampling: Sampling, times: impl Iterator<Item = i64>) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling);
        times.enumerate().filter(|(_, pts)| sampler.wants(*pts)).map(|(i, _)| i).collect()
    }

    #[test]
    fn all_and_every() {
        assert_eq!(kept(Sampling::All, 0..3), [0, 1, 2]);
        assert_eq!(kept(Sampling::Keyframes, 0..3), [0, 1, 2]);
        let every = Sampling::Every(NonZeroU32::new(10).unwrap());
        assert_eq!(kept(every, 0..25), [0, 10, 20]);
    }

    #[test]
    fn one_fps_of_fifteen_thousand_frames_does_not_drift() {
        for fps in [25.0, 30.0, 29.97, 15.0] {
            let times = (0..15_000).map(|i| (f64::from(i) * 1e6 / fps) as i64);
            let expected = (15_000.0_f64 / fps).round() as i64;
            let found = kept(Sampling::Fps(1.0), times).len() as i64;
            assert!((found - expected).abs() <= 1, "{fps} fps: {found} of {expected}");
        }
    }

    #[test]
    fn two_and_a_half_of_twenty_five_is_every_tenth() {
        let times = (0..1000).map(|i| i * 40_000);
        let expected: Vec<usize> = (0..100).map(|i| i * 10).collect();
        assert_eq!(kept(Sampling::Fps(2.5), times), expected);
    }

    #[test]
    fn a_first_frame_without_a_time_of_its_own_does_not_shift_the_grid() {
        let times = [0].into_iter().chain((0..999).map(|i| i * 40_000));
        let expected: Vec<usize> = (0..100).map(|i| i * 10).collect();
        assert_eq!(kept(Sampling::Fps(2.5), times), expected);
    }

    #[test]
    fn jitter_neither_adds_nor_takes_frames() {
        let mut rng = fastrand::Rng::with_seed(7);
        let times = (0..5_000i64).map(move |i| i * 40_000 + rng.i64(-15_000..15_000));
        let found = kept(Sampling::Fps(5.0), times).len() as i64;
        assert!((found - 1_000).abs() <= 1, "{found}");
    }

    #[test]
    fn a_wild_presentation_time_starts_a_new_grid_and_does_not_stop_the_stream() {
        let times = (0..100).map(|i| i * 40_000).chain((0..100).map(|i| i * 40_000 - 36_000_000_000));
        let found = kept(Sampling::Fps(5.0), times);
        assert_eq!(found.iter().filter(|i| **i >= 100).count(), 20);
    }

    #[test]
    fn asking_for_more_than_there_is_gives_everything() {
        assert_eq!(kept(Sampling::Fps(60.0), (0..50).map(|i| i * 40_000)).len(), 50);
    }
}
