//! The demo: four real RTSP cameras, the daemon, a bucket in a directory, and a judgement of what lies there at the end.
//!
//! Everything for people goes to standard error; standard output gets one line, the [`Report`].

mod daemon;
mod screen;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::daemon::{Api, Camera, Daemon};
use self::screen::Screen;
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::clip::ClipSpec;
use crate::daemon::Totals;
use crate::oracle::{Entry, Fetcher, Http, Pattern, Verdict, judge};

/// Says that a directory was made by the demo and may be removed by it.
const MARKER: &str = ".framehaul-demo";
/// The camera that leaves in the middle and comes back.
const LEAVER: &str = "yard";
/// When it leaves, in seconds, if nobody said how long the demo lasts.
const LEAVES_AFTER: u64 = 15;
/// How many seconds it is away.
const AWAY: u64 = 2;
/// How long the frames in flight may take at the end.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Entries per page when the lists are read back.
const PAGE: u32 = 1000;

/// `testbed demo`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End by itself after so long [default: the environment's DEMO_SECONDS, or else Ctrl-C]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Where configuration, state, log and frames go; removed and made anew by each demo
    #[arg(long, value_name = "DIR", default_value = "./demo-data")]
    data_dir: PathBuf,
    /// The daemon's program [default: framehaul beside this one]
    #[arg(long, value_name = "PATH")]
    framehaul: Option<PathBuf>,
}

/// What came out, over all cameras.
#[derive(Debug, Default, Serialize)]
struct Report {
    cameras: usize,
    captured: u64,
    stored: u64,
    lost: u64,
    in_flight: u64,
    inversions: u64,
    gaps: u64,
    repeats: u64,
    unreadable: u64,
    /// From the grab of a picture to the bucket's word that it has it.
    p50_ms: f64,
    p99_ms: f64,
}

/// The cameras, as the demo shows them; one wants a login with characters that break careless URLs.
fn cameras() -> [CameraSpec; 4] {
    [
        CameraSpec::new("main-1080p").size(1920, 1080).rate(25, 25).login("viewer", "demo pass/%40"),
        CameraSpec::new("hall-720p").size(1280, 720).rate(15, 15),
        CameraSpec::new(LEAVER).size(640, 480).rate(10, 10),
        CameraSpec::new("door").size(320, 240).rate(5, 5),
    ]
}

/// Runs the demo; success only if every frame is accounted for and the pictures are in order.
///
/// The first signal ends the hauling and leads to the judgement, the second ends everything at once.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let signals = signals()?;
        tokio::select! {
            result = demo(args, &signals) => result,
            () = at_least(2, &signals) => bail!("stopped by a second signal, without reading anything back"),
        }
    });
    // Not waiting for blocking tasks: after a signal they may draw a clip or read objects.
    runtime.shutdown_background();
    result
}

async fn demo(args: Args, signals: &watch::Receiver<u32>) -> anyhow::Result<ExitCode> {
    let seconds = match args.seconds {
        Some(seconds) => Some(seconds),
        None => seconds_from_environment()?,
    };
    let program = match args.framehaul {
        Some(path) => path,
        None => std::env::current_exe().context("cannot find this program's directory")?.with_file_name("framehaul"),
    };
    let dir = fresh(&args.data_dir)?;
    let mut screen = Screen::new();

    let (server, mut daemon) = tokio::select! {
        started = start(&program, &dir, &mut screen) => started?,
        () = at_least(1, signals) => bail!("stopped by a signal before the cameras were running"),
    };
    let result = haul(&daemon, &server, seconds, &args.data_dir, &mut screen, signals).await;
    let result = result.map_err(|error| daemon.explain(error));
    // Also when something failed: nothing is left behind.
    let stopped = daemon.stop().await;
    drop(server);
    let (report, faults) = result?;
    stopped?;

    for fault in &faults {
        screen.say(&format!("FAULT: {fault}"));
    }
    if faults.is_empty() {
        screen.say("all frames accounted for, in order; objects and log stay in the data directory");
    }
    println!("{}", serde_json::to_string(&report).context("cannot print the report")?);
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts SIGINT, SIGTERM and SIGHUP from now on.
fn signals() -> anyhow::Result<watch::Receiver<u32>> {
    let (count, counted) = watch::channel(0);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut stream = signal(kind).context("cannot listen for signals")?;
        let count = count.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                count.send_modify(|count| *count += 1);
            }
        });
    }
    Ok(counted)
}

