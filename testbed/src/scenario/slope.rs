//! What one more camera costs the daemon itself, with few cameras and with many.
//!
//! The cameras are synthetic, so that the machine has time left: what is measured is the daemon's own process, not the
//! capture processes. It has a processor to itself where there are several: what a wake-up costs depends on who was
//! there before. Each number of cameras has a daemon of its own, since memory that was needed once is not always given
//! back; the numbers take turns, each round in the opposite order, so that what changes about the machine meanwhile
//! meets all of them.
//!
//! Frames that come together share wake-ups and commits, up to a hundred of these a second: a further camera costs less
//! there. So the slopes are judged where frames are too few for that, whatever the number of cameras: what is done for
//! all cameras at each frame of one, or every second, shows there, and makes the second slope steeper.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::stage::{BUCKET, add_synthetic};
use super::{Outcome, Problems, Stage};
use crate::contest::processors::Apart;
use crate::contest::{Spread, round, trial};
use crate::daemon::{Credentials, Daemon, Status, Storage, wait};
use crate::gcs::{GcsServer, Options};
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Slope {
    /// The numbers of cameras between which the slopes are taken: from the first to the second, and on to the third.
    pub ends: [usize; 3],
    /// Other numbers, for the picture.
    pub between: Vec<usize>,
    /// Frames a second of each camera.
    pub fps: f64,
    /// Bytes of each picture.
    pub bytes: usize,
    /// From when all of them stream to when it is measured.
    pub settle: Duration,
    /// How long it is measured: a multiple of the time from one frame of a camera to its next, or chance would decide how
    /// many of them come in it.
    pub lasts: Duration,
    /// How often each number has its turn.
    pub rounds: usize,
    /// By what share of the first slope the second may differ from it.
    pub most_change: f64,
}

impl Slope {
    /// Small cameras, of a frame in five seconds each.
    pub fn small() -> Self {
        Self {
            ends: [1, 50, 200],
            between: Vec::new(),
            fps: 0.2,
            bytes: 20_000,
            settle: Duration::from_secs(5),
            lasts: Duration::from_secs(20),
            rounds: 5,
            most_change: 0.10,
        }
    }
}

/// What the daemon took with so many cameras.
#[derive(Debug, Clone)]
pub struct Weight {
    /// So many.
    pub cameras: usize,
    /// Frames that got their seq, a second.
    pub frames_per_s: Spread,
    /// Processor time of all its threads, milliseconds a second.
    pub processor_ms_per_s: Spread,
    /// Memory that it shares with no other process, MB (10^6 bytes).
    pub private_mb: Spread,
    /// Resident memory, MB.
    pub resident_mb: Spread,
}

/// What one more camera costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slopes {
    /// From the first number of cameras to the second.
    pub below: f64,
    /// From the second to the third.
    pub above: f64,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Weighed {
    /// By the number of cameras, rising.
    pub weights: Vec<Weight>,
    /// Milliseconds a second of each further camera.
    pub processor_ms_per_s: Slopes,
    /// MB of each further camera, private.
    pub private_mb: Slopes,
}

/// How long cameras may take until all of them stream: eight are started a second for each processor.
const STREAM_WITHIN: Duration = Duration::from_secs(120);
/// How often they are looked at meanwhile. Answers grow with the cameras, and what they need of memory is measured, too.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What each camera begins its pictures with is its own part of their interval.
const SEED: u64 = 20_261_124;

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn slope(stage: &Stage, plan: &Slope) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let weighed = weigh_all(stage, plan, &mut problems)?;
    for (what, slopes) in [("processor time", weighed.processor_ms_per_s), ("memory", weighed.private_mb)] {
        let change = slopes.change();
        problems.check(change.abs() <= plan.most_change, || {
            let Slopes { below, above } = slopes;
            format!("{what} of one more camera: {below:.4}, then {above:.4}: {:+.1} %", change * 1e2)
        });
    }
    let [first, second, third] = plan.ends;
    let bound = format!(
        "the daemon's processor time and private memory of one more camera at {} fps, from {first} to {second} and from \
         {second} to {third} cameras: at most {} % apart",
        plan.fps,
        plan.most_change * 1e2
    );
    Ok(problems.measured(bound, weighed.json(plan)))
}

/// Measures alone; cameras that fall behind are an error.
///
/// # Errors
///
/// When a part does not start or does not answer, or the machine is too slow for it.
pub fn weigh(stage: &Stage, plan: &Slope) -> anyhow::Result<Weighed> {
    let mut problems = Problems::default();
    let weighed = weigh_all(stage, plan, &mut problems)?;
    ensure!(problems.0.is_empty(), "{}", problems.0.join("; "));
    Ok(weighed)
}

