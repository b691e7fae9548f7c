//! What the random numbers say: who is busy, and which download fails where.

use super::knobs::Knobs;
use super::stats::Injected;

/// What becomes of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Cut,
    Short,
    Stall,
    Xml,
}

impl Fault {
    pub(super) fn count(self, injected: &mut Injected) {
        let count = match self {
            Fault::Cut => &mut injected.cut,
            Fault::Short => &mut injected.short,
            Fault::Stall => &mut injected.stalled,
            Fault::Xml => &mut injected.xml,
        };
        *count += 1;
    }
}

/// The random numbers behind the knobs. What is busy and what fails have a sequence each, so that more searches do not
/// change which downloads fail.
#[derive(Debug)]
pub(super) struct Dice {
    busy: fastrand::Rng,
    search_busy: fastrand::Rng,
    faults: fastrand::Rng,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        let mut busy = fastrand::Rng::with_seed(seed);
        let (search_busy, faults) = (busy.fork(), busy.fork());
        Dice { busy, search_busy, faults }
    }

    pub(super) fn search_busy(&mut self, knobs: &Knobs) -> bool {
        self.search_busy.f64() < knobs.rate_search_busy
    }

    pub(super) fn busy(&mut self, knobs: &Knobs) -> bool {
        self.busy.f64() < knobs.rate_busy
    }

    /// What becomes of the next download of `size` bytes, and from which of them on.
    pub(super) fn fault(&mut self, knobs: &Knobs, size: u64) -> (Option<Fault>, u64) {
        let (mut thrown, at) = (self.faults.f64(), self.faults.u64(0..size.max(1)));
        let rates = [
            (Fault::Cut, knobs.rate_cut),
            (Fault::Short, knobs.rate_short),
            (Fault::Stall, knobs.rate_stall),
            (Fault::Xml, knobs.rate_xml),
        ];
        for (fault, rate) in rates {
            if thrown < rate {
                return (Some(fault), at);
            }
            thrown -= rate;
        }
        (None, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_keep_to_the_shares_and_to_the_seed() {
        let knobs = Knobs { rate_cut: 0.2, rate_stall: 0.1, rate_busy: 0.05, ..Knobs::default() };
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..10_000).map(|_| (dice.busy(&knobs), dice.fault(&knobs, 1000))).collect::<Vec<_>>()
        };
        let thrown = throws(7);
        assert_eq!(thrown, throws(7));
        assert_ne!(thrown, throws(8));
        let busy = thrown.iter().filter(|throw| throw.0).count();
        assert!((400..600).contains(&busy), "{busy}");
        let share = |fault| thrown.iter().filter(|throw| throw.1.0 == Some(fault)).count();
        assert!((1800..2200).contains(&share(Fault::Cut)));
        assert!((850..1150).contains(&share(Fault::Stall)));
        assert_eq!((share(Fault::Short), share(Fault::Xml)), (0, 0));
        assert!(thrown.iter().all(|throw| throw.1.1 < 1000));
    }
}
