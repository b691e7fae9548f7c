//! What every scenario needs: a place on disk, cameras, and a verdict on what was stored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tempfile::TempDir;

use super::Problems;
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::daemon::{Credentials, Daemon, Storage};
use crate::gcs::{GcsServer, Knobs, Options};
use crate::oracle::{Entry, Fetcher, Pattern, Verdict, judge};
use crate::synthetic::{self, Synthetic};

/// The bucket of every scenario that has one.
pub const BUCKET: &str = "frames";

/// A directory that goes when it is dropped, and the program under test.
#[derive(Debug)]
pub struct Stage {
    program: PathBuf,
    dir: TempDir,
}

impl Stage {
    /// A stage for the `framehaul` binary at `program`; its capture programs must lie beside it.
    ///
    /// # Errors
    ///
    /// When there is no room for a temporary directory.
    pub fn new(program: &Path) -> anyhow::Result<Self> {
        Self::new_in(program, &std::env::temp_dir())
    }

    /// The same, with its directory in `place`: on the disk that is there.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn new_in(program: &Path, place: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("framehaul-").tempdir_in(place);
        Ok(Self { program: program.to_owned(), dir: dir.context("cannot make a temporary directory")? })
    }

    /// The stage's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The part of a configuration with which synthetic cameras can be had.
    ///
    /// # Errors
    ///
    /// When the test bed's own binary is missing.
    pub fn synthetic(&self) -> anyhow::Result<String> {
        let engines = synthetic::engines(self.dir.path(), &self.program)?;
        Ok(format!("[capture]\nengine_dir = {}\n", json!(engines)))
    }

    /// Starts the daemon, with `more` added to its configuration.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn daemon(&self, storage: &Storage, more: &str) -> anyhow::Result<Daemon> {
        Daemon::start(&self.program, self.dir.path(), storage, more)
    }

    /// The same without starting it.
    ///
    /// # Errors
    ///
    /// When its configuration cannot be written.
    pub fn prepare(&self, storage: &Storage, more: &str) -> anyhow::Result<Daemon> {
        Daemon::prepare(&self.program, self.dir.path(), storage, more)
    }

    /// The same in a directory of its own, for scenarios with several.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn daemon_in(&self, name: &str, storage: &Storage, more: &str) -> anyhow::Result<Daemon> {
        Daemon::start(&self.program, &self.dir.path().join(name), storage, more)
    }

    /// The same without starting it.
    ///
    /// # Errors
    ///
    /// When its configuration cannot be written.
    pub fn prepare_in(&self, name: &str, storage: &Storage, more: &str) -> anyhow::Result<Daemon> {
        Daemon::prepare(&self.program, &self.dir.path().join(name), storage, more)
    }
}

/// Starts an emulator with one bucket, bodies on disk under `stage`.
pub(super) fn bucket(stage: &Stage, knobs: Knobs) -> anyhow::Result<(GcsServer, Storage)> {
    let root = Some(stage.dir().join("bucket"));
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], root, knobs, ..Options::default() })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    Ok((gcs, storage))
}

/// Starts small cameras, `prefix0`, `prefix1` and so on.
pub(super) fn cameras(prefix: &str, count: usize, fps: u32) -> anyhow::Result<CameraServer> {
    let specs: Vec<CameraSpec> =
        (0..count).map(|i| CameraSpec::new(&format!("{prefix}{i}")).size(640, 480).rate(fps, fps)).collect();
    CameraServer::start(&specs, 0, default_cache_dir())
}

/// Adds all cameras of a server to the daemon.
pub(super) fn add(daemon: &Daemon, server: &CameraServer) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for spec in server.specs() {
        daemon.put_camera(&spec.name, &server.request(spec))?;
        ids.push(spec.name.clone());
    }
    Ok(ids)
}

/// Adds synthetic cameras to the daemon.
pub(super) fn add_synthetic(daemon: &Daemon, cameras: &[Synthetic]) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for camera in cameras {
        daemon.put_camera(&camera.name, &camera.request())?;
        ids.push(camera.name.clone());
    }
    Ok(ids)
}

/// Waits until all these cameras stream and have captured a frame.
pub(super) fn until_streaming(daemon: &Daemon, ids: &[String], patience: Duration) -> anyhow::Result<()> {
    for id in ids {
        daemon.wait_for(id, patience, |status| status.state == "streaming" && status.totals.captured > 0)?;
    }
    Ok(())
}

/// The sum of a counter's series whose labels contain all of `labels`, each as `name="value"`.
pub(super) fn counter(daemon: &Daemon, name: &str, labels: &[&str]) -> anyhow::Result<u64> {
    counter_in(&daemon.get("/metrics")?, name, labels)
}

/// The same in one answer of /metrics: several counters are of one moment only there.
pub(super) fn counter_in(metrics: &str, name: &str, labels: &[&str]) -> anyhow::Result<u64> {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    let wanted = series.filter(|(found, _)| labels.iter().all(|label| found.split(',').any(|one| one == *label)));
    wanted.map(|(_, value)| value.trim().parse::<u64>().context("a counter is no number")).sum()
}

/// Judges a camera's whole list by the pixels of its objects, which must be all of the stream's, and notes what is
/// wrong.
pub(super) fn examine(
    daemon: &Daemon,
    storage: &Storage,
    id: &str,
    problems: &mut Problems,
) -> anyhow::Result<(Verdict, Vec<Entry>)> {
    judge_by(daemon, storage, id, Pattern::Every(1), problems)
}

/// The same for a camera that was asked for fewer pictures.
pub(super) fn judge_by(
    daemon: &Daemon,
    storage: &Storage,
    id: &str,
    pattern: Pattern,
    problems: &mut Problems,
) -> anyhow::Result<(Verdict, Vec<Entry>)> {
    let list = daemon.list(id, 1_000)?;
    let endpoint = match storage {
        Storage::Directory => None,
        Storage::Gcs { endpoint, .. } => Some(endpoint.as_str()),
    };
    let fetcher = Fetcher::new(daemon.http(), endpoint);
    let verdict = judge(id, &list.entries, |url| fetcher.fetch(url), pattern);
    problems.check(verdict.is_sound(), || {
        let faults: Vec<String> =
            verdict.faults().iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}={n}")).collect();
        format!("camera {id}: {} ({})", faults.join(" "), verdict.examples.join("; "))
    });
    let totals = daemon.status(id)?.totals;
    problems
        .check(totals.add_up() && totals.in_flight == 0, || format!("camera {id}: the accounts are off: {totals:?}"));
    problems.check(verdict.frames == totals.stored && verdict.tombstoned == totals.lost, || {
        format!(
            "camera {id}: {} frames and {} tombstoned in the list, {} stored and {} lost in the accounts",
            verdict.frames, verdict.tombstoned, totals.stored, totals.lost
        )
    });
    Ok((verdict, list.entries))
}
