//! Copying forward, at the cap and where the disk did not confirm.

use std::fs;

use crate::spool::testing::*;
use crate::spool::{RealDisk, Store, StoreSettings};

fn nearly_dead(dir: &std::path::Path) -> Store<RealDisk> {
    let (mut store, _) = open(dir);
    fill(&mut store, "a", 1..=45, 1000);
    for seq in (1..=45).filter(|seq| seq % 10 != 5) {
        store.settle(&camera("a"), range(seq, seq));
    }
    store
}

#[test]
fn what_lives_is_copied_forward_and_the_rest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = nearly_dead(dir.path());
    let before = store.status();
    assert!(store.clean().unwrap());
    assert!(store.clean().unwrap());
    let after = store.status();
    assert_eq!((after.frames, after.bytes), (before.frames, before.bytes));
    assert_eq!(after.segments, before.segments - 2);
    assert_eq!(live(&mut store, "a", 1000), [5, 15, 25, 35, 45]);
    fill(&mut store, "a", 46..=50, 1000);
    drop(store);
    let (mut store, _) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(16)).unwrap();
    store.resolve(&[(camera("a"), resolved(4, &[range(6, 14), range(16, 24), range(26, 34), range(36, 44)]))].into());
    assert_eq!(live(&mut store, "a", 1000), [5, 15, 25, 35, 45, 46, 47, 48, 49, 50]);
    store.settle(&camera("a"), range(1, 50));
    assert_eq!((store.status().frames, store.status().segments), (0, 0));
}

#[test]
fn a_frame_that_lies_twice_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = nearly_dead(dir.path());
    // A crash between the copies' commit and the removal.
    let kept: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept: Vec<_> = kept.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(store.clean().unwrap());
    drop(store);
    for (path, content) in kept.iter().filter(|(path, _)| !path.exists()) {
        fs::write(path, content).unwrap();
    }
    let dead = resolved(4, &[range(6, 14), range(16, 24), range(26, 34), range(36, 44)]);
    let (mut store, found) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(16)).unwrap();
    assert_eq!(found.cameras[&camera("a")].seqs, [range(1, 45)]);
    store.resolve(&[(camera("a"), dead)].into());
    assert_eq!(store.status().frames, 5);
    assert_eq!(live(&mut store, "a", 1000), [5, 15, 25, 35, 45]);
    store.settle(&camera("a"), range(1, 45));
    assert_eq!((store.status().frames, store.status().bytes, store.status().segments), (0, 0, 0));
}

#[test]
fn near_the_cap_cleaning_makes_room_without_exceeding_it() {
    let dir = tempfile::tempdir().unwrap();
    let max = 6;
    let (mut store, _) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(max)).unwrap();
    let mut seq = 0;
    let mut alive = std::collections::BTreeSet::new();
    let mut cleaned = 0;
    while seq < 500 {
        match store.append(&record("a", seq + 1, 1000)) {
            Ok(()) => {
                seq += 1;
                alive.insert(seq);
                store.commit().unwrap();
                if seq % 16 != 0 {
                    store.settle(&camera("a"), range(seq, seq));
                    alive.remove(&seq);
                }
                // The oldest of the few that stay go, too, in time.
                if alive.len() > 20 {
                    let oldest = alive.pop_first().unwrap();
                    store.settle(&camera("a"), range(oldest, oldest));
                }
            }
            Err(_) => {
                assert!(store.clean().unwrap(), "at {seq}");
                cleaned += 1;
            }
        }
        let size: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(size, store.status().size);
        assert!(size <= max * SEGMENT);
        assert_eq!(store.status().frames, alive.len() as u64);
    }
    assert!(cleaned > 0);
    assert_eq!(live(&mut store, "a", 1000), alive.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_damaged_frame_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = nearly_dead(dir.path());
    let place = store.locate(&camera("a"), 25).unwrap();
    assert_eq!(store.locate(&camera("a"), 15).unwrap().segment, place.segment);
    let path = dir.path().join(crate::spool::format::segment_name(place.segment));
    let mut content = fs::read(&path).unwrap();
    content[place.offset as usize + 500] ^= 1;
    fs::write(&path, content).unwrap();
    while store.clean().unwrap() {}
    assert_eq!(store.locate(&camera("a"), 25), Some(place));
    assert_ne!(store.locate(&camera("a"), 15).unwrap().segment, place.segment);
    assert!(path.exists());
    assert_eq!(store.status().frames, 5);
    store.settle(&camera("a"), range(25, 25));
    assert!(!path.exists());
    assert_eq!(live(&mut store, "a", 1000), [5, 15, 35, 45]);
}

