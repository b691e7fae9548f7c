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

#[test]
fn a_destination_that_asks_for_time_is_not_tried_before() {
    let mut clocked = Clocked::new();
    clocked.attempts(20 * SECOND, Verdict::Throttled);
    assert_eq!(clocked.state(), DestinationState::Down);
    let mut made = Vec::new();
    for _ in 0..10 {
        made.extend(clocked.attempts(MS, Verdict::Throttled));
        clocked.gate.asks_to_wait(clocked.now, 30 * SECOND);
        if let Answer::NotBefore(at) = clocked.gate.ask(clocked.now, Errand::Frame) {
            clocked.now = at;
        }
    }
    at_least_apart(&made, 30 * SECOND);
    assert!(made.len() >= 9, "{} probes", made.len());
    // An answer to another is worth more than the word of before.
    let late = clocked.gate.begin(clocked.now);
    clocked.gate.asks_to_wait(clocked.now, 300 * SECOND);
    clocked.gate.ended(clocked.now, late, None, Verdict::Answered, None);
    assert!(!clocked.gate.is_shut());
}

#[test]
fn a_probe_that_fails_says_nothing_of_its_frame_whoever_has_opened_the_gate_meanwhile() {
    let mut clocked = Clocked::new();
    clocked.attempts(20 * SECOND, Verdict::Failed);
    assert_eq!(clocked.state(), DestinationState::Down);
    let [hangs, answers] = [(); 2].map(|()| {
        clocked.now = let_go_at(&mut clocked.gate, clocked.now, Errand::Frame);
        clocked.gate.begin(clocked.now)
    });
    assert!(!clocked.gate.ended(clocked.now, answers, None, Verdict::Answered, None));
    assert!(!clocked.gate.is_shut());
    assert!(clocked.gate.ended(clocked.now, hangs, None, Verdict::Failed, None), "it hung through the outage");
    clocked.now = let_go_at(&mut clocked.gate, clocked.now, Errand::Frame);
    let usual = clocked.gate.begin(clocked.now);
    assert!(!clocked.gate.is_shut());
    assert!(!clocked.gate.ended(clocked.now, usual, None, Verdict::Failed, None), "that is the frame's to wait for");
}

/// Asks as whoever waits for the gate does, and answers when it may go.
fn let_go_at(gate: &mut Gate, from: Instant, errand: Errand) -> Instant {
    let mut now = from;
    while let Answer::NotBefore(at) = gate.ask(now, errand) {
        now = at;
    }
    now
}

#[test]
fn other_objects_do_not_take_every_probe_from_the_frames_and_go_where_there_are_none() {
    for verdict in [Verdict::Refused, Verdict::Failed] {
        let mut clocked = Clocked::new();
        clocked.attempts(20 * SECOND, verdict);
        let mut frames = 0;
        for _ in 0..20 {
            // Both wait, and the object is woken first.
            let object = let_go_at(&mut clocked.gate, clocked.now, Errand::Object);
            let frame = let_go_at(&mut clocked.gate, clocked.now, Errand::Frame);
            let (at, errand) = if object <= frame { (object, Errand::Object) } else { (frame, Errand::Frame) };
            clocked.gate.ask(at, errand);
            let ticket = clocked.gate.begin(at);
            clocked.now = at + MS;
            clocked.gate.ended(clocked.now, ticket, None, verdict, None);
            frames += usize::from(errand == Errand::Frame);
        }
        assert_eq!(frames, 10, "{verdict:?}");
        for _ in 0..5 {
            let at = let_go_at(&mut clocked.gate, clocked.now, Errand::Object);
            assert!(at - clocked.now <= 33 * SECOND, "{verdict:?}: {:?}", at - clocked.now);
            let ticket = clocked.gate.begin(at);
            clocked.now = at;
            clocked.gate.ended(at, ticket, None, verdict, None);
        }
    }
}

#[test]
fn of_the_probes_that_hang_one_has_all_its_time_and_they_get_rarer() {
    let mut clocked = Clocked::new();
    clocked.attempts(20 * SECOND, Verdict::Failed);
    let begun = clocked.now;
    let mut hanging = Vec::new();
    for _ in 0..6 {
        clocked.now = let_go_at(&mut clocked.gate, clocked.now, Errand::Frame);
        hanging.push(clocked.gate.begin(clocked.now));
    }
    let patient: Vec<bool> = hanging.iter().map(Ticket::is_patient).collect();
    assert_eq!(patient, [true, false, false, false, false, false]);
    let passed = clocked.now - begun;
    assert!((15 * SECOND..20 * SECOND).contains(&passed), "{passed:?}");
    // Those that have ended make the next ones as frequent as they were, and another has all its time.
    for ticket in hanging {
        clocked.gate.ended(clocked.now, ticket, None, Verdict::Throttled, None);
    }
    let next = let_go_at(&mut clocked.gate, clocked.now, Errand::Frame);
    assert!(next - clocked.now <= 1_100 * MS, "{:?}", next - clocked.now);
    let ticket = clocked.gate.begin(next);
    assert!(ticket.is_patient());
    clocked.gate.abandoned(ticket);
    // Another object is always: there are few, and they are small.
    let next = let_go_at(&mut clocked.gate, next, Errand::Object);
    let object = clocked.gate.begin(next);
    let next = let_go_at(&mut clocked.gate, next, Errand::Frame);
    let frame = clocked.gate.begin(next);
    assert!(object.is_patient() && frame.is_patient());
    clocked.gate.unused(next, object);
    clocked.gate.unused(next, frame);
    assert_eq!(clocked.gate.in_flight(), 0);
}

/// Cameras of which a policy forbids most: whoever is let in has its frames taken, and whoever is not waits longer and
/// longer, as uploads do it.
#[test]
fn where_most_cameras_are_forbidden_the_others_are_soon_left_in_peace() {
    const CAMERAS: usize = 20;
    let mut clocked = Clocked::new();
    let start = clocked.now;
    let ids: Vec<CameraId> = (0..CAMERAS).map(|n| id(&format!("camera-{n}"))).collect();
    let is_allowed = |camera: usize| camera.is_multiple_of(4);
    // A frame a second each; those that are not let in are tried again after ever longer times.
    let (mut due, mut failures) = (vec![start; CAMERAS], [0_u32; CAMERAS]);
    let (mut turn, mut taken) = (0, 0);
    while clocked.now < start + 600 * SECOND {
        let shut = clocked.gate.is_shut();
        let Some(camera) = (0..CAMERAS).map(|n| (turn + n) % CAMERAS).find(|n| shut || due[*n] <= clocked.now) else {
            clocked.now = *due.iter().min().unwrap();
            continue;
        };
        if let Answer::NotBefore(at) = clocked.gate.ask(clocked.now, Errand::Frame) {
            clocked.now = at;
            continue;
        }
        turn = camera + 1;
        let ticket = clocked.gate.begin(clocked.now);
        clocked.now += 5 * MS;
        let verdict = if is_allowed(camera) { Verdict::Answered } else { Verdict::Refused };
        clocked.gate.ended(clocked.now, ticket, Some(&ids[camera]), verdict, None);
        due[camera] = clocked.now + SECOND;
        if verdict == Verdict::Answered {
            taken += u32::from(clocked.now > start + 300 * SECOND);
        } else if !clocked.gate.is_shut() {
            failures[camera] += 1;
            due[camera] = clocked.now + SECOND * (1 << failures[camera].min(6));
        }
    }
    let asked = 5 * 300;
    assert!(taken > asked * 9 / 10, "{taken} of {asked}");
}
