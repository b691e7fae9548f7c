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
    /// Resolved ranges above the watermark, first to last; they may touch but never overlap.
    ahead: BTreeMap<Seq, Seq>,
}

impl Reorder {
    /// A window in which everything up to and including `watermark` is resolved.
    pub fn new(watermark: Seq) -> Self {
        Self { watermark, ahead: BTreeMap::new() }
    }

    /// Marks seqs as resolved and returns the watermark: every seq up to and including it is resolved.
    pub fn resolve(&mut self, seqs: SeqRange) -> Seq {
        if seqs.last > self.watermark {
            let last = self.ahead.entry(seqs.first.max(self.watermark + 1)).or_insert(seqs.last);
            *last = seqs.last.max(*last);
        }
        while let Some(entry) = self.ahead.first_entry().filter(|entry| *entry.key() <= self.watermark + 1) {
            self.watermark = self.watermark.max(entry.remove());
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
    fn what_lies_below_the_watermark_is_ignored() {
        let mut reorder = Reorder::new(10);
        assert_eq!(reorder.resolve(SeqRange { first: 3, last: 7 }), 10);
        assert_eq!(reorder.resolve(SeqRange { first: 8, last: 12 }), 12);
        assert_eq!(reorder.waiting(), 0);
    }
}
