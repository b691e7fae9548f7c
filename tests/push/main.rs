//! `framehaul push`: whatever the source, all of it in the bucket, in order, or told.

mod recordings;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
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
    // Whichever engine is asked for: OpenCV's goes by names.
    let by_opencv = dir.path().join("by opencv");
    run(push(&file_url(&by_opencv)).arg(&images).args(["--max-width", "160", "--engine", "opencv"]), 0);
    for (one, other) in below(&small).iter().zip(below(&by_opencv)) {
        assert_eq!(fs::read(one)?, fs::read(other)?, "{}", one.display());
    }
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
