//! Days of outages and storms, made up from seeds: the real dispatcher, gate, backoff and reorder window over a model of
//! the spool, the journal and the bucket, with a clock of its own.
//!
//! `SEEDS` says how many days, `SEED` which one, or the first of so many.

mod books;
mod engine;
mod server;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use self::books::{Book, End};
use self::engine::{Engine, Flaw, Plan, Step, World};
use self::server::{Server, Weather};
use crate::delivery::{Budget, DestinationState};
use crate::model::{LostReason, Seq};

/// Bytes of the largest frame.
const LARGEST: u64 = 200_000;
/// From here on nothing goes wrong any more.
const LAST_FAULT: Duration = Duration::from_secs(23 * 3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// How soon after an outage something is stored again, where probes go once a second: hung ones may hold all workers
/// until their deadline.
const BACK_FROM_DOWN: Duration = Duration::from_secs(13);
/// And where attempts go once in 30 s, of which one may die with its worker.
const BACK_FROM_PAUSE: Duration = Duration::from_secs(65);

/// What happens next.
#[derive(Debug)]
enum Event {
    Frame(usize),
    Weather(Weather),
    Crash,
    Start,
    /// In the life of the process with this number.
    Step(u32, Step),
    /// Some frame should have ended since by an answer of the server's.
    Back(Instant),
    /// What came before the last fault should have ended.
    Drained(Vec<Seq>),
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap gives the greatest first: that which is next.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What a day has come to.
#[derive(Debug, Default)]
struct Report {
    /// From its first moment to its last event.
    simulated: Duration,
    frames: u64,
    stored: u64,
    lost: u64,
    attempts: u64,
    /// Answers other than "stored", and crashes.
    faults: u64,
    crashes: u64,
    probes: u64,
    paused: u64,
    down: u64,
    violations: Vec<String>,
    digest: u64,
    /// Days that were run twice.
    replayed: u64,
}

struct Day {
    world: World,
    engine: Option<Engine>,
    plan: Plan,
    life: u32,
    events: BinaryHeap<Entry>,
    number: u64,
    start: Instant,
    now: Instant,
    /// Seconds between two frames of each camera.
    intervals: Vec<f64>,
    /// How many frames had ended by an answer when the weather changed last.
    answered_at: u64,
    report: Report,
    last_state: DestinationState,
}

/// Evenly on a logarithmic scale.
fn draw(rng: &mut fastrand::Rng, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(least * (most / least).powf(rng.f64()))
}

impl Day {
    fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let start = Instant::now();
        let cameras = rng.usize(2..=4);
        let small_memory = rng.u8(0..3) == 0;
        let budget = if small_memory {
            Budget { bytes: 10 * LARGEST, frames: 30 }
        } else {
            Budget { bytes: 1 << 30, frames: 10_000 }
        };
        let cap = if rng.u8(0..4) == 0 { rng.u64(40..400) * LARGEST } else { u64::MAX / 4 };
        let plan = Plan { workers: rng.usize(4..=16), budget, cap, flaw, until: start + DAY };
        let intervals = (0..cameras).map(|_| draw(&mut rng, 20.0, 400.0).as_secs_f64()).collect();
        let mut day = Self {
            world: World {
                cameras: (0..cameras).map(|n| format!("camera-{n}").parse().unwrap()).collect(),
                books: (0..cameras).map(|_| Book::default()).collect(),
                server: Server::new(start),
                rng,
                violations: Vec::new(),
                digest: 0,
                attempts: 0,
                answered: 0,
            },
            engine: None,
            plan,
            life: 0,
            events: BinaryHeap::new(),
            number: 0,
            start,
            now: start,
            intervals,
            answered_at: 0,
            report: Report::default(),
            last_state: DestinationState::Open,
        };
        day.forecast();
        day
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.number += 1;
        self.events.push(Entry { at, number: self.number, event });
    }

    /// Draws what will go wrong, and when.
    fn forecast(&mut self) {
        let (start, cameras) = (self.start, self.world.cameras.len());
        self.at(start, Event::Start);
        for camera in 0..cameras {
            self.at(start, Event::Frame(camera));
        }
        let rng = &mut self.world.rng;
        let mut coming = Vec::new();
        let mut after = Duration::ZERO;
        let long = rng.u8(0..16) == 0;
        loop {
            if rng.u8(0..3) > 0 {
                coming.push((after, Event::Weather(Weather::Fair)));
                after += draw(rng, 30.0, 7_200.0);
            }
            if after >= LAST_FAULT {
                break;
            }
            coming.push((after, Event::Weather(Weather::draw(rng, cameras))));
            after += if long { Duration::from_secs(20 * 3_600) } else { draw(rng, 2.0, 5_400.0) };
        }
        for _ in 0..rng.u8(0..6) {
            coming.push((LAST_FAULT.mul_f64(rng.f64()), Event::Crash));
        }
        coming.retain(|(after, _)| *after < LAST_FAULT);
        for (after, event) in coming {
            self.at(start + after, event);
        }
        self.at(start + LAST_FAULT, Event::Weather(Weather::Fair));
    }

    fn run(mut self) -> Report {
        let end = self.start + DAY + Duration::from_secs(600);
        while let Some(Entry { at, event, .. }) = self.events.pop() {
            // A flaw is found once.
            if at > end || self.plan.flaw.is_some() && !self.world.violations.is_empty() {
                break;
            }
            self.now = at;
            self.happens(event);
            self.collect();
        }
        self.close()
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Frame(camera) => self.frame(camera),
            Event::Weather(weather) => self.weather(weather),
            Event::Crash => {
                // What was on its way, to the bucket, the disk or the journal, is gone.
                if self.engine.take().is_some() {
                    self.report.crashes += 1;
                    let away = draw(&mut self.world.rng, 1.0, 120.0);
                    self.at(now + away, Event::Start);
                }
            }
            Event::Start => {
                self.life += 1;
                self.last_state = DestinationState::Open;
                self.engine = Some(Engine::start(self.plan.clone(), &mut self.world, now));
            }
            Event::Step(life, step) if life == self.life => {
                if let Some(engine) = &mut self.engine {
                    engine.happens(&mut self.world, step, now);
                }
            }
            Event::Step(..) => {}
            Event::Back(since) => self.check_back(since),
            Event::Drained(seqs) => {
                for (camera, highest) in seqs.into_iter().enumerate() {
                    let open = (1..=highest).filter(|seq| self.world.books[camera].end(*seq).is_none()).count();
                    if open > 0 {
                        self.world.violated(format!("camera {camera}: {open} frames wait long after the last fault"));
                    }
                }
            }
        }
    }

    fn frame(&mut self, camera: usize) {
        let now = self.now;
        if now >= self.start + DAY {
            return;
        }
        let bytes = self.world.rng.u64(20_000..=LARGEST);
        if let Some(engine) = &mut self.engine {
            if self.world.rng.u16(0..2_000) == 0 {
                self.world.server.occupy(camera, engine.highest()[camera] + 1);
            }
            engine.admit(&mut self.world, camera, bytes, now);
        }
        let wait = self.intervals[camera] * (0.5 + self.world.rng.f64());
        self.at(now + Duration::from_secs_f64(wait), Event::Frame(camera));
    }

    fn weather(&mut self, weather: Weather) {
        let now = self.now;
        let before = std::mem::replace(&mut self.world.server.weather, weather);
        let Some(engine) = &mut self.engine else { return };
        engine.weather_changed(now);
        let waits = engine.open(&self.world) > 0;
        let state = engine.gate.state().0;
        self.answered_at = self.world.answered;
        if weather == Weather::Fair && before.is_outage() && waits && state.is_shut() {
            let within = if state == DestinationState::Paused { BACK_FROM_PAUSE } else { BACK_FROM_DOWN };
            self.at(now + within, Event::Back(now));
        }
        if now == self.start + LAST_FAULT
            && let Some(engine) = &self.engine
        {
            let (highest, open) = (engine.highest(), engine.open(&self.world));
            let within = Duration::from_secs_f64(150.0 + open as f64 / 10.0);
            self.at(now + within, Event::Drained(highest));
        }
    }

    /// Unless something has gone wrong since.
    fn check_back(&mut self, since: Instant) {
        let still = self.world.server.weather == Weather::Fair && self.weather_since() == Some(since);
        if !still || self.world.answered > self.answered_at {
            return;
        }
        let paused = self.engine.as_ref().is_some_and(|engine| engine.gate.state().0 == DestinationState::Paused);
        if paused && self.now < since + BACK_FROM_PAUSE {
            // By a refusal that was on its way when the weather changed.
            self.at(since + BACK_FROM_PAUSE, Event::Back(since));
        } else {
            self.world.violated(format!("no frame has ended {:?} after an outage", self.now - since));
        }
    }

    fn weather_since(&self) -> Option<Instant> {
        self.engine.as_ref().and_then(Engine::weather_since)
    }

    /// Takes in what the process will do, and what it has done.
    fn collect(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let state = engine.gate.state().0;
        if state != std::mem::replace(&mut self.last_state, state) {
            self.report.down += u64::from(state == DestinationState::Down);
            self.report.paused += u64::from(state == DestinationState::Paused);
        }
        let steps: Vec<(Instant, Step)> = engine.steps.drain(..).collect();
        let life = self.life;
        for (at, step) in steps {
            self.at(at, Event::Step(life, step));
        }
    }

    /// At the end everything has ended.
    fn close(mut self) -> Report {
        let Some(engine) = &self.engine else {
            self.report.violations = vec!["the process is not started again".to_owned()];
            return self.report;
        };
        let (highest, watermarks) = (engine.highest(), engine.watermarks());
        let ample = self.plan.cap > 1 << 40 && self.plan.budget.bytes > 1 << 20 && self.plan.budget.frames > 1_000;
        if engine.gate.is_shut() || engine.gate.in_flight() > 0 {
            self.world.violated(format!("an hour after the last fault the gate is {:?}", engine.gate.state().0));
        }
        for (camera, book) in self.world.books.iter().enumerate() {
            let ends: Vec<End> = (1..=highest[camera]).filter_map(|seq| book.end(seq)).collect();
            let stored = ends.iter().filter(|end| **end == End::Stored).count() as u64;
            let conflict = End::Lost(LostReason::Conflict, false);
            let fine = ends.iter().filter(|end| **end == End::Stored || **end == conflict).count();
            let complete = ends.len() as u64 == highest[camera] && watermarks[camera] == highest[camera];
            if !complete || !book.records.is_empty() || book.bytes > 0 || (ample && fine < ends.len()) {
                self.world.violations.push(format!(
                    "camera {camera}: {} of {} have ended, {stored} stored, {fine} as they may where there is room, watermark {}",
                    ends.len(),
                    highest[camera],
                    watermarks[camera]
                ));
            }
            self.report.frames += highest[camera];
            self.report.stored += stored;
            self.report.lost += ends.len() as u64 - stored;
        }
        self.report.simulated = self.now - self.start;
        self.report.probes = engine.gate.probes();
        self.report.attempts = self.world.attempts;
        self.report.faults = self.world.server.faults + self.report.crashes;
        self.report.digest = self.world.digest;
        self.report.violations = self.world.violations;
        self.report
    }
}

