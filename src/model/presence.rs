//! Whether a recorder is there, and when it is asked next. Pure: the clock is passed in.
//!
//! All that goes on with a recorder hangs on one thing, so that one fault is not told sixteen times: while it may be away
//! its cameras wait, and one errand at a time finds out, no more often than once a second.

use std::time::{Duration, Instant};

/// Between two attempts to reach a recorder that may be away.
const GAP: Duration = Duration::from_secs(1);
/// Between two looks at one that is there, at most; at least five sixths of it.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Before what a look has missed for the first time is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The longest wait between two looks at one that does not answer them and may be there all the same.
const LOOK_SILENT: Duration = Duration::from_secs(5);
/// Between two looks at one that is away: the port that is knocked at may be another by now.
const LOOK_AWAY: Duration = Duration::from_secs(15);

/// What is known of a recorder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Presence {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It answers.
    There,
    /// It did until a moment ago: the next knock tells.
    Doubtful,
    /// It does not answer.
    Away,
    /// It answers, and does not let us in.
    Refused,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    /// Ask it all that is wanted to be known.
    Look,
    /// Ask its port of streams for a sign of life.
    Knock,
}

/// How a look has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Looked {
    /// It has answered; `missed` is whether something was not there that had been.
    Well {
        /// Whether to look again soon.
        missed: bool,
    },
    /// It is not reached, or does not answer.
    Silent,
    /// It lets nobody in with this user and password.
    Refused,
    /// It answers with something else than what was asked for.
    Odd,
}

/// One recorder's errands.
#[derive(Clone, Debug)]
pub struct Rounds {
    presence: Presence,
    look_at: Instant,
    /// Before this nothing begins.
    not_before: Instant,
    /// Looks in a row without an answer.
    silent: u32,
}

impl Rounds {
    /// Begins with a look at once.
    pub fn new(now: Instant) -> Self {
        Self { presence: Presence::Unknown, look_at: now, not_before: now, silent: 0 }
    }

    /// What is known by now.
    pub fn presence(&self) -> Presence {
        self.presence
    }

    /// What comes next, and when. Without `can_knock`, the port of its streams is not known.
    pub fn next(&self, can_knock: bool) -> (Errand, Instant) {
        let knocks = match self.presence {
            Presence::Doubtful => can_knock,
            Presence::Away => can_knock && self.look_at > self.not_before,
            Presence::Unknown | Presence::There | Presence::Refused => false,
        };
        if knocks { (Errand::Knock, self.not_before) } else { (Errand::Look, self.look_at.max(self.not_before)) }
    }

    /// When to knock while a look is on its way, which may take its time: a web server may hang while streams go on, and
    /// the other way round. `None` where there is nothing that a knock would tell.
    pub fn beside(&self, can_knock: bool) -> Option<Instant> {
        let asks = matches!(self.presence, Presence::Doubtful | Presence::Away);
        (asks && can_knock).then_some(self.not_before)
    }

    /// An errand begins.
    pub fn begins(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.not_before = now + GAP.mul_f64(1.0 + 0.1 * rng.f64());
    }

    /// A camera of its own has lost it, or found it closed.
    pub fn doubt(&mut self) {
        if self.presence == Presence::There {
            self.presence = Presence::Doubtful;
        }
    }

    /// Somebody wants to know soon.
    pub fn look_soon(&mut self, now: Instant) {
        self.look_at = self.look_at.min(now);
    }

    /// A look has ended.
    pub fn looked(&mut self, now: Instant, how: Looked, can_knock: bool, rng: &mut fastrand::Rng) {
        let usual = LOOK_EVERY.mul_f64(1.0 - rng.f64() / 6.0);
        let was_away = self.presence == Presence::Away && can_knock;
        // Its streams have a port of their own, which was found closed.
        let there = if was_away { Presence::Doubtful } else { Presence::There };
        let (presence, wait) = match how {
            Looked::Well { missed } => (there, if missed { LOOK_AGAIN } else { usual }),
            Looked::Refused => (Presence::Refused, usual),
            Looked::Odd => (there, usual),
            Looked::Silent if was_away => (Presence::Away, LOOK_AWAY),
            Looked::Silent if can_knock => (Presence::Doubtful, LOOK_SILENT),
            Looked::Silent => (Presence::Away, LOOK_SILENT.min(GAP * (1 << self.silent.min(8)))),
        };
        self.silent = if how == Looked::Silent { self.silent.saturating_add(1) } else { 0 };
        (self.presence, self.look_at) = (presence, now + wait);
    }

