use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

type Memory = Dispatcher<(), ()>;
type TestJob = Job<(), ()>;

fn id(camera: &str) -> CameraId {
    camera.parse().unwrap()
}

/// A frame that lives in memory alone.
fn frame(camera: &str, seq: Seq, bytes: u64) -> TestJob {
    Job::new(id(camera), seq, bytes, Some(()), None)
}

/// A frame that has just come to the disk.
fn spooled(camera: &str, seq: Seq, bytes: u64) -> TestJob {
    Job::new(id(camera), seq, bytes, Some(()), Some(()))
}

/// A frame that was found on disk.
fn found(camera: &str, seq: Seq, bytes: u64) -> TestJob {
    Job::new(id(camera), seq, bytes, None, Some(()))
}

fn dispatcher(bytes: u64, frames: usize) -> Memory {
    Dispatcher::new(Budget { bytes, frames })
}

fn job(pulled: Pulled<(), ()>) -> TestJob {
    match pulled {
        Pulled::Job(job) => job,
        other => panic!("expected a job, got {other:?}"),
    }
}

fn end(d: &mut Memory, job: &TestJob) {
    d.ends(job);
    d.settled(job);
}

fn seqs(jobs: &[TestJob]) -> Vec<Seq> {
    jobs.iter().map(|job| job.seq).collect()
}

#[test]
fn one_camera_goes_in_order() {
    let mut d = dispatcher(1_000, 10);
    let now = Instant::now();
    for seq in 1..=3 {
        assert!(d.admit(frame("a", seq, 10)).is_empty());
    }
    let sent: Vec<Seq> = (0..3).map(|_| job(d.pull(now, 0)).seq).collect();
    assert_eq!(sent, [1, 2, 3]);
    assert!(matches!(d.pull(now, 0), Pulled::Empty));
    assert_eq!((d.frames(), d.bytes()), (3, 30));
}

#[test]
fn bytes_not_frames_are_shared_evenly() {
    let mut d = dispatcher(u64::MAX, usize::MAX);
    let now = Instant::now();
    for seq in 1..=400 {
        assert!(d.admit(frame("big", seq, 200_000)).is_empty());
        assert!(d.admit(frame("small", seq, 50_000)).is_empty());
    }
    let mut sent: HashMap<String, u64> = HashMap::new();
    for _ in 0..200 {
        let job = job(d.pull(now, 0));
        *sent.entry(job.camera.to_string()).or_default() += job.bytes;
    }
    let (big, small) = (sent["big"] as f64, sent["small"] as f64);
    assert!((big / small - 1.0).abs() < 0.1, "{big} to {small}");
}

#[test]
fn a_flood_of_small_frames_lets_others_in_between() {
    let mut d = dispatcher(u64::MAX, usize::MAX);
    let now = Instant::now();
    for seq in 1..=100 {
        assert!(d.admit(frame("flood", seq, 10_000)).is_empty());
    }
    assert_eq!(job(d.pull(now, 0)).seq, 1);
    assert!(d.admit(frame("other", 1, 10_000)).is_empty());
    let next: Vec<String> = (0..3).map(|_| job(d.pull(now, 0)).camera.to_string()).collect();
    assert!(next.contains(&"other".to_owned()), "{next:?}");
}

#[test]
fn over_the_budget_the_camera_that_holds_most_loses_its_oldest() {
    let mut d = dispatcher(100, 100);
    assert!(d.admit(frame("a", 1, 20)).is_empty());
    for seq in 1..=4 {
        assert!(d.admit(frame("flood", seq, 20)).is_empty());
    }
    let dropped = d.admit(frame("flood", 5, 20));
    assert_eq!(dropped.iter().map(|f| (f.camera.as_str(), f.seq)).collect::<Vec<_>>(), [("flood", 1)]);
    assert_eq!(d.bytes(), 100);
}

#[test]
fn frames_that_an_attempt_may_have_carried_are_never_dropped() {
    let mut d = dispatcher(u64::MAX, 2);
    let now = Instant::now();
    assert!(d.admit(frame("a", 1, 1)).is_empty());
    assert!(d.admit(frame("a", 2, 1)).is_empty());
    let first = job(d.pull(now, 0));
    let second = job(d.pull(now, 0));
    d.put_back(Job { failures: 1, carried: true, ..second }, now, 0);
    assert_eq!(seqs(&d.admit(frame("a", 3, 1))), [3]);
    end(&mut d, &first);
    assert!(d.admit(frame("a", 4, 1)).is_empty());
    assert_eq!(d.frames(), 2);
}

