//! The daemon starts over a spool that lies damaged on its disk: it becomes ready, tells what is gone, and stores the
//! rest.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use super::super::stage::{BUCKET, add_synthetic, bucket, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Watch, gauge, percentile, round};
use crate::daemon::{Credentials, Storage};
use crate::gcs::{GcsServer, Knobs, Options};
use crate::oracle::Entry;
use crate::spooled::records;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// How many damaged spools. Case n has the seed `seed + n`.
    pub cases: u64,
    /// Seeds that are tried first.
    pub also: &'static [u64],
    /// How many synthetic cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// Frames in the spool of each camera at least.
    pub frames: u64,
    /// In what time it must be ready.
    pub ready: Duration,
    /// Seed of the first case.
    pub seed: u64,
}

/// What befalls a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Damage {
    /// Bits of any of its segments.
    Flips,
    /// The end of a segment is missing.
    Cut,
    /// A stretch of a segment is filled with anything.
    Stretch,
    /// Files that are no segments of it lie beside its own.
    Foreign,
    /// A segment has the bytes of another.
    Swapped,
    /// A segment is gone.
    Gone,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn damaged(stage: &Stage, plan: &Damaged) -> anyhow::Result<Outcome> {
    let config = format!(
        "{}[spool]\nsegment = \"1MiB\"\nmax_bytes = \"1GiB\"\n[upload]\nretry_max = \"1s\"\n",
        stage.synthetic()?
    );
    let ids = fill(stage, plan, &config)?;
    let whole = stage.dir().join("whole/state");
    let before = records(&whole.join("spool"))?.len();

    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let (mut ready, mut lost, mut told, mut newest, mut faults) = (Vec::new(), 0, 0, 0, 0);
    let mut kinds = BTreeMap::<String, u64>::new();
    for seed in plan.also.iter().copied().chain(plan.seed..plan.seed + plan.cases) {
        let case = case(stage, plan, &config, &ids, seed, &mut watch, &mut problems);
        let case = case.with_context(|| format!("SEED={seed} ROUNDS=1"))?;
        *kinds.entry(format!("{:?}", case.damage).to_lowercase()).or_default() += 1;
        ready.push(case.ready.as_secs_f64());
        lost += case.lost;
        told += u64::from(case.told > 0);
        newest += u64::from(case.newest);
        faults += case.faults;
        problems.check(case.ready <= plan.ready, || format!("SEED={seed}: ready after {:.1?}", case.ready));
    }
    problems.check(lost > 0 && told > 0, || format!("{lost} frames were lost, and {told} times a metric has said so"));
    let bound = format!(
        "{} starts over damaged spools: ready within {:?} each, accounts exact, what is gone is told, the rest is stored",
        ready.len(),
        plan.ready
    );
    let figure = json!({
        "starts": ready.len(),
        "records_in_each": before,
        "kinds": kinds,
        "frames_lost": lost,
        "starts_with_damage_in_the_metric": told,
        "starts_with_the_newest_segment_touched": newest,
        "ready_p50_s": round(percentile(&mut ready, 0.5)?),
        "ready_max_s": round(percentile(&mut ready, 1.0)?),
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, faults))
}

/// Has a daemon without a bucket fill its spool, and kills it.
fn fill(stage: &Stage, plan: &Damaged, config: &str) -> anyhow::Result<Vec<String>> {
    let (gcs, storage) = bucket(stage, Knobs { refuse_status: Some(503), ..Knobs::default() })?;
    let mut daemon = stage.daemon_in("whole", &storage, config)?;
    let specs: Vec<Synthetic> =
        (0..plan.cameras).map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(plan.fps)).collect();
    let ids = add_synthetic(&daemon, &specs)?;
    for id in &ids {
        daemon.wait_for(id, Duration::from_secs(60), |status| status.totals.captured >= plan.frames)?;
    }
    daemon.kill()?;
    drop(gcs);
    Ok(ids)
}

/// What came of a case.
struct Case {
    damage: Damage,
    ready: Duration,
    lost: u64,
    /// Damage that the metric tells of.
    told: u64,
    newest: bool,
    faults: u64,
}

