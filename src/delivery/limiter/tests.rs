use std::collections::VecDeque;

use super::*;

const MS: Duration = Duration::from_millis(1);
const LATENCY: Duration = Duration::from_millis(80);
const WORKERS: usize = 64;

/// Workers that always have something to send, before a server that decides.
struct Line {
    limiter: Limiter,
    start: Instant,
    now: Instant,
    on_their_way: VecDeque<(Instant, Ended)>,
}

impl Line {
    fn new() -> Self {
        let start = Instant::now();
        Self { limiter: Limiter::new(start), start, now: start, on_their_way: VecDeque::new() }
    }

    /// Runs for some seconds, at most so many requests in each, and returns when each request went.
    fn run(&mut self, seconds: u64, demand: usize, mut serve: impl FnMut(Instant) -> Ended) -> Vec<Instant> {
        let (begun, mut sent) = (self.now, Vec::new());
        let end = begun + Duration::from_secs(seconds);
        while self.now < end {
            while let Some((_, how)) = self.on_their_way.pop_front_if(|(at, _)| *at <= self.now) {
                self.limiter.ended(self.now, how);
            }
            let passed = (self.now - begun).as_secs_f64();
            let wanted = (sent.len() as f64) < passed * demand as f64;
            if wanted && self.on_their_way.len() < WORKERS && self.limiter.ask(self.now, 1.0).is_none() {
                self.limiter.begin(self.now);
                self.on_their_way.push_back((self.now + LATENCY, serve(self.now)));
                sent.push(self.now);
            } else {
                self.now += MS;
            }
        }
        sent
    }

    /// Requests in the last of these seconds.
    fn rate(&self, sent: &[Instant], over: u64) -> f64 {
        let from = self.now - Duration::from_secs(over);
        sent.iter().filter(|at| **at >= from).count() as f64 / over as f64
    }
}

fn share(percent: u8) -> impl FnMut(Instant) -> Ended {
    let mut rng = fastrand::Rng::with_seed(1);
    move |_| if rng.u8(0..100) < percent { Ended::Refused } else { Ended::Taken }
}

/// Takes so many in each second, evenly.
fn quota(per_second: f64) -> impl FnMut(Instant) -> Ended {
    let (mut room, mut filled) = (0.0, None::<Instant>);
    move |now| {
        let passed = filled.replace(now).map_or(0.0, |at| (now - at).as_secs_f64());
        room = f64::min(room + passed * per_second, per_second / 2.0);
        if room < 1.0 {
            return Ended::Refused;
        }
        room -= 1.0;
        Ended::Taken
    }
}

#[test]
fn what_refuses_nothing_is_never_limited() {
    let mut line = Line::new();
    let sent = line.run(5, 10_000, |_| Ended::Taken);
    assert_eq!(line.limiter.rate(), None);
    assert!(sent.len() > 3_500, "{} requests", sent.len());
    line.run(5, 10_000, |_| Ended::Failed);
    assert_eq!(line.limiter.rate(), None, "a failure tells nothing of the rate");
}

#[test]
fn half_refused_halves_the_rate_within_seconds_and_settles_at_an_eighth() {
    let mut line = Line::new();
    let sent = line.run(5, 400, |_| Ended::Taken);
    let peak = line.rate(&sent, 2);
    let sent = line.run(10, 400, share(50));
    assert!(line.rate(&sent, 5) < peak / 2.0, "{} of {peak}", line.rate(&sent, 5));
    let sent = line.run(60, 400, share(50));
    let settled = line.rate(&sent, 30) / peak;
    assert!((0.09..0.2).contains(&settled), "{settled} of the peak");
}

#[test]
fn what_is_refused_now_and_then_limits_nothing_for_long() {
    let mut line = Line::new();
    line.run(5, 400, share(5));
    let sent = line.run(30, 400, share(5));
    assert!(line.rate(&sent, 20) > 390.0, "{}", line.rate(&sent, 20));
    // Nor what has gathered.
    let sent = line.run(60, 700, share(5));
    assert!(line.rate(&sent, 20) > 650.0, "{}", line.rate(&sent, 20));
}