#[test]
fn a_refused_frame_can_be_dropped_like_a_fresh_one() {
    let mut d = dispatcher(u64::MAX, 2);
    let now = Instant::now();
    assert!(d.admit(frame("a", 1, 1)).is_empty());
    assert!(d.admit(frame("a", 2, 1)).is_empty());
    let first = job(d.pull(now, 0));
    d.put_back(Job { failures: 1, ..first }, now, 0);
    assert_eq!(seqs(&d.admit(frame("a", 3, 1))), [1]);
}

#[test]
fn a_retry_waits_without_holding_up_what_comes_after() {
    let mut d = dispatcher(1_000, 10);
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    for seq in 1..=2 {
        assert!(d.admit(frame("a", seq, 1)).is_empty());
    }
    let first = job(d.pull(now, 0));
    d.put_back(first, later, 0);
    assert_eq!(job(d.pull(now, 0)).seq, 2);
    assert!(matches!(d.pull(now, 0), Pulled::NotBefore(at) if at == later));
    assert_eq!(job(d.pull(later, 0)).seq, 1);
}

#[test]
fn a_retry_that_is_due_goes_before_anything_new() {
    let mut d = dispatcher(1_000, 10);
    let now = Instant::now();
    assert!(d.admit(frame("a", 1, 1)).is_empty());
    let first = job(d.pull(now, 0));
    assert!(d.admit(frame("a", 2, 1)).is_empty());
    d.put_back(first, now, 0);
    assert_eq!(job(d.pull(now, 0)).seq, 1);
}

#[test]
fn what_lives_in_memory_goes_with_it_and_what_an_earlier_run_left_on_disk_stays() {
    let mut d = dispatcher(100, 100);
    let (now, a) = (Instant::now(), id("a"));
    d.recovered(&a);
    assert_eq!(d.load(&a), Some((0, WINDOW)));
    assert!(d.admit(frame("a", 3, 60)).is_empty());
    d.loaded(&a, [found("a", 1, 30), found("a", 2, 30)], false);
    // What memory alone holds goes first; then the oldest, which has its room in memory.
    let third = job(d.pull(now, 0));
    assert_eq!(third.seq, 3);
    d.put_back(third, now + Duration::from_secs(1), 0);
    let first = job(d.pull(now, 0));
    assert_eq!((first.seq, d.bytes(), d.only_in_memory()), (1, 90, 1));
    assert!(matches!(d.pull(now, 0), Pulled::Empty), "there is no room for the second");
    // Only what lives in memory can go for what comes.
    assert_eq!(seqs(&d.admit(frame("a", 4, 40))), [3]);
    d.put_back(first, now, 0);
    assert_eq!(seqs(&d.drain_memory()), [4]);
    assert_eq!((d.only_in_memory(), d.held_by(&a)), (0, 2));
}

#[test]
fn nothing_is_left_of_a_camera_that_is_done() {
    let mut d = dispatcher(1_000, 10);
    assert!(d.admit(frame("a", 1, 1)).is_empty());
    let first = job(d.pull(Instant::now(), 0));
    end(&mut d, &first);
    assert!(d.cameras.is_empty() && d.turns.is_empty());
    assert_eq!((d.frames(), d.bytes()), (0, 0));
}

#[test]
fn random_use_keeps_the_accounts() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut d = dispatcher(5_000, 40);
        let now = Instant::now();
        let mut on_their_way = Vec::new();
        let (mut admitted, mut dropped, mut settled) = (0, 0, 0);
        for seq in 0..2_000 {
            match rng.u8(0..4) {
                0 | 1 => {
                    admitted += 1;
                    let name = ["a", "b", "c"][rng.usize(0..3)];
                    dropped += d.admit(frame(name, seq, rng.u64(1..400))).len();
                }
                2 => {
                    if let Pulled::Job(job) = d.pull(now, 0) {
                        on_their_way.push(job);
                    }
                }
                _ if !on_their_way.is_empty() => {
                    let job = on_their_way.swap_remove(rng.usize(0..on_their_way.len()));
                    if rng.bool() {
                        d.put_back(job, now, 0);
                    } else {
                        settled += 1;
                        end(&mut d, &job);
                    }
                }
                _ => {}
            }
            assert_eq!(d.frames(), admitted - dropped - settled, "seed {seed}");
            assert!(d.frames() <= 41 + on_their_way.len(), "seed {seed}");
        }
        assert_eq!(d.only_in_memory(), d.frames(), "seed {seed}");
        let left = d.drain_memory().len();
        assert_eq!(d.only_in_memory(), on_their_way.len(), "seed {seed}");
        assert_eq!(left + on_their_way.len(), admitted - dropped - settled, "seed {seed}");
        assert_eq!(d.frames(), on_their_way.len(), "seed {seed}");
    }
}

