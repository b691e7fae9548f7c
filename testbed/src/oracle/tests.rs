//! The oracle's own tests: green on what is right, red with the right counter on each fault.

mod remote;

use std::collections::HashMap;
use std::sync::OnceLock;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::fixtures::jpegs;
use crate::mark::Mark;

const CAMERA: u16 = 300;
const CLIP: u16 = 40;

/// A JPEG for each frame of the clip, encoded once for all tests.
fn clip() -> &'static [Vec<u8>] {
    static CLIP_JPEGS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CLIP_JPEGS.get_or_init(|| {
        let marks: Vec<Mark> =
            (0..CLIP).map(|index| Mark { camera: CAMERA, counter: index.into(), clip_frames: CLIP }).collect();
        jpegs(&marks)
    })
}

/// A list and the objects it names.
#[derive(Clone, Default)]
struct Bucket {
    entries: Vec<Entry>,
    objects: HashMap<String, Vec<u8>>,
}

impl Bucket {
    /// Frames of session 1 with these counters, seq from 1 on.
    fn of(counters: impl IntoIterator<Item = u16>) -> Self {
        let mut bucket = Self::default();
        counters.into_iter().for_each(|counter| bucket.push(1, counter));
        bucket
    }

    fn push(&mut self, session: u32, counter: u16) {
        self.push_object(session, clip()[usize::from(counter % CLIP)].clone());
    }

    fn push_object(&mut self, session: u32, object: Vec<u8>) {
        let seq = self.next_seq();
        let url = format!("file:///bucket/{seq:012}.jpg");
        let mut frame = Frame {
            session,
            seq,
            captured_at: "2026-01-02T03:04:05.678Z".to_owned(),
            stored_at: "2026-01-02T03:04:05.789Z".to_owned(),
            url: url.clone(),
            bytes: 0,
            crc32c: String::new(),
            width: 320,
            height: 240,
        };
        describe(&mut frame, &object);
        self.entries.push(Entry::Frame(frame));
        self.objects.insert(url, object);
    }

    fn push_tombstone(&mut self, session: Option<u32>, frames: u64) {
        let seq = self.next_seq();
        let reason = "overrun".to_owned();
        self.entries.push(Entry::Tombstone { seq, last: seq + frames - 1, session, reason, maybe_stored: false });
    }

    fn next_seq(&self) -> u64 {
        let ends = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Frame(frame) => Some(frame.seq),
            Entry::Tombstone { last, .. } => Some(*last),
            Entry::Session { .. } => None,
        });
        ends.unwrap_or(0) + 1
    }

    fn frame(&mut self, index: usize) -> &mut Frame {
        match &mut self.entries[index] {
            Entry::Frame(frame) => frame,
            other => panic!("not a frame: {other:?}"),
        }
    }

    /// Puts another object in a frame's place; the list goes on saying what it said.
    fn object(&mut self, index: usize) -> &mut Vec<u8> {
        let url = self.frame(index).url.clone();
        self.objects.get_mut(&url).unwrap()
    }

    fn judge(&self, pattern: &str) -> Verdict {
        let fetch = |url: &str| self.objects.get(url).cloned().context("no such object");
        judge("gate", &self.entries, fetch, pattern.parse().unwrap())
    }

    /// Judges by every frame, and expects exactly these faults.
    fn expect(&self, faults: &[(&str, u64)]) -> Verdict {
        let verdict = self.judge("every:1");
        let found: Vec<_> = verdict.faults().into_iter().filter(|&(_, count)| count > 0).collect();
        assert_eq!(found, faults, "{verdict:#?}");
        assert_eq!(verdict.is_sound(), faults.is_empty());
        assert_eq!(verdict.examples.is_empty(), faults.is_empty(), "{verdict:#?}");
        verdict
    }
}

/// Makes a frame's entry fit its object.
fn describe(frame: &mut Frame, object: &[u8]) {
    frame.bytes = object.len() as u64;
    frame.crc32c = BASE64_STANDARD.encode(crc32c::crc32c(object).to_be_bytes());
}

#[test]
fn green_on_what_is_right() {
    let verdict = Bucket::of(3..15).expect(&[]);
    assert_eq!((verdict.camera.as_str(), verdict.number), ("gate", Some(CAMERA)));
    assert_eq!((verdict.frames, verdict.tombstoned, verdict.sessions), (12, 0, 1));
    assert_eq!(verdict.between_sessions, []);
}

#[test]
fn the_counter_may_start_again_with_the_clip() {
    Bucket::of(CLIP - 3..CLIP + 3).expect(&[]);
}

#[test]
fn swapped_pictures() {
    // The list fits the objects: only the pixels can tell.
    Bucket::of([3, 4, 6, 5, 7, 8]).expect(&[("inversions", 1), ("gaps", 2)]);
    // The objects alone are swapped.
    let mut bucket = Bucket::of(3..9);
    let (one, other) = (bucket.object(2).clone(), bucket.object(3).clone());
    *bucket.object(2) = other;
    *bucket.object(3) = one;
    bucket.expect(&[("inversions", 1), ("gaps", 2), ("mismatched", 2)]);
}

#[test]
fn a_removed_object() {
    let mut bucket = Bucket::of(3..9);
    let url = bucket.frame(2).url.clone();
    bucket.objects.remove(&url);
    let verdict = bucket.expect(&[("missing", 1)]);
    assert!(verdict.examples[0].contains("seq 3: no such object"), "{verdict:#?}");
}

