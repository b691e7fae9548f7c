//! The index against a list of all frames.

use std::collections::BTreeMap;
use std::io;

use super::*;
use crate::spool::footer::Part;

#[test]
fn what_is_missing_of_two_segments_is_told_of_once() {
    let camera: CameraId = "a".parse().unwrap();
    let (mut index, mut shelf) = (Index::default(), Shelf::default());
    let entry = |seq| Entry { seq, offset: 64 + seq as u32 * 8, length: 8 };
    for number in 1..=3 {
        index.open(number);
        (0..4).for_each(|nth| index.add(&camera, number, entry(number + nth * 3), UnixMicros(0), 1));
        shelf.0.insert(number, (0..4).map(|nth| entry(number + nth * 3)).collect());
        index.sealed(number, &[number * 100_000]);
    }
    index.settle(&camera, SeqRange::one(4), &shelf);
    let part = |seqs: [Seq; 2]| {
        vec![Part { camera: camera.clone(), summary: Summary::default(), entries: seqs.map(entry).to_vec() }]
    };
    index.mended(&[(1, part([1, 10])), (2, part([2, 11]))].into(), &shelf).unwrap();
    let (found, more) = index.entries(&camera, 0, 100, &shelf).unwrap();
    assert!(!more && found.iter().map(|spooled| spooled.seq).eq((1..=12).filter(|seq| *seq != 4)));
    let missing = found.iter().filter(|spooled| spooled.place.length == 0).map(|spooled| spooled.seq);
    assert_eq!(missing.collect::<Vec<_>>(), [5, 7, 8]);
    assert_eq!(index.live().next().map(|(_, frames, _)| frames), Some(11));
    assert!(index.settle(&camera, SeqRange { first: 1, last: 12 }, &shelf).is_empty());
    assert_eq!(index.dead().collect::<Vec<_>>(), [1, 2, 3]);
}

/// Footers of segments in which entries begin at the segment's number times 100,000.
#[derive(Default)]
struct Shelf(BTreeMap<u64, Vec<Entry>>);

impl Footers for Shelf {
    fn entries(&self, segment: u64, position: u64, count: u32) -> io::Result<Vec<Entry>> {
        let from = ((position - segment * 100_000) / 16) as usize;
        Ok(self.0[&segment][from..from + count as usize].to_vec())
    }
}