fn case(
    stage: &Stage,
    plan: &Damaged,
    config: &str,
    ids: &[String],
    seed: u64,
    watch: &mut Watch,
    problems: &mut Problems,
) -> anyhow::Result<Case> {
    let name = format!("case-{seed}");
    let root = Some(stage.dir().join(&name).join("bucket"));
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], root, ..Options::default() })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    let mut daemon = stage.prepare_in(&name, &storage, config)?;
    let state = daemon.dir().join("state");
    copy(&stage.dir().join("whole/state"), &state)?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let Spoilt { damage, faults, newest } = spoil(&state.join("spool/default"), &mut rng)?;

    let begun = Instant::now();
    daemon.run()?;
    let ready = begun.elapsed();
    *watch = Watch { looks: watch.looks, ..Watch::default() };
    let pid = daemon.pid();
    watch.look(&daemon, problems)?;
    daemon.quiesce(Duration::from_secs(60)).map_err(|error| daemon.explain(error))?;
    let totals = watch.look(&daemon, problems)?;
    let told = gauge(&daemon, "framehaul_spool_corrupt_records_total")? as u64;
    let mut gone = 0;
    for id in ids {
        let (verdict, entries) = examine(&daemon, &storage, id, problems)?;
        // Frames behind the last one that can be read nobody knows of: their seqs are given again.
        problems.check(newest || verdict.frames + verdict.tombstoned >= plan.frames, || {
            format!("SEED={seed}, {damage:?}: camera {id}: its list forgets frames: {verdict:?}")
        });
        for entry in entries {
            let Entry::Tombstone { seq, last, reason, .. } = entry else { continue };
            gone += last - seq + 1;
            problems.check(matches!(reason.as_str(), "crash" | "damaged"), || {
                format!("SEED={seed}, {damage:?}: camera {id}: {seq} to {last} lost({reason})")
            });
        }
    }
    problems.check(gone == totals.lost, || format!("SEED={seed}, {damage:?}: {gone} tombstoned, {totals:?}"));
    // What no file holds any more nobody can call damaged, and the newest segment's end may be one that was never
    // written.
    let log = daemon.log_text();
    let said = told > 0
        || damage == Damage::Gone
        || log.contains("an unfinished end is cut off")
        || log.contains("a segment of somebody else is left alone");
    problems.check(gone == 0 || said, || format!("SEED={seed}, {damage:?}: {gone} frames are lost without a word"));
    let living = daemon.pid() == pid && daemon.get("/readyz").is_ok();
    problems.check(living, || format!("SEED={seed}, {damage:?}: the daemon does not live"));
    let status = daemon.stop()?;
    problems.check(status.success(), || format!("SEED={seed}, {damage:?}: it ends with {status}"));
    fs::remove_dir_all(stage.dir().join(&name)).context("cannot remove the case")?;
    Ok(Case { damage, ready, lost: gone, told, newest, faults })
}

/// What was done to a spool.
struct Spoilt {
    damage: Damage,
    /// In how many places.
    faults: u64,
    /// Whether the newest segment was touched.
    newest: bool,
}

/// Spoils the segments in a directory.
fn spoil(dir: &Path, rng: &mut fastrand::Rng) -> anyhow::Result<Spoilt> {
    let mut segments: Vec<PathBuf> =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    segments.sort();
    ensure!(segments.len() >= 3, "there are {} segments in {}", segments.len(), dir.display());
    let kinds = [Damage::Flips, Damage::Cut, Damage::Stretch, Damage::Foreign, Damage::Swapped, Damage::Gone];
    let damage = *rng.choice(&kinds).context("there are some")?;
    let path = segments[rng.usize(..segments.len())].clone();
    let size = fs::metadata(&path)?.len();
    let open = |path: &Path| fs::File::options().read(true).write(true).open(path);
    let (mut faults, mut newest) = (1, segments.last() == Some(&path));
    match damage {
        Damage::Flips => {
            faults = rng.u64(1..30);
            newest = false;
            for _ in 0..faults {
                let path = &segments[rng.usize(..segments.len())];
                let (file, at) = (open(path)?, rng.u64(..fs::metadata(path)?.len()));
                newest |= segments.last() == Some(path);
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[byte[0] ^ 1 << rng.u32(..8)], at)?;
            }
        }
        Damage::Cut => open(&path)?.set_len(rng.u64(..size))?,
        Damage::Stretch => {
            let at = rng.u64(..size);
            let length = rng.u64(1..=size - at);
            let (fill, noise) = (rng.u8(..), rng.bool());
            let bytes: Vec<u8> = (0..length).map(|_| if noise { rng.u8(..) } else { fill }).collect();
            open(&path)?.write_all_at(&bytes, at)?;
        }
        Damage::Foreign => {
            let noise: Vec<u8> = (0..rng.usize(1..200_000)).map(|_| rng.u8(..)).collect();
            fs::write(dir.join(format!("{:012}.segment", rng.u64(1_000..2_000))), &noise)?;
            fs::write(dir.join("000000000900.segment"), vec![0; rng.usize(..9_000)])?;
            fs::write(dir.join("notes.txt"), b"not a segment")?;
            fs::create_dir(dir.join("lost+found"))?;
            fs::create_dir(dir.join("000000000901.segment"))?;
            fs::copy(&path, dir.join("000000000902.segment"))?;
            let locked = dir.join("unreadable");
            fs::write(&locked, b"x")?;
            fs::set_permissions(&locked, fs::Permissions::from_mode(0o000))?;
            (faults, newest) = (7, false);
        }
        Damage::Swapped => {
            let other = segments.iter().find(|other| **other != path).context("there are several")?;
            fs::copy(other, &path)?;
        }
        Damage::Gone => fs::remove_file(&path)?,
    }
    Ok(Spoilt { damage, faults, newest })
}

/// Copies a directory with everything in it; what is no file or directory is left out.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &to).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