#[test]
fn a_removed_entry() {
    let mut bucket = Bucket::of(3..9);
    bucket.entries.remove(2);
    bucket.expect(&[("seq_holes", 1), ("gaps", 1)]);
    // Renumbered, so that only the pixels can tell.
    Bucket::of([3, 4, 6, 7]).expect(&[("gaps", 1)]);
}

#[test]
fn a_doubled_picture() {
    Bucket::of([3, 4, 4, 5]).expect(&[("repeats", 1)]);
    let mut bucket = Bucket::of(3..9);
    let twice = bucket.entries[2].clone();
    bucket.entries.insert(2, twice);
    bucket.expect(&[("seq_holes", 1), ("repeats", 1)]);
}

#[test]
fn a_flipped_byte_wherever_it_is() {
    let length = clip()[5].len();
    for offset in (0..length).step_by(length / 50) {
        let mut bucket = Bucket::of(3..9);
        bucket.object(2)[offset] ^= 0x10;
        let verdict = bucket.judge("every:1");
        assert_eq!(verdict.mismatched, 1, "byte {offset}: {verdict:#?}");
        assert!(!verdict.is_sound());
        // It keeps its place: its neighbours are not blamed.
        assert_eq!((verdict.gaps, verdict.seq_holes, verdict.missing), (0, 0, 0), "byte {offset}: {verdict:#?}");
    }
}

#[test]
fn what_the_list_says_of_an_object() {
    let mut bucket = Bucket::of(3..9);
    bucket.frame(1).bytes += 1;
    bucket.frame(2).crc32c = "AAAAAA==".to_owned();
    bucket.frame(3).width = 640;
    bucket.frame(4).height = 241;
    bucket.expect(&[("mismatched", 4)]);
}

#[test]
fn pictures_without_a_sound_mark() {
    let mut bucket = Bucket::of(3..9);
    let (cut, text) = (bucket.object(2)[..4000].to_vec(), b"not a picture".to_vec());
    for (index, object) in [(2, cut), (3, text)] {
        describe(bucket.frame(index), &object);
        *bucket.object(index) = object;
    }
    bucket.expect(&[("unreadable", 2)]);
}

#[test]
fn another_camera_or_clip() {
    let other = jpegs(&[
        Mark { camera: CAMERA + 1, counter: 5, clip_frames: CLIP },
        Mark { camera: CAMERA, counter: 5, clip_frames: CLIP + 1 },
    ]);
    for object in other {
        let mut bucket = Bucket::of(3..5);
        bucket.push_object(1, object);
        bucket.push(1, 6);
        bucket.expect(&[("wrong_camera", 1)]);
    }
}

#[test]
fn tombstones_explain_exactly_their_count() {
    let with = |session, frames| {
        let mut bucket = Bucket::of(3..6);
        bucket.push_tombstone(session, frames);
        bucket.push(1, 10);
        bucket
    };
    // 6, 7, 8 and 9 are not there.
    for session in [Some(1), None] {
        assert_eq!(with(session, 4).expect(&[]).tombstoned, 4);
        with(session, 3).expect(&[("gaps", 1)]);
        with(session, 1).expect(&[("gaps", 3)]);
        with(session, 5).expect(&[("short_steps", 1)]);
    }
    with(Some(2), 4).expect(&[("gaps", 4)]);
}

#[test]
fn a_tombstone_has_its_seqs() {
    let mut bucket = Bucket::of(3..6);
    bucket.entries.push(Entry::Tombstone {
        seq: 5,
        last: 5,
        session: Some(1),
        reason: "disk_full".to_owned(),
        maybe_stored: true,
    });
    bucket.push(1, 7);
    // One seq is left out before it, though the pixels say that it stands for the one that is missing.
    bucket.expect(&[("seq_holes", 1)]);
}

#[test]
fn sessions_are_judged_each_by_itself() {
    let mut bucket = Bucket::of([3, 4, 5]);
    bucket.push_tombstone(Some(1), 1);
    bucket.push(2, 20);
    bucket.push(2, 21);
    // Connected again at the last key frame, which was shown before.
    bucket.push(4, 19);
    bucket.push(4, 20);
    let verdict = bucket.expect(&[]);
    assert_eq!((verdict.frames, verdict.sessions, verdict.tombstoned), (7, 3, 1));
    assert_eq!(
        verdict.between_sessions,
        [Between { before: 1, after: 2, frames: Some(15) }, Between { before: 2, after: 4, frames: Some(-2) }]
    );
    // An earlier session cannot come after a later one.
    bucket.push(2, 22);
    bucket.expect(&[("inversions", 1)]);
}

#[test]
fn sampled_frames() {
    let fifths = Bucket::of((3..30).step_by(5));
    assert!(fifths.judge("every:5").is_sound());
    assert_eq!(fifths.judge("every:1").gaps, 20);
    // 25 to 8: steps of 3 and 4.
    let sampled = Bucket::of((0..20).map(|index| index * 25 / 8 % CLIP));
    assert!(sampled.judge("fps:25:8").is_sound(), "{:#?}", sampled.judge("fps:25:8"));
    let mut without_one = sampled.clone();
    without_one.entries.remove(9);
    let verdict = without_one.judge("fps:25:8");
    assert_eq!((verdict.seq_holes, verdict.gaps), (1, 2), "{verdict:#?}");
}

#[test]
fn only_the_first_faults_are_described_but_all_are_counted() {
    let verdict = Bucket::of([3; 20]).expect(&[("repeats", 19)]);
    assert_eq!(verdict.examples.len(), 10);
}

#[test]
fn an_empty_list_has_no_faults_and_no_frames() {
    let verdict = Bucket::default().expect(&[]);
    assert_eq!((verdict.frames, verdict.number), (0, None));
}
