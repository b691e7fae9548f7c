//! `framehaul verify`: what a daemon has stored and listed, spoilt in one way after another.
//!
//! `FRAMES=100000` makes the large bucket larger.

#![allow(clippy::unwrap_used, reason = "a test fails that way")]

mod bench;
mod large;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testbed::synthetic::Synthetic;

use crate::bench::{BOTH, Bench, ENTRIES, FRAMES, Where, findings, wrong};

fn only(kind: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(kind.to_owned(), count)])
}

/// Tells that a damage was found, as often as it was done.
fn tell(damage: &str, place: Where, faults: u64) {
    println!("{}", json!({"found": damage, "bucket": format!("{place:?}"), "faults": faults}));
}

#[test]
fn what_is_as_it_was_written_is_ok() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let frames = bench.keys()?.len() as u64;
        let before = snapshot(&bench)?;
        let report = bench.verify(0, &["gate"]);
        assert_eq!((&report["ok"], &report["findings"]), (&json!(true), &json!([])), "{place:?}");
        assert_eq!(report["total"]["frames"], frames, "{place:?}: {report}");
        assert_eq!(report["total"]["manifests"], frames.div_ceil(ENTRIES), "{place:?}: {report}");
        assert_eq!(report["total"]["sizes_only"], 0);
        assert_eq!(bench.verify(0, &["--all"])["cameras"][0]["camera"], "gate");

        let (code, table, said) = bench.run(&["--all"])?;
        assert_eq!((code, said.as_str()), (Some(0), ""), "{table}");
        let last = format!("OK: {frames} frames, {} manifests, 1 camera\n", frames.div_ceil(ENTRIES));
        assert!(table.starts_with("CAMERA  STORED") && table.ends_with(&last), "{table}");

        let quick = bench.verify(0, &["--all", "--quick"]);
        let by_size = if place == Where::Directory { frames } else { 0 };
        assert_eq!(quick["total"]["sizes_only"], by_size, "{place:?}");

        // Half of the frames are older than the one in the middle.
        let middle: i64 = bench.journal()?.query_row(
            "SELECT captured_at FROM frame WHERE lost IS NULL ORDER BY seq LIMIT 1 OFFSET ?1",
            [frames as i64 / 2],
            |row| row.get(0),
        )?;
        let since = framehaul::model::UnixMicros(middle).to_string();
        assert_eq!(bench.verify(0, &["gate", "--since", &since])["total"]["frames"], frames - frames / 2, "{place:?}");
        assert_eq!(bench.verify(0, &["gate", "--since", "1h"])["total"]["frames"], frames);
        assert_eq!(bench.verify(0, &["gate", "--since", "2999-01-01T00:00:00Z"])["total"]["frames"], 0);
        assert_eq!(snapshot(&bench)?, before, "a look has changed something");
    }
    Ok(())
}

/// What is in the directory of the state and, where that is it, in the bucket: SQLite's side files come and go.
fn snapshot(bench: &Bench) -> anyhow::Result<BTreeMap<String, u64>> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![bench.state(), bench.stage.dir().join("frames")]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let entry = entry?;
            let name = entry.path().display().to_string();
            match entry.file_type()?.is_dir() {
                true => dirs.push(entry.path()),
                false if name.ends_with("-wal") || name.ends_with("-shm") => {}
                false => _ = found.insert(name, entry.metadata()?.len()),
            }
        }
    }
    Ok(found)
}

#[test]
fn a_deleted_object_is_missing() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let key = &bench.keys()?[&7];
        bench.delete(key)?;
        for quick in [&["--all"][..], &["--all", "--quick"]] {
            let report = bench.verify(65, quick);
            assert_eq!(wrong(&report), only("missing", 1), "{place:?}");
            let found = &report["findings"][0];
            assert_eq!((&found["camera"], &found["seq"], &found["key"]), (&json!("gate"), &json!(7), &json!(key)));
        }
        let (_, table, said) = bench.run(&["gate"])?;
        assert_eq!(said, "error: 1 missing\n");
        assert!(table.contains(&format!("missing  gate 7  {key}: there is no object\n")), "{table}");
        assert!(table.contains("\nNOT OK: "), "{table}");
        for seq in 8..=12 {
            bench.delete(&bench.keys()?[&seq])?;
        }
        let (_, table, said) = bench.run(&["gate", "--limit", "2"])?;
        assert_eq!((table.matches("\nmissing  gate ").count(), said.as_str()), (2, "error: 6 missing\n"), "{table}");
        assert!(table.contains("\nand 4 more: --limit 6 shows all\n"), "{table}");
        let report = bench.verify(65, &["gate", "--limit", "2"]);
        assert_eq!((findings(&report, "missing").len(), &report["findings_total"]), (2, &json!(6)));
        tell("deleted", place, 6);
    }
    Ok(())
}