/// Of so many days one is run twice.
const REPLAYED: u64 = 100;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}

#[test]
fn days_of_outages_and_storms_break_no_promise() {
    let (first, count) = (number("SEED"), number("SEEDS"));
    let seeds = first.unwrap_or(0)..first.unwrap_or(0) + count.unwrap_or(if first.is_some() { 1 } else { 24 });
    let (next, begun) = (AtomicU64::new(seeds.start), Instant::now());
    let work = || {
        let (mut sum, mut failed) = (Report::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return (sum, failed);
            }
            let mut report = Day::new(seed, None).run();
            if seed % REPLAYED == 0 {
                let again = Day::new(seed, None).run();
                sum.replayed += 1;
                if (again.digest, again.attempts, again.frames) != (report.digest, report.attempts, report.frames) {
                    report.violations.push("the same seed has given another day".to_owned());
                }
            }
            if !report.violations.is_empty() {
                failed.push((seed, report.violations.clone()));
            }
            sum.add(report);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (sum, mut failed) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).fold(
            (Report::default(), Vec::new()),
            |mut all, one| {
                all.0.add(one.0);
                all.1.extend(one.1);
                all
            },
        )
    });
    failed.sort();
    let days = seeds.end - seeds.start;
    let report = serde_json::json!({
        "seeds": days,
        "hours": sum.simulated.as_secs() / 3_600,
        "replayed": sum.replayed,
        "frames": sum.frames,
        "stored": sum.stored,
        "lost": sum.lost,
        "attempts": sum.attempts,
        "faults": sum.faults,
        "crashes": sum.crashes,
        "times_down": sum.down,
        "times_paused": sum.paused,
        "violations": sum.violations.len(),
        "failed_seeds": failed.iter().map(|(seed, _)| seed).take(20).collect::<Vec<_>>(),
        "ms_a_seed": begun.elapsed().as_millis() as f64 * threads as f64 / days as f64,
    });
    println!("simulation {report}");
    assert!(
        failed.is_empty(),
        "{} of {days} days broke a promise: {:#?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    assert!(sum.stored > 0 && sum.faults > 0 && sum.attempts > sum.stored, "{report}");
}

impl Report {
    fn add(&mut self, other: Self) {
        self.simulated += other.simulated;
        self.replayed += other.replayed;
        self.frames += other.frames;
        self.stored += other.stored;
        self.lost += other.lost;
        self.attempts += other.attempts;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.probes += other.probes;
        self.paused += other.paused;
        self.down += other.down;
        self.violations.extend(other.violations);
    }
}

#[test]
fn a_seed_is_the_same_day_again() {
    for seed in [3, 4] {
        let days = [seed, seed, seed + 100].map(|seed| Day::new(seed, None).run());
        assert_eq!((days[0].digest, days[0].attempts), (days[1].digest, days[1].attempts));
        assert_ne!(days[0].digest, days[2].digest);
    }
}

#[test]
fn a_day_with_a_flaw_is_not_taken_for_a_good_one() {
    // A rate that nobody keeps shows only where a bucket takes little and much has gathered.
    for (flaw, days) in [(Flaw::NoGate, 5), (Flaw::Forgets, 5), (Flaw::Believes, 5), (Flaw::NoLimit, 100)] {
        let found = (0..days).any(|seed| !Day::new(seed, Some(flaw)).run().violations.is_empty());
        assert!(found, "{flaw:?} is not found");
    }
}
