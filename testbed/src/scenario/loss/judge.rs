//! What was delivered, marked and left out, counted against what it should have been.

use serde::Serialize;

/// Below this similarity a picture is another one than it should be.
pub(super) const UNLIKE: f64 = 0.9;

/// What one run gave, picture by picture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Confusion {
    /// Pictures that were delivered, marked or not.
    pub(super) delivered: u64,
    /// Of them, those that are the clean decode's, pixel for pixel.
    pub(super) clean: u64,
    /// Of the clean ones, those that were marked as damaged.
    pub(super) clean_marked: u64,
    /// Pictures that came whole, with all that they refer to, and were not delivered.
    pub(super) whole_missing: u64,
    /// Of those delivered, those with a similarity below [`UNLIKE`] to what they should be.
    pub(super) unlike: u64,
    /// Of them, those that were not marked.
    pub(super) unlike_unmarked: u64,
    /// Of the unmarked ones, those that show another frame, whole: its mark can be read, and is not that of its time.
    pub(super) unmarked_of_another_time: u64,
    /// Pictures that are neither: damage that hardly shows.
    pub(super) slight: u64,
    /// Of them, those that were not marked.
    pub(super) slight_unmarked: u64,
    /// Pictures that came with losses, or refer to one that did, and were not delivered at all.
    pub(super) damaged_missing: u64,
    /// Key frames that came whole after a GOP that did not.
    pub(super) keys: u64,
    /// Of them, those that were delivered, unmarked.
    pub(super) keys_delivered: u64,
    /// The longest time without a picture that was not marked, in pictures; also that before the end.
    pub(super) longest_gap: u64,
    /// What was wrong, by a few examples.
    pub(super) examples: Vec<String>,
}

/// The most examples of each run.
const EXAMPLES: usize = 5;

/// A picture that was delivered.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its place in the stream.
    pub(super) index: u64,
    /// Similarity to what it should be; `None` where it is that.
    pub(super) similarity: Option<f64>,
    /// Whether its mark can be read, and is that of another frame.
    pub(super) of_another_time: bool,
    /// Whether it was marked as damaged.
    pub(super) marked: bool,
    /// What the program said about that time.
    pub(super) said: String,
}

/// A picture as it came to the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    /// Its place in the stream.
    pub(super) index: u64,
    /// Whether all of its packets came.
    pub(super) whole: bool,
}

