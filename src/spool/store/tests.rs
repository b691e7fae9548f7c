//! The store without its thread: what is taken, kept and found again.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::spool::RealDisk;
use crate::spool::testing::*;

#[test]
fn a_frame_counts_once_it_is_committed_and_until_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, found) = open(dir.path());
    assert_eq!(found, Found::default());
    store.append(&record("a", 1, 1000)).unwrap();
    store.append(&record("b", 1, 500)).unwrap();
    assert_eq!((store.uncommitted(), store.status().frames), (2, 0));
    assert_eq!(live(&mut store, "a", 1000), [0; 0]);
    let committed = store.commit().unwrap();
    assert_eq!(committed.iter().map(|(record, _)| record.frame.camera.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((store.uncommitted(), store.status().frames), (0, 2));
    assert_eq!((live(&mut store, "a", 1000), live(&mut store, "b", 500)), (vec![1], vec![1]));
    assert_eq!(store.oldest(), Some(record("a", 1, 1).frame.captured_at));
    store.settle(&camera("a"), range(1, 1));
    assert_eq!((store.locate(&camera("a"), 1), store.status().frames), (None, 1));
    assert!(store.take_io_errors().is_empty());
}

#[test]
fn what_was_committed_is_there_after_a_start_whether_the_last_segment_was_sealed_or_not() {
    for close in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=40, 1000);
        fill(&mut store, "b", 5..=9, 10);
        if close {
            store.close().unwrap();
        }
        drop(store);
        for _ in 0..3 {
            let (mut store, found) = open(dir.path());
            let a = &found.cameras[&camera("a")];
            assert_eq!(
                (a.seqs.as_slice(), a.session, a.newest),
                (&[range(1, 40)][..], 1, record("a", 40, 1).frame.captured_at)
            );
            assert_eq!(found.cameras[&camera("b")].seqs, [range(5, 9)]);
            assert_eq!((found.damaged, found.torn, found.foreign), (0, 0, 0));
            assert_eq!(live(&mut store, "a", 1000), (1..=40).collect::<Vec<_>>());
            assert_eq!(live(&mut store, "b", 10), (5..=9).collect::<Vec<_>>());
            assert_eq!(store.oldest(), Some(record("a", 1, 1).frame.captured_at));
        }
    }
}

#[test]
fn a_segment_goes_once_all_of_it_is_settled_and_not_when_it_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=40, 1000);
    let before = store.status();
    assert_eq!((before.frames, before.segments), (40, 3));
    store.leave(&camera("a"), range(1, 30));
    store.leave(&camera("a"), range(10, 20));
    let status = store.status();
    assert_eq!((status.frames, status.segments, store.left()), (10, 3, 30));
    assert_eq!(live(&mut store, "a", 1000), (31..=40).collect::<Vec<_>>());
    assert!(store.locate(&camera("a"), 1).is_some());
    // In any order, and more than once.
    store.settle(&camera("a"), range(20, 35));
    store.settle(&camera("a"), range(30, 32));
    assert_eq!((store.status().frames, store.left()), (5, 19));
    store.settle(&camera("a"), range(1, 19));
    assert_eq!((store.status().frames, store.left(), store.status().segments), (5, 0, 1));
    drop(store);
    let (mut store, _) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(16)).unwrap();
    store.resolve(&[(camera("a"), resolved(36, &[range(39, 39)]))].into());
    assert_eq!(live(&mut store, "a", 1000), [37, 38, 40]);
    store.settle(&camera("a"), range(37, 40));
    assert_eq!((store.status().frames, store.status().bytes, store.status().segments), (0, 0, 0));
}