#[test]
fn two_objects_that_were_swapped_are_both_corrupt() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let keys = bench.keys()?;
        let (one, other) = (bench.read(&keys[&3])?, bench.read(&keys[&30])?);
        assert_eq!(one.len(), other.len(), "sizes must not be what shows it");
        bench.replace(&keys[&3], &other)?;
        bench.replace(&keys[&30], &one)?;
        let report = bench.verify(65, &["gate"]);
        assert_eq!(wrong(&report), only("corrupt", 2), "{place:?}");
        let seqs: Vec<_> = findings(&report, "corrupt").iter().map(|found| found["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, [3, 30]);
        // Where the list has checksums, they cost nothing.
        bench.verify(if place == Where::Directory { 0 } else { 65 }, &["gate", "--quick"]);
        tell("swapped", place, 2);
    }
    Ok(())
}

#[test]
fn a_truncated_object_is_corrupt() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let key = &bench.keys()?[&11];
        let content = bench.read(key)?;
        bench.replace(key, &content[..content.len() - 1])?;
        for quick in [&["--all"][..], &["--all", "--quick"]] {
            let report = bench.verify(65, quick);
            assert_eq!(wrong(&report), only("corrupt", 1), "{place:?}");
            let found = &report["findings"][0];
            assert_eq!(found["detail"], "it is cut off: it has 2999 bytes, 3000 were stored");
        }
        tell("truncated", place, 1);
    }
    Ok(())
}

#[test]
fn a_foreign_object_is_told_from_another_origins() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let key = bench.keys()?[&1].clone();
        let origin = bench.origin()?;
        let other = key.replace(origin.as_str(), if origin.as_str() == "00000000" { "zzzzzzzz" } else { "00000000" });
        bench.put(&other, b"another daemon's")?;
        assert_eq!(bench.verify(0, &["gate"])["total"]["other_origins"], 1, "{place:?}");
        bench.put("gate/notes.txt", b"nobody's")?;
        bench.put(&format!("{key}.bak"), b"nobody's")?;
        // Not below the camera's prefix.
        bench.put("gate-2/notes.txt", b"somebody else's")?;
        let report = bench.verify(65, &["gate"]);
        assert_eq!(wrong(&report), only("foreign", 2), "{place:?}");
        assert_eq!(findings(&report, "foreign")[1]["key"], "gate/notes.txt");
        tell("foreign", place, 2);
    }
    Ok(())
}

#[test]
fn an_object_of_ours_that_no_list_has_is_unlisted() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let (first, second) = (bench.keys()?[&1].clone(), bench.keys()?[&2].clone());
        let twin = first.replace("/gate", "").replace("gate/2", "gate/1");
        bench.put(&twin, &bench.read(&first)?)?;
        let report = bench.verify(65, &["gate"]);
        assert_eq!(wrong(&report), only("unlisted", 1), "{place:?}");
        assert_eq!(report["findings"][0]["detail"], format!("the journal says that this frame is stored as {first}"));
        bench.delete(&twin)?;

        // Lost, says the journal; the object may be there only where it says so, too. The manifest says stored.
        let lose = |maybe: i64| {
            let sql = "UPDATE frame SET lost = 'shutdown', maybe_stored = ?1, key = NULL WHERE seq = 2";
            bench.journal().map(|journal| journal.execute(sql, [maybe]).unwrap())
        };
        lose(0)?;
        let report = bench.verify(65, &["gate"]);
        let both = BTreeMap::from([("unlisted".to_owned(), 1), ("manifest".to_owned(), 1)]);
        assert_eq!(wrong(&report), both, "{place:?}");
        assert_eq!(findings(&report, "unlisted")[0]["key"], second);
        lose(1)?;
        let report = bench.verify(65, &["gate"]);
        assert_eq!((wrong(&report), &report["total"]["maybe_stored"]), (only("manifest", 1), &json!(1)), "{place:?}");
        tell("unlisted", place, 3);
    }
    Ok(())
}