#[test]
fn beyond_the_window_a_frame_is_a_number_until_it_is_loaded_in_its_order() {
    let mut d = dispatcher(u64::MAX, usize::MAX);
    let (now, a) = (Instant::now(), id("a"));
    let most = WINDOW as Seq;
    for seq in 1..=most + 10 {
        assert!(d.expect(&a, 1, 0));
        d.durable(spooled("a", seq, 1), 0);
    }
    assert_eq!((d.frames(), d.taken_up_to(&a), d.load(&a)), (WINDOW, most, None));

    // Outcomes alone make no room: they have to be committed.
    for seq in 1..=most {
        let sent = job(d.pull(now, 0));
        assert_eq!(sent.seq, seq);
        end(&mut d, &sent);
    }
    assert!(matches!(d.pull(now, 0), Pulled::Empty));
    assert_eq!((d.frames(), d.load(&a)), (0, None));
    d.committed(&a, SeqRange { first: 1, last: most / 2 - 1 });
    assert_eq!(d.load(&a), None);
    d.committed(&a, SeqRange::one(most / 2));
    assert_eq!(d.load(&a), Some((most, WINDOW / 2)));
    // Asked once, and what comes to the disk before the answer is part of it.
    assert_eq!(d.load(&a), None);
    d.durable(spooled("a", most + 11, 1), 0);
    d.loaded(&a, (most + 1..=most + 11).map(|seq| found("a", seq, 1)), false);
    assert_eq!(d.taken_up_to(&a), most + 11);
    // A load may be faster than the word that a frame is on disk.
    d.durable(spooled("a", most + 11, 1), 0);
    // Nothing lies beyond any more: what comes now is taken at once.
    d.durable(spooled("a", most + 12, 1), 0);
    for seq in most + 1..=most + 12 {
        let sent = job(d.pull(now, 0));
        assert_eq!((sent.seq, sent.body.is_some(), sent.carried), (seq, seq == most + 12, false));
    }
}

#[test]
fn the_oldest_frames_of_an_earlier_run_may_have_been_carried_and_the_others_not() {
    let mut d = dispatcher(u64::MAX, usize::MAX);
    let (now, a) = (Instant::now(), id("a"));
    let most = WINDOW as Seq;
    d.recovered(&a);
    assert_eq!(d.load(&a), Some((0, WINDOW)));
    d.loaded(&a, (1..=most).map(|seq| found("a", seq, 1)), true);
    assert!(d.drop_oldest(&a, 1).is_empty(), "an attempt may have carried them");
    for _ in 0..WINDOW {
        let sent = job(d.pull(now, 0));
        assert!(sent.carried);
        end(&mut d, &sent);
    }
    d.committed(&a, SeqRange { first: 1, last: most });
    assert_eq!(d.load(&a), Some((most, WINDOW)));
    d.loaded(&a, [found("a", most + 1, 1), found("a", most + 2, 1)], false);
    assert!(!job(d.pull(now, 0)).carried);
    assert_eq!(seqs(&d.drop_oldest(&a, 1_000)), [most + 2]);
    // What is dropped keeps its place as well, until that is committed.
    assert_eq!(d.held_by(&a), 2);
    d.committed(&a, SeqRange::one(most + 2));
    assert_eq!(d.held_by(&a), 1);
    // Few of them: then what follows is of this run.
    let b = id("b");
    d.recovered(&b);
    assert_eq!(d.load(&b), Some((0, WINDOW)));
    d.loaded(&b, [found("b", 1, 1)], false);
    d.durable(spooled("b", 2, 1), 0);
    assert_eq!(seqs(&d.drop_oldest(&b, 1_000)), [2]);
    d.committed(&b, SeqRange::one(2));
    for seq in 3..=most + 3 {
        d.durable(spooled("b", seq, 1), 0);
    }
    assert_eq!(d.taken_up_to(&b), most + 1);
    for _ in 0..=WINDOW / 2 {
        let sent = job(d.pull(now, 0));
        end(&mut d, &sent);
    }
    d.committed(&b, SeqRange { first: 1, last: most });
    assert_eq!(d.load(&b), Some((most + 1, WINDOW / 2 + 1)));
    d.loaded(&b, [found("b", most + 2, 1)], true);
    let carried = |pulled| match pulled {
        Pulled::Job(job) => Some((job.seq, job.carried)),
        _ => None,
    };
    let rest: Vec<_> = std::iter::from_fn(|| carried(d.pull(now, 0))).collect();
    assert_eq!(rest.last(), Some(&(most + 2, false)));
}

