//! Looking at spools that are whole, damaged, foreign or being written.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tempfile::TempDir;

use super::*;
use crate::model::{DestinationName, UnixMicros};
use crate::spool::testing::*;
use crate::spool::{RealDisk, Store};

/// A spool of 34 frames of a and 4 of b in three segments, the last one sealed or open.
fn spool(sealed: bool) -> (TempDir, Inspector) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(&stream(dir.path(), &DestinationName::default()));
    fill(&mut store, "a", 1..=20, 1_000);
    fill(&mut store, "b", 5..=8, 700);
    fill(&mut store, "a", 22..=35, 1_000);
    if sealed {
        store.close().unwrap();
    }
    let inspector = Inspector::open(dir.path(), &DestinationName::default(), Some(origin())).unwrap();
    (dir, inspector)
}

fn frames(views: &[SegmentView]) -> BTreeMap<String, Vec<SeqRange>> {
    let mut frames = BTreeMap::<String, Vec<SeqRange>>::new();
    for (camera, seqs) in views.iter().flat_map(|view| &view.cameras) {
        let all = frames.entry(camera.to_string()).or_default();
        all.extend(seqs);
    }
    frames.values_mut().for_each(|all| *all = ranges(all.iter().flat_map(|range| range.first..=range.last)));
    frames
}

fn states(views: &[SegmentView]) -> Vec<&'static str> {
    views.iter().map(|view| view.state.as_str()).collect()
}

#[test]
fn segments_say_what_they_hold_and_nothing_is_touched() {
    for sealed in [false, true] {
        let (dir, inspector) = spool(sealed);
        fs::write(inspector.dir().join("notes.txt"), "x").unwrap();
        fs::write(inspector.dir().join("000000000077.segment"), "x".repeat(900)).unwrap();
        fs::copy(inspector.dir().join(segment_name(1)), inspector.dir().join(segment_name(78))).unwrap();
        let contents = |inspector: &Inspector| -> BTreeMap<_, _> {
            let files = fs::read_dir(inspector.dir()).unwrap().map(|entry| entry.unwrap().path());
            files.map(|path| (fs::read(&path).unwrap(), path)).map(|(content, path)| (path, content)).collect()
        };
        let before = contents(&inspector);
        let views = inspector.segments().unwrap();
        let last = if sealed { "sealed" } else { "open" };
        assert_eq!(states(&views), ["sealed", "sealed", last, "foreign", "foreign", "foreign"]);
        assert_eq!((views[0].number, views[5].number), (Some(1), None));
        let expected = [("a".to_owned(), vec![range(1, 20), range(22, 35)]), ("b".to_owned(), vec![range(5, 8)])];
        assert_eq!(frames(&views), BTreeMap::from(expected));
        let captured = |seq: i64| UnixMicros(1_000_000 + seq * 40_000);
        assert_eq!(views[0].captured.unwrap().0, captured(1));
        assert_eq!(views[2].captured.unwrap().1, captured(35));

        let mut seqs = Vec::new();
        for number in 1..=3 {
            let (records, verdict) = inspector.records(number).unwrap();
            assert_eq!(verdict.state, views[number as usize - 1].state);
            assert_eq!((verdict.frames, verdict.damage.len()), (records.len() as u64, 0));
            assert_eq!(inspector.verify(number, |_| ()).unwrap(), verdict);
            for view in &records {
                let frame = record(view.camera.as_str(), view.seq, view.bytes as usize);
                assert_eq!((view.session, view.captured_at), (frame.frame.session, frame.frame.captured_at));
                assert_eq!((&view.key, view.size), (&frame.key, (64, 48)));
                assert_eq!(view.place.segment, number);
            }
            seqs.extend(records.into_iter().filter(|view| view.camera == camera("a")).map(|view| view.seq));
        }
        assert_eq!(ranges(seqs.into_iter()), [range(1, 20), range(22, 35)]);
        assert_eq!(contents(&inspector), before);

        // Somebody else's spool is foreign; where nobody knows whose it should be, it is taken for what it says.
        let other =
            Inspector::open(dir.path(), &DestinationName::default(), Some(Origin::from_random([9; 5]))).unwrap();
        assert_eq!(states(&other.segments().unwrap()), ["foreign"; 6]);
        assert_eq!(other.verify(1, |_| ()).unwrap().state, SegmentState::Foreign);
        let any = Inspector::open(dir.path(), &DestinationName::default(), None).unwrap();
        assert_eq!(states(&any.segments().unwrap()), states(&views));
    }
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let (dir, inspector) = spool(true);
    assert!(matches!(inspector.verify(9, |_| ()), Err(InspectError::NoSegment { number: 9, .. })));
    assert!(matches!(Inspector::open_all(&dir.path().join("x"), None), Err(InspectError::NoSpool { .. })));
    assert!(matches!(Inspector::open_all(inspector.dir(), None), Err(InspectError::NoSpool { .. })));
}

