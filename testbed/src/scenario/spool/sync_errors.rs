//! The spool's disk refuses a sync now and then while cameras stream: what was being written goes elsewhere, and nobody
//! notices but the metrics.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::super::stage::{add_synthetic, bucket, counter, examine};
use super::super::{Outcome, Problems, Stage};
use super::Watch;
use crate::daemon::Daemon;
use crate::gcs::Knobs;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct SyncErrors {
    /// The first sync that fails; those of the start come before.
    pub first: u32,
    /// After how many others the next one does.
    pub every: u32,
    /// How many synthetic cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// How many syncs must have failed.
    pub faults: u64,
}

/// Numbers of segments whose syncs may fail: more than are made.
const SEGMENTS: u64 = 400;

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer, strace among them.
pub fn sync_errors(stage: &Stage, plan: &SyncErrors) -> anyhow::Result<Outcome> {
    let (_gcs, storage) = bucket(stage, Knobs { latency_ms: 20, ..Knobs::default() })?;
    let dir = stage.dir().join("refused");
    let log = stage.dir().join("strace.log");
    let program = wrapper(stage, plan, &dir, &log)?;
    let config = format!("{}[spool]\nsegment = \"1MiB\"\nmax_bytes = \"1GiB\"\n", stage.synthetic()?);
    let mut daemon = Daemon::start(&program, &dir, &storage, &config)?;
    let pid = daemon.pid();
    let specs: Vec<Synthetic> =
        (0..plan.cameras).map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(plan.fps)).collect();
    let ids = add_synthetic(&daemon, &specs)?;
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let injected = || anyhow::Ok(fs::read_to_string(&log)?.matches("(INJECTED)").count() as u64);
    let patience = Duration::from_secs(90);
    crate::daemon::wait(patience, || {
        watch.look(&daemon, &mut problems).map_err(|error| daemon.explain(error))?;
        Ok((injected()? >= plan.faults).then_some(()))
    })
    .with_context(|| format!("{} syncs that fail, of {}", injected().unwrap_or(0), plan.faults))?;
    daemon.quiesce(patience).map_err(|error| daemon.explain(error))?;
    let totals = watch.look(&daemon, &mut problems)?;
    for id in &ids {
        examine(&daemon, &storage, id, &mut problems)?;
    }
    let faults = injected()?;
    let told = counter(&daemon, "framehaul_spool_io_errors_total", &["op=\"sync\""])?
        + counter(&daemon, "framehaul_spool_io_errors_total", &["op=\"write\""])?;
    problems.check(totals.lost == 0 && totals.stored > 0, || format!("frames are lost: {totals:?}"));
    problems.check(told == faults, || format!("{faults} syncs failed, and the metrics tell of {told}"));
    problems.check(daemon.pid() == pid, || "the daemon was started again".to_owned());
    let status = daemon.stop()?;
    problems.check(status.success(), || format!("it ended with {status}"));
    let bound = format!(
        "{} of the spool's syncs fail: no frame is lost, each failure is told, the accounts are exact",
        plan.faults
    );
    let figure = json!({
        "syncs_failed": faults,
        "told_by_metrics": told,
        "stored": totals.stored,
        "lost": totals.lost,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, faults))
}

/// A program that is the daemon with some of its syncs made to fail: strace watches it from aside (`-D`), so that the
/// process is the daemon's own.
fn wrapper(stage: &Stage, plan: &SyncErrors, dir: &Path, log: &Path) -> anyhow::Result<std::path::PathBuf> {
    let path = stage.dir().join("framehaul-refused");
    let segments: String = (1..=SEGMENTS)
        .map(|number| format!(" -P '{}'", dir.join(format!("state/spool/default/{number:012}.segment")).display()))
        .collect();
    let script = format!(
        "#!/bin/sh\nexec strace -D -f -qq -o '{}' -e signal=none -e trace=fdatasync -e inject=fdatasync:error=EIO:when={}+{}\
         {segments} '{}' \"$@\"\n",
        log.display(),
        plan.first,
        plan.every,
        stage.program().display()
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}