#[test]
fn bodies_are_a_cache_that_gives_way() {
    let mut d = dispatcher(100, 100);
    let (now, a) = (Instant::now(), id("a"));
    for seq in 1..=6 {
        assert!(d.expect(&a, 20, 0));
        d.durable(spooled("a", seq, 20), 0);
    }
    assert_eq!((d.bytes(), d.frames()), (100, 5), "the fifth made room for the sixth");
    d.durable(spooled("a", 7, 20), 20);
    assert_eq!((d.bytes(), d.frames()), (100, 5), "the seventh lies on disk only");
    // A picture that comes needs room, and the newest body will be needed last.
    assert!(d.expect(&a, 20, 0));
    assert_eq!((d.bytes(), d.frames()), (80, 4));
    d.refused(&a, 20);
    // Memory is full of what is on its way to the disk: what goes to the bucket has to be read again all the same.
    let sent: Vec<TestJob> = (0..4).map(|_| job(d.pull(now, 20))).collect();
    assert!(sent.iter().all(|job| job.body.is_some()));
    assert!(matches!(d.pull(now, 20), Pulled::Empty), "no room while four are on their way");
    end(&mut d, &sent[0]);
    let fifth = job(d.pull(now, 20));
    assert!(fifth.seq == 5 && fifth.body.is_none() && d.bytes() == 80);
    // A frame that comes back keeps its body only where there is room.
    for sent in sent.into_iter().skip(1) {
        d.put_back(sent, now, 100);
    }
    assert_eq!((d.bytes(), d.frames()), (20, 1));
    d.put_back(fifth, now, 0);
    assert_eq!((d.bytes(), d.frames()), (0, 0));
    // With no room at all one goes on its way.
    assert_eq!(job(d.pull(now, 1_000)).seq, 2);
    assert!(matches!(d.pull(now, 1_000), Pulled::Empty));
}

#[test]
fn pictures_on_their_way_to_the_disk_leave_room_for_those_that_are_read_back() {
    let mut d = dispatcher(100, 100);
    let a = id("a");
    assert!(d.expect(&a, 40, 29));
    assert!(!d.expect(&a, 41, 29));
    assert!(d.expect(&a, 1_000, 0), "one may always");
    assert_eq!(d.held_by(&a), 2);
    d.refused(&a, 40);
    d.refused(&a, 1_000);
    assert!(d.cameras.is_empty());
    assert_eq!(d.expecting, 0);
}

#[test]
fn a_flood_on_its_way_to_the_disk_takes_no_room_of_cameras_below_their_share() {
    let mut d = dispatcher(16_000, 1_000);
    let (flood, mut pending) = (id("flood"), 0);
    while d.expect(&flood, 100, pending) {
        pending += 100;
    }
    // Alone it has three quarters of the budget, but for the part that is kept.
    assert_eq!(pending, 11_000);
    // Whatever comes and goes, ten cameras with a frame now and then find room, and the flood has the rest.
    let mut quiet_lost = 0;
    let mut waiting = VecDeque::from(vec![flood.clone(); 110]);
    for round in 0..1_000 {
        let quiet = id(&format!("quiet{}", round % 10));
        if d.expect(&quiet, 100, pending) {
            pending += 100;
            waiting.push_back(quiet);
        } else {
            quiet_lost += 1;
        }
        // The disk takes two for each that comes of them.
        for _ in 0..2 {
            let camera = waiting.pop_front().unwrap();
            d.refused(&camera, 100);
            pending -= 100;
        }
        for _ in 0..10 {
            if d.expect(&flood, 100, pending) {
                pending += 100;
                waiting.push_back(flood.clone());
            }
        }
    }
    assert_eq!((quiet_lost, waiting.len()), (0, 110));
    // Two that flood alike share.
    for camera in waiting.drain(..) {
        d.refused(&camera, 100);
    }
    assert_eq!((d.expecting, d.cameras.len()), (0, 0));
    let (mut pending, mut taken) = (0, [0, 0]);
    for _ in 0..200 {
        for (place, name) in ["a", "b"].into_iter().enumerate() {
            if d.expect(&id(name), 100, pending) {
                pending += 100;
                taken[place] += 1;
            }
        }
    }
    assert_eq!(taken, [55, 55]);
}