#[test]
fn every_flipped_byte_is_found_and_costs_the_frame_it_touches_at_most() {
    for sealed in [true, false] {
        let (_dir, inspector) = spool(sealed);
        let (records, whole) = inspector.records(3).unwrap();
        let path = inspector.dir().join(segment_name(3));
        let content = fs::read(&path).unwrap();
        let end = records.last().map(|record| record.place.offset + record.place.length).unwrap() as usize;
        // Padding carries nothing.
        let padding = |at: usize| {
            records.iter().any(|record| {
                let header = 52 + 1 + record.camera.as_str().len() + 2 + record.key.len();
                let picture_end = record.place.offset as usize + header + record.bytes as usize;
                (picture_end..(record.place.offset + record.place.length) as usize).contains(&at)
            })
        };
        let checked = if sealed { content.len() } else { end };
        let mut flipped = 0;
        for at in (0..checked).filter(|at| *at < 200 || at % 13 == 0 || *at > end).filter(|at| !padding(*at)) {
            let mut bad = content.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, bad).unwrap();
            let verdict = inspector.verify(3, |_| ()).unwrap();
            // The header's CRC32C covers 60 bytes of it; what stands in the open segment's last record may be
            // unfinished.
            let in_last = !sealed && at >= records.last().unwrap().place.offset as usize;
            let found = verdict.state == SegmentState::Damaged;
            assert_eq!(found, !in_last, "byte {at}: {verdict:?}");
            let touched = u64::from((64..end).contains(&at));
            assert_eq!(verdict.frames, whole.frames - touched, "byte {at}: {verdict:?}");
            if touched == 1 && sealed {
                let over = |record: &&RecordView| record.place.offset as usize <= at;
                let hit = records.iter().rev().find(over).unwrap();
                assert_eq!(verdict.damage[0].frames, [(hit.camera.clone(), hit.seq)], "byte {at}");
            }
            flipped += 1;
        }
        assert!(flipped > 800, "{flipped}");
    }
}

#[test]
fn every_cut_is_found() {
    let (_dir, inspector) = spool(true);
    let (records, _) = inspector.records(3).unwrap();
    let path = inspector.dir().join(segment_name(3));
    let content = fs::read(&path).unwrap();
    for length in (0..content.len()).filter(|length| length % 37 == 0 || *length < 70) {
        fs::write(&path, &content[..length]).unwrap();
        let verdict = inspector.verify(3, |_| ()).unwrap();
        let whole = records.iter().filter(|r| (r.place.offset + r.place.length) as usize <= length).count();
        assert_eq!(verdict.frames, whole as u64, "{length} bytes");
        assert_ne!(verdict.state, SegmentState::Sealed, "{length} bytes");
        let view = &inspector.segments().unwrap()[2];
        assert_eq!((view.state, view.frames()), (verdict.state, verdict.frames), "{length} bytes");
    }
}

#[test]
fn beside_a_daemon_that_writes_nothing_looks_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) =
        Store::open(RealDisk::open(&stream(dir.path(), &DestinationName::default())).unwrap(), settings(64)).unwrap();
    store.resolve(&BTreeMap::new());
    let inspector = Inspector::open(dir.path(), &DestinationName::default(), Some(origin())).unwrap();
    let (ended, written) = (AtomicBool::new(false), 600);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 1..=written {
                fill(&mut store, "a", seq..=seq, 3_000);
                if seq > 20 {
                    store.settle(&camera("a"), range(seq - 20, seq - 20));
                }
            }
            ended.store(true, Relaxed);
        });
        let mut looks = 0;
        while !ended.load(Relaxed) {
            for view in inspector.segments().unwrap() {
                assert!(matches!(view.state, SegmentState::Sealed | SegmentState::Open), "{view:?}");
                match inspector.verify(view.number.unwrap(), |_| ()) {
                    Err(InspectError::NoSegment { .. }) => {}
                    verdict => assert_ne!(verdict.unwrap().state, SegmentState::Damaged),
                }
                looks += 1;
            }
        }
        assert!(looks > 10, "{looks}");
    });
}
