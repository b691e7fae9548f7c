//! A large bucket in little memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use framehaul::journal::{Ledger, NewSession, StateDir};
use framehaul::model::{
    CameraId, DestinationName, Frame, KeyTemplate, Outcome, Seq, SeqRange, Settled, SpooledCamera, Stored, TimeSource,
    UnixMicros,
};
use serde_json::{Value, json};

use crate::bench::{BOTH, Bench, Where};

const TEMPLATE: &str = "{camera}/{yyyy}/{mm}/{dd}/{hh}/{captured_at}-{origin}-{seq}.jpg";

/// What a check may take: 100 MB.
const MOST_MIB: f64 = 95.0;

fn content(seq: Seq) -> Bytes {
    Bytes::from(format!("frame {seq} ").repeat(20))
}

/// Fills journal and bucket with frames of `gate`, ten a second, as a daemon would have.
fn fill(bench: &Bench, frames: Seq) -> anyhow::Result<()> {
    let camera: CameraId = "gate".parse()?;
    let state = StateDir::open(&bench.state())?;
    let origin = state.origin().clone();
    let known = BTreeMap::from([(camera.clone(), SpooledCamera::default())]);
    let opened = state.recover(&known, |_| (), |_| ())?;
    let ledger: &std::sync::Arc<Ledger> = &opened.cameras[0].ledger;
    let template = KeyTemplate::parse(TEMPLATE).map_err(anyhow::Error::msg)?;
    let begun = UnixMicros::now().before(Duration::from_millis(100 * frames));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let opens = opened.journal.open_session(NewSession {
        camera: camera.clone(),
        session: 1,
        first_seq: 1,
        opened: begun,
        codec: None,
        size: (160, 160),
        time_source: TimeSource::Arrival,
    });
    runtime.block_on(opens).context("no session")?;
    let mut objects = Vec::new();
    for seq in 1..=frames {
        let jpeg = content(seq);
        let frame = Frame {
            camera: camera.clone(),
            seq,
            session: 1,
            captured_at: begun.after(Duration::from_millis(100 * seq)),
            width: 160,
            height: 160,
            damaged: false,
            crc32c: crc32c::crc32c(&jpeg),
            jpeg,
        };
        let key = template.render(&frame, &origin);
        let stored = Stored {
            destination: DestinationName::default(),
            key: key.clone(),
            captured_at: frame.captured_at,
            stored_at: frame.captured_at,
            bytes: frame.jpeg.len() as u64,
            crc32c: frame.crc32c,
            width: 160,
            height: 160,
            damaged: false,
        };
        let (seqs, outcome) = (SeqRange::one(seq), Outcome::Stored(stored));
        let settled = Settled { camera: camera.clone(), seqs, session: Some(1), outcome, counted: false };
        opened.journal.settle(ledger.clone(), settled);
        match bench.gcs {
            Some(_) => objects.push((key, frame.jpeg)),
            None => {
                let file = bench.stage.dir().join("frames").join(key);
                fs::create_dir_all(file.parent().context("no directory")?)?;
                fs::write(file, &frame.jpeg)?;
            }
        }
    }
    opened.journal.close();
    opened.writer.join().map_err(|_| anyhow::anyhow!("the journal's writer panicked"))?;
    bench.put_all(&objects)
}

/// Runs a check to its end; its answer, the most memory it had in MiB, and how long it took.
fn measured(bench: &Bench, code: i32) -> anyhow::Result<(Value, f64, f64)> {
    let begun = Instant::now();
    let mut child =
        bench.command(&["--all", "--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut out = child.stdout.take().context("no output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    // The high-water mark only rises: the last one seen is short of what the last moment added, and no more.
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        if let Some(kib) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak_kib = kib.trim().trim_end_matches(" kB").parse::<u64>()?.max(peak_kib);
        }
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let seconds = begun.elapsed().as_secs_f64();
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(ended.code() == Some(code), "{ended}: {}", &text[..text.len().min(2_000)]);
    ensure!(peak_kib > 0, "its memory was never seen");
    Ok((serde_json::from_str(&text)?, peak_kib as f64 / 1_024.0, seconds))
}

#[test]
fn a_large_bucket_is_ok_in_little_memory() -> anyhow::Result<()> {
    let frames = std::env::var("FRAMES").ok().filter(|text| !text.is_empty());
    let frames: u64 = frames.map_or(Ok(5_000), |text| text.parse()).context("FRAMES is no number")?;
    for place in BOTH {
        let mut bench = Bench::prepare(place, "[manifests]\nevery = \"1s\"\nentries = 1000\n")?;
        fill(&bench, frames)?;
        // Manifests are the daemon's own.
        bench.daemon.run()?;
        bench.until_written(frames / 1_000)?;
        ensure!(bench.daemon.stop()?.success(), "it does not end well");
        let (report, peak_mib, seconds) = measured(&bench, 0)?;
        assert_eq!((&report["ok"], &report["total"]["frames"]), (&json!(true), &json!(frames)), "{place:?}: {report}");
        assert_eq!(report["total"]["manifests"], frames.div_ceil(1_000), "{place:?}");
        let bucket = if place == Where::Gcs { "gs" } else { "file" };
        let rounded = |number: f64| (number * 10.0).round() / 10.0;
        let (peak_mib, seconds) = (rounded(peak_mib), rounded(seconds));
        println!("{}", json!({"verify": bucket, "frames": frames, "peak_mib": peak_mib, "seconds": seconds}));
        assert!(peak_mib < MOST_MIB, "{peak_mib} MiB");
        if place == Where::Directory {
            // All of them gone takes no more.
            fs::rename(bench.stage.dir().join("frames/gate"), bench.stage.dir().join("frames/away"))?;
            let (report, peak_mib, _) = measured(&bench, 65)?;
            assert_eq!(report["total"]["wrong"]["missing"], frames);
            assert_eq!(report["findings"].as_array().map(Vec::len), Some(frames as usize));
            assert!(peak_mib < MOST_MIB, "{peak_mib} MiB");
        }
    }
    Ok(())
}
