//! A spool of a hundred records, with every byte of it spoilt in turn, and cut at every length.
//!
//! What may be lost is what was touched: a record whose bytes were. Damage of headers, footers and fillings costs
//! nothing. Each case that loses something is told of, but for two kinds that nobody can tell by the files: the newest
//! segment cut to no bytes at all looks as one does that was just made when the power went, and one that holds zeros
//! from a record on to its end as one in which this record was never written. There the journal knows how far the spool
//! was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::disk::{Crash, ModelDisk};
use crate::model::{CameraId, Frame, Origin, Resolved, Seq, UnixMicros};
use crate::spool::store::{Store, StoreSettings};
use crate::spool::{Place, Record};

/// What a start may take.
const START: Duration = Duration::from_secs(5);
const RECORDS: u64 = 100;
const SEGMENT: u64 = 8192;

type Files = BTreeMap<String, Vec<u8>>;

fn settings() -> StoreSettings {
    StoreSettings { origin: Origin::from_random([3; 5]), segment_bytes: SEGMENT, max_bytes: 64 * SEGMENT }
}

fn cameras() -> [CameraId; 2] {
    ["gate-1", "hall"].map(|id| id.parse().expect("a plain id"))
}

fn record(nth: u64) -> Record {
    let camera = cameras()[usize::from(nth % 3 == 2)].clone();
    let jpeg: Bytes = (0..40 + (nth * 37) % 400).map(|byte| (byte * 31 + nth) as u8).collect();
    let frame = Frame {
        camera,
        seq: nth + 1,
        session: 1,
        captured_at: UnixMicros(1_000_000 + nth as i64),
        width: 64,
        height: 48,
        damaged: false,
        crc32c: crc32c::crc32c(&jpeg),
        jpeg,
    };
    Record { key: format!("x/{nth}.jpg"), frame }
}

/// The spool as a kill leaves it: sealed segments, and one that was being written.
fn spool() -> (Files, Vec<(u64, Place)>) {
    let disk = ModelDisk::new(1);
    let (mut store, _) = Store::open(disk.clone(), settings()).unwrap();
    store.resolve(&BTreeMap::new());
    let mut places = Vec::new();
    for nth in 0..RECORDS {
        store.append(&record(nth)).unwrap();
        if nth % 7 == 6 || nth + 1 == RECORDS {
            let committed = store.commit().unwrap();
            places.extend(committed.iter().map(|(record, place)| (record.frame.seq - 1, *place)));
        }
    }
    drop(store);
    disk.crash(Crash::Killed);
    assert_eq!(places.len() as u64, RECORDS);
    (disk.files(), places)
}

/// What is still there of a spool, what is told of the rest, and how long the start took.
struct Rest {
    whole: BTreeSet<u64>,
    /// Records that the start has found, and that could not be read: each is told of by itself.
    unread: BTreeSet<u64>,
    /// Damaged stretches, torn ends and foreign files that the start tells of.
    told: u64,
    took: Duration,
}

/// What all cases of a kind came to.
#[derive(Default)]
struct Tally {
    cases: u64,
    lost: u64,
    /// Of the lost ones, those that were told of each by itself.
    unread: u64,
    /// Cases that lost something, and nobody can say so.
    untold: u64,
    slowest: Duration,
}

impl Tally {
    /// Opens a spoilt spool and compares: lost is at most what was touched, and is told.
    fn judge(&mut self, files: &Files, places: &[(u64, Place)], touched: &BTreeSet<u64>, what: &str) {
        let rest = open(files, what);
        let lost: BTreeSet<u64> = (0..RECORDS).filter(|nth| !rest.whole.contains(nth)).collect();
        assert!(lost.is_subset(touched), "{what}: lost {lost:?}, touched {touched:?}");
        assert!(rest.unread.is_subset(&lost), "{what}: {:?} cannot be read, and are not lost", rest.unread);
        let gone = lost.len() - rest.unread.len();
        if gone > 0 && rest.told == 0 {
            let unwritten = looks_unwritten(files, places, &lost);
            assert!(unwritten, "{what}: lost {lost:?}, told of {:?} alone", rest.unread);
            self.untold += 1;
        }
        self.cases += 1;
        self.lost += lost.len() as u64;
        self.unread += rest.unread.len() as u64;
        self.slowest = self.slowest.max(rest.took);
    }