    /// A knock has ended, with an answer or without.
    pub fn knocked(&mut self, now: Instant, answered: bool) {
        match (answered, self.presence) {
            (false, Presence::Away) => {}
            (false, _) => {
                self.look_at = now + LOOK_AWAY;
                (self.presence, self.silent) = (Presence::Away, 0);
            }
            (true, Presence::Away) => {
                // It may be another firmware by now, with other channels.
                self.look_at = now;
                self.presence = Presence::There;
            }
            (true, _) => self.presence = Presence::There,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        rounds: Rounds,
        rng: fastrand::Rng,
        begin: Instant,
        now: Instant,
        /// When an errand began, seconds from the begin.
        attempts: Vec<(Errand, f64)>,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { rounds: Rounds::new(now), rng: fastrand::Rng::with_seed(7), begin: now, now, attempts: Vec::new() }
        }

        /// Does what is due until so many seconds from the begin; `answers` is whether the recorder is there.
        fn until(&mut self, seconds: u64, can_knock: bool, answers: bool) {
            let end = self.begin + Duration::from_secs(seconds);
            loop {
                let (errand, at) = self.rounds.next(can_knock);
                if at >= end {
                    self.now = end;
                    return;
                }
                self.now = self.now.max(at);
                self.rounds.begins(self.now, &mut self.rng);
                self.attempts.push((errand, (self.now - self.begin).as_secs_f64()));
                match errand {
                    Errand::Knock => self.rounds.knocked(self.now, answers),
                    Errand::Look => {
                        let how = if answers { Looked::Well { missed: false } } else { Looked::Silent };
                        self.rounds.looked(self.now, how, can_knock, &mut self.rng);
                    }
                }
            }
        }

        fn assert_spaced(&self) {
            assert!(self.attempts.windows(2).all(|pair| pair[1].1 - pair[0].1 >= 1.0), "{:?}", self.attempts);
        }
    }

    #[test]
    fn one_that_is_there_is_looked_at_twice_a_minute_and_not_all_at_the_same_time() {
        let mut bench = Bench::new();
        bench.until(3_600, true, true);
        let waits: Vec<f64> = bench.attempts.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        assert!(waits.iter().all(|wait| (25.0..=30.0).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < 27.0) && waits.iter().any(|wait| *wait > 28.0), "{waits:?}");
    }

    #[test]
    fn one_that_is_away_is_knocked_at_once_a_second_whoever_doubts() {
        let mut bench = Bench::new();
        bench.until(10, true, true);
        for _ in 0..16 {
            bench.rounds.doubt();
        }
        assert_eq!(bench.rounds.presence(), Presence::Doubtful);
        bench.attempts.clear();
        for second in 11..70 {
            bench.rounds.doubt();
            bench.until(second, true, false);
        }
        assert_eq!(bench.rounds.presence(), Presence::Away);
        bench.assert_spaced();
        let looks = bench.attempts.iter().filter(|(errand, _)| *errand == Errand::Look).count();
        assert!((50..=60).contains(&bench.attempts.len()) && (3..=4).contains(&looks), "{:?}", bench.attempts);
        // Back: known within two seconds, and looked at as soon.
        bench.attempts.clear();
        bench.until(73, true, true);
        assert_eq!(bench.rounds.presence(), Presence::There);
        assert!(bench.attempts.iter().any(|(errand, _)| *errand == Errand::Look), "{:?}", bench.attempts);
        bench.assert_spaced();
    }

