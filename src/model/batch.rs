//! A batch: so many frames of one source, and then it is over.

use std::time::Duration;

use serde::Serialize;

use super::UnixMicros;

/// What is asked of a batch beside its source, and how it has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// How many frames are wanted; the ones among them that are lost count.
    pub frames: u64,
    /// What comes before this time of a file is passed by.
    pub from: Duration,
    /// For how long its source may fail without a frame.
    pub give_up_after: Duration,
    /// When it was asked for.
    pub created: UnixMicros,
    /// How its capture has ended; `None` while it goes on.
    pub end: Option<BatchEnd>,
}

/// How the capture of a batch has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchEnd {
    /// When.
    pub at: UnixMicros,
    /// How.
    pub how: Ended,
    /// Why there are not as many frames as were asked for, where that is so.
    pub message: Option<String>,
}

/// The ways in which the capture of a batch can end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// There are as many frames as were asked for, or no more in its source.
    Captured,
    /// Somebody has called it off.
    Cancelled,
    /// Its source failed.
    Failed,
}

impl Ended {
    /// The word for it in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// What the word means.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Captured, Self::Cancelled, Self::Failed].into_iter().find(|ended| ended.as_str() == word)
    }
}

/// How a batch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Frames are captured, or its source is tried.
    Capturing,
    /// Nothing more is captured, and frames are on their way.
    Storing,
    /// As many frames as were asked for are stored.
    Complete,
    /// It is over, and not all that was asked for is stored: frames were lost, or its source has no more.
    Incomplete,
    /// It is over because somebody has called it off.
    Cancelled,
    /// It is over because its source failed.
    Failed,
}

impl Batch {
    /// How it stands, with so many of its frames stored; `settled` where none is on its way and none will come.
    pub fn state(&self, stored: u64, settled: bool) -> BatchState {
        match &self.end {
            None => BatchState::Capturing,
            Some(_) if !settled => BatchState::Storing,
            // It may have come to its end before anybody heard that it was called off.
            Some(_) if stored >= self.frames => BatchState::Complete,
            Some(end) => match end.how {
                Ended::Captured => BatchState::Incomplete,
                Ended::Cancelled => BatchState::Cancelled,
                Ended::Failed => BatchState::Failed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_complete_with_all_its_frames_and_over_when_nothing_is_on_its_way() {
        let mut batch = Batch {
            frames: 3,
            from: Duration::ZERO,
            give_up_after: Duration::from_secs(60),
            created: UnixMicros(1),
            end: None,
        };
        assert_eq!(batch.state(3, true), BatchState::Capturing);
        let ways = [
            (Ended::Captured, BatchState::Incomplete),
            (Ended::Cancelled, BatchState::Cancelled),
            (Ended::Failed, BatchState::Failed),
        ];
        for (how, state) in ways {
            assert_eq!(Ended::parse(how.as_str()), Some(how));
            batch.end = Some(BatchEnd { at: UnixMicros(2), how, message: None });
            assert_eq!(batch.state(2, false), BatchState::Storing);
            assert_eq!(batch.state(2, true), state);
            assert_eq!(batch.state(3, true), BatchState::Complete);
        }
    }
}