#[test]
fn without_room_nothing_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(4)).unwrap();
    let mut seq = 0;
    let refused = loop {
        match store.append(&record("a", seq + 1, 1000)) {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
        store.commit().unwrap();
    };
    assert!(matches!(refused, AppendError::NoRoom));
    assert_eq!((store.uncommitted(), store.status().frames, store.status().segments), (0, seq, 3));
    assert!(store.status().size <= 3 * SEGMENT);
    assert!(matches!(store.append(&record("a", 100, 4 * SEGMENT as usize)), Err(AppendError::TooLarge)));
    assert!(!store.clean().unwrap(), "all of it is alive");
    store.settle(&camera("a"), range(1, 15));
    store.append(&record("a", seq + 1, 1000)).unwrap();
    assert_eq!(store.commit().unwrap().len(), 1);
}

#[test]
fn a_frame_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=2, 3 * SEGMENT as usize);
    drop(store);
    let (mut store, _) = open(dir.path());
    assert_eq!(live(&mut store, "a", 3 * SEGMENT as usize), [1, 2]);
}

#[test]
fn after_a_refused_sync_the_frames_lie_in_another_segment_and_the_file_is_not_synced_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(dir.path());
    let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    fill(&mut store, "a", 1..=3, 1000);
    disk.syncs.store(1, Relaxed);
    store.append(&record("a", 4, 1000)).unwrap();
    store.append(&record("a", 5, 1000)).unwrap();
    let committed = store.commit().unwrap();
    assert_eq!(
        committed.iter().map(|(record, place)| (record.frame.seq, place.segment)).collect::<Vec<_>>(),
        [(4, 2), (5, 2)]
    );
    assert_eq!(store.take_io_errors(), ["sync"]);
    assert_eq!(live(&mut store, "a", 1000), [1, 2, 3, 4, 5]);
    // A write that is refused is no better.
    disk.writes.store(1, Relaxed);
    store.append(&record("a", 6, 1000)).unwrap();
    assert_eq!(store.commit().unwrap()[0].1.segment, 3);
    assert_eq!(store.take_io_errors(), ["write"]);
    // A disk that refuses for long keeps them in memory.
    store.append(&record("a", 7, 1000)).unwrap();
    disk.syncs.store(2, Relaxed);
    assert!(matches!(store.commit(), Err(AppendError::Io(_))));
    assert_eq!((store.uncommitted(), store.status().frames), (1, 6));
    assert_eq!(store.commit().unwrap().len(), 1);
    drop(store);
    let (mut store, found) = open(dir.path());
    assert_eq!(found.cameras[&camera("a")].seqs, [range(1, 7)]);
    assert_eq!(live(&mut store, "a", 1000), (1..=7).collect::<Vec<_>>());
    assert_eq!(store.status().frames, 7);
    store.settle(&camera("a"), range(1, 7));
    assert_eq!(store.status().segments, 0);
}

#[test]
fn what_a_failed_sync_has_left_is_asked_of_the_disk_at_the_start() {
    for close in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Moody::open(dir.path());
        let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
        fill(&mut store, "a", 1..=3, 1000);
        disk.syncs.store(1, Relaxed);
        if close {
            store.close().unwrap();
        } else {
            // No other segment is to be had.
            disk.creations.store(2, Relaxed);
            store.append(&record("a", 4, 1000)).unwrap();
            assert!(store.commit().is_err());
        }
        drop(store);
        let (mut store, found) = Store::open(disk.clone(), settings(16)).unwrap();
        // This disk has it all the same.
        let last = if close { 3 } else { 4 };
        assert_eq!(found.cameras[&camera("a")].seqs, [range(1, last)]);
        assert_eq!((found.damaged, found.torn), (0, 0));
        assert!(disk.forgets.load(Relaxed) > 0, "it is read from the disk");
        assert_eq!(live(&mut store, "a", 1000), (1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn a_full_disk_refuses_and_takes_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(dir.path());
    let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    disk.creations.store(1, Relaxed);
    assert!(matches!(store.append(&record("a", 1, 1000)), Err(AppendError::NoRoom)));
    fill(&mut store, "a", 2..=2, 1000);
    assert_eq!(live(&mut store, "a", 1000), [2]);
}