    #[test]
    fn a_look_that_takes_its_time_keeps_nobody_from_knocking() {
        let mut bench = Bench::new();
        bench.until(10, true, true);
        assert_eq!(bench.rounds.beside(true), None, "nobody doubts");
        // The look is on its way from here on.
        bench.rounds.begins(bench.now, &mut bench.rng);
        bench.rounds.doubt();
        let at = bench.rounds.beside(true).expect("it is doubted");
        assert!((1.0..=1.1).contains(&(at - bench.now).as_secs_f64()), "no more than one attempt a second");
        assert_eq!(bench.rounds.beside(false), None, "nobody knows where");
        bench.rounds.begins(at, &mut bench.rng);
        bench.rounds.knocked(at, false);
        assert_eq!(bench.rounds.presence(), Presence::Away);
        // Once a second, until it answers; then the look's own word counts again.
        let next = bench.rounds.beside(true).expect("it is away");
        assert!(next > at);
        bench.rounds.knocked(next, true);
        assert_eq!((bench.rounds.presence(), bench.rounds.beside(true)), (Presence::There, None));
        bench.rounds.looked(next, Looked::Silent, true, &mut bench.rng);
        assert_eq!((bench.rounds.presence(), bench.rounds.next(true).0), (Presence::Doubtful, Errand::Knock));
    }

    #[test]
    fn one_that_streams_and_answers_no_questions_is_there() {
        let mut bench = Bench::new();
        bench.rounds.looked(bench.now, Looked::Silent, true, &mut bench.rng);
        assert_eq!(bench.rounds.presence(), Presence::Doubtful);
        bench.rounds.knocked(bench.now, true);
        assert_eq!(bench.rounds.presence(), Presence::There);
        assert_eq!(bench.rounds.next(true), (Errand::Look, bench.now + LOOK_SILENT));
    }

    #[test]
    fn one_whose_streams_alone_are_away_is_not_there_because_it_answers_questions() {
        let mut bench = Bench::new();
        bench.until(1, true, true);
        bench.rounds.doubt();
        bench.rounds.knocked(bench.now, false);
        bench.rounds.looked(bench.now, Looked::Well { missed: false }, true, &mut bench.rng);
        assert_eq!((bench.rounds.presence(), bench.rounds.next(true).0), (Presence::Doubtful, Errand::Knock));
        bench.rounds.knocked(bench.now, false);
        assert_eq!(bench.rounds.presence(), Presence::Away);
    }

    #[test]
    fn without_a_port_to_knock_at_it_is_looked_for_within_seconds() {
        let mut bench = Bench::new();
        bench.until(60, false, false);
        assert_eq!(bench.rounds.presence(), Presence::Away);
        bench.assert_spaced();
        let last = bench.attempts.windows(2).map(|pair| pair[1].1 - pair[0].1).fold(0.0, f64::max);
        assert!((1.0..=5.1).contains(&last), "{:?}", bench.attempts);
        bench.until(66, false, true);
        assert_eq!(bench.rounds.presence(), Presence::There);
    }

    #[test]
    fn one_that_refuses_us_is_not_doubted_and_what_is_missed_is_looked_for_soon() {
        let mut bench = Bench::new();
        bench.rounds.looked(bench.now, Looked::Refused, true, &mut bench.rng);
        bench.rounds.doubt();
        assert_eq!((bench.rounds.presence(), bench.rounds.next(true).0), (Presence::Refused, Errand::Look));
        bench.rounds.looked(bench.now, Looked::Well { missed: true }, true, &mut bench.rng);
        assert_eq!(bench.rounds.next(true), (Errand::Look, bench.now + LOOK_AGAIN));
        bench.rounds.looked(bench.now, Looked::Odd, true, &mut bench.rng);
        assert_eq!(bench.rounds.presence(), Presence::There);
        bench.rounds.look_soon(bench.now);
        assert_eq!(bench.rounds.next(true), (Errand::Look, bench.now));
    }
}
