//! `framehaul push`: whatever the source, all of it in the bucket, in order, or told.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use framehaul::capture::{Deadlines, Launcher, ProcessEvent, Reach};
use framehaul::model::{Extent, RawCameraSpec};
use serde_json::{Value, json};
use testbed::cameras::{CameraServer, CameraSpec, default_cache_dir};
use testbed::clip::{ClipSpec, Codec};
use testbed::gcs::{GcsServer, Knobs, Options};
use testbed::scenario::testing::{self, assert_passed};
use testbed::scenario::{self, PushCut, PushStorm};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const CLIP: ClipSpec =
    ClipSpec { camera: 1, width: 320, height: 240, fps: 25, gop: 25, codec: Codec::H264, seconds: 4 };

fn push(to: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["push", "--to", to, "--format", "ndjson"]).stdin(Stdio::null());
    command.env("FRAMEHAUL__STORAGE__CREDENTIALS", "anonymous");
    // Many programs start at once here, and the machine has other work.
    command.env("FRAMEHAUL__CAPTURE__OPEN_TIMEOUT", "30s");
    command
}

/// Runs it to its end.
#[track_caller]
fn run(command: &mut Command, code: i32) -> (Vec<Value>, String) {
    let Output { status, stdout, stderr } = command.output().expect("framehaul starts");
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(status.code(), Some(code), "{out}{err}");
    assert_eq!(err.contains("error: "), code != 0, "{err}");
    assert!(!err.contains(['\r', '\x1b']), "no terminal reads this: {err:?}");
    (out.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect(), err)
}

fn file_url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// What is below a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.collect();
    found.sort();
    found
}

fn seqs(entries: &[Value]) -> Vec<u64> {
    entries.iter().map(|entry| entry["seq"].as_u64().expect("a seq")).collect()
}

#[test]
fn a_push_that_is_killed_goes_on_where_it_was() {
    let plan = PushCut { clip: CLIP, cuts: 3, latency_ms: 20 };
    assert_passed(scenario::push_cut(&testing::stage(PROGRAM), &plan));
}

#[test]
fn what_a_bucket_refuses_for_the_moment_is_sent_again() {
    testing::seeded(&[], |seed| {
        let plan = PushStorm { clip: CLIP, rate_503: 0.2, retries: 30, seed };
        assert_passed(scenario::push_storm(&testing::stage(PROGRAM), &plan));
    });
}

#[test]
fn a_bucket_that_is_not_there_is_told_at_once() {
    assert_passed(scenario::push_nowhere(&testing::stage(PROGRAM), CLIP, Duration::from_secs(15)));
}

#[test]
fn of_a_file_those_are_stored_that_were_asked_for() -> anyhow::Result<()> {
    let (film, dir) = (CLIP.mp4(&default_cache_dir())?, tempfile::tempdir()?);
    for (name, options, expected) in [
        ("every", vec!["--every", "10"], 10),
        ("fps", vec!["--fps", "5"], 20),
        ("keyframes", vec!["--keyframes"], 4),
        ("frames", vec!["--frames", "7"], 7),
        ("from", vec!["--from", "3s"], 25),
    ] {
        let to = dir.path().join(name);
        let (entries, _) = run(push(&file_url(&to)).arg(&film).args(options), 0);
        assert_eq!(seqs(&entries), (1..=expected).collect::<Vec<_>>(), "{name}");
        // The pictures and nothing else: no state of ours stays behind.
        assert_eq!(below(&to).len() as u64, expected, "{name}: {:?}", below(&to));
        for (entry, path) in entries.iter().zip(below(&to)) {
            let jpeg = fs::read(&path)?;
            assert_eq!(entry["url"], json!(file_url(&path)));
            assert_eq!((entry["bytes"].as_u64(), entry["width"].as_u64()), (Some(jpeg.len() as u64), Some(320)));
        }
        if name == "from" {
            assert_eq!(entries[0]["position"], json!(3.0));
        }
    }
    Ok(())
}

