//! Recordings: which of their pictures are pushed, and where their reading begins.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use framehaul::capture::{Deadlines, Launcher, ProcessEvent, Reach};
use framehaul::model::{Extent, RawCameraSpec};
use serde_json::{Value, json};
use testbed::cameras::default_cache_dir;
use testbed::clip::ClipSpec;

use crate::{CLIP, PROGRAM, below, file_url, push, run, seqs};

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