/// Waits for so many signals.
async fn at_least(wanted: u32, signals: &watch::Receiver<u32>) {
    if signals.clone().wait_for(|&count| count >= wanted).await.is_err() {
        // Nobody listens any more, so none can come.
        std::future::pending::<()>().await;
    }
}

fn seconds_from_environment() -> anyhow::Result<Option<u64>> {
    match std::env::var("DEMO_SECONDS") {
        Ok(text) if !text.is_empty() => {
            text.parse().map(Some).with_context(|| format!("DEMO_SECONDS is `{text}`: use a whole number of seconds"))
        }
        _ => Ok(None),
    }
}

/// Makes the data directory anew and returns its absolute path. What is there is removed only if a demo made it.
fn fresh(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = std::path::absolute(dir).with_context(|| format!("no such data directory: `{}`", dir.display()))?;
    let shown = dir.display();
    let empty = match fs::read_dir(&dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).context(format!("cannot look into the data directory {shown}")),
    };
    if !empty {
        ensure!(
            dir.join(MARKER).is_file(),
            "{shown} is not empty and was not made by a demo: move it away, or choose another with --data-dir"
        );
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove the data of the last demo, {shown}"))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the data directory {shown}"))?;
    fs::write(dir.join(MARKER), "Made by `testbed demo`, which removes this directory when it runs again.\n")
        .with_context(|| format!("cannot write into the data directory {shown}"))?;
    Ok(dir)
}

/// Starts the cameras and the daemon.
async fn start(program: &Path, dir: &Path, screen: &mut Screen) -> anyhow::Result<(CameraServer, Daemon)> {
    let specs = cameras();
    draw_clips(&specs, screen).await?;
    let server = tokio::task::spawn_blocking(move || CameraServer::start(&specs, 0, default_cache_dir()))
        .await
        .context("starting the cameras panicked")??;
    screen.say(&format!("four RTSP cameras run on 127.0.0.1:{}", server.port()));
    let daemon = Daemon::start(program, dir).await?;
    screen.say(&format!("framehaul runs on {}", daemon.api().address()));
    Ok((server, daemon))
}

/// Makes the clips that are not there yet, one after the other, and says so: the first demo spends most of its start here.
async fn draw_clips(specs: &[CameraSpec], screen: &mut Screen) -> anyhow::Result<()> {
    for spec in specs {
        let &CameraSpec { number, width, height, fps, gop, clip_seconds, .. } = spec;
        let clip = ClipSpec { camera: number, width, height, fps, gop, seconds: clip_seconds };
        let drawing = tokio::task::spawn_blocking(move || clip.cached(&default_cache_dir()));
        let mut drawing = std::pin::pin!(drawing);
        let drawn = tokio::select! {
            drawn = &mut drawing => drawn,
            () = sleep(Duration::from_millis(200)) => {
                screen.say(&format!("drawing {clip_seconds} s of pictures for {} ({width}x{height}), once and for all", spec.name));
                drawing.await
            }
        };
        drawn
            .context("drawing a clip panicked")?
            .with_context(|| format!("cannot draw the pictures of {}", spec.name))?;
    }
    Ok(())
}

/// Adds the cameras, watches them, removes them, and judges what was stored; the second part of the answer is what is wrong.
async fn haul(
    daemon: &Daemon,
    server: &CameraServer,
    seconds: Option<u64>,
    shown_dir: &Path,
    screen: &mut Screen,
    signals: &watch::Receiver<u32>,
) -> anyhow::Result<(Report, Vec<String>)> {
    let api = daemon.api();
    let specs = cameras();
    for spec in &specs {
        api.put_camera(&spec.name, &request(spec, server))?;
    }
    screen.say(&hints(daemon, shown_dir));
    show(api, server, seconds, screen, signals).await?;

    screen.keep();
    screen.say("removing the cameras and waiting for the frames in flight");
    for camera in api.cameras()?.iter().filter(|camera| camera.status.state != "deleted") {
        api.delete_camera(&camera.id)?;
    }
    let settled = settled(api).await?;
    screen.say("reading every list and every object back");
    let (address, token) = (api.address().to_owned(), api.token().to_owned());
    tokio::task::spawn_blocking(move || read_back(&address, &token, &settled)).await.context("reading back panicked")?
}

/// The body of the camera's PUT.
fn request(spec: &CameraSpec, server: &CameraServer) -> Value {
    let mut body = json!({"url": server.url(&spec.name), "transport": "tcp", "sampling": "all", "jpeg_quality": 85});
    if let Some((user, password)) = &spec.login {
        body["user"] = json!(user);
        body["password"] = json!(password);
    }
    body
}