/// A film in each kind of container, and how many pictures are looked at, at least and at most, to get at those after 76 of
/// its 80 seconds.
fn films(dir: &Path) -> anyhow::Result<Vec<(PathBuf, Range<u64>)>> {
    let source = ClipSpec { fps: 5, gop: 10, seconds: 80, ..CLIP }.mp4(&default_cache_dir())?;
    // Pictures that refer to later ones, and a key frame every so many.
    let x264 = |gop: &'static str| {
        vec!["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-sc_threshold", "0", "-g", gop]
    };
    let late = ["-output_ts_offset", "40000"];
    let mut films = Vec::new();
    for (name, options, looked_at) in [
        ("near.mp4", x264("5"), 10..50),
        ("far.mkv", x264("15"), 50..100),
        ("farther.mkv", x264("50"), 100..250),
        ("once.mp4", x264("400"), 370..401),
        ("late.ts", [x264("10"), late.to_vec()].concat(), 370..401),
        ("late.mpg", [x264("10"), late.to_vec(), vec!["-f", "vob"]].concat(), 370..401),
        ("open.mkv", [x264("10"), vec!["-x264-params", "open-gop=1"]].concat(), 50..100),
        ("refreshed.mkv", [x264("10"), vec!["-x264-params", "intra-refresh=1"]].concat(), 370..401),
        ("plain.h264", x264("10"), 370..401),
        ("mpeg4.avi", vec!["-c:v", "mpeg4", "-bf", "2", "-g", "10"], 10..100),
        ("jpegs.mkv", vec!["-c:v", "mjpeg", "-q:v", "2"], 10..50),
    ] {
        let film = dir.join(name);
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-i"]).arg(&source).args(options).arg(&film);
        ensure!(command.status()?.success(), "ffmpeg makes no {name}");
        films.push((film, looked_at));
    }
    Ok(films)
}

/// How many pictures were looked at until one from then on was there, and as many more as come within a second.
fn looked_at(film: &Path, from: f64) -> anyhow::Result<u64> {
    let engines = Path::new(PROGRAM).parent().context("a directory")?.to_owned();
    let patience = Duration::from_secs(30);
    let launcher = Launcher {
        engines,
        deadlines: Deadlines { open: patience, read: patience, stall: patience },
        reach: Reach { files: Some(PathBuf::from("/")), loopback: true },
        starts: Launcher::starts(),
    };
    let spec: RawCameraSpec = serde_json::from_value(json!({ "url": file_url(film) }))?;
    let spec = spec.validate(None).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let extent = Extent { from_micros: Some((from * 1e6) as i64), ..Extent::default() };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let started = launcher.launch(&"film".parse()?, &spec, extent).await;
        let mut process = started.map_err(|diagnosis| anyhow::anyhow!("{diagnosis:?}"))?;
        let mut seen = false;
        loop {
            match process.next().await {
                ProcessEvent::Frame(_) => seen = true,
                ProcessEvent::Stats(stats) if seen => return Ok(stats.grabbed),
                ProcessEvent::Ended(ending) => bail!("it ended: {ending:?}"),
                _ => {}
            }
        }
    })
}

/// A push's list, and what it has stored.
fn stored(film: &Path, to: &Path, options: &[&str]) -> anyhow::Result<(Vec<Value>, Vec<Vec<u8>>)> {
    let (entries, _) = run(push(&file_url(to)).arg(film).args(options), 0);
    Ok((entries, below(to).iter().map(fs::read).collect::<Result<_, _>>()?))
}

#[test]
fn what_comes_before_is_passed_by_and_changes_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for (film, bounds) in films(dir.path())? {
        let name = film.file_name().context("a name")?.to_string_lossy().into_owned();
        let (all, jpegs) = stored(&film, &dir.path().join(format!("all-{name}")), &[])?;
        ensure!(all.len() == 400, "{name}: {} pictures", all.len());
        let positions = |entries: &[Value]| entries.iter().map(|entry| entry["position"].as_f64()).collect::<Vec<_>>();
        for from in [11.0, 76.02] {
            let to = dir.path().join(format!("{from}-{name}"));
            let (entries, part) = stored(&film, &to, &["--from", &format!("{}ms", from * 1_000.0)])?;
            let before = positions(&all).iter().take_while(|position| **position < Some(from)).count();
            // Times count from the beginning, whatever the first one is.
            ensure!((before as f64 - from * 5.0).abs() < 3.0, "{name}: {before} pictures before {from}");
            assert_eq!(positions(&entries), positions(&all[before..]), "{name} from {from} on");
            ensure!(part == jpegs[before..], "{name}: other pictures from {from} on");
        }
        let looked_at = looked_at(&film, 76.0)?;
        ensure!(bounds.contains(&looked_at), "{name}: {looked_at} pictures were looked at, not {bounds:?}");
    }
    Ok(())
}

