//! In which bucket manifests are, and what one bucket's trouble is to others: nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use framehaul::manifest;
use rusqlite::{Connection, params};
use serde_json::json;
use testbed::daemon::{Daemon, wait};
use testbed::gcs::{GcsServer, Knobs};
use testbed::scenario::Stage;
use testbed::synthetic::Synthetic;

use crate::bucket::BUCKET;
use crate::{PATIENCE, PROGRAM, prepare};

/// As many manifests as may be on their way to a destination.
const ON_THEIR_WAY: i64 = 16;

/// A daemon with a second destination, the directory `cold`.
fn with_cold(stage: &Stage) -> anyhow::Result<(GcsServer, Daemon, PathBuf)> {
    let cold = stage.dir().join("cold");
    let more = format!("[destinations.cold]\nurl = {}\n", json!(format!("file://{}", cold.display())));
    let (gcs, daemon) = prepare(stage, Knobs::default(), &more)?;
    Ok((gcs, daemon, cold))
}

fn journal(stage: &Stage) -> anyhow::Result<Connection> {
    Ok(Connection::open(stage.dir().join("state/journal.sqlite"))?)
}

/// The last seq that is in a camera's manifests in a directory.
fn told(bucket: &Path, camera: &str) -> anyhow::Result<u64> {
    let mut last = 0;
    for origin in std::fs::read_dir(bucket.join("_manifest").join(camera)).into_iter().flatten() {
        for file in std::fs::read_dir(origin?.path())? {
            let name = file?.file_name();
            let seqs = name.to_str().and_then(manifest::parse_file_name);
            last = last.max(seqs.map_or(0, |seqs| seqs.last));
        }
    }
    Ok(last)
}

fn until_told(daemon: &Daemon, bucket: &Path, camera: &str, seq: u64) -> anyhow::Result<()> {
    wait(PATIENCE, || Ok((told(bucket, camera)? >= seq).then_some(())))
        .with_context(|| format!("no manifest tells of seq {seq}"))
        .map_err(|error| daemon.explain(error))
}

#[test]
fn a_bucket_that_is_down_holds_up_no_manifests_of_another_one() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let (gcs, mut daemon, cold) = with_cold(&stage)?;
    daemon.run()?;
    let mut request = Synthetic::new("gate").fps(100.0).bytes(3_000).frames(60).request();
    request["destination"] = json!("cold");
    daemon.put_camera("gate", &request)?;
    daemon.wait_for("gate", PATIENCE, |status| status.watermark >= 60)?;
    daemon.kill()?;

    // All places of the other one are taken, by cameras that are gone.
    let sql = journal(&stage)?;
    for nth in 1..=ON_THEIR_WAY {
        sql.execute("INSERT INTO camera (id) VALUES (?1)", [format!("held-{nth}")])?;
        sql.execute(
            "INSERT INTO manifest_pending (camera, first, last, entries, crc32c, destination, content)
             VALUES (last_insert_rowid(), 1, 1, 1, ?1, 'default', ?2)",
            params![crc32c::crc32c(b"held"), &b"held"[..]],
        )?;
    }
    drop(sql);
    gcs.change_knobs(|knobs| knobs.refuse_status = Some(503))?;
    daemon.run()?;
    // It plays once more.
    daemon.wait_for("gate", PATIENCE, |status| status.watermark >= 120)?;
    until_told(&daemon, &cold, "gate", 120)?;

    // The rest of a camera that is gone follows what came before it, also where it holds no frame.
    gcs.change_knobs(|knobs| knobs.refuse_status = None)?;
    daemon.delete_camera("gate")?;
    daemon.quiesce(PATIENCE)?;
    ensure!(daemon.stop()?.success(), "it does not end well");
    let sql = journal(&stage)?;
    let next: i64 = sql.query_row("SELECT reserved_until FROM camera WHERE id = 'gate'", [], |row| row.get(0))?;
    sql.execute_batch(&format!(
        "INSERT INTO frame (camera, seq, last, lost, maybe_stored, stored_at, commit_no)
             SELECT num, {next}, {next} + 2, 'crash', 1, 1, (SELECT max(commit_no) + 1 FROM frame)
             FROM camera WHERE id = 'gate';
         INSERT INTO lost SELECT num, 'crash', 3 FROM camera WHERE id = 'gate'
             ON CONFLICT (camera, reason) DO UPDATE SET frames = frames + 3;
         UPDATE camera SET lost = lost + 3, reserved_until = reserved_until + 3 WHERE id = 'gate';"
    ))?;
    drop(sql);
    daemon.run()?;
    until_told(&daemon, &cold, "gate", next as u64 + 2)?;
    let elsewhere = gcs.objects(BUCKET).into_iter().find(|object| object.name.starts_with("_manifest/gate/"));
    ensure!(elsewhere.is_none(), "{elsewhere:?}");
    Ok(())
}

#[test]
fn what_retention_took_while_there_were_no_manifests_waits_for_none() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let (_gcs, mut daemon, _) = with_cold(&stage)?;
    daemon.run()?;
    ensure!(daemon.stop()?.success(), "it does not end well");
    journal(&stage)?.execute(
        "INSERT INTO camera (id, watermark, reserved_until, pruned_to, stored) VALUES ('old', 50, 51, 50, 50)",
        [],
    )?;
    daemon.run()?;
    // The end waits for what is in none.
    ensure!(daemon.stop()?.success(), "it does not end well");
    let said = daemon.log_text();
    ensure!(!said.contains("some of the lists are in no manifest yet"), "{said}");
    Ok(())
}