fn weigh_all(stage: &Stage, plan: &Slope, problems: &mut Problems) -> anyhow::Result<Weighed> {
    let frames = plan.lasts.as_secs_f64() * plan.fps;
    ensure!((frames - frames.round()).abs() < 1e-6, "{:?} at {} fps are {frames} frames", plan.lasts, plan.fps);
    let mut sizes = [&plan.ends[..], &plan.between].concat();
    sizes.sort_unstable();
    sizes.dedup();
    let mut looks: Vec<Vec<Look>> = sizes.iter().map(|_| Vec::new()).collect();
    for nth in 0..plan.rounds {
        let mut turns: Vec<usize> = (0..sizes.len()).collect();
        if nth % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            let dir = format!("{}-{nth}", sizes[turn]);
            let look = look(stage, &dir, plan, sizes[turn], problems);
            looks[turn].push(look.with_context(|| format!("{} cameras, round {nth}", sizes[turn]))?);
        }
    }
    let of = |looks: &[Look], figure: fn(&Look) -> f64| Spread::of(looks.iter().map(figure).collect());
    let weights: Vec<Weight> = sizes
        .iter()
        .zip(&looks)
        .map(|(cameras, looks)| {
            Ok(Weight {
                cameras: *cameras,
                frames_per_s: of(looks, |look| look.frames_per_s)?,
                processor_ms_per_s: of(looks, |look| look.processor_ms_per_s)?,
                private_mb: of(looks, |look| look.private_mb)?,
                resident_mb: of(looks, |look| look.resident_mb)?,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let slopes = |figure: fn(&Weight) -> f64| {
        Slopes::of(plan.ends.map(|cameras| {
            let weight = weights.iter().find(|weight| weight.cameras == cameras).expect("each end has its turn");
            (cameras, figure(weight))
        }))
    };
    let processor_ms_per_s = slopes(|weight| weight.processor_ms_per_s.median);
    let private_mb = slopes(|weight| weight.private_mb.median);
    Ok(Weighed { weights, processor_ms_per_s, private_mb })
}

impl Slopes {
    /// Through three points, the cameras rising.
    fn of(points: [(usize, f64); 3]) -> Self {
        let slope = |(few, low): (usize, f64), (many, high): (usize, f64)| (high - low) / (many as f64 - few as f64);
        Self { below: slope(points[0], points[1]), above: slope(points[1], points[2]) }
    }

    /// By what share of the first one the second is higher; negative where it is lower.
    pub fn change(self) -> f64 {
        self.above / self.below - 1.0
    }

    fn json(self) -> Value {
        json!({ "below": round(self.below), "above": round(self.above), "change": round(self.change()) })
    }
}

impl Weighed {
    /// For a report.
    pub fn json(&self, plan: &Slope) -> Value {
        let weights = self.weights.iter().map(|weight| {
            json!({
                "cameras": weight.cameras,
                "frames_per_s": weight.frames_per_s.json(),
                "processor_ms_per_s": weight.processor_ms_per_s.json(),
                "private_mb": weight.private_mb.json(),
                "resident_mb": weight.resident_mb.json(),
            })
        });
        json!({
            "fps": plan.fps,
            "bytes": plan.bytes,
            "rounds": plan.rounds,
            "seconds": plan.lasts.as_secs_f64(),
            "by_cameras": weights.collect::<Value>(),
            "processor_ms_per_s_of_a_camera": self.processor_ms_per_s.json(),
            "private_mb_of_a_camera": self.private_mb.json(),
        })
    }
}

/// What one daemon took.
struct Look {
    frames_per_s: f64,
    processor_ms_per_s: f64,
    private_mb: f64,
    resident_mb: f64,
}

/// Measures a daemon with so many cameras.
fn look(stage: &Stage, dir: &str, plan: &Slope, cameras: usize, problems: &mut Problems) -> anyhow::Result<Look> {
    // Its own as well: what a server has heard of makes it slower.
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], discard: true, ..Options::default() })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    let mut daemon = stage.daemon_in(dir, &storage, &stage.synthetic()?)?;
    warm_up(&daemon, plan.bytes)?;
    let mut rng = fastrand::Rng::with_seed(SEED);
    let specs: Vec<Synthetic> = (0..cameras)
        .map(|nth| {
            let late_ms = (rng.f64() * 1e3 / plan.fps) as u64;
            Synthetic { late_ms, ..Synthetic::new(&format!("cam{nth}")).fps(plan.fps).bytes(plan.bytes) }
        })
        .collect();
    add_synthetic(&daemon, &specs)?;
    let streaming = wait(STREAM_WITHIN, || {
        let all = live(&daemon)?.iter().all(|(_, status)| status.state == "streaming" && status.totals.stored > 0);
        if !all {
            thread::sleep(LOOK_EVERY);
        }
        Ok(all.then_some(()))
    });
    streaming.map_err(|error| daemon.explain(error)).context("not all cameras came to stream")?;
    let _apart = Apart::keep(daemon.pid(), live(&daemon)?.iter().filter_map(|(_, status)| status.pid))?;
    thread::sleep(plan.settle);

    let before = live(&daemon)?;
    let (at, spent) = (Instant::now(), trial::Threads::of(daemon.pid())?);
    thread::sleep(plan.lasts);
    let spent = trial::Threads::of(daemon.pid())?.since(&spent);
    let seconds = at.elapsed().as_secs_f64();
    let private = trial::private_bytes(daemon.pid())?;
    let resident = daemon.resident_kib()? * 1_024;
    let after = live(&daemon)?;

    let frames = judge(plan, cameras, seconds, &before, &after, problems);
    end(&mut daemon)?;
    Ok(Look {
        frames_per_s: frames as f64 / seconds,
        processor_ms_per_s: spent.as_secs_f64() * 1e3 / seconds,
        private_mb: private as f64 / 1e6,
        resident_mb: resident as f64 / 1e6,
    })
}