#[test]
fn what_is_chosen_does_not_depend_on_where_the_reading_begins() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (film, same) = (dir.path().join("film.mkv"), dir.path().join("film.ts"));
    let source = ClipSpec { fps: 5, gop: 10, seconds: 80, ..CLIP }.mp4(&default_cache_dir())?;
    for film in [&film, &same] {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-i"]).arg(&source).args(["-c", "copy"]).arg(film);
        ensure!(command.status()?.success(), "ffmpeg makes no {}", film.display());
    }
    for options in [["--fps", "0.5"], ["--fps", "2"], ["--every", "7"]] {
        for from in ["40020ms", "61s"] {
            let options = [options[0], options[1], "--from", from];
            let to = |kind: &str| dir.path().join(format!("{kind}-{}", options.concat()));
            // The second has no index: its beginning is decoded.
            let ((entries, begun_late), (_, begun_early)) =
                (stored(&film, &to("mkv"), &options)?, stored(&same, &to("ts"), &options)?);
            ensure!(entries.len() > 4 && begun_late == begun_early, "{options:?}: {entries:?}");
        }
    }

    // Twice the same: its times jump back, and what comes after that comes after the time that is asked for, too.
    let twice = dir.path().join("twice.ts");
    fs::write(&twice, fs::read(&same)?.repeat(2))?;
    let (entries, _) = stored(&twice, &dir.path().join("twice"), &["--from", "60s"])?;
    ensure!((498..=502).contains(&entries.len()), "{} pictures", entries.len());
    Ok(())
}

#[test]
fn a_pipe_with_a_name_is_read_once() -> anyhow::Result<()> {
    let (film, dir) = (CLIP.mp4(&default_cache_dir())?, tempfile::tempdir()?);
    let (stream, pipe) = (dir.path().join("film.ts"), dir.path().join("pipe.ts"));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(&film).args(["-c", "copy"]).arg(&stream);
    ensure!(command.status()?.success(), "ffmpeg makes no stream");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "no pipe");
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::copy(stream, pipe)
    });
    let to = dir.path().join("bucket");
    let (entries, _) = run(push(&file_url(&to)).arg(file_url(&pipe)).args(["--from", "1s"]), 0);
    assert_eq!(seqs(&entries), (1..=75).collect::<Vec<_>>());
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(())
}