#[test]
fn frames_that_wait_for_a_retry_do_not_stop_what_lies_beyond_them() {
    let mut d = dispatcher(u64::MAX, usize::MAX);
    let (now, a) = (Instant::now(), id("a"));
    let later = now + Duration::from_secs(60);
    let most = WINDOW as Seq;
    for seq in 1..=most + 100 {
        assert!(d.expect(&a, 1, 0));
        d.durable(spooled("a", seq, 1), 0);
    }
    for seq in 1..most {
        let refused = job(d.pull(now, 0));
        assert_eq!((refused.seq, d.load(&a)), (seq, None));
        d.put_back(refused, later, 0);
    }
    // One place is left, through which all that follows can go.
    for seq in most..=most + 100 {
        let sent = job(d.pull(now, 0));
        assert_eq!(sent.seq, seq);
        end(&mut d, &sent);
        assert_eq!(d.load(&a), None, "its place is taken until its outcome is committed");
        d.committed(&a, SeqRange::one(seq));
        if seq < most + 100 {
            assert_eq!(d.load(&a), Some((seq, 1)));
            d.loaded(&a, [found("a", seq + 1, 1)], seq + 1 < most + 100);
        }
    }
    assert_eq!((d.load(&a), d.held_by(&a)), (None, WINDOW - 1));
}

#[test]
fn a_backlog_on_disk_does_not_hold_up_what_lives_in_memory_alone() {
    let mut d = dispatcher(10_000, 1_000);
    let (now, a) = (Instant::now(), id("a"));
    d.recovered(&a);
    assert_eq!(d.load(&a), Some((0, WINDOW)));
    d.loaded(&a, (1..=200).map(|seq| found("a", seq, 10)), false);
    for seq in 201..=206 {
        assert!(d.admit(frame("a", seq, 10)).is_empty());
    }
    let sent: Vec<Seq> = (0..10).map(|_| job(d.pull(now, 0)).seq).collect();
    assert_eq!(sent, [201, 202, 203, 1, 204, 205, 206, 2, 3, 4]);
    // Where memory has no room for what lies on disk, what is there goes all the same.
    let mut d = dispatcher(100, 1_000);
    d.recovered(&a);
    assert_eq!(d.load(&a), Some((0, WINDOW)));
    d.loaded(&a, (1..=10).map(|seq| found("a", seq, 10)), false);
    for seq in 11..=20 {
        assert!(d.admit(frame("a", seq, 10)).is_empty());
    }
    let sent: Vec<Seq> = (0..10).map(|_| job(d.pull(now, 0)).seq).collect();
    assert_eq!(sent, (11..=20).collect::<Vec<_>>());
    assert!(matches!(d.pull(now, 0), Pulled::Empty));
}

/// A camera's frames on a disk that is told of outcomes late, and asked late.
#[derive(Default)]
struct Disk {
    next: Seq,
    /// Not durable yet.
    pending: Vec<Seq>,
    live: BTreeSet<Seq>,
    load: Option<(Seq, usize)>,
    /// Outcomes that are not committed.
    ended: BTreeSet<Seq>,
    attempted: BTreeSet<Seq>,
    over: BTreeSet<Seq>,
}