/// Commands to try, with paths as the caller would write them.
fn hints(daemon: &Daemon, shown_dir: &Path) -> String {
    let address = daemon.api().address();
    let token = shown_dir.join("state").join(daemon.token_file().file_name().unwrap_or_default());
    let curl = format!("curl -s -H \"Authorization: Bearer $(cat '{}')\"", token.display());
    format!(
        "try:\n  {curl} {address}/api/v1/cameras\n  {curl} '{address}/api/v1/cameras/door/frames?limit=5'\n  {curl} {address}/metrics\n\
         pictures are in {}\n",
        shown_dir.join("frames").display()
    )
}

/// Shows the table until the time is over or a signal comes; in the middle one camera leaves and comes back.
async fn show(
    api: &Api,
    server: &CameraServer,
    length: Option<u64>,
    screen: &mut Screen,
    signals: &watch::Receiver<u32>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut leaves = Some(length.map_or(LEAVES_AFTER, |length| length / 2));
    let mut returns = None;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = at_least(1, signals) => break,
        }
        // Whole seconds: no tick comes early, so each of them is seen.
        let elapsed = begin.elapsed().as_secs();
        if length.is_some_and(|length| elapsed >= length) {
            break;
        }
        if leaves.take_if(|at| elapsed >= *at).is_some() {
            screen.say(&format!("removing {LEAVER}"));
            api.delete_camera(LEAVER)?;
            returns = Some(elapsed + AWAY);
        }
        if returns.take_if(|at| elapsed >= *at).is_some() {
            screen.say(&format!("adding {LEAVER} again: its list goes on where it stopped"));
            for spec in cameras().iter().filter(|spec| spec.name == LEAVER) {
                api.put_camera(LEAVER, &request(spec, server))?;
            }
        }
        screen.tick(elapsed, &api.cameras()?);
    }
    Ok(())
}

/// Waits until no frame of a deleted camera is in flight, and returns the cameras then.
async fn settled(api: &Api) -> anyhow::Result<Vec<Camera>> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let cameras = api.cameras()?;
        let waiting: Vec<&str> = cameras
            .iter()
            .filter(|camera| camera.status.state != "deleted" || camera.status.totals.in_flight > 0)
            .map(|camera| camera.id.as_str())
            .collect();
        if waiting.is_empty() {
            return Ok(cameras);
        }
        ensure!(
            Instant::now() < deadline,
            "frames are still in flight {SETTLED_WITHIN:?} after the end, of {}",
            waiting.join(", ")
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// Judges the deleted cameras by their lists and objects. Blocks.
fn read_back(api: &str, token: &str, cameras: &[Camera]) -> anyhow::Result<(Report, Vec<String>)> {
    let http = Http::new()?;
    let fetcher = Fetcher::new(&http, None);
    let mut report = Report::default();
    let (mut faults, mut latencies) = (vec![], vec![]);
    // Cameras that somebody else added meanwhile show pictures that cannot be judged.
    for name in self::cameras().map(|spec| spec.name) {
        let camera = cameras.iter().find(|camera| camera.id == name);
        let camera = camera.with_context(|| format!("the API no longer lists camera `{name}`"))?;
        let list = read_list(&http, api, token, &camera.id)?;
        let verdict = judge(&camera.id, &list.entries, |url| fetcher.fetch(url), Pattern::Every(1));
        let Totals { captured, stored, lost, in_flight } = camera.status.totals;
        report.cameras += 1;
        report.captured += captured;
        report.stored += stored;
        report.lost += lost;
        report.in_flight += in_flight;
        report.inversions += verdict.inversions;
        report.gaps += verdict.gaps;
        report.repeats += verdict.repeats;
        report.unreadable += verdict.unreadable;
        latencies.extend(list.latencies);
        faults.extend(faults_of(camera, &verdict).into_iter().map(|fault| format!("{}: {fault}", camera.id)));
    }
    latencies.sort_by(f64::total_cmp);
    (report.p50_ms, report.p99_ms) = (quantile(&latencies, 0.50), quantile(&latencies, 0.99));
    Ok((report, faults))
}

/// What is wrong with a camera, in words.
fn faults_of(camera: &Camera, verdict: &Verdict) -> Vec<String> {
    let Totals { captured, stored, lost, in_flight } = camera.status.totals;
    let mut faults = vec![];
    if !camera.status.totals.add_up() || in_flight != 0 {
        faults.push(format!(
            "{captured} frames captured, {stored} stored, {lost} lost, {in_flight} in flight: that does not add up"
        ));
    }
    if (verdict.frames, verdict.tombstoned) != (stored, lost) {
        let Verdict { frames, tombstoned, .. } = verdict;
        faults.push(format!(
            "the list has {frames} stored and {tombstoned} lost frames, the totals say {stored} and {lost}"
        ));
    }
    if stored == 0 {
        let why = camera
            .status
            .last_error
            .as_ref()
            .and_then(|error| error["message"].as_str())
            .unwrap_or("for no known reason");
        faults.push(format!("no frame was stored: {why}"));
    }
    faults.extend(
        verdict.faults().into_iter().filter(|&(_, count)| count > 0).map(|(name, count)| format!("{name} {count}")),
    );
    faults.extend(verdict.examples.iter().cloned());
    faults
}

/// A camera's list, and how long each of its stored frames took, in milliseconds.
struct Listed {
    entries: Vec<Entry>,
    latencies: Vec<f64>,
}

/// Reads a whole list. Not the oracle's own reading: that one leaves out when a frame was stored.
fn read_list(http: &Http, api: &str, token: &str, camera: &str) -> anyhow::Result<Listed> {
    #[derive(Deserialize)]
    struct Page {
        entries: Vec<Value>,
        next: u64,
        more: bool,
    }
    let mut list = Listed { entries: vec![], latencies: vec![] };
    let mut after = 0;
    loop {
        let url = format!("{api}/api/v1/cameras/{camera}/frames?after={after}&limit={PAGE}");
        let page: Page = serde_json::from_slice(&http.get(&url, Some(token))?)
            .with_context(|| format!("cannot understand the answer to `{url}`"))?;
        for entry in page.entries {
            if let (Some(captured), Some(stored)) = (entry["captured_at"].as_str(), entry["stored_at"].as_str()) {
                list.latencies.push((parse_time(stored)? - parse_time(captured)?).as_seconds_f64() * 1e3);
            }
            list.entries.push(
                serde_json::from_value(entry).with_context(|| format!("strange entry in the answer to `{url}`"))?,
            );
        }
        if !page.more {
            return Ok(list);
        }
        ensure!(page.next > after, "`{url}` says that there is more, but its cursor does not move on");
        after = page.next;
    }
}

fn parse_time(text: &str) -> anyhow::Result<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("`{text}` is no RFC 3339 time"))
}