#[test]
fn a_time_beyond_all_years_harms_nothing() -> anyhow::Result<()> {
    let (film, dir) = (CLIP.mp4(&default_cache_dir())?, tempfile::tempdir()?);
    let path = dir.path().join("film.ivf");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(&film);
    command.args(["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-output_ts_offset", "1"]).arg(&path);
    ensure!(command.status()?.success(), "ffmpeg makes no IVF");
    let mut bytes = fs::read(&path)?;
    // A header of 32 bytes; then of each picture its size, its time and itself.
    let mut at = 32;
    for _ in 0..50 {
        at += 12 + u32::from_le_bytes(bytes[at..at + 4].try_into()?) as usize;
    }
    bytes[at + 4..at + 12].copy_from_slice(&(1u64 << 62).to_le_bytes());
    fs::write(&path, bytes)?;
    let (entries, _) = run(push(&file_url(&dir.path().join("bucket"))).arg(&path), 0);
    assert_eq!(seqs(&entries), (1..=100).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_list_is_complete_in_every_form() -> anyhow::Result<()> {
    let (film, dir) = (CLIP.mp4(&default_cache_dir())?, tempfile::tempdir()?);
    let run = |format: &str| -> anyhow::Result<String> {
        let mut command = Command::new(PROGRAM);
        let to = file_url(&dir.path().join(format));
        command.arg("push").arg(&film).args(["--to", &to, "--frames", "3", "--format", format]);
        let output = command.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let json: Vec<Value> = serde_json::from_str(&run("json")?)?;
    assert_eq!(seqs(&json), [1, 2, 3]);
    let csv = run("csv")?;
    assert!(csv.starts_with("seq,captured_at,") && csv.matches("\r\n").count() == 4, "{csv}");
    let table = run("table")?;
    assert!(table.starts_with("     SEQ  CAPTURED AT") && table.lines().count() == 4, "{table}");
    Ok(())
}

#[test]
fn jpegs_are_stored_byte_for_byte() -> anyhow::Result<()> {
    let (film, dir) = (CLIP.mp4(&default_cache_dir())?, tempfile::tempdir()?);
    let first = dir.path().join("first");
    run(push(&file_url(&first)).arg(&film).args(["--frames", "12"]), 0);
    let jpegs = below(&first).iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;

    let film = dir.path().join("film.jpg");
    fs::write(&film, jpegs.concat())?;
    let (_, told) = run(push(&file_url(&dir.path().join("film"))).arg(&film), 65);
    assert!(told.contains("standard input"), "{told}");
    let pattern = first.join("*.jpg");
    let (by_pattern, by_name, piped) = (dir.path().join("pattern"), dir.path().join("names"), dir.path().join("piped"));
    run(push(&file_url(&by_pattern)).arg(&pattern), 0);
    let backwards: Vec<PathBuf> = below(&first).into_iter().rev().collect();
    run(push(&file_url(&by_name)).args(&backwards), 0);
    let mut child =
        push(&file_url(&piped)).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("its input")?.write_all(&jpegs.concat())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    for (dir, backwards) in [(&by_pattern, false), (&by_name, true), (&piped, false)] {
        let mut stored = below(dir).iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
        if backwards {
            stored.reverse();
        }
        assert!(stored == jpegs, "{}", dir.display());
    }
    Ok(())
}

#[test]
fn images_of_other_kinds_become_jpegs() -> anyhow::Result<()> {
    let (film, dir) = (CLIP.mp4(&default_cache_dir())?, tempfile::tempdir()?);
    let images = dir.path().join("images @ 1");
    fs::create_dir(&images)?;
    for (nth, kind) in ["png", "jpg", "bmp", "tiff"].iter().enumerate() {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-ss", &nth.to_string(), "-i"]).arg(&film).args(["-frames:v", "1"]);
        ensure!(command.arg(images.join(format!("{nth}.{kind}"))).status()?.success(), "ffmpeg makes no {kind}");
    }
    fs::write(images.join("list.txt"), "no image")?;
    let all = dir.path().join("all");
    // What is known of when they were captured.
    fs::File::open(images.join("0.png"))?.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(86_400))?;
    let (entries, _) = run(push(&file_url(&all)).arg(&images), 0);
    assert_eq!(seqs(&entries), [1, 2, 3, 4]);
    assert_eq!(entries[0]["captured_at"], "1970-01-02T00:00:00.000000Z");
    let stored = below(&all).iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(stored[1], fs::read(images.join("1.jpg"))?, "a JPEG stays as it is");
    let counter = |jpeg: &Vec<u8>| -> anyhow::Result<u32> {
        let (luma, width, height) = testbed::oracle::decode(jpeg).map_err(anyhow::Error::msg)?;
        Ok(testbed::mark::Mark::read(&luma, width, height)?.counter)
    };
    let counters = stored.iter().map(counter).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(counters, [0, 25, 50, 75], "the pictures are in their order");

    // By their names the second JPEG is what the first one stands for.
    fs::rename(images.join("0.png"), images.join("0-%d.png"))?;
    fs::rename(images.join("1.jpg"), images.join("1-%d.jpg"))?;
    fs::write(images.join("1-1.jpg"), &stored[3])?;
    let small = dir.path().join("small");
    let (entries, _) = run(push(&file_url(&small)).arg(&images).args(["--max-width", "160"]), 0);
    assert!(entries.iter().all(|entry| entry["width"] == 160 && entry["height"] == 120), "{entries:?}");
    let counters = below(&small).iter().map(|path| counter(&fs::read(path)?)).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(counters, [0, 25, 75, 50, 75], "each is made of its own file");
    let as_wide = dir.path().join("as wide");
    run(push(&file_url(&as_wide)).arg(images.join("1-%d.jpg")).args(["--max-width", "320"]), 0);
    assert_eq!(fs::read(&below(&as_wide)[0])?, stored[1], "one that is narrow enough stays as it is");

    fs::write(images.join("0-%d.png"), "no image")?;
    let (entries, told) = run(push(&file_url(&dir.path().join("wrong"))).arg(&images), 65);
    assert!(entries.is_empty() && told.contains("0-%d.png: no_video"), "{told}");
    Ok(())
}

#[test]
fn a_cameras_pictures_are_stored_until_there_are_enough() -> anyhow::Result<()> {
    let server = CameraServer::start(&[CameraSpec::new("gate").login("viewer", "s3cret/@")], 0, default_cache_dir())?;
    let (dir, request) = (tempfile::tempdir()?, server.request(&server.specs()[0]));
    let (password, bucket) = (dir.path().join("password"), dir.path().join("bucket"));
    fs::write(&password, "s3cret/@\n")?;
    let url = request["url"].as_str().context("a URL")?;
    let login = ["--user", "viewer", "--password-file", password.to_str().context("a path")?];
    let (entries, told) = run(push(&file_url(&bucket)).arg(url).args(["--frames", "20"]).args(login), 0);
    assert_eq!(seqs(&entries), (1..=20).collect::<Vec<_>>(), "{told}");
    assert_eq!(below(&bucket).len(), 20);

    let wrong = dir.path().join("wrong");
    fs::write(&wrong, "wr0ng")?;
    let login = ["--user", "viewer", "--password-file", wrong.to_str().context("a path")?];
    let (entries, told) = run(push(&file_url(&dir.path().join("b"))).arg(url).args(["--frames", "20"]).args(login), 77);
    assert!(entries.is_empty() && told.contains("auth") && !told.contains("wr0ng"), "{told}");
    let (_, told) = run(push(&file_url(&bucket)).arg(url).args(["--resume"]), 2);
    assert!(told.contains("--resume needs a file"), "{told}");
    Ok(())
}

fn bucket(knobs: Knobs) -> anyhow::Result<GcsServer> {
    GcsServer::start(Options { buckets: vec!["b".to_owned()], knobs, ..Options::default() })
}

#[test]
fn what_a_bucket_will_not_have_stands_in_the_list() -> anyhow::Result<()> {
    let film = CLIP.mp4(&default_cache_dir())?;
    let refused = Knobs { refuse_name: Some("000000000005".to_owned()), ..Knobs::default() };
    let gcs = bucket(refused)?;
    let mut command = push("gs://b/x");
    command.arg(&film).args(["--frames", "30"]).env("FRAMEHAUL__STORAGE__ENDPOINT", gcs.endpoint());
    command.envs([("FRAMEHAUL__UPLOAD__RETRY_MIN", "50ms"), ("FRAMEHAUL__UPLOAD__RETRY_MAX", "100ms")]);
    let (entries, told) = run(&mut command, 65);
    assert_eq!(seqs(&entries), (1..=30).collect::<Vec<_>>());
    let lost: Vec<&Value> = entries.iter().filter(|entry| entry.get("lost").is_some()).collect();
    assert!(lost.len() == 1 && lost[0]["seq"] == 5 && lost[0]["lost"] == "rejected", "{lost:?}");
    assert!(gcs.objects("b").len() == 29 && told.contains("29 stored, 1 lost"), "{told}");
    // That a refusal is meant is believed at the fourth.
    assert_eq!(gcs.stats().injected.names_refused, 4);
    Ok(())
}

#[test]
fn what_is_not_ours_is_left_alone() -> anyhow::Result<()> {
    let film = CLIP.mp4(&default_cache_dir())?;
    for resume in [false, true] {
        let gcs = bucket(Knobs::default())?;
        let push = |frames: &str, options: &[&str]| {
            let mut command = push("gs://b/x");
            command.arg(&film).args(["--frames", frames]).args(options);
            command.env("FRAMEHAUL__STORAGE__ENDPOINT", gcs.endpoint());
            command
        };
        run(&mut push("3", &["--quality", "30"]), 0);
        let before = gcs.objects("b");
        let mut again = push("3", if resume { &["--resume"] } else { &[] });
        let (_, told) = run(&mut again, 65);
        assert!(told.contains("is there already and differs"), "{told}");
        assert_eq!(gcs.objects("b"), before);
        // The same once more is no conflict, and stores nothing twice.
        run(&mut push("3", &["--quality", "30"]), 0);
        assert_eq!(gcs.objects("b"), before);
    }
    Ok(())
}

#[test]
fn a_bucket_that_is_away_for_too_long_is_given_up() -> anyhow::Result<()> {
    let film = CLIP.mp4(&default_cache_dir())?;
    let mut command = push("gs://b/x");
    command.arg(&film).args(["--patience", "1s"]).env("FRAMEHAUL__STORAGE__ENDPOINT", "http://127.0.0.1:1");
    let (entries, told) = run(&mut command, 69);
    assert!(entries.is_empty() && told.contains("given up after 1 s"), "{told}");
    Ok(())
}

#[test]
fn who_interrupts_it_keeps_what_is_done() -> anyhow::Result<()> {
    let film = CLIP.mp4(&default_cache_dir())?;
    let gcs = bucket(Knobs { latency_ms: 50, ..Knobs::default() })?;
    let push = |options: &[&str]| {
        let mut command = push("gs://b/x");
        command.arg(&film).args(options).env("FRAMEHAUL__STORAGE__ENDPOINT", gcs.endpoint());
        command
    };
    let mut child = push(&["--concurrency", "2"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut read: Vec<String> = lines.by_ref().take(6).collect::<Result<_, _>>()?;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    read.extend(lines.collect::<Result<Vec<_>, _>>()?);
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{told}");
    let listed: Vec<Value> = read.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    assert_eq!(seqs(&listed), (1..=listed.len() as u64).collect::<Vec<_>>());
    assert!(listed.len() < 100 && told.contains("--resume"), "{told}");
    // What was on its way has come to its end.
    assert_eq!(gcs.objects("b").len(), listed.len());

    let (entries, told) = run(&mut push(&["--resume"]), 0);
    assert_eq!(seqs(&entries), (1..=100).collect::<Vec<_>>());
    assert!(told.contains(&format!("{} there already", listed.len())), "{told}");
    assert_eq!(gcs.stats().puts_stored, 100);
    Ok(())
}

#[test]
fn nobody_has_to_read_the_list() -> anyhow::Result<()> {
    // More than a pipe holds.
    let film = ClipSpec { seconds: 40, ..CLIP }.mp4(&default_cache_dir())?;
    let gcs = bucket(Knobs::default())?;
    let push = |to: &str, output: Stdio| {
        let mut command = push(to);
        command.arg(&film).env("FRAMEHAUL__STORAGE__ENDPOINT", gcs.endpoint());
        command.stdout(output).stderr(Stdio::piped());
        command
    };
    // Gone at once.
    let mut child = push("gs://b/gone", Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert!(output.status.success() && gcs.objects("b").len() == 1_000, "{output:?}");
    // There and silent: two signals end it, and uploads have gone on as far as the list may be unread.
    let mut child = push("gs://b/silent", Stdio::piped()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while gcs.objects("b").len() < 2_000 {
        ensure!(Instant::now() < deadline, "only {} objects", gcs.objects("b").len());
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    let (mut told, mut line) = (BufReader::new(child.stderr.take().context("its words")?), String::new());
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    told.read_line(&mut line)?;
    assert!(line.starts_with("interrupted: "), "{line}");
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    assert_eq!(child.wait()?.code(), Some(75));
    Ok(())
}

#[test]
fn what_a_directory_has_is_compared_and_not_written_again() -> anyhow::Result<()> {
    let (film, dir) = (CLIP.mp4(&default_cache_dir())?, tempfile::tempdir()?);
    let to = file_url(dir.path());
    run(push(&to).arg(&film), 0);
    let stored = below(dir.path());
    for path in stored.iter().step_by(3) {
        fs::remove_file(path)?;
    }
    let (entries, told) = run(push(&to).arg(&film).arg("--resume"), 0);
    assert_eq!(seqs(&entries), (1..=100).collect::<Vec<_>>());
    assert!(told.contains("34 stored, 66 there already"), "{told}");
    assert_eq!(below(dir.path()), stored);
    Ok(())
}

#[test]
fn what_cannot_be_pushed_is_told_and_stores_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (text, half) = (dir.path().join("notes.jpg"), dir.path().join("half.jpg"));
    fs::write(&text, "no picture")?;
    fs::write(&half, [0xff, 0xd8, 0xff, 0xc0, 0, 11, 8])?;
    let film = CLIP.mp4(&default_cache_dir())?;
    let (to, film) = (file_url(&dir.path().join("bucket")), film.to_str().context("a path")?);
    let [text, half] = [&text, &half].map(|path| path.to_str().expect("a path"));
    for (arguments, code, word) in [
        (vec!["nowhere.mp4"], 66, "nowhere.mp4"),
        (vec!["shots/*.jpg"], 66, "no file is like"),
        (vec![half], 65, "no whole JPEG"),
        (vec![text], 69, "no_video"),
        (vec!["-", "--every", "2"], 2, "--every has no meaning"),
        (vec![film, "--quality", "0"], 2, "must lie between 1 and 100"),
        (vec!["rtsp://u:p@h/main"], 2, "credentials do not belong there"),
        (vec!["-"], 66, "no picture"),
        (vec![film, "--from", "1h"], 66, "no picture"),
        (vec![film, "--fps", "nan"], 2, "--fps"),
    ] {
        let (entries, told) = run(push(&to).args(&arguments), code);
        assert!(entries.is_empty() && told.contains(word), "{arguments:?}: {told}");
    }
    let (_, told) = run(push("ftp://b/x").arg(film), 78);
    assert!(told.contains("storage.url"), "{told}");
    assert!(below(&dir.path().join("bucket")).is_empty());
    Ok(())
}
