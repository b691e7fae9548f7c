use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn id(camera: &str) -> CameraId {
    camera.parse().unwrap()
}

struct Clocked {
    gate: Gate,
    now: Instant,
}

impl Clocked {
    fn new() -> Self {
        let now = Instant::now();
        Self { gate: Gate::new(now, fastrand::Rng::with_seed(1)), now }
    }

    /// Makes attempts for some time, one after the other, as soon as each may be made, and returns when they were.
    fn attempts(&mut self, lasts: Duration, verdict: Verdict) -> Vec<Instant> {
        let (end, mut made) = (self.now + lasts, Vec::new());
        while self.now < end {
            match self.gate.ask(self.now, Errand::Frame) {
                Answer::NotBefore(at) => {
                    assert!(at > self.now, "else nobody waits");
                    self.now = at;
                }
                Answer::Go | Answer::Probe => {
                    let ticket = self.gate.begin(self.now);
                    made.push(self.now);
                    self.now += 10 * MS;
                    self.gate.ended(self.now, ticket, Some(&id("gate")), verdict, Some("it said so"));
                }
            }
        }
        made
    }

    fn state(&mut self) -> DestinationState {
        self.gate.look(self.now);
        self.gate.state().0
    }
}

fn at_least_apart(made: &[Instant], apart: Duration) {
    for pair in made.windows(2) {
        assert!(pair[1] - pair[0] >= apart, "{:?} apart", pair[1] - pair[0]);
    }
}

#[test]
fn what_is_down_is_tried_once_a_second_until_it_answers() {
    for verdict in [Verdict::Failed, Verdict::Throttled] {
        let mut clocked = Clocked::new();
        clocked.attempts(SECOND, Verdict::Answered);
        assert_eq!(clocked.state(), DestinationState::Open);
        clocked.attempts(20 * SECOND, verdict);
        assert_eq!(clocked.state(), DestinationState::Down);
        assert_eq!(clocked.gate.error(), Some("it said so"));
        let probes = clocked.attempts(600 * SECOND, verdict);
        at_least_apart(&probes, SECOND);
        assert!(probes.len() > 540, "{} probes", probes.len());
        assert!(clocked.gate.probes() >= probes.len() as u64);
        let back = clocked.now;
        let made = clocked.attempts(3 * SECOND, Verdict::Answered);
        assert!(made[0] - back <= 1_100 * MS);
        assert!(made.len() > 20, "{} attempts", made.len());
        clocked.attempts(10 * SECOND, Verdict::Answered);
        assert_eq!((clocked.state(), clocked.gate.in_flight()), (DestinationState::Open, 0));
    }
}

#[test]
fn what_does_not_let_us_in_is_asked_once_in_thirty_seconds_until_it_does() {
    let mut clocked = Clocked::new();
    clocked.attempts(SECOND, Verdict::Answered);
    assert_eq!(clocked.attempts(SECOND, Verdict::Refused).len(), 3);
    assert_eq!(clocked.state(), DestinationState::Paused);
    let attempts = clocked.attempts(600 * SECOND, Verdict::Refused);
    at_least_apart(&attempts, 30 * SECOND);
    assert!(attempts.len() >= 19, "{} attempts", attempts.len());
    // One that fails for another reason changes nothing.
    let attempts = clocked.attempts(300 * SECOND, Verdict::Failed);
    at_least_apart(&attempts, 30 * SECOND);
    assert_eq!(clocked.state(), DestinationState::Paused);
    let mended = clocked.now;
    let made = clocked.attempts(60 * SECOND, Verdict::Answered);
    assert!(made[0] - mended <= 32 * SECOND);
    assert!(made.len() > 500, "{} attempts", made.len());
    assert_eq!(clocked.state(), DestinationState::Open);
}

#[test]
fn an_answer_to_an_attempt_that_was_on_its_way_opens_what_is_down_at_once() {
    let mut clocked = Clocked::new();
    let slow = clocked.gate.begin(clocked.now);
    clocked.attempts(20 * SECOND, Verdict::Failed);
    assert!(clocked.gate.is_shut());
    clocked.gate.ended(clocked.now, slow, None, Verdict::Answered, None);
    assert_eq!(clocked.state(), DestinationState::Limited, "it begins slowly");
    assert_eq!(clocked.gate.rate(), Some(32.0));
}

#[test]
fn changes_are_told_once() {
    let mut clocked = Clocked::new();
    assert_eq!(clocked.gate.look(clocked.now), None);
    let begun = clocked.now;
    clocked.attempts(5 * SECOND, Verdict::Failed);
    let change = clocked.gate.look(clocked.now).expect("it is down");
    assert_eq!((change.from, change.to), (DestinationState::Open, DestinationState::Down));
    clocked.attempts(5 * SECOND, Verdict::Failed);
    assert_eq!(clocked.gate.look(clocked.now), None);
    assert!(clocked.gate.state().1 > begun);
}

#[test]
fn an_attempt_without_a_word_changes_nothing_and_one_that_was_not_made_costs_no_turn() {
    let mut clocked = Clocked::new();
    for _ in 0..10 {
        let ticket = clocked.gate.begin(clocked.now);
        clocked.now += SECOND;
        clocked.gate.abandoned(ticket);
    }
    assert_eq!((clocked.state(), clocked.gate.in_flight()), (DestinationState::Open, 0));
    clocked.attempts(SECOND, Verdict::Refused);
    clocked.now += 40 * SECOND;
    assert_eq!(clocked.gate.ask(clocked.now, Errand::Frame), Answer::Probe);
    let ticket = clocked.gate.begin(clocked.now);
    clocked.gate.unused(clocked.now, ticket);
    assert_eq!(clocked.gate.ask(clocked.now, Errand::Frame), Answer::NotBefore(clocked.now + SECOND));
}

#[test]
fn a_refusal_for_good_is_a_sign_of_life_and_no_error_of_the_destination() {
    let mut clocked = Clocked::new();
    clocked.attempts(20 * SECOND, Verdict::Failed);
    let ticket = clocked.gate.begin(clocked.now);
    clocked.gate.ended(clocked.now, ticket, Some(&id("gate")), Verdict::Answered, Some("400 for this frame"));
    assert!(!clocked.gate.is_shut());
    assert_eq!(clocked.gate.error(), Some("it said so"));
}
