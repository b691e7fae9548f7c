//! Which packets of a stream the decoder gets, where its key frames are all that is wanted of it.

use framehaul::model::Sampling;

/// How much longer than the wanted period the time between two key frames may be, so that a camera's jitter does not
/// count. The sampler is as tolerant.
const TOLERANCE: f64 = 1.02;
/// So many key frames in a row have to come in time before the others are left out.
pub const CONFIDENT: u32 = 3;
/// So many periods after the last key frame the next one is overdue.
const OVERDUE: f64 = 1.5;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is decoded, in its turn with all others.
    Decode,
    /// It is a key frame, and decoded alone.
    Alone,
    /// It is not decoded for now; but it may be, if the next key frame stays away.
    PassBy,
    /// It is decoded, after all that was passed by since the last key frame.
    CatchUp,
}

/// Chooses packets by the sampling that is asked for, and by how often key frames come.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Between two wanted frames, microseconds; `None` where every frame may be.
    period: Option<f64>,
    /// Whether key frames alone are wanted, however often they come.
    always: bool,
    /// How many key frames in a row came in time.
    in_time: u32,
    last_key: Option<i64>,
}

impl Keys {
    /// At the start of a stream.
    pub fn new(sampling: Sampling) -> Self {
        let period = match sampling {
            Sampling::Fps(fps) => Some(1e6 / fps),
            _ => None,
        };
        Self { period, always: sampling == Sampling::Keyframes, in_time: 0, last_key: None }
    }

    /// What to do with the next packet; `pts_micros` is its presentation time.
    pub fn choose(&mut self, is_key: bool, pts_micros: Option<i64>) -> Choice {
        if self.always {
            return if is_key { Choice::Alone } else { Choice::PassBy };
        }
        // Without a time nobody knows how often they come.
        let (Some(period), Some(pts)) = (self.period, pts_micros) else { return Choice::Decode };
        let since = self.last_key.map(|last| (pts - last) as f64);
        let alone = self.in_time >= CONFIDENT;
        if is_key {
            let in_time = since.is_some_and(|since| since > 0.0 && since <= period * TOLERANCE);
            self.in_time = if in_time { self.in_time.saturating_add(1) } else { 0 };
            self.last_key = Some(pts);
            return if self.in_time >= CONFIDENT { Choice::Alone } else { Choice::Decode };
        }
        match since {
            _ if !alone => Choice::Decode,
            Some(since) if (0.0..=period * OVERDUE).contains(&since) => Choice::PassBy,
            _ => {
                self.in_time = 0;
                Choice::CatchUp
            }
        }
    }

    /// Whether what is passed by may be wanted later.
    pub fn may_catch_up(&self) -> bool {
        !self.always
    }

    /// The stream begins anew, with other times.
    pub fn begin_anew(&mut self) {
        (self.in_time, self.last_key) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The choices for a stream of 25 fps with these lengths of its groups of pictures.
    fn choices(sampling: Sampling, groups: &[usize]) -> Vec<Choice> {
        let mut keys = Keys::new(sampling);
        let firsts = groups.iter().flat_map(|length| (0..*length).map(|index| index == 0));
        firsts.enumerate().map(|(index, is_key)| keys.choose(is_key, Some(index as i64 * 40_000))).collect()
    }

    #[test]
    fn key_frames_alone_are_decoded_where_they_are_what_is_asked_for() {
        let found = choices(Sampling::Keyframes, &[3, 2]);
        assert_eq!(found, [Choice::Alone, Choice::PassBy, Choice::PassBy, Choice::Alone, Choice::PassBy]);
    }

    #[test]
    fn key_frames_that_come_often_enough_serve_a_lower_rate() {
        let found = choices(Sampling::Fps(1.0), &[25; 10]);
        assert!(found[..75].iter().all(|choice| *choice == Choice::Decode));
        let alone = found[75..].iter().filter(|choice| **choice == Choice::Alone).count();
        let passed_by = found[75..].iter().filter(|choice| **choice == Choice::PassBy).count();
        assert_eq!((alone, passed_by), (7, 7 * 24));
    }

    #[test]
    fn where_they_come_too_seldom_all_are_decoded() {
        for (fps, group) in [(1.0, 26), (5.0, 25), (24.0, 2)] {
            let found = choices(Sampling::Fps(fps), &[group; 10]);
            assert!(found.iter().all(|choice| *choice == Choice::Decode), "{fps} {group}");
        }
        assert!(choices(Sampling::All, &[25; 10]).iter().all(|choice| *choice == Choice::Decode));
    }

    #[test]
    fn a_key_frame_that_stays_away_is_noticed_and_all_is_caught_up_with() {
        let found = choices(Sampling::Fps(1.0), &[25, 25, 25, 25, 25, 250, 25]);
        let at = found.iter().position(|choice| *choice == Choice::CatchUp).unwrap();
        // One and a half seconds after the sixth key frame.
        assert_eq!(at, 125 + 38);
        assert!(found[at + 1..].iter().all(|choice| *choice == Choice::Decode));
    }

    #[test]
    fn times_that_jump_are_no_reason_to_pass_anything_by() {
        let mut keys = Keys::new(Sampling::Fps(1.0));
        for second in 0..5 {
            keys.choose(true, Some(second * 1_000_000));
        }
        assert_eq!(keys.choose(false, Some(-5_000_000)), Choice::CatchUp);
        assert_eq!(keys.choose(false, Some(-4_960_000)), Choice::Decode);
        assert_eq!(keys.choose(true, None), Choice::Decode);
    }
}
