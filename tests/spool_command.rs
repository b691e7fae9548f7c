//! `framehaul spool`, on a spool that a store has written: while one holds it and afterwards, sound and damaged.

#![allow(clippy::unwrap_used, reason = "a test fails that way")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use framehaul::config::{Durability, SpoolSettings, WhenFull};
use framehaul::journal::{Opened, StateDir};
use framehaul::model::{
    CameraId, DestinationName, Frame, LostReason, Outcome, Seq, SeqRange, Settled, SpooledCamera, Stored, UnixMicros,
};
use framehaul::spool::{self, RealDisk, Record, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A state directory with a journal that is open, and a spool of it.
struct Bench {
    dir: TempDir,
    opened: Opened,
}

fn camera(name: &str) -> CameraId {
    name.parse().unwrap()
}

fn settings(dir: &Path) -> SpoolSettings {
    SpoolSettings {
        durability: Durability::Disk,
        dir: dir.join("spool"),
        max_bytes: 64 << 20,
        segment: 1 << 20,
        when_full: WhenFull::DropOldest,
    }
}

fn record(name: &str, seq: Seq) -> Record {
    let jpeg = Bytes::from(vec![seq as u8; 150_000]);
    let frame = Frame {
        camera: camera(name),
        seq,
        session: 1,
        captured_at: UnixMicros(1_000_000 + seq as i64),
        width: 640,
        height: 480,
        damaged: false,
        crc32c: crc32c::crc32c(&jpeg),
        jpeg,
    };
    Record { frame, key: format!("{name}/{seq}.jpg") }
}

impl Bench {
    /// Frames 1 to 10 of a and 3 to 4 of b lie in two segments, of which the second is open. The journal has outcomes
    /// of a's frames 1 to 3 and 7.
    async fn new() -> (Self, Store<RealDisk>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("framehaul.toml"), format!("[state]\ndir = {:?}\n", dir.path())).unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (mut store, _) = spool::open(&settings(dir.path()), state.origin()).unwrap();
        store.resolve(&BTreeMap::new());
        for record in (1..=5).map(|seq| record("a", seq)).chain((3..=4).map(|seq| record("b", seq))) {
            store.append(&record).unwrap();
        }
        (6..=10).for_each(|seq| store.append(&record("a", seq)).unwrap());
        assert_eq!(store.commit().unwrap().len(), 12);
        let found = |first, last| SpooledCamera {
            seqs: vec![SeqRange { first, last }],
            session: 1,
            newest: UnixMicros(1_000_000),
        };
        let spooled = BTreeMap::from([(camera("a"), found(1, 10)), (camera("b"), found(3, 4))]);
        let opened = state.recover(&spooled, |_| (), |_| ()).unwrap();
        let ledger = opened.cameras.iter().find(|known| *known.ledger.camera() == camera("a")).unwrap().ledger.clone();
        for seq in [1, 2, 3, 7] {
            let at = UnixMicros(seq);
            let stored = Stored {
                destination: DestinationName::default(),
                key: format!("a/{seq}.jpg"),
                captured_at: at,
                stored_at: at,
                bytes: 150_000,
                crc32c: 1,
                width: 640,
                height: 480,
                damaged: false,
            };
            let outcome = match seq {
                3 => Outcome::Lost { reason: LostReason::Damaged, maybe_stored: false },
                _ => Outcome::Stored(stored),
            };
            let seqs = SeqRange::one(seq as Seq);
            let settled = Settled { camera: camera("a"), seqs, session: Some(1), outcome, counted: true };
            opened.journal.settle(ledger.clone(), settled);
        }
        opened.journal.barrier().await;
        (Self { dir, opened }, store)
    }

    /// Runs `framehaul spool`; its exit code, what it printed, what it said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_framehaul"));
        command.arg("spool").args(arguments).stdin(Stdio::null());
        if !arguments.contains(&"--dir") {
            command.arg("--config").arg(self.dir.path().join("framehaul.toml"));
        }
        let output = command.output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, err)
    }

    #[track_caller]
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let (exit, out, err) = self.run(&[arguments, &["--format", "json"]].concat());
        assert_eq!(exit, Some(code), "{arguments:?}: {out}{err}");
        assert_eq!(err.is_empty(), code == 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.dir.path().join(format!("spool/default/{number:012}.segment"))
    }

    fn end(&self) {
        self.opened.journal.close();
    }
}