/// Whatever the spool, the workers and the journal do, and in which order: every frame on disk ends exactly once, none
/// is on its way twice, memory stays within its budget, and what was attempted and not committed is among the oldest
/// unresolved frames, which is all that a recovery can know.
#[test]
fn random_use_of_a_backlog_forgets_nothing_and_takes_nothing_twice() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (bytes, now) = (20_000, Instant::now());
        let mut d = dispatcher(bytes, 200);
        let mut disks: BTreeMap<&str, Disk> = ["a", "b"].into_iter().map(|name| (name, Disk::default())).collect();
        let mut on_their_way: Vec<TestJob> = Vec::new();
        // Given to the journal, which may commit it before the dispatcher has forgotten it.
        let mut ending: Vec<TestJob> = Vec::new();
        let mut pending = 0;
        let mut loads = 0;
        let steps = 12_000;
        for step in 0.. {
            let closing = step > steps;
            let over = disks.values().all(|disk| disk.pending.is_empty() && disk.live.is_empty()) && ending.is_empty();
            if closing && over {
                break;
            }
            assert!(step < 20 * steps, "seed {seed}: it came to a standstill: {d:?}");
            let name = ["a", "a", "b"][rng.usize(0..3)];
            let camera = id(name);
            let disk = disks.get_mut(name).unwrap();
            match rng.u8(0..12) {
                0..=3 if !closing => {
                    let size = 100;
                    if d.expect(&camera, size, pending) {
                        disk.next += 1;
                        disk.pending.push(disk.next);
                        pending += size;
                    }
                }
                4 => {
                    for seq in disk.pending.drain(..) {
                        pending -= 100;
                        disk.live.insert(seq);
                        d.durable(spooled(name, seq, 100), pending);
                    }
                }
                5 => {
                    if let Some((after, limit)) = disk.load.take() {
                        assert_eq!(after, d.taken_up_to(&camera), "seed {seed}");
                        let mut rest = disk.live.range(after + 1..);
                        let next: Vec<Seq> = rest.by_ref().take(limit).copied().collect();
                        let more = rest.next().is_some();
                        d.loaded(&camera, next.into_iter().map(|seq| found(name, seq, 110)), more);
                        loads += 1;
                    }
                }
                6 | 7 => {
                    if let Pulled::Job(mut job) = d.pull(now, pending) {
                        let disk = disks.get_mut(job.camera.as_str()).unwrap();
                        assert!(disk.live.contains(&job.seq) && !disk.ended.contains(&job.seq), "seed {seed}");
                        let twice =
                            on_their_way.iter().any(|other| (other.seq, &other.camera) == (job.seq, &job.camera));
                        assert!(!twice, "seed {seed}: {job:?}");
                        job.body = rng.bool().then_some(()).or(job.body);
                        disk.attempted.insert(job.seq);
                        on_their_way.push(job);
                    }
                }
                8 if !on_their_way.is_empty() => {
                    let job = on_their_way.swap_remove(rng.usize(0..on_their_way.len()));
                    if rng.u8(0..4) == 0 {
                        d.put_back(Job { carried: rng.bool(), ..job }, now, pending);
                    } else {
                        d.ends(&job);
                        disks.get_mut(job.camera.as_str()).unwrap().ended.insert(job.seq);
                        ending.push(job);
                    }
                }
                9 if !ending.is_empty() => {
                    d.settled(&ending.swap_remove(rng.usize(0..ending.len())));
                }
                10 => {
                    let ended: Vec<Seq> = disk.ended.iter().copied().filter(|_| rng.bool()).collect();
                    for seq in ended {
                        disk.ended.remove(&seq);
                        disk.live.remove(&seq);
                        assert!(disk.over.insert(seq), "seed {seed}: {seq} ended twice");
                        d.committed(&camera, SeqRange::one(seq));
                    }
                }
                11 if rng.u8(0..20) == 0 => {
                    for job in d.drop_oldest(&camera, rng.u64(1..1_000)) {
                        assert!(!job.carried && disk.live.contains(&job.seq), "seed {seed}");
                        assert!(disk.ended.insert(job.seq), "seed {seed}: {job:?}");
                    }
                }
                _ => {}
            }
            for (name, disk) in &mut disks {
                if let Some(load) = d.load(&id(name)) {
                    assert!(disk.load.replace(load).is_none(), "seed {seed}");
                }
                if step % 50 == 0 {
                    let oldest: BTreeSet<Seq> = disk.live.iter().take(WINDOW).copied().collect();
                    let lost_track = disk.attempted.intersection(&disk.live).find(|seq| !oldest.contains(seq));
                    assert_eq!(lost_track, None, "seed {seed}");
                }
            }
            assert!(d.bytes() + pending <= bytes + 110 && d.frames() <= 201, "seed {seed}: {} {pending}", d.bytes());
            let needed: u64 = on_their_way.iter().chain(&ending).map(|job| job.bytes).sum();
            assert_eq!(d.needed(), (d.on_their_way(), needed), "seed {seed}");
            assert_eq!(d.on_their_way(), on_their_way.len() + ending.len(), "seed {seed}");
        }
        for (name, disk) in &disks {
            assert_eq!(disk.over.len() as Seq, disk.next, "seed {seed}: {name}");
            assert_eq!(d.held_by(&id(name)), 0, "seed {seed}: {name}");
            assert_eq!(d.taken_up_to(&id(name)), disk.next, "seed {seed}: {name}");
        }
        assert!(loads >= 5, "seed {seed}: {loads} loads");
        assert_eq!((d.frames(), d.bytes(), d.needed()), (0, 0, (0, 0)), "seed {seed}");
    }
}