#[test]
fn what_could_not_be_rescued_keeps_what_lies_before_it() {
    use std::sync::atomic::Ordering::Relaxed;
    for damaged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=18, 1000);
        let places: Vec<_> = (1..=18).map(|seq| store.locate(&camera("a"), seq).unwrap()).collect();
        let first = places.iter().position(|place| place.segment == 2).unwrap() as u64 + 1;
        drop(store);
        let disk = Moody::open(dir.path());
        disk.syncs.store(1, Relaxed);
        let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
        if damaged {
            let place = places[17];
            let bad = place.offset.into()..u64::from(place.offset + place.length);
            disk.bad.lock().unwrap().insert("000000000002.segment".to_owned(), bad);
        } else {
            disk.creations.store(1, Relaxed);
        }
        store.resolve(&[(camera("a"), resolved(first - 1, &[]))].into());
        assert!(dir.path().join("000000000001.segment").exists(), "{damaged}");
        assert_eq!((store.keeps_below(), store.wants_retry()), (2, !damaged));
        let moved = if damaged { 17 } else { 18 };
        // What was written meanwhile is not lost where its segment has to be sealed for the copies.
        store.append(&record("b", 1, 14_000)).unwrap();
        store.retry();
        assert_eq!(store.commit().unwrap().len(), 1);
        assert_eq!(live(&mut store, "b", 14_000), [1]);
        store.settle(&camera("b"), range(1, 1));
        assert!(store.locate(&camera("a"), moved).unwrap().segment > 2, "{damaged}");
        if damaged {
            assert_eq!(store.locate(&camera("a"), 18).unwrap().segment, 2);
            store.settle(&camera("a"), range(18, 18));
        }
        store.retry();
        assert_eq!(store.keeps_below(), 0, "{damaged}");
        assert!((1..=2).all(|number| !dir.path().join(format!("{number:012}.segment")).exists()), "{damaged}");
        assert_eq!(live(&mut store, "a", 1000), (first..=moved).collect::<Vec<_>>());
    }
}

#[test]
fn a_rescue_that_has_no_room_costs_frames_none() {
    use std::sync::atomic::Ordering::Relaxed;
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=13, 1000);
    drop(store);
    let disk = Moody::open(dir.path());
    disk.syncs.store(1, Relaxed);
    let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    fill(&mut store, "b", 1..=1, 4000);
    disk.creations.store(u32::MAX, Relaxed);
    for seq in 2..=3 {
        store.retry();
        assert!(store.wants_retry() && store.unrescued.contains(&1));
        fill(&mut store, "b", seq..=seq, 4000);
        assert_eq!(store.locate(&camera("b"), seq).unwrap().segment, 2);
    }
    disk.creations.store(0, Relaxed);
    store.retry();
    assert!(!store.wants_retry() && store.unrescued.is_empty());
    assert_eq!((store.locate(&camera("a"), 1).unwrap().segment, store.keeps_below()), (3, 0));
    fill(&mut store, "b", 4..=4, 4000);
    drop(store);
    let (mut store, _) = open(dir.path());
    assert_eq!(live(&mut store, "a", 1000), (1..=13).collect::<Vec<_>>());
    assert_eq!(live(&mut store, "b", 4000), [1, 2, 3, 4]);
}

#[test]
fn what_waits_for_room_does_not_keep_it_from_being_made() {
    let fill_up = |dir: &std::path::Path, most: u64| {
        let disk = Moody::open(dir);
        let (mut store, _) = Store::open(disk.clone(), settings(4)).unwrap();
        let mut seq = 0;
        while seq < most && store.append(&record("a", seq + 1, 1000)).is_ok() {
            store.commit().unwrap();
            seq += 1;
        }
        (store, disk, seq)
    };
    let (_, _, last) = fill_up(tempfile::tempdir().unwrap().path(), u64::MAX);
    let dir = tempfile::tempdir().unwrap();
    let (mut store, disk, _) = fill_up(dir.path(), last - 1);
    for seq in (1..last).filter(|seq| seq % 8 != 0) {
        store.settle(&camera("a"), range(seq, seq));
    }
    store.append(&record("a", last, 1000)).unwrap();
    disk.syncs.store(1, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(store.commit(), Err(super::AppendError::NoRoom)));
    assert!(store.clean().unwrap());
    assert_eq!(store.commit().unwrap().len(), 1);
    assert_eq!(live(&mut store, "a", 1000), (1..=last).filter(|seq| seq % 8 == 0 || *seq == last).collect::<Vec<_>>());
}

#[test]
fn what_the_disk_did_not_confirm_at_the_start_is_copied_to_where_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=5, 1000);
    drop(store);
    let disk = Moody::open(dir.path());
    disk.syncs.store(1, std::sync::atomic::Ordering::Relaxed);
    let (mut store, found) = Store::open(disk, StoreSettings { ..settings(16) }).unwrap();
    assert_eq!(found.cameras[&camera("a")].seqs, [range(1, 5)]);
    store.resolve(&[(camera("a"), resolved(2, &[]))].into());
    assert_eq!(store.locate(&camera("a"), 3).unwrap().segment, 2);
    assert_eq!((store.status().frames, store.status().segments), (3, 1));
    assert_eq!(live(&mut store, "a", 1000), [3, 4, 5]);
}