impl Confusion {
    /// Counts. `came` is in the stream's order, key frames stand `gop` apart from index 0 on.
    pub(super) fn new(seen: &[Seen], came: &[Came], gop: u64) -> Self {
        let mut counts = Self { delivered: seen.len() as u64, ..Self::default() };
        for picture in seen {
            counts.count(picture);
        }
        let good = seen.iter().filter(|picture| !picture.marked).map(|picture| picture.index).collect::<Vec<_>>();
        let rest = came.last().zip(good.last()).map(|(end, good)| end.index.saturating_sub(*good));
        counts.longest_gap =
            good.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).chain(rest).max().unwrap_or_default();
        let delivered = |index: u64| seen.iter().any(|picture| picture.index == index);
        let delivered_unmarked = |index: u64| seen.iter().any(|picture| picture.index == index && !picture.marked);
        // What was still on its way at the end is not missing. A time that cannot be is no end.
        let end = came.last().map_or(0, |picture| picture.index);
        let last = seen.iter().map(|picture| picture.index).filter(|index| *index <= end).max().unwrap_or_default();
        // Whether all since the last key frame came whole, and whether all of the GOP before did.
        let (mut sound, mut sound_before, mut next) = (true, true, 0);
        for picture in came.iter().take_while(|picture| picture.index <= last) {
            // A picture of which nothing came has no entry.
            sound &= picture.index == next;
            next = picture.index + 1;
            if picture.index % gop == 0 {
                sound_before = std::mem::replace(&mut sound, true);
            }
            sound &= picture.whole;
            if picture.index % gop == 0 && sound && !sound_before {
                counts.keys += 1;
                if delivered_unmarked(picture.index) {
                    counts.keys_delivered += 1;
                } else {
                    counts.example(format!("key frame {} came whole after a loss and is not there", picture.index));
                }
            }
            match (sound, delivered(picture.index)) {
                (true, false) => {
                    counts.whole_missing += 1;
                    counts.example(format!("picture {} came whole and is not there", picture.index));
                }
                (false, false) => counts.damaged_missing += 1,
                _ => {}
            }
        }
        counts
    }

    fn count(&mut self, picture: &Seen) {
        let Seen { index, similarity, of_another_time, marked, said } = picture;
        match similarity {
            None => {
                self.clean += 1;
                if *marked {
                    self.clean_marked += 1;
                    self.example(format!("picture {index} is clean and was marked; said: {said}"));
                }
            }
            Some(similarity) if *similarity < UNLIKE => {
                self.unlike += 1;
                if !marked {
                    self.unlike_unmarked += 1;
                    self.unmarked_of_another_time += u64::from(*of_another_time);
                    self.example(format!("picture {index} has SSIM {similarity:.3} and was not marked; said: {said}"));
                }
            }
            Some(_) => {
                self.slight += 1;
                self.slight_unmarked += u64::from(!marked);
            }
        }
    }

    fn example(&mut self, example: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    /// What is judged, in a line.
    pub(super) fn summary(&self) -> String {
        let Self { clean, clean_marked, whole_missing, unlike, unlike_unmarked, keys, keys_delivered, .. } = self;
        format!(
            "{unlike_unmarked} of {unlike} unlike pictures unmarked, {clean_marked} of {clean} clean ones marked, {whole_missing} not there, {keys_delivered} of {keys} key frames after a loss there"
        )
    }

    /// Adds another run's counts.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.delivered, other.delivered),
            (&mut self.clean, other.clean),
            (&mut self.clean_marked, other.clean_marked),
            (&mut self.whole_missing, other.whole_missing),
            (&mut self.unlike, other.unlike),
            (&mut self.unlike_unmarked, other.unlike_unmarked),
            (&mut self.unmarked_of_another_time, other.unmarked_of_another_time),
            (&mut self.slight, other.slight),
            (&mut self.slight_unmarked, other.slight_unmarked),
            (&mut self.damaged_missing, other.damaged_missing),
            (&mut self.keys, other.keys),
            (&mut self.keys_delivered, other.keys_delivered),
        ] {
            *sum += more;
        }
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.examples.extend(other.examples.iter().take(EXAMPLES.saturating_sub(self.examples.len())).cloned());
    }
}

/// What is asked of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Least share of unlike pictures that are marked or dropped.
    pub(super) caught: f64,
    /// Most of the clean pictures that are.
    pub(super) false_alarms: f64,
    /// Least share of whole key frames after a loss that are delivered.
    pub(super) recovered: f64,
}