/// Lets another camera have its frames stored, and go. What the daemon needs once, however many cameras it has, it needs
/// then; one slow camera would come to it late.
fn warm_up(daemon: &Daemon, bytes: usize) -> anyhow::Result<()> {
    let first = Synthetic::new("first").bytes(bytes).frames(100);
    add_synthetic(daemon, std::slice::from_ref(&first))?;
    let within = Duration::from_secs(60);
    daemon.wait_for(&first.name, within, |status| status.totals.stored >= first.frames)?;
    daemon.delete_camera(&first.name)?;
    daemon.wait_for(&first.name, within, |status| status.state == "deleted").map(drop)
}

/// All cameras but those that were deleted.
fn live(daemon: &Daemon) -> anyhow::Result<Vec<(String, Status)>> {
    Ok(daemon.statuses()?.into_iter().filter(|(_, status)| status.state != "deleted").collect())
}

/// What was measured must be the whole work: all cameras streamed all the time, and their frames were stored as they
/// came. Returns how many got their seq.
fn judge(
    plan: &Slope,
    cameras: usize,
    seconds: f64,
    before: &[(String, Status)],
    after: &[(String, Status)],
    problems: &mut Problems,
) -> u64 {
    let sum = |statuses: &[(String, Status)], of: fn(&Status) -> u64| -> u64 {
        statuses.iter().map(|(_, status)| of(status)).sum()
    };
    let grown = |of: fn(&Status) -> u64| sum(after, of) - sum(before, of);
    let (captured, stored) = (grown(|status| status.totals.captured), grown(|status| status.totals.stored));
    let expected = plan.fps * cameras as f64 * seconds;
    for (what, frames) in [("got a seq", captured), ("were stored", stored)] {
        // Of each camera one may be on its way at either end.
        problems.check((frames as f64 - expected).abs() <= 0.02 * expected + cameras as f64 + 1.0, || {
            format!("{cameras} cameras: {frames} frames {what} in {seconds:.1} s, {expected:.0} were given")
        });
    }
    let lost = sum(after, |status| status.totals.lost);
    problems.check(lost == 0, || format!("{cameras} cameras: {lost} frames were lost"));
    for ((id, before), (_, after)) in before.iter().zip(after) {
        problems.check(after.state == "streaming" && before.generation == after.generation, || {
            format!("{cameras} cameras: camera {id} did not stream all the time: {after:?}")
        });
    }
    captured
}

/// A daemon that is asked to end takes its capture processes along; killed, it would leave that to their pipes, into the
/// next one's time.
fn end(daemon: &mut Daemon) -> anyhow::Result<()> {
    let status = daemon.stop()?;
    ensure!(status.success(), "framehaul ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_that_changes_is_seen() {
        let straight = Slopes::of([(1, 3.0), (50, 52.0), (200, 202.0)]);
        assert_eq!(straight, Slopes { below: 1.0, above: 1.0 });
        assert_eq!(straight.change(), 0.0);
        // As what is done for all cameras at each frame of one.
        let bent = Slopes::of([1, 50, 200].map(|cameras| (cameras, (cameras + cameras * cameras / 100) as f64)));
        assert!(bent.change() > 1.0, "{bent:?}");
        let flat = Slopes::of([(1, 3.0), (50, 52.0), (200, 152.0)]);
        assert!(flat.change() < -0.3, "{flat:?}");
    }
}
