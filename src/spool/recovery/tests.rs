//! What starts find: unfinished, damaged, unreadable, foreign.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::model::Origin;
use crate::spool::testing::*;
use crate::spool::{Place, RealDisk, Store, StoreSettings};

#[test]
fn what_is_not_ours_is_left_alone_and_stops_nothing() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = tempfile::tempdir().unwrap();
    let other = StoreSettings { origin: Origin::from_random([8; 5]), ..settings(16) };
    let (mut theirs, _) = Store::open(RealDisk::open(dir.path()).unwrap(), other).unwrap();
    fill(&mut theirs, "a", 1..=3, 1000);
    drop(theirs);
    fs::write(dir.path().join("notes.txt"), "x").unwrap();
    fs::write(dir.path().join("000000000007.segment"), "x".repeat(5000)).unwrap();
    fs::create_dir(dir.path().join("000000000008.segment")).unwrap();
    let pipe = dir.path().join("000000000009.segment");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("000000000010.segment")).unwrap();
    // Beyond the numbers that any run comes to.
    fs::write(dir.path().join("999999999999999.segment"), "x".repeat(5000)).unwrap();
    let before: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    for _ in 0..2 {
        let (store, found) = open(dir.path());
        assert_eq!((found.foreign, found.damaged, found.cameras.len()), (7, 0, 0));
        assert_eq!(store.status().frames, 0);
        assert!(before.iter().all(|path| path.exists()));
    }
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=200, 1000);
    // Theirs have other numbers.
    assert_eq!(store.locate(&camera("a"), 1).unwrap().segment, 2);
    assert!(store.locate(&camera("a"), 200).unwrap().segment > 10);
    drop(store);
    let (mut store, _) = open(dir.path());
    assert_eq!(live(&mut store, "a", 1000), (1..=200).collect::<Vec<_>>());
    assert!(before.iter().all(|path| path.symlink_metadata().is_ok()));
}

#[test]
fn a_bad_place_costs_the_frames_it_touches() {
    for sealed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=14, 1000);
        let places: Vec<_> = (1..=14).map(|seq| store.locate(&camera("a"), seq).unwrap()).collect();
        if sealed {
            store.close().unwrap();
        }
        drop(store);
        let path = dir.path().join("000000000001.segment");
        let content = fs::read(&path).unwrap();
        // Reads that are refused once cost nothing: of the header, of the footer, of what is scanned then.
        for reads in 0..=3 {
            let disk = Moody::open(dir.path());
            disk.reads.store(reads, Relaxed);
            let (mut store, found) = Store::open(disk, settings(16)).unwrap();
            assert_eq!(live(&mut store, "a", 1000), (1..=14).collect::<Vec<_>>(), "{sealed} {reads}");
            assert_eq!(store.take_io_errors().contains(&"read"), reads > 0, "{found:?}");
            fs::write(&path, &content).unwrap();
        }
        let size = content.len() as u64;
        for bad in [0..4096, 4096..8192, 4096..12288, size / 4096 * 4096 - 4096..size] {
            let disk = Moody::open(dir.path());
            disk.bad.lock().unwrap().insert("000000000001.segment".to_owned(), bad.clone());
            let (mut store, found) = Store::open(disk.clone(), settings(16)).unwrap();
            let in_footer = sealed && bad.end < size;
            let lost = |place: &Place| {
                let (begin, end) = (u64::from(place.offset), u64::from(place.offset + place.length));
                begin < bad.end && end > bad.start
            };
            let expected = (1..=14).filter(|seq| in_footer || !lost(&places[*seq as usize - 1]));
            let (entries, _) = store.entries(&camera("a"), 0, 100);
            assert_eq!(
                entries.iter().map(|spooled| spooled.seq).collect::<Vec<_>>(),
                expected.collect::<Vec<_>>(),
                "{sealed} {bad:?}"
            );
            let refused = store.take_io_errors().contains(&"read");
            assert!(in_footer || refused && found.damaged > 0, "{sealed} {bad:?} {found:?}");
            assert_eq!(found.torn, 0, "{sealed} {bad:?}");
            // What cannot be read is not cut off: it comes back with the disk, whose frames were told as lost.
            assert!(fs::read(&path).unwrap() == content, "{sealed} {bad:?}");
            disk.bad.lock().unwrap().clear();
            let (mut store, _) = Store::open(disk, settings(16)).unwrap();
            assert_eq!(live(&mut store, "a", 1000), (1..=14).collect::<Vec<_>>(), "{sealed} {bad:?}");
            fs::write(&path, &content).unwrap();
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_looked_at_again_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=3, 1000);
    drop(store);
    let path = dir.path().join("000000000001.segment");
    let content = fs::read(&path).unwrap();
    // All reads of some looks; each asks for the header, the footer, a chunk, and its steps.
    let of_a_look = {
        let disk = Moody::open(dir.path());
        disk.bad.lock().unwrap().insert("000000000001.segment".to_owned(), 0..u64::MAX);
        let (_, found) = Store::open(disk.clone(), settings(16)).unwrap();
        assert_eq!(found.damaged, 1);
        assert_eq!(disk.reads_done.load(Relaxed) % LOOKS, 0);
        disk.reads_done.load(Relaxed) / LOOKS
    };
    assert_eq!(fs::read(&path).unwrap(), content);
    let disk = Moody::open(dir.path());
    disk.reads.store(of_a_look * (LOOKS - 1), Relaxed);
    let (mut store, found) = Store::open(disk, settings(16)).unwrap();
    assert_eq!((found.damaged, found.torn), (0, 0));
    assert_eq!(live(&mut store, "a", 1000), [1, 2, 3]);
}