#[test]
fn an_edited_manifest_is_found() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let key = bench.manifest(ENTRIES + 1, 2 * ENTRIES)?;
        let content = String::from_utf8(bench.read(&key)?)?;
        let longer = format!("{content}\n");
        let other = content.replacen("\"width\":160", "\"width\":320", 1);
        for (edited, told) in [(longer, " bytes, "), (other, "its bytes are not those that were written")] {
            assert_ne!(edited, content);
            bench.replace(&key, edited.as_bytes())?;
            let report = bench.verify(65, &["gate"]);
            assert_eq!(wrong(&report), only("manifest", 1), "{place:?}");
            let found = &report["findings"][0];
            assert_eq!((&found["key"], &found["seq"]), (&json!(key), &json!(ENTRIES + 1)));
            let detail = found["detail"].as_str().unwrap();
            assert!(detail.starts_with("it was changed: ") && detail.contains(told), "{detail}");
        }
        bench.delete(&key)?;
        let report = bench.verify(65, &["gate"]);
        assert_eq!(wrong(&report), only("manifest", 1), "{place:?}");
        assert_eq!(report["findings"][0]["detail"], "it is not there");
        bench.put(&key, content.as_bytes())?;
        bench.verify(0, &["gate"]);
        tell("edited manifest", place, 3);
    }
    Ok(())
}

#[test]
fn a_missing_journal_row_is_found_and_a_manifest_tells_what_it_was() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let keys = bench.keys()?;
        bench.journal()?.execute("DELETE FROM frame WHERE seq IN (5, 6, 33)", [])?;
        let report = bench.verify(65, &["gate"]);
        assert_eq!(wrong(&report), only("gap", 3), "{place:?}");
        let gaps: Vec<_> =
            findings(&report, "gap").iter().map(|gap| [&gap["seq"], &gap["last"], &gap["key"]]).collect();
        let [first, second] =
            [bench.manifest(1, ENTRIES)?, bench.manifest(ENTRIES + 1, 2 * ENTRIES)?].map(|key| json!(key));
        assert_eq!(gaps, [[&json!(5), &json!(6), &first], [&json!(33), &json!(33), &second]]);
        // What the manifest tells is looked for as what the journal told.
        assert_eq!(report["total"]["frames"], keys.len());
        bench.delete(&keys[&6])?;
        assert_eq!(wrong(&bench.verify(65, &["gate"]))["missing"], 1);
        tell("missing row", place, 3);
    }
    Ok(())
}

#[test]
fn seqs_in_no_list_are_gaps() -> anyhow::Result<()> {
    for place in BOTH {
        // An orderly end leaves word of the watermark.
        let bench = Bench::with(place, "[manifests]\nenabled = false\n")?;
        bench.verify(0, &["gate"]);
        bench.journal()?.execute("DELETE FROM frame WHERE seq BETWEEN 8 AND 9", [])?;
        let report = bench.verify(65, &["gate"]);
        let expected = BTreeMap::from([("gap".to_owned(), 2), ("unlisted".to_owned(), 2)]);
        assert_eq!(wrong(&report), expected, "{place:?}");
        let gap = findings(&report, "gap")[0];
        assert_eq!((&gap["seq"], &gap["last"]), (&json!(8), &json!(9)));
    }
    // A manifest that neither the journal nor the bucket has.
    let bench = Bench::new(Where::Directory)?;
    bench.delete(&bench.manifest(ENTRIES + 1, 2 * ENTRIES)?)?;
    bench.journal()?.execute("DELETE FROM manifest WHERE first = ?1", [ENTRIES as i64 + 1])?;
    let report = bench.verify(65, &["gate"]);
    assert_eq!(wrong(&report), only("manifest", 1));
    let detail = format!("no manifest holds the seqs {} to {} before it", ENTRIES + 1, 2 * ENTRIES);
    assert_eq!(report["findings"][0]["detail"], detail);
    Ok(())
}

#[test]
fn retention_leaves_to_the_manifests_what_the_journal_forgets() -> anyhow::Result<()> {
    for place in BOTH {
        let bench = Bench::new(place)?;
        let keys = bench.keys()?;
        bench.journal()?.execute_batch("DELETE FROM frame WHERE seq <= 25; UPDATE camera SET pruned_to = 25;")?;
        assert_eq!(bench.verify(0, &["gate"])["total"]["frames"], keys.len(), "{place:?}");
        bench.delete(&keys[&4])?;
        let report = bench.verify(65, &["gate"]);
        assert_eq!((wrong(&report), &report["findings"][0]["seq"]), (only("missing", 1), &json!(4)), "{place:?}");
    }
    Ok(())
}