#[test]
fn probes_go_round_the_cameras_and_take_the_oldest_whatever_its_time() {
    let mut d = dispatcher(1_000_000, 100);
    let now = Instant::now();
    for seq in 1..=3 {
        d.durable(spooled("a", seq, 10), 0);
        d.durable(spooled("b", seq, 10), 0);
    }
    let first = job(d.pull(now, 0));
    let camera = first.camera.clone();
    d.put_back(Job { failures: 3, ..first }, now + Duration::from_secs(60), 0);
    let mut probe = || d.pull_probe(0).map(|job| (job.camera, job.seq)).unwrap();
    let probes: Vec<(CameraId, Seq)> = (0..4).map(|_| probe()).collect();
    let other = if camera == id("a") { id("b") } else { id("a") };
    let turns = |first: &CameraId, second: &CameraId| {
        [(first.clone(), 1), (second.clone(), 1), (first.clone(), 2), (second.clone(), 2)]
    };
    assert!(probes == turns(&camera, &other) || probes == turns(&other, &camera), "{probes:?}");
    assert_eq!((probe().1, probe().1), (3, 3));
    assert!(d.pull_probe(0).is_none() && !d.is_waiting());
    assert_eq!(d.on_their_way(), 6);
}

#[test]
fn a_frame_that_the_disk_did_not_give_is_the_last_to_probe_with() {
    let mut d = dispatcher(1_000_000, 100);
    let now = Instant::now();
    (1..=2).for_each(|seq| d.durable(spooled("a", seq, 10), 0));
    let first = job(d.pull(now, 0));
    d.put_back(Job { unreadable: 1, body: None, ..first }, now, 0);
    assert_eq!(d.pull_probe(0).unwrap().seq, 2);
    assert_eq!(d.pull_probe(0).unwrap().seq, 1);
}

#[test]
fn frames_that_always_fail_are_not_all_that_a_destination_is_tried_with() {
    let mut d = dispatcher(1_000_000, 1_000);
    let now = Instant::now();
    (1..=200).for_each(|seq| d.durable(spooled("a", seq, 10), 0));
    let mut probe = || {
        let job = d.pull_probe(0).unwrap();
        let seq = job.seq;
        d.put_back(job, now, 0);
        seq
    };
    assert_eq!((0..6).map(|_| probe()).collect::<Vec<Seq>>(), [1, 2, 3, 4, 1, 5]);
    // In ten minutes a probe a second reaches few of them, but more than ever fail by themselves.
    let tried: BTreeSet<Seq> = (0..600).map(|_| probe()).collect();
    assert!((60..80).contains(&tried.len()), "{} frames", tried.len());
    assert_eq!(tried, (1..=tried.len() as Seq).collect());
}

#[test]
fn without_room_a_probe_takes_what_is_in_memory() {
    let mut d = dispatcher(20, 100);
    assert!(d.admit(frame("a", 9, 10)).is_empty());
    assert!(d.load(&id("a")).is_none());
    d.recovered(&id("a"));
    d.load(&id("a")).unwrap();
    d.loaded(&id("a"), [found("a", 1, 10), found("a", 2, 10)], false);
    assert_eq!(d.pull_probe(0).unwrap().seq, 1);
    assert_eq!(d.pull_probe(0).unwrap().seq, 9, "one that is in memory needs no room");
    assert!(d.pull_probe(0).is_none());
}