/// The value that a part `q` of them does not exceed, to a tenth; 0 of none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (sorted.len() as f64 * q).ceil().max(1.0) as usize;
    sorted.get(rank - 1).map_or(0.0, |value| (value * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Status;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.99)), (50.0, 99.0));
        assert_eq!((quantile(&[7.26], 0.5), quantile(&[7.26], 0.99), quantile(&[], 0.5)), (7.3, 7.3, 0.0));
    }

    #[test]
    fn only_a_demos_directory_is_removed() {
        let parent =
            std::env::temp_dir().join(format!("framehaul-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        let dir = parent.join("data");
        assert_eq!(fresh(&dir).unwrap(), dir);
        fs::write(dir.join("old"), "").unwrap();
        fresh(&dir).unwrap();
        assert!(!dir.join("old").exists() && dir.join(MARKER).exists());
        let message = fresh(&parent).unwrap_err().to_string();
        assert!(message.contains("was not made by a demo"), "{message}");
        assert!(dir.exists());
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn what_does_not_add_up_is_a_fault() {
        let status = |captured, stored, lost, in_flight| Status {
            state: "deleted".into(),
            generation: 1,
            session: Some(1),
            pid: None,
            fps: 0.0,
            next_try_at: None,
            totals: Totals { captured, stored, lost, in_flight },
            watermark: captured,
            last_error: None,
        };
        let verdict = Verdict { frames: 9, tombstoned: 1, ..Verdict::default() };
        for (status, count) in
            [(status(10, 9, 1, 0), 0), (status(11, 9, 1, 0), 1), (status(11, 9, 1, 1), 1), (status(10, 10, 0, 0), 1)]
        {
            let camera = Camera { id: "a".into(), status };
            assert_eq!(faults_of(&camera, &verdict).len(), count, "{:?}", camera.status.totals);
        }
        let camera = Camera { id: "a".into(), status: status(10, 9, 1, 0) };
        assert_eq!(faults_of(&camera, &Verdict { gaps: 2, ..verdict }), ["gaps 2"]);
    }
}
