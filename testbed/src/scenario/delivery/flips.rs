//! Bits that change on the way to the bucket: what is damaged is refused there and sent again.

use std::time::Duration;

use serde_json::json;

use super::super::spool::Watch;
use super::super::stage::{BUCKET, add_synthetic, bucket, examine};
use super::super::{Outcome, Problems, Stage};
use super::{frames_and_manifests, synthetic};
use crate::daemon::{Credentials, Storage};
use crate::gcs::Knobs;
use crate::proxy::{Fault, Options, Proxy, Script, Way};

/// What an upload's body holds beside the picture, bytes, more or less: metadata, checksums, boundaries.
const AROUND: u64 = 700;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Flips {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// Bytes to change, at the least.
    pub flips: u64,
    /// The share of bodies in which one is changed. A frame that is refused four times counts as rejected for good, so
    /// its fourth power times the number of frames must be far below one.
    pub share: f64,
    /// The share of the flips that the bucket must have found by a checksum: the rest meets what is said around a picture.
    pub found: f64,
    /// Decides which.
    pub seed: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn flips(stage: &Stage, plan: &Flips) -> anyhow::Result<Outcome> {
    let (gcs, direct) = bucket(stage, Knobs::default())?;
    let flip = Fault::Flip { way: Way::ToServer, within: plan.bytes as u64 + AROUND };
    let script = Script { seed: plan.seed, ..Script::some(plan.share, flip) };
    let target = gcs.endpoint().trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(Options { port: 0, target, script })?;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let storage = Storage::Gcs { endpoint, bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    let daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let ids = add_synthetic(&daemon, &synthetic("cam", plan.cameras, plan.fps, plan.bytes))?;
    let (mut problems, mut watch) = (Problems::default(), Watch::default());
    let expected = plan.flips as f64 / plan.share / (plan.fps * plan.cameras as f64);
    let patience = Duration::from_secs_f64(60.0 + 3.0 * expected);
    watch.until(&daemon, patience, &mut problems, |_| proxy.stats().injected.flips >= plan.flips)?;
    daemon.quiesce(Duration::from_secs(120)).map_err(|error| daemon.explain(error))?;
    let (flipped, stats) = (proxy.stats().injected.flips, gcs.stats());

    let mut stored = 0;
    for id in &ids {
        // What lies in the bucket, not what may be damaged on the way back.
        let (verdict, _) = examine(&daemon, &direct, id, &mut problems)?;
        stored += verdict.frames;
        problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
    }
    let (objects, manifests) = frames_and_manifests(&gcs);
    problems.check(objects.len() as u64 == stored, || format!("{} objects for {stored} frames", objects.len()));
    problems.check(stats.checksum_failures as f64 >= plan.found * flipped as f64, || {
        format!("of {flipped} flips the bucket has found {}", stats.checksum_failures)
    });
    let odd = objects.iter().filter(|object| object.content_type != "image/jpeg").count();
    let bound = format!(
        "{} bytes changed in the bodies of uploads, on plain HTTP: 0 corrupt objects, every frame stored",
        plan.flips
    );
    let figure = json!({
        "flips": flipped,
        "stored": stored,
        "refused_for_their_checksum": stats.checksum_failures,
        // A byte of what is said about the picture, which no checksum covers.
        "objects_with_another_content_type": odd,
        "manifests": manifests,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, flipped))
}