#[test]
fn it_knows_of_every_frame_what_a_list_of_all_would() {
    let camera: CameraId = "a".parse().unwrap();
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut index, mut shelf) = (Index::default(), Shelf::default());
        // Some seqs lie nowhere, and the segments overlap.
        let mut seqs: Vec<Seq> = (1..=120).filter(|_| rng.u8(0..8) > 0).collect();
        if rng.bool() {
            rng.shuffle(&mut seqs);
        }
        let mut all: BTreeMap<Seq, (Place, bool)> = BTreeMap::new();
        for (number, part) in seqs.chunks(1 + seqs.len() / 4).enumerate() {
            let number = number as u64 + 1;
            index.open(number);
            for (nth, seq) in part.iter().enumerate() {
                let entry = Entry { seq: *seq, offset: 64 + nth as u32 * 8, length: 8 + nth as u32 };
                index.add(&camera, number, entry, UnixMicros(0), 1);
                all.insert(*seq, (place(number, entry), true));
            }
            if rng.u8(0..4) > 0 {
                let entries: Vec<_> = index.parts(number).flat_map(|(_, _, entries)| entries.to_vec()).collect();
                shelf.0.insert(number, entries);
                index.sealed(number, &[number * 100_000]);
            } else {
                index.closed(number);
            }
        }
        // The journal has settled what lies nowhere.
        for seq in (1..=120).filter(|seq| !seqs.contains(seq)) {
            assert!(index.settle(&camera, SeqRange::one(seq), &shelf).is_empty());
        }
        let mut given_up = BTreeSet::new();
        for _ in 0..40 {
            let first = rng.u64(1..=125);
            let range = SeqRange { first, last: first + rng.u64(0..10) };
            let within = |seq: &Seq| (range.first..=range.last).contains(seq);
            if rng.u8(0..3) > 0 {
                assert!(index.settle(&camera, range, &shelf).is_empty());
                all.retain(|seq, _| !within(seq));
                given_up.retain(|seq| !within(seq));
            } else {
                assert!(index.leave(&camera, range, &shelf).is_empty());
                for (seq, (_, live)) in all.iter_mut().filter(|(seq, _)| within(seq)) {
                    *live = false;
                    given_up.insert(*seq);
                }
            }
            if rng.u8(0..8) == 0 {
                // Of a segment only some can be read, and no footer.
                let numbers: Vec<u64> = shelf.0.keys().copied().collect();
                let mut read = BTreeMap::new();
                if let Some(number) = rng.choice(numbers) {
                    let mut entries = shelf.0.remove(&number).unwrap();
                    entries.retain(|entry| {
                        let there = rng.u8(0..3) > 0;
                        let gone = Place { segment: number, offset: 0, length: 0 };
                        let lost = all.get_mut(&entry.seq).filter(|_| !there);
                        lost.into_iter().for_each(|(place, _)| *place = gone);
                        there
                    });
                    read.insert(number, vec![Part { camera: camera.clone(), summary: Summary::default(), entries }]);
                }
                index.mended(&read, &shelf).unwrap();
            }
            let live: Vec<Spooled> = all
                .iter()
                .filter(|(_, (_, live))| *live)
                .map(|(seq, (place, _))| Spooled { seq: *seq, place: *place })
                .collect();
            let (after, limit) = (rng.u64(0..125), rng.usize(0..20));
            let expected: Vec<_> = live.iter().copied().filter(|spooled| spooled.seq > after).collect();
            let (found, more) = index.entries(&camera, after, limit, &shelf).unwrap();
            assert_eq!(found, expected[..expected.len().min(limit)], "seed {seed}");
            assert_eq!(more, expected.len() > limit, "seed {seed}");
            let bytes: u64 = live.iter().map(|spooled| u64::from(spooled.place.length)).sum();
            let counts = index.live().next().map_or((0, 0), |(_, frames, bytes)| (frames, bytes));
            assert_eq!(counts, (live.len() as u64, bytes), "seed {seed}");
            assert_eq!(index.left(), given_up.len() as u64, "seed {seed}");
            let seq = rng.u64(1..=125);
            assert_eq!(index.locate(&camera, seq, &shelf).unwrap(), all.get(&seq).map(|(place, _)| *place));
            for (number, holds) in index.segments().collect::<Vec<_>>() {
                let held = |alive| {
                    let here = all.values().filter(|(place, live)| (place.segment, *live) == (number, alive));
                    here.count() as u64
                };
                assert_eq!((holds.live, holds.left), (held(true), held(false)), "seed {seed}");
                let dead = index.dead().any(|dead| dead == number);
                assert_eq!(dead, held(true) + held(false) == 0, "seed {seed}");
            }
        }
    }
}

#[test]
fn where_nothing_is_missing_nobody_is_told_of_what_is_on_its_way_to_the_journal() {
    let camera: CameraId = "a".parse().unwrap();
    let (mut index, shelf) = (Index::default(), Shelf::default());
    let entry = |seq| Entry { seq, offset: 64 + seq as u32 * 8, length: 8 };
    index.open(1);
    // Frame 2 was refused, and the journal has not said so yet.
    [1, 3].into_iter().for_each(|seq| index.add(&camera, 1, entry(seq), UnixMicros(0), 1));
    index.sealed(1, &[100_000]);
    let part = Part { camera: camera.clone(), summary: Summary::default(), entries: vec![entry(1), entry(3)] };
    index.mended(&[(1, vec![part])].into(), &shelf).unwrap();
    let (found, _) = index.entries(&camera, 0, 10, &shelf).unwrap();
    assert_eq!(found.iter().map(|spooled| spooled.seq).collect::<Vec<_>>(), [1, 3]);
}
