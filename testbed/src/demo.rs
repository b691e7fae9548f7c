//! The demo: four real cameras of every codec, the daemon, a bucket in a directory, and a judgement of what lies there
//! at the end.
//!
//! Everything for people goes to standard error; standard output gets one line, the report.

pub(crate) mod interrupt;
pub(crate) mod screen;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::interrupt::Interrupt;
use self::screen::Screen;
use crate::cameras::{CameraServer, CameraSpec, HttpCameraServer, default_cache_dir};
use crate::clip::Codec;
use crate::daemon::{Daemon, Status, Storage, TOKEN_FILE, Totals};
use crate::oracle::{Entry, Fetcher, Pattern, Verdict, judge};

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

/// The RTSP cameras, as the demo shows them; one wants a login with characters that break careless URLs.
fn rtsp_cameras() -> [CameraSpec; 3] {
    [
        CameraSpec::new("main-1080p").size(1920, 1080).rate(25, 25).login("viewer", "demo pass/%40"),
        CameraSpec::new("hall-720p").codec(Codec::H265).size(1280, 720).rate(15, 15),
        CameraSpec::new(LEAVER).codec(Codec::Mjpeg).size(640, 480).rate(10, 10),
    ]
}

/// The HTTP camera.
fn http_camera() -> CameraSpec {
    CameraSpec::new("door").codec(Codec::Mjpeg).size(320, 240).rate(5, 5)
}

/// All of them.
fn cameras() -> impl Iterator<Item = CameraSpec> {
    rtsp_cameras().into_iter().chain([http_camera()])
}

/// The servers of the cameras.
struct Cameras {
    rtsp: CameraServer,
    http: HttpCameraServer,
}

impl Cameras {
    /// What a PUT says that adds each camera.
    fn requests(&self) -> impl Iterator<Item = (&str, Value)> {
        let rtsp = self.rtsp.specs().iter().map(|spec| (spec.name.as_str(), self.rtsp.request(spec)));
        rtsp.chain(self.http.specs().iter().map(|spec| (spec.name.as_str(), self.http.request(spec))))
    }
}

/// Runs the demo; success only if every frame is accounted for and the pictures are in order.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seconds = match args.seconds {
        Some(seconds) => Some(seconds),
        None => seconds_from_environment()?,
    };
    let program = program(args.framehaul)?;
    let dir = fresh(&args.data_dir)?;
    let mut daemon = Daemon::prepare(&program, &dir, &Storage::Directory, "")?.in_own_group();
    let interrupt = Interrupt::listen(daemon.process(), Vec::new())?;
    let mut screen = Screen::new();

    let cameras = start(&mut daemon, &mut screen)?;
    interrupt.hauling();
    let result = haul(&daemon, &cameras, seconds, &args.data_dir, &mut screen, &interrupt);
    let result = result.map_err(|error| daemon.explain(error));
    // Also when something failed: nothing is left behind.
    let stopped = daemon.stop();
    drop(cameras);
    let (report, faults) = result?;
    let status = stopped?;
    ensure!(status.success(), "framehaul ended with {status}; its log is {}", daemon.log().display());

    for fault in &faults {
        screen.say(&format!("FAULT: {fault}"));
    }
    if faults.is_empty() {
        screen.say("all frames accounted for, in order; objects and log stay in the data directory");
    }
    println!("{}", serde_json::to_string(&report).context("cannot print the report")?);
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The daemon's program: the one that is named, or the one beside ours.
pub(crate) fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let program = match named {
        Some(path) => path,
        None => std::env::current_exe().context("cannot find this program's directory")?.with_file_name("framehaul"),
    };
    ensure!(
        program.is_file(),
        "there is no {}: build it with `make build`, or name it with --framehaul",
        program.display()
    );
    Ok(program)
}

/// How long a demo is to last, in seconds, if the environment says so.
pub(crate) fn seconds_from_environment() -> anyhow::Result<Option<u64>> {
    match std::env::var("DEMO_SECONDS") {
        Ok(text) if !text.is_empty() => {
            text.parse().map(Some).with_context(|| format!("DEMO_SECONDS is `{text}`: use a whole number of seconds"))
        }
        _ => Ok(None),
    }
}

/// Makes the data directory anew and returns its absolute path. What is there is removed only if a demo made it.
pub(crate) fn fresh(dir: &Path) -> anyhow::Result<PathBuf> {
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
        clear(&dir).with_context(|| format!("cannot remove the data of the last demo, {shown}"))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the data directory {shown}"))?;
    fs::write(dir.join(MARKER), "Made by `testbed demo`, which removes this directory when it runs again.\n")
        .with_context(|| format!("cannot write into the data directory {shown}"))?;
    Ok(dir)
}