#[test]
fn a_bucket_that_does_not_answer_has_not_been_checked() -> anyhow::Result<()> {
    let mut bench = Bench::new(Where::Gcs)?;
    let gcs = bench.gcs.take().unwrap();
    for status in [400, 401, 403, 503] {
        gcs.change_knobs(|knobs| knobs.refuse_status = Some(status))?;
        let report = bench.verify(69, &["gate"]);
        assert!(wrong(&report).keys().eq(["not_checked"]), "{status}: {report}");
        assert!(wrong(&report)["not_checked"] >= FRAMES, "{status}: {report}");
        assert_eq!(report["ok"], false);
    }
    gcs.change_knobs(|knobs| knobs.refuse_status = None)?;
    bench.verify(0, &["gate"]);
    drop(gcs);
    let (code, out, err) = bench.run(&["gate"])?;
    assert_eq!(code, Some(69), "{out}{err}");
    assert!(err.starts_with("error: not all could be checked: ") && out.contains("NOT OK: "), "{out}{err}");

    // Nor has a directory that is not there.
    let bench = Bench::new(Where::Directory)?;
    std::fs::rename(bench.stage.dir().join("frames"), bench.stage.dir().join("away"))?;
    let report = bench.verify(69, &["gate"]);
    assert!(wrong(&report).keys().eq(["not_checked"]), "{report}");
    assert!(!bench.stage.dir().join("frames").exists(), "a look has made something");
    std::fs::rename(bench.stage.dir().join("away"), bench.stage.dir().join("frames"))?;
    bench.verify(0, &["gate"]);

    // Nor have frames that lie where no destination leads any more.
    let config = bench.stage.dir().join("framehaul.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("/frames\"", "/elsewhere\""))?;
    for make in [false, true] {
        if make {
            std::fs::create_dir(bench.stage.dir().join("elsewhere"))?;
        }
        let report = bench.verify(69, &["gate"]);
        assert!(wrong(&report).keys().eq(["not_checked"]), "{report}");
        assert!(wrong(&report)["not_checked"] >= FRAMES, "{report}");
    }
    Ok(())
}

#[test]
fn beside_a_running_daemon_nothing_on_its_way_is_a_fault() -> anyhow::Result<()> {
    for place in BOTH {
        let mut bench = Bench::prepare(place, "[manifests]\nevery = \"1s\"\nentries = 20\n")?;
        bench.daemon.run()?;
        bench.daemon.put_camera("gate", &Synthetic::new("gate").fps(60.0).bytes(3_000).request())?;
        for round in 1..=4 {
            bench.daemon.wait_for("gate", Duration::from_secs(30), |status| status.watermark >= 40 * round)?;
            let report = bench.verify(0, &["--all"]);
            assert!(report["total"]["frames"].as_u64().unwrap() >= 40 * round, "{place:?}: {report}");
        }
        assert!(bench.daemon.stop()?.success());
    }
    Ok(())
}

#[test]
fn a_key_template_that_begins_with_the_time_is_listed_once_for_all_cameras() -> anyhow::Result<()> {
    let mut bench = Bench::prepare(Where::Gcs, "")?;
    bench.daemon.env("FRAMEHAUL__STORAGE__KEY_TEMPLATE", "{yyyy}/{mm}/{camera}-{origin}-{seq}.jpg");
    bench.daemon.run()?;
    for name in ["gate", "gate-2"] {
        bench.daemon.put_camera(name, &Synthetic::new(name).fps(200.0).frames(20).bytes(3_000).request())?;
        bench.daemon.wait_for(name, Duration::from_secs(60), |status| status.watermark >= 20)?;
    }
    bench.daemon.quiesce(Duration::from_secs(60))?;
    assert!(bench.daemon.stop()?.success());
    let verify = |code, arguments: &[&str]| {
        let arguments = [arguments, &["--format", "json"]].concat();
        let mut command = bench.command(&arguments);
        command.env("FRAMEHAUL__STORAGE__KEY_TEMPLATE", "{yyyy}/{mm}/{camera}-{origin}-{seq}.jpg");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let report = verify(0, &["--all"]);
    assert_eq!((&report["cameras"][0]["camera"], &report["cameras"][1]["camera"]), (&json!("gate"), &json!("gate-2")));
    assert!(report["total"]["frames"].as_u64().unwrap() >= 40, "{report}");
    verify(0, &["gate"]);
    bench.put("2026/01/gate-nobody.jpg", b"x")?;
    assert_eq!(wrong(&verify(65, &["--all"])), only("foreign", 1));
    // With another template, the keys that the list does not reach are asked for one by one; the rest nobody knows.
    let report = bench.verify(0, &["gate-2"]);
    assert!(report["total"]["frames"].as_u64().unwrap() >= 20, "{report}");
    Ok(())
}

#[test]
fn what_cannot_be_asked_is_refused() -> anyhow::Result<()> {
    let bench = Bench::new(Where::Directory)?;
    for (arguments, code, message) in [
        (&["hall"][..], 66, "error: the journal has no camera `hall`"),
        (&[], 2, "--all"),
        (&["gate", "--all"], 2, "cannot be used with"),
        (&["gate", "--since", "yesterday"], 2, "2d or 12h"),
        (&["../gate"], 2, "is not a camera id"),
    ] {
        let (exit, out, err) = bench.run(arguments)?;
        assert_eq!((exit, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.contains(message), "{arguments:?}: {err}");
    }
    Ok(())
}
