//! A spool whose disk is not there at the start: nothing of it is told as lost before somebody says so.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use testbed::daemon::{Credentials, Storage};
use testbed::gcs::{GcsServer, Knobs, Options};
use testbed::scenario::Stage;
use testbed::synthetic::Synthetic;

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const PATIENCE: Duration = Duration::from_secs(30);
const FPS: f64 = 25.0;

#[test]
fn a_spool_that_is_not_there_is_missed() -> anyhow::Result<()> {
    let knobs = Knobs { refuse_status: Some(503), ..Knobs::default() };
    let gcs = GcsServer::start(Options { buckets: vec!["frames".to_owned()], knobs, ..Options::default() })?;
    let (endpoint, bucket) = (gcs.endpoint(), "frames".to_owned());
    let storage = Storage::Gcs { endpoint, bucket, credentials: Credentials::Anonymous };
    let stage = Stage::new(Path::new(PROGRAM))?;
    let mut daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let camera = Synthetic::new("gate").fps(FPS).bytes(6_000);
    daemon.put_camera("gate", &camera.request())?;
    daemon.wait_for("gate", PATIENCE, |status| status.totals.captured >= 100)?;
    daemon.kill()?;

    let [spool, aside] = ["state/spool", "aside"].map(|name| daemon.dir().join(name));
    fs::rename(&spool, &aside)?;
    ensure!(daemon.run().is_err(), "it starts without its spool");
    ensure!(!daemon.wait_for_end()?.success());
    let log = daemon.log_text();
    ensure!(log.contains("mount its disk") && log.contains("framehaul spool adopt"), "{log}");
    fs::remove_dir_all(&spool)?;
    fs::rename(&aside, &spool)?;
    daemon.run()?;
    let found = daemon.wait_for("gate", PATIENCE, |status| status.totals.captured >= 200)?.totals;
    ensure!(found.lost == 0 && found.in_flight == found.captured, "{found:?}");

    // Now it is gone for good. The journal may be a second behind.
    daemon.kill()?;
    fs::rename(&spool, &aside)?;
    let adopted =
        Command::new(PROGRAM).args(["spool", "adopt", "--config"]).arg(daemon.dir().join("framehaul.toml")).output()?;
    let said = String::from_utf8_lossy(&adopted.stderr).into_owned();
    ensure!(adopted.status.success() && said.contains("given up"), "{said}");
    daemon.run()?;
    let left = daemon.status("gate")?.totals;
    ensure!(left.lost as f64 >= 200.0 - 2.0 * FPS, "{left:?}");
    ensure!(left.add_up(), "{left:?}");
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    daemon.wait_for("gate", PATIENCE, |status| status.totals.stored > 30)?;
    daemon.quiesce(PATIENCE)?;
    let rest = daemon.status("gate")?.totals;
    ensure!(rest.lost == left.lost && rest.in_flight == 0 && rest.add_up(), "{rest:?}");

    // What was given up stays so, should it come back.
    ensure!(daemon.stop()?.success());
    fs::remove_dir_all(&spool)?;
    fs::rename(&aside, &spool)?;
    daemon.run()?;
    ensure!(daemon.status("gate")?.totals == rest, "{:?}, and before {rest:?}", daemon.status("gate")?.totals);
    Ok(())
}