#[tokio::test]
async fn a_spool_is_shown_while_somebody_holds_it_and_afterwards() {
    let (bench, mut store) = Bench::new().await;
    for last in ["open", "sealed"] {
        let shown = bench.json(0, &["ls"]);
        assert_eq!(shown["dir"], json!(bench.dir.path().join("spool")));
        let states: Vec<&Value> = shown["segments"].as_array().unwrap().iter().map(|s| &s["state"]).collect();
        assert_eq!(states, ["sealed", last]);
        let first = &shown["segments"][0];
        assert_eq!((&first["segment"], &first["frames"], &first["waiting"]), (&json!(1), &json!(6), &json!(3)));
        let cameras = json!([
            {"camera": "a", "frames": 5, "seqs": [[1, 5]], "waiting": [[4, 5]]},
            {"camera": "b", "frames": 1, "seqs": [[3, 3]], "waiting": [[3, 3]]},
        ]);
        for (shown, expected) in first["cameras"].as_array().unwrap().iter().zip(cameras.as_array().unwrap()) {
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&shown[key], value, "{key} of {shown}");
            }
        }
        assert_eq!(first["first_captured_at"], "1970-01-01T00:00:01.000001Z");
        assert_eq!(shown["segments"][1]["waiting"], 5);

        let shown = bench.json(0, &["inspect", "2"]);
        let frames: Vec<_> = shown["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| (r["camera"].as_str(), r["seq"].as_u64(), r["waiting"].as_bool()))
            .collect();
        let expected =
            [("b", 4, true), ("a", 6, true), ("a", 7, false), ("a", 8, true), ("a", 9, true), ("a", 10, true)];
        assert_eq!(frames, expected.map(|(camera, seq, waits)| (Some(camera), Some(seq), Some(waits))));
        assert_eq!(shown["records"][0]["key"], "b/4.jpg");
        assert_eq!(shown["records"][0]["bytes"], 150_000);

        let shown = bench.json(0, &["verify"]);
        assert_eq!((&shown["segments"][0]["frames"], &shown["segments"][1]["damage"]), (&json!(6), &json!([])));

        let (_, table, _) = bench.run(&["ls"]);
        assert!(
            table.starts_with("DESTINATION  SEGMENT  STATE ") && table.ends_with(", 12 frames, 8 waiting\n"),
            "{table}"
        );
        let (_, table, _) = bench.run(&["inspect", "1"]);
        assert!(table.lines().nth(3).unwrap().contains("no       a/3.jpg"), "{table}");
        assert!(table.lines().nth(4).unwrap().contains("yes      a/4.jpg"), "{table}");
        store.close().unwrap();
    }
    bench.end();
}

#[tokio::test]
async fn damage_is_found_and_named() {
    let (bench, mut store) = Bench::new().await;
    store.close().unwrap();
    let path = bench.segment(1);
    let mut content = fs::read(&path).unwrap();
    content[200_000] ^= 1;
    fs::write(&path, &content).unwrap();

    // The footers are sound.
    bench.json(0, &["ls"]);
    let shown = bench.json(65, &["verify"]);
    let segments = shown["segments"].as_array().unwrap();
    assert_eq!((&segments[0]["state"], &segments[1]["state"]), (&json!("damaged"), &json!("sealed")));
    let damage = &segments[0]["damage"][0];
    assert_eq!((&damage["frames"], &segments[0]["frames"]), (&json!([{"camera": "a", "seq": 2}]), &json!(5)));
    let (offset, length) = (damage["offset"].as_u64().unwrap(), damage["length"].as_u64().unwrap());
    assert!(offset < 200_000 && 200_000 < offset + length && length < 151_000, "{damage}");
    let (code, table, said) = bench.run(&["verify"]);
    assert_eq!((code, said.as_str()), (Some(65), "error: 1 of 2 segments damaged\n"));
    assert!(table.contains(&format!("\nsegment 1: {length} bytes at {offset} are no record: seq 2 of a\n")), "{table}");
    let shown = bench.json(65, &["inspect", "1"]);
    assert_eq!((shown["records"].as_array().unwrap().len(), &shown["damage"]), (5, &json!([damage])));
    // One that is asked for by its number is read alone.
    bench.json(0, &["verify", "2"]);
    bench.json(65, &["verify", "2", "1"]);

    // Without its end it cannot say what it held.
    fs::write(&path, &content[..content.len() - 100]).unwrap();
    assert_eq!(bench.json(65, &["ls"])["segments"][0]["state"], "damaged");
    bench.end();
}

#[tokio::test]
async fn it_needs_neither_a_configuration_nor_a_journal() {
    let (bench, _store) = Bench::new().await;
    bench.opened.journal.barrier().await;
    let dir = bench.dir.path().join("spool");
    let dir = dir.to_str().unwrap();
    let shown = bench.json(0, &["ls", "--dir", dir]);
    assert_eq!((&shown["segments"][0]["frames"], &shown["segments"][0]["waiting"]), (&json!(6), &Value::Null));
    assert_eq!(bench.json(0, &["verify", "--dir", dir])["segments"].as_array().unwrap().len(), 2);
    assert_eq!(bench.json(0, &["inspect", "1", "--dir", dir])["records"][0]["waiting"], Value::Null);

    bench.end();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = bench.dir.path().join("framehaul.toml");
    fs::write(&config, format!("[state]\ndir = {:?}\n[spool]\ndir = {dir:?}\n", elsewhere.path())).unwrap();
    let (code, out, err) = bench.run(&["ls"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(err.starts_with("what waits is not known: ") && out.contains("12 frames\n"), "{out}{err}");
    assert!(fs::read_dir(elsewhere.path()).unwrap().next().is_none(), "a look has made something");
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let (bench, _store) = Bench::new().await;
    for (arguments, code, message) in [
        (
            &["ls", "--dir", "/nowhere/spool"][..],
            66,
            "error: there is no spool in /nowhere/spool: name its directory with --dir\n",
        ),
        (
            &["verify", "--dir", "/nowhere/spool"],
            66,
            "error: there is no spool in /nowhere/spool: name its directory with --dir\n",
        ),
        (&["verify", "2", "9"], 66, "error: there is no segment 9 in "),
        (&["inspect", "9"], 66, "see `framehaul spool ls`\n"),
        (&["inspect", "x"], 2, "--help"),
    ] {
        let (exit, out, err) = bench.run(arguments);
        assert_eq!((exit, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.contains(message), "{arguments:?}: {err}");
    }
    bench.end();
}
