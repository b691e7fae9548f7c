//! How many downloads a recorder is asked for at a time.

/// Additive increase, multiplicative decrease (Chiu and Jain, 1989): a recorder that says it is busy is asked for half as
/// many downloads, and for one more after as many have come as go on at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sessions {
    most: f64,
    limit: f64,
}

impl Sessions {
    /// At most so many; 0 counts as 1.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        Self { most, limit: most }
    }

    /// So many may go on now.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A download has come to its end.
    pub(super) fn done(&mut self) {
        self.limit = (self.limit + 1.0 / self.limit).min(self.most);
    }

    /// One was refused because the recorder is busy while so many others went on. Where fewer go on than may, others
    /// than ours keep it busy, and it is told by what goes on how much it has left for us.
    pub(super) fn busy(&mut self, others: usize) {
        self.limit = (self.limit.min(others as f64 + 1.0) / 2.0).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_recorder_is_asked_for_half_and_for_more_later() {
        let mut sessions = Sessions::new(8);
        assert_eq!(sessions.limit(), 8);
        sessions.busy(7);
        assert_eq!(sessions.limit(), 4);
        sessions.busy(3);
        sessions.busy(1);
        sessions.busy(0);
        assert_eq!(sessions.limit(), 1);
        sessions.done();
        assert_eq!(sessions.limit(), 2);
        for _ in 0..100 {
            sessions.done();
        }
        assert_eq!(sessions.limit(), 8);
        // Two go on, and a third is refused: it is the recorder's measure, not ours, that counts.
        sessions.busy(2);
        assert_eq!(sessions.limit(), 1);
    }

    #[test]
    fn there_is_always_one() {
        let mut sessions = Sessions::new(0);
        assert_eq!(sessions.limit(), 1);
        sessions.busy(0);
        assert_eq!(sessions.limit(), 1);
        sessions.done();
        assert_eq!(sessions.limit(), 1);
    }
}
