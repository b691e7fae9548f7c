//! The watermark: how far a camera's order is complete.

use std::collections::BTreeMap;

use crate::model::{Seq, SeqRange};

/// Takes outcomes in any order and moves a watermark over the prefix in which every seq is resolved.
///
/// Whatever the finishing order, the watermark ends where the first unresolved seq begins. Being told of the same seq
/// twice changes nothing, so that it can be rebuilt from the journal while outcomes keep arriving.
#[derive(Clone, Debug, Default)]
pub struct Reorder {
    watermark: Seq,
    /// Resolved ranges above the watermark, first to last. They neither overlap nor touch: while one seq stays
    /// unresolved, all that follows it is one entry.
    ahead: BTreeMap<Seq, Seq>,
}

impl Reorder {
    /// A window in which everything up to and including `watermark` is resolved.
    pub fn new(watermark: Seq) -> Self {
        Self { watermark, ahead: BTreeMap::new() }
    }

    /// Marks seqs as resolved and returns the watermark: every seq up to and including it is resolved.
    pub fn resolve(&mut self, seqs: SeqRange) -> Seq {
        if seqs.last <= self.watermark {
            return self.watermark;
        }
        let SeqRange { mut first, mut last } = seqs;
        // From the last that begins no later than one after it, backwards, over all that it touches.
        while let Some((other, end)) = self.ahead.range(..=last + 1).next_back().map(|(first, last)| (*first, *last)) {
            if end + 1 < first {
                break;
            }
            self.ahead.remove(&other);
            (first, last) = (first.min(other), last.max(end));
        }
        if first <= self.watermark + 1 {
            self.watermark = last;
        } else {
            self.ahead.insert(first, last);
        }
        self.watermark
    }

    /// The last seq of the contiguous resolved prefix; 0 where not even the first is resolved.
    pub fn watermark(&self) -> Seq {
        self.watermark
    }

    /// How many resolved ranges wait for an earlier seq.
    pub fn waiting(&self) -> usize {
        self.ahead.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_finishing_order_the_watermark_is_the_contiguous_prefix() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut ranges = Vec::new();
            let mut next = 1;
            while next <= 100 {
                let last = next + rng.u64(0..4);
                ranges.push(SeqRange { first: next, last });
                next = last + 1;
            }
            rng.shuffle(&mut ranges);
            let mut reorder = Reorder::default();
            let mut resolved = std::collections::BTreeSet::new();
            for range in &ranges {
                let watermark = reorder.resolve(*range);
                resolved.extend(range.first..=range.last);
                let expected = (1..).take_while(|seq| resolved.contains(seq)).last().unwrap_or(0);
                assert_eq!(watermark, expected, "seed {seed}");
                // Told again, in any place, nothing changes.
                assert_eq!(reorder.resolve(ranges[0]), expected, "seed {seed}");
            }
            assert_eq!(reorder.waiting(), 0);
        }
    }

    #[test]
    fn what_follows_a_seq_that_stays_unresolved_costs_nothing_more() {
        let mut reorder = Reorder::new(4);
        for seq in (6..=1_000).rev().step_by(2).chain((7..=1_000).step_by(2)) {
            assert_eq!(reorder.resolve(SeqRange::one(seq)), 4);
        }
        assert_eq!(reorder.waiting(), 1);
        assert_eq!(reorder.resolve(SeqRange { first: 5, last: 1_002 }), 1_002);
        assert_eq!(reorder.waiting(), 0);
    }

    #[test]
    fn what_lies_below_the_watermark_is_ignored() {
        let mut reorder = Reorder::new(10);
        assert_eq!(reorder.resolve(SeqRange { first: 3, last: 7 }), 10);
        assert_eq!(reorder.resolve(SeqRange { first: 8, last: 12 }), 12);
        assert_eq!(reorder.waiting(), 0);
    }
}
