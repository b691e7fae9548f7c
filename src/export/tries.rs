//! How often something was tried, and what of that counts against it. Pure.

use std::collections::HashMap;

use super::attempt::Step;
use super::away::Side;
use super::fault::Whose;
use crate::storage::BucketErrorKind;

/// Failures of each step, and what recorder and bucket have done meanwhile.
///
/// A recording has so many tries of its own. What recorder, bucket or this machine fail at with everybody costs none of them: how long
/// that may last is [`Away`](super::away::Away)'s to say. What they fail at while they do others is this one's fault after
/// all, whatever they call it, and must come to an end.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failed: HashMap<Step, Failed>,
    /// Recordings that the recorder has sent, the bucket has taken, and this machine has kept.
    done: [u64; Side::ALL.len()],
}

/// How often a step has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Failed {
    /// In all.
    pub times: u32,
    /// By its own fault.
    pub own: u32,
    /// What each side had done when it failed at this last.
    seen: [Option<u64>; Side::ALL.len()],
}

impl Tries {
    /// One of them has done what it is asked for.
    pub(super) fn done(&mut self, side: Side) {
        self.done[side as usize] += 1;
    }

    /// How often a step has failed.
    pub(super) fn times(&self, step: Step) -> u32 {
        self.failed.get(&step).map_or(0, |failed| failed.times)
    }

    /// A step has failed, once more: how often by now. `taken` counts what goes into the bucket: one that takes a recording
    /// and will not have it at its end fails at that one.
    pub(super) fn failed(&mut self, step: Step, whose: Whose, taken: u64) -> Failed {
        let side = match whose {
            // What is refused for good is this object.
            Whose::Its | Whose::Buckets(BucketErrorKind::Permanent) => None,
            Whose::Recorders => Some(Side::Recorder),
            Whose::Machines => Some(Side::Machine),
            Whose::Buckets(_) => Some(Side::Bucket),
        };
        let failed = self.failed.entry(step).or_default();
        let is_own = side.is_none_or(|side| {
            let done = self.done[side as usize] + if side == Side::Bucket { taken } else { 0 };
            failed.seen[side as usize].replace(done).is_some_and(|before| before < done)
        });
        failed.times += 1;
        failed.own += u32::from(is_own);
        *failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step::Fetch(1);

    #[test]
    fn what_fails_for_all_costs_a_recording_none_of_its_tries() {
        let mut tries = Tries::default();
        for times in 1..=100 {
            let whose = if times % 2 == 0 { Whose::Recorders } else { Whose::Buckets(BucketErrorKind::Transient) };
            let Failed { times: counted, own, .. } = tries.failed(STEP, whose, 0);
            assert_eq!((counted, own), (times, 0));
        }
        assert_eq!(tries.failed(STEP, Whose::Its, 0).own, 1);
        assert_eq!(tries.failed(STEP, Whose::Buckets(BucketErrorKind::Permanent), 0).own, 2);
        assert_eq!(tries.failed(Step::Make(1), Whose::Its, 0).own, 1);
    }

    #[test]
    fn what_fails_while_others_are_done_comes_to_an_end() {
        let mut tries = Tries::default();
        // Others that were done before its first failure say nothing.
        tries.done(Side::Recorder);
        assert_eq!(tries.failed(STEP, Whose::Recorders, 0).own, 0);
        tries.done(Side::Bucket);
        assert_eq!(tries.failed(STEP, Whose::Recorders, 0).own, 0);
        for own in 1..=3 {
            tries.done(Side::Recorder);
            assert_eq!(tries.failed(STEP, Whose::Recorders, 0).own, own);
        }
        assert_eq!(tries.failed(STEP, Whose::Recorders, 0).own, 3);
    }
    #[test]
    fn what_a_bucket_takes_and_will_not_have_in_the_end_comes_to_an_end() {
        let (mut tries, late) = (Tries::default(), Whose::Buckets(BucketErrorKind::Transient));
        assert_eq!(tries.failed(STEP, late, 7).own, 0);
        assert_eq!(tries.failed(STEP, late, 7).own, 0);
        assert_eq!(tries.failed(STEP, late, 8).own, 1);
        // A recorder that sends is busy, and no less so for it.
        assert_eq!(tries.failed(STEP, Whose::Recorders, 9).own, 1);
        assert_eq!(tries.failed(STEP, Whose::Recorders, 10).own, 1);
    }
}