    /// Prints what it came to.
    fn print(&self, kind: &str, files: &Files) {
        let Self { cases, lost, unread, slowest, .. } = self;
        let bytes: usize = files.values().map(Vec::len).sum();
        let figures = serde_json::json!({
            "damage": kind, "files": files.len(), "records": RECORDS, "bytes": bytes, kind: cases, "faults": cases,
            "panics": 0, "lost": lost, "lost_found_when_read": unread, "lost_untouched": 0, "cases_untold": self.untold,
            "slowest_start_ms": slowest.as_secs_f64() * 1000.0,
        });
        println!("\n{figures}");
        assert!(*lost > 0, "no case cost anything: nothing was read");
    }
}

/// Whether the newest segment looks as if what was lost had never been written.
fn looks_unwritten(files: &Files, places: &[(u64, Place)], lost: &BTreeSet<u64>) -> bool {
    let Some((name, newest)) = files.last_key_value() else { return false };
    let here = places.iter().filter(|(nth, place)| place.segment == number(name) && lost.contains(nth));
    let first = here.map(|(_, place)| place.offset as usize).min();
    let zeros = |from| newest.get(from..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
    newest.is_empty() || first.is_some_and(zeros)
}

/// Opens a damaged spool, reads what it says it has, and has it take one frame more.
fn open(files: &Files, what: &str) -> Rest {
    let disk = ModelDisk::with_files(1, files);
    let begun = Instant::now();
    let (mut store, found) = Store::open(disk.clone(), settings()).unwrap_or_else(|error| panic!("{what}: {error}"));
    store.resolve(&BTreeMap::new());
    let took = begun.elapsed();
    assert!(took < START, "{what}: a start of {took:?}");
    let (mut whole, mut unread) = (BTreeSet::new(), BTreeSet::new());
    for camera in cameras() {
        let (entries, more) = store.entries(&camera, 0, 1_000);
        assert!(!more && entries.is_sorted_by(|a, b| a.seq < b.seq), "{what}: {entries:?}");
        // The journal is told of exactly these, so that it knows each seq between them that is gone.
        let seqs = found.cameras.get(&camera).map(|camera| camera.seqs.as_slice()).unwrap_or_default();
        assert!(
            seqs.iter().flat_map(|run| run.first..=run.last).eq(entries.iter().map(|one| one.seq)),
            "{what}: {seqs:?}"
        );
        for spooled in entries {
            let nth = spooled.seq - 1;
            let Ok(read) = store.read(&camera, spooled) else {
                assert!(unread.insert(nth), "{what}: {camera} {nth} is there twice");
                continue;
            };
            let expected = record(nth);
            assert!(nth < RECORDS && expected.frame.camera == camera, "{what}: {camera} {nth} was never there");
            assert!(
                (&read.frame.jpeg, &read.key, read.frame.captured_at)
                    == (&expected.frame.jpeg, &expected.key, expected.frame.captured_at),
                "{what}: {camera} {nth} is another frame"
            );
            whole.insert(nth);
        }
    }
    let mut next = record(RECORDS);
    next.frame.seq = 10 * RECORDS;
    store.append(&next).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(store.commit().unwrap().len(), 1, "{what}");
    Rest { whole, unread, told: found.damaged + found.torn + found.foreign, took }
}

fn number(name: &str) -> u64 {
    name.trim_end_matches(".segment").parse().unwrap()
}

/// The records that have bytes in a part of a file.
fn touched(places: &[(u64, Place)], segment: u64, bytes: std::ops::Range<u64>) -> BTreeSet<u64> {
    let touches = |place: &Place| {
        let (begin, end) = (u64::from(place.offset), u64::from(place.offset) + u64::from(place.length));
        place.segment == segment && begin < bytes.end && bytes.start < end
    };
    places.iter().filter(|(_, place)| touches(place)).map(|(nth, _)| *nth).collect()
}

/// Whether `ROUNDS` is set, and not empty.
fn long() -> bool {
    std::env::var_os("ROUNDS").is_some_and(|rounds| !rounds.is_empty())
}

/// A bit of each byte in the short form, every bit in the long one.
fn bits(byte: usize) -> Vec<u32> {
    if long() { (0..8).collect() } else { vec![byte as u32 % 8] }
}

#[test]
fn a_flipped_bit_costs_at_most_the_record_that_it_is_in() {
    let (files, places) = spool();
    assert!(files.len() > 3, "there are sealed segments: {:?}", files.keys());
    assert_eq!(open(&files, "without damage").whole.len() as u64, RECORDS);
    let mut flips = Tally::default();
    for (name, bytes) in &files {
        let mut spoilt = files.clone();
        for byte in 0..bytes.len() {
            let at = byte as u64;
            let touched = touched(&places, number(name), at..at + 1);
            for bit in bits(byte) {
                spoilt.get_mut(name).unwrap()[byte] ^= 1 << bit;
                flips.judge(&spoilt, &places, &touched, &format!("{name}, byte {byte}, bit {bit}"));
                spoilt.get_mut(name).unwrap()[byte] ^= 1 << bit;
            }
        }
    }
    flips.print("flips", &files);
    assert_eq!(flips.untold, 0);
}

#[test]
fn a_truncated_file_costs_at_most_the_records_that_were_cut() {
    let (files, places) = spool();
    let mut cuts = Tally::default();
    for (name, bytes) in &files {
        let mut spoilt = files.clone();
        for length in (0..bytes.len()).rev() {
            spoilt.get_mut(name).unwrap().truncate(length);
            let touched = touched(&places, number(name), length as u64..u64::MAX);
            cuts.judge(&spoilt, &places, &touched, &format!("{name} cut to {length} bytes"));
        }
    }
    cuts.print("cuts", &files);
    assert_eq!(cuts.untold, 1, "the newest cut to nothing");
}

#[test]
fn a_lost_stretch_costs_at_most_the_records_in_it() {
    let (files, places) = spool();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut stretches = Tally::default();
    for (name, bytes) in &files {
        for begin in (0..bytes.len()).step_by(if long() { 8 } else { 64 }) {
            let end = (begin + rng.usize(1..1500)).min(bytes.len());
            let mut spoilt = files.clone();
            let filled = rng.u8(0..3);
            for byte in &mut spoilt.get_mut(name).unwrap()[begin..end] {
                *byte = [0, 255, rng.u8(..)][usize::from(filled)];
            }
            let touched = touched(&places, number(name), begin as u64..end as u64);
            stretches.judge(&spoilt, &places, &touched, &format!("{name}, bytes {begin}..{end} filled by {filled}"));
        }
    }
    stretches.print("stretches", &files);
}

#[test]
fn files_that_are_no_segments_or_are_missing_do_not_stop_a_start() {
    let (files, places) = spool();
    for name in files.keys() {
        let mut rest = files.clone();
        rest.remove(name);
        let touched = touched(&places, number(name), 0..u64::MAX);
        let found = open(&rest, &format!("{name} is missing"));
        assert_eq!(found.whole.len() + touched.len(), RECORDS as usize, "{name} is missing");
        // One segment's bytes under another's name are no segment.
        for other in files.keys().filter(|other| *other != name) {
            let mut swapped = files.clone();
            swapped.insert(name.clone(), files[other].clone());
            let found = open(&swapped, &format!("{name} has the bytes of {other}"));
            assert_eq!(found.whole.len() + touched.len(), RECORDS as usize, "{name} has the bytes of {other}");
            assert!(found.told > 0, "{name} has the bytes of {other}, and nobody says so");
        }
    }
    let mut more = files.clone();
    for (name, bytes) in
        [("lost+found", &b""[..]), ("000000000099.segment", b"not one of ours"), ("x.segment", &[0; 70])]
    {
        more.insert(name.to_owned(), bytes.to_vec());
    }
    assert_eq!(open(&more, "foreign files").whole.len() as u64, RECORDS);
}

#[test]
fn another_daemons_segments_are_left_alone() {
    let (files, _) = spool();
    let disk = ModelDisk::with_files(1, &files);
    let other = StoreSettings { origin: Origin::from_random([4; 5]), ..settings() };
    let (mut store, found) = Store::open(disk.clone(), other).unwrap();
    store.resolve(&BTreeMap::<CameraId, Resolved>::new());
    assert_eq!((found.cameras.len(), found.foreign), (0, files.len() as u64));
    let Record { mut frame, key } = record(0);
    frame.seq = Seq::MAX / 2;
    store.append(&Record { frame, key }).unwrap();
    store.commit().unwrap();
    let now = disk.files();
    assert!(files.iter().all(|(name, bytes)| now.get(name) == Some(bytes)), "they are as they were");
}
