//! What spool and journal tell each other of a camera at the start.

use super::{Seq, SeqRange, SessionNo, UnixMicros};

/// A camera's frames that lie in the spool, whether their outcome is known or not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SpooledCamera {
    /// Their seqs: rising, apart from each other, never empty.
    pub seqs: Vec<SeqRange>,
    /// The session of the newest.
    pub session: SessionNo,
    /// When the newest was captured.
    pub newest: UnixMicros,
}

impl SpooledCamera {
    /// Adds what lies in another spool. No seq is in both, unless a disk gave back what it had lost.
    pub fn join(&mut self, other: Self) {
        let last = |of: &Self| of.seqs.last().map(|range| range.last);
        if last(&other) > last(self) {
            (self.session, self.newest) = (other.session, other.newest);
        }
        self.seqs.extend(other.seqs);
        self.seqs.sort_unstable_by_key(|range| range.first);
        self.seqs.dedup_by(|next, range| {
            let joins = next.first <= range.last.saturating_add(1);
            if joins {
                range.last = range.last.max(next.last);
            }
            joins
        });
    }
}

/// Which of a camera's seqs have their outcome in the journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolved {
    /// All up to this one.
    pub watermark: Seq,
    /// Of those above it, these: rising, apart from each other.
    pub above: Vec<SeqRange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(seqs: &[(Seq, Seq)], session: SessionNo) -> SpooledCamera {
        let seqs = seqs.iter().map(|(first, last)| SeqRange { first: *first, last: *last }).collect();
        SpooledCamera { seqs, session, newest: UnixMicros(session.into()) }
    }

    #[test]
    fn two_spools_hold_what_either_of_them_holds() {
        let mut all = spooled(&[(1, 3), (9, 12)], 2);
        all.join(spooled(&[(4, 6), (8, 8), (20, 21)], 3));
        assert_eq!(all, spooled(&[(1, 6), (8, 12), (20, 21)], 3));
        all.join(spooled(&[(5, 10)], 1));
        assert_eq!(all, spooled(&[(1, 12), (20, 21)], 3));
        all.join(SpooledCamera::default());
        assert_eq!(all, spooled(&[(1, 12), (20, 21)], 3));
        let mut none = SpooledCamera::default();
        none.join(all.clone());
        assert_eq!(none, all);
    }
}
