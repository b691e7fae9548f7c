//! Arithmetic of seq ranges: which seqs are in one set and not in another.

use crate::model::{Seq, SeqRange, SessionNo};

/// What of these ranges is in none of the `taken` ones. Both rise; `taken` may overlap, `of` must not.
pub fn minus(of: impl IntoIterator<Item = SeqRange>, taken: impl IntoIterator<Item = SeqRange>) -> Vec<SeqRange> {
    let mut taken = taken.into_iter().peekable();
    let mut left = Vec::new();
    // The first seq that is not dealt with.
    let mut next = 0;
    for range in of {
        next = range.first.max(next);
        while let Some(hole) = taken.next_if(|hole| hole.first <= range.last) {
            if next < hole.first {
                left.push(SeqRange { first: next, last: hole.first - 1 });
            }
            next = next.max(hole.last + 1);
        }
        if next <= range.last {
            left.push(SeqRange { first: next, last: range.last });
            next = range.last + 1;
        }
    }
    left
}

/// The ranges from `from` on.
pub fn from(ranges: impl IntoIterator<Item = SeqRange>, from: Seq) -> impl Iterator<Item = SeqRange> {
    let above = ranges.into_iter().filter(move |range| range.last >= from);
    above.map(move |range| SeqRange { first: range.first.max(from), last: range.last })
}

/// Parts a range where a session begins, and says which session each part is of. `sessions` are rising first seqs.
pub fn by_session(range: SeqRange, sessions: &[(SessionNo, Seq)]) -> Vec<(SeqRange, Option<SessionNo>)> {
    let mut parts = Vec::new();
    let mut first = range.first;
    while first <= range.last {
        let begun = sessions.partition_point(|(_, begins)| *begins <= first);
        let last = sessions.get(begun).map_or(range.last, |(_, begins)| range.last.min(begins - 1));
        let session = begun.checked_sub(1).map(|newest| sessions[newest].0);
        parts.push((SeqRange { first, last }, session));
        first = last + 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(first: Seq, last: Seq) -> SeqRange {
        SeqRange { first, last }
    }

    fn some(rng: &mut fastrand::Rng, overlap: bool) -> Vec<SeqRange> {
        let (mut ranges, mut next) = (Vec::new(), 1);
        while next < 60 {
            let first = next + rng.u64(0..6);
            let last = first + rng.u64(0..6);
            ranges.push(range(first, last));
            next = if overlap { first + rng.u64(0..3) } else { last + 1 };
        }
        ranges
    }

    fn seqs(ranges: &[SeqRange]) -> BTreeSet<Seq> {
        ranges.iter().flat_map(|range| range.first..=range.last).collect()
    }

    #[test]
    fn what_is_left_is_what_is_in_one_and_not_in_the_other() {
        for seed in 0..2_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (of, taken) = (some(&mut rng, false), some(&mut rng, true));
            let left = minus(of.clone(), taken.clone());
            let expected: BTreeSet<Seq> = seqs(&of).difference(&seqs(&taken)).copied().collect();
            assert_eq!(seqs(&left), expected, "seed {seed}");
            assert!(left.is_sorted_by(|a, b| a.last < b.first), "seed {seed}: {left:?}");
            let first = rng.u64(0..60);
            let above: Vec<SeqRange> = from(of.clone(), first).collect();
            assert_eq!(seqs(&above), seqs(&of).range(first..).copied().collect(), "seed {seed}");
        }
    }

    #[test]
    fn a_range_is_parted_where_sessions_begin() {
        // Session 2 had no frames: session 3 begins with the same seq.
        let sessions = [(1, 3), (2, 6), (3, 6), (4, 9)];
        let parted = [(range(1, 2), None), (range(3, 5), Some(1)), (range(6, 8), Some(3)), (range(9, 9), Some(4))];
        assert_eq!(by_session(range(1, 9), &sessions), parted);
        assert_eq!(by_session(range(7, 8), &sessions), [(range(7, 8), Some(3))]);
        assert_eq!(by_session(range(7, 8), &[]), [(range(7, 8), None)]);
    }
}