/// Removes all but the marker, so that the next demo knows the directory when this one is interrupted.
fn clear(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != MARKER {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Starts the cameras and the daemon.
fn start(daemon: &mut Daemon, screen: &mut Screen) -> anyhow::Result<Cameras> {
    let cache_dir = default_cache_dir();
    // One after the other, and not without a word: the first demo spends most of its start here.
    for spec in cameras() {
        let (clip, name) = (spec.clip(), &spec.name);
        if !clip.is_cached(&cache_dir)? {
            let (seconds, width, height) = (clip.seconds, clip.width, clip.height);
            screen.say(&format!("drawing {seconds} s of pictures for {name} ({width}x{height}), once and for all"));
        }
        clip.cached(&cache_dir).with_context(|| format!("cannot draw the pictures of {name}"))?;
    }
    let rtsp = CameraServer::start(&rtsp_cameras(), 0, &cache_dir)?;
    let http = HttpCameraServer::start(&[http_camera()], 0, &cache_dir)?;
    let (rtsp_port, http_port) = (rtsp.port(), http.port());
    screen.say(&format!("three RTSP cameras run on 127.0.0.1:{rtsp_port}, an HTTP camera on 127.0.0.1:{http_port}"));
    daemon.run()?;
    screen.say(&format!("framehaul runs on {}", daemon.address()));
    Ok(Cameras { rtsp, http })
}

/// Adds the cameras, watches them, removes them, and judges what was stored; the second part of the answer is what is
/// wrong.
fn haul(
    daemon: &Daemon,
    cameras: &Cameras,
    seconds: Option<u64>,
    shown_dir: &Path,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> anyhow::Result<(Report, Vec<String>)> {
    for (name, request) in cameras.requests() {
        daemon.put_camera(name, &request)?;
    }
    screen.say(&hints(daemon, shown_dir));
    show(daemon, cameras, seconds, screen, interrupt)?;

    screen.keep();
    screen.say("removing the cameras and waiting for the frames in flight");
    daemon.quiesce(SETTLED_WITHIN)?;
    screen.say("reading every list and every object back");
    read_back(daemon)
}

/// Commands to try, with paths as the caller would write them.
fn hints(daemon: &Daemon, shown_dir: &Path) -> String {
    let address = daemon.address();
    let token = shown_dir.join(TOKEN_FILE);
    let curl = format!("curl -s -H \"Authorization: Bearer $(cat '{}')\"", token.display());
    format!(
        "try:\n  {curl} {address}/api/v1/cameras\n  {curl} '{address}/api/v1/cameras/door/frames?limit=5'\n  {curl} {address}/metrics\n\
         pictures are in {}\n",
        shown_dir.join("frames").display()
    )
}

/// Shows the table until the time is over or a signal comes; in the middle one camera leaves and comes back.
fn show(
    daemon: &Daemon,
    cameras: &Cameras,
    length: Option<u64>,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut leaves = Some(length.map_or(LEAVES_AFTER, |length| length / 2));
    let mut returns = None;
    loop {
        // Whole seconds: no look comes early, so each of them is seen.
        let elapsed = begin.elapsed().as_secs();
        if length.is_some_and(|length| elapsed >= length) {
            return Ok(());
        }
        if leaves.take_if(|at| elapsed >= *at).is_some() {
            screen.say(&format!("removing {LEAVER}"));
            // It may be gone already: people try the API while the demo runs.
            if daemon.status(LEAVER)?.state != "deleted" {
                daemon.delete_camera(LEAVER)?;
            }
            returns = Some(elapsed + AWAY);
        }
        if returns.take_if(|at| elapsed >= *at).is_some() {
            screen.say(&format!("adding {LEAVER} again: its list goes on where it stopped"));
            for (name, request) in cameras.requests().filter(|(name, _)| *name == LEAVER) {
                daemon.put_camera(name, &request)?;
            }
        }
        screen.tick(elapsed, &daemon.statuses()?, codec_of);
        let next = Duration::from_secs(begin.elapsed().as_secs() + 1);
        if interrupt.came_within(next.saturating_sub(begin.elapsed()))? {
            return Ok(());
        }
    }
}

/// What a camera of the demo sends; nothing for one that somebody else added.
fn codec_of(id: &str) -> Option<Codec> {
    cameras().find(|spec| spec.name == id).map(|spec| spec.codec)
}

/// Judges the deleted cameras by their lists and objects.
fn read_back(daemon: &Daemon) -> anyhow::Result<(Report, Vec<String>)> {
    let fetcher = Fetcher::new(daemon.http(), None);
    let mut report = Report::default();
    let (mut faults, mut latencies) = (vec![], vec![]);
    // Cameras that somebody else added meanwhile show pictures that cannot be judged.
    for CameraSpec { name, .. } in cameras() {
        let status = daemon.status(&name)?;
        let entries = daemon.list(&name, PAGE)?.entries;
        let verdict = judge(&name, &entries, |url| fetcher.fetch(url), Pattern::Every(1));
        let Totals { captured, stored, lost, in_flight } = status.totals;
        report.cameras += 1;
        report.captured += captured;
        report.stored += stored;
        report.lost += lost;
        report.in_flight += in_flight;
        report.inversions += verdict.inversions;
        report.gaps += verdict.gaps;
        report.repeats += verdict.repeats;
        report.unreadable += verdict.unreadable;
        for entry in &entries {
            if let Entry::Frame(frame) = entry {
                let took = parse_time(&frame.stored_at)? - parse_time(&frame.captured_at)?;
                latencies.push(took.as_seconds_f64() * 1e3);
            }
        }
        faults.extend(faults_of(&status, &verdict).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    latencies.sort_by(f64::total_cmp);
    (report.p50_ms, report.p99_ms) = (quantile(&latencies, 0.50), quantile(&latencies, 0.99));
    Ok((report, faults))
}

/// What is wrong with a camera, in words.
fn faults_of(status: &Status, verdict: &Verdict) -> Vec<String> {
    let Totals { captured, stored, lost, in_flight } = status.totals;
    let mut faults = vec![];
    if !status.totals.add_up() || in_flight != 0 {
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
        let why =
            status.last_error.as_ref().and_then(|error| error["message"].as_str()).unwrap_or("for no known reason");
        faults.push(format!("no frame was stored: {why}"));
    }
    faults.extend(
        verdict.faults().into_iter().filter(|&(_, count)| count > 0).map(|(name, count)| format!("{name} {count}")),
    );
    faults.extend(verdict.examples.iter().cloned());
    faults
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
            assert_eq!(faults_of(&status, &verdict).len(), count, "{:?}", status.totals);
        }
        assert_eq!(faults_of(&status(10, 9, 1, 0), &Verdict { gaps: 2, ..verdict }), ["gaps 2"]);
    }
}
