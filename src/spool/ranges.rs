//! A set of seqs, kept as ranges.

use std::collections::BTreeMap;

use crate::model::{Seq, SeqRange};

/// Seqs as ranges that neither overlap nor touch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(BTreeMap<Seq, Seq>);

impl Ranges {
    pub(super) fn iter(&self) -> impl Iterator<Item = SeqRange> {
        self.0.iter().map(|(first, last)| SeqRange { first: *first, last: *last })
    }

    /// The range that holds a seq.
    pub(super) fn around(&self, seq: Seq) -> Option<SeqRange> {
        let (first, last) = self.0.range(..=seq).next_back()?;
        (*last >= seq).then_some(SeqRange { first: *first, last: *last })
    }

    pub(super) fn contains(&self, seq: Seq) -> bool {
        self.around(seq).is_some()
    }

    /// Whether all of a range is in it.
    pub(super) fn covers(&self, range: SeqRange) -> bool {
        self.around(range.first).is_some_and(|around| around.last >= range.last)
    }

    pub(super) fn insert(&mut self, range: SeqRange) {
        let mut merged = range;
        if let Some(before) = range.first.checked_sub(1).and_then(|seq| self.around(seq)) {
            merged.first = before.first;
            merged.last = merged.last.max(before.last);
        }
        while let Some((first, last)) =
            self.next_from(merged.first).filter(|(first, _)| *first <= merged.last.saturating_add(1))
        {
            merged.last = merged.last.max(last);
            self.0.remove(&first);
        }
        self.0.insert(merged.first, merged.last);
    }

    pub(super) fn remove(&mut self, range: SeqRange) {
        while let Some(hit) = self.first_in(range) {
            self.0.remove(&hit.first);
            if hit.first < range.first {
                self.0.insert(hit.first, range.first - 1);
            }
            if hit.last > range.last {
                self.0.insert(range.last + 1, hit.last);
            }
        }
    }

    /// The parts of a range that are not in it, first to last.
    pub(super) fn missing(&self, range: SeqRange) -> Vec<SeqRange> {
        let mut missing = Vec::new();
        let mut next = range.first;
        while let Some(hit) = (next <= range.last).then(|| self.first_in(SeqRange { first: next, ..range })).flatten() {
            if hit.first > next {
                missing.push(SeqRange { first: next, last: hit.first - 1 });
            }
            match hit.last.checked_add(1) {
                Some(after) => next = after,
                None => return missing,
            }
        }
        if next <= range.last {
            missing.push(SeqRange { first: next, last: range.last });
        }
        missing
    }

    /// Its first range that overlaps another.
    fn first_in(&self, range: SeqRange) -> Option<SeqRange> {
        self.around(range.first).or_else(|| {
            let (first, last) = self.next_from(range.first)?;
            (first <= range.last).then_some(SeqRange { first, last })
        })
    }

    fn next_from(&self, seq: Seq) -> Option<(Seq, Seq)> {
        self.0.range(seq..).next().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_the_set_of_its_seqs() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut ranges = Ranges::default();
            let mut seqs = BTreeSet::new();
            for _ in 0..60 {
                let first = rng.u64(1..60);
                let range = SeqRange { first, last: first + rng.u64(0..8) };
                let missing: Vec<_> = ranges.missing(range).iter().flat_map(|part| part.first..=part.last).collect();
                let expected: Vec<_> = (range.first..=range.last).filter(|seq| !seqs.contains(seq)).collect();
                assert_eq!(missing, expected, "seed {seed}");
                assert_eq!(ranges.covers(range), expected.is_empty(), "seed {seed}");
                if rng.u8(0..3) > 0 {
                    ranges.insert(range);
                    seqs.extend(range.first..=range.last);
                } else {
                    ranges.remove(range);
                    seqs.retain(|seq| !(range.first..=range.last).contains(seq));
                }
                let all: BTreeSet<_> = ranges.iter().flat_map(|range| range.first..=range.last).collect();
                assert_eq!(all, seqs, "seed {seed}");
                let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.last + 1 < b.first);
                assert!(apart, "seed {seed}: {ranges:?}");
            }
        }
    }
}
