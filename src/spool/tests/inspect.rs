//! Looking into a spool: every spoilt byte is found, and nothing that a daemon is writing looks spoilt.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tempfile::TempDir;

use crate::spool::format::segment_name;
use crate::spool::handle::stream;
use crate::spool::inspect::{RecordReport, SegmentState, Verified, records, segments, verify};
use crate::spool::testing::{camera, fill, open, range};

/// The segment that is spoilt.
const LAST: u64 = 3;

/// A spool of three segments, the last one sealed or open, and that one's file.
fn spool(sealed: bool) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(&stream(dir.path()));
    fill(&mut store, "a", 1..=20, 1_000);
    fill(&mut store, "b", 5..=8, 700);
    fill(&mut store, "a", 22..=35, 1_000);
    if sealed {
        store.close().unwrap();
    }
    let path = stream(dir.path()).join(segment_name(LAST));
    (dir, path)
}

fn last(dir: &Path) -> Verified {
    let mut verified = verify(dir, |_, _| ()).unwrap();
    assert_eq!(verified.len() as u64, LAST);
    verified.pop().unwrap()
}

fn end(record: &RecordReport) -> usize {
    (record.offset + record.length) as usize
}

#[test]
fn the_seqs_of_a_camera_are_told_without_those_that_are_not_there() {
    let (dir, _) = spool(false);
    let mut runs = Vec::new();
    for segment in segments(dir.path()).unwrap() {
        assert_eq!(segment.cameras.iter().map(|part| part.records).sum::<u64>(), segment.records());
        runs.extend(segment.cameras.into_iter().filter(|part| part.camera == camera("a")).flat_map(|part| part.runs));
    }
    assert_eq!(runs.first().map(|run| run.first), Some(1));
    let seqs: Vec<u64> = runs.iter().flat_map(|run| run.first..=run.last).collect();
    assert_eq!(seqs, (1..=20).chain(22..=35).collect::<Vec<_>>());
    assert!(runs.len() < 6, "{runs:?}");
}

#[test]
fn every_flipped_byte_is_found_and_costs_the_frame_it_touches_at_most() {
    for sealed in [true, false] {
        let (dir, path) = spool(sealed);
        let records = records(dir.path(), LAST).unwrap();
        let (newest, whole) = (records.last().unwrap(), last(dir.path()).segment.records());
        let content = fs::read(&path).unwrap();
        let used = end(newest);
        // What fills a record up to a multiple of 8 carries nothing.
        let filling = |at: usize| {
            records.iter().any(|record| {
                let content = record.content.as_ref().unwrap();
                let header = 52 + 1 + record.camera.as_str().len() + 2 + content.key.len();
                (record.offset as usize + header + content.bytes as usize..end(record)).contains(&at)
            })
        };
        let checked = if sealed { content.len() } else { used };
        let mut flipped = 0;
        for at in (0..checked).filter(|at| *at < 200 || at % 13 == 0 || *at > used).filter(|at| !filling(*at)) {
            let mut bad = content.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, bad).unwrap();
            let verified = last(dir.path());
            // The last record of a segment that was being written may be unfinished.
            let unfinished = !sealed && at as u64 >= newest.offset;
            let is_damaged = verified.segment.state == SegmentState::Damaged;
            assert_eq!(is_damaged, !unfinished, "byte {at}: {verified:?}");
            let touched = (64..used).contains(&at);
            assert_eq!(verified.segment.records(), whole - u64::from(touched), "byte {at}: {verified:?}");
            if touched && sealed {
                let hit = records.iter().rev().find(|record| record.offset as usize <= at).unwrap();
                assert_eq!(verified.lost, [(hit.camera.clone(), hit.seq)], "byte {at}");
            }
            flipped += 1;
        }
        assert!(flipped > 800, "{flipped}");
    }
}

#[test]
fn every_cut_is_found() {
    let (dir, path) = spool(true);
    let records = records(dir.path(), LAST).unwrap();
    let content = fs::read(&path).unwrap();
    for length in (0..content.len()).filter(|length| length % 37 == 0 || *length < 70) {
        fs::write(&path, &content[..length]).unwrap();
        let segment = last(dir.path()).segment;
        let whole = records.iter().filter(|record| end(record) <= length).count();
        assert_eq!(segment.records(), whole as u64, "{length} bytes: {segment:?}");
        assert_ne!(segment.state, SegmentState::Sealed, "{length} bytes");
        assert!(length < 64 || segment.state == SegmentState::Damaged, "{length} bytes: {segment:?}");
        assert_eq!(segments(dir.path()).unwrap()[2].state, segment.state, "{length} bytes");
    }
}

#[test]
fn beside_a_daemon_that_writes_nothing_looks_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(&stream(dir.path()));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 1..=600 {
                fill(&mut store, "a", seq..=seq, 3_000);
                if seq > 20 {
                    store.settle(&camera("a"), range(seq - 20, seq - 20));
                }
            }
            ended.store(true, Relaxed);
        });
        let mut looks = 0;
        while !ended.load(Relaxed) {
            let all = verify(dir.path(), |_, _| ()).unwrap().into_iter().map(|verified| verified.segment);
            for segment in all.chain(segments(dir.path()).unwrap()) {
                let is_well = matches!(segment.state, SegmentState::Sealed | SegmentState::Open);
                assert!(is_well && segment.damaged == 0, "{segment:?}");
                looks += 1;
            }
        }
        assert!(looks > 20, "{looks}");
    });
}