#[test]
fn a_quota_is_used_up_and_seldom_exceeded() {
    for per_second in [10.0, 100.0, 300.0] {
        let mut line = Line::new();
        line.run(3, 700, |_| Ended::Taken);
        let mut serve = quota(per_second);
        line.run(60, 700, &mut serve);
        let (mut taken, mut refused) = (0, 0);
        let sent = line.run(60, 700, |now| {
            let how = serve(now);
            *if how == Ended::Taken { &mut taken } else { &mut refused } += 1;
            how
        });
        let (used, wasted) = (f64::from(taken) / 60.0 / per_second, f64::from(refused) / sent.len() as f64);
        assert!(used > 0.9, "{per_second}: {used} of it is used");
        assert!(wasted < 0.3, "{per_second}: {wasted} of the requests are refused");
    }
}

#[test]
fn a_storm_that_is_over_is_forgotten_in_seconds_and_its_limit_in_a_minute() {
    let mut line = Line::new();
    line.run(5, 400, |_| Ended::Taken);
    line.run(120, 400, share(50));
    let limited = line.limiter.rate().expect("it is limited");
    assert!(limited < 100.0, "{limited}");
    let sent = line.run(20, 400, |_| Ended::Taken);
    assert!(line.rate(&sent, 3) > 390.0, "{}", line.rate(&sent, 3));
    line.run(60, 400, |_| Ended::Taken);
    assert_eq!(line.limiter.rate(), None);
}

#[test]
fn who_refuses_everything_is_still_asked_once_a_second() {
    let mut line = Line::new();
    line.run(3, 400, |_| Ended::Taken);
    let sent = line.run(120, 400, |_| Ended::Refused);
    let rate = line.rate(&sent, 60);
    assert!((0.9..4.0).contains(&rate), "{rate}");
}

#[test]
fn what_may_go_in_a_second_does_not_go_at_once() {
    let mut line = Line::new();
    line.run(5, 400, |_| Ended::Taken);
    line.run(30, 400, share(50));
    let start = line.now;
    let sent = line.run(20, 400, share(50));
    let mut bins = vec![0; 200];
    for at in &sent {
        bins[((*at - start).as_millis() / 100) as usize] += 1;
    }
    let most = *bins.iter().max().unwrap();
    assert!(most * 20 <= sent.len(), "{most} of {} in a tenth of a second", sent.len());
}

#[test]
fn what_is_back_is_begun_slowly_and_is_at_full_speed_in_five_seconds() {
    let mut line = Line::new();
    line.limiter.start_slowly(line.now);
    let sent = line.run(1, 10_000, |_| Ended::Taken);
    assert!((20..=40).contains(&sent.len()), "{} in the first second", sent.len());
    line.run(5, 10_000, |_| Ended::Taken);
    let sent = line.run(2, 10_000, |_| Ended::Taken);
    // 64 workers at 80 ms.
    assert!(line.rate(&sent, 1) > 700.0, "{}", line.rate(&sent, 1));
    assert_eq!(line.limiter.rate(), None, "nothing was refused");
}

#[test]
fn what_comes_back_and_goes_again_is_begun_more_slowly_each_time() {
    let mut line = Line::new();
    let mut begun = |seconds| {
        line.now += Duration::from_secs(seconds);
        line.limiter.start_slowly(line.now);
        line.limiter.rate().unwrap()
    };
    assert_eq!([2, 2, 30, 2, 2, 2, 2].map(&mut begun), [32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 1.0]);
    assert_eq!(begun(60), 32.0);
}

#[test]
fn what_is_back_and_refuses_is_limited_and_not_let_go() {
    let mut line = Line::new();
    line.limiter.start_slowly(line.now);
    let sent = line.run(60, 700, quota(50.0));
    assert!(line.rate(&sent, 30) < 80.0, "{}", line.rate(&sent, 30));
    assert!(line.now - line.start >= Duration::from_secs(60) && line.limiter.rate().is_some());
}

#[test]
fn another_object_goes_before_the_frames_that_wait() {
    let mut line = Line::new();
    line.limiter.start_slowly(line.now);
    let start = line.now;
    let frame = line.limiter.ask(start, 1.0).unwrap();
    assert_eq!(line.limiter.ask(start, 0.0), None);
    line.limiter.begin(start);
    assert!(line.limiter.ask(start, 1.0).unwrap() > frame + (frame - start) / 2, "it is paid for");
    assert!(line.limiter.ask(start, 0.0).is_some(), "and the next has to wait");
}