#[test]
fn what_cannot_be_read_behind_the_last_record_is_not_taken_for_room_that_was_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=5, 1000);
    drop(store);
    let disk = Moody::open(dir.path());
    disk.bad.lock().unwrap().insert("000000000001.segment".to_owned(), 8192..12288);
    let (mut store, found) = Store::open(disk, settings(16)).unwrap();
    assert_eq!((found.damaged, found.torn), (1, 0));
    assert_eq!(live(&mut store, "a", 1000), [1, 2, 3, 4, 5]);
}

#[test]
fn nothing_readable_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=3, 1000);
    drop(store);
    let disk = Moody::open(dir.path());
    disk.bad.lock().unwrap().insert("000000000001.segment".to_owned(), 0..u64::MAX);
    let (mut store, found) = Store::open(disk.clone(), settings(16)).unwrap();
    store.resolve(&Default::default());
    assert_eq!((found.damaged, store.status().size), (1, SEGMENT));
    fill(&mut store, "a", 4..=4, 1000);
    assert_eq!(store.locate(&camera("a"), 4).unwrap().segment, 2);
    drop(store);
    disk.bad.lock().unwrap().clear();
    let (mut store, _) = open(dir.path());
    assert_eq!(live(&mut store, "a", 1000), [1, 2, 3, 4]);
}

#[test]
fn what_nobody_can_tell_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=3, 1000);
    drop(store);
    let start = |disk| Store::open(disk, settings(16)).unwrap_err().to_string();
    for errno in [Errno::MFILE, Errno::NOMEM, Errno::STALE, Errno::ACCESS] {
        let disk = Moody::open(dir.path());
        disk.opens.store(errno.raw_os_error() as u32, Relaxed);
        let error = start(disk);
        assert!(error.starts_with("cannot take in segment 000000000001.segment"), "{error}");
    }
    let path = dir.path().join("000000000001.segment");
    let content = fs::read(&path).unwrap();
    let mut later = content.clone();
    later[8] = 2;
    let crc = crc32c::crc32c(&later[..60]);
    later[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &later).unwrap();
    let error = start(Moody::open(dir.path()));
    assert!(error.contains("000000000001.segment") && error.contains("its format is version 2"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), later);
}