impl Bounds {
    /// What a run has broken of them. Rates are exact: with fewer than a hundred pictures, one is too many.
    pub(super) fn judge(&self, counts: &Confusion) -> Vec<String> {
        let Confusion { clean, clean_marked, whole_missing, unlike, unlike_unmarked, keys, keys_delivered, .. } =
            counts;
        let mut broken = Vec::new();
        if *unlike_unmarked as f64 > (1.0 - self.caught) * *unlike as f64 {
            broken.push(format!("{unlike_unmarked} of {unlike} unlike pictures were delivered as good"));
        }
        let (alarms, whole) = (clean_marked + whole_missing, clean + whole_missing);
        if whole == 0 {
            broken.push("no picture was clean: nothing is known of false alarms".to_owned());
        }
        if alarms as f64 > self.false_alarms * whole as f64 {
            broken.push(format!("{alarms} of {whole} clean pictures were dropped or marked"));
        }
        if (*keys_delivered as f64) < self.recovered * *keys as f64 {
            broken.push(format!("pictures came again from {keys_delivered} of {keys} whole key frames after a loss"));
        }
        for example in if broken.is_empty() { &[][..] } else { &counts.examples[..] } {
            broken.push(example.clone());
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { caught: 0.99, false_alarms: 0.01, recovered: 0.99 };
    const GOP: u64 = 25;

    /// A stream of 40 GOPs, each third of which loses a packet in its tenth picture: what a decoder shows from there to
    /// the next key frame is unlike what it should be. `marks` is the detector: whether it marks a picture that is
    /// damaged or not.
    fn stream(marks: impl Fn(bool) -> bool) -> (Vec<Seen>, Vec<Came>) {
        (0..40 * GOP)
            .map(|index| {
                let lossy = index / GOP % 3 == 1;
                let damaged = lossy && index % GOP >= 10;
                let seen = Seen {
                    index,
                    similarity: damaged.then_some(0.5),
                    of_another_time: false,
                    marked: marks(damaged),
                    said: String::new(),
                };
                (seen, Came { index, whole: !(lossy && index % GOP == 10) })
            })
            .unzip()
    }

    fn broken(seen: &[Seen], came: &[Came]) -> String {
        BOUNDS.judge(&Confusion::new(seen, came, GOP)).join("; ")
    }

    #[test]
    fn a_detector_that_is_right_passes() {
        let (seen, came) = stream(|damaged| damaged);
        let counts = Confusion::new(&seen, &came, GOP);
        assert_eq!((counts.clean, counts.unlike, counts.keys, counts.keys_delivered), (805, 195, 13, 13));
        assert_eq!(broken(&seen, &came), "");
        // One that leaves out what it would mark does as well.
        let good: Vec<Seen> = seen.iter().filter(|picture| !picture.marked).cloned().collect();
        assert_eq!(broken(&good, &came), "");
        assert_eq!(Confusion::new(&good, &came, GOP).damaged_missing, 195);
    }

    #[test]
    fn a_detector_that_marks_nothing_fails() {
        let (seen, came) = stream(|_| false);
        assert!(broken(&seen, &came).starts_with("195 of 195 unlike pictures were delivered as good; picture 35 has"));
    }

    #[test]
    fn a_detector_that_marks_everything_fails() {
        let (seen, came) = stream(|_| true);
        let broken = broken(&seen, &came);
        assert!(
            broken.starts_with("805 of 805 clean pictures were dropped or marked; pictures came again from 0 of 13")
        );
    }

    #[test]
    fn one_that_leaves_everything_out_after_a_loss_fails() {
        let (seen, came) = stream(|damaged| damaged);
        let kept: Vec<Seen> =
            seen.iter().filter(|picture| picture.index < 35 || picture.index > 990).cloned().collect();
        let broken = broken(&kept, &came);
        assert!(broken.contains("of 805 clean pictures were dropped or marked"), "{broken}");
        assert!(broken.contains("pictures came again from 0 of 13 whole key frames"), "{broken}");
    }

    #[test]
    fn the_rates_are_judged_to_the_picture() {
        let (mut seen, came) = stream(|damaged| damaged);
        let [first, second, ..] =
            seen.iter().enumerate().filter(|(_, p)| p.marked).map(|(i, _)| i).collect::<Vec<_>>()[..]
        else {
            panic!("many are marked")
        };
        // 1 of 195 is less than 1 %, 2 are more.
        seen[first].marked = false;
        assert_eq!(broken(&seen, &came), "");
        seen[second].marked = false;
        assert!(broken(&seen, &came).starts_with("2 of 195 unlike"));
        // 8 of 805 are less than 1 %, 9 are more.
        let (mut seen, came) = stream(|damaged| damaged);
        let clean: Vec<usize> = (1..9).chain([11]).collect();
        for &index in &clean[..8] {
            seen[index].marked = true;
        }
        assert_eq!(broken(&seen, &came), "");
        seen[clean[8]].marked = true;
        assert!(broken(&seen, &came).starts_with("9 of 805 clean"));
    }

    #[test]
    fn a_run_without_a_clean_picture_proves_nothing() {
        let (seen, _) = stream(|damaged| damaged);
        let damaged: Vec<Seen> = seen.into_iter().filter(|picture| picture.marked).collect();
        assert!(broken(&damaged, &[]).contains("no picture was clean"));
    }

    #[test]
    fn a_key_frame_counts_when_a_whole_picture_is_lost_before_it() {
        let (seen, mut came) = stream(|damaged| damaged);
        // Nothing of picture 55 came from the server, so that there is no entry of it.
        came.retain(|picture| picture.index != 55);
        let counts = Confusion::new(&seen, &came, GOP);
        assert_eq!(counts.keys, 14, "that of the GOP after the one that lost a whole picture, too");
    }
}