#[test]
fn a_link_is_none_of_ours_and_neither_is_a_later_versions_segment_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let other = StoreSettings { origin: Origin::from_random([8; 5]), ..settings(16) };
    let (mut theirs, _) = Store::open(RealDisk::open(dir.path()).unwrap(), other).unwrap();
    fill(&mut theirs, "a", 1..=3, 1000);
    drop(theirs);
    let path = dir.path().join("000000000001.segment");
    let mut later = fs::read(&path).unwrap();
    later[8] = 2;
    let crc = crc32c::crc32c(&later[..60]);
    later[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &later).unwrap();
    std::os::unix::fs::symlink("000000000001.segment", dir.path().join("000000000002.segment")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("000000000003.segment")).unwrap();
    let (mut store, found) = open(dir.path());
    assert_eq!((found.foreign, found.damaged, found.cameras.len()), (3, 0, 0));
    fill(&mut store, "a", 1..=100, 1000);
    assert_eq!(store.locate(&camera("a"), 1).unwrap().segment, 4);
    assert_eq!(fs::read(&path).unwrap(), later);
    assert!((2..=3).all(|number| dir.path().join(segment_name(number)).is_symlink()));
}

#[test]
fn a_file_of_any_size_is_read_no_further_than_a_segment_can_go() {
    let dir = tempfile::tempdir().unwrap();
    fs::File::create(dir.path().join("000000000003.segment")).unwrap().set_len(1 << 42).unwrap();
    let disk = Moody::open(dir.path());
    let (_, found) = Store::open(disk.clone(), settings(16)).unwrap();
    assert_eq!((found.foreign, found.damaged), (1, 0));
    let reads = disk.reads_done.load(Relaxed);
    assert!(reads < 20_000, "{reads}");
}

#[test]
fn damage_costs_the_frames_it_touches_and_is_counted() {
    for sealed in [false, true] {
        for (at, header_too) in [(0, false), (2, false), (9, true)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut store, _) = open(dir.path());
            fill(&mut store, "a", 1..=10, 1000);
            let places: Vec<_> = (1..=10).map(|seq| store.locate(&camera("a"), seq).unwrap()).collect();
            if sealed {
                store.close().unwrap();
            }
            drop(store);
            let path = dir.path().join("000000000001.segment");
            let mut content = fs::read(&path).unwrap();
            content[places[at].offset as usize + 20] ^= 4;
            if sealed {
                // The footer is damaged as well, so that it cannot tell.
                let end = content.len() - 40;
                content[end] ^= 1;
            }
            if header_too {
                content[9] ^= 1;
            }
            fs::write(&path, content).unwrap();
            let (mut store, found) = open(dir.path());
            let expected: Vec<_> = (1..=10).filter(|seq| *seq != at as u64 + 1).collect();
            assert_eq!(live(&mut store, "a", 1000), expected, "{sealed} {at}");
            assert!(found.damaged + found.torn > 0, "{sealed} {at}: {found:?}");
            drop(store);
            // It is mended: what is gone is gone, and is not counted again.
            let (mut store, found) = open(dir.path());
            assert_eq!((found.damaged, found.torn), (0, 0), "{sealed} {at}");
            assert_eq!(live(&mut store, "a", 1000), expected);
        }
    }
}

#[test]
fn an_unfinished_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, "a", 1..=3, 1000);
    store.append(&record("a", 4, 1000)).unwrap();
    drop(store);
    let path = dir.path().join("000000000001.segment");
    let whole = fs::read(&path).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for cut in [10, 500, 1000] {
        let mut torn = whole.clone();
        torn[end - cut..].fill(0);
        fs::write(&path, torn).unwrap();
        let (mut store, found) = open(dir.path());
        assert_eq!((found.torn, found.damaged), (1, 0), "{cut}");
        assert_eq!(live(&mut store, "a", 1000), [1, 2, 3], "{cut}");
        assert!(fs::metadata(&path).unwrap().len() < SEGMENT);
    }
}

#[test]
fn segments_that_were_never_used_go() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("000000000003.segment"), [0; 4096]).unwrap();
    let (mut store, found) = open(dir.path());
    assert_eq!((found.damaged, found.foreign, fs::read_dir(dir.path()).unwrap().count()), (0, 0, 0));
    fill(&mut store, "a", 1..=1, 10);
    assert_eq!(store.locate(&camera("a"), 1).unwrap().segment, 1);
}
